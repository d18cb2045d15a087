"""Make a checkpoint of a corpus: audit, split, train, measure, card.

Fine-tune a timm Xception on a labelled CT corpus, evaluate it and write a Hub-ready checkpoint. This is train_hf.py, on
one process; for several, on GPUs, CPUs or machines, give the same options to `accelerate launch train_hf.py`, or, where
there is no copy of the repository, to `accelerate launch -m ct_xception.pipeline`.

examples:
  ct-xception train --corpus DIR --weights hub --output_dir runs/mine
  ct-xception train --corpus phantom:patients=40 --weights none --epochs 3
  ct-xception train --config recipe.yaml --output_dir runs/mine --resume auto
"""

from __future__ import annotations

import argparse

from ct_xception.command_line import Parser


def add_arguments(parser: Parser) -> None:
    """The options of train_hf.py."""
    from ct_xception.training.options import add_options

    parser.usage = f"{parser.prog} --corpus SOURCE [OPTION …]"
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do what train_hf.py does with the same words."""
    from ct_xception.pipeline.run import main

    return main(arguments.words, name="ct-xception train")
