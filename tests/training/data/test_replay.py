"""Old corpora: their splits as they were, and as many of their slices as were asked for."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from ct_xception.corpus.load import load_corpus
from ct_xception.corpus.split import make_splits
from ct_xception.errors import InputError
from ct_xception.phantom.corpus import generate_phantom
from ct_xception.training.data.cache import prepare_slices
from ct_xception.training.data.replay import load_old, mix_in, replay_record, replayed, split_of
from ct_xception.training.options import TrainConfig

NAMES = ["adenocarcinoma", "normal"]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two corpora of two classes, 12 slices of 6 patients each, the second without splits of its own."""
    folder = tmp_path_factory.mktemp("corpora")
    made = [
        generate_phantom(folder / str(seed), patients=6, slices_per_patient=2, size=64, classes=2, seed=seed)
        for seed in (0, 1)
    ]
    (made[1] / "metadata.csv").unlink()
    for name in NAMES:
        for split in ("train", "valid", "test"):
            shutil.copytree(made[1] / split / name, folder / "unsplit" / name, dirs_exist_ok=True)
    return [made[0], folder / "unsplit"]


@pytest.fixture
def config(corpora: list[Path], tiny_checkpoint: Path, tmp_path: Path) -> TrainConfig:
    """A run that goes on from a checkpoint whose side file tells of the second corpus, split by seed 5."""
    start = Path(shutil.copytree(tiny_checkpoint, tmp_path / "start"))
    corpus = load_corpus(corpora[1])
    _, split = make_splits(corpus.dataset, fractions=(0.5, 0.25, 0.25), seed=5)
    split = {**split, "fractions": [0.5, 0.25, 0.25], "groups_origin": None}
    lineage = [{"name": "first", "corpus": {"hash": corpus.report["hash"]}, "split": split}]
    side = {"format": 1, "manifest": {}, "provenance": {"lineage": lineage, "corpus": {"hash": "another"}}}
    (start / "ct_xception.json").write_text(json.dumps(side))
    options = {"replay": [str(corpora[1])], "init": str(start), "weights": str(start), "group_pattern": r"(P\d+)"}
    return TrainConfig(corpus=str(corpora[0]), **options)


def test_an_old_corpus_is_split_as_it_was(config: TrainConfig, corpora: list[Path], tmp_path: Path) -> None:
    config = dataclasses.replace(config, group_pattern=None)
    (old,) = load_old(config, NAMES, tmp_path)
    wanted, _ = make_splits(load_corpus(corpora[1]).dataset, fractions=(0.5, 0.25, 0.25), seed=5)
    assert old.known and {name: list(part["source"]) for name, part in old.splits.items()} == {
        name: list(part["source"]) for name, part in wanted.items()
    }
    assert old.corpus["source"] == "unsplit"
    with pytest.raises(InputError, match=r"unsplit has the classes adenocarcinoma, normal, and --corpus has benign"):
        load_old(config, ["benign", "malignant"], tmp_path)


def test_a_split_that_cannot_be_made_again_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be split again as --init was trained by .*; give the same columns"):
        load_old(config, NAMES, tmp_path)  # by patients now, by images then


def test_the_share_is_kept_and_nothing_is_drawn_twice(config: TrainConfig, corpora: list[Path], tmp_path: Path) -> None:
    config = dataclasses.replace(config, group_pattern=None, replay_share=0.25)
    (old,) = load_old(config, NAMES, tmp_path)
    splits, _ = make_splits(load_corpus(corpora[0]).dataset)
    own = prepare_slices(splits["train"], tmp_path, config.reading, description="")
    mixed = mix_in(own, [old], "train", tmp_path, config)
    extra = mixed.sources[len(own) :]
    assert mixed.sources[: len(own)] == own.sources and len(extra) == len(set(extra)) == round(len(own) / 3)
    assert set(extra) <= set(old.splits["train"]["source"])
    assert mixed.sources == mix_in(own, [old], "train", tmp_path, config).sources
    record = replay_record(splits, [old], config)
    assert (record["images"], record["available"]) == (len(extra), len(old.splits["train"]))
    assert record["share"] == pytest.approx(len(extra) / len(mixed)) and "sources" not in json.dumps(record)
    assert split_of({"name": "one"}, [old]) == f"one+{old.split['name']}"
    assert mix_in(own, [old], "train", tmp_path, dataclasses.replace(config, replay_share=0.0)) is own
    assert replayed(8, 3, dataclasses.replace(config, replay_share=0.5)) == 3
