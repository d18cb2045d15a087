"""Surveys and twins written by hand, so that what an audit says of them can be counted on fingers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ct_xception.audit.survey import Survey
from ct_xception.audit.twins.twins import TwinPair, Twins, linked

NAMES = ["cancer", "normal"]
ATTRIBUTES = {"width": 100.0, "height": 100.0, "megapixels": 0.01, "channels": 1.0, "bit_depth": 8.0}
ATTRIBUTES |= {"is_png": 1.0, "is_jpeg": 0.0, "is_tiff": 0.0, "is_bmp": 0.0, "is_dicom": 0.0, "has_palette": 0.0}
FOREIGN = {"coloured_share": 0.0, "box_score": 0.0, "stroke_length": 0.0, "letters": 0.0, "frame_share": 0.0}
FOREIGN |= {"body_found": 1.0, "no_body": 0.0, "doubts": 0.0}
FOREIGN |= {"bright_level": 130.0, "shown_low": -1350.0, "shown_high": 150.0}


def make_survey(
    splits: Sequence[str],
    labels: Sequence[int],
    *,
    pixels: Sequence[object] | None = None,
    groups: Sequence[str] | None = None,
    columns: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    **changes: Any,
) -> Survey:
    """N images `train/normal/0.png`…; `pixels` equal where two files show the same; columns over the plain ones."""
    count = len(splits)
    given = columns or {}
    sources = [
        f"{split}/{NAMES[label]}/{index}.png" for index, (split, label) in enumerate(zip(splits, labels, strict=True))
    ]
    digests = [str(one) for one in (range(count) if pixels is None else pixels)]
    plain = {"attributes": ATTRIBUTES, "foreign": FOREIGN, "statistics": {}, "border": {}}
    filled = {
        name: {key: np.full(count, value) for key, value in values.items()}
        | {key: np.asarray(values, dtype=np.float64) for key, values in given.get(name, {}).items()}
        for name, values in plain.items()
    }
    noise = np.random.default_rng(0).integers(0, 256, (count, 96, 96), dtype=np.uint8)
    fields: dict[str, Any] = {
        "sources": sources,
        "splits": list(splits),
        "labels": np.array(labels, dtype=np.intp),
        "label_names": NAMES,
        "groups": list(groups) if groups is not None else sources,
        "groups_known": groups is not None,
        "byte_hash": digests,
        "pixel_hash": digests,
        "aligned": noise,
        "raw": noise[:, :64, :64],
        "detail": np.repeat(np.repeat(noise[:, :64, :64], 2, axis=1), 2, axis=2),
        "boxes": np.tile(np.array([0, 1, 0, 1], dtype=np.float32), (count, 1)),
        **filled,
        "windows": ["8-bit"] * count,
        "metadata": {},
        "failed": {},
    }
    return Survey(**(fields | changes))


def make_twins(
    survey: Survey, near: Sequence[tuple[int, int, float]] = (), related: Sequence[tuple[int, int, float]] = ()
) -> Twins:
    """Twins of equal pixels, with near ones and relatives as given."""
    count = len(survey)
    pairs = [
        TwinPair(first, second, "bytes", 1.0)
        for first in range(count)
        for second in range(first + 1, count)
        if survey.pixel_hash[first] == survey.pixel_hash[second]
    ]
    pairs += [TwinPair(*pair[:2], "near", pair[2]) for pair in near]
    clusters = linked(count, [(pair.first, pair.second) for pair in pairs])
    patients = linked(count, [(pair.first, pair.second) for pair in pairs] + [(a, b) for a, b, _ in related])
    return Twins(pairs, list(related), [f"patient {number}" for number in patients.tolist()], clusters)
