"""The stage that writes figures, and the comparison with the version before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_xception.checkpoint import FOLDS, PREDICTIONS, SOURCES
from ct_xception.pipeline.answering import ask, predictor
from ct_xception.pipeline.context import River

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.evaluation.answers import Answers
    from ct_xception.evaluation.explanations import Checked
    from ct_xception.evaluation.protocols import Protocols


def evaluate(river: River) -> dict[str, Any]:
    """Answer the test split along both paths, each process its share; the main one writes the figures."""
    from ct_xception.evaluation.answers import PREDICTOR, STOCK_PIPELINE, stock_answers
    from ct_xception.evaluation.figures import Outputs
    from ct_xception.evaluation.measure import write_evaluation

    folder, run, test = river.folder, river.run, river.splits["test"]
    paths = {
        PREDICTOR: predictor(river, folder),
        STOCK_PIPELINE: stock_answers(folder, device=str(river.accelerator.device)),
    }
    titles = {path: f"test, {path.replace('_', ' ')}" for path in paths}
    answers = {path: ask(river, test, answer, titles[path]) for path, answer in paths.items()}
    explained = explain(river, test, answers[PREDICTOR])
    if not river.accelerator.is_main_process:
        return {}
    history = run / "history.jsonl"
    outputs = Outputs(history=history if history.is_file() else None, examples=run, names=run / SOURCES)
    protocols = _protocols(river)
    stated: dict[str, Any] = {"split": river.split, "corpus": river.corpus, "seed": river.config.seed}
    stated |= {"outputs": outputs, "protocols": protocols, "explained": explained}
    stated |= {"window": river.config.reading.window, "frame": river.config.frame}
    metrics = write_evaluation(folder, test, answers, **stated)
    _write_errors(river, answers[PREDICTOR], protocols)
    return metrics


def explain(river: River, test: Dataset, answers: Answers) -> Checked:
    """What is found of test images' heat maps, on every process; each has looked at its share."""
    from accelerate.utils import gather_object

    from ct_xception.evaluation.explanations import Checked, check_heat_maps

    accelerator, config, reading = river.accelerator, river.config, river.config.reading
    options: dict[str, Any] = {"window": reading.window, "frame": reading.frame, "seed": config.seed}
    options |= {"share": (accelerator.process_index, accelerator.num_processes), "device": str(accelerator.device)}
    options["progress"] = accelerator.is_main_process
    found = check_heat_maps(river.folder, test, answers, config.explained, **options)
    return Checked.join(gather_object([found]))


def _protocols(river: River) -> Protocols:
    """What is measured beside the own test split: what is asked for, and what an earlier call left behind."""
    from ct_xception.evaluation.frozen_features import frozen_features
    from ct_xception.evaluation.protocols import find_protocols
    from ct_xception.serving.checkpoint import open_checkpoint

    config, audit, folds = river.config, river.audit, river.run / FOLDS
    features, skipped = None, dict[str, str]()
    if audit is not None:
        features, skipped = frozen_features(
            river.splits,
            audit.survey,
            weights=config.weights,
            backbone=config.backbone,
            image_size=config.image_size,
            contract=open_checkpoint(river.folder).contract,
            cache=river.run / "cache",
            frame=config.frame,
            batch_size=config.batch_size,
            device=str(river.accelerator.device),
        )
    done = folds if (folds / PREDICTIONS).is_file() else None
    stated: dict[str, Any] = {"folds": done, "features": features, "skipped": skipped, "seed": config.seed}
    if river.overlaps is not None:
        stated["elsewhere"] = river.overlaps[0].mask(river.splits["test"]["source"])
    return find_protocols(audit, river.splits, **stated)


def _write_errors(river: River, answers: Answers, protocols: Protocols) -> None:
    """The mistakes, one by one, with heat maps: a page for the run folder."""
    from ct_xception.evaluation.error_page import write_error_page

    if river.audit is None:
        return
    write_error_page(
        river.run,
        river.folder,
        river.splits,
        answers,
        survey=river.audit.survey,
        protocols=protocols,
        split=river.split,
        window=river.config.reading.window,
        frame=river.config.frame,
        device=str(river.accelerator.device),
    )


def compare_with_start(river: River) -> None:
    """Ask the new network and that of --init about every test, old and new; nothing without --init.

    Raises `TrainingError` where a test may have got worse: the checkpoint is kept as model.refused then.
    """
    from accelerate.utils import broadcast_object_list

    from ct_xception.evaluation.protocols import twin_mask
    from ct_xception.publish.lineage import settle_version
    from ct_xception.serving.checkpoint import open_checkpoint
    from ct_xception.training.loop import TrainingError
    from ct_xception.training.replay import replay_record

    if river.config.init is None:
        return
    start = open_checkpoint(river.config.init)
    asked = {"new": predictor(river, river.folder), "before": predictor(river, start.folder)}
    tests = river.corpora
    answers = [
        tuple(ask(river, one.splits["test"], answer, f"test {number}, {name}") for name, answer in asked.items())
        for number, one in enumerate(tests, start=1)
    ]
    why = None
    if river.accelerator.is_main_process:
        replay = replay_record(river.splits, river.old, river.config)
        has_twin = None if river.audit is None else twin_mask(river.audit, river.splits)
        stated: dict[str, Any] = {"margin": river.config.margin, "seed": river.config.seed}
        stated |= {"has_twin": has_twin, "overlaps": river.overlaps}
        why = settle_version(river.folder, river.run, start, tests, answers, replay, **stated)
    if why := broadcast_object_list([why])[0]:
        raise TrainingError(why)
