"""What the rows of a table say that their images are: one column of labels, or a column of zeros and ones a class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ct_xception.corpus.listing import Listing
from ct_xception.corpus.tables.columns import SPLIT_FLAGS, named, one_hot, plain
from ct_xception.corpus.tables.table_cells import Rows
from ct_xception.errors import printable

# Columns that hold labels by their very name; the others, such as `finding`, may describe something else, too.
_PLAINLY = frozenset("label labels class classname labelname classlabel target groundtruth y".split())
MISSING = re.compile(r"(nan|null|n/a|#n/?a|<na>|\?+|-+|missing|no[\s_]?label|un(labell?ed|annotated))?", re.IGNORECASE)
NONE_OF_THEM = "none"
_DECIMAL = re.compile(r"-?\d*[.,]\d*[1-9]\d*")
MOST_DECIMALS, FEW_ROWS = 10, 20
MOST_CLASSES = 50  # of a column that could be the labels as well as another


def label_column(rows: Rows) -> str | None:
    """The first column of labels by name; one of names stands for one of numbers that says the same."""
    known = _known(rows)
    if not known or not all(value.lstrip("-").isdigit() for value in rows.text(known[0]) if value):
        return next(iter(known), None)
    return next((name for name in known[1:] if _say_the_same(rows, known[0], name)), known[0])


def _known(rows: Rows) -> list[str]:
    """Columns that go by a label's name; a `y` beside an `x` is a place."""
    names = named(rows.columns, "label")
    return [name for name in names if plain(name) != "y" or "x" not in map(plain, rows.columns)]


def _say_the_same(rows: Rows, first: str, second: str) -> bool:
    pairs = set(zip(rows.text(first), rows.text(second), strict=True))
    one_to_one = len(pairs) == len({one for one, _ in pairs}) == len({one for _, one in pairs})
    return one_to_one and "" not in dict(pairs)


def check_label_columns(rows: Rows, chosen: str | None, listing: Listing) -> None:
    """Two columns that could hold the labels and do not say the same are asked about, or the other is named."""
    if chosen is None or rows.options.label_column is not None:
        return
    rivals = [name for name in _known(rows) if name != chosen and _could_be(rows, name, chosen)]
    alike = [name for name in rivals if (plain(name) in _PLAINLY) >= (plain(chosen) in _PLAINLY)]
    if alike:
        told = " and ".join(f"{printable(name)} ({_sample(rows.text(name))})" for name in [chosen, *alike])
        listing.problems.append(f"{rows.name} has several columns of labels, {told}; name one with --label_column")
    for name in rivals if not alike else ():
        listing.notes.append(f"the column {printable(name)} could be labels, too, and is not used (--label_column)")


def _could_be(rows: Rows, name: str, chosen: str) -> bool:
    values = set(rows.text(name)) - {""}
    few = 1 < len(values) <= min(MOST_CLASSES, len(rows) // 2)
    return few and not _say_the_same(rows, chosen, name)


def _sample(values: Sequence[str]) -> str:
    names = sorted(set(values))
    return ", ".join(map(printable, names[:3])) + (", …" if len(names) > 3 else "")


def read_labels(rows: Rows, column: str | None, listing: Listing) -> list[str]:
    """Each row's label: of the one column, or the name of the one column of zeros and ones that is 1."""
    if column is not None:
        _ask_about_measures(rows, column, listing)
        labels = rows.text(column)
        whole = all(re.fullmatch(r"(-?\d+\.0+)?", label) for label in labels)  # numbers that a gap made floats
        return [label.split(".")[0] for label in labels] if whole else labels
    given = rows.options.label_column
    hot, labels = _hot_columns(rows, parts_of(given, rows.columns))
    if not hot:
        shown = ", ".join(printable(name) for name in rows.columns)
        said = f"{rows.name} has no column known to hold the label; name one with --label_column: {shown}"
        listing.problems += [] if any("--label_column" in one for one in listing.problems) else [said]
        return [""] * len(rows)
    _ask_about_rows(rows, hot, labels, listing)
    listing.notes.append(f"labels are the columns of zeros and ones: {', '.join(map(printable, hot))}")
    return labels


def _ask_about_measures(rows: Rows, column: str, listing: Listing) -> None:
    """A column of measures or of free text holds no classes."""
    values = [value for value in rows.text(column) if value]
    decimals = any(_DECIMAL.fullmatch(value) for value in values) and len(set(values)) > MOST_DECIMALS
    if decimals or (len(values) >= FEW_ROWS and 2 * len(set(values)) > len(values)):
        said = f"the column {printable(column)} of {rows.name} has {len(set(values))} different values in {len(values)}"
        listing.problems.append(
            f"{said} rows ({_sample(values)}), which are no classes; name another with --label_column"
        )


def parts_of(given: str | None, columns: Sequence[str]) -> list[str]:
    """The columns that an option names with commas between them; none where they are not all there."""
    parts = [part.strip() for part in (given or "").split(",")]
    return parts if len(parts) > 1 and set(parts) <= set(columns) else []


def _hot_columns(rows: Rows, given: list[str]) -> tuple[list[str], list[str]]:
    taken = {
        name for role in ("image", "group", "series", "site", "split", "mask") for name in named(rows.columns, role)
    }
    free = [name for name in rows.columns if name not in taken and plain(name) not in SPLIT_FLAGS]
    return one_hot(given or [name for name in free if not rows.holds_bytes(name)], rows.text)


def _ask_about_rows(rows: Rows, hot: Sequence[str], labels: Sequence[str], listing: Listing) -> None:
    """Rows that are of no class, of several or of an uncertain one, unless an option says what becomes of them."""
    open_ = {
        row: label for row, label in enumerate(labels)
        if label not in hot and label not in rows.options.class_map and not rows.options.excludes(label)
    }  # fmt: skip
    if not open_:
        return
    left, kinds = set(open_.values()), {}
    for kind in _KINDS:
        kinds[kind] = next((label for label in open_.values() if kind in label and label in left), "")
        left -= {label for label in left if kind in label}
    remedies = [_KINDS[kind].format(label=printable(label)) for kind, label in kinds.items() if label]
    row, label = next(iter(open_.items()))
    listing.problems.append(
        f"{rows.name}: {len(open_)} rows have not just one 1 in the columns {', '.join(map(printable, hot))} (row "
        f"{row + 1}: {printable(label)}); name the columns of the classes with --label_column A,B,C, or settle these "
        f"rows with {', '.join(remedies)}"
    )


_KINDS: Mapping[str, str] = {
    NONE_OF_THEM: f"--exclude {NONE_OF_THEM} or --class_map {NONE_OF_THEM}=CLASS",
    "uncertain": "--exclude '*uncertain*' or --class_map '{label}=CLASS'",
    "|": "--exclude '*|*' or --class_map '{label}=CLASS'",
}
