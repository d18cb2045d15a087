"""Cross-validation on a tiny corpus: every image answered once, nothing trained twice, nothing mixed up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
from datasets import DatasetDict

from ct_xception.corpus.load import load_corpus
from ct_xception.errors import CheckpointError
from ct_xception.evaluation.protocols import read_out_of_fold
from ct_xception.training.crossval import Plan, cross_validate, plan_folds
from ct_xception.training.data.cache import CachedSlices, prepare_slices
from ct_xception.training.loop import Trained, make_accelerator
from ct_xception.training.options import TrainConfig

pytestmark = pytest.mark.usefixtures("fresh_accelerator")
NAMES = ["adenocarcinoma", "large cell carcinoma", "normal", "squamous cell carcinoma"]


@pytest.fixture(scope="module")
def splits(tiny_corpus: Path) -> DatasetDict:
    return load_corpus(str(tiny_corpus)).dataset


@pytest.fixture(scope="module")
def pool(splits: DatasetDict, tmp_path_factory: pytest.TempPathFactory) -> CachedSlices:
    cache, reading = tmp_path_factory.mktemp("cache"), TrainConfig(corpus="tiny").reading
    return CachedSlices.join(prepare_slices(part, cache, reading, description="") for part in splits.values())


class Recorder:
    """Stands in for training and for the network; remembers which folds were trained, on what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trained: list[tuple[str, list[str], list[str]]] = []
        self.unlabelled: list[CachedSlices | None] = []
        self.killed_at: int | None = None
        monkeypatch.setattr("ct_xception.training.crossval.Training", self.training)
        monkeypatch.setattr("ct_xception.training.crossval.write_model_folder", self.write_model_folder)

    def training(self, config, accelerator, run, *, label_names, split, train, validation, unlabelled):  # noqa: ANN201
        if self.killed_at == len(self.trained):
            raise KeyboardInterrupt
        assert config.resume == "auto" and label_names == NAMES and accelerator.trackers == []
        self.trained.append((run.name, train.sources, validation.sources))
        self.unlabelled.append(unlabelled)
        (run / "checkpoints").mkdir(parents=True)
        self.trainer = Trained(run / "checkpoints", 1, [{"seconds": 2.0}])
        return self

    def fit(self) -> Trained:
        return self.trainer

    def write_model_folder(self, folder: Path, *_: object, **__: object) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_text(f"weights of fold {folder.parent.name}")

    def finish(self, model: Path, fold: DatasetDict) -> tuple[np.ndarray, dict[str, str], None]:
        """Every answer is right but the first, which is refused."""
        assert model.name == "model" and (model / "model.safetensors").is_file()
        probabilities = np.where(np.arange(4) == np.array(fold["test"]["label"])[:, None], 0.7, 0.1)
        probabilities[0] = np.nan
        return probabilities, {fold["test"]["source"][0]: "torn"}, None


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


def validate(
    run: Path, splits: DatasetDict, pool: CachedSlices, recorder: Recorder, **options: object
) -> tuple[bool, Plan]:
    config = TrainConfig(**{"corpus": "tiny", "protocols": ["grouped"], "folds": 3} | options)
    plan = plan_folds(config, run, splits, "column patient")
    accelerator = make_accelerator(config)
    records = {"corpus": {}, "command": "train"}
    return cross_validate(config, accelerator, plan, lambda: pool, finish=recorder.finish, **records), plan


def test_every_image_is_answered_once_by_a_fold_that_saw_none_of_its_group(splits, pool, recorder, tmp_path) -> None:
    complete, plan = validate(tmp_path, splits, pool, recorder)
    table = pandas.read_parquet(tmp_path / "folds/predictions.parquet")
    groups = dict(zip(table["source"], table["group"], strict=True))
    assert complete and len(table) == len(groups) == 48 and [name for name, *_ in recorder.trained] == ["1", "2", "3"]
    for name, train, validation in recorder.trained:
        held = set(table[table["fold"] == int(name)]["group"])
        assert not held & {groups[source] for source in (*train, *validation)} and held
        assert len(train) + len(validation) + (table["fold"] == int(name)).sum() == 48
    assert table["refused"].notna().sum() == 3 and table["p normal"].isna().sum() == 3
    assert not list(tmp_path.glob("folds/*/checkpoints")) and plan.is_done(3)


def test_each_fold_learns_from_what_is_apart_from_what_it_holds_back(splits, pool, recorder, tmp_path) -> None:
    """What is without labels is asked for anew, of the fold's own splits."""
    config = TrainConfig(corpus="tiny", protocols=["grouped"], folds=3)
    plan, held = plan_folds(config, tmp_path, splits, "column patient"), []

    def unlabelled(fold: DatasetDict) -> CachedSlices:
        held.append(fold["test"]["source"])
        return pool.select(fold["test"]["source"][:1])

    cross_validate(
        config, make_accelerator(config), plan, lambda: pool, unlabelled, corpus={}, command="", finish=recorder.finish
    )
    assert [sorted(found) for found in held] == [sorted(split["test"]["source"]) for split in plan.splits]
    assert [found.sources for found in recorder.unlabelled] == [found[:1] for found in held]


def test_the_evaluator_reads_what_was_written(splits, pool, recorder, tmp_path) -> None:
    validate(tmp_path, splits, pool, recorder)
    found = read_out_of_fold(tmp_path / "folds", NAMES)
    answers = found.part.paths["predictor"]
    assert answers.answered.sum() == 45 and set(answers.refused.values()) == {"torn"}
    assert (answers.probabilities[answers.answered].argmax(axis=1) == found.part.answered()[1]).all()
    assert [fold["n"] for fold in found.record["folds"]] == np.bincount(found.fold)[1:].tolist()
    assert len({fold["weights_sha256"] for fold in found.record["folds"]}) == 3
    assert found.record["groups_origin"] == "column patient"
    (tmp_path / "folds/folds.json").unlink()
    with pytest.raises(CheckpointError, match="the cross-validation cannot be read"):
        read_out_of_fold(tmp_path / "folds", NAMES)


def test_a_killed_cross_validation_goes_on_with_the_fold_it_was_in(splits, pool, recorder, tmp_path) -> None:
    recorder.killed_at = 1
    with pytest.raises(KeyboardInterrupt):
        validate(tmp_path, splits, pool, recorder)
    assert not (tmp_path / "folds/predictions.parquet").exists()
    recorder.killed_at = None
    assert validate(tmp_path, splits, pool, recorder)[0]
    assert [name for name, *_ in recorder.trained] == ["1", "2", "3"]
    assert validate(tmp_path, splits, pool, recorder)[0] and len(recorder.trained) == 3


def test_one_fold_a_machine(splits, pool, recorder, tmp_path) -> None:
    for number, complete in ((3, False), (1, False), (2, True)):
        assert validate(tmp_path, splits, pool, recorder, only_fold=number)[0] == complete
    assert [name for name, *_ in recorder.trained] == ["3", "1", "2"]
    assert len(pandas.read_parquet(tmp_path / "folds/predictions.parquet")) == 48


def test_folds_drawn_otherwise_are_refused(splits, pool, recorder, tmp_path) -> None:
    validate(tmp_path, splits, pool, recorder, only_fold=1)
    with pytest.raises(CheckpointError, match=r"holds 3 folds that were drawn otherwise \(seed 0\)"):
        validate(tmp_path, splits, pool, recorder, folds=2)
    with pytest.raises(CheckpointError, match="drawn otherwise"):
        validate(tmp_path, splits, pool, recorder, seed=4)


def test_a_fold_of_another_corpus_is_not_counted_in(splits, pool, recorder, tmp_path) -> None:
    validate(tmp_path, splits, pool, recorder, only_fold=1)
    file = tmp_path / "folds/1/fold.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"split_hash": "another"}))
    with pytest.raises(CheckpointError, match="folds/1 is a fold of another corpus or seed; remove it"):
        validate(tmp_path, splits, pool, recorder)
    assert not (tmp_path / "folds/predictions.parquet").exists()
