"""Compare two checkpoints: their evaluations on the same items, or their answers to files.

Compare the accuracies of two checkpoints from their evaluation folders: a paired bootstrap by group, and McNemar's
exact test. Evaluations of different items are refused. With --on, two checkpoints answer the same files instead, side
by side; which of them is right is not known then.

examples:
  ct-xception compare runs/a/model/evaluation runs/b/model/evaluation
  ct-xception compare runs/a runs/b --protocol grouped
  ct-xception compare first second --without_twins --json
  ct-xception compare runs/a/model runs/b/model --on slice.dcm scans/
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.cli import PROGRAM
from ct_xception.command_line import BAD_INPUT, DONE, SOME_REFUSED, Parser, complain
from ct_xception.errors import SliceError, printable

if TYPE_CHECKING:
    from ct_xception.imaging.slice import Slice
    from ct_xception.serving.comparison import Comparison
    from ct_xception.serving.series import Member


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
    help_ = "folder with metrics.json and predictions.parquet, a checkpoint or a run; with --on a checkpoint"
    parser.add_argument("first", metavar="EVALUATION_A", help=help_)
    parser.add_argument("second", metavar="EVALUATION_B", help="another one, of the same split")
    parser.add_argument("--on", nargs="+", metavar="FILE|FOLDER|ZIP", help="let two checkpoints answer these")
    parser.add_argument("--path", choices=("predictor", "stock_pipeline"), default="predictor", help="whose answers")
    help_ = "answers to the test split, or of the cross-validation (default: published)"
    parser.add_argument("--protocol", choices=("published", "grouped"), default="published", help=help_)
    parser.add_argument("--without_twins", action="store_true", help="leave out items with a twin in training")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the intervals (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    return _compare_answers(arguments) if arguments.on else _compare_evaluations(arguments)


def _compare_evaluations(arguments: argparse.Namespace) -> int:
    from ct_xception.files import dump_json
    from ct_xception.statistics.comparison import compare_evaluations, describe_comparison

    options = {name: getattr(arguments, name) for name in ("path", "protocol", "without_twins", "seed")}
    found = compare_evaluations(arguments.first, arguments.second, **options)
    if arguments.json:
        print(dump_json(found.to_json(), indent=2))
    else:
        print(*describe_comparison(found, printable(arguments.first), printable(arguments.second)), sep="\n")
    return DONE


def _compare_answers(arguments: argparse.Namespace) -> int:
    """Both answers to each slice, and how often they agree."""
    from ct_xception.files import dump_json

    unread = 0
    shown: list[tuple[str, Comparison]] = []
    for one in _answers(arguments):
        if isinstance(one, SliceError):
            unread += 1
            complain(PROGRAM, str(one))
            continue
        shown.append(one)
        for doubt in one[1].doubts:
            complain(PROGRAM, f"{one[0]}: answered, but {doubt}.")
        if not arguments.json:
            print(f"{one[0]}: {one[1].sentence}", flush=True)
    if arguments.json:
        print(dump_json([{"source": source, **found.to_dict()} for source, found in shown], indent=2))
    elif len(shown) > 1:
        told = [found.agree for _, found in shown if found.agree is not None]
        print(f"They agree on {sum(told)} of {len(told)} slices that both answer, of {len(shown)}.")
    answered = sum(found.first is not None or found.second is not None for _, found in shown)
    return DONE if answered == len(shown) + unread else SOME_REFUSED if answered else BAD_INPUT


def _answers(arguments: argparse.Namespace) -> Iterator[tuple[str, Comparison] | SliceError]:
    from ct_xception.cli.arguments import load_classifier, sentence_without
    from ct_xception.serving.comparison import compare, short_names

    models = [load_classifier(name) for name in (arguments.first, arguments.second)]
    names = short_names(arguments.first, arguments.second)
    for said in filter(None, map(sentence_without, models)):
        print(said, file=sys.stderr)
    for member in _members(arguments.on):
        if isinstance(member, SliceError):
            yield member
            continue
        try:
            first, second = (model(_read(member, model)) for model in models)
        except SliceError as error:
            yield error
            continue
        yield member.name, compare(first, second, names)


def _read(member: Member, model: Any) -> Slice:
    found: Slice = member.read(model)
    return found


def _members(inputs: list[str]) -> Iterator[Member | SliceError]:
    """Every slice of the files, folders and zips."""
    from ct_xception.imaging.source import find_files
    from ct_xception.serving.archive import hold_all
    from ct_xception.serving.series import slices_in

    for path in map(Path, inputs):
        if not path.exists():
            yield SliceError(path, "no such file or folder", "check the name")
        for file in find_files(path).files if path.is_dir() else [path] * path.exists():
            try:
                members, _ = slices_in(file, printable(file))
            except SliceError as error:
                yield error
                continue
            with hold_all(member.archive for member in members):
                yield from members
