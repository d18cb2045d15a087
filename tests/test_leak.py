"""The benchmark of what a split by slice is worth: its two runs are read back slice by slice and patient by patient."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest

from benchmarks.leak import SLICE, pooled, read_answers, table_of, write_slices
from ct_xception.checkpoint import FOLDS, PREDICTIONS

PATIENTS = {"a/1.png": "P1", "a/2.png": "P1", "b/1.png": "P2", "b/2.png": "P2", "a/3.png": "P3", "b/3.png": "P3"}


def write_run(run: Path, p_first: list[float]) -> Path:
    """Answers of folds to six slices, stored in the reverse order; a seventh was refused."""
    rows = [
        {"source": f"root/{path}", "label": path[0], "p a": p, "p b": 1 - p, "refused": None}
        for path, p in zip(PATIENTS, p_first, strict=True)
    ]
    rows.append({"source": "root/b/9.png", "label": "b", "p a": None, "p b": None, "refused": "no picture"})
    path = run / FOLDS / PREDICTIONS
    path.parent.mkdir(parents=True)
    pandas.DataFrame(rows[::-1]).to_parquet(path)
    return run


def test_both_runs_are_counted_by_slice_and_by_patient(tmp_path: Path) -> None:
    apart = read_answers(write_run(tmp_path / "apart", [0.9, 0.4, 0.8, 0.1, 0.9, 0.2]), PATIENTS)
    leaking = read_answers(write_run(tmp_path / "leaking", [0.9, 0.8, 0.2, 0.1, 0.9, 0.2]), PATIENTS)
    table = table_of(leaking, apart).splitlines()
    assert table[2].startswith("| by slice, n = 6 | accuracy, % | 100.0 (") and "| 66.7 (" in table[2]
    assert "| +33.3 (" in table[2]
    assert table[3].startswith("| by slice, n = 6 | AUROC | 1.000")
    # P3 has a slice of each class: no one right answer. P1 is "a" by its sure slice, P2 "b" by its own.
    assert table[4].startswith("| by patient, n = 2 | accuracy, % | 100.0 (") and "| 100.0 (" in table[4][45:]
    assert pooled(apart).patients == ["P1", "P2"]


def test_every_slice_is_called_a_patient_of_its_own(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.csv"
    corpus.write_text("path,label,patient\n" + "".join(f"{path},{path[0]},{one}\n" for path, one in PATIENTS.items()))
    rows = write_slices(corpus, tmp_path / "slices.csv")
    assert len({row[SLICE] for row in rows}) == len(PATIENTS)
    written = pandas.read_csv(tmp_path / "slices.csv")
    assert written["patient"].tolist() == list(PATIENTS.values()) and written[SLICE].is_unique


def test_runs_that_answered_other_slices_are_not_compared(tmp_path: Path) -> None:
    apart = read_answers(write_run(tmp_path / "apart", [0.9] * 6), PATIENTS)
    other = read_answers(write_run(tmp_path / "other", [0.9] * 6), PATIENTS | {"a/1.png": "P9"})
    with pytest.raises(SystemExit, match="same slices"):
        table_of(other, apart)
