"""Where a network's first weights come from: the Hub, a local safetensors file, a checkpoint folder, or chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from ct_xception.checkpoint import WEIGHTS
from ct_xception.errors import CheckpointError, printable
from ct_xception.hub_download import HubError, HubId, fetch_file
from ct_xception.model.configuration import HUB_WEIGHTS

_GATES = ".attention."  # in the names of the tensors of SE and CBAM blocks


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


def load_backbone_weights(network: torch.nn.Module, file: Path, *, new: Sequence[str] = ()) -> None:
    """Copy a safetensors file in timm's layout into a timm network.

    What `new` names (the classifier, "fc", since its classes are others) is left as it is, and with it the attention of
    the body where the file has none: both begin anew. Without it every tensor is copied. Raises `CheckpointError` when
    the file is no safetensors file, or is not of this backbone.
    """
    state = _read(file)
    found = {key.removeprefix("timm_model."): value for key, value in state.items()}
    left = [f".{name}." for name in new]
    if new and not any(_GATES in key for key in found):
        left.append(_GATES)

    def without(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {key: one for key, one in tensors.items() if not any(part in f".{key}" for part in left)}

    found, wanted = without(found), without(network.state_dict())
    # The counter of batches seen plays no part in the network's answers, and published files often leave it out.
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    foreign = [key for key in found if key not in wanted]
    shapes = [key for key in wanted if key in found and found[key].shape != wanted[key].shape]
    if missing or foreign or shapes:
        example = (missing or foreign or shapes)[0]
        if _GATES in example:
            raise CheckpointError(
                f"--weights: {printable(file)} has other attention in its body than this network ({example}); give the "
                "--attention it was trained with."
            )
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
