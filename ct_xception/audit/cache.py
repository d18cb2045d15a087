"""The slow half of an audit kept on disk: a survey and its twins, so that a run that goes on looks at no file again.

A folder of NumPy arrays (thumbnails are mapped, not read: a hundred thousand images have 3 GB of them) and one JSON
file; whole or absent, and named by all that it follows from: the corpus, how its files are read, and this code.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.audit.survey import COLUMN_GROUPS, Survey
from ct_xception.audit.twins.twins import TwinPair, Twins
from ct_xception.files import atomic_folder, read_json, write_json

if TYPE_CHECKING:
    from ct_xception.audit.survey import Survey
    from ct_xception.audit.twins.twins import Twins
    from ct_xception.corpus.load import Corpus
    from ct_xception.imaging.windows import Window

RECORD, COLUMNS = "record.json", "columns.npz"
THUMBNAILS = ("aligned", "raw", "detail")


def cache_name(corpus: Corpus, window: Window | None, frame: int | None) -> str:
    """The folder name of a corpus's cache: 16 hexadecimal digits of what survey and twins follow from."""
    reading = None if window is None else asdict(window)
    told = [corpus.modality, corpus.report["hash"], corpus.report["groups"], reading, frame, code_hash()]
    told += [[split, len(part), "series" in part.column_names] for split, part in corpus.dataset.items()]
    told += [part["site"][:] for part in corpus.dataset.values() if "site" in part.column_names]
    return f"audit-{hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]}"


@cache
def code_hash() -> str:
    """Of the modules that read files and search twins: what other code found is not taken for what this one finds."""
    package = Path(__file__).parent.parent
    files = sorted(path for room in ("audit", "corpus", "imaging") for path in package.glob(f"{room}/**/*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def store(folder: Path, survey: Survey, twins: Twins) -> None:
    """Keep a survey and its twins in `folder`, which is renamed into place once it is whole."""
    with atomic_folder(folder) as partial:
        for name in THUMBNAILS:
            np.save(partial / f"{name}.npy", getattr(survey, name), allow_pickle=False)
        np.savez(partial / COLUMNS, allow_pickle=False, **_arrays(survey, twins))
        write_json(partial / RECORD, _record(survey, twins))
        shutil.rmtree(folder, ignore_errors=True)


def load(folder: Path) -> tuple[Survey, Twins] | None:
    """What `store` kept; None where there is nothing, or nothing whole."""
    try:
        record: dict[str, Any] = read_json(folder / RECORD)
        with np.load(folder / COLUMNS, allow_pickle=False) as kept:
            arrays = dict(kept)
        thumbnails = {name: np.load(folder / f"{name}.npy", "r", allow_pickle=False) for name in THUMBNAILS}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    columns: dict[str, Any] = {name: {} for name in COLUMN_GROUPS}
    for name in list(arrays):
        group, _, column = name.partition("/")
        if group in columns:
            columns[group][column] = arrays.pop(name)
    survey = Survey(**record["survey"], **thumbnails, **columns, labels=arrays["labels"], boxes=arrays["boxes"])
    pairs = [TwinPair(*pair) for pair in record["pairs"]]
    related = [(first, second, similarity) for first, second, similarity in record["related"]]
    return survey, Twins(pairs, related, record["patients"], arrays["clusters"])


def _arrays(survey: Survey, twins: Twins) -> dict[str, Any]:
    columns = {f"{group}/{name}": values for group in COLUMN_GROUPS for name, values in getattr(survey, group).items()}
    return columns | {"labels": survey.labels, "boxes": survey.boxes, "clusters": twins.clusters}


def _record(survey: Survey, twins: Twins) -> dict[str, Any]:
    apart = {*THUMBNAILS, *COLUMN_GROUPS, "labels", "boxes"}
    return {
        "survey": {one.name: getattr(survey, one.name) for one in fields(survey) if one.name not in apart},
        "pairs": [[pair.first, pair.second, pair.kind, pair.similarity] for pair in twins.pairs],
        "related": [list(pair) for pair in twins.related],
        "patients": twins.patients,
    }
