"""One explained slice for a Python session: `heat_map.plot()`, `heat_map.save("why.png")`, and itself in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.errors import InputError
from ct_xception.explain.budget import DEFAULT_BUDGET, DEFAULT_METHOD, Progress
from ct_xception.explain.explain import Explanation, explain
from ct_xception.explain.methods import METHODS
from ct_xception.explain.overlay import draw_figure, draw_overlay, figure_size, save_figure
from ct_xception.explain.summary import explanation_record, explanation_sentences
from ct_xception.html import picture_html
from ct_xception.imaging.windows import as_window
from ct_xception.serving.classifier import Classifier, Prediction
from ct_xception.text import RESEARCH_USE, lacking, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL import Image

    from ct_xception.imaging.windows import Window


HINTS = {
    **dict.fromkeys(("show", "figure", "draw", "display"), "heat_map.plot()"),
    **dict.fromkeys(("overlay", "image", "to_image", "to_pil"), "heat_map.picture()"),
    **dict.fromkeys(("heatmap", "heat_map", "values", "array", "attribution", "numpy"), "heat_map.map"),
    **dict.fromkeys(("target", "class_name"), "heat_map.label"),
    "to_json": "heat_map.to_dict()",
}


@dataclass(frozen=True, eq=False, repr=False)
class HeatMap:
    """Where on a slice the evidence for one class lies.

    `explanation` holds the map with all that it is a map of, `prediction` the answer that is explained.
    """

    explanation: Explanation
    prediction: Prediction

    @property
    def map(self) -> np.ndarray:
        """(H, W) float32 in the slice's own pixels: [0, 1], or [-1, 1] where the method tells evidence against."""
        return self.explanation.attribution.map

    @property
    def label(self) -> str:
        """The class that is explained."""
        return self.explanation.attribution.label

    @property
    def probability(self) -> float:
        """Of that class, in [0, 1]."""
        return self.prediction.probabilities[self.label]

    @property
    def method(self) -> str:
        """The name of the method, one of `METHODS`."""
        return self.explanation.attribution.method

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(lacking("HeatMap", name, HINTS, dir(type(self))))

    def __repr__(self) -> str:
        title = METHODS[self.method].title
        return f"HeatMap({self.prediction.source!r}: {title} of {self.label}, {percent(self.probability)})"

    def _repr_html_(self) -> str:
        """The slice under the map, and what a reader should know of it; every text escaped."""
        return picture_html(self.picture(), [repr(self)[8:-1], *self.sentences(), RESEARCH_USE])

    def picture(self, opacity: float = 0.6) -> Image.Image:
        """The slice under the map, an RGB picture of the slice's own size."""
        return draw_overlay(self.explanation, opacity)

    def sentences(self) -> list[str]:
        """What a reader should know of the map: warnings, and where the evidence lies."""
        return explanation_sentences(self.explanation)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it, without pixels."""
        return explanation_record(self.explanation)

    def plot(self, opacity: float = 0.6) -> Axes:
        """Draw slice and map side by side with colour bar, class and window, by pyplot; the map's axes."""
        from matplotlib import pyplot

        slice_, attribution = self.explanation.slice, self.explanation.attribution
        figure = pyplot.figure(figsize=figure_size(slice_), layout="constrained")
        draw_figure(slice_, attribution, probability=self.probability, opacity=opacity, figure=figure)
        return figure.axes[1]

    def save(self, path: str | Path, opacity: float = 0.6) -> Path:
        """Write the same figure as .png, .pdf or .svg; the path. Raises InputError for another name."""
        slice_, attribution = self.explanation.slice, self.explanation.attribution
        save_figure(path, slice_, attribution, probability=self.probability, opacity=opacity)
        return Path(path)


def explain_source(
    classifier: Classifier | str | Path,
    source: Any,
    target: str | int | None = None,
    method: str = DEFAULT_METHOD,
    *,
    budget: str = DEFAULT_BUDGET,
    seed: int = 0,
    window: Window | str | tuple[float, float] | None = None,
    frame: int | None = None,
    progress: Progress | None = None,
) -> HeatMap:
    """Answer a source and map the evidence for `target`: a class, by name or index; None the answer itself.

    `classifier` is one, or a checkpoint; `source` a slice in any form, or an answer to one. `method` is one of METHODS
    ("gradcam", "integrated_gradients", …), `budget` one of BUDGETS. Raises InputError and SliceError, also where the
    input gate refuses the slice.
    """
    if not isinstance(classifier, Classifier):
        classifier = Classifier.from_pretrained(classifier)
    answer = (
        source
        if isinstance(source, Prediction)
        else classifier(classifier.read(source, window=as_window(window), frame=frame))
    )
    if answer.refusal:
        raise InputError(
            f"{answer.source}: refused by the input gate ({'; '.join(answer.refusal)}); a classifier with "
            "overrule_gate=True explains it all the same."
        )
    if isinstance(target, int) and 0 <= target < len(classifier.label_names):
        target = classifier.label_names[target]
    wanted = answer.label if target is None else str(target)
    options: dict[str, Any] = {"budget": budget, "seed": seed, "progress": progress}
    return HeatMap(explain(classifier, answer.slice, wanted, method, **options), answer)
