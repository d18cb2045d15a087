"""What the validation split decides for a checkpoint, and what that is worth on images it was not decided on.

`fit_rules` gives the part of ct_xception.json that says how to decide; `rule_figures` measures it on the test split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint_files import FittedOn, Rules, Side
from ct_xception.errors import InputError
from ct_xception.evaluation.answers import PREDICTOR, Answers, Items
from ct_xception.evaluation.gate_fit import gate_figures
from ct_xception.evaluation.patients import fit_unit_rules
from ct_xception.evaluation.protocols import GROUPED, Part
from ct_xception.metrics import Calibration, ConformalMetrics, Measured
from ct_xception.statistics.calibration import apply_temperature, calibration_figures, fit_temperature
from ct_xception.statistics.class_groups import question_figures
from ct_xception.statistics.conformal import conformal_figures, fit_conformal
from ct_xception.statistics.operating import (
    abstention_figures,
    choose_abstention,
    choose_operating_points,
    operating_figures,
)

if TYPE_CHECKING:
    from datasets import Dataset


def fit_rules(
    items: Items,
    answers: Answers,
    label_names: Sequence[str],
    *,
    coverage: float,
    class_groups: Mapping[str, Sequence[str]],
    calibrated: bool = False,
    crossing: bool = False,
    patients_known: bool = False,
    by_class: bool = False,
    seed: int = 0,
) -> Rules:
    """The temperature, and the rules for probabilities that it has scaled, from the validation split.

    The temperature is 1.0 where the network is `calibrated` already, and only the rules are wanted. `crossing` says
    that groups of validation lie in other splits as well: these were drawn image by image then, and answers to
    validation foretell those to images drawn alike, but nothing about a new patient; so sets are not promised for one.
    `by_class`: sets are to hold the true class as often for each class, and not over all.
    """
    kept = answers.answered
    if not kept.any():
        raise InputError("no file of the validation split can be read: there is nothing to calibrate on.")
    own = items.select(kept)
    temperature = 1.0 if calibrated else fit_temperature(answers.probabilities[kept], own.labels)
    scaled = apply_temperature(answers.probabilities[kept], temperature)
    known: dict[str, Any] = {"patients_known": patients_known, "crossing": crossing, "by_class": by_class, "seed": seed}
    known["attention"] = None if answers.attention is None else answers.attention[kept]
    pooling = fit_unit_rules(own, scaled, label_names, coverage=coverage, class_groups=class_groups, **known)
    told: dict[str, Any] = {} if pooling is None else {"pooling": pooling}
    if class_groups:
        told["class_groups"] = {name: tuple(classes) for name, classes in class_groups.items()}
    return Rules(
        temperature=temperature,
        calibration=FittedOn(split="validation", n=int(kept.sum()), n_groups=len(set(own.groups))),
        conformal=fit_conformal(
            scaled, own.labels, coverage, None if crossing else own.groups, by_class=label_names if by_class else None
        ),
        operating_points=choose_operating_points(scaled, own.labels, label_names, class_groups or None, own.groups),
        abstention=choose_abstention(scaled, own.labels, label_names, own.groups),
        **told,
    )


def groups_cross(splits: Mapping[str, Dataset]) -> bool:
    """Whether a group of the validation split lies in another split, too."""
    members = {name: set(part.select_columns("group")[:]["group"]) for name, part in splits.items()}
    held_out = members.pop("validation")
    return any(held_out & others for others in members.values())


def rule_figures(side: Side, parts: Mapping[str, Part], label_names: Sequence[str], seed: int) -> Measured:
    """The metrics of a checkpoint's rules; the first of `parts` is the own test split.

    The rules are this checkpoint's, so they are measured on its own answers, and not on those of other folds; questions
    have no rule, and are answered for every part.
    """
    asked = {name: part.answered() for name, part in parts.items()}
    asked = {name: found for name, found in asked.items() if len(found[1])}
    own = next(iter(parts))
    found = _own_figures(side, asked[own], label_names, seed) if own in asked else {}
    if side.gate is not None:
        items, verdicts = parts[own].items, parts[own].paths[PREDICTOR].verdicts
        found["gate"] = gate_figures(side.gate, [verdicts.get(name) for name in items.sources], items.groups)
    if (rule := side.conformal) is not None:
        coverages = {
            name: conformal_figures(rule, scores, labels, label_names, groups, seed=seed)
            for name, (scores, labels, groups) in asked.items()
            if name != GROUPED
        }
        found["conformal"] = ConformalMetrics(rule=rule, **coverages)
    if side.class_groups:
        found["class_groups"] = side.class_groups
        found["questions"] = {
            name: question_figures(scores, labels, label_names, side.class_groups, groups, seed=seed)
            for name, (scores, labels, groups) in asked.items()
        }
    return Measured(**found)


def _own_figures(
    side: Side,
    asked: tuple[NDArray[np.float64], NDArray[np.intp], list[str]],
    label_names: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    scores, labels, groups = asked
    found: dict[str, Any] = {}
    if side.calibration is not None:
        found["calibration"] = Calibration(
            temperature=side.temperature,
            n_validation=side.calibration.n,
            # Raising to the power T undoes the division of the logits by T.
            before=calibration_figures(apply_temperature(scores, 1 / side.temperature), labels, groups, seed=seed),
            after=calibration_figures(scores, labels, groups, seed=seed),
        )
    if side.operating_points:
        found["operating_points"] = operating_figures(side.operating_points, scores, labels, label_names, groups)
    if side.abstention is not None:
        found["abstention"] = abstention_figures(side.abstention, scores, labels, label_names, groups)
    return found
