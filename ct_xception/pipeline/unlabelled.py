"""Slices whose labels nobody has, or that nobody is to look at: those that a new site gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ct_xception.corpus.load import load_corpus
from ct_xception.corpus.tables.formats import TABLE_SUFFIXES
from ct_xception.errors import InputError
from ct_xception.evaluation.shift.site_slices import list_files, list_items
from ct_xception.imaging.source import describe_passed_over
from ct_xception.pipeline.owners import read_owners

if TYPE_CHECKING:
    from ct_xception.corpus.listing import CorpusOptions
    from ct_xception.evaluation.shift.site_slices import Waiting


def list_unlabelled(
    sources: Sequence[str], option: str, options: CorpusOptions, patients: str | None = None
) -> tuple[list[Waiting], list[str]]:
    """The slices of files, folders, zips or one table, and sentences on what was passed over.

    What is none of these is a corpus without its labels. `patients` is a table of whose the slices of files are;
    `option` is what messages call the sources. Raises InputError where they do not go together.
    """
    first = Path(sources[0])
    on_disk, is_table = first.exists(), first.is_file() and first.suffix.lower() in TABLE_SUFFIXES
    if len(sources) > 1 and (is_table or not on_disk):
        raise InputError(f"{option}: a table or a corpus stands alone; give one of them, or files and folders.")
    if patients and (is_table or not on_disk):
        raise InputError(f"--patients: goes with files and folders; {option} names its patients itself.")
    if is_table or not on_disk:
        corpus = load_corpus(sources[0], options.without_labels())
        passed = describe_passed_over(corpus.report["passed_over"])
        notes = [f"{option}: passed over: {passed}", *corpus.report["details"]] if passed else []
        return [replace(one, label=-1) for one in list_items(corpus, options.frame)], notes
    owners = None if patients is None else read_owners(Path(patients), "patient")
    return list_files([Path(source) for source in sources], owners)
