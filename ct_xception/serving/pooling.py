"""One answer from many: every slice of a series or patient is answered as it would be alone, and then they are pooled.

By the checkpoint's own rule (`Decisions.pooling`), which validation patients chose and calibrated; where it has none,
or another pool is asked for, the answer is a summary of slice answers and not a calibrated probability.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.imaging.reader import try_read
from ct_xception.imaging.slice import Slice, doubts_in
from ct_xception.imaging.windows import Window
from ct_xception.serving.archive import hold_all
from ct_xception.serving.decisions import Decision, Pooling
from ct_xception.serving.series import Member, Series
from ct_xception.statistics.attention import attention_weights
from ct_xception.statistics.pooling import ATTENTION, DEFAULT, POOLS, pool_slices, slice_support

if TYPE_CHECKING:
    from ct_xception.serving.classifier import Classifier, Prediction

AGGREGATIONS = {name: pool for name, pool in POOLS.items() if not pool.learnt}  # what anyone may ask for
CARRIERS = 3  # slices that are named for carrying an answer
BATCH = 8  # slices at a time


class Stopped(Exception):
    """The caller asked to stop before every slice was answered."""


@dataclass(frozen=True)
class SliceAnswer:
    """One slice's answer without its pixels: `record` as `Prediction.to_dict` gives it, or None and the `error`.

    `attention` is its score where the checkpoint pools by learnt attention.
    """

    name: str
    record: Mapping[str, Any] | None = None
    error: str | None = None
    attention: float | None = None

    @property
    def gate(self) -> str | None:
        """The input gate's verdict: accepted, doubtful or refused; None where the checkpoint has no gate."""
        found = (self.record or {}).get("gate")
        return None if found is None else str(found["verdict"])

    @property
    def doubts(self) -> tuple[str, ...]:
        """What the reader doubts of its pixels, a clause each."""
        return doubts_in((self.record or {}).get("notes", ()))

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
    read = [try_read(member.read, classifier, window) for member in members]
    answers: Iterator[Prediction] = iter(classifier([item for item in read if isinstance(item, Slice)]))
    for member, item in zip(members, read, strict=True):
        if isinstance(item, Slice):
            answer = next(answers)
            yield SliceAnswer(member.name, answer.to_dict(), attention=answer.attention)
        else:
            yield SliceAnswer(member.name, error=str(item))


@dataclass(frozen=True)
class SeriesAnswer:
    """`probabilities`, the most probable class first, pooled over `answered` of `slices` slices.

    `agreeing` slices have the same most probable class as the whole. `strongest` is the index of the slice in which
    that class is most probable. `support` says of each slice how far it carries the answer (`slice_support`), None of
    one without a vote; `carriers` are those that carry it most, of the ones that speak for its class, at most CARRIERS.
    `weights` are those of learnt attention, which sum to 1, None of one without a vote; empty where another rule pools.
    `calibrated` says that the checkpoint's own rule pooled, at its `temperature`, and `decision`
    what it makes of the probabilities; empty where none of its rules is for this pool.
    """

    label: str
    probabilities: dict[str, float]
    aggregation: str
    answered: int
    slices: int
    agreeing: int
    strongest: int
    support: tuple[float | None, ...] = ()
    carriers: tuple[int, ...] = ()
    temperature: float = 1.0
    calibrated: bool = False
    decision: Decision = Decision()
    weights: tuple[float | None, ...] = ()

    @property
    def prediction_set(self) -> tuple[str, ...] | None:
        """The classes that cannot be ruled out, the most probable first; None without a rule for it."""
        return self.decision.prediction_set

    @property
    def abstained(self) -> bool | None:
        """Whether the most probable class is too improbable for this checkpoint to answer with it."""
        return self.decision.abstained

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it; slices are counted from 1."""
        return {
            "label": self.label,
            "probabilities": self.probabilities,
            "aggregation": self.aggregation,
            "calibrated": self.calibrated,
            **self.decision.to_dict(),
            "slices": self.slices,
            "answered": self.answered,
            "agreeing": self.agreeing,
            "strongest_slice": self.strongest + 1,
        }


def answer_together(
    answers: Sequence[SliceAnswer],
    aggregation: str | None = None,
    pooling: Pooling = Pooling(),  # noqa: B008 (frozen)
) -> SeriesAnswer | None:
    """The answer of a series or patient from its slices'; None where not one was answered.

    `pooling` is the checkpoint's (`classifier.decisions.pooling`); `aggregation`, one of AGGREGATIONS, asks for another
    pool, which nothing calibrated. Slices that could not be read, or that the gate refused, have no vote. Raises
    InputError for an unknown aggregation.
    """
    voting = [(index, answer.probabilities) for index, answer in enumerate(answers) if answer.probabilities]
    if not voting:
        return None
    if aggregation not in (None, pooling.method):
        pooling = Pooling(str(aggregation))
    names, rows = list(voting[0][1]), [index for index, _ in voting]
    each = np.array([[values[name] for name in names] for _, values in voting], dtype=np.float64)
    attention = _attention(answers, rows) if pooling.method == ATTENTION else None
    probabilities = _ranked(names, pool_slices(each, pooling.method, pooling.temperature, attention))
    label = next(iter(probabilities))
    k = names.index(label)
    support = slice_support(each, k, pooling.method, 1.0, attention)
    speaks = np.flatnonzero((support > 0) | (each.argmax(axis=1) == k))
    order = speaks[np.lexsort((speaks, -each[speaks, k], -support[speaks]))][:CARRIERS]
    return SeriesAnswer(
        label,
        probabilities,
        pooling.method,
        len(voting),
        len(answers),
        int((each.argmax(axis=1) == k).sum()),
        voting[int(each[:, k].argmax())][0],
        _spread(support, rows, len(answers)),
        tuple(rows[place] for place in order),
        pooling.temperature,
        pooling.calibrated,
        _decide(pooling, probabilities),
        () if attention is None else _spread(attention_weights(attention), rows, len(answers)),
    )


def _attention(answers: Sequence[SliceAnswer], rows: Sequence[int]) -> np.ndarray:
    """The scores of some slices, NaN where one has none."""
    return np.array([answers[row].attention for row in rows], dtype=np.float64)


def _spread(values: np.ndarray, rows: Sequence[int], count: int) -> tuple[float | None, ...]:
    """The values of some rows of `count`, None of the others."""
    by_row = dict(zip(rows, values.tolist(), strict=True))
    return tuple(by_row.get(row) for row in range(count))


def _decide(pooling: Pooling, probabilities: Mapping[str, float]) -> Decision:
    return Decision() if pooling.decisions is None else pooling.decisions.decide(probabilities)


def pool(each: Sequence[Mapping[str, float]], aggregation: str = DEFAULT) -> dict[str, float]:
    """One answer from several over the same classes, the most probable first, summing to 1, by one of AGGREGATIONS."""
    names = list(each[0])
    return _ranked(names, pool_slices([[answer[name] for name in names] for answer in each], aggregation))


def _ranked(names: Sequence[str], probabilities: np.ndarray) -> dict[str, float]:
    return dict(sorted(zip(names, probabilities.tolist(), strict=True), key=lambda pair: -pair[1]))
