"""What is wrong with a search, before it begins: a recipe, a proxy or a value of the space that no trial could have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ct_xception.errors import InputError
from ct_xception.training.preflight import check_options
from ct_xception.training.search.space import Dimension
from ct_xception.training.search.study import Search


def check_search(search: Search) -> None:
    """Try the recipe, the proxy, every choice and both ends of every range. Raises InputError, naming which is wrong.

    A value that the recipe alone does not go with may go with another of the space: it is wrong if it goes with none.
    """
    check_options(search.recipe)
    try:
        check_options(search.trial_config)
    except InputError as error:
        raise InputError(f"--proxy: {error}") from error
    for dimension in search.space.dimensions:
        for value in _values(dimension):
            _try_value(search, dimension, value)


def _try_value(search: Search, dimension: Dimension, value: Any) -> None:
    own = dict(search.space.fixed) | _where(dimension) | {dimension.name: value}
    refused = _refusal(search, own)
    if refused is None or any(_refusal(search, more | own) is None for more in _others(search, dimension)):
        return
    said = refused.removeprefix("--").removeprefix(f"{dimension.name}: ")
    raise InputError(f"--space: {dimension.name}: {said}")


def _refusal(search: Search, options: Mapping[str, Any]) -> str | None:
    """Why a trial with these options cannot be trained; None where it can."""
    try:
        check_options(search.configure(options))
    except InputError as error:
        return str(error)
    return None


def _others(search: Search, dimension: Dimension) -> Iterator[dict[str, Any]]:
    """Every value of every other dimension, one at a time."""
    for other in search.space.dimensions:
        if other.name != dimension.name:
            yield from (_where(other) | {other.name: value} for value in _values(other))


def _values(dimension: Dimension) -> list[Any]:
    """All choices, or both ends of the range."""
    return [dimension.value(stored) for stored in dimension.grid(2)]


def _where(dimension: Dimension) -> dict[str, Any]:
    """One value of each option that this one depends on, so that it is asked about."""
    return {name: allowed[0] for name, allowed in dimension.when.items()}
