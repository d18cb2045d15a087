"""What evaluation/export.json says, as types: each file of another runtime, and what was measured of it.

record = read_exports(folder / evaluated(EXPORT))
record.files["onnx"].milliseconds
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ct_xception.checkpoint import EXPORT_FORMAT
from ct_xception.checkpoint_files import Count, Stated, Text
from ct_xception.metrics import AgreementMetrics


class Difference(Stated):
    """How far a float32 file is from the network on `n` slices: {output: the largest; None where it is not finite}."""

    n: Count
    slices: str
    tolerance: float
    largest: dict[Text, float | None]


class CalibratedOn(Stated):
    """The slices that int8 was calibrated on."""

    n: Count
    split: Text


class ExportedFile(Stated):
    """One runtime's file: its hashes and size, its speed for a slice, and what it is worth.

    A float32 file has its `difference`, an approximation its `figures`, and `unsure` where its bars cannot be told.
    `reason` says why a file is not kept.
    """

    sha256: dict[Text, Text] = {}
    bytes: Count = 0
    milliseconds: float | None = None
    difference: Difference | None = None
    figures: AgreementMetrics | None = None
    split_hash: Text | None = None
    calibration: CalibratedOn | None = None
    unsure: str | None = None
    reason: str | None = None


class ExportRecord(Stated):
    """export.json: the files of these weights by runtime, those that were kept and those that were not."""

    format: Literal[EXPORT_FORMAT]  # type: ignore[valid-type]
    weights_sha256: Text | None
    files: dict[Text, ExportedFile] = {}
    kept_out: dict[Text, ExportedFile] = {}

    @property
    def all(self) -> dict[str, ExportedFile]:
        """Every runtime's file, those kept first."""
        return {**self.files, **self.kept_out}


def read_exports(path: Path) -> ExportRecord:
    """An export.json. Raises OSError, and CheckpointError where it is of another format or form."""
    return ExportRecord.from_json(path.read_bytes(), path.name)
