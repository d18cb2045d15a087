"""Attention in an Xception: pooling that weighs the places of the last feature map, and SE or CBAM in the last blocks.

Each begins as what it takes the place of (uniform weights, gates of 1), so that a network with weights from elsewhere
answers as it did until training moves them.
"""

from __future__ import annotations

import torch
from timm.layers import SEModule
from timm.layers.cbam import CbamModule
from torch import nn

from ct_xception.checkpoint import ATTENTIONS, HEADS
from ct_xception.errors import InputError

BLOCKS = 2  # the last ones, in which an SE or CBAM block weighs what is added to the skip connection
_HIDDEN = 128


class AttentionPool(nn.Module):
    """Gated attention pooling (Ilse, Tomczak and Welling 2018, arXiv:1802.04712) of (B, C, h, w) to (B, C).

    The places of a map are the instances of the paper's bag: each has the share softmax(w tanh(V x) sigmoid(U x)).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.value, self.gate = nn.Conv2d(channels, _HIDDEN, 1), nn.Conv2d(channels, _HIDDEN, 1)
        self.score = nn.Conv2d(_HIDDEN, 1, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def shares(self, maps: torch.Tensor) -> torch.Tensor:
        """The share (B, 1, h, w) of each place; they sum to 1."""
        scores = self.score(torch.tanh(self.value(maps)) * torch.sigmoid(self.gate(maps)))
        grown = (scores - scores.amax(dim=(2, 3), keepdim=True)).exp()
        return grown / grown.sum(dim=(2, 3), keepdim=True)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return (maps * self.shares(maps)).sum(dim=(2, 3))


class UnitGate(nn.Module):
    """2 sigmoid(x): a gate from 0 to 2 that is 1 where x is 0."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return 2 * torch.sigmoid(values)


def add_attention(network: nn.Module, head: str, attention: str) -> None:
    """Give a timm Xception the pooling and the blocks that its configuration names.

    Raises `InputError` for a name that is none of HEADS or ATTENTIONS.
    """
    for option, value, known in (("head", head, HEADS), ("attention", attention, ATTENTIONS)):
        if value not in known:
            raise InputError(f"{option}: {value!r} is not one of {', '.join(known)}.")
    if attention != ATTENTIONS[0]:
        for branch in _branches(network)[-BLOCKS:]:
            branch.add_module("attention", _gates(attention, _channels(branch)))
    if head != HEADS[0]:
        place = getattr(network, "head", network)
        place.global_pool = AttentionPool(network.num_features)  # type: ignore[arg-type]


def _branches(network: nn.Module) -> list[nn.Sequential]:
    """What each residual block adds to its skip connection, in order."""
    names = ("rep", "stack")  # of legacy_xception, and of the aligned variants
    return [getattr(part, name) for part in network.modules() for name in names if hasattr(part, name)]


def _channels(branch: nn.Sequential) -> int:
    """How many channels leave a branch: those of its last pointwise convolution."""
    return [part for part in branch.modules() if isinstance(part, nn.Conv2d)][-1].out_channels


def _gates(kind: str, channels: int) -> nn.Module:
    """timm's SE (Hu 2018, arXiv:1709.01507) or CBAM (Woo 2018, arXiv:1807.06521) block, its gates 1 at first."""
    module: nn.Module = (SEModule if kind == "se" else CbamModule)(channels, gate_layer=UnitGate)
    for name, parameter in module.named_parameters():
        if name.endswith(("fc2.weight", "fc2.bias", "bn.weight")):
            nn.init.zeros_(parameter)
    return module
