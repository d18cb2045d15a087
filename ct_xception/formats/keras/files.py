"""A saved Keras model read as data: the JSON of its layers and the arrays of its HDF5.

    with open_keras("model.keras") as file:          # or a whole model in one .h5, of Keras 2 or 3
        file.config["class_name"], file.arrays.read(layer, "kernel", (3, 3, 3, 32))

Keras itself is not needed, and nothing in the file is unpickled, imported or executed. Sizes are checked before
anything is read, and what an HDF5 file can borrow from elsewhere (external and virtual data sets, links into other
files) is refused: it would put any file of this machine into the weights.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.errors import InputError, printable
from ct_xception.serving.network import needed

if TYPE_CHECKING:
    import h5py

MAX_CONFIG = 16 * 2**20  # bytes; that of an Xception has some 100,000
MAX_WEIGHTS = 2**30  # bytes; an Xception has 84 million, and Adam's two moments as many again each
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_REMEDY = "save the whole model with Keras' model.save('model.keras')"
# How Keras numbers the arrays of a layer in a .keras file, where each has all that it can have.
_ORDER = {
    "Conv2D": ("kernel", "bias"),
    "SeparableConv2D": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "Dense": ("kernel", "bias"),
}


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of the file: its class, name and settings, and where its arrays lie.

    `stored` is its path in a .keras file ("layers/functional/layers/conv2d_1"), `owner` the layer of the whole model
    that it is or is inside of, by which an .h5 file groups its arrays.
    """

    kind: str
    name: str
    config: Mapping[str, Any]
    stored: str
    owner: str


class Arrays:
    """The arrays of a file, found by their layer."""

    def __init__(self, source: str, found: Mapping[str, h5py.Dataset], *, numbered: bool) -> None:
        """`found` {path: data set}; `numbered` where arrays have numbers (.keras), not names (.h5)."""
        self.source, self.found, self.numbered = source, found, numbered

    def read(self, layer: Layer, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """One array of a layer, of this shape, finite, as float32. Raises `InputError` where it is not to be had so."""
        stored, what = self._stored(layer, name), f"{name} of the layer {printable(layer.name)!r}"
        if stored is None:
            raise InputError(f"{self.source}: holds no {what}; {_REMEDY}.")
        if stored.shape != shape or stored.dtype.kind != "f":
            raise InputError(
                f"{self.source}: {what} is {stored.dtype} {stored.shape}, where Keras' Xception has floating point "
                f"{shape}; give a whole Xception that is not quantised."
            )
        if stored.external or stored.is_virtual:
            raise InputError(f"{self.source}: borrows {what} from another file; {_REMEDY}.")
        values = stored[()].astype(np.float32)
        if not np.isfinite(values).all():
            raise InputError(f"{self.source}: {what} is not finite; train it again.")
        return values

    def _stored(self, layer: Layer, name: str) -> h5py.Dataset | None:
        if self.numbered:
            number = _ORDER[layer.kind].index(name)
            if layer.kind == "BatchNormalization":  # without gamma or beta the others have lower numbers
                number -= sum(not layer.config.get(key, True) for key in ("scale", "center")[:number])
            return self.found.get(f"{layer.stored}/vars/{number}")
        wanted = re.compile(rf"{re.escape(layer.owner)}/(.*/)?{re.escape(layer.name)}/{name}(:0)?")
        paths = [path for path in self.found if wanted.fullmatch(path)]
        if len(paths) > 1:
            raise InputError(f"{self.source}: two layers are named {printable(layer.name)!r}; give each its own name.")
        return self.found[paths[0]] if paths else None


@dataclass(frozen=True, eq=False)
class KerasFile:
    """What a file says of its model: `config` as Keras serialises it, the version that wrote it, and the arrays."""

    config: Mapping[str, Any]
    version: str
    arrays: Arrays


@contextlib.contextmanager
def open_keras(path: str | Path) -> Iterator[KerasFile]:
    """Open a .keras archive or a whole model in HDF5, whatever its name. Raises `InputError`, one sentence."""
    path, name = Path(path), printable(path)
    needed("h5py", name, "keras")
    if path.is_dir():
        raise InputError(f"{name}: is a folder (TensorFlow's SavedModel?); {_REMEDY}, and give that file.")
    try:
        with path.open("rb") as stream:
            begin = stream.read(8)
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}); name a .keras or .h5 file.") from error
    if begin.startswith(b"PK\x03\x04"):
        opened = _open_archive(path, name)
    elif begin == _HDF5:
        opened = _open_whole(path, name)
    else:
        raise InputError(f"{name}: is neither a .keras archive nor HDF5; {_REMEDY}.")
    with opened as file:
        yield file


@contextlib.contextmanager
def _open_archive(path: Path, name: str) -> Iterator[KerasFile]:
    """A .keras file: a zip of config.json, metadata.json and the weights, which are unpacked to a temporary file."""
    with tempfile.TemporaryDirectory(prefix="ct-xception-") as folder:
        weights = Path(folder) / "weights.h5"
        try:
            with zipfile.ZipFile(path) as archive:
                config = _json(_member(archive, _CONFIG, MAX_CONFIG, name), name)
                known = _METADATA in archive.namelist()
                metadata = _json(_member(archive, _METADATA, MAX_CONFIG, name), name) if known else {}
                weights.write_bytes(_member(archive, _WEIGHTS, MAX_WEIGHTS, name))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise InputError(f"{name}: is no whole .keras archive ({printable(error)}); {_REMEDY}.") from error
        with _open_hdf5(weights, name) as opened:
            found = _data_sets(opened, "")
            # Keras 2 kept the layers under another name.
            found = {key.replace("_layer_checkpoint_dependencies/", "layers/"): value for key, value in found.items()}
            yield KerasFile(config, str(metadata.get("keras_version", "")), Arrays(name, found, numbered=True))


def _member(archive: zipfile.ZipFile, member: str, most: int, name: str) -> bytes:
    """A file of the archive; one that says it is larger than `most` bytes is not unpacked, and none is read further."""
    try:
        told = archive.getinfo(member)
    except KeyError:
        raise InputError(f"{name}: is a zip without {member}, so no .keras file; {_REMEDY}.") from None
    if told.file_size > most:
        raise InputError(f"{name}: {member} would unpack to {told.file_size:,} bytes; an Xception's is smaller.")
    with archive.open(told) as stream:
        return stream.read(most)


@contextlib.contextmanager
def _open_whole(path: Path, name: str) -> Iterator[KerasFile]:
    """A model in one HDF5 file: the JSON is an attribute of its root."""
    import h5py

    with _open_hdf5(path, name) as opened:
        text, link = opened.attrs.get("model_config"), opened.get("model_weights", getlink=True)
        if text is None or not isinstance(link, h5py.HardLink):
            raise InputError(f"{name}: holds weights without the layers that they belong to; {_REMEDY}.")
        version = opened.attrs.get("keras_version", "")
        version = version.decode("utf-8", "replace") if isinstance(version, bytes) else str(version)
        found = _data_sets(opened["model_weights"], "model_weights")
        yield KerasFile(_json(text, name), version, Arrays(name, found, numbered=False))


@contextlib.contextmanager
def _open_hdf5(path: Path, name: str) -> Iterator[h5py.File]:
    import h5py

    try:
        opened = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{name}: its HDF5 cannot be read ({printable(error)}); {_REMEDY}.") from error
    with opened:
        try:
            yield opened
        except (OSError, RuntimeError) as error:  # what h5py raises for damage found later
            raise InputError(f"{name}: its HDF5 is damaged ({printable(error)}); {_REMEDY}.") from error


def _data_sets(group: h5py.Group, where: str) -> dict[str, h5py.Dataset]:
    """{path: data set} of all that lies in the group itself; links into other places or files are not followed."""
    import h5py

    if not isinstance(group, h5py.Group):
        raise InputError(f"{printable(where)}: is no group of weights; {_REMEDY}.")
    found: dict[str, h5py.Dataset] = {}

    def note(path: str, one: h5py.Dataset | h5py.Group) -> None:
        if isinstance(one, h5py.Dataset):
            found[path.replace("\\", "/")] = one  # Keras 2 on Windows

    group.visititems(note)
    return found


def _json(text: bytes | str, name: str) -> dict[str, Any]:
    try:
        if len(text) > MAX_CONFIG:
            raise ValueError(f"{len(text):,} bytes long")
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{name}: the JSON of its layers cannot be read ({printable(error)}); {_REMEDY}.") from error
    if not isinstance(value, dict):
        raise InputError(f"{name}: the JSON of its layers is no object; {_REMEDY}.")
    return value
