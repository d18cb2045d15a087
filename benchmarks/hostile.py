"""What hostile and broken files cost: each read in a process of its own, its processor time and memory above idle.

    python -m benchmarks.hostile [FOLDER]

The files are made by `tests/imaging/hostile.py`; those of FOLDER (`../shared/cases/hostile`) are tried too.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ct_xception.imaging.decoder_process import Decoder
from ct_xception.imaging.decoders.decode import decode_slice
from tests.imaging.builders import ct, encode
from tests.imaging.hostile import BROKEN, COSTLY

# The high-water mark of resident memory is set back after a first, honest file has loaded the libraries.
CHILD = """
import io, json, sys, time
import numpy as np
from PIL import Image
from ct_xception.errors import SliceError
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.windows import Window
def peak():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) // 1024
for kind in ("PNG", "JPEG", "TIFF", "WEBP"):
    stream = io.BytesIO(); Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save(stream, kind)
    read_slice(stream.getvalue())
try: read_slice(b"\\0" * 128 + b"DICM" + b"\\2\\0\\0\\0UL\\4\\0\\0\\0\\0\\0")
except SliceError: pass
for path in sys.argv[1:]:
    with open("/proc/self/clear_refs", "w") as reset: reset.write("5")
    before, start, busy = peak(), time.perf_counter(), time.process_time()
    try:
        read = read_slice(path, window=Window(128, 256))
        said = "answered: " + "; ".join(read.notes)
    except SliceError as error: said = "refused: " + error.found
    except BaseException as error: said = "wrong: " + repr(error)
    read = None
    seconds, processor = time.perf_counter() - start, time.process_time() - busy
    print(json.dumps([seconds, peak() - before, said, processor]), flush=True)
"""


def measure(path: Path, patience: float = 60) -> tuple[float, int, str]:
    """Processor seconds, MB above idle and what came of reading one file; one that ends its process is wrong."""
    command = [sys.executable, "-c", CHILD, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        return patience, 0, "wrong: no answer"
    if done.returncode != 0:
        return 0.0, 0, f"wrong: exit {done.returncode}, {done.stderr[-200:]}"
    _, megabytes, said, seconds = json.loads(done.stdout)
    return seconds, megabytes, said if not done.stderr else f"wrong: it wrote {done.stderr[-200:]!r}"


def main(folder: str | None = None) -> None:
    """Print a line for each file and the table of tried, refused, answered and wrong."""
    rows: dict[str, list[tuple[float, int, str]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for kind, files in (("costly", COSTLY), ("broken", BROKEN)):
            for name, make in files.items():
                path = Path(scratch) / "file"
                path.write_bytes(make())
                rows.setdefault(kind, []).append(_told(name, measure(path)))
    if folder is not None:
        given = (path for path in sorted(Path(folder).iterdir()) if path.suffix not in (".md", ".py", ".zip"))
        rows["given"] = [_told(path.name, measure(path)) for path in given]
    print("\n| files | tried | refused | answered | wrong | most s of processor | most MB above idle |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for kind, told in rows.items():
        counts = [sum(said.startswith(word) for _, _, said in told) for word in ("refused", "answered", "wrong")]
        most = f"{max(row[0] for row in told):.2f} | {max(row[1] for row in told)}"
        print(f"| {kind} | {len(told)} | {' | '.join(map(str, counts))} | {most} |")


def decoder_cost(rounds: int = 200) -> None:
    """Print what the limited process costs an image of 512 x 512, in turns with reading it here."""
    rng = np.random.default_rng(0)
    grain = (rng.integers(0, 40, (512, 512)) + np.linspace(0, 1200, 512)[:, None]).astype(np.uint16)
    grey = Image.fromarray((grain // 6).astype(np.uint8))
    files = {"PNG": encode(grey), "JPEG": encode(grey, "JPEG"), "DICOM": ct(grain)}
    print("\n| 512 x 512 | read here, ms: lower quartile (median) | in the limited process |")
    print("|---|---:|---:|")
    with Decoder() as decoder:
        for name, content in files.items():
            taken: dict[Any, list[float]] = {decode_slice: [], decoder.read_slice: []}
            for _, read in itertools.product(range(rounds), taken):
                start = time.perf_counter()
                read(content)
                taken[read].append(1000 * (time.perf_counter() - start))
            print(
                f"| {name} | "
                + " | ".join(f"{np.percentile(one, 25):.1f} ({np.median(one):.1f})" for one in taken.values())
                + " |"
            )


def _told(name: str, measured: tuple[float, int, str]) -> tuple[float, int, str]:
    seconds, megabytes, said = measured
    print(f"{seconds:6.2f} s {megabytes:5} MB  {name}: {said[:160]}", flush=True)
    return measured


if __name__ == "__main__":
    main(*sys.argv[1:2])
    decoder_cost()
