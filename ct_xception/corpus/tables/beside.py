"""The columns of a table that a network takes beside the image (`--tabular_columns`): found, checked, and counted."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ct_xception.corpus.listing import CorpusOptions, Item, Listing
from ct_xception.corpus.tables.columns import patient_like, tabular_columns
from ct_xception.errors import SliceError, printable
from ct_xception.imaging.decoders.dicom import TABULAR_TAGS, read_keywords
from ct_xception.tabular import number_of, text_of

if TYPE_CHECKING:
    from datasets import Dataset

_WITHOUT = "answered without"
FEW = 20  # patients: among fewer, whole numbers may differ by chance


def take_columns(columns: Mapping[str, Sequence[Any]], options: CorpusOptions) -> list[dict[str, str]]:
    """{column: text} of each row of a table, for those of `--tabular_columns` that are among its `columns`."""
    asked = [name for name in tabular_columns(options.tabular_columns) if name in columns]
    texts = {name: [_text(value) for value in columns[name]] for name in asked}
    count = len(next(iter(columns.values()), ()))
    return [{name: texts[name][row] for name in asked} for row in range(count)]


def _text(value: Any) -> str:
    return printable(text_of(value if isinstance(value, (str, int, float)) or value is None else str(value)))


def settle_tabular(listing: Listing, options: CorpusOptions) -> None:
    """Fill what DICOM headers tell, and add what is wrong with the columns of `--tabular_columns` to the problems.

    A column that the corpus has not is one, and so is one that says the class, the split or whose an image is.
    """
    asked = tabular_columns(options.tabular_columns)
    known = {name for item in listing.items for name in item.tabular}
    headers = [name for name in asked if name not in known and name in TABULAR_TAGS]
    if headers:
        for item in listing.items:
            item.tabular = {**_in_header(listing, item, headers), **item.tabular}
        known |= {name for item in listing.items for name in item.tabular}
    for name in asked:
        if name not in known:
            said = _missing(name, listing)
            if options.tabular_needed:
                listing.problems.append(f"--tabular_columns: {said}")
            else:
                listing.notes.append(f"{said}: {_WITHOUT} {printable(name)}")
        elif (what := _says_otherwise(name, listing.items)) is not None:
            listing.problems.append(f"--tabular_columns: the column {printable(name)} {what}; leave it out")


def _in_header(listing: Listing, item: Item, names: Sequence[str]) -> dict[str, str]:
    try:
        content = listing.read(item)
        return {name: text_of(text) for name, text in read_keywords(content, names).items()}
    except (SliceError, OSError):
        return {}  # whether it can be read is told elsewhere


def _missing(name: str, listing: Listing) -> str:
    has = ", ".join(map(printable, dict.fromkeys(listing.columns))) or "no table"
    return f"the corpus has no column {printable(name)!r}; it has {has}"


def _says_otherwise(name: str, items: Sequence[Item]) -> str | None:
    """What a column says that is no trait of a patient, as a clause; None where it says nothing of the kind."""
    if patient_like([name]):
        return "tells patients apart"
    told = [(text, item) for item in items if (text := item.tabular.get(name))]
    values = {text for text, _ in told}
    if len(values) < 2:
        return None  # what there is to learn from is told of training
    for what, other in (("the class", "found"), ("the split", "split"), ("the patient", "group")):
        others = {getattr(item, other) for _, item in told}
        if len(others) < 2 or (other == "group" and (len(others) < FEW or _measured(values))):
            continue
        if len({(text, getattr(item, other)) for text, item in told}) == len(values) == len(others):
            return f"says {what}, one value for each"
    if len(values) == len(told) >= FEW and not _measured(values):
        return "has another value in every row, as an identifier has"
    return None


def _measured(values: Iterable[str]) -> bool:
    """Whether values are measures, with decimals, which may well differ from one patient to the next."""
    numbers = [number_of(value) for value in values]
    return all(number is not None for number in numbers) and any(n is not None and not n.is_integer() for n in numbers)


def tabular_record(splits: Mapping[str, Dataset], options: CorpusOptions) -> dict[str, Any]:
    """{"columns", "missing": {column: {split: n}}, "images": {split: n}} for corpus.json; {} without columns."""
    asked = tabular_columns(options.tabular_columns)
    if not asked:
        return {}
    missing: dict[str, dict[str, int]] = defaultdict(dict)
    for split, part in splits.items():
        rows = [json.loads(text) for text in part["tabular"]] if "tabular" in part.column_names else [{}] * len(part)
        for name in asked:
            missing[name][split] = sum(not row.get(name) for row in rows)
    return {"columns": list(asked), "missing": missing, "images": {split: len(part) for split, part in splits.items()}}


def describe_missing(record: Mapping[str, Any]) -> list[str]:
    """A line for each column: how many values are missing, by split."""
    return [
        f"column {printable(name)}: "
        + ", ".join(f"{count} of {record['images'][split]} missing in {split}" for split, count in counts.items())
        for name, counts in record.get("missing", {}).items()
    ]


def without_columns(report: Mapping[str, Any]) -> list[str]:
    """The sentences of a corpus report on columns that the corpus has not, and that a checkpoint takes."""
    return [note for note in report["notes"] if _WITHOUT in note]
