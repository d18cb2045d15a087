"""What can answer from a checkpoint, by the name of `--runtime`, and which of its files each reads.

Nothing slow is imported here, so that the command line can list them at once.
"""

from __future__ import annotations

from ct_xception.checkpoint import ONNX, ONNX_INT8, OPENVINO, WEIGHTS

RUNTIMES: dict[str, tuple[str, ...]] = {
    "torch": (WEIGHTS,),
    "onnx": (ONNX,),
    "onnx-int8": (ONNX_INT8,),
    "openvino": OPENVINO,
}
