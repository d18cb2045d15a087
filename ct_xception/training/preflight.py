"""What can be found wrong with a run, or done already, before the first slow act or right after the corpus is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ct_xception.checkpoint import EVALUATION, FOLD, FOLDS, METRICS, MODEL, OPTIONS, SPLIT
from ct_xception.checkpoint_files import read_side
from ct_xception.corpus.external_options import own_fields
from ct_xception.errors import CheckpointError
from ct_xception.files import read_record
from ct_xception.metrics import read_metrics
from ct_xception.model.configuration import make_config
from ct_xception.model.weights import find_weights
from ct_xception.training.loop import CHANGED_SPLIT, binding_options, check_same_options
from ct_xception.training.losses import make_loss
from ct_xception.training.optimisation import check_optimizer
from ct_xception.training.options import TrainConfig
from ct_xception.training.soup import check_soup, check_split
from ct_xception.training.start import check_classes


def check_before_reading(config: TrainConfig, run: Path) -> None:
    """What `check_options` looks at, and the options of the run that is to go on. Raises `InputError`."""
    check_options(config)
    if (run / OPTIONS).is_file():
        check_same_options(_record(run / OPTIONS), binding_options(config))


def check_options(config: TrainConfig) -> None:
    """Backbone, image sizes, optimizer, weights, and what is averaged. Raises `InputError`."""
    make_config(config.backbone, ["a", "b"], config.image_size)
    if config.small_size:
        make_config(config.backbone, ["a", "b"], config.small_size)
    check_optimizer(config.optimizer)
    find_weights(config.weights, config.backbone)
    check_soup(config.soup)


def is_complete(config: TrainConfig, run: Path) -> bool:
    """Whether the run folder holds all that is asked for: the fold, or the checkpoint with every protocol measured."""
    if config.only_fold is not None:
        return (run / FOLDS / str(config.only_fold) / FOLD).is_file()
    file = run / MODEL / EVALUATION / METRICS
    try:
        metrics = read_metrics(file)
    except (OSError, CheckpointError):  # what is not there, or of another version, is measured anew
        return False
    _check_whole(run / MODEL)
    measured = {"published", *metrics.protocols} | (set() if config.audit else {"deduplicated"})
    groups = {name: list(own) for name, own in metrics.class_groups.items()}
    rule = None if metrics.conformal is None else metrics.conformal.rule
    decided = rule is not None and rule.coverage == config.coverage and (config.class_group_lists or groups) == groups
    decided &= rule is not None and (rule.thresholds is not None) == (config.coverage_by == "class")
    explained = not config.explained or metrics.explanations is not None
    explained &= not config.robustness or metrics.robustness is not None
    validated = {*config.external} <= {*metrics.external} and _asked_alike(config, run)
    return decided and explained and validated and metrics.gate is not None and {*config.protocols} <= measured


def _asked_alike(config: TrainConfig, run: Path) -> bool:
    """Whether the external corpora were the same ones, read in the same way, when the run last asked them."""
    if not config.external or not (run / OPTIONS).is_file():
        return True
    before = _record(run / OPTIONS)
    return all(
        before["external"].get(name, source) == source
        and own_fields(name, before.get("external_options", {})) == own_fields(name, config.external_options)
        for name, source in config.external.items()
    )


def _check_whole(checkpoint: Path) -> None:
    """Raise `CheckpointError` where a finished checkpoint's side file was damaged since: it is not complete."""
    try:
        read_side(checkpoint)
    except CheckpointError as error:
        found = str(error).rpartition(";")[0]
        raise CheckpointError(f"{found}; remove {checkpoint}, and the same command measures it anew.") from error


def check_corpus(config: TrainConfig, run: Path, label_names: list[str], split: dict[str, Any]) -> None:
    """The loss and --init against the classes, and the split against that of the run that is to go on."""
    make_loss(config.loss, len(label_names))
    check_classes(config.init, label_names)
    check_split(config.soup, label_names, split["name"])
    if (run / SPLIT).is_file() and _record(run / SPLIT).get("name") != split["name"]:
        raise CheckpointError(CHANGED_SPLIT)


def _record(path: Path) -> dict[str, Any]:
    try:
        return read_record(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); choose another --output_dir.") from error
