"""What the card says of the network's heat maps: what was measured on some test images, and what to hold it against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ct_xception.explain.method import COMPARED, RANDOMISED_BELOW
from ct_xception.explain.methods import METHODS
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
    "pointing_game": ("Strongest pixel lies in the lesion, on right answers", "lesion_area"),
    "pointing_game_near": ("Strongest pixel lies within 5 % of the picture's side of the lesion", "lesion_near_area"),
    "inside_lesion": ("Evidence for the class that lies inside the lesion", "lesion_area"),
}
_BESIDE_TITLE = {
    "lesion_area": "the lesion's share of the picture",
    "lesion_near_area": "the share of the picture that is so near",
    "inside_body_area": "the body's share of the picture",
    "inside_lungs_area": "the lungs' share of the picture",
    "deletion_random_area": "in random order; less is better",
    "insertion_random_area": "in random order; more is better",
}
_ALONE = {
    "lesion_overlap": ("Overlap of the lesion with as many strongest pixels", "1 where they are the same"),
    "randomised_rank_correlation": (
        "Rank correlation with the map of a network of random weights",
        f"below {RANDOMISED_BELOW:g} on either side of 0, else the map shows the picture",
    ),
    "infidelity": ("Infidelity: error in foretelling what blackening a patch does", "1 for an empty map"),
    "sensitivity": ("Max-sensitivity: change of the map under invisible noise", "0 for a steady map"),
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
        "table or ink, or show no more than a random order or a random network would." + _on_lesions(block)
    )


def _on_lesions(block: Mapping[str, Any]) -> str:
    if "pointing_game" not in block:
        return ""
    lesions = f"{block['pointing_game']['n']:,}"
    return (
        f" The corpus says where its lesions are: the maps of all {lesions} right answers with one are held against "
        "its mask too."
    )


def _rows(block: Mapping[str, Any]) -> list[list[str]]:
    """A row a figure; those that only some evaluations have, of lesions, are left out where there are none."""
    beside = {
        name: (title, f"{_figure(block, other)}, {_BESIDE_TITLE[other]}")
        for name, (title, other) in _BESIDE.items()
        if name in block
    }
    agreements = {
        f"agreement_{name}": (f"Rank correlation with {METHODS[name].title}", "1 where both say the same")
        for name in COMPARED
        if name != block["method"]
    }
    rows = beside | {name: words for name, words in _ALONE.items() if name in block} | agreements
    return [[title, f"{block[name]['n']:,}", _figure(block, name), words] for name, (title, words) in rows.items()]


def _figure(block: Mapping[str, Any], name: str) -> str:
    """Shares in per cent, all else as it is; `sensitivity` is not that of a class here."""
    share = name.startswith(("inside", "pointing")) or name.startswith("lesion") and name.endswith("area")
    return figure_text("coverage" if share else "heat map", block[name])
