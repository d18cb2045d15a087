"""A dataset that `datasets` or a clone of the Hub left in a folder: `save_to_disk`, or Parquet files and a card."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from ct_xception.corpus.listing import CorpusOptions, Listing
from ct_xception.corpus.sources import Source
from ct_xception.corpus.tables.formats import LFS
from ct_xception.errors import CorpusError, printable
from ct_xception.imaging.source import is_readable_name

if TYPE_CHECKING:
    import datasets

_STATES = ("dataset_dict.json", "state.json")
_MOST_ENTRIES = 2000  # looked at before a folder counts as one of images


def list_saved(name: str, options: CorpusOptions) -> Listing:
    """List a dataset that lies in a folder. Raises CorpusError where it cannot be loaded."""
    from ct_xception.corpus.arrow import list_splits  # imports datasets

    folder = Path(name).expanduser()
    listing = Listing(SOURCE.kind, exact_labels=True)
    return list_splits(listing, printable(folder.name), _load(folder), options)


def _load(folder: Path) -> datasets.DatasetDict:
    import datasets

    try:
        if any((folder / state).is_file() for state in _STATES):
            saved = datasets.load_from_disk(str(folder))
            return saved if isinstance(saved, datasets.DatasetDict) else datasets.DatasetDict(train=saved)
        _check_fetched(folder)
        return datasets.load_dataset(str(folder.absolute()))
    except Exception as error:  # a dozen classes, of datasets and of its readers
        reason = printable(" ".join(str(error).split()))[:200] or type(error).__name__
        problem = f"the dataset in {printable(folder)} cannot be loaded ({reason}); give one of its Parquet files"
        raise CorpusError([problem]) from error


def _check_fetched(folder: Path) -> None:
    for path in _shards(folder):
        with open(path, "rb") as stream:
            if stream.read(len(LFS)) == LFS:
                raise ValueError(f"{path.name} is a pointer of Git LFS: fetch the file itself with git lfs pull")


def _shards(folder: Path) -> list[Path]:
    return [path for pattern in ("*.parquet", "*/*.parquet") for path in sorted(folder.glob(pattern)) if path.is_file()]


def _is_saved(name: str) -> bool:
    """Whether a folder is one of `save_to_disk`, or holds shards in Parquet and no image files beside them."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return False
    if any((folder / state).is_file() for state in _STATES):
        return True
    shards = [path for path in _shards(folder) if path.name != "metadata.parquet"]
    below = itertools.islice(folder.rglob("*"), _MOST_ENTRIES)
    return bool(shards) and not any(path.is_file() and is_readable_name(path) for path in below)


SOURCE = Source("saved", "a dataset saved to disk", _is_saved, list_saved, rank=3)
