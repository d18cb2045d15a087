"""Keras Xceptions as notebooks make them, random but lively, saved as Keras saves them; its answers beside them.

Keras runs on torch here; it is the reference, and nothing of the package needs it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")
SIZES = (299, 150, 224, 136)


@dataclass(frozen=True, eq=False)
class Saved:
    """The files, and what Keras answers: `answers` {size: (inputs (1, S, S, 3), probabilities)} of the first."""

    nested: Path
    inlined: Path
    binary: Path
    answers: dict[int, tuple[np.ndarray, np.ndarray]]
    grey_levels: np.ndarray  # (1, 96, 96, 3), 0 to 255, for the two models that rescale
    inlined_answer: np.ndarray
    binary_answer: np.ndarray


def save_models(folder: Path) -> Saved:
    """One body in three models: nested in a Functional one (.keras), inlined and in a Sequential one (both .h5)."""
    import keras

    keras.backend.clear_session()  # or Keras goes on counting the names of layers where another test ended
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    body = keras.applications.Xception(include_top=False, weights=None, input_shape=(None, None, 3))
    enliven(body, rng)
    files = [folder / name for name in ("nested.keras", "inlined.h5", "binary.h5")]
    nested, inlined, binary = _nested(keras, body), _inlined(keras, body), _binary(keras, body, rng)
    for model, file in ((nested, files[0]), (inlined, files[1]), (binary, files[2])):
        model.save(file)
    inputs = {size: rng.uniform(-1, 1, (1, size, size, 3)).astype(np.float32) for size in SIZES}
    grey = rng.integers(0, 256, (1, 96, 96, 3)).astype(np.float32)
    answers = {size: (values, _ask(nested, values)) for size, values in inputs.items()}
    return Saved(*files, answers, grey, _ask(inlined, grey), _ask(binary, grey))


def _ask(model: Any, values: np.ndarray) -> np.ndarray:
    import keras

    return keras.ops.convert_to_numpy(model(values, training=False))


def enliven(body: Any, rng: np.random.Generator) -> None:
    """Norms that fit some noise, and are no mere ones and zeros: otherwise every answer would be the same."""
    norms = [layer for layer in body.layers if type(layer).__name__ == "BatchNormalization"]
    for layer in norms:
        layer.momentum = 0.0  # the statistics are those of the next batch
        layer.gamma.assign(rng.uniform(0.6, 1.4, layer.gamma.shape))
        layer.beta.assign(rng.normal(0, 0.2, layer.beta.shape))
    side = body.input_shape[1] or 96
    body(rng.uniform(-1, 1, (2, side, side, 3)).astype(np.float32), training=True)
    for layer in norms:
        layer.momentum = 0.99


def _nested(keras: Any, body: Any) -> Any:
    inputs = keras.Input((None, None, 3))
    values = body(keras.layers.RandomFlip("horizontal")(inputs), training=False)
    values = keras.layers.Dropout(0.4)(keras.layers.GlobalAveragePooling2D()(values))
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(values))


def _inlined(keras: Any, body: Any) -> Any:
    """Its layers are the model's own, preprocess_input is part of it, and softmax a layer apart."""
    inputs = keras.Input((96, 96, 3))
    rescaled = keras.applications.xception.preprocess_input(inputs)
    copy = keras.applications.Xception(include_top=False, weights=None, input_tensor=rescaled)
    copy.set_weights(body.get_weights())
    values = keras.layers.GlobalAveragePooling2D()(copy.output)
    return keras.Model(inputs, keras.layers.Softmax()(keras.layers.Dense(4, use_bias=False)(values)))


def _binary(keras: Any, body: Any, rng: np.random.Generator) -> Any:
    """A Sequential model that rescales, and normalises its features before the one unit."""
    layers = [keras.Input((96, 96, 3)), keras.layers.Rescaling(1 / 255), body]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.BatchNormalization(name="features_bn")]
    model = keras.Sequential([*layers, keras.layers.Dropout(0.5), keras.layers.Dense(1, activation="sigmoid")])
    norm = model.get_layer("features_bn")
    norm.moving_mean.assign(rng.uniform(0, 1, 2048))
    norm.moving_variance.assign(rng.uniform(0.5, 2, 2048))
    return model
