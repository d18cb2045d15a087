"""One file in, one answer out: read, body crop, the checkpoint's own eval transform, network, probabilities.

from ct_xception import Classifier
classifier = Classifier.from_pretrained("runs/phantom/model")        # or "user/repo" on the Hub
print(classifier("slice.dcm").label)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, overload

import torch
from PIL import Image
from safetensors import SafetensorError

from ct_xception.errors import CheckpointError, InputError, SliceError
from ct_xception.imaging.body import BodyCrop, Box, crop_body
from ct_xception.imaging.slices import Slice, Window, read_slice
from ct_xception.imaging.transforms import EvalTransform, apply_filters
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.serving.checkpoint import Checkpoint, InputContract, open_checkpoint
from ct_xception.serving.decisions import Decision, Decisions

Source = str | Path | bytes | BinaryIO | Image.Image | Slice


@dataclass(frozen=True, eq=False)
class PreparedSlice:
    """A slice as the network takes it.

    `pixel_values` is (3, S, S) float32, normalised; `crop` says which box of the slice it shows: the whole slice when
    the checkpoint wants no body crop.
    """

    pixel_values: torch.Tensor
    crop: BodyCrop


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer to one slice.

    `probabilities` maps every class to a value in [0, 1], the most probable first; they sum to 1. `notes` says what the
    reader and the classifier did to the file, each a short clause. `decision` is what the checkpoint's own rules make
    of the probabilities; each of its parts is None or empty where the checkpoint has no such rule.
    """

    source: str
    label: str
    probabilities: dict[str, float]
    slice: Slice
    notes: tuple[str, ...] = ()
    decision: Decision = Decision()

    @property
    def prediction_set(self) -> tuple[str, ...] | None:
        """The classes that cannot be ruled out at `decision.coverage`, the most probable first; it may be empty."""
        return self.decision.prediction_set

    @property
    def operating(self) -> Mapping[str, Mapping[str, Any]]:
        """The yes or no of each operating point, by its name."""
        return self.decision.operating

    @property
    def abstained(self) -> bool | None:
        """Whether the most probable class is too improbable for this checkpoint to answer with it."""
        return self.decision.abstained

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON takes it, without pixels; prediction_set, operating, abstained where there are rules."""
        window = self.slice.window
        return {
            "source": self.source,
            "label": self.label,
            "probabilities": dict(self.probabilities),
            **self.decision.to_dict(),
            "window": None if window is None else {"centre": window.centre, "width": window.width},
            "notes": list(self.notes),
        }


class Classifier:
    """A checkpoint that answers. Safe to call from several threads: it holds no state of a call."""

    def __init__(
        self,
        model: CTXceptionForImageClassification,
        contract: InputContract = InputContract(),  # noqa: B008 (frozen)
        *,
        checkpoint: Checkpoint | None = None,
        decisions: Decisions = Decisions(),  # noqa: B008 (frozen)
    ) -> None:
        # Depthwise convolutions run a good deal faster on CPU with channels last.
        self.model = model.eval().to(memory_format=torch.channels_last)
        self.contract = contract
        self.checkpoint = checkpoint
        self.decisions = decisions
        self.transform = EvalTransform(model.config.pretrained_cfg)

    @classmethod
    def from_pretrained(cls, checkpoint: str | Path, *, device: str = "cpu") -> Classifier:
        """Load a checkpoint folder or a Hub id (`user/repo`, `user/repo@revision`).

        Raises CheckpointError, one sentence, when there is no such thing, it is damaged, or it is of another kind.
        """
        found = open_checkpoint(checkpoint)
        model = _load_model(found)
        model.to(device)  # type: ignore[arg-type]
        return cls(model, found.contract, checkpoint=found, decisions=found.decisions)

    @property
    def label_names(self) -> list[str]:
        """The class names in index order."""
        return self.model.label_names

    @property
    def name(self) -> str:
        """The checkpoint as it was named, with the commit when it came from the Hub."""
        if self.checkpoint is None:
            return "in memory"
        revision = self.checkpoint.revision
        return self.checkpoint.name if revision is None else f"{self.checkpoint.name.partition('@')[0]}@{revision}"

    def label_index(self, label: str) -> int:
        """The index of a class name; raises InputError with the names there are."""
        if label not in self.label_names:
            raise InputError(f"class {label!r} is unknown; this checkpoint knows {', '.join(self.label_names)}.")
        return self.label_names.index(label)

    @overload
    def __call__(self, source: Source, *, window: Window | None = ..., frame: int | None = ...) -> Prediction: ...
    @overload
    def __call__(
        self, source: list[Source] | tuple[Source, ...], *, window: Window | None = ..., frame: int | None = ...
    ) -> list[Prediction]: ...
    def __call__(
        self,
        source: Source | list[Source] | tuple[Source, ...],
        *,
        window: Window | None = None,
        frame: int | None = None,
    ) -> Prediction | list[Prediction]:
        """Answer one slice, or a list of them in its order; the first unreadable file raises SliceError.

        A list of answers holds every slice's pixels: for a great many files use `predict_many`.
        """
        if not isinstance(source, (list, tuple)):
            return self([source], window=window, frame=frame)[0]
        answers = []
        for answer in self.predict_many(source, window=window, frame=frame):
            if isinstance(answer, SliceError):
                raise answer
            answers.append(answer)
        return answers

    def predict_many(
        self,
        sources: Iterable[Source],
        *,
        window: Window | None = None,
        frame: int | None = None,
        batch_size: int = 8,
    ) -> Iterator[Prediction | SliceError]:
        """Answer any number of slices, in order, holding one batch at a time; a bad file yields its SliceError."""
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; give 1 or more.")
        remaining = iter(sources)
        while chunk := list(itertools.islice(remaining, batch_size)):
            slices = [self._try_read(source, window, frame) for source in chunk]
            answers = iter(self._predict_slices([item for item in slices if isinstance(item, Slice)]))
            for item in slices:
                yield item if isinstance(item, SliceError) else next(answers)

    def read(
        self, source: Source, *, window: Window | None = None, frame: int | None = None, name: str | None = None
    ) -> Slice:
        """Read one slice as this checkpoint wants it shown; `window` overrides its choice. Raises SliceError."""
        if isinstance(source, Slice):
            return source
        return read_slice(source, window=window or self.contract.window, frame=frame, name=name)

    def prepare(self, slice_: Slice) -> PreparedSlice:
        """Filters, body crop and eval transform, as this checkpoint's input contract asks."""
        filtered = apply_filters(slice_, self.contract.filters)
        crop = crop_body(filtered) if self.contract.body_crop else _whole(filtered)
        return PreparedSlice(self.transform(crop.slice), crop)

    def logits(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) float32 on the CPU of prepared slices (B, 3, S, S)."""
        batch = pixel_values.to(self.model.device).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return self.model(pixel_values=batch).logits.float().cpu()

    def _try_read(self, source: Source, window: Window | None, frame: int | None) -> Slice | SliceError:
        try:
            return self.read(source, window=window, frame=frame)
        except SliceError as error:
            return error

    def _predict_slices(self, slices: Sequence[Slice]) -> list[Prediction]:
        if not slices:
            return []
        prepared = [self.prepare(slice_) for slice_ in slices]
        probabilities = self.logits(torch.stack([item.pixel_values for item in prepared])).double().softmax(dim=1)
        return [self._answer(*triple) for triple in zip(slices, prepared, probabilities.tolist(), strict=True)]

    def _answer(self, slice_: Slice, prepared: PreparedSlice, probabilities: Sequence[float]) -> Prediction:
        ranked = sorted(zip(self.label_names, probabilities, strict=True), key=lambda pair: -pair[1])
        values = dict(ranked)
        notes, decision = prepared.crop.slice.notes, self.decisions.decide(values)
        return Prediction(slice_.source, ranked[0][0], values, slice_, notes, decision)


def _whole(slice_: Slice) -> BodyCrop:
    """The crop that crops nothing."""
    height, width = slice_.pixels.shape
    return BodyCrop(slice=slice_, box=Box(0, 0, height, width), found=False)


def _load_model(checkpoint: Checkpoint) -> CTXceptionForImageClassification:
    """Load safetensors weights, every one of them: transformers alone would fill missing ones with noise and go on."""
    report: dict[str, Any]
    model: CTXceptionForImageClassification
    try:
        model, report = CTXceptionForImageClassification.from_pretrained(  # type: ignore[misc]
            checkpoint.folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{checkpoint.name}: the network cannot be loaded ({reason}).") from error
    absent = sorted(report["missing_keys"])
    if absent:
        raise CheckpointError(
            f"{checkpoint.name}: the weights lack {len(absent)} of the network's tensors (the first: {absent[0]}); "
            "fetch the checkpoint again."
        )
    return model
