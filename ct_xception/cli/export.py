"""Write a checkpoint's network for ONNX Runtime or OpenVINO.

Write the network into the checkpoint's folder for other runtimes, and keep what answers as it does: ONNX and OpenVINO
in float32, and ONNX in int8, calibrated on training slices. Card and manifest are brought up to date. What is not kept
is said, with exit code 1.

examples:
  ct-xception export runs/phantom/model --onnx --int8 --openvino
  ct-xception export runs/phantom/model --browser site
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ct_xception.cli.arguments import (
    add_corpus,
    add_ort,
    check_goes_with,
    checkpoint_of,
    corpus_options,
    hide_loading_bars,
    window_of,
)
from ct_xception.command_line import DONE, FAILED, Parser
from ct_xception.errors import printable


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder, such as runs/NAME/model")
    from ct_xception.serving.runtimes import EXPORTED

    for name, runtime in EXPORTED.items():
        help_ = f"{' and '.join(runtime.files)}: {runtime.sentence}"
        parser.add_argument(f"--{runtime.flag}", dest=name, action="store_true", help=help_)
    parser.add_argument(
        "--corpus", metavar="SOURCE", help="the corpus of training (default: the phantom, if that will do)"
    )
    add_corpus(parser)
    parser.add_argument("--browser", metavar="DIR", help="write the page that answers in the browser, a static site")
    add_ort(parser)


def run(arguments: argparse.Namespace) -> int:
    from ct_xception.checkpoint import ONNX, ONNX_INT8

    check_goes_with(arguments, "ort", "browser")
    arguments.checkpoint = checkpoint_of(arguments.checkpoint)
    from ct_xception.serving.runtimes import EXPORTED

    runtimes, folder = [name for name in EXPORTED if getattr(arguments, name)], Path(arguments.checkpoint)
    exported = not folder.is_dir() or any((folder / name).is_file() for name in (ONNX, ONNX_INT8))
    if not runtimes and not (arguments.browser and exported):
        runtimes = ["onnx"]
    code = _export_networks(arguments, runtimes) if runtimes else DONE
    if arguments.browser:
        from ct_xception.publish.hosted.browser_space import write_site

        files = write_site(arguments.checkpoint, arguments.browser, ort=arguments.ort)
        size = sum(file.stat().st_size for file in files.values()) / 1e6
        print(f"{printable(arguments.browser)}/: the page, {len(files)} files, {size:.1f} MB; to see it:")
        print(f"  python -m http.server --bind 127.0.0.1 --directory {printable(arguments.browser)}")
    return code


def _export_networks(arguments: argparse.Namespace, runtimes: Sequence[str]) -> int:
    from ct_xception.publish.export import describe_export, export_checkpoint

    options = corpus_options(arguments, window_of(arguments))
    hide_loading_bars()
    record = export_checkpoint(arguments.checkpoint, runtimes, corpus=arguments.corpus, options=options)
    print(describe_export(record))
    return FAILED if any(name in record.kept_out for name in runtimes) else DONE
