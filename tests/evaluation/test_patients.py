"""Figures by patient and by series: what is pooled, what is left out, and how it is decided on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ct_xception.checkpoint_files import PoolingRule, Side, read_side, seal, write_side
from ct_xception.errors import CheckpointError, InputError
from ct_xception.evaluation.answers import PREDICTOR, Answers, Items
from ct_xception.evaluation.measure import Given, measure
from ct_xception.evaluation.patients import fit_unit_rules, knows_patients, unit_figures, units_of
from ct_xception.evaluation.predictions import Names, write_predictions
from ct_xception.evaluation.protocols import GROUPED, Part
from ct_xception.metrics import Headline
from ct_xception.serving.decisions import Decisions
from ct_xception.statistics.operating import sensitivity_figures

NAMES = ["covid", "other"]


def part_of(rows: list[tuple[str, str, int, float]], **more: object) -> Part:
    """Slices of (patient, series, label, probability of class 0)."""
    patients, series, labels, first = (list(column) for column in zip(*rows, strict=True))
    items = Items(np.array(labels), patients, [f"s{row}" for row in range(len(rows))], series)
    return Part(items, {PREDICTOR: Answers(np.stack([first, 1 - np.array(first)], axis=1))}, **more)


ROWS = [
    ("a", "1", 0, 0.9), ("a", "1", 0, 0.4), ("a", "2", 0, 0.3),  # right together, wrong by two of its slices
    ("b", "1", 1, 0.2), ("b", "1", 1, 0.1),
    ("c", "1", 0, 0.6), ("c", "1", 1, 0.6),  # of two classes: nobody's answer is right
    ("d", "1", 1, 0.7),
]  # fmt: skip


def pooled_by(method: str, temperature: float = 1.0) -> PoolingRule:
    return PoolingRule(version=1, unit="patient", method=method, temperature=temperature)


def test_calibration_by_patient_is_of_the_pooled_answers() -> None:
    """Two patients sure of 0.9, one of them wrong, and one of 0.6, right: gaps of 0.4 of two and 0.4 of one."""
    rows = [(name, "1", label, first) for name, label, first in (("a", 0, 0.9), ("b", 1, 0.9), ("c", 0, 0.6))] * 2
    found = unit_figures({"made": part_of(rows)}, None, NAMES, patients_known=True)["by_patient"]["made"].calibration
    assert [(one.n, one.accuracy.value) for one in found.bins] == [(1, 1.0), (2, 0.5)]
    assert [one.confidence for one in found.bins] == pytest.approx([0.6, 0.9])
    assert (found.ece.n, found.ece.value) == (3, pytest.approx(0.4))


def test_slices_are_pooled_by_patient_and_by_the_series_of_each() -> None:
    found = unit_figures({"made": part_of(ROWS)}, None, NAMES, patients_known=True)
    patients, series = found["by_patient"]["made"], found["by_series"]["made"]
    assert (patients.n, patients.n_slices, patients.several, patients.mixed) == (3, 6, 3, 1)
    assert patients.accuracy.value == pytest.approx(2 / 3)
    odds = np.cbrt(9 * (0.4 / 0.6) * (0.3 / 0.7))
    losses = -np.log([odds / (1 + odds), 1 / (1 + np.sqrt(0.25 / 9)), 0.3])
    assert patients.log_loss.value == pytest.approx(losses.mean())
    assert series.n == 4 and series.n_groups == 3  # a's two series are one patient's
    assert series.accuracy.value == pytest.approx(2 / 4)
    assert patients.rule is None and patients.conformal is None


def test_what_was_refused_leaves_its_patient_to_the_other_slices() -> None:
    part = part_of(ROWS)
    answers = part.paths[PREDICTOR].probabilities.copy()
    answers[[0, 7]] = np.nan
    refused = Part(part.items, {PREDICTOR: Answers(answers, {"s0": "torn", "s7": "torn"})})
    found = unit_figures({"made": refused}, None, NAMES, patients_known=True)["by_patient"]["made"]
    assert (found.n, found.refused) == (2, 1)
    assert found.accuracy.value == pytest.approx(1 / 2)  # a is wrong without its first slice


def test_only_what_the_corpus_tells_is_pooled() -> None:
    items = part_of(ROWS).items
    assert set(units_of(items, patients_known=False)) == {"series"}
    gaps = Items(items.labels, items.groups, items.sources, [""] + items.series[1:])
    assert units_of(gaps, patients_known=False) == {}
    for origin, known in (("column patient", True), ("series", False), (None, False)):
        assert knows_patients({"groups": {"origin": origin}}) is known
    assert not knows_patients({"groups": {"origin": "pseudo-patients from look-alike slices"}})
    assert knows_patients({"groups": {"origin": "DICOM PatientID"}}) and not knows_patients(None)


def test_folds_are_pooled_by_their_own_networks_rules() -> None:
    rows = [("a", "", 0, 0.9), ("a", "", 0, 0.4), ("b", "", 1, 0.9), ("b", "", 1, 0.4)]
    rules = {1: pooled_by("mean"), 2: pooled_by("top_1")}
    part = part_of(rows, fold=np.array([1, 1, 2, 2]), pooling=rules)
    found = unit_figures({GROUPED: part}, pooled_by("noisy_or", 9.0), NAMES, patients_known=True)
    losses = -np.log([0.65, 0.6 / 1.5])
    assert found["by_patient"][GROUPED].log_loss.value == pytest.approx(losses.mean())


def many(patients: int = 60, slices: int = 4, seed: int = 0) -> tuple[Items, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(patients) % 2, slices)
    logit = (
        np.where(labels == 0, 1.2, -1.2) + np.repeat(rng.normal(0, 1, patients), slices) + rng.normal(0, 1, len(labels))
    )
    groups = [f"p{number:03d}" for number in np.repeat(np.arange(patients), slices)]
    first = 1 / (1 + np.exp(-logit))
    return Items(labels, groups, [f"s{row}" for row in range(len(labels))]), np.stack([first, 1 - first], axis=1)


def test_the_rule_of_a_checkpoint_is_fitted_sealed_and_read_again(tmp_path: Path) -> None:
    items, scores = many()
    rule = fit_unit_rules(items, scores, NAMES, patients_known=True, coverage=0.8)
    assert rule is not None and rule.unit == "patient" and rule.n_groups == rule.conformal.n_groups == 60
    write_side(tmp_path, Side(pooling=rule))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    seal(tmp_path)
    side = read_side(tmp_path)
    assert side is not None
    pooling = Decisions.of(side, NAMES).pooling
    assert pooling.calibrated and pooling.unit == "patient" and pooling.temperature == rule.temperature
    assert pooling.decisions is not None and pooling.decisions.conformal is not None
    assert len(pooling.decisions.operating_points) == 4
    text = (tmp_path / "ct_xception.json").read_text()
    (tmp_path / "ct_xception.json").write_text(text.replace('"unit": "patient"', '"unit": "series"'))
    with pytest.raises(CheckpointError, match="its own seal"):
        read_side(tmp_path)


@pytest.mark.parametrize("change", [{"version": 2}, {"method": "transformer"}])
def test_a_rule_of_a_later_version_is_passed_over(change: dict) -> None:
    rule = fit_unit_rules(*many(), NAMES, patients_known=True, coverage=0.8)
    pooling = Decisions.of(Side.of({"pooling": rule.to_json() | change}), NAMES).pooling
    assert (pooling.unit, pooling.temperature, pooling.decisions) == (None, 1.0, None)


@pytest.mark.parametrize("change", [{"temperature": 0.0}, {"temperature": float("inf")}, {"unit": 3}, {"version": -1}])
def test_a_rule_out_of_range_is_refused(change: dict) -> None:
    rule = fit_unit_rules(*many(), NAMES, patients_known=True, coverage=0.8)
    with pytest.raises(CheckpointError):
        Side.of({"pooling": rule.to_json() | change})


def test_nothing_is_fitted_where_no_unit_is_known_and_nothing_promised_where_patients_cross() -> None:
    items, scores = many()
    assert fit_unit_rules(items, scores, NAMES, patients_known=False, coverage=0.8) is None
    crossing = fit_unit_rules(items, scores, NAMES, patients_known=True, coverage=0.8, crossing=True)
    assert crossing is not None and crossing.conformal is None and crossing.operating_points


def test_the_headline_is_by_patient_where_patients_have_several_slices() -> None:
    rule = pooled_by("mean")
    names = Names([f"s{row}" for row in range(8)], anonymous=True)

    def headline(rows: list, known: bool) -> Headline:
        given = Given({"made": part_of(rows)}, NAMES, Side(pooling=rule), names, patients_known=known)
        return measure(given)[1].headline

    assert headline(ROWS, True) == Headline(protocol="made", path=PREDICTOR, by="patient")
    assert headline(ROWS, False).by == "slice"
    assert headline([ROWS[0], ROWS[3], ROWS[7]], True).by == "slice"  # one slice a patient


def test_published_answers_hold_numbers_for_series(tmp_path: Path) -> None:
    import pandas

    part = part_of([("Doe", "1.2.3", 0, 0.9), ("Doe", "", 0, 0.4), ("Abe", "1.2.1", 1, 0.2)])
    write_predictions(tmp_path / "p.parquet", part, NAMES, Names(part.items.sources, anonymous=True))
    table = pandas.read_parquet(tmp_path / "p.parquet")
    assert table["group"].tolist() == ["group 000001", "group 000001", "group 000000"]
    assert table["series"].isna().tolist() == [False, True, False]
    assert all(name.startswith("series 00000") for name in table["series"].dropna())


def test_sensitivity_at_false_positives_by_hand() -> None:
    """Ten of each class: the third positive stands behind the first negative, and the fourth ties with the second."""
    positive = [0.9, 0.85, 0.7, 0.6] + [0.1] * 6
    negative = [0.8, 0.6] + [0.05] * 8
    scores = np.array(positive + negative)
    found = sensitivity_figures(np.stack([scores, 1 - scores], axis=1), np.repeat([0, 1], 10), NAMES, resamples=50)
    assert [found["covid"][rate].value for rate in ("0.05", "0.1", "0.2")] == pytest.approx([0.2, 0.3, 1.0])


def test_what_else_answers_is_pooled_beside_it() -> None:
    part = part_of(ROWS)
    stock = Answers(np.roll(part.paths[PREDICTOR].probabilities, 1, axis=1))  # wrong wherever ours is right
    rules = {"majority": np.tile([0.4, 0.6], (8, 1))}
    both = Part(part.items, {**part.paths, "stock_pipeline": stock}, rules)
    found = unit_figures({"made": both}, pooled_by("mean", 0.5), NAMES, patients_known=True)
    patients = found["by_patient"]["made"]
    assert set(patients.beside) == {"stock_pipeline", "majority"}
    assert patients.beside["stock_pipeline"].accuracy.value == pytest.approx(1 - patients.accuracy.value)
    assert patients.beside["majority"].accuracy.value == pytest.approx(2 / 3)  # of a, b and d, two are other
    assert patients.beside["majority"].n == 3 and not found["by_series"]["made"].beside


def test_attention_scores_pool_the_figures_and_their_absence_is_said() -> None:
    part = part_of(ROWS)
    scores = np.array([5.0, 0, 0, 0, 0, 0, 0, 0])
    attended = Part(part.items, {PREDICTOR: Answers(part.paths[PREDICTOR].probabilities, attention=scores)})
    found = unit_figures({"made": attended}, pooled_by("attention"), NAMES, patients_known=True)["by_patient"]["made"]
    assert found.accuracy.value == pytest.approx(2 / 3) and found.rule is not None and found.rule.method == "attention"
    losses = -np.log([0.8948, 1 / (1 + np.sqrt(0.25 / 9)), 0.3])  # a by its first slice, nearly
    assert found.log_loss.value == pytest.approx(losses.mean(), abs=1e-3)
    with pytest.raises(InputError, match="no attention scores"):
        unit_figures({"made": part}, pooled_by("attention"), NAMES, patients_known=True)
