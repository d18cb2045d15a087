"""One answer from many: every slice of a series is answered as it would be alone, and then they are pooled.

The series' own answer is an opinion pool over its slices (Genest & Zidek 1986, doi:10.1214/ss/1177013825): a summary of
slice answers and not a calibrated probability, as calibration, prediction sets and operating points were fitted on
single slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.errors import InputError, SliceError
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window
from ct_xception.serving.archive import hold_all
from ct_xception.serving.series import Member, Series
from ct_xception.text import unknown

if TYPE_CHECKING:
    from ct_xception.serving.classifier import Classifier, Prediction

BATCH = 8  # slices at a time
LEAST = 1e-12  # of a probability before its logarithm is taken


class Stopped(Exception):
    """The caller asked to stop before every slice was answered."""


@dataclass(frozen=True)
class SliceAnswer:
    """One slice's answer without its pixels: `record` as `Prediction.to_dict` gives it, or None and the `error`."""

    name: str
    record: Mapping[str, Any] | None = None
    error: str | None = None

    @property
    def gate(self) -> str | None:
        """The input gate's verdict: accepted, doubtful or refused; None where the checkpoint has no gate."""
        found = (self.record or {}).get("gate")
        return None if found is None else str(found["verdict"])

    @property
    def probabilities(self) -> Mapping[str, float] | None:
        """Of every class; None where the slice could not be read, or the gate refused it."""
        return (self.record or {}).get("probabilities") or None


def answer_series(
    classifier: Classifier,
    series: Series,
    *,
    window: Window | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[SliceAnswer]:
    """Answer every slice, in order, a batch at a time; one that cannot be read is answered with its sentence.

    `progress` is told the share done; `cancelled` is asked before each batch. Raises Stopped.
    """
    answers: list[SliceAnswer] = []
    with hold_all(member.archive for member in series.members):
        for start in range(0, len(series), BATCH):
            if cancelled is not None and cancelled():
                raise Stopped
            if progress is not None:
                progress(start / len(series))
            answers += _answer_batch(classifier, series.members[start : start + BATCH], window)
    return answers


def _answer_batch(classifier: Classifier, members: Sequence[Member], window: Window | None) -> Iterator[SliceAnswer]:
    read = [_try_read(classifier, member, window) for member in members]
    answers: Iterator[Prediction] = iter(classifier([item for item in read if isinstance(item, Slice)]))
    for member, item in zip(members, read, strict=True):
        if isinstance(item, Slice):
            yield SliceAnswer(member.name, next(answers).to_dict())
        else:
            yield SliceAnswer(member.name, error=str(item))


def _try_read(classifier: Classifier, member: Member, window: Window | None) -> Slice | SliceError:
    try:
        return member.read(classifier, window)
    except SliceError as error:
        return error


@dataclass(frozen=True)
class Aggregation:
    """`title` is its name in print, `sentence` what it does."""

    title: str
    sentence: str


AGGREGATIONS = {
    "mean_log": Aggregation(
        "mean of log-probabilities",
        "The logarithms of each class's probabilities are averaged over the slices, and the result scaled to sum to 1: "
        "slices that agree weigh more than one that stands alone.",
    ),
    "mean": Aggregation(
        "mean of probabilities",
        "Each class's probabilities are averaged over the slices: one sure slice counts for as much as it says.",
    ),
}


@dataclass(frozen=True)
class SeriesAnswer:
    """`probabilities`, the most probable class first, pooled over `answered` of `slices` slices.

    `agreeing` slices have the same most probable class as the series. `strongest` is the index of the slice in which
    that class is most probable.
    """

    label: str
    probabilities: dict[str, float]
    aggregation: str
    answered: int
    slices: int
    agreeing: int
    strongest: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it; slices are counted from 1."""
        return {
            "label": self.label,
            "probabilities": self.probabilities,
            "aggregation": self.aggregation,
            "slices": self.slices,
            "answered": self.answered,
            "agreeing": self.agreeing,
            "strongest_slice": self.strongest + 1,
        }


def answer_together(answers: Sequence[SliceAnswer], aggregation: str = "mean_log") -> SeriesAnswer | None:
    """The series' answer from its slices'; None where not one was answered. `aggregation` is one of AGGREGATIONS.

    Slices that could not be read, or that the gate refused, have no vote.
    """
    voting = [(index, answer.probabilities) for index, answer in enumerate(answers) if answer.probabilities]
    if not voting:
        return None
    probabilities = pool([values for _, values in voting], aggregation)
    label = next(iter(probabilities))
    strongest = max(voting, key=lambda pair: pair[1][label])[0]
    agreeing = sum(max(values, key=lambda name: values[name]) == label for _, values in voting)
    return SeriesAnswer(label, probabilities, aggregation, len(voting), len(answers), agreeing, strongest)


def pool(each: Sequence[Mapping[str, float]], aggregation: str = "mean_log") -> dict[str, float]:
    """One answer from several over the same classes, the most probable first, summing to 1.

    mean_log: p_k proportional to exp(mean of log p_ik), the logarithmic opinion pool; mean: the mean of p_ik, the
    linear one. Raises InputError for another name.
    """
    if aggregation not in AGGREGATIONS:
        raise InputError(unknown("aggregation", aggregation, AGGREGATIONS))
    names = list(each[0])
    values = np.array([[answer[name] for name in names] for answer in each], dtype=np.float64)
    if aggregation == "mean":
        pooled = values.mean(axis=0)
    else:
        logs = np.log(np.maximum(values, LEAST)).mean(axis=0)
        pooled = np.exp(logs - logs.max())
    pooled = pooled / pooled.sum()
    ranked = sorted(zip(names, pooled.tolist(), strict=True), key=lambda pair: -pair[1])
    return dict(ranked)
