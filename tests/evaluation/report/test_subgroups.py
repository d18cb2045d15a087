"""Subgroups: who belongs to which, with what figure, and when one is called low."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from ct_xception.audit.survey import survey_corpus
from ct_xception.evaluation.answers import PREDICTOR, Answers, Items
from ct_xception.evaluation.protocols import Part
from ct_xception.evaluation.report.subgroups import (
    MOST_VALUES,
    OTHERS,
    UNKNOWN,
    Trait,
    confusions_of,
    describe_worst,
    likeness_trait,
    published_traits,
    size_trait,
    subgroup_figures,
    subgroup_metrics,
    survey_traits,
    worst_groups,
)
from ct_xception.metrics import SubgroupMetrics, WorstSubgroup
from ct_xception.statistics.intervals import wilson_interval

NAMES = ["benign", "malignant", "normal"]


def test_figures_of_a_subgroup_are_those_of_its_items() -> None:
    labels = np.array([0] * 60 + [1] * 40)
    predicted = labels.copy()
    predicted[60:80] = 2  # half of the second half of the images
    rows = subgroup_figures(Trait("kernel", ["B30"] * 60 + ["B70"] * 40), labels, predicted, NAMES)
    soft, sharp = rows
    assert [(row.value, row.n, row.n_groups) for row in rows] == [("B30", 60, 60), ("B70", 40, 40)]
    assert sharp.accuracy.value == 0.5
    assert (sharp.accuracy.low, sharp.accuracy.high) == pytest.approx(wilson_interval(0.5, 40))
    assert sharp.confusions == (("malignant", "normal", 20),) and soft.confusions == ()
    assert sharp.low and not soft.low


@pytest.mark.parametrize(
    ("size", "wrong", "patients", "low"),
    [
        (20, 8, 20, True),
        (20, 3, 20, False),  # 85 % right, and the interval reaches the whole's 90 %
        (9, 9, 9, False),  # all wrong, but too few to be called anything
        (20, 20, 2, False),  # all wrong, but of two patients
    ],
)
def test_a_subgroup_is_low_where_neither_luck_nor_one_patient_explains_it(
    size: int, wrong: int, patients: int, low: bool
) -> None:
    labels = np.zeros(1000 + size, int)
    predicted = np.where(np.arange(labels.size) >= 1000 + size - wrong, 1, 0)
    predicted[:100] = 1  # of the other 1,000
    groups = [f"other {k}" for k in range(1000)] + [f"own {k % patients}" for k in range(size)]
    found = subgroup_figures(Trait("sex", ["F"] * 1000 + ["M"] * size), labels, predicted, NAMES, groups)
    assert (found[1].n, found[1].n_groups, found[1].low) == (size, patients, low)
    assert not found[0].low


def test_slices_of_one_patient_are_about_one_item() -> None:
    labels, predicted = np.zeros(100, int), np.arange(100) // 99
    figure = subgroup_figures(Trait("sex", ["F"] * 100), labels, predicted, NAMES, ["p"] * 100)[0].accuracy
    assert figure.value == 0.99 and figure.low < 0.5


def test_sizes_fall_into_steps_of_the_shorter_side() -> None:
    width, height = np.array([127.0, 128, 900, 512, 5000, np.nan]), np.array([900.0, 400, 255, 512, 1024, np.nan])
    trait = size_trait(width, height)
    assert trait.values == [
        "below 128 px", "128 to 255 px", "128 to 255 px", "512 to 767 px", "1024 px or more", UNKNOWN
    ]  # fmt: skip
    shown = [row.value for row in subgroup_figures(trait, np.zeros(6, int), np.zeros(6, int), NAMES)]
    assert shown == ["below 128 px", "128 to 255 px", "512 to 767 px", "1024 px or more", UNKNOWN]


def test_likeness_falls_into_twins_same_patient_and_others() -> None:
    values = likeness_trait(np.array([0.951, 0.95, 0.9, 0.85, 0.2])).values
    assert values == ["r 0.95 or more"] * 2 + ["r 0.85 to 0.95"] * 2 + ["r below 0.85"]


def test_rare_values_are_put_together_and_come_last() -> None:
    values = [f"scanner {k}" for k in range(12) for _ in range(20 - k)] + [""] * 3
    trait = Trait("scanner", [value or UNKNOWN for value in values])
    n = len(values)
    rows = subgroup_figures(trait, np.zeros(n, int), np.zeros(n, int), NAMES)
    assert len(rows) == MOST_VALUES and rows[0].value == "scanner 0" and rows[-1].value == OTHERS
    assert sum(row.n for row in rows) == n


def test_confusions_are_counted_and_ranked() -> None:
    found = confusions_of(np.array([0, 2, 0, 1]), np.array([1, 1, 1, 0]), NAMES)
    assert found == (("benign", "malignant", 2), ("malignant", "benign", 1), ("normal", "malignant", 1))


def test_groups_with_most_mistakes_come_first_and_single_images_are_no_group() -> None:
    groups = ["a", "a", "b", "b", "b", "c", "d", "d"]
    labels, predicted = np.zeros(8, int), np.array([0, 1, 1, 2, 0, 1, 0, 0])
    found = worst_groups(labels, predicted, NAMES, groups)
    assert [(one.name, one.n, one.right) for one in found] == [("b", 3, 1), ("a", 2, 1)]
    assert found[0].confusions == (("benign", "malignant", 1), ("benign", "normal", 1))


def test_traits_come_from_the_survey(picture_split: Dataset) -> None:
    survey = survey_corpus(DatasetDict(test=picture_split), processes=1, progress=False)
    survey = replace(survey, metadata={"sex": ["F", "M", "", "F", "M", "", "F", "M"]})
    traits = {trait.name: trait.values for trait in survey_traits(survey, np.array([2, 1]))}
    assert traits == {
        "source split": ["test", "test"],
        "window": ["8-bit", "8-bit"],
        "shorter side of the picture": ["below 128 px"] * 2,
        "file format": ["PNG", "PNG"],
        "sex": [UNKNOWN, "M"],
    }


def block_of(traits: dict[str, list[str]], right: np.ndarray, groups: Sequence[Any], **how: Any) -> SubgroupMetrics:
    """The subgroups of items of one class, of which some are answered right."""
    items = Items(np.zeros(len(right), np.intp), [str(group) for group in groups], [str(k) for k in range(len(right))])
    answers = Answers(np.where(right, [[0.9], [0.1]], [[0.1], [0.9]]).T)
    found = subgroup_metrics(Part(items, {PREDICTOR: answers}, traits=traits), **how)
    assert found is not None
    return found


def test_the_worst_subgroup_is_found_and_its_chance_is_that_of_the_worst_of_many() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(80), 3)
    traits = {f"trait {k}": [f"value {one}" for one in np.repeat(rng.integers(3, size=80), 3)] for k in range(6)}

    def worst_of(right: np.ndarray, seed: int = 0) -> WorstSubgroup:
        found = block_of(traits, right, groups, seed=seed, draws=300)
        assert found.compared == 18 and found.worst is not None
        return found.worst

    planted = np.array(traits["trait 4"]) == "value 2"
    found = worst_of(rng.random(240) < np.where(planted, 0.4, 0.95))
    assert (found.trait, found.value) == ("trait 4", "value 2") and found.chance < 0.02
    assert found.rest.value > 0.9 > found.accuracy.value and found.n == planted.sum()
    chances = [worst_of(np.repeat(rng.random(80) < 0.8, 3), seed=seed).chance for seed in range(30)]
    assert sum(chance < 0.05 for chance in chances) <= 5  # of 1.5 expected, though 18 are tried each time
    assert len({round(chance, 2) for chance in chances}) > 5


def test_the_chance_of_one_split_is_that_of_a_permutation_test() -> None:
    """Six patients, three a side, all of one side wrong: 1 of the 20 ways to deal them out is as bad, and so is its
    mirror, where the other side is the worst."""
    groups, right = np.repeat(np.arange(6), 4), np.repeat([True, True, True, False, False, False], 4)
    found = block_of({"scanner": ["old" if one > 2 else "new" for one in groups]}, right, groups, draws=4000)
    assert found.compared == 2 and found.worst is not None
    assert (found.worst.value, found.worst.n, found.worst.n_groups) == ("old", 12, 3)
    assert found.worst.accuracy.value == 0 and found.worst.rest.value == 1
    assert found.worst.chance == pytest.approx(0.1, abs=0.02)  # 4 standard errors of 4,000 draws
    assert describe_worst(found, "patients") == (
        "Worst of 2 subgroups looked at: scanner, old: 0.0 % right (95 % interval 0.0 to "
        f"{100 * found.worst.accuracy.high:.1f}; n = 12 slices of 3 patients), beside 100.0 % right (95 % interval "
        f"{100 * found.worst.rest.low:.1f} to 100.0) of all others: not beyond chance after correction for all 2 "
        f"(p = {found.worst.chance:.2g}; the intervals are not corrected)."
    )
    one = found.model_copy(update={"compared": 1})
    assert describe_worst(one, "patients").startswith("The one subgroup looked at: scanner, old: 0.0 % right")
    assert describe_worst(one, "patients").endswith(f"all others: not beyond chance (p = {found.worst.chance:.2g}).")
    higher = found.worst.model_copy(update={"accuracy": found.worst.rest, "rest": found.worst.accuracy})
    above = found.model_copy(update={"worst": higher})
    assert describe_worst(above, "patients") == "None of the 2 subgroups looked at lies below all others."
    above = above.model_copy(update={"compared": 1})
    assert describe_worst(above, "patients") == "The one subgroup looked at does not lie below all others."


def test_where_no_subgroup_or_no_mistake_is_there_it_is_said() -> None:
    few = block_of({"window": ["lung"] * 5 + ["bone"] * 2}, np.zeros(7, bool), range(7))
    assert few == SubgroupMetrics(traits=("window",), compared=0)
    assert describe_worst(few, "groups").startswith("No subgroup was looked at: none has 10 slices of 3 groups")
    right = block_of({"window": ["lung"] * 12 + ["bone"] * 11}, np.ones(23, bool), range(23))
    assert describe_worst(right, "groups") == "No answer is wrong in any of the 2 subgroups looked at."
    items = Items(np.zeros(2, np.intp), ["a", "b"], ["a", "b"])
    assert subgroup_metrics(Part(items, {PREDICTOR: Answers(np.eye(2))})) is None


def test_published_traits_part_the_items_and_name_nothing_rare() -> None:
    scanners = Trait("scanner", [f"scanner {k}" for k in range(12)])
    found = published_traits([scanners, Trait("format", ["PNG"] * 12)])
    assert list(found) == ["scanner"] and found["scanner"].count(OTHERS) == 12 - (MOST_VALUES - 1)
