"""Two checklists of the field, filled from the checkpoint's files: CLAIM (2024 update) and CHAI's applied model card.

Item titles are shortened. An item that nobody wrote an answer for into the files is said to be not available: a machine
does not know who read the scans, or whether patients agreed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ct_xception.publish import tables
from ct_xception.publish.evidence import Evidence
from ct_xception.publish.tables import plain

NO_EXTERNAL = "**No external validation**"
_FIGURES, _LIMITS, _USE, _TRAINING = "[Figures](#figures)", "[Limits](#limits)", "[Intended use](#intended-use)", (
    "[Training](#training)"
)  # fmt: skip
_EXPLAINED = "what speaks for and against some of them: [Heat maps](#heat-maps)"
_HANDLER = "code for Inference Endpoints (`handler.py`, `ct_xception/`), none of which transformers runs"
_PROVENANCE, _HIDES, _MISTAKES = "[Provenance](#provenance)", "[Leaks and shortcuts](#leaks-and-shortcuts)", (
    "[Mistakes](#mistakes)"
)  # fmt: skip

Item = tuple[str, str, str | None]  # number, short title, answer in Markdown or None


def checklist_slots(evidence: Evidence, slots: dict[str, Any]) -> dict[str, str]:
    """Both checklists as Markdown; `slots` are the card's other slots, which they point to or repeat."""
    return {
        "claim_checklist": _render(claim_items(evidence, slots)),
        "chai_checklist": _render(chai_items(evidence, slots)),
    }


def _render(items: Sequence[Item]) -> str:
    answered = [[f"{number} {title}".strip(), answer] for number, title, answer in items if answer is not None]
    silent = [f"{number} {title}".strip() for number, title, answer in items if answer is None]
    table = tables.markdown_table(["Item", "Answer"], answered)
    return f"{table}\n\nNot available from the checkpoint's files: {'; '.join(silent)}."


def claim_items(evidence: Evidence, slots: dict[str, Any]) -> list[Item]:
    """The 44 items of CLAIM (Tejani et al. 2024)."""
    return [*_claim_design(evidence, slots), *_claim_methods(evidence, slots), *_claim_results(evidence, slots)]


def _claim_design(evidence: Evidence, slots: dict[str, Any]) -> list[Item]:
    phantom = evidence.provenance.get("corpus", {}).get("kind") == "phantom"
    return [
        ("1", "kind of AI", f"deep learning: a convolutional network, `{slots['architecture']}`"),
        ("2", "summary", "the first lines of this card"),
        ("3", "background, intended role", _USE),
        ("4", "aims and hypotheses", None),
        ("5", "prospective or retrospective", "neither: drawn images" if phantom else "retrospective: existing files"),
        ("6", "goal", "a network for research, and a measurement of how far it can be trusted"),
        ("7", "data sources", slots["corpus_name"]),
        ("8", "inclusion and exclusion", "every image of the corpus that can be read; its own criteria are not known"),
        ("9", "preprocessing", f"ct-xception {slots['input_steps']}"),
        ("10", "data subsets", _subsets(evidence)),
        ("11", "de-identification", "no patients" if phantom else None),
        ("12", "missing data", slots["path_refusals"] or "no file was refused"),
        ("13", "image acquisition", "drawn by a procedure" if phantom else None),
        ("14", "how the reference standard was obtained", "known by construction" if phantom else None),
        ("15", "why that reference standard", "it is exact" if phantom else None),
        ("16", "who annotated", "nobody had to" if phantom else None),
        ("17", "annotation of the test set", "as above" if phantom else None),
        ("18", "variability between annotators", "none" if phantom else None),
    ]


def _subsets(evidence: Evidence) -> str:
    removed = evidence.protocols.get("deduplicated", {}).get("removed")
    return "none" if removed is None else f"protocol deduplicated: {removed:,} images with a twin left out"


def _claim_methods(evidence: Evidence, slots: dict[str, Any]) -> list[Item]:
    provenance, explained = evidence.provenance, "explanations" in evidence.metrics
    chosen = f"epoch {provenance['best_epoch']} of {provenance['epochs']}" if "best_epoch" in provenance else None
    if chosen and "selected_by" in provenance:
        chosen += f", {plain(str(provenance['selected_by']))}"
    return [
        ("19", "assignment to partitions", slots["own_protocol"]),
        ("20", "level at which partitions are disjoint", slots["disjoint_statement"]),
        ("21", "intended sample size", "none was set: all images of the test split"),
        ("22", "model", f"`{slots['architecture']}`, {slots['image_size']} pixels, {slots['class_count']} classes"),
        ("23", "software", _PROVENANCE),
        ("24", "first weights", slots["initial_weights"]),
        ("25", "training", _TRAINING),
        ("26", "choice of the final model", chosen),
        ("27", "ensembling", "none"),
        ("28", "metrics", _FIGURES),
        ("29", "uncertainty", f"intervals beside every figure: {_FIGURES}"),
        ("30", "robustness", f"{len(evidence.protocols)} protocols, and two ways of asking: {_FIGURES}"),
        ("31", "explanation", f"heat maps by `ct-xception explain`; {_EXPLAINED if explained else 'none was checked'}"),
        ("32", "internal testing", slots["headline_protocol"]),
        ("33", "external testing", NO_EXTERNAL),
        ("34", "trial registration", "not applicable"),
    ]


def _claim_results(evidence: Evidence, slots: dict[str, Any]) -> list[Item]:
    return [
        ("35", "numbers included and excluded", slots["sizes"] or None),
        ("36", "demographic and clinical characteristics", None),
        ("37", "performance and uncertainty", _FIGURES),
        ("38", "performance by class, with precision", _FIGURES),
        ("39", "failure analysis", _MISTAKES),
        ("40", "limitations", _LIMITS),
        ("41", "implications for practice", "none: research only"),
        ("42", "technical details", f"{_TRAINING}, {_PROVENANCE}"),
        ("43", "availability", f"weights here, licence `{slots['license']}`; the corpus has its own terms"),
        ("44", "funding", None),
    ]


def chai_items(evidence: Evidence, slots: dict[str, Any]) -> list[Item]:
    """The fields of CHAI's applied model card (Coalition for Health AI)."""
    date = evidence.provenance.get("date")
    return [
        ("", "Name", slots["title"]),
        ("", "Developer and contact", None),
        ("", "Release stage, date, version", f"research, {plain(str(date or 'undated'))}, weights {slots['weights']}"),
        ("", "Global availability", f"this repository, licence `{slots['license']}`"),
        ("", "Regulatory approval", "none"),
        ("", "Summary", "the first lines of this card"),
        ("", "Intended use and workflow", _USE),
        ("", "Primary intended users", "researchers and teachers of medical image analysis"),
        ("", "How to use", "[How to use](#how-to-use)"),
        ("", "Targeted patient population", "none: not for use on patients"),
        ("", "Cautioned out-of-scope settings", _USE),
        *_chai_warnings(slots),
        *_chai_facts(evidence, slots),
        *_chai_metrics(slots),
    ]


def _chai_warnings(slots: dict[str, Any]) -> list[Item]:
    return [
        ("", "Known risks and limitations", _LIMITS),
        ("", "Known biases, ethical considerations", f"{_HIDES}; subgroups of patients were not measured"),
        ("", "Clinical risk level", "not for clinical use"),
    ]


def _chai_facts(evidence: Evidence, slots: dict[str, Any]) -> list[Item]:
    code = _HANDLER if slots.get("handler") else "no code in this repository"
    return [
        ("", "Outcome and output", f"a probability for each of {slots['class_list']}"),
        ("", "Model type", f"convolutional network, `{slots['architecture']}`"),
        ("", "Foundation models", slots["initial_weights"]),
        ("", "Input data source and type", "one CT slice: an 8- or 16-bit picture, or DICOM with ct-xception"),
        ("", "Development data", _TRAINING),
        ("", "Bias mitigation", f"the predictor {slots['input_steps']}; coloured ink does not reach the network"),
        ("", "Ongoing maintenance", None),
        ("", "Security", f"{code}; a SHA-256 of every file in `ct_xception.json`"),
        ("", "Funding, stakeholders consulted", None),
        ("", "Third-party information", slots["corpus_name"]),
    ]


def _chai_metrics(slots: dict[str, Any]) -> list[Item]:
    reliability = [
        link
        for slot, link in (
            ("calibration_table", "[Calibration](#calibration)"),
            ("sets_statement", "[Prediction sets](#prediction-sets)"),
        )
        if slots[slot]
    ]
    return [
        ("", "Usefulness and efficacy", slots["headline"].replace("**", "")),
        ("", "Fairness and equity", "not measured: no attribute of patients is in the files"),
        ("", "Safety and reliability", ", ".join([*reliability, _MISTAKES])),
        ("", "Evaluation references", "[`evaluation/`](evaluation/metrics.json)"),
        ("", "Clinical trials, publications", "none"),
        ("", "Reimbursement", "not applicable"),
        ("", "Patient consent", None),
    ]
