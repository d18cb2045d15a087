"""Learning from slices without labels, by FixMatch (Sohn et al. 2020, arXiv:2001.07685).

The moving average of the weights answers a weakly changed view of an unlabelled slice. Where it is sure enough, its
answer is the label of a strongly changed view of the same slice. How sure is enough is the paper's threshold, and more
where it has to be: after every epoch the least confidence at which the answers to validation are right as often as
TARGET, as far as so few of them can tell.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from ct_xception.imaging.transforms import AugmentConfig
from ct_xception.statistics.intervals import wilson_interval
from ct_xception.training.data.batches import EpochTransforms, StreamSampler, UnlabelledItems, training_loader
from ct_xception.training.options import TrainConfig, augment_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from accelerate import Accelerator

    from ct_xception.training.data.cache import CachedSlices
    from ct_xception.training.losses import Loss

TARGET = 0.9  # of the answers to validation that are as sure as the threshold, so many are to be right
LEAST_JUDGED = 20  # validation images; of fewer the accuracy of the surest says too little
LEAST_KEPT = 10  # of them must be as sure as the threshold
PUBLISHED = 0.95  # the paper's threshold
RAMP = 0.3  # share of the training in which the weight comes up
WEAK = {"rotation": 3.0, "zoom_in": 0.04, "zoom_out": 0.04, "shift": 0.03, "flip": 0.5}  # at most, geometric alone

THRESHOLD, KEPT = "pseudo_label_threshold", "unlabelled_kept"  # in the lines of history.jsonl


def weak_augmentation(strong: AugmentConfig) -> AugmentConfig:
    """What a weak view may change: WEAK at most, and nothing further than a strong one."""
    none = dataclasses.asdict(AugmentConfig.none())
    return AugmentConfig(**none | {name: min(most, getattr(strong, name)) for name, most in WEAK.items()})


def choose_threshold(logits: NDArray[np.floating], labels: NDArray[np.integer], smoothing: float) -> float:
    """The confidence from which on an answer is taken for a label; above 1 where none is to be.

    The least of the confidences in `logits` (N, K) at which the answers as sure or surer are as `labels` (N,) in TARGET
    of cases, by the lower end of Wilson's score interval of one standard error, if they are LEAST_KEPT; never less than
    the paper's 0.95, as a share of the highest confidence that targets smoothed by `smoothing` teach, which alone
    counts where images are fewer than LEAST_JUDGED.
    """
    count, classes = logits.shape
    published = PUBLISHED * (1 - smoothing + smoothing / classes)
    if count < LEAST_JUDGED:
        return published
    confidences = softmax(logits.astype(float), axis=1).max(axis=1)
    order = np.argsort(-confidences, kind="stable")
    right = np.cumsum(logits.argmax(axis=1)[order] == labels[order])
    kept = np.arange(1, count + 1)
    sure = confidences[order]
    last = np.append(sure[1:] < sure[:-1], True)  # equal confidences are kept together or not at all
    lower = np.array([wilson_interval(share, n, errors=1.0)[0] for share, n in zip(right / kept, kept, strict=True)])
    good = np.flatnonzero(last & (kept >= LEAST_KEPT) & (lower >= TARGET - 1e-9))
    return max(float(sure[good[-1]]), published) if good.size else math.inf


def ramp(done: float) -> float:
    """The share of the weight after a share `done` of the training: exp(-5 (1 - t)^2) up to RAMP (Laine 2017)."""
    return math.exp(-5 * (1 - min(done / RAMP, 1)) ** 2)


def pseudo_label_loss(
    loss: Loss, logits: torch.Tensor, sure: torch.Tensor, threshold: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of `loss` over all U slices, where one that is not kept counts 0; and how many were kept.

    `logits` (U, K) are those of the strong views, `sure` (U, K) the probabilities of the weak ones; kept is a slice
    whose highest is `threshold` or more, and that class is its label.
    """
    confidence, label = sure.max(dim=1)
    kept = confidence >= threshold
    if not kept.any():
        return logits.sum() * 0.0, kept.sum()
    targets = nn.functional.one_hot(label[kept], logits.shape[1]).float()
    return loss(logits[kept], targets) * kept.float().mean(), kept.sum()


class SemiSupervision:
    """The unlabelled side of a training: its batches, and what they add to the loss."""

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        slices: CachedSlices,
        contract: Mapping[str, Any],
        batch_size: int,
        steps: int,
    ) -> None:
        """`batch_size` is that of one process's labelled images, `contract` the network's pretrained_cfg; `steps` an
        epoch."""
        self.config, self.accelerator, self.sources = config, accelerator, slices.sources
        self.batch_size = max(1, round(config.unlabelled_ratio * batch_size))
        strong, small = augment_config(config), (config.small_size, config.small_epochs)
        weak = EpochTransforms.of(contract, weak_augmentation(strong), *small)
        items = UnlabelledItems(slices, weak, EpochTransforms.of(contract, strong, *small), config.seed)
        share = (accelerator.process_index, accelerator.num_processes)
        self.sampler = StreamSampler(len(items), steps * self.batch_size, config.seed, share)
        self.loader = training_loader(items, self.sampler, self.batch_size, config.workers)
        self.threshold, self.sums = math.inf, torch.zeros(3)

    def batches(self, epoch: int, history: list[dict[str, Any]]) -> Iterator[dict[str, torch.Tensor] | None]:
        """An epoch's batches, each `weak` and `strong` (U, 3, S, S) and `index` (U,); None for ever where none counts.

        The first epoch has no threshold yet.
        """
        found = history[-1].get(THRESHOLD) if history else None
        self.threshold = math.inf if found is None else found
        self.sums = torch.zeros(3, device=self.accelerator.device)  # loss, kept, slices
        self.sampler.epoch = epoch
        if self.threshold > 1:
            while True:
                yield None
        for batch in self.loader:
            yield {name: value.to(self.accelerator.device) for name, value in batch.items()}

    def add(
        self, loss: Loss, logits: torch.Tensor, weak: torch.Tensor, teacher: nn.Module, done: float
    ) -> torch.Tensor:
        """What unlabelled slices add to the loss: of strong views' `logits` (U, K) by `teacher` on the `weak` ones."""
        images = weak.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), self.accelerator.autocast():
            sure = teacher.eval()(pixel_values=images).logits.float().softmax(dim=1)
        found, kept = pseudo_label_loss(loss, logits, sure, self.threshold)
        size = torch.tensor(float(len(logits)), device=logits.device)
        self.sums += torch.stack([found.detach() * size, kept.float(), size])
        return self.config.unlabelled_weight * ramp(done) * found

    def record(self, answers: NDArray[np.floating], labels: NDArray[np.integer]) -> dict[str, Any]:
        """What the epoch's line says: slices seen, the share kept, their loss, and the threshold of the next epoch."""
        loss, kept, seen = self.accelerator.reduce(self.sums, reduction="sum").tolist()
        threshold = choose_threshold(answers, labels, self.config.label_smoothing)
        return {
            "unlabelled_n": int(seen),
            KEPT: kept / seen if seen else 0.0,
            "unlabelled_loss": loss / seen if seen else None,
            THRESHOLD: threshold if threshold <= 1 else None,
        }
