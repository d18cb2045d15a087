"""Files that are whole or absent: writes go to a temporary neighbour and are renamed into place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

DEEPEST = 40  # levels of nesting in a JSON file that comes from elsewhere


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well, remove it when not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_atomically(path: str | Path, data: str | bytes) -> None:
    """Write text (UTF-8) or bytes to `path`, which is never seen half-written."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON; NaN is refused, since JSON has none."""
    write_atomically(path, dump_json(value, indent=2) + "\n")


def dump_json(value: Any, indent: int | None = None) -> str:
    """`value` as JSON text, UTF-8 as it is. Raises ValueError for NaN and infinity, which JSON does not have."""
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)


def parse_json(text: str | bytes) -> Any:
    """What a stranger's JSON holds, of finite numbers, without a key given twice, and nested at most DEEPEST deep.

    Raises ValueError for anything else.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ValueError("nested too deeply")
        level = [part for item in level for part in _parts(item) if isinstance(part, (dict, list))]
    return value


def _parts(item: Any) -> Iterable[Any]:
    return item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()


def _refuse(token: str) -> Any:
    raise ValueError(f"{token} is no number")


def _finite(token: str) -> float:
    return value if math.isfinite(value := float(token)) else _refuse(token)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def read_json(path: str | Path) -> Any:
    """What a JSON file holds. Raises OSError or ValueError."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
