"""The input gate of a checkpoint, fitted: what training slices are like, and where validation says that this ends.

    train = see_items(classifier, splits["train"])
    rule, arrays = fit_gate(train, see_items(classifier, splits["validation"]), weights_sha256=digest)
    write_gate(folder, rule, arrays)

The rules are applied by `serving/gate.py`. The distance was chosen by measurement (`python -m benchmarks.gate …
--compare`): 150 foreign pictures against the test slices of two checkpoints, of the reference corpus (192 px, 315
slices) and of the phantom (64 px, 64 slices). AUROC of the distance alone, and the share of foreign pictures beyond
what 97 % of the validation slices reach:

    Mahalanobis on PCA, features and their direction    0.9999 and 0.989    97 and  95 %    (chosen)
    the same, features as they are                      0.989  and 0.990    41 and 100 %
    the same, their direction                           0.9998 and 0.978    97 and  87 %
    5 nearest neighbours, cosine                        0.997  and 0.952    89 and  81 %
    energy of the logits                                0.999  and 0.943    98 and  42 %

64 PCA coordinates without the distance off them reach 0.77 and 0.97 only: foreign pictures lie off the components. The
limit that refuses is 2.4 times the median distance of validation slices, which kept both bars with either checkpoint,
and no quantile (unless 95 % of them need more): tens of slices do not tell a tail.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from sklearn.decomposition import PCA

from ct_xception.checkpoint import GATE
from ct_xception.checkpoint_files import GateRule, Side, need_side, write_side
from ct_xception.corpus.cells import readable_rows
from ct_xception.evaluation.answers import Item, with_bar
from ct_xception.files import write_atomically
from ct_xception.imaging.modality import CT, STATED
from ct_xception.metrics import GateMetrics
from ct_xception.serving.drift import slice_traits, thumbnail
from ct_xception.serving.gate import (
    ACCEPTED,
    ARRAYS,
    DOUBTFUL,
    METHOD,
    REFUSED,
    Distance,
    Floats,
    Signs,
    describe,
    has_lungs,
)
from ct_xception.statistics.intervals import group_indices, proportion_figure

if TYPE_CHECKING:
    from ct_xception.imaging.body.crop import BodyCrop
    from ct_xception.imaging.slice import Slice
    from ct_xception.imaging.windows import Window
    from ct_xception.serving.classifier import Classifier, PreparedSlice
    from ct_xception.serving.network import Outputs

MOST = 2_000  # training slices looked at: more would not move a Gaussian
FEWEST = {"training": 12, "validation": 4}  # slices from which there is something to fit
COMPONENTS = 96
MOST_PASS = 0.95  # of validation slices lie nearer than the doubtful ones, and than the refused
TIMES = 2.4  # the median distance of validation slices at which a slice is refused
# Variance of described features (so over their own size) that float32 makes of one slice: with batches of another size,
# another memory layout and another library of a 64 px Xception it was 0.4 to 1.3e-14.
ROUNDING = 1e-14
ALIKE, LEAST = 100 * ROUNDING, 1e-6  # total variance up to which all is the same; least share that a direction has
HAVE_BODY, LOW = 0.98, 0.01  # share of training slices that must show a body; the quantile that is "at least"
LUNGLESS = ((0.02, 0.5), (0.1, 0.25))  # up to this share of slices without lungs, having none weighs so much
WINDOWS = 8  # kept of those that training files name


@dataclass(frozen=True, eq=False)
class Seen:
    """What N slices look like: `features` (N, F) float32, and the columns that the signs are fitted on, N each.

    `bodies` is the share of the picture that the body's box fills, 0 where none was found; `lungs` says whether any
    stand out; `modalities` and `windows` are None where a file has none. `traits` and `thumbnails` are those of
    `serving.drift`; `groups` are the patients and `labels` the classes, where items told them (-1: not); `logits` are
    the network's answers (K,).
    """

    features: Floats
    heights: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    bodies: tuple[float, ...] = ()
    lungs: tuple[bool, ...] = ()
    modalities: tuple[str | None, ...] = ()
    windows: tuple[Window | None, ...] = ()
    traits: tuple[NDArray[np.float64], ...] = ()
    thumbnails: tuple[Floats, ...] = ()
    groups: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    logits: tuple[Floats, ...] = ()

    @staticmethod
    def join(parts: Sequence[Seen]) -> Seen:
        """Shards put together, in their order."""
        columns = zip(*(part._columns() for part in parts), strict=True)
        return Seen(
            np.concatenate([part.features for part in parts if len(part.features)] or [parts[0].features]),
            *(tuple(itertools.chain(*column)) for column in columns),
        )

    def select(self, rows: Sequence[int]) -> Seen:
        """Some of the slices; a column that is not there stays so."""
        return Seen(self.features[rows], *(tuple(own[row] for row in rows) if own else () for own in self._columns()))

    def _columns(self) -> tuple[tuple[Any, ...], ...]:
        shown = (self.heights, self.widths, self.bodies, self.lungs, self.modalities, self.windows)
        return *shown, self.traits, self.thumbnails, self.groups, self.labels, self.logits


def see_items(
    classifier: Classifier,
    items: Iterable[Item],
    *,
    window: Window | None = None,
    frame: int | None = None,
    batch_size: int = 16,
    progress: str | None = None,
) -> Seen:
    """Read, crop and pass every item through the network; what cannot be read is left out.

    `progress` is the title of a bar, None shows none.
    """
    remaining, parts = iter(with_bar(items, progress)), list[Seen]()
    while batch := list(itertools.islice(remaining, batch_size)):
        read = list(readable_rows(classifier.read, batch, window=window, frame=frame))
        if read:
            groups = tuple(str(item.get("group", item["source"])) for item, _ in read)
            labels = tuple(int(item.get("label", -1)) for item, _ in read)
            parts.append(replace(see_slices(classifier, [slice_ for _, slice_ in read]), groups=groups, labels=labels))
    return Seen.join(parts) if parts else Seen(np.zeros((0, 0), np.float32))


def see_slices(classifier: Classifier, slices: Sequence[Slice]) -> Seen:
    """Crop slices as they were read and pass them through the network, all in one batch."""
    prepared = [classifier.prepare(slice_) for slice_ in slices]
    return seen_as(slices, prepared, classifier.network(np.stack([one.values for one in prepared])))


def seen_as(slices: Sequence[Slice], prepared: Sequence[PreparedSlice], outputs: Outputs) -> Seen:
    """What slices look like, from their crops and what the network gave for them, where it was asked already."""
    return Seen(
        outputs.features,
        tuple(slice_.pixels.shape[0] for slice_ in slices),
        tuple(slice_.pixels.shape[1] for slice_ in slices),
        tuple(_body_share(one.crop, slice_) for one, slice_ in zip(prepared, slices, strict=True)),
        tuple(has_lungs(one.crop) for one in prepared),
        tuple(slice_.modality for slice_ in slices),
        tuple(slice_.window if slice_.is_hu else None for slice_ in slices),
        tuple(slice_traits(slice_, one.crop) for one, slice_ in zip(prepared, slices, strict=True)),
        tuple(thumbnail(one.crop) for one in prepared),
        logits=tuple(outputs.logits),
    )


def _body_share(crop: BodyCrop, slice_: Slice) -> float:
    return crop.box.height * crop.box.width / slice_.pixels.size if crop.found else 0.0


def sample(count: int, seed: int = 0) -> NDArray[np.intp]:
    """Which of `count` training items are looked at, in order: all of them, or MOST at random."""
    if count <= MOST:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, MOST, replace=False))


def fit_gate(
    train: Seen, validation: Seen, *, weights_sha256: str | None, body_crop: bool = True, modality: str = CT
) -> tuple[GateRule, dict[str, Floats]]:
    """The key `gate` of ct_xception.json, and the arrays of gate.safetensors.

    Where either split is too small the rule's `method` is None, with a `reason`, and there are no arrays.
    """
    rule: dict[str, Any] = {
        "weights_sha256": weights_sha256,
        "fitted_on": {"split": "train", "n": len(train.features)},
        "limits_from": {"split": "validation", "n": len(validation.features)},
    }
    for name, seen in (("training", train), ("validation", validation)):
        if len(seen.features) < FEWEST[name]:
            few = f"{len(seen.features)} {name} slices, where {FEWEST[name]} are needed"
            return GateRule.of({"method": None, "reason": few} | rule), {}
    distance = fit_distance(train.features)
    limits = None if distance is None else fit_limits(distance(validation.features))
    if distance is None or limits is None or not 0 < limits["usual"] < np.inf:
        return GateRule.of({"method": None, "reason": "the network makes the same of every slice"} | rule), {}
    arrays = {name: getattr(distance, name) for name in ARRAYS}
    signs = fit_signs(train, validation, body_crop=body_crop, modality=modality).to_dict()
    told = {"method": METHOD, "noise": distance.noise, "length": distance.length, **limits, "signs": signs}
    return GateRule.of(told | rule), arrays


def distance_of(rule: GateRule, arrays: Mapping[str, Floats]) -> Distance:
    """The distance of a gate that was fitted and has one."""
    mean, components, variances = (arrays[name] for name in ARRAYS)
    assert rule.noise is not None and rule.length is not None
    return Distance(mean, components, variances, rule.noise, rule.length)


def fit_distance(features: Floats) -> Distance | None:
    """Probabilistic PCA by scikit-learn of features (N, F), in the coordinates of `describe`; None where all are alike.

    Features that hardly ever fire leave directions without variance, of which float32 tells nothing: these count as
    noise, and the noise is kept above what float32 tells.
    """
    length = float(np.sqrt((features.astype(np.float64) ** 2).sum(axis=1).mean()))
    points = describe(features, length) if length > 0 else np.zeros((1, 1))
    total = float(points.var(axis=0).sum())
    if not total > ALIKE:
        return None
    fitted = PCA(n_components=min(COMPONENTS, len(features) // 4), svd_solver="full").fit(points)
    floor = max(LEAST * total, ROUNDING)
    told = fitted.explained_variance_ > floor
    mean, components, variances = (
        array.astype(np.float32) for array in (fitted.mean_, fitted.components_[told], fitted.explained_variance_[told])
    )
    noise = max(float(fitted.noise_variance_), floor / fitted.mean_.size)
    return Distance(mean, components, variances, noise, length)


def fit_limits(distances: NDArray[np.float64]) -> dict[str, float]:
    """Where slices become doubtful and are refused, from the distances (N,) of validation slices; their median too."""
    usual, most = float(np.median(distances)), float(np.quantile(distances, MOST_PASS))
    refused = max(most, TIMES * usual)
    return {"usual": usual, DOUBTFUL: most, REFUSED: refused}


def fit_signs(train: Seen, validation: Seen, *, body_crop: bool, modality: str = CT) -> Signs:
    """What the signs compare with, from training slices (of lungs, from validation's too).

    Without a body crop nothing is said about bodies, and of lungs only in CT. DICOM files may state any modality that
    `modality` stands for, or training files stated.
    """
    bodies = np.array(train.bodies)
    heights, widths = np.array(train.heights, float), np.array(train.widths, float)
    known = Counter(window for window in train.windows if window is not None)
    modalities = sorted(STATED.get(modality, frozenset()) | {stated for stated in train.modalities if stated})
    always = body_crop and (bodies > 0).mean() >= HAVE_BODY
    lungless = float(np.mean([not found for found in (*train.lungs, *validation.lungs)]))
    return Signs(
        tuple(modalities),
        float(np.quantile(bodies[bodies > 0], LOW)) if always else None,
        next((weight for share, weight in LUNGLESS if lungless <= share), 0.0) if modality == CT else 0.0,
        (float(np.minimum(heights, widths).min()), float(np.maximum(heights, widths).max())),
        (float((widths / heights).min()), float((widths / heights).max())),
        tuple(window for window, _ in known.most_common(WINDOWS)),
    )


def write_gate(folder: Path, rule: GateRule, arrays: Mapping[str, Floats]) -> None:
    """Put a fitted gate into a checkpoint folder: the arrays, then the rule in its side file."""
    path = folder / GATE
    if arrays:
        write_atomically(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
    else:
        path.unlink(missing_ok=True)
    write_side(folder, need_side(folder).with_(gate=rule.to_json()))


def has_gate(side: Side) -> bool:
    """Whether a side file holds the gate, or the reason why there is none, of the weights it speaks of."""
    weights = side.provenance.weights_sha256
    return weights is not None and side.gate is not None and side.gate.weights_sha256 == weights


def gate_figures(rule: GateRule, verdicts: Sequence[str | None], groups: Sequence[str]) -> GateMetrics:
    """What the gate does to slices of the corpus.

    `verdicts` (N,) are None for files that could not be read; they do not count. Without a gate the rule alone.
    """
    judged = np.array([verdict in (ACCEPTED, DOUBTFUL, REFUSED) for verdict in verdicts], bool)
    if rule.method is None or not judged.any():
        return GateMetrics(rule=rule)
    said, group = np.array(verdicts, object)[judged], group_indices(groups, len(groups))[judged]
    shares = {name: proportion_figure(said == name, group, "no slice") for name in (REFUSED, DOUBTFUL)}
    return GateMetrics(rule=rule, refused=shares[REFUSED], doubtful=shares[DOUBTFUL])
