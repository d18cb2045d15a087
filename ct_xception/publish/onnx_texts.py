"""The texts in an ONNX file: its names, remarks and metadata, without the numbers between them.

Read from the file's own wire format (Protocol Buffers: a key and a value, again and again), so that a folder can be
checked where the onnx package is not installed, and without taking random bytes of weights for words.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TEXT = "text"
# What of each message is read: {field number: text, or the message in it}, from onnx.proto. The rest is skipped.
_FIELDS: dict[str, dict[int, str]] = {
    "Model": {2: _TEXT, 3: _TEXT, 4: _TEXT, 6: _TEXT, 7: "Graph", 8: "Opset", 14: "Entry", 25: "Function"},
    "Graph": {
        1: "Node", 2: _TEXT, 5: "Tensor", 10: _TEXT, 11: "Value", 12: "Value", 13: "Value", 14: "Annotation",
        15: "Sparse", 16: "Entry",
    },
    "Node": {1: _TEXT, 2: _TEXT, 3: _TEXT, 4: _TEXT, 5: "Attribute", 6: _TEXT, 7: _TEXT, 8: _TEXT, 9: "Entry"},
    "Attribute": {
        1: _TEXT, 4: _TEXT, 5: "Tensor", 6: "Graph", 9: _TEXT, 10: "Tensor", 11: "Graph", 13: _TEXT, 21: _TEXT,
        22: "Sparse", 23: "Sparse",
    },
    "Tensor": {6: _TEXT, 8: _TEXT, 12: _TEXT, 13: "External", 16: "Entry"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Value": {1: _TEXT, 3: _TEXT, 4: "Entry"},
    "Annotation": {1: _TEXT, 2: "Entry"},
    "Opset": {1: _TEXT},
    "Entry": {1: _TEXT, 2: _TEXT},
    "Function": {1: _TEXT, 4: _TEXT, 5: _TEXT, 6: _TEXT, 7: "Node", 8: _TEXT, 9: "Opset", 10: _TEXT, 14: "Entry"},
}  # fmt: skip
_DEEPEST = 40  # messages within messages; a network has about eight


def onnx_texts(data: bytes | memoryview) -> Iterator[str]:
    """Every text of an ONNX model. Raises ValueError where the bytes are none, or keep weights in other files."""
    return _texts(memoryview(data), "Model", 0)


def _texts(data: memoryview, message: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError("its messages are nested too deeply")
    for field, value in _fields(data):
        kind = _FIELDS[message].get(field)
        if value is None or kind is None:
            continue
        if kind == _TEXT:
            yield bytes(value).decode("utf-8", "replace")
        elif kind == "External":
            raise ValueError("it keeps weights in another file")
        else:
            yield from _texts(value, kind, depth + 1)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | None]]:
    """The fields of a message: number and content, None for a plain number."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        field, wire, size = key >> 3, key & 7, 0
        if wire == _VARINT:
            _, place = _varint(data, place)
        elif wire == _BYTES:
            size, place = _varint(data, place)
        else:
            size = {_FIXED64: 8, _FIXED32: 4}.get(wire, -1)
        if size < 0 or field == 0 or place + size > len(data):
            raise ValueError(f"it is cut off or damaged at byte {place}")
        yield field, data[place : place + size] if wire == _BYTES else None
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 64:
        byte = data[place]
        value, place, shift = value | (byte & 127) << shift, place + 1, shift + 7
        if byte < 128:
            return value, place
    raise ValueError(f"it is cut off or damaged at byte {place}")
