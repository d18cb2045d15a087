"""One run folder, one run: a lock that is free again after a kill, on network file systems as far as they allow it.

The lock is a file with host, process and time of its owner. It appears whole and at most once (a hard link, which is
exclusive on NFS too), its owner holds a POSIX lock on it, which the kernel drops at any death and no worker inherits,
and touches it every BEAT seconds. On one machine the POSIX lock tells the living from the dead, or else the process
itself; across machines, which may not pass such locks on, an owner is dead after SILENT seconds without a touch, by the
file system's own clock.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import platform
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ct_xception.errors import InputError, printable
from ct_xception.files import dump_json

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".run-lock"
BEAT, SILENT = 15.0, 120.0  # seconds
_ours: set[Path] = set()  # a process is not refused its own POSIX lock, and would lose it by looking


@contextlib.contextmanager
def run_lock(folder: Path, option: str = "--output_dir") -> Iterator[None]:
    """Hold a run folder; it is made if need be, and goes if it is left empty. Raises InputError where it is held.

    `option` is what the sentence calls it. Where another machine took the lock over, having seen no touch for too long,
    this process is sent SIGTERM.
    """
    path = folder.resolve() / LOCK
    made = [one for one in (path.parent, *path.parent.parents) if not one.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _take(path, option)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{option}: {printable(folder)} cannot be written ({reason}); name another folder.") from error
    _ours.add(path)
    stop = threading.Event()
    threading.Thread(target=_beat, args=(path, handle, stop), daemon=True).start()
    try:
        yield
    finally:
        stop.set()
        if _is_at(handle, path):
            path.unlink()
        os.close(handle)
        _ours.discard(path)
        with contextlib.suppress(OSError):
            for empty in made:
                empty.rmdir()


def refuse_if_held(folder: Path) -> None:
    """Raise InputError where a living run holds the folder; nothing is changed."""
    path = folder.resolve() / LOCK
    if path.is_file():
        _look(path, "--output_dir", clear=False)


def _take(path: Path, option: str) -> int:
    """A handle on the lock, made anew; one that a dead run left goes first."""
    for _ in range(10):  # others may take and leave it meanwhile
        handle = _place(path)
        if handle is not None:
            return handle
        _look(path, option, clear=True)
    raise InputError(f"{option}: other runs come and go in {printable(path.parent)}; name another folder.")


def _place(path: Path) -> int | None:
    """Write the lock, whole from its first moment, or give None where there is one."""
    handle, name = tempfile.mkstemp(prefix=f"{LOCK}-", dir=path.parent)
    try:
        os.write(handle, dump_json(_self()).encode())
        _hold(handle)
        os.link(name, path)
        return handle
    except FileExistsError:
        os.close(handle)
        return None
    except OSError:  # no hard links here
        os.close(handle)
        return _place_exclusively(path)
    finally:
        os.unlink(name)


def _place_exclusively(path: Path) -> int | None:
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
    except FileExistsError:
        return None
    os.write(handle, dump_json(_self()).encode())
    _hold(handle)
    return handle


def _look(path: Path, option: str, *, clear: bool) -> None:
    """Raise InputError where the lock's owner lives; with `clear` a dead one's lock is removed, and that is said."""
    try:
        handle = None if path in _ours else os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return
    if handle is None:
        raise InputError(f"{option}: {_refusal(path, _self(), '')}")
    try:
        owner, silent = _owner(handle), _now(path.parent) - os.fstat(handle).st_mtime
        if not _is_dead(handle, owner, silent):
            here = owner.get("machine") == _machine()
            sign = "" if here else f" It was seen {silent:.0f} s ago, and counts as dead after {SILENT:.0f} s."
            raise InputError(f"{option}: {_refusal(path, owner, sign)}")
        if clear and _is_at(handle, path):
            path.unlink()
            print(f"{printable(path.parent)}: taken over from {_name(owner)}, which is dead.", file=sys.stderr)
    finally:
        os.close(handle)


def _refusal(path: Path, owner: Mapping[str, Any], sign: str) -> str:
    folder = printable(path.parent)
    return f"{folder} is in use by {_name(owner)}; wait for it, or name another folder.{sign}"


def _name(owner: Mapping[str, Any]) -> str:
    return f"process {owner.get('pid', '?')} on {printable(owner.get('host', '?'))}, begun {owner.get('begun', '?')}"


def _is_dead(handle: int, owner: Mapping[str, Any], silent: float) -> bool:
    held = _hold(handle)
    if held is False:
        return False
    if owner.get("machine") != _machine():
        return silent > SILENT
    return held is True or _birth(owner.get("pid", 0)) != owner.get("birth")


def _hold(handle: int) -> bool | None:
    """Take the POSIX lock; False where another process has it, None where the file system knows none."""
    if fcntl is None:
        return None
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None


def _self() -> dict[str, Any]:
    begun = time.strftime("%Y-%m-%d %H:%M:%S")
    pid = os.getpid()
    return {"host": platform.node(), "machine": _machine(), "pid": pid, "birth": _birth(pid), "begun": begun}


def _machine() -> str:
    """This kernel since it started, where it says so: containers share locks, whatever they call their host."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return platform.node()


def _birth(pid: int) -> str | None:
    """When a process started, so that a number used again is not taken for it; None where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return None
    return "alive"


def _owner(handle: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(handle, 4096, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _now(folder: Path) -> float:
    """The file system's clock, which need not be this machine's."""
    with tempfile.TemporaryFile(dir=folder) as stream:
        stream.write(b"0")
        stream.flush()
        return os.fstat(stream.fileno()).st_mtime


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _beat(path: Path, handle: int, stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        if not _is_at(handle, path):
            print(f"{printable(path.parent)}: another run has taken the folder over.", file=sys.stderr, flush=True)
            _thread.interrupt_main(signal.SIGTERM)
            return
        with contextlib.suppress(OSError):
            os.utime(path)
