"""The space that a search of hyperparameters walks: a YAML file of plain words, an option of `TrainConfig` a line.

learning_rate: {from: 1e-4, to: 1e-2, log: true}
optimizer: [adamw, adam, rmsprop]                     # a list is a choice
loss: [cross_entropy, focal]
focal_gamma: {from: 1, to: 4, when: {loss: focal}}    # asked only where the loss is focal
augment.rotation: {from: 0, to: 30, step: 5}          # one augmentation of --augment
epochs: 8                                             # a plain value is fixed
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.errors import InputError, printable
from ct_xception.files import dump_json
from ct_xception.imaging.transforms import AugmentConfig
from ct_xception.training.options import TrainConfig, read_yaml

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

# What says which data, which luck, which machine, or what is measured afterwards is no hyperparameter.
_SEARCHED_GROUPS = ("network", "training", "loss")
_SEARCHED_ALONE = frozenset({"body_crop", "filters", "window", "metric", "patience"})
_NO_SEARCH = frozenset({"weights"})
_KEYS = ("from", "to", "log", "step", "choices", "when")

DEFAULT_SPACE: dict[str, Any] = {
    "learning_rate": {"from": 2e-4, "to": 5e-3, "log": True},
    "body_rate": {"from": 0.05, "to": 1.0, "log": True},
    "weight_decay": {"from": 1e-3, "to": 0.2, "log": True},
    "optimizer": ["adamw", "adam", "rmsprop"],
    "label_smoothing": {"from": 0.0, "to": 0.2, "step": 0.05},
    "dropout": {"from": 0.0, "to": 0.5, "step": 0.1},
    "sampling": ["shuffle", "balanced"],
    "augment.rotation": {"from": 0, "to": 30, "step": 5},
    "augment.contrast": {"from": 0.0, "to": 0.5, "step": 0.1},
}


@dataclass(frozen=True)
class Dimension:
    """One searched option: a range from `low` to `high`, or `choices`; asked only where `when` holds.

    `whole` says that the option takes whole numbers; `when` is {name of an earlier dimension: its values}.
    """

    name: str
    low: float = math.nan
    high: float = math.nan
    log: bool = False
    step: float | None = None
    whole: bool = False
    choices: tuple[Any, ...] = ()
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def suggest(self, trial: BaseTrial) -> Any:
        """The value that a trial is given."""
        if self.choices:
            # Optuna's storages keep plain values alone; a list of filters travels as text.
            return json.loads(trial.suggest_categorical(self.name, [dump_json(one) for one in self.choices]))
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def value(self, stored: Any) -> Any:
        """A value as the option takes it, from what a storage keeps of it."""
        return json.loads(stored) if self.choices else stored

    def stored(self, value: Any) -> Any:
        """A value of the option, as a storage keeps it."""
        return dump_json(value) if self.choices else value

    def holds(self, value: Any) -> bool:
        """Whether a value of the option can be drawn here."""
        if self.choices:
            return value in self.choices
        steps = (value - self.low) / self.step if self.step else 0.0
        return self.low <= value <= self.high and abs(steps - round(steps)) < 1e-6

    def words(self) -> str:
        """The range or the choices, as a person says them."""
        if self.choices:
            values = ", ".join(map(str, self.choices))
        else:
            step = f" in steps of {self.step:g}" if self.step else ", logarithmic" if self.log else ""
            values = f"{self.low:g} to {self.high:g}{step}"
        asked = (f"{name} is {' or '.join(map(str, allowed))}" for name, allowed in self.when.items())
        return values + (f" (where {' and '.join(asked)})" if self.when else "")

    def grid(self, points: int) -> list[Any]:
        """At most `points` values of the range, evenly (in the logarithm where `log`), as a storage keeps them."""
        if self.choices:
            return [dump_json(one) for one in self.choices]
        if self.step and (self.high - self.low) / self.step < points:
            count = int((self.high - self.low) / self.step + 1e-9) + 1
            values = [self.low + self.step * index for index in range(count)]
        else:
            start, end = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
            spread = [start + (end - start) * index / max(points - 1, 1) for index in range(points)]
            values = [math.exp(one) for one in spread] if self.log else spread
        return sorted({round(one) for one in values}) if self.whole else values


@dataclass(frozen=True)
class Space:
    """The searched options in the order in which they are asked, and those that are fixed to one value."""

    dimensions: tuple[Dimension, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def suggest(self, trial: BaseTrial) -> dict[str, Any]:
        """One value for every searched option that is asked about, and the fixed ones."""
        found: dict[str, Any] = dict(self.fixed)
        for dimension in self.dimensions:
            if all(found.get(name) in values for name, values in dimension.when.items()):
                found[dimension.name] = dimension.suggest(trial)
        return found

    def values(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a finished trial, from the parameters in its storage."""
        own = {one.name: one.value(stored[one.name]) for one in self.dimensions if one.name in stored}
        return dict(self.fixed) | own

    def grid(self, points: int) -> dict[str, list[Any]]:
        """The values of a grid search, `points` at most along each range. Raises InputError for conditions."""
        conditional = [dimension.name for dimension in self.dimensions if dimension.when]
        if conditional:
            raise InputError(f"--sampler grid: {conditional[0]} has a condition (when); take random or tpe.")
        return {dimension.name: dimension.grid(points) for dimension in self.dimensions}

    def words(self) -> dict[str, str]:
        """What was searched, a phrase for each option."""
        return {one.name: one.words() for one in self.dimensions}

    def to_json(self) -> dict[str, Any]:
        """The space as the record of a search keeps it."""
        plain = {}
        for one in self.dimensions:
            parts: dict[str, Any] = (
                {"choices": list(one.choices)} if one.choices else {"from": one.low, "to": one.high, "log": one.log}
            )
            parts |= {"step": one.step} if one.step else {}
            plain[one.name] = parts | ({"when": {k: list(v) for k, v in one.when.items()}} if one.when else {})
        return plain | dict(self.fixed)


def apply_options(config: TrainConfig, options: Mapping[str, Any]) -> TrainConfig:
    """A configuration with the options of one trial; `augment.NAME` goes into its table. Raises InputError."""
    plain = {name: value for name, value in options.items() if "." not in name}
    augment = {name.partition(".")[2]: str(value) for name, value in options.items() if "." in name}
    return dataclasses.replace(config, **plain, augment={**config.augment, **plain.get("augment", {}), **augment})


def read_space(path: str | Path | None) -> Space:
    """The space of a YAML file, or the default one. Raises InputError, naming file and option."""
    if path is None:
        return parse_space(DEFAULT_SPACE, "the default space")
    return parse_space(read_yaml(Path(path), "--space"), f"--space: {printable(path)}")


def parse_space(table: Mapping[str, Any], source: str) -> Space:
    """A space from plain values: {option: range, list of choices, or one value}. Raises InputError."""
    fixed, dimensions = {}, dict[str, Dimension]()
    for name, stated in table.items():
        kind = _kind(str(name), source)
        if isinstance(stated, Mapping):
            dimensions[name] = _dimension(name, stated, kind, source)
        elif isinstance(stated, list) and kind is not list:
            dimensions[name] = _dimension(name, {"choices": stated}, kind, source)
        else:
            fixed[name] = _plain(stated, kind, f"{source}: {name}")
    if not dimensions:
        raise InputError(f"{source} searches nothing; give an option a range {{from: …, to: …}} or a list of choices.")
    return Space(tuple(_ordered(dimensions, fixed, source)), fixed)


def parse_proxy(texts: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` options that make a trial cheap, such as image_size=96. Raises InputError."""
    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign:
            raise InputError(f"--proxy: {text!r} is not NAME=VALUE, such as image_size=96.")
        kind = _kind(name, "--proxy")
        found[name] = _plain({"true": True, "false": False}.get(value, value), kind, f"--proxy: {name}")
    return found


def _kind(name: str, source: str) -> type:
    """The type of a searched option: float of an augmentation."""
    fields = {one.name: one for one in dataclasses.fields(TrainConfig)}
    if name.startswith("augment."):
        known = sorted(f"augment.{one.name}" for one in dataclasses.fields(AugmentConfig))
        if name not in known:
            raise InputError(f"{source}: {name} is no augmentation{_meant(name, known)}")
        return float
    searched = [
        one.name
        for one in fields.values()
        if (one.metadata["group"] in _SEARCHED_GROUPS or one.name in _SEARCHED_ALONE) and one.name not in _NO_SEARCH
    ]
    if name in fields and name not in searched:
        raise InputError(
            f"{source}: {name} says which data, luck or machine, not how to train; give it on the command line."
        )
    if name not in fields:
        raise InputError(f"{source}: {name} is no option of training{_meant(name, searched)}")
    hint = str(fields[name].type)
    return next((kind for kind in (bool, int, float, list, dict) if hint.startswith(kind.__name__)), str)


def _meant(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else "; see train_hf.py --help."


def _dimension(name: str, stated: Mapping[str, Any], kind: type, source: str) -> Dimension:
    unknown = [key for key in stated if key not in _KEYS]
    if unknown:
        raise InputError(f"{source}: {name}: {unknown[0]!r} is not one of {', '.join(_KEYS)}.")
    where = f"{source}: {name}"
    when = {str(key): tuple(value if isinstance(value, list) else [value]) for key, value in _when(stated, where)}
    if "choices" in stated:
        values = stated["choices"]
        if not isinstance(values, list) or not values:
            raise InputError(f"{where}: choices are a list of at least one value.")
        return Dimension(name, choices=tuple(_plain(one, kind, where) for one in values), when=when)
    if kind not in (int, float):
        raise InputError(f"{where}: takes no range; give a list of choices.")
    if "from" not in stated or "to" not in stated:
        raise InputError(f"{where}: a range needs both from and to; or give a list of choices.")
    low, high = (_plain(stated[key], kind, where) for key in ("from", "to"))
    log, step = bool(stated.get("log", False)), stated.get("step")
    if not low < high or (log and low <= 0):
        raise InputError(f"{where}: from {low} to {high} is no range{' for log' if low <= 0 else ''}.")
    if step is not None and log:
        raise InputError(f"{where}: a step and log do not go together; leave one out.")
    return Dimension(name, low, high, log, None if step is None else _plain(step, kind, where), kind is int, (), when)


def _when(stated: Mapping[str, Any], where: str) -> Iterator[tuple[Any, Any]]:
    conditions = stated.get("when", {})
    if not isinstance(conditions, Mapping):
        raise InputError(f"{where}: when is a table of OPTION: VALUE.")
    yield from conditions.items()


def _plain(value: Any, kind: type, where: str) -> Any:
    """A value of the option's own type; YAML 1.1 reads 1e-3 as text and a bare no as false."""
    if kind is list:
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, list) and all(isinstance(one, str) for one in texts):
            return texts
    elif kind is bool and isinstance(value, bool):
        return value
    elif kind in (int, float) and not isinstance(value, bool):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if math.isfinite(number) and (kind is float or number == int(number)):
            return kind(number)
    elif kind is str and (value is None or isinstance(value, (str, bool))):
        return "no" if value is False else value
    raise InputError(f"{where}: {value!r} is not of the kind that this option takes ({kind.__name__}).")


def _ordered(dimensions: dict[str, Dimension], fixed: Mapping[str, Any], source: str) -> list[Dimension]:
    """The dimensions so that each comes after those that its condition names."""
    ordered: list[Dimension] = []
    left = dict(dimensions)
    while left:
        ready = [one for one in left.values() if not (set(one.when) & set(left))]
        if not ready:
            raise InputError(f"{source}: the conditions of {' and '.join(left)} wait for one another.")
        for one in ready:
            absent = [name for name in one.when if name not in dimensions and name not in fixed]
            if absent:
                raise InputError(f"{source}: {one.name}: when names {absent[0]}, which the space does not hold.")
            ordered.append(left.pop(one.name))
    return ordered
