"""A Keras Xception becomes our network: the same weights in timm's layout, its answers the same but for one thing.

    imported = import_keras("model.keras", ["benign", "malignant"])
    imported.model                       # a CTXceptionForImageClassification

Keras' batch norm has its own epsilon: running_var here holds var + eps - 1e-5, so that timm's comes to the same. The
rescaling that Keras did to its input is folded into the first convolution and its norm (it pads nothing, so this is
exact), and the checkpoint takes what all of ours take: grey levels in [-1, 1].

The one thing: on maps of an even side Keras' max-pooling pads the right and lower border alone, timm's all four. No
weights can undo that. `keras_padding` gives the network with Keras' pooling, to measure the difference; `even_maps` is
empty at the sizes where there is none (32 k + 7 and 32 k + 8: 231, 232, 263, 264, 295, 296).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import nn

from ct_xception.errors import InputError, printable
from ct_xception.files import sha256_file, write_atomically
from ct_xception.formats.keras.files import Arrays, Layer, open_keras
from ct_xception.formats.keras.graph import Graph
from ct_xception.formats.keras.layers import SIGMOID, SOFTMAX, Found, find_body, find_xception
from ct_xception.model.modelling import CTXceptionForImageClassification

BACKBONE = "legacy_xception"
DEFAULT_SIZE = 299  # Keras' own, where the file leaves it open
MAX_UNITS = 100_000
# What was done to grey levels 0 to 255 outside the file: y = scale * x + offset.
RESCALINGS = {"keras": (1 / 127.5, -1.0), "unit": (1 / 255, 0.0), "none": (1.0, 0.0)}

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Imported:
    """The network, what its checkpoint says of where it came from, and what the user should know, a sentence each."""

    model: CTXceptionForImageClassification
    record: dict[str, Any]
    notes: tuple[str, ...]


def import_keras(
    path: str | Path,
    label_names: Sequence[str] | None = None,
    *,
    image_size: int | None = None,
    rescale: str | None = None,
) -> Imported:
    """Read a Keras Xception with its head from a .keras archive or a whole model in HDF5.

    `label_names` are in the order of Keras' units ("class 0" and so on without); a head of one unit has two classes,
    the second of which it answers for. `image_size` in pixels: the file's own unless given. `rescale` is one of
    `RESCALINGS`, for models that do not rescale their input themselves. Raises `InputError`, naming the file and what
    in it cannot be read.
    """
    name = printable(path)
    with open_keras(path) as file:
        graph = Graph(file)
        found = find_xception(graph)
        units = _units(found, name)
        state = _body(found, file.arrays)
        weight, bias = _head(found, file.arrays, units)
        version = file.version
    size, size_note = _image_size(graph, image_size)
    scale, offset, rescale_note = _rescaling(found, rescale, name)
    state = fold_rescaling(state, scale, offset)
    if units == 1:  # z becomes -z / 2 and z / 2, whose softmax is its sigmoid
        half = np.array([[-0.5], [0.5]], np.float32)
        weight, bias = np.ascontiguousarray(half * weight), (half * bias)[:, 0]
    labels, label_note = _labels(label_names, len(bias), name)
    state |= {"fc.weight": weight, "fc.bias": bias}
    record = {
        "from": "Keras",
        "file": Path(path).name,
        "sha256": sha256_file(path),
        "keras_version": version,
        "activation": found.activation,
        "rescaling": {"scale": scale, "offset": offset, "in_the_file": found.scale is not None},
    }
    notes = tuple(note for note in (label_note, size_note, rescale_note) if note)
    return Imported(_network(state, labels, size), record, notes)


def write_keras_body(path: str | Path, folder: Path) -> tuple[Path, list[str]]:
    """Write the convolutional body of a Keras Xception as safetensors in timm's layout, whatever head it has.

    The file lies in `folder` and is named after the Keras file and its SHA-256; one that is there already is taken.
    With it comes what the user should know, a sentence each: that the head was left, and which rescaling was assumed.
    Raises `InputError`, naming the file and what in it is no Xception's.
    """
    name = printable(path)
    with open_keras(path) as file:
        graph = Graph(file)
        found = find_body(graph)
        scale, offset, rescale_note = _rescaling(found, None, name)
        notes = [f"{name}: its body is taken, and its head ({graph.output.layer.kind}) is left."]
        notes += [f"{name}: {rescale_note.partition(': ')[0]}: x / 127.5 - 1 is assumed."] if rescale_note else []
        target = folder / f"{Path(path).stem}-{sha256_file(path)[:16]}.safetensors"
        if not target.is_file():
            state = fold_rescaling(_body(found, file.arrays), scale, offset)
            write_atomically(target, safetensors.numpy.save(state))
    return target, notes


def _body(found: Found, arrays: Arrays) -> dict[str, Floats]:
    """The body's tensors in timm's layout and under timm's names."""
    import timm

    with torch.device("meta"):
        wanted = {name: tuple(one.shape) for name, one in timm.create_model(BACKBONE).state_dict().items()}
    state: dict[str, Floats] = {}
    for name, layer in found.body.items():
        if layer.kind == "Conv2D":
            state[f"{name}.weight"] = _kernel(arrays, layer, "kernel", wanted[f"{name}.weight"])
        elif layer.kind == "SeparableConv2D":
            inputs, one, height, width = wanted[f"{name}.conv1.weight"]
            depthwise = arrays.read(layer, "depthwise_kernel", (height, width, inputs, one))
            state[f"{name}.conv1.weight"] = np.ascontiguousarray(depthwise.transpose(2, 3, 0, 1))
            state[f"{name}.pointwise.weight"] = _kernel(
                arrays, layer, "pointwise_kernel", wanted[f"{name}.pointwise.weight"]
            )
        else:
            state |= {
                f"{name}.{key}": value for key, value in _norm(arrays, layer, wanted[f"{name}.weight"][0]).items()
            }
    return state


def _kernel(arrays: Arrays, layer: Layer, name: str, shape: tuple[int, ...]) -> Floats:
    """Keras' (H, W, in, out) as (out, in, H, W)."""
    outputs, inputs, height, width = shape
    return np.ascontiguousarray(arrays.read(layer, name, (height, width, inputs, outputs)).transpose(3, 2, 0, 1))


def _norm(arrays: Arrays, layer: Layer, channels: int) -> dict[str, Floats]:
    """A batch norm whose running_var makes up for Keras' larger epsilon."""
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    state = {ours: arrays.read(layer, theirs, (channels,)) for ours, theirs in names.items()}
    variance = state["running_var"].astype(np.float64) + _epsilon(layer, arrays) - nn.BatchNorm2d(1).eps
    return state | {"running_var": variance.astype(np.float32)}


def _epsilon(layer: Layer, arrays: Arrays) -> float:
    epsilon = layer.config.get("epsilon", 1e-3)
    if not isinstance(epsilon, (int, float)) or not 0 < epsilon < 1:
        what = f"epsilon {epsilon!r} of the layer {printable(layer.name)!r}"
        raise InputError(f"{arrays.source}: {what} is not between 0 and 1; give an Xception of keras.applications.")
    return float(epsilon)


def _head(found: Found, arrays: Arrays, units: int) -> tuple[Floats, Floats]:
    """The dense layer's weight (K, 2048) and bias (K,), with the norms before it multiplied in."""
    weight = arrays.read(found.dense, "kernel", (2048, units)).T.astype(np.float64)
    biased = found.dense.config.get("use_bias", True)
    bias = arrays.read(found.dense, "bias", (units,)).astype(np.float64) if biased else np.zeros(units)
    for layer in reversed(found.norms):
        own = {"gamma": np.ones(2048, np.float32), "beta": np.zeros(2048, np.float32)}
        own |= {
            name: arrays.read(layer, name, (2048,))
            for name, key in (("gamma", "scale"), ("beta", "center"))
            if layer.config.get(key, True)
        }
        mean, variance = (arrays.read(layer, f"moving_{name}", (2048,)) for name in ("mean", "variance"))
        slope = own["gamma"] / np.sqrt(variance.astype(np.float64) + _epsilon(layer, arrays))
        bias = bias + weight @ (own["beta"] - slope * mean)
        weight = weight * slope
    return np.ascontiguousarray(weight.astype(np.float32)), bias.astype(np.float32)


def _image_size(graph: Graph, wanted: int | None) -> tuple[int, str]:
    """The side of the square input, and what is to be said about it."""
    sides = [shape[1:3] for shape in graph.shapes if None not in shape[1:3]]
    channels = {shape[3] for shape in graph.shapes} - {None}
    if channels - {3}:
        raise graph.refusal(f"its input has {channels.pop()} channels, not 3")
    if wanted is not None:
        return wanted, ""
    if not sides:
        return DEFAULT_SIZE, f"the file states no input size: {DEFAULT_SIZE} px is assumed (--image_size)."
    if sides[0][0] != sides[0][1]:
        found = f"its input is {sides[0][0]} x {sides[0][1]}"
        raise graph.refusal(f"{found}, and a checkpoint's is square: say which side with --image_size")
    return int(sides[0][0] or 0), ""


def _rescaling(found: Found, rescale: str | None, name: str) -> tuple[float, float, str]:
    """What was done to grey levels before the first convolution, in the file or outside it, and what to say."""
    if found.scale is not None:
        if rescale is not None:
            raise InputError(f"--rescale: {name} rescales its input itself; leave the option out.")
        return found.scale, found.offset or 0.0, ""
    if rescale is not None and rescale not in RESCALINGS:
        raise InputError(f"--rescale: {rescale!r} is not one of {', '.join(RESCALINGS)}.")
    said = (
        "the file does not rescale its input: --rescale keras is assumed, x / 127.5 - 1 as xception.preprocess_input "
        "does; give --rescale unit where its training divided by 255, --rescale none where it did neither."
    )
    return *RESCALINGS[rescale or "keras"], "" if rescale else said


def fold_rescaling(state: dict[str, Floats], scale: float, offset: float) -> dict[str, Floats]:
    """The tensors of a body, its stem changed to take q in [-1, 1] for scale * x + offset, x = 127.5 (q + 1).

    conv(a q + b) = a conv(q) + b times the sum of the kernel, as it pads nothing, and the norm that follows subtracts
    that constant.
    """
    a, b = 127.5 * scale, 127.5 * scale + offset
    if abs(a - 1) < 1e-6 and abs(b) < 1e-6:
        return state  # preprocess_input itself: the weights stay as they are, to the bit
    kernel = state["conv1.weight"].astype(np.float64)
    mean = state["bn1.running_mean"] - b * kernel.sum(axis=(1, 2, 3))
    return state | {"conv1.weight": (a * kernel).astype(np.float32), "bn1.running_mean": mean.astype(np.float32)}


def _units(found: Found, name: str) -> int:
    """How many units the head has; refused where a softmax over classes cannot stand for what they say."""
    units, activation = found.dense.config.get("units"), found.activation
    if not isinstance(units, int) or not 1 <= units <= MAX_UNITS:
        raise InputError(f"{name}: its head has {units!r} units; give a classifier.")
    if units == 1 and activation == SOFTMAX:
        raise InputError(f"{name}: a softmax over one unit is always 1; give a model whose one unit has a sigmoid.")
    if units > 1 and activation == SIGMOID:
        raise InputError(
            f"{name}: its {units} units answer yes or no each by itself (sigmoid), and the classes of a checkpoint "
            "exclude one another; train the head with softmax."
        )
    return units


def _labels(given: Sequence[str] | None, count: int, name: str) -> tuple[list[str], str]:
    count = max(count, 2)
    if given is None:
        made = [f"class {number}" for number in range(count)]
        return made, f"Keras keeps no class names: they are {made[0]!r} to {made[-1]!r} (--labels A,B,…)."
    if len(given) != count:
        raise InputError(f"--labels: {len(given)} names, and {name} has {count} classes; give them in Keras' order.")
    return list(given), ""


def _network(state: dict[str, Floats], labels: list[str], size: int) -> CTXceptionForImageClassification:
    model = CTXceptionForImageClassification.from_backbone(BACKBONE, labels, size)
    loaded = {name: torch.from_numpy(value) for name, value in state.items()}
    missing = [name for name in model.timm_model.load_state_dict(loaded, strict=False).missing_keys]
    assert all(name.endswith("num_batches_tracked") for name in missing), missing  # the walk gave every layer
    # Keras' own loaders resize bilinearly.
    model.config.pretrained_cfg["interpolation"] = "bilinear"
    return model.eval()


def even_maps(image_size: int) -> list[int]:
    """The sides of the maps at which timm's max-pooling parts from Keras', for an input of this side in pixels."""
    side, found = (image_size - 3) // 2 + 1 - 2, []
    for _ in range(4):
        found += [side] if side % 2 == 0 else []
        side = -(-side // 2)
    return found


class _SamePool(nn.Module):
    """3 x 3 max-pooling in steps of 2 with TensorFlow's SAME padding: what is odd of it goes right and below."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        height, width = (max((-(-side // 2) - 1) * 2 + 3 - side, 0) for side in values.shape[-2:])
        edges = (width // 2, width - width // 2, height // 2, height - height // 2)
        return nn.functional.max_pool2d(nn.functional.pad(values, edges, value=float("-inf")), 3, 2)


def keras_padding(model: CTXceptionForImageClassification) -> CTXceptionForImageClassification:
    """A copy of a network that pools as Keras does; no checkpoint can hold it."""
    twin = copy.deepcopy(model)
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, name, _SamePool())
    return twin
