"""The kinds of source that a corpus can be loaded from, one module each.

A module is found by being here. It holds `SOURCE`, a `Source`: `recognises` says whether a name means it, and
`list_corpus` lists what it holds. Where several recognise a name, the highest `rank` has it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from ct_xception.corpus.listing import CorpusOptions, Listing
from ct_xception.errors import InputError, printable


@dataclass(frozen=True)
class Source:
    """One kind of source. `wanted` is how a user gives one, in a few words.

    `public` is whether its name means the same to everybody, so that a checkpoint may state it in full; `generated`
    whether its images are drawn, and belong to nobody.
    """

    kind: str
    wanted: str
    recognises: Callable[[str], bool]
    list_corpus: Callable[[str, CorpusOptions], Listing]
    rank: int = 0
    public: bool = False
    generated: bool = False


@cache
def sources() -> tuple[Source, ...]:
    """Every kind of source, the ones to be asked first before the others."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    return tuple(sorted((module.SOURCE for module in modules), key=lambda source: (-source.rank, source.kind)))


def find_source(name: str) -> Source:
    """The kind of source that a name means. Raises InputError for a name that means none."""
    found = next((source for source in sources() if name.strip() and source.recognises(name)), None)
    if found is None:
        wanted = ", ".join(source.wanted for source in sources())
        raise InputError(f"{printable(name)}: no such folder or file; give {wanted}.")
    return found


def source_of(kind: str) -> Source | None:
    """The source of a kind that a record names; None for one that this version does not know."""
    return next((source for source in sources() if source.kind == kind), None)
