"""The folder of a checkpoint that was made elsewhere: stock files, a side file and a card that claim no figure.

    write_imported_checkpoint("imported", import_keras("model.keras"), padding_figures(model))

It answers, explains and can be measured like any other. It cannot be published as it is (release.py refuses it): nobody
here knows which images it has seen, so no figure of it could be called held out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelCardData

from ct_xception.checkpoint import CARD, WEIGHTS
from ct_xception.checkpoint_files import Side, seal, write_side
from ct_xception.errors import CheckpointError, InputError, printable
from ct_xception.files import atomic_folder, sha256_file, write_atomically
from ct_xception.formats.keras.padding import padding_statement
from ct_xception.publish.card.card import check_words
from ct_xception.publish.card.markdown import fill_template, packaged_template
from ct_xception.text import RESEARCH_USE

if TYPE_CHECKING:
    from ct_xception.formats.keras.convert import Imported

TEMPLATE = "imported_card.md.jinja"


def write_imported_checkpoint(folder: str | Path, imported: Imported, padding: Mapping[str, Any]) -> Path:
    """Write config.json, model.safetensors, ct_xception.json and README.md, sealed; the folder appears whole or not.

    `padding` are the figures of `padding_figures`. The input contract has no body crop: Keras' networks were shown
    whole pictures. Raises `InputError` where the folder is there already and not empty.
    """
    folder = Path(folder)
    check_new_folder(folder)
    with atomic_folder(folder) as temporary:
        imported.model.save_pretrained(temporary)
        side = _side_file(temporary, imported, padding)
        write_side(temporary, Side.of(side))
        write_atomically(temporary / CARD, _card(imported, side))
        seal(temporary)
    return folder


def check_new_folder(folder: Path, option: str = "-o") -> None:
    """Raise `InputError`, naming the option, unless a folder can appear there."""
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise InputError(f"{option}: {printable(folder)} is there already and not an empty folder; name another.")
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not os.access(there, os.W_OK):  # said before hours of work, and not after
        raise InputError(f"{option}: {printable(there)} cannot be written to; name another folder.")


def refuse_imported(name: object, side: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` where a side file says that its checkpoint was imported: it has no figures to publish."""
    origin = side.get("provenance", {}).get("imported")
    if origin:
        raise CheckpointError(
            f"{printable(name)}: was imported from {origin.get('from', 'elsewhere')}, and which images it was trained "
            "on is not known, so it has no figures that could be published; look at it with ct-xception evaluate, and "
            f"publish what goes on from it (train_hf.py --init {printable(name)} --corpus CORPUS)."
        )


def _side_file(folder: Path, imported: Imported, padding: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "input": {"body_crop": False, "filters": [], "window": None},
        "temperature": 1.0,
        "provenance": {
            "imported": {**imported.record, "figures": "none were measured", "padding": dict(padding)},
            "weights_sha256": sha256_file(folder / WEIGHTS),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
        },
    }


def _card(imported: Imported, side: Mapping[str, Any]) -> str:

    config, origin = imported.model.config, side["provenance"]["imported"]
    data = ModelCardData(
        pipeline_tag="image-classification",
        library_name="transformers",
        tags=["ct", "medical-imaging", "xception", "timm", "ct-xception", "research-only"],
    )
    values = {
        "card_data": data.to_yaml(),
        "research_use": RESEARCH_USE,
        "label_names": imported.model.label_names,
        "architecture": config.architecture,
        "image_size": config.pretrained_cfg["input_size"][-1],
        "padding": padding_statement(origin["padding"]),
        "origin": origin,
        "provenance": side["provenance"],
    }
    text = fill_template(packaged_template(TEMPLATE), values)
    check_words(text, imported.model.label_names)
    ModelCard(text)  # raises where the Hub could not read the header
    return text
