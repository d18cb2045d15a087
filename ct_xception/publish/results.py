"""What the card says was measured: the headline, protocols beside simple rules, classes, both ways of asking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ct_xception.publish import tables
from ct_xception.publish.evidence import Evidence
from ct_xception.publish.tables import figure_text, plain, points_text

PATHS = {"predictor": "ct-xception predictor", "stock_pipeline": "stock `pipeline()`"}
_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def result_slots(evidence: Evidence) -> dict[str, Any]:
    """The slots of the card's first lines and of its section on figures."""
    headline = evidence.protocols[evidence.headline]["paths"]["predictor"]
    return {
        "headline": headline_statement(evidence),
        "baseline_statement": baseline_statement(evidence),
        "protocol_table": protocol_table(evidence),
        "protocol_statement": protocol_statement(evidence),
        "headline_protocol": protocol_title(evidence, evidence.headline),
        "class_table": tables.class_table(headline),
        "interval_statement": tables.interval_statement(headline, evidence.metrics["intervals"]["resamples"]),
        "baseline_table": baseline_table(evidence),
        "baseline_skipped": _skipped(evidence),
        "path_table": path_table(evidence),
        "own_protocol": protocol_title(evidence, evidence.metrics["protocol"]),
        "path_refusals": " ".join(_refusals(evidence.metrics)),
        "question_table": question_table(evidence),
    }


def protocol_title(evidence: Evidence, name: str) -> str:
    """What was tested on under a protocol, in words."""
    block = evidence.protocols[name]
    if name == "deduplicated":
        removed = block.get("removed", 0)
        images = "1 image that has" if removed == 1 else f"{removed:,} images that have"
        return f"the test split without the {images} a twin in training or validation"
    if name == "grouped":
        return f"{len(block['folds'])}-fold cross-validation with no group in two folds"
    return {"published": "the corpus's own test split", "made": "a random test split that keeps groups whole"}.get(
        name, f"the test split of protocol {plain(name)}"
    )


def headline_statement(evidence: Evidence) -> str:
    """The figure of the most pessimistic protocol, with its n and interval, and how many protocols were run."""
    block = evidence.protocols[evidence.headline]
    accuracy = block["paths"]["predictor"]["accuracy"]
    interval = "no interval"
    if accuracy["low"] is not None:
        confidence = f"{100 * evidence.metrics['intervals']['confidence']:.0f} %"
        interval = f"{confidence} interval {100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f}"
    count = len(evidence.protocols)
    rank = (
        "the only protocol that was run"
        if count == 1
        else f"the most pessimistic of the {_COUNTS[count] if count < len(_COUNTS) else count} protocols that were run"
    )
    drawn = evidence.provenance.get("corpus", {}).get("kind") == "phantom"
    nothing = " The images are drawn by a procedure (a phantom): this says nothing about real CT." if drawn else ""
    return (
        f"**Right on {100 * accuracy['value']:.1f} % of {accuracy['n']:,} images ({interval})** in "
        f"{protocol_title(evidence, evidence.headline)}: {rank}.{nothing}"
    )


def baseline_statement(evidence: Evidence) -> str:
    """Whether the model beats the best simple rule on the headline's images, by more than the interval."""
    block = evidence.metrics.get("baselines", {}).get(evidence.headline)
    if block is None:
        return "What simple rules score on the same images was not measured."
    best = f"the best simple rule ({_rule(block['best'])})"
    reached = figure_text("accuracy", block["figures"][block["best"]]["accuracy"])
    difference = points_text(block["difference"])
    if block["beats_best"]:
        return f"It beats {best}, which scores {reached} on the same images, by {difference}."
    worse = (block["difference"]["high"] or 0) < 0
    verdict = f"It is worse than {best}" if worse else f"It does not beat {best} by more than the interval"
    return f"**{verdict}**, which scores {reached} on the same images: the difference is {difference}."


def protocol_table(evidence: Evidence) -> str:
    """A row a protocol, the headline first: the model, the best simple rule, and the difference between the two."""
    order = sorted(evidence.protocols, key=lambda name: name != evidence.headline)
    heads = ["Protocol", "n", "Accuracy", "Balanced accuracy"]
    heads += ["Best simple rule", "Model − rule"] if evidence.metrics.get("baselines") else []
    return tables.markdown_table(heads, [_protocol_row(evidence, name) for name in order])


def _protocol_row(evidence: Evidence, name: str) -> list[str]:
    ours, every = evidence.protocols[name]["paths"]["predictor"], evidence.metrics.get("baselines")
    mark = "**" if name == evidence.headline else ""
    cells = [f"{mark}{plain(name)}{mark}: {protocol_title(evidence, name)}", f"{ours['n']:,}"]
    reached = [figure_text(figure, ours[figure]) for figure in ("accuracy", "balanced_accuracy") if ours["n"]]
    cells += reached or ["none", "none"]
    if not every:
        return cells
    if name not in every:
        return [*cells, "not measured", "not measured"]
    rules = every[name]
    best = figure_text("accuracy", rules["figures"][rules["best"]]["accuracy"])
    return [*cells, f"{best}, {_rule(rules['best'])}", points_text(rules["difference"])]


def protocol_statement(evidence: Evidence) -> str:
    """What one must know of the protocols to read the table."""
    said = []
    grouped = evidence.metrics.get("protocols", {}).get("grouped")
    if grouped:
        origin = plain(str(grouped.get("groups_origin") or "those of the corpus"))
        said.append(
            f"Cross-validation measures the recipe: {len(grouped['folds'])} other networks, trained as this one was, "
            f"each answered the images of the fold that it had not seen. Its groups: {origin}."
        )
    missing = [name for name in ("deduplicated", "grouped") if name not in evidence.protocols]
    if missing:
        said.append(f"Not run: {' and '.join(missing)}.")
    return " ".join(said)


def baseline_table(evidence: Evidence) -> str:
    """The model among the simple rules on the headline's images, best first; nothing where none was run."""
    block = evidence.metrics.get("baselines", {}).get(evidence.headline)
    if block is None:
        return ""
    ours = evidence.protocols[evidence.headline]["paths"]["predictor"]
    rows = [("**this model**", ours)] + [(_rule(name), figures) for name, figures in block["figures"].items()]
    rows.sort(key=lambda row: -row[1]["accuracy"]["value"])
    names = ("accuracy", "balanced_accuracy", "macro_f1")
    return tables.markdown_table(
        ["", *(tables.OVERALL[name] for name in names)],
        [[title, *(figure_text(name, figures[name]) for name in names)] for title, figures in rows],
    )


def _skipped(evidence: Evidence) -> str:
    skipped = evidence.metrics.get("baselines", {}).get(evidence.headline, {}).get("skipped", {})
    return "".join(f"Not run: {_rule(name)} ({plain(str(why).rstrip('.'))}). " for name, why in skipped.items()).strip()


def _rule(name: str) -> str:
    from ct_xception.evaluation.baselines import BASELINE_TITLES

    return plain(BASELINE_TITLES.get(name, name))


def path_table(evidence: Evidence) -> str:
    """The network's own test split, asked through our predictor and through stock `pipeline()`; a column each."""
    paths = evidence.metrics["paths"]
    return tables.overall_table({PATHS[path]: block for path, block in paths.items()}) if len(paths) > 1 else ""


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


def question_table(evidence: Evidence) -> str:
    """A row a question on the headline's images: which group, and which class within it. Nothing without groups."""
    from ct_xception.statistics.class_groups import partition_classes

    block = evidence.metrics.get("questions", {}).get(evidence.headline)
    if block is None:
        return ""
    groups = partition_classes(evidence.metrics["class_groups"], evidence.metrics["label_names"])
    asked = {f"{_alternatives(groups)}?": block["groups"]}
    asked |= {f"If {plain(name)}: {_alternatives(groups[name])}?": found for name, found in block["within"].items()}
    names = ("accuracy", "balanced_accuracy", "macro_auroc")
    rows = [
        [title, f"{found['n']:,}", *(figure_text(name, found[name]) if found["n"] else "none" for name in names)]
        for title, found in asked.items()
    ]
    return tables.markdown_table(["Question", "n", *(tables.OVERALL[name] for name in names)], rows)


def _alternatives(names: Iterable[str]) -> str:
    """`a, b or c`, with a capital only where the name has one."""
    *first, last = map(plain, names)
    return f"{', '.join(first)} or {last}" if first else last
