"""One file in, one answer out: read, body crop, the checkpoint's own eval transform, network, probabilities.

from ct_xception import Classifier
classifier = Classifier.from_pretrained("runs/phantom/model")        # or "user/repo" on the Hub
print(classifier("slice.dcm").label)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, overload

import numpy as np
from PIL import Image

from ct_xception.checkpoint import POOLING
from ct_xception.checkpoint_files import TabularRule
from ct_xception.errors import CheckpointError, InputError, SliceError, printable
from ct_xception.imaging.body.crop import BodyCrop, Box, crop_body
from ct_xception.imaging.decoders.dicom import TABULAR_TAGS, read_keywords
from ct_xception.imaging.reader import read_slice, try_read
from ct_xception.imaging.slice import Slice, rewindow
from ct_xception.imaging.source import FrameOf
from ct_xception.imaging.transforms import EvalTransform, apply_filters
from ct_xception.imaging.windows import WINDOWS, Window
from ct_xception.serving.checkpoint import Checkpoint, InputContract, open_checkpoint
from ct_xception.serving.decisions import Decision, Decisions
from ct_xception.serving.drift import SetWatch
from ct_xception.serving.gate import ACCEPTED, Gate, GateVerdict
from ct_xception.serving.network import Network, Outputs
from ct_xception.serving.runtimes import DEFAULT_RUNTIME, find_runtime
from ct_xception.serving.runtimes.pytorch import TorchNetwork
from ct_xception.statistics.attention import GatedAttention
from ct_xception.tabular import Encoded, Row, Tabular
from ct_xception.text import did_you_mean

if TYPE_CHECKING:
    import torch

    from ct_xception.model.modelling import CTXceptionForImageClassification

Source = str | Path | bytes | BinaryIO | Image.Image | FrameOf | Slice


@dataclass(frozen=True, eq=False)
class PreparedSlice:
    """A slice as the network takes it.

    `values` is (3, S, S) float32, normalised; `crop` says which box of the slice it shows: the whole slice when the
    checkpoint wants no body crop. `tabular` is the row of a table as the network takes it.
    """

    values: np.ndarray
    crop: BodyCrop
    tabular: Encoded | None = None

    @property
    def row(self) -> np.ndarray | None:
        """The row (1, D) that goes with it; None where the network takes the image alone."""
        return None if self.tabular is None else self.tabular.vector[None]

    @property
    def pixel_values(self) -> torch.Tensor:
        """`values` as a torch tensor, which shares their memory."""
        import torch

        return torch.from_numpy(self.values)


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer to one slice.

    `probabilities` maps every class to a value in [0, 1], the most probable first; they sum to 1. `notes` says what the
    reader and the classifier did to the file, each a short clause. `decision` is what the checkpoint's own rules make
    of the probabilities; each of its parts is None or empty where the checkpoint has no such rule. `outputs` is what
    the network gave for this slice: logits (K,), features (2048,) and class activation maps (K, h, w) of the crop.
    `gate` is the input gate's verdict, None where none was asked; what it refused (`refusal`) leaves every door with
    its reasons and without label and figures. `attention` is what the slice counts beside others of its patient, before
    the softmax over them; None where the checkpoint pools without. `tabular` are the values that were taken beside the
    image, None for a missing one; None where the network sees the image alone.
    """

    source: str
    label: str
    probabilities: dict[str, float]
    slice: Slice
    notes: tuple[str, ...] = ()
    decision: Decision = Decision()
    outputs: Outputs | None = None
    gate: GateVerdict | None = None
    attention: float | None = None
    tabular: Mapping[str, float | str | None] | None = None

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

    @property
    def refusal(self) -> tuple[str, ...]:
        """Why the input gate refuses the slice; empty where it does not, was overruled, or there is none."""
        if self.gate is None or not self.gate.refused:
            return ()
        return self.gate.reasons or ("the input gate refused the slice",)

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON takes it, without pixels; the verdict of the gate and of each rule where there is one.

        What the gate refused has `refused`, its reasons, and neither label nor figures. A refusal that was overruled
        stands under `gate_overruled`.
        """
        window = self.slice.window
        answer = {"label": self.label, "probabilities": dict(self.probabilities), **self.decision.to_dict()}
        key = "gate_overruled" if self.gate is not None and self.gate.overruled else "gate"
        return {
            **({"refused": list(self.refusal)} if self.refusal else {}),
            "source": self.source,
            **({} if self.gate is None else {key: self.gate.to_dict()}),
            **({"label": None, "probabilities": {}} if self.refusal else answer),
            "window": None if window is None else {"centre": window.centre, "width": window.width},
            **({} if self.tabular is None else {"tabular": dict(self.tabular)}),
            "notes": list(self.notes),
        }


class Classifier:
    """A checkpoint that answers. Safe to call from several threads: it holds no state of a call."""

    def __init__(
        self,
        model: CTXceptionForImageClassification | Network,
        contract: InputContract = InputContract(),  # noqa: B008 (frozen)
        *,
        checkpoint: Checkpoint | None = None,
        decisions: Decisions = Decisions(),  # noqa: B008 (frozen)
        gate: Gate | None = None,
        overrule_gate: bool = False,
    ) -> None:
        self.network = model if isinstance(model, Network) else TorchNetwork(model)
        self.contract = contract
        self.checkpoint = checkpoint
        self.decisions = decisions
        self.gate = gate
        self.overrule_gate = overrule_gate
        self.attention: GatedAttention | None = None if checkpoint is None else checkpoint.attention
        self.watch: SetWatch | None = None  # told of every slice that is answered, where a set is to be judged
        self.transform = EvalTransform(self.network.pretrained_cfg)
        self.columns = _columns_of(self.network, checkpoint)

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path,
        runtime: str = DEFAULT_RUNTIME,
        *,
        device: str = "cpu",
        threads: int | None = None,
        gate: bool = True,
        overrule_gate: bool = False,
        modality: str | None = None,
    ) -> Classifier:
        """Load a checkpoint folder or a Hub id (`user/repo`, `user/repo@revision`).

        `runtime` is one of RUNTIMES: "torch", or one of EXPORTED, "onnx", for a file that `ct-xception export` wrote,
        which answers on the CPU, with `threads` of it, without importing torch. `gate` False leaves the checkpoint's
        input gate out; `overrule_gate` asks it, and answers what it refuses too. `modality` says what its images are
        where the checkpoint does not. Raises CheckpointError, one sentence, when there is no such thing, it is damaged,
        or it is of another kind.
        """
        chosen = find_runtime(runtime)
        found = open_checkpoint(checkpoint, chosen.files)
        network = chosen.open(found, device=device, threads=threads)
        own = found.gate if gate else None
        contract = found.contract.told(modality, found.name)
        return cls(
            network, contract, checkpoint=found, decisions=found.decisions, gate=own, overrule_gate=overrule_gate
        )

    @property
    def model(self) -> CTXceptionForImageClassification:
        """The torch model; raises InputError where another runtime answers."""
        if not isinstance(self.network, TorchNetwork):
            raise InputError(
                f"runtime {self.network.runtime}: holds no torch network, which this needs; load the checkpoint with "
                "runtime torch."
            )
        return self.network.model

    @property
    def label_names(self) -> list[str]:
        """The class names in index order."""
        return list(self.network.label_names)

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
            known, guess = ", ".join(self.label_names), did_you_mean(label, self.label_names)
            raise InputError(f"class {label!r} is unknown; this checkpoint knows {known}{guess or '.'}")
        return self.label_names.index(label)

    @overload
    def __call__(
        self, source: Source, *, window: Window | None = ..., frame: int | None = ..., tabular: Row | None = ...
    ) -> Prediction: ...
    @overload
    def __call__(
        self,
        source: list[Source] | tuple[Source, ...],
        *,
        window: Window | None = ...,
        frame: int | None = ...,
        tabular: Row | Sequence[Row] | None = ...,
    ) -> list[Prediction]: ...
    def __call__(
        self,
        source: Source | list[Source] | tuple[Source, ...],
        *,
        window: Window | None = None,
        frame: int | None = None,
        tabular: Row | Sequence[Row] | None = None,
    ) -> Prediction | list[Prediction]:
        """Answer one slice, or a list of them in its order; the first unreadable file raises SliceError.

        `tabular` is what a checkpoint trained with `--tabular_columns` takes beside the image, `{"age": 63, "sex":
        "F"}`, or one such row for each of a list; without it, or a column of it, the answer's notes say so. A list of
        answers holds every slice's pixels: for a great many files use `predict_many`.
        """
        if not isinstance(source, (list, tuple)):
            return self([source], window=window, frame=frame, tabular=tabular)[0]
        answers = []
        for answer in self.predict_many(source, window=window, frame=frame, tabular=tabular):
            if isinstance(answer, SliceError):
                raise answer
            answers.append(answer)
        return answers

    def predict_many(
        self,
        sources: Iterable[Source | SliceError],
        *,
        window: Window | None = None,
        frame: int | None = None,
        batch_size: int = 8,
        tabular: Row | Sequence[Row] | None = None,
    ) -> Iterator[Prediction | SliceError]:
        """Answer any number of slices, in order, holding one batch at a time; a bad file yields its SliceError.

        So does a SliceError among the sources: what the caller could not read keeps its place. `tabular` is one row for
        all, or one for each; a Slice may carry its own.
        """
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; give 1 or more.")
        count = len(sources) if isinstance(sources, Sequence) else None
        remaining = zip(sources, rows_for(count, tabular), strict=False)
        while chunk := list(itertools.islice(remaining, batch_size)):
            slices = [with_row(self._try_read(source, window, frame), row) for source, row in chunk]
            answers = iter(self._predict_slices([item for item in slices if isinstance(item, Slice)]))
            for item in slices:
                yield item if isinstance(item, SliceError) else next(answers)

    def read(
        self, source: Source, *, window: Window | None = None, frame: int | None = None, name: str | None = None
    ) -> Slice:
        """Read one slice as this checkpoint wants it shown; `window` overrides its choice. Raises SliceError."""
        if isinstance(source, Slice):
            return source
        asked = window or self.contract.window
        how: dict[str, Any] = {"frame": frame, "name": name, "modality": self.contract.modality}
        # Where nobody says which window, the values are kept to look through others, should the gate doubt this one.
        slice_ = read_slice(source, window=asked, keep_values=asked is None and self.gate is not None, **how)
        return self._with_header(slice_, source)

    def _with_header(self, slice_: Slice, source: Source) -> Slice:
        """The slice with what its own DICOM header says in the columns that are called as DICOM's keywords."""
        names = () if self.columns is None else [name for name in self.columns.names if name in TABULAR_TAGS]
        file = source.file if isinstance(source, FrameOf) else source
        if not names or not isinstance(file, (str, Path, bytes)):
            return slice_
        return replace(slice_, tabular=read_keywords(file, names))

    def watch_set(self) -> None:
        """Gather in `watch` what is answered from now on, to judge it as a set, where the checkpoint can."""
        kept = self.checkpoint
        self.watch = None if kept is None else SetWatch.of(kept.drift, kept.gate)

    @property
    def window_hint(self) -> str | None:
        """In which window the doubted slices of the watched set may want to be read; None where nothing says so."""
        return None if self.watch is None else self.watch.through.hint()

    def prepare(self, slice_: Slice) -> PreparedSlice:
        """Filters, body crop and eval transform, as this checkpoint's input contract asks."""
        filtered = apply_filters(slice_, self.contract.filters)
        crop = crop_body(filtered) if self.contract.body_crop else _whole(filtered)
        return PreparedSlice(self.transform.array(crop.slice), crop, self._encode(slice_))

    def _encode(self, slice_: Slice) -> Encoded | None:
        """The slice's row as the network takes it. Raises InputError for a row that it cannot take."""
        if self.columns is not None:
            return self.columns.encode(slice_.tabular or {})
        if slice_.tabular:
            given = ", ".join(map(printable, slice_.tabular))
            raise InputError(f"tabular: {self.name} takes the image alone, and no columns ({given}); leave them out.")
        return None

    def _try_read(self, source: Source | SliceError, window: Window | None, frame: int | None) -> Slice | SliceError:
        if isinstance(source, SliceError):
            return source
        return try_read(self.read, source, window=window, frame=frame)

    def _predict_slices(self, slices: Sequence[Slice]) -> list[Prediction]:
        if not slices:
            return []
        prepared = [self.prepare(slice_) for slice_ in slices]
        outputs = self.ask(prepared)
        if not all(np.isfinite(part).all() for part in outputs):
            raise CheckpointError(f"{self.name}: its network gives values that are not finite; fetch it again.")
        answers = [
            self._answer(*pair, outputs.item(row)) for row, pair in enumerate(zip(slices, prepared, strict=True))
        ]
        return self._look_again(slices, answers)

    def _look_again(self, slices: Sequence[Slice], answers: list[Prediction]) -> list[Prediction]:
        """The answers, a doubt of the gate with the windows in which it would have none, where it may be of the window.

        As a look costs an answer for every preset, it is the first of a call, and ever fewer of a set that is watched.
        """
        looked = False
        for place, slice_ in enumerate(slices):
            verdict = answers[place].gate
            if verdict is None or verdict.verdict == ACCEPTED or not self.may_want_a_window(slice_):
                continue
            if looked if self.watch is None else not self.watch.through.wants():
                continue
            looked, found = True, self.accepted_windows(slice_)
            if self.watch is not None:
                self.watch.through.note(found)
            if found:
                reasons = (*verdict.reasons, f"through the {' or '.join(found)} window it would be accepted")
                answers[place] = replace(answers[place], gate=replace(verdict, reasons=reasons))
        return answers

    def may_want_a_window(self, slice_: Slice) -> bool:
        """Whether a slice holds HU that could be shown through another window than it was."""
        return self.contract.window is None and slice_.is_hu and slice_.values is not None

    def accepted_windows(self, slice_: Slice) -> tuple[str, ...]:
        """The presets through which the gate accepts a slice in HU."""
        assert self.gate is not None
        shown = {name: rewindow(slice_, window) for name, window in WINDOWS.items() if window != slice_.window}
        prepared = [self.prepare(one) for one in shown.values()]
        asked = zip(shown.items(), prepared, self.ask(prepared).features, strict=True)
        judged = {name: self.gate.judge(one, ready.crop, row) for (name, one), ready, row in asked}
        return tuple(name for name, verdict in judged.items() if verdict.verdict == ACCEPTED)

    def ask(self, prepared: Sequence[PreparedSlice]) -> Outputs:
        """What the network gives for slices and, where it takes them, their rows."""
        values, rows = np.stack([item.values for item in prepared]), [item.row for item in prepared]
        told = [row for row in rows if row is not None]
        return self.network(values, np.concatenate(told)) if told else self.network(values)

    def _answer(self, slice_: Slice, prepared: PreparedSlice, outputs: Outputs) -> Prediction:
        probabilities = softmax(outputs.logits / self.decisions.output_temperature).tolist()
        ranked = sorted(zip(self.label_names, probabilities, strict=True), key=lambda pair: -pair[1])
        values = dict(ranked)
        notes, decision = prepared.crop.slice.notes, self.decisions.decide(values)
        if self.watch is not None:
            self.watch.add(slice_, prepared.crop, outputs.features)
        verdict = None if self.gate is None else self.gate.judge(slice_, prepared.crop, outputs.features)
        if verdict is not None and verdict.refused and self.overrule_gate:
            verdict = replace(verdict, overruled=True)
        attention, row = self._attend(outputs.features), prepared.tabular
        taken = None if row is None else row.taken
        notes += () if row is None else row.notes
        source, label = slice_.source, ranked[0][0]
        slice_ = replace(slice_, values=None)  # a float a pixel; who holds many answers has no use for them
        return Prediction(source, label, values, slice_, notes, decision, outputs, verdict, attention, taken)

    def _attend(self, features: np.ndarray) -> float | None:
        try:
            return None if self.attention is None else float(self.attention(features[None])[0])
        except ValueError as error:
            raise CheckpointError(f"{self.name}: {POOLING} is of another network ({error}); fetch it again.") from error


def with_row(slice_: Slice | SliceError, row: Row | None) -> Slice | SliceError:
    """The slice with the row of a table, which outranks what its own header says; as it is where there is none."""
    if row is None or isinstance(slice_, SliceError):
        return slice_
    return replace(slice_, tabular={**(slice_.tabular or {}), **row})


def rows_for(count: int | None, tabular: Row | Sequence[Row] | None) -> Iterable[Row | None]:
    """The row of each of `count` slices, or of an unknown number (None); one row is that of all. Raises InputError."""
    if tabular is None or isinstance(tabular, Mapping):
        return [tabular] * count if count is not None else itertools.repeat(tabular)
    if isinstance(tabular, str) or not all(isinstance(row, Mapping) for row in tabular):
        raise InputError('tabular: give a row as {"age": 63, "sex": "F"}, or a list of such rows, one for each slice.')
    if count is not None and count != len(tabular):
        raise InputError(f"tabular: {len(tabular)} rows for {count} slices; give one for each, or one for all.")
    return tabular


def _columns_of(network: Network, checkpoint: Checkpoint | None) -> Tabular | None:
    """What the network takes beside the image; None where it takes nothing."""
    stated: Any = None if checkpoint is None else checkpoint.config.get("tabular")
    if checkpoint is None and isinstance(network, TorchNetwork):
        stated = getattr(network.model.config, "tabular", None)
    return None if stated is None else Tabular(TabularRule.of(stated))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities float64 from logits (..., K): exp(z) over its sum, shifted so that nothing overflows."""
    shifted = np.exp(np.subtract(logits, logits.max(axis=-1, keepdims=True), dtype=np.float64))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _whole(slice_: Slice) -> BodyCrop:
    """The crop that crops nothing."""
    height, width = slice_.pixels.shape
    return BodyCrop(slice=slice_, box=Box(0, 0, height, width), found=False)
