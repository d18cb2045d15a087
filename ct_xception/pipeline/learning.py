"""The stages that make weights and rules: train, calibrate, fit the input gate, cross-validate."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.checkpoint import MODEL
from ct_xception.checkpoint_files import need_side
from ct_xception.pipeline.answering import ask, predictor
from ct_xception.pipeline.context import River

if TYPE_CHECKING:
    from datasets import DatasetDict

    from ct_xception.evaluation.gate_fit import Seen
    from ct_xception.serving.classifier import Classifier
    from ct_xception.training.cache import CachedSlices
    from ct_xception.training.loop import Trained


def make_checkpoint(river: River) -> None:
    """Train, calibrate, fit the input gate; where the checkpoint is there, open it again to be measured anew."""
    from ct_xception.training.model_folder import reopen_model_folder, write_model_folder

    config, run, folder, accelerator = river.config, river.run, river.folder, river.accelerator
    records: dict[str, Any] = {"corpus": river.corpus, "split": river.split}
    if (run / MODEL).exists():
        if accelerator.is_main_process:
            reopen_model_folder(run / MODEL, folder, **records)
    else:
        trained = train(river)
        if accelerator.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
            write_model_folder(folder, config, river.label_names, trained, command=river.command, **records)
    accelerator.wait_for_everyone()
    calibrate(river, folder, river.splits)
    fit_gate(river, folder)


def train(river: River) -> Trained:
    """Decode once, then train; the weights to keep."""
    from ct_xception.training.loop import Training
    from ct_xception.training.replay import split_of

    config, accelerator = river.config, river.accelerator
    training = Training(
        config,
        accelerator,
        river.run,
        label_names=river.label_names,
        split=split_of(river.split, river.old),
        train=_slices(river, "train"),
        validation=_slices(river, "validation"),
    )
    if config.trackers:
        accelerator.init_trackers("ct-xception", config={name: str(value) for name, value in config.mapping.items()})
    return training.fit()


def _slices(river: River, name: str) -> CachedSlices:
    from ct_xception.training.cache import prepare_slices
    from ct_xception.training.distributed import main_first
    from ct_xception.training.replay import mix_in

    cache, config = river.run / "cache", river.config
    with main_first(river.accelerator):
        own = prepare_slices(river.splits[name], cache, config.reading, description=f"reading {name}")
        return mix_in(own, river.old, name, cache, config)


def calibrate(river: River, folder: Path, splits: DatasetDict) -> None:
    """Fold the temperature into the head, and settle how the checkpoint decides, by its answers to validation."""
    from ct_xception.evaluation.answers import Items
    from ct_xception.evaluation.rules import fit_rules, groups_cross
    from ct_xception.training.model_folder import calibrate_model_folder

    config = river.config
    side = need_side(folder).to_json()
    groups = config.class_group_lists or side.get("class_groups", {})
    calibrated = "calibration" in side
    river.accelerator.wait_for_everyone()  # every process has read the side file before the main one changes it
    if calibrated and side["conformal"]["coverage"] == config.coverage and side.get("class_groups", {}) == groups:
        return
    answers = ask(river, splits["validation"], predictor(river, folder), "validation")
    if river.accelerator.is_main_process:
        temperature, rules = fit_rules(
            Items.of(splits["validation"]),
            answers,
            river.label_names,
            coverage=config.coverage,
            class_groups=groups,
            calibrated=calibrated,
            crossing=groups_cross(splits),
        )
        calibrate_model_folder(folder, temperature, rules)
    river.accelerator.wait_for_everyone()


def fit_gate(river: River, folder: Path) -> None:
    """The input gate, from what the network makes of training and validation slices; a gate of these weights stays."""
    from ct_xception.evaluation import gate_fit
    from ct_xception.serving.classifier import Classifier

    side = need_side(folder).to_json()
    river.accelerator.wait_for_everyone()  # as in `calibrate`
    if gate_fit.has_gate(side):
        return
    classifier = Classifier.from_pretrained(folder, device=str(river.accelerator.device), gate=False)
    train, validation = (_see(river, classifier, name) for name in ("train", "validation"))
    if river.accelerator.is_main_process:
        weights = side["provenance"]["weights_sha256"]
        rule, arrays = gate_fit.fit_gate(train, validation, body_crop=river.config.body_crop, weights_sha256=weights)
        gate_fit.write_gate(folder, rule, arrays)
    river.accelerator.wait_for_everyone()


def _see(river: River, classifier: Classifier, name: str) -> Seen:
    """What the network makes of a split's slices, in their order, on every process; each has looked at its share."""
    import numpy as np
    from accelerate.utils import gather_object

    from ct_xception.evaluation.gate_fit import Seen, sample, see_items

    accelerator, reading, items = river.accelerator, river.config.reading, river.splits[name]
    rows = sample(len(items), river.config.seed)
    share = np.array_split(rows, accelerator.num_processes)[accelerator.process_index]
    found = see_items(
        classifier,
        items.select(share),
        window=reading.window,
        frame=reading.frame,
        batch_size=river.config.batch_size,
        progress=f"input gate, {name}" if accelerator.is_main_process else None,
    )
    return Seen.join(gather_object([found]))


def cross_validate(river: River) -> None:
    """Train the folds that are missing, or --only_fold; every image is then answered by a network that saw no kin."""
    from ct_xception.corpus.split import merge_patients
    from ct_xception.training import crossval
    from ct_xception.training.cache import CachedSlices

    config = river.config
    splits, origin = merge_patients(river.splits, river.patients, river.corpus["groups"]["origin"])

    def finish(model: Path, fold: DatasetDict) -> Any:
        calibrate(river, model, fold)
        answers = ask(river, fold["test"], predictor(river, model), "held out")
        return answers.probabilities, answers.refused

    complete = crossval.cross_validate(
        config,
        river.accelerator,
        crossval.plan_folds(config, river.run, splits, origin),
        lambda: CachedSlices.join(_slices(river, name) for name in splits),
        corpus=river.corpus,
        command=river.command,
        finish=finish,
    )
    if config.only_fold is not None:
        left = "all folds are done" if complete else "others are left"
        river.accelerator.print(f"fold {config.only_fold} is done; {left}. Run without --only_fold to measure them.")
