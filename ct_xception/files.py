"""Files that are whole or absent: writes go to a temporary neighbour and are renamed into place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ct_xception.errors import DiskError, printable

DEEPEST = 40  # levels of nesting in a JSON file that comes from elsewhere


# What a disk says that takes no more, and what is said of it.
_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of this user is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
}


@contextlib.contextmanager
def atomic_path(path: str | Path, size: int | None = None) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well, remove it when not.

    Raises DiskError where the disk does not take it, with the folder and the `size` in bytes where that is known.
    """
    path = Path(path)
    with telling_of_disk(path.parent, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path)
        # With the mode that the process gives to new files, so that its umask need not be asked, nor changed, for it.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(folder: str | Path, size: int | None = None) -> Iterator[Path]:
    """Give a new folder beside `folder`, to take that name when the block ends well; it is removed when not.

    Where it is to be, nothing may be but an empty folder. Raises DiskError as `atomic_path`.
    """
    folder = Path(folder)
    with telling_of_disk(folder.parent, size):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(folder)
        temporary.mkdir()
        try:
            yield temporary
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.stem[:64]}-{secrets.token_hex(8)}{path.suffix}")


@contextlib.contextmanager
def telling_of_disk(folder: Path, size: int | None = None) -> Iterator[None]:
    """Raise DiskError where a disk does not take what the block writes in or below a folder, `size` bytes in all.

    safetensors raises an error of its own, which has the system's number in its words.
    """
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else _number_in(str(error))
        if number not in _DISK or _is_elsewhere(error, folder):
            raise
        raise disk_error(folder, number, size) from error


def disk_error(folder: Path, number: int, size: int | None = None) -> DiskError:
    """The sentence on a disk that took no more, `number` being one of the system's that say so."""
    needed = "" if size is None else f" ({size:,} bytes are needed, {_free(folder):,} free)"
    found = f"{printable(folder)}: cannot be written to, since {_DISK[number]}{needed}"
    return DiskError(f"{found}; make room or name another folder, and try again.")


def _number_in(words: str) -> int | None:
    found = re.search(r"\(os error (\d+)\)", words)
    return None if found is None else int(found[1])


def _is_elsewhere(error: Exception, folder: Path) -> bool:
    """Whether an error names a file that is neither in a folder nor one of those that hold it."""
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)
    if named is None:
        return False
    file = Path(os.fsdecode(named))
    return folder != file and folder not in file.parents and file not in folder.parents


def _free(folder: Path) -> int:
    """Bytes that the disk of a folder, or of its nearest parent that exists, has left for this user."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), Path())
    return shutil.disk_usage(there).free


def write_atomically(path: str | Path, data: str | bytes) -> None:
    """Write text (UTF-8) or bytes to `path`, which is never seen half-written. Raises as `atomic_path`."""
    content = data.encode() if isinstance(data, str) else data
    with atomic_path(path, len(content)) as temporary:
        temporary.write_bytes(content)


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


def read_record(path: str | Path) -> dict[str, Any]:
    """The JSON object that a file of a run holds. Raises OSError or ValueError."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where what can be made again is kept: CT_XCEPTION_CACHE, or ct-xception in the user's own cache."""
    own, shared = os.environ.get("CT_XCEPTION_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else (Path(shared) if shared else Path.home() / ".cache") / "ct-xception"
