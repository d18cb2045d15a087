"""What Keras' padding changes is measured, and said."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct_xception.formats.keras.padding import padding_figures, padding_statement
from ct_xception.model.modelling import CTXceptionForImageClassification
from tests.closeness import ROUNDING


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> CTXceptionForImageClassification:
    return CTXceptionForImageClassification.from_pretrained(tiny_checkpoint).eval()


def test_even_maps_part_the_answers(model: CTXceptionForImageClassification) -> None:
    figures = padding_figures(model, slices=6)
    assert (figures["image_size"], figures["even_maps"], figures["n"]) == (64, [8, 4], 6)
    assert figures["logit"]["largest"] > figures["logit"]["mean"] > 1e-4
    assert 0 < figures["probability"]["mean"] <= figures["probability"]["largest"] < 1
    same = figures["same_class"]
    assert same["n"] == 6 and same["low"] <= same["value"] <= same["high"]
    said = padding_statement(figures)
    assert "At 64 px the maps of 8 x 8 and 4 x 4 are pooled" in said and "n = 6" in said
    assert "At 71 or 72 px (--image_size) both compute the same, but" in said
    assert padding_figures(model, slices=6) == figures


def test_odd_maps_do_not(model: CTXceptionForImageClassification) -> None:
    model.config.pretrained_cfg["input_size"] = [3, 72, 72]
    figures = padding_figures(model, slices=2)
    assert figures["even_maps"] == [] and figures["logit"]["largest"] < 10 * ROUNDING  # logits up to about 10
    assert "compute the same" in padding_statement(figures)
