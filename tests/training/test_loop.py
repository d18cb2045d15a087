"""The loop on a tiny corpus: what each option does, and what stops a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ct_xception.corpus.load import load_corpus
from ct_xception.errors import CheckpointError, InputError
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.training.data.cache import CachedSlices, prepare_slices
from ct_xception.training.loop import (
    Training,
    TrainingError,
    binding_options,
    check_same_options,
    make_accelerator,
)
from ct_xception.training.options import TrainConfig

pytestmark = pytest.mark.usefixtures("fresh_accelerator")
NAMES = ["adenocarcinoma", "large cell carcinoma", "normal", "squamous cell carcinoma"]
TINY = {"corpus": "tiny", "weights": "none", "image_size": 64, "epochs": 1, "batch_size": 8, "workers": 0}


@pytest.fixture(scope="module")
def slices(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, CachedSlices]:
    config = TrainConfig(**TINY)
    dataset = load_corpus(str(tiny_corpus)).dataset
    cache = tmp_path_factory.mktemp("cache")
    return {
        name: prepare_slices(dataset[name], cache, config.reading, description="") for name in ("train", "validation")
    }


def make(run: Path, slices: dict[str, CachedSlices], split: str = "s", **options) -> Training:
    config = TrainConfig(**TINY | options)
    return Training(config, make_accelerator(config, run), run, label_names=NAMES, split=split, **slices)


def test_a_run_leaves_history_and_the_weights_to_keep(slices, tmp_path: Path) -> None:
    trained = make(tmp_path, slices, epochs=2).fit()
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2] and lines == trained.history
    assert all(line["images_per_second"] > 0 and line["train_loss"] > 0 for line in lines)
    assert lines[-1]["learning_rate"] == pytest.approx(0, abs=1e-9)  # the cosine has come down
    best = min(lines, key=lambda line: line["validation_loss"])["epoch"]
    assert trained.best_epoch == best and load_file(trained.weights)["fc.weight"].shape == (4, 2048)


def test_the_same_run_twice_gives_the_same_weights_and_another_seed_others(slices, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        weights.append(make(tmp_path / name, slices, seed=seed, mixup=0.2).fit().weights.read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_frozen_epochs_move_the_head_alone(slices, tmp_path: Path) -> None:
    training = make(tmp_path, slices, freeze_epochs=1, epochs=2, ema=0.0, warmup_epochs=0.0)
    before = {key: value.clone() for key, value in training.plain.state_dict().items()}
    training._train_epoch(1, training._progress_bar())
    changed = {key for key, value in training.plain.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"timm_model.fc.weight", "timm_model.fc.bias"}
    training._train_epoch(2, training._progress_bar())
    assert not torch.equal(training.plain.timm_model.conv1.weight, before["timm_model.conv1.weight"])


def test_small_epochs_train_at_their_own_side_and_all_are_validated_at_the_networks(
    slices, tmp_path: Path, monkeypatch
) -> None:
    sides = {"train": [], "validation": []}
    forward = CTXceptionForImageClassification.forward

    def seen(self, pixel_values, **others):
        sides["train" if self.training else "validation"].append(pixel_values.shape[-1])
        return forward(self, pixel_values=pixel_values, **others)

    monkeypatch.setattr(CTXceptionForImageClassification, "forward", seen)
    training = make(tmp_path, slices, small_size=48, small_epochs=1, epochs=2)
    training.fit()
    half = len(sides["train"]) // 2
    assert sides["train"] == [48] * half + [TINY["image_size"]] * half
    assert set(sides["validation"]) == {TINY["image_size"]}


def test_a_run_killed_among_small_epochs_goes_on_to_the_same_weights(slices, tmp_path: Path) -> None:
    options = {"small_size": 48, "small_epochs": 1, "epochs": 2, "resume": "auto"}
    whole = make(tmp_path / "whole", slices, output_dir="x", **options)
    (tmp_path / "parts").mkdir()
    begun = make(tmp_path / "parts", slices, output_dir="x", **options)
    begun._save(best=None)
    bar = begun._progress_bar()
    begun._run_epoch(bar)
    assert (bar.n, bar.total) == (begun.steps * 8 * 48**2, begun.steps * 8 * (48**2 + 64**2))  # an epoch takes as long
    parts = make(tmp_path / "parts", slices, output_dir="x", **options)
    assert parts.fit().weights.read_bytes() == whole.fit().weights.read_bytes()


def test_frozen_blocks_stay_as_they_began_statistics_and_all(slices, tiny_checkpoint: Path, tmp_path: Path) -> None:
    training = make(tmp_path, slices, weights=str(tiny_checkpoint), frozen_blocks=11, ema=0.0, warmup_epochs=0.0)
    before = {key: value.clone() for key, value in training.plain.state_dict().items()}
    training._train_epoch(1, training._progress_bar())
    changed = {key for key, value in training.plain.state_dict().items() if not torch.equal(value, before[key])}
    parts = {key.split(".")[1] for key in changed}
    assert parts == {"block12", "conv3", "bn3", "conv4", "bn4", "fc"}
    assert any(key.endswith("running_mean") for key in changed)  # what is trained keeps its own statistics


@pytest.mark.parametrize(
    "options",
    [
        {"accumulation": 2, "class_weights": "balanced", "loss": "focal", "optimizer": "sgd", "schedule": "linear"},
        {"sampling": "balanced", "optimizer": "rmsprop", "schedule": "constant", "clip_norm": 0.0, "ema": 0.0},
        {"mixed_precision": "bf16", "optimizer": "adam", "body_rate": 1.0, "metric": "auroc"},
    ],
    ids=["accumulated", "balanced", "bf16"],
)
def test_options_train(options: dict, slices, tmp_path: Path) -> None:
    before = make(tmp_path, slices, **options)
    assert before.accelerator.mixed_precision == options.get("mixed_precision", "no")
    start = before.plain.head.weight.detach().clone()
    record = before.fit().history[0]
    assert record["train_loss"] > 0 and not torch.equal(before.plain.head.weight, start)


def test_accumulated_steps_update_once(slices, tmp_path: Path) -> None:
    training = make(tmp_path, slices, accumulation=2)
    training.fit()
    assert training.progress.updates == -(-training.steps // 2) == training.updates


def test_patience_ends_a_run_that_does_not_get_better(slices, tmp_path: Path, monkeypatch) -> None:
    training = make(tmp_path, slices, epochs=9, patience=2)
    monkeypatch.setattr(training, "_train_epoch", lambda epoch, bar: (1.0, 0.5, 8))
    losses = iter([0.5, 0.4, 0.6, 0.7, 0.1])
    figures = {"accuracy": 0.5, "balanced_accuracy": 0.5, "macro_f1": 0.5, "auroc": None}
    monkeypatch.setattr("ct_xception.training.loop.validation_figures", lambda *_: figures | {"loss": next(losses)})
    monkeypatch.setattr(training, "validate", lambda: (None, None))
    trained = training.fit()
    assert (len(trained.history), trained.best_epoch) == (4, 2)


def test_a_loss_that_is_not_finite_names_the_files_and_keeps_the_checkpoint(slices, tmp_path: Path) -> None:
    training = make(tmp_path, slices)
    with torch.no_grad():
        training.plain.head.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"the loss is nan on the batch of .*\.png.*--learning_rate"):
        training.fit()
    assert (tmp_path / "checkpoints" / "epoch-0000" / "progress.json").is_file()


def test_training_images_that_are_all_the_same_are_refused_before_an_epoch(slices, tmp_path: Path) -> None:
    same = slices | {"train": slices["train"].take([3] * 20)}
    with pytest.raises(InputError, match="corpus: all 20 training images are the same to the network"):
        make(tmp_path, same)
    make(tmp_path, slices | {"train": slices["train"].take([3] * 19 + [4])})


def test_answers_that_are_not_finite_stop_the_run(slices, tmp_path: Path, monkeypatch) -> None:
    training = make(tmp_path, slices, ema=0.0)
    monkeypatch.setattr(training, "_train_epoch", lambda epoch, bar: (1.0, 0.5, 8))
    with torch.no_grad():
        training.plain.head.bias.fill_(float("inf"))
    with pytest.raises(TrainingError, match="answers on the validation split are no longer finite"):
        training.fit()


def test_mixup_takes_even_batches_of_few_images(slices, tmp_path: Path) -> None:
    training = make(tmp_path, slices, mixup=0.3, batch_size=64)
    assert training.loader.batch_sampler.batch_size % 2 == 0
    assert training.fit().history[0]["train_n"] == 32


def test_a_run_cannot_be_resumed_as_another(slices, tmp_path: Path) -> None:
    make(tmp_path, slices).fit()
    with pytest.raises(CheckpointError, match=r"other options \(--learning_rate 0.001 -> 0.5\)"):
        make(tmp_path, slices, resume="auto", output_dir="x", learning_rate=0.5).fit()
    with pytest.raises(CheckpointError, match="the corpus or its split has changed"):
        make(tmp_path, slices, split="t", resume="auto", output_dir="x").fit()
    assert len(make(tmp_path, slices, resume="auto", output_dir="x", workers=1).fit().history) == 1


def test_bad_choices_are_named_before_training(slices, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--optimizer: 'adamwhat' is not one of timm's"):
        make(tmp_path, slices, optimizer="adamwhat")
    with pytest.raises(InputError, match="--loss bce"):
        make(tmp_path, slices, loss="bce")


def test_tensorboard_is_told_every_epoch(slices, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    training = make(tmp_path, slices, trackers=["tensorboard"])
    training.accelerator.init_trackers("ct-xception")
    training.fit()
    training.accelerator.end_training()
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_a_run_of_a_version_with_fewer_options_goes_on_with_their_defaults() -> None:
    wanted = binding_options(TrainConfig(**TINY))
    older = {name: value for name, value in wanted.items() if name != "frozen_blocks"}
    check_same_options(older, wanted)
    check_same_options(older, wanted | {"num_processes": 1})
    with pytest.raises(CheckpointError, match="--frozen_blocks 0 -> 3"):
        check_same_options(older, wanted | {"frozen_blocks": 3})


def test_another_external_corpus_and_what_its_classes_are_is_no_other_run() -> None:
    before = TrainConfig(corpus="x", class_map={"b": "a"})
    after = TrainConfig(corpus="x", class_map={"b": "a", "clinic/m": "a"}, external={"clinic": "y"})
    check_same_options(before.mapping, binding_options(after))
    check_same_options(after.mapping, binding_options(before))
    other = TrainConfig(corpus="x", class_map={"b": "a", "elsewhere/m": "a"}, external={"clinic": "y"})
    with pytest.raises(CheckpointError, match="--class_map"):
        check_same_options(before.mapping, binding_options(other))
