"""How far a checkpoint's heat maps can be trusted: the evidence of `explain/faithfulness.py` over some of a split.

    rows = sample(items.labels, answers.answered, 12, seed)
    record = describe(explain_items(folder, dataset, rows), items, label_names, names)

The maps are Grad-CAM's, of the class that the predictor put first, as the page shows them. What was found of each map
is kept in explanations.json, from which `explanation_figures` gives the figures of metrics.json again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.errors import SliceError
from ct_xception.evaluation.answers import Items, file_of, with_bar
from ct_xception.evaluation.intervals import group_indices, proportion_figure
from ct_xception.evaluation.predictions import Names

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.imaging.slices import Slice, Window
    from ct_xception.serving.predictor import Classifier

EXPLANATIONS = "explanations.json"
FORMAT = 1
METHOD, BUDGET = "gradcam", "fast"
_KEPT = ("deletion", "insertion", "grounds", "agreement", "infidelity", "sensitivity", "randomisation", "warnings")
_CURVES = ("deletion", "insertion")


def sample(labels: NDArray[np.intp], answered: NDArray[np.bool_], count: int, seed: int) -> list[int]:
    """At most `count` of the N answered rows, drawn anew for each class and evenly over the classes; in order."""
    rng = np.random.default_rng(seed)
    queues = [rng.permutation(np.flatnonzero((labels == label) & answered)) for label in np.unique(labels)]
    turns = sorted((place, turn, int(row)) for turn, queue in enumerate(queues) for place, row in enumerate(queue))
    return sorted(row for _, _, row in turns[:count])


def explain_items(
    checkpoint: str | Path,
    dataset: Dataset,
    rows: Sequence[int],
    *,
    device: str = "cpu",
    window: Window | None = None,
    frame: int | None = None,
    seed: int = 0,
    progress: str | None = None,
) -> dict[int, dict[str, Any]]:
    """{row: what `evidence` finds of its map}; a file that cannot be read any more is left out.

    `progress` is the title of a bar, None shows none.
    """
    from ct_xception.serving.predictor import Classifier

    if not len(rows):
        return {}
    classifier = Classifier.from_pretrained(checkpoint, device=device, gate=False)
    found = {}
    for row, item in zip(rows, with_bar(dataset.select(rows), progress), strict=True):
        try:
            slice_ = classifier.read(file_of(item), window=window, frame=frame, name=str(item["source"]))
        except SliceError:
            continue
        found[row] = _evidence(classifier, slice_, seed)
    return found


def _evidence(classifier: Classifier, slice_: Slice, seed: int) -> dict[str, Any]:
    """The part of one map's evidence that can be summed up, without pictures or places."""
    from ct_xception.explain.attribution import attribute
    from ct_xception.explain.faithfulness import Explained, evidence

    prepared = classifier.prepare(slice_)
    box, shape = prepared.crop.box, slice_.pixels.shape
    target = int(classifier.network(prepared.values[None]).logits[0].argmax())
    heat = attribute(classifier.model, prepared.pixel_values, target, box=box, shape=shape, method=METHOD, seed=seed)
    explained = Explained(classifier.model, slice_, prepared.pixel_values, box, target, heat)
    found = evidence(explained, budget=BUDGET, seed=seed)
    curves = {name: {key: found[name][key] for key in ("area", "random_area")} for name in _CURVES}
    return {"target": heat.label, **{name: found[name] for name in _KEPT}, **curves}


def describe(
    found: Mapping[int, Mapping[str, Any]], items: Items, label_names: Sequence[str], names: Names
) -> dict[str, Any]:
    """explanations.json: every map with its item's published name, its numbered group and its label."""
    groups = group_indices(items.groups, len(items.groups))
    records = [
        {
            "source": names[items.sources[row]],
            "group": f"group {groups[row]:06d}",
            "label": label_names[items.labels[row]],
            **found[row],
        }
        for row in sorted(found)
    ]
    return {"format": FORMAT, "method": METHOD, "budget": BUDGET, "records": records}


def explanation_figures(stated: Mapping[str, Any], *, seed: int = 0) -> dict[str, Any]:
    """The figures of explanations.json, each with n and a 95 % interval by group: as `summarise` names them.

    `warned` {figure} is the share of maps that their own evidence speaks against. JSON-able.
    """
    from ct_xception.explain.faithfulness import summarise

    records: Iterable[Mapping[str, Any]] = stated["records"]
    groups = [record["group"] for record in records]
    warned = np.array([bool(record["warnings"]) for record in records])
    return {
        "method": stated["method"],
        "budget": stated["budget"],
        **summarise(list(records), groups=groups, seed=seed),
        "warned": proportion_figure(warned, group_indices(groups, len(groups)), "no map").to_dict(),
    }
