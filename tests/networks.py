"""Random networks whose answers differ from picture to picture."""

from __future__ import annotations

import torch


def enliven(model: torch.nn.Module, *, batches: int, image_size: int = 64) -> torch.nn.Module:
    """Fit a random network's batch norms to seeded noise and widen its head; it is left in evaluation mode.

    With the statistics that batch norms begin with, a deep random network answers every picture alike, and a test of
    its logits could not fail.
    """
    noise = torch.Generator().manual_seed(7)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain mean over the batches seen
            module.reset_running_stats()
    with torch.no_grad():
        for _ in range(batches):
            model.train()(pixel_values=torch.rand(8, 3, image_size, image_size, generator=noise) * 2 - 1)
        model.head.weight.normal_(0, 0.1, generator=noise)
    return model.eval()


def wake_attention(model: torch.nn.Module) -> torch.nn.Module:
    """Move a network's attention away from its start, where it weighs everything alike."""
    noise, last = torch.Generator().manual_seed(3), ("fc2.weight", "score.weight", "spatial.conv.bn.weight")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(last):
                parameter.normal_(0, 0.5, generator=noise)
    return model
