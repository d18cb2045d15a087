"""An ONNX file holds all of its tensors itself, and computes what an Xception does: seen in its bytes, before it runs.

A tensor of an ONNX model may name another file (or, to ONNX Runtime, an address in memory) that its values are read
from, any that the process may read. No export of this package does. Only the skeleton of the protobuf is walked,
https://protobuf.dev/programming-guides/encoding/, with the field numbers of onnx.proto3: the values are passed over, so
that 80 MB take milliseconds and the onnx package is not needed. What a parser could take in two ways is refused; so are
operators such as ConstantOfShape, which a runtime would carry out while it loads, whatever memory that takes.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from ct_xception.errors import printable

# Per message the fields that hold a tensor, directly or not: {message: {field number: message}}.
HOLDERS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto", 22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
}  # fmt: skip
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # of TensorProto
OPERATOR = 4  # of NodeProto
OPERATORS = frozenset(
    b"Add AveragePool BatchNormalization Cast Clip Concat Constant Conv DequantizeLinear Div Exp Flatten Gemm "
    b"GlobalAveragePool Identity MatMul MaxPool Mul QuantizeLinear ReduceMax ReduceMean ReduceSum Relu Reshape Shape "
    b"Sigmoid Squeeze Sub Tanh Transpose Unsqueeze".split()
)
MOST_FIELDS, MOST_DEPTH = 1_000_000, 100  # our largest export has 15,000 fields; protobuf stops at 100, too
_VARINT, _MESSAGE, _FIXED = 0, 2, {1: 8, 5: 4}  # wire types; groups, 3 and 4, are of another age


def check_whole(path: str | Path) -> None:
    """Raise ValueError where a file's model keeps tensors elsewhere or computes more, or its bytes are no protobuf."""
    if not Path(path).stat().st_size:
        raise ValueError("it is empty")
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        waiting, seen, kinds = [("ModelProto", 0, len(data), 1)], 0, set[bytes]()
        while waiting:
            message, start, end, depth = waiting.pop()
            for number, value in _fields(data, start, end):
                seen += 1
                if message == "TensorProto" and (number == EXTERNAL_DATA or number == DATA_LOCATION and value != 0):
                    raise ValueError("it keeps weights in another file")
                if message == "NodeProto" and number == OPERATOR and isinstance(value, tuple):
                    kinds.add(data[slice(*value)])
                held = HOLDERS.get(message, {}).get(number)
                if held and isinstance(value, tuple):
                    waiting.append((held, *value, depth + 1))
            if seen > MOST_FIELDS or depth > MOST_DEPTH:
                raise ValueError("it is more deeply or finely divided than any network")
        if strange := sorted(kinds - OPERATORS):
            raise ValueError(f"it computes {printable(strange[0][:40].decode(errors='replace'))}, as no Xception does")


def _fields(data: mmap.mmap, place: int, end: int) -> Iterator[tuple[int, int | tuple[int, int]]]:
    """The fields of a message between two places: number, and a varint's value or where its bytes begin and end."""
    for _ in range(MOST_FIELDS + 1):
        if place == end:
            return
        tag, place = _varint(data, place, end)
        wire = tag & 7
        if wire == _VARINT:
            value, place = _varint(data, place, end)
            yield tag >> 3, value
            continue
        size, place = _varint(data, place, end) if wire == _MESSAGE else (_FIXED.get(wire, end), place)
        if place + size > end or tag >= 2**32:
            raise ValueError("it is cut off, damaged, or no ONNX file")
        yield tag >> 3, (place, place + size)
        place += size
    raise ValueError("it is more finely divided than any network")


def _varint(data: mmap.mmap, place: int, end: int) -> tuple[int, int]:
    """A number of at most 10 bytes, and where it ends."""
    value = 0
    for shift, at in enumerate(range(place, min(end, place + 10))):
        value |= (data[at] & 127) << 7 * shift
        if data[at] < 128:
            return value, at + 1
    raise ValueError("it is cut off, damaged, or no ONNX file")
