"""How a stage asks a checkpoint about a split, on every process its share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ct_xception.evaluation.answers import answer_share, predictor_answers
from ct_xception.pipeline.context import Context
from ct_xception.serving.classifier import Classifier

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.evaluation.answers import AnswerBatch, Answers
    from ct_xception.statistics.attention import GatedAttention


def predictor(context: Context, folder: Path, attention: GatedAttention | None = None) -> AnswerBatch:
    """The checkpoint in `folder` as it answers batches; `attention` is one that the checkpoint does not hold yet."""
    classifier = Classifier.from_pretrained(folder, device=str(context.accelerator.device))
    classifier.attention = attention or classifier.attention
    return predictor_answers(classifier, window=context.config.reading.window, frame=context.config.reading.frame)


def ask(context: Context, items: Dataset, answer: AnswerBatch, title: str) -> Answers:
    """The answers to all items, in their order, on every process; each has asked its share."""
    progress = title if context.accelerator.is_main_process else None
    return answer_share(items, answer, context.share, batch_size=context.config.batch_size, progress=progress)
