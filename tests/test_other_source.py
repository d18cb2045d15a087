"""The benchmark of a class from another source: neither the source nor a patient of a test is learnt from."""

from __future__ import annotations

import pytest

from benchmarks.other_source import divide

ROWS = [
    {"path": f"{label}/{number}.{kind}", "label": label, "patient": f"{label}{kind}{number // 2}"}
    for label, kinds in {"covid": ("png",), "other": ("png", "jpg")}.items()
    for kind in kinds
    for number in range(40)
]


@pytest.mark.parametrize(("direction", "learnt"), [(1, "png"), (2, "jpg")])
def test_a_direction_tests_the_other_source_and_other_patients(direction: int, learnt: str) -> None:
    shared = {**ROWS[-1], "path": "other/99.png", "patient": ROWS[-1]["patient"]}  # a patient of both sources
    divided = divide([*ROWS, shared], direction)
    sources = {"train": set(), "validation": set(), "test": set()}
    patients = {split: set() for split in sources}
    for row in divided:
        patients[row["split"]].add(row["patient"])
        if row["label"] == "other":
            sources[row["split"]].add(row["path"][-3:])
    assert sources["train"] == sources["validation"] == {learnt} and sources["test"].isdisjoint({learnt})
    assert not patients["test"] & (patients["train"] | patients["validation"])
    assert not patients["train"] & patients["validation"]
    assert {row["label"] for row in divided if row["split"] == "validation"} == {"covid", "other"}
