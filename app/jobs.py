"""Long work in a thread of its own, with its progress told and a Stop that stops it.

A visitor has one job at a time: a new one stops the one before. Gradio's own cancelling ends the listening and not the
work, so the work itself asks, between two batches, whether it should go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ct_xception_app.limits import LONGEST_SECONDS

TICK = 0.1  # seconds between two looks at the progress


@dataclass(eq=False)
class Job:
    """One piece of work: `title` says what it is at, `share` in [0, 1] how much of it is done.

    `replaced` is set where another is about to take its place.
    """

    title: str = "Working"
    share: float | None = None
    replaced: bool = False
    deadline: float = field(default_factory=lambda: time.monotonic() + LONGEST_SECONDS)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Ask the work to end at its next look."""
        self._stopped.set()

    def cancelled(self) -> bool:
        """Whether the work should end: it was stopped, or its time is up."""
        return self._stopped.is_set() or self.out_of_time

    @property
    def out_of_time(self) -> bool:
        """Whether it has run for longer than a visitor may ask."""
        return time.monotonic() > self.deadline

    def progress(self, share: float) -> None:
        """Told by the work."""
        self.share = share


class Replaced(Exception):
    """A newer job of the same visitor has taken this one's place."""


class Jobs:
    """Who has which job running, by session."""

    def __init__(self) -> None:
        self._running: dict[str, Job] = {}
        self._lock = threading.Lock()

    def start(self, session: str) -> Job:
        """A new job for a session; the one before is stopped."""
        job = Job()
        with self._lock:
            before = self._running.get(session)
            self._running[session] = job
        if before is not None:
            before.stop()
        return job

    def stop(self, session: str) -> None:
        """Stop a session's job, if there is one."""
        with self._lock:
            job = self._running.get(session)
        if job is not None:
            job.stop()

    def make_way(self, session: str) -> None:
        """Stop a session's job without a word of it: what the visitor asked for next is on its way."""
        with self._lock:
            job = self._running.get(session)
            if job is not None:
                job.replaced = True
        if job is not None:
            job.stop()

    def _end(self, session: str, job: Job) -> bool:
        """Forget a job that is done; False where another has replaced it."""
        with self._lock:
            current = self._running.get(session) is job
            if current:
                del self._running[session]
        return current

    def running(self) -> int:
        """How many jobs there are."""
        with self._lock:
            return len(self._running)

    def follow(self, session: str, work: Callable[[Job], Any]) -> Iterator[tuple[str, float | None, Any]]:
        """Do the work; yield (title, share done, None) whenever that changes, and last (title, 1.0, its result).

        What the work raises is raised here; Replaced where a newer job of the session has begun. Closing this iterator
        stops the work.
        """
        job, outcome = self.start(session), dict[str, Any]()

        def do() -> None:
            try:
                outcome["result"] = work(job)
            except BaseException as error:  # it belongs to the visitor's own request, where it is raised again
                outcome["error"] = error

        worker = threading.Thread(target=do, daemon=True)
        worker.start()
        try:
            yield from self._watch(job, worker)
        finally:
            job.stop()
            current = self._end(session, job)
        if not current or job.replaced:
            raise Replaced
        if "error" in outcome:
            raise outcome["error"]
        yield job.title, 1.0, outcome["result"]

    @staticmethod
    def _watch(job: Job, worker: threading.Thread) -> Iterator[tuple[str, float | None, None]]:
        told = None
        while worker.is_alive():
            worker.join(TICK)
            now = (job.title, None if job.share is None else int(100 * job.share))
            if now != told and worker.is_alive():
                told = now
                yield job.title, job.share, None
