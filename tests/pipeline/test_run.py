"""How a run begins: its process is set up before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct_xception.errors import CheckpointError, InputError
from ct_xception.pipeline import run
from ct_xception.training.options import TrainConfig
from ct_xception.training.preflight import check_before_reading


def test_training_keeps_freed_memory_and_shares_the_cores_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the benchmark of training measures is what a user gets: both call `set_up_process`."""
    done: list[str] = []
    monkeypatch.setattr("ct_xception.pipeline.run.keep_freed_memory", lambda: done.append("memory"))
    monkeypatch.setattr(
        "ct_xception.training.loop.share_cores", lambda config: done.append(f"{config.threads} threads")
    )

    def stop(*_: object) -> None:
        done.append("run folder")
        raise InputError("stopped.")

    monkeypatch.setattr(run, "_open_run", stop)
    with pytest.raises(InputError, match="stopped"):
        run.build(TrainConfig(corpus="phantom", threads=1, output_dir=str(tmp_path)), "")
    assert sorted(done[:2]) == ["1 threads", "memory"] and done[2:] == ["run folder"]


def test_the_record_of_the_command_keeps_no_path_and_no_address() -> None:
    words = ["--corpus", "/home/ann/ct", "--output_dir=../runs/a b", "--storage", "postgresql://me:secret@host/x"]
    said = run.command_record(("ct-xception", "tune"), [*words, "--epochs", "3"])
    assert said == "ct-xception tune --corpus ct '--output_dir=a b' --storage ... --epochs 3"


@pytest.mark.parametrize("damaged", ["", "{", "[1]", "null"])
def test_a_run_whose_record_is_damaged_is_named(damaged: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(damaged)
    with pytest.raises(CheckpointError, match=r"config.json: cannot be read \(.+\); choose another --output_dir\."):
        check_before_reading(TrainConfig(corpus="phantom", weights="none"), tmp_path)
