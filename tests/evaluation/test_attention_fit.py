"""Attention learnt on phantom patients whose lesion shows in few of many slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import uniform_filter
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ct_xception.evaluation.attention_fit import fit_attention, has_bags
from ct_xception.evaluation.gate_fit import Seen
from ct_xception.phantom.corpus import Patient, PhantomSlice, phantom_slice
from ct_xception.phantom.lesions import assign_recipes
from ct_xception.statistics.attention import attention_weights
from ct_xception.statistics.pooling import fit_pooling

CLASSES = ("squamous cell carcinoma", "normal")
SLICES, SHOWN = 8, (3, 4)
PATIENTS, TRAINING = 92, 54


def describe(image: PhantomSlice) -> list[float]:
    """What a network that knows lungs might see: how dense their densest places are, and the picture's grey."""
    grey = np.clip((image.hu + 1000) / 1400, 0, 1)
    lung = np.where(image.lung_mask, grey, 0)
    smooth = np.sort((uniform_filter(lung, 5) * image.lung_mask).ravel())
    dense = [float((lung > 0.55).mean()), float(image.lung_mask.mean())]
    return [*smooth[[-1, -5, -10, -20, -40]], *dense, float(grey.mean()), float(grey.std())]


@pytest.fixture(scope="module")
def patients() -> Seen:
    """Slices in order, SLICES a patient; the lesion of every other patient shows in two of them."""
    rng, recipes = np.random.default_rng(0), assign_recipes(CLASSES)
    rows, labels = [], []
    for number in range(PATIENTS):
        label = number % 2
        patient = Patient.draw(rng, recipes[CLASSES[label]])
        for place in range(SLICES):
            one = patient if place in SHOWN else replace(patient, lesion=None)
            level = patient.level + 0.02 * (place - SLICES / 2)
            image = phantom_slice(rng, CLASSES[label], classes=CLASSES, size=64, patient=one, level=level)
            rows.append(describe(image))
            labels.append(label)
    groups = np.repeat([f"patient {number:03d}" for number in range(PATIENTS)], SLICES)
    training = slice(TRAINING * SLICES)
    rows, labels = np.array(rows), np.array(labels)
    scaled = StandardScaler().fit(rows[training]).transform(rows)
    # A head that is taught as networks are: every slice by its patient's class, seen or not.
    head = LogisticRegression().fit(scaled[training], labels[training]).decision_function(scaled)
    logits = np.stack([-head / 2, head / 2], axis=1).astype(np.float32)
    return Seen(scaled.astype(np.float32), groups=tuple(groups), labels=tuple(labels), logits=tuple(logits))


def part(seen: Seen, rows: slice) -> Seen:
    return Seen(seen.features[rows], groups=seen.groups[rows], labels=seen.labels[rows], logits=seen.logits[rows])


def test_it_listens_to_the_slices_that_show_the_lesion_and_is_chosen_by_other_patients(patients: Seen) -> None:
    training, others = part(patients, slice(TRAINING * SLICES)), part(patients, slice(TRAINING * SLICES, None))
    attention = fit_attention(training)
    assert attention is not None and attention.tanh_weight.shape == (32, 9)
    scores = attention(others.features)
    weights = np.array([attention_weights(bag) for bag in scores.reshape(-1, SLICES)])
    ill = np.array(others.labels).reshape(-1, SLICES)[:, 0] == 0
    assert weights[ill][:, SHOWN].sum(axis=1).mean() > 0.6  # of two in eight, where a quarter would be chance
    odds = np.exp(np.array(others.logits, np.float64))
    each = odds / odds.sum(axis=1, keepdims=True)
    chosen = fit_pooling(each, others.labels, others.groups, attention=scores)
    assert chosen["method"] == "attention"
    assert chosen["losses"]["attention"] < 0.8 * chosen["losses"]["mean_log"]


def test_the_same_seed_gives_the_same_weights(patients: Seen) -> None:
    training = part(patients, slice(TRAINING * SLICES))
    first, second, third = (fit_attention(training, seed=seed) for seed in (3, 3, 4))
    assert first is not None and second is not None and third is not None
    assert all((first.arrays[name] == second.arrays[name]).all() for name in first.arrays)
    assert not np.array_equal(first.gate_weight, third.gate_weight)


def test_patients_with_one_slice_each_or_of_one_class_teach_nothing(patients: Seen) -> None:
    alone = part(patients, slice(0, None, SLICES))
    assert fit_attention(alone) is None and not has_bags(alone.groups)
    assert fit_attention(replace(patients, labels=(1,) * len(patients.labels))) is None
    few = part(patients, slice(19 * SLICES))
    assert fit_attention(few) is None and not has_bags(few.groups)


def test_what_helps_nobody_is_not_kept() -> None:
    """Features that say nothing: after no step do the patients kept apart fare better than by equal weights."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(60) % 2, 4)
    right = np.where(labels == 0, 2.0, -2.0).astype(np.float32)  # every slice alike, so that no weight matters
    logits = np.stack([right, -right], axis=1)
    groups = np.repeat([f"p{number}" for number in range(60)], 4)
    features = rng.normal(0, 1, (240, 8)).astype(np.float32)
    assert fit_attention(Seen(features, groups=tuple(groups), labels=tuple(labels), logits=tuple(logits))) is None
