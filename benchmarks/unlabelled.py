"""What slices without labels are worth: one recipe on few labelled patients, without and with the others' slices.

    python -m benchmarks.unlabelled --output_dir DIR [--store] -- --weights FILE --epochs 16
    python -m benchmarks.unlabelled --output_dir DIR --table slices.csv [--store] -- --weights FILE --epochs 16

Of a phantom a seed, LABELLED patients of each class are trained on and VALIDATED more choose the epoch; TESTED others
are the test split, and the slices of OTHERS go without their labels to `train_hf.py --unlabelled`. Of a table of
slices (columns path, label, patient) the shares of SHARES are drawn a seed, within each class. Both arms take as many
optimiser steps, on the same labelled batches, and answer the same test patients. The gain is by patient, the slices'
log-probabilities averaged; its interval is Student's over the seeds, each of which has its own phantom, and of a table
its own draw, whose patients are in part the same: there it is too short. What follows `--` is the recipe. A run that is
there is counted as it is.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray
from scipy.stats import t as student

from benchmarks.results import store
from ct_xception.checkpoint import EVALUATION, MODEL, PREDICTIONS
from ct_xception.phantom.corpus import REFERENCE_CLASSES, generate_phantom
from ct_xception.statistics.pooling import pool_units, unit_labels

ROOT = Path(__file__).resolve().parents[1]
LABELLED, VALIDATED, TESTED, OTHERS = 5, 5, 10, 20  # patients of each class
SHARES = {"test": 0.3, "validation": 0.15, "train": 0.55 / 4}  # of a table's patients: a quarter of the rest has labels
PHANTOM, TABLE = ("file_name", "label", "patient"), ("path", "label", "patient")  # columns
Columns = tuple[str, str, str]
Parts = Callable[[int], Mapping[str, int]]  # how many of a class's patients go into each split


def parts_of_phantom(_: int) -> dict[str, int]:
    """The same of every class."""
    return {"train": LABELLED, "validation": VALIDATED, "test": TESTED}


def parts_of_table(patients: int) -> dict[str, int]:
    """SHARES of a class's patients."""
    return {name: round(share * patients) for name, share in SHARES.items()}


def write_tables(corpus: Path, columns: Columns, parts: Parts, folder: Path, seed: int) -> None:
    """labelled.csv, with so many patients of each class in each split, and unlabelled.csv, with all others' slices."""
    path, label, patient = columns
    table = pandas.read_csv(corpus, dtype=str)
    rng, split = np.random.default_rng(seed), dict[str, str]()
    for _, own in table.groupby(label):
        names = [name for name in rng.permutation(sorted(set(own[patient]))) if name not in split]
        for name, number in parts(len(names)).items():
            split |= dict.fromkeys(names[:number], name)
            names = names[number:]
    table["split"] = table[patient].map(split)
    chosen = table["split"].notna()
    table.loc[chosen, [path, label, patient, "split"]].to_csv(folder / "labelled.csv", index=False)
    table.loc[~chosen, [path, patient]].to_csv(folder / "unlabelled.csv", index=False)


def train(folder: Path, root: Path, columns: Columns, seed: int, recipe: Sequence[str]) -> None:
    """Both arms, by the command that users give; a run that is complete stays."""
    path, label, patient = columns
    for name, more in zip(("alone", "semi"), ([], ["--unlabelled", str(folder / "unlabelled.csv")]), strict=True):
        if (folder / name / MODEL).is_dir():
            continue
        words = [sys.executable, "train_hf.py", "--corpus", str(folder / "labelled.csv"), "--image_root", str(root)]
        words += ["--image_column", path, "--label_column", label, "--group_column", patient, "--split_column", "split"]
        words += ["--protocols", "published", "--seed", str(seed), "--explained", "0", "--resume", "auto"]
        words += ["--output_dir", str(folder / name), *recipe, *more]
        subprocess.run(words, cwd=ROOT, check=True)
        shutil.rmtree(folder / name / "cache", ignore_errors=True)
        shutil.rmtree(folder / name / "checkpoints", ignore_errors=True)


def read_answers(run: Path, names: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.intp], list[str]]:
    """By test patient: probabilities (P, K), labels (P,) and names."""
    found = pandas.read_parquet(run / MODEL / EVALUATION / PREDICTIONS)
    found = found[found["path"] == "predictor"].sort_values("source")
    probabilities = found[[f"p {name}" for name in names]].to_numpy(float)
    labels = np.array([names.index(label) for label in found["label"]], np.intp)
    units = pool_units(probabilities, list(found["group"]), None)
    return (
        units.probabilities,
        unit_labels(labels, units.members),
        [found["group"].iloc[one[0]] for one in units.members],
    )


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean, and its 95 % interval by Student's t over independent seeds."""
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
    half = float(student.ppf(0.975, len(values) - 1)) * error
    return mean, mean - half, mean + half


def kept_share(run: Path) -> float:
    """The share of slices without labels that was learnt from in the last epoch."""
    return float(json.loads((run / "history.jsonl").read_text().splitlines()[-1])["unlabelled_kept"])


def draw_phantom(folder: Path, seed: int, classes: Sequence[str], size: int, slices: int) -> Path:
    """A phantom's table; the phantom of this seed is generated into `folder` if it is not there."""
    if not folder.is_dir():
        patients = len(classes) * (LABELLED + VALIDATED + TESTED + OTHERS)
        drawn: dict[str, Any] = {"patients": patients, "slices_per_patient": slices, "size": size, "seed": seed}
        generate_phantom(folder, classes=classes, **drawn)
    return folder / "metadata.csv"


def of_seeds(options: argparse.Namespace, folder: Path) -> str:
    """The table: a phantom a seed, or a draw of the table's patients."""
    lines = ["| seed | labels alone, % | labels and slices without, % | gain, points | kept at the end |"]
    lines += ["|---:|---:|---:|---:|---:|"]
    pairs, shares = list[tuple[float, float]](), list[float]()
    for seed in options.seeds:
        own = folder / f"seed-{seed}"
        own.mkdir(exist_ok=True)
        if options.table is None:
            corpus = draw_phantom(own / "phantom", seed, options.classes, options.size, options.slices)
            columns, parts = PHANTOM, parts_of_phantom
        else:
            corpus, columns, parts = options.table.resolve(), TABLE, parts_of_table
        write_tables(corpus, columns, parts, own, seed)
        train(own, corpus.parent, columns, seed, options.recipe)
        names = sorted(set(pandas.read_csv(own / "labelled.csv")["label"]))
        answers = [read_answers(own / name, names) for name in ("alone", "semi")]
        first, second = (100 * float((answer.argmax(axis=1) == labels).mean()) for answer, labels, _ in answers)
        pairs.append((first, second))
        shares.append(kept_share(own / "semi"))
        lines.append(f"| {seed} | {first:.1f} | {second:.1f} | {second - first:+.1f} | {100 * shares[-1]:.0f} % |")
    if len(pairs) < 2:
        return "\n".join(lines)
    means = [mean_interval(values) for values in zip(*pairs, strict=True)]
    gain = mean_interval([second - first for first, second in pairs])
    stated = ["{:.1f} ({:.1f} to {:.1f})".format(*one) for one in means]
    lines.append(f"| mean | {stated[0]} | {stated[1]} | {'{:+.1f} ({:+.1f} to {:+.1f})'.format(*gain)} | |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, print the table, and put it in RESULTS.md where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--table", type=Path, help="a table of slices in place of phantoms: path, label, patient")
    parser.add_argument("--size", type=int, default=96, help="side of the phantom's slices in pixels")
    parser.add_argument("--slices", type=int, default=3, help="slices of each phantom patient")
    parser.add_argument("--classes", nargs="+", default=list(REFERENCE_CLASSES))
    parser.add_argument("--store", action="store_true", help="put the table in benchmarks/RESULTS.md")
    parser.add_argument("recipe", nargs="*", help="options of train_hf.py, after --")
    options = parser.parse_args()
    folder = options.output_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    found = of_seeds(options, folder)
    print(found)
    if options.store:
        given = " ".join(sys.argv[1:]).replace(" --store", "")
        store(
            "unlabelled" if options.table is None else "unlabelled-table",
            f"`python -m benchmarks.unlabelled {given}`\n\n{found}",
        )


if __name__ == "__main__":
    main()
