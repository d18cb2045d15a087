"""Which runtime answers soonest: of a checkpoint's exported files those that gave the network's own logits."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

from ct_xception.checkpoint import EXPORT, SIDE_FILE, evaluated
from ct_xception.checkpoint_files import read_side
from ct_xception.errors import CheckpointError
from ct_xception.export_record import read_exports
from ct_xception.hub_download import HubError, HubId, fetch
from ct_xception.serving.checkpoint import checkpoint_in
from ct_xception.serving.runtimes import DEFAULT_RUNTIME, EXPORTED


def fastest_runtime(source: str | Path) -> str:
    """The runtime of a checkpoint, a folder or Hub id, to be asked: a name in RUNTIMES.

    That is the exported file that was quickest when it was exported, where its package is installed and the checkpoint
    was sealed with it; one that only approximates the network (int8) is never chosen by itself. Without any it is
    torch, which starts slowest.
    """
    folder = _folder(source)
    times = {} if folder is None else _milliseconds(folder / evaluated(EXPORT))
    side = read_side(folder) if folder and times else None
    sealed = None if side is None or not side.manifest else set(side.manifest)
    fit = [
        name
        for name, runtime in EXPORTED.items()
        if name in times and not runtime.approximate and (sealed is None or sealed.issuperset(runtime.files))
    ]
    return min(filter(_installed, fit), key=times.__getitem__, default=DEFAULT_RUNTIME)


def _milliseconds(path: Path) -> dict[str, float]:
    """{runtime: how long it took for a slice} of an export's record; what is no record, or of no runtime, is none."""
    try:
        files = read_exports(path).files
    except (OSError, CheckpointError):
        return {}
    return {name: math.inf if one.milliseconds is None else one.milliseconds for name, one in files.items()}


def _folder(source: str | Path) -> Path | None:
    """Where its record of exports lies; None where it cannot be had: opening the checkpoint will say why."""
    folder = Path(checkpoint_in(source))
    found = None if folder.is_dir() else HubId.parse(str(source))
    try:
        return fetch(found, [evaluated(EXPORT), SIDE_FILE]) if found else folder
    except HubError:
        return None


def _installed(name: str) -> bool:
    return importlib.util.find_spec(EXPORTED[name].package) is not None
