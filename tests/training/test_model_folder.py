"""A checkpoint folder is calibrated, opened again, and replaced, and is whole at every moment."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ct_xception.checkpoint_files import ConformalRule, Rules
from ct_xception.errors import CheckpointError
from ct_xception.files import sha256_file
from ct_xception.serving.classifier import Classifier
from ct_xception.training.model_folder import (
    calibrate_model_folder,
    recover_model_folder,
    reopen_model_folder,
    replace_model_folder,
)
from ct_xception.training.options import TrainConfig
from ct_xception.training.preflight import is_complete
from tests.metrics import head, metric

SPLIT = {"name": "5f0c", "protocol": "published", "sources": {"test": ["patient Smith.png"]}}


@pytest.fixture
def old_model(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A finished checkpoint as the first format left it: never calibrated."""
    folder = tmp_path / "run" / "model"
    shutil.copytree(tiny_checkpoint, folder)
    side = {"format": 1, "input": {"body_crop": True}, "temperature": 1.0, "manifest": {}}
    provenance = {"split": {"name": "5f0c"}, "weights_sha256": sha256_file(folder / "model.safetensors"), "seed": 3}
    (folder / "ct_xception.json").write_text(json.dumps(side | {"provenance": provenance}))
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "metrics.json").write_text(json.dumps({"format": 1, "protocol": "published"}))
    return folder


def test_a_temperature_is_folded_into_the_head_and_the_rules_are_kept(
    old_model: Path, sample_slices: list[Path]
) -> None:
    before, weights = (
        Classifier.from_pretrained(old_model)(sample_slices[0]),
        load_file(old_model / "model.safetensors"),
    )
    rule = ConformalRule(coverage=0.9, threshold=None, method="lac")
    calibrate_model_folder(old_model, Rules(temperature=2.0, conformal=rule))
    side, scaled = json.loads((old_model / "ct_xception.json").read_text()), load_file(old_model / "model.safetensors")
    assert (side["temperature"], side["provenance"]["seed"], side["conformal"]["coverage"]) == (2.0, 3, 0.9)
    assert side["provenance"]["weights_sha256"] == sha256_file(old_model / "model.safetensors")
    assert all((scaled[key] * (2 if key.startswith("fc.") else 1) == value).all() for key, value in weights.items())
    after = Classifier.from_pretrained(old_model)(sample_slices[0])
    roots = {name: value**0.5 for name, value in before.probabilities.items()}
    wanted = {name: value / sum(roots.values()) for name, value in roots.items()}
    assert after.probabilities == pytest.approx(wanted, rel=1e-4)
    calibrate_model_folder(old_model, Rules(temperature=3.0))
    assert json.loads((old_model / "ct_xception.json").read_text())["temperature"] == 6.0


def test_a_finished_checkpoint_is_opened_again_without_its_figures(old_model: Path) -> None:
    folder = old_model.with_name("model.partial")
    reopen_model_folder(old_model, folder, corpus={"source": "clinic"}, split=SPLIT)
    side = json.loads((folder / "ct_xception.json").read_text())
    assert not (folder / "evaluation").exists() and (old_model / "evaluation").exists()
    assert side["provenance"]["corpus"] == {"source": "clinic"} and side["provenance"]["seed"] == 3
    assert "Smith" not in json.dumps(side)
    assert (folder / "model.safetensors").read_bytes() == (old_model / "model.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match="trained by another split of the corpus; choose another --output_dir"):
        reopen_model_folder(old_model, folder, corpus={}, split=SPLIT | {"name": "other"})


def test_an_older_checkpoint_goes_only_when_the_new_one_has_come(old_model: Path) -> None:
    new = old_model.with_name("model.partial")
    new.mkdir()
    (new / "config.json").write_text("new")
    replace_model_folder(new, old_model)
    assert [path.name for path in old_model.parent.iterdir()] == ["model"]
    assert (old_model / "config.json").read_text() == "new"
    old_model.rename(old_model.with_name("model.previous"))  # as a kill between the two renames leaves it
    recover_model_folder(old_model)
    assert (old_model / "config.json").read_text() == "new"


def test_what_is_left_to_do(old_model: Path) -> None:
    run, file = old_model.parent, old_model / "evaluation" / "metrics.json"
    asked = {"corpus": "phantom", "class_groups": {"cancer": "a,b"}}
    assert not is_complete(TrainConfig(**asked), run)  # of the first format
    rule = {"rule": {"coverage": TrainConfig(**asked).coverage, "method": "lac", "threshold": 0.5}}
    protocol = {"n": 1, "n_groups": 1, "split_hash": None, "paths": {}}
    groups, gate = {"cancer": ["a", "b"]}, {"gate": {"rule": {"method": None}}}
    maps = {"method": "gradcam", "budget": "fast", "n": 0, "warned": metric(None).to_json()}
    metrics = head(protocols={"deduplicated": protocol}, conformal=rule, class_groups=groups)
    file.write_text(json.dumps(metrics))
    assert not is_complete(TrainConfig(**asked), run)  # without an input gate
    file.write_text(json.dumps(metrics | gate))
    assert not is_complete(TrainConfig(**asked), run)  # without heat maps that were checked
    assert is_complete(TrainConfig(**asked, explained=0), run)
    file.write_text(json.dumps(metrics | gate | {"explanations": maps}))
    assert is_complete(TrainConfig(**asked), run) and is_complete(TrainConfig(corpus="phantom"), run)
    assert not is_complete(TrainConfig(**asked, coverage=0.8), run)
    assert not is_complete(TrainConfig(**asked | {"class_groups": {"cancer": "a"}}), run)
    grouped = TrainConfig(**asked, protocols=["grouped"], only_fold=2)
    assert not is_complete(TrainConfig(**asked, protocols=["grouped"]), run) and not is_complete(grouped, run)
    (run / "folds" / "2").mkdir(parents=True)
    (run / "folds" / "2" / "fold.json").touch()
    assert is_complete(grouped, run)
    (old_model / "ct_xception.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="holds no JSON object; remove .*model, and the same command measures it"):
        is_complete(TrainConfig(**asked), run)
