"""What the evaluator really writes, with every protocol and rule, is accepted as evidence and becomes a card."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import yaml

from ct_xception.errors import CheckpointError
from ct_xception.evaluation.answers import PREDICTOR, STOCK_PIPELINE, Answers, Items
from ct_xception.evaluation.evaluation import Evaluation
from ct_xception.evaluation.measure import write_evaluation
from ct_xception.evaluation.protocols import OutOfFold, Part, Protocols
from ct_xception.evaluation.report.figures import evaluation_summary
from ct_xception.evaluation.rules import fit_rules
from ct_xception.files import write_json
from ct_xception.metrics import Metrics
from ct_xception.publish.card.card import render_card
from ct_xception.publish.verify import read_evidence
from tests.evaluation.conftest import LABEL_NAMES, draw_nothing, encode_picture, make_split
from tests.publish.conftest import FINDINGS, SPLIT_HASH, side_file

GROUPS = {"cancer": [name for name in LABEL_NAMES if name != "normal"]}


def made_up(labels: np.ndarray, right: float, seed: int) -> Answers:
    """Answers that hit a share `right` of the labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(labels.size, len(LABEL_NAMES)))
    hit = rng.random(labels.size) < right
    logits[np.arange(labels.size), np.where(hit, labels, (labels + 1) % len(LABEL_NAMES))] += 3
    scores = np.exp(logits)
    return Answers(scores / scores.sum(axis=1, keepdims=True))


def refuse(answers: Answers, row: int, source: str) -> Answers:
    scores = answers.probabilities.copy()
    scores[row] = np.nan
    return dataclasses.replace(answers, probabilities=scores, refused={source: f"{source}: it is torn; repair it."})


def write_checkpoint(folder: Path, **corpus: object) -> dict[str, Any]:
    """config.json, weights of a few bytes, and the rules that made-up validation answers give."""
    folder.mkdir()
    cfg = {"input_size": [3, 192, 192], "mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"architecture": "legacy_xception", "label_names": LABEL_NAMES, "pretrained_cfg": cfg}
    write_json(folder / "config.json", config)
    (folder / "model.safetensors").write_bytes(b"bytes")
    labels = np.arange(80) % 4
    items = Items(labels, [f"v{i // 2}" for i in range(80)], [f"v{i}" for i in range(80)])
    rules = fit_rules(items, made_up(labels, 0.9, 5), LABEL_NAMES, coverage=0.9, class_groups=GROUPS)
    side = side_file(folder, LABEL_NAMES, **corpus) | rules.to_json()
    write_json(folder / "ct_xception.json", side)
    return side


def cross_validation(n: int, alike: int = 1) -> OutOfFold:
    labels = np.arange(n) // alike % 4
    items = Items(labels, [f"patient{i // 4:03d}" for i in range(n)], [f"any/{i:03d}.png" for i in range(n)])
    fold = np.arange(n) // 4 % 5 + 1
    folds = [{"split_hash": f"f{k}", "weights_sha256": str(k) * 64, "n": int((fold == k).sum())} for k in range(1, 6)]
    rules = {"majority": np.tile([0.25] * 4, (n, 1)), "nearest_body": made_up(labels, 0.6, 12).probabilities}
    answers = refuse(made_up(labels, 0.7, 7), 5, items.sources[5])
    record = {"name": "f01df01d", "folds": folds, "groups_origin": "pseudo-patients from look-alike slices"}
    return OutOfFold(Part(items, {PREDICTOR: answers}, rules, fold), record)


class ByWard:
    """In place of a survey: every other patient of four lies on the ward B, and the pictures of others come in two."""

    def published(self, sources: Sequence[str], *, own: bool = True) -> dict[str, list[str]]:
        patients = [number // 4 for number in range(len(sources))]
        likeness = ["far" if one % 3 else "near" for one in patients]
        return ({"alike": likeness} if own else {}) | {"ward": [f"ward *{'AB'[one % 2]}*" for one in patients]}


def evaluate(folder: Path, side: dict[str, Any], n: int = 60, alike: int = 1, known: Any = None) -> Metrics:
    """Write an evaluation of `n` items, one of them refused, with twins, folds, baselines and an audit.

    Of `alike` items in a row the class is the same: 4 give every patient one.
    """
    rng, labels = np.random.default_rng(0), np.arange(n) // alike % 4
    files = [encode_picture(rng.integers(0, 255, (32, 32), dtype=np.uint8)) for _ in range(n)]
    dataset = make_split(files, labels.tolist())
    has_twin = (labels == 2) & (np.arange(n) < n // 2)
    kept = [source for source, twin in zip(dataset["source"], has_twin, strict=True) if not twin]
    protocols = Protocols(
        has_twin=has_twin,
        deduplicated={"split_hash": "dedca11", "removed": n - len(kept)},
        out_of_fold=cross_validation(2 * n, alike),
        baselines={"majority": np.tile([0.25] * 4, (n, 1)), "grey_statistics": made_up(labels, 0.5, 11).probabilities},
        skipped={"frozen_features": "training began from random weights"},
        audit={"findings": FINDINGS, "corpus_hash": "c0ffee"},
    )
    answers = {
        PREDICTOR: refuse(made_up(labels, 0.93, 1), 3, dataset["source"][3]),
        STOCK_PIPELINE: made_up(labels, 0.85, 2),
    }
    sources = {"train": ["t"] * 100, "validation": ["v"] * 20, "test": dataset["source"][:]}
    split = {"name": SPLIT_HASH, "protocol": "published", "sources": sources}
    corpus = side["provenance"]["corpus"]
    return write_evaluation(
        Evaluation(folder, {"test": dataset}, split=split, corpus=corpus, protocols=protocols),
        answers,
        known=known,
    )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ct_xception.evaluation.measure.draw_evaluation", draw_nothing)
        evaluate(folder, write_checkpoint(folder))
    return folder


def test_the_evaluators_figures_are_found_again(evaluated: Path) -> None:
    evidence = read_evidence(evaluated)
    measured = {"baselines", "calibration", "conformal", "operating_points", "abstention", "questions", "protocols"}
    assert measured <= evidence.metrics.model_fields_set
    assert list(evidence.metrics.all_protocols) == ["published", "deduplicated", "grouped"]
    assert evidence.headline == "grouped"


def test_figures_by_patient_are_found_again_and_cannot_be_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    metrics = evaluate(
        folder, write_checkpoint(folder, groups={"count": 30, "origin": "column patient"}), alike=4
    ).to_json()
    assert set(metrics["by_patient"]) == {"published", "deduplicated", "grouped"}
    assert metrics["headline"]["by"] == "patient"
    assert read_evidence(folder).metrics.headline.by == "patient"  # type: ignore[union-attr]
    said = evaluation_summary(read_evidence(folder).metrics)
    assert said.count("by patient        accuracy") == 3 and said.endswith(
        f"{metrics['headline']['protocol']}, by patient"
    )
    text = render_card(folder)
    assert "images (95 % interval" in text.partition("slice by slice.")[0].rpartition("**")[2]
    lowest = min(metrics["by_patient"].values(), key=lambda found: found["accuracy"]["value"])["accuracy"]
    assert f"**Right on {100 * lowest['value']:.1f} % of {lowest['n']} patients" in text
    assert "## By slice, series and patient" in text and "read off the ROC curve" in text
    assert "| Protocol | Patients | Accuracy by patient | n | Accuracy |" in text
    error = metrics["by_patient"]["published"]["calibration"]["ece"]
    assert f"By patient, slices pooled (n = {error['n']}): expected calibration error {error['value']:.3f} (" in text
    drawn = {path.name for path in (folder / "evaluation").glob("*_patients.png")}
    assert drawn == {"confusion_matrix_patients.png", "roc_patients.png", "reliability_patients.png"}
    assert all(f"](evaluation/{name})" in text for name in drawn)
    assert said.count("calibration error by patient ") == 1
    listed = next(iter(yaml.safe_load(text.split("---")[1])["model-index"][0]["results"]))["metrics"][0]
    assert (listed["name"], listed["value"]) == (
        "Accuracy by patient, ct-xception predictor", round(lowest["value"], 4)
    )  # fmt: skip
    path = folder / "evaluation/metrics.json"
    write_json(path, {key: value for key, value in metrics.items() if key != "by_patient"})
    with pytest.raises(CheckpointError, match="has no figures by patient, which its answers tell"):
        read_evidence(folder)
    changed = copy.deepcopy(metrics)
    changed["by_patient"]["published"]["accuracy"]["value"] = 0.99
    write_json(path, changed)
    with pytest.raises(CheckpointError, match="the figures by patient of the published protocol"):
        read_evidence(folder)
    write_json(path, metrics | {"headline": metrics["headline"] | {"by": "slice"}})
    with pytest.raises(CheckpointError, match="the headline is by slice, and not by patient"):
        read_evidence(folder)


def test_the_worst_subgroup_is_found_again_and_told_with_how_many_were_looked_at(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("ct_xception.evaluation.measure.draw_evaluation", draw_nothing)
    folder = tmp_path / "model"
    side = write_checkpoint(folder, groups={"count": 30, "origin": "column patient"})
    metrics = evaluate(folder, side, alike=4, known=ByWard()).to_json()
    assert {name: block["compared"] for name, block in metrics["subgroups"].items()} == {
        "published": 4, "deduplicated": 4, "grouped": 2
    }  # fmt: skip
    worst = metrics["subgroups"]["grouped"]["worst"]
    assert worst["trait"] == "ward" and worst["n_groups"] == 15 and 0.05 < worst["chance"] <= 1
    assert read_evidence(folder).metrics.subgroups["grouped"].worst.value == worst["value"]
    answers = pandas.read_parquet(folder / "evaluation/predictions_grouped.parquet")
    assert set(answers["trait 1"]) == {0, 1} and "ward" not in answers.to_csv()  # named nowhere but where it is worst
    said = f"Worst of 2 subgroups looked at: ward, {worst['value']}: {100 * worst['accuracy']['value']:.1f} % right"
    assert said in evaluation_summary(read_evidence(folder).metrics)
    text = render_card(folder)
    assert (
        said.replace("*", r"\*") in text
        and f"slices of 15 patients), beside {100 * worst['rest']['value']:.1f} %" in text
    )
    assert "not beyond chance after correction for all 2 (p = " in text
    path = folder / "evaluation/metrics.json"
    for change in ({"chance": 0.9}, {"n": worst["n"] + 1}, {"trait": "alike"}):
        changed = copy.deepcopy(metrics)
        changed["subgroups"]["grouped"]["worst"] |= change
        write_json(path, changed)
        with pytest.raises(CheckpointError, match="the figures of subgroups of the grouped protocol"):
            read_evidence(folder)
    del metrics["subgroups"]["grouped"]
    write_json(path, metrics)
    with pytest.raises(CheckpointError, match="has no figures of subgroups, which its answers tell"):
        read_evidence(folder)


def test_the_card_tells_all_of_it_and_no_file_name(evaluated: Path) -> None:
    text = render_card(evaluated)
    for title in (
        "Leaks and shortcuts",
        "Calibration",
        "Prediction sets",
        "Operating points",
        "Mistakes",
        "Checklists",
    ):
        assert f"## {title}\n" in text
    assert "it is torn; repair it" in text and "case03" not in text and "patient0" not in text


def test_rules_that_the_figures_were_not_measured_with(evaluated: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(evaluated, tmp_path / "model"))
    path = folder / "ct_xception.json"
    side = json.loads(path.read_text())
    for point in side["operating_points"]:
        point["threshold"] = 0.5
    path.write_text(json.dumps(side))
    with pytest.raises(CheckpointError, match="figures of operating points"):
        read_evidence(folder)
