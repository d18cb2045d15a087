"""Images that do not belong: drawn upon, stamped, framed, of another region or window, or in another format.

Each kind is a rule on the numbers of `corpus.traits` with its limit beside it, or a comparison with the rest of the
corpus. A rule says what is odd, not what is wrong: the audit shows the images, and a person decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.audit.marks.strokes import INK_SHARE
from ct_xception.audit.twins.registration import shrink, standardise
from ct_xception.imaging.modality import CT
from ct_xception.imaging.shown import ShownWindow

if TYPE_CHECKING:
    from ct_xception.audit.survey import Survey

INK_PIXELS = 16  # coloured ones: a JPEG's chroma noise leaves a few
FRAME = 0.5  # of the picture's edge pure white
SIDE = 32  # pixels of the thumbnails that are compared
COMPARED = 2_000  # images that every image is compared with
TWIN = 0.97  # correlation at this size from which two images are one slice, which proves nothing of kinship
OUTLIER_RANGES = 4.0  # interquartile ranges below the lower quartile
LONELY = 0.8  # a nearest neighbour above this correlation is a relative, whatever the quartiles
FEWEST = 30  # images from which a corpus has a rest to differ from
SIZE_FACTOR = 3.0  # of the median number of pixels, either way
# By imaging.body.outline.REASONS.
NO_BODY = ("it is cut off", "only a part of it stands out", "nothing stands out")
SUFFIXES = {
    "is_png": (".png",),
    "is_jpeg": (".jpg", ".jpeg"),
    "is_tiff": (".tif", ".tiff"),
    "is_bmp": (".bmp",),
    "is_dicom": (".dcm", ".dicom", ".ima"),
}


@dataclass(frozen=True, eq=False)
class Oddity:
    """One kind of foreign image: which images (indices), a sentence's end on them, and what it was measured by."""

    kind: str
    items: NDArray[np.intp]
    said: str
    detail: dict[str, Any] = field(default_factory=dict)


def find_foreign(survey: Survey, seed: int = 0) -> list[Oddity]:
    """Every kind of oddity that at least one image of the corpus has, drawings first."""
    found = [*_drawn(survey), *_unlike(survey, seed), *_formats(survey), *_sizes(survey)]
    return [oddity for oddity in found if len(oddity.items)]


def _drawn(survey: Survey) -> list[Oddity]:
    """What a rule on one image's own numbers finds, the strongest first."""
    traits = survey.foreign
    pixels = survey.attributes["megapixels"] * 1e6
    coloured, share = traits["coloured_share"] * pixels, traits["coloured_share"]
    bodiless = (traits["body_found"] == 0) & (survey.modality == CT)
    rules = [
        ("not_grey", share >= INK_SHARE, share, "are colour pictures, not grey ones"),
        ("ink", (coloured >= INK_PIXELS) & (share < INK_SHARE), share, "hold coloured pixels (ink, boxes, logos)"),
        ("boxes", traits["box_score"] > 0, traits["box_score"], "hold a drawn box or frame"),
        ("strokes", traits["stroke_length"] > 0, traits["stroke_length"], "hold a thin pure white or black stroke"),
        ("overlay", traits["letters"] > 0, traits["letters"], "hold what looks like letters or a watermark"),
        ("frame", traits["frame_share"] >= FRAME, traits["frame_share"], "have a white edge all round"),
        ("doubts", traits["doubts"] > 0, traits["doubts"], "hold rows that are missing, or values that are no HU"),
        ("no_body", bodiless, traits["no_body"], f"show no whole body with air around it ({_why(traits['no_body'])})"),
    ]
    return [Oddity(kind, _strongest(hit, by), said, _by_class(survey, hit)) for kind, hit, by, said in rules]


def _why(reasons: NDArray[np.float64]) -> str:
    """Why no body was found in images, and in how many of them, the most first."""
    counts = {said: int((reasons == 1 + index).sum()) for index, said in enumerate(NO_BODY)}
    ordered = sorted(counts.items(), key=lambda one: -one[1])
    return ", ".join(f"in {number:,} {said}" for said, number in ordered if number)


def _strongest(hit: NDArray[np.bool_], by: NDArray[np.float64]) -> NDArray[np.intp]:
    found = np.flatnonzero(hit)
    return found[np.argsort(-by[found], kind="stable")]


def _by_class(survey: Survey, hit: NDArray[np.bool_]) -> dict[str, Any]:
    """How many images of each class, and of how many."""
    return {
        "classes": {
            name: {"n": int((hit & (survey.labels == label)).sum()), "total": int((survey.labels == label).sum())}
            for label, name in enumerate(survey.label_names)
        }
    }


def _unlike(survey: Survey, seed: int) -> list[Oddity]:
    nearest = nearest_relative(survey.aligned, survey.readable, seed)
    known = np.isfinite(nearest)
    if known.sum() < FEWEST:
        return []
    lower, upper = np.quantile(nearest[known], (0.25, 0.75))
    limit = min(LONELY, lower - OUTLIER_RANGES * (upper - lower))
    alone = known & (nearest < limit)
    said = "look like no other image of the corpus (another body region, another modality, a broken picture)"
    detail = _by_class(survey, alone) | {"limit": float(limit), "median": float(np.median(nearest[known]))}
    return [Oddity("unlike", _strongest(alone, -np.nan_to_num(nearest)), said, detail)]


def nearest_relative(aligned: NDArray[np.uint8], readable: NDArray[np.bool_], seed: int = 0) -> NDArray[np.float64]:
    """The correlation (N,) of each body-aligned thumbnail (N, 96, 96) with the most similar other that is no twin.

    At most COMPARED others, drawn at random, are looked at; what was not read is NaN.
    """
    found = np.flatnonzero(readable)
    drawn = found
    if len(found) > COMPARED:
        drawn = np.sort(np.random.default_rng(seed).choice(found, COMPARED, replace=False))
    others = standardise(shrink(aligned[drawn], SIDE))
    nearest = np.full(len(aligned), np.nan)
    for start in range(0, len(found), COMPARED):
        block = found[start : start + COMPARED]
        similar = standardise(shrink(aligned[block], SIDE)) @ others.T
        similar[similar >= TWIN] = -1.0
        nearest[block] = similar.max(axis=1, initial=-1.0)
    return nearest


def _formats(survey: Survey) -> list[Oddity]:
    wrong = np.zeros(len(survey.sources), dtype=bool)
    for key, suffixes in SUFFIXES.items():
        others = {suffix for many in SUFFIXES.values() for suffix in many} - set(suffixes)
        named = np.array([PurePosixPath(source).suffix.lower() in others for source in survey.sources])
        wrong |= named & (survey.attributes[key] == 1)
    found = _counts(survey, np.flatnonzero(wrong), _name_and_format)
    said = f"are not in the format that their names say ({', '.join(f'{n:,} {what}' for what, n in found.items())})"
    detail = _by_class(survey, wrong) | {"found": found}
    return [Oddity("misnamed", np.flatnonzero(wrong), said, detail), *_encodings(survey)]


def _encodings(survey: Survey) -> list[Oddity]:
    """Several formats or channel counts in one corpus; the rarer ones are shown."""
    readable = np.flatnonzero(survey.readable)
    counts = _counts(survey, readable, _encoding)
    if len(counts) < 2:
        return []
    usual = max(counts, key=lambda name: counts[name])
    rare = np.array([index for index in readable.tolist() if _encoding(survey, index) != usual], dtype=np.intp)
    said = f"are not encoded as most are ({', '.join(f'{number:,} {name}' for name, number in counts.items())})"
    hit = np.isin(np.arange(len(survey.sources)), rare)
    return [Oddity("mixed_formats", rare, said, _by_class(survey, hit) | {"found": counts})]


def _counts(survey: Survey, indices: NDArray[np.intp], describe: Any) -> dict[str, int]:
    return dict(Counter(describe(survey, index) for index in indices.tolist()).most_common())


def _format(survey: Survey, index: int) -> str:
    found = [key for key in SUFFIXES if survey.attributes[key][index] == 1]
    return found[0].removeprefix("is_").upper() if found else "other"


def _encoding(survey: Survey, index: int) -> str:
    """`RGBA PNG`, `grey JPEG`, `16-bit grey PNG`."""
    channels = {1: "grey", 2: "grey with alpha", 3: "RGB", 4: "RGBA"}.get(int(survey.attributes["channels"][index]))
    bits = int(survey.attributes["bit_depth"][index])
    if survey.attributes["has_palette"][index] == 1:
        channels = "palette"
    depth = "" if bits == 8 or _format(survey, index) == "DICOM" else f"{bits}-bit "
    return f"{depth}{channels or 'other'} {_format(survey, index)}"


def _name_and_format(survey: Survey, index: int) -> str:
    return f"{_format(survey, index)} named {PurePosixPath(survey.sources[index]).suffix}"


def _sizes(survey: Survey) -> list[Oddity]:
    """Pictures of far more or fewer pixels than usual."""
    pixels, widths = survey.attributes["megapixels"], survey.attributes["width"]
    readable = survey.readable
    if not readable.any():
        return []
    factor = pixels / np.median(pixels[readable])
    odd = readable & ((factor > SIZE_FACTOR) | (factor < 1 / SIZE_FACTOR))
    span = f"{int(np.nanmin(widths)):,} to {int(np.nanmax(widths)):,} px wide"
    said = f"have over {SIZE_FACTOR:g} times more or fewer pixels than the median (the corpus is {span})"
    return [Oddity("sizes", _strongest(odd, np.abs(np.log(factor))), said, _by_class(survey, odd) | {"widths": span})]


@dataclass(frozen=True)
class WindowTable:
    """How many images of each class were shown in which window: {class: {window: n}}, and the largest gap.

    `gap` is the largest difference between a window's share in a class and in the rest, and `where` says which.
    `guessed`: from what 8-bit pictures show, since their files do not tell.
    """

    counts: dict[str, dict[str, int]]
    gap: float
    where: tuple[str, str]
    guessed: bool


def window_table(survey: Survey) -> WindowTable:
    """Windows by class: the files' own, or judged from what the pictures show."""
    told = {window for window in survey.windows if window and window != "8-bit"}
    if told:
        kinds = [window if window in told else "8-bit" for window in survey.windows]
    else:
        kinds = [shown.kind if survey.modality == CT else "8-bit" for shown in shown_windows(survey)]
    readable = np.flatnonzero(survey.readable)
    counts = {name: Counter[str]() for name in survey.label_names}
    for index in readable.tolist():
        counts[survey.label_names[survey.labels[index]]][kinds[index]] += 1
    gap, where = _largest_gap(counts, survey.label_names)
    ordered = {name: dict(sorted(found.items())) for name, found in counts.items()}
    return WindowTable(ordered, gap, where, guessed=not told)


def shown_windows(survey: Survey) -> list[ShownWindow]:
    """The window of each image as its picture shows it."""
    return [ShownWindow(*ends) for ends in zip(survey.foreign["shown_low"], survey.foreign["shown_high"], strict=True)]


def _largest_gap(counts: dict[str, Counter[str]], names: Sequence[str]) -> tuple[float, tuple[str, str]]:
    best, where = 0.0, ("", "")
    total: Counter[str] = sum(counts.values(), Counter())
    for name in names:
        own, rest = counts[name].total(), total.total() - counts[name].total()
        if not own or not rest:
            continue
        for kind in total:
            gap = abs(counts[name][kind] / own - (total[kind] - counts[name][kind]) / rest)
            if gap > best:
                best, where = gap, (name, kind)
    return best, where
