"""Search hyperparameters: many trainings judged on validation, one winner tested once.

Trials see the training and validation splits alone; the winner's whole run, with its card, stands in FOLDER/winner.
Start the same command in other terminals, or on other machines with --storage postgresql+psycopg://…, to share the
work; `accelerate launch --multi_gpu --num_processes N -m ct_xception.cli tune …` trains each trial on N processes. The
other options are those of `ct-xception train` (--corpus, --weights, --epochs, …): the recipe that the trials vary.

examples:
  ct-xception tune --corpus DIR --trials 30 --output_dir runs/search
  ct-xception tune --corpus DIR --space space.yaml --sampler tpe --pruner hyperband --hours 8 --output_dir runs/search
  ct-xception tune --corpus DIR --proxy image_size=96 epochs=4 --trials 60 --output_dir runs/search
  ct-xception tune --corpus DIR --objectives auroc calibration_error --output_dir runs/search --resume auto
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ct_xception.command_line import Parser, run_program
from ct_xception.errors import InputError

REMEDY = "; what its trials have done is kept, and the same command goes on with --resume auto."
_OWN = (
    "space", "storage", "objectives", "sampler", "pruner", "trials", "hours", "epochs_in_all", "folds_a_trial",
    "points", "proxy", "winner", "heartbeat",
)  # fmt: skip


def add_arguments(parser: Parser) -> None:
    """The options of a search, and those of training."""
    from ct_xception.training.options import add_options

    parser.usage = f"{parser.prog} --corpus SOURCE [OPTION …]"
    own = parser.add_argument_group("search")
    own.add_argument(
        "--space", metavar="FILE.yaml", help="what is searched: OPTION: {from, to, log, step} or [choices]"
    )
    own.add_argument("--trials", type=int, metavar="N", help="trainings in all, of all workers (default: 20)")
    own.add_argument("--hours", type=float, metavar="X", help="begin no trial after so many hours of this worker")
    own.add_argument("--epochs_in_all", type=int, metavar="N", help="begin no trial after so many epochs of all trials")
    own.add_argument("--objectives", nargs="+", metavar="NAME", help="what is better on validation (default: loss)")
    own.add_argument("--sampler", metavar="NAME", help="tpe, random, grid, cmaes or qmc (default: tpe)")
    own.add_argument("--points", type=int, metavar="N", help="of a grid: values along each range (default: 3)")
    own.add_argument("--pruner", metavar="NAME", help="gives poor trials up early: median, hyperband, none (median)")
    own.add_argument("--folds_a_trial", type=int, metavar="K", help="grouped folds of training and validation a trial")
    own.add_argument("--proxy", nargs="+", metavar="NAME=VALUE", help="options of trials alone, to make them cheap")
    own.add_argument("--storage", metavar="URL", help="database or journal file (default: OUTPUT_DIR/search.db)")
    own.add_argument("--heartbeat", type=int, metavar="S", help="a worker silent for 3 S seconds is dead (default: 60)")
    own.add_argument("--winner", action=argparse.BooleanOptionalAction, help="train and test the winner (default: yes)")
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search, report, and train the winner."""
    return run_program("ct-xception tune", lambda: _search(arguments), remedy=REMEDY)


def _search(arguments: argparse.Namespace) -> None:
    from ct_xception.pipeline.run import command_record
    from ct_xception.pipeline.searching import Search, search_corpus
    from ct_xception.training.options import config_from_given
    from ct_xception.training.search.space import parse_proxy, read_space
    from ct_xception.training.search.study import SearchOptions

    given = {name: value for name, value in vars(arguments).items() if value is not None}
    own = {name: given.pop(name) for name in _OWN if name in given}
    training = {name: value for name, value in given.items() if name not in ("run", "words")}
    resume = training.pop("resume", "no") == "auto"
    recipe = config_from_given(training)
    if recipe.output_dir is None:
        raise InputError("--output_dir: not given; name the folder of the search.")
    names: dict[str, str] = {"epochs_in_all": "epochs", "folds_a_trial": "folds"}
    plain = ("trials", "hours", "epochs_in_all", "sampler", "points", "pruner", "folds_a_trial", "heartbeat")
    options: dict[str, Any] = {names.get(name, name): own[name] for name in plain if name in own}
    if "objectives" in own:
        options["objectives"] = tuple(own["objectives"])
    folder = Path(recipe.output_dir)
    search = Search(
        recipe,
        parse_proxy(own.get("proxy", [])),
        read_space(own.get("space")),
        SearchOptions(**options, seed=recipe.seed),
        folder,
        own.get("storage") or f"sqlite:///{folder.absolute() / 'search.db'}",
    )
    command = command_record(("ct-xception", "tune"), arguments.words)
    search_corpus(search, command, resume=resume, finish=own.get("winner", True))
