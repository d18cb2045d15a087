"""What the card says of trust: findings of the audit, calibration, prediction sets, operating points, mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ct_xception.publish import tables
from ct_xception.publish.evidence import Evidence
from ct_xception.publish.results import protocol_title
from ct_xception.publish.tables import figure_text, plain
from ct_xception.text import percent

CALIBRATION = {
    "ece": "Expected calibration error, fixed bins",
    "adaptive_ece": "Expected calibration error, adaptive bins",
    "brier": "Brier score",
    "log_loss": "Log-loss",
}
_SHOWN_FINDINGS, _SHOWN_POINTS = 6, 8


def reliability_slots(evidence: Evidence) -> dict[str, Any]:
    """The slots of the card's sections on trust; a section's slot is empty where it was not measured."""
    return {
        "findings_statement": findings_statement(evidence),
        "findings": findings_lists(evidence)[0],
        "lesser_findings": findings_lists(evidence)[1],
        "leaks": leaks(evidence),
        "calibration_statement": calibration_statement(evidence),
        "calibration_table": calibration_table(evidence),
        "sets_statement": sets_statement(evidence),
        "sets_table": sets_table(evidence),
        "operating_table": operating_table(evidence),
        "operating_statement": operating_statement(evidence),
        "abstention_statement": abstention_statement(evidence),
        "answers_statement": answers_statement(evidence),
        "gate_statement": gate_statement(evidence),
        "gate_table": gate_table(evidence),
        "mistakes_statement": mistakes_statement(evidence),
        "mistakes_table": mistakes_table(evidence),
    }


def findings_of(evidence: Evidence) -> list[Mapping[str, Any]]:
    """The audit's findings, the gravest first."""
    order = {"critical": 0, "warning": 1, "note": 2}
    found = (evidence.audit or {}).get("findings", [])
    return sorted(found, key=lambda finding: order.get(finding["severity"], len(order)))


def findings_statement(evidence: Evidence) -> str:
    """How many leaks, shortcuts and oddities the audit found, and whether any is a leak; or that nobody looked."""
    if evidence.audit is None:
        return "The corpus was not audited: whether it holds leaks or shortcuts is unknown."
    found = findings_of(evidence)
    if not found:
        return "The audit of the corpus found no duplicate, leak, shortcut or foreign image."
    counts = {level: sum(f["severity"] == level for f in found) for level in ("critical", "warning", "note")}
    told = [
        f"{number} {level}{'s' if number != 1 and level != 'critical' else ''}"
        for level, number in counts.items()
        if number
    ]
    trust = " **Figures on its own splits are not to be trusted as they are.**" if leaks(evidence) else ""
    return f"The audit of the corpus has {len(found):,} finding{'s' * (len(found) != 1)} ({', '.join(told)}).{trust}"


def leaks(evidence: Evidence) -> bool:
    """Whether the audit found something of the test set in what came before it."""
    return bool((evidence.audit or {}).get("leaks"))


def findings_lists(evidence: Evidence) -> tuple[str, str]:
    """The gravest findings, a line each, and the others."""
    found = findings_of(evidence)
    shown = [finding for finding in found if finding["severity"] != "note"][:_SHOWN_FINDINGS]
    lines = [f"- **{finding['severity']}**: {plain(str(finding['title']))}" for finding in found]
    return "\n".join(lines[: len(shown)]), "\n".join(lines[len(shown) :])


def calibration_statement(evidence: Evidence) -> str:
    """What the temperature was fitted on and where it is; empty where calibration was not measured."""
    block = evidence.metrics.get("calibration")
    if not block:
        return ""
    return (
        f"One temperature ({block['temperature']:.3f}), fitted on the {block['n_validation']:,} validation images and "
        "folded into the weights: stock `pipeline()` is scaled by it too. Measured on "
        f"{protocol_title(evidence, evidence.metrics['protocol'])}:"
    )


def calibration_table(evidence: Evidence) -> str:
    """Calibration figures before and after scaling."""
    block = evidence.metrics.get("calibration")
    if not block:
        return ""
    heads = ["", *(f"{title} (n = {block[part]['ece']['n']:,})" for part, title in _PARTS.items())]
    rows = [[title, *(figure_text(name, block[part][name]) for part in _PARTS)] for name, title in CALIBRATION.items()]
    return tables.markdown_table(heads, rows)


_PARTS = {"before": "Before scaling", "after": "After scaling, as published"}


def sets_statement(evidence: Evidence) -> str:
    """What a prediction set promises, and where that promise was seen to fail."""
    block = evidence.metrics.get("conformal")
    if not block:
        return ""
    rule = block["rule"]
    if rule["threshold"] is None:
        return f"No set is promised: {plain(str(rule.get('reason', 'too few validation images')))}."
    return " ".join(
        [
            f"The predictor can give a set of classes meant to hold the true one in {100 * rule['coverage']:.0f} % of "
            f"cases (conformal prediction, {plain(rule['method'].upper())}, {rule['n']:,} validation images). "
            "That needs new images to be exchangeable with those, and fails for other scanners, framings or mixes of "
            "classes.",
            *([_CROSSING] if rule.get("unit") == "item" else []),
            *(_exchangeability(evidence, name, block[name]) for name in evidence.protocols if name in block),
        ]
    ).strip()


_CROSSING = (
    "Validation shares patients, or look-alike slices, with the other splits: the promise is for an image drawn as "
    "validation's were, and not for a new patient's."
)


def _exchangeability(evidence: Evidence, name: str, found: Mapping[str, Any]) -> str:
    """A sentence where the measured coverage is below what was promised, or not what exchangeable images would give."""
    coverage, expected = found["coverage"], found["expected"]
    below = coverage["high"] is not None and coverage["high"] < found["nominal"]
    if found["within_expected"] is not False and not below:
        return ""
    given = ""
    if expected:
        given = f"; exchangeable images would give {100 * expected['low']:.1f} to {100 * expected['high']:.1f} %"
    return (
        f"**It fails in {protocol_title(evidence, name)}**: the coverage is {figure_text('coverage', coverage)}{given}."
    )


def sets_table(evidence: Evidence) -> str:
    """Measured coverage and mean set size, a row a protocol."""
    block = evidence.metrics.get("conformal") or {}
    if not block or block["rule"]["threshold"] is None:
        return ""
    rows = [
        [
            plain(name),
            f"{block[name]['coverage']['n']:,}",
            figure_text("coverage", block[name]["coverage"]),
            figure_text("mean_size", block[name]["mean_size"]),
        ]
        for name in evidence.protocols
        if name in block
    ]
    return tables.markdown_table(["Protocol", "n", "Coverage", "Mean set size (classes)"], rows) if rows else ""


def operating_table(evidence: Evidence) -> str:
    """Sensitivity and specificity on the test split at the thresholds that validation chose."""
    rows = [
        [
            plain(str(point["name"])),
            f"{point['threshold']:.3f}",
            figure_text("sensitivity", point["sensitivity"]),
            figure_text("specificity", point["specificity"]),
        ]
        for point in _shown_points(evidence)
    ]
    heads = ["Yes to, chosen for", "Threshold", "Sensitivity", "Specificity"]
    return tables.markdown_table(heads, rows) if rows else ""


def _shown_points(evidence: Evidence) -> list[Mapping[str, Any]]:
    """The points of the class groups, or of the classes where there are no groups."""
    points = evidence.metrics.get("operating_points") or []
    return [point for point in points if point["kind"] == "group"] or points[:_SHOWN_POINTS]


def operating_statement(evidence: Evidence) -> str:
    """Where the thresholds come from, and how many are not shown."""
    rest = len(evidence.metrics.get("operating_points") or []) - len(_shown_points(evidence))
    return (
        "Thresholds were chosen on the validation images; sensitivity and specificity are measured on "
        f"{protocol_title(evidence, evidence.metrics['protocol'])}."
        + (f" {rest} more are in [`evaluation/metrics.json`](evaluation/metrics.json)." if rest > 0 else "")
    )


def abstention_statement(evidence: Evidence) -> str:
    """What abstaining gives on the test split; empty where there is no such rule."""
    block = evidence.metrics.get("abstention")
    if not block:
        return ""
    return (
        f"Below a probability of {block['threshold']:.3f} of its first class the predictor abstains. On "
        f"that split it answers {figure_text('coverage', block['answered'])} of the images, and is right on "
        f"{figure_text('accuracy', block['accuracy'])} of those."
    )


def answers_statement(evidence: Evidence) -> str:
    """Which inputs get an answer, though they belong to no class."""
    if "refused" not in evidence.metrics.get("gate", {}):
        return "Every input gets an answer from the classes above, also one that belongs to none of them."
    return (
        "A slice that shows something else gets an answer from the classes above; so does every picture from stock "
        "`pipeline()`, where the ct-xception predictor refuses what is unlike training ([input gate](#input-gate))."
    )


def gate_statement(evidence: Evidence) -> str:
    """What the input gate looks at and what it was fitted on, or why there is none; empty where nobody tried."""
    rule = evidence.metrics.get("gate", {}).get("rule")
    if not rule:
        return ""
    if rule["method"] is None:
        return f"There is none: {plain(str(rule['reason']))}."
    method, trained, chosen = plain(rule["method"].title()), rule["fitted_on"]["n"], rule["limits_from"]["n"]
    return (
        "Before it answers, the predictor asks whether a file is a slice such as those of training: by its size, its "
        "colours, the outline of body and lungs, modality and window where the file tells them, and how far the "
        f"network's features lie from those of {trained:,} training images ({method} distance; limits from {chosen:,} "
        "validation images). What it refuses gets the reason instead of an answer; what is doubtful gets both. It "
        "compares, and knows no anatomy: a slice of another body region or protocol can pass."
    )


def gate_table(evidence: Evidence) -> str:
    """What the gate does to the images of the own test split."""
    block = evidence.metrics.get("gate", {})
    if "refused" not in block:
        return ""
    title = protocol_title(evidence, evidence.metrics["protocol"])
    rows = [[name, f"{block[name]['n']:,}", figure_text("coverage", block[name])] for name in ("refused", "doubtful")]
    return tables.markdown_table([f"On {title}", "n", "Share"], [[row[0].capitalize(), *row[1:]] for row in rows])


def mistakes_statement(evidence: Evidence) -> str:
    """How many answers of the headline protocol are wrong, and how sure the network was of them."""
    table = _predicted(evidence)
    wrong = int((table["label"] != table["predicted"]).sum())
    if not wrong:
        return f"None of the {len(table):,} answers in {protocol_title(evidence, evidence.headline)} is wrong."
    return (
        f"{wrong:,} of {len(table):,} answers in {protocol_title(evidence, evidence.headline)} "
        f"{'is' if wrong == 1 else 'are'} wrong. By the true class, the commonest wrong answer and the surest one:"
    )


def mistakes_table(evidence: Evidence) -> str:
    """A row a true class with mistakes: how many, the commonest wrong answer, and the surest with its probability."""
    table = _predicted(evidence)
    wrong = table[table["label"] != table["predicted"]]
    rows = []
    for label in evidence.metrics["label_names"]:
        own = wrong[wrong["label"] == label]
        if own.empty:
            continue
        common = own["predicted"].value_counts()
        first = min(common[common == common.max()].index)
        sure = own.loc[own[[f"p {name}" for name in evidence.metrics["label_names"]]].max(axis=1).idxmax()]
        rows.append(
            [
                plain(label),
                f"{len(own):,} of {int((table['label'] == label).sum()):,}",
                f"{plain(first)} ({int(common[first]):,})",
                f"{plain(sure['predicted'])}, at {percent(sure['p ' + sure['predicted']])}",
            ]
        )
    heads = ["True class", "Wrong", "Commonest wrong answer", "Surest wrong answer"]
    return tables.markdown_table(heads, rows) if rows else ""


def _predicted(evidence: Evidence) -> Any:
    rows = evidence.answers[evidence.headline]
    return rows[(rows["path"] == "predictor") & rows["refused"].isna()].reset_index(drop=True)
