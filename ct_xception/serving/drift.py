"""Are these slices, as a set, such as those that the network was measured on? Two-sample tests, with patients as units.

    watch = SetWatch.of(reference, gate)        # None where the checkpoint keeps nothing to compare with
    watch.add(slice_, crop, features)           # every slice that is answered
    verdict = watch.verdict()

A gate of single slices lets a whole hospital pass whose every slice is a little unlike training. As a set such slices
are told apart: what a slice looks like without a network (`slice_traits`), and where its features lie, are averaged
over each patient and compared with the patients of training, one number at a time, with their count corrected for
(`statistics.two_sample`). Features are compared with those of validation patients alone, since a network knows the
slices that it was fitted to. The checkpoint keeps each number's sorted values, and no row of them is one patient.

Whose a slice is its file may not say, so look-alikes are taken for one patient. A patient may still fall into several;
how many he does in training thins the set that is tested.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint import DRIFT
from ct_xception.checkpoint_files import DriftRule
from ct_xception.errors import CheckpointError, printable
from ct_xception.imaging.windows import WINDOWS
from ct_xception.serving.gate import describe, load_arrays
from ct_xception.statistics.two_sample import compare_samples, least_chance, unit_means

if TYPE_CHECKING:
    from ct_xception.imaging.body.crop import BodyCrop
    from ct_xception.imaging.slice import Slice
    from ct_xception.serving.gate import Distance, Gate

FEWEST = 20  # slices from which a set is judged
LEVEL = 0.001  # the corrected chance below which a set is called unlike: patients that fall apart make smaller ones
MOST = 1000  # slices that are kept of a larger set, at random
COMPONENTS = 12
THUMB = 24
SAME_PATIENT = 0.85  # correlation of body crops, as the audit links look-alikes
TRAITS = {
    "height": "their size", "width": "their size", "aspect": "their proportions", "body": "how much the body fills",
    "mean": "their grey levels", "sd": "their contrast", "low": "their dark grey levels",
    "middle": "their grey levels", "high": "their bright grey levels", "black": "how much is black",
    "white": "how much is white", "noise": "their noise", "detail": "their sharpness",
}  # fmt: skip
FEATURES = "what the network sees in them"

Floats = NDArray[np.float64]


def slice_traits(slice_: Slice, crop: BodyCrop) -> Floats:
    """The numbers of TRAITS, (T,) float64, of a slice as it was read: sizes in pixels, greys in levels, shares."""
    pixels, inside = slice_.pixels.astype(np.float64), crop.slice.pixels.astype(np.float64)
    height, width = pixels.shape
    body = crop.box.height * crop.box.width / pixels.size if crop.found else 0.0
    low, middle, high = np.percentile(inside, [10, 50, 90])
    fine = np.abs(np.diff(inside, 2, axis=1)) if inside.shape[1] > 2 else np.zeros(1)
    coarse = np.abs(inside[:, 4:] - inside[:, :-4]) if inside.shape[1] > 4 else np.zeros(1)
    return np.array(
        [
            height, width, width / height, body, inside.mean(), inside.std(), low, middle, high,
            (inside == 0).mean(), (inside == 255).mean(), np.median(fine), fine.mean() / max(coarse.mean(), 1e-6),
        ]
    )  # fmt: skip


def feature_coordinates(distance: Distance, features: NDArray[np.floating]) -> Floats:
    """Where features (N, F) lie: the first coordinates of the gate's PCA, and the logarithm of its distance: (N, C)."""
    centred = describe(features, distance.length) - distance.mean
    within = centred @ distance.components[:COMPONENTS].T.astype(np.float64)
    far = np.log(np.maximum(distance(features), 1e-12))
    return np.concatenate([within, far[:, None]], axis=1)


def thumbnail(crop: BodyCrop) -> NDArray[np.float32]:
    """A body crop as (THUMB²,) float32 of mean 0 and length 1, for the search for look-alikes."""
    from PIL import Image

    small = Image.fromarray(crop.slice.pixels).resize((THUMB, THUMB), Image.Resampling.BOX)
    values = np.asarray(small, np.float32).ravel()
    values = values - values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-6)


def link_lookalikes(thumbnails: NDArray[np.float32]) -> NDArray[np.intp]:
    """Numbers (N,) of the units that look-alikes form, through any chain."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    return connected_components(csr_array(thumbnails @ thumbnails.T > SAME_PATIENT), directed=False)[1]


@dataclass(frozen=True, eq=False)
class Reference:
    """What a checkpoint keeps: each trait's sorted values (T, G), one a patient, and each feature coordinate's (C, V).

    `units_each` is how many units of look-alikes a patient's slices form, 1 or more.
    """

    traits: NDArray[np.float32]
    features: NDArray[np.float32]
    units_each: float

    @classmethod
    def of(cls, rule: DriftRule | None, folder: Path, name: str) -> Reference | None:
        """From the side file's key `drift` and the folder; None where there is none, or one of a later version."""
        if rule is None or rule.version != 1:
            return None
        try:
            arrays = load_arrays(folder / DRIFT)
            traits, features = arrays["traits"], arrays["features"]
            if traits.ndim != 2 or features.ndim != 2 or len(traits) != len(TRAITS):
                raise ValueError("its arrays have other shapes")
            if not (np.isfinite(traits).all() and np.isfinite(features).all() and features.size):
                raise ValueError("its arrays hold values that are not finite")
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{name}: what it keeps of training's patients cannot be read ({printable(error)}); fetch the "
                "checkpoint again."
            ) from error
        return cls(traits, features, rule.units_each)

    def least_chance(self, units: int) -> float:
        """The smallest corrected chance that so many units can come to: all of them beyond all patients' values."""
        known = max(self.traits.shape[1], self.features.shape[1])
        return least_chance(len(self.traits) + len(self.features), known, units)

    def compare(self, traits: Floats, features: Floats) -> tuple[float, tuple[str, ...]]:
        """The corrected chance of units (U, T) and (U, C) of the same source, and in what they are unlike."""
        pairs = [
            *zip(TRAITS.values(), self.traits, traits.T, strict=True),
            *((FEATURES, known, found) for known, found in zip(self.features, features.T, strict=True)),
        ]
        differences = compare_samples(pairs)
        told = sorted((one.corrected, one.name) for one in differences if one.corrected < LEVEL)
        return min(one.corrected for one in differences), tuple(dict.fromkeys(what for _, what in told))


@dataclass(frozen=True)
class SetVerdict:
    """What N slices are as a set: `chance` is None where they are too few, or of too few patients, to be judged."""

    n: int
    units: int
    chance: float | None = None
    reasons: tuple[str, ...] = ()

    @property
    def unlike(self) -> bool:
        """Whether the set is of another kind than that which the network was measured on."""
        return self.chance is not None and self.chance < LEVEL

    def __str__(self) -> str:
        if self.unlike:
            return (
                f"these {self.n:,} slices are unlike those that the network was measured on (by "
                f"{', '.join(self.reasons[:4])}); its figures do not carry over"
            )
        if self.chance is None:
            return (
                f"these {self.n:,} slices seem to be of {self.units:,} patients, too few to say whether they are like "
                "those that the network was measured on"
            )
        return (
            f"as a set, these {self.n:,} slices are not told from those that the network was measured on (corrected "
            f"p = {self.chance:.2g})"
        )


@dataclass(eq=False)
class WindowLooks:
    """Of a set's slices in HU that the gate doubts: how many were looked at through other windows, and what would do.

    A look costs an answer for every preset, so ever fewer are taken.
    """

    doubted: int = 0
    looks: int = 0
    windows: Counter[str] = field(default_factory=Counter)

    def wants(self) -> bool:
        """Whether the next doubted slice is to be looked at: the 1st, 2nd, 4th, 8th, …"""
        self.doubted += 1
        return self.doubted & (self.doubted - 1) == 0

    def note(self, accepted: Sequence[str]) -> None:
        """One was looked at, and accepted in these windows."""
        self.looks += 1
        self.windows.update(accepted)

    def hint(self) -> str | None:
        """Which windows the slices may want: those in which most that were looked at would be accepted."""
        told = [name for name in WINDOWS if 2 * self.windows[name] > self.looks]
        if not told:
            return None
        counts = " and ".join(f"{self.windows[name]} with --window {name}" for name in told)
        return (
            f"of the {self.looks} doubted slices in HU that were looked at again, the input gate would accept {counts}"
            "; give the window in which the pictures of training were shown"
        )

    @classmethod
    def join(cls, parts: Sequence[WindowLooks]) -> WindowLooks:
        """What several processes counted, together."""
        windows = sum((part.windows for part in parts), Counter[str]())
        return cls(sum(part.doubted for part in parts), sum(part.looks for part in parts), windows)


@dataclass(eq=False)
class SetWatch:
    """Gathers what is answered, slice by slice; of a large set a random part is kept."""

    reference: Reference
    distance: Distance
    seed: int = 0
    n: int = 0
    kept: list[tuple[Floats, NDArray[np.float32], NDArray[np.float32]]] = field(default_factory=list)
    through: WindowLooks = field(default_factory=WindowLooks)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    @classmethod
    def of(cls, reference: Reference | None, gate: Gate | None) -> SetWatch | None:
        """Of what a checkpoint keeps; None where it keeps nothing to compare with."""
        return None if reference is None or gate is None else cls(reference, gate.distance)

    def add(self, slice_: Slice, crop: BodyCrop, features: NDArray[np.floating]) -> None:
        """Take in one slice as it was read, its crop and its features (F,)."""
        self.n += 1
        place = len(self.kept) if self.n <= MOST else int(self._rng.integers(self.n))  # Vitter 1985, algorithm R
        if place >= MOST:
            return
        one = (slice_traits(slice_, crop), np.asarray(features, np.float32), thumbnail(crop))
        self.kept[place : place + 1] = [one]

    def join(self, others: Sequence[SetWatch]) -> SetWatch:
        """What several processes gathered, together."""
        kept = [one for other in others for one in other.kept]
        n, through = sum(other.n for other in others), WindowLooks.join([other.through for other in others])
        return SetWatch(self.reference, self.distance, self.seed, n, kept, through)

    def verdict(self) -> SetVerdict | None:
        """What the slices are as a set; None of fewer than FEWEST."""
        if self.n < FEWEST:
            return None
        traits, features, thumbnails = (np.stack(column) for column in zip(*self.kept, strict=True))
        return judge_set(self.reference, self.distance, traits, features, link_lookalikes(thumbnails), n=self.n)


def judge_set(
    reference: Reference,
    distance: Distance,
    traits: Floats,
    features: NDArray[np.floating],
    units: NDArray[np.intp],
    *,
    n: int | None = None,
    seed: int = 0,
) -> SetVerdict:
    """The verdict on traits (N, T) and features (N, F) of slices that form `units` (N,)."""
    count, total = int(units.max()) + 1, n or len(units)
    tested = round(count / reference.units_each)
    if reference.least_chance(tested) >= LEVEL:
        return SetVerdict(total, count)
    drawn = np.random.default_rng(seed).choice(count, tested, replace=False)
    shown, seen = (unit_means(values, units)[drawn] for values in (traits, feature_coordinates(distance, features)))
    chance, reasons = reference.compare(shown, seen)
    return SetVerdict(total, count, chance, reasons)
