"""Comparisons against scipy's binomial, closed forms, and models known to be alike or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ct_xception.cli import main
from ct_xception.errors import InputError
from ct_xception.statistics.comparison import compare, compare_evaluations, describe_comparison, mcnemar, swap_test
from tests.metrics import head


def hits_of(b: int, c: int, both: int = 20) -> tuple[np.ndarray, np.ndarray]:
    first = np.repeat([True, False, True], [b, c, both])
    return first, np.repeat([False, True, True], [b, c, both])


class TestMcNemar:
    @pytest.mark.parametrize(("b", "c"), [(0, 1), (3, 9), (9, 3), (5, 5), (0, 12), (40, 21)])
    def test_is_the_binomial_sum(self, b: int, c: int) -> None:
        tail = sum(comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
        assert mcnemar(*hits_of(b, c)).to_json() == {"b": b, "c": c, "p": pytest.approx(min(1.0, 2 * tail), abs=1e-12)}

    def test_models_that_never_part_are_alike(self) -> None:
        assert mcnemar(*hits_of(0, 0)).to_json() == {"b": 0, "c": 0, "p": 1.0}

    def test_the_textbook_s_table(self) -> None:
        # statsmodels.stats.contingency_tables.mcnemar([[10, 5], [16, 20]], exact=True).pvalue
        assert mcnemar(*hits_of(5, 16)).p == pytest.approx(0.0266037, abs=1e-6)


class TestDifference:
    def test_agrees_with_the_standard_error_of_paired_differences(self) -> None:
        rng = np.random.default_rng(0)
        labels = np.zeros(500, int)
        first, second = (rng.random(500) > 0.1).astype(int) ^ 1, (rng.random(500) > 0.2).astype(int) ^ 1
        found = compare(labels, first, second, resamples=4000)
        apart = (first == 0).astype(float) - (second == 0)
        error = 1.96 * apart.std() / np.sqrt(500)
        figure = found.difference
        assert figure.value == pytest.approx(apart.mean(), abs=1e-12)
        assert (figure.low, figure.high) == pytest.approx((apart.mean() - error, apart.mean() + error), abs=0.004)
        assert found.first.value - found.second.value == pytest.approx(figure.value)
        assert found.by_group is None

    def test_pairing_narrows_the_interval(self) -> None:
        labels, first = np.zeros(300, int), np.repeat([0, 1], [200, 100])
        second = first.copy()
        second[:6] = 1
        figure = compare(labels, first, second).difference
        assert figure.value == pytest.approx(0.02) and figure.high - figure.low < 0.04

    def test_probabilities_are_taken_by_their_largest(self) -> None:
        probabilities = np.array([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4]])
        found = compare([0, 1, 1], probabilities, [0, 0, 1])
        assert found.mcnemar.b == found.mcnemar.c == 1
        json.dumps(found.to_json(), allow_nan=False)

    def test_one_lucky_patient_is_no_proof(self) -> None:
        """Twenty slices of one patient decide item by item, and say nothing patient by patient."""
        labels, groups = np.zeros(120, int), np.concatenate([np.zeros(20, int), np.arange(1, 101)])
        first, second = np.zeros(120, int), np.zeros(120, int)
        second[:20] = 1
        found = compare(labels, first, second, groups)
        assert found.mcnemar.p < 1e-5
        assert found.by_group.p == 1.0
        assert found.difference.low <= 0 < found.difference.value
        assert found.difference.method == "bootstrap_by_group"

    @pytest.mark.parametrize(
        ("labels", "first", "words"),
        [([0, 1], [0], "got"), ([], [], "N of at least 1"), ([0], [[np.nan, 1.0]], "hold NaN")],
    )
    def test_what_does_not_fit_is_refused(self, labels: list, first: list, words: str) -> None:
        with pytest.raises(InputError, match=words):
            compare(labels, first, labels)


def test_the_swap_test_of_single_items_is_mcnemar_s() -> None:
    first, second = hits_of(4, 13)
    apart = first.astype(float) - second
    found = swap_test(apart, np.arange(apart.size)).p
    assert found == pytest.approx(mcnemar(first, second).p, abs=0.008)


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes an evaluation folder of 40 items, two a patient, half of which have a twin; `wrong` items are missed."""

    def write_evaluation(name: str, wrong: range, *, label: str = "a", refused: int = 0, **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "metrics.json").write_text(json.dumps(head(**changes)))
        predicted = ["b" if i in wrong else "a" for i in range(40)]
        predicted[40 - refused :] = [None] * refused
        columns = {
            "source": [f"item {i:06d}" for i in range(40)],
            "group": [f"group {i // 2}" for i in range(40)],
            "label": [label] * 40,
            "predicted": predicted,
            "path": "predictor",
            "has_twin": [i < 20 for i in range(40)],
        }
        pd.DataFrame(columns).sample(frac=1, random_state=len(name)).to_parquet(folder / "predictions.parquet")
        return folder

    return write_evaluation


class TestEvaluations:
    def test_two_folders_are_compared_item_by_item(self, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
        first, second = write("first", range(0, 2)), write("second", range(1, 14))
        found = compare_evaluations(first, second)
        assert found.mcnemar.b == 12 and found.mcnemar.c == 1 and found.n_groups == 20
        assert found.difference.value == pytest.approx(11 / 40) and found.by_group.p < 0.05
        assert main(["compare", str(first), str(second)]) == 0
        printed = capsys.readouterr().out
        assert (
            "n = 40 items in 20 groups\n" in printed and "only the first right 12, only the second right 1" in printed
        )
        assert printed.endswith("The first is better on this split.\n")
        assert main(["compare", str(second), str(first), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["difference"]["value"] == pytest.approx(-11 / 40)

    def test_without_twins_and_without_the_refused(self, write: Write) -> None:
        first, second = write("first", range(0, 20)), write("second", range(0), refused=4)
        found = compare_evaluations(first, second, without_twins=True)
        assert found.n == 16 and found.left_out == 4 and found.difference.value == 0
        assert describe_comparison(found, "A", "B")[-1] == "This split does not tell the two apart."
        assert "n = 16 items in 8 groups, 4 left out that one refused" in describe_comparison(found, "A", "B")

    @pytest.mark.parametrize(
        ("other", "words"),
        [
            ({"split_hash": "beef"}, r"different splits \(5f0c and beef\)"),
            ({"split": "validation"}, "different splits"),
            ({"label_names": ["b", "a"]}, "different classes"),
            ({"corpus": {"hash": "c1"}}, "different corpora"),
            ({"label": "b"}, "different items or labels"),
            ({"refused": 40}, "no item that both evaluations answered"),
        ],
    )
    def test_other_items_are_refused(self, write: Write, other: dict[str, Any], words: str) -> None:
        first, second = write("first", range(3)), write("second", range(3), **other)
        with pytest.raises(InputError, match=words):
            compare_evaluations(first, second)

    def test_fewer_items_are_refused(self, write: Write) -> None:
        first, second = write("first", range(3)), write("second", range(3))
        table = pd.read_parquet(second / "predictions.parquet")
        table.iloc[1:].to_parquet(second / "predictions.parquet")
        for pair in ((first, second), (second, first)):
            with pytest.raises(InputError, match="different items or labels"):
                compare_evaluations(*pair)
        pd.concat([table, table.iloc[:1]]).to_parquet(second / "predictions.parquet")
        with pytest.raises(InputError, match="holds an item twice"):
            compare_evaluations(first, second)

    def test_cross_validations_of_runs_with_other_splits(
        self, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name, wrong, split_hash in (("one", range(0, 2), "5f0c"), ("two", range(1, 14), "beef")):
            folder = write(name, wrong, split_hash=split_hash)
            (folder / "predictions.parquet").rename(folder / "predictions_grouped.parquet")
            (tmp_path / f"run {name}" / "model").mkdir(parents=True)
            folder.rename(tmp_path / f"run {name}" / "model" / "evaluation")
        runs = [str(tmp_path / "run one"), str(tmp_path / "run two" / "model")]
        assert main(["compare", *runs, "--protocol", "grouped"]) == 0
        printed = capsys.readouterr().out
        assert "only the first right 12, only the second right 1" in printed
        assert printed.endswith("The first is better on these folds.\n")
        assert compare_evaluations(*runs, protocol="grouped").split == "all"
        folder = write("three", range(3))
        assert main(["compare", str(folder), str(folder), "--protocol", "grouped"]) == 2
        assert "has no cross-validation; train it with --protocols grouped" in capsys.readouterr().err

    def test_what_is_no_evaluation_exits_2(
        self, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        first = write("first", range(3))
        assert main(["compare", str(first), str(tmp_path / "gone")]) == 2
        assert "gone: is no evaluation folder" in capsys.readouterr().err
        assert main(["compare", str(first), str(first), "--path", "stock_pipeline"]) == 2
        assert "holds no answers of 'stock_pipeline'; it has predictor" in capsys.readouterr().err
