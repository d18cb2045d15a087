"""An ONNX file in ONNX Runtime: float32, and its int8 twin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.checkpoint import ONNX, ONNX_INT8
from ct_xception.serving.network import OUTPUTS, Description, Outputs, needed, opened
from ct_xception.serving.onnx_whole import check_whole
from ct_xception.serving.runtime import Exported, register

if TYPE_CHECKING:
    import numpy as np


class OnnxNetwork:
    """An ONNX file in ONNX Runtime, on the CPU; `threads` None takes every core."""

    def __init__(self, path: str | Path, threads: int | None = None, *, runtime: str = "onnx") -> None:
        onnxruntime = needed("onnxruntime", f"runtime {runtime}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # its warnings speak of the graph, which the user did not write
        self._session = opened(lambda: _session(onnxruntime, path, options), path)
        self.runtime = runtime
        self.description = Description.read(self._session.get_modelmeta().custom_metadata_map, Path(path).name)
        self.label_names, self.pretrained_cfg = self.description.label_names, self.description.pretrained_cfg

    def __call__(self, pixel_values: np.ndarray, tabular: np.ndarray | None = None) -> Outputs:
        return Outputs(*self._session.run(list(OUTPUTS), self.description.feed(pixel_values, tabular)))


def _session(onnxruntime: Any, path: str | Path, options: Any) -> Any:
    check_whole(path)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@register
class Onnx(Exported):
    name, title, files = "onnx", "ONNX, float32", (ONNX,)
    package, flag, sentence = "onnxruntime", "onnx", "the default"

    def load(self, path: str | Path, threads: int | None = None) -> OnnxNetwork:
        return OnnxNetwork(path, threads, runtime=self.name)


@register
class OnnxInt8(Onnx):
    name, title, files = "onnx-int8", "ONNX, int8", (ONNX_INT8,)
    flag, sentence, approximate = "int8", "a quarter of the size", True
