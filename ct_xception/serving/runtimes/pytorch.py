"""The network as torch runs it: the checkpoint's own weights, on any device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ct_xception.checkpoint import WEIGHTS
from ct_xception.errors import CheckpointError, InputError, printable
from ct_xception.serving.network import Outputs
from ct_xception.serving.runtime import Runtime, register

if TYPE_CHECKING:
    import numpy as np

    from ct_xception.model.modelling import CTXceptionForImageClassification
    from ct_xception.serving.checkpoint import Checkpoint

_OWN_PARTS = ("attention", "global_pool", "tabular")  # what stock networks have not
MOST_BYTES = 2**30  # of a network's file; the largest backbone has 160 MB in float32


class TorchNetwork:
    """The network as torch runs it, on the device where the model lies."""

    runtime = "torch"

    def __init__(self, model: CTXceptionForImageClassification) -> None:
        import torch

        # Depthwise convolutions run a good deal faster on CPU with channels last.
        self.model = model.eval().to(memory_format=torch.channels_last)
        self.label_names = model.label_names
        self.pretrained_cfg = model.config.pretrained_cfg

    def move(self, device: str) -> None:
        """Run on another device from now on. Raises InputError where that cannot be."""
        try:
            self.model.to(device)
        except (RuntimeError, AssertionError) as error:  # torch's, for a name that it does not know or a driver
            reason = str(error).strip().splitlines()[0]
            if reason.startswith("Expected one of"):  # and all that it was ever ported to
                reason = "torch has no device of this name; cuda, cuda:1, mps and xpu are some"
            raise InputError(f"device {printable(str(device))}: cannot be used here ({reason}); use cpu.") from error

    def __call__(self, pixel_values: np.ndarray, tabular: np.ndarray | None = None) -> Outputs:
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(pixel_values).to(self.model.device, self.model.dtype)
            rows = None if tabular is None else torch.from_numpy(tabular).to(batch)
            found = self.model.outputs(batch.contiguous(memory_format=torch.channels_last), rows)
            return Outputs(*(part.float().cpu().numpy() for part in found))


@register
class Torch(Runtime):
    name, title, files = "torch", "PyTorch, float32", (WEIGHTS,)

    def open(self, checkpoint: Checkpoint, *, device: str = "cpu", threads: int | None = None) -> TorchNetwork:
        """`threads` is for the exported files; torch has a setting of its own."""
        network = TorchNetwork(load_model(checkpoint))
        network.move(device)
        return network


def load_model(checkpoint: Checkpoint) -> CTXceptionForImageClassification:
    """Load safetensors weights, every one of them: transformers alone would fill missing ones with noise and go on."""
    import torch
    from safetensors import SafetensorError

    from ct_xception.checkpoint_files import check_safetensors
    from ct_xception.model.configuration import restored_config
    from ct_xception.model.modelling import CTXceptionForImageClassification

    report: dict[str, Any]
    model: CTXceptionForImageClassification
    try:
        check_safetensors(checkpoint.folder / WEIGHTS, MOST_BYTES)
        # The configuration is what the schema let through, so that no other key of the file acts on anything.
        model, report = CTXceptionForImageClassification.from_pretrained(  # type: ignore[misc]
            checkpoint.folder,
            config=restored_config(checkpoint.config),
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{checkpoint.name}: the network cannot be loaded ({reason}).") from error
    broken = next((key for key, part in model.state_dict().items() if not torch.isfinite(part).all()), None)
    found = _wrong_tensors(report["missing_keys"], report["unexpected_keys"], broken)
    if found:
        raise CheckpointError(f"{checkpoint.name}: {found}; fetch the checkpoint again.")
    return model


def _wrong_tensors(missing: Iterable[str], unexpected: Iterable[str], broken: str | None) -> str:
    """What is wrong with the weights of a network, as a clause; empty where nothing is."""
    absent = sorted(missing)
    if absent:
        return f"the weights lack {len(absent)} of the network's tensors (the first: {absent[0]})"
    foreign = sorted(key for key in unexpected if any(f"{part}." in key for part in _OWN_PARTS))
    if foreign:
        return f"its weights hold a part ({foreign[0]}) that its configuration does not tell of"
    return "" if broken is None else f"its weights hold values that are not finite (in {broken})"
