"""The stages that make weights and rules: train, calibrate, fit the input gate, cross-validate."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from accelerate.utils import gather_object

from ct_xception.checkpoint import MODEL, SEARCH
from ct_xception.checkpoint_files import SearchRecord, need_side
from ct_xception.corpus.split import merge_patients
from ct_xception.evaluation import gate_fit
from ct_xception.evaluation.answers import Items
from ct_xception.evaluation.attention_fit import fit_attention, has_bags
from ct_xception.evaluation.gate_fit import Seen, sample, see_items
from ct_xception.evaluation.patients import knows_patients
from ct_xception.evaluation.rules import fit_rules, groups_cross
from ct_xception.evaluation.shift.drift_fit import fit_reference, write_reference
from ct_xception.pipeline.answers import ask, predictor
from ct_xception.pipeline.context import Context
from ct_xception.serving.classifier import Classifier
from ct_xception.training import crossval
from ct_xception.training.data.cache import CachedSlices, prepare_slices
from ct_xception.training.data.replay import mix_in, split_of
from ct_xception.training.data.unlabelled import held_out
from ct_xception.training.distributed import main_first
from ct_xception.training.loop import Training
from ct_xception.training.model_folder import calibrate_model_folder, reopen_model_folder, write_model_folder
from ct_xception.training.soup import make_soup

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from ct_xception.statistics.attention import GatedAttention
    from ct_xception.training.data.unlabelled import Chosen, Held
    from ct_xception.training.loop import Trained
    from ct_xception.training.options import TrainConfig


def make_checkpoint(context: Context) -> None:
    """Train, calibrate, fit the input gate; where the checkpoint is there, open it again to be measured anew."""
    config, run, folder, accelerator = context.config, context.run, context.folder, context.accelerator
    if (run / MODEL).exists():
        if accelerator.is_main_process:
            reopen_model_folder(run / MODEL, folder, corpus=context.corpus, split=context.split)
    else:
        trained, told = train(context)
        if accelerator.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
            write_model_folder(
                folder,
                config,
                context.label_names,
                trained,
                corpus=context.corpus,
                split=context.split,
                command=context.command,
                search=search_of(run),
                told=told,
            )
    accelerator.wait_for_everyone()
    calibrate(context, folder, context.splits)
    fit_gate(context, folder)


def search_of(run: Path) -> dict[str, Any] | None:
    """The search whose winner this run trains; None where it is a run of its own."""
    file = run / SEARCH
    if not file.is_file():
        return None
    return SearchRecord.from_json(file.read_bytes(), file.name).to_json()


def train(context: Context) -> tuple[Trained, dict[str, Any]]:
    """Decode once, then train; the weights to keep, and the records of what they come from beside the corpus."""
    if context.config.soup:
        return average(context)
    config, accelerator = context.config, context.accelerator
    held = [pair for number, one in enumerate(context.corpora) for pair in held_out(number, one.splits)]
    chosen, extra = choose_unlabelled(context, held)
    training = _training(context, config, extra)
    if config.trackers:
        accelerator.init_trackers("ct-xception", config={name: str(value) for name, value in config.mapping.items()})
    trained = training.fit()
    return trained, {} if chosen is None or extra is None else {"unlabelled": chosen.record(extra, trained, config)}


def average(context: Context) -> tuple[Trained, dict[str, Any]]:
    """The average of the checkpoints of --soup in place of training, and its record."""
    trained, record = make_soup(_training(context, replace(context.config, ema=0.0)), context.config.soup)
    return trained, {"soup": record.to_json()}


def _training(context: Context, config: TrainConfig, unlabelled: CachedSlices | None = None) -> Training:
    return Training(
        config,
        context.accelerator,
        context.run,
        label_names=context.label_names,
        split=split_of(context.split, context.old),
        train=_slices(context, "train"),
        validation=_slices(context, "validation"),
        unlabelled=unlabelled,
    )


def choose_unlabelled(context: Context, held: Held) -> tuple[Chosen | None, CachedSlices | None]:
    """What of --unlabelled shares nothing with the images held out, decoded, and told; nothing where none is given."""
    if context.unlabelled is None:
        return None, None
    with main_first(context.accelerator):
        chosen = context.unlabelled.apart_from(held)
        slices = chosen.prepare(context.run / "cache", context.config)
    context.accelerator.print(chosen.describe(slices))
    return chosen, slices


def _slices(context: Context, name: str) -> CachedSlices:

    cache, config = context.run / "cache", context.config
    with main_first(context.accelerator):
        own = prepare_slices(context.splits[name], cache, config.reading, description=f"reading {name}")
        return mix_in(own, context.old, name, cache, config)


def calibrate(context: Context, folder: Path, splits: DatasetDict) -> None:
    """Fold the temperature into the head, and settle how the checkpoint decides, by its answers to validation."""
    config = context.config
    side = need_side(folder)
    groups = {name: tuple(own) for name, own in config.class_group_lists.items()} or side.class_groups
    calibrated, rule = side.calibration is not None, side.conformal
    known = knows_patients(context.corpus)
    pooled = side.pooling is not None or not (known or "series" in splits["validation"].column_names)
    context.accelerator.wait_for_everyone()  # every process has read the side file before the main one changes it
    same = rule is not None and rule.coverage == config.coverage and side.class_groups == groups
    same &= rule is not None and (rule.thresholds is not None) == (config.coverage_by == "class")
    if calibrated and pooled and same:
        return
    attention = _learn_attention(context, folder, splits) if known else None
    answers = ask(context, splits["validation"], predictor(context, folder, attention), "validation")
    if context.accelerator.is_main_process:
        rules = fit_rules(
            Items.of(splits["validation"]),
            answers,
            context.label_names,
            coverage=config.coverage,
            by_class=config.coverage_by == "class",
            class_groups=groups,
            calibrated=calibrated,
            crossing=groups_cross(splits),
            patients_known=known,
            seed=config.seed,
        )
        calibrate_model_folder(folder, rules, attention)
    context.accelerator.wait_for_everyone()


def _learn_attention(context: Context, folder: Path, splits: DatasetDict) -> GatedAttention | None:
    """How much each slice of a patient counts, from training patients; None where they have too few slices each."""
    if not has_bags(splits["train"].select_columns("group")[:]["group"]):
        return None
    classifier = Classifier.from_pretrained(folder, device=str(context.accelerator.device), gate=False)
    return fit_attention(_see(context, classifier, splits["train"], "attention, train"), seed=context.config.seed)


def fit_gate(context: Context, folder: Path) -> None:
    """The input gate, from what the network makes of training and validation slices; a gate of these weights stays."""
    side = need_side(folder)
    context.accelerator.wait_for_everyone()  # as in `calibrate`
    if gate_fit.has_gate(side):
        return
    classifier = Classifier.from_pretrained(folder, device=str(context.accelerator.device), gate=False)
    names = ("train", "validation")
    train, validation = (_see(context, classifier, context.splits[name], f"input gate, {name}") for name in names)
    if context.accelerator.is_main_process:
        rule, arrays = gate_fit.fit_gate(
            train,
            validation,
            body_crop=context.config.reading.body_crop,
            modality=context.config.modality,
            weights_sha256=side.provenance.weights_sha256,
        )
        gate_fit.write_gate(folder, rule, arrays)
        if arrays:
            write_reference(folder, *fit_reference(train, validation, gate_fit.distance_of(rule, arrays)))
    context.accelerator.wait_for_everyone()


def _see(context: Context, classifier: Classifier, items: Dataset, title: str) -> Seen:
    """What the network makes of a split's slices, in their order, on every process; each has looked at its share."""
    accelerator, reading = context.accelerator, context.config.reading
    rows = sample(len(items), context.config.seed)
    share = np.array_split(rows, accelerator.num_processes)[accelerator.process_index]
    found = see_items(
        classifier,
        items.select(share),
        window=reading.window,
        frame=reading.frame,
        batch_size=context.config.batch_size,
        progress=title if accelerator.is_main_process else None,
    )
    return Seen.join(gather_object([found]))


def cross_validate(context: Context) -> None:
    """Train the folds that are missing, or --only_fold; every image is then answered by a network that saw no kin."""
    config = context.config
    splits, origin = merge_patients(context.splits, context.patients, context.corpus["groups"]["origin"])

    def finish(model: Path, fold: DatasetDict) -> Any:
        calibrate(context, model, fold)
        answers = ask(context, fold["test"], predictor(context, model), "held out")
        return answers.probabilities, answers.refused, answers.attention

    complete = crossval.cross_validate(
        config,
        context.accelerator,
        crossval.plan_folds(config, context.run, splits, origin),
        lambda: CachedSlices.join(_slices(context, name) for name in splits),
        lambda fold: choose_unlabelled(context, held_out(0, fold))[1],
        corpus=context.corpus,
        command=context.command,
        finish=finish,
    )
    if config.only_fold is not None:
        left = "all folds are done" if complete else "others are left"
        context.accelerator.print(f"fold {config.only_fold} is done; {left}. Run without --only_fold to measure them.")
