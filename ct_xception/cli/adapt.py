"""Fit a checkpoint to a new site's slices, without labels.

Estimate the means and variances of the batch norms anew on the site's slices, mixed with training's (Schneider et al.
2020), fit the input gate to them, and estimate the site's mix of classes (Saerens et al. 2002), which is used only with
--use_prior. The result is written as a new version, with its record and card, only if it is shown to help: with
--check, by the log-loss on labelled cases of the site (20 patients at least, 5 a class), to which the rules of deciding
are fitted as well; else by a proxy, whether answers hold when scanner noise, kernel, window and encoding change, and
then no sets and no operating points are promised. Exit code 1, and nothing written, where it is not.

examples:
  ct-xception adapt runs/mine/model --to scans --output_dir runs/clinic
  ct-xception adapt runs/mine/model --to scans --patients scans.csv --check labelled.csv --output_dir runs/clinic
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ct_xception.cli.arguments import add_corpus, checkpoint_of, corpus_options, hide_loading_bars, window_of
from ct_xception.cli.recalibrate import add_writing, load_labelled, reading_of, report
from ct_xception.command_line import DONE, Parser, complain


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder or Hub id (user/repo[@revision])")
    help_ = "the site's slices: files, folders, zips, a table of paths (and patients), a Hub dataset id, or phantom"
    parser.add_argument("--to", nargs="+", required=True, metavar="UNLABELLED", help=help_)
    help_ = "labelled cases of the site, by which the adapted network is kept or not; its classes are the checkpoint's"
    parser.add_argument("--check", metavar="LABELLED", help=help_)
    parser.add_argument("--patients", metavar="TABLE", help="whose the slices are: a table of path and patient")
    parser.add_argument("--use_prior", action="store_true", help="answer by the mix of classes estimated at the site")
    help_ = "patients of the site that training's statistics are worth in the mixture (default: 16)"
    parser.add_argument("--source_size", type=float, default=16.0, metavar="N", help=help_)
    add_writing(parser)
    add_corpus(parser)


def run(arguments: argparse.Namespace) -> int:
    from ct_xception.pipeline.sites import adapt
    from ct_xception.pipeline.unlabelled import list_unlabelled
    from ct_xception.publish.imported import check_new_folder

    check_new_folder(Path(arguments.output_dir), "--output_dir")
    checkpoint = checkpoint_of(arguments.checkpoint)
    hide_loading_bars()
    options = corpus_options(arguments, window_of(arguments))
    waiting, notes = list_unlabelled(arguments.to, "--to", options, arguments.patients)
    for note in notes:
        complain("ct-xception", f"{note}.")
    check = None if arguments.check is None else load_labelled(arguments, checkpoint, arguments.check, "--check")
    report(
        adapt(
            checkpoint,
            waiting,
            Path(arguments.output_dir),
            name=Path(arguments.to[0]).name,
            check=check,
            use_prior=arguments.use_prior,
            source_size=arguments.source_size,
            coverage=arguments.coverage,
            reading=reading_of(arguments, "adapt"),
        )
    )
    return DONE
