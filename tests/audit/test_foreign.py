"""Foreign images: one rule at a time, on surveys written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ct_xception.audit.foreign import Oddity, find_foreign, nearest_relative, window_table
from ct_xception.audit.survey import Survey
from tests.audit.surveys import make_survey

COUNT = 40


def survey_with(group: str = "foreign", /, **columns: list[float]) -> Survey:
    """Forty images of two classes; the columns given, padded with their last value, over the plain ones."""
    padded = {key: values + values[-1:] * (COUNT - len(values)) for key, values in columns.items()}
    return make_survey(["train"] * COUNT, [0, 1] * (COUNT // 2), columns={group: padded}, aligned=chests())


def chests() -> np.ndarray:
    """Forty noisy pictures of one and the same gradient."""
    rng = np.random.default_rng(0)
    picture = np.add.outer(np.arange(96), np.arange(96)) / 2
    return (picture + rng.normal(0, 30, (COUNT, 96, 96)).clip(-90, 90) + 40).clip(0, 255).astype(np.uint8)


def found_in(survey: Survey) -> dict[str, Oddity]:
    return {oddity.kind: oddity for oddity in find_foreign(survey)}


def test_a_plain_corpus_has_nothing_foreign() -> None:
    assert found_in(survey_with()) == {}


@pytest.mark.parametrize(
    ("kind", "column", "value"),
    [
        ("ink", "coloured_share", 0.01),
        ("not_grey", "coloured_share", 0.5),
        ("boxes", "box_score", 0.9),
        ("strokes", "stroke_length", 0.3),
        ("overlay", "letters", 1.0),
        ("frame", "frame_share", 0.9),
        ("doubts", "doubts", 1.0),
    ],
)
def test_each_rule_finds_its_image_alone(kind: str, column: str, value: float) -> None:
    found = found_in(survey_with(**{column: [0.0, value, 0.0]}))
    assert set(found) == {kind}
    assert found[kind].items.tolist() == [1]
    assert found[kind].detail["classes"] == {"cancer": {"n": 0, "total": 20}, "normal": {"n": 1, "total": 20}}


def test_chroma_noise_is_left_alone() -> None:
    few_pixels = 15 / (0.01 * 1e6)
    assert found_in(survey_with(coloured_share=[few_pixels, 0.0])) == {}


def test_a_picture_like_no_other_is_found() -> None:
    aligned = chests()
    aligned[7] = np.random.default_rng(1).integers(0, 256, (96, 96))
    survey = make_survey(["train"] * COUNT, [0, 1] * (COUNT // 2), aligned=aligned)
    assert found_in(survey)["unlike"].items.tolist() == [7]


def test_twins_are_no_relatives() -> None:
    aligned = np.random.default_rng(2).integers(0, 256, (3, 96, 96), dtype=np.uint8)
    aligned[1] = aligned[0]
    nearest = nearest_relative(aligned, np.array([True, True, False]))
    assert nearest[0] < 0.2 and nearest[1] < 0.2
    assert np.isnan(nearest[2])


def test_a_jpeg_called_png_is_misnamed() -> None:
    found = found_in(survey_with("attributes", is_png=[0.0, 1.0], is_jpeg=[1.0, 0.0]))
    assert found["misnamed"].items.tolist() == [0]
    assert found["misnamed"].detail["found"] == {"JPEG named .png": 1}
    assert found["mixed_formats"].detail["found"] == {"grey PNG": 39, "grey JPEG": 1}


def test_encodings_are_counted_by_channels_and_bits() -> None:
    found = found_in(survey_with("attributes", channels=[3.0, 4.0, 1.0], bit_depth=[8.0, 8.0, 16.0, 8.0]))
    counts = {"grey PNG": 37, "RGB PNG": 1, "RGBA PNG": 1, "16-bit grey PNG": 1}
    assert found["mixed_formats"].detail["found"] == counts
    assert found["mixed_formats"].items.tolist() == [0, 1, 2]


def test_sizes_far_from_the_median_are_found() -> None:
    found = found_in(survey_with("attributes", megapixels=[0.04, 0.002, 0.02, 0.01]))
    assert found["sizes"].items.tolist() == [1, 0]


def test_windows_are_judged_by_what_is_shown_unless_files_tell() -> None:
    survey = survey_with(shown_low=[-1350.0, -160.0, -1200.0, -150.0], shown_high=[150.0, 240.0, 200.0, 250.0])
    table = window_table(survey)
    assert table.guessed
    assert table.counts == {"cancer": {"lung": 2, "mediastinal": 18}, "normal": {"mediastinal": 20}}
    assert (table.where, table.gap) == (("cancer", "lung"), 0.1)
    told = make_survey(["train"] * 4, [0, 0, 1, 1], windows=["window 40/400 HU"] * 2 + ["window -600/1500 HU"] * 2)
    table = window_table(told)
    assert not table.guessed
    assert table.gap == 1.0
