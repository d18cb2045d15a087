"""Two measurements that take turns, so that a noisy machine disturbs both alike."""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

# What was measured, the peer's name, its figure, ours, the ratio.
Row = tuple[str, str, str, str, str]


def take_turns(peer: Callable[[], float], ours: Callable[[], float], rounds: int) -> tuple[float, float]:
    """The medians of two measurements over so many rounds."""
    pairs = [(peer(), ours()) for _ in range(rounds)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


@contextmanager
def in_own_process(make: Callable[..., Callable[[], Any]], *arguments: Any) -> Iterator[Callable[[], Any]]:
    """A measurement made and taken in a process of its own, idle between its turns.

    So what one side tells its process (allocator, threads) does not help or harm the other. `make` is a function of a
    module, called there with `arguments`.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, make, arguments), daemon=True)
    process.start()

    def measure() -> Any:
        here.send(True)
        return here.recv()

    try:
        yield measure
    finally:
        here.send(False)
        process.join()


def _serve(connection: Connection, make: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...]) -> None:
    measure = make(*arguments)
    while connection.recv():
        connection.send(measure())
