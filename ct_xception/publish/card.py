"""The model card: prose from model_card.md, and everything else from the checkpoint's own files.

    write_card("runs/phantom/model")

No figure is in the template, and none is taken from anywhere but the evaluator's metrics.json; `evidence` says when a
card is refused. Nothing here asks the network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.errors import InputError
from ct_xception.files import write_atomically
from ct_xception.publish import tables
from ct_xception.publish.evidence import Evidence, read_evidence
from ct_xception.publish.slots import PATHS, card_slots, corpus_name

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

PLACEHOLDER_REPO = "USER/REPO"
LICENSE = "apache-2.0"
BANNED_WORDS = (
    r"diagnoses", r"diagnosing", r"detects? (?:\w+ )?cancers?", r"(?:clinical|medical|hospital)[- ]grade",
    r"(?:radiologist|expert|human)[- ]level", r"clinically (?:validated|proven|approved)", r"state[- ]of[- ]the[- ]art",
    r"FDA[- ](?:approved|cleared)",
)  # fmt: skip

# Metric ids of the Hub; args tell figures of one id apart.
_INDEXED = {
    "accuracy": "accuracy",
    "balanced_accuracy": "recall",
    "macro_f1": "f1",
    "macro_precision": "precision",
    "macro_auroc": "roc_auc",
}


def write_card(model_dir: str | Path, **options: Any) -> Path:
    """Render the card into the checkpoint's README.md; the options are `render_card`'s. Returns the file."""
    path = Path(model_dir) / "README.md"
    write_atomically(path, render_card(model_dir, **options))
    return path


def render_card(
    model_dir: str | Path,
    *,
    repo_id: str = PLACEHOLDER_REPO,
    template: str | None = None,
    license: str = LICENSE,
) -> str:
    """The card of a checkpoint folder, from its files alone.

    `repo_id` goes into the code to paste; `template` replaces the packaged model_card.md. Raises CheckpointError where
    the folder's figures, weights and split do not belong together, InputError for a template that holds a figure or an
    unknown slot, and for words that a research model may not say.
    """
    from huggingface_hub import ModelCard

    template = packaged_template() if template is None else template
    check_template(template)
    evidence = read_evidence(model_dir)
    data = card_data(evidence, repo_id=repo_id, license=license)
    text = _fill(template, {"card_data": data.to_yaml(), **card_slots(evidence, repo_id=repo_id, license=license)})
    check_words(text)
    ModelCard(text)  # raises where the Hub could not read the header
    return text


def packaged_template() -> str:
    """model_card.md: in a checkout the one at its top, which the package links to."""
    return resources.files("ct_xception.publish").joinpath("model_card.md").read_text(encoding="utf-8")


def check_template(template: str) -> None:
    """Refuse a figure typed by hand: percentages, decimals and fractions outside slots, code and links."""
    prose = re.sub(r"\{[{%#].*?[}%#]\}|```.*?```|`[^`\n]*`|https?://\S+", "", template, flags=re.DOTALL)
    typed = re.search(r"\d+(?:[.,]\d+)?\s*%|\d*\.\d+|\b\d+/\d+\b", prose)
    if typed:
        raise InputError(
            f"The card's template holds the figure {typed.group()!r}; figures come from evaluation/metrics.json, "
            "so put a slot there, or leave it out."
        )


def check_words(text: str) -> None:
    """Refuse what a research model may not say of itself."""
    found = re.search("|".join(BANNED_WORDS), text, flags=re.IGNORECASE)
    if found:
        raise InputError(f"The card says {found.group()!r}, which a research model may not; mend the wording.")


def _fill(template: str, slots: Mapping[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    try:
        return environment.from_string(template).render(slots)
    except jinja2.TemplateError as error:
        raise InputError(f"The card's template cannot be filled ({error}); mend the slot.") from error


def card_data(evidence: Evidence, *, repo_id: str, license: str) -> ModelCardData:
    """The card's YAML header.

    `library_name` is transformers, not timm: config.json is transformers' `timm_wrapper`, and the Hub's "use this
    model" then shows `pipeline()`. `pipeline_tag` is what lets `pipeline(model=…)` find its task.
    """
    from huggingface_hub import ModelCardData

    return ModelCardData(
        pipeline_tag="image-classification",
        library_name="transformers",
        license=license,
        tags=["ct", "medical-imaging", "xception", "timm", "ct-xception", "research-only"],
        base_model=_base_model(evidence),
        datasets=_hub_dataset(evidence),
        metrics=sorted(set(_INDEXED.values())),
        model_name=repo_id.rpartition("/")[2] if repo_id != PLACEHOLDER_REPO else "ct-xception",
        eval_results=eval_results(evidence),
    )


def eval_results(evidence: Evidence) -> list[EvalResult]:
    """The model-index: figures of both paths, with the protocol in the dataset's name, n and interval in their args."""
    from huggingface_hub import EvalResult

    dataset = _indexed_dataset(evidence)
    results = []
    for path, block in evidence.metrics["paths"].items():
        for name, metric in _INDEXED.items():
            if not block["n"] or block[name]["value"] is None:
                continue
            figure = {key: _rounded(block[name][key]) for key in ("n", "low", "high", "method")}
            results.append(
                EvalResult(
                    task_type="image-classification",
                    task_name="CT slice classification",
                    metric_type=metric,
                    metric_name=f"{tables.OVERALL[name]}, {PATHS[path].replace('`', '')}",
                    metric_value=_rounded(block[name]["value"]),
                    metric_args={"path": path, **figure},
                    **dataset,
                )
            )
    return results


def _indexed_dataset(evidence: Evidence) -> dict[str, Any]:
    metrics, name = evidence.metrics, corpus_name(evidence)
    digest = metrics["split_hash"]
    return {
        "dataset_type": re.sub(r"[^\w.-]+", "-", name).strip("-").lower() or "corpus",
        "dataset_name": f"{name}, {metrics['protocol']} protocol, {metrics['split']} split {digest[:12]}",
        "dataset_split": metrics["split"],
        "dataset_args": {"protocol": metrics["protocol"], "split_hash": digest, "n": metrics["n"]},
    }


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def _base_model(evidence: Evidence) -> str | None:
    """The Hub id of timm's weights, where the network began with them."""
    from ct_xception.model.configuration import HUB_WEIGHTS

    begun = str(evidence.provenance.get("initial_weights", ""))
    known = HUB_WEIGHTS.get(evidence.config["architecture"], "")
    # From a local file only its name is known: timm's files are named as its repositories are.
    return known if known and begun in (known, f"{known.rpartition('/')[2]}.safetensors") else None


def _hub_dataset(evidence: Evidence) -> list[str] | None:
    corpus = evidence.provenance.get("corpus", {})
    return [corpus["source"].partition("@")[0]] if corpus.get("kind") == "hub" else None
