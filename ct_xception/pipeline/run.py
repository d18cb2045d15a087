"""The stages in order, from the command line to the finished checkpoint."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ct_xception.checkpoint import CARD, EVALUATION, MODEL
from ct_xception.checkpoint_files import seal
from ct_xception.command_line import run_program
from ct_xception.errors import InputError, WorkError, printable
from ct_xception.imaging.decoded import keep_decoded
from ct_xception.metrics import Metrics
from ct_xception.pipeline.lock import LOCK, refuse_if_held, run_lock
from ct_xception.text import RESEARCH_USE
from ct_xception.training.distributed import join_processes
from ct_xception.training.memory import keep_freed_memory
from ct_xception.training.options import TrainConfig, parse_config

LAUNCHER = ("accelerate", "launch", "train_hf.py")
REMEDY = "; every whole epoch is kept, and the same --output_dir with --resume auto goes on from the last one."


def main(arguments: Sequence[str] | None = None, *, name: str = "train_hf.py") -> int:
    """Run the pipeline; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return run_program(name, lambda: train(words), remedy=REMEDY)


def train(words: Sequence[str]) -> None:
    """Build what the command line asks for. Raises `WorkError` also for what a machine refuses in the middle of it."""
    config = parse_config(words)
    if config.output_dir and os.environ.get("RANK", "0") == "0":
        for folder in _foreign_locks(config, Path(config.output_dir)):
            refuse_if_held(folder)  # at once, before anything slow is imported
    try:
        build(config, command_record(LAUNCHER, words))
    except _failures() as error:
        raise WorkError((str(error).strip() or type(error).__name__).splitlines()[0]) from error


def build(config: TrainConfig, command: str) -> None:
    """The stages, in order, on one process or many. Raises `InputError` where another run is in the run folder."""
    set_up_process(config)
    with contextlib.ExitStack() as held, keep_decoded():
        _build(config, _open_run(config, held), command)


def set_up_process(config: TrainConfig) -> None:
    """Settle threads, memory and the libraries' words of this process, before anything is loaded."""
    from ct_xception.training.loop import share_cores

    _quieten()
    share_cores(config)
    keep_freed_memory()


def _build(config: TrainConfig, run: Path, command: str) -> None:
    from ct_xception.pipeline.learning import cross_validate, make_checkpoint
    from ct_xception.pipeline.measuring import compare_with_start, measure_test
    from ct_xception.pipeline.splitting import load_and_split, look_across, plan_externals
    from ct_xception.training.loop import make_accelerator
    from ct_xception.training.preflight import check_before_reading, is_complete

    accelerator = make_accelerator(config, run)
    check_before_reading(config, run)
    if config.push_to_hub:
        from ct_xception.publish.hub import check_access

        check_access(config.push_to_hub, private=config.private)
    several = f"   ({accelerator.num_processes} processes)" if accelerator.num_processes > 1 else ""
    accelerator.print(f"run folder: {run}{several}")
    if is_complete(config, run):
        accelerator.print(f"{run / 'model'} is complete already; nothing is left to train or measure.")
        if accelerator.is_main_process:
            push(config, run)
        return
    context = look_across(load_and_split(config, run, accelerator, command))
    if config.only_fold is None:
        context = plan_externals(context)
        make_checkpoint(context)
    if "grouped" in config.protocols:
        cross_validate(context)
    if config.only_fold is None:
        metrics = measure_test(context)
        compare_with_start(context)
        if metrics is not None:  # as it is of the main process alone
            publish(run, metrics)
            push(config, run)
    accelerator.wait_for_everyone()
    accelerator.end_training()


def publish(run: Path, metrics: Metrics) -> None:
    """Write the card, seal the folder, put it in place, and say what came out."""
    from ct_xception.evaluation.report.figures import evaluation_summary
    from ct_xception.publish.card.card import write_card
    from ct_xception.training.model_folder import replace_model_folder

    folder = run / "model.partial"
    write_card(folder)
    seal(folder)
    replace_model_folder(folder, run / MODEL)
    print(f"\n{evaluation_summary(metrics)}")
    print(f"checkpoint: {run / 'model'}   (card: {CARD}, figures: {EVALUATION}/)")
    print(f"ask it:     ct-xception predict FILE --model {run / 'model'}")
    print(f"{RESEARCH_USE}")


def push(config: TrainConfig, run: Path) -> None:
    """Publish the finished checkpoint where --push_to_hub asks for it; --resume auto makes a failed push again."""
    if config.push_to_hub:
        from ct_xception.publish.hub import push_checkpoint

        pushed = push_checkpoint(run / MODEL, config.push_to_hub, private=config.private)
        print(f"published:  {pushed.url}   (commit {pushed.commit[:12]})")


def _open_run(config: TrainConfig, held: contextlib.ExitStack) -> Path:
    """The run folder, the same on every process, and `held` by the main one."""
    from accelerate.utils import broadcast_object_list

    state = join_processes()
    name = re.sub(r"[^\w.-]+", "-", Path(config.corpus.partition(":")[0]).name or "corpus").strip("-.")
    default = str(Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    run, problem = Path(broadcast_object_list([config.output_dir or default])[0]), None
    if state.is_main_process:
        try:
            _enter_run(config, run, held)
        except InputError as error:
            problem = str(error)
    if problem := broadcast_object_list([problem])[0]:
        raise InputError(problem)
    return run


def _enter_run(config: TrainConfig, run: Path, held: contextlib.ExitStack) -> None:
    from ct_xception.training.model_folder import recover_model_folder

    if run.exists() and not run.is_dir():
        raise InputError(f"--output_dir: {printable(run)} is a file; name a folder.")
    for folder in _foreign_locks(config, run):
        refuse_if_held(folder)
    if config.resume != "auto" and run.is_dir() and any(file.name != LOCK for file in run.iterdir()):
        raise InputError(
            f"--output_dir: {printable(run)} holds a run already; go on with it (--resume auto) or name another folder."
        )
    held.enter_context(run_lock(run if config.only_fold is None else run / "folds" / str(config.only_fold)))
    recover_model_folder(run / MODEL)


def _foreign_locks(config: TrainConfig, run: Path) -> list[Path]:
    """The folders that another run must not hold: machines may train a fold each (--only_fold), and nothing beside."""
    if config.only_fold is None:
        return [run, *sorted(path.parent for path in run.glob(f"folds/*/{LOCK}"))]
    return [run, run / "folds" / str(config.only_fold)]


def _quieten() -> None:
    """Leave the terminal to our own progress: transformers would draw a bar for every file that it reads or writes."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def command_record(program: Sequence[str], arguments: Sequence[str]) -> str:
    """The command for the checkpoint's record. That is published: of a path elsewhere it has the last part alone, and
    of a database's address nothing."""
    shown = []
    for argument in arguments:
        option, sign, value = argument.rpartition("=")
        private = os.path.isabs(value) or value.startswith(("..", "~"))
        value = "..." if "://" in value else Path(value).name if private else value
        shown.append(f"{option}{sign}{value}")
    return shlex.join([*program, *shown])


def _failures() -> tuple[type[Exception], ...]:
    """What libraries call a file that cannot be written, or memory that is not there."""
    import torch
    from safetensors import SafetensorError

    return (SafetensorError, torch.OutOfMemoryError)
