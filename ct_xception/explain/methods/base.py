"""What a way to explain an answer is, and the register of them. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    import torch

    from ct_xception.explain.scoring import Question


class Method:
    """One way to explain an answer: a class in a file of `explain/methods/`, under `@register`.

    `title` is its name in print, `aliases` are others that it goes by, `sentence` says what it does. `signed`: the map
    also shows what speaks against the class. `complete`: its values sum to the change of the class's score from the
    reference to the slice, so that the sum can be checked. `coarse`: with a cell every 16 of the network's pixels, and
    without a budget. `without_pools`: it asks for a network whose max pooling is written as ReLUs.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    sentence: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    signed: ClassVar[bool] = False
    complete: ClassVar[bool] = False
    coarse: ClassVar[bool] = False
    without_pools: ClassVar[bool] = False

    def unfit(self, config: Mapping[str, Any]) -> str | None:
        """Why it cannot explain a network of this config.json, with what can; None where it can."""
        return None

    def compute(self, question: Question) -> torch.Tensor:
        """The map (h, w), or (1, 3, S, S) to be summed over its channels, in the method's own unit."""
        raise NotImplementedError


REGISTERED: dict[str, Method] = {}
Kind = TypeVar("Kind", bound=type[Method])


def register(kind: Kind) -> Kind:
    """Offer a method under its name, everywhere."""
    REGISTERED[kind.name] = kind()
    return kind
