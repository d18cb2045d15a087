"""Every figure of metrics.json again, from the answers published beside it: none was typed by hand.

    Recount(folder, side, metrics, remedy).check()

The functions that measure are the evaluator's own; what is checked is that the figures are theirs, of these answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

from ct_xception.checkpoint import (
    BASELINES,
    EVALUATION,
    EXPLANATIONS,
    EXTERNAL,
    METRICS,
    PREDICTIONS,
    PREDICTIONS_GROUPED,
    ROBUSTNESS_ANSWERS,
)
from ct_xception.checkpoint_files import Side
from ct_xception.corpus.listing import check_external_name
from ct_xception.errors import CheckpointError
from ct_xception.evaluation.answers import Answers, Items
from ct_xception.evaluation.explanations import Explanations
from ct_xception.evaluation.measure import Given, measure
from ct_xception.evaluation.patients import BY_PATIENT, BY_SERIES, knows_patients
from ct_xception.evaluation.predictions import TRAIT, Names
from ct_xception.evaluation.protocols import Part
from ct_xception.evaluation.shift.questions import Question
from ct_xception.evaluation.shift.robustness import KEYS, VALUE_KEYS, Tried
from ct_xception.evaluation.shift.validation import FIGURES, Validation
from ct_xception.evaluation.shift.value_changes import VALUE_CHANGES
from ct_xception.metrics import ExternalMetrics, Headline, Measured, Metrics, PathMetrics, ProtocolMetrics
from ct_xception.statistics.pooling import ATTENTION

SUBGROUPS = "subgroups"
# The blocks of metrics.json, by what they are called when they are wrong: those with one for each protocol, and others.
_BY_PROTOCOL = {
    "by_patient": "the figures by patient",
    "by_series": "the figures by series",
    "baselines": "the baselines",
    "columns": "what the columns are worth",
    SUBGROUPS: "the figures of subgroups",
    "questions": "the answers to the two questions",
    "conformal": "the prediction sets",
}
_OWN = {
    "calibration": "the calibration",
    "gate": "the input gate's figures",
    "explanations": "the heat maps' figures",
    "operating_points": "the figures of operating points",
    "abstention": "the figures of abstention",
    "robustness": "the figures of robustness",
}


@dataclass(eq=False)
class Recount:
    """The check of one folder. `answers` holds, once read, the rows of predictions of each protocol."""

    folder: Path
    side: Side
    metrics: Metrics
    remedy: str
    answers: dict[str, pandas.DataFrame] = field(default_factory=dict)

    def check(self) -> None:
        """Raise CheckpointError, one sentence, at the first figure that the published answers do not give."""
        protocols = self.metrics.all_protocols
        self.answers = {name: self._rows(name) for name in protocols}
        self._check_folds()
        paths, blocks = self._measure()
        for name, block in protocols.items():
            self._check_paths(name, block, paths[name])
        for key, what in ((BY_PATIENT, "by patient"), (BY_SERIES, "by series"), (SUBGROUPS, "of subgroups")):
            if getattr(blocks, key).keys() - getattr(self.metrics, key):
                raise self._refusal(f"{METRICS} has no figures {what}, which its answers tell")
        self._check_headline(blocks.headline)
        stated, again = self.metrics.to_json(), blocks.to_json()
        self._name_worst(again.get(SUBGROUPS, {}))
        for key, what in _BY_PROTOCOL.items():
            for protocol, found in stated.get(key, {}).items():
                if protocol not in self.answers and protocol != "rule":
                    raise self._refusal(f"there are figures of the protocol {protocol}, which did not run")
                self._compare(what, protocol, found, again.get(key, {}).get(protocol))
        for key, what in _OWN.items():
            if found := stated.get(key):
                if key in ("operating_points", "abstention") and not getattr(self.side, key):
                    raise self._refusal(f"{METRICS} has figures of {key.replace('_', ' ')} that the checkpoint has not")
                self._compare(what, self.metrics.protocol, found, again.get(key))
        self._check_external(blocks.external)

    def _measure(self) -> tuple[dict[str, dict[str, PathMetrics]], Measured]:
        """Every metric once more, by what writes them."""
        metrics, parts = self.metrics, {name: self.part(name, rows) for name, rows in self.answers.items()}
        names = Names([source for part in parts.values() for source in part.items.sources], anonymous=False)
        skipped = next((block.skipped for block in metrics.baselines.values()), {})
        stated, seed, tried = self._explained(), metrics.intervals.seed, self._tried()
        elsewhere = {name: self._external(name, block) for name, block in metrics.external.items()}
        known, labels = knows_patients(self.side.provenance.corpus), metrics.label_names
        return measure(Given(parts, labels, self.side, names, skipped, stated, seed, known, elsewhere, tried))

    def _tried(self) -> Tried | None:
        """The published answers to changed slices; None where metrics.json has no figures of them."""
        if self.metrics.robustness is None:
            return None
        table, items = self._read(ROBUSTNESS_ANSWERS), None
        answers = dict[tuple[str, int], Answers]()
        for (change, severity), rows in table.groupby(["path", "severity"], sort=False):
            part, _ = self._joined("robustness", rows, self.metrics.label_names)
            items = items or part.items
            if part.items.sources != items.sources:
                raise self._refusal(f"{EVALUATION}/{ROBUSTNESS_ANSWERS} changes other slices at another severity")
            answers[str(change), int(severity)] = part.paths[str(change)]
        found = {name for name, _ in answers} & set(VALUE_CHANGES)
        whole = {*KEYS, *((name, severity) for name, severity in VALUE_KEYS if name in found)}
        if items is None or set(answers) != whole:
            raise self._refusal(f"{EVALUATION}/{ROBUSTNESS_ANSWERS} does not hold every change")
        return Tried(items, answers)

    def _external(self, name: str, block: ExternalMetrics) -> Validation:
        """The published answers on an external corpus, which may have been of other classes."""
        check_external_name(name)
        rows = self._read(f"{EXTERNAL}/{name}.parquet")
        part, _ = self._joined(f"external/{name}", rows, list(block.alternatives))
        names = Names(part.items.sources, anonymous=False)
        record = {key: value for key, value in block.to_json().items() if key not in FIGURES}
        return Validation(part, Question(block.alternatives, {}), names, record)

    def _check_external(self, again: Mapping[str, ExternalMetrics]) -> None:
        for name, stated in self.metrics.external.items():
            found = again[name].paths["predictor"]
            if len(found.refused) + found.n != stated.n or not agree(again[name].to_json(), stated.to_json()):
                raise self._refusal(
                    f"the figures of external validation on {name} in {EVALUATION}/{METRICS} are not those of "
                    f"{EXTERNAL}/{name}.parquet"
                )

    def part(self, protocol: str, rows: pandas.DataFrame) -> Part:
        """The published answers of a protocol, as the evaluator had them."""
        gated = self.metrics.gate is not None and self.metrics.gate.refused is not None
        if gated and "gate" not in rows and protocol == self.metrics.protocol:
            raise self._refusal(f"{EVALUATION}/{PREDICTIONS} holds no verdict of the input gate (column gate)")
        part, fold = self._joined(protocol, rows, self.metrics.label_names)
        further = self.metrics.protocols.get(protocol)
        pooling = {} if further is None else {number: one.pooling for number, one in enumerate(further.folds, 1)}
        rules = [self.side.pooling] if fold is None else pooling.values()
        if part.paths["predictor"].attention is None and any(rule and rule.method == ATTENTION for rule in rules):
            raise self._not_those("the figures by patient, which need the column attention,", protocol)
        traits = self._traits(protocol, rows[rows["path"] == "predictor"])
        return Part(part.items, part.paths, self._baselines(protocol, part.items), fold, pooling, traits)

    def _traits(self, protocol: str, rows: pandas.DataFrame) -> dict[str, list[str]]:
        """The published traits, by the names that metrics.json gives them; their values have none but numbers."""
        columns = [column for column in rows if str(column).startswith(TRAIT)]
        stated = self.metrics.subgroups.get(protocol)
        names = columns if stated is None else stated.traits
        if len(names) != len(columns):
            raise self._not_those("the figures of subgroups", protocol)
        return {str(name): rows[column].tolist() for name, column in zip(names, columns, strict=True)}

    def _name_worst(self, again: Mapping[str, Any]) -> None:
        """Call the values of the worst subgroups in `again` what metrics.json calls them."""
        for protocol, block in again.items():
            stated = self.metrics.subgroups.get(protocol)
            if block.get("worst") and stated is not None and stated.worst is not None:
                block["worst"]["value"] = stated.worst.value

    def _joined(
        self, protocol: str, rows: pandas.DataFrame, names: Sequence[str]
    ) -> tuple[Part, NDArray[np.intp] | None]:
        """Rows of answers by several paths, which must be to the same items; and their folds."""
        paths, items, fold = dict[str, Answers](), None, None
        for route, own in rows.groupby("path", sort=False):
            labels = np.array([names.index(label) for label in own["label"]], np.intp)
            series = own["series"].fillna("").tolist() if "series" in own else []
            found = Items(labels, own["group"].tolist(), own["source"].tolist(), series)
            items, fold = items or found, own["fold"].to_numpy(np.intp) if "fold" in own else None
            if (found.sources, found.groups, found.series, found.labels.tolist()) != (
                items.sources,
                items.groups,
                items.series,
                items.labels.tolist(),
            ):
                raise self._not_those(f"the {str(route).replace('_', ' ')} figures", protocol)
            said = [own.dropna(subset=column) if column in own else own[:0] for column in ("refused", "gate")]
            refused, verdicts = (
                dict(zip(part["source"], part[column], strict=True)) if len(part) else {}
                for part, column in zip(said, ("refused", "gate"), strict=True)
            )
            scores, told = own[[f"p {name}" for name in names]].to_numpy(np.float64), own.get("attention")
            attention = None if told is None or told.isna().all() else told.to_numpy(np.float64)
            paths[str(route)] = Answers(scores, refused, verdicts, attention)
        if items is None:
            raise self._refusal(f"the answers of {protocol} are none")
        return Part(items, paths), fold

    def _baselines(self, protocol: str, items: Items) -> dict[str, NDArray[np.float64]]:
        """The simple rules' answers to these very items; {} where metrics.json has no figures of them."""
        if protocol not in self.metrics.baselines:
            return {}
        names, table, answers = self.metrics.label_names, self._read(BASELINES), {}
        labels = dict(zip(items.sources, (names[label] for label in items.labels), strict=True))
        for name, own in table[table["protocol"] == protocol].groupby("baseline", sort=False):
            own = own.set_index("source")
            if len(own) != len(items.sources) or own["label"].to_dict() != labels:
                raise self._refusal(
                    f"the {protocol} baselines in {EVALUATION}/{BASELINES} are not of the model's items"
                )
            answers[str(name)] = own.loc[items.sources, [f"p {label}" for label in names]].to_numpy(np.float64)
        return answers

    def _compare(self, what: str, protocol: str, stated: Any, again: Any) -> None:
        if not agree(again, stated):
            raise self._not_those(what, protocol)

    def _explained(self) -> Explanations | None:
        """What was found of each heat map, which must be of images that were answered so."""
        if self.metrics.explanations is None:
            return None
        path = self.folder / EVALUATION / EXPLANATIONS
        if not path.is_file():
            raise self._refusal(f"{EVALUATION}/{EXPLANATIONS} is missing")
        stated = Explanations.from_json(path.read_bytes(), f"{EVALUATION}/{EXPLANATIONS}")
        rows = self.answers[self.metrics.protocol]
        rows = rows[rows["path"] == "predictor"]
        answered = set(zip(rows["source"], rows["group"], rows["label"], rows["predicted"], strict=True))
        keys = ("source", "group", "label", "target")
        if not {tuple(getattr(record, key) for key in keys) for record in stated.records} <= answered:
            raise self._refusal(f"{EVALUATION}/{EXPLANATIONS} explains answers that are not those of {PREDICTIONS}")
        right = ("source", "group", "label", "label")
        if not {tuple(getattr(lesion, key) for key in right) for lesion in stated.lesions} <= answered:
            raise self._refusal(f"{EVALUATION}/{EXPLANATIONS} points at lesions of answers that are not right")
        return stated

    def _rows(self, protocol: str) -> pandas.DataFrame:
        """The rows behind a protocol: all of the test split, those without a twin, or those out of fold."""
        if protocol == "grouped":
            return self._read(PREDICTIONS_GROUPED)
        table = self._read(PREDICTIONS)
        if protocol != "deduplicated":
            return table
        if "has_twin" not in table:
            raise self._refusal(f"{EVALUATION}/{PREDICTIONS} does not say which items have a twin (column has_twin)")
        return table[~table["has_twin"].astype(bool)]

    def _read(self, name: str) -> pandas.DataFrame:

        path = self.folder / EVALUATION / name
        if not path.is_file():
            raise self._refusal(f"{EVALUATION}/{name} is missing")
        return pandas.read_parquet(path)

    def _check_paths(self, protocol: str, block: ProtocolMetrics, again: Mapping[str, PathMetrics]) -> None:
        if block.removed is not None and block.removed != self.metrics.n - block.n:
            raise self._refusal(f"the {protocol} protocol's count of removed items is not that of {PREDICTIONS}")
        table = self.answers[protocol]
        for route, stated in block.paths.items():
            measured = route in again and agree(again[route].to_json(), stated.to_json())
            if (table["path"] == route).sum() != block.n or not measured:
                raise self._not_those(f"the {route.replace('_', ' ')} figures", protocol)

    def _check_folds(self) -> None:
        """Each item answered once, by the fold that left its group out: no group in two folds, no item twice."""
        if "grouped" not in self.answers:
            return
        table = self.answers["grouped"]
        stated = [fold.n for fold in self.metrics.protocols["grouped"].folds]
        if sorted(stated) != sorted(table.groupby("fold").size().tolist()):
            raise self._refusal(f"the folds' counts are not those of {PREDICTIONS_GROUPED}")
        if table["source"].duplicated().any():
            raise self._refusal(f"{EVALUATION}/{PREDICTIONS_GROUPED} holds an item twice")
        if (table.groupby("group")["fold"].nunique() > 1).any():
            raise self._refusal(f"a group lies in two folds of {PREDICTIONS_GROUPED}: its figures are not grouped ones")

    def _check_headline(self, again: Headline | None) -> None:
        """The headline is the protocol with the lowest accuracy of the predictor."""
        if again is None:
            raise self._refusal("the predictor answered no item, so there is nothing to say about it")
        stated = self.metrics.headline or Headline(protocol="unstated", path="")
        if stated.by != again.by:
            raise self._refusal(f"the headline is by {stated.by}, and not by {again.by}")
        if (stated.protocol, stated.path) != (again.protocol, again.path):
            raise self._refusal(
                f"the headline is the {stated.protocol} protocol, but the most pessimistic is {again.protocol}"
            )

    def _not_those(self, what: str, protocol: str) -> CheckpointError:
        files = {"grouped": PREDICTIONS_GROUPED}
        name = files.get(protocol, PREDICTIONS)
        return self._refusal(f"{what} of the {protocol} protocol in {EVALUATION}/{METRICS} are not those of {name}")

    def _refusal(self, found: str) -> CheckpointError:
        return CheckpointError(f"{self.folder}: {found}; {self.remedy}.")


def agree(first: Any, second: Any) -> bool:
    """Whether two JSON values are the same, numbers to nine digits: another machine may sum in another order."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(agree(value, second[key]) for key, value in first.items())
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(agree, first, second))
    if isinstance(first, float) and isinstance(second, (int, float)):
        return math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-12)
    return first == second
