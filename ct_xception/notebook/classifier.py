"""A checkpoint for a Python session: it takes whatever is at hand, and its answers show themselves.

    from ct_xception import Classifier
    c = Classifier.from_pretrained("runs/phantom/model")        # or "user/repo" on the Hub
    c("slice.dcm"), c.explain("slice.dcm").plot(), c.predict("scans/").to_frame()

The network, its rules and its figures are those of `ct_xception.serving.classifier`; here is only what makes it handy.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.errors import InputError, SliceError
from ct_xception.imaging.reader import try_read
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window, as_window
from ct_xception.notebook.answers import Answers, Comparisons, Prediction, UnitAnswers, shown
from ct_xception.notebook.inputs import archives_of, every_slice, holds_many, several
from ct_xception.serving import classifier as serving
from ct_xception.serving.archive import hold_all
from ct_xception.serving.comparison import short_names
from ct_xception.serving.patients import answer_units, find_units
from ct_xception.serving.runtimes import DEFAULT_RUNTIME
from ct_xception.serving.runtimes.pytorch import TorchNetwork
from ct_xception.serving.series import Member
from ct_xception.text import lacking

if TYPE_CHECKING:
    from ct_xception.explain.heat_map import HeatMap
    from ct_xception.notebook.evaluation import Figures

AnyWindow = Window | str | tuple[float, float] | list[float] | None
HALF = "it computes in float32; `ct-xception export --int8` writes a faster network"
_LOADING = "Classifier.from_pretrained(checkpoint)"
_LOADERS = ("load", "load_model", "open", "from_checkpoint", "from_folder", "from_path", "from_file", "from_hub")
HINTS = {
    **dict.fromkeys(_LOADERS, _LOADING),
    "classify": "call it: c(source)",
    "predict_proba": "c(source).probabilities, or c.predict(sources).to_frame()",
    "classes": "c.labels",
    "classes_": "c.labels",
    "num_labels": "len(c.labels)",
    "config": "c.checkpoint.config",
    "processor": "c(source) reads, crops and scales it; c.read(source) reads alone",
    "preprocess": "c(source) reads, crops and scales it; c.read(source) reads alone",
    "save_pretrained": "the checkpoint is a folder already: c.checkpoint.folder",
    "half": HALF,
    "eval": "it answers only, and never trains: leave it out",
    "cuda": 'c.to("cuda")',
    "cpu": 'c.to("cpu")',
    "fit": "networks are trained by `ct-xception train --corpus DIR`",
    "train": "networks are trained by `ct-xception train --corpus DIR`",
    "push_to_hub": "checkpoints are published by `ct-xception push CHECKPOINT USER/REPO`",
    "plot": "c.explain(source).plot()",
    "attribute": "c.explain(source)",
    "show_results": "c.predict(sources).show_results()",
    "show": "c.predict(sources).show_results(), or c.explain(source).plot()",
    "to_frame": "c.predict(sources).to_frame()",
    "pipeline": 'transformers.pipeline("image-classification", model=CHECKPOINT) runs it, too, without the body crop',
    "gradcam": 'c.explain(source, method="gradcam")',
    "grad_cam": 'c.explain(source, method="gradcam")',
    "audit": "ct_xception.audit(corpus)",
    "score": "c.evaluate(corpus)",
}
LOADING_OPTIONS = {
    **dict.fromkeys(("dtype", "torch_dtype"), HALF),
    "revision": 'Classifier.from_pretrained("user/repo@v1")',
    "device_map": 'Classifier.from_pretrained(checkpoint, device="cuda")',
    "trust_remote_code": "nothing of a checkpoint's own code is run; leave it out",
    "token": "log in once with `hf auth login`, or set HF_TOKEN",
    "cache_dir": "set HF_HOME",
}
LOADING_KNOWN = ("runtime", "device", "threads", "gate", "overrule_gate", "modality")
OPTIONS = {
    "top_k": "the answer holds every class, the likeliest first: list(c(source).probabilities.items())[:2]",
    "return_all_scores": "the answer holds every class: c(source).probabilities",
    "threshold": "the checkpoint's own rules are in c(source).decision",
    "device": 'c.to("cuda")',
    "batch_size": "c.predict(sources, batch_size=8)",
    "by": 'c.predict(sources, by="patient")',
    "target": "c.explain(source, target=name)",
    "method": "c.explain(source, method=name)",
}
EXPLAIN_OPTIONS = {
    **dict.fromkeys(("label", "class_name", "class_", "target_class", "category"), "c.explain(source, target=name)"),
    **dict.fromkeys(("algorithm", "kind"), "c.explain(source, method=name)"),
}


class _Guided(type):
    """What the class itself is: so a guess at it, `Classifier.load`, is told the right call as one at an object is."""

    def __getattr__(cls, name: str) -> Any:
        raise AttributeError(lacking("Classifier", name, HINTS, dir(cls)))


class Classifier(serving.Classifier, metaclass=_Guided):
    """A checkpoint that answers. Safe to call from several threads.

    Examples:
        >>> c = Classifier.from_pretrained(CHECKPOINT)
        >>> c.labels
        ['adenocarcinoma', 'large cell carcinoma', 'normal', 'squamous cell carcinoma']
        >>> answer = c(SLICE)
        >>> sorted(answer.probabilities) == c.labels and answer.label in c.labels
        True
    """

    def __init__(self, model: Any = None, *settings: Any, **options: Any) -> None:
        if model is None or isinstance(model, (str, os.PathLike)):
            named = "user/repo" if model is None else str(model)
            raise InputError(f"a checkpoint is loaded by Classifier.from_pretrained({named!r}).")
        super().__init__(model, *settings, **options)

    @classmethod
    def from_pretrained(cls, checkpoint: str | Path, runtime: str = DEFAULT_RUNTIME, **options: Any) -> Classifier:
        """Load a checkpoint folder, its run's folder, or a Hub id (`user/repo`, `user/repo@revision`).

        `runtime`, `device`, `threads`, `gate`, `overrule_gate` and `modality` as in
        `ct_xception.serving.classifier.Classifier.from_pretrained`. Raises CheckpointError and InputError.
        """
        for name in options.keys() - set(LOADING_KNOWN):
            hint = LOADING_OPTIONS.get(name, f"choose from {', '.join(LOADING_KNOWN)}")
            raise TypeError(f"from_pretrained takes no {name!r}; {hint}")
        with _without_bar(runtime):
            return super().from_pretrained(checkpoint, runtime, **options)  # type: ignore[return-value]

    @property
    def labels(self) -> list[str]:
        """The class names in index order; `label_names` is the same."""
        return self.label_names

    @property
    def id2label(self) -> dict[int, str]:
        """{index: class name}, as transformers has it."""
        return dict(enumerate(self.label_names))

    @property
    def label2id(self) -> dict[str, int]:
        """{class name: index}, as transformers has it."""
        return {name: index for index, name in enumerate(self.label_names)}

    @property
    def device(self) -> str:
        """Where the network runs: `cpu`, `cuda:0`, …"""
        return str(self.network.model.device) if isinstance(self.network, TorchNetwork) else "cpu"

    def to(self, device: str) -> Classifier:
        """Move the network to another device, and give the classifier back. Raises InputError where that cannot be."""
        if not isinstance(self.network, TorchNetwork):
            if str(device) != "cpu":
                raise InputError(f"device {device}: runtime {self.network.runtime} answers on the CPU alone.")
            return self
        self.network.move(device)
        return self

    def __call__(
        self,
        source: Any,
        *,
        window: AnyWindow = None,
        frame: int | None = None,
        tabular: Any = None,
        **unknown: Any,
    ) -> Any:
        """Answer one slice, or several.

        A path, bytes, an open file, a Pillow picture, an array (with `window` where it holds HU), a pydicom data set or
        a row of `datasets` gives a `Prediction`. A list, a folder or a zip gives `Answers`: of a list the first slice
        that cannot be read raises its SliceError, of the others it stands in its place, as in `predict`. `tabular` is
        a row for a checkpoint that takes columns beside the image, {"age": 63, "sex": "F"}, or one for each slice.

        Examples:
            >>> c([SLICE, SLICE])[1].label == c(SLICE).label
            True
        """
        _refuse(unknown)
        if holds_many(source):
            return self.predict(source, window=window, frame=frame, tabular=tabular)
        sources = several(source)
        if sources is None:
            return self([source], window=window, frame=frame, tabular=tabular)[0]
        answers = self.predict(sources, window=window, frame=frame, tabular=tabular)
        for answer in answers:
            if isinstance(answer, SliceError):
                raise answer
        return answers

    def predict(
        self,
        sources: Any,
        *,
        window: AnyWindow = None,
        frame: int | None = None,
        batch_size: int = 8,
        by: str = "slice",
        tabular: Any = None,
        **unknown: Any,
    ) -> Any:
        """Answer every slice of a folder, a zip, a volume, a list or a single source; what cannot be read stays listed.

        `by` patient or series is `predict_by`, whose `UnitAnswers` come in the place of `Answers`.
        The answers hold their slices: for thousands of files use `predict_many`, or `ct-xception score`.

        Examples:
            >>> c.predict(FOLDER).to_frame()["label"].isin(c.labels).all()
            np.True_
        """
        _refuse(unknown)
        if by != "slice" and tabular is not None:
            raise InputError("tabular: rows go with slices; answer them by slice, or the patients without rows.")
        if by != "slice":
            return self.predict_by(sources, by, window=window)
        window = as_window(window)
        found = every_slice(sources, frame)
        with hold_all(archives_of(found.slices)):
            rows = serving.rows_for(len(found.slices), tabular)
            pairs = zip(found.slices, rows, strict=True)
            read = (serving.with_row(self._member(one, window, frame), row) for one, row in pairs)
            return Answers(self.predict_many(read, batch_size=batch_size), found.notes)

    def predict_by(self, sources: Any, by: str = "patient", *, window: AnyWindow = None) -> UnitAnswers:
        """One answer for each patient, or series (`by`), in files, folders and zips, pooled by the checkpoint's rule.

        DICOM's identifiers tell patients apart; where there are none, `notes` say that a folder was taken for one.

        Examples:
            >>> [len(one.slices) for one in c.predict_by(SLICE)]
            [1]
        """
        paths = several(sources) or [sources]
        units, notes = find_units(paths, by)
        return UnitAnswers(answer_units(self, units, window=as_window(window)), notes)

    def compare(self, other: serving.Classifier, sources: Any, *, window: AnyWindow = None) -> Comparisons:
        """What this checkpoint and another answer to the same slices, side by side, and where they disagree.

        Examples:
            >>> c.compare(c, SLICE)[0].agree in (True, None)
            True
        """
        mine = self.predict(sources, window=window)
        theirs = Classifier.predict(other, sources, window=window)  # type: ignore[arg-type]
        return Comparisons(mine, theirs, short_names(self.name, other.name))

    def predict_many(self, sources: Any, **options: Any) -> Iterator[Prediction | SliceError]:
        """Answer any number of slices, in order, holding one batch at a time; a bad file yields its SliceError."""
        options["window"] = as_window(options.get("window"))
        return shown(super().predict_many(sources, **options))

    def _member(self, one: Any, window: Window | None, frame: int | None) -> Slice | SliceError:
        if isinstance(one, SliceError):
            return one
        if isinstance(one, Member):
            return try_read(one.read, self, window)
        return try_read(self.read, one, window=window, frame=frame)

    def read(self, source: Any, *, window: AnyWindow = None, **options: Any) -> Slice:
        """Read one slice as this checkpoint wants it shown; `window` overrides its choice. Raises SliceError."""
        return super().read(source, window=as_window(window), **options)

    def explain(self, source: Any, target: str | int | None = None, method: str = "gradcam", **options: Any) -> HeatMap:
        """Map the evidence for a class, by default the answer, in one slice or in an answer to one.

        `method` is a name or title of those in `ct_xception.explain.methods.METHODS`, however it is spelt; `budget`
        fast, balanced or thorough; `window`, `frame` and `seed` as elsewhere.

        Examples:
            >>> heat_map = c.explain(SLICE, method="Grad-CAM")
            >>> heat_map.map.shape == c.read(SLICE).pixels.shape
            True
        """
        from ct_xception.explain.heat_map import explain_source

        for name in options.keys() - {"budget", "window", "frame", "seed", "progress"}:
            hint = EXPLAIN_OPTIONS.get(name, "choose from target, method, budget, window, frame, seed")
            raise TypeError(f"explain takes no {name!r}; {hint}")
        if holds_many(source) or several(source) is not None:
            raise InputError(
                "one slice is explained at a time: [c.explain(one) for one in c.predict(source).answered]."
            )
        return explain_source(self, source, target, method, **options)

    def evaluate(self, corpus: str | Path, **options: Any) -> Figures:
        """Measure the checkpoint on a corpus, as `ct-xception evaluate` does, with its options by their names.

        `split` is test by default, `output` the folder that the figures go into ("evaluation"); `audit=False` leaves
        the search for twins out. Raises InputError for an unknown option, and whatever is wrong with the corpus.
        """
        from ct_xception.notebook.evaluation import evaluate

        return evaluate(self, corpus, options)

    def __repr__(self) -> str:
        side, classes = self.transform.preprocessing.size[-1], ", ".join(self.label_names[:4])
        more = ", …" * (len(self.label_names) > 4)
        network = f"{side} px, {len(self.label_names)} classes ({classes}{more})"
        return f"Classifier({self.name!r}: {network}, {self.network.runtime} on {self.device})"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(lacking("Classifier", name, HINTS, dir(type(self))))


def _refuse(unknown: Mapping[str, Any]) -> None:
    """Raise TypeError for an option that there is not, with the right call where it is a natural guess."""
    for name in unknown:
        hint = OPTIONS.get(name, "choose from window, frame, tabular, and of predict also batch_size and by")
        raise TypeError(f"Classifier takes no {name!r}; {hint}")


@contextlib.contextmanager
def _without_bar(runtime: str) -> Iterator[None]:
    """transformers draws a progress bar over the tenth of a second that loading takes; the others start without it."""
    if runtime != DEFAULT_RUNTIME:
        yield
        return
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
