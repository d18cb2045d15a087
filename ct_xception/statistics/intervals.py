"""Intervals that respect dependence: items of one group (a patient, a series) are not independent.

A proportion gets Wilson's score interval, on the effective number of items where groups hold several. Everything else
gets a percentile bootstrap that draws whole groups. Both are widened by Student's t where there are few groups, since
what differs between groups is then itself known from few. Both are deterministic under their seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint_files import Metric

CONFIDENCE = 0.95
RESAMPLES = 1000
_NORMAL_QUANTILE = 1.959963984540054  # of (1 + CONFIDENCE) / 2
_CELLS_PER_BLOCK = 2_000_000  # weights held at once by the bootstrap: 16 MB of float64


def _metric(
    value: float | None,
    n: int,
    low: float | None = None,
    high: float | None = None,
    method: str | None = None,
    reason: str | None = None,
) -> Metric:
    told = {"reason": reason} if reason else {}
    return Metric(value=value, n=n, low=low, high=high, method=method, **told)


def describe_metric(metric: Metric) -> str:
    """A metric for the terminal, with its interval or the reason why there is none; never a negative zero."""
    if metric.value is None:
        return f"none ({metric.reason})"
    if metric.low is None:
        return f"{metric.value:z.3f} (n = {metric.n:,}; no interval: {metric.reason})"
    interval = f"{100 * CONFIDENCE:.0f} % interval {metric.low:z.3f} to {metric.high:z.3f}"
    return f"{metric.value:z.3f} ({interval}, n = {metric.n:,})"


def wilson_interval(proportion: float, n: float, errors: float = _NORMAL_QUANTILE) -> tuple[float, float]:
    """Wilson's score interval of a proportion in [0, 1] seen on `n` > 0 independent items (Wilson 1927).

    It is that of so many standard `errors` (95 % unless told), stays inside [0, 1] and does not collapse at 0 and 1.
    `n` may be a fraction: an effective number.
    """
    z2 = errors**2
    centre = (proportion + z2 / (2 * n)) / (1 + z2 / n)
    half = errors / (1 + z2 / n) * np.sqrt(proportion * (1 - proportion) / n + z2 / (4 * n**2))
    return float(max(0.0, min(centre - half, proportion))), float(min(1.0, max(centre + half, proportion)))


def group_indices(groups: Sequence[Any] | NDArray | None, n: int) -> NDArray[np.intp]:
    """Number the groups 0 to G - 1: (N,). Without groups every item is its own."""
    if groups is None:
        return np.arange(n)
    return np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1]


def effective_size(hits: NDArray[np.bool_], group: NDArray[np.intp]) -> float:
    """How many independent items (M,) grouped ones are worth: M divided by the design effect.

    The design effect is the cluster-robust variance of the ratio estimate over the binomial one (Kish 1965), kept
    between 1 (groups carry nothing) and the value at which all items of a group agree; the latter is used where the
    variance cannot be seen: one group only, or one answer only.
    """
    members = np.unique(group, return_inverse=True)[1]
    sizes = np.bincount(members)
    n, count, proportion = hits.size, sizes.size, float(hits.mean())
    full = float((sizes**2).sum() / n)
    if count == 1 or proportion in (0.0, 1.0):
        return n / full
    residual = np.bincount(members, weights=hits) - proportion * sizes
    robust = count / (count - 1) * float((residual**2).sum()) / n**2
    return n / float(np.clip(robust / (proportion * (1 - proportion) / n), 1.0, full))


def _student_quantile(groups: int) -> float:
    """Of (1 + CONFIDENCE) / 2, with a degree of freedom less than there are groups, two or more."""
    from scipy.special import stdtrit

    return float(stdtrit(groups - 1, (1 + CONFIDENCE) / 2))


def _few_groups(groups: int) -> float:
    """By what an effective size shrinks so that Wilson's interval allows for few groups (Korn & Graubard 1998)."""
    return (_NORMAL_QUANTILE / _student_quantile(groups)) ** 2 if groups > 1 else 1.0


def _tail(groups: int) -> float:
    """The share of resamples left out on either side: the expanded percentile interval of Hesterberg 2015.

    doi:10.1080/00031305.2015.1089789, section 4.5. It tends to (1 - CONFIDENCE) / 2 as groups grow many.
    """
    from scipy.special import ndtr

    return float(ndtr(-np.sqrt(groups / (groups - 1)) * _student_quantile(groups)))


def proportion_figure(hits: NDArray[np.bool_], group: NDArray[np.intp], absent: str) -> Metric:
    """The share of `hits` (M,) with its Wilson interval; no item at all gives None with the reason `absent`."""
    if hits.size == 0:
        return _metric(None, 0, reason=absent)
    groups = np.unique(group).size
    grouped = groups < hits.size
    size = effective_size(hits, group) * _few_groups(groups) if grouped else hits.size
    low, high = wilson_interval(float(hits.mean()), size)
    return _metric(float(hits.mean()), int(hits.size), low, high, "wilson_by_group" if grouped else "wilson")


def bootstrap_weights(group: NDArray[np.intp], resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Blocks of rows (R', N): how often each item is in a resample of whole groups; the first row is the data."""
    rng = np.random.default_rng(seed)
    count = int(group.max()) + 1
    rows = max(1, _CELLS_PER_BLOCK // max(group.size, count))
    yield np.ones((1, group.size))
    for start in range(0, resamples, rows):
        block = min(rows, resamples - start)
        drawn = rng.integers(0, count, (block, count)) + count * np.arange(block)[:, None]  # (R', G)
        times = np.bincount(drawn.ravel(), minlength=block * count).reshape(block, count)
        yield times[:, group].astype(np.float64)


def bootstrap_figure(draws: NDArray[np.float64], n: int, group: NDArray[np.intp], absent: str) -> Metric:
    """A figure from `draws` (1 + R,): its value on the data, then on each resample (NaN where undefined).

    A collapsed interval (every resample alike, as when nothing was got wrong) is not an interval: it is given as None.
    """
    value, resampled = draws[0], draws[1:][np.isfinite(draws[1:])]
    if not np.isfinite(value):
        return _metric(None, n, reason=absent)
    if group.max() == 0:
        return _metric(float(value), n, reason="one group only: nothing to resample")
    tail = 100 * _tail(int(group.max()) + 1)
    low, high = np.percentile(resampled, [tail, 100 - tail]) if resampled.size else (value, value)
    if np.isclose(low, high, rtol=0, atol=1e-12):
        return _metric(float(value), n, reason="every resample gives the same figure")
    grouped = int(group.max()) + 1 < group.size
    return _metric(float(value), n, float(low), float(high), "bootstrap_by_group" if grouped else "bootstrap")


def bootstrap(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    group: NDArray[np.intp],
    absent: str,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Metric:
    """The figure of any `statistic` of weighted items: weights (R, N) to values (R,), NaN where it is undefined."""
    draws = [statistic(weights) for weights in bootstrap_weights(group, resamples, seed)]
    return bootstrap_figure(np.concatenate(draws), group.size, group, absent)


def bootstrap_mean(
    values: NDArray, group: NDArray[np.intp], absent: str, *, seed: int = 0, resamples: int = RESAMPLES
) -> Metric:
    """The mean of N values, with the interval of `bootstrap`."""
    return bootstrap(
        lambda weights: weights @ values / weights.sum(axis=1), group, absent, seed=seed, resamples=resamples
    )


def mean_figure(values: Sequence[float | None], groups: Sequence[Any] | None, absent: str, *, seed: int = 0) -> Metric:
    """The mean of N `values` with the bootstrap's interval; those that are None are left out, and do not count.

    `groups` names each value's patient; no value at all gives None with the reason `absent`.
    """
    names = range(len(values)) if groups is None else groups
    pairs = [(value, name) for value, name in zip(values, names, strict=True) if value is not None]
    if not pairs:
        return _metric(None, 0, reason=absent)
    group = group_indices([name for _, name in pairs], len(pairs))
    return bootstrap_mean(np.array([value for value, _ in pairs], float), group, absent, seed=seed)
