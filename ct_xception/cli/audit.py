"""Look for what would make a corpus's figures lie.

Look for duplicates, leaks between splits, contradicting labels, shortcuts and foreign images, and write audit.html (a
page with the images, to be opened offline) and audit.json. With --against, another corpus is held against it: what both
have, in what their images differ, and what of that is likely to move answers.

With --next N and --checkpoint it also says which slices to label next: those that the checkpoint is unsure of, unlike
one another, and few of a patient. They stand on the page and in next.csv. Slices without any label are taken with
--unlabelled: then the corpus is files, folders, zips or a table of paths, and nothing else can be audited.

examples:
  ct-xception audit DIR
  ct-xception audit table.csv --image_column file --label_column diagnosis --strict
  ct-xception audit phantom:plant=leaks+brightness --output found
  ct-xception audit DIR --against OTHER --checkpoint runs/phantom/model
  ct-xception audit DIR --write-split repaired && ct-xception train --corpus repaired/split.csv
  ct-xception audit scans --unlabelled --next 40 --checkpoint runs/mine/model --output to_label
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ct_xception.cli.arguments import add_corpus, check_goes_with, corpus_options, load_classifier, pairs, window_of
from ct_xception.command_line import DONE, FAILED, Parser, complain
from ct_xception.errors import InputError, printable
from ct_xception.text import RESEARCH_USE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct_xception.audit.report import Audit
    from ct_xception.corpus.listing import CorpusOptions
    from ct_xception.corpus.load import Corpus
    from ct_xception.evaluation.shift.next_labels import NextLabels
    from ct_xception.evaluation.shift.site_slices import Waiting

TABLE = "next.csv"
OPTION = "--against_options"
PREFIX = f"{OPTION} "


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
    parser.add_argument("corpus", metavar="CORPUS", help="folder, CSV or Parquet table, Hub dataset id, or phantom")
    parser.add_argument("-o", "--output", default="audit", metavar="DIR", help="default: audit")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a finding is critical")
    parser.add_argument(
        "--write-split",
        metavar="NEWDIR",
        help="write the leak-free split: split.csv to train on, reasons.csv, and links to the images in folders",
    )
    parser.add_argument("--copy", action="store_true", help="with --write-split: copies of the images, not links")
    parser.add_argument("--against", metavar="OTHER", help="another corpus: what both have, and how they differ")
    help_ = "how OTHER is to be read, where not as CORPUS: label_column=diagnosis image_root=DIR and so on"
    parser.add_argument(OPTION, nargs="+", action="extend", default=[], metavar="OPTION=VALUE", help=help_)
    help_ = "which N slices to label next, by --checkpoint: on the page, and in next.csv"
    parser.add_argument("--next", type=int, metavar="N", help=help_)
    help_ = "with --against: compare what this network sees and answers as well; with --next: default the newest run's"
    parser.add_argument("--checkpoint", metavar="DIR|ID", help=help_)
    help_ = "with --next: of one patient no more (default: 1)"
    parser.add_argument("--most_each", type=int, default=1, metavar="K", help=help_)
    parser.add_argument(
        "--unlabelled", action="store_true", help="with --next: CORPUS has no labels, or none to look at"
    )
    parser.add_argument(
        "--patients", metavar="TABLE", help="with --unlabelled: whose the slices are, by path and patient"
    )
    add_corpus(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of folds and intervals (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    output = Path(arguments.output)
    if output.exists() and not output.is_dir():
        raise InputError(f"--output: {printable(output)} is a file; name a folder.")
    _check_next(arguments)
    return _list_next(arguments, output) if arguments.unlabelled else _audit(arguments, output)


def _check_next(arguments: argparse.Namespace) -> None:
    """Raise InputError for options that do not go together."""
    check_goes_with(arguments, "against_options", "against")
    if arguments.next is None:
        if arguments.unlabelled:
            raise InputError("--unlabelled: goes with --next; give both, or neither.")
        if arguments.checkpoint and not arguments.against:
            raise InputError("--checkpoint: goes with --against or --next; give one of them, or neither.")
    elif min(arguments.next, arguments.most_each) < 1:
        raise InputError("--next, --most_each: give 1 or more.")
    if arguments.patients and not arguments.unlabelled:
        raise InputError("--patients: goes with --unlabelled; a corpus names its patients itself (--group_column).")
    if arguments.unlabelled and (arguments.strict or arguments.write_split or arguments.against):
        raise InputError(
            "--unlabelled: without labels nothing is audited; leave --strict, --write-split and --against out."
        )


def _list_next(arguments: argparse.Namespace, output: Path) -> int:
    """The slices to label next, alone: an audit needs labels."""
    from ct_xception.files import write_atomically
    from ct_xception.pipeline.unlabelled import list_unlabelled

    options = corpus_options(arguments, window_of(arguments))
    waiting, notes = list_unlabelled([arguments.corpus], "CORPUS", options, arguments.patients)
    for note in notes:
        complain("ct-xception", f"{note}.")
    chosen = _choose(arguments, waiting)
    chosen.write(output)
    write_atomically(output / "audit.html", chosen.page(printable(Path(arguments.corpus).name)))
    print("\n".join(chosen.lines()))
    print(f"written to {printable(output)}/: audit.html, {TABLE}")
    print(RESEARCH_USE, file=sys.stderr)
    return DONE


def _choose(arguments: argparse.Namespace, waiting: Sequence[Waiting]) -> NextLabels:
    from ct_xception.evaluation.shift.next_labels import choose_slices

    classifier = load_classifier(arguments.checkpoint, modality=arguments.modality)
    return choose_slices(
        classifier,
        waiting,
        arguments.next,
        most_each=arguments.most_each,
        window=window_of(arguments),
        progress="slices" if sys.stderr.isatty() else None,
    )


def _audit(arguments: argparse.Namespace, output: Path) -> int:
    from dataclasses import replace

    from ct_xception.audit.against import audit_against
    from ct_xception.audit.audit import audit_corpus, audit_summary, write_audit
    from ct_xception.audit.repair import check_new
    from ct_xception.corpus.load import load_corpus
    from ct_xception.evaluation.shift.site_slices import list_items

    if arguments.write_split:
        check_new(arguments.write_split)
    elif arguments.copy:
        raise InputError("--copy: there is nothing to copy; name a folder with --write-split.")
    window = window_of(arguments)
    # The survey reads every file and lists the damaged ones: loading need not decode them too.
    options = replace(corpus_options(arguments, window), decode=False)
    theirs = _options_of_other(options, arguments.against_options)
    corpus = load_corpus(arguments.corpus, options)
    other = None if arguments.against is None else _load_other(arguments.against, theirs)
    audit = audit_corpus(corpus, window=window, frame=arguments.frame, seed=arguments.seed)
    chosen = None if arguments.next is None else _choose(arguments, list_items(corpus, arguments.frame))
    if other is not None:
        audit = audit_against(audit, other, options=theirs, checkpoint=arguments.checkpoint, seed=arguments.seed)
    write_audit(audit, output, chosen.section() if chosen else "")
    print(audit_summary(audit, shutil.get_terminal_size().columns))
    if chosen:
        chosen.write(output)
        print("\n".join(chosen.lines()))
    print(f"written to {printable(output)}/: audit.html, audit.json{f', {TABLE}' if chosen else ''}")
    if arguments.write_split:
        _write_repaired(audit, arguments)
    return FAILED if arguments.strict and audit.counts["critical"] else DONE


def _options_of_other(options: CorpusOptions, given: Sequence[str]) -> CorpusOptions:
    """How OTHER is to be read: as CORPUS is, but for what --against_options says. Raises InputError."""
    from dataclasses import replace

    from ct_xception.corpus.external_options import read_fields

    return replace(options.for_external("against"), **read_fields(pairs(given, OPTION), PREFIX))


def _load_other(source: str, options: CorpusOptions) -> Corpus:
    from ct_xception.corpus.external_options import told_of
    from ct_xception.corpus.load import load_corpus

    with told_of("--against", PREFIX):
        return load_corpus(source, options)


def _write_repaired(audit: Audit, arguments: argparse.Namespace) -> None:
    """Write the leak-free split, and say so."""
    from ct_xception.audit.repair import IMAGES, REASONS, SPLIT_TABLE, write_split

    repaired = write_split(audit, arguments.write_split, copy=arguments.copy, seed=arguments.seed)
    written = f"{printable(arguments.write_split)}/: {SPLIT_TABLE}, {REASONS}, {IMAGES}"
    print(f"written to {written}: {repaired.summary()}")
