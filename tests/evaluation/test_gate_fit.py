"""Fitting the input gate, on columns whose limits can be worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ct_xception.checkpoint import GATE
from ct_xception.checkpoint_files import GateRule, Side, need_side
from ct_xception.evaluation.gate_fit import (
    MOST,
    Seen,
    fit_gate,
    fit_limits,
    fit_signs,
    gate_figures,
    has_gate,
    sample,
    see_items,
    write_gate,
)
from ct_xception.files import write_json
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window
from ct_xception.metrics import GateMetrics
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.gate import Gate, Signs
from tests.closeness import assert_near


def make_seen(n: int, seed: int = 0, **columns: Any) -> Seen:
    rng = np.random.default_rng(seed)
    features = np.abs(rng.normal(size=(n, 16))).astype(np.float32)
    alike = {"heights": 200, "widths": 300, "bodies": 0.5, "lungs": True, "modalities": None, "windows": None}
    return Seen(features, **{name: columns.get(name, (value,) * n) for name, value in alike.items()})


def test_limits_by_hand() -> None:
    distances = np.array([0.5, 0.9, 1.0, 1.1, 1.5])  # the 95 % quantile: 1.1 + 0.8 * (1.5 - 1.1)
    assert fit_limits(distances) == pytest.approx({"usual": 1.0, "doubtful": 1.42, "refused": 2.4})
    wide = np.array([0.5, 0.9, 1.0, 1.1, 9.0])
    assert fit_limits(wide)["refused"] == fit_limits(wide)["doubtful"] == pytest.approx(1.1 + 0.8 * 7.9)


def test_features_that_hardly_ever_fire_leave_a_gate() -> None:
    """As of a network most of whose features are dead: fewer directions vary than components are asked for."""
    columns = make_seen(80).features
    columns[:, 3:] = 0
    columns[0, 15] = 1e-4
    train = Seen(columns, *make_seen(80)._columns())
    rule, arrays = fit_gate(train, train, weights_sha256="x")
    gate = Gate.read(rule, arrays)
    assert len(gate.distance.components) < 12 and gate.usual > 0
    inside = gate.distance(columns)
    assert np.isfinite(inside).all() and (inside < gate.refused).mean() >= 0.95
    foreign = np.zeros((1, 16), np.float32)
    foreign[0, 9] = 2.0
    assert gate.distance(foreign)[0] > gate.refused


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_there_is_no_gate_where_the_network_makes_the_same_of_everything(value: float) -> None:
    seen = Seen(np.full((40, 16), value, np.float32), *make_seen(40)._columns())
    rule, arrays = fit_gate(seen, seen, weights_sha256="x")
    assert rule.method is None and "the same of every slice" in rule.reason and not arrays


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(("change", "fitted"), [(1e-5, True), (1e-8, False)])
def test_what_float32_tells_is_fitted_whatever_the_features_size(scale: float, change: float, fitted: bool) -> None:
    """A network little trained moves its features by a 1e-5th of them from slice to slice; float32 tells as much."""
    own = make_seen(80).features
    columns = (scale * (1 + change * own)).astype(np.float32)
    seen = Seen(columns, *make_seen(80)._columns())
    rule, arrays = fit_gate(seen, seen, weights_sha256="x")
    assert (rule.method is not None) == fitted == bool(arrays)
    if fitted:
        other = (scale * (1 + change * np.roll(own, 1, axis=1) * 20)).astype(np.float32)
        gate = Gate.read(rule, arrays)
        assert (gate.distance(columns) < gate.refused).mean() >= 0.95 and gate.distance(other).min() > gate.refused


def test_signs_by_hand() -> None:
    train = make_seen(
        4,
        heights=(200, 100, 300, 400),
        widths=(200, 300, 300, 200),
        bodies=(0.5, 0.5, 0.5, 0.9),
        modalities=("CT", "PT", None, ""),
        windows=(Window(40, 400), Window(-600, 1500), Window(40, 400), None),
    )
    found = fit_signs(train, make_seen(4), body_crop=True)
    windows = (Window(40, 400), Window(-600, 1500))
    assert found == Signs(("CT", "PT"), pytest.approx(0.5), 0.5, (100, 400), (0.5, 3.0), windows)


@pytest.mark.parametrize(("lungless", "weight"), [(0, 0.5), (2, 0.5), (3, 0.25), (10, 0.25), (11, 0.0)])
def test_the_rarer_slices_without_lungs_are_the_more_it_weighs_to_show_none(lungless: int, weight: float) -> None:
    lungs = (False,) * lungless + (True,) * (90 - lungless)
    assert fit_signs(make_seen(90, lungs=lungs), make_seen(10), body_crop=True).lungs == weight


def test_nothing_is_said_of_bodies_where_training_often_shows_none_or_nobody_looked() -> None:
    often = make_seen(10, bodies=(0.0, *(0.5,) * 9))
    assert fit_signs(often, make_seen(4), body_crop=True).body is None
    assert fit_signs(make_seen(10), make_seen(4), body_crop=False).body is None


def test_a_fitted_gate_is_read_again_and_tells_its_own_from_others(tmp_path: Path) -> None:
    train = make_seen(80)
    rule, arrays = fit_gate(train, make_seen(30, seed=1), weights_sha256="abc")
    write_json(tmp_path / "ct_xception.json", {"format": 1, "provenance": {"weights_sha256": "abc"}})
    write_gate(tmp_path, rule, arrays)
    side = need_side(tmp_path)
    assert has_gate(side) and side.gate.fitted_on.to_json() == {"split": "train", "n": 80} and side.format == 2
    gate = Gate.of(side, tmp_path)
    assert gate is not None
    known, other = gate.distance(make_seen(50, seed=2).features), gate.distance(-make_seen(50, seed=3).features)
    assert (known < gate.refused).mean() > 0.9 and (other > gate.refused).all()
    again, _ = fit_gate(train, make_seen(30, seed=1), weights_sha256="abc")
    assert again == rule


@pytest.mark.parametrize(
    ("train", "validation", "reason"),
    [(11, 30, "11 training slices, where 12 are needed"), (80, 3, "3 validation slices, where 4 are needed")],
)
def test_too_little_to_fit_is_said_and_no_gate(train: int, validation: int, reason: str, tmp_path: Path) -> None:
    rule, arrays = fit_gate(make_seen(train), make_seen(validation), weights_sha256="abc")
    assert rule.method is None and rule.reason == reason and not arrays
    write_json(tmp_path / "ct_xception.json", {"provenance": {"weights_sha256": "abc"}})
    (tmp_path / GATE).write_bytes(b"of other weights")
    write_gate(tmp_path, rule, arrays)
    side = need_side(tmp_path)
    assert has_gate(side) and Gate.of(side, tmp_path) is None and not (tmp_path / GATE).exists()
    assert gate_figures(rule, [None] * 3, ["a", "b", "c"]) == GateMetrics(rule=rule)


@pytest.mark.parametrize(
    "side",
    [
        {},
        {"provenance": {"weights_sha256": "a"}},
        {"provenance": {"weights_sha256": "a"}, "gate": {"method": None, "weights_sha256": "b"}},
    ],
)
def test_a_gate_of_other_weights_is_none(side: dict[str, Any]) -> None:
    assert not has_gate(Side.of(side))


def test_figures_count_what_was_judged() -> None:
    verdicts = ["refused", "accepted", None, "doubtful", "accepted"]
    found = gate_figures(GateRule(method="mahalanobis"), verdicts, list("abcde"))
    assert (found.refused.value, found.refused.n) == (0.25, 4) and found.doubtful.value == 0.25
    assert found.refused.low < 0.25 < found.refused.high


def test_a_large_corpus_is_sampled() -> None:
    assert sample(5).tolist() == [0, 1, 2, 3, 4]
    rows = sample(3 * MOST, seed=1)
    assert len(set(rows.tolist())) == MOST and (np.diff(rows) > 0).all() and rows.max() >= 2 * MOST
    assert (rows == sample(3 * MOST, seed=1)).all()


def test_shards_are_joined_in_order() -> None:
    whole = make_seen(6, heights=tuple(range(6)))
    parts = [
        Seen(whole.features[rows], *(column[rows] for column in whole._columns())) for rows in (slice(4), slice(4, 6))
    ]
    nothing = Seen(np.zeros((0, 0), np.float32))
    joined = Seen.join([parts[0], nothing, parts[1]])
    assert (joined.features == whole.features).all() and joined._columns() == whole._columns()


def test_slices_are_seen_as_the_predictor_sees_them(tiny_checkpoint: Path, sample_slices: list[Path]) -> None:
    classifier = Classifier.from_pretrained(tiny_checkpoint)
    items = [{"source": path.name, "image": {"path": str(path), "bytes": None}} for path in sample_slices]
    torn = {"source": "torn.png", "image": {"path": "torn.png", "bytes": b"torn"}}
    seen = see_items(classifier, [items[0], torn, *items[1:]], batch_size=2)
    answers = classifier(sample_slices)
    expected = np.stack([answer.outputs.features for answer in answers if answer.outputs])
    assert_near(seen.features, expected)
    assert seen.heights == (96,) * 5 and seen.widths == (112,) * 5 and all(seen.lungs)
    slice_: Slice = read_slice(sample_slices[0])
    box = classifier.prepare(slice_).crop.box
    assert seen.bodies[0] == box.height * box.width / slice_.pixels.size and 0.5 < seen.bodies[0] < 1
    assert seen.windows == seen.modalities == (None,) * 5
