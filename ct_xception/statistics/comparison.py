"""Two models on the same items: is one better, or did it have the luck of the draw?

Both answers to an item are kept together: the paired bootstrap draws items (whole groups of them), and McNemar's exact
test looks only at the items on which one is right and the other wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from ct_xception.checkpoint import EVALUATION, METRICS, MODEL, PREDICTIONS, PREDICTIONS_GROUPED
from ct_xception.errors import CheckpointError, InputError, printable
from ct_xception.metrics import Comparison, McNemar, Metrics, SwapTest, read_metrics
from ct_xception.statistics.intervals import (
    RESAMPLES,
    bootstrap_mean,
    describe_metric,
    group_indices,
    proportion_figure,
)

if TYPE_CHECKING:
    from pandas import DataFrame

SWAPS = 10_000
_SWAPS_AT_ONCE = 1_000


class EvaluationComparison(Comparison):
    """Two evaluations of one split: `path` is whose answers, `left_out` counts the items that one of them refused.

    `protocol` is published, or grouped: all items, each answered by the network of the fold that did not train on it.
    """

    path: str
    protocol: str
    split: str
    label_names: tuple[str, ...]
    left_out: int


def compare(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    groups: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """The accuracies of two models on labels (N,); each gives classes (N,) or probabilities (N, K).

    `difference`: first minus second, in [-1, 1], with a paired bootstrap by group; `mcnemar`: exact, two-sided, as if
    items were independent; `by_group` where groups hold several items, else None. Raises InputError on shapes.
    """
    truth = np.asarray(labels)
    chosen = [_classes(answers, truth, name) for answers, name in ((first, "first"), (second, "second"))]
    hits = [classes == truth for classes in chosen]
    group = group_indices(groups, truth.size)
    apart = hits[0].astype(float) - hits[1]  # (N,) in -1, 0, 1
    grouped = int(group.max()) + 1 < truth.size
    return Comparison(
        n=int(truth.size),
        n_groups=int(group.max()) + 1,
        first=proportion_figure(hits[0], group, "no item"),
        second=proportion_figure(hits[1], group, "no item"),
        difference=bootstrap_mean(apart, group, "no item", seed=seed, resamples=resamples),
        mcnemar=mcnemar(hits[0], hits[1]),
        by_group=swap_test(apart, group, seed=seed) if grouped else None,
    )


def _classes(answers: ArrayLike, truth: NDArray, name: str) -> NDArray:
    values = np.asarray(answers)
    if truth.ndim != 1 or truth.size == 0 or values.ndim not in (1, 2) or len(values) != truth.size:
        raise InputError(
            f"Comparison: expected labels (N,) with N of at least 1 and {name} answers (N,) or (N, K), "
            f"got {truth.shape} and {values.shape}."
        )
    if values.ndim == 2 and not np.isfinite(values).all():
        raise InputError(f"Comparison: {name} answers hold NaN; compare the items that both models answered.")
    return values.argmax(axis=1) if values.ndim == 2 else values


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> McNemar:
    """McNemar's exact test of hits (N,) and (N,).

    Under equal accuracy b is Binomial(b + c, 1/2); p is two-sided, 1 where they never part (McNemar 1947).
    """

    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    return McNemar(b=b, c=c, p=float(binomtest(b, b + c, 0.5).pvalue) if b + c else 1.0)


def swap_test(apart: NDArray[np.float64], group: NDArray[np.intp], *, seed: int = 0) -> SwapTest:
    """A two-sided randomisation test of differences (N,) that keeps groups (N,) whole.

    If the models are alike, which of them gave which answers to a group is a coin's toss. The data count as one of the
    tosses, so that p is never 0 (Phipson & Smyth 2010).
    """
    sums = np.bincount(group, weights=apart)
    sums = sums[sums != 0]
    rng, beyond = np.random.default_rng(seed), 0
    for _ in range(SWAPS // _SWAPS_AT_ONCE):
        signs = rng.choice((-1.0, 1.0), (_SWAPS_AT_ONCE, sums.size))
        beyond += int((np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9).sum())
    return SwapTest(p=(beyond + 1) / (SWAPS + 1), swaps=SWAPS)


def compare_evaluations(
    first: str | Path,
    second: str | Path,
    *,
    path: str = "predictor",
    protocol: str = "published",
    without_twins: bool = False,
    seed: int = 0,
) -> EvaluationComparison:
    """`compare` of two evaluation folders (metrics.json, predictions.parquet) of one split, on what both answered.

    A checkpoint or a run folder stands for its evaluation. `path`: whose answers; `protocol`: those to the test split
    (published), or those of the cross-validation (grouped), whose folds may differ. `without_twins` leaves out the
    items that have a twin in training or validation. Groups are those of the evaluation that knows the fewer. Raises
    InputError where a folder cannot be read, and where corpus, split, classes or items differ.
    """
    (about, one), (about_other, other) = (_read_evaluation(Path(given), path, protocol) for given in (first, second))
    _check_same(about, about_other, protocol)
    other = other.reindex(one.index) if len(other) == len(one) else other
    if not one["label"].equals(other["label"]):
        raise InputError("The evaluations hold different items or labels; evaluate both checkpoints on one split.")
    if without_twins:
        if "has_twin" not in one:
            raise InputError(f"{printable(first)}: does not say which items have a twin; evaluate it with the audit.")
        one, other = one[~one["has_twin"]], other[~one["has_twin"]]
    both = one["predicted"].notna() & other["predicted"].notna()
    if not both.any():
        raise InputError("There is no item that both evaluations answered; there is nothing to compare.")
    group = min((table["group"][both] for table in (one, other)), key=lambda column: column.nunique())
    labels, *answers = (column[both].to_numpy() for column in (one["label"], one["predicted"], other["predicted"]))
    found = compare(labels, answers[0], answers[1], group.tolist(), seed=seed)
    return EvaluationComparison(
        path=path,
        protocol=protocol,
        split="all" if protocol == "grouped" else about.split,
        label_names=about.label_names,
        **{name: getattr(found, name) for name in Comparison.model_fields},
        left_out=int((~both).sum()),
    )


def _check_same(first: Metrics, second: Metrics, protocol: str) -> None:
    """Refuse metrics of different corpora, splits or classes; a cross-validation asks all items, whatever the split."""
    splits = () if protocol == "grouped" else (("split", "splits"), ("split_hash", "splits"))
    for key, of in (("label_names", "classes"), *splits):
        one, other = getattr(first, key), getattr(second, key)
        if one != other:
            raise InputError(
                f"The evaluations are of different {of} ({one} and {other}); "
                "evaluate both checkpoints on one split of one corpus."
            )
    if first.corpus.hash != second.corpus.hash:
        raise InputError("The evaluations are of different corpora; evaluate both checkpoints on one.")


def _read_evaluation(given: Path, path: str, protocol: str) -> tuple[Metrics, DataFrame]:
    """metrics.json of an evaluation, and one path's rows of the protocol's answers by source."""
    folder = next((one for one in (given / EVALUATION, given / MODEL / EVALUATION) if one.is_dir()), given)
    answers = PREDICTIONS_GROUPED if protocol == "grouped" else PREDICTIONS
    if protocol == "grouped" and (folder / METRICS).is_file() and not (folder / answers).is_file():
        raise InputError(f"{printable(given)}: has no cross-validation; train it with --protocols grouped.")
    try:
        metrics = read_metrics(folder / METRICS)
        table = pandas.read_parquet(folder / answers)
        own = table[table["path"] == path].set_index("source")
    except (OSError, ValueError, KeyError, CheckpointError) as error:
        raise InputError(f"{printable(given)}: is no evaluation folder ({printable(error)}).") from error
    if not own.index.is_unique:
        raise InputError(f"{printable(given)}: {answers} holds an item twice; evaluate the checkpoint again.")
    if own.empty:
        known = ", ".join(sorted(set(table["path"])))
        raise InputError(f"{printable(given)}: holds no answers of {path!r}; it has {known}.")
    return metrics, own


def describe_comparison(found: EvaluationComparison, first: str, second: str) -> list[str]:
    """A comparison in lines for the terminal, the last one saying what follows from it."""
    difference, test, by_group = found.difference, found.mcnemar, found.by_group
    left_out = f", {found.left_out:,} left out that one refused" if found.left_out else ""
    parted = f"only the first right {test.b}, only the second right {test.c}"
    lines = [
        f"n = {found.n:,} items in {found.n_groups:,} groups{left_out}",
        f"  accuracy of {first}: {describe_metric(found.first)}",
        f"  accuracy of {second}: {describe_metric(found.second)}",
        f"  difference, first minus second: {describe_metric(difference)}",
        f"  McNemar's exact test: {parted}, p = {test.p:.3g}",
    ]
    if by_group is not None:
        lines.append(f"  exchanging the two group by group ({by_group.swaps:,} times): p = {by_group.p:.3g}")
    apart = difference.low is not None and difference.high is not None and not difference.low <= 0 <= difference.high
    better = "first" if (difference.value or 0) > 0 else "second"
    where, tell = ("these folds", "do") if found.protocol == "grouped" else ("this split", "does")
    told = f"The {better} is better on {where}." if apart else f"{where.capitalize()} {tell} not tell the two apart."
    return [*lines, told]
