"""The cells of a table by column, and the files that they name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.corpus.listing import CorpusOptions
from ct_xception.corpus.tables.formats import text_of
from ct_xception.corpus.tables.places import Places
from ct_xception.errors import printable

if TYPE_CHECKING:
    import pandas

SAMPLE = 200  # cells looked at to tell what a column holds


class Rows:
    """A table with the columns that were found in it, and their cells as text."""

    def __init__(self, table: pandas.DataFrame, path: Path, options: CorpusOptions, corpus: Path | None = None) -> None:
        self.table, self.path, self.options = table, path, options
        self.columns = [str(name) for name in table.columns]
        self.root = _image_root(path, options)
        self.places = Places(self.root if corpus is None or options.image_root is not None else corpus, path)
        self._texts: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self.table)

    @property
    def name(self) -> str:
        """The table's own name."""
        return printable(self.path.name)

    def text(self, column: str) -> list[str]:
        """A column's cells as text."""
        if column not in self._texts:
            self._texts[column] = [text_of(value) for value in self.table.iloc[:, self.columns.index(column)]]
        return self._texts[column]

    def cells(self, column: str) -> list[Any]:
        """A column's cells as they are."""
        return self.table.iloc[:, self.columns.index(column)].tolist()

    def holds_bytes(self, column: str) -> bool:
        """Whether a column holds the files themselves."""
        return any(isinstance(cell, (bytes, Mapping)) for cell in self.cells(column)[:SAMPLE])

    def file(self, name: str) -> Path | None:
        """The file that a cell names; None for an empty one."""
        if not name:
            return None
        path = self.root / name
        return self.root / name.replace("\\", "/") if "\\" in name and not path.exists() else path


def _image_root(path: Path, options: CorpusOptions) -> Path:
    if options.image_root is None:
        return path.parent
    given = Path(options.image_root).expanduser()
    return given if given.is_dir() or not (path.parent / given).is_dir() else path.parent / given
