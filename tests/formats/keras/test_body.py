"""The body of a Keras file under the heads that notebooks give it; what its maps are, Keras itself says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import timm
import torch

from ct_xception.errors import InputError
from ct_xception.formats.keras.convert import BACKBONE, import_keras, write_keras_body
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.model.weights import load_backbone_weights
from ct_xception.training.options import parse_config
from tests.formats.keras.keras_models import enliven

pytest.importorskip("keras", reason="Keras is the reference")
pytest.importorskip("h5py", reason="Keras files are HDF5 (extra keras)")
SIZE = 71  # where both poolings pad alike: 32 k + 7


def _dense(keras: Any, body: Any) -> Any:
    layers = keras.layers
    parts = [body, layers.GlobalAveragePooling2D(), layers.Dense(16, activation="relu"), layers.Dropout(0.5)]
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), *parts, layers.Dense(4, activation="softmax")])


def _flattened(keras: Any, body: Any) -> Any:
    layers = keras.layers
    parts = [body, layers.Flatten(), layers.BatchNormalization(), layers.Dense(8), layers.Activation("relu")]
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), *parts, layers.Dense(1, activation="sigmoid")])


def _largest(keras: Any, body: Any) -> Any:
    inputs = keras.Input((SIZE, SIZE, 3))
    maps = body(inputs, training=False)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalMaxPooling2D()(maps)))


def _two_ways(keras: Any, body: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((SIZE, SIZE, 3))
    maps = body(layers.RandomFlip("horizontal")(inputs))
    both = layers.Concatenate()([layers.GlobalAveragePooling2D()(maps), layers.GlobalMaxPooling2D()(maps)])
    return keras.Model(inputs, layers.Dense(5, activation="tanh")(layers.BatchNormalization()(both)))


def _bare(keras: Any, body: Any) -> Any:
    return body


HEADS: dict[str, Callable[[Any, Any], Any]] = {
    "pooling, Dense, Dropout, Dense": _dense,
    "Flatten, norm between": _flattened,
    "GlobalMaxPooling2D": _largest,
    "two poolings side by side": _two_ways,
    "none": _bare,
}


@pytest.fixture(scope="module")
def keras_body() -> Any:
    import keras

    keras.utils.set_random_seed(3)
    body = keras.applications.Xception(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    enliven(body, np.random.default_rng(3))
    return body


@pytest.mark.parametrize(
    ("head", "suffix"), [*((head, ".keras") for head in HEADS), ("Flatten, norm between", ".h5"), ("none", ".h5")]
)
def test_its_maps_are_keras_s(keras_body: Any, head: str, suffix: str, tmp_path: Path) -> None:
    import keras

    path = tmp_path / f"model{suffix}"
    HEADS[head](keras, keras_body).save(path)
    file, notes = write_keras_body(path, tmp_path / "cache")
    assert "its body is taken, and its head" in notes[0] and "x / 127.5 - 1 is assumed" in notes[1]
    network = timm.create_model(BACKBONE, num_classes=2)
    load_backbone_weights(network, file, new=("fc",))
    values = np.random.default_rng(5).uniform(-1, 1, (2, SIZE, SIZE, 3)).astype(np.float32)
    with torch.inference_mode():
        mine = network.eval().forward_features(torch.from_numpy(values.transpose(0, 3, 1, 2))).relu().numpy()
    theirs = keras.ops.convert_to_numpy(keras_body(values, training=False)).transpose(0, 3, 1, 2)
    assert np.abs(mine - theirs).max() <= 1e-4 * np.abs(theirs).max()


def test_heads_that_a_checkpoint_cannot_hold_are_still_refused_whole(keras_body: Any, tmp_path: Path) -> None:
    import keras

    HEADS["pooling, Dense, Dropout, Dense"](keras, keras_body).save(tmp_path / "model.keras")
    with pytest.raises(InputError, match=r"several Dense layers.*--weights"):
        import_keras(tmp_path / "model.keras")


def test_what_is_no_xception_is_refused(tmp_path: Path) -> None:
    import keras

    layers = keras.layers
    keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(2)]).save(
        tmp_path / "small.keras"
    )
    with pytest.raises(InputError, match=r"small\.keras: it has no Xception's convolutional body"):
        write_keras_body(tmp_path / "small.keras", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_training_takes_it(
    keras_body: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import keras

    monkeypatch.setenv("CT_XCEPTION_CACHE", str(tmp_path / "cache"))
    HEADS["pooling, Dense, Dropout, Dense"](keras, keras_body).save(tmp_path / "mine.h5")
    words = ["--corpus", "phantom", "--weights", str(tmp_path / "mine.h5"), "--output_dir", str(tmp_path / "run")]
    config = parse_config(words)
    said = capsys.readouterr().err
    assert "mine.h5: its body is taken, and its head (Dense) is left" in said
    assert Path(config.weights).name.startswith("mine-") and Path(config.weights).suffix == ".safetensors"
    model = CTXceptionForImageClassification.from_backbone(BACKBONE, ["a", "b"], 64, weights=config.weights)
    stored = safetensors.numpy.load_file(config.weights)
    loaded = model.timm_model.state_dict()
    assert np.array_equal(loaded["conv4.pointwise.weight"].numpy(), stored["conv4.pointwise.weight"])
    assert parse_config(words).weights == config.weights
    with pytest.raises(InputError, match=r"whose Xception is legacy_xception; drop --backbone"):
        parse_config([*words, "--backbone", "xception41"])
    with pytest.raises(InputError, match=r"gone\.keras: cannot be read"):
        parse_config(["--corpus", "phantom", "--weights", str(tmp_path / "gone.keras")])


def test_without_h5py_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"model\.h5: needs h5py, which is not installed; pip install .*\[keras\]"):
        write_keras_body(tmp_path / "model.h5", tmp_path / "cache")
