"""The network as an ONNX file, which describes itself; every other export is made of it.

write_onnx(model, "model.onnx", describe(checkpoint))
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception import __version__
from ct_xception.checkpoint import WEIGHTS
from ct_xception.errors import InputError
from ct_xception.files import dump_json, sha256_file
from ct_xception.formats.source import ExportSource
from ct_xception.imaging.preprocessing import Preprocessing
from ct_xception.serving.checkpoint import Checkpoint
from ct_xception.serving.network import INPUT, OUTPUTS, TABULAR, needed

if TYPE_CHECKING:
    from ct_xception.model.modelling import CTXceptionForImageClassification

OPSET = 20  # what torch 2.14's exporter writes without converting, and every runtime of today reads


def describe(checkpoint: Checkpoint) -> dict[str, str]:
    """What an exported file says of itself, all text: the checkpoint's preprocessing, classes and weights."""
    wanted = Preprocessing.of(checkpoint.config["pretrained_cfg"])
    if wanted.size[0] != wanted.size[1]:
        raise InputError(
            f"{checkpoint.name}: its input is {wanted.size[0]} x {wanted.size[1]}; only squares are exported."
        )
    return {
        "preprocessing": dump_json(checkpoint.contract.stated_with(checkpoint.config["pretrained_cfg"])),
        "label_names": dump_json(list(checkpoint.config["label_names"])),
        "weights_sha256": sha256_file(checkpoint.folder / WEIGHTS),
        "source": f"ct-xception {__version__}",
        **({"tabular": dump_json(beside)} if (beside := checkpoint.config.get("tabular")) else {}),
    }


def write(source: ExportSource, path: Path) -> None:
    """The file that all exports begin with, as it is."""
    shutil.copyfile(source.onnx, path)


def write_onnx(model: CTXceptionForImageClassification, path: Path, description: Mapping[str, str]) -> None:
    """Write the network with any batch size: input `pixel_values`, outputs `logits`, `features` and `cam`.

    One that takes the columns of a table has the input `tabular` (B, D) besides.

    The exporter notes on every node where in whose home folder its source code lay; that is taken out.
    """
    import torch

    for package in ("onnx", "onnxscript"):
        needed(package, "export")
    side = int(model.config.pretrained_cfg["input_size"][-1])
    # Of weights kept channels last, torch 2.10 exports the pooling as strides, in a loop that OpenVINO does not read.
    plain = copy.deepcopy(model)
    for parameter in plain.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    # A batch of two: the exporter would take a batch of one for a constant.
    like: Any = {"dtype": model.dtype, "device": model.device}
    example = {INPUT: torch.zeros(2, 3, side, side, **like)}
    if model.tabular is not None:
        example[TABULAR] = torch.zeros(2, model.tabular.columns.width, **like)
    batch = torch.export.Dim("batch")
    with quietly(), torch.no_grad():
        program = torch.onnx.export(
            _all_outputs(plain).eval(),
            tuple(example.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(example),
            output_names=list(OUTPUTS),
            dynamic_shapes=tuple({0: batch} for _ in example),
            external_data=False,
            verbose=False,
        )
    assert program is not None  # it is None for the older exporter alone
    save(program.model_proto, path, description)


def _all_outputs(model: CTXceptionForImageClassification) -> Any:
    """The network as a module whose forward gives every output."""
    import torch

    class AllOutputs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            return self.model.outputs(pixel_values)

    class WithRows(AllOutputs):
        def forward(  # type: ignore[override]
            self, pixel_values: torch.Tensor, tabular: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            return self.model.outputs(pixel_values, tabular)

    return AllOutputs() if model.tabular is None else WithRows()


def save(proto: Any, path: Path, description: Mapping[str, str]) -> None:
    """Write a ModelProto with its description and without anything else that tells of this machine."""
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
    proto.producer_name, proto.producer_version = "ct-xception", __version__
    for key, value in description.items():
        proto.metadata_props.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """The exporter and the quantiser tell the terminal of steps that are not their caller's business."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def onnx_texts(data: bytes) -> list[str]:
    """Every text of an ONNX model, its names, remarks and metadata, without the numbers between them.

    Raises ValueError where the bytes are none, hold fields that ONNX does not know, or keep weights in other files;
    InputError where the onnx package, which reads them, is not installed.
    """
    from google.protobuf.message import DecodeError

    onnx = needed("onnx", "a folder with ONNX files")
    try:
        return list(_texts(onnx.ModelProto.FromString(data)))
    except DecodeError as error:
        raise ValueError("it is cut off or damaged") from error


def _texts(message: Any) -> Iterator[str]:
    from google.protobuf.message import Message
    from google.protobuf.unknown_fields import UnknownFieldSet

    if len(UnknownFieldSet(message)):
        raise ValueError("it holds fields that ONNX does not know")
    for field, value in message.ListFields():
        if field.name in ("external_data", "data_location") and value:
            raise ValueError("it keeps weights in another file")
        if field.type not in (field.TYPE_MESSAGE, field.TYPE_STRING, field.TYPE_BYTES) or field.name == "raw_data":
            continue
        for one in [value] if isinstance(value, (str, bytes, Message)) else value:
            if field.type == field.TYPE_MESSAGE:
                yield from _texts(one)
            else:
                yield one if isinstance(one, str) else one.decode("utf-8", "replace")
