"""OpenVINO's form of the network, in float32."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.checkpoint import OPENVINO
from ct_xception.serving.network import DESCRIPTION, OUTPUTS, Description, Outputs, needed, opened
from ct_xception.serving.runtime import Exported, register

if TYPE_CHECKING:
    import numpy as np


class OpenVinoNetwork:
    """An OpenVINO IR (model.xml and model.bin beside it) on the CPU, in float32; `threads` None takes every core."""

    runtime = "openvino"

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        openvino = needed("openvino", "runtime openvino", "openvino")
        # Without the hint a CPU with bfloat16 or float16 arithmetic would silently use it.
        hints: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            hints["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        model = opened(lambda: core.read_model(str(path)), path)
        stated = {key: str(model.get_rt_info(["ct_xception", key]).value) for key in _stated_keys(model)}
        self.description = Description.read(stated, Path(path).name)
        self.label_names, self.pretrained_cfg = self.description.label_names, self.description.pretrained_cfg
        self._compiled = core.compile_model(model, "CPU", hints)
        self._lock = threading.Lock()  # its one inference request uses every thread

    def __call__(self, pixel_values: np.ndarray, tabular: np.ndarray | None = None) -> Outputs:
        import numpy as np

        with self._lock:
            found = self._compiled(self.description.feed(pixel_values, tabular), share_inputs=True)
            return Outputs(*(np.array(found[name]) for name in OUTPUTS))


def _stated_keys(model: Any) -> list[str]:
    return [key for key in DESCRIPTION if model.has_rt_info(["ct_xception", key])]


@register
class OpenVino(Exported):
    name, title, files = "openvino", "OpenVINO, float32", OPENVINO
    package, flag, sentence = "openvino", "openvino", "in OpenVINO's form"

    def load(self, path: str | Path, threads: int | None = None) -> OpenVinoNetwork:
        return OpenVinoNetwork(path, threads)
