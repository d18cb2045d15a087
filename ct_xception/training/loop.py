"""The training loop: epochs of augmented batches, validated and checkpointed, on one process or many.

Every epoch seeds its own randomness from (seed, epoch, process), and its checkpoint is whole, so a run that is killed
at any moment and resumed ends with the weights of the unbroken run, bit for bit on CPU.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration, DistributedDataParallelKwargs
from accelerate.tracking import get_available_trackers
from accelerate.utils import broadcast, broadcast_object_list, gather_object, set_seed
from timm.data import Mixup
from torch import nn
from tqdm.auto import tqdm

from ct_xception.checkpoint import BEST
from ct_xception.checkpoint_files import TabularRule
from ct_xception.corpus.split import split_name
from ct_xception.errors import CheckpointError, InputError, WorkError
from ct_xception.files import dump_json, write_atomically
from ct_xception.imaging.transforms import EvalTransform
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.training.columns import hash_of_rows, settle_columns
from ct_xception.training.data.batches import (
    EpochSampler,
    EpochTransforms,
    EvaluationItems,
    TrainingItems,
    evaluation_loader,
    training_loader,
)
from ct_xception.training.data.cache import CachedSlices
from ct_xception.training.losses import LossSettings, balanced_weights, make_loss
from ct_xception.training.optimisation import make_average, make_optimizer, make_schedule
from ct_xception.training.options import FREE_TO_DIFFER, SITES, TrainConfig, augment_config, option_defaults
from ct_xception.training.semi_supervised import KEPT, SemiSupervision
from ct_xception.training.start import continue_head
from ct_xception.training.state import (
    Progress,
    latest_checkpoint,
    load_checkpoint,
    read_progress,
    save_checkpoint,
)
from ct_xception.training.validation import is_better, validation_figures

if TYPE_CHECKING:
    from ct_xception.training.losses import Loss


class TrainingError(WorkError):
    """Training that cannot go on, though its input was good: exit code 1."""


Batch = dict[str, torch.Tensor]
OnEpoch = Callable[[Mapping[str, Any], np.ndarray, bool], None]


@dataclass(frozen=True)
class Trained:
    """What training leaves: the file of the weights to keep, the epoch they come from, and the record of all epochs.

    `tabular` is how training encoded the columns beside the images. The history of weights that no epoch made is empty.
    """

    weights: Path
    best_epoch: int
    history: list[dict[str, Any]]
    tabular: TabularRule | None = None


def make_accelerator(config: TrainConfig, run: Path | None = None) -> Accelerator:
    """The `Accelerator` of a run; trackers write below `run`."""
    _check_trackers(config)
    # What is frozen has no gradients, which DistributedDataParallel must be told to expect.
    frozen = config.freeze_epochs > 0 or config.frozen_blocks > 0
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=frozen)]
    try:
        return Accelerator(
            mixed_precision=config.mixed_precision,
            gradient_accumulation_steps=config.accumulation,
            log_with=config.trackers or None,
            project_dir=str(run) if run else None,
            kwargs_handlers=handlers,
            dataloader_config=DataLoaderConfiguration(use_seedable_sampler=False),
        )
    except (ImportError, ValueError) as error:
        raise InputError(f"--mixed_precision or --trackers: not to be had here ({error}).") from error


def share_cores(config: TrainConfig) -> None:
    """Give each process its share of the cores; `accelerate launch` would leave a CPU process with one thread."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(config.threads or max(1, (os.cpu_count() or 1) // local))


def _check_trackers(config: TrainConfig) -> None:
    """accelerate leaves out a tracker whose package is absent, without a word."""

    absent = sorted(set(config.trackers) - {str(tracker) for tracker in get_available_trackers()})
    if absent:
        raise InputError(f"--trackers: {', '.join(absent)} is not installed; pip install 'ct-xception[trackers]'.")


def _make_network(config: TrainConfig, label_names: list[str], tabular: TabularRule | None) -> Any:
    """The network as training begins with it."""
    model: Any = CTXceptionForImageClassification.from_backbone(
        config.backbone,
        label_names,
        config.image_size,
        weights=config.weights,
        dropout=config.dropout,
        seed=config.seed,
        head=config.head,
        attention=config.attention,
        tabular=tabular,
    )
    model.set_tabular_dropout(config.tabular_dropout)
    continue_head(model, config.init)
    return model.to(memory_format=torch.channels_last)


def _make_loss(config: TrainConfig, counts: list[int]) -> Loss:
    weights = balanced_weights(counts) if config.class_weights == "balanced" else None
    return make_loss(config.loss, len(counts), LossSettings(weights, config.label_smoothing, config.focal_gamma))


class Training:
    """One run of the loop over prepared slices."""

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        run: Path,
        *,
        label_names: list[str],
        split: str,
        train: CachedSlices,
        validation: CachedSlices,
        unlabelled: CachedSlices | None = None,
    ) -> None:
        """`split` is the split's hash, which a resumed run must share, as it must the slices that are `unlabelled`."""
        self.config, self.accelerator, self.run = config, accelerator, run
        self.sources = train.sources
        self.directory = run / "checkpoints"
        self.tabular = settle_columns(config, train)
        model = _make_network(config, label_names, self.tabular)
        self.still = model.first_blocks(config.frozen_blocks)
        self.classes = len(label_names)
        self.loss = _make_loss(config, np.bincount(train.labels, minlength=self.classes).tolist())
        self._prepare(model, train, validation, unlabelled)
        split += "" if self.tabular is None else f"+{hash_of_rows(train, validation)}"
        self.progress = Progress(binding_options(config) | {"num_processes": accelerator.num_processes}, split)
        if unlabelled is not None:
            name = split_name({"unlabelled": unlabelled.sources})
            self.progress = replace(self.progress, split=f"{split}+{name}")
        # Told of each epoch once it is saved: its record, the logits (N, K) of validation, and whether it is the best.
        self.on_epoch: OnEpoch | None = None

    def _prepare(
        self,
        model: CTXceptionForImageClassification,
        train: CachedSlices,
        valid: CachedSlices,
        unlabelled: CachedSlices | None,
    ) -> None:
        config, accelerator = self.config, self.accelerator
        contract = model.config.pretrained_cfg
        batch_size = min(config.batch_size, len(train) // accelerator.num_processes)
        if config.mixup:
            batch_size -= batch_size % 2  # mixup pairs the images of a batch
        if batch_size < 2:
            raise InputError(f"corpus: {len(train)} training images are too few; at least two a process are needed.")
        alike: Any = {"balanced": train.labels, "patients": train.groups, SITES: train.sites}.get(config.sampling)
        if config.sampling == SITES and len(set(train.sites)) < 2:
            raise InputError(
                "--sampling sites: training has no two sites; name the column of a table with --site_column."
            )
        self.sampler = EpochSampler(len(train), config.seed, alike=alike)
        _check_differ(EvaluationItems(train, EvalTransform(contract)))
        columns = None if model.tabular is None else model.tabular.columns
        sizes = EpochTransforms.of(contract, augment_config(config), config.small_size, config.small_epochs)
        items = TrainingItems(train, sizes, config.seed, columns)
        loader = training_loader(items, self.sampler, batch_size, config.workers)
        checking = evaluation_loader(EvaluationItems(valid, EvalTransform(contract), columns), 2 * config.batch_size)
        optimizer = make_optimizer(model, config)
        # Copied before `prepare`, which may put a wrapper around the forward of the one network that it is given.
        self.average = make_average(model, config.ema).to(accelerator.device) if config.ema else None
        self.plain = model
        self.model, self.optimizer, self.loader, self.checking = accelerator.prepare(model, optimizer, loader, checking)
        self.steps, self.batch_size, self.validation_size = len(self.loader), batch_size, len(valid)
        self.extra = None
        if unlabelled is not None:
            self.extra = SemiSupervision(config, accelerator, unlabelled, contract, batch_size, self.steps)
        self.updates = -(-self.steps // config.accumulation) * config.epochs
        self.schedule = make_schedule(self.optimizer.optimizer, config, self.updates)
        self.mixup = _mixup(config, self.classes)

    @property
    def kept(self) -> CTXceptionForImageClassification:
        """The network whose weights are validated and kept: the moving average where there is one."""
        module: Any = self.plain if self.average is None else self.average.module
        return module

    def fit(self) -> Trained:
        """Train to the last epoch, or to the end of patience."""
        # Agreed before anything is written: a slower process would take a faster one's first checkpoint for an old one.
        found = latest_checkpoint(self.directory) if self.config.resume == "auto" else None
        found = broadcast_object_list([found])[0]
        if found is None:
            self._save(best=None)
        else:
            self._resume(found)
        with self._progress_bar() as bar:
            while not self.progress.finished:
                self._run_epoch(bar)
        checkpoint = latest_checkpoint(self.directory)
        assert checkpoint is not None
        return Trained(checkpoint / BEST, self.progress.best_epoch, self.progress.history, self.tabular)

    def _run_epoch(self, bar: tqdm) -> None:
        epoch, started = self.progress.epoch + 1, time.monotonic()
        small = f" at {self.config.small_size} px" if epoch <= self.config.small_epochs else ""
        bar.set_description(f"epoch {epoch}/{self.config.epochs}{small}")
        loss, accuracy, images = self._train_epoch(epoch, bar)
        train_seconds = time.monotonic() - started
        record: dict[str, Any] = {"epoch": epoch, "train_n": images, "train_loss": loss, "train_accuracy": accuracy}
        answers, labels = self.validate()
        if self.extra is not None:
            record |= self.extra.record(answers, labels)
        record |= {f"validation_{name}": value for name, value in validation_figures(answers, labels).items()}
        record |= {
            "learning_rate": self.schedule.get_last_lr()[-1],
            "seconds": round(time.monotonic() - started, 3),
            "images_per_second": round(images / train_seconds, 3),
        }
        self._record(record)
        if self.accelerator.is_main_process:
            bar.write(_summary(record, self.config, kept=self.progress.best_epoch == epoch))
        if self.on_epoch is not None:
            self.on_epoch(record, answers, self.progress.best_epoch == epoch)

    def _train_epoch(self, epoch: int, bar: tqdm) -> tuple[float, float, int]:
        """One pass; gives mean loss, accuracy on the augmented images, and how many images, over all processes."""
        seeds = np.random.SeedSequence([self.config.seed, epoch, self.accelerator.process_index])
        set_seed(int(seeds.generate_state(1)[0]))
        self.sampler.epoch = epoch
        self._set_training_mode(frozen=epoch <= self.config.freeze_epochs)
        sums = torch.zeros(3, device=self.accelerator.device)  # loss, hits, images
        started = time.monotonic()
        extra = repeat(None) if self.extra is None else self.extra.batches(epoch, self.progress.history)
        for batch in self.loader:
            loss, logits = self._step(batch, next(extra))
            size = len(logits)
            hits = (logits.argmax(dim=1) == batch["label"]).sum()
            sums += torch.stack([loss.detach() * size, hits, torch.tensor(float(size), device=hits.device)])
            bar.update(self._work(epoch))
            # One process's share, times their number: all advance together.
            speed = sums[2].item() * self.accelerator.num_processes / (time.monotonic() - started)
            bar.set_postfix_str(
                f"loss {sums[0] / sums[2]:.4f}, accuracy {sums[1] / sums[2]:.3f}, {speed:.1f} images/s", refresh=False
            )
        loss, hits, images = self.accelerator.reduce(sums, reduction="sum").tolist()
        return loss / images, hits / images, int(images)

    def _step(self, batch: Batch, extra: Batch | None) -> tuple[torch.Tensor, torch.Tensor]:
        """One step; the labelled loss, and the logits (B, K) of the labelled images."""
        with self.accelerator.accumulate(self.model):
            images = _channels_last(batch["pixel_values"])
            targets = nn.functional.one_hot(batch["label"], self.classes).float()
            if self.mixup is not None:
                images, targets = self.mixup(images, batch["label"])
            # One forward pass, whose batch norms see both: two would be more than a distributed wrapper bears.
            given = images if extra is None else _channels_last(torch.cat([images, extra["strong"]]))
            logits, others = (
                self.model(pixel_values=given, **self._rows(batch, len(given)))
                .logits.float()
                .tensor_split([len(images)])
            )
            loss = self.loss(logits, targets)
            whole = loss if extra is None else loss + self._unlabelled_loss(others, extra)
            self._check_finite(whole, batch, extra)
            self.accelerator.backward(whole)
            if self.accelerator.sync_gradients and self.config.clip_norm:
                self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
            self.optimizer.step()
            if self.accelerator.sync_gradients:
                self.schedule.step()
                if self.average is not None:
                    self.average.update_parameters(self.plain)
            self.optimizer.zero_grad()
        return loss, logits

    def _unlabelled_loss(self, logits: torch.Tensor, extra: Batch) -> torch.Tensor:
        assert self.extra is not None
        done = self.schedule.last_epoch / self.updates
        return self.extra.add(self.loss, logits, extra["weak"], self.kept, done)

    def _check_finite(self, loss: torch.Tensor, batch: Batch, extra: Batch | None) -> None:
        """Stop every process where the loss of one is not finite, and name the files that it was."""
        finite = torch.isfinite(loss.detach()).float()
        if self.accelerator.num_processes > 1:
            finite = self.accelerator.reduce(finite, reduction="sum") == self.accelerator.num_processes
        if not finite:
            own = [] if torch.isfinite(loss) else [self.sources[index] for index in batch["index"].tolist()]
            if own and extra is not None and self.extra is not None:
                own += [self.extra.sources[index] for index in extra["index"].tolist()]
            files = gather_object([(loss.item(), own)])
            value, names = next((value, names) for value, names in files if names)
            raise TrainingError(
                f"training stopped: the loss is {value} on the batch of {', '.join(names)}; look at these files, or "
                "lower --learning_rate. The last checkpoint is kept."
            )

    def _set_training_mode(self, *, frozen: bool) -> None:
        self.model.train()
        for parameter in self.plain.body_parameters():
            parameter.requires_grad_(not frozen)
        for part in [self.plain] if frozen else self.still:
            if not frozen:
                part.requires_grad_(False)
            for module in part.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()  # what is frozen keeps its statistics too

    def _rows(self, batch: Mapping[str, torch.Tensor], count: int) -> dict[str, torch.Tensor]:
        """The rows (count, D) of a batch, of missing values for the slices without labels that go after it."""
        if self.plain.tabular is None:
            return {}
        rows = batch["tabular"]
        missing = self.plain.tabular.absent(rows).expand(count - len(rows), -1)
        return {"tabular": torch.cat([rows, missing])}

    def validate(self) -> tuple[np.ndarray, np.ndarray]:
        """Logits (N, K) and labels (N,) of validation, each item once however many processes there are."""
        self._share_buffers()
        model = self.kept.eval()
        logits, labels = [], []
        with torch.inference_mode():
            for batch in self.checking:
                images = _channels_last(batch["pixel_values"])
                with self.accelerator.autocast():
                    answer = model(pixel_values=images, **_rows_of(batch)).logits.float()
                gathered = self.accelerator.gather_for_metrics((answer, batch["label"]))
                logits.append(gathered[0].cpu())
                labels.append(gathered[1].cpu())
        answers = torch.cat(logits).numpy()
        if not np.isfinite(answers).all():
            raise TrainingError(
                "training stopped: the network's answers on the validation split are no longer finite; lower "
                "--learning_rate. The last checkpoint is kept."
            )
        return answers, torch.cat(labels).numpy()

    def _share_buffers(self) -> None:
        """Batch-norm statistics differ by process; the main one's are those that are validated and saved."""
        if self.accelerator.num_processes > 1:
            for buffer in self.kept.buffers():
                buffer.copy_(broadcast(buffer))

    def _record(self, record: dict[str, Any]) -> None:
        """Note the epoch, keep its weights if they are the best, checkpoint, and tell the trackers."""
        figure = record[f"validation_{self.config.metric}"]
        better = is_better(figure, self.progress.best_figure, self.config.metric)
        epoch = record["epoch"]
        best_epoch = epoch if better else self.progress.best_epoch
        tired = 0 < self.config.patience <= epoch - best_epoch
        self.progress = replace(
            self.progress,
            epoch=epoch,
            updates=self.schedule.last_epoch,
            best_epoch=best_epoch,
            best_figure=figure if better else self.progress.best_figure,
            finished=tired or epoch >= self.config.epochs,
            history=[*self.progress.history, record],
        )
        weights = {key: value.detach().cpu().contiguous() for key, value in self.kept.timm_model.state_dict().items()}
        self._save(best=weights if better else None)
        numbers = {name: value for name, value in record.items() if value is not None and name != "epoch"}
        self.accelerator.log(numbers, step=epoch)

    def _modules(self) -> dict[str, nn.Module]:
        modules: dict[str, nn.Module] = {"model": self.plain}
        return modules if self.average is None else modules | {"average": self.average}

    def _save(self, best: dict[str, torch.Tensor] | None) -> None:
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else {}
            save_checkpoint(self.directory, self.progress, self._modules(), self.optimizer.optimizer, scaler, best)
            lines = [dump_json(record) for record in self.progress.history]
            write_atomically(self.run / "history.jsonl", "".join(line + "\n" for line in lines))
        self.accelerator.wait_for_everyone()

    def _resume(self, checkpoint: Path) -> None:
        progress = read_progress(checkpoint)
        check_same_options(progress.config, self.progress.config)
        if progress.split != self.progress.split:
            raise CheckpointError(CHANGED_SPLIT)
        scaler = load_checkpoint(checkpoint, self._modules(), self.optimizer.optimizer)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(scaler)
        rates = [group["lr"] for group in self.optimizer.param_groups]
        done = {"last_epoch": progress.updates, "_step_count": progress.updates + 1, "_last_lr": rates}
        self.schedule.load_state_dict(self.schedule.state_dict() | done)
        self.progress = progress
        self.accelerator.print(f"resumed after epoch {progress.epoch} of {self.config.epochs} ({checkpoint})")

    def _progress_bar(self) -> tqdm:
        works, resizes = [self._work(epoch) for epoch in range(1, self.config.epochs + 1)], self.config.small_epochs > 0
        return tqdm(
            total=self.steps * sum(works),
            initial=self.steps * sum(works[: self.progress.epoch]),
            unit="pixel" if resizes else "step",
            unit_scale=resizes,
            dynamic_ncols=True,
            disable=not self.accelerator.is_main_process,
        )

    def _work(self, epoch: int) -> int:
        """What a step of an epoch counts in the time left: one, or its pixels where the side changes."""
        if not self.config.small_epochs:
            return 1
        side = self.config.small_size if epoch <= self.config.small_epochs else self.config.image_size
        return self.batch_size * side**2


def _rows_of(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The rows (B, D) that the network is given beside the images, where there are any."""
    return {"tabular": batch["tabular"]} if "tabular" in batch else {}


def _channels_last(images: torch.Tensor) -> torch.Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _check_differ(items: EvaluationItems) -> None:
    """Raise `InputError` where the network would be shown one and the same picture throughout."""
    first: Any = items[0]["pixel_values"]
    if all(torch.equal(first, torch.as_tensor(items[index]["pixel_values"])) for index in range(1, len(items))):
        raise InputError(
            f"corpus: all {len(items)} training images are the same to the network, which can learn nothing from them; "
            "look at the files, and at --window and --filters."
        )


def _summary(record: dict[str, Any], config: TrainConfig, *, kept: bool) -> str:
    """One line an epoch for the terminal."""
    figure = record[f"validation_{config.metric}"]
    parts = [
        f"epoch {record['epoch']}/{config.epochs}: train loss {record['train_loss']:.4f}",
        f"validation loss {record['validation_loss']:.4f}, accuracy {record['validation_accuracy']:.3f}",
        f"{record['images_per_second']:.1f} images/s",
    ]
    if config.metric not in ("loss", "accuracy"):
        parts.insert(2, f"{config.metric} {'none' if figure is None else format(figure, '.4f')}")
    if KEPT in record:
        parts.insert(-1, f"{100 * record[KEPT]:.0f} % of the unlabelled kept")
    return ", ".join(parts) + (" (best so far)" if kept else "")


def _mixup(config: TrainConfig, classes: int) -> Any:
    if not config.mixup:
        return None

    # Label smoothing is the loss's affair, for mixed and unmixed targets alike.
    return Mixup(mixup_alpha=config.mixup, num_classes=classes, label_smoothing=0.0)


CHANGED_SPLIT = (
    "--resume auto: the corpus or its split has changed since the run was started; choose another --output_dir."
)


def binding_options(config: TrainConfig) -> dict[str, Any]:
    """The options that decide which weights a run ends with."""
    return _binding(config.mapping)


def _binding(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Of options as they were stated; what names the classes of an external corpus is as free as that corpus is."""
    others = tuple(f"{name}/" for name in stated.get("external", ()))
    own = {key: one for key, one in stated.get("class_map", {}).items() if not others or not key.startswith(others)}
    return {name: value for name, value in stated.items() if name not in FREE_TO_DIFFER} | {"class_map": own}


def check_same_options(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` unless a run is resumed with the options that it was started with.

    What an older version knew no option for, its runs did as the default does.
    """
    found = _binding(option_defaults() | dict(found))
    names = sorted(name for name in found if found[name] != wanted.get(name))
    if names:
        changes = ", ".join(f"--{name} {found.get(name)!r} -> {wanted.get(name)!r}" for name in names)
        raise CheckpointError(
            f"--resume auto: the run was started with other options ({changes}); give the same ones, or another "
            "--output_dir."
        )
