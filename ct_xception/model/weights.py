"""Where a network's first weights come from: the Hub, a local safetensors file, a checkpoint folder, or chance."""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
import torch

from ct_xception.checkpoint import WEIGHTS
from ct_xception.errors import CheckpointError, printable
from ct_xception.hub_download import HubError, HubId, fetch_file
from ct_xception.model.configuration import HUB_WEIGHTS


def find_weights(weights: str, backbone: str) -> Path | None:
    """The safetensors file that `weights` names, or None for "none" (random weights).

    `weights` is "hub" (timm's ImageNet weights of `backbone`), "none", a safetensors file, a checkpoint folder, or a
    checkpoint's Hub id (user/repo or user/repo@revision). Raises `CheckpointError` where it is not to be had.
    """
    if weights == "none":
        return None
    if weights == "hub":
        return _download(HUB_WEIGHTS[backbone], "--weights hub:")
    path = Path(weights)
    if path.is_dir():
        path = path / WEIGHTS
    if path.is_file():
        return path
    if is_hub_id(weights):
        return _download(weights, f"--weights: no {printable(path)} here, and")
    raise CheckpointError(
        f"--weights: {printable(weights)} is not a file; give a safetensors file, a checkpoint folder, a Hub id "
        "(user/repo), hub or none."
    )


def is_hub_id(weights: str) -> bool:
    """Whether `weights` names a checkpoint on the Hub: not a keyword, and nothing that lies here."""
    path = Path(weights)
    return HubId.parse(weights) is not None and path.suffix != ".safetensors" and not path.exists()


def _download(name: str, said: str) -> Path:
    source = HubId.parse(name)
    assert source is not None  # HUB_WEIGHTS, or what `is_hub_id` said yes to
    try:
        return fetch_file(source, WEIGHTS)
    except HubError as error:
        raise CheckpointError(
            f"{said} {source} could not be had from the Hub ({error.problem}); fetch it elsewhere (hf download "
            f"{source.repo} {WEIGHTS}) and give the file with --weights FILE, or start from random weights with "
            "--weights none."
        ) from error


def load_backbone_weights(network: torch.nn.Module, file: Path, *, head: str, keep_head: bool) -> None:
    """Copy a safetensors file in timm's layout into a timm network.

    `head` is the classifier's name in the network ("fc"); it is copied only with `keep_head`, and otherwise left as it
    is, since its classes are others. Raises `CheckpointError` when the file is no safetensors file, or is not of this
    backbone.
    """
    state = _read(file)
    wanted = network.state_dict()
    found = {key.removeprefix("timm_model."): value for key, value in state.items()}
    if not keep_head:
        found = {key: value for key, value in found.items() if not key.startswith(f"{head}.")}
        wanted = {key: value for key, value in wanted.items() if not key.startswith(f"{head}.")}
    # The counter of batches seen plays no part in the network's answers, and published files often leave it out.
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    foreign = [key for key in found if key not in wanted]
    shapes = [key for key in wanted if key in found and found[key].shape != wanted[key].shape]
    if missing or foreign or shapes:
        example = (missing or foreign or shapes)[0]
        raise CheckpointError(
            f"--weights: {printable(file)} does not fit the backbone ({len(missing)} tensors missing, {len(foreign)} "
            f"unknown, {len(shapes)} of another shape; for example {example}); choose the backbone it was made for."
        )
    network.load_state_dict(found, strict=False)


def _read(file: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(file)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(
            f"--weights: {printable(file)} is not a readable safetensors file ({error}); give one in timm's layout."
        ) from error
