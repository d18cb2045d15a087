"""Whether columns beside the image help where they say something, and not where they do not: three runs on one phantom.

    python -m benchmarks.tabular --output_dir DIR [--store]

Draws a phantom of two classes and gives its patients an age and a sex. In one table the age of the malignant is 15
years higher (standard deviation 10), in the other it is drawn alike for all; the sex says nothing in either.
`train_hf.py` trains the image alone, and with each table, by one recipe on the same split by patient; each network
answers the same test slices. Differences in accuracy are paired, with intervals by patient. A run that is there is
counted as it is.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas

from benchmarks.results import store
from ct_xception.checkpoint import EVALUATION, METRICS, MODEL, PREDICTIONS
from ct_xception.checkpoint_files import Metric
from ct_xception.metrics import read_metrics
from ct_xception.phantom.corpus import generate_phantom
from ct_xception.statistics.comparison import compare

ROOT = Path(__file__).resolve().parents[1]
YEARS, DEVIATION, PATIENTS = 15, 10, 120
SHARES = {"train": 0.4, "validation": 0.15, "test": 0.45}
RECIPE = (
    "--weights none --image_size 64 --batch_size 8 --epochs 8 --learning_rate 0.003 --explained 0 --workers 0 "
    "--threads 1 --protocols published"
)
RUNS = {
    "alone": (None, "image alone"),
    "planted": ("planted", "age says something"),
    "none": ("none", "age says nothing"),
}


def write_tables(phantom: Path, seed: int) -> None:
    """planted.csv and none.csv beside the images: path, label, patient, split, age, sex; a tenth of ages is missing."""
    with (phantom / "metadata.csv").open(newline="", encoding="utf-8") as file:
        slices = list(csv.DictReader(file))
    rng, patients = np.random.default_rng(seed), sorted({row["patient"]: row["label"] for row in slices}.items())
    splits = np.repeat(list(SHARES), np.round(np.array(list(SHARES.values())) * len(patients)).astype(int))
    order = dict(zip(rng.permutation([name for name, _ in patients]).tolist(), splits.tolist(), strict=True))
    for name, years in (("planted", YEARS), ("none", 0)):
        ages = {one: rng.normal(60 + years * (label == "malignant"), DEVIATION) for one, label in patients}
        told = {one: "" if rng.random() < 0.1 else f"{age:.0f}" for one, age in ages.items()}
        sexes = {one: str(rng.choice(["F", "M"])) for one, _ in patients}
        with (phantom / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "patient", "split", "age", "sex"])
            for row in slices:
                one = row["patient"]
                writer.writerow([row["file_name"], row["label"], one, order[one], told[one], sexes[one]])


def train(run: Path, table: Path, columns: bool) -> None:
    """One run, by the command that users give."""
    words = [sys.executable, "train_hf.py", "--corpus", str(table), "--output_dir", str(run), *RECIPE.split()]
    words += ["--tabular_columns", "age,sex"] if columns else []
    subprocess.run(words, cwd=ROOT, check=True)


def answers_of(run: Path, path: str = "predictor") -> pandas.DataFrame:
    """The answers of one path to the test slices, by their names."""
    found = pandas.read_parquet(run / MODEL / EVALUATION / PREDICTIONS)
    return found[found["path"] == path].sort_values("source").reset_index(drop=True)


def difference(first: pandas.DataFrame, second: pandas.DataFrame) -> Metric:
    """Accuracy of the first less that of the second, on the same slices."""
    if first["source"].tolist() != second["source"].tolist():
        raise SystemExit("the runs did not answer the same slices")
    columns = sorted(name for name in first.columns if name.startswith("p "))
    names = [name.removeprefix("p ") for name in columns]
    labels = np.array([names.index(label) for label in first["label"]])
    return compare(labels, first[columns].to_numpy(), second[columns].to_numpy(), first["group"].tolist()).difference


def table_of(runs: dict[str, Path]) -> str:
    """A row a run: accuracy with its columns and without, and what they add, beside the image alone and themselves."""
    lines = [
        "| columns | accuracy, % | columns withheld, % | less withheld, points | less the image alone, points "
        "| the columns alone, % |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, run in runs.items():
        metrics = read_metrics(run / MODEL / EVALUATION / METRICS)
        own, withheld = metrics.paths["predictor"].accuracy, metrics.paths.get("columns_withheld")
        if withheld is None:
            lines.append(f"| {RUNS[name][1]} | {_stated(own)} | | | | |")
            continue
        worth = metrics.columns[metrics.protocol]
        rule = metrics.baselines[metrics.protocol].figures[worth.rule].accuracy if worth.rule else None
        beside = difference(answers_of(run), answers_of(runs["alone"]))
        cells = [_stated(own), _stated(withheld.accuracy), _stated(worth.withheld, "+"), _stated(beside, "+")]
        lines.append(f"| {RUNS[name][1]} | {' | '.join(cells)} | {_stated(rule) if rule else '–'} |")
    metrics = read_metrics(runs["alone"] / MODEL / EVALUATION / METRICS)
    return "\n".join([*lines, "", f"n = {metrics.n} slices of {metrics.n_groups} patients."])


def _stated(metric: Metric, sign: str = "") -> str:
    value, *ends = (f"{100 * one:{sign}.1f}" for one in (metric.value, metric.low, metric.high) if one is not None)
    return f"{value} ({' to '.join(ends)})" if ends else value


def main() -> None:
    """Train what is missing, print the table, and put it in RESULTS.md where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the phantom, its ages and its split")
    parser.add_argument("--store", action="store_true", help="put the table in benchmarks/RESULTS.md")
    options = parser.parse_args()
    phantom = options.output_dir.resolve() / "phantom"
    if not (phantom / "none.csv").is_file():
        shape = {"patients": PATIENTS, "slices_per_patient": 2, "size": 96}
        generate_phantom(phantom, classes=("benign", "malignant"), seed=options.seed, **shape)
        write_tables(phantom, options.seed)
    runs = {name: options.output_dir.resolve() / name for name in RUNS}
    for name, run in runs.items():
        if not (run / MODEL).is_dir():
            table = RUNS[name][0]
            train(run, phantom / f"{table or 'none'}.csv", columns=table is not None)
    found = table_of(runs)
    print(found)
    if options.store:
        command = f"python -m benchmarks.tabular --output_dir runs/tabular --seed {options.seed}"
        store("tabular", f"`{command}` (recipe: `{RECIPE}`)\n\n{found}")


if __name__ == "__main__":
    main()
