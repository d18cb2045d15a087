"""Made-up answers whose calibration and classes are known."""

from __future__ import annotations

import numpy as np


def draw_answers(n: int, seed: int, *, classes: int = 4, sharpness: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Perfectly calibrated answers: probabilities (N, K) first, then labels (N,) drawn from them."""
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(n, classes))
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = (probabilities.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=classes - 1)
    return probabilities, labels
