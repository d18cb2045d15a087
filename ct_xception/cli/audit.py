"""Look for what would make a corpus's figures lie.

Look for duplicates, leaks between splits, contradicting labels, shortcuts and foreign images, and write audit.html (a
page with the images, to be opened offline) and audit.json. With --against, another corpus is held against it: what both
have, in what their images differ, and what of that is likely to move answers.

examples:
  ct-xception audit DIR
  ct-xception audit table.csv --image_column file --label_column diagnosis --strict
  ct-xception audit phantom:plant=leaks+brightness --output found
  ct-xception audit DIR --against OTHER --checkpoint runs/phantom/model
  ct-xception audit DIR --write-split repaired && ct-xception train --corpus repaired/split.csv
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from ct_xception.cli.arguments import add_corpus, check_goes_with, corpus_options, window_of
from ct_xception.command_line import DONE, FAILED, Parser
from ct_xception.errors import InputError, printable


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
    parser.add_argument("corpus", metavar="CORPUS", help="folder, CSV or Parquet table, Hub dataset id, or phantom")
    parser.add_argument("--output", default="audit", metavar="DIR", help="default: audit")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a finding is critical")
    parser.add_argument(
        "--write-split",
        metavar="NEWDIR",
        help="write the leak-free split: split.csv to train on, reasons.csv, and links to the images in folders",
    )
    parser.add_argument("--copy", action="store_true", help="with --write-split: copies of the images, not links")
    parser.add_argument("--against", metavar="OTHER", help="another corpus: what both have, and how they differ")
    parser.add_argument(
        "--checkpoint", metavar="DIR|ID", help="with --against: compare what this network sees and answers as well"
    )
    add_corpus(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of folds and intervals (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from ct_xception.audit.against import audit_against
    from ct_xception.audit.audit import audit_corpus, audit_summary, write_audit
    from ct_xception.audit.repair import IMAGES, REASONS, SPLIT_TABLE, check_new, write_split
    from ct_xception.corpus.load import load_corpus

    window, output = window_of(arguments), Path(arguments.output)
    if output.exists() and not output.is_dir():
        raise InputError(f"--output: {printable(output)} is a file; name a folder.")
    if arguments.write_split:
        check_new(arguments.write_split)
    elif arguments.copy:
        raise InputError("--copy: there is nothing to copy; name a folder with --write-split.")
    check_goes_with(arguments, "checkpoint", "against")
    # The survey reads every file and lists the damaged ones: loading need not decode them too.
    options = replace(corpus_options(arguments, window), decode=False)
    corpus = load_corpus(arguments.corpus, options)
    other = None if arguments.against is None else load_corpus(arguments.against, options.for_external("against"))
    audit = audit_corpus(corpus, window=window, frame=arguments.frame, seed=arguments.seed)
    if other is not None:
        audit = audit_against(audit, other, checkpoint=arguments.checkpoint, seed=arguments.seed)
    write_audit(audit, output)
    print(audit_summary(audit, shutil.get_terminal_size().columns))
    print(f"written to {printable(output)}/: audit.html, audit.json")
    if arguments.write_split:
        repaired = write_split(audit, arguments.write_split, copy=arguments.copy, seed=arguments.seed)
        written = f"{printable(arguments.write_split)}/: {SPLIT_TABLE}, {REASONS}, {IMAGES}"
        print(f"written to {written}: {repaired.summary()}")
    return FAILED if arguments.strict and audit.counts["critical"] else DONE
