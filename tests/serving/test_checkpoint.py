"""Checkpoints are found, checked and refused by name before anything is loaded from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ct_xception.errors import CheckpointError
from ct_xception.files import sha256_file
from ct_xception.imaging.windows import Window
from ct_xception.serving.checkpoint import InputContract, open_checkpoint
from ct_xception.serving.classifier import Classifier
from tests.gates import add_gate


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may spoil; the weights are linked until they are replaced."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes((tiny_checkpoint / "config.json").read_bytes())
    (folder / "model.safetensors").symlink_to(tiny_checkpoint / "model.safetensors")
    return folder


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def write_side_file(folder: Path, **values: Any) -> None:
    (folder / "ct_xception.json").write_text(json.dumps({"format": 1, **values}))


def test_a_gate_is_asked_unless_it_is_left_out(checkpoint: Path, sample_slices: list[Path]) -> None:
    add_gate(checkpoint)
    answer = Classifier.from_pretrained(checkpoint)(sample_slices[0])
    assert answer.gate is not None and answer.gate.refused
    assert list(answer.to_dict())[:4] == ["refused", "source", "gate", "label"]
    free = Classifier.from_pretrained(checkpoint, gate=False)(sample_slices[0])
    assert free.gate is None and "gate" not in free.to_dict() and free.probabilities == answer.probabilities


def test_a_gate_that_was_changed_is_refused(checkpoint: Path) -> None:
    manifest = {name: sha256_file(checkpoint / name) for name in ("config.json", "model.safetensors")}
    add_gate(checkpoint, manifest={**manifest, "gate.safetensors": "0" * 64})
    with pytest.raises(CheckpointError, match="gate.safetensors differs from the SHA-256 in ct_xception.json"):
        open_checkpoint(checkpoint)
    add_gate(checkpoint)
    (checkpoint / "gate.safetensors").unlink()
    with pytest.raises(CheckpointError, match="its input gate cannot be read .gate.safetensors is missing or damaged"):
        open_checkpoint(checkpoint)
    add_gate(checkpoint, provenance={"weights_sha256": "0" * 64})
    with pytest.raises(CheckpointError, match="it was fitted to other weights"):
        open_checkpoint(checkpoint)


def test_a_stock_folder_without_side_file_is_read_with_the_body_crop_and_a_note(checkpoint: Path) -> None:
    found = open_checkpoint(checkpoint)
    assert found.contract == InputContract(body_crop=True, filters=(), window=None)
    assert found.notes == ("no ct_xception.json: the body crop is assumed",)
    assert found.revision is None


def test_the_input_contract_comes_from_the_side_file(checkpoint: Path) -> None:
    contract = {"body_crop": False, "filters": ["median"], "window": {"centre": 40, "width": 400}}
    write_side_file(checkpoint, input=contract, temperature=1.3)
    found = open_checkpoint(checkpoint)
    assert found.contract == InputContract(False, ("median",), Window(40, 400))
    assert found.notes == ()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "neither a folder nor a Hub id"),
        ("a/b/c", "neither a folder nor a Hub id"),
        ("user/repo", "nothing of that name here, and the Hub is switched off"),
        ("user/repo@v1.0", "nothing of that name here, and the Hub is switched off"),
        ("user/re--po", "neither a folder|mend the name"),
    ],
)
def test_what_is_no_checkpoint_is_refused_quickly(name: str, words: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(name)


def test_a_file_is_refused_with_the_folder_to_give(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="is a file; give the folder"):
        open_checkpoint(checkpoint / "config.json")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="config.json is missing"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "vit"}, "model_type is 'vit', not 'timm_wrapper'"),
        ({"pretrained_cfg": {"mean": [0.5] * 3}}, "lacks input_size, std"),
        ({"architecture": "hf-hub:evil/model"}, "'hf-hub:evil/model' is none of legacy_xception, xception41"),
        ({"architecture": "../x"}, "it is not loaded"),
        ({"model_args": {"checkpoint_path": "/x.bin"}}, "model_args in config.json holds checkpoint_path"),
        ({"label_names": ["one"]}, "no choice between two or more classes"),
        ({"problem_type": "multi_label_classification"}, "no choice between two or more classes"),
        ({"pretrained_cfg": None}, "is not of the form that a checkpoint has .*; fetch the checkpoint again"),
    ],
)
def test_a_config_that_cannot_be_trusted_is_refused(checkpoint: Path, values: dict[str, Any], words: str) -> None:
    change_config(checkpoint, **values)
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(checkpoint)


@pytest.mark.parametrize(("text", "words"), [("{", "config.json is not JSON"), ("[]", "holds no JSON object")])
def test_a_config_that_is_not_an_object_is_refused(checkpoint: Path, text: str, words: str) -> None:
    (checkpoint / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(checkpoint)


def test_pickled_weights_are_never_read(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    torch.save({}, checkpoint / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="only safetensors weights are read"):
        open_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("side", "words"),
    [
        ({"format": 4}, "has format 4, this version reads up to 3; update ct-xception"),
        ({"input": {"body_crop": True, "denoise": 3}}, r"unknown input steps in ct_xception.json \(denoise\)"),
        ({"manifest": None}, "is not of the form that a checkpoint has"),
        ({"input": None}, "is not of the form that a checkpoint has"),
        ({"input": {"window": {"center": 1, "width": 2}}}, "is not of the form that a checkpoint has .*centre"),
    ],
)
def test_a_side_file_of_a_later_version_is_refused(checkpoint: Path, side: dict[str, Any], words: str) -> None:
    write_side_file(checkpoint, **side)
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(checkpoint)


def test_a_single_flipped_bit_is_found_by_the_manifest(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    data = bytearray(weights.read_bytes())
    manifest = {name: sha256_file(checkpoint / name) for name in ("config.json", "model.safetensors")}
    write_side_file(checkpoint, manifest=manifest)
    open_checkpoint(checkpoint)
    data[-5] ^= 1
    weights.unlink()
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match="model.safetensors differs from the SHA-256 in ct_xception.json"):
        open_checkpoint(checkpoint)


def test_a_changed_config_is_found_by_the_manifest(checkpoint: Path) -> None:
    write_side_file(checkpoint, manifest={"config.json": sha256_file(checkpoint / "config.json")})
    change_config(checkpoint, label_names=["normal", "adenocarcinoma", "squamous cell carcinoma", "other"])
    with pytest.raises(CheckpointError, match="config.json differs"):
        open_checkpoint(checkpoint)


def test_truncated_and_incomplete_weights_are_refused(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    tensors = load_file(weights)
    whole = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(whole[:-1000])
    with pytest.raises(CheckpointError, match="the network cannot be loaded"):
        Classifier.from_pretrained(checkpoint)
    del tensors["block5.rep.1.pointwise.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lack 1 of the network's tensors \(the first: .*block5.rep.1.pointwise"):
        Classifier.from_pretrained(checkpoint)


def test_weights_of_another_width_are_refused(checkpoint: Path) -> None:
    change_config(checkpoint, architecture="xception41")
    with pytest.raises(CheckpointError):
        Classifier.from_pretrained(checkpoint)


def test_a_folder_of_runs_and_a_misspelt_run_are_told_the_checkpoint(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(checkpoint, tmp_path / "runs" / "phantom" / "model")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="runs: holds runs, .* such as runs/phantom/model"):
        open_checkpoint("runs")
    with pytest.raises(CheckpointError, match="did you mean runs/phantom?"):
        open_checkpoint("runs/phantm")
    assert open_checkpoint("runs/phantom").name == "runs/phantom/model"
