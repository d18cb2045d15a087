"""How well the audit finds planted twins, and what it costs as corpora grow; written into benchmarks/RESULTS.md.

    python -m benchmarks.audit [--plants 200] [--sizes 1000,3000,10000,30000,100000] [--only recall|scale] [--seed 5]

Recall: a phantom corpus with so many planted defects of each kind, surveyed and searched as any other. Scale: the
thumbnails of a surveyed phantom, each varied (stretched, its greys bent, a smooth and a fine field of its own added) so
that no two show one picture, and 200 copies of some, cropped and brightened; every size in a process of its own, so
that its peak memory is its own (Linux alone tells it). Costs are processor seconds, which other work on the machine
disturbs least.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.results import store

if TYPE_CHECKING:
    from ct_xception.audit.survey import Survey
    from ct_xception.audit.twins.twins import Twins

KINDS_OF_TABLE = ("recall", "scale")
COPIES = 200  # planted among varied thumbnails
BASE_PATIENTS = 100  # whose thumbnails are varied
KINDS = ("duplicates", "near-duplicates", "leaks", "conflicts")


def main() -> int:
    """Measure what `--only` names, or both, print the tables, and store them with `--store`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit", description="Recall and cost of the audit.")
    parser.add_argument("--plants", type=int, default=200, help="planted defects of each kind")
    parser.add_argument("--sizes", default="1000,3000,10000,30000,100000", help="images, a comma between")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--only", choices=KINDS_OF_TABLE)
    parser.add_argument("--store", action="store_true", help="write the tables into RESULTS.md")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure_size(options.one, options.seed)))
        return 0
    tables = {"recall": recall_table, "scale": scale_table}
    for name, table in tables.items():
        if options.only in (None, name):
            text = table(options)
            print(text, flush=True)
            if options.store:
                store(f"audit {name}", text)
    return 0


def recall_table(options: argparse.Namespace) -> str:
    """What of each planted kind is found, and how many reported pairs are false."""
    from ct_xception.audit.survey import survey_corpus
    from ct_xception.audit.twins.twins import find_twins
    from ct_xception.corpus.load import load_corpus
    from ct_xception.phantom.corpus import generate_phantom

    with tempfile.TemporaryDirectory() as folder:
        patients = max(24, options.plants * 9 // 5)  # whose test split offers enough leaks
        plant = [f"{kind}:{options.plants}" for kind in KINDS]
        corpus = generate_phantom(Path(folder) / "p", patients=patients, plant=plant, seed=options.seed)
        dataset = load_corpus(corpus).dataset
        started = time.process_time()
        survey = survey_corpus(dataset)
        read = time.process_time() - started
        twins = find_twins(survey, progress=True)
        searched = time.process_time() - started - read
        planted = json.loads((corpus / "planted.json").read_text(encoding="utf-8"))["planted"]
    rows = recall_rows(survey, twins, planted)
    cost = f"{len(survey):,} images: {read:.0f} s of one core to survey, {searched:.0f} s to search."
    return "\n".join([head(), "", cost, "", "| planted | n | found | recall (95 %) |", "|---|---:|---:|---:|", *rows])


def recall_rows(survey: Survey, twins: Twins, planted: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each kind and way, and one for the false pairs; found means: in one cluster."""
    place = {source: index for index, source in enumerate(survey.sources)}
    total, found = Counter[str](), Counter[str]()
    for one in planted:
        if one["how"] == "patient":  # another slice of the patient, no twin
            continue
        files = list(one["files"].values()) if isinstance(one["files"], dict) else one["files"]
        first, second = (place[name] for name in files)
        exact = "exact (copied)" if one["how"] == "copied" else "near, all"
        for name in {exact, f"near, {one['how']}" if one["how"] != "copied" else exact}:
            total[name] += 1
            found[name] += bool(twins.clusters[first] == twins.clusters[second])
    rows = [
        f"| {name} | {total[name]} | {found[name]} | {interval(found[name], total[name])} |" for name in sorted(total)
    ]
    patient = [Path(source).name.split("_")[0] for source in survey.sources]
    near = [pair for pair in twins.pairs if pair.kind == "near"]
    false = sum(patient[pair.first] != patient[pair.second] for pair in near)
    return [
        *rows,
        f"| false: reported near pairs of two patients | {len(near)} | {false} | {interval(false, len(near))} |",
    ]


def interval(hits: int, total: int) -> str:
    """A share in percent with its Wilson interval."""
    from ct_xception.statistics.intervals import wilson_interval

    if not total:
        return "none"
    low, high = wilson_interval(hits / total, total)
    return f"{100 * hits / total:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def scale_table(options: argparse.Namespace) -> str:
    """Processor time and peak memory of the search at growing sizes."""
    lines = [head(), "", "| images | search, s of one core | ms an image | peak memory, MiB | copies found |"]
    lines.append("|---:|---:|---:|---:|---:|")
    for size in map(int, options.sizes.split(",")):
        command = [sys.executable, "-m", "benchmarks.audit", "--one", str(size), "--seed", str(options.seed)]
        one = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
        each = 1000 * one["seconds"] / size
        found = f"{one['found']}/{one['copies']}"
        line = f"| {size:,} | {one['seconds']:.0f} | {each:.1f} | {one['mebibytes']:,.0f} | {found} |"
        print(line, file=sys.stderr, flush=True)
        lines.append(line)
    return "\n".join(lines)


def measure_size(size: int, seed: int) -> dict[str, float]:
    """Search a varied survey of `size` images: processor seconds, peak memory, copies found."""
    from ct_xception.audit.twins.twins import find_twins

    survey, copies = varied_survey(size, seed)
    memory = Memory()
    started = time.process_time()
    twins = find_twins(survey, progress=True)
    seconds = time.process_time() - started
    found = sum(twins.clusters[first] == twins.clusters[second] for first, second in copies)
    return {"seconds": seconds, "mebibytes": memory.peak(), "found": int(found), "copies": len(copies)}


class Memory(threading.Thread):
    """Watches how much memory this process has of its own: pages of a mapped file, which the system may take, apart."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.ended = 0.0, threading.Event()
        self.start()

    def run(self) -> None:
        """Look ten times a second."""
        while not self.ended.wait(0.1):
            fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            self.most = max(self.most, int(fields["RssAnon"].split()[0]) / 1024)

    def peak(self) -> float:
        """The most of it so far, in MiB."""
        self.ended.set()
        self.join()
        return self.most


def varied_survey(size: int, seed: int) -> tuple[Survey, list[tuple[int, int]]]:
    """A survey of `size` images that nobody drew, and which of them are copies of which."""
    from ct_xception.audit.survey import Survey, pictures, survey_corpus
    from ct_xception.corpus.load import load_corpus

    base = survey_corpus(load_corpus(f"phantom:patients={BASE_PATIENTS},seed={seed}").dataset, progress=False)
    rng = np.random.default_rng(seed)
    arrays = {"aligned": pictures(size, 96), "raw": pictures(size, 64), "detail": pictures(size, 128)}
    boxes = np.empty((size, 4), dtype=np.float32)
    copies = min(COPIES, size // 4)
    for at in range(0, size - copies, 256):
        part = slice(at, min(at + 256, size - copies))
        chosen = rng.integers(len(base), size=part.stop - at)
        boxes[part] = base.boxes[chosen]
        put_views(arrays, part, varied(base.detail[chosen], rng), boxes[part])
    originals = rng.choice(size - copies, copies, replace=False)
    part = slice(size - copies, size)
    boxes[part] = boxes[originals]
    put_views(arrays, part, copied(arrays["detail"][originals], rng), boxes[part])
    names = [f"{index}" for index in range(size)]
    survey = Survey(
        sources=names, splits=["train"] * size, labels=np.zeros(size, dtype=np.intp), label_names=["one"],
        groups=names, groups_known=True, byte_hash=names, pixel_hash=names, **arrays, boxes=boxes, attributes={},
        statistics={}, border={}, foreign={}, windows=["8-bit"] * size, metadata={}, failed={},
    )  # fmt: skip
    return survey, list(zip(originals.tolist(), range(size - copies, size), strict=True))


def varied(detail: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pictures (n, 128, 128) as of other patients: other proportions, greys, organs and vessels; float32."""
    from scipy.ndimage import zoom

    from ct_xception.audit.twins.registration import resample

    count = len(detail)
    windows = rng.uniform(-0.06, 0.06, (count, 4)) + [0, 1, 0, 1]
    stretched = resample(detail.astype(np.float32), windows.astype(np.float32), 128)
    fields = [zoom(rng.normal(size=(count, side, side)), (1, 128 / side, 128 / side), order=1) for side in (8, 32)]
    lit = stretched > 12  # the air stays air
    bent = 255 * (stretched.clip(0, 255) / 255) ** rng.uniform(0.8, 1.25, (count, 1, 1))
    return (bent + lit * (12 * fields[0] + 14 * fields[1])).clip(0, 255).astype(np.float32)


def copied(detail: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same pictures with up to 10 % cut off, brighter or darker, and a little noisier."""
    from ct_xception.audit.twins.registration import resample

    count = len(detail)
    cuts = rng.uniform(0, 0.05, (count, 4)) * [1, -1, 1, -1] + [0, 1, 0, 1]
    cropped = resample(detail.astype(np.float32), cuts.astype(np.float32), 128)
    gain, shift = rng.uniform(0.8, 1.2, (count, 1, 1)), rng.uniform(-15, 15, (count, 1, 1))
    return (cropped * gain + shift + rng.normal(0, 1, cropped.shape)).clip(0, 255).astype(np.float32)


def put_views(arrays: dict[str, np.ndarray], part: slice, detail: np.ndarray, boxes: np.ndarray) -> None:
    """Store pictures (n, 128, 128), and the whole and the body crop of them, as a survey does."""
    from ct_xception.audit.twins.registration import resample, shrink

    arrays["detail"][part] = detail
    arrays["raw"][part] = shrink(detail, 64)
    arrays["aligned"][part] = resample(detail, boxes, 96)


def head() -> str:
    """The command, the day and the machine."""
    command = shlex.join(["python", "-m", "benchmarks.audit", *sys.argv[1:]])
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"`{command}`, {time.strftime('%Y-%m-%d', time.gmtime())}, {machine}"


if __name__ == "__main__":
    sys.exit(main())
