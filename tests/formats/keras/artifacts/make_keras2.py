"""Make keras2.json.gz anew, with the Keras 2 that is part of TensorFlow 2.15 (Python 3.11, an environment of its own):

    pip install "tensorflow-cpu==2.15.*"
    python -m tests.formats.keras.artifacts.make_keras2          # from the root of the checkout

Models as notebooks make them are saved by Keras; of each file its skeleton is kept, and drawn weights are put into it.
TensorFlow loads that file, too, and answers.
"""

from __future__ import annotations

import gzip
import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tensorflow import keras

from tests.formats.keras.keras2 import SKELETONS, Skeleton, pixels, write_file

layers, xception = keras.layers, keras.applications.xception


def sequential(size: int) -> Any:
    """A frozen body, and a head that was trained a step: with the optimizer's state in the file."""
    body = xception.Xception(weights=None, include_top=False, input_shape=(size, size, 3))
    body.trainable = False
    model = keras.Sequential([body, layers.GlobalAveragePooling2D(), layers.Dense(4, activation="softmax")])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    model.fit(np.zeros((4, size, size, 3), np.float32), np.eye(4), verbose=0)
    return model


def extended(size: int) -> Any:
    """The body's own layers and more behind them; its names count on from the first model's."""
    body = xception.Xception(weights=None, include_top=False, pooling="avg", input_shape=(size, size, 3))
    values = layers.Dropout(0.5)(layers.BatchNormalization()(body.output))
    return keras.Model(inputs=body.input, outputs=layers.Dense(3, activation="softmax")(values))


def guide(size: int) -> Any:
    """Augmentation, preprocess_input and the body inside a Functional model, as in Keras' guide to fine-tuning."""
    inputs = keras.Input((size, size, 3))
    flipped = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)])(inputs)
    body = xception.Xception(weights=None, include_top=False, input_shape=(size, size, 3))
    values = layers.GlobalAveragePooling2D()(body(xception.preprocess_input(flipped), training=False))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.Dropout(0.2)(values)))


def plain(size: int) -> Any:
    return xception.Xception(weights=None, classes=4, input_shape=(size, size, 3))


MODELS = {  # 104 px has no map at which Keras pads otherwise than timm
    "sequential.h5": (sequential, 104),
    "sequential.keras": (sequential, 96),
    "extended.h5": (extended, 96),
    "guide.h5": (guide, 96),
    "guide.keras": (guide, 104),
    "plain.keras": (plain, 96),
}


def skeleton_of(path: Path) -> Skeleton:
    texts: dict[str, str] = {}
    stream = path.read_bytes()
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            texts = {name: archive.read(name).decode() for name in ("metadata.json", "config.json")}
            stream = archive.read("model.weights.h5")
    groups: dict[str, Any] = {}
    arrays: dict[str, Any] = {}

    def note(name: str, one: Any) -> None:
        if isinstance(one, h5py.Dataset):
            arrays[name] = one.shape
        else:
            groups[name] = {key: value if isinstance(value, str) else list(value) for key, value in one.attrs.items()}

    with h5py.File(io.BytesIO(stream)) as file:
        note("/", file)
        file.visititems(note)
    return {"texts": texts, "groups": groups, "arrays": arrays}


def main() -> None:
    kept = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (make, size) in MODELS.items():
            path = Path(folder) / name
            make(size).save(path)
            skeleton = skeleton_of(path) | {"size": size, "grey": make is guide}
            model = keras.models.load_model(write_file(skeleton, path), compile=False)
            skeleton["answer"] = model(pixels(skeleton), training=False).numpy()[0].tolist()
            print(name, skeleton["answer"], flush=True)
            kept[name] = skeleton
    SKELETONS.write_bytes(gzip.compress(json.dumps(kept).encode(), mtime=0))


if __name__ == "__main__":
    main()
