"""A whole checkpoint folder of a network that answers, with real figures, a card and a seal."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from ct_xception.checkpoint_files import seal
from ct_xception.corpus.load import load_corpus, public_report
from ct_xception.corpus.split import split_corpus
from ct_xception.evaluation.evaluation import Evaluation
from ct_xception.evaluation.measure import evaluate
from ct_xception.files import sha256_file, write_json
from ct_xception.publish.card.card import write_card


def sealed_checkpoint(folder: Path, network: Path, corpus_folder: Path, **measured: int) -> Path:
    """Copy the config and weights of `network`, evaluate them on the corpus's test split, write card and seal.

    `measured` are counts of `Evaluation`, such as `robustness`.
    """
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(network / name, folder / name)
    corpus = load_corpus(corpus_folder)
    splits, split, report = split_corpus(corpus, None, fractions=(0.7, 0.15, 0.15), seed=0)
    provenance: dict[str, Any] = {
        "corpus": public_report(report),
        "split": {name: value for name, value in split.items() if name != "sources"},
        "weights_sha256": sha256_file(folder / "model.safetensors"),
        "initial_weights": "random",
        "command": "accelerate launch train_hf.py --corpus phantom",
    }
    steps = {"body_crop": True, "filters": [], "window": None}
    side = {"format": 1, "input": steps, "temperature": 1.0, "provenance": provenance, "manifest": {}}
    write_json(folder / "ct_xception.json", side)
    stated = {"split": split, "corpus": provenance["corpus"]}
    evaluate(Evaluation(folder, splits, **stated, progress=False, stock=False, **measured))
    write_card(folder)
    seal(folder)
    return folder


def copy_checkpoint(folder: Path, target: Path) -> Path:
    """A copy of a folder to be changed. Large files are the same ones: remove before writing another."""
    return Path(shutil.copytree(folder, target, copy_function=_link_large))


def _link_large(source: str, target: str) -> str:
    if source.endswith((".safetensors", ".onnx", ".bin")):
        os.link(source, target)
        return target
    return shutil.copy(source, target)
