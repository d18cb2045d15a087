"""Two measurements that take turns, so that a noisy machine disturbs both alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable

# What was measured, the peer's name, its figure, ours, the ratio.
Row = tuple[str, str, str, str, str]


def take_turns(peer: Callable[[], float], ours: Callable[[], float], rounds: int) -> tuple[float, float]:
    """The medians of two measurements over so many rounds."""
    pairs = [(peer(), ours()) for _ in range(rounds)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)
