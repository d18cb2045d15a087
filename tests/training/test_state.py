"""Checkpoints: bitwise round trip for every optimizer kind, whole or absent, damage said in a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from ct_xception.errors import CheckpointError, WorkError
from ct_xception.training import state
from ct_xception.training.state import (
    BEST,
    Progress,
    latest_checkpoint,
    load_checkpoint,
    read_progress,
    save_checkpoint,
)


def trained(optimizer: str, steps: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    from timm.optim import create_optimizer_v2

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    made = create_optimizer_v2(list(model.parameters()), opt=optimizer, lr=0.01)
    for step in range(steps):
        advance(model, made, step)
    return model, made


def advance(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
    optimizer.zero_grad()
    model(images).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "rmsprop", "sgd", "lion", "lamb", "adan"])
def test_training_goes_on_bit_for_bit(optimizer: str, tmp_path: Path) -> None:
    model, made = trained(optimizer)
    made.param_groups[0]["lr"] = 0.007  # as a schedule would have left it
    save_checkpoint(tmp_path, Progress({}, "s", epoch=1), {"model": model}, made, {}, best=None)
    other, remade = trained(optimizer, steps=0)
    load_checkpoint(latest_checkpoint(tmp_path), {"model": other}, remade)
    for step in (3, 4):
        advance(model, made, step)
        advance(other, remade, step)
    for (name, one), two in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    assert remade.param_groups[0]["lr"] == 0.007


def test_the_older_checkpoint_goes_and_the_best_weights_stay(tmp_path: Path) -> None:
    model, made = trained("sgd")
    best = {"weight": torch.ones(2)}
    save_checkpoint(tmp_path, Progress({}, "s", epoch=1), {"model": model}, made, {}, best=best)
    kept = (tmp_path / "epoch-0001" / BEST).read_bytes()
    save_checkpoint(tmp_path, Progress({}, "s", epoch=2), {"model": model}, made, {}, best=None)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0002"]
    assert (tmp_path / "epoch-0002" / BEST).read_bytes() == kept


def test_a_half_written_checkpoint_is_never_taken(tmp_path: Path) -> None:
    model, made = trained("sgd")
    save_checkpoint(tmp_path, Progress({}, "s", epoch=1), {"model": model}, made, {}, best=None)
    (tmp_path / ".saving").mkdir()
    (tmp_path / "epoch-0002").mkdir()  # no progress.json in it
    assert latest_checkpoint(tmp_path) == tmp_path / "epoch-0001"
    save_checkpoint(tmp_path, Progress({}, "s", epoch=3), {"model": model}, made, {}, best=None)
    assert latest_checkpoint(tmp_path) == tmp_path / "epoch-0003"


def test_progress_round_trips_and_damage_is_named(tmp_path: Path) -> None:
    model, made = trained("sgd")
    progress = Progress({"epochs": 2}, "split", epoch=1, best_figure=0.5, history=[{"epoch": 1, "auroc": None}])
    save_checkpoint(tmp_path, progress, {"model": model}, made, {}, best=None)
    found = latest_checkpoint(tmp_path)
    assert read_progress(found) == progress
    for damaged in ("{", "[1]", "null"):
        (found / "progress.json").write_text(damaged)
        with pytest.raises(CheckpointError, match="cannot be resumed"):
            read_progress(found)


def test_damaged_tensors_are_named(tmp_path: Path) -> None:
    model, made = trained("sgd")
    save_checkpoint(tmp_path, Progress({}, "s", epoch=1), {"model": model}, made, {}, best=None)
    found = latest_checkpoint(tmp_path)
    (found / "state.safetensors").write_bytes((found / "state.safetensors").read_bytes()[:100])
    with pytest.raises(CheckpointError, match="epoch-0001: cannot be resumed"):
        load_checkpoint(found, {"model": model}, made)


def test_a_full_disk_is_told_before_it_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, made = trained("adamw")
    save_checkpoint(tmp_path, Progress({}, "s", epoch=1), {"model": model}, made, {}, best=None)
    needed = (tmp_path / "epoch-0001" / "state.safetensors").stat().st_size
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(state.shutil, "disk_usage", lambda _: usage._replace(free=needed // 8))
    with pytest.raises(WorkError, match=r"the next checkpoint needs 0\.0 MB, and 0\.0 MB are free; make room"):
        save_checkpoint(tmp_path, Progress({}, "s", epoch=2), {"model": model}, made, {}, best=None)
    assert latest_checkpoint(tmp_path) == tmp_path / "epoch-0001"
