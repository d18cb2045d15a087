"""A checkpoint's figures on a corpus, for a Python session: those of `ct-xception evaluate`, by its own code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas

from ct_xception.checkpoint import METRICS
from ct_xception.cli import build_parser
from ct_xception.errors import InputError, printable
from ct_xception.evaluation.report.figures import evaluation_summary
from ct_xception.files import read_json
from ct_xception.metrics import Metrics
from ct_xception.serving.classifier import Classifier
from ct_xception.text import unknown

if TYPE_CHECKING:
    import pandas

OWN = ("run", "checkpoint", "corpus")


class Figures(dict[str, Any]):
    """metrics.json as a dictionary, which prints as the terminal's summary: never a figure without n and interval.

    `folder` holds metrics.json, predictions.parquet, the plots and errors.html.
    """

    def __init__(self, metrics: Mapping[str, Any], folder: Path) -> None:
        super().__init__(metrics)
        self.folder = folder

    def __repr__(self) -> str:
        return evaluation_summary(Metrics.of(self, METRICS))

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"

    def to_frame(self) -> pandas.DataFrame:
        """A row a figure that has an interval: whose answers, name, value, low, high, n."""
        rows = [
            {"answers": path, "figure": name, **{key: figure.get(key) for key in ("value", "low", "high", "n")}}
            for path, figures in self["paths"].items()
            for name, figure in figures.items()
            if isinstance(figure, Mapping) and "value" in figure
        ]
        return pandas.DataFrame(rows)


def evaluate(classifier: Classifier, corpus: Any, options: Mapping[str, Any]) -> Figures:
    """Measure a classifier's checkpoint by the command's own code. Raises InputError."""
    if classifier.checkpoint is None:
        raise InputError("this network is in memory alone; save it as a checkpoint, and load that to be evaluated.")
    if not isinstance(corpus, (str, os.PathLike)):
        kind = type(corpus).__name__
        raise InputError(f"a {kind} is no corpus to be evaluated on; give the folder, table, Hub id or phantom itself.")
    words = ["evaluate", str(classifier.checkpoint.folder), "--corpus", os.fspath(corpus)]
    arguments = build_parser(["evaluate"]).parse_args(words)
    known = [name for name in vars(arguments) if name not in OWN]
    for name, value in options.items():
        if name not in known:
            raise InputError(unknown("option", name, known))
        setattr(arguments, name, _as_given(value))
    arguments.run(arguments)
    folder = Path(arguments.output)
    return Figures(read_json(folder / METRICS), folder)


def _as_given(value: Any) -> Any:
    """An option as the command line would have it: a window as text, a path too, a mapping as pairs."""
    if isinstance(value, Mapping):
        return [f"{printable(name)}={printable(one)}" for name, one in value.items()]
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, (int, float)) for part in value):
        return f"{value[0]}/{value[1]}"
    return os.fspath(value) if isinstance(value, os.PathLike) else value
