"""One pass over a corpus, every file read once: what the audit and the baselines need to know of each image.

A surveyed image leaves 30 kB behind (three thumbnails, two hashes, a few dozen numbers); of large corpora thumbnails
lie in an unnamed temporary file, so that a hundred thousand images need no more memory than a thousand.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ct_xception.audit import traits
from ct_xception.corpus.cells import digest_of, file_of, frame_of, slice_source
from ct_xception.corpus.labels import SPLITS
from ct_xception.errors import SliceError
from ct_xception.imaging.body.crop import BodyCrop, mask_box, outline_of
from ct_xception.imaging.body.outline import REASONS, Outline
from ct_xception.imaging.decoders.dicom import read_acquisition
from ct_xception.imaging.modality import CT
from ct_xception.imaging.reader import read_slice, try_read
from ct_xception.imaging.slice import Slice, doubts_in
from ct_xception.imaging.source import is_dicom, name_of, open_source
from ct_xception.imaging.windows import Window
from ct_xception.serving.drift import TRAITS, slice_traits
from ct_xception.text import describe_window

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

ALIGNED_SIDE, RAW_SIDE, DETAIL_SIDE = 96, 64, 128
COLUMN_GROUPS = ("attributes", "statistics", "border", "foreign", "traits")
ON_DISK_FROM = 10_000  # images, 300 MB of thumbnails

Pixels = NDArray[np.uint8]
Columns = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Survey:
    """N images in the order train, validation, test, each split in the dataset's own order.

    `aligned` (N, 96, 96) uint8 is the body crop, `raw` (N, 64, 64) and `detail` (N, 128, 128) uint8 are the whole
    picture, all box-filtered; `boxes` (N, 4) float32 is the body's box, top, bottom, left and right as shares.
    `byte_hash` is the SHA-256 of the file, `pixel_hash` that of the decoded grey pixels and their shape. The columns
    are those of `audit.traits`, float64, and `traits` those by which sets are compared (`serving.drift`). What could
    not be read is in `failed` (source: reason) and keeps its place: black thumbnails, empty hashes, NaN columns.
    `series` names each image's series, empty where nothing does. What is no CT by its `modality` has no body: the whole
    picture counts as one.
    """

    sources: list[str]
    splits: list[str]
    labels: NDArray[np.intp]
    label_names: list[str]
    groups: list[str]
    groups_known: bool
    byte_hash: list[str]
    pixel_hash: list[str]
    aligned: Pixels
    raw: Pixels
    detail: Pixels
    boxes: NDArray[np.float32]
    attributes: Columns
    statistics: Columns
    border: Columns
    foreign: Columns
    windows: list[str]
    metadata: dict[str, list[str]]
    failed: dict[str, str]
    series: list[str] = field(default_factory=list)
    modality: str = CT
    traits: Columns = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Which of the N images were read."""
        return np.array([source not in self.failed for source in self.sources], dtype=bool)


@dataclass(frozen=True, eq=False)
class Look:
    """What one file told; `reason` says why it could not be read."""

    byte_hash: str = ""
    pixel_hash: str = ""
    aligned: Pixels | None = None
    raw: Pixels | None = None
    detail: Pixels | None = None
    box: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 1.0)
    columns: dict[str, dict[str, float]] = field(default_factory=dict)
    window: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    reason: str = ""


def survey_corpus(
    dataset: DatasetDict,
    *,
    window: Window | None = None,
    frame: int | None = None,
    modality: str = CT,
    groups_known: bool = False,
    processes: int = 0,
    progress: bool = True,
) -> Survey:
    """Look at every image of a corpus once; `processes` images at a time, 0 for one a core.

    Never raises for a file that cannot be read: it is listed in `failed`.
    """
    splits = [(name, dataset[name]) for name in SPLITS if name in dataset]
    items = (item for _, split in splits for item in split.select_columns(_columns(split)))
    total = sum(len(split) for _, split in splits)
    looks = _in_parallel(lambda item: look_at(item, window, frame, modality), items, processes or os.cpu_count() or 1)
    record = _Record(total)
    for index, look in enumerate(_with_bar(looks, total, progress)):
        record.add(index, look)
    return record.survey(splits, groups_known, modality)


def look_at(
    item: Mapping[str, Any], window: Window | None = None, frame: int | None = None, modality: str = CT
) -> Look:
    """Read one item (`image` with path or bytes, `source`, perhaps `frame`) and describe it."""
    one, file = frame_of(item) is None, file_of(item)
    try:
        content = Path(file).read_bytes() if one and isinstance(file, str) else file  # a volume is left on disk
        digest = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) and one else digest_of(item)
    except OSError as error:
        return Look(reason=f"cannot be read ({error.strerror})")
    source, how = content if one else slice_source(item), {"window": window, "frame": frame, "modality": modality}
    slice_ = try_read(read_slice, source, name=str(item["source"]), **how)
    if isinstance(slice_, SliceError):
        return Look(digest, reason=f"{slice_.found}; {slice_.remedy}")
    return _describe(content, digest, slice_, one, modality)


def _columns(split: Dataset) -> list[str]:
    return [name for name in ("image", "source", "frame") if name in split.column_names]


def _describe(content: bytes | str, digest: str, slice_: Slice, one: bool, modality: str) -> Look:
    """`one` is whether the file is one slice; a volume is given by its path, and what it holds in colour is dropped."""

    pixels = slice_.pixels
    # Only of CT is it sure that air lies around the patient.
    outline = outline_of(slice_) if modality == CT else Outline(np.ones(pixels.shape, dtype=bool))
    mask = np.ones(pixels.shape, dtype=bool) if outline.mask is None else outline.mask
    box = mask_box(mask)
    inside = (slice(box.top, box.bottom), slice(box.left, box.right))
    body = np.where(mask[inside], pixels[inside], np.uint8(0))
    coloured = any(note.startswith("colour dropped") for note in slice_.notes)  # seen by the reader: not decoded again
    columns = {
        "attributes": traits.file_attributes(content, slice_),
        "statistics": traits.grey_statistics(pixels),
        "border": traits.border_statistics(pixels, mask),
        "foreign": traits.foreign_traits(content, pixels, mask, coloured=coloured, ct=modality == CT)
        | {"no_body": float(1 + REASONS.index(outline.reason)) if outline.mask is None else 0.0}
        | {"doubts": float(len(doubts_in(slice_.notes)))},
    }
    crop = BodyCrop(slice_.replace_pixels(body), box, outline.mask is not None)
    columns["traits"] = dict(zip(TRAITS, slice_traits(slice_, crop).tolist(), strict=True))
    if not one:
        columns["foreign"]["coloured_share"] = slice_.coloured
    shown = "8-bit" if slice_.window is None else describe_window(slice_.window, slice_.bit_depth, slice_.is_hu)
    if slice_.window is not None and modality != CT and not slice_.is_hu:
        shown = "a window of its own"  # without a unit no two are alike, and that says nothing
    height, width = pixels.shape
    return Look(
        byte_hash=digest,
        pixel_hash=pixel_digest(pixels),
        aligned=thumbnail(body, ALIGNED_SIDE),
        raw=thumbnail(pixels, RAW_SIDE),
        detail=thumbnail(pixels, DETAIL_SIDE),
        box=(box.top / height, box.bottom / height, box.left / width, box.right / width),
        columns=columns,
        window=shown,
        metadata=_acquisition(content),
    )


def pixel_digest(pixels: Pixels) -> str:
    """SHA-256 of grey pixels (H, W) uint8 and their shape: equal for one picture in two lossless files."""
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def thumbnail(pixels: Pixels, side: int) -> Pixels:
    """Grey pixels (H, W) uint8 box-filtered, or interpolated if fewer, to (side, side), whatever their aspect."""

    filtering = Image.Resampling.BOX if min(pixels.shape) >= side else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize((side, side), filtering))


def _acquisition(content: bytes | str) -> dict[str, str]:
    """Who and what was scanned, where a DICOM file says so."""

    try:
        with open_source(content, name_of(content)) as stream:
            if not is_dicom(stream):
                return {}
        return read_acquisition(content)
    except SliceError:  # the pixels were read: what is said beside them is worth less than the audit
        return {}


def _in_parallel(
    look: Callable[[Mapping[str, Any]], Look], items: Iterable[Mapping[str, Any]], workers: int
) -> Iterator[Look]:
    """Results in order, with a few items a worker under way and no more: `map` of a pool would queue the corpus."""
    remaining = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[Look]] = [pool.submit(look, item) for item in islice(remaining, 4 * workers)]
        while waiting:
            yield waiting.pop(0).result()
            waiting.extend(pool.submit(look, item) for item in islice(remaining, 1))


def _with_bar(looks: Iterable[Look], total: int, progress: bool) -> Iterable[Look]:
    if not progress:
        return looks

    return tqdm(looks, total=total, desc="surveying", unit="image", dynamic_ncols=True)


class _Record:
    """The survey while it grows: arrays of N places, filled one by one."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.byte_hash, self.pixel_hash = [""] * total, [""] * total
        self.aligned, self.raw = pictures(total, ALIGNED_SIDE), pictures(total, RAW_SIDE)
        self.detail = pictures(total, DETAIL_SIDE)
        self.boxes = np.tile(np.array([0, 1, 0, 1], dtype=np.float32), (total, 1))
        self.columns: dict[str, Columns] = {name: {} for name in COLUMN_GROUPS}
        self.windows, self.reasons = [""] * total, [""] * total
        self.metadata: dict[str, list[str]] = {}

    def add(self, index: int, look: Look) -> None:
        """Put one look in its place."""
        self.byte_hash[index], self.pixel_hash[index] = look.byte_hash, look.pixel_hash
        self.windows[index], self.reasons[index] = look.window, look.reason
        self.boxes[index] = look.box
        for array, thumb in ((self.aligned, look.aligned), (self.raw, look.raw), (self.detail, look.detail)):
            if thumb is not None:
                array[index] = thumb
        for name, values in look.columns.items():
            for key, value in values.items():
                self.columns[name].setdefault(key, np.full(self.total, np.nan))[index] = value
        for key, text in look.metadata.items():
            self.metadata.setdefault(key, [""] * self.total)[index] = text

    def survey(self, splits: list[tuple[str, Dataset]], groups_known: bool, modality: str) -> Survey:
        """The whole, with the columns that need no file."""
        sources = [source for _, split in splits for source in split["source"]]
        sites = [one for _, split in splits if "site" in split.column_names for one in split["site"]]
        return Survey(
            sources=sources,
            splits=[name for name, split in splits for _ in range(len(split))],
            labels=np.array([label for _, split in splits for label in split["label"]], dtype=np.intp),
            label_names=list(splits[0][1].features["label"].names) if splits else [],
            groups=[group for _, split in splits for group in split["group"]],
            groups_known=groups_known,
            byte_hash=self.byte_hash,
            pixel_hash=self.pixel_hash,
            aligned=self.aligned,
            raw=self.raw,
            detail=self.detail,
            boxes=self.boxes,
            **self.columns,
            windows=self.windows,
            metadata=self.metadata | ({"site": sites} if sites else {}),
            failed={source: reason for source, reason in zip(sources, self.reasons, strict=True) if reason},
            series=[one for _, split in splits if "series" in split.column_names for one in split["series"]],
            modality=modality,
        )


def pictures(total: int, side: int) -> Pixels:
    """Black thumbnails (total, side, side) uint8; many of them in an unnamed file that goes with the array."""
    shape = (total, side, side)
    if total < ON_DISK_FROM:
        return np.zeros(shape, dtype=np.uint8)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
