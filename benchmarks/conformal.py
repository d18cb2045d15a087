"""Which conformal score keeps its promise with the smallest sets, by images and by patients.

    python -m benchmarks.conformal --corpus ../shared/corpora/chest-ct-scan-images [--store]

No network is asked, so that no network's test split is looked at: the answers are those of logistic regression on 80
principal components of the audit's body-cropped thumbnails, trained anew on 70 % of each random division and scaled by
a temperature. A division by image calibrates on 72, as the reference corpus does; one by patient on 15 % of them.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import store
from ct_xception.statistics.calibration import apply_temperature, fit_temperature
from ct_xception.statistics.conformal import METHODS, fit_conformal, set_members

Floats = NDArray[np.float64]
COMPONENTS, CALIBRATING = 80, 72
# What is divided, what is asked for, what is counted.
CASES = (("image", 0.95, "image"), ("patient", 0.9, "patient"), ("patient", 0.9, "image"))


class Division(NamedTuple):
    """Rows (bool masks, N) to train on, to calibrate on, to test."""

    train: NDArray[np.bool_]
    calibrate: NDArray[np.bool_]
    test: NDArray[np.bool_]


def main() -> int:
    """Print the table, and put it into RESULTS.md with --store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conformal", description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default="phantom:patients=200")
    parser.add_argument("--divisions", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", action="store_true", help="write the table into benchmarks/RESULTS.md")
    options = parser.parse_args()
    table = render(measure(options), options)
    print(table)
    if options.store:
        store("conformal", table)
    return 0


def measure(options: argparse.Namespace) -> dict[tuple[Any, ...], list[tuple[float, float]]]:
    """{(divided, asked, counted, method): (coverage, mean set size) of each division}."""
    pictures, labels, patients = read(options.corpus)
    rng, found = np.random.default_rng(options.seed), dict[tuple[Any, ...], list[tuple[float, float]]]()
    for divided in dict.fromkeys(case[0] for case in CASES):
        for _ in range(options.divisions):
            division = divide(rng, patients if divided == "patient" else np.arange(len(labels)))
            known, new = answers(pictures, labels, division)
            for _, asked, counted in (case for case in CASES if case[0] == divided):
                groups = patients[division.calibrate] if counted == "patient" else None
                for method in METHODS:
                    rule = fit_conformal(known, labels[division.calibrate], asked, groups, method=method)
                    members, truth = set_members(new, rule), labels[division.test]
                    figures = (members[np.arange(len(truth)), truth].mean(), members.sum(axis=1).mean())
                    found.setdefault((divided, asked, counted, method), []).append(figures)
    return found


def read(source: str) -> tuple[Floats, NDArray[np.intp], NDArray[np.intp]]:
    """Principal components (N, 80) of the readable images, their labels and their (pseudo-)patients, N each."""
    from sklearn.decomposition import PCA

    from ct_xception.audit.audit import audit_corpus
    from ct_xception.corpus.load import load_corpus

    audit = audit_corpus(load_corpus(source))
    survey, kept = audit.survey, audit.survey.readable
    thumbnails = np.asarray(survey.aligned[kept], np.float32).reshape(int(kept.sum()), -1) / 255
    names = [audit.patients[source] for source in np.asarray(survey.sources, object)[kept]]
    patients = np.unique(names, return_inverse=True)[1]
    return PCA(COMPONENTS, random_state=0).fit_transform(thumbnails), survey.labels[kept], patients


def divide(rng: np.random.Generator, units: NDArray[np.intp]) -> Division:
    """A random division that keeps units of rows whole: 70 % of them, 15 % (72 of single images), and the rest."""
    order = rng.permutation(np.unique(units))
    first = int(0.7 * len(order))
    last = first + (CALIBRATING if len(order) == len(units) else int(0.15 * len(order)))
    return Division(*(np.isin(units, part) for part in np.split(order, [first, last])))


def answers(pictures: Floats, labels: NDArray[np.intp], division: Division) -> Iterator[Floats]:
    """Probabilities of the calibration and of the test rows, scaled by the calibration's temperature."""
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of not having converged, which changes nothing here
        model = LogisticRegression(C=0.05, max_iter=300).fit(pictures[division.train], labels[division.train])
    scores = np.full((len(labels), int(labels.max()) + 1), 1e-9)
    scores[:, model.classes_] += model.predict_proba(pictures)
    scores /= scores.sum(axis=1, keepdims=True)
    temperature = fit_temperature(scores[division.calibrate], labels[division.calibrate])
    return (apply_temperature(scores[rows], temperature) for rows in (division.calibrate, division.test))


def render(found: dict[tuple[Any, ...], list[tuple[float, float]]], options: argparse.Namespace) -> str:
    """The table, with the command."""
    command = shlex.join(["python", "-m", "benchmarks.conformal", *sys.argv[1:]])
    heads = " | ".join(f"{method}: coverage | classes a set" for method in METHODS)
    lines = [
        f"`{command}`, {time.strftime('%Y-%m-%d', time.gmtime())}; means over {options.divisions} divisions, and the "
        "standard deviation of the coverage",
        "",
        f"| divided by | asked for | counted | {heads} |",
        "|---|---:|---|" + "---:|" * 2 * len(METHODS),
    ]
    for case in CASES:
        cells = []
        for method in METHODS:
            coverage, size = np.array(found[(*case, method)]).T
            cells += [f"{100 * coverage.mean():.1f} ± {100 * coverage.std():.1f} %", f"{size.mean():.2f}"]
        lines.append(f"| {case[0]} | {100 * case[1]:.0f} % | {case[2]}s | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
