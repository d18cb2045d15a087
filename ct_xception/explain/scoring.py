"""How a method asks the network about the pixels that it saw, with batching, progress and checks in hand.

Every method asks the same `Scorer`, which counts what was asked (progress), stops when told to (cancel), and says how
many pictures fit in memory at a time. All explain the class's logit. The reference, where a method wants one, is air:
what the body crop leaves outside the body.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ct_xception.explain.budget import Budget, Cancelled, Completeness, Progress

if TYPE_CHECKING:
    from ct_xception.model.modelling import CTXceptionForImageClassification as Network

MEMORY = 320 * 2**20  # bytes that one batch's activations may take; the libraries themselves take some 900 MiB
MAX_BATCH = 16

_RANDOM = threading.Lock()  # three of Captum's methods draw from the process's random state


class Scorer(nn.Module):
    """A private copy of the network, from pixel_values (B, 3, S, S) to logits (B, K), as Captum calls it.

    `expected` is how many pictures the method will ask about; `progress` is told the share done, and `cancelled` asked,
    before each batch. Raises Cancelled.
    """

    def __init__(
        self,
        copy: Network,
        *,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__()
        self.model = copy
        self.progress, self.cancelled = progress, cancelled
        self.expected, self.asked = 0, 0

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if self.cancelled is not None and self.cancelled():
            raise Cancelled
        if self.progress is not None and self.expected:
            self.progress(min(self.asked / self.expected, 1.0))
        self.asked += len(pixel_values)
        return self.model.classify(self.model.features(pixel_values))

    def batch_sizes(self, pixel_values: torch.Tensor) -> tuple[int, int]:
        """How many pictures fit at a time with, and without, a backward pass; found by one forward pass of one."""
        sizes: list[int] = []

        def note(module: nn.Module, given: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                sizes.append(output.element_size() * output.numel())

        leaves = [module for module in self.model.modules() if not list(module.children())]
        handles = [module.register_forward_hook(note) for module in leaves]
        try:
            with torch.no_grad():
                self(pixel_values[:1])
        finally:
            for handle in handles:
                handle.remove()
        kept, largest = sum(sizes) or 1, max(sizes, default=1)
        return (min(max(MEMORY // kept, 1), MAX_BATCH), min(max(MEMORY // (6 * largest), 1), MAX_BATCH))


@dataclass(frozen=True, eq=False)
class Question:
    """What a method is asked: one picture (1, 3, S, S), its class, and how much work.

    The scorer holds a private copy of `model`, fit for hooks.
    """

    model: Network
    scorer: Scorer
    pixel_values: torch.Tensor
    target: int
    budget: Budget
    seed: int

    @property
    def side(self) -> int:
        """S."""
        return self.pixel_values.shape[-1]

    @functools.cached_property
    def reference(self) -> torch.Tensor:
        """Air (1, 3, S, S)."""
        return air(self.model.config.pretrained_cfg, self.pixel_values)

    @functools.cached_property
    def _sizes(self) -> tuple[int, int]:
        return self.scorer.batch_sizes(self.pixel_values)

    @property
    def with_gradient(self) -> int:
        """How many pictures fit at a time with a backward pass."""
        return self._sizes[0]

    @property
    def without_gradient(self) -> int:
        """How many pictures fit at a time without one."""
        return self._sizes[1]

    @functools.cached_property
    def scores(self) -> tuple[float, float]:
        """The class's logit for the picture and for the reference."""
        with torch.no_grad():
            first, last = (self.scorer(pixels)[0, self.target].item() for pixels in (self.pixel_values, self.reference))
        return first, last

    def check(self, values: torch.Tensor) -> Completeness:
        """Whether a map sums to the change of score."""
        score, reference_score = self.scores
        return Completeness(score, reference_score, values.double().sum().item() - (score - reference_score))


def air(pretrained_cfg: Any, like: torch.Tensor) -> torch.Tensor:
    """Black, as the network is shown it: a tensor of the shape of `like` (B, 3, S, S)."""
    mean, std = (torch.as_tensor(pretrained_cfg.get(key) or (0.5,) * 3).to(like) for key in ("mean", "std"))
    return (-mean / std).view(1, -1, 1, 1).expand_as(like).contiguous()


def blurred(pixel_values: torch.Tensor, share: float = 0.1) -> torch.Tensor:
    """The pictures (B, 3, S, S) after a Gaussian blur whose standard deviation is `share` of their side."""
    from torchvision.transforms.functional import gaussian_blur

    sigma = share * pixel_values.shape[-1]
    reach = min(int(3 * sigma), pixel_values.shape[-1] // 2 - 1)
    return gaussian_blur(pixel_values, [2 * reach + 1] * 2, [sigma, sigma])


def averaged(question: Question, draw: Callable[[int], torch.Tensor]) -> torch.Tensor:
    """The mean of the budget's samples, drawn a batch at a time: Captum would take them all at once."""
    left, total = question.budget.samples, torch.zeros_like(question.pixel_values)
    question.scorer.expected = question.scorer.asked + left
    with seeded(question.seed):
        while left:
            samples = min(left, question.with_gradient)
            total += samples * draw(samples).detach()
            left -= samples
    return total / question.budget.samples


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Captum draws from torch's and numpy's global states: seed them, one map at a time, and put them back."""
    with _RANDOM, torch.random.fork_rng(devices=[]):
        before = np.random.get_state()
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(before)
