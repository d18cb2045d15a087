"""Packages that can be called: `ct_xception.audit("DIR")`, although `ct_xception.audit` is a folder of modules, too."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """The package's main function."""
        module, _, name = self.__main_function__.rpartition(".")
        return getattr(importlib.import_module(module), name)(*arguments, **options)


def make_callable(package: str, function: str) -> None:
    """Let a package be called for `function`, MODULE.NAME, which is imported at the first call.

    A module's class may be set: https://docs.python.org/3/reference/datamodel.html#customizing-module-attribute-access
    """
    module = sys.modules[package]
    module.__main_function__ = function  # type: ignore[attr-defined]
    module.__class__ = _CallablePackage
