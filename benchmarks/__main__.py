"""Measure all ratios and write them into benchmarks/RESULTS.md.

    python -m benchmarks [--corpus DIR] [--image_size 96 192] [--steps 12] [--threads 2] [--only training]

The corpus is a phantom unless one is named. Peers and ours take turns, so that a noisy machine disturbs both alike.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import time

from benchmarks.results import store
from benchmarks.turns import Row


def main() -> int:
    """Run what `--only` names, or all of it."""
    from benchmarks.latency import latency_rows
    from benchmarks.startup import startup_rows
    from benchmarks.training import training_rows

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ratios against named peers.")
    parser.add_argument("--corpus", default="phantom:patients=40", help="what to train on (default: a phantom)")
    parser.add_argument("--image_size", type=int, nargs="+", default=[96, 192], help="sizes to train at, a row each")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6, help="training steps of a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    suites = {"training": training_rows, "latency": latency_rows, "startup": startup_rows}
    parser.add_argument("--only", choices=suites)
    options = parser.parse_args()
    rows = [row for name, suite in suites.items() if options.only in (None, name) for row in suite(options)]
    table = render(rows, options.threads)
    print(table)
    if options.only is None:
        store("speed", table)
    return 0


def render(rows: list[Row], threads: int) -> str:
    """The table, with the command and the machine."""
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads, Python {platform.python_version()}"
    lines = [
        f"`{command}`, {time.strftime('%Y-%m-%d', time.gmtime())}, {machine}",
        "",
        "| what | peer | peer | ours | ratio |",
        "|---|---|---:|---:|---:|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
