"""Pictures that are no chest CT slice: shipped with packages, or drawn here; what the input gate is measured on.

    for foreign in foreign_pictures(): ...

Nothing is fetched. What scikit-image and scikit-learn ship is taken once as it is and, where coloured, once more in
grey, so that colour alone cannot tell it. X-ray- and MR-like pictures are drawn after how such pictures look.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError
from scipy.ndimage import gaussian_filter, zoom

from ct_xception.errors import SliceError
from ct_xception.imaging.decoders.dicom import read_header
from ct_xception.imaging.reader import read_slice

EACH = 8  # drawn pictures of a kind
TEXT = (
    "Pictures of this page hold letters, words and lines, as a report, a form or a screenshot does. Nothing on it was "
    "measured by a scanner, and no network should find an organ in it. "
)

Grey = NDArray[np.float64]


@dataclass(frozen=True)
class Foreign:
    """One picture: of what `kind`, its name, and what the reader takes (a file or a picture)."""

    kind: str
    name: str
    source: Path | Image.Image


def foreign_pictures(seed: int = 0) -> list[Foreign]:
    """Every picture, in a fixed order; the drawn ones depend on `seed`. Those that the reader refuses are left out."""
    found = [*_shipped("scikit-image", "skimage", "data"), *_shipped("scikit-learn", "sklearn", "datasets/images")]
    found += [*_faces(), *_digits(), *_foreign_dicom()]
    for kind, draw in DRAWN.items():
        for number in range(EACH):
            rng = np.random.default_rng([seed, number, *kind.encode()])
            found.append(Foreign(kind, f"{kind} {number}", draw(rng)))
    return found


def _shipped(title: str, package: str, folder: str) -> Iterator[Foreign]:
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    for path in sorted((Path(spec.origin).parent / folder).iterdir()):
        if path.suffix not in (".png", ".jpg", ".tif"):
            continue
        try:
            with Image.open(path) as image:
                picture = image.convert("RGB" if image.mode in ("P", "RGBA", "LA") else image.mode)
        except UnidentifiedImageError:
            continue
        yield Foreign(title, path.name, picture)
        if picture.mode == "RGB":
            yield Foreign(f"{title}, in grey", path.name, picture.convert("L"))


def _faces() -> Iterator[Foreign]:
    """Every tenth of the 200 small photographs (half of them faces) that scikit-image ships, enlarged."""
    from skimage.data import lfw_subset

    for number, face in list(enumerate(lfw_subset()))[::10]:
        yield Foreign("small photographs", f"lfw {number}", _picture(face).resize((200, 200), Image.Resampling.BICUBIC))


def _digits() -> Iterator[Foreign]:
    """One written digit of each kind from scikit-learn, enlarged, white on black."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for digit in range(10):
        grey = digits.images[int(np.flatnonzero(digits.target == digit)[0])] / 16
        yield Foreign("digits", f"digit {digit}", _picture(grey).resize((256, 256), Image.Resampling.BICUBIC))


def _foreign_dicom() -> Iterator[Foreign]:
    """pydicom's files of another modality than CT that our reader can read; of those that show one picture, the first.

    Most of them differ in their encoding alone.
    """
    spec = find_spec("pydicom")
    assert spec is not None and spec.origin is not None
    seen = set()
    for path in sorted((Path(spec.origin).parent / "data" / "test_files").glob("*.dcm")):
        try:
            modality = read_header(path).modality
            slice_ = read_slice(path)
        except SliceError:
            continue
        small = Image.fromarray(slice_.pixels).resize((8, 8), Image.Resampling.BOX)
        coarse = (np.asarray(small) // 32).tobytes()
        if modality != "CT" and coarse not in seen:
            seen.add(coarse)
            yield Foreign("DICOM, not CT", path.name, path)


# Drawn


def _picture(grey: Grey) -> Image.Image:
    """A picture of grey levels (H, W) in [0, 1]."""
    return Image.fromarray(np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8))


def noise(rng: np.random.Generator) -> Image.Image:
    """White, Gaussian, salt-and-pepper or smooth noise, 128 to 512 pixels a side."""
    shape = tuple(rng.integers(128, 513, 2))
    kind = rng.integers(4)
    if kind == 0:
        return _picture(rng.random(shape))
    if kind == 1:
        return _picture(rng.normal(rng.uniform(0.2, 0.7), 0.15, shape))
    if kind == 2:
        return _picture((rng.random(shape) < rng.uniform(0.05, 0.5)).astype(float))
    smooth = gaussian_filter(rng.normal(size=shape), rng.uniform(2, 20))
    return _picture((smooth - smooth.min()) / np.ptp(smooth))


def drawing(rng: np.random.Generator) -> Image.Image:
    """Lines, boxes, ellipses and polygons on white or black, as in charts and sketches."""
    side = int(rng.integers(200, 513))
    paper = int(rng.choice([0, 255]))
    image = Image.new("L", (side, side), paper)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(3, 15)):
        box = np.sort(rng.integers(0, side, (2, 2)), axis=0)
        corners = [tuple(map(int, corner)) for corner in box]
        level, width = int(rng.integers(0, 256)), int(rng.integers(1, 9))
        shape = rng.integers(4)
        if shape == 0:
            pen.line(corners, fill=255 - paper, width=width)
        elif shape == 1:
            pen.rectangle(corners, fill=level, outline=255 - paper, width=width)
        elif shape == 2:
            pen.ellipse(corners, fill=level, outline=255 - paper, width=width)
        else:
            pen.polygon([tuple(map(int, point)) for point in rng.integers(0, side, (4, 2))], fill=level)
    return image


def text_page(rng: np.random.Generator) -> Image.Image:
    """Lines of print, dark on white or white on black."""
    width, height = (int(value) for value in rng.integers(300, 700, 2))
    paper = int(rng.choice([0, 255], p=[0.3, 0.7]))
    image = Image.new("L", (width, height), paper)
    size = int(rng.integers(11, 30))
    words = TEXT * 40
    start = int(rng.integers(0, 200))
    lines = textwrap.wrap(words[start:], max(8, int(width / size * 1.7)))[: int(height / size / 1.3)]
    font = ImageFont.load_default(size)
    ImageDraw.Draw(image).multiline_text((size, size), "\n".join(lines), fill=255 - paper, font=font)
    return image


def plain(rng: np.random.Generator) -> Image.Image:
    """One grey level, a ramp, or stripes."""
    rows, columns = np.mgrid[0 : 1 : int(rng.integers(128, 513)) * 1j, 0 : 1 : int(rng.integers(128, 513)) * 1j]
    angle = rng.uniform(0, np.pi)
    ramp = np.cos(angle) * rows + np.sin(angle) * columns
    kind = rng.integers(3)
    if kind == 0:
        return _picture(np.full(rows.shape, rng.random()))
    return _picture(ramp - ramp.min() if kind == 1 else 0.5 + 0.5 * np.sin(rng.uniform(10, 90) * ramp))


def _oval(rows: Grey, columns: Grey, centre: tuple[float, float], radii: tuple[float, float], soft: float) -> Grey:
    """1 inside an ellipse, 0 outside, with a soft edge."""
    distance = np.hypot((rows - centre[0]) / radii[0], (columns - centre[1]) / radii[1])
    return 1 / (1 + np.exp((distance - 1) / soft))


def _texture(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Grey:
    """Smooth noise of zero mean and unit deviation."""
    coarse = [max(2, int(side / scale)) for side in shape]
    field = zoom(rng.normal(size=coarse), [side / few for side, few in zip(shape, coarse, strict=True)], order=3)
    return (field - field.mean()) / field.std()


def chest_x_ray(rng: np.random.Generator) -> Image.Image:
    """A frontal chest film: dark lungs seen through ribs, white mediastinum and diaphragm, grey shoulders."""
    side = int(rng.integers(320, 561))
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    wide = rng.uniform(0.85, 1.1)
    grey = 0.15 + 0.55 * _oval(rows, columns, (0.35, 0), (1.3, wide), 0.06)
    for sign in (-1, 1):
        lung = _oval(rows, columns, (-0.05, sign * 0.42 * wide), (rng.uniform(0.6, 0.75), 0.31 * wide), 0.08)
        grey -= rng.uniform(0.35, 0.5) * lung
        grey += 0.5 * _oval(rows, columns, (0.85, sign * 0.45), (0.3, 0.5), 0.1)
    grey += rng.uniform(0.25, 0.4) * _oval(rows, columns, (0.1, 0), (1.2, 0.12), 0.15)
    grey += rng.uniform(0.25, 0.4) * _oval(rows, columns, (0.3, 0.15), (0.38, 0.3), 0.12)
    arches = np.sin(rng.uniform(26, 34) * (rows - 0.35 * (np.abs(columns) - 0.4) ** 2) + 2 * np.abs(columns))
    grey += 0.06 * np.clip(arches, 0, 1) * _oval(rows, columns, (0, 0), (0.8, 0.8), 0.05)
    return _picture(gaussian_filter(grey, 1) + rng.normal(0, 0.015, grey.shape))


def hand_x_ray(rng: np.random.Generator) -> Image.Image:
    """A hand: bright bones in rows with gaps at the joints, in grey flesh on black."""
    side = int(rng.integers(256, 513))
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    flesh, bone = np.zeros(rows.shape), np.zeros(rows.shape)
    for finger, spread in enumerate(np.linspace(-0.55, 0.55, 5) + rng.normal(0, 0.02, 5)):
        reach = 0.6 + 0.3 * np.cos(1.3 * (finger - 2)) * rng.uniform(0.8, 1.1)
        for joint in range(4):
            at = (0.25 - reach * joint / 3, spread * (0.6 + 0.15 * joint))
            flesh = np.maximum(flesh, _oval(rows, columns, at, (0.24, 0.12), 0.05))
            bone = np.maximum(bone, _oval(rows, columns, at, (0.13 - 0.02 * joint, 0.035), 0.1))
    flesh = np.maximum(flesh, _oval(rows, columns, (0.6, 0), (0.55, 0.4), 0.05))
    return _picture(0.3 * flesh + 0.5 * bone + 0.02 * rng.normal(size=rows.shape) * flesh)


def head_mr(rng: np.random.Generator) -> Image.Image:
    """An axial head: bright scalp, black bone, folded grey and white matter, dark or bright ventricles."""
    side = int(rng.integers(192, 385))
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    tall, wide = rng.uniform(0.8, 0.92), rng.uniform(0.62, 0.74)
    scalp = _oval(rows, columns, (0, 0), (tall, wide), 0.01)
    bone = _oval(rows, columns, (0, 0), (tall - 0.06, wide - 0.06), 0.01)
    brain = _oval(rows, columns, (0, 0), (tall - 0.13, wide - 0.13), 0.01)
    folds = _texture(rng, rows.shape, side / 24)
    depth = np.clip(1 - np.hypot(rows / tall, columns / wide), 0, 1)
    matter = 0.5 + 0.1 * np.tanh(8 * (depth - 0.3)) + 0.12 * np.tanh(2 * folds) * (depth < 0.35)
    fluid = rng.choice([0.1, 0.95])
    grey = 0.85 * (scalp - bone) + matter * brain
    for sign in (-1, 1):
        ventricle = _oval(rows, columns, (-0.05, sign * 0.1), (0.22, 0.06), 0.05)
        grey = grey * (1 - ventricle) + fluid * ventricle
    grey *= 1 - 0.5 * (np.abs(columns) < 0.008) * brain
    shade = 1 + 0.08 * _texture(rng, rows.shape, side / 2.5)
    return _picture(np.abs(grey * shade + 0.02 * rng.normal(size=rows.shape)))


def knee_mr(rng: np.random.Generator) -> Image.Image:
    """A sagittal knee: two bright bones with black rims, a gap of cartilage, and streaked muscle."""
    side = int(rng.integers(192, 385))
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    limb = (np.abs(columns - 0.08 * rows) < 0.65 + 0.1 * np.cos(3 * rows)).astype(float)
    grey = limb * (0.28 + 0.05 * np.sin(40 * columns + 6 * _texture(rng, rows.shape, side / 4)))
    edge = np.abs(np.abs(columns - 0.08 * rows) - 0.65) < 0.09
    grey = np.where(edge, 0.85 * limb, grey)
    for sign in (-1, 1):
        shaft = (np.abs(columns) < 0.22) & (sign * rows > 0.3)
        end = _oval(rows, columns, (sign * 0.28, 0), (0.24, 0.4), 0.03)
        bone = np.maximum(end, gaussian_filter(shaft.astype(float), 2))
        rim = (bone > 0.2) & (bone < 0.75)
        grey = grey * (1 - bone) + rng.uniform(0.6, 0.8) * bone
        grey = np.where(rim, 0.05, grey)
    return _picture(np.abs(gaussian_filter(grey, 1) + 0.02 * rng.normal(size=rows.shape)))


DRAWN: dict[str, Callable[[np.random.Generator], Image.Image]] = {
    "noise": noise,
    "drawing": drawing,
    "text page": text_page,
    "plain": plain,
    "chest X-ray-like": chest_x_ray,
    "hand X-ray-like": hand_x_ray,
    "head MR-like": head_mr,
    "knee MR-like": knee_mr,
}
