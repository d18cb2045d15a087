"""What a checkpoint folder can prove about itself: figures are taken from it only if every hash and every count agrees.

Whoever edits metrics.json, exchanges the weights or evaluates on another split gets a refusal instead of a card.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ct_xception.errors import CheckpointError
from ct_xception.files import sha256_file

_REMEDY = "evaluate the checkpoint again (ct-xception evaluate), and make the card from that"


@dataclass(frozen=True)
class Evidence:
    """The three files of a checkpoint that a card is made from, found to agree with each other and with the weights."""

    config: Mapping[str, Any]
    side: Mapping[str, Any]
    metrics: Mapping[str, Any]

    @property
    def provenance(self) -> Mapping[str, Any]:
        """How the weights came about, from ct_xception.json."""
        return self.side.get("provenance", {})


def read_evidence(model_dir: str | Path) -> Evidence:
    """Read config.json, ct_xception.json and evaluation/metrics.json of a checkpoint folder and compare them.

    Raises CheckpointError, one sentence, where a file is missing, where weights or split are not those of the figures,
    and where the figures are not those that evaluation/predictions.parquet gives.
    """
    folder = Path(model_dir)
    evidence = Evidence(
        _read(folder, "config.json"), _read(folder, "ct_xception.json"), _read(folder, "evaluation/metrics.json")
    )
    _check_weights(folder, evidence)
    _check_split(folder, evidence)
    _check_figures(folder, evidence.metrics)
    return evidence


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: {name} is missing; {_REMEDY}.") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: {name} cannot be read ({error}); {_REMEDY}.") from error


def _check_weights(folder: Path, evidence: Evidence) -> None:
    if not (folder / "model.safetensors").is_file():
        raise CheckpointError(f"{folder}: model.safetensors is missing; give a whole checkpoint folder.")
    weights = sha256_file(folder / "model.safetensors")
    for name, stated in (
        ("evaluation/metrics.json", evidence.metrics.get("weights_sha256")),
        ("ct_xception.json", evidence.provenance.get("weights_sha256")),
    ):
        if stated != weights:
            raise CheckpointError(
                f"{folder}: {name} speaks of weights {_short(stated)}, but model.safetensors is {_short(weights)}; "
                f"{_REMEDY}."
            )


def _check_split(folder: Path, evidence: Evidence) -> None:
    trained, metrics = evidence.provenance.get("split", {}), evidence.metrics
    found, wanted = metrics.get("split_hash"), trained.get("name")
    if found is None or found != wanted:
        raise CheckpointError(
            f"{folder}: the figures are of split {_short(found)}, but the network was trained by split "
            f"{_short(wanted)}; {_REMEDY}."
        )
    if metrics.get("split") != "test":
        raise CheckpointError(f"{folder}: the figures are of the {metrics.get('split')} split, not of test; {_REMEDY}.")
    if metrics.get("protocol") != trained.get("protocol") or metrics["label_names"] != evidence.config["label_names"]:
        raise CheckpointError(f"{folder}: the figures' protocol or classes are not the checkpoint's; {_REMEDY}.")


def _check_figures(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Every figure again from the predictions: none was typed by hand, and none is of other predictions."""
    import pandas

    path = folder / "evaluation" / "predictions.parquet"
    if not path.is_file():
        raise CheckpointError(f"{folder}: evaluation/predictions.parquet is missing; {_REMEDY}.")
    table = pandas.read_parquet(path)
    for route, block in metrics["paths"].items():
        again = _measure_again(table[table["path"] == route], metrics)
        stated = {name: value for name, value in block.items() if name != "refused"}
        if not _agree(again, stated) or len(block["refused"]) != metrics["n"] - block["n"]:
            raise CheckpointError(
                f"{folder}: the {route.replace('_', ' ')} figures in evaluation/metrics.json are not those of "
                f"predictions.parquet; {_REMEDY}."
            )


def _measure_again(table: Any, metrics: Mapping[str, Any]) -> dict[str, Any]:
    from ct_xception.evaluation.metrics import classification_metrics

    names = metrics["label_names"]
    known = table[table["refused"].isna()]
    if known.empty:
        return {"n": 0}
    labels = np.array([names.index(label) for label in known["label"]])
    probabilities = known[[f"p {name}" for name in names]].to_numpy()
    drawn = {name: metrics["intervals"][name] for name in ("seed", "resamples")}
    return classification_metrics(probabilities, labels, names, known["group"].tolist(), **drawn)


def _agree(first: Any, second: Any) -> bool:
    """Whether two JSON values are the same, numbers to nine digits: another machine may sum in another order."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_agree(value, second[key]) for key, value in first.items())
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_agree, first, second))
    if isinstance(first, float) and isinstance(second, (int, float)):
        return math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-12)
    return first == second


def _short(digest: str | None) -> str:
    return "(unstated)" if digest is None else str(digest)[:12]
