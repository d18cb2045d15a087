"""Simple rules: each sees only what it may see, answers as its reference does, and is compared on the same items."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ct_xception.audit.survey import Survey
from ct_xception.evaluation.baselines import (
    BASELINE_FIGURES,
    BASELINES,
    COLUMN_RULES,
    baseline_figures,
    describe_baselines,
    linear_probabilities,
    nearest_neighbours,
    out_of_fold_baselines,
    run_baselines,
    write_baselines,
)
from ct_xception.metrics import BaselineMetrics, ClassificationMetrics
from ct_xception.statistics import forest
from tests.metrics import metric

NAMES = ["benign", "malignant", "normal"]
PER_CLASS = 30


@pytest.fixture(scope="module", autouse=True)
def small_forests() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forest, "TREES", 20)
        yield


@pytest.fixture(scope="module")
def survey() -> Survey:
    """90 images whose class only the file's width (attributes), and only the first 60's body crop, give away."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), PER_CLASS).reshape(3, -1).T.ravel().astype(np.intp)
    n = labels.size
    faces = rng.integers(0, 255, (3, 96, 96))
    aligned = np.clip(faces[labels] + rng.normal(0, 40, (n, 96, 96)), 0, 255).astype(np.uint8)

    def noise(name: str) -> dict[str, np.ndarray]:
        return {f"{name}_{k}": rng.normal(size=n) for k in range(4)}

    return Survey(
        sources=[f"s{k}.png" for k in range(n)], splits=["train"] * 60 + ["test"] * 30, labels=labels,
        label_names=NAMES, groups=[f"patient {k // 3}" for k in range(n)], groups_known=True,
        byte_hash=[str(k) for k in range(n)], pixel_hash=[str(k) for k in range(n)], aligned=aligned,
        raw=rng.integers(0, 255, (n, 64, 64)).astype(np.uint8), detail=np.zeros((n, 128, 128), np.uint8),
        boxes=np.tile(np.array([0, 1, 0, 1], np.float32), (n, 1)),
        attributes=noise("a") | {"width": 100.0 + 50 * labels}, statistics=noise("s"), border=noise("b"),
        foreign=noise("f"), windows=["8-bit"] * n, metadata={}, failed={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def answers(survey: Survey) -> dict[str, np.ndarray]:
    return run_baselines(survey, range(60), range(60, 90))


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())


def test_each_rule_finds_what_it_may_see_and_no_more(survey: Survey, answers: dict[str, np.ndarray]) -> None:
    found = {name: accuracy(probabilities, survey.labels[60:]) for name, probabilities in answers.items()}
    assert found["nearest_body"] == 1 and found["file_attributes"] > 0.9
    assert found["majority"] == pytest.approx(1 / 3)
    assert all(found[name] < 0.7 for name in ("grey_statistics", "border", "nearest_raw"))


def test_every_rule_gives_probabilities_and_the_same_ones_again(survey: Survey, answers: dict[str, np.ndarray]) -> None:
    features = np.random.default_rng(1).normal(size=(90, 8)).astype(np.float32)
    rows = [{"age": str(40 + 9 * int(label) + number % 7)} for number, label in enumerate(survey.labels)]
    again = run_baselines(survey, range(60), range(60, 90), features=features, rows=rows)
    assert tuple(again) == BASELINES
    assert tuple(answers) == BASELINES[:-3]  # without features there is no frozen network, and without rows no columns
    assert all(accuracy(again[name], survey.labels[60:]) == 1 for name in COLUMN_RULES)  # ages 40-46, 49-55, 58-64
    for name, probabilities in again.items():
        assert probabilities.shape == (30, 3) and np.allclose(probabilities.sum(axis=1), 1), name
        if name in answers:
            assert np.array_equal(probabilities, answers[name]), name


def test_majority_is_the_share_of_each_class_in_train(survey: Survey) -> None:
    train = np.flatnonzero(survey.labels[:60] == 1).tolist() + [0]  # 20 malignant, 1 benign
    assert run_baselines(survey, train, [70])["majority"] == pytest.approx(np.array([[1 / 21, 20 / 21, 0]]))


def test_a_class_that_train_lacks_gets_nothing(survey: Survey) -> None:
    train = np.flatnonzero(survey.labels[:60] != 2)
    for name, probabilities in run_baselines(survey, train, range(60, 90), features=np.eye(90)[:, :5]).items():
        assert probabilities.shape == (30, 3) and (probabilities[:, 2] == 0).all(), name


def test_an_unreadable_item_teaches_nothing_and_gets_the_shares_of_train(survey: Survey) -> None:
    from dataclasses import replace

    attributes = {name: np.where(np.arange(90) == 70, np.nan, column) for name, column in survey.attributes.items()}
    broken = replace(survey, failed={"s0.png": "empty", "s70.png": "empty"}, attributes=attributes)
    found = run_baselines(broken, range(60), [69, 70])
    assert found["majority"][1] == pytest.approx(np.array([19, 20, 20]) / 59)
    assert all(np.array_equal(probabilities[1], found["majority"][1]) for probabilities in found.values())
    assert found["nearest_body"][0].max() == 1


def test_nearest_neighbour_agrees_with_scikit_learn_in_any_block(survey: Survey) -> None:
    train, test = np.arange(60), np.arange(60, 90)
    rows = survey.raw.reshape(90, -1).astype(float)
    reference = NearestNeighbors(n_neighbors=1, metric="correlation").fit(rows[train]).kneighbors(rows[test])[1].ravel()
    for block in (7, 1024):
        assert np.array_equal(nearest_neighbours(survey.raw, train, test, block=block)[0], reference)


def test_of_equal_pictures_the_first_is_taken_and_a_flat_one_breaks_nothing() -> None:
    rng = np.random.default_rng(3)
    pictures = rng.integers(0, 255, (5, 64, 64)).astype(np.uint8)
    pictures[2] = pictures[1]
    pictures[3] = 90
    pictures[4] = pictures[1] // 2 + 20  # another brightness and contrast
    assert nearest_neighbours(pictures, np.array([0, 3, 1, 2]), np.array([4]), block=1)[0].tolist() == [2]
    assert nearest_neighbours(pictures, np.array([1]), np.array([2, 4]))[1] == pytest.approx(1, abs=1e-3)
    assert nearest_neighbours(pictures, np.array([0, 1]), np.array([3]))[0].tolist() == [0]


def test_logistic_regression_agrees_with_scikit_learn_where_there_are_more_features_than_items() -> None:
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], 10)
    values, asked = rng.normal(size=(20, 50)) + labels[:, None], rng.normal(size=(6, 50))
    members = np.array(["one"] * 20)  # one patient: the penalty cannot be chosen, and is 0.01
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000, tol=1e-8)).fit(values, labels)
    found = linear_probabilities(values, labels, asked, 3, groups=members)
    assert found[:, :2] == pytest.approx(reference.predict_proba(asked), abs=1e-3)
    assert (found[:, 2] == 0).all()


def test_penalty_is_chosen_without_a_patient_on_both_sides() -> None:
    """Features that name the patient look perfect by slice and are worth nothing by patient: more penalty is right."""
    rng = np.random.default_rng(7)
    patient = np.repeat(np.arange(40), 4)
    labels = np.arange(40)[patient] % 2
    values = np.eye(40)[patient] + rng.normal(0, 0.05, (160, 40))
    asked = values[:4]
    by_patient = linear_probabilities(values, labels, asked, 2, groups=patient.astype(object))
    by_slice = linear_probabilities(values, labels, asked, 2)
    assert by_patient[:, 0].mean() + 0.05 < by_slice[:, 0].mean()


def test_out_of_fold_answers_come_from_the_fold_that_left_them_out(survey: Survey) -> None:
    folds = [(range(30, 90), range(30)), (range(30), range(30, 60))]
    found = out_of_fold_baselines(survey, folds, seed=2)
    for train, test in folds:
        alone = run_baselines(survey, train, test, seed=2)
        assert all(np.array_equal(found[name][np.array(test)], alone[name]) for name in alone)
    assert all(np.isnan(probabilities[60:]).all() for probabilities in found.values())


def one_hot(classes: list[int]) -> np.ndarray:
    return np.eye(3)[classes]


def test_figures_are_scikit_learns_and_the_best_is_compared_on_the_items_that_the_model_answered() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2, 2, 2, 1, 0] * 8)
    rule, poor = truth.copy(), np.zeros_like(truth)
    rule[::5] = (rule[::5] + 1) % 3
    model = one_hot(truth.tolist())
    model[:4] = np.nan  # refused
    block = baseline_figures(
        {"nearest_body": one_hot(rule.tolist()), "majority": one_hot(poor.tolist())}, truth, NAMES, model, seed=1
    )
    kept = slice(4, None)
    figures = block.figures["nearest_body"]
    assert (
        list(block.figures) == ["majority", "nearest_body"] and tuple(BaselineMetrics.model_fields) == BASELINE_FIGURES
    )
    assert figures.accuracy.value == pytest.approx(accuracy_score(truth[kept], rule[kept]))
    assert figures.accuracy.n == 76
    assert figures.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(truth[kept], rule[kept]))
    assert figures.macro_f1.value == pytest.approx(f1_score(truth[kept], rule[kept], average="macro"))
    assert block.best == "nearest_body"
    assert block.difference.value == pytest.approx(1 - accuracy_score(truth[kept], rule[kept]))
    assert block.beats_best and block.difference.low > 0
    assert block.mcnemar.c == 0


def test_a_model_that_is_a_little_better_does_not_beat_the_best_rule() -> None:
    rng = np.random.default_rng(11)
    truth = rng.integers(0, 3, 60)
    rule, model = truth.copy(), truth.copy()
    rule[:8], model[8:14] = (rule[:8] + 1) % 3, (model[8:14] + 1) % 3
    skipped = {"frozen_features": "the network that training started from is random"}
    block = baseline_figures({"border": one_hot(rule)}, truth, NAMES, one_hot(model), skipped=skipped)
    own = ClassificationMetrics(n=60, **{name: metric(0.9, 0.8, 0.95, 60) for name in BASELINE_FIGURES})
    text = describe_baselines(block, own)
    assert not block.beats_best
    assert "does not beat the best simple rule (what lies outside the body alone) by more than the interval" in text
    assert "n = 60" in text.splitlines()[-1]
    assert "> the model" in text and text.index("the model") < text.index("what lies outside")  # best first
    assert "frozen starting features: not run, the network that training started from is random" in text


def test_a_model_that_is_worse_is_said_to_be_below() -> None:
    truth = np.arange(60) % 3
    block = baseline_figures({"border": one_hot(truth)}, truth, NAMES, one_hot((truth + (np.arange(60) < 30)) % 3))
    own = ClassificationMetrics(n=60, **{name: metric(0.5) for name in BASELINE_FIGURES})
    assert "The model is below the best simple rule" in describe_baselines(block, own)


def test_a_group_counts_once_in_the_comparison() -> None:
    """Ten slices of each patient are answered alike: by patient the interval must be wider than by slice."""
    truth = np.repeat(np.arange(12) % 3, 10)
    rule = np.where(np.arange(120) < 40, (truth + 1) % 3, truth)
    patients = [str(k // 10) for k in range(120)]
    answers = {"border": one_hot(rule)}
    by_slice = baseline_figures(answers, truth, NAMES, one_hot(truth)).difference
    by_patient = baseline_figures(answers, truth, NAMES, one_hot(truth), groups=patients).difference
    assert by_patient.high - by_patient.low > 1.5 * (by_slice.high - by_slice.low)


def test_answers_are_written_one_a_row_with_groups_numbered(tmp_path: Path, answers: dict[str, np.ndarray]) -> None:
    block = {
        "sources": [f"item {k:06d}" for k in range(30)],
        "groups": [f"Miller {k // 3}" for k in range(30)],
        "labels": np.arange(30) % 3,
        "answers": answers,
    }
    write_baselines(tmp_path / "baselines.parquet", {"made": block, "deduplicated": block}, NAMES)
    table = pyarrow.parquet.read_table(tmp_path / "baselines.parquet")
    wanted = ["source", "protocol", "baseline", "group", "label", "predicted", "p benign", "p malignant", "p normal"]
    assert table.column_names == wanted
    rows = table.to_pylist()
    assert len(rows) == 2 * len(answers) * 30
    assert "Miller" not in str(rows)
    row = next(row for row in rows if row["baseline"] == "file_attributes" and row["source"] == "item 000004")
    assert row["label"] == "malignant" and row["group"] == "group 000001"
    assert row["p malignant"] == answers["file_attributes"][4, 1]
    assert row["predicted"] == NAMES[int(answers["file_attributes"][4].argmax())]


@pytest.mark.real_corpus
def test_nearest_neighbours_score_on_the_reference_corpus_what_is_known(reference_corpus: Path) -> None:
    """1-NN on the 315 test images: 44.4 % on raw 64 px, at least 300 right after the body crop at 96 px."""
    from ct_xception.audit.survey import ALIGNED_SIDE, RAW_SIDE, thumbnail
    from ct_xception.corpus.load import load_corpus
    from ct_xception.imaging.body.crop import crop_body
    from ct_xception.imaging.reader import read_slice

    splits = load_corpus(str(reference_corpus)).dataset
    items = [item for split in ("train", "test") for item in splits[split]]
    slices = [read_slice(item["image"]["path"]) for item in items]
    labels = np.array([item["label"] for item in items])
    train, test = np.arange(613), np.arange(613, 928)
    found = {}
    for name, pictures in (
        ("raw", [thumbnail(slice_.pixels, RAW_SIDE) for slice_ in slices]),
        ("body", [thumbnail(crop_body(slice_).slice.pixels, ALIGNED_SIDE) for slice_ in slices]),
    ):
        places, _ = nearest_neighbours(np.stack(pictures), train, test)
        found[name] = int((labels[train][places] == labels[test]).sum())
    assert found["body"] >= 300
    assert found["raw"] == pytest.approx(140, abs=2)
