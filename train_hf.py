"""Corpus in, Hub-ready checkpoint out: load, split, train, evaluate, write the card, seal.

    accelerate launch train_hf.py --corpus DIR --weights hub
    accelerate launch train_hf.py --corpus phantom --weights none --output_dir runs/phantom --resume auto

Every stage leaves its result in the run folder; --help lists the options. The process ends with 0 when done, 1 when
training failed, 2 on bad input or usage, 130 when interrupted; `accelerate launch` itself turns every failure into 1.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.errors import InputError, printable
from ct_xception.files import write_json
from ct_xception.wording import RESEARCH_USE

if TYPE_CHECKING:
    from accelerate import Accelerator
    from datasets import Dataset, DatasetDict

    from ct_xception.training.config import TrainConfig
    from ct_xception.training.loop import Trained


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the build river; the exit code."""
    from ct_xception.training.config import parse_config

    try:
        config = parse_config(arguments)
        from ct_xception.training.loop import TrainingError

        try:
            build(config, _command(sys.argv[1:] if arguments is None else arguments))
        except (TrainingError, *_failures()) as error:  # type: ignore[misc]  # mypy does not see through the star
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            print(f"train_hf.py: {reason}", file=sys.stderr)
            return 1
    except InputError as error:
        if int(os.environ.get("RANK", "0")) == 0:
            print(f"train_hf.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ntrain_hf.py: interrupted; this run's --output_dir and --resume auto go on from here.", file=sys.stderr)
        return 130
    return 0


def build(config: TrainConfig, command: str) -> None:
    """The stages, in order, on one process or many."""
    from ct_xception.training.loop import make_accelerator, share_cores
    from ct_xception.training.preflight import check_before_reading

    _quieten()
    share_cores(config)
    run = _open_run(config)
    accelerator = make_accelerator(config, run)
    check_before_reading(config, run)
    accelerator.print(f"run folder: {run}")
    if (run / "model").exists():
        accelerator.print(f"{run / 'model'} is complete already; nothing is left to do.")
        return
    with accelerator.main_process_first():
        corpus, splits, split = load_and_split(config, run, accelerator)
    trained = train(config, run, accelerator, splits, split)
    folder = run / "model.partial"
    if accelerator.is_main_process:
        from ct_xception.training.model_folder import write_model_folder

        shutil.rmtree(folder, ignore_errors=True)
        names = splits["train"].features["label"].names
        write_model_folder(folder, config, names, trained, corpus=corpus, split=split, command=command)
    accelerator.wait_for_everyone()
    metrics = evaluate(config, run, accelerator, splits["test"], split, corpus)
    if accelerator.is_main_process:
        publish(run, metrics)
    accelerator.wait_for_everyone()
    accelerator.end_training()


def load_and_split(
    config: TrainConfig, run: Path, accelerator: Accelerator
) -> tuple[dict[str, Any], DatasetDict, dict[str, Any]]:
    """Load the corpus, honour or make its splits; write and print what was found."""
    from ct_xception.corpus.load import CorpusOptions, corpus_summary, load_corpus, public_report
    from ct_xception.corpus.split import make_splits
    from ct_xception.training.preflight import check_corpus

    options = CorpusOptions(
        class_map=config.class_map,
        split_map=config.split_map,
        image_column=config.image_column,
        label_column=config.label_column,
        group_column=config.group_column,
        split_column=config.split_column,
        group_pattern=config.group_pattern,
        window=config.reading.window,
        frame=config.frame,
    )
    corpus = load_corpus(config.corpus, options)
    train_fraction = 1 - config.valid_fraction - config.test_fraction
    fractions = (train_fraction, config.valid_fraction, config.test_fraction)
    splits, split = make_splits(corpus.dataset, fractions=fractions, seed=config.seed)
    split["fractions"] = list(fractions)
    check_corpus(config, run, corpus.label_names, split)
    if accelerator.is_main_process:
        _write_record(run, {"config.json": config.mapping, "corpus.json": corpus.report, "split.json": split})
        print(corpus_summary(corpus.report), flush=True)
    return public_report(corpus.report), splits, split


def train(
    config: TrainConfig, run: Path, accelerator: Accelerator, splits: DatasetDict, split: dict[str, Any]
) -> Trained:
    """Decode once, then train; the weights to keep."""
    from ct_xception.training.cache import prepare_slices
    from ct_xception.training.loop import Training

    with accelerator.main_process_first():
        slices = {
            name: prepare_slices(splits[name], run / "cache", config.reading, description=f"reading {name}")
            for name in ("train", "validation")
        }
    training = Training(
        config,
        accelerator,
        run,
        label_names=splits["train"].features["label"].names,
        split=split["name"],
        train=slices["train"],
        validation=slices["validation"],
    )
    if config.trackers:
        accelerator.init_trackers("ct-xception", config={name: str(value) for name, value in config.mapping.items()})
    return training.fit()


def evaluate(
    config: TrainConfig,
    run: Path,
    accelerator: Accelerator,
    test: Dataset,
    split: dict[str, Any],
    corpus: dict[str, Any],
) -> dict[str, Any]:
    """Answer the test split along both paths, each process its share; the main one writes the figures."""
    import numpy as np
    from accelerate.utils import gather_object

    from ct_xception.evaluation.answers import answer_items, join_answers, predictor_answers, stock_answers
    from ct_xception.evaluation.evaluator import write_evaluation
    from ct_xception.evaluation.figures import Outputs

    folder = run / "model.partial"
    names = test.features["label"].names
    share = test.select(np.array_split(np.arange(len(test)), accelerator.num_processes)[accelerator.process_index])
    reading, device = config.reading, str(accelerator.device)
    paths = {
        "predictor": predictor_answers(folder, device=device, window=reading.window, frame=reading.frame),
        "stock_pipeline": stock_answers(folder, device=device),
    }
    answers = {
        path: answer_items(
            share,
            answer,
            names,
            batch_size=config.batch_size,
            progress=f"test, {path.replace('_', ' ')}" if accelerator.is_main_process else None,
        )
        for path, answer in paths.items()
    }
    gathered = gather_object([answers])
    if not accelerator.is_main_process:
        return {}
    joined = {path: join_answers([part[path] for part in gathered]) for path in paths}
    outputs = Outputs(history=run / "history.jsonl", examples=run)
    return write_evaluation(folder, test, joined, split=split, corpus=corpus, seed=config.seed, outputs=outputs)


def publish(run: Path, metrics: dict[str, Any]) -> None:
    """Write the card, seal the folder, put it in place, and say what came out."""
    from ct_xception.evaluation.intervals import describe_figure
    from ct_xception.publish.card import write_card
    from ct_xception.publish.manifest import seal

    folder = run / "model.partial"
    write_card(folder)
    seal(folder)
    folder.rename(run / "model")
    print(f"\ntest split, n = {metrics['n']}, protocol: {metrics['protocol']}")
    for path, title in (("predictor", "our predictor"), ("stock_pipeline", "stock pipeline()")):
        figures = metrics["paths"][path]
        for name in ("accuracy", "balanced_accuracy", "macro_f1"):
            print(f"  {title:17} {name.replace('_', ' '):18} {describe_figure(figures.get(name))}")
    print(f"checkpoint: {run / 'model'}   (card: README.md, figures: evaluation/)")
    print(f"ask it:     ct-xception predict FILE --model {run / 'model'}")
    print(f"{RESEARCH_USE}")


def _open_run(config: TrainConfig) -> Path:
    """The run folder, the same on every process; not made yet."""
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    state = PartialState()
    name = re.sub(r"[^\w.-]+", "-", Path(config.corpus.partition(":")[0]).name or "corpus").strip("-.")
    default = str(Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    run = Path(broadcast_object_list([config.output_dir or default])[0])
    if run.exists() and not run.is_dir():
        raise InputError(f"--output_dir: {printable(run)} is a file; name a folder.")
    held = run.is_dir() and any(run.iterdir())
    state.wait_for_everyone()
    if held and config.resume != "auto":
        raise InputError(
            f"--output_dir: {printable(run)} holds a run already; go on with it (--resume auto) or name another folder."
        )
    return run


def _write_record(run: Path, records: dict[str, Any]) -> None:
    """The run folder begins with what was asked for and what was found; before that nothing is written."""
    try:
        for name, record in records.items():
            write_json(run / name, record)
    except OSError as error:
        raise InputError(
            f"--output_dir: {printable(run)} cannot be written ({error.strerror}); name another folder."
        ) from error


def _quieten() -> None:
    """Leave the terminal to our own progress: transformers would draw a bar for every file that it reads or writes."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _command(arguments: Sequence[str]) -> str:
    """The command for the checkpoint's record. That is published: of a path elsewhere it has the last part alone."""
    shown = []
    for argument in arguments:
        option, sign, value = argument.rpartition("=")
        private = os.path.isabs(value) or value.startswith(("..", "~"))
        shown.append(f"{option}{sign}{Path(value).name if private else value}")
    return shlex.join(["accelerate", "launch", "train_hf.py", *shown])


def _failures() -> tuple[type[Exception], ...]:
    """What a machine may refuse in the middle of the work: disk, files, memory."""
    import torch
    from safetensors import SafetensorError

    return (OSError, SafetensorError, torch.OutOfMemoryError)


if __name__ == "__main__":
    sys.exit(main())
