"""What a checkpoint answers to every item of a split, by our predictor and by stock transformers.

A file that a path refuses is an answer too: its row is NaN and its reason is kept, so that nothing is dropped in
silence. A split can be answered in shards by several processes: `join_answers` puts consecutive ones together.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm
from transformers import pipeline

from ct_xception.corpus.cells import read_row, slice_source
from ct_xception.errors import SliceError
from ct_xception.imaging.decoders.pictures import FORMATS
from ct_xception.imaging.source import FrameOf

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.imaging.slice import Slice
    from ct_xception.imaging.windows import Window
    from ct_xception.serving.classifier import Classifier, Prediction

PREDICTOR, STOCK_PIPELINE, WITHHELD = "predictor", "stock_pipeline", "columns_withheld"

T = TypeVar("T")
Item = Mapping[str, Any]  # a row of a split: image {"path", "bytes"}, label, group, source, perhaps frame


@dataclass(frozen=True)
class Judged:
    """Probability by class name, and what the checkpoint says beside it: its gate's verdict, the slice's attention."""

    probabilities: Mapping[str, float]
    verdict: str | None = None
    attention: float | None = None


Answer = Mapping[str, float] | Judged | str  # probability by class name, perhaps with more; or why it was refused
AnswerBatch = Callable[[Sequence[Item]], Sequence[Answer]]

# Pillow modes that hold more than 8 bits; stock transformers' convert("RGB") clips them to 255.
_DEEP_MODES = ("I", "F")


@dataclass(frozen=True, eq=False)
class Items:
    """The columns of a split that figures need, N each: labels as integers, groups and sources as text.

    `series` is empty where the corpus tells none, and has an empty text for an image that is in none.
    """

    labels: NDArray[np.intp]
    groups: list[str]
    sources: list[str]
    series: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, dataset: Dataset) -> Items:
        """Read the columns, not the images."""
        told = ["series"] if "series" in dataset.column_names else []
        columns = dataset.select_columns(["label", "group", "source", *told])[:]
        series = list(columns["series"]) if told else []
        return cls(np.asarray(columns["label"], np.intp), list(columns["group"]), list(columns["source"]), series)

    def select(self, mask: NDArray[np.bool_]) -> Items:
        """The items where `mask` (N,) is true."""
        kept = np.flatnonzero(mask)
        texts = ([column[row] for row in kept] if column else [] for column in (self.groups, self.sources, self.series))
        return Items(self.labels[kept], *texts)

    def with_labels(self, labels: NDArray[np.intp]) -> Items:
        """The same items with other labels (N,)."""
        return Items(labels, self.groups, self.sources, self.series)


@dataclass(frozen=True, eq=False)
class Answers:
    """`probabilities` (N, K) float64 in class order, NaN where the file was refused; `refused` says why, by source.

    `verdicts` are the input gate's, by source; empty where none was asked; what it refuses is answered too.
    `attention` (N,) is each slice's score where the checkpoint pools by learnt attention, NaN where refused.
    """

    probabilities: NDArray[np.float64]
    refused: dict[str, str] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)
    attention: NDArray[np.float64] | None = None

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which of the N items have an answer."""
        return np.all(np.isfinite(self.probabilities), axis=1)

    def select(self, mask: NDArray[np.bool_], sources: Sequence[str]) -> Answers:
        """The answers where `mask` (N,) is true; `sources` are those items' names."""
        refused, verdicts = (
            {name: found[name] for name in sources if name in found} for found in (self.refused, self.verdicts)
        )
        attention = None if self.attention is None else self.attention[mask]
        return Answers(self.probabilities[mask], refused, verdicts, attention)


def join_answers(shards: Sequence[Answers]) -> Answers:
    """The answers of consecutive shards of a split, in the split's order."""
    refused = {source: reason for shard in shards for source, reason in shard.refused.items()}
    verdicts = {source: verdict for shard in shards for source, verdict in shard.verdicts.items()}
    scores = [np.full(len(one.probabilities), np.nan) if one.attention is None else one.attention for one in shards]
    attention = None if all(one.attention is None for one in shards) else np.concatenate(scores)
    return Answers(np.concatenate([shard.probabilities for shard in shards]), refused, verdicts, attention)


def answer_items(
    items: Iterable[Item],
    answer_batch: AnswerBatch,
    label_names: Sequence[str],
    *,
    batch_size: int = 16,
    progress: str | None = None,
) -> Answers:
    """Answer every item, `batch_size` of them at a time; `progress` is the title of a bar, None shows none."""
    rows, attention, refused, verdicts = [], list[float | None](), dict[str, str](), dict[str, str]()
    unknown = [float("nan")] * len(label_names)
    for item, answer in _answered(with_bar(items, progress), answer_batch, batch_size):
        if isinstance(answer, str):
            refused[str(item["source"])] = answer
        attention.append(answer.attention if isinstance(answer, Judged) else None)
        if isinstance(answer, Judged):
            if answer.verdict is not None:
                verdicts[str(item["source"])] = answer.verdict
            answer = answer.probabilities
        rows.append(unknown if isinstance(answer, str) else [answer[name] for name in label_names])
    scores = None if all(one is None for one in attention) else np.array(attention, dtype=np.float64)
    return Answers(np.asarray(rows, dtype=np.float64).reshape(-1, len(label_names)), refused, verdicts, scores)


@dataclass(frozen=True, eq=False)
class Share:
    """This process's part of the work: `number` of `count`, and what gathers what each found, in order, on all."""

    number: int = 0
    count: int = 1
    gather: Callable[[Any], list[Any]] = lambda found: [found]

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self.number == 0


ALONE = Share()


def answer_share(
    dataset: Dataset,
    answer_batch: AnswerBatch,
    share: Share,
    *,
    label_names: Sequence[str] | None = None,
    batch_size: int = 16,
    progress: str | None = None,
) -> Answers:
    """The answers to all of a split, in its order, on every process; each has asked its share.

    `label_names` are the network's classes, where they are not the split's.
    """
    rows = np.array_split(np.arange(len(dataset)), share.count)[share.number]
    own, names = dataset.select(rows), label_names or dataset.features["label"].names
    return join_answers(share.gather(answer_items(own, answer_batch, names, batch_size=batch_size, progress=progress)))


def read_rows(
    classifier: Classifier,
    dataset: Dataset,
    rows: Sequence[int],
    *,
    window: Window | None = None,
    frame: int | None = None,
    progress: str | None = None,
) -> Iterator[tuple[int, Item, Slice]]:
    """Some rows of a split with their slices as the classifier wants them; a file that cannot be read is left out."""
    for row, item in zip(rows, with_bar(dataset.select(rows), progress), strict=True):
        slice_ = read_row(classifier.read, item, window=window, frame=frame)
        if not isinstance(slice_, SliceError):
            yield row, item, slice_


def _answered(items: Iterable[Item], answer_batch: AnswerBatch, batch_size: int) -> Iterator[tuple[Item, Answer]]:
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, batch_size)):
        yield from zip(batch, answer_batch(batch), strict=True)


def with_bar(items: Iterable[T], title: str | None) -> Iterable[T]:
    """The items, with a progress bar of that title as they are taken; without one where it is None."""
    if title is None:
        return items

    return tqdm(items, desc=title, unit="image", dynamic_ncols=True)


def predictor_answers(
    classifier: Classifier, *, window: Window | None = None, frame: int | None = None, withheld: bool = False
) -> AnswerBatch:
    """Our predictor as a function of a batch: reader, body crop, eval transform, network.

    `withheld`: as if every value of the columns beside the images were missing.
    """

    def answer(batch: Sequence[Item]) -> list[Answer]:
        items = ({**item, "tabular": ""} for item in batch) if withheld else batch
        read = (read_row(classifier.read, item, window=window, frame=frame) for item in items)
        answers = classifier.predict_many(read, batch_size=len(batch))
        return [str(answer) if isinstance(answer, SliceError) else _judged(answer) for answer in answers]

    return answer


def _judged(prediction: Prediction) -> Mapping[str, float] | Judged:
    verdict = None if prediction.gate is None else prediction.gate.verdict
    if verdict is None and prediction.attention is None:
        return prediction.probabilities
    return Judged(prediction.probabilities, verdict, prediction.attention)


def stock_answers(checkpoint: str | Path, *, device: str = "cpu") -> AnswerBatch:
    """Stock `transformers.pipeline` on the untouched files, with nothing of ours between file and answer.

    It has no DICOM reader, and its conversion to RGB clips 16-bit and float pictures: such files count as refused.
    """
    classify = pipeline("image-classification", model=str(checkpoint), device=device)
    count = len(classify.model.config.id2label or {})

    def answer(batch: Sequence[Item]) -> list[Answer]:
        pictures = [_open_picture(item) for item in batch]
        readable = [picture for picture in pictures if not isinstance(picture, str)]
        found = iter(classify(readable, top_k=count, batch_size=len(readable)) if readable else [])
        return [
            picture if isinstance(picture, str) else {one["label"]: one["score"] for one in next(found)}
            for picture in pictures
        ]

    return answer


def _open_picture(item: Item) -> Image.Image | str:
    """The file as Pillow opens it for transformers, or why that path cannot read it right."""
    file = slice_source(item)
    if isinstance(file, FrameOf):
        return "stock transformers reads no slice of a file with several"
    try:
        picture = Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS)
        picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"stock transformers cannot open it ({type(error).__name__})"
    if picture.mode.startswith(_DEEP_MODES):
        return f"stock transformers would clip its pixels (mode {picture.mode}) to 8 bits"
    return picture
