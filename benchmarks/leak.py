"""What a split by slice is worth beside one by patient, on a corpus whose patients are known: the same recipe, twice.

    python -m benchmarks.leak --corpus TABLE.csv --image_root DIR --output_dir DIR -- --epochs 8 --weights hub

Trains k folds twice through `train_hf.py`: folds of whole patients, and folds of slices, each called a patient of its
own. Every slice is answered by the network that did not train on it. Both are counted by slice, with intervals by
patient, and by patient, the slices' log-probabilities averaged. What follows `--` is the recipe. A run that is there is
gone on with, or counted as it is.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
from numpy.typing import NDArray

from benchmarks.results import store
from ct_xception.checkpoint import FOLDS, PREDICTIONS
from ct_xception.metrics import Loss, Metric
from ct_xception.statistics.agreement import agreement_figures
from ct_xception.statistics.pooling import pool_units, unit_labels

ROOT = Path(__file__).resolve().parents[1]
SLICE = "slice_of_its_own"
TITLES = {"accuracy": "accuracy, %", "AUROC": "AUROC"}


@dataclass(frozen=True, eq=False)
class Answered:
    """N slices in the order of their names: probabilities (N, K), labels (N,), and whose they are."""

    probabilities: NDArray[np.float64]
    labels: NDArray[np.intp]
    names: list[str]
    patients: list[str]


def write_slices(corpus: Path, path: Path) -> list[dict[str, str]]:
    """The corpus with a column that calls every slice a patient of its own, and its rows."""
    with corpus.open(newline="", encoding="utf-8") as file:
        rows = [{**row, SLICE: f"S{number:06d}"} for number, row in enumerate(csv.DictReader(file))]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows


def train(table: Path, run: Path, root: str, column: str, recipe: Sequence[str]) -> None:
    """The folds of one column, by the command that users give."""
    words = [sys.executable, "train_hf.py", "--corpus", str(table.resolve()), "--image_root", root]
    words += ["--group_column", column, "--protocols", "grouped", "--output_dir", str(run.resolve())]
    subprocess.run([*words, "--resume", "auto", *recipe], cwd=ROOT, check=True)


def read_answers(run: Path, patients: Mapping[str, str]) -> Answered:
    """What the folds of a run answered; `patients` {path as in the table: patient}."""
    found = pandas.read_parquet(run / FOLDS / PREDICTIONS).sort_values("source")
    found = found[found["refused"].isna()]
    columns = [column for column in found.columns if column.startswith("p ")]
    names = [column.removeprefix("p ") for column in columns]
    return Answered(
        found[columns].to_numpy(float),
        np.array([names.index(label) for label in found["label"]], np.intp),
        names,
        [_owner(source, patients) for source in found["source"]],
    )


def _owner(source: str, patients: Mapping[str, str]) -> str:
    parts = Path(source).parts
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    return next(patients[end] for end in ends if end in patients)


def pooled(found: Answered) -> Answered:
    """A row a patient whose slices are of one class."""
    units = pool_units(found.probabilities, found.patients, None)
    truth = unit_labels(found.labels, units.members)
    kept = np.flatnonzero(truth >= 0)
    owners = [found.patients[units.members[row][0]] for row in kept]
    return Answered(units.probabilities[kept], truth[kept], found.names, owners)


def table_of(leaking: Answered, apart: Answered) -> str:
    """Accuracy and macro AUROC of both, and the difference in points, drawn together by patient."""
    lines = ["| | figure | split by slice | patients kept apart | the leak, points |", "|---|---|---:|---:|---:|"]
    for title, (first, second) in {
        "by slice": (leaking, apart),
        "by patient": (pooled(leaking), pooled(apart)),
    }.items():
        if first.patients != second.patients:
            raise SystemExit("the two runs did not answer the same slices")
        found = agreement_figures(first.labels, first.probabilities, second.probabilities, first.names, first.patients)
        for name, loss in {"accuracy": found.accuracy, "AUROC": found.macro_auroc}.items():
            lines.append(f"| {title}, n = {found.n:,} | {TITLES[name]} | {_row(loss, name)} |")
    return "\n".join(lines)


def _row(loss: Loss, name: str) -> str:
    scale, form = (100, "{:.1f}") if name == "accuracy" else (1, "{:.3f}")
    figures = [_stated(metric, scale, form) for metric in (loss.reference, loss.approximation)]
    return " | ".join([*figures, _stated(loss.loss, 100, "{:+.1f}")])


def _stated(metric: Metric, scale: float, form: str) -> str:
    """A figure with its interval, or alone where every resample gives the same."""
    if metric.value is None:
        return "–"
    value, *ends = (form.format(scale * end) for end in (metric.value, metric.low, metric.high) if end is not None)
    return f"{value} ({' to '.join(ends)})" if ends else value


def main() -> None:
    """Train what is missing, print the table, and put it in RESULTS.md where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, type=Path, metavar="TABLE.csv")
    parser.add_argument("--image_root", required=True, metavar="DIR")
    parser.add_argument("--path_column", default="path")
    parser.add_argument("--group_column", default="patient")
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--store", action="store_true", help="put the table in benchmarks/RESULTS.md")
    parser.add_argument("recipe", nargs="*", help="options of train_hf.py, after --")
    options = parser.parse_args()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    table = options.output_dir / "slices.csv"
    rows = write_slices(options.corpus, table)
    runs = {column: options.output_dir / column for column in (options.group_column, SLICE)}
    for column, run in runs.items():
        if not (run / FOLDS / PREDICTIONS).is_file():
            train(table, run, options.image_root, column, options.recipe)
    patients = {row[options.path_column]: row[options.group_column] for row in rows}
    apart, leaking = (read_answers(run, patients) for run in runs.values())
    found = table_of(leaking, apart)
    print(found)
    if options.store:
        given = f"--corpus {options.corpus} --image_root {options.image_root} --output_dir {options.output_dir}"
        command = f"python -m benchmarks.leak {given} -- {' '.join(options.recipe)}"
        store("leak", f"`{command}`\n\n{found}")


if __name__ == "__main__":
    main()
