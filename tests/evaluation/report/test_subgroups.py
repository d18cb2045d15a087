"""Subgroups: who belongs to which, with what figure, and when one is called low."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from ct_xception.audit.survey import survey_corpus
from ct_xception.evaluation.report.subgroups import (
    MOST_VALUES,
    OTHERS,
    UNKNOWN,
    Trait,
    Worst,
    confusions_of,
    find_worst,
    likeness_trait,
    size_trait,
    subgroup_figures,
    survey_traits,
    worst_groups,
)
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


def test_the_worst_subgroup_is_found_and_its_chance_is_that_of_the_worst_of_many() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(80), 3)
    traits = [Trait(f"trait {k}", [f"value {one}" for one in np.repeat(rng.integers(3, size=80), 3)]) for k in range(6)]
    labels = np.zeros(240, np.intp)

    def worst_of(right: np.ndarray, seed: int = 0) -> Worst:
        predicted = np.where(right, 0, 1)
        found = find_worst(traits, labels, predicted, NAMES[:2], groups.tolist(), seed=seed, draws=300)
        assert found is not None and found.compared == 18
        return found

    planted = np.array(traits[4].values) == "value 2"
    found = worst_of(rng.random(240) < np.where(planted, 0.4, 0.95))
    assert (found.trait, found.subgroup.value) == ("trait 4", "value 2") and found.chance < 0.02
    assert found.rest > 0.9 > found.subgroup.accuracy.value and found.subgroup.n == planted.sum()
    chances = [worst_of(np.repeat(rng.random(80) < 0.8, 3), seed=seed).chance for seed in range(30)]
    assert sum(chance < 0.05 for chance in chances) <= 5  # of 1.5 expected, though 18 are tried each time
    assert len({round(chance, 2) for chance in chances}) > 5


def test_few_items_are_no_worst_subgroup() -> None:
    trait = Trait("window", ["lung"] * 5 + ["bone"] * 2)
    labels = np.zeros(7, np.intp)
    assert find_worst([trait], labels, labels, NAMES[:2], [str(k) for k in range(7)]) is None
