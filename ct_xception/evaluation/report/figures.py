"""The figures of an evaluation, drawn and said: pictures of a corpus are published only if they may be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.checkpoint import (
    CONFUSION,
    CONFUSION_PATIENTS,
    CURVES,
    EXAMPLES,
    RELIABILITY,
    RELIABILITY_PATIENTS,
    ROBUSTNESS,
    ROC,
    ROC_PATIENTS,
)
from ct_xception.corpus.cells import read_row
from ct_xception.corpus.summary import is_generated
from ct_xception.errors import InputError, SliceError
from ct_xception.evaluation.answers import PREDICTOR, STOCK_PIPELINE, WITHHELD, Answers, Items
from ct_xception.evaluation.baselines import describe_baselines
from ct_xception.evaluation.evaluation import Evaluation
from ct_xception.evaluation.patients import pooled_answers
from ct_xception.evaluation.report import plots as report
from ct_xception.evaluation.report.subgroups import describe_subgroups
from ct_xception.evaluation.shift.curves import robustness_figure
from ct_xception.evaluation.shift.external import left_out, patients_word
from ct_xception.imaging.modality import CT
from ct_xception.imaging.reader import read_slice
from ct_xception.metrics import (
    Calibration,
    ClassificationMetrics,
    ExternalMetrics,
    GateMetrics,
    Metrics,
    PathMetrics,
    RobustnessMetrics,
    UnitCalibration,
)
from ct_xception.statistics.intervals import describe_metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES_SHOWN = 12
PATH_TITLES = {PREDICTOR: "our predictor", STOCK_PIPELINE: "stock pipeline()", WITHHELD: "columns withheld"}
SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc")
_DPI = 200
# Every picture that may be drawn; those of an older evaluation that this one has not are removed.
DRAWN = (
    *(CONFUSION, ROC, RELIABILITY, CONFUSION_PATIENTS, ROC_PATIENTS, RELIABILITY_PATIENTS),
    *(CURVES, EXAMPLES, ROBUSTNESS),
)


def draw_evaluation(
    evaluation: Evaluation, items: Items, answers: Mapping[str, Answers], metrics: Metrics
) -> list[str]:
    """Draw the predictor's figures, remove those of an older evaluation, and name the ones drawn.

    `metrics` is metrics.json so far.
    """
    folder, outputs = evaluation.folder, evaluation.outputs
    drawn: dict[str, Figure] = {}
    if PREDICTOR in metrics.paths and metrics.paths[PREDICTOR].n:
        drawn |= _draw_answers(items, answers[PREDICTOR], metrics)
    if metrics.calibration is not None:
        drawn[RELIABILITY] = report.reliability_figure(report.scaling_panels(metrics.calibration))
    if metrics.robustness is not None:
        drawn[ROBUSTNESS] = robustness_figure(metrics.robustness)
    if outputs.history is not None:
        drawn[CURVES] = report.curves_figure(
            read_history(outputs.history), best_epoch=metrics.best_epoch, counts=metrics.split_sizes
        )
    publish = is_phantom(evaluation.corpus or {})
    if PREDICTOR in answers and (outputs.examples is not None or publish):
        examples = _draw_examples(evaluation, items, answers[PREDICTOR], metrics)
        if examples is not None and outputs.examples is not None:
            report.save_figure(examples, outputs.examples / EXAMPLES, dpi=_DPI)
        drawn |= {EXAMPLES: examples} if examples is not None and publish else {}
    for name in DRAWN:
        (folder / name).unlink(missing_ok=True)
    for name, figure in drawn.items():
        report.save_figure(figure, folder / name, dpi=_DPI)
    return list(drawn)


def is_phantom(corpus: Mapping[str, Any]) -> bool:
    """Whether the corpus is the procedural phantom, whose pictures are nobody's."""
    return is_generated(corpus)


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of history.jsonl, one an epoch; InputError where it cannot be read."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the training history cannot be read ({error}); evaluate without it.") from error


def choose_examples(
    probabilities: NDArray[np.float64], labels: NDArray[np.intp], *, seed: int, count: int = EXAMPLES_SHOWN
) -> list[int]:
    """Rows to show: hits drawn from each class in turn, then the surest mistakes, half of all at most if hits suffice.

    Refused rows (NaN) are never chosen.
    """
    known = np.all(np.isfinite(probabilities), axis=1)
    scores = np.where(known[:, None], probabilities, 0)
    wrong = known & (scores.argmax(axis=1) != labels)
    surest = np.flatnonzero(wrong)[np.argsort(-scores.max(axis=1)[wrong], kind="stable")]
    hits = np.random.default_rng(seed).permutation(np.flatnonzero(known & ~wrong))
    turn = np.zeros(len(hits), int)  # how many hits of the same class come before
    for k in np.unique(labels):
        turn[labels[hits] == k] = np.arange((labels[hits] == k).sum())
    hits = hits[np.lexsort((labels[hits], turn))]
    mistakes = surest[: max(count // 2, count - len(hits))]
    return [int(row) for row in (*hits[: count - len(mistakes)], *mistakes)]


def _draw_answers(items: Items, answers: Answers, metrics: Metrics) -> dict[str, Figure]:
    block, names, kept = metrics.paths[PREDICTOR], metrics.label_names, answers.answered
    areas = {name: found.auroc for name, found in block.per_class.items()}
    drawn = {
        CONFUSION: report.confusion_figure(block.confusion_matrix, names),
        ROC: report.roc_figure(answers.probabilities[kept], items.labels[kept], names, areas),
    }
    patients = metrics.by_patient.get(metrics.protocol)
    # With a slice each they are the figures of slices; where all have several classes, there are none.
    if patients is None or not patients.n or not patients.several:
        return drawn
    areas = {name: found.auroc for name, found in patients.per_class.items()}
    what = f"by patient (n = {patients.n:,})"
    if patients.calibration is not None and patients.calibration.bins:
        drawn[RELIABILITY_PATIENTS] = report.reliability_figure(_unit_panels(metrics.calibration, patients.calibration))
    return drawn | {
        CONFUSION_PATIENTS: report.confusion_figure(patients.confusion_matrix, names, title=f"Confusion matrix {what}"),
        ROC_PATIENTS: report.roc_figure(
            *pooled_answers(items, answers, patients.rule), names, areas, title=f"ROC {what}"
        ),
    }


def _unit_panels(slices: Calibration | None, patients: UnitCalibration) -> list[report.Reliability]:
    """Slices as published, where that was measured, and beside them the patients that they are pooled to."""
    by_slice = [] if slices is None else [report.Reliability("By slice, as published", "Slices", slices.after)]
    return [*by_slice, report.Reliability("By patient, slices pooled", "Patients", patients)]


def _draw_examples(evaluation: Evaluation, items: Items, answers: Answers, metrics: Metrics) -> Figure | None:
    """A figure of chosen items as the reader shows them; None when none can be read."""
    names, examples = metrics.label_names, []
    how = {"window": evaluation.window, "frame": evaluation.frame, "modality": evaluation.modality or CT}
    for row in choose_examples(answers.probabilities, items.labels, seed=metrics.intervals.seed):
        slice_ = read_row(read_slice, evaluation.dataset[row], **how)
        if isinstance(slice_, SliceError):
            continue  # it has gone or changed since it was answered; another example does as well
        predicted = int(answers.probabilities[row].argmax())
        probability = float(answers.probabilities[row, predicted])
        examples.append(report.Example(slice_.pixels, names[items.labels[row]], names[predicted], probability))
    return report.examples_figure(examples) if examples else None


def evaluation_summary(metrics: Metrics) -> str:
    """metrics.json for the terminal: never a metric without n and interval, the most pessimistic protocol named."""
    lines = [f"{metrics.split} split, n = {metrics.n}, protocol: {metrics.protocol}"]
    lines += _path_lines(metrics.paths) + _patient_lines(metrics, metrics.protocol)
    worst = describe_subgroups(metrics.subgroups, bool(metrics.by_patient))
    lines += _baseline_lines(metrics, metrics.protocol, metrics.paths)
    for name, block in metrics.protocols.items():
        lines += ["", f"{name}: {block.title}, n = {block.n}"]
        if block.removed == 0:
            lines[-1] += ": no image has one, so every figure is as above"
            continue
        if block.removed is not None:
            lines[-1] += f" ({block.removed} left out)"
        lines += _path_lines(block.paths) + _patient_lines(metrics, name) + _baseline_lines(metrics, name, block.paths)
    lines += _calibration_lines(metrics) + _gate_lines(metrics.gate)
    lines += external_lines(metrics.external) + _robustness_lines(metrics.robustness)
    if metrics.headline is not None:
        lines += ["", worst[metrics.headline.protocol]] if metrics.headline.protocol in worst else []
        lowest = f"{metrics.headline.protocol}, by {metrics.headline.by}"
        lines += ["", f"headline, the most pessimistic protocol that ran: {lowest}"]
    return "\n".join(lines)


def _patient_lines(metrics: Metrics, protocol: str) -> list[str]:
    """The predictor by patient, where patients are known and some have several slices."""
    found = metrics.by_patient.get(protocol)
    return _path_lines({"by patient": found}) if found is not None and found.n and found.several else []


def _robustness_lines(block: RobustnessMetrics | None) -> list[str]:
    """What changes of a scanner do, worst first: accuracy as a share of that on the same slices unchanged."""
    if block is None:
        return []
    head = f"robustness, {block.n} test slices changed in {len(block.changes)} ways at 5 severities"
    changes = sorted(block.changes.values(), key=lambda one: one.relative.value or 0.0)
    shown = [("accuracy left, of that unchanged", block.relative)]
    shown += [(f"  {one.title}", one.relative) for one in changes]
    lines = [f"  {title:<36} {describe_metric(relative)}" for title, relative in shown]
    return ["", head, *lines, *(f"  {title:<36} not measurable: {why}" for title, why in block.not_measurable.items())]


def external_lines(blocks: Mapping[str, ExternalMetrics]) -> list[str]:
    """External validation for the terminal: each corpus, its question, and the same question at home."""
    lines = []
    for name, block in blocks.items():
        asked, unit = " or ".join(block.alternatives), patients_word(block.groups_origin)
        lines += ["", f"{name}, external validation: {asked}? n = {block.n}, {block.n_groups} {unit}"]
        lines += _path_lines(block.paths)
        lines += [f"  left out: {clause}" for clause in left_out(block.overlap, block.classes)]
        if block.by_patient is not None and block.by_patient.n:
            lines += _path_lines({"by patient": block.by_patient})
        if block.own is not None and block.own.n:
            lines += _path_lines({"the same at home": block.own})
        if block.gate is not None:
            lines.append(f"  refused by the input gate    {describe_metric(block.gate.refused)}")
    return lines


def _path_lines(paths: Mapping[str, ClassificationMetrics]) -> list[str]:
    return [
        f"  {PATH_TITLES.get(path, path):17} {name.replace('_', ' '):18} {describe_metric(getattr(block, name))}"
        for path, block in paths.items()
        for name in SHOWN
    ]


def _baseline_lines(metrics: Metrics, protocol: str, paths: Mapping[str, PathMetrics]) -> list[str]:
    block = metrics.baselines.get(protocol)
    return [] if block is None else describe_baselines(block, paths[PREDICTOR], title="our predictor").splitlines()


def _gate_lines(gate: GateMetrics | None) -> list[str]:
    """What the input gate does to the split, or why there is none."""
    if gate is None or gate.refused is None or gate.doubtful is None:
        return ["", f"no input gate: {gate.rule.reason}"] if gate is not None and gate.rule.reason else []
    refused, doubtful = describe_metric(gate.refused), describe_metric(gate.doubtful)
    return ["", "input gate, share of this split's slices", f"  refused   {refused}", f"  doubtful  {doubtful}"]


def _calibration_lines(metrics: Metrics) -> list[str]:
    lines = []
    if (calibration := metrics.calibration) is not None:
        fitted = f"temperature {calibration.temperature:.3f} from {calibration.n_validation} validation images"
        lines += ["", f"calibration, {fitted}"]
        lines.append(f"  calibration error before {describe_metric(calibration.before.ece)}")
        lines.append(f"  calibration error after  {describe_metric(calibration.after.ece)}")
    patients = metrics.by_patient.get(metrics.protocol)
    if patients is not None and patients.several and patients.calibration is not None:
        lines.append(f"  calibration error by patient {describe_metric(patients.calibration.ece)}")
    if (conformal := metrics.conformal) is None:
        return lines
    if conformal.rule.reason:
        return [*lines, f"  no sets of classes are promised: {conformal.rule.reason}"]
    return lines + [
        f"  sets that are to hold the true class {100 * found.nominal:g} % of times, {name}: "
        f"coverage {describe_metric(found.coverage)}, size {describe_metric(found.mean_size)}"
        for name, found in conformal.coverages.items()
    ]
