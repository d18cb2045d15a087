"""ONNX files that reach for other files are refused before ONNX Runtime sees them, wherever in the model they do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ct_xception.errors import CheckpointError
from ct_xception.serving.onnx_whole import DATA_LOCATION, EXTERNAL_DATA, HOLDERS, MOST_FIELDS, check_whole
from ct_xception.serving.runtimes import EXPORTED

ELSEWHERE = "it keeps weights in another file"


def tensor(name: str = "w") -> onnx.TensorProto:
    return numpy_helper.from_array(np.arange(4, dtype=np.float32), name)


def away(name: str = "w", file: str = "secret") -> onnx.TensorProto:
    """Values that another file holds, a password's for instance."""
    made = tensor(name)
    made.ClearField("raw_data")
    made.data_location = TensorProto.EXTERNAL
    made.external_data.add(key="location", value=file)
    return made


def network(held: onnx.TensorProto | None = None, node: onnx.NodeProto | None = None) -> onnx.ModelProto:
    given, found = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y"))
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])] + ([node] if node else [])
    return helper.make_model(helper.make_graph(nodes, "g", [given], [found], [held or tensor()]))


def constant(**values: object) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], **values)


def branch() -> onnx.NodeProto:
    graph = network(away()).graph
    return helper.make_node("If", ["x"], ["z"], then_branch=graph, else_branch=network().graph)


def with_function() -> onnx.ModelProto:
    made = network()
    made.functions.append(helper.make_function("d", "f", [], ["c"], [constant(value=away())], []))
    return made


def with_training() -> onnx.ModelProto:
    made = network()
    made.training_info.add().initialization.CopyFrom(network(away()).graph)
    return made


def sparse() -> onnx.ModelProto:
    made = network()
    made.graph.sparse_initializer.add().values.CopyFrom(away())
    return made


def only(name: str) -> onnx.TensorProto:
    """With one of the two marks alone: a parser may go by either."""
    made = away()
    made.ClearField("external_data" if name == "data_location" else "data_location")
    return made


@pytest.mark.parametrize(
    "make",
    [
        lambda: network(away()),
        lambda: network(only("external_data")),
        lambda: network(only("data_location")),
        lambda: network(node=constant(value=away())),
        lambda: network(node=branch()),
        with_function,
        with_training,
        sparse,
    ],
    ids=["initializer", "entries", "location", "constant", "branch", "function", "training", "sparse"],
)
def test_a_tensor_elsewhere_is_refused_wherever_it_stands(make: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    (tmp_path / "m.onnx").write_bytes(make().SerializeToString())
    with pytest.raises(CheckpointError, match=rf"m\.onnx: cannot be loaded \({ELSEWHERE}\); export it again"):
        EXPORTED["onnx"].load(tmp_path / "m.onnx")


@pytest.mark.parametrize("kind", ["ConstantOfShape", "Expand", "Loop", "If", "Resize", "Relu2", "\x1b[2J"])
def test_operators_of_other_networks_are_refused(kind: str, tmp_path: Path) -> None:
    """A runtime carries some of them out while it loads: a file of 300 bytes may ask for gigabytes."""
    shape = numpy_helper.from_array(np.array([20_000, 10_000]), "shape")
    made = network(node=helper.make_node(kind, ["shape"], ["z"]))
    made.graph.initializer.append(shape)
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(
        CheckpointError, match=r"m\.onnx: cannot be loaded \(it computes .*, as no Xception does\)"
    ) as caught:
        EXPORTED["onnx"].load(tmp_path / "m.onnx")
    assert str(caught.value).isprintable()


def test_a_second_graph_is_seen_too(tmp_path: Path) -> None:
    """Parsers put the parts of a message that stands twice together."""
    (tmp_path / "m.onnx").write_bytes(network().SerializeToString() + network(away("v")).SerializeToString())
    with pytest.raises(ValueError, match=ELSEWHERE):
        check_whole(tmp_path / "m.onnx")


@pytest.mark.parametrize("written", [b"\x70\x81\x00", b"\x70\x81\x80\x80\x80\x10", b"\xf0\x00\x01", b"\x6a\x00"])
def test_the_mark_is_known_however_it_is_written(written: bytes, tmp_path: Path) -> None:
    """Numbers longer than they need be, or 2**32 too large, which parsers cut."""
    inner = tensor().SerializeToString() + written
    graph = b"\x2a" + bytes([len(inner)]) + inner
    (tmp_path / "m.onnx").write_bytes(b"\x3a" + bytes([len(graph)]) + graph)
    with pytest.raises(ValueError, match=ELSEWHERE):
        check_whole(tmp_path / "m.onnx")


@pytest.mark.parametrize("data", [b"", b"\x3a", b"\x3a\x05ab", b"\x3b\x3c", b"\xff" * 12, b"\x0a\xff\xff\xff\xff\x0f"])
def test_no_protobuf(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(ValueError):
        check_whole(tmp_path / "m.onnx")


def test_a_file_of_nothing_but_fields_costs_seconds_at_most(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x3a\x00" * (2 * MOST_FIELDS))
    began = time.process_time()
    with pytest.raises(ValueError, match="divided than any network"):
        check_whole(tmp_path / "m.onnx")
    assert time.process_time() - began < 10


def test_honest_files_pass_though_their_values_and_texts_look_like_marks(tmp_path: Path) -> None:
    marked = only("data_location").SerializeToString()
    held = numpy_helper.from_array(np.frombuffer(marked + bytes(-len(marked) % 4), np.float32), "w")
    made = network(held, constant(value_string="external_data location EXTERNAL"))
    made.metadata_props.add(key="location", value="p\x01")
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    check_whole(tmp_path / "m.onnx")


def test_our_own_exports_pass(exported_checkpoint: Path) -> None:
    for name in ("onnx", "onnx-int8"):
        check_whole(exported_checkpoint / EXPORTED[name].files[0])


def test_the_fields_walked_are_all_that_lead_to_a_tensor() -> None:
    """By the onnx package's own description of the format."""

    def held(message: Any) -> dict[int, Any]:
        return {field.number: field.message_type for field in message.fields if field.message_type}

    def leads(message: Any, seen: tuple[str, ...] = ()) -> bool:
        further = [one for one in held(message).values() if one.full_name not in seen]
        return message.name == "TensorProto" or any(leads(one, (*seen, message.full_name)) for one in further)

    reached, waiting = dict[str, dict[int, str]](), [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        fields = {number: one for number, one in held(message).items() if leads(one)}
        reached[message.name] = {number: one.name for number, one in fields.items()}
        waiting += [one for one in fields.values() if one.name not in reached and one.name != "TensorProto"]
    assert reached == HOLDERS
    numbers = {field.name: field.number for field in onnx.TensorProto.DESCRIPTOR.fields}
    assert (numbers["external_data"], numbers["data_location"]) == (EXTERNAL_DATA, DATA_LOCATION)
