"""`import ct_xception` lets transformers' Auto classes know our network, and imports none of either until it is wanted.

A checkpoint whose head or attention is not stock has a model type of our own. `ct_xception.model` registers it, and is
imported as soon as something imports the Auto classes for models: before that nobody can have asked for one.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_AUTO, _OURS = "transformers.models.auto.modeling_auto", "ct_xception.model"


class _Watch(MetaPathFinder):
    """Has the Auto classes' module loaded as it would be anyway, and ours after it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _AUTO:
            return None
        others = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((found for found in others if found is not None), None)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            loader.exec_module = _followed(loader.exec_module)
        return spec


def _followed(execute: Any) -> Any:
    def execute_both(module: ModuleType) -> None:
        execute(module)
        _register()

    return execute_both


def _register() -> None:
    """Import our network, unless that is being done; transformers stays usable where it cannot be imported."""
    if _OURS in sys.modules:
        return
    try:
        importlib.import_module(_OURS)
    except ImportError as error:
        warnings.warn(f"ct_xception's own networks are not known to transformers here ({error}).", stacklevel=2)


def watch() -> None:
    """Register our network now where the Auto classes are imported already, else when they are."""
    if _AUTO in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _Watch())
