"""What a heat map lies on: lungs, the rest of the body, or what no evidence can come from.

All masks come from the slice's own grey levels. A map that lies on the scanner's table, on a drawn line or on the edge
of the picture tells that the network learnt the framing and not the disease.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ct_xception.explain.placement import Region
from ct_xception.imaging.body.crop import MIN_THRESHOLD, Box, body_mask, otsu_threshold
from ct_xception.imaging.body.lungs import lung_mask

FOREIGN = ("table", "border", "ink", "outside")
WARN_ABOVE = 0.25  # of the positive attribution on foreign ground
WARN_ABOVE_INK = 0.1  # ink is thin: little attribution on it is already much
WORDS = {
    "table": "the scanner's table",
    "border": "the border of the picture",
    "ink": "lines or letters drawn into the picture",
    "outside": "the air outside the body",
}


@dataclass(frozen=True)
class Share:
    """How much of a map's positive attribution lies on a ground, and how much a map without shape would put there."""

    share: float
    area: float

    @property
    def gain(self) -> float | None:
        """How many times more than chance; None where the ground takes no part of the picture."""
        return self.share / self.area if self.area > 0 else None


def find_grounds(pixels: np.ndarray, found: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Masks (H, W) bool of a slice's grounds, none of which overlap: lungs, body (the rest of it), and FOREIGN.

    `found` is the body where the slice has one from HU; else it is looked for in the picture.

    Without a body in the slice everything but ink and border counts as body, since nothing tells them apart.
    """
    whole = body = body_mask(pixels) if found is None else found
    ink = find_ink(pixels, body)
    table = (_table_inside(body) | _table_outside(pixels, body)) & ~ink
    body = body & ~table & ~ink
    lungs = lung_mask(pixels, whole) & body
    border = _edge(pixels.shape) & ~body & ~table & ~ink
    outside = ~(body | table | ink | border)
    return {"lungs": lungs, "body": body & ~lungs, "table": table, "border": border, "ink": ink, "outside": outside}


def find_frame(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Masks (H, W) bool of FOREIGN in a picture of which nothing else is known: ink, and the border round the rest."""
    nowhere = np.zeros(pixels.shape, dtype=bool)
    ink = find_ink(pixels, ~nowhere)
    return {"table": nowhere, "border": _edge(pixels.shape) & ~ink, "ink": ink, "outside": nowhere}


def find_ink(pixels: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Drawn lines and letters: (H, W) bool.

    Bright straight lines along the picture's rows or columns, thin and long, as boxes and rulers are; and bright small
    marks outside the body that stand clear of it, above its lower third, as letters do.
    """

    length = max(10, min(pixels.shape) // 10)
    lines = np.zeros(pixels.shape, dtype=bool)
    for along, across in (((1, length), (5, 1)), ((length, 1), (1, 5))):
        thin = pixels - ndimage.grey_opening(pixels, across)  # how much brighter than both sides
        lines |= ndimage.binary_opening((thin >= 60) & (pixels >= 160), np.ones(along, dtype=bool))
    labels, found = ndimage.label(pixels >= 128, np.ones((3, 3)))
    if found and not body.all():
        numbers = np.arange(found + 1)
        sizes = np.bincount(labels.ravel(), minlength=found + 1)
        touching = np.asarray(ndimage.maximum(body, labels, numbers)) > 0
        rows_of = np.broadcast_to(np.arange(pixels.shape[0])[:, None], pixels.shape)
        lowest = np.asarray(ndimage.maximum(rows_of, labels, numbers))
        rows = np.flatnonzero(body.any(axis=1))
        above = lowest < rows[0] + 2 * len(rows) / 3
        letters = ~touching & above & (sizes < 0.01 * pixels.size) & (numbers > 0)
        lines |= letters[labels]
    return lines


def _table_inside(body: np.ndarray) -> np.ndarray:
    """What hangs below the back by a thin bridge, or as a thin shelf: the table, where it touches the body."""

    if body.all() or not body.any():
        return np.zeros(body.shape, dtype=bool)
    radius = 0.05 * float(body.any(axis=0).sum())
    padded = np.pad(body, 1)
    core = ndimage.distance_transform_edt(~(ndimage.distance_transform_edt(padded) > radius)) <= radius
    rest = body & ~core[1:-1, 1:-1]
    labels, found = ndimage.label(rest)
    if not found:
        return rest
    rows = np.broadcast_to(np.arange(body.shape[0])[:, None], body.shape)
    numbers, bottom = np.arange(found + 1), np.flatnonzero(core[1:-1, 1:-1].any(axis=1))[-1]
    low = np.asarray(ndimage.mean(rows, labels, numbers)) > bottom - radius
    large = np.bincount(labels.ravel(), minlength=found + 1) > 0.004 * body.sum()
    return (low & large & (numbers > 0))[labels]


def _table_outside(pixels: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Whatever is not air outside the body and beside or below its lower third."""
    if body.all():
        return np.zeros(body.shape, dtype=bool)
    rows = np.flatnonzero(body.any(axis=1))
    below = np.arange(pixels.shape[0])[:, None] >= rows[0] + 2 * len(rows) / 3
    return (pixels > max(MIN_THRESHOLD, otsu_threshold(pixels) / 2)) & ~body & below


def _edge(shape: tuple[int, ...]) -> np.ndarray:
    """The outermost 2 % of the picture on each side."""
    mask = np.ones(shape, dtype=bool)
    margin = max(1, round(0.02 * min(shape)))
    mask[margin:-margin, margin:-margin] = False
    return mask


def ground_shares(heat: np.ndarray, grounds: dict[str, np.ndarray], seen: np.ndarray) -> dict[str, Share]:
    """The share of the positive part of a map (H, W) on each ground; `seen` (H, W) bool is what the network was shown.

    Where the grounds hold body and lungs, the first two entries are `inside_body` (lungs included) and `inside_lungs`;
    then FOREIGN.
    """
    positive = np.clip(heat, 0, None)
    total, area = float(positive.sum()) or 1.0, int(seen.sum()) or 1

    def share(mask: np.ndarray) -> Share:
        return Share(float(positive[mask].sum()) / total, int((mask & seen).sum()) / area)

    shares = {}
    if "lungs" in grounds:
        shares = {"inside_body": share(grounds["lungs"] | grounds["body"]), "inside_lungs": share(grounds["lungs"])}
    return shares | {name: share(grounds[name]) for name in FOREIGN}


def seen_mask(region: Region, box: Box, shape: tuple[int, int]) -> np.ndarray:
    """Which pixels of a slice of `shape` the network was shown: those in both `region` and `box`."""
    rows, columns = np.arange(shape[0]) + 0.5, np.arange(shape[1]) + 0.5
    down = (rows >= max(region.top, box.top)) & (rows < min(region.bottom, box.bottom))
    across = (columns >= max(region.left, box.left)) & (columns < min(region.right, box.right))
    return down[:, None] & across


def ground_warning(shares: dict[str, Share]) -> str | None:
    """One sentence where a map's mass lies on foreign ground, more than a shapeless map would put there; else None.

    One kind of foreign ground is enough; failing that, all of them together are judged.
    """
    ink = shares["ink"]
    if ink.share > max(WARN_ABOVE_INK, 2 * ink.area):
        return _sentence(ink.share, WORDS["ink"])
    for name in FOREIGN:
        if shares[name].share > max(WARN_ABOVE, 2 * shares[name].area):
            return _sentence(shares[name].share, WORDS[name])
    share, area = (sum(getattr(shares[name], field) for name in FOREIGN) for field in ("share", "area"))
    if share <= max(WARN_ABOVE, 1.25 * area):
        return None
    most = max(FOREIGN, key=lambda name: shares[name].share)
    return _sentence(
        share, f"{WORDS[most]}" if shares[most].share > 0.8 * share else f"no tissue, most of it on {WORDS[most]}"
    )


def _sentence(share: float, where: str) -> str:
    return (
        f"{100 * share:.0f} % of this map lies on {where}: the answer may rest on how the picture was made, not on the "
        "patient."
    )
