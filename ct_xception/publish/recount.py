"""Every figure of metrics.json again, from the answers published beside it: none was typed by hand.

    Recount(folder, side, metrics, remedy).check()

The functions that measure are the evaluator's own; what is checked is that the figures are theirs, of these answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint import BASELINES, EVALUATION, EXPLANATIONS, METRICS, PREDICTIONS, PREDICTIONS_GROUPED
from ct_xception.errors import CheckpointError
from ct_xception.files import read_json

if TYPE_CHECKING:
    import pandas


def protocols_of(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Every protocol that ran, the network's own test split first: {name: its block of metrics.json}."""
    own = {name: metrics.get(name) for name in ("n", "n_groups", "split_hash", "paths")}
    return {metrics["protocol"]: own, **metrics.get("protocols", {})}


def answer_arrays(table: pandas.DataFrame, names: list[str]) -> tuple[NDArray, NDArray, list[str]]:
    """Probabilities (N, K), labels (N,) and groups of the rows that have an answer."""
    labels = np.array([names.index(label) for label in table["label"]], np.intp)
    return table[[f"p {name}" for name in names]].to_numpy(np.float64), labels, table["group"].tolist()


def _conformal_blocks(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: block for name, block in metrics.get("conformal", {}).items() if name != "rule"}


@dataclass(eq=False)
class Recount:
    """The check of one folder. `answers` holds, once read, the rows of predictions of each protocol."""

    folder: Path
    side: Mapping[str, Any]
    metrics: Mapping[str, Any]
    remedy: str
    answers: dict[str, pandas.DataFrame] = field(default_factory=dict)

    def check(self) -> None:
        """Raise CheckpointError, one sentence, at the first figure that the published answers do not give."""
        self.answers = {name: self._rows(name) for name in protocols_of(self.metrics)}
        for name, block in protocols_of(self.metrics).items():
            self._check_paths(name, block)
        self._check_folds()
        self._check_headline()
        for protocol, stated in self.metrics.get("baselines", {}).items():
            self._compare("the baselines", protocol, stated, self._baselines(protocol, stated))
        for protocol, stated in self.metrics.get("questions", {}).items():
            self._compare("the answers to the two questions", protocol, stated, self._questions(protocol))
        own = self.metrics["protocol"]
        if stated := self.metrics.get("calibration"):
            self._compare("the calibration", own, stated, self._calibration(stated))
        for protocol, stated in _conformal_blocks(self.metrics).items():
            self._compare("the prediction sets", protocol, stated, self._conformal(protocol))
        if "refused" in self.metrics.get("gate", {}):
            self._compare("the input gate's figures", own, self.metrics["gate"], self._gated())
        if stated := self.metrics.get("explanations"):
            self._compare("the heat maps' figures", own, stated, self._explained())
        for name, again in self._decided().items():
            self._compare(f"the figures of {name.replace('_', ' ')}", own, self.metrics[name], again)

    def _compare(self, what: str, protocol: str, stated: Any, again: Any) -> None:
        if not agree(again, stated):
            raise self._not_those(what, protocol)

    def _answered(self, protocol: str) -> tuple[NDArray, NDArray, list[str]]:
        """What the predictor answered under a protocol: probabilities (N, K), labels (N,), groups."""
        if protocol not in self.answers:
            raise self._refusal(f"there are figures of the protocol {protocol}, which did not run")
        rows = self.answers[protocol]
        return answer_arrays(rows[(rows["path"] == "predictor") & rows["refused"].isna()], self.metrics["label_names"])

    def _drawn(self, groups: list[str]) -> dict[str, Any]:
        return {"groups": groups, "seed": self.metrics["intervals"]["seed"]}

    def _baselines(self, protocol: str, stated: Mapping[str, Any]) -> dict[str, Any]:
        from ct_xception.evaluation.baselines import baseline_figures

        self._answered(protocol)
        names, rows = self.metrics["label_names"], self.answers[protocol]
        model = rows[rows["path"] == "predictor"].set_index("source")
        table = self._read(BASELINES)
        answers = {}
        for name, own in table[table["protocol"] == protocol].groupby("baseline", sort=False):
            own = own.set_index("source")
            same = own.index.is_unique and model.index.is_unique and set(own.index) == set(model.index)
            if not same or (own["label"].reindex(model.index) != model["label"]).any():
                raise self._refusal(
                    f"the {protocol} baselines in {EVALUATION}/{BASELINES} are not of the model's items"
                )
            answers[str(name)] = own.reindex(model.index)[[f"p {label}" for label in names]].to_numpy(np.float64)
        probabilities, labels, groups = answer_arrays(model, names)
        return baseline_figures(
            answers, labels, names, probabilities, **self._drawn(groups), skipped=stated.get("skipped", {})
        )

    def _questions(self, protocol: str) -> dict[str, Any]:
        from ct_xception.statistics.class_groups import question_figures

        probabilities, labels, groups = self._answered(protocol)
        names = self.metrics["label_names"]
        return question_figures(probabilities, labels, names, self.metrics["class_groups"], **self._drawn(groups))

    def _calibration(self, stated: Mapping[str, Any]) -> dict[str, Any]:
        """Before and after: the answers are those after scaling, and the temperature is undone for those before."""
        from ct_xception.statistics.calibration import apply_temperature, calibration_figures

        after, labels, groups = self._answered(self.metrics["protocol"])
        before = apply_temperature(after, 1 / stated["temperature"])
        drawn = self._drawn(groups)
        return {
            **stated,
            "before": calibration_figures(before, labels, **drawn),
            "after": calibration_figures(after, labels, **drawn),
        }

    def _conformal(self, protocol: str) -> dict[str, Any]:
        from ct_xception.statistics.conformal import conformal_figures

        probabilities, labels, groups = self._answered(protocol)
        rule = self.metrics["conformal"]["rule"]
        return conformal_figures(rule, probabilities, labels, self.metrics["label_names"], **self._drawn(groups))

    def _decided(self) -> dict[str, Any]:
        """The figures of the thresholds in ct_xception.json, as far as metrics.json has any."""
        from ct_xception.statistics.operating import abstention_figures, operating_figures

        wanted = [name for name in ("operating_points", "abstention") if self.metrics.get(name)]
        if not wanted:
            return {}
        missing = [name for name in wanted if not self.side.get(name)]
        if missing:
            raise self._refusal(f"{METRICS} has figures of {missing[0].replace('_', ' ')} that the checkpoint has not")
        answered = self._answered(self.metrics["protocol"])
        own = (*answered[:2], self.metrics["label_names"], answered[2])
        found: dict[str, Any] = {}
        if "operating_points" in wanted:
            found["operating_points"] = operating_figures(self.side["operating_points"], *own)
        if "abstention" in wanted:
            found["abstention"] = abstention_figures(self.side["abstention"], *own)
        return found

    def _gated(self) -> dict[str, Any]:
        """The input gate's figures from its verdicts, which stand beside the predictor's answers."""
        from ct_xception.evaluation.gate_fit import gate_figures

        rows = self.answers[self.metrics["protocol"]]
        if "gate" not in rows:
            raise self._refusal(f"{EVALUATION}/{PREDICTIONS} holds no verdict of the input gate (column gate)")
        rows = rows[rows["path"] == "predictor"]
        return gate_figures(self.metrics["gate"]["rule"], rows["gate"].tolist(), rows["group"].tolist())

    def _explained(self) -> dict[str, Any]:
        """The figures of the heat maps from what was found of each, which must be of images that were answered so."""
        from ct_xception.evaluation.explanations import explanation_figures

        path = self.folder / EVALUATION / EXPLANATIONS
        if not path.is_file():
            raise self._refusal(f"{EVALUATION}/{EXPLANATIONS} is missing")
        stated = read_json(path)
        rows = self.answers[self.metrics["protocol"]]
        rows = rows[rows["path"] == "predictor"]
        answered = set(zip(rows["source"], rows["group"], rows["label"], rows["predicted"], strict=True))
        keys = ("source", "group", "label", "target")
        if not {tuple(record[key] for key in keys) for record in stated["records"]} <= answered:
            raise self._refusal(f"{EVALUATION}/{EXPLANATIONS} explains answers that are not those of {PREDICTIONS}")
        right = ("source", "group", "label", "label")
        if not {tuple(lesion[key] for key in right) for lesion in stated.get("lesions", [])} <= answered:
            raise self._refusal(f"{EVALUATION}/{EXPLANATIONS} points at lesions of answers that are not right")
        return explanation_figures(stated, seed=self.metrics["intervals"]["seed"])

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
        import pandas

        path = self.folder / EVALUATION / name
        if not path.is_file():
            raise self._refusal(f"{EVALUATION}/{name} is missing")
        return pandas.read_parquet(path)

    def _check_paths(self, protocol: str, block: Mapping[str, Any]) -> None:
        table = self.answers[protocol]
        removed = block.get("removed")
        if removed is not None and removed != self.metrics["n"] - block["n"]:
            raise self._refusal(f"the {protocol} protocol's count of removed items is not that of {PREDICTIONS}")
        for route, stated in block["paths"].items():
            rows = table[table["path"] == route]
            figures = {name: value for name, value in stated.items() if name != "refused"}
            whole = len(rows) == block["n"] and len(stated["refused"]) == block["n"] - stated["n"]
            if not whole or not agree(self._measure(rows), figures):
                raise self._not_those(f"the {route.replace('_', ' ')} figures", protocol)

    def _measure(self, rows: pandas.DataFrame) -> dict[str, Any]:
        from ct_xception.statistics.metrics import classification_metrics

        known = rows[rows["refused"].isna()]
        if known.empty:
            return {"n": 0}
        probabilities, labels, groups = answer_arrays(known, self.metrics["label_names"])
        drawn = {name: self.metrics["intervals"][name] for name in ("seed", "resamples")}
        return classification_metrics(probabilities, labels, self.metrics["label_names"], groups, **drawn)

    def _check_folds(self) -> None:
        """Each item answered once, by the fold that left its group out: no group in two folds, no item twice."""
        if "grouped" not in self.answers:
            return
        table = self.answers["grouped"]
        stated = [fold["n"] for fold in self.metrics["protocols"]["grouped"]["folds"]]
        if sorted(stated) != sorted(table.groupby("fold").size().tolist()):
            raise self._refusal(f"the folds' counts are not those of {PREDICTIONS_GROUPED}")
        if table["source"].duplicated().any():
            raise self._refusal(f"{EVALUATION}/{PREDICTIONS_GROUPED} holds an item twice")
        if (table.groupby("group")["fold"].nunique() > 1).any():
            raise self._refusal(f"a group lies in two folds of {PREDICTIONS_GROUPED}: its figures are not grouped ones")

    def _check_headline(self) -> None:
        """The headline is the protocol with the lowest accuracy of the predictor."""
        reached = {
            name: block["paths"]["predictor"]["accuracy"]["value"]
            for name, block in protocols_of(self.metrics).items()
            if block["paths"].get("predictor", {"n": 0})["n"]
        }
        headline = self.metrics.get("headline") or {}
        if not reached:
            raise self._refusal("the predictor answered no item, so there is nothing to say about it")
        stated = reached.get(headline.get("protocol", ""))
        if headline.get("path") != "predictor" or stated is None or stated > min(reached.values()):
            lowest = min(reached, key=lambda name: reached[name])
            raise self._refusal(
                f"the headline is the {headline.get('protocol')} protocol, but the most pessimistic is {lowest}"
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
