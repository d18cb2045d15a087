"""What metrics.json says, as types: whoever measures makes them, and whoever prints or counts again reads them.

    metrics = read_metrics(folder / METRICS)
    metrics.paths["predictor"].accuracy.value

A metric that was not measured is `ABSENT`, which has no value and says why; a block that was not, None or empty.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ct_xception.checkpoint import METRICS_FORMAT
from ct_xception.checkpoint_files import Classes, ConformalRule, Count, GateRule, Metric, Share, Stated, Text

ABSENT = Metric(value=None, n=0, reason="no file was read")


class ClassMetrics(Stated):
    """One class against the rest."""

    precision: Metric = ABSENT
    recall: Metric = ABSENT
    specificity: Metric = ABSENT
    f1: Metric = ABSENT
    auroc: Metric = ABSENT
    auprc: Metric = ABSENT


class ClassificationMetrics(Stated):
    """What `statistics.metrics` measures of N answers; `confusion_matrix` is [true][predicted]."""

    n: Count
    n_groups: Count = 0
    support: dict[Text, Count] = {}
    accuracy: Metric = ABSENT
    balanced_accuracy: Metric = ABSENT
    macro_precision: Metric = ABSENT
    macro_recall: Metric = ABSENT
    macro_specificity: Metric = ABSENT
    macro_f1: Metric = ABSENT
    macro_auroc: Metric = ABSENT
    macro_auprc: Metric = ABSENT
    log_loss: Metric = ABSENT
    per_class: dict[Text, ClassMetrics] = {}
    confusion_matrix: list[list[Count]] = []


class Refusal(Stated):
    """An item that was not answered, and why."""

    source: str
    reason: str


class PathMetrics(ClassificationMetrics):
    """One way of asking: its metrics over the items that it answered, and those that it refused."""

    refused: tuple[Refusal, ...] = ()


class PooledBy(Stated):
    """The rule that pooled slices, and what it was fitted on; `reason` where there was too little to fit it."""

    unit: Text
    method: Text
    temperature: float
    n_groups: Count = 0
    reason: Text | None = None


class FoldRecord(Stated):
    """One fold of a cross-validation: its split, its network, and how many items it answered."""

    split_hash: Text
    weights_sha256: Text
    n: Count
    pooling: PooledBy | None = None


class ProtocolMetrics(Stated):
    """One protocol: what its metrics are of, and each path's. `removed` items have a twin; `folds` are out of fold."""

    title: str = ""
    n: Count
    n_groups: Count
    split_hash: Text | None
    removed: Count | None = None
    folds: tuple[FoldRecord, ...] = ()
    groups_origin: str | None = None
    paths: dict[Text, PathMetrics]


class McNemar(Stated):
    """McNemar's exact test: `b` only the first is right, `c` only the second."""

    b: Count
    c: Count
    p: Share


class SwapTest(Stated):
    """The share of random exchanges of two models, group by group, that part them as far."""

    p: Share
    swaps: Count


class Comparison(Stated):
    """Two models on the same items: their accuracies, and the first's minus the second's."""

    n: Count
    n_groups: Count
    first: Metric
    second: Metric
    difference: Metric
    mcnemar: McNemar
    by_group: SwapTest | None


class BaselineMetrics(Stated):
    """One simple rule's metrics."""

    accuracy: Metric = ABSENT
    balanced_accuracy: Metric = ABSENT
    macro_f1: Metric = ABSENT


class Baselines(Stated):
    """The simple rules of one protocol; `difference` is the predictor's accuracy less that of the `best` rule."""

    figures: dict[Text, BaselineMetrics]
    best: Text
    difference: Metric
    mcnemar: McNemar
    beats_best: bool
    skipped: dict[Text, str] = {}


class ColumnMetrics(Stated):
    """What a network gains by the columns beside the image: differences in accuracy, paired.

    `withheld`: the predictor less itself without them. `alone`: the predictor less `rule`, the better of the simple
    rules that see the columns alone; None where none ran.
    """

    withheld: Metric
    alone: Metric | None = None
    rule: Text | None = None

    @property
    def needless(self) -> bool:
        """Whether the columns alone may do as well as the network."""
        return self.alone is not None and (self.alone.low is None or self.alone.low <= 0)


class CalibrationBin(Stated):
    """The answers whose confidence lies between `low` and `high`: their mean confidence, and their accuracy."""

    low: Share
    high: Share
    n: Count
    confidence: Share
    accuracy: Metric


class CalibrationMetrics(Stated):
    """How far probabilities can be trusted, as `statistics.calibration` measures it."""

    n: Count
    n_groups: Count
    ece: Metric
    adaptive_ece: Metric
    brier: Metric
    log_loss: Metric
    bins: tuple[CalibrationBin, ...]
    adaptive_bins: tuple[CalibrationBin, ...]


class Calibration(Stated):
    """What temperature scaling did: metrics before it, and as published."""

    temperature: float
    n_validation: Count
    before: CalibrationMetrics
    after: CalibrationMetrics


class Span(Stated):
    """From `low` to `high`."""

    low: float
    high: float


class CoverageMetrics(Stated):
    """What prediction sets are worth on one protocol's items; `sizes` {number of classes: sets}."""

    n: Count
    n_groups: Count
    nominal: Share
    coverage: Metric
    mean_size: Metric
    sizes: dict[Text, Count]
    per_class_coverage: dict[Text, Metric]
    expected: Span | None
    within_expected: bool | None


class ConformalMetrics(Stated):
    """The rule of prediction sets, and beside it each protocol's CoverageMetrics under the protocol's name."""

    __pydantic_extra__: dict[str, CoverageMetrics] = Field(init=False)

    rule: ConformalRule

    @property
    def coverages(self) -> dict[str, CoverageMetrics]:
        """{protocol: what the sets are worth there}."""
        return self.__pydantic_extra__


class PointMetrics(Stated):
    """What an operating point is worth on items that it was not chosen on."""

    name: Text
    kind: Text
    positive: Classes
    threshold: Share
    chosen_for: Text
    n: Count
    n_positive: Count
    sensitivity: Metric
    specificity: Metric
    positive_predictive_value: Metric
    negative_predictive_value: Metric


class SelectiveMetrics(Stated):
    """The share answered at a confidence `threshold`, and the accuracy of those answers."""

    threshold: Share
    answered: Metric
    accuracy: Metric
    n: Count


class AbstentionMetrics(SelectiveMetrics):
    """The checkpoint's own threshold, and beside it others: what answering less would buy."""

    trade_off: tuple[SelectiveMetrics, ...]


class QuestionMetrics(Stated):
    """The questions that the classes mix: which of the `groups`, and `within` {group: which of its classes}."""

    groups: ClassificationMetrics
    within: dict[Text, ClassificationMetrics]


class GateMetrics(Stated):
    """What the input gate does to the split's slices; without a gate the rule alone, with its reason."""

    rule: GateRule
    refused: Metric | None = None
    doubtful: Metric | None = None


class HeatMapMetrics(Stated):
    """What was found of `n` heat maps; beside these `agreement_METHOD` for each method they are compared with."""

    __pydantic_extra__: dict[str, Metric] = Field(init=False)

    method: Text
    budget: Text
    n: Count
    warned: Metric
    deletion_area: Metric = ABSENT
    deletion_random_area: Metric = ABSENT
    insertion_area: Metric = ABSENT
    insertion_random_area: Metric = ABSENT
    inside_body: Metric = ABSENT
    inside_body_area: Metric = ABSENT
    inside_lungs: Metric = ABSENT
    inside_lungs_area: Metric = ABSENT
    infidelity: Metric = ABSENT
    sensitivity: Metric = ABSENT
    randomised_rank_correlation: Metric = ABSENT
    pointing_game: Metric = ABSENT
    pointing_game_near: Metric = ABSENT
    lesion_overlap: Metric = ABSENT
    inside_lesion: Metric = ABSENT
    lesion_area: Metric = ABSENT
    lesion_near_area: Metric = ABSENT


class MeasuredCorpus(Stated):
    """What a metrics.json is the figures of: where it came from, of what kind, and its hash."""

    source: Text | None = None
    kind: Text | None = None
    hash: Text | None = None


class UnitCalibration(Stated):
    """How far the probabilities of pooled answers can be trusted; without `bins` no diagram is drawn."""

    ece: Metric
    adaptive_ece: Metric
    brier: Metric
    bins: tuple[CalibrationBin, ...] = ()


class UnitMetrics(ClassificationMetrics):
    """The predictor's pooled answers, one a patient or a series.

    `n_slices` are behind the `n` units; `several` units have more than one; `mixed` are left out, for slices of several
    classes, and `refused` had none that could be read. `sensitivity_at` {class: {rate of false positives: metric}}.
    `beside` are the stock pipeline and the simple rules on the same units, where these are patients.
    """

    n_slices: Count = 0
    several: Count = 0
    mixed: Count = 0
    refused: Count = 0
    calibration: UnitCalibration | None = None
    sensitivity_at: dict[Text, dict[Text, Metric]] = {}
    rule: PooledBy | None = None
    conformal: CoverageMetrics | None = None
    operating_points: tuple[PointMetrics, ...] = ()
    abstention: AbstentionMetrics | None = None
    beside: dict[Text, ClassificationMetrics] = {}


class GateShares(Stated):
    """What share of the slices the input gate refuses, or doubts."""

    refused: Metric
    doubtful: Metric


class ExternalDrift(Stated):
    """How an external corpus differs from training's, as `audit.drift` finds it: `told` of `numbers` differ.

    `patients` are training's and the other's, `families` what differs, `matters` what of it is likely to move answers.
    """

    unlike: bool
    judged: bool
    patients: tuple[Count, Count]
    numbers: Count
    told: Count
    families: tuple[Text, ...]
    matters: tuple[Text, ...]
    chance: Share | None
    sentences: tuple[Text, ...]


class ExternalMetrics(Stated):
    """External validation on one corpus, asked which of the `alternatives`; `own` are the same question at home.

    `classes` {label: {"images", "asked", "as"}}; `overlap` counts what it shares with training, None where that was not
    looked for, as of `drift`. `passed` are the metrics of what the gate let through. `window` is the one
    that its slices were read in, None where that was left to the checkpoint or the file.
    """

    corpus: MeasuredCorpus
    images: Count
    groups_origin: str | None
    alternatives: dict[Text, Classes]
    classes: dict[Text, dict[str, Any]]
    n: Count
    n_groups: Count
    overlap: dict[Text, Count] | None
    paths: dict[Text, PathMetrics]
    gate: GateShares | None = None
    passed: ClassificationMetrics | None = None
    conformal: CoverageMetrics | None = None
    by_patient: UnitMetrics | None = None
    by_series: UnitMetrics | None = None
    own: ClassificationMetrics | None = None
    drift: ExternalDrift | None = None
    window: Text | None = None


class Loss(Stated):
    """One metric of a network and of its approximation; the loss is above 0 where the approximation is worse."""

    reference: Metric
    approximation: Metric
    loss: Metric


class AgreementMetrics(Stated):
    """What an approximation of a network is worth beside it; `agreement` is the share with the same first class."""

    n: Count
    n_groups: Count
    agreement: Metric
    accuracy: Loss
    macro_auroc: Loss
    largest_difference: Share


class ChangeMetrics(Stated):
    """What one change of the picture does, by severity; `relative` is the accuracy left, of that unchanged."""

    title: str
    amounts: tuple[int | float, ...]
    unit: str
    accuracy: tuple[Metric, ...]
    ece: tuple[Metric, ...]
    coverage: tuple[Metric, ...] = ()
    refused: tuple[Metric, ...] = ()
    relative: Metric


class CleanMetrics(Stated):
    """The same slices unchanged."""

    accuracy: Metric
    ece: Metric
    coverage: Metric | None = None
    refused: Metric | None = None


class RobustnessMetrics(Stated):
    """What changes as of other scanners do to the answers; `relative` is the accuracy left under those of pictures.

    `not_measurable` {title: what the files lack}; a change of values may be of fewer slices than `n`.
    """

    n: Count
    n_groups: Count
    seed: int
    relative: Metric
    clean: CleanMetrics
    changes: dict[Text, ChangeMetrics]
    not_measurable: dict[Text, Text] = {}


class WorstSubgroup(Stated):
    """The subgroup furthest below `rest`, all other items: its `n` slices are of `n_groups` patients.

    `chance` is how often the worst of as many subgroups lies as far below where no trait matters (max-T): the p value,
    corrected for all that were looked at. The intervals are of these items, not corrected for the choice.
    """

    trait: Text
    value: Text
    n: Count
    n_groups: Count
    accuracy: Metric
    rest: Metric
    chance: Share


class SubgroupMetrics(Stated):
    """The subgroups of one protocol's items, by `traits`: `compared` of them were large enough to be looked at.

    `worst` is None where there are none, or where no answer is wrong.
    """

    traits: tuple[Text, ...]
    compared: Count
    worst: WorstSubgroup | None = None


class Headline(Stated):
    """The most pessimistic protocol that ran, the path whose figures it is judged by, and what is counted there."""

    protocol: Text
    path: Text
    by: Literal["slice", "patient"] = "slice"


class Measured(Stated):
    """Every block of metrics.json that answers give, but for the paths; by protocol, or of the own test split alone."""

    headline: Headline | None = None
    by_patient: dict[Text, UnitMetrics] = {}
    by_series: dict[Text, UnitMetrics] = {}
    baselines: dict[Text, Baselines] = {}
    columns: dict[Text, ColumnMetrics] = {}
    subgroups: dict[Text, SubgroupMetrics] = {}
    calibration: Calibration | None = None
    operating_points: tuple[PointMetrics, ...] = ()
    abstention: AbstentionMetrics | None = None
    gate: GateMetrics | None = None
    conformal: ConformalMetrics | None = None
    class_groups: dict[Text, Classes] = {}
    questions: dict[Text, QuestionMetrics] = {}
    explanations: HeatMapMetrics | None = None
    external: dict[Text, ExternalMetrics] = {}
    robustness: RobustnessMetrics | None = None


class Intervals(Stated):
    """How the 95 % intervals of a metrics.json were drawn."""

    confidence: Share
    resamples: Count
    seed: int


class Metrics(Measured):
    """metrics.json.

    `paths` {path: metrics} are of the own test split, whose protocol is `protocol`; `protocols` are the further ones;
    `figures` names the pictures beside it, and `audit` the file of what may be published of the audit.
    """

    format: Literal[METRICS_FORMAT]  # type: ignore[valid-type]
    protocol: Text
    split: Text
    split_hash: Text | None
    weights_sha256: Text | None
    corpus: MeasuredCorpus = MeasuredCorpus()
    split_sizes: dict[Text, Count] = {}
    best_epoch: Count | None = None
    n: Count
    n_groups: Count
    label_names: Classes
    intervals: Intervals
    paths: dict[Text, PathMetrics] = {}
    protocols: dict[Text, ProtocolMetrics] = {}
    audit: Text | None = None
    figures: tuple[Text, ...] = ()

    @property
    def all_protocols(self) -> dict[str, ProtocolMetrics]:
        """Every protocol that ran, the network's own test split first."""
        own = ProtocolMetrics(n=self.n, n_groups=self.n_groups, split_hash=self.split_hash, paths=self.paths)
        return {self.protocol: own, **self.protocols}


def read_metrics(path: Path) -> Metrics:
    """A metrics.json. Raises OSError, and CheckpointError where it is of another format or form."""
    return Metrics.from_json(path.read_bytes(), path.name)
