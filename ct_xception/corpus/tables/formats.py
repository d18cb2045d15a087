"""Tables as people save them: any separator, any usual encoding, CSV, JSON lines, Parquet and lists of files.

A Parquet file that `datasets` wrote says in its schema what its numbers stand for; they are read as those names.
"""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.errors import CorpusError, printable
from ct_xception.imaging.source import DICOM_SUFFIXES, IMAGE_SUFFIXES

if TYPE_CHECKING:
    import pandas

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".json", ".txt")
SHEET_SUFFIXES = (".xlsx", ".xls", ".ods")
SEPARATORS = (",", ";", "\t", "|")
LFS = b"version https://git-lfs"  # what a clone without `git lfs pull` holds in place of a file
MOST_BYTES = 2**30


def read_table(path: Path) -> pandas.DataFrame:
    """A table's cells: text, or what Parquet and JSON hold. Raises CorpusError for what is none."""
    try:
        _check_file(path)
        if path.suffix.lower() == ".parquet":
            return _read_parquet(path)
        text = _decode(path.read_bytes())
        if path.suffix.lower() in (".jsonl", ".json"):
            return _read_json(text)
        return _read_list(text) if path.suffix.lower() == ".txt" else _read_csv(text)
    except CorpusError:
        raise
    except (OSError, ValueError, csv.Error) as error:  # pandas' and Arrow's parsing errors are ValueErrors
        reason = printable(" ".join(str(error).split()))[:200]
        problem = f"{printable(path)} cannot be read as a table ({reason}); save it as CSV in UTF-8"
        raise CorpusError([problem]) from error


def _check_file(path: Path) -> None:
    if path.stat().st_size > MOST_BYTES and path.suffix.lower() != ".parquet":
        raise ValueError(f"it has more than {MOST_BYTES // 2**20} MiB")
    with open(path, "rb") as stream:
        if stream.read(len(LFS)) == LFS:
            raise CorpusError([f"{printable(path)} is a pointer of Git LFS; fetch the file itself with git lfs pull"])


def _decode(content: bytes) -> str:
    """Text in UTF-8 or UTF-16 by its mark or its zeros, else in Windows' Latin-1."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    if content[1:200:2].count(0) > 40 or content[:200:2].count(0) > 40:
        return content.decode("utf-16-le" if content[1] == 0 else "utf-16-be")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="strict")


def _read_csv(text: str) -> pandas.DataFrame:
    import pandas

    lines = text.splitlines()
    if lines and lines[0].lower().startswith("sep="):  # spreadsheets say so
        text = "\n".join(lines[1:])
    separator = _separator(text)
    text = _without_title(text, separator)
    names = _names_of(text, separator)
    _check_width(text, separator)
    _check_heading(text, separator)
    told = {"dtype": str, "keep_default_na": False, "skipinitialspace": True, "index_col": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pandas.errors.ParserWarning)  # empty cells beyond the heading: checked above
        table = pandas.read_csv(io.StringIO(text), sep=separator, names=names, **told).rename(columns=str.strip)
    return table[(table != "").any(axis=1)].reset_index(drop=True)  # spreadsheets leave empty rows at the end


def _check_width(text: str, separator: str) -> None:
    """A row with more cells than the heading would be read shifted; empty ones at its end are none."""
    rows = csv.reader(io.StringIO(text), delimiter=separator)
    width = len(next(rows, []))
    for number, row in enumerate(rows, 1):
        if len(row) > width and any(row[width:]):
            raise ValueError(f"row {number} has more cells than the heading has names")


def _check_heading(text: str, separator: str) -> None:
    """Two columns of one name: which of them is meant, nobody can tell."""
    names = [name.strip() for name in next(csv.reader(io.StringIO(text), delimiter=separator), [])]
    twice = next((name for name in names if name and names.count(name) > 1 and not _FILE.fullmatch(name)), None)
    if twice is not None:
        raise ValueError(f"its heading has {names.count(twice)} columns called {twice!r}")


def _without_title(text: str, separator: str) -> str:
    """A table without the lines of one cell above its heading, such as a title."""
    lines = text.splitlines(keepends=True)
    told = [index for index, line in enumerate(lines[:20]) if line.strip()]
    first = next((index for index in told if separator in lines[index]), 0)
    return (
        "".join(lines[first:])
        if told and all(separator not in lines[index] for index in told if index < first)
        else text
    )


def _names_of(text: str, separator: str) -> list[str] | None:
    """The columns of a table that has no heading but begins with a file and its label; None for any other."""
    heading = next(csv.reader(io.StringIO(text), delimiter=separator), [])
    files = [cell for cell in heading if _FILE.fullmatch(cell.strip())]
    if not files:
        return None
    if len(heading) > 2:
        raise ValueError("its first line names a file and is no heading")
    names = ["file" if cell in files else "label" for cell in heading]
    return names if len(set(names)) == len(names) else None


def _separator(text: str) -> str:
    """The separator that cuts the first rows into the most columns, all of them alike."""
    start = text[:65536].splitlines()[:20]

    def columns(separator: str) -> int:
        widths = {len(row) for row in csv.reader(start, delimiter=separator) if row}
        return widths.pop() if len(widths) == 1 else 0

    best = max(SEPARATORS, key=columns)
    if columns(best) > 1:
        return best
    return max(SEPARATORS, key=lambda separator: start[0].count(separator) if start else 0)


def _read_json(text: str) -> pandas.DataFrame:
    """JSON lines, a list of objects, or one object of {file: label} or of {file: object}."""
    import pandas

    try:
        whole = json.loads(text)
    except ValueError:
        whole = [json.loads(line) for line in text.splitlines() if line.strip()]
    if isinstance(whole, dict) and len(whole) > 1 and all(isinstance(one, dict) for one in whole.values()):
        whole = [{"file": name, **row} for name, row in whole.items()]
    elif isinstance(whole, dict) and whole and all(_FILE.fullmatch(name) for name in whole):
        whole = [{"file": name, "label": label} for name, label in whole.items()]
    nested = isinstance(whole, dict) and any(isinstance(one, (dict, list)) for one in whole.values())
    rows = [whole] if isinstance(whole, dict) and not nested else whole
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it is neither JSON lines nor a list of JSON objects")
    return pandas.DataFrame(rows, dtype=object)


def _read_parquet(path: Path) -> pandas.DataFrame:
    from pyarrow import parquet

    table = parquet.read_table(path, partitioning=None)
    frame = table.to_pandas(ignore_metadata=True)
    for column, names in _class_labels(table.schema.metadata or {}).items():
        if column in frame.columns:
            frame[column] = [_named(value, names) for value in frame[column]]
    return frame


def _class_labels(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """{column: names} of the ClassLabels that `datasets` wrote into a file's schema."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        labels = {name: one["names"] for name, one in features.items() if one.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}
    return {name: [str(one) for one in names] for name, names in labels.items() if isinstance(names, list)}


def _named(value: Any, names: list[str]) -> str | None:
    """The name of a ClassLabel's number; None for a missing one and for -1, which stands for one."""
    return names[int(value)] if value is not None and value == value and 0 <= int(value) < len(names) else None


_FILE = re.compile(rf"(.+?({'|'.join(map(re.escape, sorted(IMAGE_SUFFIXES | DICOM_SUFFIXES)))}))(?=[\s,;]|$)", re.I)

_NUMBERS_AFTER = re.compile(r"(?<=\S)([\s,;]+-?\d+(\.\d+)?){2,}$")  # a box, or coordinates


def _read_list(text: str) -> pandas.DataFrame:
    """A list of files, one a line, each perhaps with its label: `path label`. A path may hold spaces.

    Numbers after the label, such as those of a box, are none of it; a first line without a file is a heading.
    """
    import pandas

    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if lines and not _FILE.match(lines[0]) and _separator(text) in lines[0]:
        return _read_csv(text)
    if len(lines) > 1 and not _FILE.match(lines[0]) and all(map(_FILE.match, lines[1:])):
        lines = lines[1:]
    rows = []
    for line in lines:
        match = _FILE.match(line)
        name, rest = (match[1], line[match.end() :]) if match else (line, "")
        label = _NUMBERS_AFTER.sub("", rest.strip(" \t,;'\""))
        rows.append({"file": name.strip("'\""), "label": label})
    labelled = any(row["label"] for row in rows)
    return pandas.DataFrame(rows, columns=["file", "label"] if labelled else ["file"], dtype=object)


def text_of(value: Any) -> str:
    """A cell as text: nothing for a missing one, and no .0 after the whole numbers that a gap made floats.

    A list of one is that one; of several, all of them with bars between.
    """
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim):
        return "|".join(text_of(one) for one in value)
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
