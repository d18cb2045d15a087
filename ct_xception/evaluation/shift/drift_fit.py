"""What a checkpoint keeps of its patients, so that a set of new slices can be compared with them (`serving/drift.py`).

rule, arrays = fit_reference(train, validation, distance)
write_reference(folder, rule, arrays)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from ct_xception.checkpoint import DRIFT
from ct_xception.checkpoint_files import need_side, write_side
from ct_xception.evaluation.gate_fit import Seen
from ct_xception.files import write_atomically
from ct_xception.serving.drift import feature_coordinates, link_lookalikes
from ct_xception.serving.gate import Distance
from ct_xception.statistics.intervals import group_indices
from ct_xception.statistics.two_sample import unit_means

FEWEST_PATIENTS = 8  # of validation: fewer tell nothing about a set
MOST_VALUES = 512  # sorted values kept of each number; more patients would not move a test

Floats = NDArray[np.float32]


def fit_reference(train: Seen, validation: Seen, distance: Distance) -> tuple[dict[str, Any], dict[str, Floats]]:
    """The key `drift` of ct_xception.json and the arrays of drift.safetensors; {} and {} where patients are too few.

    Traits are those of training and validation patients, features of validation's alone.
    """
    groups = group_indices(validation.groups, len(validation.groups))
    if not len(groups) or groups.max() + 1 < FEWEST_PATIENTS:
        return {}, {}
    both = [*train.groups, *validation.groups]
    traits = unit_means(np.array([*train.traits, *validation.traits]), group_indices(both, len(both)))
    features = unit_means(feature_coordinates(distance, validation.features), groups)
    alike = link_lookalikes(np.stack(validation.thumbnails))
    pairs = len(set(zip(groups.tolist(), alike.tolist(), strict=True)))
    rule = {
        "version": 1,
        "n_patients": {"traits": len(traits), "features": len(features)},
        "units_each": max(1.0, pairs / len(features)),
    }
    return rule, {"traits": _sorted(traits), "features": _sorted(features)}


def _sorted(values: NDArray[np.float64]) -> Floats:
    """Each column's values in order, (C, U): a row tells of no patient. Of many, evenly spaced ones."""
    ordered = np.sort(values, axis=0)
    rows = np.linspace(0, len(ordered) - 1, min(len(ordered), MOST_VALUES)).round().astype(int)
    return np.ascontiguousarray(ordered[rows].T.astype(np.float32))


def write_reference(folder: Path, rule: Mapping[str, Any], arrays: Mapping[str, Floats]) -> None:
    """Put it into a checkpoint folder, or take an older one out: the arrays, then the rule in its side file."""
    path = folder / DRIFT
    if arrays:
        write_atomically(path, save(dict(arrays)))
    else:
        path.unlink(missing_ok=True)
    stated = {key: value for key, value in need_side(folder).to_json().items() if key != "drift"}
    write_side(folder, type(need_side(folder)).of(stated | ({"drift": dict(rule)} if rule else {})))
