"""A model soup: one network whose weights are the average of several, at the cost of none in training or answering.

Networks that were fine-tuned from the same first weights mostly lie in one valley of the loss, and their average
between them (Neyshabur et al. 2020, arXiv:2008.11687; Wortsman et al. 2022, arXiv:2203.05482). The greedy recipe: the
best by validation first, then each of the others where validation gets no worse with it. Batch norms of an average are
estimated anew on training slices, as averaged weights make other features than any of the averaged statistics describe
(Izmailov et al. 2018, arXiv:1803.05407).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import update_bn
from tqdm.auto import tqdm

from ct_xception.checkpoint import MODEL
from ct_xception.checkpoint_files import SoupRecord, need_side
from ct_xception.errors import InputError, printable
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.serving.checkpoint import Checkpoint, open_checkpoint
from ct_xception.statistics.selection import LOWER_IS_BETTER
from ct_xception.training.loop import Trained, Training
from ct_xception.training.validation import is_better, validation_figures

SOUP = "soup.safetensors"
State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class _Offered:
    """A checkpoint that the soup is offered: where it lies, what is said of it, and its figure on validation."""

    folder: Path
    name: str
    weights_sha256: str
    seed: int | None
    figure: float

    def told(self, *, kept: bool, together: float | None = None) -> dict[str, Any]:
        """Its line of the record."""
        own = {"name": self.name, "weights_sha256": self.weights_sha256, "figure": self.figure, "kept": kept}
        seed = {} if self.seed is None else {"seed": self.seed}
        return own | seed | ({} if together is None else {"together": together})


def check_soup(sources: Sequence[str]) -> None:
    """Raise `InputError` unless the checkpoints of --soup are of one network, one preparation and one beginning."""
    if not sources:
        return
    opened = [open_checkpoint(source) for source in sources]
    sides = [need_side(one.folder) for one in opened]
    first = opened[0]
    for one in opened[1:]:
        for what, of in (("network", _network), ("input", lambda checkpoint: checkpoint.contract)):
            if of(one) != of(first):
                raise InputError(f"--soup: {one.name} and {first.name} differ in their {what}; give those of one.")
    begun = [str(side.provenance.to_json().get("initial_weights")) for side in sides]
    for one, weights in zip(opened, begun, strict=True):
        if weights in ("random", "None") or weights != begun[0]:
            raise InputError(
                f"--soup: {one.name} began with {printable(weights)} weights, {first.name} with {printable(begun[0])}; "
                "an average means something only of networks that were fine-tuned from the same ones."
            )
    hashes = [side.provenance.weights_sha256 for side in sides]
    for index, one in enumerate(opened):
        if hashes[index] in hashes[:index]:
            raise InputError(f"--soup: {one.name} has the weights of another that is given; give each once.")


def _network(checkpoint: Checkpoint) -> dict[str, Any]:
    names = ("architecture", "head", "attention", "tabular", "label_names", "pretrained_cfg")
    return {name: checkpoint.config.get(name) for name in names}


def check_split(sources: Sequence[str], label_names: Sequence[str], split: str) -> None:
    """Raise `InputError` where a checkpoint of --soup knows other classes, or was trained by another split."""
    for source in sources:
        one = open_checkpoint(source)
        if list(one.config["label_names"]) != list(label_names):
            known = ", ".join(one.config["label_names"])
            raise InputError(f"--soup: {one.name} knows the classes {known}, and the corpus {', '.join(label_names)}.")
        if need_side(one.folder).provenance.split.get("name") != split:
            raise InputError(
                f"--soup: {one.name} was trained by another split, so it may have seen what is tested here; train all "
                "by one (the corpus's own, or one --seed)."
            )


def make_soup(training: Training, sources: Sequence[str]) -> tuple[Trained, SoupRecord]:
    """The greedy soup of checkpoints by the run's --metric on validation; its weights' file, and its record.

    `training` holds the network, without a moving average, and the slices; it is not trained.
    """
    config, main = training.config, training.accelerator.is_main_process
    offered = sorted(
        (_weigh(training, source) for source in sources),
        key=lambda one: one.figure if config.metric in LOWER_IS_BETTER else -one.figure,
    )
    total, best, lines = _load(offered[0].folder), offered[0].figure, [offered[0].told(kept=True)]
    state, count = total, 1
    for one in offered[1:]:
        more = _add(total, _load(one.folder))
        _estimate_norms(training, _divide(more, count + 1), f"batch norms with {one.name}")
        figure = _figure(training)
        better = not is_better(best, figure, config.metric)  # no worse is enough, as in the paper
        lines.append(one.told(kept=better, together=figure))
        training.accelerator.print(_line(lines[-1], config.metric))
        if better:
            total, best, state, count = more, figure, _state_of(training.plain), count + 1
    file = training.run / SOUP
    if main:
        save_file({key: value.contiguous() for key, value in state.items()}, file, metadata={"format": "pt"})
    training.accelerator.wait_for_everyone()
    record = {"metric": config.metric, "n": training.validation_size, "ingredients": lines}
    return Trained(file, 0, [], training.tabular), SoupRecord.of(record)


def _weigh(training: Training, source: str) -> _Offered:
    checkpoint = open_checkpoint(source)
    folder, provenance = checkpoint.folder, need_side(checkpoint.folder).provenance
    training.plain.timm_model.load_state_dict(_load(folder))
    seed, place = provenance.to_json().get("seed"), Path(source)
    name = (place.parent.name if place.name == MODEL else place.name) if place.exists() else source
    offered = _Offered(folder, name, str(provenance.weights_sha256), seed, _figure(training))
    training.accelerator.print(f"{name} alone: validation {training.config.metric} {offered.figure:.4f}")
    return offered


def _load(folder: Path) -> State:
    """A network's tensors, with the temperature taken out of its head again."""
    model = CTXceptionForImageClassification.from_pretrained(folder)
    with torch.no_grad():
        model.fold_temperature(1 / need_side(folder).temperature)
    return _state_of(model)


def _add(one: State, other: State) -> State:
    return {key: value + other[key] if value.is_floating_point() else value for key, value in one.items()}


def _divide(total: State, count: int) -> State:
    return {key: value / count if value.is_floating_point() else value for key, value in total.items()}


def _state_of(model: CTXceptionForImageClassification) -> State:
    return {key: value.detach().cpu().clone() for key, value in model.timm_model.state_dict().items()}


def _estimate_norms(training: Training, state: State, title: str) -> None:
    """Load a state, and estimate the batch norms on an epoch of training slices, augmented as in training."""
    training.plain.timm_model.load_state_dict(state)
    training.sampler.epoch = 1
    shown = training.accelerator.is_main_process

    def batches() -> Iterator[torch.Tensor]:
        for batch in tqdm(training.loader, desc=title, unit="batch", leave=False, disable=not shown):
            yield batch["pixel_values"].contiguous(memory_format=torch.channels_last)

    update_bn(batches(), training.plain)


def _figure(training: Training) -> float:
    """The run's metric on validation; the worst there is where it cannot be had."""
    figure = validation_figures(*training.validate())[training.config.metric]
    if figure is None:
        raise InputError(f"--metric {training.config.metric}: is not defined on this validation split; choose loss.")
    return figure


def _line(told: dict[str, Any], metric: str) -> str:
    verdict = "kept" if told["kept"] else "left out"
    return f"with {told['name']}: validation {metric} {told['together']:.4f}, {verdict}"
