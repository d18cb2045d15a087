"""What a checkpoint folder can prove about itself: figures are taken from it only if every hash and every count agrees.

Whoever edits metrics.json, exchanges the weights, evaluates on another split or names a kinder protocol as the headline
gets a refusal instead of a card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.checkpoint import AUDIT, CONFIG, METRICS, METRICS_FORMAT, SIDE_FILE, WEIGHTS, evaluated
from ct_xception.checkpoint_files import need_side
from ct_xception.errors import CheckpointError
from ct_xception.files import sha256_file
from ct_xception.publish.exports import read_exports
from ct_xception.publish.lineage import check_lineage
from ct_xception.publish.recount import Recount, protocols_of

if TYPE_CHECKING:
    import pandas

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
    side: Mapping[str, Any]
    metrics: Mapping[str, Any]
    audit: Mapping[str, Any] | None = None
    answers: Mapping[str, pandas.DataFrame] = field(default_factory=dict)
    exports: Mapping[str, Any] | None = None

    @property
    def provenance(self) -> Mapping[str, Any]:
        """How the weights came about, from ct_xception.json."""
        return self.side.get("provenance", {})

    @property
    def protocols(self) -> dict[str, Mapping[str, Any]]:
        """Every protocol that ran, the network's own test split first: {name: its block of metrics.json}."""
        return protocols_of(self.metrics)

    @property
    def headline(self) -> str:
        """The name of the most pessimistic protocol that ran."""
        return self.metrics["headline"]["protocol"]


def read_evidence(model_dir: str | Path) -> Evidence:
    """Read config.json, ct_xception.json and evaluation/ of a checkpoint folder, and compare them.

    Raises CheckpointError, one sentence, where a file is missing or of an older format, where weights, corpus or split
    are not those of the figures, where a figure is not what the published answers give, and where the headline is not
    the most pessimistic protocol that ran.
    """
    folder = Path(model_dir)
    config, side = _read(folder, CONFIG), need_side(folder).to_json()
    metrics = _read(folder, _METRICS)
    if metrics.get("format") != METRICS_FORMAT:
        raise CheckpointError(
            f"{folder}: {_METRICS} is of format {metrics.get('format')}, and a card needs format "
            f"{METRICS_FORMAT}; {REMEDY}."
        )
    audit = _read(folder, _AUDIT) if (folder / _AUDIT).is_file() else None
    evidence = Evidence(config, side, metrics, audit)
    _check_weights(folder, evidence)
    _check_split(folder, evidence)
    _check_corpus(folder, evidence)
    _check_rules(folder, evidence)
    recount = Recount(folder, side, metrics, REMEDY)
    recount.check()
    check_lineage(folder, side, REMEDY)
    exports = read_exports(folder, metrics, recount.answers[metrics["protocol"]])
    return Evidence(config, side, metrics, audit, recount.answers, exports)


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: {name} is missing; {REMEDY}.") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: {name} cannot be read ({error}); {REMEDY}.") from error


def _check_weights(folder: Path, evidence: Evidence) -> None:
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{folder}: {WEIGHTS} is missing; give a whole checkpoint folder.")
    weights = sha256_file(folder / WEIGHTS)
    for name, stated in (
        (_METRICS, evidence.metrics.get("weights_sha256")),
        (SIDE_FILE, evidence.provenance.get("weights_sha256")),
    ):
        if stated != weights:
            raise CheckpointError(
                f"{folder}: {name} speaks of weights {_short(stated)}, but {WEIGHTS} is {_short(weights)}; {REMEDY}."
            )


def _check_split(folder: Path, evidence: Evidence) -> None:
    trained, metrics = evidence.provenance.get("split", {}), evidence.metrics
    found, wanted = metrics.get("split_hash"), trained.get("name")
    if found is None or found != wanted:
        raise CheckpointError(
            f"{folder}: the figures are of split {_short(found)}, but the network was trained by split "
            f"{_short(wanted)}; {REMEDY}."
        )
    if metrics.get("split") != "test":
        raise CheckpointError(f"{folder}: the figures are of the {metrics.get('split')} split, not of test; {REMEDY}.")
    if metrics.get("protocol") != trained.get("protocol") or metrics["label_names"] != evidence.config["label_names"]:
        raise CheckpointError(f"{folder}: the figures' protocol or classes are not the checkpoint's; {REMEDY}.")


def _check_corpus(folder: Path, evidence: Evidence) -> None:
    """Figures and audit are of the corpus that the network was trained on, where both say which."""
    trained = evidence.provenance.get("corpus", {}).get("hash")
    told = {METRICS: evidence.metrics.get("corpus", {}).get("hash")}
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
        "temperature": metrics.get("calibration", {}).get("temperature"),
        "conformal": metrics.get("conformal", {}).get("rule"),
        "class_groups": metrics.get("class_groups") or None,
        "gate": metrics.get("gate", {}).get("rule"),
    }
    for name, value in measured.items():
        if value is not None and value != side.get(name):
            raise CheckpointError(
                f"{folder}: {_METRICS} measured another {name.replace('_', ' ')} than {SIDE_FILE} holds; {REMEDY}."
            )
    fitted = (side.get("gate") or {}).get("weights_sha256")
    if fitted is not None and fitted != metrics["weights_sha256"]:
        raise CheckpointError(
            f"{folder}: its input gate was fitted to weights {_short(fitted)}, but the figures are of "
            f"{_short(metrics['weights_sha256'])}; go on with its training (--resume auto), which fits another."
        )


def _short(digest: str | None) -> str:
    return "(unstated)" if digest is None else str(digest)[:12]
