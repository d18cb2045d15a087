"""Two checkpoints' answers to one slice, series or patient, and where they disagree in a sentence.

    found = compare(first("slice.dcm"), second("slice.dcm"), ("ours", "theirs"))
    print(found.sentence)          # They disagree: ours answers normal (98.1 %), theirs adenocarcinoma (64.0 %). …

Which of them is right is said by neither: `ct-xception compare` on two evaluations says which is right more often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ct_xception.imaging.slice import doubts_in
from ct_xception.serving.text import describe_abstention
from ct_xception.text import percent

if TYPE_CHECKING:
    from ct_xception.serving.classifier import Prediction
    from ct_xception.serving.pooling import SeriesAnswer

    Answer: TypeAlias = Prediction | SeriesAnswer

FAR = 0.1  # of a probability, from which two that agree are said to be apart


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two answers, None of what a model refused or could not answer, and the models' names.

    `agree` is whether both answer, and with the same class; None where either does not, or abstains. `reasons` are
    those for which each refuses, as far as it says.
    """

    first: Answer | None
    second: Answer | None
    names: tuple[str, str]
    reasons: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    @property
    def agree(self) -> bool | None:
        """Whether both give the same class; None where one of them gives none."""
        labels = [_label(answer) for answer in (self.first, self.second)]
        return None if None in labels else labels[0] == labels[1]

    @property
    def doubts(self) -> tuple[str, ...]:
        """What the reader doubts of a slice that either answers."""
        notes = [note for answer in (self.first, self.second) for note in getattr(answer, "notes", ())]
        return doubts_in(dict.fromkeys(notes))

    @property
    def sentence(self) -> str:
        """Where they agree or not, how sure each is, and what the prediction sets make of it."""
        if self.first is None or self.second is None:
            return self._of_refusal()
        said = [_said(name, answer) for name, answer in zip(self.names, (self.first, self.second), strict=True)]
        answering = [
            name
            for name, answer in zip(self.names, (self.first, self.second), strict=True)
            if _label(answer) is not None
        ]
        alone = f"Only {answering[0]} answers" if answering else "Neither answers"
        head = {True: "They agree", False: "They disagree", None: alone}[self.agree]
        return " ".join(
            [f"{head}: {', '.join(said)}.", *self._of_sets(), *self._of_probabilities(), *self._of_classes()]
        )

    def _of_refusal(self) -> str:
        if self.first is None and self.second is None:
            said = [f"{name}: {'; '.join(why)}." for name, why in zip(self.names, self.reasons, strict=True) if why]
            return " ".join(["Neither model answers.", *said])
        silent, name = (self.names[0], self.names[1]) if self.first is None else (self.names[1], self.names[0])
        answer, why = (self.second, self.reasons[0]) if self.first is None else (self.first, self.reasons[1])
        assert answer is not None
        because = f" ({'; '.join(why)})" if why else ""
        return f"Only {name} answers: {_said('it', answer)}. {silent} refuses what was given{because}."

    def _of_sets(self) -> list[str]:
        first, second = (_set_of(answer) for answer in (self.first, self.second))
        if first is None or second is None or self.agree is not False:
            return []
        both = [name for name in first if name in second]
        if not both:
            return ["No class is in both prediction sets: at least one of them is wrong."]
        return [f"Both prediction sets hold {', '.join(both)}."]

    def _of_probabilities(self) -> list[str]:
        """The class on whose probability they are farthest apart, where they agree and yet are."""
        mine, theirs = _probabilities(self.first), _probabilities(self.second)
        shared = [name for name in mine if name in theirs]
        if self.agree is False or not shared:
            return []
        far = max(shared, key=lambda name: round(abs(mine[name] - theirs[name]), 6))  # of equals the likelier
        if abs(mine[far] - theirs[far]) < FAR:
            return []
        return [f"They are farthest apart on {far}: {percent(mine[far])} and {percent(theirs[far])}."]

    def _of_classes(self) -> list[str]:
        mine, theirs = _probabilities(self.first), _probabilities(self.second)
        said = []
        for name, known, other in ((self.names[0], mine, theirs), (self.names[1], theirs, mine)):
            if alone := sorted(set(known) - set(other)):
                said.append(f"Only {name} knows {', '.join(alone)}.")
        return said

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        answers = [None if one is None else one.to_dict() for one in (self.first, self.second)]
        each = [
            {"model": name, "answer": answer} | ({"refused": list(why)} if why else {})
            for name, answer, why in zip(self.names, answers, self.reasons, strict=True)
        ]
        return {"agree": self.agree, "sentence": self.sentence, "models": each}


def compare(first: Answer | None, second: Answer | None, names: tuple[str, str]) -> Comparison:
    """Hold two answers against one another; what the gate refused counts as none, and its reasons are kept."""
    mine, theirs = (tuple(getattr(answer, "refusal", ())) for answer in (first, second))
    return Comparison(None if mine else first, None if theirs else second, names, (mine, theirs))


def short_names(first: str, second: str) -> tuple[str, str]:
    """What two checkpoints are called beside one another: their Hub ids, or as little of their paths as tells them."""
    mine, theirs = ([part for part in name.split("/") if part] or [name] for name in (first, second))
    while len(mine) > 1 and len(theirs) > 1 and mine[-1] == theirs[-1]:
        mine, theirs = mine[:-1], theirs[:-1]
    return ("/".join(mine[-1:]), "/".join(theirs[-1:])) if mine != theirs else ("the first", "the second")


def _label(answer: Answer | None) -> str | None:
    return None if answer is None or answer.abstained else answer.label


def _set_of(answer: Answer | None) -> tuple[str, ...] | None:
    return None if answer is None else answer.prediction_set


def _probabilities(answer: Answer | None) -> Mapping[str, float]:
    return {} if answer is None else answer.probabilities


def _said(name: str, answer: Answer) -> str:
    none = describe_abstention(answer)
    if none:
        return f"{name} abstains {none.partition(': ')[2]}"
    return f"{name} answers {answer.label} ({percent(answer.probabilities[answer.label])})"
