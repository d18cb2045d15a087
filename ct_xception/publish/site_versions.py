"""The folder of a checkpoint that was fitted to a site: the parent's network, new rules, the record, and its own card.

    with new_version(output, parent) as folder:        # config and weights of the parent, nothing else
        …
        finish_version(folder, parent, side, record, answers)

Figures of the parent are the parent's: evaluation, exports and card are not taken over, and what the card tells of them
stands under the parent's name. What was measured at the site is in evaluation/site.json, the answers behind it in
evaluation/site.parquet, with numbers for names. Such a version serves where it was fitted, and is not published.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelCardData

from ct_xception.checkpoint import (
    CARD,
    CONFIG,
    GATE,
    METRICS,
    POOLING,
    SITE,
    SITE_ANSWERS,
    SITE_FORMAT,
    STOCK_TYPE,
    WEIGHTS,
    evaluated,
)
from ct_xception.checkpoint_files import Metric, Side, read_object, seal, write_side
from ct_xception.errors import CheckpointError, printable
from ct_xception.files import atomic_folder, atomic_path, sha256_file, write_atomically, write_json
from ct_xception.imaging.modality import CT, ONE
from ct_xception.metrics import Metrics
from ct_xception.publish.card.card import check_words
from ct_xception.publish.card.markdown import fill_template, packaged_template
from ct_xception.publish.lineage import descent
from ct_xception.text import RESEARCH_USE

if TYPE_CHECKING:
    from pandas import DataFrame

    from ct_xception.serving.checkpoint import Checkpoint

TEMPLATE = "site_card.md.jinja"
RECALIBRATED, ADAPTED = "recalibrated", "adapted"
# What a parent's record says of how its own figures came about, and no longer holds.
_OF_PARENT = ("judged", "replay", "went_on_from", "lineage", "site", "version")


@contextlib.contextmanager
def new_version(output: Path, parent: Checkpoint) -> Iterator[Path]:
    """A folder beside `output` with the parent's network and gate, which takes its name when the block ends well."""
    taken = [file for name in (CONFIG, WEIGHTS, GATE, POOLING) if (file := parent.folder / name).is_file()]
    with atomic_folder(output, sum(file.stat().st_size for file in taken)) as folder:
        for file in taken:
            shutil.copyfile(file, folder / file.name)
        yield folder


def start_side(folder: Path, parent: Checkpoint, side: Side, site: Mapping[str, Any]) -> Side:
    """Write the side file of a version: the parent's without drift and seal, with its record; returned too."""
    told = side.provenance.to_json()
    provenance = {key: value for key, value in told.items() if key not in _OF_PARENT}
    provenance |= descent(parent) | {
        "weights_sha256": sha256_file(folder / WEIGHTS),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "site": {**site, "parent": parent_figures(parent)},
    }
    kept = {key: value for key, value in side.to_json().items() if key not in ("drift", "manifest", "seal")}
    version = Side.of(kept | {"provenance": provenance})
    write_side(folder, version)
    return version


def parent_figures(parent: Checkpoint) -> dict[str, Any] | None:
    """The headline of a checkpoint's own evaluation, None where it does not lie beside it."""
    path = parent.folder / evaluated(METRICS)
    if not path.is_file():
        return None
    metrics = Metrics.of(read_object(path, parent.name), f"{parent.name}: {METRICS}")
    head = metrics.headline
    name = head.protocol if head else metrics.protocol
    patients = metrics.by_patient.get(name) if head and head.by == "patient" else None
    block = patients or metrics.all_protocols[name].paths["predictor"]
    figures = {
        key: found.to_json() for key in ("accuracy", "macro_auroc") if (found := getattr(block, key)) is not None
    }
    return {"protocol": name, "by": "patient" if patients else "slice", "n": block.n, **figures}


def finish_version(folder: Path, side: Side, record: Mapping[str, Any], answers: DataFrame | None) -> None:
    """Write what was measured at the site, the card, and the seal."""
    (folder / evaluated(SITE)).parent.mkdir(exist_ok=True)
    head = {"format": SITE_FORMAT, "weights_sha256": sha256_file(folder / WEIGHTS)}
    write_json(folder / evaluated(SITE), head | as_json(record))
    if answers is not None:
        with atomic_path(folder / evaluated(SITE_ANSWERS)) as temporary:
            answers.to_parquet(temporary, index=False)
    write_atomically(folder / CARD, site_card(folder, side, record))
    seal(folder)


def as_json(value: Any) -> Any:
    """A record with its metrics as JSON takes them."""
    if isinstance(value, Metric):
        return value.to_json()
    if isinstance(value, Mapping):
        return {str(key): as_json(one) for key, one in value.items()}
    return [as_json(one) for one in value] if isinstance(value, (list, tuple)) else value


def site_card(folder: Path, side: Side, record: Mapping[str, Any]) -> str:
    """The card of a version fitted to a site, from its record. Raises InputError for words that it may not say."""
    config, site = read_object(folder / CONFIG, folder.name), side.provenance.to_json()["site"]
    modality, parent = side.input.modality or CT, site["parent"]
    data = ModelCardData(
        pipeline_tag="image-classification",
        library_name="transformers",
        tags=["medical-imaging", "xception", "timm", "ct-xception", "research-only"],
    )
    values = {
        "card_data": data.to_yaml(),
        "research_use": RESEARCH_USE,
        "one": ONE[modality],
        "label_names": config["label_names"],
        "architecture": config["architecture"],
        "image_size": config["pretrained_cfg"]["input_size"][-1],
        "stock": config.get("model_type") == STOCK_TYPE,
        "side": side,
        "provenance": side.provenance.to_json(),
        "site": site,
        "record": record,
        "parent": parent and {key: Metric.of(one) if isinstance(one, dict) else one for key, one in parent.items()},
        "adapted": site["kind"] == ADAPTED,
    }
    text = fill_template(packaged_template(TEMPLATE), values)
    check_words(text, [*config["label_names"], site["name"], side.provenance.to_json()["went_on_from"]["name"]])
    ModelCard(text)  # raises where the Hub could not read the header
    return text


def refuse_site_version(name: object, side: Mapping[str, Any]) -> None:
    """Raise CheckpointError where a side file says that its checkpoint was fitted to a site, whose its figures are."""
    site = side.get("provenance", {}).get("site")
    if site:
        raise CheckpointError(
            f"{printable(name)}: was {site.get('kind', 'fitted')} for {printable(site.get('name', 'a site'))}, where "
            "it is to serve, and has no figures of a test split of its own; publish the one that it went on from."
        )
