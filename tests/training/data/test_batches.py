"""Cache, sampler and items: decoded once, drawn the same however often and by however many workers."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from ct_xception.errors import CorpusError, DiskError
from ct_xception.imaging.body.crop import crop_body
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.transforms import AugmentConfig, EvalTransform, TrainTransform
from ct_xception.model.configuration import input_contract
from ct_xception.training.data.batches import (
    EpochSampler,
    EpochTransforms,
    EvaluationItems,
    TrainingItems,
    evaluation_loader,
    training_loader,
)
from ct_xception.training.data.cache import Reading, prepare_slices

CONTRACT = input_contract("legacy_xception", 64)


def split_of(paths: list[Path], labels: list[int]) -> datasets.Dataset:
    features = datasets.Features(
        {
            "image": datasets.Image(decode=False),
            "label": datasets.ClassLabel(names=["a", "b"]),
            "group": datasets.Value("string"),
            "source": datasets.Value("string"),
        }
    )
    rows = {
        "image": [{"path": str(path), "bytes": None} for path in paths],
        "label": labels,
        "group": [path.stem for path in paths],
        "source": [path.name for path in paths],
    }
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture
def split(sample_slices: list[Path]) -> datasets.Dataset:
    return split_of(sample_slices, [0, 1, 0, 1, 1])


def test_the_cache_holds_what_the_reader_reads(split, sample_slices: list[Path], tmp_path: Path) -> None:
    slices = prepare_slices(split, tmp_path, Reading(), description="")
    assert len(slices) == 5 and slices.labels.tolist() == [0, 1, 0, 1, 1]
    for index, path in enumerate(sample_slices):
        item = slices[index]
        assert np.array_equal(item.pixels, read_slice(path).pixels)
        assert item.source == path.name and item.mask.any() and not item.mask.all()


def test_files_are_decoded_once_and_again_when_they_change(split, sample_slices, tmp_path, monkeypatch) -> None:
    import ct_xception.training.data.cache as cache

    prepare_slices(split, tmp_path, Reading(), description="")

    def refuse(*_, **__):
        raise AssertionError("decoded again")

    monkeypatch.setattr(cache, "read_slice", refuse)
    assert len(prepare_slices(split, tmp_path, Reading(), description="")) == 5
    with pytest.raises(AssertionError, match="decoded again"):
        prepare_slices(split, tmp_path, Reading(filters=("median",)), description="")
    state = os.stat(sample_slices[0])
    os.utime(sample_slices[0], ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    with pytest.raises(AssertionError, match="decoded again"):
        prepare_slices(split, tmp_path, Reading(), description="")


def test_without_body_crop_the_mask_is_the_whole_slice(split, tmp_path: Path) -> None:
    slices = prepare_slices(split, tmp_path, Reading(body_crop=False), description="")
    assert all(slices[index].mask.all() for index in range(5))


def test_all_unreadable_files_are_named_at_once(tmp_path: Path, sample_slices: list[Path]) -> None:
    bad = [tmp_path / "one.png", tmp_path / "two.png"]
    for path in bad:
        path.write_bytes(b"not a picture")
    with pytest.raises(CorpusError, match="(?s)2 problems.*one.png.*two.png"):
        split = split_of([*sample_slices[:2], *bad], [0, 1, 0, 1])
        prepare_slices(split, tmp_path / "cache", Reading(), description="")


def test_an_item_is_a_function_of_seed_epoch_and_position(split, tmp_path: Path) -> None:
    slices = prepare_slices(split, tmp_path, Reading(), description="")
    items = TrainingItems(slices, EpochTransforms(TrainTransform(CONTRACT, AugmentConfig())), seed=3)
    first = items[(1, 0, 2)]["pixel_values"]
    assert torch.equal(first, items[(1, 0, 2)]["pixel_values"])
    assert not torch.equal(first, items[(2, 0, 2)]["pixel_values"])
    assert not torch.equal(first, items[(1, 1, 2)]["pixel_values"])


def test_the_first_epochs_are_small_whatever_worker_asks(split, tmp_path: Path) -> None:
    slices = prepare_slices(split, tmp_path, Reading(), description="")
    sizes = EpochTransforms.of(CONTRACT, AugmentConfig(), 48, 2)
    items = TrainingItems(slices, sizes, seed=3)
    side = CONTRACT["input_size"][-1]
    sampler = EpochSampler(len(slices), 3)
    loader = training_loader(items, sampler, 2, workers=1)
    for epoch, wanted in ((1, 48), (2, 48), (3, side), (1, 48)):
        sampler.epoch = epoch
        assert {tuple(batch["pixel_values"].shape) for batch in loader} == {(2, 3, wanted, wanted)}
    plain = TrainingItems(slices, EpochTransforms.of(CONTRACT, AugmentConfig(), 0, 0), seed=3)
    assert torch.equal(items[(3, 0, 1)]["pixel_values"], plain[(3, 0, 1)]["pixel_values"])


def test_workers_do_not_change_the_batches(split, tmp_path: Path) -> None:
    slices = prepare_slices(split, tmp_path, Reading(), description="")
    items = TrainingItems(slices, EpochTransforms(TrainTransform(CONTRACT, AugmentConfig())), seed=3)
    batches = []
    for workers in (0, 2):
        sampler = EpochSampler(len(slices), 3)
        sampler.epoch = 4
        batches.append(list(training_loader(items, sampler, 2, workers)))
    assert len(batches[0]) == 2  # 5 items in whole batches of 2
    for alone, helped in zip(*batches, strict=True):
        assert torch.equal(alone["pixel_values"], helped["pixel_values"])
        assert alone["index"].tolist() == helped["index"].tolist()


def test_an_epoch_draws_every_item_once_and_epochs_differ() -> None:
    sampler = EpochSampler(6, seed=0)
    orders = []
    for epoch in (1, 2):
        sampler.epoch = epoch
        draws = list(sampler)
        assert [draw[:2] for draw in draws] == [(epoch, position) for position in range(6)]
        orders.append([index for *_, index in draws])
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(6))
    assert orders[0] != orders[1]


@pytest.mark.parametrize("alike", [np.array([0] * 950 + [1] * 50), ["many"] * 950 + ["few"] * 50])
def test_rare_classes_and_patients_of_few_images_are_drawn_as_often(alike: Sequence[object]) -> None:
    draws = list(EpochSampler(1000, seed=0, alike=alike))
    assert len(draws) == 1000
    assert 0.45 < np.mean([alike[index] == alike[-1] for *_, index in draws]) < 0.55


def test_evaluation_items_are_what_the_predictor_sees(split, sample_slices: list[Path], tmp_path: Path) -> None:
    slices = prepare_slices(split, tmp_path, Reading(), description="")
    transform = EvalTransform(CONTRACT)
    (batch,) = evaluation_loader(EvaluationItems(slices, transform), 8)
    for index, path in enumerate(sample_slices):
        assert torch.equal(batch["pixel_values"][index], transform(crop_body(read_slice(path)).slice))


def test_a_disk_that_the_cache_fills_is_named(
    sample_slices: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    split = split_of(sample_slices[:2], [0, 1])
    monkeypatch.setattr(datasets.Dataset, "map", full)
    with pytest.raises(DiskError, match=f"^{tmp_path}/cache: cannot be written to, since the disk is full"):
        prepare_slices(split, tmp_path / "cache", Reading(), description="reading")
