"""The seal of a checkpoint folder: the SHA-256 of every file in it, kept in ct_xception.json."""

from __future__ import annotations

import json
from pathlib import Path

from ct_xception.errors import CheckpointError, printable
from ct_xception.files import sha256_file, write_json

SIDE_FILE = "ct_xception.json"


def seal(folder: Path) -> dict[str, str]:
    """Write the manifest of a finished folder, {relative path: SHA-256} of every file but the side file; return it.

    Raises `CheckpointError` where the folder has no side file.
    """
    path = folder / SIDE_FILE
    if not path.is_file():
        raise CheckpointError(f"{printable(folder)}: {SIDE_FILE} is missing; train again to have a whole checkpoint.")
    side = json.loads(path.read_text(encoding="utf-8"))
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != path)
    side["manifest"] = {file.relative_to(folder).as_posix(): sha256_file(file) for file in files}
    write_json(path, side)
    return side["manifest"]
