"""Is this a slice such as the model knows? Explicit signs, and how far its features lie from those of training.

    gate = Gate.of(side, folder)                     # None where the checkpoint has none
    verdict = gate.judge(slice_, crop, features)     # accepted, doubtful or refused, with reasons

A network of four classes answers a photograph with one of the four, often surely. The gate asks first. Its rules were
fitted on the build side (`evaluation/gate_fit.py`), stand in `ct_xception.json` under `gate`, and its arrays in
`gate.safetensors`; here they are only read and applied.

The distance is Mahalanobis' for a Gaussian of few directions and even noise around them (probabilistic PCA, Tipping &
Bishop 1999), a covariance that few slices can tell: with z the PCA coordinates, l their variances, r what no component
explains and s2 the noise, `sqrt((sum(z² / l) + |r|² / s2) / D)`. Features x enter twice (`describe`), as they are and
with length 1, since foreign pictures leave the cloud of training in length with one network and in direction with
another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint import GATE, WEIGHTS
from ct_xception.checkpoint_files import GateRule, Side, SignsRule, check_safetensors
from ct_xception.errors import CheckpointError, printable
from ct_xception.imaging.body.crop import BodyCrop
from ct_xception.imaging.body.lungs import lung_places
from ct_xception.imaging.body.outline import shrink
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window

METHOD = "mahalanobis"
ARRAYS = ("mean", "components", "variances")  # of gate.safetensors: (D,), (Q, D), (Q,), float32
MOST_BYTES = 64 * 2**20  # of its file; 64 components of 4096 take 1 MB
ACCEPTED, DOUBTFUL, REFUSED = "accepted", "doubtful", "refused"

UNSTATED = ("", "OT")  # modalities that say nothing: left out, and "other"
COLOURED = (0.05, 0.3)  # share of coloured pixels: more than ink and boxes; a colour picture
BODY = (0.5, 0.2)  # of the least share of the picture that a training body fills
LUNG_SIDE = 192  # pixels at most of a slice that lungs are looked for in: a larger one costs more than it tells
SHORT, LONG, ASPECT = 0.5, 3.0, 1.5  # of training's shortest and longest side and extreme proportions
WINDOW_OVERLAP = 0.5  # of two windows' ranges of HU, shared over joint
FARTHEST = 1000.0  # the largest ratio of distances that is told, so that JSON can hold it

REFUSES, DOUBTS = 1.0, 0.5  # weights of signs

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class GateVerdict:
    """`verdict` is accepted, doubtful or refused; `reasons` are short clauses, the weightiest first.

    `score` is the distance of the features, as a multiple of the distance at which it refuses by itself, plus the
    weight of every sign (1 for one that refuses by itself): 0 or more, refused from 1 on. `overruled` says that the
    caller wants an answer all the same.
    """

    verdict: str
    reasons: tuple[str, ...] = ()
    score: float = 0.0
    overruled: bool = False

    @property
    def refused(self) -> bool:
        """Whether no answer of this model should be shown."""
        return self.verdict == REFUSED and not self.overruled

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"verdict": self.verdict, "reasons": list(self.reasons), "score": self.score}


@dataclass(frozen=True)
class Sign:
    """One thing about a slice that speaks against it: a clause, and its weight; 1 refuses by itself."""

    reason: str
    weight: float


@dataclass(frozen=True)
class Signs:
    """What training slices look like without a network; None or empty where training tells nothing.

    `modalities` are those that DICOM files may state, any where it is empty. `body` is the least share of the picture
    that a body's box fills, `sides` the shortest and the longest side in pixels, `aspects` the extreme ratios of width
    to height. `windows` are those of training slices in HU. `lungs` is the weight of showing none; 0 where training has
    such.
    """

    modalities: tuple[str, ...] = ("CT",)
    body: float | None = None
    lungs: float = 0.0
    sides: tuple[float, float] | None = None
    aspects: tuple[float, float] | None = None
    windows: tuple[Window, ...] = ()

    @classmethod
    def of(cls, stated: SignsRule) -> Signs:
        """From what a side file says, which is `to_dict`'s result."""
        windows = tuple(Window(centre, width) for centre, width in stated.windows)
        return cls(stated.modalities, stated.body, stated.lungs, stated.sides, stated.aspects, windows)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "modalities": list(self.modalities),
            "body": self.body,
            "lungs": self.lungs,
            "sides": None if self.sides is None else list(self.sides),
            "aspects": None if self.aspects is None else list(self.aspects),
            "windows": [[window.centre, window.width] for window in self.windows],
        }

    def against(self, slice_: Slice, crop: BodyCrop) -> list[Sign]:
        """Every sign that this is no slice such as those of training."""
        found = [*self._modality(slice_), *_colour(slice_), *self._body(crop, slice_)]
        return [*found, *self._size(slice_), *self._window(slice_)]

    def _modality(self, slice_: Slice) -> list[Sign]:
        if slice_.is_localizer:
            return [Sign("the file says that it is a scout view (localizer), not a slice", REFUSES)]
        modality = slice_.modality
        if modality is None or not self.modalities or modality in self.modalities:
            return []
        if modality in UNSTATED:
            return [Sign("the file does not say with which modality it was made", DOUBTS)]
        return [Sign(f"the file says modality {printable(modality)}, not {' or '.join(self.modalities)}", REFUSES)]

    def _body(self, crop: BodyCrop, slice_: Slice) -> list[Sign]:
        if self.body is not None and not crop.found:
            return [Sign("no body stands out from the background", REFUSES)]
        lungless = [Sign("no lungs stand out in it", self.lungs)] if self.lungs and not has_lungs(crop) else []
        share = crop.box.height * crop.box.width / slice_.pixels.size
        doubtful, refused = ((self.body or 0.0) * factor for factor in BODY)
        if self.body is None or share >= doubtful:
            return lungless
        found = f"what stands out as a body fills {_share(share)} of the picture, in training at least"
        return [Sign(f"{found} {_share(self.body)}", REFUSES if share < refused else DOUBTS), *lungless]

    def _size(self, slice_: Slice) -> list[Sign]:
        if self.sides is None or self.aspects is None:
            return []
        height, width = slice_.pixels.shape
        if not SHORT * self.sides[0] <= min(height, width) <= max(height, width) <= LONG * self.sides[1]:
            sides = f"training had {self.sides[0]:.0f} to {self.sides[1]:.0f} a side"
            return [Sign(f"{width} x {height} pixels, where {sides}", DOUBTS)]
        if not self.aspects[0] / ASPECT <= width / height <= self.aspects[1] * ASPECT:
            shape = "wide" if width > height else "tall"
            return [Sign(f"{width} x {height} pixels: too {shape} for a slice such as those of training", DOUBTS)]
        return []

    def _window(self, slice_: Slice) -> list[Sign]:
        window = slice_.window
        if window is None or not slice_.is_hu or not self.windows:
            return []
        if max(_overlap(window, known) for known in self.windows) >= WINDOW_OVERLAP:
            return []
        known = ", ".join(map(str, self.windows))
        return [Sign(f"shown through the window {window} HU, where training had {known}", DOUBTS)]


def _colour(slice_: Slice) -> list[Sign]:
    doubtful, refused = COLOURED
    if slice_.coloured < doubtful:
        return []
    weight = REFUSES if slice_.coloured >= refused else DOUBTS
    return [Sign(f"{_share(slice_.coloured)} of its pixels are coloured, where all should be grey", weight)]


def has_lungs(crop: BodyCrop) -> bool:
    """Whether anything in a cropped slice looks like a lung, at about LUNG_SIDE pixels."""
    pixels = crop.slice.pixels
    step = -(-max(pixels.shape) // LUNG_SIDE)
    if min(pixels.shape) < 2 * step:
        return False
    body = pixels > 0 if crop.slice.body is None else crop.slice.body
    small, inside = (np.pad(shrink(part.astype(np.uint8), step), 1) for part in (pixels, 2 * body))
    return crop.found and bool(lung_places(small, inside > 0))


def _overlap(first: Window, second: Window) -> float:
    shared = min(first.high, second.high) - max(first.low, second.low)
    joint = max(first.high, second.high) - min(first.low, second.low)
    return max(0.0, shared) / joint if joint else 1.0


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if value >= 0.01 else "under 1 %"


def describe(features: NDArray[np.floating], length: float) -> NDArray[np.float64]:
    """Features (..., F) in the coordinates of the distance, (..., 2F): over `length`, and over their own length."""
    exact = features.astype(np.float64)
    own = np.linalg.norm(exact, axis=-1, keepdims=True)
    return np.concatenate([exact / length, exact / np.maximum(own, 1e-12)], axis=-1)


@dataclass(frozen=True, eq=False)
class Distance:
    """How far features lie from those of training. Arrays as in ARRAYS, in the coordinates of `describe`.

    `noise` is the variance off the components, `length` the one that training features have in the mean.
    """

    mean: Floats
    components: Floats
    variances: Floats
    noise: float
    length: float

    def __post_init__(self) -> None:
        size, count = self.mean.size, len(self.components)
        shapes = (self.mean.shape, self.components.shape, self.variances.shape)
        if shapes != ((size,), (count, size), (count,)) or not size or size % 2:
            raise ValueError(f"its arrays have the shapes {shapes}")
        if not all(np.isfinite(array).all() for array in (self.mean, self.components, self.variances)):
            raise ValueError("its arrays hold values that are not finite")
        if not (self.variances > 0).all() or not (self.noise > 0 and self.length > 0):
            raise ValueError("its variances are not all above 0")

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """The distance, 0 or more, of features (..., F): (...,); infinite where any of them is not finite."""
        if 2 * features.shape[-1] != self.mean.size:
            raise ValueError(f"got {features.shape[-1]} features for a gate of {self.mean.size // 2}")
        if not np.isfinite(features).all():
            return np.full(features.shape[:-1], np.inf)
        centred = describe(features, self.length) - self.mean
        coordinates = centred @ self.components.T.astype(np.float64)
        within = (coordinates**2 / self.variances).sum(axis=-1)
        left = np.maximum((centred**2).sum(axis=-1) - (coordinates**2).sum(axis=-1), 0)
        return np.sqrt((within + left / self.noise) / self.mean.size)


@dataclass(frozen=True, eq=False)
class Gate:
    """The gate of one checkpoint. `usual`, `doubtful`, `refused` are distances: validation's median, and the limits."""

    distance: Distance
    signs: Signs
    usual: float
    doubtful: float
    refused: float

    @classmethod
    def of(cls, side: Side, folder: Path, name: str | None = None) -> Gate | None:
        """The gate in a side file and its folder; None where there is none, or one of a later version's method.

        `name` is what messages call the checkpoint. Raises CheckpointError where the file is missing or cannot be what
        the rules speak of, and where they were fitted to other weights.
        """
        rule = side.gate
        if rule is None or rule.method != METHOD:
            return None
        weights = side.manifest.get(WEIGHTS) or side.provenance.weights_sha256
        try:
            if rule.weights_sha256 not in (None, weights):
                raise ValueError("it was fitted to other weights")
            return cls.read(rule, load_arrays(folder / GATE))
        except (KeyError, ValueError) as error:
            own = name or printable(folder)
            raise CheckpointError(
                f"{own}: its input gate cannot be read ({printable(error)}); fetch the checkpoint again."
            ) from error

    @classmethod
    def read(cls, rule: GateRule, arrays: Mapping[str, Floats]) -> Gate:
        """From the rule in the side file and the arrays of GATE. Raises KeyError or ValueError."""
        limits, signs = (rule.usual, rule.doubtful, rule.refused), rule.signs
        if None in (*limits, rule.noise, rule.length) or signs is None:
            raise ValueError("its rule is not whole")
        usual, doubtful, refused, noise, length = map(float, filter(None, (*limits, rule.noise, rule.length)))
        if not usual <= doubtful <= refused:
            raise ValueError(f"its limits {usual:g}, {doubtful:g} and {refused:g} do not rise")
        mean, components, variances = (arrays[name] for name in ARRAYS)
        distance = Distance(mean, components, variances, noise, length)
        return cls(distance, Signs.of(signs), usual, doubtful, refused)

    def judge(self, slice_: Slice, crop: BodyCrop, features: NDArray[np.floating]) -> GateVerdict:
        """The verdict on a slice as it was read, its body crop, and its pooled features (F,)."""
        signs = self.signs.against(slice_, crop)
        against = sum(sign.weight for sign in signs)
        distance = float(self.distance(features))
        ratio = min(distance / self.refused, FARTHEST)
        if distance >= self.doubtful:
            times = min(distance / self.usual, FARTHEST)
            found = (
                f"its features lie {times:.1f} times as far from the training slices as those of validation mostly do"
            )
            signs.append(Sign(found, ratio))
        reasons = tuple(sign.reason for sign in sorted(signs, key=lambda sign: -sign.weight))
        score = ratio + against
        return GateVerdict(REFUSED if score >= 1 else DOUBTFUL if signs else ACCEPTED, reasons, score)


def load_arrays(path: Path) -> dict[str, Floats]:
    """The arrays of a small safetensors file. Raises ValueError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        check_safetensors(path, MOST_BYTES)
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path.name} is missing or damaged") from error
