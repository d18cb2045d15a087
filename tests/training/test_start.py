"""Where a run begins: options taken over from a checkpoint, its head, and what does not go together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ct_xception.errors import InputError
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.training.options import TrainConfig, config_from_mapping, parse_config
from ct_xception.training.start import check_classes, continue_head, settle_start

NAMES = ["adenocarcinoma", "large cell carcinoma", "normal", "squamous cell carcinoma"]


@pytest.fixture
def start(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "start"))
    contract = {"body_crop": False, "filters": ["median"], "window": {"centre": -600, "width": 1500}}
    (folder / "ct_xception.json").write_text(json.dumps({"format": 1, "input": contract, "manifest": {}}))
    return folder


def test_the_checkpoint_s_input_is_taken_over_unless_it_is_given(start: Path) -> None:
    config = parse_config(["--corpus", "phantom", "--init", str(start)])
    assert (config.init, config.weights) == (str(start), str(start))
    assert (config.backbone, config.image_size, config.body_crop) == ("legacy_xception", 64, False)
    assert (config.filters, config.window) == (["median"], "-600/1500")
    other = parse_config(["--corpus", "phantom", "--init", str(start), "--image_size", "96", "--body_crop"])
    assert (other.image_size, other.body_crop, other.window) == (96, True, "-600/1500")


def test_a_run_folder_stands_for_its_checkpoint(start: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    model = (tmp_path / "run" / "model").resolve()
    model.symlink_to(start.resolve(), target_is_directory=True)
    run = str(tmp_path / "run")
    for option, found in (("--init", "init"), ("--weights", "weights")):
        assert getattr(parse_config(["--corpus", "phantom", option, run]), found) == f"{run}/model"


@pytest.mark.parametrize("words", [["--init", "nope"], ["--soup", "nope", "nope2"]])
def test_a_checkpoint_that_is_not_there_is_told_with_its_option(words: list[str]) -> None:
    with pytest.raises(InputError, match=f"^{words[0]}: nope: neither a folder nor a Hub id"):
        parse_config(["--corpus", "phantom", *words])


def test_what_does_not_go_together(start: Path) -> None:
    with pytest.raises(InputError, match="--init and --weights: both say where to begin"):
        parse_config(["--corpus", "phantom", "--init", str(start), "--weights", "none"])
    with pytest.raises(InputError, match="--init and --soup: both say where to begin"):
        parse_config(["--corpus", "phantom", "--init", str(start), "--soup", str(start), str(start)])
    with pytest.raises(InputError, match="--replay: is about what --init was trained on, which was not given"):
        config_from_mapping({"corpus": "phantom", "replay": ["phantom"]})
    with pytest.raises(InputError, match="--init: a cross-validation would test it on images that it has seen"):
        parse_config(["--corpus", "phantom", "--init", str(start), "--protocols", "grouped"])
    cfg = json.loads((start / "config.json").read_text())
    cfg["pretrained_cfg"]["mean"] = [0.485, 0.456, 0.406]
    (start / "config.json").write_text(json.dumps(cfg))
    with pytest.raises(InputError, match=r"takes its input with mean \[0.485, 0.456, 0.406\] and std"):
        settle_start({"init": str(start)})


def test_other_classes_are_refused(start: Path) -> None:
    config = TrainConfig(corpus="phantom", init=str(start), weights=str(start))
    check_classes(config.init, NAMES[::-1])  # the order is settled by name
    with pytest.raises(InputError, match=r"knows the classes adenocarcinoma, .*, and the corpus has benign, malignant"):
        check_classes(config.init, ["benign", "malignant"])
    check_classes(None, ["benign", "malignant"])


def test_the_head_goes_along_class_by_class(start: Path) -> None:
    config = TrainConfig(corpus="phantom", init=str(start), weights=str(start))
    model = CTXceptionForImageClassification.from_backbone("legacy_xception", NAMES[::-1], 64)
    continue_head(model, config.init)
    saved = load_file(start / "model.safetensors")
    assert torch.equal(model.head.weight, saved["fc.weight"].flip(0))
    assert torch.equal(model.head.bias, saved["fc.bias"].flip(0))


@pytest.mark.parametrize("corpus", ["/nonexistent", "no/such/folder", "phantoms"])
def test_the_corpus_is_complained_about_before_the_weights(corpus: str) -> None:
    with pytest.raises(InputError, match="no such folder or file; give"):
        settle_start({"corpus": corpus, "weights": "/nonexistent/weights.safetensors"})
    with pytest.raises(InputError, match="no such folder or file; give"):
        settle_start({"corpus": corpus, "init": "/nonexistent/model"})
