"""The input gate's rules, on distances and signs that can be worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.decomposition import PCA

from ct_xception.checkpoint import GATE
from ct_xception.checkpoint_files import Side, SignsRule
from ct_xception.errors import CheckpointError
from ct_xception.imaging.body.crop import BodyCrop, Box, crop_body
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window
from ct_xception.serving.gate import ARRAYS, Distance, Gate, GateVerdict, Signs, describe, has_lungs

MEAN = np.array([1, 0, 0.6, 0.8], np.float32)
FIRST = np.array([[1, 0, 0, 0]], np.float32)  # the one component
FOUR = np.array([4], np.float32)  # its variance


def make_distance() -> Distance:
    """Two features of length 2 in training; noise 1 off the first direction, along which the variance is 4."""
    return Distance(MEAN, FIRST, FOUR, noise=1.0, length=2.0)


def make_gate(**signs: Any) -> Gate:
    """A gate that takes the first feature for the distance."""
    return Gate(lambda features: features[0], Signs(**signs), usual=1.0, doubtful=2.0, refused=4.0)  # type: ignore


def make_slice(shape: tuple[int, int] = (100, 100), **values: Any) -> Slice:
    return Slice(
        np.zeros(shape, np.uint8), "a.png", 8, values.pop("is_hu", False), values.pop("window", None), **values
    )


def cropped(slice_: Slice, share: float = 1.0, found: bool = True) -> BodyCrop:
    height, width = slice_.pixels.shape
    return BodyCrop(slice_, Box(0, 0, round(height * share), width), found)


def judge(gate: Gate, slice_: Slice, crop: BodyCrop | None = None, features: Any = (0,)) -> GateVerdict:
    return gate.judge(slice_, crop or cropped(slice_), np.asarray(features, np.float32))


class TestDistance:
    def test_features_are_told_by_size_and_by_direction(self) -> None:
        assert describe(np.array([6.0, 8.0]), 2.0) == pytest.approx([3, 4, 0.6, 0.8])
        assert describe(np.zeros((3, 2)), 2.0).tolist() == [[0, 0, 0, 0]] * 3

    def test_by_hand(self) -> None:
        # (6, 8) is (3, 4, 0.6, 0.8), so (2, 4, 0, 0) from the mean: 2² / 4 along the component, 4² / 1 off it
        assert make_distance()(np.array([6.0, 8.0])) == pytest.approx(np.sqrt((1 + 16) / 4))
        assert make_distance()(np.array([[6.0, 8.0], [6.0, 8.0]])).shape == (2,)

    def test_is_that_of_scikit_learns_probabilistic_pca(self) -> None:
        rng = np.random.default_rng(0)
        train, asked = rng.normal(size=(60, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(20, 6)) * 3
        pca = PCA(n_components=4, svd_solver="full").fit(describe(train, 2.5))
        distance = Distance(pca.mean_, pca.components_, pca.explained_variance_, pca.noise_variance_, 2.5)
        likelihood = pca.score_samples(describe(asked, 2.5))
        constant = 12 * np.log(2 * np.pi) + np.linalg.slogdet(pca.get_covariance())[1]
        assert distance(asked) == pytest.approx(np.sqrt((-2 * likelihood - constant) / 12), rel=1e-6)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"variances": np.ones(2, np.float32)}, "shapes"),
            ({"components": np.ones((1, 3), np.float32)}, "shapes"),
            ({"mean": MEAN[:3], "components": FIRST[:, :3]}, "shapes"),
            ({"mean": MEAN * np.nan}, "not finite"),
            ({"variances": np.zeros(1, np.float32)}, "not all above 0"),
            ({"noise": 0.0}, "not all above 0"),
            ({"length": float("nan")}, "not all above 0"),
        ],
    )
    def test_arrays_that_cannot_be_a_gate(self, changes: dict[str, Any], words: str) -> None:
        whole = {"mean": MEAN, "components": FIRST, "variances": FOUR, "noise": 1.0, "length": 2.0}
        with pytest.raises(ValueError, match=words):
            Distance(**{**whole, **changes})

    def test_features_of_another_network(self) -> None:
        with pytest.raises(ValueError, match="got 3 features for a gate of 2"):
            make_distance()(np.zeros(3))


class TestVerdict:
    def test_a_slice_like_those_of_training_is_accepted(self) -> None:
        assert judge(make_gate(), make_slice()) == GateVerdict("accepted", (), 0.0)

    @pytest.mark.parametrize(("distance", "verdict"), [(1.9, "accepted"), (2.1, "doubtful"), (4.0, "refused")])
    def test_the_distance_alone(self, distance: float, verdict: str) -> None:
        found = judge(make_gate(), make_slice(), features=[distance])
        assert (found.verdict, found.refused) == (verdict, verdict == "refused")
        assert found.score == pytest.approx(distance / 4)
        if verdict == "refused":
            assert found.reasons == (
                "its features lie 4.0 times as far from the training slices as those of validation mostly do",
            )

    def test_a_sign_that_refuses_comes_first_and_lifts_the_score(self) -> None:
        found = judge(make_gate(), make_slice(coloured=0.63), features=[3])
        assert found.verdict == "refused" and found.score == pytest.approx(1 + 3 / 4)
        assert (
            found.reasons[0] == "63 % of its pixels are coloured, where all should be grey" and len(found.reasons) == 2
        )

    @pytest.mark.parametrize("features", [[np.nan, 0], [np.inf, 0], [3e38, 3e38]])
    def test_what_is_no_number_is_refused_and_stays_json(self, features: list[float]) -> None:
        gate = Gate(make_distance(), Signs(), usual=1.0, doubtful=2.0, refused=4.0)
        found = judge(gate, make_slice(), features=features)
        assert found.refused and json.loads(json.dumps(found.to_dict(), allow_nan=False))["verdict"] == "refused"

    def test_as_json(self) -> None:
        record = judge(make_gate(), make_slice(coloured=0.1)).to_dict()
        assert record == {
            "verdict": "doubtful",
            "reasons": ["10 % of its pixels are coloured, where all should be grey"],
            "score": 0.5,
        }

    def test_doubts_add_up_to_a_refusal(self) -> None:
        slice_ = make_slice(coloured=0.1, modality="")
        found = judge(make_gate(), slice_)
        assert found.refused and found.score == 1.0 and len(found.reasons) == 2
        near, far = (judge(make_gate(), make_slice(coloured=0.1), features=[distance]) for distance in (1.9, 2.1))
        assert (near.verdict, far.verdict) == ("doubtful", "refused") and far.score == pytest.approx(0.5 + 2.1 / 4)


class TestSigns:
    @pytest.mark.parametrize(
        ("values", "verdict", "words"),
        [
            ({"modality": "CT"}, "accepted", ""),
            ({"modality": None}, "accepted", ""),
            ({"modality": "MR"}, "refused", "the file says modality MR, not CT"),
            ({"modality": ""}, "doubtful", "does not say with which modality"),
            ({"modality": "OT"}, "doubtful", "does not say with which modality"),
            ({"modality": "CT", "is_localizer": True}, "refused", "a scout view"),
            ({"coloured": 0.04}, "accepted", ""),
            ({"coloured": 0.3}, "refused", "30 % of its pixels are coloured"),
        ],
    )
    def test_what_the_file_says(self, values: dict[str, Any], verdict: str, words: str) -> None:
        found = judge(make_gate(), make_slice(**values))
        assert found.verdict == verdict and (words in " ".join(found.reasons)) and bool(found.reasons) == bool(words)

    def test_a_modality_of_training_is_no_sign(self) -> None:
        assert judge(make_gate(modalities=("CT", "MR")), make_slice(modality="MR")).verdict == "accepted"

    @pytest.mark.parametrize(
        ("share", "found", "verdict", "words"),
        [
            (0.45, True, "accepted", ""),
            (0.3, True, "doubtful", "what stands out as a body fills 30 % of the picture, in training at least 80 %"),
            (0.1, True, "refused", "fills 10 %"),
            (1.0, False, "refused", "no body stands out from the background"),
        ],
    )
    def test_the_bodys_outline(self, share: float, found: bool, verdict: str, words: str) -> None:
        slice_ = make_slice()
        said = judge(make_gate(body=0.8), slice_, cropped(slice_, share, found))
        assert said.verdict == verdict and words in " ".join(said.reasons)
        assert judge(make_gate(), slice_, cropped(slice_, share, found)).verdict == "accepted"

    def test_lungs(self, sample_slices: list[Path]) -> None:
        chest = read_slice(sample_slices[0])
        filled = chest.replace_pixels(np.where(chest.pixels > 0, np.uint8(150), np.uint8(0)))
        gate = make_gate(lungs=0.5)
        assert judge(gate, chest, crop_body(chest)).verdict == "accepted"
        assert judge(gate, filled, crop_body(filled)).reasons == ("no lungs stand out in it",)
        assert judge(make_gate(), filled, crop_body(filled)).verdict == "accepted"

    def test_a_brain_in_its_skull_is_no_lung(self) -> None:
        """As a bone window shows it, small and large."""
        for side in (128, 300, 512):
            radius = np.hypot(*np.mgrid[-1.25 : 1.25 : side * 1j, -1.5 : 1.5 : side * 1j])
            head = np.select([radius < 0.88, radius < 1], [80, 250], 0).astype(np.uint8)
            crop = crop_body(Slice(head, "head", 8, False, None))
            assert crop.found and not has_lungs(crop)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 3), (1200, 1200)])
    def test_lungs_of_any_shape(self, shape: tuple[int, int]) -> None:
        assert not has_lungs(cropped(make_slice(shape)))

    @pytest.mark.parametrize(
        ("shape", "words"),
        [
            ((100, 140), ""),
            ((40, 40), "40 x 40 pixels, where training had 100 to 300 a side"),
            ((1000, 1000), "1000 x 1000 pixels, where training had 100 to 300 a side"),
            ((100, 250), "250 x 100 pixels: too wide"),
            ((250, 100), "100 x 250 pixels: too tall"),
        ],
    )
    def test_the_size(self, shape: tuple[int, int], words: str) -> None:
        found = judge(make_gate(sides=(100, 300), aspects=(0.8, 1.25)), make_slice(shape))
        assert found.verdict == ("doubtful" if words else "accepted") and words in " ".join(found.reasons)

    @pytest.mark.parametrize(
        ("window", "is_hu", "known", "words"),
        [
            (Window(-600, 1500), True, (Window(-500, 1400),), ""),
            (Window(40, 400), True, (Window(-600, 1500),), "the window 40/400 HU, where training had -600/1500"),
            (Window(40, 400), True, (Window(-600, 1500), Window(40, 350)), ""),
            (Window(40, 400), True, (), ""),
            (Window(40, 400), False, (Window(-600, 1500),), ""),
        ],
    )
    def test_the_window(self, window: Window, is_hu: bool, known: tuple[Window, ...], words: str) -> None:
        found = judge(make_gate(windows=known), make_slice(window=window, is_hu=is_hu))
        assert found.verdict == ("doubtful" if words else "accepted") and words in " ".join(found.reasons)

    def test_survive_json(self) -> None:
        signs = Signs(("CT", "PT"), 0.4, 0.25, (100, 300), (0.8, 1.25), (Window(-600, 1500),))
        assert Signs.of(SignsRule.of(signs.to_dict())) == signs
        assert Signs.of(SignsRule.of(Signs().to_dict())) == Signs()


class TestFiles:
    RULE = {"method": "mahalanobis", "noise": 1.0, "length": 2.0, "usual": 1.0, "doubtful": 2.0, "refused": 4.0}

    def write(self, folder: Path, **changes: Any) -> dict[str, Any]:
        distance = make_distance()
        save_file({name: getattr(distance, name) for name in ARRAYS}, folder / GATE)
        own = self.RULE | {"signs": Signs().to_dict(), "weights_sha256": "mine"}
        return {"gate": own | changes, "provenance": {"weights_sha256": "mine"}}

    def test_a_gate_is_read_again(self, tmp_path: Path) -> None:
        gate = Gate.of(Side.of(self.write(tmp_path)), tmp_path)
        assert gate is not None and judge(gate, make_slice(), features=[60, 80]).refused

    @pytest.mark.parametrize("side", [{}, {"gate": None}, {"gate": {"method": None}}, {"gate": {"method": "later"}}])
    def test_no_gate(self, side: dict[str, Any], tmp_path: Path) -> None:
        assert Gate.of(Side.of(side), tmp_path) is None

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"noise": "much"}, "gate.noise: Input should be a valid number"),
            ({"usual": None}, "not whole"),
            ({"doubtful": 5.0}, "do not rise"),
            ({"refused": float("nan")}, "JSON"),
            ({"signs": {}}, "gate.signs.modalities: Field required"),
            ({"weights_sha256": "other"}, "fitted to other weights"),
        ],
    )
    def test_a_broken_rule_is_refused(self, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=f"{words}.*; fetch the checkpoint again"):
            Gate.of(Side.of(self.write(tmp_path, **changes)), tmp_path)

    @pytest.mark.parametrize("content", [None, b"", b"\x08\0\0\0\0\0\0\0torn"])
    def test_a_broken_file_is_refused(self, content: bytes | None, tmp_path: Path) -> None:
        side = self.write(tmp_path)
        (tmp_path / GATE).unlink()
        if content is not None:
            (tmp_path / GATE).write_bytes(content)
        with pytest.raises(CheckpointError, match="gate.safetensors is missing or damaged"):
            Gate.of(Side.of(side), tmp_path)

    def test_an_array_that_is_not_there(self, tmp_path: Path) -> None:
        side = self.write(tmp_path)
        save_file({"mean": MEAN}, tmp_path / GATE)
        with pytest.raises(CheckpointError, match="components"):
            Gate.of(Side.of(side), tmp_path)
