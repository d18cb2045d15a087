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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ct_xception.explain.attribution import Attribution, attribute
from ct_xception.explain.catalogue import COMPARED, METHODS, RANDOMISED_BELOW
from ct_xception.explain.location import find_grounds, ground_shares, seen_mask, whereabouts_warning
from ct_xception.explain.methods import Cancelled, Progress, air, blurred
from ct_xception.explain.network_copies import randomised_copy
from ct_xception.explain.placement import seen_region
from ct_xception.explain.regions import strongest_regions
from ct_xception.imaging.body import Box
from ct_xception.imaging.slice import Slice

if TYPE_CHECKING:
    from ct_xception.model.modelling import CTXceptionForImageClassification as Network

GRID = 16  # maps are compared on a grid of so many cells a side, since their finest detail never agrees
RADIUS = 0.02  # of the sensitivity's noise, where the picture spans 2: one grey level in a hundred
_BATCH = 8  # pictures asked about at a time


@dataclass(frozen=True)
class Effort:
    """How much evidence to gather: steps of a curve, random orders beside it, patches, noises, randomised networks."""

    steps: int
    orders: int
    patches: int
    noises: int
    networks: int


EFFORTS = {"fast": Effort(12, 2, 24, 2, 2), "balanced": Effort(24, 4, 60, 4, 3), "thorough": Effort(48, 8, 200, 10, 5)}


@dataclass(frozen=True, eq=False)
class Explained:
    """One slice's explanation, as the evidence needs it: the network, what it saw, and the map.

    `pixel_values` (3, S, S); `box` is the part of `slice` that they show; `target` the class explained. `cancelled` is
    asked before each batch and each curve, which raise Cancelled.
    """

    model: Network
    slice: Slice
    pixel_values: torch.Tensor
    box: Box
    target: int
    attribution: Attribution
    cancelled: Callable[[], bool] | None = None

    def look_up(self) -> None:
        """Raise Cancelled where the caller wants no more."""
        if self.cancelled is not None and self.cancelled():
            raise Cancelled

    @property
    def seen(self) -> np.ndarray:
        """The map (S, S) over what the network saw."""
        assert self.attribution.seen is not None, "this attribution was not made by attribute()"
        return self.attribution.seen

    def again(self, model: Network, pixel_values: torch.Tensor, method: str | None = None) -> np.ndarray:
        """The map (S, S) of another network, picture or method, at the least budget."""
        attribution = attribute(
            model,
            pixel_values,
            self.target,
            box=self.box,
            shape=self.slice.pixels.shape,
            method=method or self.attribution.method,
            budget="fast",
            cancelled=self.cancelled,
        )
        assert attribution.seen is not None
        return attribution.seen


# The evidence for one map


def evidence(
    explained: Explained,
    *,
    budget: str = "balanced",
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Everything that speaks for or against one map, as JSON takes it; `budget` is one of EFFORTS.

    Keys: `deletion`, `insertion`, `grounds`, `agreement`, `infidelity`, `sensitivity`, `randomisation`, `completeness`
    (None where the method promises no sum), `regions`, and `warnings`, sentences. Raises Cancelled.
    """
    effort, found = EFFORTS[budget], dict[str, Any]()
    explained = replace(explained, cancelled=cancelled)
    stages: dict[str, Callable[[], Any]] = {
        "grounds": lambda: describe_grounds(explained),
        "regions": lambda: describe_regions(explained),
        "completeness": lambda: completeness_record(explained.attribution),
        "deletion": lambda: deletion(explained, effort, seed=seed),
        "insertion": lambda: insertion(explained, effort, seed=seed),
        "infidelity": lambda: infidelity(explained, patches=effort.patches, seed=seed),
        "agreement": lambda: agreement(explained),
        "sensitivity": lambda: sensitivity(explained, noises=effort.noises, seed=seed),
        "randomisation": lambda: randomisation(explained, networks=effort.networks, seed=seed),
    }
    for done, (name, measure) in enumerate(stages.items()):
        explained.look_up()
        if progress is not None:
            progress(done / len(stages))
        found[name] = measure()
    if progress is not None:
        progress(1.0)
    return {**found, "budget": budget, "warnings": warnings_of(found)}


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


def describe_grounds(explained: Explained) -> dict[str, Any]:
    shape = explained.slice.pixels.shape
    seen = seen_mask(seen_region(explained.model.config.pretrained_cfg, explained.box), explained.box, shape)
    shares = ground_shares(explained.attribution.map, find_grounds(explained.slice.pixels, explained.slice.body), seen)
    record: dict[str, Any] = {name: {"share": item.share, "area": item.area} for name, item in shares.items()}
    return {**record, "warning": whereabouts_warning(shares)}


def describe_regions(explained: Explained) -> list[dict[str, Any]]:
    coarse = METHODS[explained.attribution.method].coarse
    found = strongest_regions(explained.attribution.map, spacing_mm=explained.slice.spacing_mm, coarse=coarse)
    return [region.to_dict() for region in found]


def completeness_record(attribution: Attribution) -> dict[str, Any] | None:
    """The check of a complete method's sum as JSON takes it; None for other methods."""
    check = attribution.completeness
    if check is None:
        return None
    change = check.score - check.reference_score
    return {"change": change, "delta": check.delta, "relative": check.relative, "converged": check.converged}


# Curves


def deletion(explained: Explained, effort: Effort, *, seed: int = 0) -> dict[str, Any]:
    """Blacken the strongest pixels first: `shares` (steps + 1) of pixels, the class's `probabilities`, their `area`.

    The smaller the area, the better; `random_area` is the mean over random orders of patches.
    """
    pixels = explained.pixel_values[None]
    return _curve(explained, pixels, air(explained.model.config.pretrained_cfg, pixels), effort, seed)


def insertion(explained: Explained, effort: Effort, *, seed: int = 0) -> dict[str, Any]:
    """Put the strongest pixels back first, into a blurred picture: as `deletion`, but a large area is good."""
    pixels = explained.pixel_values[None]
    return _curve(explained, blurred(pixels), pixels, effort, seed)


def _curve(explained: Explained, start: torch.Tensor, end: torch.Tensor, effort: Effort, seed: int) -> dict[str, Any]:
    shares = np.linspace(0, 1, effort.steps + 1)
    rng = np.random.default_rng(seed)
    orders = [explained.seen, *(random_relief(rng, explained.seen.shape[0]) for _ in range(effort.orders))]
    curves = [_replace_by_rank(explained, start, end, order, shares) for order in orders]
    areas = [float(np.trapezoid(curve, shares)) for curve in curves]
    return {
        "shares": shares.tolist(),
        "probabilities": curves[0].tolist(),
        "area": areas[0],
        "random_area": float(np.mean(areas[1:])),
    }


def random_relief(rng: np.random.Generator, side: int, cells: int = GRID) -> np.ndarray:
    """A random map (side, side) of `cells` patches a side: pixels alone would be too fine to hide anything."""
    index = np.arange(side) * min(cells, side) // side
    return rng.random((cells, cells))[index][:, index]


def _replace_by_rank(
    explained: Explained, start: torch.Tensor, end: torch.Tensor, order: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    """The class's probability with each share of pixels, the strongest of `order` first, taken from `end`."""
    explained.look_up()
    ranks = np.empty(order.size)
    ranks[np.argsort(-order.ravel(), kind="stable")] = (np.arange(order.size) + 0.5) / order.size
    place = torch.from_numpy(ranks.reshape(order.shape)).to(start.device)
    batches = torch.from_numpy(shares).to(place).view(-1, 1, 1, 1).split(_BATCH)
    return np.concatenate([_probability(explained, torch.where(place < batch, end, start)) for batch in batches])


def _probability(explained: Explained, pixels: torch.Tensor) -> np.ndarray:
    """The explained class's probability of pictures (B, 3, S, S): (B,) float64."""
    return _logits(explained.model, pixels).double().softmax(dim=1)[:, explained.target].cpu().numpy()


def _logits(model: Network, pixels: torch.Tensor) -> torch.Tensor:
    parameter = next(model.parameters())
    with torch.inference_mode():
        return model.classify(model.features(pixels.to(parameter.device, parameter.dtype))).float()


# Infidelity and sensitivity


def infidelity(explained: Explained, *, patches: int = 60, seed: int = 0) -> float | None:
    """How badly the map's sum over a square patch predicts the fall of the score when the patch is blackened.

    captum's normalised infidelity over the mean squared fall: 0 where the map predicts it but for one factor, 1 where
    it does no better than a map of zeros. Patches are a sixth to a third of the side. None where no patch changes the
    score.
    """
    from captum.metrics import infidelity as captum_infidelity

    pixels = explained.pixel_values[None].clone()
    reference = air(explained.model.config.pretrained_cfg, pixels)
    rng, side, changes = np.random.default_rng(seed), pixels.shape[-1], list[torch.Tensor]()

    def blacken(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        patch = torch.zeros(len(inputs), 1, side, side)
        for index in range(len(inputs)):
            extent = int(rng.integers(max(1, side // 6), max(2, side // 3)))
            top, left = rng.integers(0, side - extent + 1, 2)
            patch[index, :, top : top + extent, left : left + extent] = 1
        patch = patch.to(inputs.device).expand_as(inputs)
        return patch, torch.where(patch.bool(), reference, inputs)

    def score(batch: torch.Tensor) -> torch.Tensor:
        explained.look_up()
        values = _logits(explained.model, batch)[:, explained.target].clone().cpu()  # as the pixels that captum holds
        changes.append(values)
        return values

    spread = torch.from_numpy(explained.seen)[None, None].expand_as(pixels) / 3
    with torch.inference_mode(False):
        error = captum_infidelity(
            score, blacken, pixels, spread, n_perturb_samples=patches, max_examples_per_batch=8, normalize=True
        )
    falls = torch.cat([last - changed for changed, last in zip(changes[::2], changes[1::2], strict=True)])
    size = float(falls.square().mean())
    return float(error.item()) / size if size > 1e-12 else None


def sensitivity(explained: Explained, *, noises: int = 4, seed: int = 0) -> float:
    """The largest relative change of the map under invisible noise, by captum.metrics: 0 is steady, above 1 is not.

    Both maps are made at the least budget.
    """
    from captum.metrics import sensitivity_max

    generator = torch.Generator().manual_seed(seed)

    def explain(inputs: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        batch = inputs[0] if isinstance(inputs, tuple) else inputs
        return (torch.stack([torch.from_numpy(explained.again(explained.model, one)) for one in batch]),)

    def disturb(inputs: torch.Tensor | tuple[torch.Tensor, ...], radius: float) -> tuple[torch.Tensor]:
        batch = inputs[0] if isinstance(inputs, tuple) else inputs
        return (batch + radius * (2 * torch.rand(batch.shape, generator=generator) - 1).to(batch),)

    pixels = explained.pixel_values[None].cpu()
    with torch.inference_mode(False):
        worst = sensitivity_max(explain, pixels.clone(), disturb, RADIUS, noises, max_examples_per_batch=2)
    return float(worst.item())


# Comparisons of maps


def randomisation(explained: Explained, *, networks: int = 3, seed: int = 0) -> dict[str, Any]:
    """How alike the maps of networks with random weights are: `rank_correlation` (their mean), `each`, `passed`."""
    pixels = explained.pixel_values[None]
    own = explained.again(explained.model, explained.pixel_values)
    each = []
    for number in range(networks):
        random = randomised_copy(explained.model, pixels.to(next(explained.model.parameters())), seed=seed + number)
        each.append(rank_correlation(own, explained.again(random, explained.pixel_values)))
    mean = float(np.mean(each))
    return {"rank_correlation": mean, "each": each, "passed": abs(mean) < RANDOMISED_BELOW}


def agreement(explained: Explained, methods: Sequence[str] = COMPARED) -> dict[str, dict[str, float]]:
    """With each other method's map at the least budget: `rank_correlation`, and `overlap` of the strongest tenth."""
    others = [method for method in methods if method != explained.attribution.method]
    maps = {method: explained.again(explained.model, explained.pixel_values, method) for method in others}
    return {
        method: {
            "rank_correlation": rank_correlation(explained.seen, heat),
            "overlap": top_overlap(explained.seen, heat),
        }
        for method, heat in maps.items()
    }


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rho of two maps (S, S) averaged over a grid of GRID cells a side; 0 where one of them is flat."""
    from scipy.stats import spearmanr

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
    from scipy import ndimage

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
