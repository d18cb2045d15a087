"""The card's model-index: the figures of every protocol and path, as the Hub reads them, the most pessimistic first."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ct_xception.publish.evidence import Evidence
from ct_xception.publish.results import PATHS
from ct_xception.publish.slots import corpus_name

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

# Figure of metrics.json: its title, and the Hub's id of the metric; the Hub has one id for both kinds of recall.
INDEXED = {
    "accuracy": "accuracy",
    "balanced_accuracy": "recall",
    "macro_f1": "f1",
    "macro_precision": "precision",
    "macro_auroc": "roc_auc",
}
_TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "macro_precision": "Macro precision",
    "macro_auroc": "Macro AUROC",
}


def eval_results(evidence: Evidence) -> list[EvalResult]:
    """Figures of all protocols and paths, with the protocol in the dataset's name, n and interval in their args."""
    from huggingface_hub import EvalResult

    order = sorted(evidence.protocols, key=lambda name: name != evidence.headline)
    return [
        EvalResult(
            task_type="image-classification",
            task_name="CT slice classification",
            metric_type=metric,
            metric_name=f"{_TITLES[name]}, {PATHS[path].replace('`', '')}",
            metric_value=_rounded(block[name]["value"]),
            metric_args={"path": path} | {key: _rounded(block[name][key]) for key in ("n", "low", "high", "method")},
            **_dataset(evidence, protocol),
        )
        for protocol in order
        for path, block in evidence.protocols[protocol]["paths"].items()
        for name, metric in INDEXED.items()
        if block["n"] and block[name]["value"] is not None
    ]


def _dataset(evidence: Evidence, protocol: str) -> dict[str, Any]:
    block, name = evidence.protocols[protocol], corpus_name(evidence)
    digest = str(block["split_hash"])
    tested = f"{len(block['folds'])} folds" if "folds" in block else f"{evidence.metrics['split']} split"
    return {
        "dataset_type": re.sub(r"[^\w.-]+", "-", name).strip("-").lower() or "corpus",
        "dataset_name": f"{name}, {protocol} protocol, {tested} {digest[:12]}",
        # The Hub's library puts results of one type, config and split under one name: without it protocols would mix.
        "dataset_config": protocol,
        "dataset_split": evidence.metrics["split"],
        "dataset_args": {"protocol": protocol, "split_hash": digest, "n": block["n"]},
    }


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
