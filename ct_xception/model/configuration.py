"""What a checkpoint's config.json says: the backbone, its input contract and its classes, in stock terms.

The file is a stock transformers `timm_wrapper` configuration, so that `pipeline()`, the Auto classes and
`timm.create_model("local-dir:…")` read it with no code of ours. With another head, or attention in the body, it is of
our own type, which transformers knows after `import ct_xception`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import TimmWrapperConfig

from ct_xception.checkpoint import ATTENTIONS, BACKBONES, HEADS, OWN_TYPE, STOCK_TYPE
from ct_xception.checkpoint_files import TabularRule
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
_STOCK_CLASS, _OWN_CLASS = "TimmWrapperForImageClassification", "CTXceptionForImageClassification"


@strict
class CTXceptionConfig(TimmWrapperConfig):
    """A `TimmWrapperConfig` whose saved label list is always the present one, and which names the stock class.

    `head` is how the last feature map is pooled, one of HEADS, and `attention` what weighs channels and places in the
    last blocks, one of ATTENTIONS; `tabular` is what is taken beside the image, as `TabularRule` states it. Where one
    of them is not stock's, the file is of our own type and names our class.
    """

    model_type = OWN_TYPE
    head: str = HEADS[0]
    attention: str = ATTENTIONS[0]
    tabular: dict[str, Any] | None = None

    @property
    def is_stock(self) -> bool:
        """Whether stock transformers and timm know this network."""
        return (self.head, self.attention, self.tabular) == (HEADS[0], ATTENTIONS[0], None)

    def to_dict(self) -> dict[str, Any]:
        """The dictionary as stock as can be. The parent's older `label_names` would survive a change of classes."""
        output = super().to_dict() | {"num_classes": self.num_labels, "label_names": label_names(self)}
        if output["tabular"] is None:
            del output["tabular"]
        if not self.is_stock:
            return output | {"architectures": [_OWN_CLASS], "image_processor_type": "TimmWrapperImageProcessor"}
        del output["head"], output["attention"]
        return output | {"model_type": STOCK_TYPE, "architectures": [_STOCK_CLASS]}

    @classmethod
    def get_config_dict(cls, *arguments: Any, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a file says; transformers would warn that a stock one is of another type."""
        stated, rest = super().get_config_dict(*arguments, **options)
        return (stated | {"model_type": OWN_TYPE} if stated.get("model_type") == STOCK_TYPE else stated), rest


def label_names(config: TimmWrapperConfig) -> list[str]:
    """The class names of a configuration in index order."""
    names: Mapping[Any, str] = config.id2label or {}
    return [names[index] for index in range(len(names))]


def make_config(
    backbone: str,
    label_names: Sequence[str],
    image_size: int,
    *,
    head: str = HEADS[0],
    attention: str = ATTENTIONS[0],
    tabular: TabularRule | None = None,
) -> CTXceptionConfig:
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
    built: dict[str, Any] = {"head": head, "attention": attention}
    built |= {} if tabular is None else {"tabular": tabular.to_json()}
    return restored_config({"architecture": backbone, "pretrained_cfg": contract, "label_names": names} | built)


def restored_config(stated: Mapping[str, Any]) -> CTXceptionConfig:
    """The configuration that a checked config.json states, of the keys that make the network and no others."""
    names = list(stated["label_names"])
    options: dict[str, Any] = {"pretrained_cfg": dict(stated["pretrained_cfg"]), "num_labels": len(names)}
    options |= {name: stated[name] for name in ("head", "attention", "tabular") if name in stated}
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
