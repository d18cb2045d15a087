"""The state of a run on disk: whole or absent, in safetensors and JSON, never a pickle.

`checkpoints/epoch-0007/` holds all that the next epoch needs: `state.safetensors` (network, moving average, optimizer),
`best.safetensors` (the weights to keep so far) and `progress.json`. It is written aside and renamed, and only then is
the one before it removed, so there is a complete checkpoint at every moment after the first.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ct_xception.checkpoint import BEST, PROGRESS, STATE
from ct_xception.errors import CheckpointError, WorkError, printable
from ct_xception.files import read_record, write_json


@dataclass(frozen=True)
class Progress:
    """How far a run has come: epochs done, one record an epoch, the best epoch and its figure, what it must match."""

    config: dict[str, Any]
    split: str
    epoch: int = 0
    updates: int = 0
    best_epoch: int = 0
    best_figure: float | None = None
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    directory: Path,
    progress: Progress,
    modules: dict[str, torch.nn.Module],
    optimizer: torch.optim.Optimizer,
    scaler: dict[str, float],
    best: dict[str, torch.Tensor] | None,
) -> None:
    """Write the checkpoint of `progress.epoch` into `directory`, then remove the older ones.

    `best` are the weights to keep, if this epoch's are better; otherwise the previous checkpoint's are carried over.
    """
    aside = directory / ".saving"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    previous = latest_checkpoint(directory)
    tensors = _flatten(modules, optimizer)
    _check_room(directory, [*tensors.values(), *(best or {}).values()])
    save_file(tensors, aside / STATE, metadata={"format": "pt"})
    if best is not None:
        save_file(best, aside / BEST, metadata={"format": "pt"})
    elif previous is not None and (previous / BEST).exists():
        _link(previous / BEST, aside / BEST)
    groups = [_numbers(group) for group in optimizer.param_groups]
    extras = {"scaler": scaler, "groups": groups, "scalars": _scalars(optimizer)}
    write_json(aside / PROGRESS, dataclasses.asdict(progress) | extras)
    final = directory / f"epoch-{progress.epoch:04d}"
    aside.rename(final)
    for older in directory.iterdir():
        if older != final and older.is_dir():
            shutil.rmtree(older)


def _check_room(directory: Path, tensors: list[torch.Tensor]) -> None:
    """Raise `WorkError`, with the figures, where the disk has no room for these: the checkpoint before stays whole."""
    needed, free = sum(tensor.nbytes for tensor in tensors), shutil.disk_usage(directory).free
    if needed > free:
        raise WorkError(
            f"{printable(directory)}: the next checkpoint needs {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are "
            "free; make room, and go on with --resume auto."
        )


def latest_checkpoint(directory: Path) -> Path | None:
    """The newest complete checkpoint folder, or None."""
    complete = [path for path in directory.glob("epoch-*") if (path / PROGRESS).is_file()]
    return max(complete, key=lambda path: int(path.name.removeprefix("epoch-")), default=None)


def read_progress(checkpoint: Path) -> Progress:
    """The progress that a checkpoint holds. Raises `CheckpointError` where it is damaged."""
    try:
        values = read_record(checkpoint / PROGRESS)
        names = {item.name for item in dataclasses.fields(Progress)}
        return Progress(**{name: value for name, value in values.items() if name in names})
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{checkpoint}: cannot be resumed ({error}); remove it, or start anew.") from error


def load_checkpoint(
    checkpoint: Path, modules: dict[str, torch.nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, float]:
    """Put a checkpoint's state into the network, the moving average and the optimizer; the scaler's is returned.

    Raises `CheckpointError` where the checkpoint is damaged or of another network.
    """
    try:
        return _load(checkpoint, modules, optimizer)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError, IndexError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{checkpoint}: cannot be resumed ({reason}); remove it, or start anew.") from error


def _load(checkpoint: Path, modules: dict[str, torch.nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, float]:
    values = read_record(checkpoint / PROGRESS)
    with safe_open(checkpoint / STATE, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    for name, module in modules.items():
        own = module.state_dict()
        for key, value in own.items():
            value.copy_(tensors[f"{name}/{key}"])
    optimizer.load_state_dict(
        {
            "state": _optimizer_state(tensors, values["scalars"], optimizer),
            "param_groups": optimizer.state_dict()["param_groups"],
        }
    )
    for group, numbers in zip(optimizer.param_groups, values["groups"], strict=True):
        for name, value in numbers.items():
            group[name] = torch.tensor(value[0]) if isinstance(value, list) else value
    return values["scaler"]


def _optimizer_state(
    tensors: dict[str, torch.Tensor], scalars: dict[str, dict[str, Any]], optimizer: torch.optim.Optimizer
) -> dict[int, dict[str, Any]]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in scalars.items()}
    for key, value in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "optimizer":
            index, _, entry = rest.partition("/")
            parameter = parameters[int(index)]
            if value.shape == parameter.shape:
                # In the parameter's own memory layout: another one may round differently, and end in other weights.
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            state.setdefault(int(index), {})[entry] = value.detach()
    return state


def _flatten(modules: dict[str, torch.nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for index, entries in optimizer.state_dict()["state"].items():
        for entry, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer/{index}/{entry}"] = value
    return {key: value.detach().cpu().contiguous() for key, value in tensors.items()}


def _scalars(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """What an optimizer keeps beside tensors: step counts and the like, plain enough for JSON."""
    return {
        str(index): {key: value for key, value in entries.items() if not isinstance(value, torch.Tensor)}
        for index, entries in optimizer.state_dict()["state"].items()
    }


def _numbers(group: dict[str, Any]) -> dict[str, Any]:
    """What training changes in a parameter group: the rate, and the step count that some optimizers keep there.

    A number that is kept as a tensor is written as a list of one.
    """
    numbers: dict[str, Any] = {}
    for name, value in group.items():
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            numbers[name] = [value.item()]
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers[name] = value
    return numbers


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # some file systems know no hard links
        shutil.copyfile(source, target)
