"""Compare two evaluations on the same items.

Compare the accuracies of two checkpoints from their evaluation folders: a paired bootstrap by group, and McNemar's
exact test. Evaluations of different items are refused.

examples:
  ct-xception compare runs/a/model/evaluation runs/b/model/evaluation
  ct-xception compare first second --without_twins --json
"""

from __future__ import annotations

import argparse

from ct_xception.command_line import DONE, Parser
from ct_xception.errors import printable


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
    parser.add_argument("first", metavar="EVALUATION_A", help="folder with metrics.json and predictions.parquet")
    parser.add_argument("second", metavar="EVALUATION_B", help="another one, of the same split")
    parser.add_argument("--path", choices=("predictor", "stock_pipeline"), default="predictor", help="whose answers")
    parser.add_argument("--without_twins", action="store_true", help="leave out items with a twin in training")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the intervals (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    from ct_xception.files import dump_json
    from ct_xception.statistics.comparison import compare_evaluations, describe_comparison

    options = {"path": arguments.path, "without_twins": arguments.without_twins, "seed": arguments.seed}
    found = compare_evaluations(arguments.first, arguments.second, **options)
    if arguments.json:
        print(dump_json(found.to_json(), indent=2))
    else:
        print(*describe_comparison(found, printable(arguments.first), printable(arguments.second)), sep="\n")
    return DONE
