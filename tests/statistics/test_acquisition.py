"""Which slices to label next: unsure ones, unlike one another, and not all of one patient."""

from __future__ import annotations

import numpy as np
import pytest

from ct_xception.errors import InputError
from ct_xception.statistics.acquisition import choose_next, uncertainty

SURE, TORN = [0.99, 0.01], [0.5, 0.5]


def test_uncertainty_is_an_entropy_between_0_and_1() -> None:
    found = uncertainty(np.array([[0.5, 0.5], [1.0, 0.0], [0.9, 0.1]]))
    assert found == pytest.approx([1, 0, -(0.9 * np.log2(0.9) + 0.1 * np.log2(0.1))])


def test_the_first_is_the_unsurest_and_the_second_unlike_it() -> None:
    """Rows 0 and 1 are torn and alike, row 2 is torn and elsewhere, row 3 is sure."""
    features = [[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.7, 0.7]]
    found = choose_next(features, [TORN, TORN, TORN, SURE], list("abcd"), 4)
    assert [one.row for one in found[:2]] in ([0, 2], [1, 2])
    assert [one.row for one in found] != sorted(one.row for one in found) and found[0].uncertainty == 1
    assert found[0].novelty == 1 and all(one.novelty >= two.novelty for one, two in zip(found, found[1:], strict=False))


def test_distances_are_those_of_the_gradients_themselves() -> None:
    """Against the outer products written out, which `choose_next` never forms."""
    rng = np.random.default_rng(0)
    features, answers = rng.normal(size=(30, 5)), rng.dirichlet([1, 1, 1], 30)
    scaled = features / np.sqrt((features**2).sum(axis=1).mean())
    error = answers - np.eye(3)[answers.argmax(axis=1)]
    points = (error[:, :, None] * scaled[:, None, :]).reshape(30, -1)
    chosen: list[int] = []
    while len(chosen) < 8:
        centres = [np.zeros(points.shape[1]), *points[chosen]]
        far = np.min([((points - centre) ** 2).sum(axis=1) for centre in centres], axis=0)
        chosen.append(int(far.argmax()))
    assert [one.row for one in choose_next(features, answers, range(30), 8)] == chosen


@pytest.mark.parametrize(("most_each", "count"), [(1, 3), (2, 6), (9, 12)])
def test_no_patient_gives_more_than_its_share(most_each: int, count: int) -> None:
    rng = np.random.default_rng(1)
    patients = ["a"] * 6 + ["b"] * 4 + ["c"] * 2
    found = choose_next(rng.normal(size=(12, 4)), rng.dirichlet([1, 1], 12), patients, 12, most_each=most_each)
    held = [patients[one.row] for one in found]
    assert len(found) == len({one.row for one in found}) == count
    assert max(held.count(name) for name in "abc") <= most_each


def test_counts_below_one_are_refused() -> None:
    with pytest.raises(InputError, match="give 1 or more"):
        choose_next([[1.0]], [TORN], ["a"], 0)
