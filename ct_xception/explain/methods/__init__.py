"""The ways to explain an answer: each file of this folder registers one or several.

    METHODS["gradcam"].title, find_method("Grad-CAM").name

The files import torch and Captum inside their functions alone, so that a command line can list the names at once.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping
from typing import Any

from ct_xception.errors import InputError
from ct_xception.explain.budget import DEFAULT_METHOD
from ct_xception.explain.methods.base import REGISTERED, Method
from ct_xception.text import unknown

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")

# The default first, then what costs next to nothing.
METHODS: dict[str, Method] = dict(
    sorted(REGISTERED.items(), key=lambda pair: (pair[0] != DEFAULT_METHOD, not pair[1].coarse, pair[1].title.lower()))
)


def find_method(name: str) -> Method:
    """The method of this name, title or alias, whatever its capitals, spaces and dashes. Raises InputError."""
    for method in METHODS.values():
        if _letters(name) in map(_letters, (method.name, method.title, *method.aliases)):
            return method
    raise InputError(unknown("method", name, METHODS))


def methods_for(config: Mapping[str, Any]) -> dict[str, Method]:
    """The methods that can explain a network of this config.json."""
    return {name: method for name, method in METHODS.items() if method.unfit(config) is None}


def _letters(name: str) -> str:
    return re.sub(r"[^\w+]|_", "", name).lower()  # Grad-CAM++ is not Grad-CAM
