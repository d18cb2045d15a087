"""What the card says of heat maps, by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ct_xception.evaluation.explanations import explanation_figures
from ct_xception.publish.evidence import read_evidence
from ct_xception.publish.explanation_text import explanation_slots
from ct_xception.publish.tables import figure_text
from tests.publish.conftest import Folder


def test_a_card_without_checked_heat_maps_says_nothing_of_them(make_model_dir: Callable[..., Path]) -> None:
    slots = explanation_slots(read_evidence(make_model_dir()))
    assert slots == {"explanation_statement": "", "explanation_table": ""}


def test_every_figure_stands_beside_what_it_is_held_against(full_folder: Folder) -> None:
    slots = explanation_slots(read_evidence(full_folder.write()))
    rows = [line.split(" | ") for line in slots["explanation_table"].splitlines()[2:]]
    assert len(rows) == 13 and all(row[1] == "6" for row in rows)
    assert rows[2][2].startswith("0.242 (") and rows[2][3].startswith("0.400 (")  # deletion, random deletion
    assert rows[5][2:] == ["100.0 % (13.9–100.0)", "9.0 % (no interval), the share of the picture that is so near |"]
    assert "The corpus says where its lesions are: the maps of all 6 right answers" in slots["explanation_statement"]
    assert "16.7 % (0.7–85.1) of these maps fail a check" in slots["explanation_statement"]
    assert "on 6 images of the corpus's own test split" in slots["explanation_statement"]


def test_without_known_lesions_nothing_is_said_of_them(full_folder: Folder) -> None:
    del full_folder.explanations["lesions"]
    full_folder.metrics["explanations"] = explanation_figures(full_folder.explanations)
    slots = explanation_slots(read_evidence(full_folder.write()))
    assert len(slots["explanation_table"].splitlines()) == 2 + 9 and "lesion" not in str(slots)


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        ({"value": -0.095, "low": -0.184, "high": 0.053}, "−0.095 (−0.184 to 0.053)"),
        ({"value": 0.5, "low": 0.25, "high": 0.75}, "0.500 (0.250–0.750)"),
        ({"value": 0.5, "low": None, "high": None}, "0.500 (no interval)"),
        ({"value": None, "low": None, "high": None}, "none"),
    ],
)
def test_no_dash_stands_beside_a_minus(figure: dict, text: str) -> None:
    assert figure_text("rank correlation", figure) == text
