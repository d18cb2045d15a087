"""Answers as text: an aligned table for a terminal, tab-separated columns for a pipe, JSON for a program.

Each function takes the predictions as they come and yields lines, so that a folder of thousands needs no more memory
than one slice and its first row shows at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ct_xception.errors import printable
from ct_xception.files import dump_json
from ct_xception.text import RESEARCH_USE, ShortNames, describe_window, percent

if TYPE_CHECKING:
    from ct_xception.serving.classifier import Prediction
    from ct_xception.serving.decisions import Decision, Decisions
    from ct_xception.serving.gate import GateVerdict
    from ct_xception.serving.pooling import SeriesAnswer

_BAR = 28
_PERCENT = len(percent(1.0))
_REMARK = len("no class fits")
LEAST_NAME = 20  # characters of a file's name in a table
REFUSAL = "refused: this is no slice such as the model was trained on"
OVERRULED = "refused by the input gate, and answered all the same, as asked: this is no slice such as those of training"
DOUBT = "doubtful: this may be no slice such as the model was trained on"
NO_ANSWER = "no answer"


def describe_gate(verdict: GateVerdict | None) -> list[str]:
    """What the input gate objects to, for terminal and page: a sentence, then the reasons; [] where it does not."""
    if verdict is None or verdict.verdict == "accepted":
        return []
    return [OVERRULED if verdict.overruled else REFUSAL if verdict.refused else DOUBT, *verdict.reasons]


def describe_abstention(prediction: Prediction | SeriesAnswer) -> str:
    """`No answer: between normal and adenocarcinoma` where the checkpoint abstains, which is its answer; else empty.

    The classes are those of the prediction set, the most probable first, where that leaves several; else the first two.
    """
    if not prediction.abstained:
        return ""
    kept = prediction.prediction_set or ()
    *others, last = kept if len(kept) > 1 else tuple(prediction.probabilities)[:2]
    return f"No answer: between {', '.join(others)} and {last}"


def describe_decision(decision: Decision) -> list[str]:
    """What a checkpoint's rules say of one answer, a sentence each for terminal and page; [] where it has no rules.

    Of the operating points only those of class groups: the others stand in the JSON.
    """
    said = []
    if decision.prediction_set is not None:
        classes = ", ".join(decision.prediction_set) or "empty, no class fits as well as right answers mostly do"
        said.append(f"prediction set at {100 * (decision.coverage or 0):g} % coverage: {classes}")
    if decision.abstained:
        said.append(f"abstains: this checkpoint answers from {percent(decision.abstain_below or 0)} confidence on")
    for name, point in decision.operating.items():
        if point["kind"] == "group":
            answer, sign = ("yes", "≥") if point["positive"] else ("no", "<")
            said.append(f"{name}: {answer} ({percent(point['score'])} {sign} {percent(point['threshold'])})")
    if decision.temperature != 1:
        fitted = printable(decision.calibrated_on)
        said.append(f"probabilities calibrated on {fitted} (temperature {decision.temperature:.2f})")
    return said


def answer_record(prediction: Prediction, model: str) -> dict[str, Any]:
    """One answer as a JSON object, with the checkpoint that gave it and the research-use line."""
    return {**prediction.to_dict(), "model": model, "notice": RESEARCH_USE}


def json_object(predictions: Iterable[Prediction], model: str) -> Iterator[str]:
    """The only prediction as one JSON object; nothing when there is none."""
    for prediction in predictions:
        yield dump_json(answer_record(prediction, model), indent=2)


def json_list(predictions: Iterable[Prediction], model: str) -> Iterator[str]:
    """The predictions as one JSON list, an object a line."""
    opening = "["
    for prediction in predictions:
        yield opening + dump_json(answer_record(prediction, model))
        opening = ","
    yield "]" if opening == "," else "[]"


def tab_separated(
    predictions: Iterable[Prediction],
    label_names: Sequence[str],
    decisions: Decisions | None = None,
    *,
    gated: bool = False,
) -> Iterator[str]:
    """A header and one row a prediction: source, label, then the probability of every class in index order.

    Where `decisions` has the rules: prediction_set (its classes joined by "; ") and abstained (yes or no). Where an
    input gate was asked (`gated`): gate (accepted, doubtful, refused, overruled) after source and gate_reasons; what it
    refused has no answer in its row. notes come last, joined by "; ".
    """
    with_set = decisions is not None and decisions.conformal is not None
    with_abstained = decisions is not None and decisions.abstain_below is not None
    rules = [*(["prediction_set"] if with_set else []), *(["abstained"] if with_abstained else [])]
    first, last = (["gate"], ["gate_reasons"]) if gated else ([], [])
    yield "\t".join(["source", *first, "label", *label_names, *rules, *last, "notes"])
    for prediction in predictions:
        verdict = prediction.gate
        if verdict is not None:
            first, last = ["overruled" if verdict.overruled else verdict.verdict], ["; ".join(verdict.reasons)]
        notes = "; ".join(prediction.notes)
        if prediction.refusal:
            yield "\t".join([prediction.source, *first, *[""] * (1 + len(label_names) + len(rules)), *last, notes])
            continue
        values = [f"{prediction.probabilities[name]:.6f}" for name in label_names]
        said = {
            "prediction_set": "; ".join(prediction.prediction_set or ()),
            "abstained": "yes" if prediction.abstained else "no",
        }
        answer = [prediction.label, *values, *(said[rule] for rule in rules)]
        yield "\t".join([prediction.source, *first, *answer, *last, notes])


def bars(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Every class of each prediction with a bar; below, what the rules say, and what was done to the file.

    What the input gate says comes first, and nothing but that where it refuses.
    """
    for prediction in predictions:
        yield f"{prediction.source} ({_window(prediction)})"
        objection = describe_gate(prediction.gate)
        yield from (f"  {'- ' if number else ''}{sentence}" for number, sentence in enumerate(objection))
        if prediction.refusal:
            yield "  (--no-gate answers all the same)"
            continue
        if none := describe_abstention(prediction):
            yield f"  {none}"
        width = max(map(len, prediction.probabilities))
        for name, probability in prediction.probabilities.items():
            bar = "█" * round(probability * _BAR)
            yield f"  {name:<{width}}  {percent(probability):>{_PERCENT}}  {bar}".rstrip()
        for sentence in describe_decision(prediction.decision):
            yield f"  {sentence}"
        for note in prediction.notes:
            yield f"  - {note}"


def _window(prediction: Prediction) -> str:
    slice_ = prediction.slice
    return describe_window(slice_.window, slice_.bit_depth, slice_.is_hu)


def table(
    predictions: Iterable[Prediction],
    sources: Sequence[str],
    label_names: Sequence[str],
    width: int,
    decisions: Decisions | None = None,
    *,
    gated: bool = False,
) -> Iterator[str]:
    """An aligned row a prediction: file, answer, probability, and the runner-up; file names give way to `width`.

    Where `decisions` has rules or an input gate was asked (`gated`), a remark ends the rows of which they say
    something; what the gate refused has the reason for an answer. Of an abstention the first class stands under next.
    In a narrow terminal the runner-up goes; two files never share a name.
    """
    abstains = decisions is not None and decisions.abstain_below is not None
    answer = max(len(NO_ANSWER if abstains else "refused" if gated else "answer"), *map(len, label_names))
    runner_up = answer + 1 + _PERCENT
    ruled = gated or abstains or (decisions is not None and decisions.conformal is not None)
    longest = max(len("file"), *map(len, sources))
    room = width - (2 + answer) - (2 + _PERCENT) - ((2 + _REMARK) if ruled else 0)
    with_next = room - (2 + runner_up) >= min(longest, LEAST_NAME)
    file = min(max(LEAST_NAME, room - (2 + runner_up) * with_next), longest)
    names = ShortNames(file)
    yield f"{'file':<{file}}  {'answer':<{answer}}  {'':>{_PERCENT}}  {'next' if with_next else ''}".rstrip()
    for prediction in predictions:
        name = names(prediction.source)
        if prediction.refusal:
            why = "; ".join(prediction.refusal)
            yield f"{name:<{file}}  {'refused':<{answer}}  {_cut(why, max(16, width - file - answer - 4))}".rstrip()
            continue
        (first, p_first), (second, p_second) = list(prediction.probabilities.items())[:2]
        said, share, after = first, percent(p_first), f"{second} {percent(p_second)}"
        if prediction.abstained:
            said, share, after = NO_ANSWER, "", f"{first} {share}"
        row = f"{name:<{file}}  {said:<{answer}}  {share:>{_PERCENT}}"
        yield f"{row}  {f'{after:<{runner_up}}  ' * with_next}{_remark(prediction)}".rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _remark(prediction: Prediction) -> str:
    """The gate's or the rules' objection to the answer in a word or two; empty where they have none."""
    found = prediction.prediction_set
    if describe_gate(prediction.gate):
        return "overruled" if prediction.gate is not None and prediction.gate.overruled else "doubtful"
    if prediction.abstained:
        return "abstains"
    return "" if found is None or len(found) == 1 else f"{len(found)} possible" if found else "no class fits"
