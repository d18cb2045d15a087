"""Figures: what they show, for few and many classes, and files that are whole and repeatable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ct_xception.errors import InputError
from ct_xception.evaluation.report.figures import choose_examples
from ct_xception.evaluation.report.plots import (
    GREEN,
    VERMILLION,
    Example,
    Reliability,
    _shortened,
    _wrapped,
    confusion_figure,
    curves_figure,
    examples_figure,
    fold_confusion,
    reliability_figure,
    roc_figure,
    save_figure,
    scaling_panels,
)
from ct_xception.metrics import Calibration
from ct_xception.statistics.calibration import apply_temperature, calibration_figures
from ct_xception.statistics.metrics import classification_metrics
from tests.evaluation.answers import draw_answers
from tests.metrics import metric
from tests.statistics.test_metrics import make_answers

HISTORY = [
    {"epoch": 1, "train_loss": 1.2, "train_accuracy": 0.4, "validation_loss": 1.0, "validation_accuracy": 0.5},
    {"epoch": 2, "train_loss": 0.8, "train_accuracy": 0.6, "validation_loss": 0.9, "validation_accuracy": 0.7},
    {"epoch": 3, "train_loss": 0.5, "train_accuracy": 0.9, "validation_loss": 0.95, "validation_accuracy": 0.7},
]


def texts_of(figure: Figure) -> list[str]:
    """Every text drawn in the figure's axes, tick labels and legends too."""
    from matplotlib.text import Text

    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


class TestCurves:
    def test_draws_both_axes_and_marks_the_first_best_epoch(self) -> None:
        figure = curves_figure(HISTORY, counts={"train": 613, "validation": 72})
        accuracy, loss = figure.axes
        assert accuracy.lines[0].get_ydata().tolist() == pytest.approx([40, 60, 90])
        assert loss.lines[1].get_ydata().tolist() == pytest.approx([1.0, 0.9, 0.95])
        labels = [text.get_text() for text in accuracy.get_legend().get_texts()]
        assert labels == ["Train (n = 613)", "Validation (n = 72)", "Best epoch (2): 70.0 %"]
        assert "Best epoch (2): 0.900" in texts_of(figure)

    def test_the_best_epoch_can_be_told(self) -> None:
        assert "Best epoch (3): 70.0 %" in texts_of(curves_figure(HISTORY, best_epoch=3))

    def test_a_run_without_validation(self) -> None:
        history = [{"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5, "validation_loss": None}]
        texts = texts_of(curves_figure(history))
        assert "Train" in texts and "Validation" not in texts and not any("Best" in text for text in texts)

    def test_no_epoch(self) -> None:
        with pytest.raises(InputError, match="history is empty"):
            curves_figure([])


MANY_CLASSES = """
import resource, sys
import numpy as np
from ct_xception.evaluation.report.plots import confusion_figure, roc_figure, save_figure
from ct_xception.statistics.metrics import classification_metrics
count, folder = int(sys.argv[1]), sys.argv[2]
rng = np.random.default_rng(0)
labels, names = np.arange(2 * count) % count, [f"class {k}" for k in range(count)]
scores = rng.random((2 * count, count)) ** 9
scores[np.arange(2 * count), labels] += 0.5
scores /= scores.sum(axis=1, keepdims=True)
metrics = classification_metrics(scores, labels, names, resamples=60)
areas = {name: found.auroc for name, found in metrics.per_class.items()}
save_figure(confusion_figure(metrics.confusion_matrix, names), f"{folder}/confusion.png", dpi=200)
save_figure(roc_figure(scores, labels, names, areas), f"{folder}/roc.png", dpi=200)
try:  # this process alone: ru_maxrss begins at what the process held that started it
    with open("/proc/self/status") as status:
        print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
except OSError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


class TestConfusion:
    def test_counts_and_shares_of_rows(self) -> None:
        texts = texts_of(confusion_figure([[9, 1], [0, 3]], ["normal", "nodule"]))
        for expected in ("9", "90.0 %", "10.0 %", "0", "100.0 %", "normal\n(n = 10)", "Confusion matrix (n = 13)"):
            assert expected in texts

    def test_many_classes_are_numbered_and_zeros_left_blank(self) -> None:
        texts = texts_of(confusion_figure(np.eye(20, dtype=int).tolist(), [f"finding {k}" for k in range(20)]))
        assert "finding 19 (n = 1)  20" in texts and "20" in texts and "0 %" not in texts

    def test_of_very_many_classes_the_most_confused_are_drawn(self) -> None:
        counts = 5 * np.eye(1000, dtype=int)
        counts[7, 900], counts[900, 7], counts[3, 4] = 4, 3, 1
        folded, names, left = fold_confusion(counts, [f"finding {k}" for k in range(1000)], 4)
        assert names == ["finding 3", "finding 4", "finding 7", "finding 900", "996 other classes"] and left == 996
        assert folded.sum() == counts.sum() and folded[4, 4] == 5 * 996
        assert (folded[2, 3], folded[3, 2], folded[0, 1], folded[4, :4].sum()) == (4, 3, 1, 0)

    @pytest.mark.parametrize("count", [300, 1000])
    def test_the_picture_of_very_many_classes_is_bounded(self, count: int, tmp_path: Path) -> None:
        """In a process of its own, whose memory is then its figures' alone."""
        done = subprocess.run(
            [sys.executable, "-c", MANY_CLASSES, str(count), str(tmp_path)], capture_output=True, text=True, check=True
        )
        assert int(done.stdout) < 600_000  # kB, of which matplotlib, SciPy and scikit-learn take 200,000
        for name in ("confusion", "roc"):
            with Image.open(tmp_path / f"{name}.png") as picture:
                assert max(picture.size) < 4000, name

    def test_an_absent_class_has_an_empty_row(self) -> None:
        texts = texts_of(confusion_figure([[2, 0], [0, 0]], ["a", "b"]))
        assert "b\n(n = 0)" in texts and not any("nan" in text for text in texts)


class TestRoc:
    @pytest.mark.parametrize("count", [2, 4, 20])
    def test_a_curve_and_an_interval_for_every_class(self, count: int) -> None:
        scores, labels, names = make_answers(200, count)
        figures = classification_metrics(scores, labels, names, resamples=50).per_class
        figure = roc_figure(scores, labels, names, {name: one.auroc for name, one in figures.items()})
        legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        area = figures["class 1"].auroc
        assert len(legend) == count
        assert legend[1] == f"class 1: {area.value:.3f} ({area.low:.3f}–{area.high:.3f})"
        drawn = [(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines[1:]]
        assert len(set(drawn)) == count

    def test_of_very_many_classes_the_worst_are_drawn_and_the_mean_of_all(self) -> None:
        scores, labels, names = make_answers(400, 40)
        areas = {name: metric(0.5 + k / 100) for k, name in enumerate(names)}
        areas["class 0"] = metric(None)
        figure = roc_figure(scores, labels, names, areas)
        legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert legend == [*(f"class {k}: {0.5 + k / 100:.3f}" for k in range(1, 13)), "mean of 39 classes"]
        assert figure.axes[0].get_title(loc="left").startswith("ROC, the lowest 12 of 40 classes")

    def test_a_class_without_a_figure_is_named_not_drawn(self) -> None:
        scores, labels, names = make_answers(50, 3)
        areas = dict.fromkeys(names, metric(0.8, 0.7, 0.9))
        areas["class 2"] = metric(None)
        figure = roc_figure(scores, labels, names, areas)
        assert "class 2: no figure" in texts_of(figure)
        assert len(figure.axes[0].lines[3].get_xdata()) == 0

    def test_a_name_with_dollars_is_no_formula(self) -> None:
        scores, labels, names = make_answers(50, 2)
        names = ["stage $IIb_$", "normal"]
        figures = classification_metrics(scores, labels, names, resamples=50)
        areas = {name: one.auroc for name, one in figures.per_class.items()}
        for figure in (roc_figure(scores, labels, names, areas), confusion_figure(np.array([[9, 1], [2, 8]]), names)):
            assert any("stage $IIb_$" in text for text in texts_of(figure))

    def test_good_classifiers_get_their_corner_enlarged(self) -> None:
        scores, labels, names = make_answers(100, 2, skill=6)
        figure = roc_figure(scores, labels, names, dict.fromkeys(names, metric(0.99)))
        assert "upper left corner" in texts_of(figure)


class TestExamples:
    def test_right_and_wrong_are_marked(self) -> None:
        pixels = np.zeros((20, 30), np.uint8)
        figure = examples_figure([Example(pixels, "a", "a", 0.91), Example(pixels, "a", "b", 0.6)])
        texts = texts_of(figure)
        assert "a\n✓ 91 %" in texts and "a\n✗ b, 60 %" in texts
        assert "Examples: true class, then the prediction (1 right, 1 wrong)" in texts
        colours = [axes.spines["left"].get_edgecolor() for axes in figure.axes]
        assert matches(colours[0], GREEN) and matches(colours[1], VERMILLION)

    def test_the_slice_is_not_stretched(self) -> None:
        figure = examples_figure([Example(np.full((10, 30), 200, np.uint8), "a", "a", 1.0)])
        shown = figure.axes[0].images[0].get_array()
        assert shown.shape == (30, 30)
        assert (shown[10:20] == 200).all() and shown[:10].sum() == 0

    def test_nothing_to_draw(self) -> None:
        with pytest.raises(InputError, match="No examples"):
            examples_figure([])


def matches(colour: tuple[float, ...], name: str) -> bool:
    from matplotlib.colors import to_rgba

    return np.allclose(colour, to_rgba(name))


class TestChooseExamples:
    scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.55, 0.45], [np.nan, np.nan], [0.3, 0.7], [0.05, 0.95]])
    labels = np.array([0, 1, 1, 1, 0, 1, 0])

    def test_surest_mistakes_and_every_class_and_never_a_refused_row(self) -> None:
        chosen = choose_examples(self.scores, self.labels, seed=0, count=4)
        assert chosen[2:] == [6, 1]  # wrong with 0.95, then with 0.6; 0.55 found no place
        assert chosen[0] == 0 and chosen[1] in (2, 5)  # one hit of each class

    def test_mistakes_fill_up_where_hits_are_few(self) -> None:
        assert sorted(choose_examples(self.scores, self.labels, seed=0, count=20)) == [0, 1, 2, 3, 5, 6]


class TestNames:
    def test_wrapping_keeps_every_letter(self) -> None:
        name = "adenocarcinoma_left.lower.lobe_T2_N0_M0_Ib"
        lines = _wrapped(name, 18).splitlines()
        assert "".join(lines) == name and all(len(line) <= 20 for line in lines)
        assert _wrapped("large cell carcinoma", 12) == "large cell\ncarcinoma"

    def test_shortening_keeps_both_ends(self) -> None:
        assert _shortened("adenocarcinoma_T2_Ib", 11) == "adeno…T2_Ib"
        assert _shortened("normal", 11) == "normal"


class TestSaveFigure:
    @pytest.mark.parametrize("suffix", [".png", ".svg"])
    def test_the_same_figure_gives_the_same_bytes(self, tmp_path: Path, suffix: str) -> None:
        for name in ("a", "b"):
            save_figure(curves_figure(HISTORY), tmp_path / f"{name}{suffix}", dpi=60)
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()

    def test_printed_size(self, tmp_path: Path) -> None:
        save_figure(curves_figure(HISTORY), tmp_path / "curves.png")
        with Image.open(tmp_path / "curves.png") as picture:
            assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
            assert 6.5 < picture.width / 300 < 7.3

    def test_vector_text_stays_text(self, tmp_path: Path) -> None:
        save_figure(curves_figure(HISTORY), tmp_path / "curves.svg")
        assert ">Accuracy by epoch</text>" in (tmp_path / "curves.svg").read_text()

    def test_the_callers_style_is_left_alone(self) -> None:
        from matplotlib import rcParams

        before = dict(rcParams)
        curves_figure(HISTORY)
        assert dict(rcParams) == before


def test_reliability_shows_each_bin_at_its_confidence_and_accuracy() -> None:
    probabilities, labels = draw_answers(200, seed=0, sharpness=1.5)
    spoilt = apply_temperature(probabilities, 0.5)
    before, after = (calibration_figures(answers, labels, resamples=50) for answers in (spoilt, probabilities))
    figure = reliability_figure(
        scaling_panels(Calibration(temperature=2.0, n_validation=1, before=before, after=after))
    )
    for axes, counts, figures in zip(figure.axes[:2], figure.axes[2:], (before, after), strict=True):
        points = [line.get_xydata()[0].tolist() for line in axes.lines if line.get_marker() == "o"]
        wanted = [[100 * bin_.confidence, 100 * bin_.accuracy.value] for bin_ in figures.bins]
        assert points == pytest.approx(np.array(wanted))
        assert [bar.get_height() for bar in counts.patches] == [bin_.n for bin_ in figures.bins]
    texts = texts_of(figure)
    assert f"calibration error {before.ece.value:.3f}" in texts[texts.index(figure.axes[0].get_title(loc="left"))]
    assert any(text.startswith("After (temperature 2.00)") for text in texts)


def test_reliability_by_patient_stands_beside_that_by_slice() -> None:
    slices, patients = (calibration_figures(*draw_answers(n, seed=0, sharpness=1.5), resamples=50) for n in (200, 40))
    figure = reliability_figure(
        [Reliability("By slice", "Slices", slices), Reliability("By patient", "Patients", patients)]
    )
    assert [axes.get_ylabel() for axes in figure.axes[2:]] == ["Slices", "Patients"]
    assert f"n = {patients.ece.n:,}" in figure.axes[1].get_title(loc="left")
    bars = [axes.patches for axes in figure.axes[2:]]
    assert [sum(bar.get_height() for bar in own) for own in bars] == [200, 40]
    tops = [axes.get_ylim()[1] for axes in figure.axes[2:]]
    assert tops == pytest.approx([1.05 * max(bin_.n for bin_ in one.bins) for one in (slices, patients)])
    assert len(reliability_figure([Reliability("By patient", "Patients", patients)]).axes) == 2
