"""Checkpoint folders as training and evaluation leave them, made by hand, for the tests of what is published."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import safetensors.numpy
from PIL import Image

from ct_xception.checkpoint_files import ConformalRule, GateRule, PoolingRule, seal
from ct_xception.evaluation.answers import PREDICTOR, Answers, Items
from ct_xception.evaluation.baselines import baseline_figures
from ct_xception.evaluation.explanations import Explanations, explanation_figures
from ct_xception.evaluation.gate_fit import gate_figures
from ct_xception.evaluation.patients import knows_patients, unit_figures
from ct_xception.evaluation.protocols import Part
from ct_xception.files import sha256_file, write_json
from ct_xception.publish.card.card import write_card
from ct_xception.statistics.calibration import apply_temperature, calibration_figures
from ct_xception.statistics.class_groups import question_figures
from ct_xception.statistics.conformal import conformal_figures
from ct_xception.statistics.metrics import classification_metrics
from ct_xception.statistics.operating import (
    abstention_figures,
    choose_abstention,
    choose_operating_points,
    operating_figures,
)
from tests.evaluation.conftest import LABEL_NAMES

SPLIT_HASH = "5f0c77aa12bb34cc"
TEMPERATURE = 1.25
RULE = {"method": "lac", "coverage": 0.9, "threshold": 0.75, "n": 20, "n_groups": 10}
GATE = {
    "method": "mahalanobis",
    "noise": 1.0,
    "length": 2.0,
    "usual": 1.0,
    "doubtful": 2.0,
    "refused": 4.0,
    "signs": {"modalities": ["CT"], "body": None, "lungs": 0.5, "sides": None, "aspects": None, "windows": []},
    "fitted_on": {"split": "train", "n": 100},
    "limits_from": {"split": "validation", "n": 20},
}
FINDINGS = [
    {
        "kind": "leak",
        "severity": "critical",
        "title": "6 of 40 test images have a twin in training or validation.",
        "n": 6,
        "total": 40,
    },
    {
        "kind": "shortcut",
        "severity": "warning",
        "title": "Grey levels alone tell the classes apart in 36 of 40 images.",
        "n": 36,
        "total": 40,
    },
    {"kind": "size", "severity": "note", "title": "Pictures are 168 to 1,200 pixels wide.", "n": 40, "total": 40},
]


def side_file(folder: Path, names: Sequence[str], **corpus: object) -> dict:
    """A ct_xception.json as training writes it."""
    return {
        "format": 1,
        "input": {"body_crop": True, "filters": [], "window": None},
        "temperature": 1.0,
        "provenance": {
            "corpus": {"source": "/home/somebody/chest-ct-scan-images", "kind": "folder", "hash": "c0ffee", **corpus},
            "split": {"name": SPLIT_HASH, "protocol": "published", "counts": {}},
            "weights_sha256": sha256_file(folder / "model.safetensors"),
            "initial_weights": "timm/legacy_xception.tf_in1k",
            "versions": {"python": "3.11.9", "torch": "2.14.1"},
            "seed": 7,
            "command": "accelerate launch train_hf.py --corpus chest-ct-scan-images --seed 7",
            "epochs": 12,
            "best_epoch": 10,
            "selected_by": "lowest validation loss",
            "train_seconds": 1260.0,
            "date": "2026-11-23",
        },
        "manifest": {},
    }


def answer_table(labels: Sequence[int], names: Sequence[str], path: str, right: float, seed: int) -> pandas.DataFrame:
    """Rows of predictions.parquet, two items a group; a share `right` of the labels is hit."""
    rng, n = np.random.default_rng(seed), len(labels)
    logits = rng.normal(size=(n, len(names))).round(2)
    hit = rng.random(n) < right
    logits[np.arange(n), np.where(hit, labels, (np.asarray(labels) + 1) % len(names))] += 4
    scores = np.exp(logits)
    scores /= scores.sum(axis=1, keepdims=True)
    return pandas.DataFrame(
        {
            "source": [f"item {i:06d}" for i in range(n)],
            "group": [f"group {i // 2:06d}" for i in range(n)],
            "label": [names[k] for k in labels],
            "predicted": [names[k] for k in scores.argmax(axis=1)],
            **{f"p {name}": scores[:, k] for k, name in enumerate(names)},
            "refused": [None] * n,
            "path": [path] * n,
            "has_twin": [i % len(names) == 2 and i < 24 for i in range(n)],
        }
    )


def explained(number: int, count: int) -> dict[str, Any]:
    """Made-up evidence for the map of one answer of `count`."""
    part = number / count
    grounds = {"inside_body": {"share": 1 - part / 10, "area": 0.8}, "inside_lungs": {"share": 0.5, "area": 0.3}}
    others = ("integrated_gradients", "occlusion")
    return {
        "deletion": {"area": 0.2 + part / 10, "random_area": 0.4},
        "insertion": {"area": 0.7 - part / 10, "random_area": 0.5},
        "grounds": grounds,
        "agreement": {name: {"rank_correlation": 0.6 - part / 5, "overlap": 0.4} for name in others},
        "infidelity": 0.5 + part,
        "sensitivity": 0.1 + part / 10,
        "randomisation": {"rank_correlation": part / 5, "each": [part / 5], "passed": True},
        "warnings": ["A network with random weights gives a similar map."] if number == 0 else [],
    }


class Folder:
    """A checkpoint folder of made-up answers; weights and pictures are a few bytes. `write` makes its files whole."""

    def __init__(self, path: Path, names: Sequence[str], n: int, corpus: Mapping[str, object]) -> None:
        self.path, self.names = path, list(names)
        path.mkdir()
        cfg = {"input_size": [3, 192, 192], "mean": [0.5] * 3, "std": [0.5] * 3}
        config = {"architecture": "legacy_xception", "label_names": self.names, "pretrained_cfg": cfg}
        write_json(path / "config.json", config)
        (path / "model.safetensors").write_bytes(b"bytes")
        self.side = side_file(path, names, **corpus)
        labels = [i % len(names) for i in range(n)]
        ours = answer_table(labels, names, "predictor", 0.95, seed=1)
        stock = answer_table(labels, names, "stock_pipeline", 0.85, seed=2)
        probabilities = [f"p {name}" for name in names]
        stock.loc[2, [*probabilities, "predicted"]] = None
        stock.loc[2, "refused"] = "item 000002: stock transformers cannot open it (OSError)"
        self.answers = pandas.concat([ours, stock], ignore_index=True)
        self.grouped = answer_table([*labels, *labels], names, "predictor", 0.7, seed=3).drop(columns="has_twin")
        self.grouped["fold"] = [(i // 2) % 5 for i in range(2 * n)]
        self.baselines = pandas.DataFrame()
        self.explanations: dict[str, Any] = {}
        self.metrics = self._head(n)

    def _head(self, n: int) -> dict[str, Any]:
        own = self.answers[self.answers["path"] == "predictor"]
        return {
            "format": 2,
            "protocol": "published",
            "split": "test",
            "split_hash": SPLIT_HASH,
            "weights_sha256": sha256_file(self.path / "model.safetensors"),
            "corpus": {"kind": self.side["provenance"]["corpus"]["kind"], "hash": "c0ffee"},
            "split_sizes": {"train": 100, "validation": 20, "test": n},
            "best_epoch": 10,
            "n": n,
            "n_groups": own["group"].nunique(),
            "label_names": self.names,
            "intervals": {"confidence": 0.95, "resamples": 1000, "seed": 0},
            "paths": self._paths(self.answers),
            "headline": {"protocol": "published", "path": "predictor"},
            "figures": ["confusion_matrix.png", "roc.png", "curves.png"],
        }

    def _paths(self, table: pandas.DataFrame) -> dict[str, Any]:
        found = {}
        for path in table["path"].unique():
            rows = table[table["path"] == path]
            known = rows[rows["refused"].isna()]
            refused = [
                {"source": source, "reason": reason}
                for source, reason in rows[["source", "refused"]].dropna().itertuples(index=False)
            ]
            scores, labels, groups = self.arrays(known)
            found[path] = classification_metrics(scores, labels, self.names, groups).to_json() | {"refused": refused}
        return found

    def arrays(self, table: pandas.DataFrame) -> tuple[np.ndarray, np.ndarray, list[str]]:
        labels = np.array([self.names.index(label) for label in table["label"]])
        return table[[f"p {name}" for name in self.names]].to_numpy(float), labels, table["group"].tolist()

    def rows(self, protocol: str) -> pandas.DataFrame:
        """The predictor's answers under a protocol."""
        table = self.grouped if protocol == "grouped" else self.answers
        table = table[table["path"] == "predictor"]
        return table[~table["has_twin"]] if protocol == "deduplicated" else table

    def run_protocols(self) -> None:
        """Add the deduplicated and the grouped protocol; the latter is the most pessimistic."""
        kept = self.answers[~self.answers["has_twin"]]
        n = int((kept["path"] == "predictor").sum())
        folds = [
            {"split_hash": f"f01d{k}", "weights_sha256": f"{k}" * 64, "n": int((self.grouped["fold"] == k).sum())}
            for k in range(5)
        ]
        self.metrics["protocols"] = {
            "deduplicated": {
                "title": "without twins",
                "n": n,
                "n_groups": kept["group"].nunique(),
                "split_hash": "dedca11ab1e0",
                "removed": self.metrics["n"] - n,
                "paths": self._paths(kept),
            },
            "grouped": {
                "title": "by group",
                "n": len(self.grouped),
                "n_groups": self.grouped["group"].nunique(),
                "split_hash": "f01df01df01d",
                "folds": folds,
                "groups_origin": "pseudo-patients from look-alike slices",
                "paths": self._paths(self.grouped),
            },
        }
        self.metrics["headline"]["protocol"] = "grouped"

    def run_baselines(self, rates: Mapping[str, float]) -> None:
        """Add baselines that hit these shares of the labels, under every protocol so far."""
        tables = []
        for protocol in self.protocols:
            rows = self.rows(protocol)
            probabilities, labels, groups = self.arrays(rows)
            answers = {}
            for k, (name, rate) in enumerate(rates.items()):
                own = answer_table(labels, self.names, "predictor", rate, seed=20 + k).drop(
                    columns=["path", "refused", "has_twin"]
                )
                own["source"], own["group"] = rows["source"].to_numpy(), rows["group"].to_numpy()
                answers[name] = self.arrays(own)[0]
                tables.append(own.assign(protocol=protocol, baseline=name))
            self.metrics.setdefault("baselines", {})[protocol] = baseline_figures(
                answers,
                labels,
                self.names,
                probabilities,
                groups=groups,
                skipped={"frozen_features": "training began from random weights"},
            ).to_json()
        self.baselines = pandas.concat(tables, ignore_index=True)

    def measure_reliability(self) -> None:
        """Add calibration and prediction sets."""
        own, labels, groups = self.arrays(self.rows("published"))
        self.metrics["calibration"] = {
            "temperature": TEMPERATURE,
            "n_validation": 20,
            "before": calibration_figures(apply_temperature(own, 1 / TEMPERATURE), labels, groups).to_json(),
            "after": calibration_figures(own, labels, groups).to_json(),
        }
        self.side |= {"temperature": TEMPERATURE, "calibration": {"split": "validation", "n": 20, "n_groups": 10}}
        self.metrics["figures"].append("reliability.png")
        self.promise(RULE)

    def promise(self, rule: Mapping[str, Any]) -> None:
        """Add the prediction sets of a rule; not for the grouped protocol, where other networks answered."""
        self.side["conformal"] = rule
        self.metrics["conformal"] = {"rule": rule}
        for protocol in self.protocols:
            if protocol != "grouped":
                probabilities, labels, groups = self.arrays(self.rows(protocol))
                found = conformal_figures(ConformalRule.of(rule), probabilities, labels, self.names, groups)
                self.metrics["conformal"][protocol] = found.to_json()

    def choose_thresholds(self) -> None:
        """Add operating points and abstention, chosen on other made-up answers, and class groups."""
        groups = {"cancer": [name for name in self.names if name != "normal"]}
        validation = answer_table([i % len(self.names) for i in range(40)], self.names, "predictor", 0.95, seed=9)
        chosen, labels, members = self.arrays(validation)
        points = choose_operating_points(chosen, labels, self.names, groups, members)
        abstention = choose_abstention(chosen, labels, self.names, members)
        self.side |= {
            "class_groups": groups,
            "operating_points": [point.to_json() for point in points],
            "abstention": abstention.to_json(),
        }
        own = (*self.arrays(self.rows("published"))[:2], self.names, self.arrays(self.rows("published"))[2])
        self.metrics |= {
            "class_groups": groups,
            "operating_points": [found.to_json() for found in operating_figures(points, *own)],
            "abstention": abstention_figures(abstention, *own).to_json(),
            "questions": {},
        }
        for protocol in self.protocols:
            probabilities, labels, members = self.arrays(self.rows(protocol))
            found = question_figures(probabilities, labels, self.names, groups, members)
            self.metrics["questions"][protocol] = found.to_json()

    def count_patients(self) -> None:
        """Add the figures by patient, where the corpus tells patients: what of each class `answer_table` pairs up."""
        if not knows_patients(self.side["provenance"]["corpus"]):
            return
        parts = {}
        for protocol in self.protocols:
            rows = self.rows(protocol)
            scores, labels, groups = self.arrays(rows)
            fold = rows["fold"].to_numpy(int) if "fold" in rows else None
            parts[protocol] = Part(
                Items(labels, groups, rows["source"].tolist()), {PREDICTOR: Answers(scores)}, {}, fold
            )
        rule = self.side.get("pooling")
        found = unit_figures(parts, rule and PoolingRule.of(rule), self.names, patients_known=True)
        for unit, blocks in found.items():
            self.metrics[unit] = {protocol: block.to_json() for protocol, block in blocks.items()}

    def fit_gate(self) -> None:
        """Add an input gate of two features, which refused one test image and doubted two."""
        self.side["gate"] = GATE | {"weights_sha256": self.side["provenance"]["weights_sha256"]}
        ours = self.answers["path"] == "predictor"
        verdicts = ["refused", "doubtful", "doubtful", *["accepted"] * (int(ours.sum()) - 3)]
        self.answers["gate"] = pandas.Series(verdicts, index=self.answers.index[ours])
        self.answers["gate"] = self.answers["gate"].astype(object).where(ours, None)
        found = gate_figures(GateRule.of(self.side["gate"]), verdicts, self.answers[ours]["group"].tolist())
        self.metrics["gate"] = found.to_json()

    def explain(self, count: int = 6) -> None:
        """Add what was found of the first heat maps; the evidence of one of them speaks against it."""
        rows = self.rows("published").head(count)
        answered = rows[["source", "group", "label", "predicted"]].rename(columns={"predicted": "target"})
        records = [{**row, **explained(number, count)} for number, row in enumerate(answered.to_dict(orient="records"))]
        right = rows[rows["predicted"] == rows["label"]][["source", "group", "label"]].to_dict(orient="records")
        pointing = {"near": True, "inside": 0.3, "area": 0.02, "near_area": 0.09, "overlap": 0.25}
        lesions = [
            {**row, **pointing, "hit": number != 1, "distance": 3.0 * (number == 1)} for number, row in enumerate(right)
        ]
        self.explanations = {"format": 1, "method": "gradcam", "budget": "fast", "records": records, "lesions": lesions}
        self.metrics["explanations"] = explanation_figures(Explanations.of(self.explanations)).to_json()

    @property
    def protocols(self) -> list[str]:
        return ["published", *self.metrics.get("protocols", {})]

    def write(self) -> Path:
        """Write every file; the folder can be made a card from, or be tampered with."""
        folder = self.path / "evaluation"
        folder.mkdir(exist_ok=True)
        self.count_patients()
        self.answers.to_parquet(folder / "predictions.parquet", index=False)
        if "grouped" in self.protocols:
            self.grouped.assign(has_twin=False).to_parquet(folder / "predictions_grouped.parquet", index=False)
        if not self.baselines.empty:
            self.baselines.to_parquet(folder / "baselines.parquet", index=False)
        if self.explanations:
            write_json(folder / "explanations.json", self.explanations)
        for name in self.metrics["figures"]:
            (folder / name).touch()
        write_json(folder / "metrics.json", self.metrics)
        write_json(self.path / "ct_xception.json", self.side)
        return self.path


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Folder]:
    """Make a `Folder` of `n` made-up answers, not written yet."""

    def make(names: Sequence[str] = LABEL_NAMES, n: int = 40, **corpus: object) -> Folder:
        return Folder(tmp_path / "model", names, n, corpus)

    return make


@pytest.fixture
def make_model_dir(make_folder: Callable[..., Folder]) -> Callable[..., Path]:
    """Make and write a folder with its own test split evaluated, and nothing else."""
    return lambda *args, **options: make_folder(*args, **options).write()


@pytest.fixture(scope="session")
def measured_folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A folder with everything that can be measured: its figures take a second, so tests share them by copies."""
    folder = Folder(tmp_path_factory.mktemp("measured") / "model", LABEL_NAMES, 40, {})
    folder.run_protocols()
    folder.run_baselines({"majority": 0.25, "grey_statistics": 0.6, "nearest_body": 0.72})
    folder.measure_reliability()
    folder.choose_thresholds()
    folder.fit_gate()
    folder.explain()
    return folder


@pytest.fixture
def full_folder(measured_folder: Folder, tmp_path: Path) -> Folder:
    """A copy of `measured_folder`, not written yet."""
    folder = copy.deepcopy(measured_folder)
    folder.path = Path(shutil.copytree(measured_folder.path, tmp_path / "model"))
    return folder


def write_audit(
    folder: Path,
    findings: Sequence[Mapping[str, Any]] = FINDINGS,
    *,
    corpus_hash: str = "c0ffee",
    leaks: bool = False,
) -> None:
    """Write evaluation/audit.json, as far as the card reads it."""
    audit = {"corpus_hash": corpus_hash, "leaks": leaks, "findings": list(findings)}
    write_json(folder / "evaluation/audit.json", audit)


def edit_json(path: Path, change: Callable[[dict], object]) -> None:
    """Tamper with a JSON file."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.fixture
def sealed(make_folder: Callable[..., Folder]) -> Path:
    """A small whole folder: weights of a few bytes, figures of a few pixels, its card and its seal."""
    folder = make_folder(n=8, source="chest-ct")
    (folder.path / "model.safetensors").write_bytes(safetensors.numpy.save({"weight": np.zeros(1)}))
    weights = sha256_file(folder.path / "model.safetensors")
    folder.metrics["weights_sha256"] = folder.side["provenance"]["weights_sha256"] = weights
    folder.write()
    for name in folder.metrics["figures"]:
        Image.new("L", (4, 4)).save(folder.path / "evaluation" / name)
    write_card(folder.path)
    seal(folder.path)
    return folder.path
