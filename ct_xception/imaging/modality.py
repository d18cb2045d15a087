"""Of what kind the pictures of a corpus and its network are: CT, unless an option says otherwise.

CT has Hounsfield units, presets of windows in them, and air around the patient. MR and X-rays have none of these: they
are shown in their file's own window, or between percentiles of their values, and never by a unit that they lack.
"""

from __future__ import annotations

MODALITIES = ("ct", "mr", "xray", "any")
CT = MODALITIES[0]
# Modality (0008,0060), PS3.3 C.7.3.1.1.1: projections on film, plates and detectors.
RADIOGRAPHS = frozenset({"CR", "DX", "RG", "MG", "XA", "RF", "PX", "IO"})
STATED = {"ct": frozenset({"CT"}), "mr": frozenset({"MR"}), "xray": RADIOGRAPHS}  # by DICOM files, in its own terms
NAMES = {"ct": "CT", "mr": "MR", "xray": "X-ray", "any": "medical"}
ONE = {"ct": "CT slice", "mr": "MR slice", "xray": "X-ray", "any": "medical image"}


def is_of(stated: str, modality: str) -> bool:
    """Whether a DICOM file that states a modality is of one of MODALITIES; all are of "any"."""
    return modality == "any" or stated in STATED[modality]


def modality_for(stated: str) -> str:
    """The one of MODALITIES that a DICOM file belongs to by what it states."""
    return next((name for name, terms in STATED.items() if stated in terms), "any")


def several(modality: str) -> str:
    """What many pictures of a modality are called: `CT slices`."""
    return f"{ONE[modality]}s"
