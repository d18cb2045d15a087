"""What simple rules score on the same items: the bar that a network must clear before its figures mean anything.

    majority          the commonest class of train
    file_attributes   size, format and bytes of the file, no pixel seen: random forest
    grey_statistics   mean, percentiles and the like of the grey levels: random forest
    border            only what lies outside the body: random forest
    nearest_raw       the label of the most alike picture of train, 64 px, uncropped
    nearest_body      the same after the body crop, 96 px: what remembering the training images alone gives
    frozen_features   logistic regression on the features of the network that training started from
    columns_linear    logistic regression on the columns of the table that the network takes beside the image, alone
    columns_forest    a random forest on the same

A rule that sees no anatomy and scores high betrays a shortcut; a nearest neighbour that does betrays look-alikes across
the split. All are deterministic under their seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, make_scorer
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ct_xception.audit.twins.registration import standardise
from ct_xception.checkpoint_files import Metric
from ct_xception.files import atomic_path
from ct_xception.metrics import BaselineMetrics, Baselines, ClassificationMetrics
from ct_xception.statistics.comparison import compare
from ct_xception.statistics.forest import forest_probabilities
from ct_xception.statistics.intervals import describe_metric, group_indices
from ct_xception.statistics.metrics import classification_metrics
from ct_xception.tabular import Row, Tabular, fit_tabular

if TYPE_CHECKING:
    from ct_xception.audit.survey import Survey

BASELINES = (
    "majority",
    "file_attributes",
    "grey_statistics",
    "border",
    "nearest_raw",
    "nearest_body",
    "frozen_features",
    "columns_linear",
    "columns_forest",
)
COLUMN_RULES = BASELINES[-2:]
BASELINE_TITLES = {
    "majority": "commonest class of train",
    "file_attributes": "file attributes alone",
    "grey_statistics": "grey-level statistics alone",
    "border": "what lies outside the body alone",
    "nearest_raw": "1-nearest neighbour, raw picture",
    "nearest_body": "1-nearest neighbour, body crop",
    "frozen_features": "frozen starting features",
    "columns_linear": "the columns alone, logistic regression",
    "columns_forest": "the columns alone, random forest",
}
BASELINE_FIGURES = ("accuracy", "balanced_accuracy", "macro_f1")

_ROWS_A_TREE = 20_000  # the forest's cost stops growing with the corpus there
_BLOCK = 1024  # pictures compared at once: 2 x 38 MB of float32 at 96 px
_PENALTIES = (0.001, 0.01, 0.1, 1.0)  # C of the logistic regression, chosen on train by group
_INNER_FOLDS = 3

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


def run_baselines(
    survey: Survey,
    train_idx: Sequence[int] | NDArray,
    test_idx: Sequence[int] | NDArray,
    *,
    groups: Sequence[Any] | None = None,
    seed: int = 0,
    features: NDArray | None = None,
    rows: Sequence[Row] = (),
) -> dict[str, Floats]:
    """Every baseline fitted on the items `train_idx` and asked about `test_idx` (M,): {name: probabilities (M, K)}.

    `features` (N, C) are those of the frozen starting network for all N items of the survey; without them
    `frozen_features` is left out. `rows` are the N items' rows of the table beside the images; without them there are
    no rules on the columns alone. `groups` (N,), by default the survey's, keep a patient's slices on one side while the
    strength of the logistic regression's penalty is chosen, on `train_idx` alone. An item that the survey could not
    read teaches nothing, and every rule answers it with the shares of the classes in train.
    """
    train, test = np.asarray(train_idx, np.intp), np.asarray(test_idx, np.intp)
    train = train[survey.readable[train]]
    labels, count = np.asarray(survey.labels)[train], len(survey.label_names)
    columns = {"file_attributes": survey.attributes, "grey_statistics": survey.statistics, "border": survey.border}
    found = {"majority": np.tile(np.bincount(labels, minlength=count) / labels.size, (test.size, 1))}
    for name, table in columns.items():
        values = np.stack([np.asarray(table[column], np.float64) for column in sorted(table)], axis=1)  # (N, C)
        grow = partial(_random_forest, min(len(train), _ROWS_A_TREE))
        found[name] = forest_probabilities(grow, values[train], labels, values[test], count, seed=seed)
    for name, pictures in (("nearest_raw", survey.raw), ("nearest_body", survey.aligned)):
        found[name] = np.eye(count)[labels[nearest_neighbours(pictures, train, test)[0]]]
    patients = np.asarray(survey.groups if groups is None else groups, dtype=object)[train]
    if features is not None:
        found["frozen_features"] = linear_probabilities(
            features[train], labels, features[test], count, groups=patients, seed=seed
        )
    if rows:
        found |= _column_rules([rows[index] for index in train], labels, patients, [rows[i] for i in test], count, seed)
    unread = ~survey.readable[test]
    return {name: np.where(unread[:, None], found["majority"], answer) for name, answer in found.items()}


def _column_rules(
    rows: Sequence[Row], labels: NDArray, groups: NDArray, asked: Sequence[Row], count: int, seed: int
) -> dict[str, Floats]:
    """What the columns alone say, encoded as the network has them: {rule: probabilities (M, K)}."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = Tabular(fit_tabular(names, rows, groups.tolist()))
    known, new = columns.encode_all(rows), columns.encode_all([columns.only(row) for row in asked])
    grow = partial(_random_forest, min(len(rows), _ROWS_A_TREE))
    linear, forest = COLUMN_RULES
    return {
        linear: linear_probabilities(known, labels, new, count, groups=groups, seed=seed),
        forest: forest_probabilities(grow, known, labels, new, count, seed=seed),
    }


def out_of_fold_baselines(
    survey: Survey,
    folds: Iterable[tuple[Sequence[int] | NDArray, Sequence[int] | NDArray]],
    *,
    groups: Sequence[Any] | None = None,
    seed: int = 0,
    features: NDArray | None = None,
    rows: Sequence[Row] = (),
) -> dict[str, Floats]:
    """The baselines of a cross-validation: {name: probabilities (N, K)}, each row from the fold that left it out.

    `folds` are pairs (train_idx, test_idx) of the survey's items. A row is NaN where no fold tests the item.
    """
    found: dict[str, Floats] = {}
    shape = (len(survey.sources), len(survey.label_names))
    for train_idx, test_idx in folds:
        answers = run_baselines(survey, train_idx, test_idx, groups=groups, seed=seed, features=features, rows=rows)
        for name, probabilities in answers.items():
            found.setdefault(name, np.full(shape, np.nan))[np.asarray(test_idx, np.intp)] = probabilities
    return found


def nearest_neighbours(
    pictures: NDArray[np.uint8], train: Indices, test: Indices, *, block: int = _BLOCK
) -> tuple[Indices, NDArray[np.float32]]:
    """For each test picture the place in `train` of the one most correlated with it, the first of equals; and how much.

    Places (M,) and correlations (M,) in [-1, 1]; `train` must not be empty. `pictures` (N, h, w) are taken in blocks,
    so that memory stays the same however many there are. Pearson's correlation of grey levels does not see brightness
    and contrast.
    """
    places, likeness = np.zeros(test.size, np.intp), np.full(test.size, -np.inf, np.float32)
    for at in range(0, test.size, block):
        asked = standardise(pictures[test[at : at + block]].astype(np.float32))
        chosen, best = places[at : at + block], likeness[at : at + block]
        for start in range(0, train.size, block):
            # Rounded: copies of one picture must tie, whatever the order in which a block's sums were taken.
            others = standardise(pictures[train[start : start + block]].astype(np.float32))
            alike = np.round(asked @ others.T, 5)
            place = alike.argmax(axis=1)
            value = alike[np.arange(len(asked)), place]
            better = value > best
            best[better], chosen[better] = value[better], start + place[better]
    return places, likeness


def _random_forest(rows: int, trees: int, seed: int) -> RandomForestClassifier:
    """Breiman 2001; each tree of so many rows."""
    return RandomForestClassifier(trees, max_samples=rows, min_samples_leaf=2, random_state=seed, n_jobs=1)


def linear_probabilities(
    values: NDArray,
    labels: NDArray,
    asked: NDArray,
    count: int,
    *,
    groups: NDArray | None = None,
    seed: int = 0,
) -> Floats:
    """Logistic regression on standardised values (N, C), asked about (M, C): probabilities (M, K).

    The penalty is the one with the lowest log-loss over folds of `groups` (N,) within these very items; 0.01 where
    they are too few for folds.
    """
    known = np.unique(labels)
    if known.size == 1:
        return np.eye(count)[np.full(len(asked), labels[0])]
    # An L2-penalised fit stays as it is under a turn of the axes, and there are no more axes than items.
    turn = PCA(svd_solver="full") if len(values) < values.shape[1] else "passthrough"
    space = make_pipeline(StandardScaler(), turn)
    inner = space.fit_transform(values.astype(np.float64))
    fitted: Any = LogisticRegression(C=_PENALTIES[1], max_iter=1000)
    if folds := _inner_folds(labels, groups, seed):
        fitted = GridSearchCV(fitted, {"C": _PENALTIES}, scoring=_log_loss_of(known), cv=folds)
    fitted.fit(inner, labels)
    return _all_classes(fitted.predict_proba(space.transform(asked.astype(np.float64))), fitted.classes_, count)


def _log_loss_of(known: NDArray) -> Any:

    return make_scorer(log_loss, greater_is_better=False, response_method="predict_proba", labels=known)


def _inner_folds(labels: NDArray, groups: NDArray | None, seed: int) -> list[tuple[Indices, Indices]]:
    """Folds that keep groups whole and every class in what is fitted; none where the items are too few."""
    members = group_indices(groups, len(labels))
    known = np.unique(labels)
    if np.unique(members).size < 2 * _INNER_FOLDS or np.bincount(labels)[known].min() < _INNER_FOLDS:
        return []
    folds = StratifiedGroupKFold(_INNER_FOLDS, shuffle=True, random_state=seed).split(labels, labels, members)
    # A class that lives in one group only says nothing on the penalty.
    return [(fit, held) for fit, held in folds if np.unique(labels[fit]).size == known.size]


def _all_classes(probabilities: Floats, known: NDArray, count: int) -> Floats:
    """Probabilities over the classes that train held (M, k), as (M, K): 0 for those that it did not."""
    full = np.zeros((len(probabilities), count))
    full[:, known] = probabilities
    return full


def baseline_figures(
    answers: Mapping[str, Floats],
    labels: NDArray,
    label_names: Sequence[str],
    model: Floats,
    *,
    groups: Sequence[Any] | None = None,
    seed: int = 0,
    skipped: Mapping[str, str] | None = None,
) -> Baselines:
    """The baselines of one protocol, `answers` {name: (M, K)}, beside the `model`'s answers (M, K).

    `best` has the highest accuracy, the first of equals; `difference` is the model's accuracy less the best one's on
    the same items, paired, by group; `beats_best` says that its whole interval is above 0. Items that the model refused
    (NaN) count for neither side.
    """
    kept: NDArray[np.bool_] = np.all(np.isfinite(model), axis=1)
    truth = np.asarray(labels)[kept]
    members = None if groups is None else [group for group, keep in zip(groups, kept, strict=True) if keep]
    figures = {}
    for name in (name for name in BASELINES if name in answers):
        measured = classification_metrics(answers[name][kept], truth, label_names, members, seed=seed, areas=False)
        figures[name] = BaselineMetrics(**{figure: getattr(measured, figure) for figure in BASELINE_FIGURES})
    best = max(figures, key=lambda name: figures[name].accuracy.value or 0)
    compared = compare(truth, model[kept], answers[best][kept], groups=members, seed=seed)
    low = compared.difference.low
    return Baselines(
        figures=figures,
        best=best,
        difference=compared.difference,
        mcnemar=compared.mcnemar,
        beats_best=low is not None and low > 0,
        skipped=dict(skipped or {}),
    )


def describe_baselines(block: Baselines, model: ClassificationMetrics, *, title: str = "the model") -> str:
    """The baselines of one protocol for the terminal, best first, the model among them, and what that comes to."""
    rows: list[tuple[str, ClassificationMetrics | BaselineMetrics]] = [(title, model)]
    rows += [(BASELINE_TITLES.get(name, name), found) for name, found in block.figures.items()]
    rows.sort(key=lambda row: -(row[1].accuracy.value or 0))
    width = max(len(name) for name, _ in rows)
    lines = [f"  {'':{width + 2}}{'accuracy (95 % interval)':26}{'balanced':>10}{'macro F1':>10}"]
    for name, figures in rows:
        mark = ">" if figures is model else " "
        others = "".join(f"{_short(getattr(figures, figure)):>10}" for figure in BASELINE_FIGURES[1:])
        lines.append(f"{mark} {name:{width + 2}}{_with_interval(figures.accuracy):26}{others}")
    lines += [f"  {BASELINE_TITLES.get(name, name)}: not run, {reason}" for name, reason in block.skipped.items()]
    return "\n".join([*lines, baseline_verdict(block, title=title)])


def baseline_verdict(block: Baselines, *, title: str = "the model") -> str:
    """One sentence: whether the model beats the best baseline by more than the interval, with the paired difference."""
    difference, best = block.difference, BASELINE_TITLES.get(block.best, block.best)
    measured = f"difference in accuracy {describe_metric(difference)}"
    if block.beats_best:
        return f"{title.capitalize()} beats the best simple rule ({best}): {measured}."
    verb = "is below" if (difference.high or 0) < 0 else "does not beat"
    return f"{title.capitalize()} {verb} the best simple rule ({best}) by more than the interval: {measured}."


def _short(metric: Metric) -> str:
    return "-" if metric.value is None else f"{metric.value:.3f}"


def _with_interval(metric: Metric) -> str:
    return _short(metric) + ("" if metric.low is None else f" ({metric.low:.3f} to {metric.high:.3f})")


def write_baselines(path: Path, protocols: Mapping[str, Mapping[str, Any]], label_names: Sequence[str]) -> None:
    """Write baselines.parquet: source, protocol, baseline, group, label, predicted, `p <class>`; one row an answer.

    `protocols` maps each protocol to {"sources", "groups", "labels", "answers"}: M names that may be published, M
    groups (numbered here), M class indices, and {baseline: probabilities (M, K)}.
    """
    names, tables = np.asarray(label_names, dtype=object), []
    for protocol, block in protocols.items():
        labels = names[np.asarray(block["labels"], np.intp)].tolist()
        groups = [f"group {number:06d}" for number in group_indices(block["groups"], len(labels))]
        for baseline, probabilities in block["answers"].items():
            columns: dict[str, Any] = {"source": list(block["sources"]), "protocol": [protocol] * len(labels)}
            columns |= {"baseline": [baseline] * len(labels), "group": groups, "label": labels}
            columns["predicted"] = names[probabilities.argmax(axis=1)].tolist()
            columns |= {f"p {name}": probabilities[:, k] for k, name in enumerate(names)}
            tables.append(pyarrow.table(columns))
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.concat_tables(tables), temporary)
