"""Open the demo page on a checkpoint, or on two side by side.

Serve the demo page on this machine until interrupted (Ctrl-C). With a second checkpoint each case is answered by both.

examples:
  ct-xception demo runs/phantom/model
  ct-xception demo runs/a/model runs/b/model
  ct-xception demo user/repo --port 8000 --feedback reviews
"""

from __future__ import annotations

import argparse

from ct_xception.cli.arguments import add_checkpoint, checkpoint_of, hide_loading_bars
from ct_xception.command_line import DONE, Parser


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
    add_checkpoint(parser, "checkpoint")
    parser.add_argument("second", nargs="?", metavar="CHECKPOINT", help="answers beside the first")
    parser.add_argument("--port", type=int, default=7860, help="default: 7860")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--feedback", metavar="FOLDER", help="let reviewers say what is right, and keep it there")


def run(arguments: argparse.Namespace) -> int:
    checkpoint = checkpoint_of(arguments.checkpoint)
    from ct_xception_app.app import build_demo, launch, open_reviews

    hide_loading_bars()
    second = None if arguments.second is None else checkpoint_of(arguments.second)
    demo = build_demo(checkpoint, second, reviews=open_reviews(arguments.feedback))
    launch(demo, host=arguments.host, port=arguments.port)
    return DONE
