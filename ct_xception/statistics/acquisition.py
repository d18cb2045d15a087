"""Which slices to label next: those that the network is unsure of, and unlike one another, not all of one patient.

    chosen = choose_next(features, probabilities, patients, 40, most_each=2)

A slice stands where the gradient of the head's loss would, were the network's own answer its label: features times
(probability - one-hot answer), long where the answer is unsure (Ash et al. 2020, BADGE, arXiv:1906.03671). The next
slice is the one farthest from all those chosen (k-centre greedy, Gonzalez 1985; Sener & Savarese 2018,
arXiv:1708.00489) and from the origin, where every slice is whose answer is sure: none is chosen for being odd alone.
Nothing is drawn by chance; slices of a patient that has given its share are passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct_xception.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Chosen:
    """A row that was chosen: how unsure its answer is (0 sure, 1 even), and how far it was from those before.

    `novelty` is a share of the first one's length: that of a slice against nothing known.
    """

    row: int
    uncertainty: float
    novelty: float


def uncertainty(probabilities: Floats) -> Floats:
    """The entropy of answers (N, K) over that of an even one: (N,) in [0, 1]."""
    logs = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    return -(probabilities * logs).sum(axis=1) / np.log(probabilities.shape[1])


def choose_next(
    features: ArrayLike, probabilities: ArrayLike, units: Sequence[Any], count: int, *, most_each: int = 1
) -> list[Chosen]:
    """At most `count` of N slices with features (N, F) and answers (N, K) to label next, the first first.

    `units` (N,) are the patients, none of whom gives more than `most_each`; fewer are chosen where there are no more.
    Of equal ones the first row wins. Raises InputError for a count below 1.
    """
    if count < 1 or most_each < 1:
        raise InputError(f"{count} slices, {most_each} a patient: give 1 or more of each.")
    seen, answers = np.asarray(features, np.float64), np.asarray(probabilities, np.float64)
    error = answers - (np.arange(answers.shape[1]) == answers.argmax(axis=1)[:, None])
    seen = seen / max(float(np.sqrt((seen**2).sum(axis=1).mean())), 1e-12)
    distance = (error**2).sum(axis=1) * (seen**2).sum(axis=1)  # squared, to nothing: the length of the gradient
    lengths, unsure, given = distance.copy(), uncertainty(answers), Counter[Any]()
    open_ = np.ones(len(seen), bool)
    chosen = list[Chosen]()
    while len(chosen) < count and open_.any():
        row = int(np.where(open_, distance, -1.0).argmax())
        longest = lengths[chosen[0].row] if chosen else lengths[row]
        chosen.append(Chosen(row, float(unsure[row]), float(np.sqrt(distance[row] / max(longest, 1e-300)))))
        given[units[row]] += 1
        open_[row] = False
        if given[units[row]] >= most_each:
            open_ &= np.array([unit != units[row] for unit in units])
        # Of outer products the inner one is the product of the inner ones.
        inner = (error @ error[row]) * (seen @ seen[row])
        distance = np.minimum(distance, np.maximum(lengths + lengths[row] - 2 * inner, 0.0))
    return chosen
