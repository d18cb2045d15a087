"""A table of paths and labels as a corpus: CSV, TSV, JSON lines, Parquet, or a list of files."""

from __future__ import annotations

from pathlib import Path

from ct_xception.corpus.listing import CorpusOptions, Listing
from ct_xception.corpus.sources import Source
from ct_xception.corpus.tables.formats import SHEET_SUFFIXES, TABLE_SUFFIXES, read_table
from ct_xception.corpus.tables.rows import list_rows
from ct_xception.errors import InputError, printable


def list_table(name: str | Path, options: CorpusOptions) -> Listing:
    """List the rows of a table. Raises InputError for a file that is none, CorpusError for one that cannot be read."""
    path = Path(name).expanduser()
    if path.suffix.lower() in SHEET_SUFFIXES:
        raise InputError(f"{printable(path)} is a spreadsheet, which is not read; save it as CSV in UTF-8.")
    if path.suffix.lower() not in TABLE_SUFFIXES:
        kinds = ", ".join(TABLE_SUFFIXES)
        raise InputError(f"{printable(path)} is a file but no table ({kinds}); give a folder or a table of images.")
    return list_rows(read_table(path), path, options, SOURCE.kind)


SOURCE = Source("table", "a CSV or Parquet file", lambda name: Path(name).expanduser().is_file(), list_table, rank=1)
