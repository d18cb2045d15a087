"""Whether the search finds what is there to be found, what a trial costs beside its training, and what a proxy tells.

    python -m benchmarks.search --weights ../shared/weights/legacy_xception.tf_in1k.safetensors [--store]

Every cell of a grid over three options is trained once, so that the best ones are known; each sampler then searches the
table in many seeds, through the same `open_study` and `Worker` as `ct-xception tune` (a tabular benchmark: Klein &
Hutter 2019, arXiv:1905.04970). A trial's cost is that of `Trainer` against the epochs inside it. A proxy is held
against the full training by Spearman's rank correlation over random cells. All of it takes hours; --folder keeps what
was trained. At fewer epochs or pixels nothing is learnt, and the best cells are those that hardly moved.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.results import store
from ct_xception.imaging.decoded import keep_decoded
from ct_xception.pipeline.run import set_up_process
from ct_xception.pipeline.searching import Trainer
from ct_xception.pipeline.splitting import load_and_split
from ct_xception.statistics.intervals import wilson_interval
from ct_xception.training.loop import make_accelerator
from ct_xception.training.options import TrainConfig, config_from_mapping
from ct_xception.training.search.space import parse_space
from ct_xception.training.search.study import Outcome, Proposal, Search, SearchOptions, Worker, open_study

RATES = [10**exponent for exponent in np.arange(-5, 0.01, 0.5)]
SPACE = {
    "learning_rate": {"from": 1e-5, "to": 1.0, "log": True},
    "optimizer": ["adamw", "rmsprop", "sgd"],
    "dropout": {"from": 0.0, "to": 0.5, "step": 0.5},
}
CELLS = list(itertools.product(range(len(RATES)), SPACE["optimizer"], (0.0, 0.5)))
GOOD = 0.05  # the share of the cells that is the region to be found
TRIALS = 20
Curve = Sequence[float]  # the loss on validation after each epoch


def main() -> int:
    """Print the tables, and put them into RESULTS.md with --store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default="phantom:patients=60,slices=3,size=128")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--image_size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--more", default="", help="options of every training, as --full")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--full", default="image_size=128 epochs=8", help="the training that the proxy stands for")
    parser.add_argument("--cells", type=int, default=16, help="random cells that are trained in full, too")
    parser.add_argument("--folder", type=Path, help="keeps what was trained, to go on (default: a temporary folder)")
    parser.add_argument("--store", action="store_true", help="write the tables into benchmarks/RESULTS.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, keep_decoded():
        table = "\n".join(measure(options, options.folder or Path(temporary)))
    print(table)
    if options.store:
        store("search", table)
    return 0


def measure(options: argparse.Namespace, folder: Path) -> list[str]:
    """The lines of the section."""
    small = Bench(recipe(options, image_size=options.image_size, epochs=options.epochs), folder / "small")
    curves = {cell: small.train(cell) for cell in CELLS}
    lines = [
        f"`python -m benchmarks.search {shlex.join(sys.argv[1:])}`, {time.strftime('%Y-%m-%d')}; {len(CELLS)} cells of "
        f"learning rate, optimizer and dropout, {options.image_size} px, {options.epochs} epochs; to be found within "
        f"{TRIALS} trials: one of the best {region_size()}. Their losses are {loss_range(curves)}.",
        "",
        *planted_rows(curves, options.seeds, folder),
        "",
        small.cost(),
    ]
    if options.cells:
        full = recipe(options, **named(options.full))
        lines += ["", proxy_row(curves, Bench(full, folder / "full"), options)]
    return lines


def recipe(options: argparse.Namespace, **changed: Any) -> TrainConfig:
    """What every trial varies."""
    plain: dict[str, Any] = {"batch_size": 8, "threads": 1, "workers": 0, "audit": False, "explained": 0}
    plain |= {"corpus": options.corpus, "weights": options.weights, "output_dir": "unused"}
    return config_from_mapping(plain | named(options.more) | changed)


def named(words: str) -> dict[str, Any]:
    """NAME=VALUE words as YAML has them."""
    return {name: yaml.safe_load(value) for name, _, value in (word.partition("=") for word in words.split())}


class Bench:
    """One recipe on one corpus, whose cells are trained by the search's own `Trainer`, once each."""

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        set_up_process(config)
        self.folder, self.known = folder, folder / "cells.json"
        space = parse_space(SPACE, "benchmark")
        search = Search(config, {}, space, SearchOptions(pruner="none"), folder, f"sqlite:///{folder}/unused.db")
        self.trainer = Trainer(search, load_and_split(config, folder, make_accelerator(config), ""))
        self.cells: dict[str, Any] = json.loads(self.known.read_text()) if self.known.is_file() else {}

    def train(self, cell: tuple[int, str, float]) -> Curve:
        """The losses of a cell by epoch."""
        if (name := json.dumps(cell)) not in self.cells:
            curve: list[float] = []
            rate, optimizer, dropout = cell
            chosen = {"learning_rate": RATES[rate], "optimizer": optimizer, "dropout": dropout}
            number, started = len(self.cells), time.monotonic()
            try:
                self.trainer(Proposal(number, number, chosen), lambda value, epoch: curve.append(value))
            except Exception as error:  # noqa: BLE001 - rates that diverge are cells too
                print(f"{cell}: {error}", file=sys.stderr)
            took = time.monotonic() - started
            self.cells[name] = {"curve": curve, "seconds": took, "epochs": self._inside(number)}
            shutil.rmtree(self.folder / "trials" / f"{number:04d}" / "checkpoints", ignore_errors=True)
            self.known.write_text(json.dumps(self.cells))
            print(f"{len(self.cells)}: {name} {curve} {took:.1f} s", file=sys.stderr, flush=True)
        return [value if math.isfinite(value) else 1e9 for value in self.cells[name]["curve"]] or [1e9]

    def _inside(self, number: int) -> float:
        history = self.folder / "trials" / f"{number:04d}" / "history.jsonl"
        return sum(json.loads(line)["seconds"] for line in history.read_text().splitlines()) if history.is_file() else 0

    def cost(self) -> str:
        """What a trial costs beside its epochs."""
        pairs = [(one["seconds"], one["epochs"]) for one in self.cells.values() if one["epochs"]]
        whole, inside = map(sum, zip(*pairs, strict=True))
        return (
            f"A trial takes {whole / len(pairs):.2f} s, its epochs {inside / len(pairs):.2f} s "
            f"(mean of {len(pairs)}): {(whole - inside) / len(pairs):.2f} s beside the training, whatever its length."
        )


def region_size() -> int:
    """How many cells are the region to be found."""
    return round(GOOD * len(CELLS))


def loss_range(curves: Mapping[Any, Curve]) -> str:
    """The losses of the region, and of all."""
    losses = sorted(min(curve) for curve in curves.values())
    return f"{losses[0]:.3f} to {losses[region_size() - 1]:.3f}, the median of all cells {losses[len(losses) // 2]:.3f}"


def planted_rows(curves: Mapping[Any, Curve], seeds: int, folder: Path) -> list[str]:
    """A row for each sampler: how often it found the region."""
    limit = sorted(min(curve) for curve in curves.values())[region_size() - 1]
    rows = ["| sampler | pruner | region found | 95 % interval | epochs trained, mean |", "|---|---|---:|---|---:|"]
    for sampler, pruner in (("random", "none"), ("qmc", "none"), ("tpe", "none"), ("tpe", "median")):
        best, epochs = zip(*(look_up(curves, sampler, pruner, seed, folder) for seed in range(seeds)), strict=True)
        found = sum(value <= limit for value in best)
        low, high = (f"{100 * bound:.0f}" for bound in wilson_interval(found / seeds, seeds))
        rows.append(f"| {sampler} | {pruner} | {found} of {seeds} | {low} to {high} % | {np.mean(epochs):.1f} |")
    return rows


def look_up(curves: Mapping[Any, Curve], sampler: str, pruner: str, seed: int, folder: Path) -> tuple[float, int]:
    """The best loss of one search in the table, and how many epochs it would have trained."""
    space, options = (
        parse_space(SPACE, "benchmark"),
        SearchOptions(sampler=sampler, pruner=pruner, trials=TRIALS, seed=seed),
    )
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        study, _ = open_study(f"{temporary}/journal.log", options, space)
        asked = Table(curves)
        Worker(study, space, options, make_accelerator(TrainConfig(corpus="phantom", threads=1)), asked).work()
    return asked.best, asked.epochs


class Table:
    """Answers a proposal by the nearest cell's curve instead of by training."""

    def __init__(self, curves: Mapping[Any, Curve]) -> None:
        self.curves, self.best, self.epochs = curves, math.inf, 0

    def __call__(self, proposal: Proposal, report: Callable[[float, int], None]) -> Outcome:
        chosen = proposal.options
        rate = int(np.abs(np.log10(RATES) - math.log10(chosen["learning_rate"])).argmin())
        curve = self.curves[rate, chosen["optimizer"], round(chosen["dropout"], 1)]
        for epoch, value in enumerate(curve, 1):
            self.epochs += 1
            self.best = min(self.best, value)
            report(value, epoch)
        return Outcome((min(curve),), {})


def proxy_row(curves: Mapping[Any, Curve], full: Bench, options: argparse.Namespace) -> str:
    """How the cells rank when they are trained in small and in full."""
    from scipy.stats import spearmanr

    drawn = [CELLS[i] for i in np.random.default_rng(0).permutation(len(CELLS))[: options.cells]]
    small, whole = ([min(one(cell)) for cell in drawn] for one in (curves.__getitem__, full.train))
    first = [curves[cell][0] for cell in drawn]
    low, high = rank_interval(np.array(small), np.array(whole))
    return (
        f"Proxy: {options.image_size} px, {options.epochs} epochs against {options.full}, {len(drawn)} random cells: "
        f"Spearman's rank correlation {spearmanr(small, whole).statistic:.2f} (95 % interval {low:.2f} to {high:.2f}); "
        f"after its first epoch alone {spearmanr(first, whole).statistic:.2f}."
    )


def rank_interval(one: NDArray, other: NDArray) -> tuple[float, float]:
    """The 95 % bootstrap interval over cells of a rank correlation."""
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    draws = [spearmanr(one[pick], other[pick]).statistic for pick in rng.integers(0, len(one), (1000, len(one)))]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    raise SystemExit(main())
