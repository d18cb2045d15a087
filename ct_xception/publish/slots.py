"""What goes into the named slots of model_card.md: sentences and tables, each from the checkpoint's own files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ct_xception.publish import tables
from ct_xception.publish.evidence import Evidence
from ct_xception.publish.tables import code, plain
from ct_xception.wording import RESEARCH_USE

PATHS = {"predictor": "ct-xception predictor", "stock_pipeline": "stock `pipeline()`"}
_PROTOCOLS = {"published": "the corpus's own split", "made": "a random split by ct-xception that keeps groups whole"}
_FIGURES = {
    "confusion_matrix.png": "Confusion matrix of the ct-xception predictor on the test split",
    "roc.png": "ROC curves of the ct-xception predictor, each class against the rest, with AUROC and interval",
    "curves.png": "Accuracy and loss by epoch on the training and validation splits",
    "examples.png": "Examples of the test split with predictions",
}


def card_slots(evidence: Evidence, *, repo_id: str, license: str) -> dict[str, Any]:
    """Every slot of the template but the YAML header."""
    metrics, config = evidence.metrics, evidence.config
    names = config["label_names"]
    return {
        "title": f"Xception for CT slices: {plain(corpus_name(evidence))}",
        "research_use": RESEARCH_USE,
        "class_count": len(names),
        "class_list": ", ".join(plain(name) for name in names),
        "architecture": config["architecture"],
        "image_size": config["pretrained_cfg"]["input_size"][-1],
        "corpus_name": plain(corpus_name(evidence)),
        "initial_weights": _initial_weights(evidence),
        "repo_id": repo_id,
        "license": license,
        "command": str(evidence.provenance.get("command", "(not recorded)")).replace("`", "'"),
        "confidence": f"{100 * metrics['intervals']['confidence']:.0f} %",
        "input_steps": _input_steps(evidence),
        "image_statement": _image_statement(metrics),
        **_figure_slots(evidence),
        "training_table": tables.pairs_table(_training_rows(evidence)),
        "limits": "\n".join(f"- {limit}" for limit in _limits(evidence)),
        "provenance_table": tables.pairs_table(_provenance_rows(evidence)),
    }


def _figure_slots(evidence: Evidence) -> dict[str, Any]:
    metrics = evidence.metrics
    ours = metrics["paths"].get("predictor", {"n": 0})
    return {
        "protocol": f"{plain(str(metrics['protocol']))} protocol",
        "protocol_statement": _PROTOCOLS.get(metrics["protocol"], "a split of the corpus's user"),
        "test_size": _test_size(evidence),
        "group_statement": _group_statement(evidence),
        "headline_table": tables.overall_table({PATHS[path]: block for path, block in metrics["paths"].items()}),
        "path_statement": " ".join([_path_statement(evidence), *_refusals(metrics)]),
        "class_table": tables.class_table(ours) if ours["n"] else "No file was read.",
        "interval_statement": tables.interval_statement(ours, metrics["intervals"]["resamples"]) if ours["n"] else "",
        "figures": "\n\n".join(f"![{_FIGURES[name]}](evaluation/{name})" for name in metrics["figures"]),
    }


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


def _groups_known(evidence: Evidence) -> bool:
    """Whether the corpus said which images are of one patient."""
    groups = evidence.provenance.get("corpus", {}).get("groups", {})
    return bool(groups.get("origin"))


def _test_size(evidence: Evidence) -> str:
    metrics = evidence.metrics
    return f"{metrics['n']:,} images" + (f" of {metrics['n_groups']:,} groups" if _groups_known(evidence) else "")


def _group_statement(evidence: Evidence) -> str:
    if not _groups_known(evidence):
        return "The corpus does not say which images are of one patient: each counts as a patient of its own."
    origin = plain(str(evidence.provenance["corpus"]["groups"]["origin"]))
    return f"Groups (patients or series) are known from {origin}, and the intervals keep them whole."


def _path_statement(evidence: Evidence) -> str:
    if "stock_pipeline" not in evidence.metrics["paths"]:
        return "Stock `pipeline()` was not measured."
    return (
        f"The ct-xception predictor {_input_steps(evidence)} first. Stock `pipeline()` saw the untouched files, "
        "squashed to a square with whatever surrounds the body."
    )


def _refusals(metrics: Mapping[str, Any]) -> list[str]:
    """A sentence for each path that could not read some files, with the commonest reasons."""
    sentences = []
    for path, block in metrics["paths"].items():
        reasons = [refusal["reason"].removeprefix(f"{refusal['source']}: ") for refusal in block["refused"]]
        commonest = sorted(set(reasons), key=lambda reason: (-reasons.count(reason), reason))[:3]
        told = "; ".join(plain(reason.rstrip(".")) for reason in commonest)
        number = "1 file" if len(reasons) == 1 else f"{len(reasons):,} files"
        sentences += [f"Refused by the {PATHS[path]}, and not in its n: {number} ({told})."] if reasons else []
    return sentences


def _image_statement(metrics: Mapping[str, Any]) -> str:
    if "examples.png" in metrics["figures"]:
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
        ("Split", code(metrics["split_hash"])),
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
        "Probabilities are the network's own: whether they are calibrated was not measured.": (
            evidence.side.get("temperature", 1.0) == 1.0
        ),
        "Stock `pipeline()` reads 8-bit pictures only, and knows neither body crop nor DICOM.": True,
    }
    return [limit for limit, holds in stands.items() if holds]
