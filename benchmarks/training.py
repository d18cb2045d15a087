"""Training throughput against a plain transformers loop on the same network, data, batch, size and threads.

The peer has the shape of transformers' `run_image_classification_no_trainer.py`: `datasets` decodes each picture as it
is drawn, torchvision transforms crop, flip and normalise it, an Auto class gives the network, accelerate the loop.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.turns import Row, in_own_process, take_turns

if TYPE_CHECKING:
    from ct_xception.training.options import TrainConfig


def training_rows(options: argparse.Namespace) -> list[Row]:
    """One row for each image size: images a second."""
    return [training_row(options, size) for size in options.image_size]


def training_row(options: argparse.Namespace, image_size: int) -> Row:
    """Images a second at this size (px)."""
    from ct_xception.training.options import TrainConfig

    config = TrainConfig(
        corpus=options.corpus,
        weights="none",
        image_size=image_size,
        batch_size=options.batch_size,
        threads=options.threads,
        ema=0.0,  # the peer has none
        workers=0,  # nor another process that prepares batches, or works on in the other's turn
    )
    with tempfile.TemporaryDirectory() as folder:
        sides = [(side, config, Path(folder), options.steps) for side in (peer_side, our_side)]
        with in_own_process(*sides[0]) as peer, in_own_process(*sides[1]) as ours:
            peer(), ours()  # the first turn of each warms up
            peer_speed, our_speed = take_turns(peer, ours, options.rounds)
    what = f"training, images/s (batch {config.batch_size}, {config.image_size} px)"
    ratio = f"{our_speed / peer_speed:.2f}x"
    return what, "plain transformers loop", f"{peer_speed:.2f}", f"{our_speed:.2f}", ratio


def our_side(config: TrainConfig, folder: Path, steps: int) -> Callable[[], float]:
    """Our measurement, in a process that is set up by the very function that `train_hf.py` calls."""
    from ct_xception.pipeline.run import set_up_process

    set_up_process(config)
    return our_turn(_splits(config), config, folder, steps)


def peer_side(config: TrainConfig, folder: Path, steps: int) -> Callable[[], float]:
    """The peer's measurement on as many threads."""
    torch.set_num_threads(config.threads)
    return peer_turn(_splits(config)["train"], config, folder, steps)


def _splits(config: TrainConfig) -> Any:
    from ct_xception.corpus.load import load_corpus
    from ct_xception.corpus.split import make_splits

    return make_splits(load_corpus(config.corpus).dataset)[0]


def turn(step: Callable[[Any], None], batches: Iterator[Any], steps: int, batch_size: int) -> Callable[[], float]:
    """A measurement: images a second over so many steps, batches and all."""

    def measure() -> float:
        started = time.perf_counter()
        for batch in itertools.islice(batches, steps):
            step(batch)
        return steps * batch_size / (time.perf_counter() - started)

    return measure


def our_turn(splits: Any, config: Any, folder: Path, steps: int) -> Callable[[], float]:
    """Our loop's own step on our own loader."""
    from ct_xception.training.data.cache import prepare_slices
    from ct_xception.training.loop import Training, make_accelerator

    slices = {
        name: prepare_slices(splits[name], folder, config.reading, description=f"reading {name}")
        for name in ("train", "validation")
    }
    names = splits["train"].features["label"].names
    run = Training(config, make_accelerator(config), folder, label_names=names, split="", **slices)
    run._set_training_mode(frozen=False)

    def batches() -> Iterator[Any]:
        for run.sampler.epoch in itertools.count(1):  # noqa: B020 (the sampler's epoch is what counts up)
            yield from run.loader

    return turn(run._step, batches(), steps, config.batch_size)


def peer_turn(split: Any, config: Any, folder: Path, steps: int) -> Callable[[], float]:
    """The example's loop: the saved network through an Auto class, its optimizer and schedule, accelerate."""
    from accelerate import Accelerator
    from transformers import AutoModelForImageClassification, get_scheduler

    from ct_xception.model.modelling import CTXceptionForImageClassification

    checkpoint, names = folder / "peer", split.features["label"].names
    saved = CTXceptionForImageClassification.from_backbone(config.backbone, names, config.image_size)
    saved.save_pretrained(checkpoint)
    model = AutoModelForImageClassification.from_pretrained(checkpoint)
    loader = peer_loader(split, config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=10_000)
    accelerator = Accelerator()
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    model.train()

    def step(batch: dict[str, torch.Tensor]) -> None:
        accelerator.backward(model(**batch).loss)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    batches = itertools.chain.from_iterable(loader for _ in itertools.count())
    return turn(step, batches, steps, config.batch_size)


def peer_loader(split: Any, config: Any) -> Any:
    """The example's data: pictures decoded and transformed as they are drawn."""
    import datasets
    from torch.utils.data import DataLoader
    from torchvision import transforms

    train_transforms = transforms.Compose(
        [
            transforms.RandomResizedCrop(config.image_size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )

    def preprocess(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        rows["pixel_values"] = [train_transforms(image.convert("RGB")) for image in rows["image"]]
        return rows

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        pixel_values = torch.stack([row["pixel_values"] for row in rows])
        return {"pixel_values": pixel_values, "labels": torch.tensor([row["label"] for row in rows])}

    decoded = split.cast_column("image", datasets.Image()).with_transform(preprocess)
    return DataLoader(decoded, shuffle=True, collate_fn=collate, batch_size=config.batch_size, drop_last=True)
