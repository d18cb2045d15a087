"""Batch norms fitted anew to a site: exact moments, mixed as stated, whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ct_xception.model.normalisation import adapt_normalisation, norms_of, source_share


@pytest.fixture
def network() -> nn.Sequential:
    """Two convolutions, each with a batch norm that knows another site."""
    torch.manual_seed(3)
    parts = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.Flatten()]
    model = nn.Sequential(*parts)
    for layer in norms_of(model):
        layer.running_mean.uniform_(-1, 1)
        layer.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture
def inputs() -> np.ndarray:
    return np.random.default_rng(0).normal(0.3, 2, (37, 3, 9, 9)).astype(np.float32)


def moments(values: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    flat = values.detach().double().transpose(0, 1).flatten(1)
    return flat.mean(dim=1).numpy(), flat.var(dim=1, unbiased=False).numpy()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_first_layer_is_mixed_by_hand(network: nn.Sequential, inputs: np.ndarray, share: float) -> None:
    own = [part.clone().double().numpy() for part in (network[1].running_mean, network[1].running_var)]
    there = moments(network[0](torch.from_numpy(inputs)))
    adapt_normalisation(network, inputs, source_share=share, batch_size=8)
    for found, old, new in zip((network[1].running_mean, network[1].running_var), own, there, strict=True):
        assert found.numpy() == pytest.approx(share * old + (1 - share) * new, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_deeper_layers_are_of_the_network_as_it_answers(
    network: nn.Sequential, inputs: np.ndarray, share: float
) -> None:
    """In one batch: what the second norm is given by the adapted network has just the moments that were mixed in."""
    own = [part.clone().double().numpy() for part in (network[4].running_mean, network[4].running_var)]
    adapt_normalisation(network, inputs, source_share=share, batch_size=37)
    there = moments(network[:4](torch.from_numpy(inputs)))
    for found, old, new in zip((network[4].running_mean, network[4].running_var), own, there, strict=True):
        assert found.numpy() == pytest.approx(share * old + (1 - share) * new, rel=1e-4, abs=1e-5)


def test_how_the_slices_fall_into_batches_hardly_matters(network: nn.Sequential, inputs: np.ndarray) -> None:
    import copy

    other = copy.deepcopy(network)
    adapt_normalisation(network, inputs, source_share=0.3, batch_size=18)
    adapt_normalisation(other, inputs, source_share=0.3, batch_size=37)
    for layer, near in ((1, 1e-6), (4, 0.1)):  # the first sees the same slices; the next one what batches made of them
        means = [one[layer].running_mean.numpy() for one in (network, other)]
        assert means[0] == pytest.approx(means[1], rel=near, abs=near)


def test_nothing_but_the_statistics_is_touched(network: nn.Sequential, inputs: np.ndarray) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    adapt_normalisation(network, inputs, source_share=0.5)
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {f"{layer}.running_{what}" for layer in (1, 4) for what in ("mean", "var")}
    assert not any(module.training for module in network.modules()) and network[1].momentum == 0.1


def test_the_share_is_that_of_schneider() -> None:
    assert source_share(48, 16) == 0.25 and source_share(10, 0) == 0
