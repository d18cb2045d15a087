"""A checkpoint's network for other runtimes: written, measured beside the network itself, kept if it answers alike.

    export_checkpoint("runs/mine/model", ["onnx", "onnx-int8"], corpus="corpora/mine")

A float32 file must give the network's logits; an int8 file must decide as the network does, within bars that are
fixed here and judged by interval: where so few slices cannot tell, that is said. What was measured goes to
evaluation/export.json, the int8 answers behind it beside it, and both into the card.
"""

from __future__ import annotations

import functools
import itertools
import math
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
from numpy.typing import NDArray

from ct_xception.checkpoint import CARD, EXPORT_FORMAT, METRICS, PREDICTIONS, SIDE_FILE, WEIGHTS, evaluated
from ct_xception.checkpoint_files import Metric, check_seal, seal
from ct_xception.corpus.load import CorpusOptions
from ct_xception.errors import CheckpointError, printable
from ct_xception.evaluation.answers import read_rows
from ct_xception.evaluation.predictions import Names
from ct_xception.export_record import CalibratedOn, Difference, ExportedFile, ExportRecord, read_exports
from ct_xception.files import atomic_path, sha256_file, write_json
from ct_xception.formats.onnx import describe, write_onnx
from ct_xception.formats.source import ExportSource, write_export
from ct_xception.metrics import AgreementMetrics
from ct_xception.publish.card.card import refresh_card, render_card
from ct_xception.publish.clearance import list_files
from ct_xception.publish.export_slices import ExportSlices, find_slices
from ct_xception.publish.verify import EXPORT, INT8, INT8_ANSWERS, exported_names, int8_figures
from ct_xception.serving.checkpoint import Checkpoint, open_checkpoint, read_provenance
from ct_xception.serving.classifier import Classifier, softmax
from ct_xception.serving.network import INPUT, TABULAR, Network
from ct_xception.serving.runtimes import DEFAULT_RUNTIME, EXPORTED, RUNTIMES
from ct_xception.statistics.intervals import describe_metric, group_indices

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.corpus.load import CorpusOptions

TOLERANCE = 1e-4  # of the largest logit of the network
LEAST_AGREEMENT = 0.99
MOST_LOST = {"accuracy": 0.005, "macro AUROC": 0.005}
_BATCH = 8


def export_checkpoint(
    folder: str | Path,
    runtimes: Sequence[str],
    *,
    corpus: str | None = None,
    options: CorpusOptions | None = None,
    progress: bool = True,
) -> ExportRecord:
    """Write the files of `runtimes`, names in EXPORTED, into a checkpoint folder; return export.json.

    `corpus` is where the slices come from, with the `options` that read it; None takes the phantom where that will do.
    Of the record, `files` were kept, and `kept_out` were not. Card and manifest are brought up to date.
    Raises CheckpointError where the folder is not as it was sealed, InputError where slices or a package are missing;
    nothing has been written then.
    """
    checkpoint = _opened(Path(folder))
    wanted = read_provenance(checkpoint.folder), list(checkpoint.config["label_names"])
    reading = (options or CorpusOptions()).with_columns(checkpoint.config.get("tabular"))
    slices = find_slices(*wanted, corpus, reading, calibrate=_approximate(runtimes))
    classifier = Classifier(RUNTIMES[DEFAULT_RUNTIME].open(checkpoint), checkpoint.contract, checkpoint=checkpoint)
    with tempfile.TemporaryDirectory(prefix="ct-xception-export-") as staging:
        files = _write_files(classifier, runtimes, slices, Path(staging), progress)
        networks = {name: EXPORTED[name].load(path) for name, path in files.items()}
        measured = _measure(classifier, networks, slices, progress)
        answers = _int8_answers(measured, slices, checkpoint) if INT8 in files else None
        judged = {name: _judge(name, measured, slices, answers) for name in files}
        return _install(checkpoint, files, judged, answers)


def _approximate(runtimes: Iterable[str]) -> bool:
    return any(EXPORTED[name].approximate for name in runtimes)


def _opened(folder: Path) -> Checkpoint:
    """The checkpoint, whose files are those that were sealed, but for what an earlier export left."""
    if not folder.is_dir():
        raise CheckpointError(f"{printable(folder)}: is no folder; fetch a Hub checkpoint with hf download first.")
    checkpoint = open_checkpoint(folder)
    if (folder / SIDE_FILE).is_file():
        files = list_files(folder)
        ignored = exported_names([*files, *checkpoint.manifest])
        if EXPORT in files and sha256_file(files[EXPORT]) != checkpoint.manifest.get(EXPORT):
            ignored.add(CARD)  # an export that was cut off had written the card, but no seal
        check_seal(folder, files, checkpoint.manifest, ignored=ignored)
        if not ignored and evaluated(METRICS) in files:
            render_card(folder)  # which is written last: better that it refuses the figures before the files are made
    return checkpoint


# Files


def _write_files(
    classifier: Classifier, runtimes: Sequence[str], slices: ExportSlices, staging: Path, progress: bool
) -> dict[str, Path]:
    """Write what is asked for into `staging`: {runtime: its file}. All of it begins with the float32 ONNX file."""
    assert classifier.checkpoint is not None
    calibrating = functools.partial(_calibrating, classifier, slices, progress)
    source = ExportSource(staging / "source.onnx", describe(classifier.checkpoint), calibrating)
    write_onnx(classifier.model, source.onnx, source.description)
    files = {name: staging / name / Path(EXPORTED[name].files[0]).name for name in runtimes}
    for name, path in files.items():
        path.parent.mkdir()
        write_export(name, source, path)
    return files


def _calibrating(classifier: Classifier, slices: ExportSlices, progress: bool) -> Iterator[Mapping[str, np.ndarray]]:
    """What int8 is calibrated on; refused where that is nothing, which onnxruntime would end in a traceback."""
    assert slices.calibration is not None
    batches = _batches(classifier, slices, slices.calibration, "calibrating int8" if progress else None)
    first = next(batches, None)
    if first is None:
        raise CheckpointError(
            f"{classifier.name}: none of the training slices that int8 is calibrated on could be read; give the "
            "--window and --frame of training."
        )
    return (batch.inputs for batch in itertools.chain([first], batches))


# Slices


@dataclass(frozen=True, eq=False)
class _Batch:
    """Prepared slices: `rows` of the dataset (B,), and the network's `inputs` by their names."""

    rows: list[int]
    inputs: dict[str, np.ndarray]


def _batches(classifier: Classifier, slices: ExportSlices, items: Dataset, title: str | None) -> Iterator[_Batch]:
    """Items of `slices` as the network takes them; what the reader refuses is left out."""
    how: dict[str, Any] = {"window": slices.options.window, "frame": slices.options.frame, "progress": title}
    readable = read_rows(classifier, items, range(len(items)), **how)
    prepared = ((row, classifier.prepare(slice_)) for row, _, slice_ in readable)
    while batch := list(itertools.islice(prepared, _BATCH)):
        inputs = {INPUT: np.stack([one.values for _, one in batch])}
        if classifier.columns is not None:
            inputs[TABULAR] = np.concatenate([one.row for _, one in batch if one.row is not None])
        yield _Batch([row for row, _ in batch], inputs)


@dataclass(eq=False)
class _Measured:
    """What the network and each file answered: logits (M, K) by runtime, of `rows` of the slices checked.

    `apart` {runtime: {output: the largest absolute difference from the network's}}; `seconds` {runtime: those of its
    quickest batch, a slice}.
    """

    rows: list[int] = field(default_factory=list)
    logits: dict[str, list[np.ndarray]] = field(default_factory=dict)
    apart: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def ask(self, name: str, network: Network, inputs: Mapping[str, np.ndarray]) -> Any:
        """A network's outputs for a batch, timed."""
        started = time.perf_counter()
        found = network(**inputs)
        taken = (time.perf_counter() - started) / len(found.logits)
        self.seconds[name] = min(taken, self.seconds.get(name, math.inf))
        return found

    def add(self, name: str, found: Any, wanted: Any) -> None:
        self.logits.setdefault(name, []).extend(found.logits)
        far = self.apart.setdefault(name, dict.fromkeys(found._fields, 0.0))
        for output, ours, theirs in zip(found._fields, found, wanted, strict=True):
            apart = float(np.abs(ours - theirs).max())
            far[output] = max(far[output], apart if math.isfinite(apart) else math.inf)

    def probabilities(self, name: str) -> NDArray[np.float64]:
        return softmax(np.stack(self.logits[name]))


def _measure(
    classifier: Classifier, networks: Mapping[str, Network], slices: ExportSlices, progress: bool
) -> _Measured:
    """Ask the network and every file about the same slices."""
    measured = _Measured()
    for batch in _batches(classifier, slices, slices.checked, "checking" if progress else None):
        measured.rows += batch.rows
        wanted = classifier.network(**batch.inputs)
        measured.add(DEFAULT_RUNTIME, wanted, wanted)
        for name, network in networks.items():
            measured.add(name, measured.ask(name, network, batch.inputs), wanted)
    if not measured.rows:
        raise CheckpointError(f"{classifier.name}: none of the slices could be read; name another corpus.")
    return measured


# Judgement


def _judge(name: str, measured: _Measured, slices: ExportSlices, answers: pandas.DataFrame | None) -> ExportedFile:
    """What was measured of one file, with its `reason` where it must not be kept."""
    told: dict[str, Any] = {}
    if name in measured.seconds:
        told["milliseconds"] = round(1000 * measured.seconds[name], 2)
    if EXPORTED[name].approximate:
        assert answers is not None and slices.calibration is not None
        figures = int8_figures(answers, slices.label_names)
        calibration = CalibratedOn(n=len(slices.calibration), split="train")
        missed, unsure = int8_verdict(figures)
        if missed:
            told["reason"] = "; ".join(missed)
        if unsure:
            told["unsure"] = f"{figures.n:,} slices are too few to tell: {'; '.join(unsure)}"
        return ExportedFile(figures=figures, split_hash=slices.split, calibration=calibration, **told)
    apart, n = measured.apart[name], len(measured.rows)
    largest = {output: value if math.isfinite(value) else None for output, value in apart.items()}
    most = TOLERANCE * max(float(np.abs(logits).max()) for logits in measured.logits[DEFAULT_RUNTIME])
    if apart["logits"] > most:
        told["reason"] = (
            f"its logits differ from the network's by up to {apart['logits']:.2g} on {n} slices, and "
            f"{most:.2g}, a {1 / TOLERANCE:,.0f}th of the largest, is the most that is kept"
        )
    difference = Difference(n=n, slices=slices.title, tolerance=most, largest=largest)
    return ExportedFile(difference=difference, **told)


def int8_verdict(figures: AgreementMetrics) -> tuple[list[str], list[str]]:
    """Why an int8 file with these figures is not kept, and what so few slices cannot tell of it: a clause each.

    A bar is missed where the whole interval lies on its wrong side, and cannot be told where the interval holds it.
    """
    agreement = figures.agreement
    missed: list[str] = []
    unsure: list[str] = []
    told = f"{100 * (agreement.value or 0):.1f} % of {agreement.n} slices, and {100 * LEAST_AGREEMENT:g} % is the least"
    bars = [(_side(agreement, LEAST_AGREEMENT, -1), f"it puts the same class first as the network in {told}")]
    for title, loss in (("accuracy", figures.accuracy.loss), ("macro AUROC", figures.macro_auroc.loss)):
        if loss.value is not None:
            clause = f"it loses {loss.value:.4f} of {title}, and {MOST_LOST[title]:g} is the most"
            bars.append((_side(loss, MOST_LOST[title], 1), clause))
    for side, clause in bars:
        (missed if side == "wrong" else unsure if side == "unsure" else []).append(clause)
    return missed, unsure


def _side(metric: Metric, bar: float, sign: int) -> str:
    """Where a metric's interval lies: "wrong", beyond the bar in the direction of `sign`, "right", or "unsure"."""
    ends = [end for end in (metric.low, metric.high) if end is not None] or [metric.value or 0.0]
    if all(sign * (end - bar) > 0 for end in ends):
        return "wrong"
    return "right" if all(sign * (end - bar) <= 0 for end in ends) else "unsure"


def _int8_answers(measured: _Measured, slices: ExportSlices, checkpoint: Checkpoint) -> pandas.DataFrame:
    """The table behind the int8 figures: the test slices that were read, each with both networks' probabilities.

    Sources are named, and groups numbered, as in evaluation/predictions.parquet, which knows of look-alikes, too.
    """
    kept = [place for place, row in enumerate(measured.rows) if row < slices.tested]
    items = slices.checked.select([measured.rows[place] for place in kept]).select_columns(["source", "group", "label"])
    names, columns = Names(slices.sources, anonymous=slices.anonymous), items[:]
    sources = [names[source] for source in columns["source"]]
    table: dict[str, list[Any]] = {
        "source": sources,
        "group": _groups(checkpoint.folder, sources, list(columns["group"])),
        "label": [slices.label_names[label] for label in columns["label"]],
    }
    for prefix, name in (("p", INT8), ("reference p", "torch")):
        probabilities = measured.probabilities(name)[kept]
        table |= {f"{prefix} {label}": probabilities[:, k].tolist() for k, label in enumerate(slices.label_names)}
    return pandas.DataFrame(table)


def _groups(folder: Path, sources: Sequence[str], groups: Sequence[str]) -> list[str]:
    """The groups of the checkpoint's own evaluation, or numbers for the corpus's."""
    path = folder / evaluated(PREDICTIONS)
    if path.is_file():
        table = pandas.read_parquet(path, columns=["source", "group", "path"])
        known = table[table["path"] == "predictor"].set_index("source")["group"]
        if known.index.is_unique and set(sources) <= set(known.index):
            return known.reindex(list(sources)).tolist()
    return [f"group {number:06d}" for number in group_indices(groups, len(groups))]


# Into the folder


def _install(
    checkpoint: Checkpoint,
    files: Mapping[str, Path],
    judged: Mapping[str, ExportedFile],
    answers: pandas.DataFrame | None,
) -> ExportRecord:
    """Put the files that may stay into the folder, then the record, the card and the seal; what was made before and is
    of these weights stays."""
    folder = checkpoint.folder
    weights = sha256_file(folder / WEIGHTS)
    found = _earlier(folder, weights, files)
    for name, one in judged.items():
        for target in EXPORTED[name].files:
            made = files[name].with_suffix(Path(target).suffix)
            if one.reason:
                (folder / target).unlink(missing_ok=True)
            else:
                with atomic_path(folder / target) as temporary:
                    shutil.copyfile(made, temporary)
        found[bool(one.reason)][name] = one.with_(**_file_facts(files[name], name))
    if answers is not None:
        with atomic_path(folder / INT8_ANSWERS) as temporary:
            answers.to_parquet(temporary, index=False)
    record = ExportRecord(format=EXPORT_FORMAT, weights_sha256=weights, files=found[False], kept_out=found[True])
    write_json(folder / EXPORT, record.to_json())
    refresh_card(folder)
    if checkpoint.manifest:
        seal(folder)
    return record


def _earlier(folder: Path, weights: str, files: Mapping[str, Path]) -> dict[bool, dict[str, ExportedFile]]:
    """{whether they were kept out: files}, of the same weights and not being made anew; files of other weights go."""
    try:
        record = read_exports(folder / EXPORT)
        found = {False: record.files, True: record.kept_out} if record.weights_sha256 == weights else {}
    except (OSError, CheckpointError):
        found = {}  # of another format, or none
    others = [name for name in EXPORTED if name not in files]
    earlier = {out: {name: found[out][name] for name in others if name in found.get(out, {})} for out in (False, True)}
    for name in others:
        if name not in earlier[False]:
            for target in EXPORTED[name].files:
                (folder / target).unlink(missing_ok=True)
    return earlier


def _file_facts(path: Path, runtime: str) -> dict[str, Any]:
    """Hash and size of an exported file; of an IR both of its files."""
    made = {target: path.with_suffix(Path(target).suffix) for target in EXPORTED[runtime].files}
    return {
        "sha256": {target: sha256_file(file) for target, file in made.items()},
        "bytes": sum(file.stat().st_size for file in made.values()),
    }


def describe_export(record: ExportRecord) -> str:
    """An export's record in lines for the terminal."""
    lines = []
    for name, found in record.all.items():
        kept = "kept out" if found.reason else EXPORTED[name].files[0]
        lines.append(f"{EXPORTED[name].title}: {kept}, {found.bytes / 1e6:.1f} MB")
        if (figures := found.figures) is not None:
            lines.append(f"  same first class as the network: {describe_metric(figures.agreement)}")
            for title, lost in (("accuracy", figures.accuracy), ("macro AUROC", figures.macro_auroc)):
                lines.append(f"  {title}: {describe_metric(lost.approximation)}")
                lines.append(f"  {title} lost: {describe_metric(lost.loss)}")
        if (apart := found.difference) is not None:
            far = ", ".join(
                f"{output} {'not finite' if value is None else f'{value:.1e}'}"
                for output, value in apart.largest.items()
            )
            lines.append(f"  largest difference from the network on {apart.n:,} {apart.slices}: {far}")
        said = {"not kept": found.reason, "kept, but": None if found.reason else found.unsure}
        lines += [f"  {what}: {why}" for what, why in said.items() if why]
    return "\n".join(lines)
