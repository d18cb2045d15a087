"""What goes into the named slots of model_card.md: sentences and tables, each from the checkpoint's own files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ct_xception.checkpoint import CONFUSION, CURVES, EXAMPLES, RELIABILITY, ROC, evaluated
from ct_xception.corpus.split import PSEUDO_PATIENTS
from ct_xception.publish import tables
from ct_xception.publish.checklists import checklist_slots
from ct_xception.publish.evidence import Evidence
from ct_xception.publish.explanation_text import explanation_slots
from ct_xception.publish.export_text import export_slots
from ct_xception.publish.lineage import lineage_slots
from ct_xception.publish.reliability import reliability_slots
from ct_xception.publish.results import result_slots
from ct_xception.publish.tables import code, plain
from ct_xception.text import RESEARCH_USE

_FIGURES = {
    CONFUSION: "Confusion matrix of the ct-xception predictor on the test split",
    ROC: "ROC curves of the ct-xception predictor, each class against the rest, with AUROC and interval",
    CURVES: "Accuracy and loss by epoch on the training and validation splits",
    RELIABILITY: "Reliability diagram: how often the network is right against how sure it is, before and after scaling",
    EXAMPLES: "Hits and the surest mistakes of the test split, with the network's answers",
}


def card_slots(evidence: Evidence, *, repo_id: str, license: str) -> dict[str, Any]:
    """Every slot of the template but the YAML header."""
    slots = {
        **_model_slots(evidence),
        **_corpus_slots(evidence),
        **result_slots(evidence),
        **reliability_slots(evidence),
        **explanation_slots(evidence),
        **lineage_slots(evidence),
        **export_slots(evidence),
        **{name.removesuffix(".png"): _figure(evidence, name) for name in _FIGURES if name != EXAMPLES},
        "mistakes_pictures": _mistakes_pictures(evidence),
        "confidence": f"{100 * evidence.metrics['intervals']['confidence']:.0f} %",
        "research_use": RESEARCH_USE,
        "repo_id": repo_id,
        "license": license,
        "training_table": tables.pairs_table(_training_rows(evidence)),
        "limits": "\n".join(f"- {limit}" for limit in _limits(evidence)),
        "provenance_table": tables.pairs_table(_provenance_rows(evidence)),
    }
    return slots | checklist_slots(evidence, slots)


def _model_slots(evidence: Evidence) -> dict[str, Any]:
    config, provenance = evidence.config, evidence.provenance
    names = config["label_names"]
    return {
        "title": f"Xception for CT slices: {plain(corpus_name(evidence))}",
        "class_count": len(names),
        "class_list": ", ".join(plain(name) for name in names),
        "architecture": config["architecture"],
        "image_size": config["pretrained_cfg"]["input_size"][-1],
        "initial_weights": _initial_weights(evidence),
        "command": str(provenance.get("command", "(not recorded)")).replace("`", "'"),
        "input_steps": _input_steps(evidence),
        "weights": code(evidence.metrics["weights_sha256"][:12]),
    }


def _corpus_slots(evidence: Evidence) -> dict[str, Any]:
    sizes = evidence.metrics.get("split_sizes", {})
    return {
        "corpus_name": plain(corpus_name(evidence)),
        "group_statement": _group_statement(evidence),
        "disjoint_statement": _disjoint_statement(evidence),
        "sizes": ", ".join(f"{name} {count:,}" for name, count in sizes.items()),
        "image_statement": _image_statement(evidence.metrics),
    }


def _figure(evidence: Evidence, name: str) -> str:
    """A figure of the evaluation as Markdown; nothing where it was not drawn."""
    return f"![{_FIGURES[name]}]({evaluated(name)})" if name in evidence.metrics["figures"] else ""


def corpus_name(evidence: Evidence) -> str:
    """What to call the corpus: a Hub id whole, of a folder or file the last part: paths are nobody's business."""
    corpus = evidence.provenance.get("corpus", {})
    source = str(corpus.get("source", "an unnamed corpus"))
    if corpus.get("kind") in ("hub", "phantom"):
        return source
    return re.split(r"[/\\]", source.rstrip("/\\"))[-1]


def _initial_weights(evidence: Evidence) -> str:
    begun = str(evidence.provenance.get("initial_weights", ""))
    return "begun from random weights" if begun in ("random", "none", "") else f"begun from the weights {code(begun)}"


def _input_steps(evidence: Evidence) -> str:
    stated = evidence.side.get("input", {})
    steps = ["crops each slice to the body"] if stated.get("body_crop", True) else []
    steps += [f"filters it ({', '.join(stated['filters'])})"] if stated.get("filters") else []
    return " and ".join(steps) or "prepares each slice"


def _groups_origin(evidence: Evidence) -> str:
    """Where it is known from which images are of one patient; empty where it is not."""
    known = evidence.provenance.get("corpus", {}).get("groups", {}).get("origin")
    return plain(str(known or evidence.protocols.get("grouped", {}).get("groups_origin") or ""))


def _groups_known(evidence: Evidence) -> bool:
    """Whether the corpus said which images are of one patient; look-alikes that were grouped are only a guess."""
    return bool(_groups_origin(evidence)) and not _groups_origin(evidence).startswith(PSEUDO_PATIENTS)


def _group_statement(evidence: Evidence) -> str:
    origin = _groups_origin(evidence)
    if not origin:
        return "The corpus does not say which images are of one patient: each counts as a patient of its own."
    if not _groups_known(evidence):
        return (
            "The corpus does not say which images are of one patient: look-alike slices count as one patient, and the "
            "intervals keep them whole."
        )
    return f"Groups (patients or series) are known from {origin}, and the intervals keep them whole."


def _disjoint_statement(evidence: Evidence) -> str:
    crossing = evidence.provenance.get("split", {}).get("crossing_groups", 0)
    if not _groups_origin(evidence):
        return "images only: patients are not known"
    level = "groups" if _groups_known(evidence) else "pseudo-patients (look-alike slices)"
    return f"{level}, but {crossing:,} of them lie in two splits" if crossing else level


def _mistakes_pictures(evidence: Evidence) -> str:
    return _figure(evidence, EXAMPLES) or "No picture of the corpus is published, so there is no gallery of mistakes."


def _image_statement(metrics: Mapping[str, Any]) -> str:
    if EXAMPLES in metrics["figures"]:
        return "the examples above show images of the corpus"
    return "none of its images is in this repository"


def _training_rows(evidence: Evidence) -> list[tuple[str, str]]:
    provenance, stated = evidence.provenance, evidence.side.get("input", {})
    sizes = evidence.metrics.get("split_sizes", {})
    window = stated.get("window")
    rows = [
        ("Corpus", plain(corpus_name(evidence))),
        ("Images", ", ".join(f"{name} {count:,}" for name, count in sizes.items())),
        ("First weights", code(str(provenance.get("initial_weights", "")))),
        ("Body crop", "yes" if stated.get("body_crop", True) else "no"),
        ("Filters", ", ".join(stated.get("filters", []))),
        ("Window for 16-bit and DICOM input", f"{window['centre']:g}/{window['width']:g} HU" if window else ""),
        ("Epochs", _epochs(provenance)),
        ("Training time", f"{provenance['train_seconds'] / 60:.1f} minutes" if "train_seconds" in provenance else ""),
        ("Seed", str(provenance.get("seed", ""))),
        ("Date", str(provenance.get("date", ""))),
    ]
    return [row for row in rows if row[1]]


def _epochs(provenance: Mapping[str, Any]) -> str:
    text = str(provenance.get("epochs", ""))
    if "best_epoch" in provenance:
        text += f"; the weights of epoch {provenance['best_epoch']} were kept"
        text += f" ({provenance['selected_by']})" if "selected_by" in provenance else ""
    return plain(text)


def _provenance_rows(evidence: Evidence) -> list[tuple[str, str]]:
    provenance, metrics = evidence.provenance, evidence.metrics
    versions = provenance.get("versions", {})
    rows = [
        ("Weights (SHA-256)", code(metrics["weights_sha256"])),
        *((f"Split, {plain(name)}", code(block["split_hash"] or "")) for name, block in evidence.protocols.items()),
        ("Corpus (SHA-256)", code(provenance.get("corpus", {}).get("hash", ""))),
        ("Versions", plain(", ".join(f"{name} {version}" for name, version in versions.items()))),
    ]
    return [row for row in rows if row[1]]


def _limits(evidence: Evidence) -> list[str]:
    """What is known to stand against the figures: from the corpus, the split, the input and the evaluation itself."""
    metrics, corpus = evidence.metrics, evidence.provenance.get("corpus", {})
    ours = metrics["paths"].get("predictor", {"n": 0})
    crossing = evidence.provenance.get("split", {}).get("crossing_groups", 0)
    absent = [plain(name) for name, count in ours.get("support", {}).items() if count == 0]
    stands = {
        "The corpus is a procedural phantom: its figures show that the software works, and nothing about real CT.": (
            corpus.get("kind") == "phantom"
        ),
        "All figures come from one corpus; other scanners, windows, kernels and populations were not tried.": True,
        "Without patient identifiers, slices of one patient may stand in training and test: then the figures are "
        "too high and their intervals too narrow.": not _groups_known(evidence),
        f"{crossing} groups lie in two of the corpus's own splits: the figures are too high by an unknown amount.": (
            crossing > 0
        ),
        **{f"Corpus: {plain(str(note).rstrip('.'))}.": True for note in corpus.get("notes", [])},
        f"The test split holds no {', '.join(absent)}: nothing is known about recognising it.": bool(absent),
        "An earlier version was imported, and which images that one was trained on is not known: test images among "
        "them make the figures too high.": any("imported" in entry for entry in evidence.provenance.get("lineage", [])),
        "Probabilities are the network's own: whether they are calibrated was not measured.": (
            not metrics.get("calibration")
        ),
        "Cross-validation by group was not run: what is left when no patient is on both sides is unknown.": (
            "grouped" not in evidence.protocols and (crossing > 0 or not _groups_known(evidence))
        ),
        "Stock `pipeline()` reads 8-bit pictures only, and knows neither body crop nor DICOM.": True,
    }
    return [limit for limit, holds in stands.items() if holds]
