"""FixMatch by hand: which answers are kept, what they cost, and a loop that goes on as it would have."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from ct_xception.corpus.load import load_corpus
from ct_xception.errors import InputError
from ct_xception.imaging.transforms import AugmentConfig
from ct_xception.training import semi_supervised
from ct_xception.training.data.cache import CachedSlices, prepare_slices
from ct_xception.training.loop import Training, TrainingError, make_accelerator
from ct_xception.training.losses import LossSettings, make_loss
from ct_xception.training.options import TrainConfig
from ct_xception.training.semi_supervised import choose_threshold, pseudo_label_loss, ramp, weak_augmentation

pytestmark = pytest.mark.usefixtures("fresh_accelerator")
TINY = {"corpus": "tiny", "weights": "none", "image_size": 64, "epochs": 3, "batch_size": 8, "workers": 0}


def logits_of(confidences: list[float]) -> np.ndarray:
    """Answers (N, 2) for class 0 of these confidences."""
    return np.array([[math.log(one / (1 - one)), 0.0] for one in confidences])


def test_the_threshold_is_the_least_confidence_that_is_surely_right_as_often_as_wanted() -> None:
    confidences = [0.999 - 0.001 * place for place in range(30)]
    labels = np.zeros(30, int)
    labels[[18, 25, 26, 27, 28, 29]] = 1
    # 24 right of 25: (0.96 + 1/50 - sqrt(0.96 * 0.04 / 25 + 1/50^2)) / (1 + 1/25) = 0.936 / 1.04 = 0.9.
    assert choose_threshold(logits_of(confidences), labels, 0.1) == pytest.approx(confidences[24])
    labels[3] = 1  # 23 of 25; of the surest three alone, too few, all are right
    assert choose_threshold(logits_of(confidences), labels, 0.1) == math.inf
    labels[:] = 0
    assert choose_threshold(logits_of(confidences), labels, 0.1) == pytest.approx(confidences[-1])


def test_answers_that_are_right_and_unsure_are_not_labels_yet() -> None:
    assert choose_threshold(logits_of([0.6] * 30), np.zeros(30, int), 0.1) == pytest.approx(0.95 * 0.95)


def test_equal_confidences_are_kept_together_or_not_at_all() -> None:
    confidences = [0.99] * 10 + [0.98] * 20
    labels = np.array([0] * 10 + [0] * 10 + [1] * 10)  # half of the second lot is right, the first half as listed
    assert choose_threshold(logits_of(confidences), labels, 0.0) == pytest.approx(0.99)


def test_a_small_validation_split_leaves_the_published_threshold_as_smoothing_can_reach_it() -> None:
    four = np.tile([9.0, 0, 0, 0], (19, 1))
    assert choose_threshold(four, np.zeros(19, int), 0.0) == pytest.approx(0.95)
    assert choose_threshold(four, np.zeros(19, int), 0.1) == pytest.approx(0.95 * 0.925)


def test_the_loss_by_hand() -> None:
    """Two of four are sure enough; their cross-entropies are summed, and divided by four."""
    sure = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.79, 0.21]])
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    found, kept = pseudo_label_loss(make_loss("cross_entropy", 2), logits, sure, 0.8)
    assert kept.item() == 2 and found.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 4, rel=1e-6)
    smooth = make_loss("bce", 2, LossSettings(smoothing=0.2))
    found, _ = pseudo_label_loss(smooth, logits, sure, 0.8)
    expected = functional.binary_cross_entropy(torch.tensor([0.25, 0.5]), torch.tensor([0.1, 0.9]), reduction="sum") / 4
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_nothing_kept_costs_nothing_and_has_a_gradient_of_nought() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    found, kept = pseudo_label_loss(make_loss("cross_entropy", 2), logits, torch.full((3, 2), 0.5), 0.9)
    found.backward()
    assert (found.item(), kept.item()) == (0, 0) and not logits.grad.any()


def test_the_weight_comes_up() -> None:
    assert ramp(0) == pytest.approx(math.exp(-5)) and ramp(0.15) == pytest.approx(math.exp(-1.25))
    assert ramp(0.3) == ramp(1) == 1


def test_a_weak_view_is_geometric_and_never_further_than_a_strong_one() -> None:
    weak = weak_augmentation(AugmentConfig(flip=0.0, rotation=1.0))
    assert (weak.flip, weak.rotation, weak.shift) == (0.0, 1.0, 0.03)
    assert not any((weak.brightness, weak.contrast, weak.gamma, weak.noise, weak.blur, weak.erase, weak.uncropped))


@pytest.fixture(scope="module")
def slices(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CachedSlices]:
    """Eight labelled images, two of each class, as many to validate on, and 21 without labels."""
    dataset, cache = load_corpus(str(tiny_corpus)).dataset, tmp_path_factory.mktemp("cache")
    reading = TrainConfig(**TINY).reading
    whole = prepare_slices(dataset["train"], cache, reading, description="")
    own = [row for label in range(4) for row in np.flatnonzero(whole.labels == label)[:2].tolist()]
    others = [row for row in range(len(whole)) if row not in own][:21]
    validation = prepare_slices(dataset["validation"], cache, reading, description="")
    return {"train": whole.take(own), "validation": validation, "unlabelled": whole.take(others)}


def make(run: Path, slices: dict[str, CachedSlices | None], classes: int = 4, **options) -> Training:
    config = TrainConfig(**TINY | {"unlabelled": ["pool"]} | options)
    names = [str(number) for number in range(classes)]
    return Training(config, make_accelerator(config, run), run, label_names=names, split="s", **slices)


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is sure enough."""
    monkeypatch.setattr(semi_supervised, "choose_threshold", lambda *_: 0.0)


def test_every_epoch_but_the_first_learns_from_what_is_kept(slices, sure: None, tmp_path: Path) -> None:
    history = make(tmp_path, slices).fit().history
    assert [line["unlabelled_n"] for line in history] == [0, 16, 16]
    assert [line["unlabelled_kept"] for line in history] == [0, 1, 1]
    assert history[0]["unlabelled_loss"] is None and history[2]["unlabelled_loss"] > 0
    assert all(line["train_n"] == 8 for line in history)


def test_where_no_answer_is_sure_the_weights_are_those_of_labels_alone(slices, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(semi_supervised, "choose_threshold", lambda *_: math.inf)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    semi = make(tmp_path / "a", slices).fit()
    alone = make(tmp_path / "b", slices | {"unlabelled": None}, unlabelled=[]).fit()
    assert semi.weights.read_bytes() == alone.weights.read_bytes()
    assert [line["pseudo_label_threshold"] for line in semi.history] == [None] * 3
    assert "unlabelled_kept" not in alone.history[0]


def test_a_run_that_is_stopped_and_resumed_ends_with_the_same_weights(slices, sure: None, tmp_path: Path) -> None:
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = make(tmp_path / "whole", slices).fit()
    alone = make(tmp_path / "broken", slices | {"unlabelled": None}, unlabelled=[])
    broken = make(tmp_path / "broken", slices)

    def stop(record, *_) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    broken.on_epoch = stop
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    resumed = make(tmp_path / "broken", slices, resume="auto", output_dir="x").fit()
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()
    kept = [[line["unlabelled_loss"] for line in one.history] for one in (whole, resumed)]
    assert kept[0] == kept[1]
    assert alone.progress.split != broken.progress.split


@pytest.mark.parametrize(
    "options",
    [
        {"mixup": 0.3, "loss": "focal", "class_weights": "balanced", "accumulation": 2},
        {"loss": "bce", "head": "attention", "unlabelled_ratio": 0.5},
        {"mixed_precision": "bf16", "frozen_blocks": 9, "unlabelled_weight": 2.0, "workers": 1},
        {"freeze_epochs": 2, "sampling": "balanced"},
    ],
    ids=["mixed", "bce", "frozen blocks", "frozen"],
)
def test_it_goes_with_other_options(options: dict, slices, sure: None, tiny_checkpoint: Path, tmp_path: Path) -> None:
    given = dict(slices)
    if options.get("loss") == "bce":
        given = {name: part.take(np.flatnonzero(part.labels < 2).tolist()) for name, part in slices.items()}
    start = {"weights": str(tiny_checkpoint)} if "frozen_blocks" in options else {}
    trained = make(tmp_path, given, classes=2 if options.get("loss") == "bce" else 4, **start, **options).fit()
    assert trained.history[-1]["unlabelled_loss"] > 0
    state = load_file(trained.weights)
    assert all(value.isfinite().all() for value in state.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ema": 0.0}, "--unlabelled: the moving average .* give an --ema above 0"),
        ({"epochs": 1}, "--unlabelled: .* give --epochs 2 or more"),
        ({"unlabelled_ratio": 0.0}, "--unlabelled_ratio: 0.0 is out of range"),
    ],
)
def test_what_cannot_be(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig(**TINY | {"unlabelled": ["pool"]} | options)


def test_a_loss_that_is_not_finite_names_the_slices_without_labels_too(slices, sure: None, tmp_path: Path) -> None:
    training = make(tmp_path, slices, epochs=2)
    training._run_epoch(training._progress_bar())
    names = set(slices["unlabelled"].sources)
    with torch.no_grad():
        training.plain.head.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="the loss is nan on the batch of") as caught:
        training._run_epoch(training._progress_bar())
    assert any(name in str(caught.value) for name in names)
