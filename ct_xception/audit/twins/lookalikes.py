"""Which thumbnails of a corpus might show the same picture: few candidates for each, found without comparing all.

A thumbnail becomes 16 x 16 grey levels, standardised, and of those the principal components of the corpus, half
whitened so that what every chest has in common weighs less than what tells chests apart. Every image is looked for
once as it is and, because a crop changes everything, once for each of a hundred ways of cutting up to 15 % off its
sides. Up to 2,000 images are compared outright; beyond, faiss sorts them into cells (IVF) and a query visits a few.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.audit.twins.registration import box_weights, standardise

SIDE = 16  # of the descriptor's thumbnail
COMPONENTS = 64
WHITENED = 0.5  # 0 keeps the components' variances, 1 makes them equal
FITTED_ON = 4096  # images, evenly spread over the corpus
MAX_CUT, CUT_STEP = 0.15, 0.05
OUTRIGHT = 2000  # images up to which an index costs more than it saves
VISITED = 8  # cells a query looks into
HITS = 4  # a query
BLOCK = 64  # images described, and looked for through all windows, at once

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]
Window = tuple[float, float, float, float]
Step = Callable[[int], object]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs to look at: `first` and `second` (P,), and the window (P, 4) of the first that looks like the second."""

    first: Indices
    second: Indices
    windows: Floats

    def chosen(self, which: slice | Indices) -> Candidates:
        """Some of the pairs."""
        return Candidates(self.first[which], self.second[which], self.windows[which])


def cut_windows() -> list[Window]:
    """The ways of cutting the sides, as top, bottom, left, right in shares; the whole picture is the first."""
    cuts = np.arange(round(MAX_CUT / CUT_STEP) + 1) * CUT_STEP
    spans = [(a, 1 - b) for a, b in itertools.product(cuts, cuts) if a + b <= MAX_CUT + 1e-9]
    return [(float(t), float(b), float(le), float(r)) for (t, b), (le, r) in itertools.product(spans, spans)]


WHOLE: list[Window] = [(0.0, 1.0, 0.0, 1.0)]


class Describer:
    """Thumbnails (n, S, S) uint8 to unit vectors (n, D), by principal components fitted to the corpus."""

    def __init__(
        self,
        thumbnails: NDArray[np.uint8],
        chosen: Indices,
        components: int = COMPONENTS,
        whitened: float = WHITENED,
    ) -> None:
        few = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), FITTED_ON)).astype(int)]
        plain = standardise(self._small(thumbnails[few], WHOLE)[:, 0])
        self.mean = plain.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov((plain - self.mean).T, bias=True).reshape([plain.shape[1]] * 2))
        values, vectors = values[::-1][:components], vectors[:, ::-1][:, :components]
        # Few images leave most components without variance: they must not be blown up.
        scale = np.maximum(values, 1e-3 * max(float(values[0]), 1e-12)) ** (whitened / 2)
        self.projection = (vectors / scale).astype(np.float32)

    def describe(self, thumbnails: NDArray[np.uint8], windows: list[Window]) -> Floats:
        """One vector for each thumbnail and window: (n, W, D)."""
        small = self._small(thumbnails, windows)
        flat = standardise(small.reshape(-1, SIDE, SIDE)) - self.mean
        vectors = flat @ self.projection
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
        return vectors.reshape(len(thumbnails), len(windows), -1)

    @staticmethod
    def _small(thumbnails: NDArray[np.uint8], windows: list[Window]) -> Floats:
        """Each window of each thumbnail, box-filtered: (n, W, 16, 16). Rows are reduced once for all."""
        side, pictures = thumbnails.shape[1], thumbnails.astype(np.float32)
        rows = {span: np.matmul(box_weights(*span, side, SIDE), pictures) for span in {w[:2] for w in windows}}
        columns = {span: box_weights(*span, side, SIDE).T for span in {w[2:] for w in windows}}
        return np.stack([np.matmul(rows[w[:2]], columns[w[2:]]) for w in windows], axis=1)


class Index:
    """Unit vectors (N, D) to be searched by inner product: all of them, or the nearest cells."""

    def __init__(self, vectors: Floats) -> None:
        self.vectors = np.ascontiguousarray(vectors)
        self.cells: Any = None
        if len(vectors) > OUTRIGHT:
            import faiss

            number = int(4 * math.sqrt(len(vectors)))
            self.cells = faiss.IndexIVFFlat(faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], number,
                                            faiss.METRIC_INNER_PRODUCT)  # fmt: skip
            self.cells.cp.min_points_per_centroid, self.cells.cp.max_points_per_centroid = 1, 64
            self.cells.train(self.vectors)
            self.cells.add(self.vectors)
            self.cells.nprobe = VISITED

    def search(self, queries: Floats, number: int) -> tuple[Floats, NDArray[np.int64]]:
        """The `number` most similar to each query (Q, D): similarities and indices (Q, k), -1 for too few."""
        number = min(number, len(self.vectors))
        if self.cells is not None:
            return self.cells.search(np.ascontiguousarray(queries), number)
        similarity = queries @ self.vectors.T
        nearest = np.argpartition(-similarity, number - 1, axis=1)[:, :number]
        return np.take_along_axis(similarity, nearest, axis=1), nearest


def find_candidates(
    thumbnails: NDArray[np.uint8],
    chosen: Indices,
    windows: list[Window],
    number: int,
    least: float,
    step: Step = lambda done: None,
) -> Iterator[Candidates]:
    """For each chosen thumbnail of (N, S, S) the `number` other chosen ones most like it through any of the windows.

    They come in blocks. `least` is the similarity of descriptors, in [-1, 1], from which a pair is worth a look. `step`
    is told how many images are done.
    """
    describer = Describer(thumbnails, chosen)
    blocks = [chosen[at : at + BLOCK] for at in range(0, len(chosen), BLOCK)]
    index = Index(np.concatenate([describer.describe(thumbnails[block], WHOLE)[:, 0] for block in blocks]))
    spans = np.array(windows, dtype=np.float32)
    for block in blocks:
        queries = describer.describe(thumbnails[block], windows).reshape(len(block) * len(windows), -1)
        similarity, found = index.search(queries, HITS)
        others = np.where(found >= 0, chosen[found], -1).reshape(len(block), -1)
        yield _best(block, similarity.reshape(len(block), -1), others, spans, number, least)
        step(len(block))


def _best(own: Indices, similarity: Floats, found: Indices, spans: Floats, number: int, least: float) -> Candidates:
    """Of each image's hits (n, W * k) through all windows, the best one for each other image, and of those a few."""
    views = np.arange(found.shape[1]) // (found.shape[1] // len(spans))
    first, second, chosen = [], [], []
    for row, item in enumerate(own):
        order = np.argsort(-similarity[row], kind="stable")
        order = order[(similarity[row][order] >= least) & (found[row][order] >= 0) & (found[row][order] != item)]
        _, places = np.unique(found[row][order], return_index=True)
        order = order[np.sort(places)[:number]]
        first.append(np.full(len(order), item))
        second.append(found[row][order])
        chosen.append(views[order])
    return Candidates(np.concatenate(first), np.concatenate(second), spans[np.concatenate(chosen).astype(int)])
