"""A start on the Hub is pinned to its commit, and a run that is resumed keeps the commit that it began with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ct_xception.errors import CheckpointError
from ct_xception.publish.hub import Pushed
from ct_xception.training.model_folder import initial_weights
from ct_xception.training.options import parse_config


@pytest.mark.usefixtures("log_in")
@pytest.mark.parametrize("option", ["init", "weights"])
def test_a_hub_id_is_pinned(published: Pushed, tmp_path: Path, option: str) -> None:
    config = parse_config(["--corpus", "phantom", f"--{option}", "alice/ct"])
    pinned = f"alice/ct@{published.commit}"
    assert config.weights == pinned and config.init == (pinned if option == "init" else None)
    assert initial_weights(config) == pinned
    if option == "init":
        assert config.image_size == 64

    assert parse_config(["--corpus", "phantom", f"--{option}", "alice/ct@v1"]).weights == pinned


@pytest.mark.usefixtures("log_in", "published")
@pytest.mark.parametrize("option", ["init", "weights"])
def test_a_run_that_is_resumed_asks_for_what_it_began_with(tmp_path: Path, option: str) -> None:
    gone = f"alice/ct@{'0' * 40}"
    (tmp_path / "config.json").write_text(json.dumps({option: gone}))
    words = ["--corpus", "phantom", f"--{option}", "alice/ct", "--output_dir", str(tmp_path)]
    with pytest.raises(CheckpointError, match=gone):
        parse_config([*words, "--resume", "auto"])
    assert parse_config(words).weights.startswith("alice/ct@")
