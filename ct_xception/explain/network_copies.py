"""Copies of a network that an explanation may take apart, while other threads go on using the network itself.

Captum's gradient methods hang hooks on modules and are defeated by three things in Xception, all mended in the copy:

- ReLUs that work in place overwrite what the backward pass needs (captum issues 973 and 199).
- Captum overrides a ReLU's gradient by a hook on the tensor that enters it. In a residual block the same tensor also
  takes the skip connection, whose gradient the override would swallow: DeepLIFT's sum then comes out as 0 instead of
  the change of score, and guided backpropagation clips the skip path too. So each ReLU here reads a view of its own.
- Captum's DeepLIFT rule for max pooling puts each window's share on one cell by `max_unpool`, which keeps one of
  several overlapping windows. Xception's windows (3 wide, 2 apart) overlap, so the sum is wrong again. Pairwise maxima,
  max(a, b) = a + ReLU(b - a), have no such overlap.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from ct_xception.model.modelling import CTXceptionForImageClassification as Network


def private_copy(model: Network, *, without_pools: bool = False) -> Network:
    """The same network in evaluation mode, its weights shared (no memory) but frozen, its ReLUs fit for hooks.

    With `without_pools` max pooling is rewritten by ReLUs; the answers stay the same up to rounding.
    """
    memo: dict[int, object] = {
        id(tensor): nn.Parameter(tensor.detach(), requires_grad=False) for tensor in model.parameters()
    }
    memo.update({id(tensor): tensor for tensor in model.buffers()})
    twin = copy.deepcopy(model, memo).eval()
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, _OwnInputReLU())
            elif without_pools and _is_overlapping_pool(child):
                setattr(parent, name, _PairwiseMax(child.stride))
    return twin


def finer_copy(model: Network) -> Network:
    """The same network with its last stride undone: its feature map has a cell every 16 pixels instead of every 32."""
    twin = private_copy(model)
    twin.undo_last_stride()
    return twin


def random_networks(model: Network, side: int, count: int, seed: int) -> list[Network]:
    """`count` networks of the same architecture with every weight drawn anew (Adebayo et al. 2018, arXiv:1810.03292).

    The batch norms are fitted to noise of (8, 3, side, side) on smooth grounds, since a deep random network with theirs
    at the start answers every picture with nearly the same features. The global random state is left as it was.
    """
    return [randomised_copy(model, side, seed=seed + number) for number in range(count)]


def randomised_copy(model: Network, side: int, *, seed: int) -> Network:
    """One of `random_networks`, the same for every picture."""
    twin = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in twin.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.05)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
                module.momentum = None  # the plain mean over the batches seen
        grounds = nn.functional.interpolate(2 * torch.rand(8, 1, 8, 8) - 1, (side, side), mode="bilinear")
        noisy = (grounds + 0.3 * torch.randn(8, 3, side, side)).to(next(model.parameters()))
        twin.train().features(noisy)
    return twin.eval()


class _OwnInputReLU(nn.Module):
    """ReLU on a tensor that nothing else reads, so that a hook on it sees the ReLU's gradient alone."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.relu(values.view_as(values))


def _is_overlapping_pool(module: nn.Module) -> bool:
    wanted = {"kernel_size": 3, "padding": 1, "dilation": 1, "ceil_mode": False}
    return isinstance(module, nn.MaxPool2d) and all(getattr(module, name) == value for name, value in wanted.items())


class _PairwiseMax(nn.Module):
    """3 x 3 max pooling with padding 1 by four pairwise maxima, first along columns, then along rows."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.relus = nn.ModuleList(_OwnInputReLU() for _ in range(4))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        # Repeating the edge changes no maximum, as every window holds the edge cell itself.
        values = nn.functional.pad(values, (1, 1, 1, 1), mode="replicate")
        return self._pool(self._pool(values, 3, self.relus[:2]), 2, self.relus[2:])

    def _pool(self, values: torch.Tensor, dim: int, relus: nn.ModuleList) -> torch.Tensor:
        count = (values.shape[dim] - 3) // self.stride + 1
        steps = torch.arange(count, device=values.device) * self.stride
        first, second, third = (values.index_select(dim, steps + shift) for shift in range(3))
        first = first + relus[0](second - first)
        return first + relus[1](third - first)
