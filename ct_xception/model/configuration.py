"""What a checkpoint's config.json says: the backbone, its input contract and its classes, in stock terms only.

The file is a stock transformers `timm_wrapper` configuration, so that `pipeline()`, the Auto classes and
`timm.create_model("local-dir:…")` read it with no code of ours.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import TimmWrapperConfig

from ct_xception.checkpoint import BACKBONES
from ct_xception.errors import InputError

HUB_WEIGHTS = {
    "legacy_xception": "timm/legacy_xception.tf_in1k",
    "xception41": "timm/xception41.tf_in1k",
    "xception65": "timm/xception65.ra3_in1k",
    "xception71": "timm/xception71.tf_in1k",
    "xception41p": "timm/xception41p.ra3_in1k",
    "xception65p": "timm/xception65p.ra3_in1k",
}
MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 64, 1024
_STOCK_CLASS = "TimmWrapperForImageClassification"


@strict
class CTXceptionConfig(TimmWrapperConfig):
    """A `TimmWrapperConfig` whose saved label list is always the present one, and which names the stock class."""

    def to_dict(self) -> dict[str, Any]:
        """The stock dictionary. The parent keeps an older `label_names`, which would survive a change of classes."""
        output = super().to_dict()
        output["num_classes"] = self.num_labels
        output["label_names"] = label_names(self)
        output["architectures"] = [_STOCK_CLASS]
        return output


def label_names(config: TimmWrapperConfig) -> list[str]:
    """The class names of a configuration in index order."""
    names: Mapping[Any, str] = config.id2label or {}
    return [names[index] for index in range(len(names))]


def make_config(backbone: str, label_names: Sequence[str], image_size: int) -> CTXceptionConfig:
    """The configuration of an Xception for these classes.

    `label_names` are in index order; `image_size` is the side in pixels of the square input.
    Raises `InputError` for an unknown backbone, fewer than two or repeated classes, or a size out of range.
    """
    names = _checked_labels(label_names)
    if backbone not in BACKBONES:
        raise InputError(f"backbone: {backbone!r} is not one of {', '.join(BACKBONES)}; choose one of these.")
    if not MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE:
        raise InputError(
            f"image_size: {image_size} is out of range; give a side from {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE} pixels."
        )
    contract = input_contract(backbone, image_size)
    return restored_config({"architecture": backbone, "pretrained_cfg": contract, "label_names": names})


def restored_config(stated: Mapping[str, Any]) -> CTXceptionConfig:
    """The configuration that a checked config.json states, of the keys that make the network and no others."""
    names = list(stated["label_names"])
    options: dict[str, Any] = {"pretrained_cfg": dict(stated["pretrained_cfg"]), "num_labels": len(names)}
    return CTXceptionConfig(
        architecture=stated["architecture"],
        model_args={},
        **options,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )


def _checked_labels(label_names: Sequence[str]) -> list[str]:
    names = list(label_names)
    if len(names) < 2:
        raise InputError(f"classes: {len(names)} found; a classifier needs two or more.")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"classes: {', '.join(repeated)} named more than once; give each class its own name.")
    return names


@functools.lru_cache
def _registered_cfg(backbone: str) -> Mapping[str, Any]:
    import timm

    registered = timm.get_pretrained_cfg(backbone)
    assert registered is not None  # BACKBONES are timm's own
    return registered.to_dict()


def input_contract(backbone: str, image_size: int) -> dict[str, Any]:
    """timm's `pretrained_cfg` for a CT slice: the whole picture squashed to a square, levels scaled to [-1, 1].

    timm's own `crop_pct` (0.8975 for legacy_xception) would cut a tenth of the width and height off the body, and a
    centre crop the sides of a wide slice, hence 1.0 and "squash".
    """
    registered = _registered_cfg(backbone)
    return {
        "input_size": [3, image_size, image_size],
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "pool_size": [-(-image_size // 32)] * 2,
        "first_conv": registered["first_conv"],
        "classifier": registered["classifier"],
    }
