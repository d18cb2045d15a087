"""How long it takes until something answers: the import and the command line's help, against Python alone."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.turns import Row, take_turns


def startup_rows(options: argparse.Namespace) -> list[Row]:
    """Two rows: seconds."""
    python = [sys.executable, "-c"]
    help_page = [str(Path(sys.executable).with_name("ct-xception")), "--help"]
    rows = []
    for what, command in (
        ("`import ct_xception`, s", [*python, "import ct_xception"]),
        ("`ct-xception --help`, s", help_page),
    ):
        peer_turn, our_turn = timed([*python, "pass"]), timed(command)
        peer_turn(), our_turn()
        peer, own = take_turns(peer_turn, our_turn, 9)
        rows.append((what, "`python -c pass`", f"{peer:.3f}", f"{own:.3f}", f"{own / peer:.1f}"))
    return rows


def timed(command: Sequence[str]) -> Callable[[], float]:
    """A measurement: seconds of one run of a command."""

    def measure() -> float:
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started

    return measure
