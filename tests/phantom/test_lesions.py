"""Recipes find their classes, and lesions lie where their masks say."""

from __future__ import annotations

import numpy as np
import pytest

from ct_xception.errors import InputError
from ct_xception.phantom.corpus import REFERENCE_CLASSES, Patient, class_names, phantom_slice
from ct_xception.phantom.lesions import RECIPES, assign_recipes


def test_reference_classes_get_their_own_recipes():
    chosen = assign_recipes(REFERENCE_CLASSES)
    assert chosen.pop("normal") is None
    assert {label: recipe.name for label, recipe in chosen.items() if recipe} == {label: label for label in chosen}


def test_other_names_get_the_next_free_recipes_in_order():
    chosen = assign_recipes(["benign", "Large Cell Carcinoma", "Normal", "malignant"])
    names = {label: recipe and recipe.name for label, recipe in chosen.items()}
    assert names == {
        "benign": "adenocarcinoma",
        "Large Cell Carcinoma": "large cell carcinoma",
        "Normal": None,
        "malignant": "squamous cell carcinoma",
    }


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["normal"], "at least two classes, got 1"),
        (["a", "A "], "repeat a name"),
        (["a", ""], "leave one empty"),
        ([str(index) for index in range(21)], "20 kinds of lesion and 21 classes"),
    ],
)
def test_impossible_classes_are_refused(classes: list[str], words: str):
    with pytest.raises(InputError, match=words):
        assign_recipes(classes)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipe_shows_in_the_lungs(recipe):
    classes = class_names(len(RECIPES) + 1)
    for seed in range(4):
        image = phantom_slice(np.random.default_rng(seed), recipe.name, classes=classes, size=96)
        assert image.lesion_mask.sum() > 0.004 * image.lung_mask.sum()
        assert not (image.lesion_mask & ~image.lung_mask).any()


def test_lesion_hu_is_the_recipes():
    classes = class_names(len(RECIPES) + 1)
    means = {}
    for name in ("large cell carcinoma", "ground-glass opacity", "pneumothorax", "pleural effusion"):
        rng = np.random.default_rng(3)
        patient = Patient.draw(rng, assign_recipes(classes)[name])
        image = phantom_slice(rng, name, classes=classes, patient=patient, size=128)
        means[name] = float(np.median(image.hu[image.lesion_mask]))
    assert 20.0 < means["large cell carcinoma"] < 90.0
    assert -650.0 < means["ground-glass opacity"] < -400.0
    assert means["pneumothorax"] < -920.0
    assert 0.0 < means["pleural effusion"] < 60.0
