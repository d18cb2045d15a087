"""Answers of series and patients as text, in the forms of `serving.text`: a table, columns for a pipe, JSON, bars.

Each function takes the answers as they come and yields lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ct_xception.errors import printable
from ct_xception.files import dump_json
from ct_xception.serving.decisions import VALIDATION, Pooling
from ct_xception.serving.text import describe_decision
from ct_xception.statistics.pooling import POOLS
from ct_xception.text import RESEARCH_USE, percent, shorten

if TYPE_CHECKING:
    from ct_xception.serving.patients import UnitAnswer
    from ct_xception.serving.pooling import SeriesAnswer

_BAR = 28
_PERCENT = len(percent(1.0))
_LEFT_OUT = 5  # slices that are not answered, by name
UNCALIBRATED = "not calibrated for several slices together: the checkpoint has no rule for it"


def describe_pooling(together: SeriesAnswer, pooling: Pooling) -> str:
    """How the slices became one answer, and on what that was calibrated, in a clause."""
    return describe_rule(pooling if together.aggregation == pooling.method else Pooling(together.aggregation))


def describe_rule(pooling: Pooling) -> str:
    """What a rule makes of several slices, and on what it was calibrated, in a clause."""
    title = POOLS[pooling.method].title
    if not pooling.calibrated:
        return f"{title}; {UNCALIBRATED}"
    own = pooling.calibrated_on == VALIDATION
    fitted = (
        f"{pooling.n_groups:,} {'validation ' if own else ''}{'patients' if pooling.unit == 'patient' else 'series'}"
    )
    fitted += "" if own else f" ({printable(pooling.calibrated_on)})"
    return f"{title}, chosen and calibrated on {fitted} (temperature {pooling.temperature:.2f})"


def unit_record(answer: UnitAnswer, by: str, pooling: Pooling, model: str) -> dict[str, Any]:
    """One answer as a JSON object, with the rule that pooled it, the checkpoint and the research-use line."""
    rule = {"method": pooling.method, "temperature": pooling.temperature, "calibrated": pooling.calibrated}
    if pooling.calibrated:
        rule |= {"fitted_on": pooling.unit, "n_groups": pooling.n_groups}
    return {"by": by, **answer.to_dict(), "pooling": rule, "model": model, "notice": RESEARCH_USE}


def json_units(answers: Iterable[UnitAnswer], by: str, pooling: Pooling, model: str) -> Iterator[str]:
    """The answers as one JSON list, an object a line."""
    opening = "["
    for answer in answers:
        yield opening + dump_json(unit_record(answer, by, pooling, model))
        opening = ","
    yield "]" if opening == "," else "[]"


def unit_columns(answers: Iterable[UnitAnswer], by: str, label_names: Sequence[str], pooling: Pooling) -> Iterator[str]:
    """A header and one tab-separated row an answer.

    Its name and place, label, the probability of every class, the rules that there are, how many slices were answered
    of how many, and those that carry it (joined by "; ").
    """
    rules = pooling.decisions
    with_set, with_abstained = rules is not None and rules.conformal, rules is not None and rules.abstain_below
    ruled = [*(["prediction_set"] if with_set else []), *(["abstained"] if with_abstained else [])]
    yield "\t".join([by, "source", "label", *label_names, *ruled, "answered", "slices", "carried_by"])
    for answer in answers:
        together, counts = answer.together, [str(len(answer.slices) - len(answer.left_out)), str(len(answer.slices))]
        if together is None:
            yield "\t".join([answer.name, answer.place, *[""] * (1 + len(label_names) + len(ruled)), *counts, ""])
            continue
        said = {
            "prediction_set": "; ".join(together.decision.prediction_set or ()),
            "abstained": "yes" if together.decision.abstained else "no",
        }
        values = [f"{together.probabilities[name]:.6f}" for name in label_names]
        carriers = "; ".join(one["source"] for one in answer.carried_by)
        row = [answer.name, answer.place, together.label, *values, *(said[rule] for rule in ruled), *counts, carriers]
        yield "\t".join(row)


def unit_table(answers: Iterable[UnitAnswer], by: str, label_names: Sequence[str], width: int) -> Iterator[str]:
    """An aligned row an answer: whose, how many slices voted of how many, the answer, and the next class."""
    label = max(len("no answer"), *map(len, label_names))
    after = label + 1 + _PERCENT
    room = max(20, min(48, width - (2 + 9) - (2 + label) - (2 + _PERCENT) - (2 + after) - 15))
    yield f"{by:<{room}}  {'slices':<9}  {'answer':<{label}}  {'':>{_PERCENT}}  next".rstrip()
    for answer in answers:
        name = f"{answer.name} "
        head = name + shorten(answer.place, room - len(name))
        votes = f"{len(answer.slices) - len(answer.left_out)}/{len(answer.slices)}"
        if answer.together is None:
            yield f"{head:<{room}}  {votes:<9}  refused: each of its slices was refused"
            continue
        yield f"{head:<{room}}  {votes:<9}  {_answer(answer.together, label, after)}".rstrip()


def _answer(together: SeriesAnswer, label: int, after: int) -> str:
    (first, p_first), (second, p_second) = list(together.probabilities.items())[:2]
    said, share, behind = first, percent(p_first), f"{second} {percent(p_second)}"
    if together.decision.abstained:
        said, share, behind = "no answer", "", f"{first} {share}"
    found = together.decision.prediction_set
    remark = "" if found is None or len(found) == 1 else f"{len(found)} possible" if found else "no class fits"
    return f"{said:<{label}}  {share:>{_PERCENT}}  {behind:<{after}}  {remark}".rstrip()


def unit_bars(answers: Iterable[UnitAnswer], pooling: Pooling) -> Iterator[str]:
    """Every class of each answer with a bar; below, how it was pooled, what the rules say, what slices carry it."""
    for answer in answers:
        together, left_out = answer.together, answer.left_out
        yield f"{answer.name} {answer.place} ({len(answer.slices) - len(left_out)} of {len(answer.slices)} slices)"
        if together is None:
            yield "  refused: each of its slices was refused"
        else:
            names = max(map(len, together.probabilities))
            for name, value in together.probabilities.items():
                yield f"  {name:<{names}}  {percent(value):>{_PERCENT}}  {'█' * round(value * _BAR)}".rstrip()
            yield f"  {describe_pooling(together, pooling)}"
            yield from (f"  {sentence}" for sentence in describe_decision(together.decision))
            for one in answer.carried_by:
                share = percent(one["probability"])
                yield f"  carried by {_within(one['source'], answer.place)} ({share} {together.label})"
        for name, doubt in answer.doubts[:_LEFT_OUT]:
            yield f"  - {_within(name, answer.place)}: {doubt}"
        for name, why in left_out[:_LEFT_OUT]:
            yield f"  - {_within(name, answer.place)}: {why.removeprefix(f'{name}: ')}"
        if len(left_out) > _LEFT_OUT:
            yield f"  - and {len(left_out) - _LEFT_OUT} more not answered"


def _within(name: str, place: str) -> str:
    """A slice's name without the folder, zip or file that stands above it already."""
    return name.removeprefix(f"{place}/") if place != name else name.rsplit("/", 1)[-1]
