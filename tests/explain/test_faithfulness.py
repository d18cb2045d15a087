"""Evidence for maps whose faithfulness is known: the right one, its reverse, and one that ignores the network."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from ct_xception.evaluation.explanations import MapEvidence, evidence_figures
from ct_xception.explain.budget import Cancelled
from ct_xception.explain.explain import Attribution, Explanation, attribute
from ct_xception.explain.faithfulness import (
    EFFORTS,
    agreement,
    deletion,
    evidence,
    infidelity,
    insertion,
    point,
    randomisation,
    rank_correlation,
    sensitivity,
    settled_curves,
    top_overlap,
)
from ct_xception.explain.network_copies import random_networks
from ct_xception.explain.summary import explanation_record, explanation_sentences
from ct_xception.imaging.body.crop import Box
from ct_xception.imaging.slice import Slice
from ct_xception.model.modelling import CTXceptionForImageClassification as Network
from tests.closeness import ROUNDING
from tests.explain.test_methods import SIDE, linear_case
from tests.networks import enliven

FAST = EFFORTS["fast"]


def explained(method: str = "integrated_gradients", seen: np.ndarray | None = None) -> Explanation:
    """A linear network's explanation: the upper left quarter speaks for class 0; or the same with another map."""
    net, picture = linear_case()
    net.weights.data *= 0.02  # logits at which probabilities can move
    grey = ((picture[0].numpy() + 1) * 127).clip(0, 255).astype(np.uint8)
    answer = attribute(net, picture, 0, box=Box(0, 0, SIDE, SIDE), shape=(SIDE, SIDE), method=method, budget="fast")
    if seen is not None:
        answer = dataclasses.replace(answer, map=seen, seen=seen)
    return Explanation(net, Slice(grey, "drawn.png", 8, False, None), picture, Box(0, 0, SIDE, SIDE), 0, answer)


def test_the_right_order_deletes_fast_and_inserts_fast_and_the_reverse_does_not() -> None:
    right = explained()
    reverse = explained(seen=-right.seen)
    for curve in (deletion, insertion):
        found = curve(right, FAST)
        assert found["shares"][0] == 0 and found["shares"][-1] == 1 and found["shares"] == sorted(found["shares"])
        assert 5 <= len(found["probabilities"]) == len(found["shares"]) <= FAST.steps + 1
    assert deletion(right, FAST)["area"] < deletion(right, FAST)["random_area"] < deletion(reverse, FAST)["area"]
    assert insertion(right, FAST)["area"] > insertion(reverse, FAST)["area"]


def test_curves_begin_and_end_at_the_whole_and_the_blackened_picture() -> None:
    case = explained()
    curve = deletion(case, FAST)
    logits = torch.stack(
        [
            case.model.classify(case.model.features(pixels[None]))[0]
            for pixels in (case.pixel_values, -torch.ones(3, SIDE, SIDE))
        ]
    )
    ends = logits.softmax(dim=1)[:, 0].tolist()
    assert (curve["probabilities"][0], curve["probabilities"][-1]) == pytest.approx(tuple(ends), abs=ROUNDING)


def test_a_curve_is_asked_about_where_it_moves_and_its_area_stays_right() -> None:
    asked: list[float] = []

    def ask(points: Sequence[tuple[int, float]]) -> np.ndarray:
        asked.extend(share for _, share in points)
        assert len(points) <= 8
        return np.array([1 / (1 + math.exp((share - 0.2) / 0.04)) for _, share in points])

    (curve,) = settled_curves(ask, [64])
    assert len(asked) == len(set(asked)) == len(curve) < 20 and min(np.diff(list(curve))) >= 1 / 64
    assert max(share for share in curve if share % 0.25) < 0.5  # flat from there on
    exact = 0.04 * (math.log(1 + math.exp(0.2 / 0.04)) - math.log(1 + math.exp(-0.8 / 0.04)))
    assert np.trapezoid(list(curve.values()), list(curve)) == pytest.approx(exact, abs=0.01)


def test_infidelity_is_none_for_the_exact_map_and_large_for_a_wrong_one() -> None:
    right = explained()
    assert infidelity(right, patches=40) == pytest.approx(0, abs=1e-3)
    shuffled = np.random.default_rng(0).permutation(right.seen.ravel()).reshape(right.seen.shape)
    wrong = infidelity(explained(seen=shuffled), patches=40)
    assert wrong is not None and 0.2 < wrong <= 1.001


def test_a_steady_map_has_a_small_sensitivity() -> None:
    assert 0 < sensitivity(explained(), noises=2) < 0.1


def test_agreement_is_high_between_methods_that_see_the_same() -> None:
    found = agreement(explained("occlusion"), ("integrated_gradients", "occlusion"))
    assert list(found) == ["integrated_gradients"]
    assert found["integrated_gradients"]["rank_correlation"] > 0.7
    against = agreement(explained("occlusion", seen=-explained("occlusion").seen), ("integrated_gradients",))
    assert against["integrated_gradients"]["rank_correlation"] < -0.7
    assert against["integrated_gradients"]["overlap"] == 0


def test_rank_correlation_and_overlap_of_known_maps() -> None:
    rng = np.random.default_rng(0)
    heat = rng.random((64, 64))
    assert rank_correlation(heat, heat + 0.2 * heat**2) > 0.95 and rank_correlation(heat, -heat) == pytest.approx(-1)
    assert abs(rank_correlation(heat, rng.random((64, 64)))) < 0.25
    assert rank_correlation(heat, np.zeros((64, 64))) == 0
    assert top_overlap(heat, heat) == 1 and top_overlap(heat, -heat) == 0


@pytest.fixture(scope="module")
def network_case() -> Explanation:
    model = enliven(Network.from_backbone("legacy_xception", list("abcd"), SIDE, seed=5), batches=1, image_size=SIDE)
    rows, columns = np.mgrid[-1:1:100j, -1:1:120j]
    pixels = np.where((rows / 0.8) ** 2 + (columns / 0.9) ** 2 < 1, 150, 0).astype(np.uint8)
    pixels[(rows / 0.5) ** 2 + ((columns - 0.4) / 0.3) ** 2 < 1] = 30
    pixels[20:60, 30:50] += 40
    values = torch.nn.functional.interpolate(torch.from_numpy(pixels)[None, None].float() / 127.5 - 1, (SIDE, SIDE))
    picture, box = values[0].expand(3, -1, -1).contiguous(), Box(0, 0, 100, 120)
    answer = attribute(model, picture, 1, box=box, shape=(100, 120))
    return Explanation(model, Slice(pixels, "drawn.png", 8, False, None, (0.8, 0.7)), picture, box, 1, answer)


def test_everything_of_a_map_is_json_and_words(network_case: Explanation) -> None:
    shares: list[float] = []
    found = evidence(network_case, budget="fast", progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1
    record = explanation_record(network_case, found)
    text = json.dumps(record, allow_nan=False)
    for key in ("deletion", "insertion", "infidelity", "sensitivity", "agreement", "randomisation"):
        assert key in record["evidence"], key
    assert record["regions"][0]["width_mm"] > 0 and record["target"] == "b" and "inside_lungs" in text
    sentences = " ".join(explanation_sentences(network_case, found))
    for words in ("in the lungs", "mm)", "Blackening the strongest", "rank correlation", "Invisible noise"):
        assert words in sentences, words
    figures = evidence_figures([MapEvidence.of(found)] * 2, ["one", "two"])
    assert figures["deletion_area"].n == 2 and figures["deletion_area"].value == pytest.approx(
        found["deletion"]["area"]
    )


def test_gathering_evidence_can_be_stopped(network_case: Explanation) -> None:
    with pytest.raises(Cancelled):
        evidence(network_case, cancelled=lambda: True)


def test_a_map_made_without_the_network_fails_randomisation(
    network_case: Explanation, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = random_networks(network_case.model, SIDE, 2, seed=0)
    own = randomisation(network_case, random)
    assert len(own["each"]) == 2 and own["rank_correlation"] == pytest.approx(np.mean(own["each"]))
    edges = np.asarray(network_case.pixel_values[0])
    case = dataclasses.replace(network_case, attribution=dataclasses.replace(network_case.attribution, seen=edges))
    monkeypatch.setattr(Explanation, "again", lambda *_: edges)
    assert randomisation(case, random) == {"rank_correlation": 1.0, "each": [1.0, 1.0], "passed": False}


def test_a_map_that_misses_its_sum_or_lies_on_foreign_ground_is_warned_of() -> None:
    case = explained()
    assert case.attribution.completeness is not None
    missed = dataclasses.replace(case.attribution.completeness, delta=1.0)
    case = dataclasses.replace(case, attribution=dataclasses.replace(case.attribution, completeness=missed))
    reverse = dataclasses.replace(case.attribution, map=-case.attribution.map, seen=-case.seen)
    sentences = evidence(dataclasses.replace(case, attribution=reverse), budget="fast")["warnings"]
    assert any("no faster than blackening random ones" in sentence for sentence in sentences)
    assert any("misses the change of score" in sentence for sentence in sentences)


def lesion() -> np.ndarray:
    mask = np.zeros((40, 50), dtype=bool)
    mask[10:20, 20:30] = True
    return mask


def test_the_pointing_game_by_hand() -> None:
    heat = np.zeros((40, 50))
    heat[15, 25], heat[30, 40] = 1.0, 0.5
    found = point(heat, lesion())
    assert found.hit and found.near and found.distance == 0
    assert found.inside == pytest.approx(1 / 1.5) and found.area == 100 / 2000
    assert found.overlap == 1 / 101  # two pixels are positive, one of them in the lesion's hundred
    heat[30, 40] = 2.0
    missed = point(heat, lesion(), tolerance=16)
    assert not missed.hit and missed.near and missed.distance == pytest.approx(math.hypot(11, 11))


def test_a_flat_peak_counts_at_its_middle_and_an_empty_map_misses() -> None:
    heat = np.zeros((40, 50))
    heat[5:25, 15:35] = 1
    assert point(heat, lesion()).hit
    empty = point(np.zeros((40, 50)), lesion())
    assert not empty.hit and empty.inside == 0 and empty.overlap == 0
    with pytest.raises(ValueError, match="needs a lesion mask of that size with something in it"):
        point(heat, np.zeros((40, 50), dtype=bool))


def test_an_explanation_of_nothing_says_so() -> None:
    case = explained()
    empty = Attribution(
        np.zeros((SIDE, SIDE), np.float32), "0", "gradcam", 0.0, seen=np.zeros((SIDE, SIDE), np.float32)
    )
    sentences = explanation_sentences(dataclasses.replace(case, attribution=empty))
    assert sentences == ["Nothing in this slice speaks for 0 (Grad-CAM)."]
