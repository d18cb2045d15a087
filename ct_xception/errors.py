"""Errors that a user caused and can mend: one clear sentence each, exit code 2 on the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence


def printable(name: object) -> str:
    """A file name safe to print: bytes that are not UTF-8, and control characters, are escaped."""
    text = os.fsdecode(name) if isinstance(name, (bytes, os.PathLike)) else str(name)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


class InputError(ValueError):
    """Bad input or usage. Its text is the one sentence that the user sees: what was found, and what to do."""


class WorkError(RuntimeError):
    """Work that failed although its input was good: one sentence, exit code 1."""


class DiskError(WorkError, OSError):
    """A disk that does not take what is written to it; one sentence with the folder."""


class SliceError(InputError):
    """A file that cannot become an honest slice.

    `file` is the printable name, `found` what was wrong with it, `remedy` what the user can do. What a file says of
    itself may be in them: they are made printable here.
    """

    def __init__(self, file: object, found: str, remedy: str) -> None:
        self.file, self.found, self.remedy = printable(file), printable(found), printable(remedy)
        super().__init__(f"{self.file}: {self.found}; {self.remedy}.")

    def __reduce__(self) -> tuple[type[SliceError], tuple[str, str, str]]:
        # Worker processes send errors home by pickle, which would otherwise call __init__ with the sentence alone.
        return type(self), (self.file, self.found, self.remedy)


class CorpusError(InputError):
    """A corpus that cannot be used: every problem found, in one message."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            text = self.problems[0]
        else:
            text = "\n".join([f"{len(self.problems)} problems in the corpus:", *(f"  - {p}" for p in self.problems)])
        super().__init__(text)

    def __reduce__(self) -> tuple[type[CorpusError], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)


class CheckpointError(InputError):
    """A folder or Hub id that is not a checkpoint this package can answer from."""
