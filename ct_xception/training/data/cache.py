"""Slices decoded, filtered and masked once, on disk: the loader then reads pixels from memory-mapped Arrow.

The whole slice is kept with its body mask, not the crop alone, because augmentation also leaves surroundings in.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from ct_xception.corpus.cells import read_row, tabular_of
from ct_xception.errors import CorpusError, SliceError
from ct_xception.files import telling_of_disk
from ct_xception.imaging.body.crop import body_of
from ct_xception.imaging.decoded import decoding_version
from ct_xception.imaging.modality import CT
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.transforms import apply_filters
from ct_xception.imaging.windows import Window

_PARALLEL_FROM = 200  # slices: below, starting processes costs more than it saves


@dataclass(frozen=True)
class Reading:
    """How every file of a run becomes a slice: part of the cache's name."""

    window: Window | None = None
    frame: int | None = None
    filters: tuple[str, ...] = ()
    body_crop: bool = True
    modality: str = CT


@dataclass(frozen=True, eq=False)
class CachedSlice:
    """One slice from the cache: `pixels` (H, W) uint8, `mask` (H, W) bool (all True without body crop), its label."""

    pixels: np.ndarray
    mask: np.ndarray
    label: int
    source: str


class CachedSlices:
    """A split of the corpus, decoded: a sequence of `CachedSlice`, with the `labels`, `groups`, `sites` ("" where
    none is named), `sources` of all.

    `rows` are those of the table beside the images, {column: text}; empty where none were asked for.
    """

    def __init__(self, rows: datasets.Dataset) -> None:
        self._plain, self._rows = rows, rows.with_format("arrow")
        self.labels = np.asarray(rows["label"], dtype=np.int64)
        self.groups: list[str] = list(rows["group"])
        self.sites: list[str] = list(rows["site"])
        self.sources: list[str] = list(rows["source"])
        self.rows: list[dict[str, str]] = (
            list(map(tabular_of, rows.select_columns(["tabular"]))) if _has_rows(rows) else []
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> CachedSlice:
        row = self._rows[int(index)]
        height, width = row["height"][0].as_py(), row["width"][0].as_py()
        pixels = np.frombuffer(row["pixels"][0].as_buffer(), dtype=np.uint8).reshape(height, width)
        bits = np.frombuffer(row["mask"][0].as_buffer(), dtype=np.uint8)
        mask = np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)
        return CachedSlice(pixels, mask, int(self.labels[index]), self.sources[index])

    def select(self, sources: Iterable[str]) -> CachedSlices:
        """The slices with these sources, in their order; no pixel is copied."""
        place = {source: index for index, source in enumerate(self.sources)}
        return CachedSlices(self._plain.select([place[source] for source in sources]))

    def take(self, rows: Sequence[int]) -> CachedSlices:
        """The slices in these rows; no pixel is copied."""
        return CachedSlices(self._plain.select(rows))

    @staticmethod
    def join(parts: Iterable[CachedSlices]) -> CachedSlices:
        """Several splits as one sequence; no pixel is copied."""
        return CachedSlices(datasets.concatenate_datasets([part._plain for part in parts]))


def prepare_slices(
    split: datasets.Dataset, directory: Path, reading: Reading, *, description: str, strict: bool = True
) -> CachedSlices:
    """Decode a split (columns image, label, group, source) into `directory`, or open what is there already.

    The cache is whole or absent. Raises `CorpusError`, naming every file that could not be read; where that is not
    `strict`, they are left out.
    """
    name = _cache_name(split, reading)
    with telling_of_disk(directory):
        directory.mkdir(parents=True, exist_ok=True)
        rows = split.map(
            _decode,
            fn_kwargs={"reading": reading},
            remove_columns=[column for column in split.column_names if column not in ("label", "source")],
            features=_features(split),
            cache_file_name=str(directory / f"{name}.arrow"),
            new_fingerprint=name,
            num_proc=min(8, os.cpu_count() or 1) if len(split) >= _PARALLEL_FROM else None,
            writer_batch_size=100,
            desc=description,
        )
    refused = [text for text in rows["refused"] if text]
    if refused and strict:
        raise CorpusError(refused)
    # Groups and rows stand beside the cache: another look at the corpus may change them, and the pixels stay.
    beside = {name: split[name][:] for name in ("group", "tabular") if name in split.column_names}
    beside["site"] = split["site"][:] if "site" in split.column_names else [""] * len(rows)
    for name, values in beside.items():
        rows = rows.add_column(name, values)
    return CachedSlices(rows.select([row for row, text in enumerate(rows["refused"]) if not text]) if refused else rows)


def _has_rows(rows: datasets.Dataset) -> bool:
    return "tabular" in rows.column_names


def _features(split: datasets.Dataset) -> datasets.Features:
    return datasets.Features(
        {
            "label": split.features["label"],
            "source": datasets.Value("string"),
            "pixels": datasets.Value("large_binary"),
            "mask": datasets.Value("large_binary"),
            "height": datasets.Value("int32"),
            "width": datasets.Value("int32"),
            "refused": datasets.Value("string"),
        }
    )


def _decode(row: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    how = {"window": reading.window, "frame": reading.frame, "modality": reading.modality}
    slice_ = read_row(read_slice, row, **how)
    if isinstance(slice_, SliceError):
        return {"pixels": b"", "mask": b"", "height": 0, "width": 0, "refused": str(slice_)}
    filtered = apply_filters(slice_, reading.filters)
    pixels = filtered.pixels
    mask = body_of(filtered) if reading.body_crop else np.ones(pixels.shape, dtype=bool)
    height, width = pixels.shape
    return {
        "pixels": pixels.tobytes(),
        "mask": np.packbits(mask).tobytes(),
        "height": height,
        "width": width,
        "refused": "",
    }


def _cache_name(split: datasets.Dataset, reading: Reading) -> str:
    """A name from all that decides the pixels: which files (path, size, time of change, or bytes) and how read."""
    digest = hashlib.sha256(json.dumps([decoding_version(), repr(reading), len(split)]).encode())
    for row in split.select_columns(["image", "label", "source"]):
        digest.update(json.dumps([row["source"], row["label"], _identity(row["image"])]).encode())
    return f"slices-{digest.hexdigest()[:24]}"


def _identity(image: Mapping[str, Any]) -> Sequence[Any]:
    if image["bytes"]:
        return [hashlib.sha256(image["bytes"]).hexdigest()]
    state = os.stat(image["path"])
    return [str(image["path"]), state.st_size, state.st_mtime_ns]
