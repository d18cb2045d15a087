"""Fit a checkpoint's rules to a few labelled cases of a new site.

Fit temperature, operating points, sets of classes, abstention and the pooling of a patient's slices anew, patients
whole, and write a new version of the checkpoint with its record and card. The weights stay as they are, byte for byte.
What the new rules are worth is measured on cases that they were not fitted on, beside the old rules, with 95 %
intervals. At least 20 patients with labels are needed. Exit code 1, and nothing written, where the new rules are worse.

examples:
  ct-xception recalibrate runs/mine/model --with clinic.csv --output_dir runs/clinic
  ct-xception recalibrate user/repo@v1 --with DIR --class_map malignant=cancer --coverage 0.9 --output_dir runs/clinic
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ct_xception.cli.arguments import add_corpus, checkpoint_of, corpus_options, hide_loading_bars, window_of
from ct_xception.command_line import DONE, Parser
from ct_xception.errors import InputError, printable
from ct_xception.text import RESEARCH_USE

if TYPE_CHECKING:
    from ct_xception.corpus.load import Corpus
    from ct_xception.pipeline.sites import Reading, Told


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder or Hub id (user/repo[@revision])")
    help_ = "labelled cases of the site: a folder, table, Hub dataset id, or phantom; its classes are the checkpoint's"
    parser.add_argument("--with", dest="labelled", required=True, metavar="LABELLED", help=help_)
    add_writing(parser)
    add_corpus(parser)


def add_writing(parser: Parser) -> None:
    """Where a version goes, and how its rules are fitted."""
    help_ = "a new folder for the new version"
    parser.add_argument("--output_dir", required=True, metavar="NEW", help=help_)
    help_ = "of sets of classes (default: the checkpoint's own, else 0.95)"
    parser.add_argument("--coverage", type=float, metavar="SHARE", help=help_)
    parser.add_argument("--batch_size", type=int, default=16, metavar="N", help="default: 16")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of folds and intervals (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    from ct_xception.pipeline.sites import recalibrate

    checkpoint = checkpoint_of(arguments.checkpoint)
    hide_loading_bars()
    corpus = load_labelled(arguments, checkpoint, arguments.labelled, "--with")
    report(
        recalibrate(
            checkpoint,
            corpus,
            Path(arguments.output_dir),
            coverage=arguments.coverage,
            reading=reading_of(arguments, "recalibrate"),
        )
    )
    return DONE


def load_labelled(arguments: argparse.Namespace, checkpoint: str, source: str, option: str) -> Corpus:
    """The labelled cases, read as the checkpoint's images are."""
    from ct_xception.corpus.load import load_corpus
    from ct_xception.errors import CorpusError
    from ct_xception.serving.checkpoint import open_checkpoint

    found = open_checkpoint(checkpoint)
    modality = found.contract.told(arguments.modality, found.name).modality
    try:
        return load_corpus(source, corpus_options(arguments, window_of(arguments), modality))
    except CorpusError as error:
        raise CorpusError([f"{option}: {problem}" for problem in error.problems]) from error


def reading_of(arguments: argparse.Namespace, command: str) -> Reading:
    """How the site's files are read."""
    from ct_xception.pipeline.run import command_record
    from ct_xception.pipeline.sites import Reading

    if arguments.batch_size < 1:
        raise InputError(f"--batch_size: {arguments.batch_size} is too small; give 1 or more.")
    return Reading(
        window_of(arguments),
        arguments.frame,
        arguments.batch_size,
        sys.stderr.isatty(),
        arguments.seed,
        command_record(("ct-xception", command), arguments.words),
    )


def report(told: Told) -> None:
    """What was written, and what it is worth."""
    print("\n".join(told.lines))
    print(
        f"checkpoint: {printable(told.folder)}   (a new version; its card says what is the parent's and what its own)"
    )
    print(RESEARCH_USE, file=sys.stderr)
