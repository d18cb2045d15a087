"""What the input gate refuses: slices of a corpus's test split, and pictures that are no CT slice.

    python -m benchmarks.gate runs/phantom/model --corpus phantom:patients=120 [--compare] [--watch NAME]

The checkpoint is judged as it is; one without a gate gets one first, in memory, as training would fit it. `--compare`
adds what each kind of distance alone, on the same features, would do: the choice in `evaluation/gate_fit.py` rests on
it. `--watch` names files (a part of their path) whose verdict is told.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.foreign import Foreign, foreign_pictures
from ct_xception.checkpoint_files import GateRule
from ct_xception.evaluation.gate_fit import COMPONENTS, Seen, fit_distance, fit_gate, see_items
from ct_xception.serving.classifier import Classifier, Prediction
from ct_xception.serving.gate import Gate
from ct_xception.statistics.intervals import RESAMPLES, wilson_interval

NEIGHBOURS = 5
KEPT = 0.97  # of validation slices that a compared distance must let pass

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measured:
    """Verdicts and scores of a set of pictures, with their kinds; features and logits for the comparison."""

    kinds: list[str]
    names: list[str]
    verdicts: NDArray[np.str_]
    scores: Floats
    features: NDArray[np.float32]
    logits: NDArray[np.float32]

    @classmethod
    def of(cls, predictions: Sequence[Prediction], kinds: list[str], names: list[str]) -> Measured:
        """From the predictor's answers."""
        judged = [prediction.gate for prediction in predictions]
        outputs = [prediction.outputs for prediction in predictions]
        return cls(
            kinds,
            names,
            np.array([verdict.verdict for verdict in judged if verdict]),
            np.array([verdict.score for verdict in judged if verdict]),
            np.stack([one.features for one in outputs if one]),
            np.stack([one.logits for one in outputs if one]),
        )


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description="What the input gate refuses.")
    parser.add_argument("checkpoint")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--compare", action="store_true", help="other distances on the same features")
    parser.add_argument("--watch", default=[], nargs="+", metavar="NAME", help="files whose verdict is told")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    for line in report(options):
        print(line, flush=True)
    return 0


def report(options: argparse.Namespace) -> Iterator[str]:
    """The lines of the section."""
    splits = read_splits(options.corpus)
    classifier, train, validation = gated(options, splits)
    own = judge_items(classifier, splits["test"])
    foreign = judge_foreign(classifier, foreign_pictures())
    command = shlex.join(["python", "-m", "benchmarks.gate", *sys.argv[1:]])
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    yield from (f"`{command}`, {time.strftime('%Y-%m-%d', time.gmtime())}, {machine}", "")
    yield from verdict_table(own, foreign)
    if options.compare and train is not None and validation is not None:
        yield ""
        yield from comparison_table(train, validation, own, foreign, head_of(classifier))
    for name in options.watch:
        yield ""
        yield from (watched(classifier, splits, name))


def read_splits(corpus: str) -> Any:
    """The corpus's splits, as training with its defaults makes them."""
    from ct_xception.corpus.load import load_corpus
    from ct_xception.corpus.split import split_corpus

    return split_corpus(load_corpus(corpus), None, fractions=(0.7, 0.15, 0.15), seed=0)[0]


def gated(options: argparse.Namespace, splits: Any) -> tuple[Classifier, Seen | None, Seen | None]:
    """The classifier with a gate, and what it was fitted on where that was looked at here."""
    classifier = Classifier.from_pretrained(options.checkpoint)
    if classifier.gate is not None and not options.compare:
        return classifier, None, None
    train, validation = (see_items(classifier, splits[name], progress=name) for name in ("train", "validation"))
    if classifier.gate is None:
        rule, arrays = fit_gate(
            train,
            validation,
            weights_sha256="",
            body_crop=classifier.contract.body_crop,
            modality=classifier.contract.modality,
        )
        classifier.gate = Gate.read(GateRule.of(rule), arrays)
    return classifier, train, validation


def judge_items(classifier: Classifier, items: Any) -> Measured:
    """The verdicts on a split."""
    from ct_xception.corpus.cells import slice_source

    sources = [str(item["source"]) for item in items]
    found = classifier.predict_many(slice_source(item) for item in items)
    predictions = [one for one in found if isinstance(one, Prediction)]
    return Measured.of(predictions, ["test"] * len(predictions), sources)


def judge_foreign(classifier: Classifier, pictures: Sequence[Foreign]) -> Measured:
    """The verdicts on foreign pictures, all of which the reader reads."""
    predictions = classifier([one.source for one in pictures])
    return Measured.of(predictions, [one.kind for one in pictures], [one.name for one in pictures])


def verdict_table(own: Measured, foreign: Measured) -> Iterator[str]:
    """A row a kind of picture: how many are refused and doubtful; and how well the score tells the two apart."""
    yield from ("| pictures | n | refused | doubtful |", "|---|---:|---:|---:|")
    groups = {kind: np.array(foreign.kinds) == kind for kind in dict.fromkeys(foreign.kinds)}
    for kind, chosen in groups.items():
        yield _row(kind, foreign.verdicts[chosen])
    yield _row("**no CT slice, all**", foreign.verdicts)
    yield _row("**the corpus's own test split**", own.verdicts)
    passed = [
        f"{name} ({kind})"
        for name, kind, verdict in zip(foreign.names, foreign.kinds, foreign.verdicts, strict=True)
        if verdict != "refused"
    ]
    yield ""
    yield f"AUROC of the score: {auroc_text(own.scores, foreign.scores)}. Not refused: {', '.join(passed) or 'none'}."


def _row(title: str, verdicts: NDArray[np.str_]) -> str:
    shares = (_share(int((verdicts == verdict).sum()), len(verdicts)) for verdict in ("refused", "doubtful"))
    return f"| {title} | {len(verdicts)} | {' | '.join(shares)} |"


def _share(hits: int, n: int) -> str:
    low, high = wilson_interval(hits / n, n)
    return f"{hits} = {100 * hits / n:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def auroc_text(known: Floats, foreign: Floats) -> str:
    """The area under the ROC curve with its bootstrap interval over pictures: `0.998 (0.995–1.000)`."""
    rng = np.random.default_rng(0)
    draws = [auroc(rng.choice(known, known.size), rng.choice(foreign, foreign.size)) for _ in range(RESAMPLES)]
    low, high = np.percentile(draws, [2.5, 97.5])
    if known.max() < foreign.min():
        return "1 (every foreign picture scores above every known one)"
    return f"{auroc(known, foreign):.4f} ({low:.4f}–{high:.4f})"


def auroc(known: Floats, foreign: Floats) -> float:
    """How often a foreign picture scores above a known one, ties counting half (Mann and Whitney 1947)."""
    ordered = np.sort(known)
    below, upto = (np.searchsorted(ordered, foreign, side) for side in ("left", "right"))
    return float((below + upto).mean() / 2 / known.size)


# Other distances on the same features


def head_of(classifier: Classifier) -> tuple[Floats, Floats]:
    """The weights (K, F) and bias (K,) of the last layer."""
    head = classifier.model.head
    return head.weight.detach().double().numpy(), head.bias.detach().double().numpy()


def distances(train: NDArray[np.float32], head: tuple[Floats, Floats]) -> Mapping[str, Callable[[Any], Floats]]:
    """What each method makes of features (N, F): larger is farther."""
    from scipy.special import logsumexp
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    weights, bias = head
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(train))).fit(_unit(train))

    def by_likelihood(prepare: Callable[[Any], Any]) -> Callable[[Any], Floats]:
        pca = PCA(n_components=min(COMPONENTS, len(train) // 4), svd_solver="full").fit(prepare(train))
        return lambda features: -pca.score_samples(prepare(features))

    return {
        "Mahalanobis, features and their direction (chosen)": fit_distance(train),
        "Mahalanobis, features": by_likelihood(np.asarray),
        "Mahalanobis, their direction": by_likelihood(_unit),
        f"{NEIGHBOURS} nearest neighbours, cosine": lambda features: near.kneighbors(_unit(features))[0].mean(axis=1),
        "energy of the logits": lambda features: -logsumexp(features @ weights.T + bias, axis=1),
    }


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def comparison_table(
    train: Seen, validation: Seen, own: Measured, foreign: Measured, head: tuple[Floats, Floats]
) -> Iterator[str]:
    """A row a method: AUROC, and the foreign and test pictures beyond what `KEPT` of validation reaches."""
    yield f"| distance alone | AUROC | foreign beyond {100 * KEPT:.0f} % of validation | test slices beyond it |"
    yield "|---|---:|---:|---:|"
    for name, method in distances(train.features, head).items():
        limit = np.quantile(method(validation.features), KEPT)
        known, other = method(own.features), method(foreign.features)
        beyond = (_share(int((values > limit).sum()), values.size) for values in (other, known))
        yield f"| {name} | {auroc_text(known, other)} | {' | '.join(beyond)} |"


def watched(classifier: Classifier, splits: Any, name: str) -> Iterator[str]:
    """The verdicts on the files whose names hold `name`, in every split."""
    for split in splits:
        chosen = [row for row, source in enumerate(splits[split]["source"]) if name in source]
        for item, verdict in _judged(judge_items(classifier, splits[split].select(chosen))) if chosen else ():
            yield f"`{item}` ({split}): {verdict}."


def _judged(measured: Measured) -> Iterator[tuple[str, str]]:
    for name, verdict, score in zip(measured.names, measured.verdicts, measured.scores, strict=True):
        yield name, f"{verdict} (score {score:.2f})"


if __name__ == "__main__":
    sys.exit(main())
