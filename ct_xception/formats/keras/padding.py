"""How far an imported Xception parts from Keras: Keras' max-pooling pads maps of an even side otherwise than timm's.

Measured on phantom slices, the network that the checkpoint holds against the same one with Keras' pooling, so that the
figure is of padding alone. It says how much answers move, and nothing about which of them are right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.checkpoint_files import Metric
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.transforms import EvalTransform
from ct_xception.imaging.windows import WINDOWS, apply_window
from ct_xception.statistics.intervals import describe_metric, proportion_figure

if TYPE_CHECKING:
    import torch

    from ct_xception.model.modelling import CTXceptionForImageClassification

SLICES = 24


def padding_figures(
    model: CTXceptionForImageClassification, *, slices: int = SLICES, seed: int = 0, progress: bool = False
) -> dict[str, Any]:
    """Compare a network with its twin that pools as Keras does, on that many phantom slices. JSON-able.

    `image_size` and `even_maps` (the sides of the maps where pooling parts, in pixels), `n`, `logit` {"largest",
    "mean"}: absolute differences, `probability` likewise, in [0, 1]; `same_class` {figure}: how often both choose the
    same class.
    """
    import torch
    from tqdm import tqdm

    from ct_xception.formats.keras.convert import even_maps, keras_padding

    twin, answers = keras_padding(model), []
    transform = EvalTransform(model.config.pretrained_cfg)
    bar = tqdm(range(slices), desc="padding against Keras'", unit="slice", leave=False, disable=not progress or None)
    with torch.inference_mode():
        for number in bar:
            pixel_values = transform(_phantom(number, seed))[None]
            answers.append(torch.cat([network(pixel_values=pixel_values).logits for network in (model, twin)]))
    size = int(model.config.pretrained_cfg["input_size"][-1])
    return {"image_size": size, "even_maps": even_maps(size), **_differences(torch.stack(answers))}


def _phantom(number: int, seed: int) -> Slice:
    """A slice of a patient of its own, the classes and the windows in turn."""
    from ct_xception.phantom.corpus import REFERENCE_CLASSES, phantom_slice

    rng = np.random.default_rng([seed, number])
    hu = phantom_slice(rng, REFERENCE_CLASSES[number % len(REFERENCE_CLASSES)]).hu
    window = WINDOWS["lung" if number % 2 else "mediastinal"]
    return Slice(apply_window(hu, window), f"phantom {number}", bit_depth=16, is_hu=True, window=window)


def _differences(logits: torch.Tensor) -> dict[str, Any]:
    """Of logits (N, 2, K): as the checkpoint gives them, and as Keras' padding does."""
    ours, theirs = logits.double().unbind(dim=1)
    probability = (ours.softmax(dim=1) - theirs.softmax(dim=1)).abs()
    logit = (ours - theirs).abs()
    same = (ours.argmax(dim=1) == theirs.argmax(dim=1)).numpy()
    return {
        "n": len(logits),
        "logit": {"largest": float(logit.max()), "mean": float(logit.mean())},
        "probability": {"largest": float(probability.max()), "mean": float(probability.mean())},
        "same_class": proportion_figure(same, np.arange(len(same)), "no slice").to_json(),
    }


def padding_statement(figures: Mapping[str, Any]) -> str:
    """What the figures say, in two sentences."""
    size, maps = figures["image_size"], figures["even_maps"]
    if not maps:
        return (
            f"At {size} px no map that is pooled has an even side, so Keras and this checkpoint compute the same "
            f"(largest difference of a logit {figures['logit']['largest']:.1e}, {figures['n']} phantom slices)."
        )
    sides = " and ".join(f"{side} x {side}" for side in maps)
    return (
        f"At {size} px the maps of {sides} are pooled, and there Keras pads other borders than timm: on "
        f"{figures['n']} phantom slices probabilities differ from Keras' by {figures['probability']['mean']:.4f} on "
        f"average and {figures['probability']['largest']:.4f} at most, logits by {figures['logit']['largest']:.4f} at "
        f"most, and both choose the same class in {describe_metric(Metric.of(figures['same_class']))}. "
        f"At {_nearest(size)} px (--image_size) both compute the same, but it may not have been trained at that size."
    )


def _nearest(size: int) -> str:
    """The nearest pair of sizes without even maps, 32 k + 7 and 32 k + 8."""
    low = 32 * round((size - 7.5) / 32) + 7
    return f"{low} or {low + 1}"
