"""Changes of values: other windows on HU, thicker slices; by hand on made stacks, and refused where nothing tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from ct_xception.corpus.load import CorpusOptions, load_corpus
from ct_xception.evaluation.shift.changes import SEVERITIES
from ct_xception.evaluation.shift.value_changes import VALUE_CHANGES, Behind, Behinds, Layer, stack_about
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window, apply_window
from ct_xception.phantom.dicom import write_dicom

WINDOW = Window(40, 400)
AIR = -1000.0
MakeStack = Callable[..., Dataset]


def plane(level: float) -> np.ndarray:
    """A square body of that value in air."""
    hu = np.full((64, 64), AIR, np.float32)
    hu[16:48, 16:48] = level
    return hu


@pytest.fixture
def make_stack(tmp_path: Path) -> MakeStack:
    def call(levels: list[float], places: list[int] | None = None, window: Window = WINDOW) -> Dataset:
        for folder in ("sick", "well"):
            (tmp_path / "corpus" / folder).mkdir(parents=True)
        told: dict[str, Any] = {"window": window, "spacing_mm": 1, "patient_id": "P1", "study": "s", "series": "a"}
        for place, level in zip(places or range(len(levels)), levels, strict=True):
            path = tmp_path / "corpus/sick" / f"{place:02}.dcm"
            write_dicom(path, plane(level), instance_number=place, **told)
        told |= {"patient_id": "P2", "study": "t", "series": "b"}
        write_dicom(tmp_path / "corpus/well/lone.dcm", plane(0), instance_number=3, **told)
        return load_corpus(tmp_path / "corpus").dataset["train"]

    return call


def behind_of(dataset: Dataset, name: str, window: Window | None = None) -> Behind | None:
    row = [source.rpartition("/")[2] for source in dataset["source"]].index(name)
    return Behinds(dataset, window=window, frame=None, modality="ct").of(row)


def made(name: str, behind: Behind, severity: int, seed: int = 0) -> np.ndarray | None:
    return VALUE_CHANGES[name](behind, severity, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("positions", "at", "most", "wanted"),
    [
        ([0, 2, 4, 6], 1, 3, [(0, -3, -1), (1, -1, 1), (2, 1, 3), (3, 3, 5)]),
        ([0, 1, 3, 9, 10], 1, 3, [(0, -1.5, -0.5), (1, -0.5, 1), (2, 1, 3)]),  # a hole ends the stack
        ([0, 1, 3, 9, 10], 3, 3, []),  # no neighbour below
        ([0, 2, 4], 0, 3, []),
        ([0, 2, 2, 4], 1, 3, []),  # two of one place
        ([5], 0, 3, []),
    ],
)
def test_slices_cover_half_of_the_way_to_their_neighbours(positions: list, at: int, most: float, wanted: list) -> None:
    assert stack_about(np.array(positions, float), at, most) == wanted


def test_a_thicker_slice_is_the_mean_of_what_it_would_hold(make_stack: MakeStack) -> None:
    """Planes of 0, 10, 50, 110, 200 HU a mm apart: 1.5 mm about the middle are half a mm of 10 and 110, and 1 of 50."""
    behind = behind_of(make_stack([0, 10, 50, 110, 200]), "02.dcm")
    assert behind is not None and behind.step == 1 and len(behind.layers) == 5
    wanted = {
        1.5: (0.25 * 10 + 50 + 0.25 * 110) / 1.5,
        2: (5 + 50 + 55) / 2,
        3: 170 / 3,
        4: (0 + 10 + 50 + 110 + 100) / 4,
    }
    for thickness, level in wanted.items():
        slab = behind.slab(thickness)
        assert slab is not None and slab[30, 30] == pytest.approx(level) and slab[0, 0] == AIR
    pixels = made("slice_thickness", behind, 5)
    assert pixels is not None and pixels[30, 30] == apply_window(np.array([[67.5]]), WINDOW)[0, 0]
    assert (pixels == behind.shown(plane(67.5), WINDOW)).all()
    assert behind.slab(5.1) is None  # a part of it is beyond the stack


def test_where_a_series_does_not_tell_its_neighbours_it_stays_as_thin(make_stack: MakeStack) -> None:
    dataset = make_stack([0, 10, 50, 110, 200], places=[0, 1, 2, 3, 9])
    for name in ("00.dcm", "09.dcm", "lone.dcm"):
        behind = behind_of(dataset, name)
        assert behind is not None and made("slice_thickness", behind, 1) is None, name
        assert made("hu_window_width", behind, 1) is not None
    behind = behind_of(dataset, "01.dcm")
    assert behind is not None and made("slice_thickness", behind, 3) is not None
    assert made("slice_thickness", behind, 5) is None  # 2 mm on either side reach beyond the first


def test_windows_on_hu_bring_back_what_was_cut_off(make_stack: MakeStack) -> None:
    behind = behind_of(make_stack([300, 300, 300]), "01.dcm")
    assert behind is not None and behind.slice_.pixels[30, 30] == 255
    seen = set()
    for seed in range(8):
        moved = made("hu_window_centre", behind, 5, seed)
        assert moved is not None
        seen.add(int(moved[30, 30]))
        assert moved[0, 0] == 0
    assert seen == {255, int(apply_window(np.array([[300.0]]), Window(120, 400))[0, 0])} and min(seen) < 255
    wide = {int(made("hu_window_width", behind, 5, seed)[30, 30]) for seed in range(8)}  # type: ignore[index]
    assert wide == {255, int(apply_window(np.array([[300.0]]), Window(40, 800))[0, 0])}


def test_more_severe_is_farther_away(make_stack: MakeStack) -> None:
    behind = behind_of(make_stack([-60, -20, 70, 130, 150]), "02.dcm")
    assert behind is not None
    for name in VALUE_CHANGES:
        far = [np.abs(made(name, behind, one).astype(int) - behind.slice_.pixels).mean() for one in SEVERITIES]  # type: ignore[union-attr]
        assert 0 < far[0] and far == sorted(far), name


def test_where_white_is_the_lowest_value_and_nothing_was_seen() -> None:
    values = np.array([[40.0, np.nan], [300.0, -500.0]], np.float32)
    grey = apply_window(values, WINDOW)
    slice_ = Slice(255 - grey, "s", 12, True, WINDOW, values=values, inverted=True)
    shown = Behind(slice_, read=lambda _: slice_).shown(values, WINDOW)
    assert shown.tolist() == [[255 - grey[0, 0], 0], [0, 255]]


def test_a_picture_has_nothing_behind_it(tmp_path: Path) -> None:
    for folder in ("sick", "well"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.random.default_rng(len(folder)).integers(0, 255, (64, 64), dtype=np.uint8)).save(
            tmp_path / folder / "a.png"
        )
    assert behind_of(load_corpus(tmp_path).dataset["train"], "a.png") is None


def test_the_slices_of_a_volume_are_neighbours_whichever_were_taken(tmp_path: Path) -> None:
    (tmp_path / "sick").mkdir()
    (tmp_path / "well").mkdir()
    volume = np.stack([plane(level) for level in (0, 10, 50, 110, 200)], axis=2).astype(np.int16)
    for name in ("sick/a.nii", "well/b.nii"):
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([1.0, 1.0, 2.5, 1.0])), tmp_path / name)
    dataset = load_corpus(tmp_path, CorpusOptions(slices_per_file="1")).dataset["train"]
    behind = Behinds(dataset, window=WINDOW, frame=None, modality="ct").of(0)
    assert behind is not None and behind.step == 2.5 and len(behind.layers) == 5
    slab = behind.slab(5)
    assert slab is not None and slab[30, 30] == pytest.approx(55) and behind.slice_.pixels[30, 30] == 134


def test_a_layer_of_another_size_is_no_neighbour() -> None:
    slice_ = Slice(np.zeros((4, 4), np.uint8), "s", 12, True, WINDOW, values=np.zeros((4, 4), np.float32))
    other = Slice(np.zeros((5, 4), np.uint8), "t", 12, True, WINDOW, values=np.zeros((5, 4), np.float32))
    layers = tuple(Layer(place - 0.5, place + 0.5, b"") for place in (-1, 0, 1))
    assert Behind(slice_, lambda _: other, layers, 1.0).slab(2) is None
    assert Behind(slice_, lambda _: slice_, layers, 1.0).slab(2) is not None
