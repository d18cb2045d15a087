"""How a stage asks a checkpoint about a split, on every process its share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ct_xception.pipeline.context import Context

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.evaluation.answers import AnswerBatch, Answers


def predictor(context: Context, folder: Path) -> AnswerBatch:
    from ct_xception.evaluation.answers import predictor_answers

    reading, device = context.config.reading, str(context.accelerator.device)
    return predictor_answers(folder, device=device, window=reading.window, frame=reading.frame)


def ask(context: Context, items: Dataset, answer: AnswerBatch, title: str) -> Answers:
    """The answers to all items, in their order, on every process; each has asked its share."""
    import numpy as np
    from accelerate.utils import gather_object

    from ct_xception.evaluation.answers import answer_items, join_answers

    accelerator = context.accelerator
    share = np.array_split(np.arange(len(items)), accelerator.num_processes)[accelerator.process_index]
    progress = title if accelerator.is_main_process else None
    size = context.config.batch_size
    found = answer_items(items.select(share), answer, context.label_names, batch_size=size, progress=progress)
    return join_answers(gather_object([found]))
