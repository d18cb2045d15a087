"""How far a heat map can be trusted: measured on the network itself, per map and over many maps.

- Deletion and insertion (Petsiuk et al. 2018, arXiv:1806.07421): how fast the class's probability falls when the
  strongest pixels are blackened, and rises when they are put back into a blurred picture; each beside a random order.
- Infidelity and sensitivity (Yeh et al. 2019, arXiv:1901.09392) by captum.metrics: whether the map predicts what
  removing a patch does to the score, and how much the map changes under a noise that nobody would see.
- Model randomisation (Adebayo et al. 2018, arXiv:1810.03292): a map that stays alike when every weight is drawn anew
  shows the picture's edges, not the network.
- Agreement: rank correlation, and overlap of the strongest tenth, with maps of other kinds of method.
- Where lesions are known, the pointing game (Zhang et al. 2016, arXiv:1608.00507) and overlap.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max
from scipy import ndimage
from scipy.stats import spearmanr

from ct_xception.explain.budget import COMPARED, RANDOMISED_BELOW, Progress
from ct_xception.explain.explain import Attribution, Explanation
from ct_xception.explain.location import find_frame, find_grounds, ground_shares, ground_warning, seen_mask
from ct_xception.explain.methods import METHODS
from ct_xception.explain.network_copies import random_networks
from ct_xception.explain.placement import seen_region
from ct_xception.explain.regions import strongest_regions
from ct_xception.explain.scoring import air, blurred
from ct_xception.imaging.modality import CT

if TYPE_CHECKING:
    from ct_xception.model.modelling import CTXceptionForImageClassification as Network

GRID = 16  # maps are compared on a grid of so many cells a side, since their finest detail never agrees
RADIUS = 0.02  # of the sensitivity's noise, where the picture spans 2: one grey level in a hundred
SETTLED = 0.05  # a piece of a curve is halved while its rise times its width, at most twice its area's error, is larger
_BATCH = 8  # pictures asked about at a time


@dataclass(frozen=True)
class Effort:
    """How much to gather: a curve's finest steps, random orders beside it, patches, noises, random networks."""

    steps: int
    orders: int
    patches: int
    noises: int
    networks: int


EFFORTS = {"fast": Effort(16, 2, 16, 2, 2), "balanced": Effort(32, 4, 60, 4, 3), "thorough": Effort(64, 8, 200, 10, 5)}


# The evidence for one map


def evidence(
    explanation: Explanation,
    *,
    budget: str = "balanced",
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    random: Sequence[Network] | None = None,
) -> dict[str, Any]:
    """Everything that speaks for or against one map, as JSON takes it; `budget` is one of EFFORTS.

    `random` are networks of `random_networks`, which serve any number of maps; without them the effort's are drawn.
    Keys: `deletion`, `insertion`, `grounds`, `agreement`, `infidelity`, `sensitivity`, `randomisation`, `completeness`
    (None where the method promises no sum), `regions`, and `warnings`, sentences. Raises Cancelled.
    """
    effort, found = EFFORTS[budget], dict[str, Any]()
    explanation = replace(explanation, cancelled=cancelled)
    stages: dict[str, Callable[[], Any]] = {
        "grounds": lambda: describe_grounds(explanation),
        "regions": lambda: describe_regions(explanation),
        "completeness": lambda: completeness_record(explanation.attribution),
        "deletion": lambda: deletion(explanation, effort, seed=seed),
        "insertion": lambda: insertion(explanation, effort, seed=seed),
        "infidelity": lambda: infidelity(explanation, patches=effort.patches, seed=seed),
        "agreement": lambda: agreement(explanation),
        "sensitivity": lambda: sensitivity(explanation, noises=effort.noises, seed=seed),
        "randomisation": lambda: randomisation(explanation, random or _drawn(explanation, effort.networks, seed)),
    }
    for done, (name, measure) in enumerate(stages.items()):
        explanation.look_up()
        if progress is not None:
            progress(done / len(stages))
        found[name] = measure()
    if progress is not None:
        progress(1.0)
    return {**found, "budget": budget, "warnings": warnings_of(found)}


def _drawn(explanation: Explanation, count: int, seed: int) -> list[Network]:
    return random_networks(explanation.model, explanation.pixel_values.shape[-1], count, seed)


def warnings_of(found: Mapping[str, Any]) -> list[str]:
    """What a reader of a map must know before believing it, a sentence each; `found` as `evidence` gathers it."""
    deletion, randomised = found["deletion"], found["randomisation"]
    completeness = found["completeness"]
    candidates = [
        found["grounds"]["warning"],
        None
        if deletion["area"] < deletion["random_area"]
        else "Blackening the strongest pixels lowers the probability no faster than blackening random ones: the map "
        "does not show what the answer rests on.",
        None
        if randomised["passed"]
        else "A network with random weights gives a similar map: it shows the picture more than the network.",
        None
        if completeness is None or completeness["converged"]
        else f"The map's sum misses the change of score by {100 * completeness['relative']:.0f} %: a larger budget "
        "is needed.",
    ]
    return [sentence for sentence in candidates if sentence is not None]


def describe_grounds(explanation: Explanation) -> dict[str, Any]:
    shape = explanation.slice.pixels.shape
    seen = seen_mask(seen_region(explanation.model.config.pretrained_cfg, explanation.box), explanation.box, shape)
    slice_, ct = explanation.slice, explanation.modality == CT
    grounds = find_grounds(slice_.pixels, slice_.body) if ct else find_frame(slice_.pixels)
    shares = ground_shares(explanation.attribution.map, grounds, seen)
    record: dict[str, Any] = {name: {"share": item.share, "area": item.area} for name, item in shares.items()}
    return {**record, "warning": ground_warning(shares)}


def describe_regions(explanation: Explanation) -> list[dict[str, Any]]:
    coarse = METHODS[explanation.attribution.method].coarse
    found = strongest_regions(explanation.attribution.map, spacing_mm=explanation.slice.spacing_mm, coarse=coarse)
    return [region.to_dict() for region in found]


def completeness_record(attribution: Attribution) -> dict[str, Any] | None:
    """The check of a complete method's sum as JSON takes it; None for other methods."""
    check = attribution.completeness
    if check is None:
        return None
    change = check.score - check.reference_score
    return {"change": change, "delta": check.delta, "relative": check.relative, "converged": check.converged}


# Curves


def deletion(explanation: Explanation, effort: Effort, *, seed: int = 0) -> dict[str, Any]:
    """Blacken the strongest pixels first: `shares` (steps + 1) of pixels, the class's `probabilities`, their `area`.

    The smaller the area, the better; `random_area` is the mean over random orders of patches.
    """
    pixels = explanation.pixel_values[None]
    return _curve(explanation, pixels, air(explanation.model.config.pretrained_cfg, pixels), effort, seed)


def insertion(explanation: Explanation, effort: Effort, *, seed: int = 0) -> dict[str, Any]:
    """Put the strongest pixels back first, into a blurred picture: as `deletion`, but a large area is good."""
    pixels = explanation.pixel_values[None]
    return _curve(explanation, blurred(pixels), pixels, effort, seed)


def _curve(
    explanation: Explanation, start: torch.Tensor, end: torch.Tensor, effort: Effort, seed: int
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    orders = [explanation.seen, *(random_relief(rng, explanation.seen.shape[0]) for _ in range(effort.orders))]
    ranks = torch.stack([torch.from_numpy(_ranks(order)) for order in orders]).to(start)[:, None]

    def ask(points: Sequence[tuple[int, float]]) -> np.ndarray:
        which, shares = [order for order, _ in points], torch.tensor([share for _, share in points])
        taken = ranks[which] < shares.to(start).view(-1, 1, 1, 1)
        return _probability(explanation, torch.where(taken, end, start))

    # A random order is only a mark to be held against: a quarter of the steps finds its area.
    curves = settled_curves(ask, [effort.steps, *[max(4, effort.steps // 4)] * effort.orders])
    areas = [float(np.trapezoid(list(curve.values()), list(curve))) for curve in curves]
    return {
        "shares": list(curves[0]),
        "probabilities": list(curves[0].values()),
        "area": areas[0],
        "random_area": float(np.mean(areas[1:])),
    }


def settled_curves(
    ask: Callable[[Sequence[tuple[int, float]]], np.ndarray], steps: Sequence[int]
) -> list[dict[float, float]]:
    """Curves over [0, 1] with common ends, each {share: value} in order, by halving its quarters where it moves.

    `ask` gives the values (N,) at N pairs (number of the curve, share), _BATCH or fewer at a time. A piece is halved
    until its change times its width is SETTLED, or it is one of that curve's `steps` wide.
    """
    ends = [float(value) for value in ask([(0, 0.0), (0, 1.0)])]
    curves = [dict(zip((0.0, 1.0), ends, strict=True)) for _ in steps]
    pending = [(number, share) for number in range(len(steps)) for share in (0.25, 0.5, 0.75)]
    while pending:
        for first in range(0, len(pending), _BATCH):
            batch = pending[first : first + _BATCH]
            for (number, share), value in zip(batch, ask(batch), strict=True):
                curves[number][share] = float(value)
        curves = [dict(sorted(curve.items())) for curve in curves]
        pending = [
            (number, middle) for number, curve in enumerate(curves) for middle in _unsettled(curve, steps[number])
        ]
    return curves


def _unsettled(curve: Mapping[float, float], steps: int) -> list[float]:
    """The middles of those pieces of a curve that are to be halved."""
    return [
        (left + right) / 2
        for (left, low), (right, high) in itertools.pairwise(curve.items())
        if right - left > 1.5 / steps and abs(high - low) * (right - left) > SETTLED
    ]


def _ranks(order: np.ndarray) -> np.ndarray:
    """For every pixel (S, S) the share of pixels before it, the strongest first."""
    ranks = np.empty(order.size)
    ranks[np.argsort(-order.ravel(), kind="stable")] = (np.arange(order.size) + 0.5) / order.size
    return ranks.reshape(order.shape)


def random_relief(rng: np.random.Generator, side: int, cells: int = GRID) -> np.ndarray:
    """A random map (side, side) of `cells` patches a side: pixels alone would be too fine to hide anything."""
    index = np.arange(side) * min(cells, side) // side
    return rng.random((cells, cells))[index][:, index]


def _probability(explanation: Explanation, pixels: torch.Tensor) -> np.ndarray:
    """The explained class's probability of pictures (B, 3, S, S): (B,) float64."""
    return _logits(explanation, pixels).double().softmax(dim=1)[:, explanation.target].cpu().numpy()


def _logits(explanation: Explanation, pixels: torch.Tensor) -> torch.Tensor:
    explanation.look_up()
    model = explanation.model
    parameter = next(model.parameters())
    with torch.inference_mode():
        return model.classify(model.features(pixels.to(parameter.device, parameter.dtype))).float()


# Infidelity and sensitivity


def infidelity(explanation: Explanation, *, patches: int = 60, seed: int = 0) -> float | None:
    """How badly the map's sum over a square patch predicts the fall of the score when the patch is blackened.

    captum's normalised infidelity over the mean squared fall: 0 where the map predicts it but for one factor, 1 where
    it does no better than a map of zeros. Patches are a sixth to a third of the side. None where no patch changes the
    score.
    """

    pixels = explanation.pixel_values[None].clone()
    reference = air(explanation.model.config.pretrained_cfg, pixels)
    rng, side, changes = np.random.default_rng(seed), pixels.shape[-1], list[torch.Tensor]()

    def blacken(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        patch = torch.zeros(len(inputs), 1, side, side)
        for index in range(len(inputs)):
            extent = int(rng.integers(max(1, side // 6), max(2, side // 3)))
            top, left = rng.integers(0, side - extent + 1, 2)
            patch[index, :, top : top + extent, left : left + extent] = 1
        patch = patch.to(inputs.device).expand_as(inputs)
        return patch, torch.where(patch.bool(), reference, inputs)

    whole = _logits(explanation, pixels)[0, explanation.target].item()

    def score(batch: torch.Tensor) -> torch.Tensor:
        values = torch.full((len(batch),), whole)
        changed = (batch != pixels).flatten(1).any(dim=1)  # captum asks about the picture itself as often as of patches
        if changed.any():
            values[changed] = _logits(explanation, batch[changed])[:, explanation.target].cpu()
        changes.append(values)
        return values

    spread = torch.from_numpy(explanation.seen)[None, None].expand_as(pixels) / 3
    with torch.inference_mode(False):
        error = captum_infidelity(
            score, blacken, pixels, spread, n_perturb_samples=patches, max_examples_per_batch=8, normalize=True
        )
    falls = torch.cat([last - changed for changed, last in zip(changes[::2], changes[1::2], strict=True)])
    size = float(falls.square().mean())
    return float(error.item()) / size if size > 1e-12 else None


def sensitivity(explanation: Explanation, *, noises: int = 4, seed: int = 0) -> float:
    """The largest relative change of the map under invisible noise, by captum.metrics: 0 is steady, above 1 is not.

    Both maps are made at the least budget.
    """

    generator = torch.Generator().manual_seed(seed)

    def explain(inputs: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        batch = inputs[0] if isinstance(inputs, tuple) else inputs
        return (torch.stack([torch.from_numpy(_quick(explanation, one)) for one in batch]),)

    def disturb(inputs: torch.Tensor | tuple[torch.Tensor, ...], radius: float) -> tuple[torch.Tensor]:
        batch = inputs[0] if isinstance(inputs, tuple) else inputs
        return (batch + radius * (2 * torch.rand(batch.shape, generator=generator) - 1).to(batch),)

    pixels = explanation.pixel_values[None].cpu()
    with torch.inference_mode(False):
        worst = sensitivity_max(explain, pixels.clone(), disturb, RADIUS, noises, max_examples_per_batch=2)
    return float(worst.item())


def _quick(explanation: Explanation, pixel_values: torch.Tensor) -> np.ndarray:
    same = torch.equal(pixel_values, explanation.pixel_values.cpu())
    return explanation.quick if same else explanation.again(explanation.model, pixel_values)


# Comparisons of maps


def randomisation(explanation: Explanation, random: Sequence[Network]) -> dict[str, Any]:
    """How alike the maps of networks with random weights are: `rank_correlation` (their mean), `each`, `passed`."""
    pixels = explanation.pixel_values
    each = [rank_correlation(explanation.quick, explanation.again(network, pixels)) for network in random]
    mean = float(np.mean(each))
    return {"rank_correlation": mean, "each": each, "passed": abs(mean) < RANDOMISED_BELOW}


def agreement(explanation: Explanation, methods: Sequence[str] = COMPARED) -> dict[str, dict[str, float]]:
    """With each other method's map at the least budget: `rank_correlation`, and `overlap` of the strongest tenth."""
    others = [method for method in methods if method != explanation.attribution.method]
    maps = {method: explanation.again(explanation.model, explanation.pixel_values, method) for method in others}
    return {
        method: {
            "rank_correlation": rank_correlation(explanation.seen, heat),
            "overlap": top_overlap(explanation.seen, heat),
        }
        for method, heat in maps.items()
    }


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rho of two maps (S, S) averaged over a grid of GRID cells a side; 0 where one of them is flat."""

    pooled = [_pool(heat).ravel() for heat in (first, second)]
    if any(np.ptp(values) < 1e-9 for values in pooled):
        return 0.0
    return float(spearmanr(*pooled).statistic)


def top_overlap(first: np.ndarray, second: np.ndarray, share: float = 0.1) -> float:
    """Intersection over union of the strongest `share` of two maps' grid cells."""
    chosen = []
    for heat in (first, second):
        values = _pool(heat).ravel()
        count = max(1, round(share * values.size))
        chosen.append(set(np.argsort(-values, kind="stable")[:count].tolist()))
    return len(chosen[0] & chosen[1]) / len(chosen[0] | chosen[1])


def _pool(heat: np.ndarray) -> np.ndarray:
    """Means over a grid of at most GRID cells a side."""
    cells = torch.from_numpy(np.ascontiguousarray(heat, dtype=np.float32))[None, None]
    size = min(GRID, *heat.shape)
    return torch.nn.functional.adaptive_avg_pool2d(cells, size)[0, 0].numpy()


# Where the lesions are known


@dataclass(frozen=True)
class Pointing:
    """How a map (H, W) fares against a lesion's mask.

    `hit`: its strongest pixel lies in the lesion; `near`: within `tolerance` pixels of it. `distance` in pixels, 0
    inside. `inside` is the share of positive attribution in the lesion. `area` and `near_area` are the shares of the
    slice in the lesion and within the tolerance: what blind pointing would hit. `overlap` is the intersection over
    union of the lesion with as many of the map's strongest pixels.
    """

    hit: bool
    near: bool
    distance: float
    inside: float
    area: float
    near_area: float
    overlap: float


def point(heat: np.ndarray, lesion: np.ndarray, *, tolerance: float = 0.0) -> Pointing:
    """Play the pointing game with a map and a lesion's mask, both (H, W); the mask must not be empty.

    Where several pixels share the maximum, as a coarse map's cell at the edge does, their mean place counts.
    """

    if heat.shape != lesion.shape or not lesion.any():
        raise ValueError(f"a map of {heat.shape} needs a lesion mask of that size with something in it")
    positive = np.clip(heat, 0, None)
    distances = ndimage.distance_transform_edt(~lesion)
    peak = tuple(int(round(float(axis.mean()))) for axis in np.nonzero(positive >= positive.max()))
    distance = float(distances[peak]) if positive.max() > 0 else float(distances.max())
    strongest = np.zeros(heat.size, dtype=bool)
    strongest[np.argsort(-positive.ravel(), kind="stable")[: int(lesion.sum())]] = True
    strongest &= positive.ravel() > 0
    both = int((strongest & lesion.ravel()).sum())
    total = float(positive.sum()) or 1.0
    return Pointing(
        hit=distance == 0,
        near=distance <= tolerance,
        distance=distance,
        inside=float(positive[lesion].sum()) / total,
        area=float(lesion.mean()),
        near_area=float((distances <= tolerance).mean()),
        overlap=both / int((strongest | lesion.ravel()).sum()),
    )
