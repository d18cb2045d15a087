"""The batch norms of a network, estimated anew on the slices of a site.

    adapt_normalisation(model, inputs, source_share=0.25)

A scanner, kernel or window that training did not have moves what every layer sees by a shift and a factor; batch norms
hold just such numbers, and need no label (Li et al. 2018, AdaBN; Schneider et al. 2020, arXiv:2006.16971).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

BATCH = 64  # slices at a time, so many that their own statistics are near those of all


def source_share(units: int, source_size: float) -> float:
    """What of the mixed statistics is the source's, N / (N + n): n units of the site, N the size given to the source.

    Schneider et al. 2020, section 3: `source_size` is how many of the site's units training's statistics are worth.
    """
    return source_size / (source_size + units)


def norms_of(model: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms, in the order in which the modules are kept."""
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@torch.no_grad()
def adapt_normalisation(
    model: nn.Module, inputs: NDArray[np.float32], *, source_share: float, batch_size: int = BATCH
) -> None:
    """Replace every batch norm's statistics by source_share * its own + (1 - source_share) * those of `inputs`.

    `inputs` (N, 3, S, S) are slices as the network takes them. Means and variances are exact ones over all slices and
    places, in float64, without momentum. What a layer sees depends on the layers before it, so these normalise as they
    will: by the same mixture, of the batch that passes. (To measure all layers first and mix then, again and again,
    does not settle: what one layer is off by, the next ones multiply.)
    """
    layers = norms_of(model)
    source = [tuple(part.double() for part in _statistics(layer)) for layer in layers]
    sums = [_Moments() for _ in layers]
    model.eval()

    def mix(index: int, mean: torch.Tensor, variance: torch.Tensor) -> None:
        for held, old, new in zip(_statistics(layers[index]), source[index], (mean, variance), strict=True):
            held.copy_(source_share * old + (1 - source_share) * new)

    def pass_through(index: int, values: torch.Tensor) -> None:
        sums[index].add(values)
        mix(index, *_Moments().add(values).found())

    with _told(layers, pass_through):
        for part in np.array_split(np.arange(len(inputs)), max(1, len(inputs) // batch_size)):
            model(torch.from_numpy(inputs[part]))
    for index, moments in enumerate(sums):
        mix(index, *moments.found())


def _statistics(layer: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    assert layer.running_mean is not None and layer.running_var is not None  # of an Xception's, which track them
    return layer.running_mean, layer.running_var


class _Moments:
    """Mean and variance of each channel over batches, heights and widths, (C,) float64."""

    def __init__(self) -> None:
        self.count = 0
        self.first: torch.Tensor | float = 0.0
        self.second: torch.Tensor | float = 0.0

    def add(self, values: torch.Tensor) -> _Moments:
        """Take in a batch (B, C, h, w)."""
        each = values.flatten(2).double()
        self.count += each.shape[0] * each.shape[2]
        self.first, self.second = self.first + each.sum((0, 2)), self.second + each.square().sum((0, 2))
        return self

    def found(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean and the variance of all that was taken in."""
        mean = torch.as_tensor(self.first) / self.count
        return mean, (torch.as_tensor(self.second) / self.count - mean.square()).clamp_min(0)


@contextmanager
def _told(layers: Sequence[nn.BatchNorm2d], told: Callable[[int, torch.Tensor], None]) -> Iterator[None]:
    """`told` hears of every layer's number and input before the layer normalises it."""
    hooks = [
        layer.register_forward_pre_hook(lambda _, given, index=index: told(index, given[0]))
        for index, layer in enumerate(layers)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
