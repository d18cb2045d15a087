"""What a card's templates are given: values of the checkpoint's own files, typed, and not one sentence.

    values = card_values(evidence, repo_id="user/repo", license="apache-2.0", handler=False)

What was measured stands in the types of metrics.json; a section that was not is None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct_xception.audit.overlap import sentences
from ct_xception.checkpoint import ATTENTIONS, HEADS
from ct_xception.checkpoint_files import Metric, TabularRule
from ct_xception.corpus.split import PSEUDO_PATIENTS
from ct_xception.corpus.summary import is_generated, is_public
from ct_xception.evaluation.answers import WITHHELD
from ct_xception.evaluation.baselines import BASELINE_TITLES
from ct_xception.evaluation.continuity import WITHOUT_TWINS
from ct_xception.evaluation.explanations import NEAR
from ct_xception.evaluation.report.subgroups import describe_subgroups
from ct_xception.evaluation.shift.external import left_out
from ct_xception.explain.budget import COMPARED, RANDOMISED_BELOW
from ct_xception.explain.methods import METHODS
from ct_xception.export_record import ExportedFile
from ct_xception.files import dump_json
from ct_xception.imaging.modality import CT, ONE
from ct_xception.metrics import (
    BaselineMetrics,
    Baselines,
    ClassificationMetrics,
    ColumnMetrics,
    CoverageMetrics,
    ExternalMetrics,
    HeatMapMetrics,
    Intervals,
    Metrics,
    PathMetrics,
    ProtocolMetrics,
    UnitMetrics,
)
from ct_xception.publish.verify import Evidence
from ct_xception.serving.runtimes import EXPORTED
from ct_xception.statistics.class_groups import partition_classes
from ct_xception.statistics.pooling import POOLS
from ct_xception.tabular import Tabular
from ct_xception.text import RESEARCH_USE

_ROUTES = {"stock_pipeline": "stock pipeline()", WITHHELD: "this model, its columns withheld"}
_SHOWN_FINDINGS, _SHOWN_POINTS = 6, 8
_SEVERITIES = ("critical", "warning", "note")


@dataclass(frozen=True)
class Network:
    """`begun_from` is "" for random weights; `weights` the SHA-256; `crops` and `filters` what the predictor does."""

    architecture: str
    image_size: int
    label_names: tuple[str, ...]
    begun_from: str
    weights: str
    crops: bool
    filters: tuple[str, ...]
    modality: str = CT
    head: str = HEADS[0]
    attention: str = ATTENTIONS[0]
    columns: tuple[str, ...] = ()

    @property
    def stock(self) -> bool:
        """Whether transformers knows it without this package."""
        return (self.head, self.attention, self.columns) == (HEADS[0], ATTENTIONS[0], ())

    @property
    def built(self) -> str:
        """What it has beside its backbone, after a comma; "" where it has nothing."""
        gates = "" if self.attention == ATTENTIONS[0] else f"{self.attention.upper()} blocks in its last two blocks"
        pooled = "" if self.head == HEADS[0] else "its last feature map pooled by attention"
        beside = f"{len(self.columns)} columns of a table taken beside the image" if self.columns else ""
        return "".join(f", {part}" for part in (gates, pooled, beside) if part)

    @property
    def one(self) -> str:
        """What it takes: `CT slice`."""
        return ONE[self.modality]


@dataclass(frozen=True)
class Corpus:
    """`name` tells nothing of where it lay; `origin` is where patients are known from, "" where they are not.

    `patients_known` is False where look-alikes stand for patients; `crossing` counts groups that lie in two splits.
    """

    name: str
    kind: str
    notes: tuple[str, ...]
    sizes: Mapping[str, int]
    origin: str
    patients_known: bool
    crossing: int

    @property
    def is_phantom(self) -> bool:
        """Whether a program drew it."""
        return is_generated({"kind": self.kind})


@dataclass(frozen=True)
class Rules:
    """Simple rules on one protocol's images: the best one's title, each one's metrics, why others were not run."""

    best: str
    metrics: Mapping[str, BaselineMetrics]
    difference: Metric
    is_beaten: bool
    skipped: Mapping[str, str]


@dataclass(frozen=True)
class Protocol:
    """A protocol that ran: the predictor's metrics, and the simple rules beside it.

    `removed` images have a twin; `folds` counts those of cross-validation, whose groups are of `origin`. `patients` and
    `series` are the predictor's metrics by these, None where the corpus does not tell them.
    """

    name: str
    predictor: PathMetrics
    split_hash: str
    removed: int
    folds: int
    origin: str
    rules: Rules | None
    patients: UnitMetrics | None = None
    series: UnitMetrics | None = None

    @property
    def beside(self) -> dict[str, ClassificationMetrics]:
        """What else answered the same patients, by its title."""
        found = {} if self.patients is None else self.patients.beside
        return {_ROUTES.get(name) or _rule(name): one for name, one in found.items()}

    @property
    def counted(self) -> dict[str, ClassificationMetrics]:
        """The metrics by what is counted, where that was answered: slices, and the series and patients known."""
        found: dict[str, ClassificationMetrics | None] = {"slice": self.predictor}
        found |= {"series": self.series, "patient": self.patients}
        return {unit: metrics for unit, metrics in found.items() if metrics is not None and metrics.n}


@dataclass(frozen=True)
class External:
    """External validation on the corpus `name`, of `images`, asked which of the `alternatives`.

    `predictor` are the metrics there, and `own` those of the same question at home, None where nothing compares.
    `passed` are those of what the input gate let through, None without a gate; `refused` and `stock` may be None, too.
    `left_out` says why the other images were not asked; `compared` whether overlaps with training were looked for.
    `drift` are sentences on how its images differ from those of training; `window` is what they were to be read in.
    """

    name: str
    corpus: str
    is_phantom: bool
    images: int
    alternatives: tuple[str, ...]
    by_class: bool
    predictor: PathMetrics
    stock: PathMetrics | None
    own: ClassificationMetrics | None
    refused: Metric | None
    passed: ClassificationMetrics | None
    by_patient: UnitMetrics | None
    patients_known: bool
    compared: bool
    counted_alike: int
    left_out: tuple[str, ...]
    drift: tuple[str, ...] = ()
    window: str | None = None

    @property
    def is_worse(self) -> bool:
        """Whether fewer answers are right there than to the same question at home."""
        there = self.predictor.balanced_accuracy.value
        home = None if self.own is None else self.own.balanced_accuracy.value
        return there is not None and home is not None and there < home


@dataclass(frozen=True)
class Route:
    """A way of asking: its metrics, the number of files that it refused, and the commonest reasons."""

    name: str
    metrics: PathMetrics
    refused: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A question that the classes mix: within `group` ("" for which group), which of the `alternatives`."""

    group: str
    alternatives: tuple[str, ...]
    metrics: ClassificationMetrics


@dataclass(frozen=True)
class IntervalMethods:
    """How the headline's intervals came about, and why some metrics have none."""

    confidence: float
    resamples: int
    wilson_by_group: bool
    bootstrap_by_group: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Audit:
    """`counts` {severity: how many}; the gravest findings, {"severity", "title"}, and the others."""

    leaks: bool
    counts: Mapping[str, int]
    gravest: tuple[Mapping[str, Any], ...]
    others: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Columns:
    """What is taken beside the image: how each column is read, and how many values of how many were missing, by split.

    `given` and `withheld` are the predictor's metrics with and without them on the own test split, `worth` what they
    are worth, `rule` the better rule on them alone. `example` is a row as Python writes it.
    """

    described: tuple[str, ...]
    example: str
    missing: Mapping[str, Mapping[str, int]]
    images: Mapping[str, int]
    given: PathMetrics
    withheld: PathMetrics | None
    worth: ColumnMetrics | None
    rule: str


@dataclass(frozen=True)
class Coverage:
    """Prediction sets under a protocol; `fails` where they hold the true class less often, or otherwise, than meant."""

    protocol: Protocol
    metrics: CoverageMetrics
    fails: bool


@dataclass(frozen=True)
class ClassMistakes:
    """The mistakes on one true class: the commonest wrong answer, and the surest with its probability."""

    label: str
    wrong: int
    n: int
    commonest: str
    times: int
    surest: str
    probability: float


@dataclass(frozen=True)
class Mistakes:
    """Of `n` answers of the headline protocol, how many are wrong, by true class."""

    n: int
    wrong: int
    classes: tuple[ClassMistakes, ...]


@dataclass(frozen=True)
class HeatMaps:
    """What was found of some test images' heat maps; `compared` {metric: title of the other method}."""

    method: str
    metrics: HeatMapMetrics
    compared: Mapping[str, str]
    near: float = NEAR
    randomised_below: float = RANDOMISED_BELOW


@dataclass(frozen=True)
class Exported:
    """A file for another runtime: where it is, and what was measured of it before it was kept, or kept out."""

    runtime: str
    title: str
    path: str
    measured: ExportedFile


@dataclass(frozen=True)
class Version:
    """A version of the checkpoint; `judged` is how it answers beside the one before, None for the first."""

    number: int
    name: str
    weights: str
    date: str
    corpus: str
    imported_from: str
    replayed: int
    replayed_corpora: tuple[str, ...]
    judged: Mapping[str, Any] | None


@dataclass(frozen=True)
class Versions:
    """Every version, the newest first, and what its test was cleared of.

    `shared` are the overlaps that were found between corpora, None where they were not looked for; `seen` test images
    were left out; `absent` are corpora of earlier versions that were not there to be searched.
    """

    all: tuple[Version, ...]
    start: str
    share: float
    shared: tuple[str, ...] | None
    seen: int
    absent: tuple[str, ...]


def card_values(evidence: Evidence, *, repo_id: str, license: str, handler: bool) -> dict[str, Any]:
    """Everything that the card's templates may name."""
    metrics, protocols = evidence.metrics, _protocols(evidence)
    own = next(one for one in protocols if one.name == metrics.protocol)
    return {
        "research_use": RESEARCH_USE,
        "repo_id": repo_id,
        "license": license,
        "handler": handler,
        "network": _network(evidence),
        "corpus": _corpus(evidence),
        "training": evidence.provenance,
        "search": evidence.side.provenance.search,
        "soup": evidence.side.provenance.soup,
        **_without_labels(evidence),
        "window": evidence.side.input.window,
        "protocols": protocols,
        "headline": protocols[0],
        "headline_by": metrics.headline.by if metrics.headline else "slice",
        "pools": {name: pool.title for name, pool in POOLS.items()},
        "own_protocol": own,
        "paths": tuple(route for route in _paths(metrics) if route.name != WITHHELD),
        "columns": _columns(evidence),
        "externals": tuple(_external(name, block) for name, block in metrics.external.items()),
        "questions": _questions(evidence),
        "intervals": _intervals(protocols[0], metrics.intervals),
        "audit": _audit(evidence),
        "sets": metrics.conformal and metrics.conformal.rule,
        "coverages": _coverages(evidence, protocols),
        **_operating(metrics),
        **{name: getattr(metrics, name) for name in ("abstention", "calibration", "gate", "robustness", "figures")},
        "heat_maps": _heat_maps(metrics),
        "mistakes": _mistakes(evidence),
        "worst_subgroup": describe_subgroups(metrics.subgroups, bool(metrics.by_patient)).get(evidence.headline, ""),
        "versions": _versions(evidence.provenance),
        **_exports(evidence),
    }


def _without_labels(evidence: Evidence) -> dict[str, Any]:
    """What was learnt from without labels, and the names of its corpora."""
    found = evidence.side.provenance.unlabelled
    return {
        "unlabelled": found,
        "unlabelled_corpora": tuple(corpus_name(one) for one in found.corpora) if found else (),
    }


def _network(evidence: Evidence) -> Network:
    config, steps = evidence.config, evidence.side.input
    begun = str(evidence.provenance.get("initial_weights", ""))
    return Network(
        config["architecture"],
        config["pretrained_cfg"]["input_size"][-1],
        tuple(config["label_names"]),
        "" if begun in ("random", "none") else begun,
        evidence.metrics.weights_sha256 or "",
        steps.body_crop,
        steps.filters,
        modality_of(evidence),
        config.get("head", HEADS[0]),
        config.get("attention", ATTENTIONS[0]),
        tuple(column["name"] for column in (config.get("tabular") or {}).get("columns", ())),
    )


def _columns(evidence: Evidence) -> Columns | None:
    """What the network takes beside the image; None where it sees the image alone."""
    stated, metrics = evidence.config.get("tabular"), evidence.metrics
    if stated is None:
        return None
    columns = Tabular(TabularRule.of(stated))
    counted = evidence.side.provenance.corpus.get("tabular", {})
    worth = metrics.columns.get(metrics.protocol)
    return Columns(
        tuple(columns.describe()),
        dump_json(columns.example()),
        counted.get("missing", {}),
        counted.get("images", {}),
        metrics.paths["predictor"],
        metrics.paths.get(WITHHELD),
        worth,
        _rule((worth and worth.rule) or ""),
    )


def modality_of(evidence: Evidence) -> str:
    """What the images are, one of MODALITIES: CT where the checkpoint does not say."""
    return evidence.side.input.modality or CT


def corpus_name(corpus: Mapping[str, Any]) -> str:
    """What to call a corpus: a Hub id whole, of a folder or file the last part: paths are nobody's business."""
    source = str(corpus.get("source", "an unnamed corpus"))
    if is_public(corpus):
        return source
    return re.split(r"[/\\]", source.rstrip("/\\"))[-1]


def _corpus(evidence: Evidence) -> Corpus:
    corpus, split = evidence.side.provenance.corpus, evidence.side.provenance.split
    grouped = evidence.metrics.protocols.get("grouped")
    known = corpus.get("groups", {}).get("origin") or (grouped and grouped.groups_origin) or ""
    return Corpus(
        corpus_name(corpus),
        str(corpus.get("kind", "")),
        tuple(str(note).rstrip(".") for note in corpus.get("notes", ())),
        evidence.metrics.split_sizes,
        str(known),
        bool(known) and not str(known).startswith(PSEUDO_PATIENTS),
        split.get("crossing_groups", 0),
    )


def _protocols(evidence: Evidence) -> tuple[Protocol, ...]:
    """The headline's first, and then in their order."""
    blocks = evidence.metrics.all_protocols
    order = sorted(blocks, key=lambda name: name != evidence.headline)
    return tuple(_protocol(evidence, name, blocks[name]) for name in order)


def _protocol(evidence: Evidence, name: str, block: ProtocolMetrics) -> Protocol:
    return Protocol(
        name,
        block.paths["predictor"],
        block.split_hash or "",
        block.removed or 0,
        len(block.folds),
        block.groups_origin or "those of the corpus",
        _rules(evidence.metrics.baselines.get(name)),
        evidence.metrics.by_patient.get(name),
        evidence.metrics.by_series.get(name),
    )


def _rules(block: Baselines | None) -> Rules | None:
    if block is None:
        return None
    return Rules(
        _rule(block.best),
        {_rule(name): found for name, found in block.figures.items()},
        block.difference,
        block.beats_best,
        {_rule(name): why.rstrip(".") for name, why in block.skipped.items()},
    )


def _rule(name: str) -> str:
    return BASELINE_TITLES.get(name, name)


def _paths(metrics: Metrics) -> tuple[Route, ...]:
    found = []
    for name, block in metrics.paths.items():
        reasons = [refusal.reason.removeprefix(f"{refusal.source}: ") for refusal in block.refused]
        commonest = sorted(set(reasons), key=lambda reason: (-reasons.count(reason), reason))[:3]
        found.append(Route(name, block, len(reasons), tuple(reason.rstrip(".") for reason in commonest)))
    return tuple(found)


def _external(name: str, block: ExternalMetrics) -> External:
    corpus = block.corpus.to_json()
    return External(
        name,
        corpus_name(corpus),
        is_generated(corpus),
        block.images,
        tuple(block.alternatives),
        all(len(members) == 1 for members in block.alternatives.values()),
        block.paths["predictor"],
        block.paths.get("stock_pipeline"),
        block.own,
        None if block.gate is None else block.gate.refused,
        block.passed,
        block.by_patient,
        not str(block.groups_origin).startswith(PSEUDO_PATIENTS),
        block.overlap is not None,
        (block.overlap or {}).get("counted_alike", 0),
        tuple(left_out(block.overlap, block.classes)),
        () if block.drift is None else block.drift.sentences,
        block.window,
    )


def _questions(evidence: Evidence) -> tuple[Question, ...]:
    block = evidence.metrics.questions.get(evidence.headline)
    if block is None:
        return ()
    groups = partition_classes(evidence.metrics.class_groups, evidence.metrics.label_names)
    within = [Question(name, tuple(groups[name]), found) for name, found in block.within.items()]
    return (Question("", tuple(groups), block.groups), *within)


def _intervals(headline: Protocol, stated: Intervals) -> IntervalMethods:
    block = headline.predictor
    shown = [block.accuracy, block.balanced_accuracy, block.macro_f1, block.macro_auroc, block.log_loss]
    shown += [metric for own in block.per_class.values() for _, metric in own]
    methods = {metric.method for metric in shown}
    return IntervalMethods(
        stated.confidence,
        stated.resamples,
        "wilson_by_group" in methods,
        "bootstrap_by_group" in methods,
        tuple(sorted({metric.reason for metric in shown if metric.reason})),
    )


def _audit(evidence: Evidence) -> Audit | None:
    if evidence.audit is None:
        return None
    order = {severity: place for place, severity in enumerate(_SEVERITIES)}
    found = sorted(evidence.audit.get("findings", []), key=lambda one: order.get(one["severity"], len(order)))
    counts = {level: sum(one["severity"] == level for one in found) for level in _SEVERITIES}
    shown = min(sum(one["severity"] != "note" for one in found), _SHOWN_FINDINGS)
    return Audit(bool(evidence.audit.get("leaks")), counts, tuple(found[:shown]), tuple(found[shown:]))


def _coverages(evidence: Evidence, protocols: Sequence[Protocol]) -> tuple[Coverage, ...]:
    """In the order of the evaluation, where sets are promised at all."""
    block, named = evidence.metrics.conformal, {one.name: one for one in protocols}
    if block is None or block.rule.threshold is None:
        return ()
    found = block.coverages
    return tuple(_coverage(named[name], found[name]) for name in evidence.metrics.all_protocols if name in found)


def _coverage(protocol: Protocol, found: CoverageMetrics) -> Coverage:
    below = found.coverage.high is not None and found.coverage.high < found.nominal
    return Coverage(protocol, found, found.within_expected is False or below)


def _operating(metrics: Metrics) -> dict[str, Any]:
    """The points of the class groups, or of the first classes where there are no groups, and how many more there are.

    Not the points' thresholds alone: each with its measured sensitivity and specificity.
    """
    points = metrics.operating_points
    shown = tuple(point for point in points if point.kind == "group") or points[:_SHOWN_POINTS]
    return {"operating_points": shown, "more_points": len(points) - len(shown)}


def _heat_maps(metrics: Metrics) -> HeatMaps | None:
    block = metrics.explanations
    if block is None:
        return None
    compared = {f"agreement_{name}": METHODS[name].title for name in COMPARED if name != block.method}
    return HeatMaps(METHODS[block.method].title, block, compared)


def _mistakes(evidence: Evidence) -> Mistakes:
    rows = evidence.answers[evidence.headline]
    table = rows[(rows["path"] == "predictor") & rows["refused"].isna()].reset_index(drop=True)
    names = evidence.metrics.label_names
    found = [_class_mistakes(table, label, names) for label in names]
    wrong = [one for one in found if one is not None]
    return Mistakes(len(table), sum(one.wrong for one in wrong), tuple(wrong))


def _class_mistakes(table: Any, label: str, names: Sequence[str]) -> ClassMistakes | None:
    own = table[table["label"] == label]
    wrong = own[own["predicted"] != label]
    if wrong.empty:
        return None
    common = wrong["predicted"].value_counts()
    first = min(common[common == common.max()].index)
    sure = wrong.loc[wrong[[f"p {name}" for name in names]].max(axis=1).idxmax()]
    answer = str(sure["predicted"])
    return ClassMistakes(label, len(wrong), len(own), first, int(common[first]), answer, float(sure[f"p {answer}"]))


def _exports(evidence: Evidence) -> dict[str, tuple[Exported, ...]]:
    record = evidence.exports
    return (
        {
            name: tuple(
                Exported(runtime, EXPORTED[runtime].title, EXPORTED[runtime].files[0], files[runtime])
                for runtime in EXPORTED
                if runtime in files
            )
            for name, files in (("exported", record.files), ("kept_out", record.kept_out))
        }
        if record
        else {"exported": (), "kept_out": ()}
    )


def _versions(provenance: Mapping[str, Any]) -> Versions | None:
    judged, replay = provenance.get("judged"), provenance.get("replay") or {}
    if judged is None:
        return None
    overlaps = judged.get("overlaps")
    entries = [*provenance.get("lineage", []), {**provenance, "name": "this one"}]
    return Versions(
        tuple(_version(entry) for entry in reversed(entries)),
        _short(provenance["went_on_from"]["name"]),
        replay.get("share", 0.0),
        None if overlaps is None else tuple(said for one in overlaps for said in sentences(one)),
        sum(one["left_out"]["seen"] for name, one in judged["protocols"].items() if name != WITHOUT_TWINS),
        _absent(provenance, replay.get("corpora", [])),
    )


def _version(entry: Mapping[str, Any]) -> Version:
    replay = entry.get("replay") or {}
    return Version(
        int(entry.get("version", 1)),
        _short(entry["name"]),
        str(entry.get("weights_sha256") or ""),
        str(entry.get("date", "")),
        _trained_on(entry),
        str(entry["imported"].get("from", "elsewhere")) if "imported" in entry else "",
        replay.get("images", 0),
        tuple(_file_name(one["corpus"].get("source")) for one in replay.get("corpora", [])),
        entry.get("judged"),
    )


def _trained_on(entry: Mapping[str, Any]) -> str:
    """The corpus of a version, and the site that its rules or batch norms were fitted to."""
    corpus, site = _file_name(entry.get("corpus", {}).get("source", "not stated")), entry.get("site")
    return f"{corpus}, {site['kind']} for {site['name']}" if site else corpus


def _short(name: object) -> str:
    """A Hub id with as much of its commit as tells it apart."""
    repository, sign, revision = str(name).partition("@")
    return repository + sign + revision[:12]


def _file_name(source: object) -> str:
    return Path(str(source)).name


def _absent(provenance: Mapping[str, Any], replayed: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The corpora of earlier versions that were not there to be searched; none where no old one was given at all."""
    given = {one.get("hash") for one in [*(one["corpus"] for one in replayed), provenance.get("corpus", {})]}
    past = [entry.get("corpus", {}) for entry in provenance.get("lineage", [])]
    missing = {_file_name(one["source"]) for one in past if one.get("hash") and one["hash"] not in given}
    return tuple(sorted(missing)) if replayed else ()
