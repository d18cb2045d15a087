"""How fast a checkpoint answers in each runtime, beside stock `pipeline()`: one picture, from its file.

    python -m benchmarks.runtimes CHECKPOINT [--corpus SOURCE] [--rounds 15] [--threads 2] [--store]

Each runtime has a process of its own and they take turns of a few pictures, so that a noisy machine disturbs all alike.
The first picture of a turn is told apart: it finds the caches emptied by the others, the ones after it do not. The
checkpoint's network is exported at 299 px, Xception's own size, and at the size that it was trained at; what int8 does
to its answers is measured by `ct-xception export`, not here.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.results import store
from benchmarks.turns import in_own_process
from ct_xception.checkpoint import CONFIG, WEIGHTS
from ct_xception.checkpoint_files import Side, need_side, seal, write_side
from ct_xception.files import read_json, write_json
from ct_xception.serving.checkpoint import open_checkpoint
from ct_xception.serving.runtimes import EXPORTED, RUNTIMES

STOCK = "stock pipeline()"
XCEPTION_SIDE = 299
IN_A_ROW = 5  # pictures of a turn, after its first
CALIBRATED = 16  # slices: their number does not change how fast the file is


def main() -> int:
    """Print the table, and store it with `--store`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runtimes", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="folder")
    parser.add_argument("--corpus", default="phantom:patients=24", help="pictures to ask (default: a phantom)")
    parser.add_argument("--rounds", type=int, default=8, help="turns of each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", action="store_true", help="write the table into RESULTS.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = measure(options, Path(folder))
    print(text)
    if options.store:
        store("runtimes", text)
    return 0


def measure(options: argparse.Namespace, folder: Path) -> str:
    """The whole section between the marks."""
    own = open_checkpoint(options.checkpoint).config["pretrained_cfg"]["input_size"][-1]
    items = pictures(options.corpus, folder / "pictures", CALIBRATED)
    lines = [heading(options), "", "| one picture, ms | " + " | ".join([STOCK, *RUNTIMES, "fastest"]) + " |"]
    lines.append("|---" + "|---:" * (len(RUNTIMES) + 2) + "|")
    for side in sorted({XCEPTION_SIDE, own}, reverse=True):
        made = exported(Path(options.checkpoint), side, items, folder / str(side))
        lines += speed_rows(side, made, items, options)
    sizes = {name: sum((made / file).stat().st_size for file in runtime.files) for name, runtime in RUNTIMES.items()}
    lines += ["", "Files: " + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items()) + ".", ""]
    return "\n".join([*lines, *startup_lines(made, items[0], options)])


def heading(options: argparse.Namespace) -> str:
    """The command, the day and the machine."""
    arguments = ["CHECKPOINT" if one == options.checkpoint else one for one in sys.argv[1:]]
    command = shlex.join(["python", "-m", "benchmarks.runtimes", *arguments])
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, Python {platform.python_version()}"
    )
    others = f"load average {os.getloadavg()[0]:.1f} at the beginning"
    return f"`{command}`, {time.strftime('%Y-%m-%d', time.gmtime())}, {machine}, {others}"


def pictures(corpus: str, folder: Path, count: int) -> list[Path]:
    """So many training pictures of a corpus, as files."""
    from ct_xception.corpus.cells import slice_source
    from ct_xception.corpus.load import load_corpus

    folder.mkdir()
    found = []
    for row, item in enumerate(load_corpus(corpus).dataset["train"].select(range(count))):
        file = slice_source(item)
        path = folder / f"{row:03d}.png" if isinstance(file, bytes) else Path(file)
        if isinstance(file, bytes):
            path.write_bytes(file)
        found.append(path)
    return found


def exported(checkpoint: Path, side: int, files: Sequence[Path], folder: Path) -> Path:
    """The checkpoint with every runtime's file, for square inputs of `side` pixels."""
    from ct_xception.formats.onnx import describe, write_onnx
    from ct_xception.formats.source import ExportSource, write_export
    from ct_xception.serving.classifier import Classifier

    folder.mkdir()
    shutil.copy(checkpoint / WEIGHTS, folder)
    config = read_json(checkpoint / CONFIG)
    config["pretrained_cfg"]["input_size"] = [3, side, side]
    write_json(folder / CONFIG, config)
    write_side(folder, Side(input=need_side(checkpoint).input))
    classifier = Classifier.from_pretrained(folder)
    source = ExportSource(
        folder.with_suffix(".onnx"),
        describe(open_checkpoint(folder)),
        lambda: (classifier.prepare(classifier.read(file)).values[None] for file in files),
    )
    write_onnx(classifier.model, source.onnx, source.description)
    for name, runtime in EXPORTED.items():
        (folder / runtime.files[0]).parent.mkdir(exist_ok=True)
        write_export(name, source, folder / runtime.files[0])
    seal(folder)  # so that start-up pays for checking it, as with every checkpoint that was published
    return folder


def speed_rows(side: int, checkpoint: Path, files: Sequence[Path], options: argparse.Namespace) -> list[str]:
    """Medians of every runtime over the rounds, and how many times as fast as stock the fastest file is: two rows."""
    names = [STOCK, *RUNTIMES]
    with ExitStack() as stack:
        turns = {
            name: stack.enter_context(
                in_own_process(timed, name, str(checkpoint), [str(f) for f in files], options.threads)
            )
            for name in names
        }
        [turn() for turn in turns.values()]  # to warm up
        taken: dict[str, list[list[float]]] = {name: [] for name in names}
        for _ in range(options.rounds):
            for name, turn in turns.items():
                taken[name].append(turn())
    first = {name: statistics.median(turn[0] for turn in told) for name, told in taken.items()}
    after = {name: statistics.median(one for turn in told for one in turn[1:]) for name, told in taken.items()}
    return [_row(f"{side} px, in a row", after), _row(f"{side} px, first of a turn", first)]


def _row(what: str, medians: dict[str, float]) -> str:
    fastest = min(medians, key=lambda name: medians[name])
    cells = " | ".join(f"{value:.0f}" for value in medians.values())
    return f"| {what} | {cells} | **{medians[STOCK] / medians[fastest]:.1f}x** ({fastest}) |"


def timed(name: str, checkpoint: str, files: list[str], threads: int) -> Callable[[], list[float]]:
    """A turn of one runtime: milliseconds from a file to its answer, of one file after the other."""
    answer = _answerer(name, checkpoint, threads)
    remaining: Iterator[str] = iter(files * 1000)

    def measure() -> list[float]:
        times = []
        for file in itertools.islice(remaining, 1 + IN_A_ROW):
            started = time.perf_counter()
            answer(file)
            times.append(1000 * (time.perf_counter() - started))
        return times

    return measure


def _answerer(name: str, checkpoint: str, threads: int) -> Callable[[str], Any]:
    if name in (STOCK, "torch"):
        import torch

        torch.set_num_threads(threads)
    if name == STOCK:
        from transformers import pipeline

        return pipeline("image-classification", model=checkpoint, device="cpu")
    from ct_xception.serving.classifier import Classifier

    return Classifier.from_pretrained(checkpoint, name, threads=threads)


def startup_lines(checkpoint: Path, file: Path, options: argparse.Namespace) -> list[str]:
    """Seconds from the start of a process to its first answer."""
    program = str(Path(sys.executable).with_name("ct-xception"))
    stock = f"from transformers import pipeline; pipeline('image-classification', {str(checkpoint)!r})({str(file)!r})"
    commands = {STOCK: [sys.executable, "-c", stock]} | {
        name: [program, "predict", str(file), "--model", str(checkpoint), "--runtime", name, "--json"]
        for name in RUNTIMES
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(max(3, options.rounds // 3)):
        for name, command in commands.items():
            taken[name].append(_run(command))
    elapsed, busy = (
        [f"{statistics.median(turn[which] for turn in turns):.2f}" for turns in taken.values()] for which in (0, 1)
    )
    return [
        f"| from start to first answer, s | {' | '.join(taken)} |",
        "|---" + "|---:" * len(taken) + "|",
        f"| `ct-xception predict FILE --runtime …` | {' | '.join(elapsed)} |",
        f"| of it, work of a processor | {' | '.join(busy)} |",
    ]


def _run(command: Sequence[str]) -> tuple[float, float]:
    """Seconds that a command takes, and seconds of processor time that it uses: a busy machine adds to the first."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    elapsed, after = time.perf_counter() - started, os.times()
    user, system = after.children_user - before.children_user, after.children_system - before.children_system
    return elapsed, user + system


if __name__ == "__main__":
    sys.exit(main())
