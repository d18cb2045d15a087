"""What a checkpoint folder says of its exported files, found to be theirs: evaluation/export.json.

    read_exports(folder, metrics)

As with every figure of the card: files that are not those that were measured, files that nobody measured, and figures
that the published answers do not give are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.checkpoint import EXPORT as EXPORT_NAME
from ct_xception.checkpoint import EXPORT_FORMAT, ONNX_FOLDER, OPENVINO_FOLDER, PREDICTIONS_INT8, evaluated
from ct_xception.errors import CheckpointError
from ct_xception.files import read_json, sha256_file
from ct_xception.publish.clearance import list_files
from ct_xception.publish.recount import agree

if TYPE_CHECKING:
    import pandas

EXPORT, INT8_ANSWERS = evaluated(EXPORT_NAME), evaluated(PREDICTIONS_INT8)
INT8 = "onnx-int8"
_FOLDERS = (f"{ONNX_FOLDER}/", f"{OPENVINO_FOLDER}/")
_REMEDY = "export it again (ct-xception export)"


def exported_names(names: Iterable[str]) -> set[str]:
    """Those of a folder's files that an export writes."""
    return {name for name in names if name.startswith(_FOLDERS) or name in (EXPORT, INT8_ANSWERS)}


def int8_figures(table: pandas.DataFrame, label_names: Sequence[str]) -> dict[str, Any]:
    """The figures of an int8 file from its table: source, group, label, `p <class>` and `reference p <class>`."""
    from ct_xception.statistics.agreement import agreement_figures

    names = list(label_names)
    labels = np.array([names.index(label) for label in table["label"]], np.intp)
    own, reference = (table[[f"{prefix} {name}" for name in names]].to_numpy(float) for prefix in ("p", "reference p"))
    return agreement_figures(labels, reference, own, names, table["group"].tolist())


def read_exports(folder: Path, metrics: Mapping[str, Any], answers: pandas.DataFrame) -> Mapping[str, Any] | None:
    """export.json of a folder, None where it has no export; `answers` are the rows behind the own test split's figures.

    Raises CheckpointError, one sentence, where file, weights, figures and answers do not belong together.
    """
    files = exported_names(list_files(folder)) - {EXPORT, INT8_ANSWERS}
    if not (folder / EXPORT).is_file():
        if files:
            raise _refusal(folder, f"{min(files)} has no figures in {EXPORT}")
        return None
    record = read_json(folder / EXPORT)
    if record.get("format") != EXPORT_FORMAT or record.get("weights_sha256") != metrics["weights_sha256"]:
        raise _refusal(folder, f"{EXPORT} speaks of other weights, or is of another format")
    stated = {name: digest for one in record["files"].values() for name, digest in one["sha256"].items()}
    if files != set(stated):
        raise _refusal(folder, f"{min(files ^ set(stated))} is in the folder or in {EXPORT}, but not in both")
    for name, digest in stated.items():
        if sha256_file(folder / name) != digest:
            raise _refusal(folder, f"{name} is not the file that was measured")
    found = record["files"].get(INT8) or record["kept_out"].get(INT8)
    if found:
        _check_int8(folder, found["figures"], metrics, answers)
    return record


def _check_int8(folder: Path, stated: Mapping[str, Any], metrics: Mapping[str, Any], answers: pandas.DataFrame) -> None:
    """The int8 figures are those of its answers, and the answers beside them those behind the card's own figures."""
    import pandas

    if not (folder / INT8_ANSWERS).is_file():
        raise _refusal(folder, f"{INT8_ANSWERS} is missing")
    table, names = pandas.read_parquet(folder / INT8_ANSWERS), metrics["label_names"]
    if not agree(int8_figures(table, names), stated):
        raise _refusal(folder, f"the int8 figures in {EXPORT} are not those of {INT8_ANSWERS}")
    own = answers[(answers["path"] == "predictor") & answers["refused"].isna()].set_index("source")
    if not table["source"].is_unique or set(table["source"]) != set(own.index):
        raise _refusal(folder, f"{INT8_ANSWERS} is not of the images that the card's figures are of")
    own = own.reindex(table["source"])
    reference = table[[f"reference p {name}" for name in names]].to_numpy(float)
    near = np.allclose(reference, own[[f"p {name}" for name in names]].to_numpy(float), rtol=0, atol=1e-3)
    if not near or any(own[column].tolist() != table[column].tolist() for column in ("label", "group")):
        raise _refusal(folder, f"the answers of the network in {INT8_ANSWERS} are not those of its own evaluation")


def _refusal(folder: Path, found: str) -> CheckpointError:
    return CheckpointError(f"{folder}: {found}; {_REMEDY}.")
