"""How much work a map may cost, and what is reported of its sum.

Nothing heavy is imported here, so that a command line or a page can offer the choice at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

DEFAULT_METHOD, DEFAULT_BUDGET = "gradcam", "fast"  # everywhere: the same request gets the same map
COMPARED = ("gradcam", "integrated_gradients", "occlusion")  # one of each kind: features, gradients, perturbation
RANDOMISED_BELOW = 0.3  # rank correlation with randomised weights' maps below which a map counts as the network's own
TOLERANCE = 0.05  # of the change of score: a larger error of a complete method's sum is reported

Progress = Callable[[float], None]


class Cancelled(Exception):
    """The caller asked to stop before the map was done."""


@dataclass(frozen=True)
class Budget:
    """How much work a map may cost.

    `steps` of integrated gradients, which double until the sum is right, at most `doublings` times; `samples` of
    gradient SHAP and SmoothGrad; `windows` of occlusion along a side; `segments` of SLIC; `mixtures` of LIME.
    """

    steps: int
    samples: int
    windows: int
    segments: int
    mixtures: int
    doublings: int = 2


BUDGETS: dict[str, Budget] = {
    "fast": Budget(steps=12, samples=8, windows=7, segments=30, mixtures=60),
    "balanced": Budget(steps=32, samples=24, windows=12, segments=60, mixtures=240),
    "thorough": Budget(steps=96, samples=64, windows=22, segments=120, mixtures=900),
}
# Maps that are only compared with others, on a grid of 16 cells a side: finer work would not be seen there.
COMPARISON = Budget(steps=4, samples=6, windows=5, segments=24, mixtures=40, doublings=0)


@dataclass(frozen=True)
class Completeness:
    """Whether a map's values sum to the change of the class's score (logit) from the reference to the slice.

    `delta` is the sum's error, in logits; `relative` is its size as a share of that change. `converged` says whether it
    is within 5 %.
    """

    score: float
    reference_score: float
    delta: float

    @property
    def relative(self) -> float:
        """|delta| over |change|, 0 or more."""
        return abs(self.delta) / max(abs(self.score - self.reference_score), 1e-6)

    @property
    def converged(self) -> bool:
        """Whether the sum is right within TOLERANCE."""
        return self.relative <= TOLERANCE
