"""The weights that training chose become a checkpoint folder: stock files, and one side file with the rest."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import time
from pathlib import Path
from typing import Any

from ct_xception.files import sha256_file, write_json
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.model.weights import load_backbone_weights
from ct_xception.training.config import TrainConfig
from ct_xception.training.loop import Trained

_PACKAGES = ("ct-xception", "torch", "timm", "transformers", "datasets", "accelerate", "numpy", "pillow", "pydicom")


def write_model_folder(
    folder: Path,
    config: TrainConfig,
    label_names: list[str],
    trained: Trained,
    *,
    corpus: dict[str, Any],
    split: dict[str, Any],
    command: str,
) -> None:
    """Write config.json, model.safetensors and ct_xception.json into `folder`.

    The stem is tied to luminance first, so that the stock path ignores coloured ink as our reader does. `corpus` and
    `split` are the reports of those stages; the manifest is added when the folder is sealed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = CTXceptionForImageClassification.from_backbone(config.backbone, label_names, config.image_size)
    head = model.config.pretrained_cfg["classifier"]
    load_backbone_weights(model.timm_model, trained.weights, head=head, keep_head=True)
    model.tie_stem_to_luminance()
    model.save_pretrained(folder)
    window = config.reading.window
    side = {
        "format": 1,
        "input": {
            "body_crop": config.body_crop,
            "filters": list(config.filters),
            "window": None if window is None else dataclasses.asdict(window),
        },
        "temperature": 1.0,
        "provenance": {
            "corpus": corpus,
            "split": {name: value for name, value in split.items() if name != "sources"},
            "weights_sha256": sha256_file(folder / "model.safetensors"),
            "initial_weights": _initial(config),
            **_circumstances(config, trained, command),
        },
        "manifest": {},
    }
    write_json(folder / "ct_xception.json", side)


def _initial(config: TrainConfig) -> str:
    from ct_xception.model.configuration import HUB_WEIGHTS

    if config.weights == "hub":
        return HUB_WEIGHTS[config.backbone]
    # The name alone: where a file lay on this machine is nobody's business.
    return "random" if config.weights == "none" else Path(config.weights).name


def _circumstances(config: TrainConfig, trained: Trained, command: str) -> dict[str, Any]:
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        "seed": config.seed,
        "command": command,
        "image_size": config.image_size,
        "epochs": len(trained.history),
        "best_epoch": trained.best_epoch,
        "selected_by": f"lowest validation {config.metric}" if config.metric == "loss" else f"highest validation "
        f"{config.metric}",
        "train_seconds": round(sum(record["seconds"] for record in trained.history), 1),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
