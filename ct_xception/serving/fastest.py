"""Which runtime answers soonest: of a checkpoint's exported files those that gave the network's own logits."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ct_xception.checkpoint import EXPORT, EXPORT_FORMAT, evaluated
from ct_xception.files import read_json
from ct_xception.hub_download import HubError, HubId, fetch
from ct_xception.serving.checkpoint import checkpoint_in
from ct_xception.serving.runtimes import DEFAULT_RUNTIME, EXPORTED


def fastest_runtime(source: str | Path) -> str:
    """The runtime of a checkpoint, a folder or Hub id, to be asked: a name in RUNTIMES.

    That is the exported file that was quickest when it was exported, where its package is installed; one that only
    approximates the network (int8) is never chosen by itself. Without any it is torch, which starts slowest.
    """
    files = _record(source).get("files", {})
    fit = [name for name in EXPORTED if name in files and not EXPORTED[name].approximate and _installed(name)]
    return min(fit, key=lambda name: files[name].get("milliseconds", math.inf), default=DEFAULT_RUNTIME)


def _record(source: str | Path) -> Mapping[str, Any]:
    """export.json, empty where there is none; whatever else is wrong with the checkpoint, opening it says."""
    folder = Path(checkpoint_in(source))
    if not folder.is_dir():
        found = HubId.parse(str(source))
        try:
            folder = folder if found is None else fetch(found, [evaluated(EXPORT)])
        except HubError:
            return {}
    path = folder / evaluated(EXPORT)
    record = read_json(path) if path.is_file() else {}
    return record if record.get("format") == EXPORT_FORMAT else {}


def _installed(name: str) -> bool:
    return importlib.util.find_spec(EXPORTED[name].package) is not None
