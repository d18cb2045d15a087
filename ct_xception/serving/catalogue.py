"""What can answer from a checkpoint, by the name of `--runtime`, and which of its files each reads.

Nothing is imported here, so that the command line can list them at once.
"""

from __future__ import annotations

WEIGHTS = "model.safetensors"
ONNX, ONNX_INT8 = "onnx/model.onnx", "onnx/model_int8.onnx"
OPENVINO = ("openvino/model.xml", "openvino/model.bin")

RUNTIMES: dict[str, tuple[str, ...]] = {
    "torch": (WEIGHTS,),
    "onnx": (ONNX,),
    "onnx-int8": (ONNX_INT8,),
    "openvino": OPENVINO,
}
