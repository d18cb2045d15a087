"""A split of small made-up pictures, as a corpus gives it, for the tests of what answers and writes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Pictures

from ct_xception.checkpoint import CONFUSION, CURVES, ROC
from ct_xception.evaluation.evaluation import Evaluation

LABEL_NAMES = ["adenocarcinoma", "large cell carcinoma", "normal", "squamous cell carcinoma"]


def encode_picture(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """Pixels (H, W) or (H, W, 3), 8 or 16 bits, as the bytes of a file."""
    stream = io.BytesIO()
    Pictures.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def make_split(files: list[bytes], labels: list[int], label_names: list[str] | None = None) -> Dataset:
    """A split with two items a patient; sources are case00.png, case01.png and so on."""
    features = Features(
        {
            "image": Image(decode=False),
            "label": ClassLabel(names=label_names or LABEL_NAMES),
            "group": Value("string"),
            "source": Value("string"),
        }
    )
    names = [f"test/case{i:02d}.png" for i in range(len(files))]
    columns = {
        "image": [{"path": name, "bytes": file} for name, file in zip(names, files, strict=True)],
        "label": labels,
        "group": [f"patient{i // 2}" for i in range(len(files))],
        "source": names,
    }
    return Dataset.from_dict(columns, features=features)


def draw_nothing(evaluation: Evaluation, *_: object) -> list[str]:
    """Stands in for the evaluator's figures where only numbers are looked at: drawing takes a second each time."""
    folder = evaluation.folder
    folder.mkdir(parents=True, exist_ok=True)
    names = [CONFUSION, ROC, CURVES]
    for name in names:
        (folder / name).touch()
    return names


@pytest.fixture(scope="session")
def picture_split() -> Dataset:
    """Eight 8-bit pictures of 48 x 64 pixels, two of each class."""
    rng = np.random.default_rng(0)
    files = [encode_picture(rng.integers(0, 255, (48, 64), dtype=np.uint8)) for _ in range(8)]
    return make_split(files, [0, 1, 2, 3, 0, 1, 2, 3])


@pytest.fixture
def picture_split_record(picture_split: Dataset) -> dict:
    """What `make_splits` says of that split."""
    sources = {"train": ["train/a.png"] * 3, "validation": ["valid/b.png"], "test": list(picture_split["source"])}
    return {"name": "5f0c", "protocol": "made", "counts": {}, "sources": sources}
