"""The answers behind the figures, as files that may be published: without the names of files and patients.

File names may hold patients' names, so published rows say "item 000123"; which file that is stands in
evaluation_sources.json, outside the checkpoint. The phantom's names are nobody's and stay. Groups are numbered always.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from ct_xception.errors import printable
from ct_xception.evaluation.answers import Answers
from ct_xception.evaluation.protocols import Part
from ct_xception.files import atomic_path
from ct_xception.statistics.intervals import group_indices

TRAIT = "trait "  # before the number of a trait's column


class Names:
    """What a published file calls each item: "item 000123" by the order of all `sources`, or its own name."""

    def __init__(self, sources: Sequence[str], *, anonymous: bool) -> None:
        self.anonymous = anonymous
        self._public = {
            source: f"item {number:06d}" if anonymous else source for number, source in enumerate(sorted(set(sources)))
        }

    def __getitem__(self, source: str) -> str:
        return self._public[source]

    @property
    def private(self) -> dict[str, str]:
        """{published name: source}, for evaluation_sources.json."""
        return {public: source for source, public in self._public.items()}

    def reason(self, source: str, text: str) -> str:
        """Why a file was refused, with its name in that sentence replaced as well."""
        if not self.anonymous:
            return text
        for name in (source, printable(source), Path(source).name, printable(Path(source).name)):
            text = text.replace(name, self[source])
        return text

    def refused(self, answers: Answers) -> dict[str, str]:
        """{published name: why} of the refused items."""
        return {self[source]: self.reason(source, why) for source, why in answers.refused.items()}


def write_predictions(
    path: Path, part: Part, label_names: Sequence[str], names: Names, **extra: NDArray[np.generic]
) -> None:
    """The rows of `prediction_table` as a Parquet file."""
    write_tables(path, [prediction_table(part, label_names, names, **extra)])


def write_tables(path: Path, tables: Sequence[pyarrow.Table]) -> None:
    """Tables of the same columns, one after another, as one Parquet file."""
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.concat_tables(tables), temporary)


def prediction_table(
    part: Part, label_names: Sequence[str], names: Names, **extra: NDArray[np.generic]
) -> pyarrow.Table:
    """One row an item and path: source, group, label, predicted, `p <class>` for every class, refused, path, `extra`.

    Where the corpus tells series, `series` numbers them as groups are, null for an item in none. Where an input gate
    was asked, `gate` is its verdict, null for paths that have none; where learnt attention pools, `attention` is the
    slice's score, before the softmax over its patient's. Where traits part the items, `trait 1` and so on number their
    values in the order of their names: metrics.json names the traits, and a value only where it is the worst subgroup.

    `predicted` and the probabilities are null where `refused` holds the reason. Groups are numbered in the order of
    their names, which stay behind: they may be patients' and this file is published. `extra` {column: (N,)} go last.
    """
    tables, gated = [], any(answers.verdicts for answers in part.paths.values())
    attended = any(answers.attention is not None for answers in part.paths.values())
    for route, answers in part.paths.items():
        columns = _answer_columns(part, answers, label_names, names)
        if gated:
            verdicts = [answers.verdicts.get(source) for source in part.items.sources]
            columns["gate"] = pyarrow.array(verdicts, pyarrow.string())
        if attended:
            columns["attention"] = _attention(answers)
        for number, values in enumerate(part.traits.values(), 1):
            columns[f"{TRAIT}{number}"] = pyarrow.array(group_indices(values, len(values)))
        columns["path"] = [route] * len(part.items.sources)
        tables.append(pyarrow.table(columns | {name: pyarrow.array(values) for name, values in extra.items()}))
    return pyarrow.concat_tables(tables)


def _attention(answers: Answers) -> pyarrow.Array:
    scores = np.full(len(answers.probabilities), np.nan) if answers.attention is None else answers.attention
    return pyarrow.array(scores, pyarrow.float64(), from_pandas=True)


def _answer_columns(part: Part, answers: Answers, label_names: Sequence[str], names: Names) -> dict[str, Any]:

    items, classes = part.items, np.asarray(label_names, dtype=object)
    known = answers.answered
    best = np.where(known[:, None], answers.probabilities, 0).argmax(axis=1)
    refused = names.refused(answers)
    sources = [names[source] for source in items.sources]
    columns: dict[str, Any] = {
        "source": sources,
        "group": _numbered("group", items.groups),
    }
    if items.series:
        known_series = np.array([bool(name) for name in items.series], bool)
        columns["series"] = pyarrow.array(_numbered("series", items.series), pyarrow.string(), mask=~known_series)
    columns |= {
        "label": classes[items.labels].tolist(),
        "predicted": pyarrow.array(classes[best].tolist(), pyarrow.string(), mask=~known),
    }
    columns |= {f"p {name}": pyarrow.array(answers.probabilities[:, k], mask=~known) for k, name in enumerate(classes)}
    columns["refused"] = pyarrow.array([refused.get(source) for source in sources], pyarrow.string())
    return columns


def _numbered(what: str, names: Sequence[str]) -> list[str]:
    return [f"{what} {number:06d}" for number in group_indices(names, len(names))]
