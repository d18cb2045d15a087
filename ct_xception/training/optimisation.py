"""Optimizer, schedule and moving average, each from the library that keeps it."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ct_xception.errors import InputError
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.training.options import TrainConfig


def check_optimizer(name: str) -> None:
    """Raise `InputError` unless the optimizer is one of timm's that this loop can step, save and resume."""
    from timm.optim import list_optimizers

    if name.startswith(("kron", "adahessian")):
        raise InputError(f"--optimizer: {name} needs second-order steps, or cannot be resumed; choose adamw.")
    if name not in list_optimizers():
        known = ", ".join(["adamw", "adam", "rmsprop", "sgd"])
        raise InputError(f"--optimizer: {name!r} is not one of timm's; choose {known} or another of them.")


def make_optimizer(model: CTXceptionForImageClassification, config: TrainConfig) -> torch.optim.Optimizer:
    """timm's optimizer of that name over body and head, each with its own rate; biases and norms do not decay.

    Raises `InputError` for a name that timm does not know or that needs a package which is absent.
    """
    from timm.optim import create_optimizer_v2

    check_optimizer(config.optimizer)
    groups = [
        *_decay_groups(model.body_parameters(), config.learning_rate * config.body_rate, config.weight_decay),
        *_decay_groups(model.head_parameters(), config.learning_rate, config.weight_decay),
    ]
    try:
        return create_optimizer_v2(groups, opt=config.optimizer, lr=config.learning_rate, weight_decay=0.0)
    except (ImportError, AssertionError) as error:
        raise InputError(f"--optimizer: {config.optimizer} cannot be made here ({error}); choose adamw.") from error


def _decay_groups(parameters: list[torch.nn.Parameter], rate: float, decay: float) -> list[dict[str, Any]]:
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
    return [
        {"params": matrices, "lr": rate, "weight_decay": decay},
        {"params": vectors, "lr": rate, "weight_decay": 0.0},
    ]


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, updates: int) -> Any:
    """transformers' schedule over `updates` optimizer steps, of which the first `warmup_epochs` share is warm-up."""
    from transformers import get_scheduler

    warmup = min(round(updates * config.warmup_epochs / config.epochs), updates - 1)
    name = "constant_with_warmup" if config.schedule == "constant" else config.schedule
    return get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=updates)


def make_average(model: torch.nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and batch-norm statistics, its decay warmed up.

    The decay at update n is min(decay, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage, so that a
    short run does not keep its random beginning.
    """

    def average(averaged: Any, current: Any, count: Any) -> None:
        warmed = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(warmed)(averaged, current, count)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)
