"""Where on the slice the evidence for a class lies, in the coordinates of the slice.

    explanation = explain(classifier, classifier.read("slice.dcm"))
    print(explanation.attribution.label, explanation.attribution.map)

`explain` makes every map (of the command line, page, API, evaluation), so that all show the same one.
"""

from __future__ import annotations

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ct_xception.errors import InputError
from ct_xception.explain.budget import (
    BUDGETS,
    COMPARISON,
    DEFAULT_BUDGET,
    DEFAULT_METHOD,
    Budget,
    Cancelled,
    Completeness,
    Progress,
)
from ct_xception.explain.methods import find_method
from ct_xception.explain.methods.base import Method
from ct_xception.explain.network_copies import private_copy
from ct_xception.explain.placement import cell_grid, place_in_slice, seen_region, spread_over_input
from ct_xception.explain.scoring import Question, Scorer
from ct_xception.imaging.body.crop import Box
from ct_xception.imaging.modality import CT
from ct_xception.imaging.slice import Slice
from ct_xception.text import unknown

if TYPE_CHECKING:
    from ct_xception.model.modelling import CTXceptionForImageClassification as Network
    from ct_xception.serving.classifier import Classifier


@dataclass(frozen=True, eq=False)
class Attribution:
    """Evidence for one class, pixel by pixel of the slice as it was read.

    `map` is (H, W) float32, 0 outside the body crop: in [0, 1], or in [-1, 1] where the method is `signed` and below 0
    what speaks against the class. Its largest size is 1 (less where the slice is coarser than the network's input)
    unless nothing speaks for or against. `strength` is that size before scaling, in the method's own unit. `seen` is
    the same map, (S, S), over the square picture that the network was given. `completeness` is there where the method
    promises a sum. `seconds` is what it took.
    """

    map: np.ndarray
    label: str
    method: str
    strength: float
    seen: np.ndarray
    signed: bool = False
    budget: str | None = None
    completeness: Completeness | None = None
    seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Explanation:
    """One slice's map, and what it is a map of: the network, what it saw, and the class.

    `pixel_values` (3, S, S); `box` is the part of `slice` that they show; `target` the class explained. `cancelled` is
    asked before each batch and each curve, which raise Cancelled. `modality` is one of MODALITIES.
    """

    model: Network
    slice: Slice
    pixel_values: torch.Tensor
    box: Box
    target: int
    attribution: Attribution
    cancelled: Callable[[], bool] | None = None
    modality: str = CT

    def look_up(self) -> None:
        """Raise Cancelled where the caller wants no more."""
        if self.cancelled is not None and self.cancelled():
            raise Cancelled

    @property
    def seen(self) -> np.ndarray:
        """The map (S, S) over what the network saw."""
        return self.attribution.seen

    @functools.cached_property
    def quick(self) -> np.ndarray:
        """The same map (S, S) at the least budget, to be compared with those of `again`."""
        coarse = find_method(self.attribution.method).coarse
        return self.seen if coarse else self.again(self.model, self.pixel_values)

    def again(self, model: Network, pixel_values: torch.Tensor, method: str | None = None) -> np.ndarray:
        """The map (S, S) of another network, picture or method, at the least budget."""
        how = find_method(method or self.attribution.method)
        values, _ = compute_map(
            model,
            pixel_values,
            self.target,
            method=how,
            budget=COMPARISON,
            cancelled=self.cancelled,
            checked=False,
        )
        return spread_over_input(_scaled(values)[0], pixel_values.shape[-1], _architecture(model))


def explain(
    classifier: Classifier,
    slice_: Slice,
    target: str | None = None,
    method: str = DEFAULT_METHOD,
    *,
    budget: str = DEFAULT_BUDGET,
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Explanation:
    """Explain a checkpoint's answer to one slice; `target` is a class's name, None the class that it puts first.

    `method`, `budget`, `seed`, `progress` and `cancelled` are those of `attribute`. Raises InputError where the class,
    the method or the budget is unknown, or the checkpoint does not run in torch, and Cancelled.
    """
    model, prepared = classifier.model, classifier.prepare(slice_)
    if target is None:
        target = classifier.label_names[int(classifier.ask([prepared]).logits[0].argmax())]
    if prepared.row is not None:
        model = model.with_row(torch.from_numpy(prepared.row[0]))
    number, box = classifier.label_index(target), prepared.crop.box
    attribution = attribute(
        model,
        prepared.pixel_values,
        number,
        box=box,
        shape=slice_.pixels.shape,
        method=method,
        budget=budget,
        seed=seed,
        progress=progress,
        cancelled=cancelled,
    )
    modality = classifier.contract.modality
    return Explanation(model, slice_, prepared.pixel_values, box, number, attribution, modality=modality)


def attribute(
    model: Network,
    pixel_values: torch.Tensor,
    target: int,
    *,
    box: Box,
    shape: tuple[int, int],
    method: str = DEFAULT_METHOD,
    budget: str = DEFAULT_BUDGET,
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Attribution:
    """Map the evidence for class `target` in one prepared slice, back in the coordinates of the slice.

    `pixel_values` (3, S, S) is what the network saw, `box` the part of the slice that it shows, `shape` the slice's
    (H, W). `method` names one of METHODS, `budget` one of BUDGETS; coarse methods need none. `progress` is
    called with the share done, from 0 to 1, and `cancelled` asked before each batch. The same `seed` gives the same
    map. Raises InputError when the method, the budget or the class is unknown, and Cancelled.
    """
    how, started = find_method(method), time.perf_counter()
    _check_choice(model, how, target, budget)
    cells, completeness = compute_map(
        model,
        pixel_values,
        target,
        method=how,
        budget=BUDGETS[budget],
        seed=seed,
        progress=progress,
        cancelled=cancelled,
    )
    scaled, strength = _scaled(cells)
    side, region = pixel_values.shape[-1], seen_region(model.config.pretrained_cfg, box)
    grid = cell_grid(region, side, scaled.shape, _architecture(model))
    return Attribution(
        map=place_in_slice(scaled, region, box, shape, grid=grid),
        label=model.label_names[target],
        method=how.name,
        strength=strength,
        seen=spread_over_input(scaled, side, _architecture(model)),
        signed=how.signed,
        budget=None if how.coarse else budget,
        completeness=completeness,
        seconds=time.perf_counter() - started,
    )


def compute_map(
    model: Network,
    pixel_values: torch.Tensor,
    target: int,
    *,
    method: Method,
    budget: Budget,
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    checked: bool = True,
) -> tuple[np.ndarray, Completeness | None]:
    """One method's map (h, w) float32 of one picture (3, S, S), in the method's own unit.

    With it comes the check of the sum, where the method promises one and it is to be `checked`. Raises Cancelled.
    """
    with torch.inference_mode(False), _no_captum_warnings():
        parameter = next(model.parameters())
        pixels = pixel_values.detach().clone()[None].to(parameter.device, parameter.dtype)
        copy = private_copy(model, without_pools=method.without_pools)
        scorer = Scorer(copy, progress=progress, cancelled=cancelled)
        question = Question(model, scorer, pixels, target, budget, seed)
        values = method.compute(question)
        check = question.check(values) if method.complete and checked else None
    if progress is not None:
        progress(1.0)
    values = values.detach()
    return (values[0].sum(dim=0) if values.ndim == 4 else values).float().cpu().numpy(), check


@contextlib.contextmanager
def _no_captum_warnings() -> Iterator[None]:
    """Captum announces that it sets hooks, and that the input now requires a gradient; both are meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*Setting (forward, )?backward hooks")
        warnings.filterwarnings("ignore", message=".*did not already require gradients")
        yield


def _scaled(cells: np.ndarray) -> tuple[np.ndarray, float]:
    """A map with its largest size brought to 1, and that size."""
    strength = float(np.abs(cells).max())
    return (cells / strength if strength > 0 else np.zeros_like(cells)), strength


def _architecture(model: Network) -> str:
    return getattr(model.config, "architecture", "")


def _check_choice(model: Network, method: Method, target: int, budget: str) -> None:
    if budget not in BUDGETS:
        raise InputError(unknown("budget", budget, BUDGETS))
    if why := method.unfit(vars(model.config)):
        raise InputError(f"method {method.name}: {why}.")
    labels = model.label_names
    if not 0 <= target < len(labels):
        raise InputError(f"class number {target} does not exist; the checkpoint has {len(labels)}, from 0.")
