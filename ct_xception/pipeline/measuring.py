"""The stage that writes figures, and the comparison with the version before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accelerate.utils import broadcast_object_list

from ct_xception.checkpoint import FOLDS, PREDICTIONS, SOURCES
from ct_xception.evaluation.evaluation import Evaluation, Outputs
from ct_xception.evaluation.frozen_features import frozen_features
from ct_xception.evaluation.protocols import Protocols, find_protocols, twin_mask
from ct_xception.pipeline.answers import ask, predictor
from ct_xception.pipeline.context import Context
from ct_xception.publish.lineage import settle_version
from ct_xception.serving.checkpoint import open_checkpoint
from ct_xception.training.data.replay import replay_record
from ct_xception.training.loop import TrainingError

if TYPE_CHECKING:
    from ct_xception.metrics import Metrics


def measure_test(context: Context) -> Metrics | None:
    """Evaluate the test split, each process its share; the main one writes the figures, and the page of mistakes."""
    from ct_xception.evaluation.measure import evaluate

    config, run, history = context.config, context.run, context.run / "history.jsonl"
    is_main, audit = context.accelerator.is_main_process, context.audit
    outputs = Outputs(
        history=history if history.is_file() else None,
        examples=run,
        errors=None if audit is None else run,
        names=run / SOURCES,
    )
    evaluation = Evaluation(
        context.folder,
        context.splits,
        split=context.split,
        corpus=context.corpus,
        window=config.reading.window,
        frame=config.frame,
        modality=config.modality,
        outputs=outputs,
        protocols=_protocols(context) if is_main else Protocols(),
        externals=context.externals,
        survey=None if audit is None else audit.survey,
        explained=config.explained,
        robustness=config.robustness,
        batch_size=config.batch_size,
        seed=config.seed,
        device=str(context.accelerator.device),
        progress=is_main,
    )
    return evaluate(evaluation, context.share)


def _protocols(context: Context) -> Protocols:
    """What is measured beside the own test split: what is asked for, and what an earlier call left behind."""
    config, audit, folds = context.config, context.audit, context.run / FOLDS
    features, skipped = None, dict[str, str]()
    if audit is not None:
        features, skipped = frozen_features(
            context.splits,
            audit.survey,
            weights=config.weights,
            backbone=config.backbone,
            image_size=config.image_size,
            contract=open_checkpoint(context.folder).contract,
            cache=context.run / "cache",
            frame=config.frame,
            batch_size=config.batch_size,
            device=str(context.accelerator.device),
        )
    overlaps = context.overlaps
    return find_protocols(
        audit,
        context.splits,
        folds=folds if (folds / PREDICTIONS).is_file() else None,
        features=features,
        skipped=skipped,
        seed=config.seed,
        elsewhere=None if overlaps is None else overlaps[0].mask(context.splits["test"]["source"]),
    )


def compare_with_start(context: Context) -> None:
    """Ask the new network and that of --init about every test, old and new; nothing without --init.

    Raises `TrainingError` where a test may have got worse: the checkpoint is kept as model.refused then.
    """
    if context.config.init is None:
        return
    start = open_checkpoint(context.config.init)
    asked = {"new": predictor(context, context.folder), "before": predictor(context, start.folder)}
    tests = context.corpora
    answers = [
        tuple(ask(context, one.splits["test"], answer, f"test {number}, {name}") for name, answer in asked.items())
        for number, one in enumerate(tests, start=1)
    ]
    why = None
    if context.accelerator.is_main_process:
        replay = replay_record(context.splits, context.old, context.config)
        has_twin = None if context.audit is None else twin_mask(context.audit, context.splits)
        why = settle_version(
            context.folder,
            context.run,
            start,
            tests,
            answers,
            replay,
            margin=context.config.margin,
            seed=context.config.seed,
            has_twin=has_twin,
            overlaps=context.overlaps,
        )
    if why := broadcast_object_list([why])[0]:
        raise TrainingError(why)
