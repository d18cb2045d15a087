"""Batch scoring: every slice of a folder or a corpus answered, by any number of processes, into one Parquet file.

    accelerate launch -m ct_xception.pipeline.scoring --model CHECKPOINT --folder DIR --output answers.parquet
    accelerate launch --multi_gpu --num_processes 4 -m ct_xception.pipeline.scoring --model CHECKPOINT --corpus SOURCE …

The second starts four processes, on four GPUs or, where there is none, on the CPU; `accelerate launch --cpu` would
start one, whatever number it is given.

The slices are cut into shards, which lie beside the output until all are there: a run that was killed goes on with the
same command, on any number of processes, and leaves the file of the unbroken run. A file that cannot be read right is a
row too, with the reason. The processes of several machines share the output's folder.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.checkpoint import CONFIG, SIDE_FILE, WEIGHTS
from ct_xception.command_line import BAD_INPUT, DONE, SOME_REFUSED, Parser, run_program
from ct_xception.corpus.cells import slice_source, tabular_of
from ct_xception.corpus.listing import CorpusOptions
from ct_xception.corpus.load import load_corpus
from ct_xception.corpus.summary import left_out
from ct_xception.errors import InputError, SliceError, printable
from ct_xception.files import atomic_path, dump_json, parse_json, sha256_file, write_json
from ct_xception.imaging.frames import check_slices_per_file, slices_of
from ct_xception.imaging.reader import try_read
from ct_xception.imaging.source import FrameOf, describe_passed_over, find_files
from ct_xception.imaging.windows import parse_window
from ct_xception.pipeline.lock import run_lock
from ct_xception.pipeline.scoring_options import SLICE, add_options
from ct_xception.pipeline.scoring_units import owners_in_corpus, owners_of_files, units_file, write_units
from ct_xception.text import RESEARCH_USE
from ct_xception.training.distributed import join_processes

if TYPE_CHECKING:
    import pyarrow
    from accelerate import PartialState
    from datasets import Dataset

    from ct_xception.corpus.listing import CorpusOptions
    from ct_xception.serving.classifier import Classifier, Prediction
    from ct_xception.serving.drift import SetWatch

PLAN, KEY = "plan.json", b"ct_xception.scoring"
OPTIONS = ("window", "frame", "modality", "batch_size", "shard_size")


@dataclass(frozen=True, eq=False)
class Work:
    """What is to be scored: `sources` name the N slices in order, `columns` {name: N values} go into the output.

    `item(i)` gives what slice i is read from. `content` is a hash that tells changed files, `left_out`
    says what else lies there.
    """

    sources: list[str]
    columns: Mapping[str, list[str]]
    content: str
    paths: list[Path | FrameOf] | None = None
    dataset: Dataset | None = None
    left_out: str = ""

    def item(self, index: int) -> Path | bytes | str | FrameOf:
        """The untouched file of one slice, or its place in one."""
        if self.paths is not None:
            return self.paths[index]
        assert self.dataset is not None
        return slice_source(self.dataset[index])

    def row(self, index: int) -> dict[str, str] | None:
        """What the corpus's table says beside the image; None where it has no such columns."""
        if self.dataset is None or "tabular" not in self.dataset.column_names:
            return None
        return tabular_of(self.dataset.select_columns("tabular")[index])


@dataclass(frozen=True, eq=False)
class Scoring:
    """One scoring: the work, the options that decide its rows, and where its shards lie."""

    work: Work
    model: str
    output: Path
    options: Mapping[str, Any]

    @property
    def shards(self) -> Path:
        """The folder of finished shards."""
        return self.output.with_name(f".{self.output.name}.shards")

    @property
    def count(self) -> int:
        """How many shards there are."""
        return -(-len(self.work.sources) // self.options["shard_size"])

    def rows(self, shard: int) -> range:
        """The slices of a shard."""
        size = self.options["shard_size"]
        return range(shard * size, min((shard + 1) * size, len(self.work.sources)))

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.shards / f"{shard:06d}.parquet"

    def missing(self) -> list[int]:
        """The shards that are not there yet."""
        return [shard for shard in range(self.count) if not self.path(shard).is_file()]

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What two runs must agree on to go on with each other's shards."""
        names = hashlib.sha256("\0".join([*self.work.sources, *self.work.columns]).encode()).hexdigest()
        known = {"model": self.model, "slices": len(self.work.sources), "names": names, "content": self.work.content}
        return {**known, **self.options}


REMEDY = "; the same command goes on."


def main(arguments: Sequence[str] | None = None, *, name: str = "scoring") -> int:
    """Score; the exit code. That files were refused is in their rows: to a launcher the work is done."""
    parser = Parser(
        prog="accelerate launch -m ct_xception.pipeline.scoring",
        description="Answer every slice of a folder or a corpus into one Parquet file; the same command resumes.",
        epilog=RESEARCH_USE,
    )
    add_options(parser)

    def work() -> None:
        score(parser.parse_args(arguments))

    return run_program(name, work, remedy=REMEDY)


def score(options: argparse.Namespace) -> int:
    """Do one process's share; the main one joins the shards when all are there. Raises InputError.

    Gives the exit code of a process that is alone: SOME_REFUSED where rows say why there is no answer in them,
    BAD_INPUT where all do.
    """
    from accelerate.utils import gather_object

    state = join_processes()
    scoring, classifier = _prepare(options, str(state.device))
    _say_what_is_left_out(scoring.work, classifier, state)
    if _is_done(scoring):
        _say(state, f"{printable(scoring.output)}: scored already, nothing is left to do.")
        if state.is_main_process:
            _by_unit(scoring, classifier, options.by)
        return _exit_code(scoring)
    started = time.monotonic()
    with run_lock(scoring.shards, "--output") if state.is_main_process else nullcontext():
        scored = _score_missing(scoring, classifier, state)
        watches = gather_object([classifier.watch])
        state.wait_for_everyone()
        if state.is_main_process:
            _join(scoring)
    if state.is_main_process:
        with suppress(OSError):  # of a scoring that went on the folder was there before its lock
            scoring.shards.rmdir()
        _report(scoring, scored, time.monotonic() - started, state.num_processes)
        _by_unit(scoring, classifier, options.by)
        if classifier.watch is not None:
            _say_of_the_set(classifier.watch.join(watches))
    state.wait_for_everyone()
    state.destroy_process_group()
    return _exit_code(scoring)


def _say_of_the_set(watch: SetWatch) -> None:
    """What the slices are as a set, and which window they may want."""
    if (verdict := watch.verdict()) is not None:
        print(f"{'warning: ' if verdict.unlike else ''}{verdict}.", file=sys.stderr, flush=True)
    if (hint := watch.through.hint()) is not None:
        print(f"warning: {hint}.", file=sys.stderr, flush=True)


def _score_missing(scoring: Scoring, classifier: Classifier, state: PartialState) -> int:
    """Answer this process's part of the shards that are not there; how many slices all of them hold."""
    if state.is_main_process:
        _open_shards(scoring)
    state.wait_for_everyone()
    missing = scoring.missing()
    state.wait_for_everyone()  # every process has looked before the first one adds a shard
    if len(missing) < scoring.count:
        _say(state, f"goes on: {scoring.count - len(missing)} of {scoring.count} shards are there.")
    classifier.watch_set()
    for shard in _with_bar(scoring, missing, state):
        _write_shard(scoring, classifier, shard)
    return sum(len(scoring.rows(shard)) for shard in missing)


def _say_what_is_left_out(work: Work, classifier: Classifier, state: PartialState) -> None:
    """Which columns the answers are without, and which files have none."""
    if said := _without(work, classifier):
        _say(state, said)
    if work.left_out:
        _say(state, f"left out: {work.left_out}.")


def _exit_code(scoring: Scoring) -> int:
    refused = _refused(scoring)
    return DONE if not refused else BAD_INPUT if refused == len(scoring.work.sources) else SOME_REFUSED


def _by_unit(scoring: Scoring, classifier: Classifier, by: str) -> None:
    """The second file, of series or patients, where one was asked for."""
    if by == SLICE:
        return
    refused, file = write_units(scoring.output, by, classifier), units_file(scoring.output, by)
    said = f" ({refused} of them without an answer: no slice has one)" if refused else ""
    print(f"a row a {by} in {printable(file)}{said}")


def _say(state: PartialState, sentence: str) -> None:
    if state.is_main_process:
        print(sentence, flush=True)


# Before the work


def _prepare(options: argparse.Namespace, device: str) -> tuple[Scoring, Classifier]:
    """Look at everything that can be wrong before a slice is read."""
    from transformers.utils import logging

    from ct_xception.serving.classifier import Classifier

    output = Path(options.output)
    if output.suffix != ".parquet" or output.is_dir():
        raise InputError(f"--output: {printable(output)} is no name of a Parquet file; give FILE.parquet.")
    for name in ("batch_size", "shard_size"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name}: {getattr(options, name)} is too small; give 1 or more.")
    check_slices_per_file(options.slices_per_file)
    if options.window is not None:
        parse_window(options.window)
    logging.disable_progress_bar()
    classifier = Classifier.from_pretrained(options.model, device=device, modality=options.modality)
    work = _list_folder(options) if options.folder else _list_corpus(options, classifier)
    decisive = {name: getattr(options, name) for name in OPTIONS}
    return Scoring(work, _identity(classifier), output, decisive), classifier


def _identity(classifier: Classifier) -> str:
    """What decides a checkpoint's answers: its weights, config and side file."""
    assert classifier.checkpoint is not None
    folder = classifier.checkpoint.folder
    files = [folder / name for name in (CONFIG, WEIGHTS, SIDE_FILE) if (folder / name).is_file()]
    return hashlib.sha256("".join(map(sha256_file, files)).encode()).hexdigest()


def _list_folder(options: argparse.Namespace) -> Work:
    """The readable files of a folder, sorted by name; `source` is the path inside it, and the slice of a volume."""
    folder = Path(options.folder)
    if not folder.is_dir():
        raise InputError(f"--folder: {printable(folder)} is no folder; name one that holds image or DICOM files.")
    found = find_files(folder)
    paths = list(found.files)
    if not paths:
        raise InputError(f"--folder: {printable(folder)} holds no image or DICOM file; name another folder.")
    # To hash every file would be to read it twice: size and time tell whether one was changed since.
    stamps = "\0".join(f"{status.st_size} {status.st_mtime_ns}" for status in map(_status, paths))
    content = hashlib.sha256(stamps.encode()).hexdigest()
    slices = slices_of(paths, options.frame, options.slices_per_file)
    sources = [_name_in(folder, one) for one in slices]
    columns, notes = dict[str, list[str]](), tuple[str, ...]()
    if options.by != SLICE:
        columns[options.by], notes = owners_of_files(slices, sources, options.by)
    without = "; ".join(filter(None, (describe_passed_over(found.counts), *notes)))
    return Work(sources, columns, content, paths=slices, left_out=without)


def _name_in(folder: Path, one: Path | FrameOf) -> str:
    if isinstance(one, FrameOf):
        return f"{_name_in(folder, Path(os.fsdecode(one.file)))}#{one.frame}"
    return printable(one.relative_to(folder).as_posix())


def _status(path: Path) -> os.stat_result:
    """A file's status, or, where it links to nothing, that of the link."""
    return path.stat() if path.exists() else path.lstat()


def _list_corpus(options: argparse.Namespace, classifier: Classifier) -> Work:
    """Every split of a corpus, one after the other, with its labels and groups."""
    from datasets import concatenate_datasets

    assert classifier.checkpoint is not None  # it was loaded from one
    stated = classifier.checkpoint.config.get("tabular")
    reading = replace(_reading_of(options), modality=classifier.contract.modality).with_columns(stated)
    corpus = load_corpus(options.corpus, reading)
    dataset = concatenate_datasets(list(corpus.dataset.values()))
    names = dataset.features["label"].names
    columns = {
        "split": [name for name, part in corpus.dataset.items() for _ in range(len(part))],
        "true_label": [names[index] for index in dataset["label"]],
        "group": [str(group) for group in dataset["group"]],
    }
    if options.by != SLICE:
        columns[options.by] = owners_in_corpus(dataset, corpus.report, options.by)
    return Work([str(source) for source in dataset["source"]], columns, corpus.report["hash"], dataset=dataset,
                left_out=left_out(corpus.report))  # fmt: skip


def _without(work: Work, classifier: Classifier) -> str:
    """What is said where the network takes columns of a table beside the image, and there are none, or not all."""
    names = () if classifier.columns is None else classifier.columns.names
    rows = [work.row(index) or {} for index in range(len(work.sources))] if names and work.dataset is not None else []
    counts = {name: sum(not row.get(name) for row in rows) for name in names} if rows else {}
    told = [f"{name} ({count} of {len(rows)})" for name, count in counts.items() if count] if rows else list(names)
    return f"answered without {printable(', '.join(told))}." if told else ""


def _reading_of(options: argparse.Namespace) -> CorpusOptions:
    return CorpusOptions(frame=options.frame, slices_per_file=options.slices_per_file, decode=False)


def _is_done(scoring: Scoring) -> bool:
    """Whether the output is there, of this very plan. Raises InputError where it is another's."""
    if not scoring.output.exists():
        return False
    from pyarrow import ArrowInvalid, parquet

    try:
        stated = (parquet.read_schema(scoring.output).metadata or {}).get(KEY)
    except (ArrowInvalid, OSError):
        stated = None
    if _plan_in(stated) != scoring.plan:
        raise InputError(
            f"--output: {printable(scoring.output)} exists and holds other answers; name another file, or remove it."
        )
    return True


def _open_shards(scoring: Scoring) -> None:
    """Make the shards' folder, or go on with the one that is there. Raises InputError where it is another plan's."""
    folder, plan = scoring.shards, scoring.shards / PLAN
    if plan.is_file() and _plan_in(plan.read_bytes()) != scoring.plan:
        raise InputError(
            f"{printable(folder)} holds a half-done scoring of another checkpoint, other files or other options; "
            "repeat its command, or remove that folder."
        )
    write_json(plan, scoring.plan)


def _plan_in(text: bytes | None) -> Any:
    """The plan that a text states; None where there is none, or no whole one."""
    try:
        return None if text is None else parse_json(text)
    except ValueError:
        return None


# The work


def _with_bar(scoring: Scoring, missing: Sequence[int], state: PartialState) -> Iterator[int]:
    """This process's shards; the main one shows what all have done, by the shards on disk."""
    from tqdm import tqdm

    total = len(scoring.work.sources)
    with tqdm(total=total, desc="scoring", unit="slice", disable=not state.is_main_process, dynamic_ncols=True) as bar:
        bar.update(total - sum(len(scoring.rows(shard)) for shard in missing))
        for shard in missing[state.process_index :: state.num_processes]:
            yield shard
            left = sum(len(scoring.rows(one)) for one in missing if not scoring.path(one).is_file())
            bar.update(total - left - bar.n)


def _write_shard(scoring: Scoring, classifier: Classifier, shard: int) -> None:
    """Answer the slices of one shard. Its batches are the same whoever does it, so its figures are, too."""
    from pyarrow import parquet

    rows = scoring.rows(shard)
    answers = list(_answers(scoring, classifier, rows))
    table = _table(scoring, classifier, rows, answers)
    with atomic_path(scoring.path(shard)) as temporary:
        parquet.write_table(table, temporary)


def _answers(scoring: Scoring, classifier: Classifier, rows: range) -> Iterator[Prediction | SliceError]:
    from ct_xception.serving.classifier import with_row

    given, size = scoring.options["window"], scoring.options["batch_size"]
    how = {"window": None if given is None else parse_window(given), "frame": scoring.options["frame"]}
    work = scoring.work
    read = (
        with_row(try_read(classifier.read, work.item(row), name=work.sources[row], **how), work.row(row))
        for row in rows
    )
    return classifier.predict_many(read, batch_size=size)


def _table(
    scoring: Scoring, classifier: Classifier, rows: range, answers: Sequence[Prediction | SliceError]
) -> pyarrow.Table:
    """A row a slice: source, the corpus's own columns, label, p CLASS for each, what rules and gate say, refused.

    `label` and all figures are null where `refused` holds the reader's reason, or the input gate's.
    """
    import pyarrow

    text, number = pyarrow.string(), pyarrow.float64()
    read = [None if isinstance(answer, SliceError) else answer for answer in answers]
    known = [None if answer is None or answer.refusal else answer for answer in read]
    gates = [answer and answer.gate for answer in read]
    columns: dict[str, Any] = {"source": pyarrow.array([scoring.work.sources[row] for row in rows], text)}
    for name, values in scoring.work.columns.items():
        columns[name] = pyarrow.array([values[row] for row in rows], text)
    columns["label"] = pyarrow.array([answer and answer.label for answer in known], text)
    for name in classifier.label_names:
        columns[f"p {name}"] = pyarrow.array([answer and answer.probabilities[name] for answer in known], number)
    sets = [None if answer is None else answer.prediction_set for answer in known]
    columns["prediction_set"] = pyarrow.array([None if one is None else "; ".join(one) for one in sets], text)
    columns["abstained"] = pyarrow.array([answer and answer.abstained for answer in known], pyarrow.bool_())
    columns["gate"] = pyarrow.array([gate and gate.verdict for gate in gates], text)
    columns["gate_reasons"] = pyarrow.array([gate and "; ".join(gate.reasons) for gate in gates], text)
    if classifier.attention is not None:
        columns["attention"] = pyarrow.array([answer and answer.attention for answer in known], number)
    columns["notes"] = pyarrow.array([answer and "; ".join(answer.notes) for answer in read], text)
    columns["refused"] = pyarrow.array([_why_refused(answer) for answer in answers], text)
    return pyarrow.table(columns)


def _why_refused(answer: Prediction | SliceError) -> str | None:
    if isinstance(answer, SliceError):
        return str(answer)
    return f"refused by the input gate: {'; '.join(answer.refusal)}" if answer.refusal else None


# After the work


def _join(scoring: Scoring) -> None:
    """One file of all shards, in order, one in memory at a time; then the shards go."""
    from pyarrow import parquet

    schema = parquet.read_schema(scoring.path(0))
    schema = schema.with_metadata({KEY: dump_json(scoring.plan).encode(), b"notice": RESEARCH_USE.encode()})
    with atomic_path(scoring.output) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for shard in range(scoring.count):
            writer.write_table(parquet.read_table(scoring.path(shard)).replace_schema_metadata(schema.metadata))
    for shard in range(scoring.count):
        scoring.path(shard).unlink()
    (scoring.shards / PLAN).unlink()


def _refused(scoring: Scoring) -> int:
    """How many rows of the finished output have no answer."""
    from pyarrow import parquet

    said = parquet.read_table(scoring.output, columns=["refused"])["refused"]
    return len(said) - said.null_count


def _report(scoring: Scoring, scored: int, seconds: float, processes: int) -> None:
    refused = _refused(scoring)
    workers = "1 process" if processes == 1 else f"{processes} processes"
    print(f"{scored} slices in {seconds:.1f} s: {scored / max(seconds, 1e-9):.1f} slices/s, {workers}.")
    if refused:
        print(f"{refused} of {len(scoring.work.sources)} refused; the column refused says why.")
    print(f"written to {printable(scoring.output)}")
    print(RESEARCH_USE, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
