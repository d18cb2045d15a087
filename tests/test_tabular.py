"""The columns beside an image: encodings by hand, missing and odd values, and what cannot be a column."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ct_xception.checkpoint_files import TabularRule
from ct_xception.errors import CheckpointError, InputError
from ct_xception.tabular import Tabular, fit_tabular, number_of, text_of

ROWS = [
    {"age": "50", "sex": "F"},
    {"age": "60Y", "sex": "f"},
    {"age": "", "sex": "M"},
    {"age": "70", "sex": "M"},
    {"age": "NA", "sex": "O"},
]
PATIENTS = ["a", "b", "c", "d", "e"]


def fitted() -> Tabular:
    rows = [row | {"age": row["age"].replace("60Y", "060Y")} for row in ROWS]
    return Tabular(fit_tabular(["age", "sex"], rows, PATIENTS))


def test_a_number_is_standardised_by_training_and_a_category_is_one_of_its_values() -> None:
    """Ages 50, 60 and 70: mean 60, deviation sqrt(200 / 3) = 8.165; O is of one patient only, and so is other."""
    columns = fitted()
    age, sex = columns.rule.columns
    assert age.mean == 60 and age.deviation == pytest.approx(np.sqrt(200 / 3))
    assert sex.values == ("F", "M")
    found = columns.encode({"age": 70, "sex": "m"})
    np.testing.assert_allclose(found.vector, [10 / np.sqrt(200 / 3), 0, 0, 1, 0, 0], rtol=1e-6)
    assert found.taken == {"age": 70.0, "sex": "M"} and found.notes == ()


def test_a_missing_value_has_a_mark_of_its_own_and_is_told() -> None:
    columns = fitted()
    assert columns.encode({"sex": "F", "age": None}).vector.tolist() == [0, 1, 1, 0, 0, 0]
    assert columns.absent.tolist() == columns.encode({"age": "n/a", "sex": ""}).vector.tolist() == [0, 1, 0, 0, 0, 1]
    assert columns.encode({}).notes == ("answered without age, sex",)
    assert columns.encode({"Age ": "55"}).notes == ("answered without sex",)


def test_what_training_never_saw_is_told() -> None:
    far, other = fitted().encode({"age": 630, "sex": "X"}).notes
    assert "630 is far from training" in far and "'X' is none of F, M: other" in other
    assert fitted().encode({"age": 630, "sex": "X"}).vector.tolist() == [5, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"agee": 3}, "'agee' is unknown; this checkpoint takes age, sex"),
        ({"age": "old"}, "'old' is no number"),
        ({"age": [63]}, "neither text nor a number"),
    ],
)
def test_a_row_that_cannot_be_taken_is_refused(row: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        fitted().encode(row)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["", "", "", ""], "has no value in all of training"),
        (["7", "7.0", "7", ""], "has one value in all of training"),
        (["a", "b", "c", "d"], "4 values in training that are no numbers .* of which 0 are of two patients"),
    ],
)
def test_a_column_with_nothing_to_learn_is_refused(cells: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        fit_tabular(["x"], [{"x": cell} for cell in cells], list("abcd"))


def test_ages_of_dicom_are_years() -> None:
    assert [number_of(text) for text in ("063Y", "006M", "inf", "63y")] == [63, 0.5, None, None]
    assert [text_of(value) for value in (63.0, np.float64("nan"), np.int64(3), True, " ? ")] == [
        "63",
        "",
        "3",
        "True",
        "",
    ]


def test_the_rule_comes_back_from_json() -> None:
    rule = fitted().rule
    assert TabularRule.from_json(json.dumps(rule.to_json())) == rule


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"columns": []},
        {"columns": [{"name": "a", "kind": "number", "mean": 1.0, "deviation": 0.0}]},
        {"columns": [{"name": "a", "kind": "number", "mean": 1.0}]},
        {"columns": [{"name": "a", "kind": "category", "values": ["x", "X"]}]},
        {"columns": [{"name": "a", "kind": "category", "values": []}]},
        {"columns": [{"name": "a", "kind": "category", "values": ["x"] * 65}]},
        {"columns": [{"name": "a", "kind": "text"}]},
        {"columns": [{"name": n, "kind": "number", "mean": 0.0, "deviation": 1.0} for n in ("a", "A")]},
    ],
)
def test_a_rule_that_training_could_not_have_written_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(CheckpointError):
        TabularRule.of(fitted().rule.to_json() | change)
