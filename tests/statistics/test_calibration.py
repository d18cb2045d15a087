"""Temperature and calibration figures against scikit-learn, scipy, torch and closed forms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from ct_xception.errors import InputError
from ct_xception.statistics.calibration import (
    BINS,
    TEMPERATURES,
    adaptive_edges,
    apply_temperature,
    calibration_figures,
    fit_temperature,
)
from tests.evaluation.answers import draw_answers


class TestTemperature:
    @pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
    def test_recovers_the_temperature_that_answers_were_spoilt_by(self, true: float) -> None:
        calibrated, labels = draw_answers(8000, seed=1)
        assert fit_temperature(apply_temperature(calibrated, 1 / true), labels) == pytest.approx(true, rel=0.06)

    def test_is_where_the_derivative_of_scikit_learn_s_log_loss_is_zero(self) -> None:
        probabilities, labels = draw_answers(300, seed=2, sharpness=1.5)
        spoilt = apply_temperature(probabilities, 0.4)

        def slope(temperature: float) -> float:
            sides = [log_loss(labels, apply_temperature(spoilt, temperature + step)) for step in (1e-4, -1e-4)]
            return sides[0] - sides[1]

        assert fit_temperature(spoilt, labels) == pytest.approx(brentq(slope, 0.5, 10), abs=2e-4)

    def test_two_answers_have_a_closed_form(self) -> None:
        # Three of four right at odds 9:1: the loss is least where the odds are 3:1, so T = log 9 / log 3 = 2.
        probabilities = [[0.9, 0.1]] * 4
        assert fit_temperature(probabilities, [0, 0, 0, 1]) == pytest.approx(2, abs=1e-5)

    def test_nothing_wrong_teaches_nothing(self) -> None:
        assert fit_temperature([[0.6, 0.4], [0.3, 0.7], [0.5, 0.5]], [0, 1, 1]) == 1.0

    def test_worse_than_chance_stops_at_the_bound(self) -> None:
        assert fit_temperature([[0.9, 0.1]] * 4, [1, 1, 1, 0]) == pytest.approx(TEMPERATURES[1], rel=1e-3)

    def test_zeros_are_survived(self) -> None:
        temperature = fit_temperature([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0, 1, 1])
        assert np.isfinite(temperature)
        assert np.isfinite(apply_temperature([[1.0, 0.0]], temperature)).all()

    @pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
    def test_scaling_is_dividing_the_logits(self, temperature: float) -> None:
        logits = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 6
        wanted = (logits / temperature).softmax(dim=1).numpy()
        assert np.abs(apply_temperature(logits.softmax(dim=1).numpy(), temperature) - wanted).max() < 1e-14

    @pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
    def test_what_is_no_temperature_is_refused(self, temperature: float) -> None:
        with pytest.raises(InputError, match="not a finite number above 0"):
            apply_temperature([[0.5, 0.5]], temperature)

    def test_folding_into_the_head_is_scaling_the_answers(self, tiny_checkpoint: Path) -> None:
        from ct_xception.serving.classifier import Classifier

        model = Classifier.from_pretrained(tiny_checkpoint).model
        pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            before = model(pixel_values=pixels).logits.double().softmax(dim=1).numpy()
            model.fold_temperature(2.0)  # a power of two: float32 loses nothing
            after = model(pixel_values=pixels).logits.double().softmax(dim=1).numpy()
        assert np.ptp(before) > 0.1
        assert np.abs(after - apply_temperature(before, 2.0)).max() < 1e-12


class TestFigures:
    def test_brier_and_log_loss_are_scikit_learn_s(self) -> None:
        probabilities, labels = draw_answers(400, seed=3)
        figures = calibration_figures(probabilities, labels)
        assert figures.brier.value == pytest.approx(
            brier_score_loss(labels, probabilities, labels=range(4), scale_by_half=False), abs=1e-12
        )
        assert figures.log_loss.value == pytest.approx(log_loss(labels, probabilities, labels=range(4)), abs=1e-9)

    @pytest.mark.parametrize(("name", "strategy"), [("bins", "uniform"), ("adaptive_bins", "quantile")])
    def test_bins_are_scikit_learn_s(self, name: str, strategy: str) -> None:
        probabilities, labels = draw_answers(500, seed=4)
        bins = getattr(calibration_figures(probabilities, labels, resamples=10), name)
        hits = probabilities.argmax(axis=1) == labels
        accuracy, confidence = calibration_curve(hits, probabilities.max(axis=1), n_bins=BINS, strategy=strategy)
        assert [bin_.accuracy.value for bin_ in bins] == pytest.approx(accuracy.tolist(), abs=1e-12)
        assert [bin_.confidence for bin_ in bins] == pytest.approx(confidence.tolist(), abs=1e-12)
        assert sum(bin_.n for bin_ in bins) == 500
        assert all(bin_.low <= bin_.confidence <= bin_.high for bin_ in bins)

    def test_ece_by_hand(self) -> None:
        # Confidence 0.95 right 3 of 4 times (gap 0.20), 0.55 right 1 of 2 times (gap 0.05).
        probabilities = [[0.95, 0.05]] * 4 + [[0.45, 0.55]] * 2
        figures = calibration_figures(probabilities, [0, 0, 0, 1, 1, 0])
        assert figures.ece.value == pytest.approx((4 * 0.20 + 2 * 0.05) / 6, abs=1e-12)

    def test_ece_is_the_weighted_gap_of_its_bins_and_its_interval_holds_it(self) -> None:
        probabilities, labels = draw_answers(300, seed=5)
        figures = calibration_figures(probabilities, labels, seed=1)
        for name, bins in (("ece", "bins"), ("adaptive_ece", "adaptive_bins")):
            gaps = [bin_.n * abs(bin_.accuracy.value - bin_.confidence) for bin_ in getattr(figures, bins)]
            assert getattr(figures, name).value == pytest.approx(sum(gaps) / 300, abs=1e-12)
            assert 0 <= getattr(figures, name).low < getattr(figures, name).value < getattr(figures, name).high

    def test_the_right_temperature_lowers_every_figure(self) -> None:
        probabilities, labels = draw_answers(3000, seed=6, sharpness=1.5)
        spoilt = apply_temperature(probabilities, 0.4)
        mended = apply_temperature(spoilt, fit_temperature(spoilt, labels))
        before, after = (calibration_figures(answers, labels, resamples=2) for answers in (spoilt, mended))
        for name in ("ece", "adaptive_ece", "brier", "log_loss"):
            assert getattr(after, name).value < getattr(before, name).value
        assert before.ece.value > 0.1 and after.ece.value < 0.03

    def test_groups_widen_the_interval(self) -> None:
        probabilities, labels = draw_answers(60, seed=7)
        repeated, again, groups = np.repeat(probabilities, 5, axis=0), np.repeat(labels, 5), np.repeat(np.arange(60), 5)
        widths = []
        for known in (None, groups):
            figure = calibration_figures(repeated, again, known).brier
            widths.append(figure.high - figure.low)
        assert widths[1] > 1.8 * widths[0]

    def test_equal_confidences_share_an_adaptive_bin(self) -> None:
        edges = adaptive_edges(np.array([0.9] * 40 + [0.95] * 10))
        assert np.searchsorted(edges[1:-1], 0.9) != np.searchsorted(edges[1:-1], 0.95)
        assert (np.diff(edges) > 0).all()

    def test_answers_become_json_and_the_seed_decides(self) -> None:
        probabilities, labels = draw_answers(30, seed=8)
        first, again, other = (calibration_figures(probabilities, labels, seed=seed) for seed in (0, 0, 1))
        assert json.dumps(first.to_json(), allow_nan=False) == json.dumps(again.to_json())
        assert first != other

    def test_logits_are_refused(self) -> None:
        with pytest.raises(InputError, match="logits need a softmax"):
            calibration_figures([[2.0, -1.0]], [0])
