"""Batches for the network. What an item looks like follows from (seed, epoch, position) alone.

So neither the number of workers nor a kill and resume can change it, and no random state needs to be saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ct_xception.imaging.body.crop import mask_box
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.transforms import AugmentConfig, EvalTransform, TrainTransform
from ct_xception.tabular import Tabular
from ct_xception.training.data.cache import CachedSlices

# One draw of an epoch: which epoch, which place in it, which item of the split.
Draw = tuple[int, int, int]


@dataclass(frozen=True)
class EpochTransforms:
    """The training transform of each epoch: that of a smaller input in the first `small_epochs` ones.

    That is progressive resizing: early epochs cost less, and the last ones see what the network will be shown (Tan and
    Le 2021, arXiv:2104.00298).
    """

    full: TrainTransform
    small: TrainTransform | None = None
    small_epochs: int = 0

    @classmethod
    def of(cls, contract: Mapping[str, Any], augment: AugmentConfig, size: int, epochs: int) -> EpochTransforms:
        """For a network's pretrained_cfg; `size` pixels are the side in the first `epochs` epochs, if there are any."""
        small = dict(contract) | {"input_size": [contract["input_size"][0], size, size]}
        return cls(TrainTransform(contract, augment), TrainTransform(small, augment) if epochs else None, epochs)

    def at(self, epoch: int) -> TrainTransform:
        """The transform of an epoch, from 1."""
        return self.small if self.small is not None and epoch <= self.small_epochs else self.full


class TrainingItems(Dataset):
    """Augmented items: `pixel_values` (3, S, S) float32, `label`, `index`, and `tabular` (D,) where there are rows."""

    def __init__(
        self, slices: CachedSlices, transforms: EpochTransforms, seed: int, columns: Tabular | None = None
    ) -> None:
        self.slices, self.transforms, self.seed = slices, transforms, seed
        self.beside = _beside(slices, columns)

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, draw: Draw) -> dict[str, torch.Tensor | int]:
        epoch, position, index = draw
        item = self.slices[index]
        rng = np.random.default_rng([self.seed, epoch, position])
        return {
            "pixel_values": self.transforms.at(epoch)(item.pixels, item.mask, rng),
            "label": item.label,
            "index": index,
            **self.beside(index),
        }


class UnlabelledItems(Dataset):
    """Items in two views, each (3, S, S) float32: `weak`, to be labelled, and `strong`, to be learnt; and `index`."""

    def __init__(self, slices: CachedSlices, weak: EpochTransforms, strong: EpochTransforms, seed: int) -> None:
        self.slices, self.views, self.seed = slices, {"weak": weak, "strong": strong}, seed

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, draw: Draw) -> dict[str, torch.Tensor | int]:
        epoch, position, index = draw
        item = self.slices[index]
        found: dict[str, torch.Tensor | int] = {"index": index}
        for number, (name, transforms) in enumerate(self.views.items(), 1):
            # Not the generator of the labelled item in the same place.
            rng = np.random.default_rng([self.seed, epoch, position, number])
            found[name] = transforms.at(epoch)(item.pixels, item.mask, rng)
        return found


class EvaluationItems(Dataset):
    """Items as the predictor sees them: cropped to the body, no augmentation."""

    def __init__(self, slices: CachedSlices, transform: EvalTransform, columns: Tabular | None = None) -> None:
        self.slices, self.transform, self.beside = slices, transform, _beside(slices, columns)

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | int]:
        item = self.slices[index]
        box = mask_box(item.mask)
        inside = (slice(box.top, box.bottom), slice(box.left, box.right))
        pixels = np.where(item.mask[inside], item.pixels[inside], np.uint8(0))
        cropped = Slice(pixels, item.source, bit_depth=8, is_hu=False, window=None)
        return {"pixel_values": self.transform(cropped), "label": item.label, "index": index, **self.beside(index)}


class _Beside:
    """The encoded rows (N, D) of a split, one at a time."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = torch.from_numpy(vectors)

    def __call__(self, index: int) -> dict[str, torch.Tensor]:
        return {"tabular": self.vectors[index]} if len(self.vectors) else {}


def _beside(slices: CachedSlices, columns: Tabular | None) -> _Beside:
    if columns is None:
        return _Beside(np.zeros((0, 0), np.float32))
    return _Beside(columns.encode_all(slices.rows or [{}] * len(slices)))


class EpochSampler(Sampler[Draw]):
    """The draws of one epoch: every one of `count` items once in a new order, or, with `alike`, with replacement.

    `alike` (count,) names what is to be drawn as often as any other: the items' classes, or their patients.
    """

    def __init__(self, count: int, seed: int, *, alike: Sequence[Any] | np.ndarray | None = None) -> None:
        self.count, self.seed, self.epoch, self.shares = count, seed, 0, None
        if alike is not None:
            members = np.unique(np.asarray(alike), return_inverse=True)[1]
            frequency = np.bincount(members)[members].astype(float)
            self.shares = (1 / frequency) / (1 / frequency).sum()

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Draw]:
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.shares is None:
            order = rng.permutation(self.count)
        else:
            order = rng.choice(self.count, size=self.count, p=self.shares)
        return ((self.epoch, position, int(index)) for position, index in enumerate(order))


class StreamSampler(Sampler[Draw]):
    """`draws` items an epoch and process, `share` (rank, processes) of one stream of shuffles of all `count` items.

    An epoch goes on where the one before it stopped, so that every item is drawn as often as any other, but for one.
    Set `epoch` before iterating.
    """

    def __init__(self, count: int, draws: int, seed: int, share: tuple[int, int]) -> None:
        self.count, self.draws, self.seed, self.share, self.epoch = count, draws, seed, share, 1

    def __len__(self) -> int:
        return self.draws

    def __iter__(self) -> Iterator[Draw]:
        rank, processes = self.share
        start = (self.epoch - 1) * self.draws * processes
        own = np.arange(start + rank, start + self.draws * processes, processes)
        orders = {turn: self._order(turn) for turn in np.unique(own // self.count).tolist()}
        for place in own.tolist():
            yield self.epoch, place - start, int(orders[place // self.count][place % self.count])

    def _order(self, turn: int) -> np.ndarray:
        return np.random.default_rng([self.seed, turn, self.count]).permutation(self.count)


def training_loader(items: Dataset, sampler: Sampler[Draw], batch_size: int, workers: int) -> DataLoader:
    """Whole batches only: a rest of one image would leave batch normalisation nothing to normalise."""
    return DataLoader(
        items,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=True,
        # A generator of its own: a loader with workers draws a seed from the global one once in a process, and the
        # dropout of a resumed run would then differ from that of the unbroken one.
        generator=torch.Generator(),
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
    )


def evaluation_loader(items: EvaluationItems, batch_size: int) -> DataLoader:
    """Every item once, in order."""
    return DataLoader(items, batch_size=batch_size, shuffle=False)
