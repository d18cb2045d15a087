"""What a checkpoint folder can prove about itself: figures are taken from it only if every hash and every count agrees.

Whoever edits metrics.json, exchanges the weights, evaluates on another split or names a kinder protocol as the headline
gets a refusal instead of a card.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from ct_xception.checkpoint import (
    AUDIT,
    CONFIG,
    CONTINUITY_ANSWERS,
    EVALUATION,
    METRICS,
    METRICS_FORMAT,
    ONNX_FOLDER,
    OPENVINO_FOLDER,
    PREDICTIONS_INT8,
    SIDE_FILE,
    WEIGHTS,
    evaluated,
)
from ct_xception.checkpoint import EXPORT as EXPORT_NAME
from ct_xception.checkpoint_files import Side, need_side
from ct_xception.errors import CheckpointError, printable
from ct_xception.evaluation.continuity import NO_WORSE, judge_table, read_judgement
from ct_xception.export_record import ExportRecord, read_exports
from ct_xception.files import sha256_file
from ct_xception.metrics import AgreementMetrics, Metrics
from ct_xception.publish.clearance import list_files
from ct_xception.publish.recount import Recount, agree
from ct_xception.statistics.agreement import agreement_figures

EXPORT, INT8_ANSWERS = evaluated(EXPORT_NAME), evaluated(PREDICTIONS_INT8)
INT8 = "onnx-int8"
_EXPORTED = (f"{ONNX_FOLDER}/", f"{OPENVINO_FOLDER}/")
_EXPORT_AGAIN = "export it again (ct-xception export)"
REMEDY = (
    "remove its evaluation folder and let its run measure it again (train_hf.py … --resume auto), or fetch it again"
)

_METRICS, _AUDIT = evaluated(METRICS), evaluated(AUDIT)


@dataclass(frozen=True, eq=False)
class Evidence:
    """The files of a checkpoint that a card is made from, found to agree with each other and with the weights.

    `audit` is evaluation/audit.json, None where the corpus was not audited. `answers`: the rows of predictions behind
    each protocol, by its name. `exports` is evaluation/export.json, None where nothing was exported.
    """

    config: Mapping[str, Any]
    side: Side
    metrics: Metrics
    audit: Mapping[str, Any] | None = None
    answers: Mapping[str, pandas.DataFrame] = field(default_factory=dict)
    exports: ExportRecord | None = None

    @functools.cached_property
    def provenance(self) -> Mapping[str, Any]:
        """How the weights came about, from ct_xception.json: a record for people."""
        return self.side.provenance.to_json()

    @property
    def headline(self) -> str:
        """The name of the most pessimistic protocol that ran."""
        return self.metrics.headline.protocol if self.metrics.headline else self.metrics.protocol


def read_evidence(model_dir: str | Path) -> Evidence:
    """Read config.json, ct_xception.json and evaluation/ of a checkpoint folder, and compare them.

    Raises CheckpointError, one sentence, where a file is missing or of an older format, where weights, corpus or split
    are not those of the figures, where a figure is not what the published answers give, and where the headline is not
    the most pessimistic protocol that ran.
    """
    folder = Path(model_dir)
    config, side = _read(folder, CONFIG), need_side(folder)
    stated = _read(folder, _METRICS)
    if stated.get("format") != METRICS_FORMAT:
        raise CheckpointError(
            f"{folder}: {_METRICS} is of format {stated.get('format')}, and a card needs format "
            f"{METRICS_FORMAT}; {REMEDY}."
        )
    metrics = Metrics.of(stated, f"{folder}: {_METRICS}")
    audit = _read(folder, _AUDIT) if (folder / _AUDIT).is_file() else None
    evidence = Evidence(config, side, metrics, audit)
    _check_weights(folder, evidence)
    _check_split(folder, evidence)
    _check_corpus(folder, evidence)
    _check_rules(folder, evidence)
    recount = Recount(folder, side, metrics, REMEDY)
    recount.check()
    _check_lineage(folder, side)
    exports = _read_exports(folder, metrics, recount.answers[metrics.protocol])
    return Evidence(config, side, metrics, audit, recount.answers, exports)


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
        return found
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: {name} is missing; {REMEDY}.") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: {name} cannot be read ({error}); {REMEDY}.") from error


def _check_weights(folder: Path, evidence: Evidence) -> None:
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{folder}: {WEIGHTS} is missing; give a whole checkpoint folder.")
    weights = sha256_file(folder / WEIGHTS)
    for name, stated in (
        (_METRICS, evidence.metrics.weights_sha256),
        (SIDE_FILE, evidence.side.provenance.weights_sha256),
    ):
        if stated != weights:
            raise CheckpointError(
                f"{folder}: {name} speaks of weights {_short(stated)}, but {WEIGHTS} is {_short(weights)}; {REMEDY}."
            )


def _check_split(folder: Path, evidence: Evidence) -> None:
    trained, head = evidence.side.provenance.split, evidence.metrics
    found, wanted = head.split_hash, trained.get("name")
    if found is None or found != wanted:
        raise CheckpointError(
            f"{folder}: the figures are of split {_short(found)}, but the network was trained by split "
            f"{_short(wanted)}; {REMEDY}."
        )
    if head.split != "test":
        raise CheckpointError(f"{folder}: the figures are of the {head.split} split, not of test; {REMEDY}.")
    if head.protocol != trained.get("protocol") or list(head.label_names) != evidence.config["label_names"]:
        raise CheckpointError(f"{folder}: the figures' protocol or classes are not the checkpoint's; {REMEDY}.")


def _check_corpus(folder: Path, evidence: Evidence) -> None:
    """Figures and audit are of the corpus that the network was trained on, where both say which."""
    trained = evidence.side.provenance.corpus.get("hash")
    told = {METRICS: evidence.metrics.corpus.hash}
    if evidence.audit is not None:
        told[AUDIT] = evidence.audit.get("corpus_hash", evidence.audit.get("corpus"))
    for name, found in told.items():
        if trained is not None and isinstance(found, str) and found != trained:
            raise CheckpointError(
                f"{folder}: {evaluated(name)} is of corpus {_short(found)}, but the network was trained on corpus "
                f"{_short(trained)}; {REMEDY}."
            )


def _check_rules(folder: Path, evidence: Evidence) -> None:
    """What the figures measured is what the checkpoint does: temperature, sets, points, class groups, input gate."""
    metrics, side = evidence.metrics, evidence.side
    measured = {
        "temperature": metrics.calibration and metrics.calibration.temperature,
        "conformal": metrics.conformal and metrics.conformal.rule,
        "class_groups": metrics.class_groups or None,
        "gate": metrics.gate and metrics.gate.rule,
    }
    for name, value in measured.items():
        if value is not None and value != getattr(side, name):
            raise CheckpointError(
                f"{folder}: {_METRICS} measured another {name.replace('_', ' ')} than {SIDE_FILE} holds; {REMEDY}."
            )
    fitted = None if side.gate is None else side.gate.weights_sha256
    if fitted is not None and fitted != metrics.weights_sha256:
        raise CheckpointError(
            f"{folder}: its input gate was fitted to weights {_short(fitted)}, but the figures are of "
            f"{_short(metrics.weights_sha256)}; go on with its training (--resume auto), which fits another."
        )


def _check_lineage(folder: Path, side: Side) -> None:
    """Raise `CheckpointError` where a version's comparison was not passed, or is not what its answers give."""
    stated = side.provenance.judged
    if stated is None:
        return
    try:
        record = read_judgement(folder / EVALUATION)
        table = pandas.read_parquet(folder / evaluated(CONTINUITY_ANSWERS))
        found = {name: table[table["protocol"] == name] for name in record.protocols}
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{printable(folder)}: its comparison with the one before cannot be read ({printable(error)}); {REMEDY}."
        ) from error
    weights = side.provenance.weights_sha256
    same = agree(record.summary(), {key: value for key, value in stated.items() if value is not None})
    for name, rows in found.items():
        own = record.protocols[name]
        again, verdict = judge_table(rows, margin=record.margin, seed=record.seed)
        alike = agree(again and again.to_json(), own.comparison and own.comparison.to_json())
        if not (same and record.weights_sha256 == weights and alike and verdict == own.verdict):
            raise CheckpointError(
                f"{printable(folder)}: the comparison with the version before is not what {CONTINUITY_ANSWERS} gives; "
                f"{REMEDY}."
            )
        if own.verdict != NO_WORSE:
            raise CheckpointError(f"{printable(folder)}: {own.title} is {own.verdict}; it is no new version.")


def _short(digest: str | None) -> str:
    return "(unstated)" if digest is None else str(digest)[:12]


# What was exported


def exported_names(names: Iterable[str]) -> set[str]:
    """Those of a folder's files that an export writes."""
    return {name for name in names if name.startswith(_EXPORTED) or name in (EXPORT, INT8_ANSWERS)}


def int8_figures(table: pandas.DataFrame, label_names: Sequence[str]) -> AgreementMetrics:
    """The metrics of an int8 file from its table: source, group, label, `p <class>` and `reference p <class>`."""
    names = list(label_names)
    labels = np.array([names.index(label) for label in table["label"]], np.intp)
    own, reference = (table[[f"{prefix} {name}" for name in names]].to_numpy(float) for prefix in ("p", "reference p"))
    return agreement_figures(labels, reference, own, names, table["group"].tolist())


def _read_exports(folder: Path, metrics: Metrics, answers: pandas.DataFrame) -> ExportRecord | None:
    """export.json of a folder, None where it has no export; `answers` are the rows behind the own test split's figures.

    Raises CheckpointError, one sentence, where file, weights, figures and answers do not belong together.
    """
    files = exported_names(list_files(folder)) - {EXPORT, INT8_ANSWERS}
    if not (folder / EXPORT).is_file():
        if files:
            raise _export_refusal(folder, f"{min(files)} has no figures in {EXPORT}")
        return None
    record = read_exports(folder / EXPORT)
    if record.weights_sha256 != metrics.weights_sha256:
        raise _export_refusal(folder, f"{EXPORT} speaks of other weights")
    stated = {name: digest for one in record.files.values() for name, digest in one.sha256.items()}
    if files != set(stated):
        raise _export_refusal(folder, f"{min(files ^ set(stated))} is in the folder or in {EXPORT}, but not in both")
    for name, digest in stated.items():
        if sha256_file(folder / name) != digest:
            raise _export_refusal(folder, f"{name} is not the file that was measured")
    found = record.all.get(INT8)
    if found is not None:
        _check_int8(folder, found.figures, metrics, answers)
    return record


def _check_int8(folder: Path, stated: AgreementMetrics | None, metrics: Metrics, answers: pandas.DataFrame) -> None:
    """The int8 figures are those of its answers, and the answers beside them those behind the card's own figures."""
    if not (folder / INT8_ANSWERS).is_file():
        raise _export_refusal(folder, f"{INT8_ANSWERS} is missing")
    table, names = pandas.read_parquet(folder / INT8_ANSWERS), metrics.label_names
    if stated is None or not agree(int8_figures(table, names).to_json(), stated.to_json()):
        raise _export_refusal(folder, f"the int8 figures in {EXPORT} are not those of {INT8_ANSWERS}")
    own = answers[(answers["path"] == "predictor") & answers["refused"].isna()].set_index("source")
    if not table["source"].is_unique or set(table["source"]) != set(own.index):
        raise _export_refusal(folder, f"{INT8_ANSWERS} is not of the images that the card's figures are of")
    own = own.reindex(table["source"])
    reference = table[[f"reference p {name}" for name in names]].to_numpy(float)
    near = np.allclose(reference, own[[f"p {name}" for name in names]].to_numpy(float), rtol=0, atol=1e-3)
    if not near or any(own[column].tolist() != table[column].tolist() for column in ("label", "group")):
        found = f"the answers of the network in {INT8_ANSWERS} are not those of its own evaluation"
        raise _export_refusal(folder, found)


def _export_refusal(folder: Path, found: str) -> CheckpointError:
    return CheckpointError(f"{folder}: {found}; {_EXPORT_AGAIN}.")
