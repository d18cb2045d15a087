"""Does a network whose batch norms were fitted to a site answer better there? By labels, or by a proxy without any.

    judge_by_labels(cases, before, after, label_names)     a labelled sample: the log-loss, each network calibrated anew
    judge_steadiness(before, after, units)                 no label: whether answers are about the slice, or its noise

Neither may be passed by chance: the 95 % interval of the difference must lie on the good side.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint_files import Metric
from ct_xception.evaluation.shift.changes import CHANGES
from ct_xception.evaluation.shift.robustness import changed_slice
from ct_xception.evaluation.shift.site_rules import Refit, paired_differences
from ct_xception.statistics.intervals import bootstrap, describe_metric, group_indices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct_xception.evaluation.shift.site_slices import SiteSlices
    from ct_xception.serving.classifier import Classifier

# Changes that leave the class alone whatever the site: those of scanner and archive, at the middle severity.
TRIED = ("window_centre", "window_width", "noise", "soft_kernel", "sharp_kernel", "jpeg", "resizing")
SEVERITY = 3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Whether the adapted network is kept, `by` what, the difference that decides, and all of it in a sentence."""

    kept: bool
    by: str
    difference: Metric
    sentence: str


def judge_by_labels(alone: Refit, adapted: Refit, seed: int = 0) -> Judged:
    """Kept if its log-loss on the labelled cases is lower, and its accuracy not shown to be lower.

    Both networks are calibrated on the cases of other folds first: what a temperature alone can mend needs no other
    weights. `alone` and `adapted` are of the same cases, in the same folds.
    """
    old, new = alone.after, adapted.after
    found = paired_differences(old.scores, new.scores, new.labels, new.groups, seed)
    loss, hits = found["log_loss"], found["accuracy"]
    kept = loss.high is not None and loss.high < 0 and not (hits.high is not None and hits.high < 0)
    said = f"log-loss after less before {describe_metric(loss)}, accuracy {describe_metric(hits)}"
    return Judged(kept, "a labelled sample of the site", loss, said)


def vote(classifier: Classifier, slices: SiteSlices, rows: Sequence[int], seed: int = 0) -> Floats:
    """Of each of some slices, how the answers to it and its changed copies are shared among the classes: (R, K)."""
    shares = []
    for row in rows:
        own = [seed, zlib.crc32(slices.names[row].encode("utf-8", "surrogateescape"))]
        copies = [slices.slices[row]]
        for number, name in enumerate(TRIED):
            copies.append(changed_slice(copies[0], CHANGES[name], SEVERITY, np.random.default_rng([*own, number])))
        outputs = classifier.network(np.stack([classifier.prepare(copy).values for copy in copies]))
        answers = outputs.logits.argmax(axis=1)
        shares.append(np.bincount(answers, minlength=outputs.logits.shape[1]) / len(copies))
    return np.array(shares)


def steadiness(votes: Floats, weights: Floats) -> Floats:
    """How much answers say of the slice, and not of its noise, in nats: (R,) of votes (N, K) under weights (R, N).

    The entropy of the answers over all less that within a slice's copies. One class for all slices gives 0 as chance
    does, so that a network that has collapsed is not taken for a steady one; confidence plays no part (regularised
    information maximisation, Krause et al. 2010, on answers to augmented copies as in Hu et al. 2017).
    """
    total = weights.sum(axis=1)
    return _entropy(weights @ votes / total[:, None]) - weights @ _entropy(votes) / total


def _entropy(shares: Floats) -> Floats:
    return -(shares * np.log(np.maximum(shares, np.finfo(np.float64).tiny))).sum(axis=-1)


def judge_steadiness(before: Floats, after: Floats, units: Sequence[Any], seed: int = 0) -> Judged:
    """Kept if the steadiness of the votes `after` (N, K) is shown to exceed that of those `before`."""
    group = group_indices(units, len(units))
    change = bootstrap(
        lambda weights: steadiness(after, weights) - steadiness(before, weights), group, "no slice", seed=seed
    )
    old, new = (float(steadiness(votes, np.ones((1, len(votes))))[0]) for votes in (before, after))
    said = f"steadiness {old:.3f} before and {new:.3f} after, difference {describe_metric(change)}"
    return Judged(change.low is not None and change.low > 0, "a proxy without labels (steadiness)", change, said)
