"""Drawn MR and X-rays of two classes, as DICOM and PNG: nothing in them has a unit, and X-rays have no air around."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.imaging.builders import ct

SIDE = 96
ROWS, COLUMNS = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
SOP = {"mr": "1.2.840.10008.5.1.4.1.1.4", "xray": "1.2.840.10008.5.1.4.1.1.1"}
STATED = {"mr": "MR", "xray": "CR"}


def oval(row: float, column: float, high: float, wide: float) -> np.ndarray:
    return np.hypot((ROWS - row) / high, (COLUMNS - column) / wide) < 1


def head_mr(rng: np.random.Generator, lesion: bool) -> np.ndarray:
    """A head (S, S) float in [0, 1]: scalp, black bone, brain, ventricles, and a bright lesion or none."""
    high, wide = rng.uniform(0.75, 0.9), rng.uniform(0.6, 0.75)
    grey = 0.8 * oval(0, 0, high, wide) - 0.7 * oval(0, 0, high - 0.08, wide - 0.08)
    grey = np.where(oval(0, 0, high - 0.16, wide - 0.16), rng.uniform(0.4, 0.5), grey)
    for side in (-0.1, 0.1):
        grey[oval(-0.05, side, 0.2, 0.06)] = 0.15
    if lesion:
        grey[oval(rng.uniform(-0.3, 0.3), rng.choice([-0.3, 0.3]), 0.15, 0.13)] = 0.95
    return np.clip(grey + rng.normal(0, 0.03, grey.shape), 0, 1)


def chest_film(rng: np.random.Generator, lesion: bool) -> np.ndarray:
    """A frontal chest (S, S) float in [0, 1] that fills the picture: dark lungs, and one of them white or not."""
    grey = np.full((SIDE, SIDE), 0.6) + 0.05 * np.sin(28 * ROWS)
    for side in (-0.42, 0.42):
        grey[oval(-0.05, side, rng.uniform(0.6, 0.75), 0.3)] -= 0.4
    if lesion:
        grey[oval(0.2, rng.choice([-0.42, 0.42]), 0.35, 0.25)] = 0.75
    return np.clip(grey + rng.normal(0, 0.03, grey.shape), 0, 1)


def dicom(grey: np.ndarray, modality: str, patient: str = "P1", **tags: object) -> bytes:
    """A file of this modality in 12 bits without a rescale; film is stored with white as its lowest value."""
    stored = np.rint(grey * 3000 + 100).astype(np.uint16)
    if modality == "xray":
        stored, tags = 4095 - stored, {"PhotometricInterpretation": "MONOCHROME1", **tags}
    known = {"SOPClassUID": SOP[modality], "Modality": STATED[modality], "PatientID": patient, "BitsStored": 12}
    plain = {"HighBit": 11, "RescaleSlope": None, "RescaleIntercept": None, "SeriesInstanceUID": f"1.2.{patient[1:]}"}
    return ct(stored, **{**known, **plain, **tags})


def grow_corpus(folder: Path, modality: str, *, seed: int = 0) -> Path:
    """split/class/files: 12 training patients a class, 4 of validation and of test."""
    draw = {"mr": head_mr, "xray": chest_film}[modality]
    rng, patient = np.random.default_rng(seed), 1
    for split, count in (("train", 12), ("valid", 4), ("test", 4)):
        for label in ("healthy", "lesion"):
            place = folder / split / label
            place.mkdir(parents=True)
            for _ in range(count):
                (place / f"{patient}.dcm").write_bytes(dicom(draw(rng, label == "lesion"), modality, f"P{patient}"))
                patient += 1
    return folder


def png(grey: np.ndarray, path: Path) -> Path:
    Image.fromarray(np.rint(grey * 255).astype(np.uint8)).save(path)
    return path
