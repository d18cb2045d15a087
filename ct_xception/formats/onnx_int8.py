"""The int8 twin of an ONNX file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.formats.onnx import quietly, save
from ct_xception.formats.source import ExportSource
from ct_xception.serving.network import OUTPUTS, needed

if TYPE_CHECKING:
    import numpy as np


def write(source: ExportSource, path: Path) -> None:
    """Calibrated on the source's training slices."""
    quantise_onnx(source.onnx, path, source.batches(), source.description)


def quantise_onnx(
    source: Path, path: Path, batches: Iterable[Mapping[str, np.ndarray]], description: Mapping[str, str]
) -> None:
    """Write the int8 twin of an ONNX file: static, weights per channel, its ranges those that `batches` fill.

    `batches` are the inputs of training slices by their names. Weights have 7 bits: without VNNI, CPUs add two
    products in 16 bits, which 8 would overflow, and the file would answer differently from machine to machine. The
    pooling and the head stay in float32: they are a thousandth of the work, and the class activation map is theirs.
    """
    quantization = needed("onnxruntime.quantization", "export --int8")
    onnx = needed("onnx", "export --int8")
    with tempfile.TemporaryDirectory() as folder, quietly():
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
        save(onnx.load(str(path)), path, description)


def _reader(batches: Iterable[Mapping[str, np.ndarray]], quantization: Any) -> Any:
    """The batches as onnxruntime's calibration asks for them."""

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.remaining = iter(batches)

        def get_next(self) -> Mapping[str, np.ndarray] | None:
            return next(self.remaining, None)

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
