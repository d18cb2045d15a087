"""Time to answer one picture, from its file: our predictor, body crop and all, against stock `pipeline()`."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.turns import Row, take_turns


def latency_rows(options: argparse.Namespace) -> list[Row]:
    """One row: milliseconds an image, at 299 px, Xception's own size."""
    import torch
    from transformers import pipeline

    from ct_xception.corpus.load import load_corpus
    from ct_xception.model.modelling import CTXceptionForImageClassification
    from ct_xception.serving.classifier import Classifier

    torch.set_num_threads(options.threads)
    item = load_corpus(options.corpus).dataset["train"][0]["image"]
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(item["path"]) if item["path"] else Path(folder) / "slice.png"
        if not item["path"]:
            picture.write_bytes(item["bytes"])
        checkpoint = Path(folder) / "checkpoint"
        CTXceptionForImageClassification.from_backbone("legacy_xception", ["a", "b"], 299).save_pretrained(checkpoint)
        ours, stock = Classifier.from_pretrained(checkpoint), pipeline("image-classification", model=str(checkpoint))
        peer_turn, our_turn = timed(stock, str(picture)), timed(ours, str(picture))
        peer_turn(), our_turn()
        peer, own = take_turns(peer_turn, our_turn, 15)
    return [
        (
            "one picture, ms (299 px, from its file)",
            "stock pipeline()",
            f"{peer:.0f}",
            f"{own:.0f}",
            f"{own / peer:.2f}",
        )
    ]


def timed(answer: Callable[[str], Any], picture: str) -> Callable[[], float]:
    """A measurement: milliseconds of one answer."""

    def measure() -> float:
        started = time.perf_counter()
        answer(picture)
        return 1000 * (time.perf_counter() - started)

    return measure
