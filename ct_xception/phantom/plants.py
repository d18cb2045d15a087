"""Defects planted in a phantom corpus on request, each one listed: the ground truth for whatever looks for them.

duplicates       the same bytes twice under one label and in one split
near-duplicates  a slice once more in its split: rescaled, re-encoded, cropped, in another window, or drawn upon
leaks            a test slice (copied or altered), or another slice of a test patient, in the training split
conflicts        the same bytes under two labels
brightness       every image of one class a little brighter, so that brightness gives the label away
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ct_xception.errors import InputError, printable
from ct_xception.imaging.reader import read_slice
from ct_xception.phantom.scanner import png_bytes

BRIGHTER = 28  # grey levels
MIDDLE = 128.0  # grey level
WHERE = ("mask", "lesion_left", "lesion_top", "lesion_right", "lesion_bottom")  # no longer true of an altered copy

Row = dict[str, str]
Plant = dict[str, Any]
Pixels = NDArray[np.uint8]


def parse_plants(plant: str | Sequence[str]) -> tuple[tuple[str, int | None], ...]:
    """`kind` or `kind:number` each, to (kind, number or None); raises InputError for another kind or number."""
    parsed = []
    for item in [plant] if isinstance(plant, str) else plant:
        kind, colon, number = item.strip().partition(":")
        if kind not in PLANTERS:
            raise InputError(f"the phantom cannot plant {printable(kind)!r}; choose among {', '.join(PLANTERS)}.")
        if colon and not (number.isdecimal() and int(number) > 0):
            raise InputError(f"plant {printable(item)!r} needs a number above 0 after its colon, such as {kind}:20.")
        parsed.append((kind, int(number) if colon else None))
    return tuple(parsed)


def plant_defects(folder: Path, rows: list[Row], plant: Sequence[tuple[str, int | None]], seed: int) -> list[Plant]:
    """Plant defects in a written corpus; `rows`, its metadata, grows or changes. Returns what was planted."""
    rng = np.random.default_rng([seed, 2**31])
    clean = [dict(row) for row in rows]
    planted: list[Plant] = []
    # Leaks first: they move images, which the other kinds must find, and list, where they are in the end.
    for kind, number in sorted(plant, key=lambda one: one[0] != "leaks"):
        planted += PLANTERS[kind](folder, rows, clean, number or max(1, len(clean) // 25), rng)
    return planted


def _choose(rows: list[Row], number: int, kind: str, rng: np.random.Generator) -> list[Row]:
    if number > len(rows):
        raise InputError(f"{number} {kind} cannot be planted: only {len(rows)} images offer one; plant fewer.")
    return [rows[index] for index in sorted(rng.choice(len(rows), number, replace=False))]


def _place(folder: Path, rows: list[Row], row: Row, name: str, content: bytes, altered: bool, **changes: str) -> str:
    """Write a copy of a row's image under another name and add its row; the name gets a number if it is taken."""
    stem, suffix = os.path.splitext(name)
    number = 2
    while (folder / name).exists():
        name, number = f"{stem} ({number}){suffix}", number + 1
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    rows.append(row | (dict.fromkeys(WHERE, "") if altered else {}) | {"file_name": name} | changes)
    return name


def _duplicates(folder: Path, rows: list[Row], clean: list[Row], number: int, rng: np.random.Generator) -> list[Plant]:
    planted = []
    for row in _choose(clean, number, "duplicates", rng):
        name = row["file_name"].replace(".png", " - Copy.png")
        name = _place(folder, rows, row, name, (folder / row["file_name"]).read_bytes(), altered=False)
        planted.append({"kind": "duplicates", "how": "copied", "files": [row["file_name"], name]})
    return planted


def _near_duplicates(
    folder: Path, rows: list[Row], clean: list[Row], number: int, rng: np.random.Generator
) -> list[Plant]:
    planted = []
    for index, row in enumerate(_choose(clean, number, "near-duplicates", rng)):
        how = list(ALTERATIONS)[index % len(ALTERATIONS)]
        content, suffix = alter(read_slice(folder / row["file_name"]).pixels, how, rng)
        name = row["file_name"].replace(".png", f"b{suffix}")
        name = _place(folder, rows, row, name, content, altered=True)
        planted.append({"kind": "near-duplicates", "how": how, "files": [row["file_name"], name]})
    return planted


def _leaks(folder: Path, rows: list[Row], clean: list[Row], number: int, rng: np.random.Generator) -> list[Plant]:
    planted = []
    ways = ("copied", "patient", *ALTERATIONS)
    chosen = _choose([row for row in clean if row["split"] == "test"], number, "leaks", rng)
    staying = {row["file_name"] for row in chosen}
    for index, row in enumerate(chosen):
        how = ways[index % len(ways)]
        if how == "patient" and (other := _sibling(rows, row, staying)):
            name = _move_to_train(folder, other, clean)
        else:
            name = _copy_to_train(folder, rows, row, "copied" if how == "patient" else how, rng)
        files = {"test": row["file_name"], "train": name}
        planted.append({"kind": "leaks", "how": how, "patient": row["patient"], "files": files})
    return planted


def _sibling(rows: list[Row], row: Row, staying: set[str]) -> Row | None:
    """Another slice of the same patient in the same split, none of those that are to stay where they are."""
    same = (other for other in rows if other["patient"] == row["patient"] and other["split"] == row["split"])
    return next((other for other in same if other["file_name"] not in staying), None)


def _move_to_train(folder: Path, row: Row, clean: list[Row]) -> str:
    before = row["file_name"]
    for field in ("file_name", "mask"):
        if row[field]:
            name = row[field].replace("test/", "train/", 1)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder / row[field], folder / name)
            row[field] = name
    row["split"] = "train"
    for listed in clean:  # kinds planted later must find it where it is now
        if listed["file_name"] == before:
            listed.update(row)
    return row["file_name"]


def _copy_to_train(folder: Path, rows: list[Row], row: Row, how: str, rng: np.random.Generator) -> str:
    source = folder / row["file_name"]
    if how == "copied":
        content, suffix = source.read_bytes(), ".png"
    else:
        content, suffix = alter(read_slice(source).pixels, how, rng)
    name = row["file_name"].replace("test/", "train/", 1).replace(".png", f"c{suffix}")
    return _place(folder, rows, row, name, content, altered=how != "copied", split="train")


def _conflicts(folder: Path, rows: list[Row], clean: list[Row], number: int, rng: np.random.Generator) -> list[Plant]:
    labels = sorted({row["label"] for row in clean})
    planted = []
    for row in _choose([row for row in clean if row["split"] == "train"], number, "conflicts", rng):
        other = str(rng.choice([label for label in labels if label != row["label"]]))
        name = f"{row['split']}/{other}/{Path(row['file_name']).name}"
        content = (folder / row["file_name"]).read_bytes()
        name = _place(folder, rows, row, name, content, altered=False, label=other)
        files, both = [row["file_name"], name], [row["label"], other]
        planted.append({"kind": "conflicts", "how": "copied", "files": files, "labels": both})
    return planted


def _brightness(folder: Path, rows: list[Row], clean: list[Row], number: int, rng: np.random.Generator) -> list[Plant]:
    """All of the first class's images, whatever the number; copies made before take part."""
    label = clean[0]["label"]
    files = sorted(row["file_name"] for row in rows if row["label"] == label)
    for name in files:
        pixels = read_slice(folder / name).pixels
        brighter = np.minimum(pixels.astype(np.int16) + BRIGHTER, 255).astype(np.uint8)
        (folder / name).write_bytes(png_bytes(brighter))
    return [{"kind": "brightness", "how": f"{BRIGHTER} grey levels", "label": label, "files": files}]


PLANTERS: dict[str, Callable[[Path, list[Row], list[Row], int, np.random.Generator], list[Plant]]] = {
    "duplicates": _duplicates,
    "near-duplicates": _near_duplicates,
    "leaks": _leaks,
    "conflicts": _conflicts,
    "brightness": _brightness,
}


def alter(pixels: Pixels, how: str, rng: np.random.Generator) -> tuple[bytes, str]:
    """A picture of the same slice that is another file: its bytes and its suffix. `how` is a key of ALTERATIONS."""
    altered = ALTERATIONS[how](pixels, rng)
    if how == "re-encoded":
        buffer = io.BytesIO()
        Image.fromarray(altered).save(buffer, "JPEG", quality=60)
        return buffer.getvalue(), ".jpg"
    return png_bytes(altered), ".png"


def _rescale(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    factor = 2.0 ** rng.uniform(-1.0, 1.0)
    size = [max(16, round(side * factor)) for side in pixels.shape[::-1]]
    return np.asarray(Image.fromarray(pixels).resize((size[0], size[1]), Image.Resampling.BICUBIC))


def _crop(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Cut 4 to 15 % off the height and the width, shared out among the two edges in any way."""
    height, width = pixels.shape
    cut, share = rng.uniform(0.04, 0.15, 2) * [height, width], rng.uniform(0.0, 1.0, 2)
    (top, left), (bottom, right) = (cut * share).astype(int), (cut * (1.0 - share)).astype(int)
    return pixels[top : height - bottom, left : width - right]


def _rewindow(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Contrast changed by 10 to 30 % about the middle grey, and brightness by up to 30 % of it."""
    contrast, shift = 1.0 + rng.choice((-1.0, 1.0)) * rng.uniform(0.1, 0.3), rng.uniform(-0.3, 0.3) * MIDDLE
    return np.clip((pixels.astype(np.float32) - MIDDLE) * contrast + MIDDLE + shift, 0.0, 255.0).astype(np.uint8)


def _ink(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """An arrow and a ring as a teacher would draw them, over less than 2 % of the picture."""
    picture = Image.fromarray(pixels)
    side = min(pixels.shape)
    x, y = rng.uniform(0.25, 0.75, 2) * pixels.shape[::-1]
    draw, reach = ImageDraw.Draw(picture), 0.05 * side
    draw.ellipse((x - reach, y - reach, x + reach, y + reach), outline=255, width=max(1, side // 128))
    draw.line((x + 3 * reach, y - 2 * reach, x + reach, y - reach), fill=255, width=max(1, side // 128))
    return np.asarray(picture)


ALTERATIONS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "rescaled": _rescale,
    "re-encoded": lambda pixels, rng: pixels,
    "cropped": _crop,
    "rewindowed": _rewindow,
    "drawn upon": _ink,
}
