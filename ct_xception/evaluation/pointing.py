"""Whether heat maps point at the lesions, where a corpus says where those are: the pointing game and overlap.

    rows = lesion_rows(dataset, answers)
    pointings = point_items(classifier, dataset, rows)

It is played on every slice with a lesion that the predictor answered right, with Grad-CAM of that class: on a wrong
answer the map of the class put first has nothing to point at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.corpus.inspection import read_mask
from ct_xception.errors import SliceError
from ct_xception.evaluation.answers import Answers, Items, read_rows
from ct_xception.statistics.intervals import group_indices, mean_figure, proportion_figure

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.explain.faithfulness import Pointing
    from ct_xception.imaging.windows import Window
    from ct_xception.serving.classifier import Classifier

NEAR = 0.05  # of the slice's shorter side: so far from a lesion still is near it
_SHARES = {"pointing_game": "hit", "pointing_game_near": "near"}
_MEANS = {
    "lesion_overlap": "overlap",
    "inside_lesion": "inside",
    "lesion_area": "area",
    "lesion_near_area": "near_area",
}


def lesion_rows(dataset: Dataset, answers: Answers) -> list[int]:
    """The rows with a mask that the predictor answered right; none where the corpus has no masks."""
    if "mask" not in dataset.column_names:
        return []
    masked = np.array([bool(mask) for mask in dataset.select_columns(["mask"])[:]["mask"]], bool)
    right = np.argmax(answers.probabilities, axis=1) == Items.of(dataset).labels
    return [int(row) for row in np.flatnonzero(masked & right & answers.answered)]


def point_items(
    classifier: Classifier,
    dataset: Dataset,
    rows: Sequence[int],
    *,
    window: Window | None = None,
    frame: int | None = None,
    seed: int = 0,
    progress: str | None = None,
) -> dict[int, Pointing]:
    """{row: how its map fares against its mask}; rows whose file cannot be read, or whose mask is empty, are left out.

    `progress` is the title of a bar, None shows none.
    """
    from ct_xception.evaluation.explanations import explain_slice
    from ct_xception.explain.faithfulness import point

    found = {}
    for row, item, slice_ in read_rows(classifier, dataset, rows, window=window, frame=frame, progress=progress):
        try:
            lesion = read_mask(Path(item["mask"]))
        except SliceError:
            continue
        if lesion.any() and lesion.shape == slice_.pixels.shape:
            heat = explain_slice(classifier, slice_, seed).attribution.map
            found[row] = point(heat, lesion, tolerance=NEAR * min(lesion.shape))
    return found


def pointing_figures(pointings: Sequence[Mapping[str, Any]], groups: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """The figures of N `Pointing`s as mappings, each with n and a 95 % interval by group; {} for none.

    `pointing_game` and `pointing_game_near` are shares of hits, `lesion_area` and `lesion_near_area` those that blind
    pointing would get; `lesion_overlap` and `inside_lesion` are means. JSON-able.
    """
    if not pointings:
        return {}
    index = group_indices(groups, len(groups))
    shares = {
        name: proportion_figure(np.array([bool(one[field]) for one in pointings]), index, "no lesion").to_dict()
        for name, field in _SHARES.items()
    }
    means = {
        name: mean_figure([float(one[field]) for one in pointings], groups, "no lesion", seed=seed).to_dict()
        for name, field in _MEANS.items()
    }
    return {**shares, **means}
