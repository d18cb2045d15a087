"""Slices whose labels nobody has, or that nobody is to look at: those that a new site gives."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ct_xception.cli.arguments import corpus_options, window_of
from ct_xception.command_line import complain
from ct_xception.errors import InputError

if TYPE_CHECKING:
    from ct_xception.evaluation.shift.site_slices import Waiting


def list_unlabelled(sources: Sequence[str], arguments: argparse.Namespace, option: str) -> list[Waiting]:
    """The slices of files, folders, zips or one table; what is none of these is a corpus without its labels."""
    from ct_xception.cli.owners import read_owners
    from ct_xception.corpus.load import load_corpus
    from ct_xception.corpus.tables.formats import TABLE_SUFFIXES
    from ct_xception.evaluation.shift.site_slices import list_files, list_items, list_table

    first = Path(sources[0])
    on_disk, is_table = first.exists(), first.is_file() and first.suffix.lower() in TABLE_SUFFIXES
    if len(sources) > 1 and (is_table or not on_disk):
        raise InputError(f"{option}: a table or a corpus stands alone; give one of them, or files and folders.")
    if arguments.patients and (is_table or not on_disk):
        raise InputError(f"--patients: goes with files and folders; {option} names its patients itself.")
    if is_table:
        return list_table(first, arguments.image_column, arguments.group_column)
    if not on_disk:
        corpus = load_corpus(sources[0], corpus_options(arguments, window_of(arguments)))
        return list_items(corpus, arguments.frame)
    owners = None if arguments.patients is None else read_owners(Path(arguments.patients), "patient")
    found, notes = list_files([Path(source) for source in sources], owners)
    for note in notes:
        complain("ct-xception", f"{note}.")
    return found
