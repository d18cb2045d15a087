"""How far a checkpoint's heat maps can be trusted: the evidence of `explain/faithfulness.py` over some of a split.

    checked = check_heat_maps(folder, dataset, answers, 12)
    record = describe(checked, items, label_names, names)

The maps are Grad-CAM's, of the class that the predictor put first, as the page shows them. What was found of each map
is kept in explanations.json, from which `explanation_figures` gives the figures of metrics.json again. Where the corpus
knows the lesions, every map of a right answer is held against its mask too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint import EXPLANATIONS_FORMAT
from ct_xception.evaluation.answers import Answers, Items, read_rows
from ct_xception.evaluation.pointing import lesion_rows, point_items, pointing_figures
from ct_xception.evaluation.predictions import Names
from ct_xception.statistics.intervals import group_indices, mean_figure, proportion_figure

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.explain.faithfulness import Explained, Pointing
    from ct_xception.imaging.slice import Slice
    from ct_xception.imaging.windows import Window
    from ct_xception.serving.classifier import Classifier

METHOD, BUDGET = "gradcam", "fast"
_KEPT = ("deletion", "insertion", "grounds", "agreement", "infidelity", "sensitivity", "randomisation", "warnings")
_CURVES = ("deletion", "insertion")


@dataclass(frozen=True, eq=False)
class Checked:
    """What was found of heat maps, by row: `evidence` of a sample, `pointings` of right answers with a known lesion."""

    evidence: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    pointings: Mapping[int, Pointing] = field(default_factory=dict)

    @classmethod
    def join(cls, parts: Iterable[Checked]) -> Checked:
        """What several processes found, each of its own rows."""
        both = [(part.evidence, part.pointings) for part in parts]
        evidence = {row: record for found, _ in both for row, record in found.items()}
        return cls(evidence, {row: pointing for _, found in both for row, pointing in found.items()})


def check_heat_maps(
    checkpoint: str | Path,
    dataset: Dataset,
    answers: Answers,
    count: int,
    *,
    share: tuple[int, int] = (0, 1),
    progress: bool = False,
    device: str = "cpu",
    **options: Any,
) -> Checked:
    """Gather the evidence of `count` maps, and point at the lesions that are known; 0 does neither.

    `share` is (this process, of how many): each looks at its part. `options` are those of `explain_items`, without its
    `progress`.
    """
    from ct_xception.serving.classifier import Classifier

    if not count:
        return Checked()
    classifier = Classifier.from_pretrained(checkpoint, device=device, gate=False)
    own = slice(share[0], None, share[1])
    rows = sample(Items.of(dataset).labels, answers.answered, count, options.get("seed", 0))[own]
    lesions = lesion_rows(dataset, answers)[own]
    titles = ("heat maps", "lesions") if progress else (None, None)
    return Checked(
        explain_items(classifier, dataset, rows, progress=titles[0], **options),
        point_items(classifier, dataset, lesions, progress=titles[1], **options),
    )


def sample(labels: NDArray[np.intp], answered: NDArray[np.bool_], count: int, seed: int) -> list[int]:
    """At most `count` of the N answered rows, drawn anew for each class and evenly over the classes; in order."""
    rng = np.random.default_rng(seed)
    queues = [rng.permutation(np.flatnonzero((labels == label) & answered)) for label in np.unique(labels)]
    turns = sorted((place, turn, int(row)) for turn, queue in enumerate(queues) for place, row in enumerate(queue))
    return sorted(row for _, _, row in turns[:count])


def explain_items(
    classifier: Classifier,
    dataset: Dataset,
    rows: Sequence[int],
    *,
    window: Window | None = None,
    frame: int | None = None,
    seed: int = 0,
    progress: str | None = None,
) -> dict[int, dict[str, Any]]:
    """{row: what `evidence` finds of its map}; a file that cannot be read any more is left out.

    `progress` is the title of a bar, None shows none.
    """
    read = read_rows(classifier, dataset, rows, window=window, frame=frame, progress=progress)
    return {row: _evidence(classifier, slice_, seed) for row, _, slice_ in read}


def explain_slice(classifier: Classifier, slice_: Slice, seed: int = 0) -> Explained:
    """A slice's map for the class that the network puts first."""
    from ct_xception.explain.attribution import attribute
    from ct_xception.explain.faithfulness import Explained

    prepared = classifier.prepare(slice_)
    box, shape = prepared.crop.box, slice_.pixels.shape
    target = int(classifier.network(prepared.values[None]).logits[0].argmax())
    heat = attribute(classifier.model, prepared.pixel_values, target, box=box, shape=shape, method=METHOD, seed=seed)
    return Explained(classifier.model, slice_, prepared.pixel_values, box, target, heat)


def _evidence(classifier: Classifier, slice_: Slice, seed: int) -> dict[str, Any]:
    """The part of one map's evidence that can be summed up, without pictures or places."""
    from ct_xception.explain.faithfulness import evidence

    explained = explain_slice(classifier, slice_, seed)
    found = evidence(explained, budget=BUDGET, seed=seed)
    curves = {name: {key: found[name][key] for key in ("area", "random_area")} for name in _CURVES}
    return {"target": explained.attribution.label, **{name: found[name] for name in _KEPT}, **curves}


def describe(checked: Checked, items: Items, label_names: Sequence[str], names: Names) -> dict[str, Any]:
    """explanations.json: every map with its item's published name, its numbered group and its label."""
    groups = group_indices(items.groups, len(items.groups))

    def item(row: int) -> dict[str, Any]:
        label = label_names[items.labels[row]]
        return {"source": names[items.sources[row]], "group": f"group {groups[row]:06d}", "label": label}

    records = [item(row) | dict(found) for row, found in sorted(checked.evidence.items())]
    stated = {"format": EXPLANATIONS_FORMAT, "method": METHOD, "budget": BUDGET, "records": records}
    if checked.pointings:
        stated["lesions"] = [item(row) | asdict(pointing) for row, pointing in sorted(checked.pointings.items())]
    return stated


def explanation_figures(stated: Mapping[str, Any], *, seed: int = 0) -> dict[str, Any]:
    """The figures of explanations.json, each with n and a 95 % interval by group: those of `evidence_figures`.

    `warned` {figure} is the share of maps that their own evidence speaks against; with known lesions also those of
    `pointing_figures`. JSON-able.
    """
    records: Iterable[Mapping[str, Any]] = stated["records"]
    groups = [record["group"] for record in records]
    warned = np.array([bool(record["warnings"]) for record in records])
    lesions = stated.get("lesions", [])
    return {
        "method": stated["method"],
        "budget": stated["budget"],
        **evidence_figures(list(records), groups, seed=seed),
        "warned": proportion_figure(warned, group_indices(groups, len(groups)), "no map").to_dict(),
        **pointing_figures(lesions, [lesion["group"] for lesion in lesions], seed=seed),
    }


def evidence_figures(
    records: Sequence[Mapping[str, Any]], groups: Sequence[str] | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """Means over N maps, as JSON takes them: `n`, and what `evidence` measures, each with a 95 % interval by group."""
    from ct_xception.explain.catalogue import COMPARED

    values: dict[str, list[float | None]] = {
        name: [read(record) for record in records] for name, read in _SUMMARISED.items()
    }
    for method in COMPARED:
        found = [record["agreement"].get(method, {}) for record in records]
        values[f"agreement_{method}"] = [one.get("rank_correlation") for one in found]
    figures = {name: mean_figure(each, groups, "no map", seed=seed).to_dict() for name, each in values.items()}
    return {"n": len(records), **figures}


_SUMMARISED: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
    "deletion_area": lambda record: record["deletion"]["area"],
    "deletion_random_area": lambda record: record["deletion"]["random_area"],
    "insertion_area": lambda record: record["insertion"]["area"],
    "insertion_random_area": lambda record: record["insertion"]["random_area"],
    "inside_body": lambda record: record["grounds"]["inside_body"]["share"],
    "inside_body_area": lambda record: record["grounds"]["inside_body"]["area"],
    "inside_lungs": lambda record: record["grounds"]["inside_lungs"]["share"],
    "inside_lungs_area": lambda record: record["grounds"]["inside_lungs"]["area"],
    "infidelity": lambda record: record["infidelity"],
    "sensitivity": lambda record: record["sensitivity"],
    "randomised_rank_correlation": lambda record: record["randomisation"]["rank_correlation"],
}
