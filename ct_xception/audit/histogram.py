"""Histograms of the one number that gives a class, or a split, away: a row of bars for each side, on one scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.audit.shortcuts import YES_NO, families

if TYPE_CHECKING:
    from ct_xception.audit.findings import Finding
    from ct_xception.audit.survey import Survey

BINS = 24


@dataclass(frozen=True)
class Row:
    """One side: whose values they are, how many, and each bin's share of the side's largest, 0 to 1."""

    name: str
    n: int
    heights: list[float]


@dataclass(frozen=True)
class Histogram:
    """Rows over one scale from `low` to `high`, and a sentence on where they part."""

    title: str
    low: str
    high: str
    rows: list[Row]
    said: str


def histogram_of(finding: Finding, survey: Survey) -> Histogram | None:
    """Of a shortcut, its class beside the rest; of a shift, one split beside the other; None of other findings."""
    figures = finding.detail.get("figures", {})
    if finding.kind.startswith("shortcut_"):
        label = figures["strongest"]
        own = np.array([survey.label_names[index] == label for index in survey.labels])
        return _drawn(survey, figures["family"], figures["separators"][label], {label: own, "the rest": ~own})
    if "shares" in figures:
        shown = np.array([survey.label_names[index] in figures["classes"] for index in survey.labels])
        splits = np.array(survey.splits, dtype=object)
        sides = {split: shown & (splits == split) for split in figures["shares"]}
        return _drawn(survey, figures["family"], figures["separator"], sides)
    return None


def _drawn(
    survey: Survey, family: str, separator: Mapping[str, Any], sides: Mapping[str, NDArray[np.bool_]]
) -> Histogram | None:
    column = families(survey).get(family, {}).get(separator["attribute"])
    if column is None or separator["attribute"] in YES_NO:  # of which the sentence says all
        return None
    known = survey.readable & np.isfinite(column)
    edges = _edges(column[known])
    rows = [Row(name, int((side & known).sum()), _heights(column[side & known], edges)) for name, side in sides.items()]
    return Histogram(separator["name"], f"{edges[0]:.3g}", f"{edges[-1]:.3g}", rows, _parted(separator, list(sides)))


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bins from the 1st to the 99th percentile: what lies beyond is drawn in the first and the last."""
    low, high = np.quantile(values, (0.01, 0.99))
    if low == high:
        low, high = values.min(), values.max()
    return np.linspace(low, high, BINS + 1)


def _heights(values: NDArray[np.float64], edges: NDArray[np.float64]) -> list[float]:
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    return [round(float(count), 3) for count in counts / max(1, counts.max())]


def _parted(separator: Mapping[str, Any], sides: list[str]) -> str:
    if len(sides) != 2 or sides[1] != "the rest":
        return ""
    side = "Above" if separator["above"] else "Below"
    return (
        f"{side} {separator['threshold']:.3g} lie {100 * separator['hit']:.0f} % of {sides[0]} and "
        f"{100 * separator['alarm']:.0f} % of the rest."
    )
