"""Whether `audit --against` tells corpora apart and halves of one not; what `adapt` and `recalibrate` gain at a site.

    python -m benchmarks.sites --corpora ../shared/corpora --model runs/phantom/model --output_dir DIR [--store]

Of each corpus up to SLICES slices of whole patients are held against those of every other, as `--against` does without
a network; then, DRAWS times, one half of its patients against the other. The site is drawn: phantom patients whom
training did not see, their pictures in a narrower window and noisier, `normal` more often among the scans without
labels than in training, which had every class as often.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from PIL import Image

from benchmarks.drift import PHANTOM, labelled, unlabelled
from benchmarks.results import store
from ct_xception.audit.drift import Drift, Sample, compare_corpora, sample_of
from ct_xception.audit.survey import survey_corpus
from ct_xception.checkpoint_files import Metric
from ct_xception.corpus.load import CorpusOptions, load_corpus
from ct_xception.errors import WorkError
from ct_xception.evaluation.shift.changes import CHANGES
from ct_xception.phantom.corpus import generate_phantom
from ct_xception.pipeline.sites import Reading, Told, adapt, recalibrate
from ct_xception.pipeline.unlabelled import list_unlabelled
from ct_xception.publish.card.markdown import metric_text
from ct_xception.statistics.intervals import wilson_interval

SLICES, DRAWS = 150, 20
SITE = (("window_width", 4), ("noise", 3))  # how a scanner of the site shows what training's shows otherwise
SHOWN = {"accuracy": "accuracy", "log_loss": "log-loss", "ece": "calibration error"}


def sample(name: str, source: str, seed: int) -> Sample:
    """Some whole patients of a corpus as `--against` compares them; of a folder of DICOM, a folder a patient."""
    rows = unlabelled(source) if name == "lung-dx-dicom" else labelled(source)
    patients = np.random.default_rng(seed).permutation(sorted(set(rows["group"]))).tolist()
    place = {patient: number for number, patient in enumerate(patients)}
    turns = sorted(range(len(rows)), key=lambda row: (place[rows[row]["group"]], row))[:SLICES]
    chosen = rows.select(sorted(turns))
    survey = survey_corpus(DatasetDict(test=_with_label(chosen)), progress=False)
    return sample_of(name, [survey], survey.groups)


def _with_label(rows: Dataset) -> Dataset:
    """With a label, of one class, where nobody gave one."""
    if "label" in rows.column_names:
        return rows
    from datasets import ClassLabel

    labelled_rows = rows.add_column("label", [0] * len(rows))
    return labelled_rows.cast_column("label", ClassLabel(names=["not labelled"]))


def half(of: Sample, kept: Sequence[int], name: str) -> Sample:
    """The patients `kept` of a sample, as a corpus of its own."""
    own = np.isin(of.units, kept)
    units = np.unique(of.units[own], return_inverse=True)[1]
    columns = {key: values[own] for key, values in of.columns.items()}
    return replace(of, name=name, columns=columns, units=units, labels=of.labels[own])


def pairs(samples: Mapping[str, Sample]) -> Iterator[str]:
    """A row a pair of corpora."""
    for place, (name, here) in enumerate(samples.items()):
        for other, there in list(samples.items())[place + 1 :]:
            yield f"| {name}, {other} | {here.n_units}, {there.n_units} | {_verdict(compare_corpora(here, there))} |"


def _verdict(drift: Drift) -> str:
    if not drift.judged:
        return "not judged: too few patients"
    return f"differ in {', '.join(drift.families)}" if drift.told else "nothing told"


def halves(samples: Mapping[str, Sample], draws: int, seed: int) -> Iterator[str]:
    """A row a corpus: how often one half of its patients is told from the other."""
    for name, of in samples.items():
        found = list[Drift]()
        for draw in range(draws):
            order = np.random.default_rng([seed, draw]).permutation(of.n_units)
            parts = np.array_split(order, 2)
            here, there = (half(of, part.tolist(), f"{name} {side}") for side, part in enumerate(parts))
            found.append(compare_corpora(here, there))
        judged = [one for one in found if one.judged]
        told = sum(bool(one.told) for one in judged)
        if not judged:
            yield f"| {name} | {of.n_units} | not judged: too few patients |"
            continue
        low, high = wilson_interval(told / len(judged), len(judged))
        yield f"| {name} | {of.n_units} | {told} of {len(judged)} ({100 * low:.0f} to {100 * high:.0f} %) |"


def draw_site(folder: Path, patients: int, seed: int, *, often: str = "") -> Path:
    """A table of phantom slices as the site's scanner shows them; of classes other than `often` half the patients."""
    corpus = generate_phantom(folder / "drawn", patients=patients, slices_per_patient=2, seed=seed)
    rows, kept = list(csv.DictReader((corpus / "metadata.csv").open(encoding="utf-8"))), []
    known = sorted({row["patient"] for row in rows})
    for row in rows:
        if often and row["label"] != often and known.index(row["patient"]) % 2:
            continue
        path = corpus / row["file_name"]
        pixels, rng = np.asarray(Image.open(path).convert("L")), np.random.default_rng([seed, len(kept)])
        for change, severity in SITE:
            pixels = CHANGES[change](pixels, severity, rng)
        Image.fromarray(pixels).save(path)
        kept.append((row["file_name"], row["label"], f"{seed} {row['patient']}"))
    table = corpus / "site.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("path", "label", "patient"), *kept])
    return table


def gains(model: Path, folder: Path) -> Iterator[str]:
    """A row a way of meeting the site: figures before and after, out of fold, on its labelled cases."""
    cases = load_corpus(draw_site(folder / "cases", 40, 101), CorpusOptions())
    scans = draw_site(folder / "scans", 80, 202, often="normal")
    with scans.open(encoding="utf-8") as stream:
        share = np.mean([row["label"] == "normal" for row in csv.DictReader(stream)])
    waiting, _ = list_unlabelled([str(scans)], "--to", CorpusOptions())
    reading = Reading(progress=False)
    ways: dict[str, Any] = {
        "recalibrate": lambda out: recalibrate(model, cases, out, reading=reading),
        "adapt": lambda out: adapt(model, waiting, out, name="scans", check=cases, reading=reading),
    }
    for name, way in ways.items():
        try:
            told: Told = way(folder / name)
        except WorkError as error:
            why = str(error).partition(", so nothing")[0]
            yield f"| {name} | nothing written: {why} |" + " |" * (len(SHOWN) - 1)
            continue
        figures = told.record["figures"]
        shown = [
            f"{_stated(figures['before'][key], key)} to {_stated(figures['after'][key], key)}, n = {figures['n']}"
            for key in SHOWN
        ]
        yield f"| {name} | {' | '.join(shown)} |"
        if told.record["prior"]:
            found = Metric.of(told.record["prior"]["target"]["normal"].to_json())
            told_of = f"share of `normal` among the scans, {100 * share:.1f} %"
            yield f"| {told_of} | estimated {_stated(found, 'accuracy')} | | |"


def _stated(metric: Metric, name: str) -> str:
    return metric_text(metric, name)


def main() -> None:
    """Measure, print the tables, and put them in RESULTS.md where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", required=True, type=Path, metavar="DIR")
    parser.add_argument("--model", required=True, type=Path, metavar="CHECKPOINT", help="trained on the phantom")
    parser.add_argument("--output_dir", required=True, type=Path, help="of the site's slices and the versions")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--store", action="store_true", help="put the tables in benchmarks/RESULTS.md")
    options = parser.parse_args()
    folders = [path for path in sorted(options.corpora.iterdir()) if path.is_dir()]
    tables = {path.name: path / "slices.csv" if (path / "slices.csv").is_file() else path for path in folders}
    sources = {name: str(path) for name, path in tables.items()} | {"phantom": PHANTOM}
    samples = {name: sample(name, source, 0) for name, source in sources.items()}
    lines = ["| corpora | patients | `audit --against` |", "|---|---|---|", *pairs(samples), ""]
    lines += ["| two halves of | patients | told apart |", "|---|---|---|", *halves(samples, options.draws, 0), ""]
    lines += [f"| at a drawn site | {' | '.join(SHOWN.values())} |", "|---" * (1 + len(SHOWN)) + "|"]
    lines += gains(options.model, options.output_dir)
    print("\n".join(lines))
    if options.store:
        command = f"python -m benchmarks.sites --corpora ../shared/corpora --model MODEL --draws {options.draws}"
        store("sites", f"`{command}`; pairs and halves of up to {SLICES} slices a corpus.\n\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
