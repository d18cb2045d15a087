"""What every program of ours does alike: its parser, its exit codes, and the one sentence for what went wrong.

Exit codes: 0 done, 1 the work failed (or a bar or --strict was not met), 2 bad input or usage, 3 some of many inputs
were refused (and listed), 130 interrupted, 143 terminated. Of several processes the first one alone speaks.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import itertools
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from ct_xception.errors import InputError, WorkError, printable
from ct_xception.text import did_you_mean

TYPE_CHECKING = False  # as typing's own, which takes longer to import than all of this file
if TYPE_CHECKING:
    from typing import Any, NoReturn

DONE, FAILED, BAD_INPUT, SOME_REFUSED, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143
LOG_SECONDS = "30"  # between what a progress bar writes into a file

_OPTION = re.compile(r"-(-|[A-Za-z])")  # a value such as -600/1500 is none: all of our options begin with a letter


class Parser(argparse.ArgumentParser):
    """A parser that prints its help when nothing was given and something must be, and guesses at what was misspelt."""

    # Whether something must be given although no option is required by itself (all may stand in a file, say).
    wants_options = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_HelpPage, **settings)
        self._negative_number_matcher = re.compile(r"^-\d")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's own; without any argument where one is required the help is printed, exit code 2."""
        given = sys.argv[1:] if args is None else list(args)
        if not given and (self.wants_options or any(action.required for action in self._actions)):
            self.print_help(sys.stderr)
            self.exit(BAD_INPUT)
        if self._subparsers is None:
            self._check_names(given)
        return super().parse_known_args(given, namespace)

    def _check_names(self, given: Sequence[str]) -> None:
        """Refuse an option that there is not, before argparse says that another one, perhaps the meant, is missing."""
        known = self._option_string_actions
        long = [one for one in known if one.startswith("--")]
        words = itertools.takewhile(lambda word: word != "--", given)
        for name in (word.partition("=")[0] for word in words if _OPTION.match(word)):
            if name.startswith("--") and name not in known:
                self.error(f"unrecognized option: {name}{did_you_mean(name, long)}")
            if not name.startswith("--") and name[:2] not in known:
                named = [one for one in long if one.startswith(f"-{name[:2]}")]
                meant = next((one for one in named if one.startswith("--output")), named[0] if named else None)
                self.error(f"unrecognized option: {name}{f'; did you mean {meant}?' if meant else ''}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            guess = did_you_mean(str(value), known)
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}{guess} (choose from {', '.join(known)})")


class _HelpPage(argparse.HelpFormatter):
    """Prose in lines of the terminal's width; examples as they were written."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)


class Terminated(KeyboardInterrupt):
    """SIGTERM: the machine or its scheduler wants the process to end."""


def run_program(name: str, work: Callable[[], int | None], *, remedy: str = "") -> int:
    """Do the work and give its exit code; what went wrong is one sentence on stderr that begins with `name`.

    `remedy` is what is said beside "interrupted" or "terminated". Nothing but a fault of ours leaves as an exception.
    """
    _spare_logs()
    try:
        with _sigterm_raised():
            return _guarded(name, work)
    except Terminated:
        return complain(name, f"terminated{remedy}", TERMINATED)
    except KeyboardInterrupt:
        return complain(name, f"interrupted{remedy}", INTERRUPTED)


def _spare_logs() -> None:
    """Where no terminal shows them, have all progress bars, libraries' too, write seldom; a user's own wish goes."""
    if sys.stderr is not None and not sys.stderr.isatty():
        for name in ("TQDM_MININTERVAL", "TQDM_MAXINTERVAL"):  # read by tqdm where it is imported
            os.environ.setdefault(name, LOG_SECONDS)


def _guarded(name: str, work: Callable[[], int | None]) -> int:
    try:
        code = work() or DONE
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse has printed its help or its complaint already
        return stop.code if isinstance(stop.code, int) else DONE
    except InputError as error:
        return complain(name, str(error), BAD_INPUT)
    except BrokenPipeError:
        # The reader (head, less) has seen enough; Python would fail once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except WorkError as error:
        return complain(name, printable(error), FAILED)
    except OSError as error:  # which may be one process's alone: a full disk of its machine
        return complain(name, _told_of_system(error), FAILED, agreed=False)
    except MemoryError:
        few = "not enough memory; give it less at a time (--batch_size), or more of it."
        return complain(name, few, FAILED, agreed=False)


def _told_of_system(error: OSError) -> str:
    """A sentence on what the system refused; what its number says of a disk is said in words."""
    from pathlib import Path

    from ct_xception.files import disk_error

    named = error.filename2 or error.filename
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) or not isinstance(named, str):
        return printable(error)
    return str(disk_error(Path(named).parent, error.errno))


def complain(name: str, sentence: str, code: int = BAD_INPUT, *, agreed: bool = True) -> int:
    """Print a sentence on stderr; gives `code` back. What all launched processes met (`agreed`) the first one says."""
    rank = os.environ.get("RANK", "0")
    if agreed and rank != "0":
        time.sleep(1)  # the launcher ends the others with the first that ends: let the first process speak
        return code
    who = name if rank == "0" else f"{name}, process {rank}"
    print(f"{who}: {sentence}", file=sys.stderr, flush=True)
    return code


@contextlib.contextmanager
def _sigterm_raised() -> Iterator[None]:
    """`Terminated` in the block at SIGTERM; outside the main thread, which alone takes signals, nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(*_: object) -> NoReturn:
    raise Terminated
