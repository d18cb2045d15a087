"""What recipes are worth where one class comes from a source that training did not see: COVID-CT, in both directions.

    python -m benchmarks.other_source --corpus_dir ../shared/corpora/covid-ct-patients --output_dir DIR \\
        --recipe default="" --recipe "no crop=--no-body_crop" -- --weights hub --image_size 128 --epochs 8

The collection's slices of class `other` are of two kinds of file, by all signs of two origins: PNG, as nearly all of
class `covid`, and JPEG. Direction 1 learns from `other` in PNG and half of the covid patients and is tested on `other`
in JPEG and the other half; direction 2 is the reverse. A run that is there is counted.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import store
from ct_xception.checkpoint import EVALUATION, METRICS

ROOT = Path(__file__).resolve().parents[1]
DIRECTIONS = (1, 2)
FIELDS = ("path", "label", "patient", "split")
VALIDATION = 15  # percent of the training patients of each class


def divide(rows: Iterable[Mapping[str, str]], direction: int) -> list[dict[str, str]]:
    """Rows of path, label and patient with a split; a training slice of a patient who is tested is left out."""
    rows = list(rows)
    covid = sorted({row["patient"] for row in rows if row["label"] == "covid"})
    random.Random(5).shuffle(covid)
    half = set(covid[: len(covid) // 2])
    first = [row["patient"] in half if row["label"] == "covid" else row["path"].endswith("png") for row in rows]
    learnt = [row for row, is_first in zip(rows, first, strict=True) if is_first == (direction == 1)]
    tested = [row for row, is_first in zip(rows, first, strict=True) if is_first != (direction == 1)]
    held = _validation_patients(learnt)
    unseen = {row["patient"] for row in tested}
    kept = [
        {**row, "split": "validation" if row["patient"] in held else "train"}
        for row in learnt
        if row["patient"] not in unseen
    ]
    return kept + [{**row, "split": "test"} for row in tested]


def _validation_patients(rows: Sequence[Mapping[str, str]]) -> set[str]:
    generator, held = random.Random(7), set()
    generator.shuffle(sorted({row["patient"] for row in rows}))  # as the stored figures were drawn
    for label in ("covid", "other"):
        patients = sorted({row["patient"] for row in rows if row["label"] == label})
        generator.shuffle(patients)
        held |= set(patients[: max(1, len(patients) * VALIDATION // 100)])
    return held


def train(table: Path, images: Path, run: Path, options: Sequence[str]) -> None:
    """One run, by the command that users give. The audit is left out: its twins would cost more than the training."""
    words = [sys.executable, "train_hf.py", "--corpus", str(table.resolve()), "--image_root", str(images.resolve())]
    words += ["--protocols", "published", "--no-audit", "--explained", "0", "--output_dir", str(run.resolve())]
    subprocess.run([*words, "--resume", "auto", *options], cwd=ROOT, check=True)


def figures(run: Path) -> list[str]:
    """AUROC by slice and by patient, and accuracy by patient, each with its interval."""
    found = json.loads((run / "model" / EVALUATION / METRICS).read_text(encoding="utf-8"))
    patients = found["by_patient"]["published"]
    slices = found["paths"]["predictor"]
    return [_stated(slices["macro_auroc"]), _stated(patients["macro_auroc"]), _stated(patients["accuracy"])]


def _stated(metric: Mapping[str, Any]) -> str:
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f}), n = {metric['n']}"


def main() -> None:
    """Train what is missing, print the table, and put it in RESULTS.md where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus_dir", required=True, type=Path, metavar="DIR", help="with slices.csv in it")
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--recipe", action="append", required=True, metavar="NAME=OPTIONS")
    parser.add_argument("--store", action="store_true", help="put the table in benchmarks/RESULTS.md")
    parser.add_argument("shared", nargs="*", help="options of train_hf.py for every recipe, after --")
    options = parser.parse_args()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    with (options.corpus_dir / "slices.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for direction in DIRECTIONS:
        with (options.output_dir / f"dir{direction}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(divide(rows, direction))
    recipes = dict(recipe.split("=", 1) for recipe in options.recipe)
    lines = ["| recipe | direction | AUROC by slice | AUROC by patient | accuracy by patient |", "|---" * 5 + "|"]
    for name, recipe in recipes.items():
        for direction in DIRECTIONS:
            run = options.output_dir / f"{name.replace(' ', '_')}-{direction}"
            if not (run / "model" / EVALUATION / METRICS).is_file():
                table = options.output_dir / f"dir{direction}.csv"
                train(table, options.corpus_dir, run, [*options.shared, *recipe.split()])
            told = f"{name} (`{recipe.strip()}`)" if recipe.strip() else name
            lines.append(f"| {told} | {direction} | {' | '.join(figures(run))} |")
    print("\n".join(lines))
    if options.store:
        given = f"--corpus_dir {options.corpus_dir} --output_dir {options.output_dir}"
        shown = f"python -m benchmarks.other_source {given} --recipe … -- {' '.join(options.shared)}"
        store("other source", f"`{shown}`\n\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
