"""The network in OpenVINO's form: model.xml, and its weights in model.bin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ct_xception.formats.source import ExportSource
from ct_xception.serving.network import needed


def write(source: ExportSource, path: Path) -> None:
    """Both files, `path` and the .bin beside it."""
    write_openvino(source.onnx, path, source.description)


def write_openvino(source: Path, path: Path, description: Mapping[str, str]) -> None:
    """Write an ONNX file as OpenVINO's IR: `path` (.xml) and its weights (.bin) beside it, float32."""
    openvino = needed("openvino", "export --openvino", "openvino")
    # convert_model would do the same, and tell the makers of OpenVINO about it.
    model = openvino.Core().read_model(str(source))
    for key, value in description.items():
        model.set_rt_info(value, ["ct_xception", key])
    openvino.save_model(model, str(path), compress_to_fp16=False)
