"""Checkpoint folders as training and evaluation leave them, made by hand, for the tests of what is published."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from ct_xception.evaluation.answers import PREDICTOR, STOCK_PIPELINE, Answers
from ct_xception.evaluation.evaluator import write_evaluation
from ct_xception.files import sha256_file, write_json
from tests.evaluation.conftest import LABEL_NAMES, draw_nothing, make_split


def side_file(folder: Path, split: dict, **corpus: object) -> dict:
    """A ct_xception.json as training writes it."""
    return {
        "format": 1,
        "input": {"body_crop": True, "filters": [], "window": None},
        "temperature": 1.0,
        "provenance": {
            "corpus": {"source": "/home/somebody/chest-ct-scan-images", "kind": "folder", "hash": "c0ffee", **corpus},
            "split": {name: value for name, value in split.items() if name != "sources"},
            "weights_sha256": sha256_file(folder / "model.safetensors"),
            "initial_weights": "timm/legacy_xception.tf_in1k",
            "versions": {"python": "3.11.9", "torch": "2.14.1"},
            "seed": 7,
            "command": "accelerate launch train_hf.py --corpus chest-ct-scan-images --seed 7",
            "epochs": 12,
            "best_epoch": 10,
            "selected_by": "lowest validation loss",
            "train_seconds": 1260.0,
            "date": "2026-11-23",
        },
        "manifest": {},
    }


def made_up_answers(labels: Sequence[int], count: int, right: float, seed: int) -> Answers:
    """Probabilities that hit a share `right` of the labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), count)).round(2)
    hit = rng.random(len(labels)) < right
    logits[np.arange(len(labels)), np.where(hit, labels, (np.asarray(labels) + 1) % count)] += 4
    scores = np.exp(logits)
    return Answers(scores / scores.sum(axis=1, keepdims=True))


@pytest.fixture
def make_model_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make a checkpoint folder with an evaluation of `n` made-up answers; weights and pictures are a few bytes."""
    monkeypatch.setattr("ct_xception.evaluation.evaluator.draw_evaluation", draw_nothing)

    def make(names: Sequence[str] = LABEL_NAMES, n: int = 40, **corpus: object) -> Path:
        folder = tmp_path / "model"
        folder.mkdir()
        cfg = {"input_size": [3, 192, 192], "mean": [0.5] * 3, "std": [0.5] * 3}
        config = {"architecture": "legacy_xception", "label_names": list(names), "pretrained_cfg": cfg}
        write_json(folder / "config.json", config)
        (folder / "model.safetensors").write_bytes(b"bytes")
        labels = [i % len(names) for i in range(n)]
        dataset = make_split([b""] * n, labels, list(names))
        sources = {"train": ["t"] * 100, "validation": ["v"] * 20, "test": dataset["source"][:]}
        split = {"name": "5f0c77aa12bb34cc", "protocol": "published", "counts": {}, "sources": sources}
        write_json(folder / "ct_xception.json", side_file(folder, split, **corpus))
        answers = {
            PREDICTOR: made_up_answers(labels, len(names), 0.95, seed=1),
            STOCK_PIPELINE: made_up_answers(labels, len(names), 0.85, seed=2),
        }
        answers[STOCK_PIPELINE].probabilities[2] = np.nan
        answers[STOCK_PIPELINE].refused["test/case02.png"] = "stock transformers cannot open it (OSError)"
        report = json.loads((folder / "ct_xception.json").read_text())["provenance"]["corpus"]
        write_evaluation(folder, dataset, answers, split=split, corpus=report)
        return folder

    return make
