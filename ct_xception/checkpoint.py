"""The checkpoint folder and the run folder around it: the name of every file, format numbers, and the seal.

A checkpoint folder is a Hub repository: stock files (`CONFIG`, `WEIGHTS`), one side file with what they cannot say
(`SIDE_FILE`), the input gate's arrays, the card, exports, and the figures in `EVALUATION`. Nothing else names them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from ct_xception.errors import CheckpointError, printable
from ct_xception.files import sha256_file, write_json

# A checkpoint folder
CONFIG, WEIGHTS, SIDE_FILE, GATE = "config.json", "model.safetensors", "ct_xception.json", "gate.safetensors"
CARD, EVALUATION = "README.md", "evaluation"
ONNX_FOLDER, OPENVINO_FOLDER = "onnx", "openvino"
ONNX, ONNX_INT8 = f"{ONNX_FOLDER}/model.onnx", f"{ONNX_FOLDER}/model_int8.onnx"
OPENVINO = (f"{OPENVINO_FOLDER}/model.xml", f"{OPENVINO_FOLDER}/model.bin")

# In its folder EVALUATION, or in the folder that `ct-xception evaluate` is given
METRICS, PREDICTIONS, PREDICTIONS_GROUPED = "metrics.json", "predictions.parquet", "predictions_grouped.parquet"
PREDICTIONS_INT8, BASELINES = "predictions_int8.parquet", "baselines.parquet"
AUDIT, EXPLANATIONS, EXPORT = "audit.json", "explanations.json", "export.json"
CONTINUITY, CONTINUITY_ANSWERS = "continuity.json", "continuity.parquet"
CONFUSION, ROC, CURVES, EXAMPLES = "confusion_matrix.png", "roc.png", "curves.png", "examples.png"
RELIABILITY = "reliability.png"

# A run folder, which holds the checkpoint in MODEL and the folds of cross-validation in FOLDS
MODEL, FOLDS = "model", "folds"
OPTIONS, CORPUS, SPLIT = "config.json", "corpus.json", "split.json"
STATE, BEST, PROGRESS = "state.safetensors", "best.safetensors", "progress.json"
FOLD_PLAN, FOLD = "folds.json", "fold.json"
SOURCES, ERRORS = "evaluation_sources.json", "errors.html"

SIDE_FORMAT, METRICS_FORMAT, EXPORT_FORMAT, EXPLANATIONS_FORMAT = 1, 2, 1, 1


def evaluated(name: str) -> str:
    """The path in a checkpoint folder of a file of its evaluation."""
    return f"{EVALUATION}/{name}"


def seal(folder: Path) -> dict[str, str]:
    """Write the manifest of a finished folder, {relative path: SHA-256} of every file but the side file; return it.

    Raises `CheckpointError` where the folder has no side file.
    """
    path = folder / SIDE_FILE
    if not path.is_file():
        raise CheckpointError(f"{printable(folder)}: {SIDE_FILE} is missing; train again to have a whole checkpoint.")
    side = json.loads(path.read_text(encoding="utf-8"))
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != path)
    side["manifest"] = {file.relative_to(folder).as_posix(): sha256_file(file) for file in files}
    write_json(path, side)
    return side["manifest"]


def check_seal(
    folder: Path, files: Collection[str], manifest: Mapping[str, str], *, ignored: Collection[str] = ()
) -> None:
    """Raise CheckpointError, one sentence, unless the folder's `files` are those of its manifest, hash by hash.

    All are paths in the folder. The side file holds the manifest and is not in it; `ignored` may be there, be changed
    or be missing.
    """
    name = printable(folder)
    if not manifest:
        raise CheckpointError(f"{name}: was never sealed, so its training did not end; go on with --resume auto.")
    present = set(files) - {SIDE_FILE}
    wanted = manifest.keys() - set(ignored)
    if missing := sorted(wanted - present):
        raise CheckpointError(
            f"{name}: {missing[0]} is in the manifest but not in the folder; give a whole checkpoint."
        )
    if extra := sorted(present - manifest.keys() - set(ignored)):
        raise CheckpointError(f"{name}: {printable(extra[0])} is not in the manifest; take it out, and try again.")
    for file in sorted(wanted):
        if sha256_file(folder / file) != manifest[file]:
            raise CheckpointError(
                f"{name}: {file} differs from the SHA-256 in {SIDE_FILE}; it was damaged or changed, train or fetch it "
                "again."
            )
