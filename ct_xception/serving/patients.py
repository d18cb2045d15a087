"""One answer a series or a patient from the slices of files, folders and zips.

    for answer in answer_units(classifier, find_units(["scans/"], by="patient")):
        print(answer.name, answer.together.label, answer.together.probabilities)

Slices that cannot be read, or that the input gate refuses, have no vote, and are counted; a patient of whom none is
left is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.errors import SliceError, printable
from ct_xception.imaging.source import find_files
from ct_xception.imaging.windows import Window
from ct_xception.serving.archive import hold_all
from ct_xception.serving.pooling import SeriesAnswer, SliceAnswer, answer_series, answer_together
from ct_xception.serving.series import PATIENT, Member, Series, Unit, gather_units, slices_in

if TYPE_CHECKING:
    from ct_xception.serving.classifier import Classifier


@dataclass(frozen=True)
class UnitAnswer:
    """The answer of one series or patient: `together` over `slices` in their order, None where none has an answer."""

    name: str
    place: str
    together: SeriesAnswer | None
    slices: tuple[SliceAnswer, ...]

    @property
    def left_out(self) -> tuple[tuple[str, str], ...]:
        """(slice, why) of each without a vote."""
        return tuple((one.name, why_left_out(one)) for one in self.slices if one.probabilities is None)

    @property
    def doubts(self) -> tuple[tuple[str, str], ...]:
        """(slice, what its reader doubts of it) of those with a vote."""
        return tuple((one.name, doubt) for one in self.slices if one.probabilities for doubt in one.doubts)

    @property
    def carried_by(self) -> tuple[dict[str, Any], ...]:
        """The slices that carry the answer: their name, their own probability of its class, and `support`.

        Where learnt attention pools, their `weight` too.
        """
        together = self.together
        if together is None:
            return ()
        return tuple(
            {
                "source": self.slices[index].name,
                "probability": (self.slices[index].probabilities or {})[together.label],
                "support": together.support[index],
                **({"weight": together.weights[index]} if together.weights else {}),
            }
            for index in together.carriers
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it, every slice with its own answer; what is refused has neither label nor figures."""
        left_out = [{"source": name, "reason": why} for name, why in self.left_out]
        weights = () if self.together is None else self.together.weights
        each = [
            {"source": one.name, "probabilities": one.probabilities}
            | ({"weight": weights[row]} if weights else {})
            | ({"doubts": list(one.doubts)} if one.doubts else {})
            for row, one in enumerate(self.slices)
            if one.probabilities
        ]
        if self.together is None:
            answer: dict[str, Any] = {"label": None, "probabilities": {}, "refused": ["none of its slices is answered"]}
        else:
            answer = self.together.to_dict() | {"carried_by": list(self.carried_by)}
        told = {"left_out": left_out} | ({"without": self.without} if self.without else {})
        return {"name": self.name, "source": self.place, **answer, **told, "each": each}

    @property
    def without(self) -> dict[str, int]:
        """{column: how many answered slices had no value of it}, where the checkpoint takes columns of a table."""
        rows = [(one.record or {}).get("tabular") or {} for one in self.slices]
        return dict(Counter(name for row in rows for name, value in row.items() if value is None))


def why_left_out(answer: SliceAnswer) -> str:
    """Why a slice has no answer: it cannot be read, or the input gate refused it, for the reasons it gave."""
    if answer.error is not None:
        return answer.error
    reasons = (answer.record or {}).get("refused") or ["the input gate refused the slice"]
    return f"refused by the input gate ({'; '.join(reasons)})"


def find_units(
    paths: Sequence[str | Path], by: str = PATIENT, owners: Callable[[Member], str] | None = None
) -> tuple[tuple[Unit, ...], tuple[str, ...]]:
    """The series or patients in files, folders and zips, and sentences on what was passed over or taken for one.

    `by` and `owners` are those of `gather_units`. Raises SliceError where a file, folder or zip cannot be opened.
    """
    members, notes = list[Member](), list[str]()
    for path in map(Path, paths):
        for file in find_files(path).files if path.is_dir() else [path]:
            found, said = slices_in(file, printable(file))
            members, notes = members + found, notes + said
        if not path.exists():
            raise SliceError(path, "no such file or folder", "check the name")
    units, said_of_units = gather_units(members, by, owners)
    return units, (*notes, *said_of_units)


def answer_units(
    classifier: Classifier, units: Iterable[Unit], *, window: Window | None = None
) -> Iterator[UnitAnswer]:
    """The answer of each series or patient, as it comes, by the checkpoint's own rule of pooling."""
    units = tuple(units)
    with hold_all(member.archive for unit in units for member in unit.members):
        for unit in units:
            slices = answer_series(classifier, Series(unit.members, "as given"), window=window)
            together = answer_together(slices, pooling=classifier.decisions.pooling)
            yield UnitAnswer(unit.name, unit.place, together, tuple(slices))
