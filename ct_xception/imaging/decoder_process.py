"""Reading what strangers send in a process of its own: bounded in memory and time, kept warm, begun again when it dies.

What can be told from headers is refused by the reader itself; this is for what cannot: a decoder's fault, a file that
costs more than it says. The child may use MEMORY more than it had idle (RLIMIT_AS) and SECONDS of processor time for a
file (RLIMIT_CPU), and is ended after PATIENCE; whatever becomes of it, the caller gets a slice or a SliceError.
Messages are a JSON header and raw bytes: nothing is unpickled.
"""

from __future__ import annotations

import io
import json
import os
import queue
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from importlib import import_module
from typing import Any, BinaryIO, cast

import numpy as np

from ct_xception.errors import SliceError
from ct_xception.files import dump_json
from ct_xception.imaging.body.outline import outline_in_hu
from ct_xception.imaging.decoders.decode import decode_place, decode_slice
from ct_xception.imaging.modality import CT
from ct_xception.imaging.position import Place
from ct_xception.imaging.slice import MAX_PIXELS, Slice
from ct_xception.imaging.source import Source, name_of, open_source
from ct_xception.imaging.windows import Window

MEMORY = 300 * 2**20
SECONDS = 2
PATIENCE = 15.0  # wall time: others may hold the processor, or the file's disk may hang
START_PATIENCE = 60.0
# glibc gives every array of a slice back to the system, and faults its pages in again for the next: 4 ms a DICOM file.
KEEPING = {"MALLOC_TRIM_THRESHOLD_": str(32 * 2**20), "MALLOC_MMAP_THRESHOLD_": str(8 * 2**20)}
_HEAD = struct.Struct(">LQ")
_MAX_HEADER = 2**20
_DTYPES = {np.dtype(kind).str for kind in (np.uint8, np.bool_, np.int16, np.int32, np.float32)}
_REMEDY = "export it again as PNG or uncompressed DICOM"


class Decoder:
    """`processes` children that read slices in the caller's stead. Safe to call from several threads; to be closed.

    `read_slice` and `read_place` take and raise what their namesakes of `reader.py` do.
    """

    def __init__(self, processes: int = 1, *, seconds: int = SECONDS, memory: int = MEMORY) -> None:
        self._limits = (seconds, memory)
        self._closed = False
        self._idle: queue.LifoQueue[_Child] = queue.LifoQueue()
        for _ in range(processes):
            self._idle.put(_Child(*self._limits))

    def read_slice(
        self,
        source: Source,
        *,
        window: Window | None = None,
        frame: int | None = None,
        name: str | None = None,
        modality: str = CT,
        keep_values: bool = False,
    ) -> Slice:
        """A slice of a path, bytes or an open binary file; a Pillow picture is decoded already and read here."""
        if not isinstance(source, (str, bytes, bytearray, os.PathLike)) and not hasattr(source, "read"):
            return decode_slice(
                source, window=window, frame=frame, name=name, modality=modality, keep_values=keep_values
            )
        stated = None if window is None else [window.centre, window.width]
        asked = {"do": "slice", "window": stated, "frame": frame, "modality": modality, "keep_values": keep_values}
        header, body = self._ask(source, asked, name)
        return unpack_slice(header, body)

    def read_place(self, source: Source, *, name: str | None = None) -> Place:
        """The place of a path, bytes or an open binary file."""
        header, _ = self._ask(source, {"do": "place"}, name)
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in header.items()
        }
        return Place(**values)

    def close(self) -> None:
        """End the children."""
        self._closed = True
        while not self._idle.empty():
            self._idle.get_nowait().end()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, source: Source, asked: dict[str, Any], name: str | None) -> tuple[dict[str, Any], bytes]:
        label = name if name is not None else name_of(source)
        path, body = None, b""
        if isinstance(source, (str, os.PathLike)):
            path = os.fsencode(os.path.abspath(source)).hex()
        else:
            with open_source(source, label) as stream:
                body = stream.read()
        with self._child() as child:
            header, answer = child.ask(asked | {"label": label, "path": path}, body, label)
        if (refused := header.get("refused")) is not None:
            raise SliceError(*(str(part) for part in refused[:3]))
        return header, answer

    @contextmanager
    def _child(self) -> Iterator[_Child]:
        child = self._idle.get()
        try:
            yield child
        finally:
            if child.ended:
                child = _Child(*self._limits)  # warms itself while nobody waits for it
            self._idle.put(child)
            if self._closed:
                self.close()


class _Child:
    """One child: started at once, asked by one caller at a time."""

    def __init__(self, seconds: int, memory: int) -> None:
        self._seconds = seconds
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment |= KEEPING
        self._process = subprocess.Popen(
            # -P: no module is taken from the folder that the caller stands in, which may be a stranger's.
            [sys.executable, "-P", "-m", __name__, str(seconds), str(memory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        self._ready = False

    @property
    def ended(self) -> bool:
        """Whether it can answer no more."""
        return self._process.poll() is not None

    def ask(self, header: dict[str, Any], body: bytes, label: str) -> tuple[dict[str, Any], bytes]:
        """Send a request and wait for its answer; SliceError where the child dies of it or takes too long."""
        if not self._ready:
            with self._watched(START_PATIENCE):
                self._ready = _receive(self._out) is not None
        started = time.monotonic()
        with self._watched(PATIENCE):
            try:
                _send(self._in, header, body)
                answer = _receive(self._out)
            except (OSError, ValueError):
                answer = None
        if answer is not None:
            return answer
        self.end()
        slow = time.monotonic() - started >= min(self._seconds, PATIENCE) * 0.9
        found = f"more than {self._seconds} seconds to decode" if slow else "a file that ended its decoder"
        raise SliceError(label, found, _REMEDY)

    def end(self) -> None:
        """Kill it, and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # what was not yet flushed to a child that is gone
                    pass

    @property
    def _in(self) -> BinaryIO:
        return cast("BinaryIO", self._process.stdin)

    @property
    def _out(self) -> BinaryIO:
        return cast("BinaryIO", self._process.stdout)

    @contextmanager
    def _watched(self, patience: float) -> Iterator[None]:
        timer = threading.Timer(patience, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _send(stream: BinaryIO, header: dict[str, Any], body: bytes) -> None:
    told = dump_json(header).encode()
    stream.write(_HEAD.pack(len(told), len(body)))
    stream.write(told)
    stream.write(body)
    stream.flush()


def _receive(stream: BinaryIO, most: int = 8 * MAX_PIXELS) -> tuple[dict[str, Any], bytes] | None:
    """A message; None where the other side is gone. Raises ValueError for what is none."""
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    told, length = _HEAD.unpack(head)
    if told > _MAX_HEADER or length > most:
        raise ValueError("a message that is too long")
    header, body = stream.read(told), stream.read(length)
    if len(header) < told or len(body) < length:
        return None
    parsed = json.loads(header)
    if not isinstance(parsed, dict):
        raise ValueError("a message without a header")
    return parsed, body


def pack_slice(slice_: Slice) -> tuple[dict[str, Any], bytes]:
    """A slice as a JSON header and the raw bytes of its arrays, one after the other."""
    header: dict[str, Any] = {}
    arrays: list[bytes] = []
    for one in fields(slice_):
        value = getattr(slice_, one.name)
        if isinstance(value, np.ndarray):
            header[one.name] = {"dtype": value.dtype.str, "shape": value.shape}
            arrays.append(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, Window):
            header[one.name] = {"window": [value.centre, value.width]}
        else:
            header[one.name] = value
    return header, b"".join(arrays)


def unpack_slice(header: dict[str, Any], body: bytes) -> Slice:
    """The slice of a header and its arrays. Raises ValueError or TypeError where they are none."""
    values: dict[str, Any] = {}
    position = 0
    for key, value in header.items():
        if isinstance(value, dict) and "window" in value:
            value = Window(*value["window"])
        elif isinstance(value, dict):
            if value["dtype"] not in _DTYPES:
                raise ValueError("an array of a kind that slices do not have")
            shape, dtype = tuple(map(int, value["shape"])), np.dtype(value["dtype"])
            count = int(np.prod(shape, dtype=np.int64))
            value = np.frombuffer(body, dtype, count, position).reshape(shape).copy()
            position += count * dtype.itemsize
        values[key] = tuple(value) if isinstance(value, list) else value
    return Slice(**values)


def _serve(seconds: int, memory: int) -> None:
    """The child's life: warm up, say so, then answer until its input ends."""
    _warm_up()
    _limit_memory(memory)
    incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
    _send(outgoing, {"ready": True}, b"")
    while (message := _receive(incoming, 2**40)) is not None:
        _limit_time(seconds)
        _send(outgoing, *_answer(*message))


def _answer(header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    source = body if header["path"] is None else os.fsdecode(bytes.fromhex(header["path"]))
    try:
        if header["do"] == "place":
            return asdict(decode_place(source, name=header["label"])), b""
        window = None if header["window"] is None else Window(*header["window"])
        told = {key: header[key] for key in ("frame", "modality", "keep_values")}
        return pack_slice(decode_slice(source, window=window, name=header["label"], **told))
    except SliceError as error:
        return {"refused": [error.file, error.found, error.remedy]}, b""
    except MemoryError:
        return {"refused": [header["label"], "more memory to decode than a file may take", _REMEDY]}, b""


def _warm_up() -> None:
    """Load what reading loads, so that the first file neither waits for it nor spends its own time and memory on it."""
    from PIL import Image

    for library in ("nibabel.orientations", "pydicom.pixels"):
        import_module(library)
    rows, columns = np.mgrid[:64, :64] - 31.5
    outline_in_hu(np.where(rows**2 + columns**2 < 500, 40, -1000))

    for kind in ("PNG", "JPEG", "TIFF"):
        stream = io.BytesIO()
        Image.new("L", (8, 8)).save(stream, kind)
        decode_slice(stream.getvalue())


def _limit_memory(memory: int) -> None:
    try:
        import resource
    except ImportError:  # no limits but the parent's patience
        return
    if not os.path.exists("/proc/self/statm"):  # another system counts otherwise
        return
    with open("/proc/self/statm") as told:
        used = int(told.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(seconds: int) -> None:
    """Processor time from now on: whole seconds, and one for what is left of the current one."""
    try:
        import resource
    except ImportError:
        return
    used = int(time.process_time())
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds + 1, most))


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
