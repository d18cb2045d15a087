"""An answer to take away: JSON, CSV, and a report of one page that opens anywhere and prints.

Each says which weights gave the answer, through which window and with which thresholds, and that it is for research
use. What the input gate refused comes with its reasons and without an answer.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception import __version__
from ct_xception.checkpoint import WEIGHTS
from ct_xception.files import dump_json, sha256_file
from ct_xception.html import image_uri, render_page
from ct_xception.serving.comparison import Comparison
from ct_xception.serving.gate import REFUSED
from ct_xception.serving.patients import UnitAnswer
from ct_xception.serving.pooling import AGGREGATIONS, SeriesAnswer, SliceAnswer
from ct_xception.serving.series import SEPARATE
from ct_xception.serving.text import describe_abstention, describe_decision
from ct_xception.text import RESEARCH_USE, describe_window, percent

if TYPE_CHECKING:
    from PIL import Image

    from ct_xception.serving.checkpoint import Checkpoint
    from ct_xception.serving.classifier import Classifier, Prediction

PICTURE_WIDTH = 720  # pixels of the report's figure
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for one


@dataclass(frozen=True)
class Origin:
    """Which weights answer: `model` as it is named in public, the Hub commit (None for a folder), and their hash."""

    model: str
    revision: str | None
    weights_sha256: str | None
    label_names: tuple[str, ...]

    @classmethod
    def of(cls, classifier: Classifier) -> Origin:
        """Of a classifier. A local checkpoint goes by the end of its path: where files are kept is nobody's affair."""
        checkpoint, names = classifier.checkpoint, tuple(classifier.label_names)
        if checkpoint is None:
            return cls(classifier.name, None, None, names)
        local = Path(checkpoint.name)
        model = "/".join(local.resolve().parts[-2:]) if local.is_dir() else checkpoint.name.partition("@")[0]
        return cls(model, checkpoint.revision, _weights_hash(checkpoint), names)

    @property
    def name(self) -> str:
        """`user/repo@commit`, or the end of a local path."""
        return self.model if self.revision is None else f"{self.model}@{self.revision}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        found = {"model": self.model, "revision": self.revision, "weights_sha256": self.weights_sha256}
        return {**found, "ct_xception": __version__}


def _weights_hash(checkpoint: Checkpoint) -> str | None:
    """The SHA-256 that the manifest states (and that loading has checked), else that of the weights."""
    if WEIGHTS in checkpoint.manifest:
        return checkpoint.manifest[WEIGHTS]
    weights = checkpoint.folder / WEIGHTS
    return sha256_file(weights) if weights.is_file() else None


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that a download tells of one case.

    `prediction` is the slice that is shown; `explanation` its map's record and `sentences` the same in words;
    `picture` slice and map side by side. `answers` and `together` are those of a series, `order` how it was ordered and
    `series` its name among those given; `pooled` says how its slices became one. `units` are the answers of all series
    or patients where several were given; `comparison` sets a second model beside the first. `warning` is what to know
    of the whole answer.
    """

    origin: Origin
    prediction: Prediction
    sentences: tuple[str, ...] = ()
    explanation: Mapping[str, Any] | None = None
    picture: Image.Image | None = None
    answers: Sequence[SliceAnswer] = ()
    together: SeriesAnswer | None = None
    order: str = ""
    series: str = "series"
    warning: str = ""
    pooled: str = ""
    units: Sequence[UnitAnswer | None] = ()
    comparison: Comparison | None = None
    created: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def is_series(self) -> bool:
        """Whether more than one slice was given."""
        return len(self.answers) > 1

    @property
    def window(self) -> str:
        """How the grey levels of the slice came about."""
        slice_ = self.prediction.slice
        return describe_window(slice_.window, slice_.bit_depth, slice_.is_hu)


def operating_sentence(record: Mapping[str, Any]) -> str:
    """The operating points of one `Prediction.to_dict`, as `name: yes (score >= threshold)`; empty without any."""
    points = record.get("operating") or {}
    return "; ".join(
        f"{name}: {'yes' if point['positive'] else 'no'} ({point['score']:.4f}, threshold {point['threshold']:.4f})"
        for name, point in points.items()
    )


# JSON


def as_json(findings: Findings) -> str:
    """One JSON object: notice, model, answer, explanation, and the series where there is one."""
    value: dict[str, Any] = {
        "notice": RESEARCH_USE,
        "created": findings.created.isoformat(timespec="seconds"),
        **findings.origin.to_dict(),
        "window": findings.window,
        **({"warning": findings.warning} if findings.warning else {}),
        "answer": findings.prediction.to_dict(),
        "explanation": findings.explanation,
    }
    if findings.is_series:
        each = [answer.record or {"source": answer.name, "error": answer.error} for answer in findings.answers]
        together = {} if findings.together is None else findings.together.to_dict()
        key = "files" if findings.series == SEPARATE else "series"
        told = {"name": findings.series, "order": findings.order, "pooled": findings.pooled, **together, "each": each}
        value[key] = each if key == "files" else told
    if findings.comparison is not None:
        value["two_models"] = findings.comparison.to_dict()
    if findings.units:
        value["units"] = [unit.to_dict() for unit in findings.units if unit is not None]
    return dump_json(value, indent=2) + "\n"


# CSV


def as_csv(findings: Findings) -> str:
    """A header and one row a slice, and a row for the answer of each series or patient, whose slice is `all`.

    The last columns of each row say which model, revision, window and thresholds.
    """
    names = findings.origin.label_names
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    ruled = ["prediction_set", "abstained", "gate", "error", "warning"]
    origin = ["window_centre", "window_width", "operating_points", "model", "revision", "weights_sha256", "notice"]
    writer.writerow(["slice", "source", "of", "label", *names, *ruled, *origin])
    for unit in _units_of(findings):
        for number, answer in enumerate(unit.slices, 1):
            writer.writerow([number, *map(_cell, _row(answer, findings, unit.name))])
        if unit.together is not None:
            record = {"label": unit.together.label, **unit.together.to_dict()}
            writer.writerow(["all", *map(_cell, _row(SliceAnswer(unit.name, record), findings, unit.name))])
    return stream.getvalue()


def _units_of(findings: Findings) -> list[UnitAnswer]:
    """Every series or patient that has an answer; the one that is shown where there is no other."""
    if findings.units:
        return [unit for unit in findings.units if unit is not None]
    alone = SliceAnswer(findings.prediction.source, findings.prediction.to_dict())
    return [UnitAnswer(findings.series, "", findings.together, tuple(findings.answers) or (alone,))]


def _row(answer: SliceAnswer, findings: Findings, unit: str) -> list[object]:
    origin = findings.origin
    record, values = answer.record or {}, answer.probabilities
    window = record.get("window") or {"centre": "", "width": ""}
    return [
        answer.name,
        unit,
        record["label"] if values else "",
        *(f"{values[name]:.6f}" if values else "" for name in origin.label_names),
        "; ".join((record.get("prediction_set") or {}).get("classes", [])) if values else "",
        "" if record.get("abstained") is None or not values else "yes" if record["abstained"] else "no",
        answer.gate or "",
        answer.error or "",
        findings.warning,
        window["centre"],
        window["width"],
        operating_sentence(record) if values else "",
        origin.model,
        origin.revision or "",
        origin.weights_sha256 or "",
        RESEARCH_USE,
    ]


def _cell(value: object) -> object:
    """A text that a spreadsheet would run as a formula is told to be text; numbers, negative ones too, stay."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


# The report


def as_report(findings: Findings) -> str:
    """One HTML page with everything inside: the answer, the map and what is known of it, the file, the model."""
    prediction = findings.prediction
    refused = bool(prediction.refusal)
    picture = None if findings.picture is None else image_uri(findings.picture, PICTURE_WIDTH)
    return render_page(
        f"{prediction.source}: ct-xception",
        _template(),
        notice=RESEARCH_USE,
        source=prediction.source,
        created=findings.created.strftime("%Y-%m-%d %H:%M UTC"),
        gate=prediction.gate,
        refused=refused,
        label=describe_abstention(prediction) or prediction.label,
        rows=[] if refused else _bars(prediction.probabilities),
        rules=[] if refused else describe_decision(prediction.decision),
        points="" if refused else operating_sentence(prediction.to_dict()),
        series=None if findings.together is None else _series_slots(findings),
        separate=[] if findings.together is not None else _each(findings.answers, None),
        units=[_unit_slots(unit) for unit in findings.units if unit is not None],
        picture=picture,
        sentences=[] if refused else findings.sentences,
        notes=prediction.notes,
        window=findings.window,
        warning=findings.warning,
        compared="" if findings.comparison is None else findings.comparison.sentence,
        origin=findings.origin,
        version=__version__,
    )


def _bars(probabilities: Mapping[str, float]) -> list[dict[str, Any]]:
    return [
        {"label": label, "share": percent(value), "width": f"{100 * value:.1f}"}
        for label, value in probabilities.items()
    ]


def _series_slots(findings: Findings) -> dict[str, Any]:
    together = findings.together
    assert together is not None
    return {
        "name": findings.series.capitalize(),
        "label": describe_abstention(together) or together.label,
        "class": together.label,
        "rows": _bars(together.probabilities),
        "pooled": findings.pooled or AGGREGATIONS[together.aggregation].title,
        "sentence": AGGREGATIONS[together.aggregation].sentence,
        "rules": describe_decision(together.decision),
        "answered": together.answered,
        "slices": together.slices,
        "agreeing": together.agreeing,
        "order": findings.order,
        "each": _each(findings.answers, together.label),
    }


def _unit_slots(unit: UnitAnswer) -> dict[str, Any]:
    """A row for a series or patient among several."""
    found, votes = unit.together, f"{len(unit.slices) - len(unit.left_out)} of {len(unit.slices)}"
    label = unanswered(unit) if found is None else describe_abstention(found) or found.label
    share = "" if found is None or found.abstained else percent(found.probabilities[found.label])
    kept = "" if found is None else ", ".join(found.prediction_set or ())
    return {"name": unit.name, "slices": votes, "label": label, "share": share, "kept": kept}


def unanswered(unit: UnitAnswer) -> str:
    """What stands in place of an answer that there is not: separate files have their own, others none."""
    return "file by file" if unit.name == SEPARATE else "not answered"


def _each(answers: Sequence[SliceAnswer], label: str | None) -> list[dict[str, Any]]:
    """A row for each slice or file; its share is that of `label`, or of its own first class."""
    rows = []
    for number, answer in enumerate(answers, 1):
        values, first = answer.probabilities or {}, (answer.record or {}).get("label") or ""
        refused = "refused by the input gate" if answer.gate == REFUSED else ""
        abstained = "no answer: the checkpoint abstains" if (answer.record or {}).get("abstained") else ""
        shown = percent(values[label or first]) if values else ""
        remark = answer.error or refused or abstained
        rows.append({"number": number, "name": answer.name, "label": first, "share": shown, "remark": remark})
    return rows


@cache
def _template() -> str:
    return files("ct_xception_app").joinpath("report.html").read_text(encoding="utf-8")
