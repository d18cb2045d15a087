"""The evaluator: the only thing that writes figures. Everything it needs is the checkpoint, a split, and their hashes.

    evaluate_checkpoint(model_dir, corpus["test"], split=split, corpus=report)

leaves in `model_dir/evaluation/` metrics.json, predictions.parquet, confusion_matrix.png, roc.png, and curves.png where
there is a training history. Pictures of the corpus stay out of the checkpoint unless they may be published.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.errors import CheckpointError, InputError
from ct_xception.evaluation.answers import (
    PREDICTOR,
    STOCK_PIPELINE,
    Answers,
    Items,
    answer_items,
    predictor_answers,
    stock_answers,
)
from ct_xception.evaluation.figures import Outputs, draw_evaluation
from ct_xception.evaluation.intervals import CONFIDENCE, RESAMPLES, group_indices
from ct_xception.evaluation.metrics import classification_metrics
from ct_xception.files import atomic_path, sha256_file, write_json

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.imaging.slices import Window

FORMAT = 1
METRICS, PREDICTIONS = "metrics.json", "predictions.parquet"


def evaluate_checkpoint(
    checkpoint: str | Path,
    dataset: Dataset,
    *,
    split: Mapping[str, Any] | None = None,
    corpus: Mapping[str, Any] | None = None,
    split_name: str = "test",
    batch_size: int = 16,
    seed: int = 0,
    stock: bool = True,
    progress: bool = True,
    device: str = "cpu",
    window: Window | None = None,
    frame: int | None = None,
    outputs: Outputs = Outputs(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """Answer every item of a split by the predictor and by stock `pipeline()` (if `stock`); write and return metrics.

    `dataset` has the columns image {"path", "bytes"}, label, group, source. `split` (as `make_splits` gives it) and
    `corpus` (its report) say what was evaluated; without `split` the figures carry no protocol, and no card takes them.
    """
    label_names = check_split(checkpoint, dataset, split, split_name)
    answerers = {PREDICTOR: predictor_answers(checkpoint, device=device, window=window, frame=frame)}
    if stock:
        answerers[STOCK_PIPELINE] = stock_answers(checkpoint, device=device)
    titles = {path: f"{split_name}, {path.replace('_', ' ')}" if progress else None for path in answerers}
    answers = {
        path: answer_items(dataset, answer, label_names, batch_size=batch_size, progress=titles[path])
        for path, answer in answerers.items()
    }
    return write_evaluation(
        checkpoint, dataset, answers, split=split, corpus=corpus, split_name=split_name, seed=seed, outputs=outputs
    )


def write_evaluation(
    checkpoint: str | Path,
    dataset: Dataset,
    answers: Mapping[str, Answers],
    *,
    split: Mapping[str, Any] | None = None,
    corpus: Mapping[str, Any] | None = None,
    split_name: str = "test",
    seed: int = 0,
    outputs: Outputs = Outputs(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """Write metrics.json, predictions.parquet and figures from answers that are there already; return the metrics.

    `answers` {"predictor": …, "stock_pipeline": …} are in the dataset's order. metrics.json is written last: what it
    names is there.
    """
    checkpoint = Path(checkpoint)
    label_names = check_split(checkpoint, dataset, split, split_name)
    folder = outputs.folder or checkpoint / "evaluation"
    items = Items.of(dataset)
    metrics = _describe(checkpoint, items, label_names, split, corpus, split_name, seed)
    metrics["paths"] = {path: _measure(items, found, label_names, seed) for path, found in answers.items()}
    write_predictions(folder / PREDICTIONS, items, answers, label_names)
    metrics["figures"] = draw_evaluation(folder, dataset, items, answers, metrics, outputs)
    write_json(folder / METRICS, metrics)
    return metrics


def check_split(
    checkpoint: str | Path, dataset: Dataset, split: Mapping[str, Any] | None, split_name: str
) -> list[str]:
    """The class names, where checkpoint and corpus agree on them and the items are those that `split` names."""
    names, found = _class_names(Path(checkpoint)), list(dataset.features["label"].names)
    if names != found:
        raise InputError(
            f"The checkpoint's classes ({', '.join(names)}) are not the corpus's ({', '.join(found)}); "
            "evaluate on a corpus with the same classes in the same order."
        )
    if len(dataset) == 0:
        raise InputError(f"The {split_name} split is empty: there is nothing to evaluate on.")
    stated = (split or {}).get("sources", {}).get(split_name)
    if stated is not None and set(stated) != set(dataset.select_columns(["source"])[:]["source"]):
        raise InputError(
            f"These are not the items of the {split_name} split that the figures would be labelled with; "
            "give the dataset and the split that were made together."
        )
    return names


def _class_names(checkpoint: Path) -> list[str]:
    try:
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        return list(config["label_names"])
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{checkpoint}: config.json with label_names cannot be read ({error}); give a checkpoint folder."
        ) from error


def _describe(
    checkpoint: Path,
    items: Items,
    label_names: Sequence[str],
    split: Mapping[str, Any] | None,
    corpus: Mapping[str, Any] | None,
    split_name: str,
    seed: int,
) -> dict[str, Any]:
    """What the figures are figures of: the head of metrics.json."""
    weights = checkpoint / "model.safetensors"
    if not weights.is_file():
        raise CheckpointError(f"{checkpoint}: model.safetensors is missing; give a checkpoint folder.")
    split, corpus = split or {}, corpus or {}
    return {
        "format": FORMAT,
        "protocol": split.get("protocol", "unstated"),
        "split": split_name,
        "split_hash": split.get("name"),
        "weights_sha256": sha256_file(weights),
        "corpus": {key: corpus[key] for key in ("source", "kind", "hash") if key in corpus},
        "split_sizes": {name: len(sources) for name, sources in split.get("sources", {}).items()},
        "best_epoch": _best_epoch(checkpoint),
        "n": len(items.sources),
        "n_groups": len(set(items.groups)),
        "label_names": list(label_names),
        "intervals": {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": seed},
    }


def _best_epoch(checkpoint: Path) -> int | None:
    """The epoch whose weights training kept, where the checkpoint says so."""
    side = checkpoint / "ct_xception.json"
    if not side.is_file():
        return None
    return json.loads(side.read_text(encoding="utf-8")).get("provenance", {}).get("best_epoch")


def _measure(items: Items, answers: Answers, label_names: Sequence[str], seed: int) -> dict[str, Any]:
    """One path's figures over the items it answered, and the list of those it refused."""
    if answers.probabilities.shape != (len(items.sources), len(label_names)):
        raise InputError(
            f"Expected answers ({len(items.sources)}, {len(label_names)}), got {answers.probabilities.shape}; "
            "shards must be joined in the split's order, without padding."
        )
    refused = answers.refused
    kept = answers.answered
    silent = [source for source, keep in zip(items.sources, kept, strict=True) if not keep and source not in refused]
    listed = [{"source": source, "reason": reason} for source, reason in refused.items()]
    if silent:
        raise InputError(f"{len(silent)} items have neither probabilities nor a reason, for example {silent[0]}.")
    if not kept.any():
        return {"n": 0, "refused": listed}
    groups = [group for group, keep in zip(items.groups, kept, strict=True) if keep]
    figures = classification_metrics(answers.probabilities[kept], items.labels[kept], label_names, groups, seed=seed)
    return figures | {"refused": listed}


def write_predictions(path: Path, items: Items, answers: Mapping[str, Answers], label_names: Sequence[str]) -> None:
    """One row an item and path: source, group, label, predicted, `p <class>` for every class, refused, path.

    `predicted` and the probabilities are null where `refused` holds the reason. Groups are numbered in the order of
    their names, which stay behind: they may be patients' and this file is published.
    """
    import pyarrow
    import pyarrow.parquet

    names = np.asarray(label_names, dtype=object)
    groups = [f"group {number:06d}" for number in group_indices(items.groups, len(items.groups))]
    tables = []
    for route, found in answers.items():
        known = found.answered
        best = np.where(known[:, None], found.probabilities, 0).argmax(axis=1)
        columns = {
            "source": items.sources,
            "group": groups,
            "label": names[items.labels].tolist(),
            "predicted": pyarrow.array(names[best].tolist(), pyarrow.string(), mask=~known),
        }
        columns |= {f"p {name}": pyarrow.array(found.probabilities[:, k], mask=~known) for k, name in enumerate(names)}
        columns["refused"] = pyarrow.array([found.refused.get(source) for source in items.sources], pyarrow.string())
        columns["path"] = [route] * len(items.sources)
        tables.append(pyarrow.table(columns))
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.concat_tables(tables), temporary)
