"""What the card says of heat maps, by hand; and how templates show what comes from outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ct_xception.checkpoint import CONFIG
from ct_xception.checkpoint_files import Metric
from ct_xception.errors import InputError
from ct_xception.evaluation.explanations import Explanations, explanation_figures
from ct_xception.files import write_json
from ct_xception.publish.card.card import render_card
from ct_xception.publish.card.markdown import fill_template, metric_text, points_text
from tests.metrics import metric
from tests.publish.conftest import Folder


def test_a_card_says_which_line_stock_pipeline_needs(full_folder: Folder) -> None:
    """None for a stock network; our import for one that transformers does not know."""
    stock = render_card(full_folder.write())
    assert "import ct_xception\n" not in stock and "library_name: transformers" in stock
    folder = full_folder.write()
    config = json.loads((folder / CONFIG).read_text())
    write_json(folder / CONFIG, config | {"model_type": "ct_xception", "head": "attention", "attention": "se"})
    card = render_card(folder)
    assert "```python\nimport ct_xception\nfrom transformers import pipeline\n" in card
    assert "know the model type `ct_xception`" in card and "stock transformers checkpoint" not in card
    assert "SE blocks in its last two blocks, its last feature map pooled by attention, begun from" in card
    assert "library_name: ct-xception" in card


def heat_maps(folder: Path) -> str:
    """The section on heat maps."""
    return render_card(folder).partition("## Heat maps\n")[2].partition("\n## ")[0]


def test_a_card_without_checked_heat_maps_says_nothing_of_them(make_model_dir: Callable[..., Path]) -> None:
    card = render_card(make_model_dir())
    assert "## Heat maps" not in card and "| 31 explanation | heat maps by `ct-xception explain`; none was" in card


def test_every_figure_stands_beside_what_it_is_held_against(full_folder: Folder) -> None:
    said = heat_maps(full_folder.write())
    rows = [line.split(" | ") for line in said.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 13 and all(row[1] == "6" for row in rows)
    assert rows[2][2].startswith("0.242 (") and rows[2][3].startswith("0.400 (")  # deletion, random deletion
    assert rows[5][2:] == ["100.0 % (13.9–100.0)", "9.0 % (no interval), the share of the picture that is so near |"]
    assert "Strongest pixel lies within 5 % of the picture's side" in rows[5][0]
    assert "The corpus says where its lesions are: the maps of all 6 right answers" in said
    assert "16.7 % (0.7–85.1) of these maps fail a check" in said
    assert said.strip().startswith("Grad-CAM of the class that the predictor put first, on 6 images of the corpus's")


def test_without_known_lesions_nothing_is_said_of_them(full_folder: Folder) -> None:
    del full_folder.explanations["lesions"]
    full_folder.metrics["explanations"] = explanation_figures(Explanations.of(full_folder.explanations)).to_json()
    said = heat_maps(full_folder.write())
    assert len([line for line in said.splitlines() if line.startswith("|")]) == 2 + 9 and "lesion" not in said


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (metric(-0.095, -0.184, 0.053), "−0.095 (−0.184 to 0.053)"),
        (metric(0.5, 0.25, 0.75), "0.500 (0.250–0.750)"),
        (metric(0.5, None, None), "0.500 (no interval)"),
        (metric(None, None, None), "none"),
    ],
)
def test_no_dash_stands_beside_a_minus(figure: Metric, text: str) -> None:
    assert metric_text(figure) == text


def test_differences_are_points() -> None:
    assert points_text(metric(0.032, -0.01, 0.074)) == "+3.2 points (−1.0 to +7.4)"
    assert points_text(metric(-0.05, None, None)) == "−5.0 points (no interval)"
    assert points_text(metric(None, None, None)) == "none"


def test_whatever_a_template_prints_is_shown_letter_by_letter() -> None:
    values = {"name": "a_b|<i>\n*c*", "names": ["x_y", "<z>"], "title": "{{ name }}"}
    assert fill_template("{{ name }}", values) == r"a\_b\|\<i\> \*c\*" + "\n"
    assert fill_template("{{ names | join(', ') }}", values) == r"x\_y, \<z\>" + "\n"
    assert fill_template("{{ name | code }} {{ title }}", values) == "`a_b/<i> *c*` {{ name }}\n"
    macro = "{% macro bold(one) %}**{{ one }}**{% endmacro %}{{ bold(name) }}"
    assert fill_template(macro, values) == r"**a\_b\|\<i\> \*c\***" + "\n"  # escaped once, its own marks not
    with pytest.raises(InputError, match="cannot be filled .*'nobody' is undefined"):
        fill_template("{{ nobody }}", values)
