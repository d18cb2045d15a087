"""The `ct-xception` command: every module of this package that has `run` is one of its commands.

    ct-xception predict slice.dcm scans/ --model runs/phantom/model
    ct-xception explain slice.png -o why.png
    ct-xception demo

A command's module says in its docstring what it does: the first line for the list of commands, the rest, with its
examples, for its own --help. `add_arguments(parser)` adds its options, `run(arguments)` does it and gives the exit code
(see `ct_xception/command_line.py`). Heavy packages are imported inside `run`, so that --help answers at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from ct_xception import __version__
from ct_xception.command_line import Parser, run_program
from ct_xception.text import RESEARCH_USE

PROGRAM = "ct-xception"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user's mistake prints one sentence on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    return run_program(PROGRAM, lambda: _run(words))


def _run(words: list[str]) -> int:
    arguments = build_parser(words[:1]).parse_args(words)
    arguments.words = words[1:]
    code: int = arguments.run(arguments)
    return code


def commands() -> dict[str, ModuleType]:
    """{name: module} of every command, in the order of their names."""
    names = [file.removesuffix(".py") for file in os.listdir(os.path.dirname(__file__)) if file[0] not in "_."]
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in sorted(names)}
    return {name.replace("_", "-"): module for name, module in modules.items() if hasattr(module, "run")}


def build_parser(only: Sequence[str] | None = None) -> Parser:
    """The parser of all commands; where `only` is given, those that it does not name go without their options."""
    parser = Parser(
        prog=PROGRAM,
        description="Classify CT slices with Xception: train, answer, explain, measure, show.",
        epilog=f"`ct-xception COMMAND --help` lists a command's options, with examples. {RESEARCH_USE}",
    )
    parser.add_argument("--version", action="version", version=f"ct-xception {__version__}")
    added = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module in commands().items():
        summary, _, prose = (module.__doc__ or "").partition("\n\n")
        description, _, examples = prose.partition("\nexamples:\n")
        own = added.add_parser(name, help=summary.rstrip("."), description=description or summary)
        if only is None or name in only:
            own.epilog = f"examples:\n{examples}"
            own.set_defaults(run=module.run)
            module.add_arguments(own)
    return parser
