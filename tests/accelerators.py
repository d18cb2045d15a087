"""accelerate keeps its settings for the life of a process: what a test does to begin without any."""

from __future__ import annotations


def forget_accelerator() -> None:
    """Leave no settings of accelerate, nor its process group, to the next training."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
