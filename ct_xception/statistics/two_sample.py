"""Two samples of numbers told apart, with patients as units and the chance corrected for how much was tried.

    found = compare_samples([("noise", here, there), …])        # one number a patient
    told = [one for one in found if one.corrected < 0.001]

The test is that of Kolmogorov and Smirnov, which sees a shift, a spread and a second hump alike; what is a yes or no is
tested exactly after Fisher. Chances are corrected after Holm (1979): the probability that any of them comes out so
small where nothing differs stays below what is stated, whatever goes with what.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """One number of two samples: their medians, or shares of a yes; `distance` in [0, 1] is between the distributions.

    `chance` is that of a distance so large where nothing differs, `corrected` for all the numbers that were tried.
    """

    name: str
    here: float
    there: float
    distance: float
    chance: float
    corrected: float


def holm(chances: ArrayLike) -> Floats:
    """Chances (M,) corrected for their number, in [0, 1], after Holm (1979, Scand. J. Statist. 6, 65-70)."""
    given = np.asarray(chances, np.float64)
    order = np.argsort(given, kind="stable")
    raised = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    corrected = np.empty_like(given)
    corrected[order] = np.minimum(raised, 1.0)
    return corrected


def compare_samples(columns: Iterable[tuple[str, ArrayLike, ArrayLike]]) -> list[Difference]:
    """(name, one sample, the other), each of a number a patient, in their order; NaN counts as unknown.

    Samples of nothing but 0 and 1 are compared as shares. A number that one side has of nobody is left out.
    """
    kept = [(name, _known(here), _known(there)) for name, here, there in columns]
    tested = [(name, _test(here, there)) for name, here, there in kept if len(here) and len(there)]
    corrected = holm([found[-1] for _, found in tested]).tolist() if tested else []
    return [Difference(name, *found, one) for (name, found), one in zip(tested, corrected, strict=True)]


def _known(values: ArrayLike) -> Floats:
    array = np.asarray(values, np.float64)
    return array[~np.isnan(array)]


def _test(here: Floats, there: Floats) -> tuple[float, float, float, float]:
    """Middle of each, the distance between them, and its chance."""
    from scipy.stats import fisher_exact, ks_2samp

    if np.isin(here, (0, 1)).all() and np.isin(there, (0, 1)).all():
        counts = [[int(side.sum()), int(len(side) - side.sum())] for side in (here, there)]
        shares = float(here.mean()), float(there.mean())
        return *shares, abs(shares[0] - shares[1]), float(fisher_exact(counts).pvalue)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Exact calculation unsuccessful", category=RuntimeWarning)
        found = ks_2samp(here, there)
    return float(np.median(here)), float(np.median(there)), float(found.statistic), float(found.pvalue)


def unit_means(values: Floats, units: NDArray[np.intp]) -> Floats:
    """The mean (U, C) of values (N, C) over each unit, by its number; NaN where one of its values is."""
    count = np.bincount(units)
    sums = np.stack([np.bincount(units, weights=column) for column in values.T], axis=1)
    return sums / count[:, None]


def least_chance(tests: int, here: int, there: int) -> float:
    """The smallest corrected chance that samples of so many units can come to: all of one beyond all of the other."""
    from scipy.special import comb

    return min(1.0, tests * 2 / float(comb(here + there, min(here, there))))
