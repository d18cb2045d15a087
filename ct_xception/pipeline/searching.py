"""The search of hyperparameters as a stage: one corpus, one split, many trainings, and one winner that is tested once.

FOLDER/search.db            what every trial was and scored (or the storage of --storage)
FOLDER/trials/0007/         a trial's run: its options, epochs, weights, and answers to validation
FOLDER/trials.csv, search.html, search.json, best.yaml
FOLDER/winner/              the winner's run: checkpoint, figures, card; the only one that ever sees the test split
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from scipy.special import softmax

from ct_xception.checkpoint import SEARCH, STATE
from ct_xception.corpus.split import grouped_folds
from ct_xception.errors import InputError, WorkError, printable
from ct_xception.files import atomic_path, write_json
from ct_xception.model.configuration import make_config
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.pipeline.context import Context
from ct_xception.pipeline.learning import choose_unlabelled
from ct_xception.pipeline.run import build, set_up_process
from ct_xception.pipeline.search_report import report_search, told_search, write_trials
from ct_xception.pipeline.splitting import load_and_split
from ct_xception.statistics.calibration import calibration_figures
from ct_xception.statistics.selection import judge_selection
from ct_xception.training.data.cache import CachedSlices, prepare_slices
from ct_xception.training.distributed import join_processes, main_first
from ct_xception.training.loop import Training, TrainingError, make_accelerator
from ct_xception.training.options import METRICS, TrainConfig, augment_config, config_from_mapping
from ct_xception.training.search.check import check_search
from ct_xception.training.search.study import (
    EPOCHS,
    REFERENCE,
    GivenUp,
    Outcome,
    Proposal,
    Search,
    SearchOptions,
    Worker,
    counted,
    finished,
    first_number,
    open_study,
    pareto_front,
    take_up_again,
    telling_of_storage,
)
from ct_xception.training.validation import validation_figures

if TYPE_CHECKING:
    import optuna

    from ct_xception.statistics.selection import Selection

ANSWERS = "validation.npz"  # of a trial: the kept epoch's logits, the labels, and the patients
LOGITS = "logits.npy"  # of one training
LEFT = "left"  # in the study: whether the last worker that came has gone


def search_corpus(search: Search, command: str, *, resume: bool = False, finish: bool = True) -> None:
    """Search to the end of the budget, report, and train and measure the winner (if `finish`).

    Any number of processes may do the same with one folder and storage at once. Raises InputError.
    """
    _refuse_what_is_not_searched(search.recipe)
    check_search(search)
    join_processes()
    set_up_process(search.recipe)
    search.folder.mkdir(parents=True, exist_ok=True)
    with telling_of_storage(search.storage):
        winner = _search(search, command, resume=resume, finish=finish)
    # The winner is trained and measured by every process of the launch.
    if winner := broadcast_object_list([winner])[0]:
        build(config_from_mapping(winner), command)


def _search(search: Search, command: str, *, resume: bool, finish: bool) -> dict[str, Any] | None:
    """Every trial, and the report; the options of the winner, where it is to be trained, on the main process."""
    config = replace(search.trial_config, output_dir=str(search.folder))
    accelerator = make_accelerator(config)
    study, print_trial = None, TrialPrinter(search)
    if accelerator.is_main_process:
        study, made = open_study(search.storage, search.options, search.space)
        if not made and not resume and _was_begun(study) and _alone(study, search.options):
            raise InputError(
                f"--output_dir: {printable(search.folder)} holds a search already; go on with it (--resume auto) or "
                "name another folder."
            )
        if made:
            _ask_reference(search, study)
        elif resume:
            take_up_again(study)
    context = load_and_split(config, search.folder, accelerator, command)
    trainer = Trainer(search, context)
    with _present(study):
        Worker(study, search.space, search.options, accelerator, trainer).work(print_trial)
    return None if study is None else _finish(search, study, finish)


def _was_begun(study: optuna.Study) -> bool:
    """Whether a trial of this search was ever trained, to its end or not."""
    return any(one.state.name != "WAITING" for one in study.get_trials(deepcopy=False))


def _alone(study: optuna.Study, options: SearchOptions) -> bool:
    """Whether no other worker is at this search: none trains, and the last has left or was killed."""
    trials = study.get_trials(deepcopy=False)
    if any(one.state.name == "RUNNING" for one in trials):
        return False
    ended = [one.datetime_complete.timestamp() for one in trials if one.datetime_complete]
    # Between two of its trials a worker is seen by the last one alone.
    return bool(study.user_attrs.get(LEFT)) or time.time() - max(ended, default=0.0) > 3 * options.heartbeat


@contextlib.contextmanager
def _present(study: optuna.Study | None) -> Iterator[None]:
    """Note in the study that a worker is there, and when it leaves."""
    if study is None:
        yield
        return
    study.set_user_attr(LEFT, False)
    try:
        yield
    finally:
        study.set_user_attr(LEFT, True)


def _refuse_what_is_not_searched(config: TrainConfig) -> None:
    given = {"--replay": config.replay, "--soup": config.soup, "--only_fold": config.only_fold is not None}
    for option, value in given.items():
        if value:
            raise InputError(f"{option}: is not for a search; give it to the training that follows.")


def _ask_reference(search: Search, study: optuna.Study) -> None:
    """The recipe itself, as far as the space holds it, is the first trial: what the others have to beat."""
    if search.options.sampler == "grid":
        return
    config, values = search.trial_config, {}
    for one in search.space.dimensions:
        own = _own_value(config, one.name)
        if own is None or not one.holds(own) or not _asked(config, one.when):
            continue
        values[one.name] = one.stored(own)
    study.enqueue_trial(values, user_attrs={REFERENCE: True})


def _asked(config: TrainConfig, when: Mapping[str, tuple[Any, ...]]) -> bool:
    return all(_own_value(config, name) in values for name, values in when.items())


def _own_value(config: TrainConfig, name: str) -> Any:
    return getattr(augment_config(config), name.partition(".")[2]) if "." in name else getattr(config, name)


class Trainer:
    """Trains what is proposed, on the corpus and the split of the search; see `RunTrial`."""

    def __init__(self, search: Search, context: Context) -> None:
        self.search, self.context = search, context
        self.parts = list(_parts(context, search.options.folds))

    def __call__(self, proposal: Proposal, report: Callable[[float, int], None]) -> Outcome:
        started = time.monotonic()
        folder = self.search.folder_of(proposal.first_number)
        try:
            config = replace(self.search.configure(proposal.options), output_dir=str(folder), resume="auto")
        except InputError as error:
            raise GivenUp(f"options that do not go together: {error}") from error
        recorder = _EpochRecorder(report, config.metric)
        found = [self._train(config, folder, number, recorder) for number in range(len(self.parts))]
        logits, labels, groups = (np.concatenate(list(column)) for column in zip(*found, strict=True))
        if self.context.accelerator.is_main_process:
            with atomic_path(folder / ANSWERS) as temporary, open(temporary, "wb") as stream:
                np.savez(stream, logits=logits, labels=labels, groups=groups)
        values = score(logits, labels, config, self.search.options.objectives)
        notes = {EPOCHS: recorder.epochs, "seconds": round(time.monotonic() - started, 1)}
        return Outcome(values, notes | {"folder": folder.relative_to(self.search.folder).as_posix()})

    def _train(
        self, config: TrainConfig, folder: Path, number: int, recorder: _EpochRecorder
    ) -> tuple[NDArray, NDArray[np.integer], NDArray]:
        """One training, of a fold or of the split's own parts; the kept epoch's answers to what it did not train on."""
        part, accelerator = self.parts[number], self.context.accelerator
        run = folder / "folds" / str(number + 1) if len(self.parts) > 1 else folder
        if accelerator.is_main_process:
            write_json(folder / "config.json", config.mapping)
        accelerator.free_memory()  # the network before this one
        train, validation = (self._slices(config, names) for names in (part.train, part.validation))
        held = [(0, source) for source in (*part.validation, *self.context.splits["test"]["source"])]
        extra = choose_unlabelled(self.context, held)[1]
        try:
            training = Training(
                config,
                accelerator,
                run,
                label_names=self.context.label_names,
                split=part.name,
                train=train,
                validation=validation,
                unlabelled=extra,
            )
            recorder.run, training.on_epoch = run, recorder
            recorder.epochs += len(training.fit().history)
        except TrainingError as error:
            raise GivenUp(str(error)) from error
        finally:
            accelerator.free_memory()
        return np.load(run / LOGITS, allow_pickle=False), np.asarray(validation.labels), np.asarray(validation.groups)

    def _slices(self, config: TrainConfig, sources: Sequence[str]) -> CachedSlices:

        cache = self.search.folder / "cache"
        with main_first(self.context.accelerator):
            whole = [
                prepare_slices(self.context.splits[name], cache, config.reading, description=f"reading {name}")
                for name in ("train", "validation")
            ]
        return CachedSlices.join(whole).select(sources)


class _EpochRecorder:
    """Told of every epoch: keeps the answers of the best one beside the run, and reports how the trial goes."""

    def __init__(self, report: Callable[[float, int], None], metric: str) -> None:
        self.report, self.metric = report, metric
        self.epochs, self.run = 0, Path()

    def __call__(self, record: Mapping[str, Any], logits: NDArray, kept: bool) -> None:
        if kept and int(os.environ.get("RANK", "0")) == 0:
            with atomic_path(self.run / LOGITS) as temporary, open(temporary, "wb") as stream:
                np.save(stream, logits)
        figure = record[f"validation_{self.metric}"]
        self.report(float("nan") if figure is None else float(figure), record["epoch"])


@dataclass(frozen=True)
class _Part:
    """One training of a trial: the sources of its two sides, and the name of this division."""

    train: list[str]
    validation: list[str]
    name: str


def _parts(context: Context, folds: int) -> Iterator[_Part]:
    """The split's own training and validation sides; or grouped folds of the two together. Never the test side."""
    own = {name: list(context.splits[name]["source"]) for name in ("train", "validation")}
    if not folds:
        yield _Part(own["train"], own["validation"], context.split["name"])
        return
    from datasets import DatasetDict

    together = DatasetDict({name: context.splits[name] for name in own})
    drawn, described = grouped_folds(together, folds, seed=context.config.seed)
    for fold, record in zip(drawn, described["folds"], strict=True):
        yield _Part(
            [*fold["train"]["source"], *fold["validation"]["source"]], list(fold["test"]["source"]), record["name"]
        )


def score(logits: NDArray, labels: NDArray, config: TrainConfig, objectives: Sequence[str]) -> tuple[float, ...]:
    """The value of every objective: a figure of the logits (N, K), their calibration error, or millions of weights.

    The calibration error is that of the raw answers, before a temperature is fitted.
    """
    figures = validation_figures(logits, labels)
    values = []
    for name in objectives:
        if name in METRICS:
            value = figures[name]
        elif name == "calibration_error":
            value = calibration_figures(softmax(logits, axis=1), labels, resamples=0).ece.value
        else:
            value = parameters_in_millions(config)
        if value is None or not np.isfinite(value):
            raise GivenUp(f"its {name} on validation cannot be had")
        values.append(float(value))
    return tuple(values)


def parameters_in_millions(config: TrainConfig) -> float:
    """The size of a configuration's network."""
    built = make_config(config.backbone, ["a", "b"], config.image_size, head=config.head, attention=config.attention)
    with torch.device("meta"):
        network = CTXceptionForImageClassification(built)
    return sum(one.numel() for one in network.parameters()) / 1e6


class TrialPrinter:
    """Prints a line after each trial: what it scored, the best so far, and how long the rest may take."""

    def __init__(self, search: Search) -> None:
        self.search, self.started, self.done = search, time.monotonic(), 0

    def __call__(self, study: optuna.Study) -> None:
        trials = counted(study)
        if not trials:
            return
        self.done += 1
        ended = [one for one in trials if one.state.name in ("COMPLETE", "PRUNED")]
        last = max(ended, key=lambda one: (one.datetime_complete is not None, one.datetime_complete))
        print(
            f"trial {last.number}: {describe_trial(last, self.search.options)}{self._best(study)}{self._left(ended)}",
            flush=True,
        )
        write_trials(study, self.search)
        drop_states(study, self.search)

    def _best(self, study: optuna.Study) -> str:
        front = pareto_front(study)
        if not front:
            return ""
        if len(self.search.options.objectives) > 1:
            return f"; {len(front)} trial{'s' * (len(front) > 1)} on the front"
        return f"; best so far {front[0].values[0]:.4f} (trial {front[0].number})"

    def _left(self, ended: Sequence[Any]) -> str:
        options, spent = self.search.options, time.monotonic() - self.started
        if options.trials <= 0 or self.done == 0:
            return ""
        minutes = (options.trials - len(ended)) * spent / self.done / 60
        return f"; {len(ended)} of {options.trials}, about {minutes:.0f} min left" if minutes >= 0 else ""


def drop_states(study: optuna.Study, search: Search) -> None:
    """Delete what only going on with a training needs (optimizer, averages: four times its weights) of the trials that
    have ended and are not the best; their weights stay."""
    best = {one.number for one in pareto_front(study)}
    for one in counted(study):
        if one.state.name in ("COMPLETE", "PRUNED") and one.number not in best:
            for file in search.folder_of(first_number(one)).rglob(STATE):
                file.unlink(missing_ok=True)


def describe_trial(trial: Any, options: SearchOptions) -> str:
    """What one trial scored, in words."""
    if trial.state.name != "COMPLETE":
        return f"given up ({trial.user_attrs.get('reason', 'pruned')})"
    return ", ".join(f"{name} {value:.4f}" for name, value in zip(options.objectives, trial.values, strict=True))


def read_answers(search: Search, trial: Any) -> tuple[NDArray, NDArray, NDArray] | None:
    """A trial's logits (N, K), labels and patients of validation; None where they are not here."""
    file = search.folder / trial.user_attrs.get("folder", "") / ANSWERS
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as held:
        return held["logits"], held["labels"], held["groups"]


def judge(search: Search, study: optuna.Study) -> tuple[Selection, list[Any]] | None:
    """What the choice of the best trial is worth, and the trials that were judged; None without answers to judge."""
    held = [(trial, found) for trial in finished(study) if (found := read_answers(search, trial)) is not None]
    if not held:
        return None
    _, labels, groups = held[0][1]
    alike = [(trial, found[0]) for trial, found in held if np.array_equal(found[1], labels)]
    trials = [trial for trial, _ in alike]
    reference = next((i for i, trial in enumerate(trials) if trial.user_attrs.get(REFERENCE)), None)
    judged = judge_selection(
        [own for _, own in alike],
        labels,
        groups.tolist(),
        search.options.objectives[0],
        reference=reference,
        seed=search.options.seed,
    )
    return judged, trials


def _finish(search: Search, study: optuna.Study, go_on: bool) -> dict[str, Any] | None:
    """Say what came out; the options of the winner's run, where it is still to be trained and measured."""
    if not pareto_front(study):
        raise WorkError("no trial came to its end; trials.csv says why each was given up.")
    record = report_search(study, search, judge(search, study))
    winner = search.folder / "winner"
    if go_on and (winner / "model" / "README.md").is_file():
        print(f"winner: {winner / 'model'} is complete already.")
        return None
    return _begin_winner(search, record, winner) if go_on else None


def _begin_winner(search: Search, record: Mapping[str, Any], winner: Path) -> dict[str, Any]:
    """The winner's run folder, which takes its trial's own weights where trials were trainings in full; its options."""
    own = search.folder / record["winner"]["folder"]
    winner.mkdir(parents=True, exist_ok=True)
    whole = not search.proxy and not search.options.folds and any(own.rglob(STATE))
    if whole and not (winner / "checkpoints").exists():
        for name in ("checkpoints", "history.jsonl"):
            source, target = own / name, winner / name
            if source.is_dir():
                shutil.copytree(source, target.with_name(f"{name}.partial"), dirs_exist_ok=True)
                target.with_name(f"{name}.partial").rename(target)
            elif source.is_file():
                shutil.copyfile(source, target)
    write_json(winner / SEARCH, told_search(search, record).to_json())
    print(
        f"\nwinner: trial {record['winner']['number']}, now measured on the test split, once, in {winner}", flush=True
    )
    return record["winner"]["options"] | {"output_dir": str(winner), "resume": "auto"}
