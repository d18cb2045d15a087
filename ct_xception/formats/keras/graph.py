"""The layers of a Keras model as a graph: models inside models opened up, each layer with what it is fed by.

Keras 2 and Keras 3 write the same graphs in two ways; both are read here, from their JSON alone. Which classes of
layers may occur is not decided here, but nothing that could be code is ever more than a name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ct_xception.errors import InputError, printable
from ct_xception.formats.keras.files import KerasFile, Layer

CHAINS, GRAPHS = ("Sequential",), ("Functional", "Model")
_PACKAGES = ("keras", "tf_keras", "tensorflow")  # whose classes are what their names say
_SHAPES = ("batch_shape", "batch_input_shape")


@dataclass(frozen=True, eq=False)
class Node:
    """A layer where it is used. `inputs` are what it is fed by; `arguments` the same order with numbers left in place.

    Of `x / 127.5` the arguments are (None, 127.5).
    """

    layer: Layer
    inputs: tuple[Node, ...] = ()
    arguments: tuple[float | None, ...] = ()


@dataclass(eq=False)
class Graph:
    """A model's last layer, and the input shapes (N, H, W, C) that it and the models inside it state, outermost first.

    Raises `InputError` where the model has several inputs or outputs, uses a layer twice, or is none of layers.
    """

    file: KerasFile
    shapes: list[tuple[int | None, ...]] = field(default_factory=list)

    @property
    def output(self) -> Node:
        """The layer that gives the answer."""
        try:
            return self._expand(self.file.config, "", "", None)
        except RecursionError:
            raise self.refusal("its layers go round in circles") from None
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise self.refusal(f"the JSON of its layers is not Keras' ({type(error).__name__}: {error})") from error

    def refusal(self, found: str) -> InputError:
        """The sentence that refuses this file for what was found in it."""
        return InputError(f"{self.file.arrays.source}: {printable(found)}; give an Xception of keras.applications.")

    def _expand(self, model: Mapping[str, Any], stored: str, owner: str, feed: Node | None) -> Node:
        """The last layer of a model or of one inside it, which `feed` feeds."""
        config = model["config"]
        parts = config["layers"] if isinstance(config, Mapping) else config  # the first Keras 2 wrote a bare list
        layers = self._layers(parts, f"{stored}/layers" if stored else "layers", owner)
        if model["class_name"] in CHAINS:
            for part, layer in zip(parts, layers, strict=True):
                feed = self._use(part, layer, () if feed is None else (feed,), ())
            if feed is None:
                raise self.refusal("a Sequential model has no layers")
            return feed
        if model["class_name"] not in GRAPHS:
            raise self.refusal(f"{model['class_name']!r} is no Sequential or Functional model")
        return _Functional(self, parts, layers, feed).of(self._only(config["output_layers"], "output"))

    def _layers(self, parts: Sequence[Mapping[str, Any]], stored: str, owner: str) -> list[Layer]:
        """Each layer with its address; .keras files number the layers of a class in their order."""
        seen: Counter[str] = Counter()
        layers = []
        for part in parts:
            kind, config = str(part["class_name"]), part["config"]
            config = config if isinstance(config, Mapping) else {}
            name = str(part.get("name") or config.get("name") or kind)
            snake = _snake_case(kind)
            number, seen[snake] = seen[snake], seen[snake] + 1
            self._check_origin(part, kind, name)
            place = f"{stored}/{snake}_{number}" if number else f"{stored}/{snake}"
            layers.append(Layer(kind, name, config, place, owner or name))
        return layers

    def _check_origin(self, part: Mapping[str, Any], kind: str, name: str) -> None:
        module = part.get("module")
        if isinstance(module, str) and module.split(".")[0] not in _PACKAGES:
            raise self.refusal(f"the layer {name!r} is {module}.{kind}, somebody's own class, which is not read")

    def _use(
        self, part: Mapping[str, Any], layer: Layer, inputs: tuple[Node, ...], arguments: tuple[float | None, ...]
    ) -> Node:
        """What comes out of a layer; of a model inside the model, its last layer."""
        self._note_shape(layer)
        if layer.kind == "InputLayer":
            return inputs[0] if inputs else Node(layer)
        if layer.kind in CHAINS + GRAPHS:
            if len(inputs) > 1:
                raise self.refusal(f"the model {layer.name!r} inside it has {len(inputs)} inputs, not one")
            return self._expand(part, layer.stored, layer.owner, inputs[0] if inputs else None)
        return Node(layer, inputs, arguments)

    def _note_shape(self, layer: Layer) -> None:
        for key in _SHAPES:
            shape = layer.config.get(key)
            if isinstance(shape, list) and len(shape) == 4:
                self.shapes.append(tuple(one if isinstance(one, int) else None for one in shape))

    def _only(self, references: Any, what: str) -> str:
        found = _scan(references)
        names = [one for one in found if isinstance(one, str)]
        if len(names) != 1:
            raise self.refusal(f"it has {len(names)} {what}s, and a classifier has one")
        return names[0]


@dataclass(eq=False)
class _Functional:
    """The layers of one Functional model, by name."""

    graph: Graph
    parts: Sequence[Mapping[str, Any]]
    layers: Sequence[Layer]
    feed: Node | None
    made: dict[str, Node] = field(default_factory=dict)

    def of(self, name: str) -> Node:
        """What comes out of the layer of that name."""
        if name not in self.made:
            self.made[name] = self._make(name)
        return self.made[name]

    def _make(self, name: str) -> Node:
        places = [place for place, layer in enumerate(self.layers) if layer.name == name]
        if len(places) != 1:
            raise self.graph.refusal(f"{len(places)} of its layers are named {name!r}")
        part, layer = self.parts[places[0]], self.layers[places[0]]
        uses = part.get("inbound_nodes") or []
        if layer.kind == "InputLayer":
            return self.graph._use(part, layer, () if self.feed is None else (self.feed,), ())
        if len(uses) != 1:
            raise self.graph.refusal(f"the layer {name!r} is used {len(uses)} times, and an Xception uses each once")
        found = _scan(uses[0])
        inputs = tuple(self.of(one) for one in found if isinstance(one, str))
        arguments = tuple(None if isinstance(one, str) else one for one in found)
        return self.graph._use(part, layer, inputs, arguments)


def _scan(value: Any) -> list[str | float]:
    """The layers that a serialised call refers to, and the numbers beside them, in their order."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            return [str(value["config"]["keras_history"][0])]
        return [one for part in value.values() for one in _scan(part)]
    if isinstance(value, (list, tuple)):
        if _is_reference(value):
            return [str(value[0]), *(one for part in value[3:] for one in _scan(part))]
        return [one for part in value for one in _scan(part)]
    return [float(value)] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


def _is_reference(value: Sequence[Any]) -> bool:
    """Whether this is [layer, node, tensor] or [layer, node, tensor, {…}]."""
    return len(value) in (3, 4) and isinstance(value[0], str) and all(type(one) is int for one in value[1:3])


def _snake_case(name: str) -> str:
    """A class's name as .keras files write it: SeparableConv2D becomes separable_conv2d."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
