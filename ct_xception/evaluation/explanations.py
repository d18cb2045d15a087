"""How far a checkpoint's heat maps can be trusted: the evidence of `explain/faithfulness.py` over some of a split.

    checked = check_heat_maps(evaluation, classifier, answers)
    record = describe(checked, items, label_names, names)

The maps are those shown everywhere by default, of the class that the predictor put first. What was found of each
is kept in explanations.json, from which `explanation_figures` gives the figures of metrics.json again.

Where the corpus knows the lesions, the pointing game is played on every slice with one that the predictor answered
right: on a wrong answer the map of the class put first has nothing to point at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint import EXPLANATIONS, EXPLANATIONS_FORMAT
from ct_xception.checkpoint_files import Metric, Stated, Text
from ct_xception.corpus.cells import frame_of
from ct_xception.corpus.inspection import read_mask
from ct_xception.corpus.tables.boxes import box_mask
from ct_xception.errors import SliceError
from ct_xception.evaluation.answers import ALONE, Answers, Item, Items, Share, read_rows
from ct_xception.evaluation.evaluation import Evaluation
from ct_xception.evaluation.predictions import Names
from ct_xception.explain.budget import COMPARED, DEFAULT_BUDGET, DEFAULT_METHOD
from ct_xception.explain.explain import explain
from ct_xception.explain.faithfulness import EFFORTS, evidence, point
from ct_xception.explain.network_copies import random_networks
from ct_xception.metrics import HeatMapMetrics
from ct_xception.statistics.intervals import group_indices, mean_figure, proportion_figure

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.explain.explain import Explanation
    from ct_xception.explain.faithfulness import Pointing
    from ct_xception.imaging.windows import Window
    from ct_xception.model.modelling import CTXceptionForImageClassification as Network
    from ct_xception.serving.classifier import Classifier

NEAR = 0.05  # of the slice's shorter side: so far from a lesion still is near it
_KEPT = ("deletion", "insertion", "grounds", "agreement", "infidelity", "sensitivity", "randomisation", "warnings")
_CURVES = ("deletion", "insertion")
_HITS = {"pointing_game": "hit", "pointing_game_near": "near"}
_MEANS = {
    "lesion_overlap": "overlap",
    "inside_lesion": "inside",
    "lesion_area": "area",
    "lesion_near_area": "near_area",
}


class Curve(Stated):
    """The area under a class's probability as pixels go or come, by the map's order and by a random one."""

    area: float
    random_area: float


class GroundShare(Stated):
    """The share of a map's positive attribution on some ground, and the share of the picture that this is."""

    share: float
    area: float


class Likeness(Stated):
    """How like another map is: Spearman's rho."""

    rank_correlation: float


class MapEvidence(Stated):
    """The part of what `explain.faithfulness.evidence` finds of one map that can be summed up.

    `grounds` lacks what is not known, as in what is no CT; `agreement` is by method.
    """

    deletion: Curve
    insertion: Curve
    grounds: dict[Text, GroundShare | str | None]
    agreement: dict[Text, Likeness]
    infidelity: float | None
    sensitivity: float | None
    randomisation: Likeness
    warnings: tuple[str, ...]

    def on(self, ground: str) -> GroundShare | None:
        """What lies on a ground; None where it is not known what of the picture that is."""
        found = self.grounds.get(ground)
        return found if isinstance(found, GroundShare) else None


class ExplainedMap(MapEvidence):
    """One map's evidence beside its item's published name, numbered group and label, and the class it is of."""

    source: Text
    group: Text
    label: Text
    target: Text


class Lesion(Stated):
    """How a map fares against its item's lesion, as `explain.faithfulness.Pointing` says."""

    source: Text
    group: Text
    label: Text
    hit: bool
    near: bool
    distance: float
    inside: float
    area: float
    near_area: float
    overlap: float


class Explanations(Stated):
    """explanations.json: what was found of every map, and of every right answer whose lesion is known."""

    format: Literal[EXPLANATIONS_FORMAT]  # type: ignore[valid-type]
    method: Text
    budget: Text
    records: tuple[ExplainedMap, ...]
    lesions: tuple[Lesion, ...] = ()


@dataclass(frozen=True, eq=False)
class Checked:
    """What was found of heat maps, by row: `evidence` of a sample, `pointings` of right answers with a known lesion."""

    evidence: Mapping[int, MapEvidence] = field(default_factory=dict)
    pointings: Mapping[int, Pointing] = field(default_factory=dict)

    @classmethod
    def join(cls, parts: Iterable[Checked]) -> Checked:
        """What several processes found, each of its own rows."""
        both = [(part.evidence, part.pointings) for part in parts]
        evidence = {row: record for found, _ in both for row, record in found.items()}
        return cls(evidence, {row: pointing for _, found in both for row, pointing in found.items()})


def check_heat_maps(evaluation: Evaluation, classifier: Classifier, answers: Answers, share: Share = ALONE) -> Checked:
    """Gather the evidence of some maps, and point at the lesions that are known; neither where none is asked for.

    Every process looks at its share, and is told what all found.
    """
    if not evaluation.explained:
        return Checked()
    dataset, seed, own = evaluation.dataset, evaluation.seed, slice(share.number, None, share.count)
    rows = sample(Items.of(dataset).labels, answers.answered, evaluation.explained, seed)[own]
    lesions = lesion_rows(dataset, answers)[own]
    look = partial(examine, classifier, dataset, window=evaluation.window, frame=evaluation.frame, seed=seed)
    titles = ("heat maps", "lesions") if evaluation.progress else (None, None)
    first = look(rows, lesions, progress=titles[0])
    second = look((), [row for row in lesions if row not in rows], progress=titles[1])
    return Checked.join(share.gather(Checked.join([first, second])))


def sample(labels: NDArray[np.intp], answered: NDArray[np.bool_], count: int, seed: int) -> list[int]:
    """At most `count` of the N answered rows, drawn anew for each class and evenly over the classes; in order."""
    rng = np.random.default_rng(seed)
    queues = [rng.permutation(np.flatnonzero((labels == label) & answered)) for label in np.unique(labels)]
    turns = sorted((place, turn, int(row)) for turn, queue in enumerate(queues) for place, row in enumerate(queue))
    return sorted(row for _, _, row in turns[:count])


def lesion_rows(dataset: Dataset, answers: Answers) -> list[int]:
    """The rows with a mask, or with boxes, that the predictor answered right; none where the corpus has neither."""
    told = [name for name in ("mask", "boxes") if name in dataset.column_names]
    if not told:
        return []
    columns = dataset.select_columns(told)[:]
    masked = np.any([[bool(cell) for cell in columns[name]] for name in told], axis=0)
    right = np.argmax(answers.probabilities, axis=1) == Items.of(dataset).labels
    return [int(row) for row in np.flatnonzero(masked & right & answers.answered)]


def examine(
    classifier: Classifier,
    dataset: Dataset,
    rows: Sequence[int],
    lesions: Sequence[int],
    *,
    window: Window | None = None,
    frame: int | None = None,
    seed: int = 0,
    progress: str | None = None,
) -> Checked:
    """The evidence of the maps of `rows`, and how those of `lesions` fare; each slice is read and explained once.

    Files that cannot be read any more are left out, and lesions whose mask is empty or cannot be read. `progress` is
    the title of a bar, None shows none.
    """
    side = classifier.network.pretrained_cfg["input_size"][-1]
    networks = EFFORTS[DEFAULT_BUDGET].networks if rows else 0
    random = random_networks(classifier.model, side, networks, seed)
    wanted = sorted({*rows, *lesions})
    found: dict[int, MapEvidence] = {}
    pointings: dict[int, Pointing] = {}
    for row, item, slice_ in read_rows(classifier, dataset, wanted, window=window, frame=frame, progress=progress):
        explanation = explain(classifier, slice_, seed=seed)
        if row in rows:
            found[row] = _evidence(explanation, random, seed)
        if row in lesions and (pointing := _pointing(explanation, item)) is not None:
            pointings[row] = pointing
    return Checked(found, pointings)


def _evidence(explanation: Explanation, random: Sequence[Network], seed: int) -> MapEvidence:
    """The part of one map's evidence that can be summed up, without pictures or places, and the class that it is of."""
    found = evidence(explanation, budget=DEFAULT_BUDGET, seed=seed, random=random)
    curves = {name: {key: found[name][key] for key in ("area", "random_area")} for name in _CURVES}
    kept = {name: found[name] for name in _KEPT} | curves
    return MapEvidence.of({"target": explanation.attribution.label, **kept}, EXPLANATIONS)


def _pointing(explanation: Explanation, item: Item) -> Pointing | None:
    """How a map fares against its item's mask, or what lies in its boxes where it has no mask."""
    heat = explanation.attribution.map
    try:
        mask = item.get("mask")
        lesion = read_mask(Path(mask), frame_of(item)) if mask else box_mask(item["boxes"], heat.shape)
    except SliceError:
        return None
    return (
        point(heat, lesion, tolerance=NEAR * min(lesion.shape)) if lesion.any() and lesion.shape == heat.shape else None
    )


def describe(checked: Checked, items: Items, label_names: Sequence[str], names: Names) -> Explanations:
    """explanations.json: every map with its item's published name, its numbered group and its label."""
    groups = group_indices(items.groups, len(items.groups))

    def item(row: int) -> dict[str, Any]:
        label = label_names[items.labels[row]]
        return {"source": names[items.sources[row]], "group": f"group {groups[row]:06d}", "label": label}

    records = [item(row) | found.to_json() for row, found in sorted(checked.evidence.items())]
    stated = {"format": EXPLANATIONS_FORMAT, "method": DEFAULT_METHOD, "budget": DEFAULT_BUDGET, "records": records}
    if checked.pointings:
        stated["lesions"] = [item(row) | asdict(pointing) for row, pointing in sorted(checked.pointings.items())]
    return Explanations.of(stated, EXPLANATIONS)


def explanation_figures(stated: Explanations, *, seed: int = 0) -> HeatMapMetrics:
    """The metrics of explanations.json: those of `evidence_figures`, and with known lesions of `pointing_figures`.

    `warned` is the share of maps that their own evidence speaks against.
    """
    groups = [record.group for record in stated.records]
    warned = np.array([bool(record.warnings) for record in stated.records])
    return HeatMapMetrics(
        method=stated.method,
        budget=stated.budget,
        n=len(groups),
        **evidence_figures(stated.records, groups, seed=seed),
        warned=proportion_figure(warned, group_indices(groups, len(groups)), "no map"),
        **pointing_figures(stated.lesions, [lesion.group for lesion in stated.lesions], seed=seed),
    )


def evidence_figures(
    records: Sequence[MapEvidence], groups: Sequence[str] | None = None, *, seed: int = 0
) -> dict[str, Metric]:
    """Means over N maps of what `evidence` measures, each with a 95 % interval by group."""
    values: dict[str, list[float | None]] = {
        name: [read(record) for record in records] for name, read in _SUMMARISED.items()
    }
    for method in COMPARED:
        found = [record.agreement.get(method) for record in records]
        values[f"agreement_{method}"] = [None if one is None else one.rank_correlation for one in found]
    return {name: mean_figure(each, groups, "no map", seed=seed) for name, each in values.items()}


def pointing_figures(
    pointings: Sequence[Pointing | Lesion], groups: Sequence[str], *, seed: int = 0
) -> dict[str, Metric]:
    """The metrics of N maps with a known lesion, each with n and a 95 % interval by group; {} for none.

    `pointing_game` and `pointing_game_near` are shares of hits, `lesion_area` and `lesion_near_area` those that blind
    pointing would get; `lesion_overlap` and `inside_lesion` are means.
    """
    if not pointings:
        return {}
    index = group_indices(groups, len(groups))
    shares = {
        name: proportion_figure(np.array([bool(getattr(one, field)) for one in pointings]), index, "no lesion")
        for name, field in _HITS.items()
    }
    means = {
        name: mean_figure([float(getattr(one, field)) for one in pointings], groups, "no lesion", seed=seed)
        for name, field in _MEANS.items()
    }
    return {**shares, **means}


def _lying(ground: str, what: str) -> Callable[[MapEvidence], float | None]:
    def read(record: MapEvidence) -> float | None:
        found = record.on(ground)
        return None if found is None else getattr(found, what)

    return read


_SUMMARISED: dict[str, Callable[[MapEvidence], float | None]] = {
    "deletion_area": lambda record: record.deletion.area,
    "deletion_random_area": lambda record: record.deletion.random_area,
    "insertion_area": lambda record: record.insertion.area,
    "insertion_random_area": lambda record: record.insertion.random_area,
    "inside_body": _lying("inside_body", "share"),
    "inside_body_area": _lying("inside_body", "area"),
    "inside_lungs": _lying("inside_lungs", "share"),
    "inside_lungs_area": _lying("inside_lungs", "area"),
    "infidelity": lambda record: record.infidelity,
    "sensitivity": lambda record: record.sensitivity,
    "randomised_rank_correlation": lambda record: record.randomisation.rank_correlation,
}
