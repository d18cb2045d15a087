"""Open the demo page on a checkpoint.

Serve the demo page on this machine until interrupted (Ctrl-C).

examples:
  ct-xception demo runs/phantom/model
  ct-xception demo user/repo --port 8000 --feedback reviews
"""

from __future__ import annotations

import argparse

from ct_xception.cli.arguments import add_checkpoint, checkpoint_of, hide_loading_bars
from ct_xception.command_line import DONE, Parser


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
    add_checkpoint(parser, "checkpoint")
    parser.add_argument("--port", type=int, default=7860, help="default: 7860")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--feedback", metavar="FOLDER", help="let reviewers say what is right, and keep it there")


def run(arguments: argparse.Namespace) -> int:
    checkpoint = checkpoint_of(arguments.checkpoint)
    from ct_xception_app.app import build_demo, launch, open_reviews

    hide_loading_bars()
    launch(build_demo(checkpoint, reviews=open_reviews(arguments.feedback)), host=arguments.host, port=arguments.port)
    return DONE
