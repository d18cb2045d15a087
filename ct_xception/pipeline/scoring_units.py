"""Batch scoring by series or patient: whose each slice is, and a row for each of them, pooled from the rows of slices.

owners, notes = owners_of_files(slices, sources, "patient")      # a column of the work
write_units(Path("answers.parquet"), "patient", classifier)      # answers_by_patient.parquet
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.errors import InputError
from ct_xception.evaluation.patients import PATIENT, SERIES, knows_patients
from ct_xception.files import atomic_path
from ct_xception.imaging.source import FrameOf
from ct_xception.serving.pooling import SliceAnswer, answer_together
from ct_xception.serving.series import Member, gather_units
from ct_xception.text import RESEARCH_USE

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.serving.classifier import Classifier
    from ct_xception.serving.pooling import SeriesAnswer

NONE_LEFT = "none of its slices is answered"


def owners_of_files(
    slices: Sequence[Path | FrameOf], sources: Sequence[str], by: str
) -> tuple[list[str], tuple[str, ...]]:
    """The series or patient of each file or slice of one, numbered, and sentences on what was taken for one."""
    members = [_member(one, source) for one, source in zip(slices, sources, strict=True)]
    units, notes = gather_units(members, by)
    names = {member.name: unit.name for unit in units for member in unit.members}
    return [names[source] for source in sources], notes


def _member(one: Path | FrameOf, source: str) -> Member:
    if isinstance(one, FrameOf):
        return Member(source, Path(os.fsdecode(one.file)), frame=one.frame)
    return Member(source, one)


def owners_in_corpus(dataset: Dataset, report: Mapping[str, Any], by: str) -> list[str]:
    """The series or patient of each image, as the corpus has them. Raises InputError where it does not tell."""
    if by == PATIENT and knows_patients(report):
        return [str(group) for group in dataset["group"]]
    if by == SERIES and "series" in dataset.column_names and all(dataset["series"]):
        pairs = zip(dataset["group"], dataset["series"], strict=True)
        return [f"{group} {series}" for group, series in pairs]
    raise InputError(f"--by {by}: the corpus does not say which {by} each image is of; leave it out.")


def units_file(output: Path, by: str) -> Path:
    """Beside the file of slices, that of series or patients."""
    return output.with_name(f"{output.stem}_by_{by}{output.suffix}")


def write_units(output: Path, by: str, classifier: Classifier) -> int:
    """Pool the finished rows by the checkpoint's own rule, and write them; how many have no answer.

    A row has its name, label, p CLASS, what the rules for several slices say, whether that was calibrated, the pool,
    counts of slices, and those that carry it; where none of its slices is answered, `refused` says so.
    """
    import pyarrow
    from pyarrow import parquet

    rows: dict[str, list[dict[str, Any]]] = {}
    for row in parquet.read_table(output).to_pylist():
        rows.setdefault(row[by], []).append(row)
    names = classifier.label_names
    found = [_pooled(name, own, by, names, classifier) for name, own in rows.items()]
    table = pyarrow.Table.from_pylist(found, schema=_schema(by, names, "true_label" in next(iter(rows.values()))[0]))
    with atomic_path(units_file(output, by)) as temporary:
        parquet.write_table(table.replace_schema_metadata({b"notice": RESEARCH_USE.encode()}), temporary)
    return sum(one["refused"] is not None for one in found)


def _schema(by: str, names: Sequence[str], labelled: bool) -> Any:
    import pyarrow

    text, number, count = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
    columns = [(by, text), *([("true_label", text)] if labelled else []), ("label", text)]
    columns += [(f"p {name}", number) for name in names]
    columns += [("prediction_set", text), ("abstained", pyarrow.bool_())]
    columns += [("pooled_by", text), ("calibrated", pyarrow.bool_())]
    columns += [("slices", count), ("answered", count), ("carried_by", text), ("refused", text)]
    return pyarrow.schema(columns)


def _pooled(
    name: str, rows: Sequence[Mapping[str, Any]], by: str, names: Sequence[str], classifier: Classifier
) -> dict[str, Any]:
    answers = [_slice_answer(row, names) for row in rows]
    together = answer_together(answers, pooling=classifier.decisions.pooling)
    truths = {row.get("true_label") for row in rows}
    row: dict[str, Any] = {by: name, "slices": len(rows), "true_label": truths.pop() if len(truths) == 1 else None}
    if together is None:
        return row | {"answered": 0, "refused": NONE_LEFT}
    return row | _said(together, answers) | {f"p {one}": together.probabilities[one] for one in names}


def _slice_answer(row: Mapping[str, Any], names: Sequence[str]) -> SliceAnswer:
    if row["refused"] is not None:
        return SliceAnswer(row["source"], error=row["refused"])
    return SliceAnswer(
        row["source"], {"probabilities": {one: row[f"p {one}"] for one in names}}, attention=row.get("attention")
    )


def _said(together: SeriesAnswer, answers: Sequence[SliceAnswer]) -> dict[str, Any]:
    found = together.decision.prediction_set
    return {
        "label": together.label,
        "prediction_set": None if found is None else "; ".join(found),
        "abstained": together.decision.abstained,
        "pooled_by": together.aggregation,
        "calibrated": together.calibrated,
        "answered": together.answered,
        "carried_by": "; ".join(answers[index].name for index in together.carriers),
        "refused": None,
    }
