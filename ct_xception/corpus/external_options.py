"""How a corpus beside the own one is to be read: NAME.option=VALUE, where the own one has the option by itself.

    own_fields("clinic", {"clinic.label_column": "diagnosis", "clinic.window": "lung"})

Its columns, folders and files need not be called like the own corpus's, nor be read in the same window.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ct_xception.corpus.tables.columns import COLUMNS
from ct_xception.errors import CorpusError, InputError, printable
from ct_xception.text import did_you_mean

if TYPE_CHECKING:
    from ct_xception.imaging.windows import Window

OPTION = "--external_options"
HELP = (
    "how an external corpus is read, where not as the own one, such as clinic.label_column=diagnosis clinic.window=lung"
)


def _names(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(","))


def _pairs(text: str) -> dict[str, str]:
    found = [one.split("=", 1) for one in _names(text)]
    if any(len(pair) < 2 for pair in found):
        raise ValueError("of the form FOLDER=NAME, several joined by commas")
    return {pair[0]: pair[1] for pair in found}


def _window(text: str) -> Window:
    from ct_xception.imaging.windows import parse_window  # slow: a help that names these options does without

    return parse_window(text)


def _number(text: str) -> int:
    if not text.strip().isdecimal():
        raise ValueError("a whole number")
    return int(text)


_READ_AS: dict[str, Callable[[str], Any]] = {
    "class_map": _pairs,
    "split_map": _pairs,
    "exclude": _names,
    "class_level": _number,
    **dict.fromkeys((f"{name}_column" for name in COLUMNS), str),
    **dict.fromkeys(("box_columns", "image_root", "image_template", "group_pattern", "slices_per_file"), str),
    "window": _window,
    "frame": _number,
}


def check_external_options(given: Mapping[str, str], names: Collection[str]) -> None:
    """Raise InputError for what is said of none of the external corpora `names`, or cannot be said of them."""
    for key in given:
        name, dot, _ = key.rpartition(".")
        if not dot:
            raise InputError(f"{OPTION} {printable(key)}=…: say of which corpus; write NAME.option=VALUE.")
        if name not in names:
            known = f"give {', '.join(sorted(names))}" if names else "name one with --external NAME=SOURCE"
            raise InputError(f"{OPTION} {printable(key)}: there is no external corpus {printable(name)}; {known}.")
    for name in names:
        own_fields(name, given)


def own_fields(name: str, given: Mapping[str, str]) -> dict[str, Any]:
    """The fields of `CorpusOptions` that {"NAME.option": text} sets for the corpus `name`. Raises InputError."""
    own = {key.removeprefix(f"{name}."): text for key, text in given.items() if key.rpartition(".")[0] == name}
    return read_fields(own, prefix_of(name))


def prefix_of(name: str) -> str:
    """What an option of reading the external corpus `name` begins with, where another's begins with two dashes."""
    return f"{OPTION} {name}."


def read_fields(given: Mapping[str, str], prefix: str) -> dict[str, Any]:
    """The fields of `CorpusOptions` that {option: text} sets; `prefix` is how such an option is written, in errors.

    Raises InputError for an option that there is not, and a value that it has not.
    """
    return {option: _read(option, text, prefix) for option, text in given.items()}


def _read(option: str, text: str, prefix: str) -> Any:
    written = printable(prefix + option)
    if option not in _READ_AS:
        raise InputError(
            f"{written}: no option of reading another corpus is called {printable(option)}"
            f"{did_you_mean(option, _READ_AS) or '; there are ' + ', '.join(_READ_AS) + '.'}"
        )
    try:
        return _READ_AS[option](text)
    except InputError as error:
        raise InputError(f"{written}: {error}") from error
    except ValueError as error:
        raise InputError(f"{written}={printable(text)}: it is to be {error}.") from error


@contextmanager
def told_of(corpus: str, prefix: str) -> Iterator[None]:
    """Whatever is wrong with another corpus, said of `corpus`, and of its options as they are written for it."""
    try:
        yield
    except CorpusError as error:
        raise CorpusError([f"{corpus}: {as_written(one, prefix)}" for one in error.problems]) from error
    except InputError as error:
        raise InputError(f"{corpus}: {as_written(str(error), prefix)}") from error


def as_written(problem: str, prefix: str) -> str:
    """A sentence about options of reading a corpus, with each written as it is for the corpus of this prefix."""
    from ct_xception.imaging.windows import WINDOWS

    options = "|".join(sorted(_READ_AS, key=len, reverse=True))
    # What follows is prose unless it looks like a value.
    value = rf"['{{A-Z0-9]|[^ ]*[=*]|(?:{'|'.join(WINDOWS)})\b"
    pattern = rf"--({options})\b(?P<given>[ =](?={value}))?"
    return re.sub(pattern, lambda found: f"{prefix}{found[1]}{'=' if found['given'] else ''}", problem)
