"""Answer a whole folder or corpus into one Parquet file.

Answer every slice of a folder or a corpus into one Parquet file, a row a slice. A slice that cannot be read right is a
row too, with the reason, and makes the exit code 3. The same command goes on after a kill. This is one process; several
share the work by `accelerate launch -m ct_xception.pipeline.scoring` with the same options. With --by patient, or
series, a second file has a row each, pooled by the checkpoint's own rule.

examples:
  ct-xception score --model runs/phantom/model --folder DIR --output answers.parquet
  ct-xception score --model runs/phantom/model --folder DIR --output answers.parquet --by patient
  ct-xception score --model user/repo@v1 --corpus table.csv --output answers.parquet
"""

from __future__ import annotations

import argparse

from ct_xception.cli.arguments import checkpoint_of
from ct_xception.command_line import Parser, run_program


def add_arguments(parser: Parser) -> None:
    """The options of ct_xception.pipeline.scoring."""
    from ct_xception.pipeline.scoring_options import add_options

    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Score on one process."""
    from ct_xception.pipeline.scoring import REMEDY, score

    arguments.model = checkpoint_of(arguments.model)
    return run_program("ct-xception score", lambda: score(arguments), remedy=REMEDY)
