"""The phantom corpus: procedural chest CT with known lesions, patients, series, windows and splits.

It is the corpus that needs no download, and the ground truth for whatever looks for lesions, leaks or shortcuts: every
lesion has a mask, every patient a name, and nothing is duplicated, leaked or mislabelled unless it was asked for
(`plant`), in which case `planted.json` lists it. The same options and seed give the same bytes.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct_xception.errors import InputError, printable
from ct_xception.files import atomic_folder, write_atomically, write_json
from ct_xception.imaging.windows import WINDOWS, apply_window
from ct_xception.phantom.anatomy import Build, paint_section, unevenness
from ct_xception.phantom.lesions import RECIPES, Lesion, Recipe, assign_recipes, paint_lesion
from ct_xception.phantom.plants import parse_plants, plant_defects
from ct_xception.phantom.scanner import Layer, Scan, expose, png_bytes

REFERENCE_CLASSES = ("adenocarcinoma", "large cell carcinoma", "squamous cell carcinoma", "normal")
SPLIT_SHARES = {"train": 0.7, "valid": 0.15, "test": 0.15}  # of each class's patients
SERIES_WINDOWS = ("lung", "mediastinal")
SCANNED = 0.17  # of the chest's length, around the patient's level

Row = dict[str, str]


@dataclass(frozen=True, eq=False)
class PhantomSlice:
    """`hu` (S, S) float32 in HU, and where things are, each (S, S) bool; the lesion lies inside the lungs."""

    hu: NDArray[np.float32]
    lesion_mask: NDArray[np.bool_]
    lung_mask: NDArray[np.bool_]
    body_mask: NDArray[np.bool_]
    spacing_mm: float


@dataclass(frozen=True)
class Patient:
    """A body and what is wrong with it; `level` is the middle of the part of the chest that was scanned."""

    build: Build
    level: float
    lesion: Lesion | None

    @classmethod
    def draw(cls, rng: np.random.Generator, recipe: Recipe | None) -> Patient:
        """A random patient with, or for None without, a lesion."""
        build, level = Build.draw(rng), rng.uniform(0.24, 0.52)
        return cls(build, level, None if recipe is None else Lesion.draw(rng, recipe, level))


@dataclass(frozen=True)
class PhantomOptions:
    """What `generate_phantom` takes, checked in full before the first slice is drawn."""

    patients: int = 160
    slices_per_patient: int = 4
    size: int = 256
    classes: tuple[str, ...] = REFERENCE_CLASSES
    plant: tuple[tuple[str, int | None], ...] = ()
    seed: int = 0
    dicom: bool = False

    def __post_init__(self) -> None:
        assign_recipes(self.classes)
        for name in self.classes:
            if name.startswith(".") or any(not c.isprintable() or c in "/\\" for c in name):
                found = f"the phantom's class {printable(name)!r} cannot name a folder"
                raise InputError(f"{found}; leave out slashes and a first dot.")
        _check_range("patients", self.patients, len(self.classes), 1_000_000)
        _check_range("slices_per_patient", self.slices_per_patient, 1, 64)
        _check_range("size", self.size, 32, 1024)
        _check_range("seed", self.seed, 0, 2**63 - 1)
        if self.plant and self.dicom:
            raise InputError("defects are planted in picture corpora only; leave out plant or dicom.")


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(f"the phantom's {name} is {value}, and must lie between {low} and {high:,}.")


def class_names(classes: int | Sequence[str]) -> tuple[str, ...]:
    """Names as given, or for a number that many: the reference classes first, then other findings."""
    if not isinstance(classes, int):
        return tuple(classes)
    if classes == 2:
        return REFERENCE_CLASSES[0], REFERENCE_CLASSES[-1]
    others = [recipe.name for recipe in RECIPES if recipe.name not in REFERENCE_CLASSES]
    names = [*REFERENCE_CLASSES, *others][: max(classes, 0)]
    if len(names) < classes or classes < 2:
        raise InputError(f"the phantom has 2 to {len(RECIPES) + 1} classes, got {classes}.")
    return tuple(names)


def phantom_slice(
    rng: np.random.Generator,
    label: str,
    *,
    classes: Sequence[str] = REFERENCE_CLASSES,
    size: int = 256,
    patient: Patient | None = None,
    scan: Scan | None = None,
    level: float | None = None,
) -> PhantomSlice:
    """One slice (size, size) of a class; patient, series and level are random unless given.

    Raises InputError where `label` is not one of `classes`.
    """
    recipes = assign_recipes(classes)
    if label not in recipes:
        raise InputError(f"{printable(label)!r} is not among the phantom's classes ({', '.join(classes)}).")
    patient = patient or Patient.draw(rng, recipes[label])
    build = patient.build
    scan = scan or Scan.draw(rng, (build.half_width, build.half_depth), sharp=False)
    section = paint_section(build, scan, patient.level if level is None else level, size, rng)
    lesion = Layer(section.body.frame, 0, "L")
    if patient.lesion is not None:
        paint_lesion(section, patient.lesion, lesion)
    in_lung = section.not_lung.array() == 0
    raster = np.where(in_lung, section.lung.array(), section.body.array())
    lung_mask = _covered(in_lung)
    body = Layer(section.body.frame, 0, "L")
    body.fill(section.walls.skin, 255)
    hu = expose(raster, unevenness(section, lung_mask), scan, rng)
    lesion_mask = _covered((lesion.array() > 0) & in_lung)
    return PhantomSlice(hu, lesion_mask, lung_mask, _covered(body.array() > 0), scan.field_of_view / size)


def _covered(raster: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(2S, 2S) to (S, S): pixels of which at least half is covered."""
    cells = raster.view(np.uint8)
    return cells[0::2, 0::2] + cells[0::2, 1::2] + cells[1::2, 0::2] + cells[1::2, 1::2] >= 2


@dataclass(frozen=True)
class PlannedPatient:
    """A patient of a corpus before anything is drawn: its place in the plan decides its random numbers."""

    index: int
    name: str
    label: str
    split: str


def plan_patients(options: PhantomOptions) -> list[PlannedPatient]:
    """Patients in turn over the classes, split within each class; a class's first patients are for training."""
    k = len(options.classes)
    planned = []
    for index in range(options.patients):
        label, rank = options.classes[index % k], index // k
        of_class = (options.patients - index % k + k - 1) // k
        planned.append(PlannedPatient(index, f"P{index + 1:04d}", label, _split_of(rank, of_class)))
    return planned


def _split_of(rank: int, of_class: int) -> str:
    """The split of a class's patient: three or more fill every split, two train and test, one only train."""
    test = max(1, round(SPLIT_SHARES["test"] * of_class)) if of_class > 1 else 0
    valid = max(1, round(SPLIT_SHARES["valid"] * of_class)) if of_class > 2 else 0
    if rank < of_class - test - valid:
        return "train"
    return "valid" if rank < of_class - test else "test"


def generate_phantom(
    directory: str | Path,
    *,
    patients: int = PhantomOptions.patients,
    slices_per_patient: int = PhantomOptions.slices_per_patient,
    size: int = PhantomOptions.size,
    classes: int | Sequence[str] = REFERENCE_CLASSES,
    plant: Sequence[str] = (),
    seed: int = 0,
    dicom: bool = False,
) -> Path:
    """Write a corpus of `patients` times `slices_per_patient` images, `size` pixels square, and return its folder.

    train|valid|test/CLASS/PATIENT_SERIES_SLICE.png (8-bit, windowed; with `dicom` .dcm, in HU), masks/… of the lesions
    (255 inside), metadata.csv and planted.json. `plant` names defects (`duplicates`, `near-duplicates`, `leaks`,
    `conflicts`, `brightness`), each with an optional number, `duplicates:200`. The folder appears whole or not at all.
    Raises InputError for options out of range and for a folder that is not empty.
    """
    names, plants = class_names(classes), parse_plants(plant)
    options = PhantomOptions(patients, slices_per_patient, size, names, plants, seed, dicom)
    with _whole_folder(Path(directory)) as folder:
        rows = _write_patients(folder, options)
        planted = plant_defects(folder, rows, options.plant, options.seed)
        _write_metadata(folder, rows)
        record = {"format": 1, "options": asdict(options), "planted": planted}
        write_json(folder / "planted.json", json.loads(json.dumps(record)))
    return Path(directory)


@contextmanager
def _whole_folder(directory: Path) -> Iterator[Path]:
    """A temporary folder that becomes `directory` when the block ends well."""
    if directory.is_symlink() or (directory.exists() and (not directory.is_dir() or any(directory.iterdir()))):
        raise InputError(f"{printable(directory)} is already there and not an empty folder; name another.")
    with atomic_folder(directory) as temporary:
        yield temporary


def _write_patients(folder: Path, options: PhantomOptions) -> list[Row]:
    planned = plan_patients(options)
    for split, label in sorted({(patient.split, patient.label) for patient in planned}):
        (folder / split / label).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        drawn = pool.map(lambda patient: _write_patient(folder, patient, options), planned)
        return [row for rows in drawn for row in rows]


def _write_patient(folder: Path, planned: PlannedPatient, options: PhantomOptions) -> list[Row]:
    """Draw a patient's slices, write them, and give their metadata rows."""
    rng = np.random.default_rng([options.seed, planned.index])
    patient = Patient.draw(rng, assign_recipes(options.classes)[planned.label])
    series = _draw_series(rng, patient)
    count = options.slices_per_patient
    offsets = (np.arange(count) + rng.uniform(0.2, 0.8, count)) / count - 0.5
    rows = []
    for index, offset in enumerate(offsets.tolist()):
        window, scan = series[index % len(series)]
        level = patient.level + SCANNED * offset
        image = phantom_slice(
            rng, planned.label, classes=options.classes, size=options.size, patient=patient, scan=scan, level=level
        )
        place = Place(planned, index % len(series) + 1, index + 1, window)
        rows.append(_write_slice(folder, place, image, options))
    return rows


def _draw_series(rng: np.random.Generator, patient: Patient) -> list[tuple[str, Scan]]:
    """One or two series, each with its window: a lung kernel in a lung window, a soft one in a mediastinal window."""
    body = patient.build.half_width, patient.build.half_depth
    windows = [str(name) for name in rng.permutation(SERIES_WINDOWS)][: 1 if rng.random() < 0.4 else 2]
    return [(window, Scan.draw(rng, body, sharp=window == "lung")) for window in windows]


@dataclass(frozen=True)
class Place:
    """Where a slice belongs: patient, series and slice, counted from 1, and the window it is shown in."""

    patient: PlannedPatient
    series: int
    slice: int
    window: str

    @property
    def name(self) -> str:
        """The slice's path in the corpus, without suffix."""
        return f"{self.patient.split}/{self.patient.label}/{self.patient.name}_S{self.series}_{self.slice:03d}"


def _write_slice(folder: Path, place: Place, image: PhantomSlice, options: PhantomOptions) -> Row:
    name = place.name + (".dcm" if options.dicom else ".png")
    if options.dicom:
        _write_dicom(folder / name, place, image, options.seed)
    else:
        (folder / name).write_bytes(png_bytes(apply_window(image.hu, WINDOWS[place.window])))
    mask = f"masks/{place.name}.png" if image.lesion_mask.any() else ""
    if mask:
        (folder / mask).parent.mkdir(parents=True, exist_ok=True)
        (folder / mask).write_bytes(png_bytes(image.lesion_mask.astype(np.uint8) * 255))
    patient = place.patient
    row = {"file_name": name, "label": patient.label, "patient": patient.name}
    row |= {"series": f"{patient.name}_S{place.series}", "slice": str(place.slice), "window": place.window}
    return row | {"split": patient.split, "mask": mask} | _lesion_box(image.lesion_mask)


def _lesion_box(mask: NDArray[np.bool_]) -> Row:
    """The lesion's box in pixels, half open; empty for none."""
    sides = ("lesion_left", "lesion_top", "lesion_right", "lesion_bottom")
    if not mask.any():
        return dict.fromkeys(sides, "")
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return dict(zip(sides, map(str, (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)), strict=True))


def _write_dicom(path: Path, place: Place, image: PhantomSlice, seed: int) -> None:
    patient = place.patient.name
    from ct_xception.phantom.dicom import write_dicom

    write_dicom(
        path,
        np.rint(image.hu).astype(np.int16),
        window=WINDOWS[place.window],
        spacing_mm=image.spacing_mm,
        patient_id=patient,
        study=f"{seed}/{patient}",
        series=f"{seed}/{patient}/{place.series}",
        instance_number=place.slice,
    )


def _write_metadata(folder: Path, rows: list[Row]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: row["file_name"]))
    write_atomically(folder / "metadata.csv", text.getvalue())
