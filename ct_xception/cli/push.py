"""Publish a checkpoint, its Space and its corpus's record on the Hub.

Publish a checkpoint folder as USER/REPO on the Hub: one commit or none, with the card, the figures and every other file
of the folder. A push that was cut off is made again with the same command. Of a checkpoint that is on the Hub already
(user/repo[@revision]), --space or --browser publishes the Space alone; of a run folder, --dataset publishes the record
alone. Log in first: hf auth login.

examples:
  ct-xception push runs/mine/model USER/REPO --tag v1
  ct-xception push runs/mine/model USER/REPO --space
  ct-xception push runs/mine USER/CORPUS --dataset
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.cli.arguments import add_ort, check_goes_with
from ct_xception.command_line import DONE, Parser
from ct_xception.errors import InputError, printable

if TYPE_CHECKING:
    from ct_xception.publish.hub import Pushed


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder, Hub id for a Space, run folder for --dataset")
    parser.add_argument("repo_id", metavar="USER/REPO", help="made where it does not exist")
    parser.add_argument("--private", action="store_true", help="make what is new private")
    parser.add_argument("--tag", metavar="V", help="tag this version, for user/repo@V")
    parser.add_argument("--message", metavar="TEXT", help="of the checkpoint's commit")
    parser.add_argument("--new_card", action="store_true", help="write the card anew from the folder's files")
    parser.add_argument("--handler", action="store_true", help="with the handler.py for the Hub's Inference Endpoints")
    parser.add_argument("--space", action="store_true", help="also publish the demo page, on this checkpoint")
    parser.add_argument("--browser", action="store_true", help="also publish the page that answers in the browser")
    add_ort(parser)
    parser.add_argument("--dataset", action="store_true", help="also publish the corpus's splits and audit, no images")
    parser.add_argument("--images", action="store_true", help="with --dataset: the images, too (never DICOM)")


def run(arguments: argparse.Namespace) -> int:
    from ct_xception.publish.corpus_record import is_run
    from ct_xception.publish.hub import push_checkpoint, push_corpus

    folder, repo_id = Path(arguments.checkpoint), arguments.repo_id
    check_goes_with(arguments, "images", "dataset")
    check_goes_with(arguments, "ort", "browser")
    if arguments.space and arguments.browser:
        raise InputError("--browser: --space has that name already; push one of them, and the other under its own.")
    version: dict[str, Any] = {"private": arguments.private, "tag": arguments.tag}
    run, model = (folder if is_run(folder) else folder.parent), arguments.checkpoint
    pushed: list[Pushed] = []
    if folder.is_dir() and run != folder:
        own = {"message": arguments.message, "new_card": arguments.new_card, "handler": arguments.handler}
        pushed.append(_tell_pushed(push_checkpoint(folder, repo_id, **version, **own)))
        model = f"{repo_id}@{pushed[0].commit}"
    if arguments.space or arguments.browser:
        pushed.append(_tell_pushed(_push_page(arguments, model, version, is_run=run == folder)))
    if arguments.dataset:
        pushed.append(_tell_pushed(push_corpus(run, repo_id, **version, images=arguments.images)))
    if not pushed:
        whole = f"push {printable(folder / 'model')}, or --dataset" if run == folder else "of a Hub id push --space"
        raise InputError(f"{printable(folder)}: is no checkpoint folder; {whole}.")
    return DONE


def _push_page(arguments: argparse.Namespace, model: str, version: Mapping[str, Any], *, is_run: bool) -> Pushed:
    """Publish one of the two Spaces, for a model that is on the Hub."""
    from ct_xception.publish.hub import push_browser_space, push_space

    if is_run:
        option = "--space" if arguments.space else "--browser"
        raise InputError(f"{option}: a run folder has no page; give its checkpoint (RUN/model), or a Hub id.")
    if arguments.space:
        return push_space(model, arguments.repo_id, **version)
    return push_browser_space(arguments.checkpoint, model, arguments.repo_id, ort=arguments.ort, **version)


def _tell_pushed(pushed: Pushed) -> Pushed:
    done = "published" if pushed.changed else "unchanged"
    tag = f", tag {pushed.tag}" if pushed.tag else ""
    print(f"{pushed.target}: {done}, commit {pushed.commit[:12]}{tag}: {pushed.url}", flush=True)
    return pushed
