"""Files as Keras 2 lays them out, with weights that anyone can draw again: what is stored of one is its skeleton.

A skeleton is what Keras 2 itself wrote but for the numbers: the JSON of the layers to the letter, the groups of the
HDF5 with their attributes, and the shape of every array. `artifacts/make_keras2.py` made them with TensorFlow, which
also read the files that `write_file` makes of them, and gave the answers. Nothing here needs Keras or TensorFlow.
"""

from __future__ import annotations

import gzip
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

SKELETONS = Path(__file__).parent / "artifacts" / "keras2.json.gz"
Skeleton = dict[str, Any]


def read_skeletons() -> dict[str, Skeleton]:
    """{file name: skeleton}, with `size` of the input, `grey` where it takes 0 to 255, and TensorFlow's `answer`."""
    return json.loads(gzip.decompress(SKELETONS.read_bytes()))


def draw(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array at a path of the HDF5, float32. RandomState, whose numbers NumPy promises never to change."""
    source = np.random.RandomState(zlib.crc32(path.encode()))
    name = path.rpartition("/")[2].partition(":")[0]
    if len(shape) == 2:  # a head: the residual sums have grown, and no softmax is to be at its end
        values = source.normal(0, 0.0002, shape)
    elif len(shape) == 4:  # kernels, by He's rule; depthwise ones, (H, W, C, 1), mix no channels and pass no ReLU
        scale = np.sqrt(1 / np.prod(shape[:2])) if shape[3] == 1 else np.sqrt(2 / np.prod(shape[:3]))
        values = source.normal(0, scale, shape)
    elif name in ("gamma", "0", "moving_variance", "3"):  # .keras files number the arrays of a norm
        values = source.uniform(0.6, 1.4, shape)
    else:
        values = source.normal(0, 0.1, shape)
    return values.astype(np.float32)


def pixels(skeleton: Skeleton) -> np.ndarray:
    """The picture that the answer is to, (1, S, S, 3) float32: grey levels 0 to 255, or values in [-1, 1]."""
    shape, source = (1, skeleton["size"], skeleton["size"], 3), np.random.RandomState(2)
    values = source.randint(0, 256, shape) if skeleton["grey"] else source.uniform(-1, 1, shape)
    return values.astype(np.float32)


def write_file(skeleton: Skeleton, path: Path) -> Path:
    """A whole file, .h5 or .keras by its name."""
    weights = path if path.suffix == ".h5" else path.with_suffix(".weights")
    _write_hdf5(skeleton, weights)
    if path.suffix == ".keras":
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in skeleton["texts"].items():
                archive.writestr(name, text)
            archive.write(weights, "model.weights.h5")
        weights.unlink()
    return path


def _write_hdf5(skeleton: Skeleton, path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for group, attributes in skeleton["groups"].items():
            owner = file.require_group(group)
            for name, value in attributes.items():
                owner.attrs[name] = value if value else np.empty(0)  # as Keras 2 wrote an empty list
        for array, shape in skeleton["arrays"].items():
            file.create_dataset(array, data=draw(array, tuple(shape)))
