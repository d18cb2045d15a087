"""A Keras Xception becomes our network: the same answers as Keras', and nothing that is not one gets in."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ct_xception.errors import InputError
from ct_xception.files import sha256_file
from ct_xception.formats.keras import files as keras_files
from ct_xception.formats.keras.convert import (
    RESCALINGS,
    Imported,
    even_maps,
    fold_rescaling,
    import_keras,
    keras_padding,
)
from ct_xception.formats.keras.files import Arrays, KerasFile, Layer, open_keras
from ct_xception.formats.keras.graph import Graph
from ct_xception.formats.keras.layers import find_xception
from tests.closeness import ROUNDING, assert_near
from tests.formats.keras.keras2 import pixels, read_skeletons, write_file
from tests.formats.keras.keras_models import SIZES, Saved, save_models

pytest.importorskip("keras", reason="Keras, the reference, is in the extra `test`")
h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # between Keras and NumPy


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return save_models(tmp_path_factory.mktemp("keras"))


@pytest.fixture(scope="module")
def nested(saved: Saved) -> Imported:
    return import_keras(saved.nested, ["benign", "malignant", "normal"])


def logits(model: Any, values: np.ndarray) -> torch.Tensor:
    """Of Keras' (N, S, S, 3)."""
    with torch.inference_mode():
        return model(pixel_values=torch.from_numpy(values).permute(0, 3, 1, 2).contiguous()).logits


@pytest.mark.parametrize("size", SIZES)
def test_answers_are_keras_s_but_for_the_padding_of_even_maps(saved: Saved, nested: Imported, size: int) -> None:
    values, probabilities = saved.answers[size]
    wanted = torch.from_numpy(probabilities).log()
    found = logits(keras_padding(nested.model), values)
    # Keras gives probabilities: their logarithms are the logits but for a constant.
    assert_near(found - (found - wanted).mean(), wanted)
    stock = logits(nested.model, values)
    if even_maps(size):
        assert 1e-3 < (stock - found).abs().max() < 1  # which `padding_figures` measures
    else:
        assert_near(stock, found)


def test_sizes_without_even_maps() -> None:
    assert (even_maps(299), even_maps(224), even_maps(150)) == ([74], [28, 14], [72, 36, 18])
    assert [size for size in range(71, 300) if not even_maps(size)] == [
        size for size in range(71, 300) if size % 32 in (7, 8)
    ]


def test_what_is_known_of_the_file_and_what_is_assumed(saved: Saved, nested: Imported) -> None:
    assert nested.model.label_names == ["benign", "malignant", "normal"]
    assert nested.record["activation"] == "softmax" and nested.record["sha256"] == sha256_file(saved.nested)
    assert nested.model.config.pretrained_cfg["input_size"] == [3, 299, 299]
    assert any("states no input size: 299 px is assumed" in note for note in nested.notes)
    assert any("--rescale keras is assumed" in note for note in nested.notes)
    with pytest.raises(InputError, match="--rescale: 'half' is not one of keras, unit, none"):
        import_keras(saved.nested, rescale="half")


def test_preprocessing_inside_the_model_is_folded_into_the_stem(saved: Saved) -> None:
    imported = import_keras(saved.inlined)
    assert imported.record["rescaling"] == {"scale": pytest.approx(1 / 127.5), "offset": -1.0, "in_the_file": True}
    assert imported.model.label_names == ["class 0", "class 1", "class 2", "class 3"]
    assert imported.model.config.pretrained_cfg["input_size"] == [3, 96, 96]
    found = logits(keras_padding(imported.model), saved.grey_levels / 127.5 - 1).softmax(dim=1)
    assert_near(found, saved.inlined_answer)
    with pytest.raises(InputError, match=r"--rescale: .*inlined\.h5 rescales its input itself"):
        import_keras(saved.inlined, rescale="unit")


def test_one_sigmoid_unit_becomes_two_classes(saved: Saved) -> None:
    imported = import_keras(saved.binary, ["normal", "lesion"])
    assert imported.record["rescaling"] == {"scale": pytest.approx(1 / 255), "offset": 0.0, "in_the_file": True}
    found = logits(keras_padding(imported.model), saved.grey_levels / 127.5 - 1).softmax(dim=1).numpy()
    assert np.abs(found[0, 1] - saved.binary_answer[0, 0]) < ROUNDING and 0.01 < found[0, 1] < 0.99
    with pytest.raises(InputError, match=r"--labels: 3 names, and .*binary\.h5 has 2 classes"):
        import_keras(saved.binary, ["a", "b", "c"])


@pytest.mark.parametrize("rescale", RESCALINGS)
def test_rescaling_is_folded_into_the_stem(nested: Imported, rescale: str) -> None:
    """What the first layers made of x * scale + offset they make of x / 127.5 - 1 afterwards."""
    scale, offset = RESCALINGS[rescale]
    stem = nn.Sequential(*(copy.deepcopy(getattr(nested.model.timm_model, name)) for name in ("conv1", "bn1")))
    grey = torch.randint(0, 256, (2, 3, 9, 9), generator=torch.Generator().manual_seed(0)).float()
    with torch.inference_mode():
        wanted = stem(grey * scale + offset)
        state = {"conv1.weight": stem[0].weight.numpy(), "bn1.running_mean": stem[1].running_mean.numpy()}
        folded = fold_rescaling(state, scale, offset)
        stem[0].weight.copy_(torch.from_numpy(folded["conv1.weight"]))
        stem[1].running_mean.copy_(torch.from_numpy(folded["bn1.running_mean"]))
        assert_near(stem(grey / 127.5 - 1), wanted)


@pytest.mark.parametrize("name", read_skeletons())
def test_what_keras_2_wrote_is_read(name: str, tmp_path: Path) -> None:
    """Files laid out by TensorFlow 2.15, with weights drawn anew, which TensorFlow answered from as well."""
    skeleton = read_skeletons()[name]
    imported = import_keras(write_file(skeleton, tmp_path / name))
    assert imported.record["keras_version"] == "2.15.0"
    assert imported.model.config.pretrained_cfg["input_size"] == [3, skeleton["size"], skeleton["size"]]
    assert imported.record["rescaling"]["in_the_file"] == skeleton["grey"]
    values, probabilities = pixels(skeleton), np.array(skeleton["answer"])
    if len(probabilities) == 1:
        assert imported.record["activation"] == "sigmoid"
        probabilities = np.append(1 - probabilities, probabilities)
    model = keras_padding(imported.model) if even_maps(skeleton["size"]) else imported.model
    found = logits(model, values / 127.5 - 1 if skeleton["grey"] else values).softmax(dim=1)[0].numpy()
    assert 0.01 < probabilities.max() < 0.99 and np.abs(found - probabilities).max() < ROUNDING


# Without arrays: what the graph of layers says


@pytest.fixture(scope="module")
def config(saved: Saved) -> dict[str, Any]:
    with zipfile.ZipFile(saved.nested) as archive:
        return json.loads(archive.read("config.json"))


@pytest.fixture(scope="module")
def inlined_config(saved: Saved) -> dict[str, Any]:
    with h5py.File(saved.inlined) as file:
        return json.loads(file.attrs["model_config"])


def graph_of(config: dict[str, Any]) -> Graph:
    return Graph(KerasFile(config, "", Arrays("some.keras", {}, numbered=True)))


def layer_of(config: dict[str, Any], kind: str) -> dict[str, Any]:
    """The last layer of a class, in the model itself or in the body."""
    layers = config["config"]["layers"]
    (body,) = [layer for layer in layers if layer["class_name"] == "Functional"]
    return [layer for layer in [*body["config"]["layers"], *layers] if layer["class_name"] == kind][-1]


def as_keras_2(model: dict[str, Any]) -> dict[str, Any]:
    """The same model as Keras 2 would have written it: plain lists for calls, other names for shapes and packages."""
    model = copy.deepcopy(model)
    for layer in model["config"]["layers"]:
        for key in ("module", "registered_name", "build_config"):
            layer.pop(key, None)
        shape = layer["config"].pop("batch_shape", None)
        layer["config"] |= {} if shape is None else {"batch_input_shape": shape}
        calls = []
        for call in layer["inbound_nodes"]:
            histories = [one["config"]["keras_history"] for one in _tensors(call)]
            numbers = {"y": call["args"][-1], "name": None}
            operator = layer["class_name"] in ("TrueDivide", "Subtract")
            calls.append([*histories[0], numbers] if operator else [[*one, {}] for one in histories])
        layer["inbound_nodes"] = calls
        if layer["class_name"] in ("TrueDivide", "Subtract"):
            function = {"TrueDivide": "math.truediv", "Subtract": "math.subtract"}[layer["class_name"]]
            layer |= {"class_name": "TFOpLambda", "config": {"name": layer["name"], "function": function}}
    for key in ("input_layers", "output_layers"):
        ends = model["config"][key]
        model["config"][key] = ends if isinstance(ends[0], list) else [ends]
    return model


def _tensors(call: Any) -> Iterator[dict[str, Any]]:
    if isinstance(call, dict) and call.get("class_name") == "__keras_tensor__":
        yield call
    elif isinstance(call, (dict, list)):
        for part in call.values() if isinstance(call, dict) else call:
            yield from _tensors(part)


def test_keras_2_wrote_the_same_graph_otherwise(inlined_config: dict[str, Any]) -> None:
    found, wanted = (find_xception(graph_of(one)) for one in (as_keras_2(inlined_config), inlined_config))
    assert {name: layer.name for name, layer in found.body.items()} == {
        name: layer.name for name, layer in wanted.body.items()
    }
    assert len(found.body) == 2 * 40  # 40 convolutions, each with its norm
    assert (found.scale, found.offset) == (wanted.scale, wanted.offset) == (pytest.approx(1 / 127.5), -1.0)


def lambda_layer(layer: dict[str, Any]) -> None:
    layer |= {"class_name": "Lambda", "config": {"name": "scale", "function": {"class_name": "__lambda__"}}}


SPOILS: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "code": ("Dropout", lambda_layer, r"some\.keras: the layer 'dropout' is a Lambda, which is code, and no code"),
    "unknown": ("Dropout", lambda layer: layer.update(class_name="Fancy"), "is Fancy, which is not read where Global"),
    "a class of somebody's": (
        "Conv2D",
        lambda layer: layer.update(module="evil.layers"),
        "evil.layers.Conv2D, somebody's own class",
    ),
    "a hidden layer": ("Dropout", lambda layer: layer.update(class_name="Dense"), "its head has several Dense layers"),
    "flattened": (
        "GlobalAveragePooling2D",
        lambda layer: layer.update(class_name="Flatten"),
        "is Flatten, which is not read where GlobalAveragePooling2D is",
    ),
    "another stride": (
        "SeparableConv2D",
        lambda layer: layer["config"].update(strides=[2, 2]),
        r"has strides \(2, 2\), where Xception has \(1, 1\)",
    ),
    "another activation": (
        "Dense",
        lambda layer: layer["config"].update(activation="tanh"),
        "goes through the activation 'tanh', and only softmax, sigmoid and logits",
    ),
    "used twice": (
        "Dense",
        lambda layer: layer["inbound_nodes"].append(layer["inbound_nodes"][0]),
        "used 2 times, and an Xception uses each once",
    ),
    "in circles": (
        "Conv2D",
        lambda layer: layer["inbound_nodes"][0]["args"][0]["config"].update(keras_history=["add_11", 0, 0]),
        "round in circles",
    ),
    "no JSON of Keras'": ("Dense", lambda layer: layer.pop("config"), "the JSON of its layers is not Keras' .KeyError"),
}


@pytest.mark.parametrize("what", SPOILS)
def test_what_is_no_xception_with_one_head_is_refused_by_name(config: dict[str, Any], what: str) -> None:
    kind, spoil, words = SPOILS[what]
    spoilt = copy.deepcopy(config)
    spoil(layer_of(spoilt, kind))
    with pytest.raises(InputError, match=words):
        find_xception(graph_of(spoilt))
    assert find_xception(graph_of(config)).activation == "softmax"


def archive_of(config: dict[str, Any], path: Path) -> Path:
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file.create_group("layers")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights.getvalue())
    return path


def test_heads_whose_answer_no_softmax_gives(config: dict[str, Any], tmp_path: Path) -> None:
    for units, activation, words in (
        (3, "sigmoid", "its 3 units answer yes or no each by itself"),
        (1, "softmax", "a softmax over one unit is always 1"),
        (0, "softmax", "its head has 0 units"),
    ):
        spoilt = copy.deepcopy(config)
        layer_of(spoilt, "Dense")["config"] |= {"units": units, "activation": activation}
        with pytest.raises(InputError, match=words):
            import_keras(archive_of(spoilt, tmp_path / "head.keras"))
    with pytest.raises(InputError, match=r"whole\.keras: holds no gamma of the layer 'block14_sepconv2_bn'"):
        import_keras(archive_of(config, tmp_path / "whole.keras"))


# Files that are none


def test_files_that_hold_no_model(tmp_path: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.h5").write_text("hello, world")
    with pytest.raises(InputError, match=r"text\.h5: is neither a \.keras archive nor HDF5"):
        import_keras(tmp_path / "text.h5")
    with pytest.raises(InputError, match="is a folder"):
        import_keras(tmp_path)
    with pytest.raises(InputError, match=r"none\.keras: cannot be read .No such file"):
        import_keras(tmp_path / "none.keras")
    with h5py.File(tmp_path / "only.weights.h5", "w") as file:
        file.create_dataset("layers/dense/vars/0", data=np.zeros(3))
    with pytest.raises(InputError, match="holds weights without the layers that they belong to"):
        import_keras(tmp_path / "only.weights.h5")
    whole = archive_of(config, tmp_path / "whole.keras")
    (tmp_path / "torn.keras").write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"torn\.keras: is no whole \.keras archive"):
        import_keras(tmp_path / "torn.keras")
    monkeypatch.setattr(keras_files, "MAX_CONFIG", 1000)
    with pytest.raises(InputError, match=r"config\.json would unpack to [\d,]+ bytes; an Xception's is smaller"):
        import_keras(whole)


def test_an_hdf5_cannot_borrow_from_other_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("kernel", data=np.zeros(4, np.float32))
    path = tmp_path / "thief.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": []})
        group = file.create_group("model_weights/dense")
        group.create_dataset("dense/bias", (4,), np.float32, external=[(str(tmp_path / "secret"), 0, 16)])
        group["dense/kernel"] = h5py.ExternalLink("other.h5", "kernel")
        group.create_dataset("dense/gamma", data=np.full(4, np.nan, np.float32))
    layer = Layer("Dense", "dense", {}, "layers/dense", "dense")
    with open_keras(path) as file:
        with pytest.raises(InputError, match="borrows bias of the layer 'dense' from another file"):
            file.arrays.read(layer, "bias", (4,))
        with pytest.raises(InputError, match="holds no kernel of the layer 'dense'"):
            file.arrays.read(layer, "kernel", (4,))
        with pytest.raises(InputError, match="gamma of the layer 'dense' is not finite"):
            file.arrays.read(layer, "gamma", (4,))
        with pytest.raises(InputError, match=r"gamma of the layer 'dense' is float32 \(4,\), where Keras' .* \(5,\)"):
            file.arrays.read(layer, "gamma", (5,))
