"""Words and figures that people are shown, the same in the terminal, on a figure, on the card and on the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ct_xception.errors import printable

RESEARCH_USE = "For research use only. Not a medical device: no answer here is a diagnosis."


def percent(probability: float) -> str:
    """A probability in [0, 1] with one decimal: `97.2 %`; never 0 or 100, which no classifier can know."""
    if probability < 0.001:
        return "<0.1 %"
    if probability > 0.999:
        return ">99.9 %"
    return f"{100 * probability:.1f} %"


def shorten(name: str, width: int) -> str:
    """A path in at most `width` characters, without its beginning: the end is what tells it from its neighbours."""
    return name if len(name) <= width else "…" + name[len(name) - width + 1 :]


class ShortNames:
    """Paths in at most `width` characters, each unlike the others that were shown: `…/2/slice.dcm`.

    Where the end alone would be another's, a part of the beginning stands before it; where nothing helps, all of it.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._taken: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        ends = (name[:head] + shorten(name[head:], self.width - head) for head in range(0, self.width - 4, 2))
        short = next(one for one in (*ends, name) if self._taken.get(one, name) == name)
        self._taken[short] = name
        return short


def describe_window(window: object | None, bit_depth: int, is_hu: bool) -> str:
    """How a slice's grey levels came about, in a few words: `window -600/1500 HU`, or `8-bit picture`."""
    if window is None:
        return f"{bit_depth}-bit picture"
    return f"window {window} {'HU' if is_hu else 'in stored units'}"


def a(noun: str) -> str:
    """A noun with its article: `a CT slice`, `an MR slice`, `an X-ray`."""
    return f"{'an' if noun.startswith(('MR ', 'X-')) else 'a'} {noun}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean NAME?` for the known name that a word is most like, or part of; nothing where it is like none."""
    from difflib import get_close_matches

    names = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), names, n=1)
    holding = [name for name in names if len(word) > 2 and word.lower() in name]
    found = near or (holding if len(holding) == 1 else [])
    return f"; did you mean {names[found[0]]}?" if found else ""


def lacking(what: str, name: str, hints: Mapping[str, str], known: Iterable[str]) -> str:
    """`WHAT has no attribute 'NAME'`, with the right call where `hints` has it, else the name that was likely meant."""
    guess = "" if name.startswith("_") else did_you_mean(name, (one for one in known if not one.startswith("_")))
    return f"{what} has no attribute {name!r}{f'; {hints[name]}' if name in hints else guess}"


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """`WHAT 'NAME' is unknown; choose from A, B`, and the one that was likely meant: a sentence."""
    names = list(known)
    guess = did_you_mean(name, names)
    return f"{what} {printable(name)!r} is unknown; choose from {', '.join(names)}{guess or '.'}"
