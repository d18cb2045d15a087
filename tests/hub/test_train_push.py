"""Training that ends on the Hub: asked about first, done last, and made again where it failed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ct_xception.errors import InputError
from ct_xception.pipeline import run
from ct_xception.training.options import TrainConfig, config_from_mapping
from tests.accelerators import forget_accelerator
from tests.hub.local_hub import LocalHub


@pytest.fixture
def config() -> TrainConfig:
    return config_from_mapping({"corpus": "phantom", "push_to_hub": "alice/trained", "private": True})


@pytest.mark.usefixtures("log_in")
def test_it_is_asked_before_anything_slow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()  # refused as soon as it is read
    options = [
        "--corpus",
        str(tmp_path / "empty"),
        "--weights",
        "none",
        "--threads",
        "1",
        "--output_dir",
        str(tmp_path / "run"),
    ]
    try:
        assert run.main([*options, "--push_to_hub", "bob/ct"]) == 2
    finally:
        forget_accelerator()
    assert "train_hf.py: bob/ct: the token is alice's, and bob is neither that account" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("log_in")
def test_the_finished_checkpoint_is_published(
    hub: LocalHub, config: TrainConfig, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").symlink_to(checkpoint)
    run.push(config, tmp_path)
    commit = hub["alice/trained"].at("main").id
    assert hub["alice/trained"].private
    assert capsys.readouterr().out == f"published:  {hub.endpoint}/alice/trained   (commit {commit[:12]})\n"
    sent = len(hub.log)
    run.push(dataclasses.replace(config, push_to_hub=None, private=False), tmp_path)
    assert len(hub.log) == sent


def test_options_that_make_no_sense_together() -> None:
    with pytest.raises(InputError, match="--private: is about --push_to_hub, which was not given"):
        config_from_mapping({"corpus": "phantom", "private": True})
    folds = {"protocols": ["published", "grouped"], "only_fold": 1}
    with pytest.raises(InputError, match="--push_to_hub: a fold alone makes no checkpoint"):
        config_from_mapping({"corpus": "phantom", "push_to_hub": "alice/ct", **folds})
