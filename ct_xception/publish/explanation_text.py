"""What the card says of the network's heat maps: what was measured on some test images, and what to hold it against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ct_xception.explain.catalogue import COMPARED, METHODS, RANDOMISED_BELOW
from ct_xception.publish import tables
from ct_xception.publish.evidence import Evidence
from ct_xception.publish.results import protocol_title
from ct_xception.publish.tables import figure_text

# What a figure is, and the figure of metrics.json, or the words, that it is read against.
_BESIDE = {
    "inside_body": ("Evidence for the class that lies inside the body", "inside_body_area"),
    "inside_lungs": ("Evidence for the class that lies inside the lungs", "inside_lungs_area"),
    "deletion_area": ("Probability left while the strongest pixels are blackened first", "deletion_random_area"),
    "insertion_area": ("Probability reached while the strongest pixels are put back first", "insertion_random_area"),
}
_BESIDE_TITLE = {
    "inside_body_area": "the body's share of the picture",
    "inside_lungs_area": "the lungs' share of the picture",
    "deletion_random_area": "in random order; less is better",
    "insertion_random_area": "in random order; more is better",
}


def explanation_slots(evidence: Evidence) -> dict[str, Any]:
    """The slots of the section on heat maps; empty where none was checked."""
    block = evidence.metrics.get("explanations")
    if not block:
        return {"explanation_statement": "", "explanation_table": ""}
    return {
        "explanation_statement": _statement(evidence, block),
        "explanation_table": tables.markdown_table(["", "n", "Figure", "To be held against"], _rows(block)),
    }


def _statement(evidence: Evidence, block: Mapping[str, Any]) -> str:
    method = METHODS[block["method"]].title
    return (
        f"{method} of the class that the predictor put first, on {block['n']:,} images of "
        f"{protocol_title(evidence, evidence.metrics['protocol'])}, as many of each class as could be had. A heat map "
        "shows where the network found its evidence, not that the evidence is sound. "
        f"{figure_text('coverage', block['warned'])} of these maps fail a check of their own: they lie on border, "
        "table or ink, or show no more than a random order or a random network would."
    )


def _rows(block: Mapping[str, Any]) -> list[list[str]]:
    rows = [
        [title, f"{block[name]['n']:,}", _figure(block, name), f"{_figure(block, beside)}, {_BESIDE_TITLE[beside]}"]
        for name, (title, beside) in _BESIDE.items()
    ]
    others = {
        "randomised_rank_correlation": (
            "Rank correlation with the map of a network of random weights",
            f"below {RANDOMISED_BELOW:g} on either side of 0, else the map shows the picture",
        ),
        **{
            f"agreement_{name}": (f"Rank correlation with {METHODS[name].title}", "1 where both say the same")
            for name in COMPARED
            if name != block["method"]
        },
        "infidelity": ("Infidelity: error in foretelling what blackening a patch does", "1 for an empty map"),
        "sensitivity": ("Max-sensitivity: change of the map under invisible noise", "0 for a steady map"),
    }
    return rows + [
        [title, f"{block[name]['n']:,}", _figure(block, name), words]
        for name, (title, words) in others.items()
    ]


def _figure(block: Mapping[str, Any], name: str) -> str:
    """Shares of a picture in per cent, all else as it is; `sensitivity` is not that of a class here."""
    return figure_text("coverage" if name.startswith("inside") else "heat map", block[name])
