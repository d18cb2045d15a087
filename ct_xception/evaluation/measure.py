"""The evaluator: the only thing that writes figures. Everything it needs is the checkpoint, a split, and their hashes.

    evaluate(Evaluation(model_dir, splits, split=split, corpus=report))

leaves in `model_dir/evaluation/` metrics.json (format 2), predictions.parquet and figures; with `Protocols` also
predictions_grouped.parquet, baselines.parquet and audit.json; and explanations.json where heat maps were checked. The
headline is the protocol with the lowest accuracy of the predictor. Pictures of the corpus and names of files stay out
of the checkpoint unless they may be published.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.checkpoint import (
    AUDIT,
    BASELINES,
    CONFIG,
    EXPLANATIONS,
    METRICS,
    METRICS_FORMAT,
    PREDICTIONS,
    PREDICTIONS_GROUPED,
    ROBUSTNESS_ANSWERS,
    WEIGHTS,
)
from ct_xception.checkpoint_files import PoolingRule, Side, read_side
from ct_xception.corpus.external_options import as_written, prefix_of
from ct_xception.errors import CheckpointError, InputError
from ct_xception.evaluation.answers import (
    ALONE,
    PREDICTOR,
    STOCK_PIPELINE,
    WITHHELD,
    AnswerBatch,
    Answers,
    Items,
    Share,
    answer_share,
    predictor_answers,
    stock_answers,
)
from ct_xception.evaluation.baselines import baseline_figures, write_baselines
from ct_xception.evaluation.columns import column_figures
from ct_xception.evaluation.evaluation import Evaluation
from ct_xception.evaluation.explanations import Checked, Explanations, check_heat_maps, describe, explanation_figures
from ct_xception.evaluation.patients import (
    BY_PATIENT,
    describe_rule,
    knows_patients,
    unit_figures,
)
from ct_xception.evaluation.predictions import Names, write_predictions
from ct_xception.evaluation.protocols import DEDUPLICATED, GROUPED, TITLES, Part, Protocols
from ct_xception.evaluation.report.error_page import write_error_page
from ct_xception.evaluation.report.figures import draw_evaluation, is_phantom
from ct_xception.evaluation.report.item_traits import Known, know_items
from ct_xception.evaluation.report.subgroups import subgroup_metrics
from ct_xception.evaluation.rules import rule_figures
from ct_xception.evaluation.shift.robustness import Tried, robustness_figures, try_changes, write_tried
from ct_xception.evaluation.shift.validation import (
    Validation,
    private_names,
    validation_figures,
    write_external_answers,
)
from ct_xception.files import sha256_file, write_json
from ct_xception.metrics import (
    Baselines,
    ClassificationMetrics,
    ExternalMetrics,
    FoldRecord,
    Headline,
    Intervals,
    Measured,
    MeasuredCorpus,
    Metrics,
    PathMetrics,
    ProtocolMetrics,
    Refusal,
    UnitMetrics,
)
from ct_xception.serving.classifier import Classifier
from ct_xception.statistics.intervals import CONFIDENCE, RESAMPLES
from ct_xception.statistics.metrics import classification_metrics

if TYPE_CHECKING:
    from ct_xception.evaluation.shift.external import External


def evaluate(evaluation: Evaluation, share: Share = ALONE) -> Metrics | None:
    """Answer the split by the predictor and by stock `pipeline()`, check heat maps, write it all; the metrics.

    Each process answers its share; the main one writes, the others return None.
    """
    check_split(evaluation)
    classifier = Classifier.from_pretrained(
        evaluation.checkpoint, device=evaluation.device, modality=evaluation.modality
    )
    answerers = {PREDICTOR: predictor_answers(classifier, window=evaluation.window, frame=evaluation.frame)}
    if evaluation.stock:
        answerers[STOCK_PIPELINE] = stock_answers(evaluation.checkpoint, device=evaluation.device)
    asked = dict(answerers)
    if classifier.columns is not None:
        reading: dict[str, Any] = {"window": evaluation.window, "frame": evaluation.frame}
        asked[WITHHELD] = predictor_answers(classifier, withheld=True, **reading)
    answers = {}
    for path, answer in asked.items():
        title = f"{evaluation.split_name}, {path.replace('_', ' ')}" if evaluation.progress else None
        size = evaluation.batch_size
        answers[path] = answer_share(evaluation.dataset, answer, share, batch_size=size, progress=title)
    checked = check_heat_maps(evaluation, classifier, answers[PREDICTOR], share)
    asking: dict[str, Any] = {"batch_size": evaluation.batch_size, "progress": evaluation.progress}
    elsewhere = ask_elsewhere(evaluation.externals, classifier, answerers.get(STOCK_PIPELINE), share, **asking)
    tried = try_changes(evaluation, classifier, answers[PREDICTOR], share)
    if not share.is_main:
        return None
    paged = evaluation.outputs.errors is not None
    known = know_items(evaluation) if paged or evaluation.survey is not None else None
    metrics = write_evaluation(evaluation, answers, checked, elsewhere, tried, known)
    if paged and known is not None:
        write_error_page(evaluation, classifier, answers[PREDICTOR], known, metrics.subgroups)
    return metrics


def ask_elsewhere(
    externals: Sequence[External],
    classifier: Classifier,
    stock: AnswerBatch | None,
    share: Share = ALONE,
    *,
    batch_size: int = 16,
    progress: bool = True,
) -> dict[str, Validation]:
    """What each path answers to the external corpora, by their names; each process asks its share.

    Our predictor reads each in its own window; `stock` is transformers' own pipeline, None where it is not asked. With
    `progress` a warning says in which window slices that the gate doubts may want to be read.
    """
    found = {}
    for one in externals:
        classifier.watch_set()
        answerers = {PREDICTOR: predictor_answers(classifier, window=one.window, frame=one.frame)}
        answerers |= {} if stock is None else {STOCK_PIPELINE: stock}
        part = one.ask(answerers, list(classifier.label_names), share, batch_size=batch_size, progress=progress)
        found[one.name] = Validation(part, one.question, Names(one.items.sources, anonymous=True), one.record)
        if progress and share.is_main and (hint := classifier.window_hint) is not None:
            hint = as_written(hint, prefix_of(one.name))
            print(f"warning: {one.name}: {hint}.", file=sys.stderr, flush=True)
    classifier.watch = None
    return found


def write_evaluation(
    evaluation: Evaluation,
    answers: Mapping[str, Answers],
    checked: Checked = Checked(),  # noqa: B008 (frozen)
    elsewhere: Mapping[str, Validation] | None = None,
    tried: Tried | None = None,
    known: Known | None = None,
) -> Metrics:
    """Write the evaluation from answers that are there already; return the metrics.

    `answers` {"predictor": …, "stock_pipeline": …} are in the dataset's order, and `checked` what `check_heat_maps`
    found. How the checkpoint decides is read from its ct_xception.json. `elsewhere` are answers on external corpora,
    `tried` those to changed slices; `known` parts the items into subgroups.
    metrics.json is written last: what it names is there.
    """
    label_names, folder, protocols = check_split(evaluation), evaluation.folder, evaluation.protocols
    items = Items.of(evaluation.dataset)
    side = read_side(evaluation.checkpoint) or Side()
    head = _describe(evaluation, items, side)
    names = _names(items, evaluation.split, protocols, evaluation.corpus or {})
    own = Part(items, answers, protocols.baselines, traits=known.published(items.sources) if known else {})
    parts = _parts(head["protocol"], own, protocols, known)
    stated = describe(checked, items, label_names, names) if checked.evidence else None
    patients = knows_patients(evaluation.corpus)
    given = Given(
        parts, label_names, side, names, protocols.skipped, stated, evaluation.seed, patients, elsewhere or {}, tried
    )
    paths, blocks = measure(given)
    head |= {"paths": paths[head["protocol"]], **{name: getattr(blocks, name) for name in blocks.model_fields_set}}
    if len(parts) > 1:
        head["protocols"] = {name: _protocol(name, parts, paths[name], protocols) for name in list(parts)[1:]}
    if protocols.audit is not None:
        head["audit"] = AUDIT
    _write_answers(folder, parts, protocols, label_names, names)
    write_external_answers(folder, given.elsewhere)
    if tried is not None:
        write_tried(folder / ROBUSTNESS_ANSWERS, tried, label_names, names)
    if stated is not None:
        write_json(folder / EXPLANATIONS, stated.to_json())
    if protocols.audit is not None:
        write_json(folder / AUDIT, protocols.audit)
    if evaluation.outputs.names is not None and names.anonymous:
        write_json(evaluation.outputs.names, names.private)
        for name, one in given.elsewhere.items():
            write_json(private_names(evaluation.outputs.names, name), one.names.private)
    metrics = Metrics(**head)
    drawn = draw_evaluation(evaluation, items, answers, metrics)
    metrics = metrics.model_copy(update={"figures": tuple(drawn)})
    write_json(folder / METRICS, metrics.to_json())
    return metrics


@dataclass(frozen=True, eq=False)
class Given:
    """What every figure is made from.

    `parts` are the answers by protocol, the own test split first. `side` is the checkpoint's ct_xception.json, whose
    rules are measured. `names` are those of published items. `skipped` {baseline: reason}; `explanations` is
    explanations.json, None where no heat map was checked. `patients_known` says that groups are patients. `elsewhere`
    are external corpora with their answers.
    """

    parts: Mapping[str, Part]
    label_names: Sequence[str]
    side: Side
    names: Names
    skipped: Mapping[str, str] = field(default_factory=dict)
    explanations: Explanations | None = None
    seed: int = 0
    patients_known: bool = False
    elsewhere: Mapping[str, Validation] = field(default_factory=dict)
    tried: Tried | None = None


def measure(given: Given) -> tuple[dict[str, dict[str, PathMetrics]], Measured]:
    """Every metric, from answers alone: for whoever writes them, and for whoever counts them again.

    Returns {protocol: {path: metrics}}, and the other blocks of metrics.json. Raises InputError where answers and items
    do not fit.
    """
    paths = {name: _measure_paths(part, given) for name, part in given.parts.items()}
    known, pooling = given.patients_known, given.side.pooling
    units = unit_figures(given.parts, pooling, given.label_names, patients_known=known, seed=given.seed)
    headline = _headline(paths, units.get(BY_PATIENT, {}))
    own = None if headline is None else given.parts[headline.protocol]
    found: dict[str, Any] = {"headline": headline, **units, "baselines": _baseline_blocks(given)}
    told = {name: column_figures(part, given.seed) for name, part in given.parts.items() if WITHHELD in part.paths}
    found["columns"] = {name: block for name, block in told.items() if block is not None}
    parted = {name: subgroup_metrics(part, seed=given.seed) for name, part in given.parts.items()}
    found["subgroups"] = {name: block for name, block in parted.items() if block is not None}
    found["external"] = measure_elsewhere(given, own)
    if given.explanations is not None:
        found["explanations"] = explanation_figures(given.explanations, seed=given.seed)
    if given.tried is not None:
        found["robustness"] = robustness_figures(given.tried, given.label_names, given.side.conformal, given.seed)
    blocks = rule_figures(given.side, given.parts, given.label_names, given.seed)
    return paths, blocks.model_copy(update={name: block for name, block in found.items() if block})


def measure_elsewhere(given: Given, own: Part | None) -> dict[str, ExternalMetrics]:
    """The figures of each external corpus, by its name; `own` are the answers at home that they stand beside."""
    found = {}
    for name, one in given.elsewhere.items():
        asked = replace(given, label_names=list(one.question.alternatives), names=one.names)
        paths = _measure_paths(one.part, asked)
        found[name] = validation_figures(one, paths, own, given.label_names, given.side, given.seed)
    return found


def _names(items: Items, split: Mapping[str, Any] | None, protocols: Protocols, corpus: Mapping[str, Any]) -> Names:
    """Numbers by the order of the whole corpus where it is known, so that every evaluation of it gives the same."""
    sources = [source for part in (split or {}).get("sources", {}).values() for source in part]
    grouped = protocols.out_of_fold.part.items.sources if protocols.out_of_fold else []
    return Names([*sources, *items.sources, *grouped], anonymous=not is_phantom(corpus))


def _parts(protocol: str, own: Part, protocols: Protocols, known: Known | None) -> dict[str, Part]:
    """What is measured, by protocol, the own test split first."""
    parts = {protocol: own}
    if protocols.has_twin is not None and protocols.deduplicated is not None:
        parts[DEDUPLICATED] = own.select(~protocols.has_twin)
    if protocols.out_of_fold is not None:
        part = protocols.out_of_fold.part
        parts[GROUPED] = replace(part, traits=known.published(part.items.sources, own=False) if known else {})
    return parts


def _protocol(
    name: str, parts: Mapping[str, Part], paths: dict[str, PathMetrics], protocols: Protocols
) -> ProtocolMetrics:
    """A protocol beside the own test split: what its metrics are of, and each path's."""
    items = parts[name].items
    told: dict[str, Any] = {"title": TITLES[name], "n": len(items.sources), "n_groups": len(set(items.groups))}
    if name == DEDUPLICATED:
        assert protocols.deduplicated is not None
        told |= {key: protocols.deduplicated[key] for key in ("split_hash", "removed")}
    else:
        assert protocols.out_of_fold is not None
        record = protocols.out_of_fold.record
        told["folds"] = tuple(_fold(fold) for fold in record["folds"])
        told |= {"split_hash": record["name"], "groups_origin": record.get("groups_origin")}
    return ProtocolMetrics(**told, paths=paths)


def _fold(record: Mapping[str, Any]) -> FoldRecord:
    kept = {key: record[key] for key in ("split_hash", "weights_sha256", "n")}
    if record.get("pooling"):
        kept["pooling"] = describe_rule(PoolingRule.of(record["pooling"]))
    return FoldRecord(**kept)


def _headline(paths: Mapping[str, Mapping[str, PathMetrics]], by_patient: Mapping[str, UnitMetrics]) -> Headline | None:
    """The protocol under which the predictor is least accurate; None where it read no file.

    Counted by patient where patients have an answer under every such protocol, and some of them several slices.
    """
    asked = {name: block[PREDICTOR] for name, block in paths.items() if block[PREDICTOR].n}
    if not asked:
        return None
    patients = {name: by_patient[name] for name in asked if name in by_patient and by_patient[name].n}
    pooled = len(patients) == len(asked) and any(found.several for found in patients.values())
    blocks: Mapping[str, ClassificationMetrics] = patients if pooled else asked
    lowest = min(blocks, key=lambda name: blocks[name].accuracy.value or 0)
    return Headline(protocol=lowest, path=PREDICTOR, by="patient" if pooled else "slice")


def _baseline_blocks(given: Given) -> dict[str, Baselines]:
    """The simple rules of every protocol beside the predictor."""
    return {
        name: baseline_figures(
            part.baselines,
            part.items.labels,
            given.label_names,
            part.paths[PREDICTOR].probabilities,
            groups=part.items.groups,
            seed=given.seed,
            skipped=given.skipped,
        )
        for name, part in given.parts.items()
        if part.baselines and part.paths[PREDICTOR].answered.any()
    }


def _write_answers(
    folder: Path, parts: Mapping[str, Part], protocols: Protocols, label_names: Sequence[str], names: Names
) -> None:
    """The parquet files; those of an older evaluation that this one has not are removed."""
    own, grouped = next(iter(parts.values())), protocols.out_of_fold
    twins = {} if protocols.has_twin is None else {"has_twin": protocols.has_twin}
    for name in (PREDICTIONS_GROUPED, BASELINES, AUDIT, EXPLANATIONS, ROBUSTNESS_ANSWERS):
        (folder / name).unlink(missing_ok=True)
    write_predictions(folder / PREDICTIONS, own, label_names, names, **twins)
    if grouped is not None:
        write_predictions(folder / PREDICTIONS_GROUPED, parts[GROUPED], label_names, names, fold=grouped.fold)
    blocks = {
        name: {
            "sources": [names[source] for source in part.items.sources],
            "groups": part.items.groups,
            "labels": part.items.labels,
            "answers": part.baselines,
        }
        for name, part in parts.items()
        if part.baselines and len(part.items.sources)
    }
    if blocks:
        write_baselines(folder / BASELINES, blocks, label_names)


def check_split(evaluation: Evaluation) -> list[str]:
    """The class names, where checkpoint and corpus agree on them and the items are those that `split` names."""
    names, found = _class_names(evaluation.checkpoint), evaluation.label_names
    if names != found:
        raise InputError(
            f"The checkpoint's classes ({', '.join(names)}) are not the corpus's ({', '.join(found)}); "
            "evaluate on a corpus with the same classes in the same order."
        )
    if len(evaluation.dataset) == 0:
        raise InputError(f"The {evaluation.split_name} split is empty: there is nothing to evaluate on.")
    stated = (evaluation.split or {}).get("sources", {}).get(evaluation.split_name)
    if stated is not None and set(stated) != set(evaluation.dataset.select_columns(["source"])[:]["source"]):
        raise InputError(
            f"These are not the items of the {evaluation.split_name} split that the figures would be labelled with; "
            "give the dataset and the split that were made together."
        )
    return names


def _class_names(checkpoint: Path) -> list[str]:
    try:
        config = json.loads((checkpoint / CONFIG).read_text(encoding="utf-8"))
        return list(config["label_names"])
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{checkpoint}: {CONFIG} with label_names cannot be read ({error}); give a checkpoint folder."
        ) from error


def _describe(evaluation: Evaluation, items: Items, side: Side) -> dict[str, Any]:
    """What the metrics are of: the head of metrics.json."""
    checkpoint, weights = evaluation.checkpoint, evaluation.checkpoint / WEIGHTS
    if not weights.is_file():
        raise CheckpointError(f"{checkpoint}: {WEIGHTS} is missing; give a checkpoint folder.")
    split, corpus = evaluation.split or {}, evaluation.corpus or {}
    return {
        "format": METRICS_FORMAT,
        "protocol": split.get("protocol", "unstated"),
        "split": evaluation.split_name,
        "split_hash": split.get("name"),
        "weights_sha256": sha256_file(weights),
        "corpus": MeasuredCorpus(**{key: corpus[key] for key in ("source", "kind", "hash") if key in corpus}),
        "split_sizes": {name: len(sources) for name, sources in split.get("sources", {}).items()},
        "best_epoch": side.provenance.best_epoch,
        "n": len(items.sources),
        "n_groups": len(set(items.groups)),
        "label_names": tuple(evaluation.label_names),
        "intervals": Intervals(confidence=CONFIDENCE, resamples=RESAMPLES, seed=evaluation.seed),
    }


def _measure_paths(part: Part, given: Given) -> dict[str, PathMetrics]:
    return {path: _measure(part.items, found, given) for path, found in part.paths.items()}


def _measure(items: Items, answers: Answers, given: Given) -> PathMetrics:
    """One path's figures over the items it answered, and the list of those it refused."""
    if answers.probabilities.shape != (len(items.sources), len(given.label_names)):
        raise InputError(
            f"Expected answers ({len(items.sources)}, {len(given.label_names)}), got {answers.probabilities.shape}; "
            "shards must be joined in the split's order, without padding."
        )
    kept = answers.answered
    refused = [source for source, keep in zip(items.sources, kept, strict=True) if not keep]
    silent = [source for source in refused if source not in answers.refused]
    listed = tuple(Refusal(source=source, reason=why) for source, why in given.names.refused(answers).items())
    if silent:
        raise InputError(f"{len(silent)} items have neither probabilities nor a reason, for example {silent[0]}.")
    if not kept.any():
        return PathMetrics(n=0, refused=listed)
    own = items.select(kept)
    probabilities, labels = answers.probabilities[kept], given.label_names
    figures = classification_metrics(probabilities, own.labels, labels, own.groups, seed=given.seed)
    return PathMetrics(**{name: getattr(figures, name) for name in figures.model_fields_set}, refused=listed)
