"""The stage that writes figures, and the comparison with the version before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_xception.checkpoint import FOLDS, PREDICTIONS, SOURCES
from ct_xception.pipeline.answers import ask, predictor
from ct_xception.pipeline.context import Context

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.evaluation.answers import Answers
    from ct_xception.evaluation.explanations import Checked
    from ct_xception.evaluation.protocols import Protocols


def evaluate(context: Context) -> dict[str, Any]:
    """Answer the test split along both paths, each process its share; the main one writes the figures."""
    from ct_xception.evaluation.answers import PREDICTOR, STOCK_PIPELINE, stock_answers
    from ct_xception.evaluation.figures import Outputs
    from ct_xception.evaluation.measure import write_evaluation

    folder, run, test = context.folder, context.run, context.splits["test"]
    paths = {
        PREDICTOR: predictor(context, folder),
        STOCK_PIPELINE: stock_answers(folder, device=str(context.accelerator.device)),
    }
    titles = {path: f"test, {path.replace('_', ' ')}" for path in paths}
    answers = {path: ask(context, test, answer, titles[path]) for path, answer in paths.items()}
    explained = explain(context, test, answers[PREDICTOR])
    if not context.accelerator.is_main_process:
        return {}
    history = run / "history.jsonl"
    outputs = Outputs(history=history if history.is_file() else None, examples=run, names=run / SOURCES)
    protocols = _protocols(context)
    stated: dict[str, Any] = {"split": context.split, "corpus": context.corpus, "seed": context.config.seed}
    stated |= {"outputs": outputs, "protocols": protocols, "explained": explained}
    stated |= {"window": context.config.reading.window, "frame": context.config.frame}
    metrics = write_evaluation(folder, test, answers, **stated)
    _write_errors(context, answers[PREDICTOR], protocols)
    return metrics


def explain(context: Context, test: Dataset, answers: Answers) -> Checked:
    """What is found of test images' heat maps, on every process; each has looked at its share."""
    from accelerate.utils import gather_object

    from ct_xception.evaluation.explanations import Checked, check_heat_maps

    accelerator, config, reading = context.accelerator, context.config, context.config.reading
    options: dict[str, Any] = {"window": reading.window, "frame": reading.frame, "seed": config.seed}
    options |= {"share": (accelerator.process_index, accelerator.num_processes), "device": str(accelerator.device)}
    options["progress"] = accelerator.is_main_process
    found = check_heat_maps(context.folder, test, answers, config.explained, **options)
    return Checked.join(gather_object([found]))


def _protocols(context: Context) -> Protocols:
    """What is measured beside the own test split: what is asked for, and what an earlier call left behind."""
    from ct_xception.evaluation.frozen_features import frozen_features
    from ct_xception.evaluation.protocols import find_protocols
    from ct_xception.serving.checkpoint import open_checkpoint

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
    done = folds if (folds / PREDICTIONS).is_file() else None
    stated: dict[str, Any] = {"folds": done, "features": features, "skipped": skipped, "seed": config.seed}
    if context.overlaps is not None:
        stated["elsewhere"] = context.overlaps[0].mask(context.splits["test"]["source"])
    return find_protocols(audit, context.splits, **stated)


def _write_errors(context: Context, answers: Answers, protocols: Protocols) -> None:
    """The mistakes, one by one, with heat maps: a page for the run folder."""
    from ct_xception.evaluation.error_page import write_error_page

    if context.audit is None:
        return
    write_error_page(
        context.run,
        context.folder,
        context.splits,
        answers,
        survey=context.audit.survey,
        protocols=protocols,
        split=context.split,
        window=context.config.reading.window,
        frame=context.config.frame,
        device=str(context.accelerator.device),
    )


def compare_with_start(context: Context) -> None:
    """Ask the new network and that of --init about every test, old and new; nothing without --init.

    Raises `TrainingError` where a test may have got worse: the checkpoint is kept as model.refused then.
    """
    from accelerate.utils import broadcast_object_list

    from ct_xception.evaluation.protocols import twin_mask
    from ct_xception.publish.lineage import settle_version
    from ct_xception.serving.checkpoint import open_checkpoint
    from ct_xception.training.loop import TrainingError
    from ct_xception.training.replay import replay_record

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
        stated: dict[str, Any] = {"margin": context.config.margin, "seed": context.config.seed}
        stated |= {"has_twin": has_twin, "overlaps": context.overlaps}
        why = settle_version(context.folder, context.run, start, tests, answers, replay, **stated)
    if why := broadcast_object_list([why])[0]:
        raise TrainingError(why)
