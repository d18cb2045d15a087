"""The network as an ONNX file, its int8 twin, and OpenVINO's form of it; each describes itself.

    write_onnx(model, "model.onnx", describe(folder))

Nothing here looks at a slice: whether a file answers as the network does is measured in export.py before it is kept.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception import __version__
from ct_xception.checkpoint import WEIGHTS
from ct_xception.errors import InputError
from ct_xception.files import dump_json, sha256_file
from ct_xception.imaging.preprocessing import Preprocessing
from ct_xception.serving.checkpoint import Checkpoint
from ct_xception.serving.runtimes import INPUT, OUTPUTS, needed

if TYPE_CHECKING:
    import numpy as np

    from ct_xception.model.modelling import CTXceptionForImageClassification

OPSET = 20  # what torch 2.14's exporter writes without converting, and every runtime of today reads


def describe(checkpoint: Checkpoint) -> dict[str, str]:
    """What an exported file says of itself, all text: the checkpoint's preprocessing, classes and weights."""
    wanted = Preprocessing.of(checkpoint.config["pretrained_cfg"])
    if wanted.size[0] != wanted.size[1]:
        raise InputError(
            f"{checkpoint.name}: its input is {wanted.size[0]} x {wanted.size[1]}; only squares are exported."
        )
    preprocessing = {
        "size": wanted.size[0],
        "mean": list(wanted.mean),
        "std": list(wanted.std),
        "interpolation": wanted.interpolation,
        "crop_pct": wanted.crop_pct,
        "crop_mode": wanted.crop_mode,
        "body_crop": checkpoint.contract.body_crop,
        "filters": list(checkpoint.contract.filters),
    }
    return {
        "preprocessing": dump_json(preprocessing),
        "label_names": dump_json(list(checkpoint.config["label_names"])),
        "weights_sha256": sha256_file(checkpoint.folder / WEIGHTS),
        "source": f"ct-xception {__version__}",
    }


def write_onnx(model: CTXceptionForImageClassification, path: Path, description: Mapping[str, str]) -> None:
    """Write the network with any batch size: input `pixel_values`, outputs `logits`, `features` and `cam`.

    The exporter notes on every node where in whose home folder its source code lay; that is taken out.
    """
    import torch

    for package in ("onnx", "onnxscript"):
        needed(package, "export")
    side = int(model.config.pretrained_cfg["input_size"][-1])
    # A batch of two: the exporter would take a batch of one for a constant.
    example = torch.zeros(2, 3, side, side, dtype=model.dtype, device=model.device)
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            _all_outputs(model).eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
    assert program is not None  # it is None for the older exporter alone
    _save(program.model_proto, path, description)


def _all_outputs(model: CTXceptionForImageClassification) -> Any:
    """The network as a module whose forward gives every output."""
    import torch

    class AllOutputs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            return self.model.outputs(pixel_values)

    return AllOutputs()


def _save(proto: Any, path: Path, description: Mapping[str, str]) -> None:
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
def _quietly() -> Iterator[None]:
    """The exporter and the quantiser tell the terminal of steps that are not their caller's business."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def quantise_onnx(source: Path, path: Path, batches: Iterable[np.ndarray], description: Mapping[str, str]) -> None:
    """Write the int8 twin of an ONNX file: static, weights per channel, its ranges those that `batches` fill.

    `batches` are pixel_values (B, 3, S, S) float32 of training slices. Weights have 7 bits: without VNNI, CPUs add two
    products in 16 bits, which 8 would overflow, and the file would answer differently from machine to machine. The
    pooling and the head stay in float32: they are a thousandth of the work, and the class activation map is theirs.
    """
    quantization = needed("onnxruntime.quantization", "export --int8")
    onnx = needed("onnx", "export --int8")
    with tempfile.TemporaryDirectory() as folder, _quietly():
        fused = Path(folder) / "fused.onnx"  # batch norms go into the convolutions, which int8 presupposes
        quantization.quant_pre_process(str(source), str(fused), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(fused),
            str(path),
            _reader(batches, quantization),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            nodes_to_exclude=_head_nodes(onnx.load(str(fused), load_external_data=False).graph),
        )
        _save(onnx.load(str(path)), path, description)


def _reader(batches: Iterable[np.ndarray], quantization: Any) -> Any:
    """The batches as onnxruntime's calibration asks for them."""

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.remaining = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            found = next(self.remaining, None)
            return None if found is None else {INPUT: found}

    return Reader()


def _head_nodes(graph: Any) -> list[str]:
    """The names of the nodes after the last activation: pooling, head, class activation map."""
    makers = {output: node for node in graph.node for output in node.output}
    names, waiting = set(), list(OUTPUTS)
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.op_type != "Relu":
            names.add(node.name)
            waiting += node.input
    return sorted(names)


def write_openvino(source: Path, path: Path, description: Mapping[str, str]) -> None:
    """Write an ONNX file as OpenVINO's IR: `path` (.xml) and its weights (.bin) beside it, float32."""
    openvino = needed("openvino", "export --openvino")
    # convert_model would do the same, and tell the makers of OpenVINO about it.
    model = openvino.Core().read_model(str(source))
    for key, value in description.items():
        model.set_rt_info(value, ["ct_xception", key])
    openvino.save_model(model, str(path), compress_to_fp16=False)


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
