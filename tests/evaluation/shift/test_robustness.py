"""Changes that other scanners make: graded, seeded, air left black; and the figures, which are those of the answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import pytest

from ct_xception.checkpoint import METRICS, evaluated
from ct_xception.checkpoint_files import ConformalRule
from ct_xception.errors import CheckpointError
from ct_xception.evaluation.answers import Answers, Items
from ct_xception.evaluation.shift import changes
from ct_xception.evaluation.shift.changes import CHANGES, SEVERITIES
from ct_xception.evaluation.shift.robustness import CLEAN, KEYS, VALUE_KEYS, Tried, robustness_figures
from ct_xception.evaluation.shift.value_changes import VALUE_CHANGES
from ct_xception.imaging.reader import read_slice
from ct_xception.publish.card.markdown import fill_template, packaged_template

NAMES = ["a", "b"]


@pytest.fixture(scope="module")
def pixels(sample_slices: list[Path]) -> np.ndarray:
    return read_slice(sample_slices[0]).pixels


@pytest.mark.parametrize("name", CHANGES)
class TestChanges:
    def test_more_severe_is_farther_away(self, name: str, pixels: np.ndarray) -> None:
        made = [CHANGES[name](pixels, severity, np.random.default_rng(3)) for severity in SEVERITIES]
        assert all(one.dtype == np.uint8 and one.ndim == 2 for one in made)
        if made[0].shape != pixels.shape:
            assert len({one.shape for one in made}) == len(SEVERITIES)
            return
        far = [np.abs(one.astype(int) - pixels).mean() for one in made]
        assert 0 < far[0] and far == sorted(far)

    def test_a_seed_settles_it(self, name: str, pixels: np.ndarray) -> None:
        first, second = (CHANGES[name](pixels, 3, np.random.default_rng(5)) for _ in range(2))
        assert (first == second).all()

    def test_the_slice_itself_stays(self, name: str, pixels: np.ndarray) -> None:
        before = pixels.copy()
        CHANGES[name](pixels, 5, np.random.default_rng(0))
        assert (pixels == before).all()


@pytest.mark.parametrize("name", ["window_centre", "window_width", "noise", "streaks"])
def test_air_stays_black(name: str, pixels: np.ndarray) -> None:
    made = CHANGES[name](pixels, 5, np.random.default_rng(1))
    assert not made[pixels == 0].any()


def test_amounts_are_those_stated() -> None:
    flat = np.full((64, 64), 120, np.uint8)
    noisy = CHANGES["noise"](flat, 4, np.random.default_rng(0)).astype(float)
    assert noisy.std() == pytest.approx(15, rel=0.05) and noisy.mean() == pytest.approx(120, abs=1)
    moved = CHANGES["window_centre"](flat, 3, np.random.default_rng(0))
    assert set(np.unique(moved)) in ({120 + 25}, {120 - 25}, {146}, {94})
    assert CHANGES["framing"](flat, 3, np.random.default_rng(0)).shape == (76, 76)
    assert CHANGES["field_of_view"](flat, 2, np.random.default_rng(0)).shape == (58, 58)
    assert changes.SHOWN < 20


def test_figures_are_shares_of_the_same_slices_unchanged() -> None:
    """Four slices, three right unchanged; noise takes one more at each severity from the third on, the rest none."""
    labels = np.array([0, 0, 1, 1])
    right = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    worse = right.copy()
    worse[0] = [0.4, 0.6]
    verdicts = {"s0": "refused", "s1": "accepted", "s2": "accepted", "s3": "accepted"}
    answers = {
        key: Answers(worse if key[0] == "noise" and key[1] >= 3 else right, {}, verdicts if key[1] == 5 else {})
        for key in KEYS
    }
    tried = Tried(Items(labels, list("wxyz"), ["s0", "s1", "s2", "s3"]), answers)
    rule = ConformalRule(method="lac", coverage=0.9, threshold=0.65, n=20, n_groups=20)
    block = robustness_figures(tried, NAMES, rule, 0)
    assert block.clean.accuracy.value == 0.75 and block.n == 4
    noise = block.changes["noise"]
    assert [one.value for one in noise.accuracy] == [0.75, 0.75, 0.5, 0.5, 0.5]
    assert noise.relative.value == pytest.approx((2 * 1 + 3 * 2 / 3) / 5)
    assert block.changes["jpeg"].relative.value == 1
    assert block.relative.value == pytest.approx(1 - 3 / (3 * 5 * len(CHANGES)))
    # a class is in the set where its probability is at least 1 - 0.65
    assert block.clean.coverage.value == 1 and noise.coverage[4].value == 1
    assert KEYS[0] == (CLEAN, 0)


def test_changes_of_values_count_the_slices_that_allow_them() -> None:
    """Of four slices two hold HU, one right and one wrong unchanged; on another window the right one is wrong too."""
    labels, right = np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])
    silent = np.array([[0.4, 0.6], [0.2, 0.8], [np.nan] * 2, [np.nan] * 2])
    answers = {key: Answers(right) for key in KEYS}
    answers |= {key: Answers(silent, {"s2": "no", "s3": "no"}) for key in VALUE_KEYS if key[0] == "hu_window_width"}
    items = Items(labels, list("wxyz"), ["s0", "s1", "s2", "s3"])
    block = robustness_figures(Tried(items, answers), NAMES, None, 0)
    found = block.changes["hu_window_width"]
    assert [(one.n, one.value) for one in found.accuracy] == [(2, 0.0)] * 5
    lone = np.array([[np.nan] * 2, [0.2, 0.8], [np.nan] * 2, [np.nan] * 2])  # the one that is wrong unchanged
    refused = {"s0": "no", "s2": "no", "s3": "no"}
    wrong = {key: Answers(lone, refused) if key in VALUE_KEYS else one for key, one in answers.items()}
    none_right = robustness_figures(Tried(items, wrong), NAMES, None, 0)
    assert none_right.changes["hu_window_width"].relative.value is None
    told = fill_template(packaged_template("robustness.md.jinja"), {"robustness": none_right, "figures": ()})
    last = [line for line in told.splitlines() if line.startswith("| ")][-1]
    assert last.startswith("| window narrower or wider, on HU (n = 1) |") and "| none |" in last
    assert (found.relative.n, found.relative.value) == (2, 0.0) and block.relative.value == 1  # of pictures alone
    assert block.not_measurable == {
        "window centre moved, on HU": "no test slice holds HU",
        "thicker slices, neighbours averaged": VALUE_CHANGES["slice_thickness"].lacks,
    }


def test_a_checkpoint_is_tried_and_counted_again(tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    from ct_xception.publish.verify import read_evidence
    from tests.sealed import sealed_checkpoint

    folder = sealed_checkpoint(tmp_path / "model", tiny_checkpoint, tiny_corpus, robustness=3)
    evidence = read_evidence(folder)
    block = evidence.metrics.robustness
    assert block.n == 3 and len(block.changes["noise"].accuracy) == 5
    table = pandas.read_parquet(folder / "evaluation/robustness.parquet")
    assert len(table) == 3 * len(KEYS) and set(table["severity"]) == set(range(6))
    card = (folder / "README.md").read_text()
    assert "Not measurable here: window centre moved, on HU (no test slice holds HU)." in card
    assert "## Robustness" in card and "evaluation/robustness.png" in card
    metrics = json.loads((folder / evaluated(METRICS)).read_text())
    metrics["robustness"]["relative"]["value"] = 1.5
    (folder / evaluated(METRICS)).write_text(json.dumps(metrics))
    with pytest.raises(CheckpointError, match="the figures of robustness"):
        read_evidence(folder)


def test_series_in_hu_are_windowed_anew_and_made_thicker_and_counted_again(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    from ct_xception.evaluation.report.figures import evaluation_summary
    from ct_xception.phantom.corpus import generate_phantom
    from ct_xception.publish.verify import read_evidence
    from tests.sealed import sealed_checkpoint

    corpus = generate_phantom(tmp_path / "phantom", patients=12, slices_per_patient=12, size=64, dicom=True)
    folder = sealed_checkpoint(tmp_path / "model", tiny_checkpoint, corpus, robustness=6)
    metrics = read_evidence(folder).metrics
    block = metrics.robustness
    assert block.n == 6 and set(block.changes) == {*CHANGES, *VALUE_CHANGES} and not block.not_measurable
    assert block.changes["hu_window_centre"].relative.n == 6
    thick = block.changes["slice_thickness"].relative
    assert 0 < thick.n < 6  # the others lie too near to an end of their series
    assert (
        f"| thicker slices, neighbours averaged (n = {thick.n}) | 1.5 … 4 times" in (folder / "README.md").read_text()
    )
    assert "window centre moved, on HU" in evaluation_summary(metrics)
    path = folder / evaluated("robustness.parquet")
    table = pandas.read_parquet(path)
    table[(table["path"] != "slice_thickness") | (table["severity"] < 5)].to_parquet(path)
    with pytest.raises(CheckpointError, match="does not hold every change"):
        read_evidence(folder)
