"""What reviewers say of answers, kept for later training: a folder that `datasets.load_dataset` reads as it is.

Each review is one small Parquet file under `data/`, written whole or not at all, so that several processes may share
the folder and a Hub dataset can follow it. A review holds no file name and no tag of the upload; the slice's pixels (8
bits through its window, without metadata) only where the reviewer agreed to that.

    CT_XCEPTION_FEEDBACK=reviews ct-xception demo runs/phantom/model
    datasets.load_dataset("reviews", split="train")
"""

from __future__ import annotations

import hashlib
import io
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.errors import InputError, printable
from ct_xception.files import dump_json, write_atomically

if TYPE_CHECKING:
    import pyarrow as pa
    from ct_xception_app.downloads import Origin
    from huggingface_hub import CommitScheduler

    from ct_xception.serving.classifier import Prediction

FOLDER_VARIABLE, HUB_VARIABLE = "CT_XCEPTION_FEEDBACK", "CT_XCEPTION_FEEDBACK_REPO"
NO_CLASS, UNSURE = "none of these", "cannot tell"
MINUTES = 5  # between two commits to the Hub

# A picture as `datasets` stores it (features.Image), then columns of plain types.
_IMAGE = {"image": {"_type": "Image"}}
_TEXTS = ("label", "answered", "window", "modality", "gate", "model", "revision", "weights_sha256", "pixels_sha256")


@dataclass(frozen=True)
class Review:
    """One reviewer's word on one answer.

    `right` says whether the answer was right; `label` what the slice shows: a class of the model, NO_CLASS or UNSURE.
    `with_pixels` is the reviewer's leave to keep the slice's pixels.
    """

    right: bool
    label: str
    with_pixels: bool = False


class FeedbackFolder:
    """Keeps reviews in a folder and, where a Hub dataset is named, commits them to it every few minutes.

    The dataset is made if it is not there, private. Raises InputError where the folder cannot be written or the Hub
    refuses.
    """

    def __init__(self, folder: str | Path, *, hub_dataset: str | None = None) -> None:
        self.folder = Path(folder)
        self._lock: Any = threading.Lock()
        try:
            (self.folder / "data").mkdir(parents=True, exist_ok=True)
            if not (self.folder / "README.md").is_file():
                write_atomically(self.folder / "README.md", _READ_ME)
        except OSError as error:
            raise InputError(
                f"{printable(folder)}: reviews cannot be kept there ({error.strerror}); give a folder that is yours."
            ) from error
        self.scheduler = None if hub_dataset is None else _schedule(hub_dataset, self.folder)
        if self.scheduler is not None:
            self._lock = self.scheduler.lock  # it must not read a folder that is being written to

    def add(self, review: Review, prediction: Prediction, origin: Origin) -> Path:
        """Keep one review, and return its file. Raises InputError for a label that this model does not know."""
        known = (*origin.label_names, NO_CLASS, UNSURE)
        if review.label not in known:
            raise InputError(f"label {printable(review.label)!r} is unknown; choose from {', '.join(known)}.")
        row = review_row(review, prediction, origin)
        path = self.folder / "data" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{row['id']}.parquet"
        with self._lock:
            write_atomically(path, _parquet(row))
        return path

    def close(self) -> None:
        """Commit what is left, and stop following the folder."""
        if self.scheduler is not None:
            self.scheduler.trigger().result()
            self.scheduler.stop()


def review_row(review: Review, prediction: Prediction, origin: Origin) -> dict[str, Any]:
    """One review as a row: nothing in it comes from the file's name or from a tag that names anybody."""
    slice_ = prediction.slice
    window = "" if slice_.window is None else f"{slice_.window}{' HU' if slice_.is_hu else ''}"
    return {
        "image": _picture(prediction) if review.with_pixels else None,
        "label": review.label,
        "right": review.right,
        "answered": "" if prediction.refusal else prediction.label,
        "probabilities": dump_json({} if prediction.refusal else prediction.probabilities),
        "window": window,
        "bit_depth": slice_.bit_depth,
        "modality": slice_.modality or "",
        "gate": "" if prediction.gate is None else prediction.gate.verdict,
        "model": origin.model,
        "revision": origin.revision or "",
        "weights_sha256": origin.weights_sha256 or "",
        "pixels_sha256": hashlib.sha256(slice_.pixels.tobytes()).hexdigest(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "id": uuid.uuid4().hex,
    }


def _picture(prediction: Prediction) -> dict[str, Any]:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(prediction.slice.pixels).save(stream, "PNG", optimize=True)
    return {"bytes": stream.getvalue(), "path": None}


def _schema() -> pa.Schema:
    import pyarrow as pa

    texts = [pa.field(name, pa.string()) for name in (*_TEXTS, "probabilities", "created", "id")]
    image = pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())]))
    fields = [image, pa.field("right", pa.bool_()), pa.field("bit_depth", pa.int32()), *texts]
    kinds: dict[str, Any] = {field.name: {"dtype": "string", "_type": "Value"} for field in texts}
    kinds |= {"right": {"dtype": "bool", "_type": "Value"}, "bit_depth": {"dtype": "int32", "_type": "Value"}}
    features = {field.name: (_IMAGE | kinds)[field.name] for field in fields}
    return pa.schema(fields, metadata={"huggingface": dump_json({"info": {"features": features}})})


def _parquet(row: Mapping[str, Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, stream = _schema(), io.BytesIO()
    pq.write_table(pa.table({field.name: [row[field.name]] for field in schema}, schema=schema), stream)
    return stream.getvalue()


def _schedule(dataset: str, folder: Path) -> CommitScheduler:
    from huggingface_hub import CommitScheduler
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        return CommitScheduler(repo_id=dataset, repo_type="dataset", private=True, folder_path=folder, every=MINUTES)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError, ValueError) as error:
        reason = printable(str(error).strip().splitlines()[0])
        raise InputError(
            f"{printable(dataset)}: reviews cannot be sent to this Hub dataset ({reason}); name one that is yours, and "
            "`hf auth login`, or leave it out."
        ) from error


_READ_ME = """---
configs:
- config_name: default
  data_files: data/*.parquet
tags:
- medical-imaging
- ct
- research-only
---

# Reviews of answers

Each row is one reviewer's word on one answer of a classifier: `answered`, whether that was `right`, and the
`label` that the reviewer gives (a class, "none of these" or "cannot tell"). `image` is the slice in 8 bits where the
reviewer agreed to keep it. No file name and no tag of the upload is kept. For research use only.

```python
from datasets import load_dataset

reviews = load_dataset("parquet", data_files="data/*.parquet", split="train")
```
"""
