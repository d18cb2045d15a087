"""What is known of a patient beside the image, by columns of a table: how its values become what the network takes.

A number is standardised by training's mean and deviation, a category is one of the values that training had, or
other; each has a mark of its own for a missing value. `fit_tabular` learns that from training's rows, and config.json
keeps it.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint_files import MOST_VALUES, TabularColumn, TabularRule
from ct_xception.errors import InputError, printable
from ct_xception.text import did_you_mean

Row = Mapping[str, Any]  # {column: value}: text as in a table, a number, or None where it is missing
MISSING = re.compile(r"(nan|null|n/?a|#n/?a|<na>|\?+|-+|missing|not known|unknown)?", re.IGNORECASE)
FARTHEST = 5.0  # deviations from training's mean: beyond, a number counts as just so far
PATIENTS_A_VALUE = 2  # of training that a value must have: a rarer one is other, and stays out of a published file
_LEAST = 1e-9  # deviation of a column that says something
_AGE = re.compile(r"(\d{3})([DWMY])")  # DICOM's age string (PS3.5 6.2)
_DAYS = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}  # of each in a year


@dataclass(frozen=True, eq=False)
class Encoded:
    """A row as the network takes it: `vector` (D,) float32; what was `taken`, {column: value or None}; `notes`."""

    vector: NDArray[np.float32]
    taken: dict[str, float | str | None]
    notes: tuple[str, ...]


class Tabular:
    """The columns that a network takes beside an image, and their encoding: D numbers in all.

    A number is two of them, (value - mean) / deviation and whether it is missing; a category of k values k + 2: which
    of the values it is, whether it is another, and whether it is missing.
    """

    def __init__(self, rule: TabularRule) -> None:
        self.rule = rule
        self.names = tuple(column.name for column in rule.columns)
        self.sizes = tuple(2 if column.kind == "number" else len(column.values) + 2 for column in rule.columns)
        self.width = sum(self.sizes)
        self.column_of = [number for number, size in enumerate(self.sizes) for _ in range(size)]
        self.absent = self.encode({}).vector

    def encode(self, row: Row) -> Encoded:
        """The vector of a row; a column that it lacks is missing.

        Raises `InputError` for a column that the network does not know, and for a value that is no number where one is
        wanted.
        """
        values = {self._known(name): value for name, value in row.items()}
        parts, notes, taken = [], list[str](), dict[str, float | str | None]()
        for column in self.rule.columns:
            value = read_value(column, values.get(column.name))
            part, note = _encode(column, value)
            parts.append(part)
            notes += [note] if note else []
            taken[column.name] = value
        missing = [printable(name) for name, value in taken.items() if value is None]
        notes += [f"answered without {', '.join(missing)}"] if missing else []
        return Encoded(np.concatenate(parts).astype(np.float32), taken, tuple(notes))

    def encode_all(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Rows as (N, D)."""
        return np.stack([self.encode(row).vector for row in rows]) if rows else np.zeros((0, self.width), np.float32)

    def only(self, row: Row) -> Row:
        """The part of a row that the network takes."""
        known = {name.casefold() for name in self.names}
        return {name: value for name, value in row.items() if name.casefold() in known}

    def example(self) -> dict[str, float | str]:
        """A row such as training had: means, and first values."""
        return {
            column.name: column.values[0] if column.mean is None else round(column.mean) for column in self.rule.columns
        }

    def describe(self) -> list[str]:
        """A clause for each column: how it is read."""
        return [_described(column) for column in self.rule.columns]

    def _known(self, name: str) -> str:
        found = next((own for own in self.names if own.casefold() == str(name).strip().casefold()), None)
        if found is None:
            guess = did_you_mean(str(name), self.names)
            known = ", ".join(map(printable, self.names))
            raise InputError(f"column {printable(name)!r} is unknown; this checkpoint takes {known}{guess or '.'}")
        return found


def read_value(column: TabularColumn, value: Any) -> float | str | None:
    """A cell as a number or as one of the column's values (another is left as it is); None where it is missing."""
    text = text_of(value)
    if not text:
        return None
    if column.kind == "category":
        return next((known for known in column.values if known.casefold() == text.casefold()), text)
    if (number := number_of(text)) is None:
        raise InputError(f"{printable(column.name)}: {printable(text)!r} is no number; give one, or leave it empty.")
    return number


def text_of(value: Any) -> str:
    """A cell as text, the empty one where it is missing."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, (str, int, float)):
        raise InputError(f"{printable(str(value))!r} is neither text nor a number; give one value a column.")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return "" if MISSING.fullmatch(text) else text


def number_of(text: str) -> float | None:
    """The finite number that a text is, DICOM's age strings in years; None for any other text."""
    if age := _AGE.fullmatch(text):
        return int(age[1]) / _DAYS[age[2]]
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _encode(column: TabularColumn, value: float | str | None) -> tuple[NDArray[np.float64], str]:
    """The numbers of one cell, and what there is to say of it."""
    if column.kind == "number":
        assert column.mean is not None and column.deviation is not None  # as the type checks
        if value is None:
            return np.array([0.0, 1.0]), ""
        found = (float(value) - column.mean) / column.deviation
        near, note = float(np.clip(found, -FARTHEST, FARTHEST)), ""
        if near != found:
            counts = column.mean + near * column.deviation
            usual = f"training's mean is {column.mean:.4g}, the deviation {column.deviation:.4g}"
            note = f"{printable(column.name)} {float(value):g} is far from training ({usual}): {counts:.4g} is taken"
        return np.array([near, 0.0]), note
    part, known = np.zeros(len(column.values) + 2), list(column.values)
    if value is None:
        part[-1] = 1.0
        return part, ""
    part[known.index(str(value)) if value in known else -2] = 1.0
    told = f"{printable(column.name)} {printable(str(value))!r} is none of {', '.join(map(printable, known))}: other"
    return part, "" if value in known else told


def _described(column: TabularColumn) -> str:
    name = printable(column.name)
    if column.kind == "number":
        return f"{name}: a number (training's mean {column.mean:.4g}, standard deviation {column.deviation:.4g})"
    return f"{name}: {', '.join(map(printable, column.values))}, or other"


def fit_tabular(names: Sequence[str], rows: Sequence[Row], groups: Sequence[str]) -> TabularRule:
    """How to encode the columns `names`, by training's rows and whose (patient's) they are.

    A column is one of numbers where every value is; else its values are those that two patients have at least. Raises
    `InputError` for a column that has nothing to learn from, or as many values as an identifier.
    """
    return TabularRule.of({"version": 1, "columns": [_fit(name, rows, groups) for name in names]}, "--tabular_columns")


def _fit(name: str, rows: Sequence[Row], groups: Sequence[str]) -> dict[str, Any]:
    texts = [text_of(row.get(name)) for row in rows]
    owners: defaultdict[str, set[str]] = defaultdict(set)
    written: dict[str, str] = {}  # as it is written first
    for text, group in zip(texts, groups, strict=True):
        if text:
            owners[written.setdefault(text.casefold(), text)].add(group)
    numbers = [number for text in texts if text and (number := number_of(text)) is not None]
    numeric = len(numbers) == sum(map(bool, texts))
    if len(owners) < 2 or (numeric and np.std(numbers) < _LEAST):
        found = f"has {'one value' if owners else 'no value'} in all of training"
        raise InputError(f"--tabular_columns: {printable(name)} {found}; leave it out.")
    if numeric:
        return {"name": name, "kind": "number", "mean": float(np.mean(numbers)), "deviation": float(np.std(numbers))}
    known = sorted(text for text, of in owners.items() if len(of) >= PATIENTS_A_VALUE)
    if not 0 < len(known) <= MOST_VALUES:
        odd = next(text for text in owners if number_of(text) is None)
        raise InputError(
            f"--tabular_columns: {printable(name)} has {len(owners)} values in training that are no numbers (such as "
            f"{printable(odd)!r}), of which {len(known)} are of two patients or more; give numbers, or groups of "
            f"them, up to {MOST_VALUES}."
        )
    return {"name": name, "kind": "category", "values": known}
