"""Attention in the pooling and in the body: begins as the stock network, saves, loads, explains and exports like it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ct_xception.checkpoint import CONFIG, WEIGHTS
from ct_xception.errors import CheckpointError, InputError
from ct_xception.explain.explain import attribute
from ct_xception.explain.methods import METHODS, methods_for
from ct_xception.formats.onnx import write_onnx
from ct_xception.imaging.body.crop import Box
from ct_xception.model.modelling import CTXceptionForImageClassification as Network
from ct_xception.serving.checkpoint import open_checkpoint
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.runtimes.onnx import OnnxNetwork
from ct_xception.training.start import continue_head, settle_start
from tests.closeness import ROUNDING, assert_near
from tests.networks import enliven, wake_attention

NAMES, SIZE = ["a", "b", "c"], 64
BOTH = {"head": "attention", "attention": "cbam"}


@pytest.fixture(scope="module")
def pixel_values() -> torch.Tensor:
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def model() -> Network:
    """A network with both kinds of attention, awake."""
    network = wake_attention(Network.from_backbone("legacy_xception", NAMES, SIZE, seed=1, **BOTH))
    enliven(network, batches=1)
    return network  # type: ignore[return-value]


@pytest.fixture(scope="module")
def saved(model: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attention") / "model"
    model.save_pretrained(folder)
    return folder


def logits(model: Network, pixel_values: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(pixel_values).logits


@pytest.mark.parametrize(
    ("backbone", "built"),
    [
        ("legacy_xception", {"attention": "se"}),
        ("legacy_xception", BOTH),
        ("xception41p", {"head": "attention", "attention": "se"}),
    ],
)
def test_it_begins_as_the_network_that_it_extends(
    backbone: str, built: dict[str, str], tmp_path: Path, pixel_values: torch.Tensor
) -> None:
    """So weights from elsewhere keep their worth."""
    enliven(Network.from_backbone(backbone, NAMES, SIZE, seed=5), batches=1).save_pretrained(tmp_path)
    stock, grown = (
        Network.from_backbone(backbone, NAMES, SIZE, seed=2, weights=str(tmp_path), **options).eval()
        for options in ({}, built)
    )
    answers = logits(grown, pixel_values)
    assert_near(answers, logits(stock, pixel_values))
    assert (logits(wake_attention(grown), pixel_values) - answers).abs().max() > 1e-4  # type: ignore[arg-type]


def test_the_shares_sum_to_one_and_the_map_of_a_class_to_its_logit(model: Network, pixel_values: torch.Tensor) -> None:
    assert model.pool is not None
    with torch.inference_mode():
        maps = model.features(pixel_values)
        shares = model.pool.shares(maps)
        found, pooled, cam = model.outputs(pixel_values)
        by_hand = torch.einsum("bchw,bhw->bc", maps, shares[:, 0])
    assert shares.shape == (2, 1, 2, 2) and shares.std() > 1e-3
    assert_near(shares.sum(dim=(1, 2, 3)), torch.ones(2))
    assert_near(pooled, by_hand)
    assert_near(cam.mean(dim=(2, 3)) + model.head.bias, found)
    assert_near(found, logits(model, pixel_values))


def test_head_and_body_share_out_every_parameter(model: Network) -> None:
    head, body = model.head_parameters(), model.body_parameters()
    assert len(head) == 2 + 5 and len(head) + len(body) == len(list(model.parameters()))


def test_undoing_the_last_stride_leaves_the_even_cells(model: Network, pixel_values: torch.Tensor) -> None:
    """But for the gates that see the whole map: those stay asleep here."""
    quiet = Network.from_backbone("legacy_xception", NAMES, SIZE, seed=1, **BOTH).eval()
    with torch.inference_mode():
        coarse = quiet.features(pixel_values)
        quiet.undo_last_stride()
        assert_near(quiet.features(pixel_values)[..., ::2, ::2], coarse)


def test_the_attention_is_a_map_where_there_is_some(model: Network, pixel_values: torch.Tensor) -> None:
    found = attribute(model, pixel_values[0], 0, box=Box(0, 0, 64, 64), shape=(64, 64), method="attention")
    assert found.map.shape == (64, 64) and found.map.min() >= 0 and found.map.max() > found.map.min()
    other = attribute(model, pixel_values[0], 1, box=Box(0, 0, 64, 64), shape=(64, 64), method="attention")
    assert (other.map == found.map).all()  # whatever the class
    with pytest.raises(InputError, match="method deeplift: its rules do not hold .* integrated_gradients"):
        attribute(model, pixel_values[0], 0, box=Box(0, 0, 64, 64), shape=(64, 64), method="deeplift")
    stock = Network.from_backbone("legacy_xception", NAMES, SIZE)
    with pytest.raises(InputError, match="method attention: this network averages every place alike"):
        attribute(stock, pixel_values[0], 0, box=Box(0, 0, 64, 64), shape=(64, 64), method="attention")


def test_methods_are_offered_by_what_the_checkpoint_is() -> None:
    assert set(METHODS) - set(methods_for({"model_type": "timm_wrapper"})) == {"attention"}
    assert set(METHODS) - set(methods_for(BOTH)) == {"deeplift"}


LATE = """
import json, sys, torch
from PIL import Image
from transformers import AutoModelForImageClassification, pipeline
folder, refused = sys.argv[1], ""
try:
    AutoModelForImageClassification.from_pretrained(folder)
except ValueError as error:
    refused = str(error)
import ct_xception
model = AutoModelForImageClassification.from_pretrained(folder).eval()
pixel_values = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
with torch.inference_mode():
    logits = model(pixel_values).logits.tolist()
answer = pipeline("image-classification", model=folder)(Image.linear_gradient("L").resize((90, 60)))
print(json.dumps({"refused": refused, "logits": logits, "answer": answer, "class": type(model).__name__}))
"""


def test_stock_pipeline_knows_it_after_our_import(model: Network, saved: Path, pixel_values: torch.Tensor) -> None:
    done = subprocess.run([sys.executable, "-c", LATE, str(saved)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert "model type `ct_xception`" in found["refused"]  # which the card explains
    assert found["class"] == "CTXceptionForImageClassification"
    assert_near(found["logits"], logits(model, pixel_values))
    assert sum(item["score"] for item in found["answer"]) == pytest.approx(1, abs=ROUNDING)


def test_our_import_before_transformers_does_it_too() -> None:
    code = (
        "import sys, ct_xception; assert 'transformers' not in sys.modules\n"
        "from importlib.util import find_spec\n"
        "assert find_spec('transformers.models.auto.modeling_auto') and 'ct_xception.model' not in sys.modules\n"
        "from transformers import AutoConfig, AutoModelForImageClassification\n"
        "assert AutoConfig.for_model('ct_xception').head == 'linear'"
    )
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_folder_holds_no_code_and_loads_as_it_was(
    model: Network, saved: Path, tmp_path: Path, pixel_values: torch.Tensor
) -> None:
    config = json.loads((saved / CONFIG).read_text())
    assert (config["model_type"], config["architectures"]) == ("ct_xception", ["CTXceptionForImageClassification"])
    assert {key: config[key] for key in BOTH} == BOTH and "auto_map" not in config
    assert_near(logits(Classifier.from_pretrained(saved).model, pixel_values), logits(model, pixel_values))
    Network.from_pretrained(saved).save_pretrained(tmp_path)
    assert all((tmp_path / name).read_bytes() == (saved / name).read_bytes() for name in (CONFIG, WEIGHTS))


@pytest.mark.parametrize(
    "changed",
    [
        {"head": "linear"},
        {"attention": "none", "head": "linear"},
        {"model_type": "timm_wrapper"},
        {"head": "attention "},
        {"attention": 1},
        {"head": None},
    ],
)
def test_a_configuration_that_was_changed_is_refused(saved: Path, tmp_path: Path, changed: dict) -> None:
    folder = shutil.copytree(saved, tmp_path / "model")
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changed))
    with pytest.raises(CheckpointError) as refused:
        Classifier.from_pretrained(folder)
    assert "\n" not in str(refused.value)


def test_an_exported_file_answers_alike(model: Network, tmp_path: Path, pixel_values: torch.Tensor) -> None:
    description = {"preprocessing": "{}", "label_names": json.dumps(NAMES), "weights_sha256": "0" * 64, "source": "x"}
    contract = {"size": SIZE, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    write_onnx(model, tmp_path / "model.onnx", description | {"preprocessing": json.dumps(contract)})
    with torch.inference_mode():
        wanted = model.outputs(pixel_values)
    for ours, theirs in zip(OnnxNetwork(tmp_path / "model.onnx", 1)(pixel_values.numpy()), wanted, strict=True):
        assert_near(ours, theirs)


def test_a_body_with_gates_fits_no_network_without(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="other attention in its body .* give the --attention"):
        Network.from_backbone("legacy_xception", NAMES, SIZE, weights=str(saved))
    with pytest.raises(InputError, match="head: 'average' is not one of linear, attention"):
        Network.from_backbone("legacy_xception", NAMES, SIZE, head="average")


def test_going_on_takes_the_pooling_over(saved: Path) -> None:
    given = settle_start({"init": str(saved)})
    assert (given["head"], given["attention"]) == ("attention", "cbam")
    network = Network.from_backbone("legacy_xception", NAMES[::-1], SIZE, weights=str(saved), **BOTH)
    continue_head(network, str(saved))
    assert network.pool is not None
    assert torch.equal(network.pool.score.weight, load_file(saved / WEIGHTS)["global_pool.score.weight"])
    with pytest.raises(InputError, match="--head: .* pools by attention, which --init takes over"):
        settle_start({"init": str(saved), "head": "linear"})
    assert open_checkpoint(saved).config["head"] == "attention"
