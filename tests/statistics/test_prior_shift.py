"""The mix of classes at a new site, estimated without labels, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from ct_xception.errors import InputError
from ct_xception.statistics.prior_shift import estimate_prior, fit_prior, reweigh

SEEN, UNSEEN = 0.9, 0.2  # how often a sign is there in a class, and in the other
EVEN = {"a": 0.5, "b": 0.5}


def answers_to_a_sign(shown: int, hidden: int, prior: float = 0.5) -> np.ndarray:
    """A calibrated network that sees one sign alone: Bayes' rule for `shown` slices with it, then without."""
    with_, without = SEEN * prior, (1 - SEEN) * prior
    of_a = [with_ / (with_ + UNSEEN * (1 - prior)), without / (without + (1 - UNSEEN) * (1 - prior))]
    own = np.repeat(of_a, [shown, hidden])
    return np.stack([own, 1 - own], axis=1)


@pytest.mark.parametrize("prior", [0.5, 0.3])
def test_one_sign_has_a_closed_form(prior: float) -> None:
    """The sign's share at the site is SEEN * p + UNSEEN * (1 - p): p follows, whatever training's mix was."""
    shown, hidden = 37, 63
    wanted = (shown / 100 - UNSEEN) / (SEEN - UNSEEN)
    found = fit_prior(answers_to_a_sign(shown, hidden, prior), np.array([prior, 1 - prior]))
    assert found == pytest.approx([wanted, 1 - wanted], abs=1e-5)


def test_a_sign_rarer_than_in_either_class_leaves_one_class_alone() -> None:
    found = fit_prior(answers_to_a_sign(10, 90), np.array([0.5, 0.5]))
    assert found == pytest.approx([0, 1], abs=1e-3)


def test_moved_answers_are_bayes_rule_with_the_other_mix() -> None:
    moved = reweigh(answers_to_a_sign(1, 1), [0.5, 0.5], [0.3, 0.7])
    assert moved == pytest.approx(answers_to_a_sign(1, 1, prior=0.3))


def test_the_estimate_is_at_rest_where_the_mix_is_that_of_training() -> None:
    share = SEEN * 0.5 + UNSEEN * 0.5
    found = fit_prior(answers_to_a_sign(round(1000 * share), 1000 - round(1000 * share)), np.array([0.5, 0.5]))
    assert found == pytest.approx([0.5, 0.5], abs=1e-6)


def test_the_interval_is_that_of_patients_and_tells_a_shift() -> None:
    many = estimate_prior(answers_to_a_sign(40, 160), EVEN, resamples=100)
    assert many.is_shown and many.target["a"].value == pytest.approx(0, abs=1e-3)
    same = answers_to_a_sign(22, 18)
    alone, grouped = (
        estimate_prior(same, EVEN, groups, resamples=100) for groups in (None, [i // 8 for i in range(40)])
    )
    assert not alone.is_shown and grouped.n_groups == 5
    widths = [one.target["a"].high - one.target["a"].low for one in (alone, grouped)]  # type: ignore[operator]
    assert widths[1] > widths[0]  # slices of one patient say the same thing


def test_what_training_never_had_cannot_be_estimated() -> None:
    with pytest.raises(InputError, match="no item of b"):
        estimate_prior(np.full((4, 2), 0.5), {"a": 1.0, "b": 0.0})
    with pytest.raises(InputError, match="do not go with 2 classes"):
        estimate_prior(np.full((4, 3), 1 / 3), EVEN)
