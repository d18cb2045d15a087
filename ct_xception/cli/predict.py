"""Answer image, DICOM or NIfTI files, folders and zips of them.

Answer image, DICOM or NIfTI files: a table on a terminal, tab-separated columns in a pipe, or JSON. A file of several
frames or slices is answered slice by slice, and with --by series or --by patient all slices of one together. Files
that cannot be read right, or that the checkpoint's input gate refuses, are listed, one line each; exit code 2 where all
are refused, 3 where some are.

examples:
  ct-xception predict slice.dcm scans/ series.zip --model runs/phantom/model
  ct-xception predict scan.png --model user/repo@v1 --json
  ct-xception predict scans/ --runtime onnx-int8 --window lung
  ct-xception predict scans/ --by patient --patients slices.csv
  ct-xception predict scans/ --table patients.csv
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.cli import PROGRAM
from ct_xception.cli.arguments import (
    add_checkpoint,
    add_no_gate,
    add_reading,
    add_runtime,
    add_table,
    load_classifier,
    rows_of,
    window_of,
)
from ct_xception.command_line import BAD_INPUT, DONE, SOME_REFUSED, Parser, complain
from ct_xception.errors import InputError, SliceError, printable
from ct_xception.text import RESEARCH_USE

if TYPE_CHECKING:
    from ct_xception.imaging.windows import Window
    from ct_xception.serving.classifier import Classifier, Prediction
    from ct_xception.serving.patients import UnitAnswer
    from ct_xception.serving.series import Member


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
    parser.add_argument("inputs", nargs="+", metavar="FILE|FOLDER|ZIP", help="folders are searched in depth")
    add_checkpoint(parser, "--model")
    add_reading(parser)
    add_runtime(parser)
    add_no_gate(parser)
    parser.add_argument("--json", action="store_true", help="JSON: an object for one FILE, a list otherwise")
    help_ = "one answer each: of its slices together for a series or patient (default: slice)"
    parser.add_argument("--by", choices=("slice", "series", "patient"), default="slice", help=help_)
    help_ = "with --by: a table of path and patient (or series), where the files do not tell"
    parser.add_argument("--patients", metavar="TABLE", help=help_)
    add_table(parser)
    parser.add_argument("--batch_size", type=int, default=8, metavar="N", help="slices at a time (default: 8)")


def run(arguments: argparse.Namespace) -> int:
    window, tally = window_of(arguments), _Tally()
    if arguments.patients and arguments.by == "slice":
        raise InputError("--patients: goes with --by patient or --by series; give both, or neither.")
    files = list(_find_files(arguments.inputs, tally))
    if files and arguments.by != "slice":
        _answer_units(files, arguments, window, tally)
    elif files:
        from ct_xception.imaging.reader import try_read

        classifier = load_classifier(
            arguments.model, arguments.runtime, overrule_gate=arguments.no_gate, modality=arguments.modality
        )
        classifier.watch_set()
        members = _with_rows(
            _members_of(files, arguments.frame, tally), rows_of(arguments.table, classifier), told=bool(arguments.table)
        )
        first = list(itertools.islice(members, 2))
        slices = (try_read(member.read, classifier, window) for member in itertools.chain(first, members))
        answers = _accept(classifier.predict_many(slices, batch_size=arguments.batch_size), tally)
        single = len(arguments.inputs) == len(first) == 1 and not Path(arguments.inputs[0]).is_dir()
        for line in _render(answers, files, classifier, arguments, single=single):
            print(line, flush=True)
        _say_of_the_set(classifier)
        print(RESEARCH_USE, file=sys.stderr)
    if tally.refused and tally.total > 1:
        print(f"{tally.refused} of {tally.total} inputs refused.", file=sys.stderr)
    return DONE if not tally.refused else BAD_INPUT if tally.refused == tally.total else SOME_REFUSED


def _say_of_the_set(classifier: Classifier) -> None:
    """What the slices are as a set, where there are enough of them and the checkpoint can tell."""
    verdict = None if classifier.watch is None else classifier.watch.verdict()
    if verdict is not None and verdict.unlike:
        complain(PROGRAM, f"warning: {verdict}.")
    elif verdict is not None:
        print(f"{verdict}.", file=sys.stderr)
    if (hint := classifier.window_hint) is not None:
        complain(PROGRAM, f"warning: {hint}.")


def _answer_units(files: Sequence[Path], arguments: argparse.Namespace, window: Window | None, tally: _Tally) -> None:
    """Answer each series or patient, and print the answers."""
    from ct_xception.pipeline.owners import read_owners
    from ct_xception.serving.patients import answer_units
    from ct_xception.serving.series import gather_units

    owners = None if arguments.patients is None else read_owners(Path(arguments.patients), arguments.by)
    classifier = load_classifier(
        arguments.model, arguments.runtime, overrule_gate=arguments.no_gate, modality=arguments.modality
    )
    classifier.watch_set()
    rows = rows_of(arguments.table, classifier)
    members = list(_with_rows(_members_of(files, arguments.frame, tally), rows, told=bool(arguments.table)))
    units, notes = gather_units(members, arguments.by, owners)
    for note in notes:
        complain(PROGRAM, f"{note}.")
    answers = _count_units(answer_units(classifier, units, window=window), tally)
    for line in _render_units(answers, classifier, arguments, single=len(units) == 1):
        print(line, flush=True)
    _say_of_the_set(classifier)
    print(RESEARCH_USE, file=sys.stderr)


def _count_units(answers: Iterable[UnitAnswer], tally: _Tally) -> Iterator[UnitAnswer]:
    """The answers, each slice counted; those without a vote are said, but where a terminal shows them."""
    for answer in answers:
        tally.total, tally.refused = tally.total + len(answer.slices), tally.refused + len(answer.left_out)
        if not sys.stdout.isatty():
            for name, why in answer.left_out:
                complain(PROGRAM, f"{name}: {why.removeprefix(f'{name}: ')}")
            _say_doubts(answer.doubts)
        yield answer


def _say_doubts(doubts: Iterable[tuple[str, str]]) -> None:
    """What the reader doubts of slices that are answered, however their answers are shown."""
    for name, doubt in doubts:
        complain(PROGRAM, f"{name}: answered, but {doubt}.")


def _render_units(
    answers: Iterator[UnitAnswer], classifier: Classifier, arguments: argparse.Namespace, *, single: bool
) -> Iterator[str]:
    from ct_xception.serving import unit_text

    pooling, by = classifier.decisions.pooling, arguments.by
    if arguments.json:
        return unit_text.json_units(answers, by, pooling, classifier.name)
    if not sys.stdout.isatty():
        return unit_text.unit_columns(answers, by, classifier.label_names, pooling)
    if single:
        return unit_text.unit_bars(answers, pooling)
    return unit_text.unit_table(answers, by, classifier.label_names, shutil.get_terminal_size().columns)


class _Tally:
    """How many inputs there were, and how many of them the reader or the input gate refused."""

    def __init__(self) -> None:
        self.total, self.refused = 0, 0

    def refuse(self, error: SliceError) -> None:
        """Count a refused input, and say so."""
        self.total, self.refused = self.total + 1, self.refused + 1
        complain(PROGRAM, str(error))


def _find_files(inputs: Sequence[str], tally: _Tally) -> Iterator[Path]:
    """The files named, and the readable ones in the folders named, sorted; what is neither is refused."""
    from ct_xception.imaging.source import ADDRESSES, describe_passed_over, find_files

    for name in inputs:
        path = Path(name)
        if path.is_dir():
            found = find_files(path)
            yield from found.files
            if found.passed_over:
                complain(PROGRAM, f"{printable(path)}: left out: {describe_passed_over(found.counts)}.")
            if not found.files:
                tally.refuse(SliceError(path, "the folder holds no image or DICOM file", "name another folder"))
        elif path.exists():
            yield path
        elif name.startswith(ADDRESSES):
            tally.refuse(SliceError(name, "an address, not a file", "download it first"))
        else:
            tally.refuse(SliceError(path, "no such file or folder", "check the name"))


def _members_of(files: Sequence[Path], frame: int | None, tally: _Tally) -> Iterator[Member]:
    """The slices of each file; of all its frames only `frame`, where that is given. A zip stays open meanwhile."""
    from ct_xception.serving.archive import hold_all, is_archive
    from ct_xception.serving.series import Member, slices_in

    for path in files:
        name = printable(path)
        if frame is not None and not is_archive(path):
            yield Member(name, path, frame=frame)
            continue
        try:
            members, notes = slices_in(path, name)
        except SliceError as error:
            tally.refuse(error)
            continue
        for note in notes:
            complain(PROGRAM, f"{note}.")
        with hold_all(member.archive for member in members):
            yield from (member for member in members if frame in (None, member.frame or 0))


def _with_rows(
    members: Iterable[Member], rows: Callable[[Member], Mapping[str, Any] | None], *, told: bool
) -> Iterator[Member]:
    """The slices with what --table says of them; at the end, where it was given (`told`), how many it does not name."""
    count, unnamed = 0, 0
    for member in members:
        row = rows(member)
        count, unnamed = count + 1, unnamed + (row is None)
        yield member if row is None else replace(member, tabular=row)
    if told and unnamed:
        complain(PROGRAM, f"--table names {count - unnamed} of {count} slices; the others are answered without it.")


def _accept(answers: Iterable[Prediction | SliceError], tally: _Tally) -> Iterator[Prediction]:
    """What can be shown: answers, and what the input gate refused, which a terminal shows in a row of its own."""
    from ct_xception.imaging.slice import doubts_in

    for answer in answers:
        if isinstance(answer, SliceError):
            tally.refuse(answer)
            continue
        if answer.refusal and not sys.stdout.isatty():
            why = f"refused by the input gate ({'; '.join(answer.refusal)})"
            complain(PROGRAM, f"{answer.source}: {why}; --no-gate answers it all the same.")
        elif not answer.refusal:
            _say_doubts((answer.source, doubt) for doubt in doubts_in(answer.notes))
        tally.total, tally.refused = tally.total + 1, tally.refused + bool(answer.refusal)
        yield answer


def _render(
    predictions: Iterator[Prediction],
    paths: Sequence[Path],
    classifier: Classifier,
    arguments: argparse.Namespace,
    *,
    single: bool,
) -> Iterator[str]:
    """Lines for stdout, in the form that the options and the terminal ask for."""
    from ct_xception.serving import text

    gated = classifier.gate is not None
    if arguments.json:
        return (text.json_object if single else text.json_list)(predictions, classifier.name)
    if not sys.stdout.isatty():
        return text.tab_separated(predictions, classifier.label_names, classifier.decisions, gated=gated)
    if single:
        return text.bars(predictions)
    sources = [printable(path) for path in paths]
    columns = shutil.get_terminal_size().columns
    return text.table(predictions, sources, classifier.label_names, columns, classifier.decisions, gated=gated)
