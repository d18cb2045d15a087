"""Answer image or DICOM files, or folders of them.

Answer image or DICOM files: a table on a terminal, tab-separated columns in a pipe, or JSON. Files that cannot be read
right are listed on stderr, one line each.

examples:
  ct-xception predict slice.dcm scans/ --model runs/phantom/model
  ct-xception predict scan.png --model user/repo@v1 --json
  ct-xception predict scans/ --runtime onnx-int8 --window lung
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ct_xception.cli import PROGRAM
from ct_xception.cli.arguments import (
    add_checkpoint,
    add_no_gate,
    add_reading,
    add_runtime,
    load_classifier,
    window_of,
)
from ct_xception.command_line import BAD_INPUT, DONE, SOME_REFUSED, Parser, complain
from ct_xception.errors import SliceError, printable
from ct_xception.text import RESEARCH_USE

if TYPE_CHECKING:
    from ct_xception.serving.classifier import Classifier, Prediction


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
    parser.add_argument("inputs", nargs="+", metavar="FILE|FOLDER", help="folders are searched in depth")
    add_checkpoint(parser, "--model")
    add_reading(parser)
    add_runtime(parser)
    add_no_gate(parser)
    parser.add_argument("--json", action="store_true", help="JSON: an object for one FILE, a list otherwise")
    parser.add_argument("--batch_size", type=int, default=8, metavar="N", help="slices at a time (default: 8)")


def run(arguments: argparse.Namespace) -> int:
    window, refused = window_of(arguments), list[SliceError]()
    paths = list(_find_files(arguments.inputs, refused))
    total = len(paths) + len(refused)
    if paths:
        classifier = load_classifier(arguments.model, arguments.runtime, gate=not arguments.no_gate)
        answers = classifier.predict_many(paths, window=window, frame=arguments.frame, batch_size=arguments.batch_size)
        for line in _render(_accept(answers, refused), paths, classifier, arguments):
            print(line, flush=True)
        print(RESEARCH_USE, file=sys.stderr)
    if refused and total > 1:
        print(f"{len(refused)} of {total} inputs refused.", file=sys.stderr)
    return DONE if not refused else BAD_INPUT if len(refused) == total else SOME_REFUSED


def _find_files(inputs: Sequence[str], refused: list[SliceError]) -> Iterator[Path]:
    """The files named, and the readable ones in the folders named, sorted; what is neither goes to `refused`."""
    from ct_xception.imaging.source import describe_passed_over, find_files

    for name in inputs:
        path = Path(name)
        if path.is_dir():
            found = find_files(path)
            yield from found.files
            if found.passed_over:
                complain(PROGRAM, f"{printable(path)}: left out: {describe_passed_over(found.counts)}.")
            if not found.files:
                _refuse(SliceError(path, "the folder holds no image or DICOM file", "name another folder"), refused)
        elif path.exists():
            yield path
        else:
            _refuse(SliceError(path, "no such file or folder", "check the name"), refused)


def _accept(answers: Iterable[Prediction | SliceError], refused: list[SliceError]) -> Iterator[Prediction]:
    for answer in answers:
        if isinstance(answer, SliceError):
            _refuse(answer, refused)
        else:
            yield answer


def _refuse(error: SliceError, refused: list[SliceError]) -> None:
    refused.append(error)
    complain(PROGRAM, str(error))


def _render(
    predictions: Iterator[Prediction], paths: Sequence[Path], classifier: Classifier, arguments: argparse.Namespace
) -> Iterator[str]:
    """Lines for stdout, in the form that the options and the terminal ask for."""
    from ct_xception.serving import text

    single = len(arguments.inputs) == 1 and not Path(arguments.inputs[0]).is_dir()
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
