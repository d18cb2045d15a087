"""What exports are made of, and who writes each.

    write_export("openvino", source, path)

A runtime's file is written by the module of this room that has its name, with `_` for `-`, and there by `write(source,
path)`. None looks at a slice: whether a file answers as the network does is measured in publish/export.py before it is
kept.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ExportSource:
    """The network as a float32 ONNX file `onnx`, and the `description` that goes into every file made of it.

    `batches` gives the inputs of training slices by their names, such as pixel_values (B, 3, S, S) float32, for what
    is calibrated.
    """

    onnx: Path
    description: Mapping[str, str]
    batches: Callable[[], Iterator[Mapping[str, np.ndarray]]]


def write_export(runtime: str, source: ExportSource, path: Path) -> None:
    """Write a runtime's file; InputError where a package is missing, CheckpointError where nothing calibrates it."""
    importlib.import_module(f"ct_xception.formats.{runtime.replace('-', '_')}").write(source, path)
