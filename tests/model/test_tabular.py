"""A network that takes columns beside the image: begins as one without, saves, loads, explains and exports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ct_xception.checkpoint import CONFIG, WEIGHTS
from ct_xception.checkpoint_files import TabularRule
from ct_xception.errors import CheckpointError, InputError
from ct_xception.explain.explain import explain
from ct_xception.formats.onnx import describe, write_onnx
from ct_xception.imaging.slice import Slice
from ct_xception.model.modelling import CTXceptionForImageClassification as Network
from ct_xception.serving.checkpoint import open_checkpoint
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.runtimes.onnx import OnnxNetwork
from ct_xception.training.start import continue_head, settle_start
from tests.closeness import ROUNDING, assert_near
from tests.networks import enliven

NAMES, SIZE = ["a", "b", "c"], 64
RULE = TabularRule.of(
    {
        "version": 1,
        "columns": [
            {"name": "age", "kind": "number", "mean": 60.0, "deviation": 10.0},
            {"name": "sex", "kind": "category", "values": ["F", "M"]},
        ],
    }
)
ROW = {"age": 80, "sex": "F"}


@pytest.fixture(scope="module")
def pixel_values() -> torch.Tensor:
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def model() -> Network:
    network = Network.from_backbone("legacy_xception", NAMES, SIZE, seed=1, tabular=RULE)
    enliven(network, batches=1)
    assert network.tabular is not None
    with torch.no_grad():
        network.tabular.share.weight.normal_(0, 1.0, generator=torch.Generator().manual_seed(2))
    return network


@pytest.fixture(scope="module")
def saved(model: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tabular") / "model"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def slice_() -> Slice:
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE), dtype=np.uint8)
    return Slice(pixels, "noise", bit_depth=8, is_hu=False, window=None)


def rows(model: Network, *given: dict[str, object]) -> torch.Tensor:
    assert model.tabular is not None
    return torch.from_numpy(model.tabular.columns.encode_all(given))


def test_it_begins_as_the_network_without_columns(pixel_values: torch.Tensor, tmp_path: Path) -> None:
    enliven(Network.from_backbone("legacy_xception", NAMES, SIZE, seed=5), batches=1).save_pretrained(tmp_path)
    stock, grown = (
        Network.from_backbone("legacy_xception", NAMES, SIZE, seed=2, weights=str(tmp_path), tabular=rule).eval()
        for rule in (None, RULE)
    )
    with torch.inference_mode():
        assert_near(grown(pixel_values, tabular=rows(grown, ROW, {})).logits, stock(pixel_values).logits)


def test_a_stock_folder_says_nothing_of_columns(tmp_path: Path) -> None:
    Network.from_backbone("legacy_xception", NAMES, SIZE).save_pretrained(tmp_path)
    assert (
        "tabular" not in (tmp_path / CONFIG).read_text()
        and json.loads((tmp_path / CONFIG).read_text())["model_type"] == "timm_wrapper"
    )
    assert b"tabular" not in (tmp_path / WEIGHTS).read_bytes()[:100_000]


def test_without_rows_every_column_is_missing(model: Network, pixel_values: torch.Tensor) -> None:
    with torch.inference_mode():
        without, missing = (model(pixel_values, tabular=given).logits for given in (None, rows(model, {}, {})))
        told = model(pixel_values, tabular=rows(model, ROW, {})).logits
    assert torch.equal(without, missing)
    assert (told[0] - without[0]).abs().max() > 0.1 and torch.equal(told[1], without[1])


def test_the_row_adds_to_the_logits_and_leaves_features_and_maps(model: Network, pixel_values: torch.Tensor) -> None:
    assert model.tabular is not None
    given = rows(model, ROW, ROW)
    with torch.inference_mode():
        (logits, features, cam), (plain, same_features, same_cam) = (
            model.outputs(pixel_values, given),
            model.outputs(pixel_values),
        )
        share = model.tabular(given) - model.tabular(model.tabular.absent(given).expand(2, -1))
        assert_near(logits - plain, share, 10 * ROUNDING)
        assert torch.equal(features, same_features) and torch.equal(cam, same_cam)
        assert_near(model.with_row(given[0]).classify(model.features(pixel_values)), logits)
    assert model.row is None


def test_training_withholds_rows(model: Network) -> None:
    """At a rate of nearly 1 nearly every row is the missing one; at 0 none is."""
    assert model.tabular is not None
    part, given = model.tabular, rows(model, *[ROW] * 200)
    missing = part.absent(given)
    part.train().rate = 0.9
    torch.manual_seed(0)
    held = (part._withhold(given) == missing).all(dim=1).float().mean()
    part.eval().rate = 0.0
    assert 0.8 < held < 0.97


def test_it_is_read_back_with_equal_answers_and_the_temperature(model: Network, saved: Path, tmp_path: Path) -> None:
    classifier = Classifier.from_pretrained(saved)
    given, picture = rows(model, ROW), torch.zeros(1, 3, SIZE, SIZE)
    with torch.inference_mode():
        assert_near(classifier.model(picture, tabular=given).logits, model(picture, tabular=given).logits)
        twin = Network.from_pretrained(saved).eval()
        twin.fold_temperature(2.0)
        assert_near(2 * twin(picture, tabular=given).logits, model(picture, tabular=given).logits)


@pytest.mark.parametrize(
    ("key", "value"),
    [("tabular", None), ("tabular", {"version": 1, "columns": []}), ("model_type", "timm_wrapper"), ("tabular", 7)],
)
def test_a_changed_config_is_refused(saved: Path, tmp_path: Path, key: str, value: object) -> None:
    stated = json.loads((saved / CONFIG).read_text()) | {key: value}
    (tmp_path / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes())
    (tmp_path / CONFIG).write_text(json.dumps({name: one for name, one in stated.items() if one is not None}))
    with pytest.raises(CheckpointError):
        Classifier.from_pretrained(tmp_path)


def test_the_classifier_takes_a_row_and_says_what_it_answers_without(saved: Path, slice_: Slice) -> None:
    classifier = Classifier.from_pretrained(saved)
    told, without = classifier(slice_, tabular=ROW), classifier(slice_)
    assert told.tabular == {"age": 80.0, "sex": "F"} and "answered without age, sex" in without.notes
    assert told.to_dict()["tabular"] == told.tabular and without.to_dict()["tabular"] == {"age": None, "sex": None}
    assert told.probabilities != without.probabilities
    both = classifier([slice_, slice_], tabular=[ROW, {"sex": "M"}])
    assert (
        both[0].probabilities == pytest.approx(told.probabilities, abs=ROUNDING)
        and "answered without age" in both[1].notes
    )
    with pytest.raises(InputError, match="1 rows for 2 slices"):
        classifier([slice_, slice_], tabular=[ROW])


def test_a_network_that_sees_the_image_alone_refuses_a_row(tmp_path: Path, slice_: Slice) -> None:
    Network.from_backbone("legacy_xception", NAMES, SIZE).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="takes the image alone"):
        Classifier.from_pretrained(tmp_path)(slice_, tabular=ROW)


def test_a_map_is_that_of_the_answer_given_the_row(saved: Path, slice_: Slice) -> None:
    """The row may change which class is answered, and with it what is explained; a class's map stays."""
    classifier = Classifier.from_pretrained(saved)
    answer = classifier(slice_, tabular=ROW)
    explained = explain(classifier, answer.slice, method="occlusion", budget="fast")
    assert explained.attribution.label == answer.label
    assert explained.model.row is not None and classifier.model.row is None


def test_a_run_goes_on_from_it_with_its_columns(model: Network, saved: Path) -> None:
    settled = settle_start({"corpus": "phantom", "init": str(saved)})
    assert settled["tabular_columns"] == "age,sex"
    with pytest.raises(InputError, match="which --init takes over"):
        settle_start({"corpus": "phantom", "init": str(saved), "tabular_columns": "age"})
    turned = NAMES[::-1]
    grown = Network.from_backbone("legacy_xception", turned, SIZE, weights=str(saved), tabular=RULE).eval()
    continue_head(grown, str(saved))
    picture, given = torch.zeros(1, 3, SIZE, SIZE), rows(model, ROW)
    with torch.inference_mode():
        assert_near(grown(picture, tabular=given).logits.flip(1), model(picture, tabular=given).logits)


def test_its_body_begins_a_network_without_columns(saved: Path) -> None:
    assert Network.from_backbone("legacy_xception", ["x", "y"], SIZE, weights=str(saved)).tabular is None


def test_an_onnx_file_takes_the_rows_as_a_second_input(
    model: Network, saved: Path, tmp_path: Path, pixel_values: torch.Tensor
) -> None:
    pytest.importorskip("onnxruntime")
    write_onnx(model, tmp_path / "model.onnx", describe(open_checkpoint(saved)))
    network, given = OnnxNetwork(tmp_path / "model.onnx", 1), rows(model, ROW, {})
    with torch.inference_mode():
        told, without = model.outputs(pixel_values, given), model.outputs(pixel_values)
    assert_near(network(pixel_values.numpy(), given.numpy()).logits, told[0].numpy(), 1e-4)
    assert_near(network(pixel_values.numpy()).logits, without[0].numpy(), 1e-4)
