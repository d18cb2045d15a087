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


def black_box(probabilities: np.ndarray, known: np.ndarray, labels: np.ndarray, source: np.ndarray) -> np.ndarray:
    """BBSE (Lipton, Wang & Smola 2018): w solves C w = q, C[i, j] the share called i and of class j among `known`.

    `known` (M, K) are answers at home to `labels` (M,), and q the shares of what is called at the site.
    """
    kinds = range(len(source))
    called = known.argmax(axis=1)
    joint = np.array([[((called == i) & (labels == j)).mean() for j in kinds] for i in kinds])
    share = np.bincount(probabilities.argmax(axis=1), minlength=len(source)) / len(probabilities)
    weights = np.clip(np.linalg.solve(joint, share), 0, None) * source
    return weights / weights.sum()


def test_the_black_box_estimate_and_ours_agree_where_one_sign_is_all() -> None:
    """At home 90 of 100 `a` and 20 of 100 `b` show the sign; at the site 37 of 100 slices do: a share of 17/70."""
    known = answers_to_a_sign(110, 90)
    labels = np.repeat([0, 1, 0, 1], [90, 20, 10, 80])
    site, even = answers_to_a_sign(37, 63), np.array([0.5, 0.5])
    wanted = pytest.approx([17 / 70, 53 / 70], abs=1e-5)
    assert black_box(site, known, labels, even) == wanted and fit_prior(site, even) == wanted


def test_answers_tell_more_than_what_was_called() -> None:
    """Three classes of normal features in two dimensions, one class five times as frequent at the site: answers by
    Bayes' rule are calibrated, and EM, which takes them whole, errs less than the black box, which counts calls."""
    centres, source, shares = np.array([[0, 0], [1.2, 0], [0, 1.2]]), np.full(3, 1 / 3), np.array([5, 1, 1]) / 7
    rng = np.random.default_rng(0)

    def drawn(mix: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.choice(3, n, p=mix)
        distances = ((rng.normal(size=(n, 1, 2)) + centres[labels][:, None] - centres) ** 2).sum(axis=-1)
        answers = np.exp(-distances / 2)
        return answers / answers.sum(axis=1, keepdims=True), labels

    errors = []
    for _ in range(40):
        (known, labels), (site, _) = drawn(source, 400), drawn(shares, 200)
        found = black_box(site, known, labels, source), fit_prior(site, source)
        errors.append([np.abs(one - shares).mean() for one in found])
    counted, whole = np.mean(errors, axis=0)
    assert whole < 0.8 * counted and whole < 0.06
