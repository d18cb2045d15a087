"""The weights that training chose become a checkpoint folder: stock files, and one side file with the rest."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.numpy import save

from ct_xception.checkpoint import CARD, EVALUATION, ONNX_FOLDER, OPENVINO_FOLDER, POOLING, WEIGHTS
from ct_xception.checkpoint_files import Rules, Side, need_side, write_side
from ct_xception.errors import CheckpointError
from ct_xception.files import sha256_file, write_atomically
from ct_xception.model.configuration import HUB_WEIGHTS
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.model.weights import is_hub_id, load_backbone_weights
from ct_xception.serving.checkpoint import open_checkpoint
from ct_xception.statistics.attention import GatedAttention
from ct_xception.statistics.pooling import ATTENTION
from ct_xception.statistics.selection import LOWER_IS_BETTER
from ct_xception.training.loop import Trained
from ct_xception.training.options import TrainConfig

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
    search: Mapping[str, Any] | None = None,
    told: Mapping[str, Any] | None = None,
) -> None:
    """Write config.json, model.safetensors and ct_xception.json into `folder`.

    The stem is tied to luminance first, so that the stock path ignores coloured ink as our reader does. `corpus` and
    `split` are the reports of those stages, `search` the record of what chose the recipe (`SearchRecord`), `told`
    those of what else the weights come from (`unlabelled`, `soup`); the manifest is added when the folder is sealed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = CTXceptionForImageClassification.from_backbone(
        config.backbone,
        label_names,
        config.image_size,
        head=config.head,
        attention=config.attention,
        tabular=trained.tabular,
    )
    load_backbone_weights(model.timm_model, trained.weights)
    model.tie_stem_to_luminance()
    model.save_pretrained(folder)
    window = config.reading.window
    side = {
        "input": {
            "modality": config.modality,
            "body_crop": config.body_crop,
            "filters": list(config.filters),
            "window": None if window is None else dataclasses.asdict(window),
        },
        "temperature": 1.0,
        "provenance": {
            "corpus": corpus,
            "split": _without_sources(split),
            "weights_sha256": sha256_file(folder / WEIGHTS),
            "initial_weights": initial_weights(config),
            **_circumstances(config, trained, command),
            **({"search": dict(search)} if search else {}),
            **(told or {}),
        },
    }
    write_side(folder, Side.of(side))


def calibrate_model_folder(folder: Path, rules: Rules, attention: GatedAttention | None = None) -> None:
    """Divide the saved head by the temperature, and note that and the other rules of deciding in the side file.

    A folder that was calibrated before is divided further, and states the product. `attention` is kept where the rule
    of pooling is that.
    """
    side, arrays = need_side(folder), folder / POOLING
    if attention is not None and rules.pooling is not None and rules.pooling.method == ATTENTION:
        write_atomically(arrays, save(attention.arrays))
    else:
        arrays.unlink(missing_ok=True)
    if rules.temperature != 1.0:
        model = CTXceptionForImageClassification.from_pretrained(folder)
        model.fold_temperature(rules.temperature)
        model.save_pretrained(folder)
    provenance = side.provenance.to_json() | {"weights_sha256": sha256_file(folder / WEIGHTS)}
    told = rules.to_json() | {"temperature": side.temperature * rules.temperature, "provenance": provenance}
    write_side(folder, side.with_(**told))


def reopen_model_folder(sealed: Path, folder: Path, *, corpus: Mapping[str, Any], split: Mapping[str, Any]) -> None:
    """Copy a finished checkpoint to `folder` without evaluation and exports, to be measured anew; the weights stay.

    The records of corpus and split are brought up to date. Raises `CheckpointError` where the split is another.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sealed, folder, ignore=shutil.ignore_patterns(EVALUATION, CARD, ONNX_FOLDER, OPENVINO_FOLDER))
    side = need_side(folder)
    if side.provenance.split.get("name") != split["name"]:
        raise CheckpointError(f"{sealed}: was trained by another split of the corpus; choose another --output_dir.")
    records = {"corpus": dict(corpus), "split": _without_sources(split)}
    write_side(folder, side.with_(provenance=side.provenance.to_json() | records, manifest={}))


def replace_model_folder(folder: Path, place: Path) -> None:
    """Put a finished checkpoint in its place; an older one there goes only when the new one has come."""
    previous = place.with_name(f"{place.name}.previous")
    shutil.rmtree(previous, ignore_errors=True)
    if place.exists():
        place.rename(previous)
    folder.rename(place)
    shutil.rmtree(previous, ignore_errors=True)


def recover_model_folder(place: Path) -> None:
    """Undo a replacement that was killed half-way."""
    previous = place.with_name(f"{place.name}.previous")
    if previous.exists() and not place.exists():
        previous.rename(place)


def _without_sources(split: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in split.items() if name != "sources"}


def initial_weights(config: TrainConfig) -> str:
    """What the record calls the weights that a run began with: a Hub id, a file's or folder's name, or random."""
    if config.soup:
        return str(need_side(open_checkpoint(config.soup[0]).folder).provenance.to_json()["initial_weights"])
    if config.weights == "hub":
        return HUB_WEIGHTS[config.backbone]
    if is_hub_id(config.weights):
        return config.weights  # with its commit, which the command line was settled to
    # The name alone: where a file lay on this machine is nobody's business.
    return "random" if config.weights == "none" else Path(config.weights).name


def _circumstances(config: TrainConfig, trained: Trained, command: str) -> dict[str, Any]:
    best = "lowest" if config.metric in LOWER_IS_BETTER else "highest"
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        "seed": config.seed,
        "command": command,
        "image_size": config.image_size,
        "selected_by": f"{best} validation {config.metric.replace('_', ' ')}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        **(_epochs(trained) if trained.history else {}),
    }


def _epochs(trained: Trained) -> dict[str, Any]:
    return {
        "epochs": len(trained.history),
        "best_epoch": trained.best_epoch,
        "train_seconds": round(sum(record["seconds"] for record in trained.history), 1),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
