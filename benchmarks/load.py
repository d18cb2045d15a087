"""Many clients at once: does everybody get the answer to his own slice, how soon, and what does a full queue say?

    python -m benchmarks.load CHECKPOINT [--clients 8 32 64] [--each 6]

The page runs in a process of its own, as `ct-xception demo` starts it. Every request carries another slice, whose
answer the predictor gave beforehand; an answer counts as right where no other slice's is as near. What the queue turns
away (503) comes back after the time that it names, as a polite client does. The table goes into benchmarks/RESULTS.md.
The last two rows are four clients of the HTTP route, by turns while nobody else asks and while `--attackers`
connections of each kind send nothing, one byte of a header, or one byte of a body, and come back when they are closed.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import platform
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.results import store

if TYPE_CHECKING:
    from ct_xception.serving.classifier import Classifier

NEAR = 1e-6  # how far an answer may lie from the predictor's own, of a probability
FULL = 503
ATTEMPTS = 200
TURNS = 3  # of quiet and attack


@dataclass(frozen=True, eq=False)
class Exam:
    """A slice as a client sends it, and the answer that it must get: scores (K,) in class order."""

    file: bytes
    scores: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of one attempt: the exam's number, the HTTP status, seconds, and the scores (K,) of an answer."""

    exam: int
    status: int
    seconds: float
    scores: NDArray[np.float64] | None = None


Ask = Callable[[bytes], tuple[int, Mapping[str, float] | None, float]]  # status, answer, seconds to wait before again


def make_exams(classifier: Classifier, slices: Sequence[NDArray[np.uint8]], count: int) -> list[Exam]:
    """`count` slices that no two clients share: the given ones in turn, each with noise of its own inside the body."""
    exams = []
    for number in range(count):
        pixels = slices[number % len(slices)]
        noise = np.random.default_rng(number).integers(-12, 13, pixels.shape)
        noisy = np.where(pixels > 8, np.clip(pixels.astype(int) + noise, 9, 255), pixels).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noisy).save(stream, "PNG")
        found = classifier(stream.getvalue()).probabilities
        exams.append(Exam(stream.getvalue(), np.array([found[name] for name in classifier.label_names])))
    return exams


def besiege(
    exams: Sequence[Exam], clients: int, connect: Callable[[], Ask], names: Sequence[str]
) -> tuple[list[Outcome], float]:
    """Have so many clients ask at once, each a part of the exams one after the other, until all are answered.

    Gives every attempt's outcome, and the seconds that all of it took, without connecting.
    """
    asks = [connect() for _ in range(clients)]

    def client(who: int) -> list[Outcome]:
        share = range(who, len(exams), clients)
        return [outcome for number in share for outcome in _persist(asks[who], number, exams[number], names)]

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        outcomes = [outcome for part in pool.map(client, range(clients)) for outcome in part]
    return outcomes, time.perf_counter() - began


def _persist(ask: Ask, number: int, exam: Exam, names: Sequence[str]) -> Iterator[Outcome]:
    """Ask until the answer is another one than that the queue is full."""
    for _ in range(ATTEMPTS):
        began = time.perf_counter()
        status, answer, wait = ask(exam.file)
        scores = None if answer is None else np.array([answer[name] for name in names])
        yield Outcome(number, status, time.perf_counter() - began, scores)
        if status != FULL:
            return
        time.sleep(wait)


def http_client(url: str) -> Ask:
    """A client of the HTTP route, with a connection of its own."""
    import httpx

    session = httpx.Client(timeout=600)

    def ask(file: bytes) -> tuple[int, Mapping[str, float] | None, float]:
        response = session.post(f"{url}/image-classification", content=file, headers={"Content-Type": "image/png"})
        if response.status_code != 200:
            return response.status_code, None, float(response.headers.get("Retry-After", 0))
        return 200, {item["label"]: item["score"] for item in response.json()}, 0.0

    return ask


def gradio_client(url: str) -> Ask:
    """A client of the Gradio API; its full queue names no time, so a second is waited."""
    from gradio_client import Client, handle_file

    client = Client(url, verbose=False, analytics_enabled=False, httpx_kwargs={"timeout": 600})

    def ask(file: bytes) -> tuple[int, Mapping[str, float] | None, float]:
        with tempfile.NamedTemporaryFile(suffix=".png") as stored:
            stored.write(file)
            stored.flush()
            try:
                return 200, client.predict(handle_file(stored.name), api_name="/predict")["probabilities"], 0.0
            except Exception as error:  # gradio_client raises half a dozen kinds for one refusal
                if "ueue is full" not in str(error):
                    raise
                return FULL, None, 1.0

    return ask


@dataclass(frozen=True)
class Verdict:
    """A siege judged: counts, and seconds of the answered attempts."""

    answered: int
    right: int
    full: int
    other: int
    p50: float
    p95: float
    p99: float
    throughput: float


def judge(exams: Sequence[Exam], outcomes: Sequence[Outcome], seconds: float) -> Verdict:
    """Whose answer each is: right where it is its own exam's within NEAR, and nobody else's is as near."""
    known = np.stack([exam.scores for exam in exams])  # (N, K)
    answered = [outcome for outcome in outcomes if outcome.scores is not None]
    distances = [np.abs(known - outcome.scores).max(axis=1) for outcome in answered]
    right = sum(
        bool(row[outcome.exam] <= NEAR and row.argmin() == outcome.exam)
        for outcome, row in zip(answered, distances, strict=True)
    )
    times = sorted(outcome.seconds for outcome in answered) or [float("nan")]
    cuts = statistics.quantiles(times, n=100, method="inclusive") if len(times) > 1 else times * 99
    full = sum(outcome.status == FULL for outcome in outcomes)
    other = len(outcomes) - len(answered) - full
    return Verdict(len(answered), right, full, other, cuts[49], cuts[94], cuts[98], len(answered) / seconds)


ATTACKS = (b"", b"P", b"POST /image-classification HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\nx")


@contextmanager
def attacked(url: str, count: int) -> Iterator[None]:
    """`count` slow connections of each of ATTACKS to a server on this machine, opened again when they are closed."""
    where = ("127.0.0.1", int(url.rpartition(":")[2]))
    ended = threading.Event()

    def attack() -> None:
        held: list[tuple[socket.socket, bytes]] = []
        while not ended.wait(0.05):
            held = [(one, first) for one, first in held if not _is_closed(one)]
            lacking = [first for first in ATTACKS for _ in range(count - sum(f == first for _, f in held))]
            for first in lacking[:50]:
                with suppress(OSError):
                    held.append((socket.create_connection(where, timeout=1), first))
                    held[-1][0].sendall(first)
        for one, _ in held:
            one.close()

    attacker = threading.Thread(target=attack, daemon=True)
    attacker.start()
    time.sleep(1)
    try:
        yield
    finally:
        ended.set()
        attacker.join(10)


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        closed = connection.recv(4096) == b""
    except BlockingIOError:
        return False
    except OSError:
        closed = True
    if closed:
        connection.close()
    return closed


@contextmanager
def served(checkpoint: str) -> Iterator[str]:
    """The page in a process of its own; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("ct-xception")), "demo", checkpoint, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _await(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _await(port: int, process: subprocess.Popen[Any]) -> None:
    for _ in range(3000):
        if process.poll() is not None:
            raise SystemExit(f"the page ended with {process.returncode} before it answered")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise SystemExit("the page did not start within ten minutes")


def phantom_slices() -> list[NDArray[np.uint8]]:
    """48 slices of generated patients, 256 px."""
    from ct_xception.imaging.reader import read_slice
    from ct_xception.phantom.corpus import generate_phantom

    with tempfile.TemporaryDirectory() as folder:
        corpus = generate_phantom(Path(folder) / "phantom", patients=24, slices_per_patient=2, seed=5)
        with open(corpus / "metadata.csv", newline="") as table:  # masks lie there, too
            return [read_slice(corpus / row["file_name"]).pixels for row in csv.DictReader(table)]


def main() -> int:
    """Besiege each way in by each number of clients, and write the table."""
    from ct_xception.imaging.reader import read_slice
    from ct_xception.serving.classifier import Classifier

    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("--clients", type=int, nargs="+", default=[8, 32, 64])
    parser.add_argument("--each", type=int, default=6, help="slices a client")
    parser.add_argument("--attackers", type=int, default=128, help="slow connections of each kind; 0 leaves them out")
    options = parser.parse_args()
    classifier = Classifier.from_pretrained(options.checkpoint)
    exams = make_exams(classifier, phantom_slices(), max(options.clients) * options.each)
    names, rows = classifier.label_names, []
    with served(options.checkpoint) as url:
        for name, connect in (("HTTP route", http_client), ("Gradio API", gradio_client)):
            connect(url)(exams[0].file)  # the first answer of a network takes longer
            for clients in options.clients:
                part = exams[: clients * options.each]
                outcomes, seconds = besiege(part, clients, partial(connect, url), names)
                rows.append((name, clients, judge(part, outcomes, seconds)))
                print(*rows[-1], flush=True)
        rows += under_attack(url, exams[: 8 * options.each], names, options.attackers) if options.attackers else []
    store("load", render(rows, classifier.prepare(read_slice(exams[0].file)).values.shape[-1]))
    return 0 if all(verdict.right == verdict.answered and not verdict.other for *_, verdict in rows) else 1


def under_attack(
    url: str, exams: Sequence[Exam], names: Sequence[str], attackers: int
) -> list[tuple[str, int, Verdict]]:
    """Four clients of the HTTP route, by turns alone and among `attackers` slow connections of each kind."""
    doors = {"HTTP route, quiet": nullcontext, "HTTP route, attacked": partial(attacked, url, attackers)}
    found: dict[str, list[tuple[list[Outcome], float]]] = {door: [] for door in doors}
    for _ in range(TURNS):  # by turns, since whatever else this machine does comes and goes
        for door, others in doors.items():
            with others():
                found[door].append(besiege(exams, 4, partial(http_client, url), names))
    rows = []
    for door, turns in found.items():
        outcomes = [outcome for part, _ in turns for outcome in part]
        rows.append((door, 4, judge(exams, outcomes, sum(seconds for _, seconds in turns))))
        print(*rows[-1], flush=True)
    return rows


def render(rows: Sequence[tuple[str, int, Verdict]], side: int) -> str:
    """The table, with the command and the machine; the checkpoint's place is nobody's business."""
    command = shlex.join(["python", "-m", "benchmarks.load", "CHECKPOINT", *sys.argv[2:]])
    others = os.getloadavg()[2]
    machine = f"{platform.machine()}, {os.cpu_count()} cores (load {others:.1f}), Python {platform.python_version()}"
    machine += f", network at {side} px"
    lines = [
        f"`{command}`, {time.strftime('%Y-%m-%d', time.gmtime())}, {machine}",
        "",
        "| way in | clients | answered | right | queue full (503) | other errors | p50, s | p95, s | p99, s | per s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, clients, v in rows:
        seconds = f"{v.p50:.2f} | {v.p95:.2f} | {v.p99:.2f} | {v.throughput:.1f}"
        lines.append(f"| {name} | {clients} | {v.answered} | {v.right} | {v.full} | {v.other} | {seconds} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
