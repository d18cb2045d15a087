"""Which layer of a Keras graph is which layer of timm's Xception: the graph is walked from its answer to its input.

Layers are known by their place and their settings, not by their names, which count up in a notebook's session. What is
not Xception with one linear head is refused by name, since a stock checkpoint could not hold it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ct_xception.formats.keras.files import Layer
from ct_xception.formats.keras.graph import Graph, Node

SOFTMAX, LINEAR, SIGMOID = "softmax", "linear", "sigmoid"
# They change nothing when a model answers: noise and augmentation of training.
_IDLE = (
    "Dropout SpatialDropout2D GaussianNoise GaussianDropout AlphaDropout ActivityRegularization RandomFlip "
    "RandomRotation RandomZoom RandomTranslation RandomContrast RandomBrightness"
).split()
_ARITHMETIC = {  # y = f(x, n) of preprocess_input inside a model, by the names of Keras 3 and of Keras 2
    **dict.fromkeys(("TrueDivide", "Divide", "tf.math.truediv", "tf.math.divide"), lambda number: (1 / number, 0.0)),
    **dict.fromkeys(("Multiply", "tf.math.multiply"), lambda number: (number, 0.0)),
    **dict.fromkeys(("Subtract", "tf.math.subtract"), lambda number: (1.0, -number)),
    **dict.fromkeys(("Add", "tf.math.add", "tf.__operators__.add"), lambda number: (1.0, number)),
}
_MOST_LAYERS = 10_000  # that a head is searched for the body behind it
_CONV = {"use_bias": False, "activation": LINEAR, "dilation_rate": (1, 1)}
_SEPARABLE = {**_CONV, "kernel_size": (3, 3), "strides": (1, 1), "padding": "same", "depth_multiplier": 1}
_RESIDUAL = {**_CONV, "kernel_size": (1, 1), "strides": (2, 2), "padding": "same", "groups": 1}
_POOL = {"pool_size": (3, 3), "strides": (2, 2), "padding": "same"}
_NORM = {"center": True, "scale": True}


@dataclass(eq=False)
class Found:
    """What the walk found.

    `body` {timm's name of the module: layer}. Of the head: `dense`, `activation` of the answer, and `norms` between the
    pooling and it, the first one first. `scale` and `offset`: y = scale * x + offset is done to the input inside the
    model, both None where nothing is.
    """

    dense: Layer
    activation: str
    norms: list[Layer]
    body: dict[str, Layer] = field(default_factory=dict)
    scale: float | None = None
    offset: float | None = None


class _Walk:
    """A place in the graph, which goes from layer to what feeds it."""

    def __init__(self, graph: Graph, node: Node | None) -> None:
        self.graph, self.node = graph, node

    @property
    def kind(self) -> str:
        """The class of the layer here; empty where the graph has ended."""
        return self.node.layer.kind if self.node else ""

    def step(self) -> Layer:
        """The layer here; go on to what feeds it."""
        assert self.node is not None
        layer = self.node.layer
        if len(self.node.inputs) > 1:
            raise self.strange()
        self.node = self.node.inputs[0] if self.node.inputs else None
        return layer

    def take(self, kind: str, settings: Mapping[str, Any]) -> Layer:
        """The layer here, which must be of this kind and have these settings."""
        if self.kind != kind:
            raise self.strange(kind)
        layer = self.step()
        for key, wanted in settings.items():
            if key in layer.config and setting(layer, key) != wanted:
                found = setting(layer, key)
                raise self.graph.refusal(f"the layer {layer.name!r} has {key} {found}, where Xception has {wanted}")
        return layer

    def strange(self, wanted: str = "") -> Exception:
        """The refusal of the layer that is here."""
        if self.node is None:
            return self.graph.refusal(f"its layers end where Xception has a {wanted or 'layer'}")
        name = self.node.layer.name
        if self.kind == "Lambda":
            return self.graph.refusal(f"the layer {name!r} is a Lambda, which is code, and no code of a file is run")
        place = f" where {wanted} is" if wanted else ""
        return self.graph.refusal(f"the layer {name!r} is {self.kind}, which is not read{place}")


def setting(layer: Layer, key: str) -> Any:
    """A setting as plain values: lists as tuples, activations by their name."""
    value = layer.config.get(key)
    if key == "activation":
        named = value.get("config", value) if isinstance(value, Mapping) else value
        return LINEAR if named is None else named if isinstance(named, str) else str(named)
    return tuple(value) if isinstance(value, list) else value


def find_xception(graph: Graph) -> Found:
    """Match a graph to Xception with one linear head. Raises `InputError`, naming the first layer that is not its."""
    walk = _Walk(graph, graph.output)
    found = _head(walk)
    _body(walk, found.body)
    _input(walk, found)
    return found


def find_body(graph: Graph) -> Found:
    """Match the body of a graph to Xception, whatever head it has: that is left. Raises `InputError` without one.

    The body's end is the first ReLU, from the answer backwards, that a norm and a separable convolution lead to.
    """
    seen, waiting = 0, [graph.output]
    while waiting and seen < _MOST_LAYERS:
        node, seen = waiting.pop(0), seen + 1
        if _ends_body(node):
            walk, found = _Walk(graph, node), Found(Layer("", "", {}, "", ""), LINEAR, [])
            _body(walk, found.body)
            _input(walk, found)
            return found
        waiting += node.inputs
    raise graph.refusal("it has no Xception's convolutional body")


def _ends_body(node: Node) -> bool:
    """Whether this is a ReLU after a norm after a separable convolution."""
    for kinds in (("Activation", "ReLU"), ("BatchNormalization",)):
        if node.layer.kind not in kinds or len(node.inputs) != 1:
            return False
        node = node.inputs[0]
    return node.layer.kind == "SeparableConv2D"


def _head(walk: _Walk) -> Found:
    """From the answer to the pooled maps."""
    activation = LINEAR
    while walk.kind in ("Activation", "Softmax", *_IDLE):
        layer = walk.step()
        own = {"Softmax": SOFTMAX, "Activation": setting(layer, "activation")}.get(layer.kind, LINEAR)
        activation = _joined(walk, activation, own)
    if walk.kind != "Dense":
        raise walk.strange("the Dense layer of its head")
    dense = walk.step()
    activation = _joined(walk, activation, setting(dense, "activation"))
    norms = _features(walk)
    return Found(dense, activation, norms)


def _features(walk: _Walk) -> list[Layer]:
    """The norms between the average pooling and the dense layer, the first one first."""
    norms: list[Layer] = []
    flattening: Node | None = None
    while walk.kind in ("BatchNormalization", "Flatten", *_IDLE):
        flattening = walk.node if walk.kind == "Flatten" else flattening
        layer = walk.step()
        norms = [layer, *norms] if layer.kind == "BatchNormalization" else norms
    if walk.kind == "Dense":
        raise walk.graph.refusal(
            "its head has several Dense layers, and a stock Xception checkpoint has one, right after the pooling "
            "(train_hf.py --weights FILE takes its body alone, and trains a new head)"
        )
    if walk.kind != "GlobalAveragePooling2D":
        walk.node = flattening or walk.node  # it does nothing to what was pooled; here it stands for the pooling
        raise walk.strange("GlobalAveragePooling2D")
    walk.step()
    while walk.kind in _IDLE:
        walk.step()
    return norms


def _joined(walk: _Walk, outer: str, inner: str) -> str:
    """Two activations in a row, of which one must do nothing, and both be known."""
    unknown = [name for name in (outer, inner) if name not in (SOFTMAX, LINEAR, SIGMOID)]
    if unknown or LINEAR not in (outer, inner):
        what = f"the activation {unknown[0]!r}" if unknown else f"{inner} and then {outer}"
        raise walk.graph.refusal(f"its answer goes through {what}, and only softmax, sigmoid and logits are read")
    return inner if outer == LINEAR else outer


def _body(walk: _Walk, body: dict[str, Layer]) -> None:
    """The exit flow, twelve blocks and the stem, from the last to the first."""
    for number in (4, 3):
        _relu(walk)
        body[f"bn{number}"], body[f"conv{number}"] = _separable(walk)
    for block in range(12, 0, -1):
        _block(walk, f"block{block}", 3 if 4 <= block <= 11 else 2, body, strided=block in (1, 2, 3, 12))
    for number, strides in ((2, (1, 1)), (1, (2, 2))):
        _relu(walk)
        body[f"bn{number}"] = walk.take("BatchNormalization", _NORM)
        settings = {**_CONV, "kernel_size": (3, 3), "strides": strides, "padding": "valid", "groups": 1}
        body[f"conv{number}"] = walk.take("Conv2D", settings)


def _relu(walk: _Walk) -> None:
    """A ReLU, as an activation or as a layer of its own."""
    if walk.kind == "ReLU":
        limits = {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}
        walk.take("ReLU", limits)
    else:
        walk.take("Activation", {"activation": "relu"})


def _separable(walk: _Walk) -> tuple[Layer, Layer]:
    return walk.take("BatchNormalization", _NORM), walk.take("SeparableConv2D", _SEPARABLE)


def _block(walk: _Walk, name: str, count: int, body: dict[str, Layer], *, strided: bool) -> None:
    """A residual block: both ways from its sum must begin at one place."""
    node = walk.node
    if node is None or walk.kind != "Add" or len(node.inputs) != 2:
        raise walk.strange("the Add of a residual block")
    ends = "MaxPooling2D" if strided else "BatchNormalization"
    main = 0 if node.inputs[0].layer.kind == ends else 1
    way, shortcut = _Walk(walk.graph, node.inputs[main]), _Walk(walk.graph, node.inputs[1 - main])
    if strided:
        way.take("MaxPooling2D", _POOL)
        body[f"{name}.skipbn"] = shortcut.take("BatchNormalization", _NORM)
        body[f"{name}.skip"] = shortcut.take("Conv2D", _RESIDUAL)
    first = 0 if name == "block1" else 1  # timm's first block begins without a ReLU
    for number in range(count - 1, -1, -1):
        place = first + 3 * number
        body[f"{name}.rep.{place + 1}"], body[f"{name}.rep.{place}"] = _separable(way)
        if number or first:
            _relu(way)
    if way.node is not shortcut.node or way.node is None:
        raise walk.graph.refusal(f"the two ways through {node.layer.name!r} do not begin at one layer")
    walk.node = way.node


def _input(walk: _Walk, found: Found) -> None:
    """What is done to the picture before the first convolution."""
    while walk.node is not None and walk.kind != "InputLayer":
        node = walk.node
        if walk.kind in _IDLE:
            walk.step()
            continue
        scale, offset = _arithmetic(walk, node)
        walk.step()
        outer_scale, outer_offset = (1.0, 0.0) if found.scale is None else (found.scale, found.offset or 0.0)
        found.scale, found.offset = outer_scale * scale, outer_scale * offset + outer_offset
    numbers = (found.scale, found.offset)
    if found.scale is not None and (not all(map(math.isfinite, map(float, filter(None, numbers)))) or not found.scale):
        raise walk.graph.refusal(f"its rescaling of the input (x * {found.scale} + {found.offset}) is none")


def _arithmetic(walk: _Walk, node: Node) -> tuple[float, float]:
    """(a, b) of a layer that makes a * x + b of its input x."""
    layer = node.layer
    if layer.kind == "Rescaling":
        values = [layer.config.get("scale"), layer.config.get("offset", 0.0)]
        if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            raise walk.graph.refusal(f"the layer {layer.name!r} rescales each channel in its own way")
        return float(values[0] or 0.0), float(values[1] or 0.0)
    known = _ARITHMETIC.get(f"tf.{layer.config.get('function')}" if layer.kind == "TFOpLambda" else layer.kind)
    number = node.arguments[1] if len(node.arguments) == 2 and node.arguments[0] is None else None
    if known is None or number is None or not number:
        raise walk.strange("the input")
    return known(number)
