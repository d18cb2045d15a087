"""Sets of slices: told from others, silent about held-out patients of the same source, and honest where few."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ct_xception.checkpoint import DRIFT
from ct_xception.checkpoint_files import DriftRule
from ct_xception.errors import CheckpointError
from ct_xception.evaluation.gate_fit import Seen, fit_distance
from ct_xception.evaluation.shift.drift_fit import FEWEST_PATIENTS, fit_reference, write_reference
from ct_xception.imaging.body.crop import crop_body
from ct_xception.imaging.reader import read_slice
from ct_xception.serving.drift import (
    FEWEST,
    MOST,
    TRAITS,
    Reference,
    SetVerdict,
    SetWatch,
    judge_set,
    link_lookalikes,
    slice_traits,
    thumbnail,
)

FEATURES = 64


def draw(patients: int, each: int, seed: int, *, shift: float = 0.0, trait: int | None = None) -> Seen:
    """Slices whose features and traits vary more between patients than within one; `shift` moves those of a trait."""
    rng = np.random.default_rng(seed)
    n, groups = patients * each, np.repeat(np.arange(patients), each)
    features = 3 + rng.normal(size=(patients, FEATURES))[groups] + 0.3 * rng.normal(size=(n, FEATURES))
    traits = 100 + 10 * rng.normal(size=(patients, len(TRAITS)))[groups] + rng.normal(size=(n, len(TRAITS)))
    if trait is not None:
        traits[:, trait] += shift
    else:
        features[:, :4] += shift
    faces = rng.normal(size=(patients, 64))[groups] + 0.05 * rng.normal(size=(n, 64))
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    return Seen(
        features.astype(np.float32),
        traits=tuple(traits),
        thumbnails=tuple(faces.astype(np.float32)),
        groups=tuple(f"{seed} {group}" for group in groups),
    )


@pytest.fixture(scope="module")
def fitted() -> tuple:
    train, validation = draw(120, 3, 0), draw(40, 3, 1)
    distance = fit_distance(train.features)
    assert distance is not None
    rule, arrays = fit_reference(train, validation, distance)
    return rule, arrays, distance, Reference(arrays["traits"], arrays["features"], rule["units_each"])


def verdict(fitted: tuple, seen: Seen) -> SetVerdict:
    units = link_lookalikes(np.stack(seen.thumbnails))
    return judge_set(fitted[3], fitted[2], np.array(seen.traits), seen.features, units)


def test_held_out_patients_are_not_told_apart(fitted: tuple) -> None:
    """40 sets of the same source at a level of 0.1 %."""
    assert sum(verdict(fitted, draw(15, 4, 100 + seed)).unlike for seed in range(40)) <= 4


def test_another_source_is_told_by_features_and_by_a_trait(fitted: tuple) -> None:
    seen = verdict(fitted, draw(15, 4, 7, shift=3.0))
    assert seen.unlike and "what the network sees in them" in seen.reasons and seen.units == 15
    told = verdict(fitted, draw(15, 4, 8, shift=60.0, trait=list(TRAITS).index("noise")))
    assert told.unlike and told.reasons == ("their noise",)
    assert str(told).startswith("these 60 slices are unlike those that the network was measured on (by their noise);")


def test_slices_of_one_patient_are_one(fitted: tuple) -> None:
    """As 60 patients the slices of three would be told apart for sure."""
    three = draw(3, 20, 9)
    alone = judge_set(fitted[3], fitted[2], np.array(three.traits), three.features, np.arange(60))
    assert alone.unlike and not verdict(fitted, three).unlike
    one = verdict(fitted, draw(1, 30, 10))
    assert one.chance is None and "too few to say" in str(one) and not one.unlike


def test_what_is_kept_tells_of_no_patient(fitted: tuple) -> None:
    rule, arrays, *_ = fitted
    assert arrays["traits"].shape == (len(TRAITS), 160) and arrays["features"].shape[1] == 40
    assert all((np.diff(array, axis=1) >= 0).all() for array in arrays.values())
    assert rule["n_patients"] == {"traits": 160, "features": 40} and rule["units_each"] == 1


def test_few_patients_leave_nothing_to_compare_with(fitted: tuple) -> None:
    assert fit_reference(draw(20, 2, 0), draw(FEWEST_PATIENTS - 1, 2, 1), fitted[2]) == ({}, {})


def test_patients_that_fall_apart_thin_the_set(fitted: tuple) -> None:
    validation = draw(40, 3, 1)
    apart = replace(validation, thumbnails=tuple(np.eye(120, 200, dtype=np.float32)))
    rule, _ = fit_reference(draw(120, 3, 0), apart, fitted[2])
    assert rule["units_each"] == 3


def test_traits_are_those_of_the_picture(sample_slices: list[Path]) -> None:
    slice_ = read_slice(sample_slices[0])
    traits = dict(zip(TRAITS, slice_traits(slice_, crop_body(slice_)), strict=True))
    assert (traits["height"], traits["width"]) == (96, 112) and traits["aspect"] == pytest.approx(112 / 96)
    assert 0 < traits["body"] <= 1 and all(np.isfinite(list(traits.values())))
    face = thumbnail(crop_body(slice_))
    assert np.linalg.norm(face) == pytest.approx(1, rel=1e-4) and face.dtype == np.float32


class TestWatch:
    def test_a_large_set_is_drawn_from_and_counted_whole(self, fitted: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ct_xception.serving.drift.slice_traits", lambda slice_, _: np.full(len(TRAITS), slice_))
        monkeypatch.setattr("ct_xception.serving.drift.thumbnail", lambda _: np.ones(4, np.float32) / 2)
        watch = SetWatch(fitted[3], fitted[2])
        for number in range(FEWEST - 1):
            watch.add(number, None, np.zeros(FEATURES))  # type: ignore[arg-type]
        assert watch.verdict() is None
        for number in range(FEWEST - 1, 3 * MOST):
            watch.add(number, None, np.zeros(FEATURES))  # type: ignore[arg-type]
        assert watch.n == 3 * MOST and len(watch.kept) == MOST
        numbers = [float(one[0][0]) for one in watch.kept]
        assert len(set(numbers)) == MOST and np.mean(numbers) == pytest.approx(1.5 * MOST, rel=0.1)
        assert watch.join([watch, watch]).n == 6 * MOST

    def test_none_without_something_to_compare_with(self) -> None:
        assert SetWatch.of(None, None) is None


class TestReading:
    def test_what_was_written_is_read(self, fitted: tuple, tmp_path: Path) -> None:
        (tmp_path / "ct_xception.json").write_text('{"format": 1}')
        write_reference(tmp_path, fitted[0], fitted[1])
        read = Reference.of(DriftRule.of(fitted[0]), tmp_path, "m")
        assert read is not None and (read.traits == fitted[1]["traits"]).all() and read.units_each == 1
        write_reference(tmp_path, {}, {})
        assert not (tmp_path / DRIFT).exists() and "drift" not in (tmp_path / "ct_xception.json").read_text()

    def test_none_of_a_later_version(self, tmp_path: Path) -> None:
        assert Reference.of(DriftRule(version=2), tmp_path, "m") is None and Reference.of(None, tmp_path, "m") is None

    @pytest.mark.parametrize(
        ("arrays", "said"),
        [
            ({"traits": np.zeros((2, 9), np.float32), "features": np.ones((3, 9), np.float32)}, "other shapes"),
            ({"traits": np.zeros((len(TRAITS), 9), np.float32)}, "features"),
            (
                {"traits": np.full((len(TRAITS), 9), np.nan, np.float32), "features": np.ones((3, 9), np.float32)},
                "not finite",
            ),
            (None, "missing or damaged"),
        ],
    )
    def test_damage_is_one_sentence(self, tmp_path: Path, arrays: dict | None, said: str) -> None:
        if arrays is not None:
            save_file(arrays, tmp_path / DRIFT)
        with pytest.raises(CheckpointError, match=said):
            Reference.of(DriftRule(version=1), tmp_path, "m")
