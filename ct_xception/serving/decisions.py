"""What a checkpoint says about how to decide on its probabilities: prediction sets, operating points, abstention.

The rules were chosen on validation by the build side and stand in `ct_xception.json` under `conformal`,
`operating_points`, `class_groups` and `abstention`, and those for a whole patient under `pooling`; here they are only
read and applied. A checkpoint without them decides nothing beyond its most probable class, and keys or methods of a
later version are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint_files import Abstention, ConformalRule, Metric, PointRule, PoolingRule, Side
from ct_xception.errors import InputError, printable
from ct_xception.statistics.conformal import METHODS, set_members
from ct_xception.statistics.pooling import DEFAULT, POOLS

Floats = NDArray[np.float64]
POOLING_VERSION = 1  # of the key `pooling`
VALIDATION = "validation"  # what rules are fitted on, but for those of a new site


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
    members = set_members(values, rule, names)
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
    below `abstain_below`, the confidence at which this checkpoint answers. `temperature` calibrated the probabilities,
    on the slices `calibrated_on`; 1 did not.
    """

    prediction_set: tuple[str, ...] | None = None
    coverage: float | None = None
    operating: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    abstained: bool | None = None
    abstain_below: float | None = None
    temperature: float = 1.0
    calibrated_on: str = VALIDATION

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
class Pooling:
    """How slices become one answer: the pool, its temperature, and the `decisions` on what comes out.

    `unit` is what the rule was fitted on, "patient" or "series", `n_groups` of them in validation; None where nothing
    was fitted. `calibrated` says that temperature and pool were chosen by them, and not taken as they are.
    """

    method: str = DEFAULT
    temperature: float = 1.0
    unit: str | None = None
    n_groups: int = 0
    calibrated: bool = False
    decisions: Decisions | None = None
    calibrated_on: str = VALIDATION

    @classmethod
    def of(cls, rule: PoolingRule | None, class_groups: Mapping[str, tuple[str, ...]]) -> Pooling:
        """From a side file; what a later version fitted is passed over."""
        if rule is None or rule.version != POOLING_VERSION or rule.method not in POOLS:
            return cls()
        decisions = Decisions._of_rules(rule.conformal, rule.operating_points, class_groups, rule.abstention)
        return cls(rule.method, rule.temperature, rule.unit, rule.n_groups, rule.losses is not None, decisions)


@dataclass(frozen=True)
class Decisions:
    """Every rule of a checkpoint. `temperature` is the whole one, fitted `calibrated_on`; 1 where none was fitted.

    Of it `output_temperature` still divides the network's logits, the rest is folded into the head. `pooling` is for
    the slices of one series or patient together.
    """

    conformal: ConformalRule | None = None
    operating_points: tuple[OperatingPoint, ...] = ()
    class_groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    abstain_below: float | None = None
    temperature: float = 1.0
    output_temperature: float = 1.0
    calibrated_on: str = VALIDATION
    pooling: Pooling = Pooling()

    @classmethod
    def of(cls, side: Side, label_names: Sequence[str]) -> Decisions:
        """The rules in a side file. Raises InputError where one speaks of classes that are not there."""
        found = cls._of_rules(side.conformal, side.operating_points, side.class_groups, side.abstention)
        own, fitted = side.output_temperature, side.calibration
        said = VALIDATION if fitted is None else fitted.split
        pooling = replace(Pooling.of(side.pooling, side.class_groups), calibrated_on=said)
        points = [*found.operating_points, *(() if pooling.decisions is None else pooling.decisions.operating_points)]
        named = {name for point in points for name in point.positive}
        for rule in (found.conformal, None if pooling.decisions is None else pooling.decisions.conformal):
            if rule is not None and rule.thresholds is not None and set(rule.thresholds) != set(label_names):
                raise InputError("its prediction sets are not of its own classes; fetch it again.")
        unknown = sorted(
            (named | {name for classes in side.class_groups.values() for name in classes}) - set(label_names)
        )
        if unknown:
            raise InputError(
                f"its decision rules speak of unknown classes ({printable(', '.join(unknown))[:200]}); fetch it again."
            )
        whole = side.temperature * own
        return replace(found, temperature=whole, output_temperature=own, calibrated_on=said, pooling=pooling)

    @classmethod
    def _of_rules(
        cls,
        conformal: ConformalRule | None,
        points: Sequence[PointRule],
        class_groups: Mapping[str, tuple[str, ...]],
        abstention: Abstention | None,
    ) -> Decisions:
        # A rule of a later version is passed over: no set is better than a wrong one.
        sets = None if conformal is None or conformal.method not in METHODS else conformal
        # A point that could not be had on validation has no threshold, and nothing to apply.
        applied = (OperatingPoint.of(point, point.threshold) for point in points if point.threshold is not None)
        return cls(sets, tuple(applied), class_groups, None if abstention is None else abstention.threshold)

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
            self.calibrated_on,
        )
