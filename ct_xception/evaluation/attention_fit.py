"""Learnt attention, fitted: which slices of training patients the network's features say to listen to.

    attention = fit_attention(see_items(classifier, splits["train"]))      # None where there is nothing to learn

Gated attention (`statistics.attention`) on the first principal components of the features, each scaled to variance 1:
a few thousand weights, which are then written in terms of the features themselves. It starts from equal weights, the
mean of logits, and goes by the log-loss of patients of training whose slices have one class, at a temperature that is
learnt beside it and forgotten. One patient in five is kept apart, and says after how many steps to stop; where not one
step helped these, nothing was learnt. Whether it is used, validation patients decide (`fit_pooling`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from ct_xception.statistics.attention import GatedAttention
from ct_xception.statistics.pooling import LEAST_SEVERAL, LEAST_UNITS, members_of, unit_labels

if TYPE_CHECKING:
    import torch

    from ct_xception.evaluation.gate_fit import Seen

HIDDEN, COMPONENTS = 32, 24
STEPS, RATE, DECAY = 200, 0.02, 1e-3
APART = 5  # one patient in so many says when to stop
_FLOOR = 1e-6  # of the variance, below which a component counts as none


def has_bags(groups: Sequence[str]) -> bool:
    """Whether enough of the patients in `groups` (N,) have several slices for a weight a slice to be learnt."""
    counts = Counter(groups)
    return len(counts) >= LEAST_UNITS and sum(count > 1 for count in counts.values()) >= LEAST_SEVERAL


def fit_attention(seen: Seen, *, seed: int = 0) -> GatedAttention | None:
    """The attention that training slices teach, with their `groups`, `labels` and `logits`; None where none helps.

    The same seed gives the same weights.
    """
    members = list(members_of(seen.groups).values())
    own = unit_labels(np.array(seen.labels, np.intp), members)
    bags = [rows for rows, label in zip(members, own, strict=True) if label >= 0]
    classes = own[own >= 0]
    if not has_bags([str(bag) for bag, rows in enumerate(bags) for _ in rows]) or len(set(classes.tolist())) < 2:
        return None
    rows = np.concatenate(bags)
    scaled, back = _principal(seen.features[rows])
    bag = np.repeat(np.arange(len(bags)), [len(one) for one in bags])
    weights = _learn(scaled, np.array(seen.logits)[rows], bag, classes, seed)
    return None if weights is None else _unfold(weights, *back)


def _principal(features: NDArray[np.floating]) -> tuple[NDArray[np.float64], tuple[NDArray, NDArray]]:
    """Features (N, F) as components of variance 1, (N, C), and what leads to them: their mean (F,), a matrix (C, F)."""
    count = min(COMPONENTS, len(features) // 4, features.shape[1])
    fitted = PCA(n_components=count, svd_solver="full").fit(features.astype(np.float64))
    told = fitted.explained_variance_ > _FLOOR * max(fitted.explained_variance_.sum(), _FLOOR)
    matrix = fitted.components_[told] / np.sqrt(fitted.explained_variance_[told])[:, None]
    return (features - fitted.mean_) @ matrix.T, (fitted.mean_, matrix)


def _unfold(weights: dict[str, NDArray], mean: NDArray, matrix: NDArray) -> GatedAttention:
    """The attention on features, from the one on their components."""
    arrays = dict[str, Any](score_weight=weights["score_weight"])
    for name in ("tanh", "gate"):
        weight = weights[f"{name}_weight"] @ matrix
        arrays |= {f"{name}_weight": weight, f"{name}_bias": weights[f"{name}_bias"] - weight @ mean}
    return GatedAttention.of({name: array.astype(np.float32) for name, array in arrays.items()})


def _learn(
    points: NDArray[np.float64], logits: NDArray, bag: NDArray[np.intp], classes: NDArray[np.intp], seed: int
) -> dict[str, NDArray] | None:
    """The weights after the step that was best for the patients kept apart; None where that was none at all."""
    import torch

    values, logs = torch.from_numpy(points), torch.from_numpy(logits.astype(np.float64)).log_softmax(dim=1)
    index, truth = torch.from_numpy(bag), torch.from_numpy(classes)
    apart = torch.from_numpy(_apart(classes, seed))
    weights = _start(points.shape[1], seed)
    heat = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.AdamW([*weights.values(), heat], RATE, weight_decay=DECAY)
    best, kept, first = np.inf, None, np.inf
    for step in range(STEPS + 1):
        pooled = _pool(values, logs, index, weights, len(classes))
        losses = torch.nn.functional.cross_entropy(pooled * heat.exp(), truth, reduction="none")
        found = _at_best_temperature(pooled[apart].detach(), truth[apart])
        first = found if step == 0 else first
        if found < best:
            best, kept = found, {name: one.detach().numpy().copy() for name, one in weights.items()}
        optimiser.zero_grad()
        losses[~apart].mean().backward()
        optimiser.step()
    return kept if best < first else None


def _start(components: int, seed: int) -> dict[str, torch.Tensor]:
    """Small V and U, and w of zeros, so that every slice counts the same."""
    import torch

    rng = np.random.default_rng(seed)
    shapes = {"tanh_weight": (HIDDEN, components), "gate_weight": (HIDDEN, components)}
    drawn = {name: rng.normal(0, components**-0.5, shape) for name, shape in shapes.items()}
    drawn |= {name: np.zeros(HIDDEN) for name in ("tanh_bias", "gate_bias", "score_weight")}
    return {name: torch.from_numpy(array).requires_grad_() for name, array in drawn.items()}


def _pool(
    values: torch.Tensor, logs: torch.Tensor, index: torch.Tensor, weights: dict[str, torch.Tensor], count: int
) -> torch.Tensor:
    """The weighted mean of log-probabilities of each bag, (B, K)."""
    import torch

    shown = torch.tanh(values @ weights["tanh_weight"].T + weights["tanh_bias"])
    passed = torch.sigmoid(values @ weights["gate_weight"].T + weights["gate_bias"])
    scores = (shown * passed) @ weights["score_weight"]
    most = torch.full((count,), -torch.inf, dtype=scores.dtype).scatter_reduce(0, index, scores.detach(), "amax")
    raised = (scores - most[index]).exp()
    shares = raised / torch.zeros(count, dtype=scores.dtype).index_add(0, index, raised)[index]
    return torch.zeros(count, logs.shape[1], dtype=logs.dtype).index_add(0, index, shares[:, None] * logs)


def _at_best_temperature(pooled: torch.Tensor, truth: torch.Tensor) -> float:
    """The mean log-loss of bags at the temperature that suits them, of a few: pools are compared so by validation."""
    import torch

    heats = torch.tensor([0.25, 0.5, 1.0, 2.0, 4.0], dtype=pooled.dtype)
    return min(float(torch.nn.functional.cross_entropy(pooled * heat, truth)) for heat in heats)


def _apart(classes: NDArray[np.intp], seed: int) -> NDArray[np.bool_]:
    """Which patients (B,) say when to stop: one in APART of each class, at random."""
    order = np.random.default_rng(seed).permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    apart = np.zeros(len(classes), bool)
    apart[order[::APART]] = True
    return apart
