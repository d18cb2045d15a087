"""The model card: prose from model_card.md, and everything else from the checkpoint's own files.

    write_card("runs/phantom/model")

No figure is in the template, and none is taken from anywhere but the evaluator's files; `evidence` says when a card is
refused. Nothing here asks the network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ct_xception.checkpoint import CARD, METRICS, STOCK_TYPE, evaluated
from ct_xception.errors import InputError
from ct_xception.evaluation.answers import PREDICTOR
from ct_xception.files import write_atomically
from ct_xception.imaging.modality import ONE
from ct_xception.metrics import (
    ClassificationMetrics,
    ExternalMetrics,
    PathMetrics,
    ProtocolMetrics,
    SubgroupMetrics,
    UnitMetrics,
)
from ct_xception.model.configuration import HUB_WEIGHTS
from ct_xception.publish.card.markdown import code, fill_template, packaged_template, plain
from ct_xception.publish.card.sections import card_values, corpus_name, modality_of
from ct_xception.publish.hosted.endpoint import HANDLER
from ct_xception.publish.verify import Evidence, read_evidence

# Metric of metrics.json: its title, and the Hub's id of it; the Hub has one id for both kinds of recall.
INDEXED = {
    "accuracy": ("Accuracy", "accuracy"),
    "balanced_accuracy": ("Balanced accuracy", "recall"),
    "macro_f1": ("Macro F1", "f1"),
    "macro_precision": ("Macro precision", "precision"),
    "macro_auroc": ("Macro AUROC", "roc_auc"),
}
_TAGS = {"ct": ("ct",), "mr": ("mri",), "xray": ("x-ray",), "any": ()}  # of the Hub's search
_PATHS = {
    "predictor": "ct-xception predictor",
    "stock_pipeline": "stock pipeline()",
    "columns_withheld": "without its columns",
}
PLACEHOLDER_REPO = "USER/REPO"
LICENSE = "apache-2.0"
BANNED_WORDS = (
    r"\bdiagnos(?:es|ed|ing)\b", r"\b(?:detect(?:s|ing)?|finds?|spots?|identif(?:y|ies)|predicts?|recogni[sz]es?) "
    r"(?:[\w-]+ ){0,3}(?:cancer|tumou?r|malignan|carcinoma)\w*", r"(?:clinical|medical|hospital|diagnostic)[- ]grade",
    r"(?:radiologist|physician|doctor|expert|human)[- ](?:level|like)", r"(?:outperforms?|better than|beats) (?:\w+ )?"
    r"(?:radiologists|physicians|doctors|experts)", r"clinically (?:validated|proven|approved|ready|useful)",
    r"(?:ready|suitable|safe) for clinical", r"state[- ]of[- ]the[- ]art", r"(?:FDA|CE)[- ](?:approved|cleared|marked)",
    r"saves? lives", r"(?:superhuman|foolproof|infallible)",
)  # fmt: skip


def write_card(model_dir: str | Path, *, repo_id: str = PLACEHOLDER_REPO, license: str = LICENSE) -> Path:
    """Render the card into the checkpoint's README.md, as `render_card` does. Returns the file."""
    path = Path(model_dir) / CARD
    write_atomically(path, render_card(model_dir, repo_id=repo_id, license=license))
    return path


def refresh_card(model_dir: str | Path) -> None:
    """Write the card anew for what the folder holds now, for the same address and licence; without figures, none.

    Raises as `render_card` does.
    """
    folder = Path(model_dir)
    if not (folder / evaluated(METRICS)).is_file():
        return
    path = folder / CARD
    repo_id, license = card_address(path.read_text(encoding="utf-8")) if path.is_file() else (PLACEHOLDER_REPO, LICENSE)
    write_card(folder, repo_id=repo_id, license=license)


def card_address(card: str) -> tuple[str, str]:
    """The repository that a card's code names, and its licence; those of a new card where it says neither."""
    named = re.search(r'from_pretrained\("([^"]+)"\)', card)
    try:
        license = str(getattr(ModelCard(card).data, "license", None) or LICENSE)
    except ValueError:  # a header that is no YAML
        license = LICENSE
    return named.group(1) if named else PLACEHOLDER_REPO, license


def render_card(
    model_dir: str | Path,
    *,
    repo_id: str = PLACEHOLDER_REPO,
    template: str | None = None,
    license: str = LICENSE,
    evidence: Evidence | None = None,
    handler: bool | None = None,
) -> str:
    """The card of a checkpoint folder, from its files alone.

    `repo_id` goes into the code to paste; `template` replaces the packaged model_card.md; `evidence` is the folder's,
    where it was read already; `handler` is whether the code for Inference Endpoints goes with it, None for whether it
    lies in the folder. Raises CheckpointError where the folder's figures, weights and split do not belong
    together, InputError for a template that holds a figure or an unknown slot, and for words that a research model may
    not say.
    """
    template = packaged_template() if template is None else template
    check_template(template)
    check_words(template)
    evidence = read_evidence(model_dir) if evidence is None else evidence
    data = card_data(evidence, repo_id=repo_id, license=license)
    handler = (Path(model_dir) / HANDLER).is_file() if handler is None else handler
    values = card_values(evidence, repo_id=repo_id, license=license, handler=handler)
    text = fill_template(template, {"card_data": data.to_yaml(), **values})
    slugs = [str(result.dataset_type) for result in data.eval_results or []]
    check_words(text, [*outside_texts(evidence), *slugs])
    ModelCard(text)  # raises where the Hub could not read the header
    return text


def check_template(template: str) -> None:
    """Refuse a figure typed by hand: percentages, decimals and fractions outside slots, code and links."""
    prose = re.sub(r"\{[{%#].*?[}%#]\}|```.*?```|`[^`\n]*`|https?://\S+", "", template, flags=re.DOTALL)
    typed = re.search(r"\d+(?:[.,]\d+)?\s*%|\d*\.\d+|\b\d+/\d+\b", prose)
    if typed:
        raise InputError(
            f"The card's template holds the figure {typed.group()!r}; figures come from evaluation/metrics.json, "
            "so put a slot there, or leave it out."
        )


def check_words(text: str, outside: Iterable[str] = ()) -> None:
    """Refuse what a research model may not say of itself; what others say in the texts from `outside` is no claim."""
    claim, text = re.compile("|".join(BANNED_WORDS), re.IGNORECASE), " ".join(text.split())
    # Longest first: a note may hold the name of a class. Only a text that makes the claim all by itself is taken out:
    # our own words are read with the names beside them, such as "detects" before a class called cancer.
    for one in sorted(outside, key=len, reverse=True):
        if claim.search(" ".join(one.split())):
            text = re.sub(_as_shown(one), "…", text)
    if found := claim.search(text):
        raise InputError(f"The card says {found.group()!r}, which a research model may not; mend the wording.")


def _as_shown(text: str) -> str:
    """A pattern for text from outside as a card shows it: as Markdown, as code, or in the header, where lines break."""
    forms = {r"\s+".join(map(re.escape, form.split())) for form in (text, plain(text), code(text).strip("`"))}
    return rf"(?<!\w)(?:{'|'.join(forms)})(?!\w)"


def outside_texts(evidence: Evidence) -> list[str]:
    """What a card only repeats: names of corpora, classes, groups and versions, notes, findings, the command."""
    provenance = evidence.provenance
    versions = [provenance, *provenance.get("lineage", [])]
    replayed = [old for version in versions for old in (version.get("replay") or {}).get("corpora", [])]
    corpora = [one.get("corpus", {}) for one in [*versions, *replayed]]
    corpora += (provenance.get("unlabelled") or {}).get("corpora", [])
    sources = [str(corpus.get("source", "")).rstrip("/\\") for corpus in corpora]
    names = [*sources, *(re.split(r"[/\\]", source)[-1] for source in sources)]
    names += [str(one.get("name", "")) for one in [provenance.get("went_on_from", {}), *versions]]
    own = provenance.get("corpus", {})
    return [
        *evidence.config["label_names"],
        *evidence.metrics.class_groups,
        *names,
        *(name.partition("@")[0] for name in names),
        str(own.get("groups", {}).get("origin") or ""),  # such as a column's name
        *(str(note).rstrip(".") for note in own.get("notes", [])),
        *(text for name, block in evidence.metrics.external.items() for text in _external_texts(name, block)),
        *(str(finding["title"]) for finding in (evidence.audit or {}).get("findings", [])),
        *(name for block in evidence.metrics.subgroups.values() for name in _subgroup_texts(block)),
        str(provenance.get("initial_weights", "")),
        str(provenance.get("command", "")).replace("`", "'"),
    ]


def _external_texts(name: str, block: ExternalMetrics) -> list[str]:
    drift = () if block.drift is None else block.drift.sentences
    return [name, corpus_name(block.corpus.to_json()), *block.alternatives, *block.classes, *drift]


def _subgroup_texts(block: SubgroupMetrics) -> list[str]:
    return [*block.traits, *([block.worst.value] if block.worst else [])]


def card_data(evidence: Evidence, *, repo_id: str, license: str) -> ModelCardData:
    """The card's YAML header.

    `library_name` is transformers, not timm: config.json is transformers' `timm_wrapper`, and the Hub's "use this
    model" then shows `pipeline()`. `pipeline_tag` is what lets `pipeline(model=…)` find its task. Where transformers
    needs our package, the Hub is to show no code that would fail.
    """
    stock = evidence.config.get("model_type", STOCK_TYPE) == STOCK_TYPE
    return ModelCardData(
        pipeline_tag="image-classification",
        library_name="transformers" if stock else "ct-xception",
        license=license,
        tags=[*_TAGS[modality_of(evidence)], "medical-imaging", "xception", "timm", "ct-xception", "research-only"],
        base_model=_base_model(evidence),
        datasets=_hub_dataset(evidence),
        metrics=sorted({metric for _, metric in INDEXED.values()}),
        model_name=repo_id.rpartition("/")[2] if repo_id != PLACEHOLDER_REPO else "ct-xception",
        eval_results=eval_results(evidence),
    )


def _base_model(evidence: Evidence) -> str | None:
    """The Hub id of timm's weights, where the network began with them."""
    begun = str(evidence.provenance.get("initial_weights", ""))
    known = HUB_WEIGHTS.get(evidence.config["architecture"], "")
    # From a local file only its name is known: timm's files are named as its repositories are.
    return known if known and begun in (known, f"{known.rpartition('/')[2]}.safetensors") else None


def _hub_dataset(evidence: Evidence) -> list[str] | None:
    corpus = evidence.provenance.get("corpus", {})
    return [corpus["source"].partition("@")[0]] if corpus.get("kind") == "hub" else None


def eval_results(evidence: Evidence) -> list[EvalResult]:
    """Figures of all protocols and paths, with the protocol in the dataset's name, n and interval in their args."""
    protocols, by_patient = evidence.metrics.all_protocols, evidence.metrics.by_patient
    tested = [
        (_indexed_blocks(block.paths, by_patient.get(name)), _dataset(evidence, name, block))
        for name, block in sorted(protocols.items(), key=lambda one: one[0] != evidence.headline)
    ]
    tested += [
        (_indexed_blocks(block.paths, block.by_patient), _elsewhere(name, block))
        for name, block in evidence.metrics.external.items()
    ]
    return [
        EvalResult(
            task_type="image-classification",
            task_name=f"{ONE[modality_of(evidence)]} classification",
            metric_type=metric,
            metric_name=f"{title}{counted}, {_PATHS[path]}",
            metric_value=_rounded(found.value),
            metric_args={"path": path} | {key: _rounded(getattr(found, key)) for key in ("n", "low", "high", "method")},
            **dataset,
        )
        for blocks, dataset in tested
        for path, counted, block in blocks
        for name, (title, metric) in INDEXED.items()
        if (found := getattr(block, name)).value is not None
    ]


def _elsewhere(name: str, block: ExternalMetrics) -> dict[str, Any]:
    """The dataset of an external corpus's results."""
    digest, asked = str(block.corpus.hash), " or ".join(block.alternatives)
    return {
        "dataset_type": _slug(name),
        "dataset_name": f"{name}, external validation ({asked}), all of it {digest[:12]}",
        "dataset_config": "external",
        "dataset_split": "all",
        "dataset_args": {"protocol": "external", "corpus_hash": digest, "n": block.n, "question": asked},
    }


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-").lower() or "corpus"


def _indexed_blocks(
    paths: Mapping[str, PathMetrics], patients: UnitMetrics | None
) -> Iterator[tuple[str, str, ClassificationMetrics]]:
    """(path, what is counted, metrics) of one test, by patient first where that is another metric."""
    if patients is not None and patients.several:
        yield PREDICTOR, " by patient", patients
    for path, block in paths.items():
        yield path, "", block


def _dataset(evidence: Evidence, protocol: str, block: ProtocolMetrics) -> dict[str, Any]:
    name, split, digest = corpus_name(evidence.side.provenance.corpus), evidence.metrics.split, str(block.split_hash)
    tested = f"{len(block.folds)} folds" if block.folds else f"{split} split"
    return {
        "dataset_type": _slug(name),
        "dataset_name": f"{name}, {protocol} protocol, {tested} {digest[:12]}",
        # The Hub's library puts results of one type, config and split under one name: without it protocols would mix.
        "dataset_config": protocol,
        "dataset_split": split,
        "dataset_args": {"protocol": protocol, "split_hash": digest, "n": block.n},
    }


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
