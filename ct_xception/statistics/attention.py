"""How much each slice of a patient counts, learnt from the network's features: gated attention (Ilse et al. 2018).

    scores = attention(features)                      # (n,), before the softmax over a patient's slices
    weights = attention_weights(scores)               # (n,), summing to 1

Ilse et al. (arXiv 1802.04712, equations 7 and 9) average the features h of a bag with the weights
softmax(w · (tanh(V h) * sigmoid(U h))), and put a classifier over the average. Here that classifier is the network's
own head, which is linear: over the average of features it gives the average of the slices' logits, and so, but for a
constant that no class notices, of their log-probabilities. One score a slice is all that pooling needs, and equal ones
are the mean of logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]

ARRAYS = ("tanh_weight", "tanh_bias", "gate_weight", "gate_bias", "score_weight")
MOST_HIDDEN = 256


@dataclass(frozen=True, eq=False)
class GatedAttention:
    """V and U (H, F) with biases (H,), and w (H,), of finite numbers. Raises ValueError for any other arrays."""

    tanh_weight: Floats
    tanh_bias: Floats
    gate_weight: Floats
    gate_bias: Floats
    score_weight: Floats

    def __post_init__(self) -> None:
        hidden, arrays = len(self.score_weight), tuple(self.arrays.values())
        wide = (hidden, self.tanh_weight.shape[-1]) if self.tanh_weight.ndim == 2 else ()
        shapes = tuple(array.shape for array in arrays)
        if shapes != (wide, (hidden,), wide, (hidden,), (hidden,)) or not 1 <= hidden <= MOST_HIDDEN or 0 in wide:
            raise ValueError(f"its arrays have the shapes {shapes}")
        if not all(array.dtype.kind == "f" and np.isfinite(array).all() for array in arrays):
            raise ValueError("its arrays hold values that are not finite")

    @classmethod
    def of(cls, arrays: Mapping[str, Floats]) -> GatedAttention:
        """From arrays by their names. Raises KeyError and ValueError."""
        return cls(*(arrays[name] for name in ARRAYS))

    @property
    def arrays(self) -> dict[str, Floats]:
        """By their names, as a file holds them."""
        return {name: getattr(self, name) for name in ARRAYS}

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """The scores (n,) of slices with features (n, F). Raises ValueError for another count of features."""
        if features.shape[-1] != self.tanh_weight.shape[1]:
            raise ValueError(f"got {features.shape[-1]} features for an attention of {self.tanh_weight.shape[1]}")
        exact = features.astype(np.float64)
        shown = np.tanh(exact @ self.tanh_weight.T + self.tanh_bias)
        passed = 0.5 * (1 + np.tanh(0.5 * (exact @ self.gate_weight.T + self.gate_bias)))  # the logistic function
        return np.asarray((shown * passed) @ self.score_weight.astype(np.float64))


def attention_weights(scores: ArrayLike) -> NDArray[np.float64]:
    """The weight of each of n slices, summing to 1: the softmax of their scores (n,)."""
    raised = np.exp(np.asarray(scores, np.float64) - np.max(scores))
    return np.asarray(raised / raised.sum())
