"""The batch norms of a network, estimated anew on the slices of a site.

    adapt_normalisation(model, inputs, source_share=0.25)

A scanner, kernel or window that training did not have moves what every layer sees by a shift and a factor; batch norms
hold just such numbers, and need no label (Li et al. 2018, AdaBN; Schneider et al. 2020, arXiv:2006.16971).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

PASSES = 3
BATCH = 32  # slices at a time; how they fall into batches matters in the first pass alone

Moments = tuple[torch.Tensor, torch.Tensor]  # mean and variance of each channel, (C,) float64


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
    model: nn.Module, inputs: NDArray[np.float32], *, source_share: float, passes: int = PASSES, batch_size: int = BATCH
) -> None:
    """Replace every batch norm's statistics by source_share * its own + (1 - source_share) * those of `inputs`.

    `inputs` (N, 3, S, S) are slices as the network takes them. Means and variances are exact ones over all slices and
    places, in float64, without momentum. What a layer sees depends on the layers before it: the first pass normalises
    each batch by itself, and every further one by the mixed statistics found so far, as the network then answers.
    """
    layers = norms_of(model)
    source = [(layer.running_mean.double(), layer.running_var.double()) for layer in layers]  # type: ignore[union-attr]
    model.eval()
    for number in range(passes):
        found = _moments(model, layers, inputs, batch_size, by_batch=number == 0)
        for layer, own, target in zip(layers, source, found, strict=True):
            mean, variance = (
                source_share * old + (1 - source_share) * new for old, new in zip(own, target, strict=True)
            )
            layer.running_mean.copy_(mean)  # type: ignore[union-attr]
            layer.running_var.copy_(variance)  # type: ignore[union-attr]


def _moments(
    model: nn.Module, layers: Sequence[nn.BatchNorm2d], inputs: NDArray[np.float32], batch_size: int, *, by_batch: bool
) -> list[Moments]:
    """Mean and variance of what each layer is given, over all inputs, heights and widths."""
    sums: dict[int, list[torch.Tensor]] = {}

    def add(index: int, values: torch.Tensor) -> None:
        each = values.detach().flatten(2).double()
        own = [each.new_tensor(each.shape[0] * each.shape[2]), each.sum((0, 2)), each.square().sum((0, 2))]
        sums[index] = [old + new for old, new in zip(sums[index], own, strict=True)] if index in sums else own

    with _told(layers, add), _by_batch(layers if by_batch else ()):
        for part in np.array_split(np.arange(len(inputs)), max(1, len(inputs) // batch_size)):
            model(torch.from_numpy(inputs[part]))
    found = []
    for count, first, second in (sums[index] for index in range(len(layers))):
        mean = first / count
        found.append((mean, (second / count - mean.square()).clamp_min(0)))
    return found


@contextmanager
def _told(layers: Sequence[nn.BatchNorm2d], add: object) -> Iterator[None]:
    """`add` is told of every layer's number and input."""
    hooks = [
        layer.register_forward_pre_hook(lambda _, given, index=index: add(index, given[0]))  # type: ignore[operator]
        for index, layer in enumerate(layers)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _by_batch(layers: Sequence[nn.BatchNorm2d]) -> Iterator[None]:
    """These layers normalise each batch by itself, and remember nothing of it."""
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.train()
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, (momentum, tracked) in zip(layers, before, strict=True):
            layer.eval()
            layer.momentum, layer.num_batches_tracked = momentum, tracked
