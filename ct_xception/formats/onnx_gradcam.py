"""An ONNX network in two parts, of which the second gives Grad-CAM: for runtimes that know no gradient.

    parts = split_for_gradcam(onnx.load("onnx/model.onnx"))
    parts[0]: pixel_values (1, 3, S, S) -> middle (1, C, h, w), the last feature map before the last stride
    parts[1]: middle, seed (1, K) -> logits, features, gradcam (1, 1, h, w)

`seed` is 1 for the class that is asked about and 0 elsewhere. The gradient of its logit runs back through the exit flow
as nodes of the graph: a convolution's is the transposed convolution with the same weights, a max pooling's goes to the
cell that was largest, a ReLU's passes where it let something through; what quantises passes it on, as if it did not
round. `gradcam` is then what explain/methods/gradcam.py computes (Selvaraju et al. 2017, arXiv 1610.02391), in the same
unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.serving.network import INPUT, needed

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

MIDDLE, SEED, MAP = "middle", "seed", "gradcam"
FIRST_OUTPUTS, SECOND_OUTPUTS = (MIDDLE,), ("logits", "features", MAP)
_QUANTISING = ("QuantizeLinear", "DequantizeLinear")


class NoGradient(Exception):
    """The exit flow holds what no gradient is written for; its message names it."""


def split_for_gradcam(proto: ModelProto) -> tuple[ModelProto, ModelProto]:
    """The two parts of an exported network. Raises NoGradient, and InputError where the package onnx is missing."""
    onnx = needed("onnx", "export --browser")
    whole = onnx.shape_inference.infer_shapes(proto).graph
    middle = _before_last_stride(whole)
    first = _ancestors(whole, [middle], ())
    second = _ancestors(whole, ["logits", "features"], (middle,))
    if any(INPUT in node.input for node in second):
        raise NoGradient("no single feature map lies before its last stride")
    backward = _Backward(whole, second, middle)
    backward.run()
    head = [onnx.helper.make_node("Identity", [middle], [MIDDLE], name="to_middle")]
    tail = [onnx.helper.make_node("Identity", [MIDDLE], [middle], name="from_middle")]
    batch = _sizes(whole, middle)
    told = onnx.helper.make_tensor_value_info
    float_, classes = onnx.TensorProto.FLOAT, backward.sizes["logits"][1]
    seed = told(SEED, float_, [1, classes])
    inputs = [told(MIDDLE, float_, [1, *batch[1:]]), seed]
    outputs = [one for one in whole.output if one.name != "cam"] + [told(MAP, float_, [1, 1, *batch[2:]])]
    return (
        _part(proto, [*first, *head], list(whole.input), [told(MIDDLE, float_, [None, *batch[1:]])], ()),
        _part(proto, [*tail, *second, *backward.nodes], inputs, outputs, backward.constants),
    )


def _part(proto: ModelProto, nodes: list[Any], inputs: list[Any], outputs: list[Any], more: Iterable[Any]) -> Any:
    """A model of these nodes, with those of the whole's weights that they read and `more`."""
    onnx = needed("onnx", "export --browser")
    read = {name for node in nodes for name in node.input}
    weights = [*(one for one in proto.graph.initializer if one.name in read), *more]
    graph = onnx.helper.make_graph(nodes, "part", inputs, outputs, weights)
    made = onnx.helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    onnx.checker.check_model(made)
    return made


def _makers(graph: GraphProto) -> dict[str, NodeProto]:
    return {name: node for node in graph.node for name in node.output}


def _ancestors(graph: GraphProto, names: list[str], stop: tuple[str, ...]) -> list[NodeProto]:
    """The nodes that these tensors are computed by, in the graph's order, without those before `stop`."""
    makers, wanted, waiting = _makers(graph), set[int](), list(names)
    while waiting:
        name = waiting.pop()
        node = None if name in stop else makers.get(name)
        if node is not None and id(node) not in wanted:
            wanted.add(id(node))
            waiting += node.input
    return [node for node in graph.node if id(node) in wanted]


def _before_last_stride(graph: GraphProto) -> str:
    """The tensor that the last shortcut with a stride reads: the last feature map with a cell every 16 pixels."""
    strided = [node for node in graph.node if node.op_type == "Conv" and _is_shortcut(node)]
    if not strided:
        raise NoGradient("it has no shortcut with a stride")
    makers, name = _makers(graph), strided[-1].input[0]
    while name in makers and makers[name].op_type in _QUANTISING:
        name = makers[name].input[0]
    return str(name)


def _is_shortcut(node: NodeProto) -> bool:
    found = _attributes(node)
    return list(found.get("kernel_shape", ())) == [1, 1] and list(found.get("strides", ())) == [2, 2]


def _attributes(node: NodeProto) -> dict[str, Any]:
    onnx = needed("onnx", "export --browser")
    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}


def _sizes(graph: GraphProto, name: str) -> list[int]:
    """A tensor's sizes; 1 in place of a batch of any size."""
    for one in (*graph.value_info, *graph.output, *graph.input):
        if one.name == name:
            return [axis.dim_value or 1 for axis in one.type.tensor_type.shape.dim]
    raise NoGradient(f"the sizes of {name} are not known")


class _Backward:
    """Writes the nodes that carry `seed` from the logits back to the middle, and make the map of it."""

    def __init__(self, whole: GraphProto, forward: list[NodeProto], middle: str) -> None:
        self.whole, self.forward, self.middle = whole, forward, middle
        self.nodes, self.constants = list[Any](), list[Any]()
        self.moving = {middle}  # the tensors that depend on the middle: only to these does a gradient run
        for node in forward:
            if self.moving & set(node.input):
                self.moving |= set(node.output)
        self.sizes = {name: _sizes(whole, name) for name in self.moving}
        self.gradients: dict[str, list[str]] = {}
        self.weights = {one.name: one for one in whole.initializer}

    def run(self) -> None:
        rules: dict[str, Callable[[Any, str], None]] = {
            "Gemm": self._gemm,
            "Reshape": self._reshape,
            "ReduceMean": self._mean,
            "Relu": self._relu,
            "Conv": self._conv,
            "MaxPool": self._max_pool,
            "Add": self._add,
            "QuantizeLinear": self._pass_on,
            "DequantizeLinear": self._dequantise,
        }
        self.gradients["logits"] = [SEED]
        for node in reversed(self.forward):
            if node.output[0] not in self.gradients:
                continue
            if node.op_type not in rules:
                raise NoGradient(f"no gradient of {node.op_type} is written")
            rules[node.op_type](node, self._sum(node.output[0]))
        self._draw(self._sum(self.middle))

    def _draw(self, gradient: str) -> None:
        """Grad-CAM: the channels weighed by the mean of their gradients, and what speaks for the class alone."""
        weighed = self._emit("Mul", [self._emit("ReduceMean", [gradient, self._whole([2, 3])], keepdims=1), MIDDLE])
        summed = self._emit("ReduceSum", [weighed, self._whole([1])], keepdims=1)
        self._emit("Relu", [summed], output=MAP)

    def _emit(self, kind: str, inputs: list[str], output: str = "", **options: Any) -> str:
        onnx = needed("onnx", "export --browser")
        output = output or f"back_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [output], name=f"{kind}_{output}", **options))
        return output

    def _constant(self, values: np.ndarray) -> str:
        onnx = needed("onnx", "export --browser")
        name = f"constant_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(values, name))
        return name

    def _whole(self, values: list[int]) -> str:
        return self._constant(np.asarray(values, np.int64))

    def _give(self, tensor: str, gradient: str) -> None:
        self.gradients.setdefault(tensor, []).append(gradient)

    def _sum(self, tensor: str) -> str:
        """The gradient of a tensor that several nodes may read."""
        first, *others = self.gradients[tensor]
        for other in others:
            first = self._emit("Add", [first, other])
        return first

    # One rule an operation

    def _gemm(self, node: Any, gradient: str) -> None:
        options = _attributes(node)
        if not options.get("transB") or options.get("alpha", 1.0) != 1.0 or options.get("transA"):
            raise NoGradient("its head is no plain linear layer")
        self._give(node.input[0], self._emit("MatMul", [gradient, node.input[1]]))

    def _reshape(self, node: Any, gradient: str) -> None:
        self._give(node.input[0], self._emit("Reshape", [gradient, self._whole(self.sizes[node.input[0]])]))

    def _mean(self, node: Any, gradient: str) -> None:
        shape, reduced = self.sizes[node.input[0]], self.sizes[node.output[0]]
        if reduced != [*shape[:2], 1, 1]:
            raise NoGradient("its pooling is no mean over the feature map")
        share = np.full((1, 1, *shape[2:]), 1 / np.prod(shape[2:]), np.float32)
        self._give(node.input[0], self._emit("Mul", [gradient, self._constant(share)]))

    def _relu(self, node: Any, gradient: str) -> None:
        self._give(node.input[0], self._where_above_zero(node.output[0], gradient))

    def _where_above_zero(self, tensor: str, gradient: str) -> str:
        above = self._emit("Greater", [tensor, self._constant(np.zeros((), np.float32))])
        return self._emit("Mul", [gradient, self._emit("Cast", [above], to=1)])

    def _conv(self, node: Any, gradient: str) -> None:
        options, inner = _attributes(node), self.sizes[node.input[0]][2:]
        kernel, strides = options["kernel_shape"], options["strides"]
        pads, spread = options.get("pads", [0] * 4), options.get("dilations", [1, 1])
        reach = [
            (outer - 1) * strides[axis] - pads[axis] - pads[axis + 2] + spread[axis] * (kernel[axis] - 1) + 1
            for axis, outer in enumerate(self.sizes[node.output[0]][2:])
        ]
        missed = [have - reached for have, reached in zip(inner, reach, strict=True)]  # by a stride, at the far edges
        same = {name: options[name] for name in ("kernel_shape", "strides", "pads", "dilations", "group")}
        self._give(node.input[0], self._emit("ConvTranspose", [gradient, node.input[1]], output_padding=missed, **same))

    def _max_pool(self, node: Any, gradient: str) -> None:
        """Each window's gradient goes to its largest cell, the first of equals; windows overlap, so they are added."""
        shape = self.sizes[node.input[0]]
        onnx = needed("onnx", "export --browser")
        places, again = f"places_{len(self.nodes)}", f"again_{len(self.nodes)}"
        self.nodes.append(
            onnx.helper.make_node("MaxPool", [node.input[0]], [again, places], name=again, **_attributes(node))
        )
        flat = self._whole([-1])
        nothing = self._constant(np.zeros(int(np.prod(shape)), np.float32))
        found = [self._emit("Reshape", [one, flat]) for one in (places, gradient)]
        scattered = self._emit("ScatterElements", [nothing, *found], axis=0, reduction="add")
        self._give(node.input[0], self._emit("Reshape", [scattered, self._whole(shape)]))

    def _add(self, node: Any, gradient: str) -> None:
        for name in node.input:
            if name in self.moving:
                if self.sizes[name] != self.sizes[node.output[0]]:
                    raise NoGradient("a sum in it spreads one of its parts")
                self._give(name, gradient)

    def _pass_on(self, node: Any, gradient: str) -> None:
        self._give(node.input[0], gradient)

    def _dequantise(self, node: Any, gradient: str) -> None:
        """Where the least number stands for 0, quantising was the ReLU: none is written in the graph any more."""
        onnx = needed("onnx", "export --browser")
        zero = self.weights.get(node.input[2]) if len(node.input) > 2 else None
        if zero is not None and zero.data_type == onnx.TensorProto.UINT8 and not onnx.numpy_helper.to_array(zero).any():
            gradient = self._where_above_zero(node.output[0], gradient)
        self._give(node.input[0], gradient)
