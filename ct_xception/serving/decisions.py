"""What a checkpoint says about how to decide on its probabilities: prediction sets, operating points, abstention.

The rules were chosen on validation by the build side and stand in `ct_xception.json` under `conformal`,
`operating_points`, `class_groups` and `abstention`; here they are only read and applied. A checkpoint without them
decides nothing beyond its most probable class, and keys or methods of a later version are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint_files import ConformalRule, Metric, PointRule, Side
from ct_xception.errors import InputError, printable
from ct_xception.statistics.conformal import METHODS, set_members

Floats = NDArray[np.float64]


@overload
def prediction_set(probabilities: Mapping[str, float], rule: ConformalRule) -> tuple[str, ...]: ...
@overload
def prediction_set(probabilities: Sequence[float] | Floats, rule: ConformalRule) -> tuple[int, ...]: ...
def prediction_set(
    probabilities: Mapping[str, float] | Sequence[float] | Floats, rule: ConformalRule
) -> tuple[str, ...] | tuple[int, ...]:
    """The classes that `rule` keeps for one answer, the most probable first: names of a mapping, indices of an array.

    An empty set says that no class fits as well as the right ones of calibration usually did (lac only).
    """
    names = list(probabilities) if isinstance(probabilities, Mapping) else None
    values = np.array(list(probabilities.values()) if isinstance(probabilities, Mapping) else probabilities, float)
    members = set_members(values, rule)
    kept = [int(k) for k in np.argsort(-values, kind="stable") if members[k]]
    return tuple(kept) if names is None else tuple(names[k] for k in kept)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold for one question, classes `positive` against the others, chosen on validation.

    The answer is yes where the probabilities of `positive` sum to at least `threshold`. `kind` is "class" (one against
    the rest) or "group" (a named class group); `chosen_for` says what the threshold was to reach; `sensitivity` and
    `specificity` are its figures on the `n` validation items.
    """

    name: str
    positive: tuple[str, ...]
    threshold: float
    chosen_for: str
    kind: str = "class"
    sensitivity: Metric | None = None
    specificity: Metric | None = None
    n: int = 0

    @classmethod
    def of(cls, stated: PointRule, threshold: float) -> OperatingPoint:
        """From an entry of `operating_points` that has a threshold."""
        head = stated.name, stated.positive, threshold, stated.chosen_for, stated.kind
        return cls(*head, stated.sensitivity, stated.specificity, stated.n)

    def score(self, probabilities: Mapping[str, float]) -> float:
        """The probability of the positive classes together, in [0, 1]."""
        return float(sum(probabilities[name] for name in self.positive))

    def is_positive(self, probabilities: Mapping[str, float]) -> bool:
        """Whether this point says yes."""
        return self.score(probabilities) >= self.threshold


@dataclass(frozen=True)
class Decision:
    """What the rules make of one answer; None or empty where the checkpoint has no such rule.

    `prediction_set` holds class names, the most probable first, at a nominal `coverage`; `operating` maps a point's
    name to {"positive", "score", "threshold", "classes", "kind"}; `abstained` says that the most probable class stays
    below `abstain_below`, the confidence at which this checkpoint answers. `temperature` calibrated the probabilities;
    1 did not.
    """

    prediction_set: tuple[str, ...] | None = None
    coverage: float | None = None
    operating: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    abstained: bool | None = None
    abstain_below: float | None = None
    temperature: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: only what the checkpoint has rules for."""
        found: dict[str, Any] = {}
        if self.prediction_set is not None:
            found["prediction_set"] = {"coverage": self.coverage, "classes": list(self.prediction_set)}
        if self.operating:
            found["operating"] = {name: dict(point) for name, point in self.operating.items()}
        if self.abstained is not None:
            found["abstained"] = self.abstained
        return found


@dataclass(frozen=True)
class Decisions:
    """Every rule of a checkpoint. `temperature` is the one already folded into the head; 1 where none was fitted."""

    conformal: ConformalRule | None = None
    operating_points: tuple[OperatingPoint, ...] = ()
    class_groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    abstain_below: float | None = None
    temperature: float = 1.0

    @classmethod
    def of(cls, side: Side, label_names: Sequence[str]) -> Decisions:
        """The rules in a side file. Raises InputError where one speaks of classes that are not there."""
        rule = side.conformal
        # A rule of a later version is passed over: no set is better than a wrong one.
        conformal = None if rule is None or rule.method not in METHODS else rule
        # A point that could not be had on validation has no threshold, and nothing to apply.
        points = tuple(
            OperatingPoint.of(point, point.threshold) for point in side.operating_points if point.threshold is not None
        )
        named = {name for point in points for name in point.positive}
        unknown = sorted(
            (named | {name for classes in side.class_groups.values() for name in classes}) - set(label_names)
        )
        if unknown:
            raise InputError(
                f"its decision rules speak of unknown classes ({printable(', '.join(unknown))[:200]}); fetch it again."
            )
        below = None if side.abstention is None else side.abstention.threshold
        return cls(conformal, points, side.class_groups, below, side.temperature)

    def decide(self, probabilities: Mapping[str, float]) -> Decision:
        """Apply every rule to one answer {class: probability}."""
        rule = self.conformal
        operating = {
            point.name: {
                "positive": point.is_positive(probabilities),
                "score": point.score(probabilities),
                "threshold": point.threshold,
                "classes": list(point.positive),
                "kind": point.kind,
            }
            for point in self.operating_points
        }
        return Decision(
            None if rule is None else prediction_set(probabilities, rule),
            None if rule is None else rule.coverage,
            operating,
            None if self.abstain_below is None else max(probabilities.values()) < self.abstain_below,
            self.abstain_below,
            self.temperature,
        )
