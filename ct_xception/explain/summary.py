"""An explanation in words and in JSON, the same for the terminal, the page and a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ct_xception.explain.methods import METHODS

if TYPE_CHECKING:
    from ct_xception.explain.explain import Explanation


def explanation_record(explanation: Explanation, found: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A map as JSON takes it, without its pixels: how it was made, its regions, what it lies on, and its evidence.

    `found` is what `faithfulness.evidence` gives; without it, `evidence` is None.
    """
    from ct_xception.explain.faithfulness import completeness_record, describe_grounds, describe_regions

    attribution = explanation.attribution
    grounds = describe_grounds(explanation) if found is None else found["grounds"]
    warnings = [sentence for sentence in [grounds["warning"]] if sentence] if found is None else found["warnings"]
    regions = describe_regions(explanation) if found is None else found["regions"]
    kept = {"grounds", "regions", "completeness", "warnings"}
    return {
        "target": attribution.label,
        "method": attribution.method,
        "budget": attribution.budget,
        "signed": attribution.signed,
        "strength": attribution.strength,
        "seconds": attribution.seconds,
        "completeness": completeness_record(attribution),
        "regions": regions,
        "grounds": grounds,
        "warnings": warnings,
        "evidence": None if found is None else {name: value for name, value in found.items() if name not in kept},
    }


def explanation_sentences(explanation: Explanation, found: Mapping[str, Any] | None = None) -> list[str]:
    """What a reader should know of a map, most important first: warnings, place, and the evidence if gathered."""
    record = explanation_record(explanation, found)
    if record["strength"] == 0:
        return [f"Nothing in this slice speaks for {record['target']} ({METHODS[record['method']].title})."]
    sentences = [
        *record["warnings"],
        *_body_sentence(record["grounds"]),
        *_region_sentence(record["regions"]),
    ]
    return sentences if found is None else [*sentences, *_evidence_sentences(found)]


def _body_sentence(grounds: Mapping[str, Any]) -> list[str]:
    if "inside_lungs" not in grounds:
        return []
    body, lungs = grounds["inside_body"], grounds["inside_lungs"]
    return [
        f"{_share(body['share'])} of the evidence lies in the body, which fills {_share(body['area'])} of what the "
        f"network saw; {_share(lungs['share'])} in the lungs, which fill {_share(lungs['area'])}."
    ]


def _region_sentence(regions: list[dict[str, Any]]) -> list[str]:
    if not regions:
        return []
    first = regions[0]
    size = f"{first['right'] - first['left']} x {first['bottom'] - first['top']} pixels"
    if first["width_mm"] is not None:
        size += f" ({first['width_mm']:.0f} x {first['height_mm']:.0f} mm)"
    count = f"The largest of {len(regions)} strong areas" if len(regions) > 1 else "The one strong area"
    return [f"{count} is {size}, around row {first['peak'][0]}, column {first['peak'][1]}."]


def _evidence_sentences(found: Mapping[str, Any]) -> list[str]:
    deletion, insertion, random = found["deletion"], found["insertion"], found["randomisation"]
    sentences = [
        f"Blackening the strongest pixels first leaves a mean probability of {_share(deletion['area'])} (in random "
        f"order {_share(deletion['random_area'])}; lower is better).",
        f"Putting them back first into a blurred picture gives {_share(insertion['area'])} (in random order "
        f"{_share(insertion['random_area'])}; higher is better).",
        f"Networks with random weights give maps of rank correlation {random['rank_correlation']:.2f} with this one "
        f"(n = {len(random['each'])}; near 0 is better).",
        f"Invisible noise changes the map by up to {_share(found['sensitivity'])}.",
    ]
    if found["infidelity"] is not None:
        missed = _share(found["infidelity"])
        sentences.append(f"When patches are blackened, the map leaves {missed} of the score's change unexplained.")
    for method, pair in found["agreement"].items():
        rho = pair["rank_correlation"]
        sentences.append(f"Rank correlation with {METHODS[method].title}: {rho:.2f}.")
    return sentences


def _share(value: float) -> str:
    """A share, not a probability: without decimals, and 0 and 100 may be said."""
    return f"{100 * value:.0f} %"
