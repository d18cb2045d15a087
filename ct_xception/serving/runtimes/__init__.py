"""What can answer from a checkpoint: each file of this folder registers one runtime or several.

    RUNTIMES["openvino"].files, find_runtime("onnx").open(checkpoint)

The files import torch and the other runtimes inside their functions alone: the command line lists the names at once,
and an exported file answers without torch.
"""

from __future__ import annotations

import importlib
import pkgutil

from ct_xception.errors import InputError
from ct_xception.serving.runtime import REGISTERED, Exported, Runtime
from ct_xception.text import unknown

DEFAULT_RUNTIME = "torch"

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")

RUNTIMES: dict[str, Runtime] = dict(sorted(REGISTERED.items(), key=lambda pair: (pair[0] != DEFAULT_RUNTIME, pair[0])))
EXPORTED: dict[str, Exported] = {name: runtime for name, runtime in RUNTIMES.items() if isinstance(runtime, Exported)}


def find_runtime(name: str) -> Runtime:
    """The runtime of this name. Raises InputError."""
    if name not in RUNTIMES:
        raise InputError(unknown("runtime", name, RUNTIMES))
    return RUNTIMES[name]
