"""A search of hyperparameters: Optuna proposes, this room trains, a storage that any number of workers share remembers.

The first process of each worker speaks to the storage; the others of a launch are told. A trial that is killed is taken
up again, from its last epoch, by whichever worker next finds its heartbeat gone; one that was begun beyond the budget,
since two workers asked at once, is given back. So no trial is lost, and none is counted twice.
"""

from __future__ import annotations

import os
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ct_xception.errors import InputError, WorkError, printable
from ct_xception.statistics.selection import LOWER_IS_BETTER
from ct_xception.training.options import METRICS, TrainConfig
from ct_xception.training.search.space import Space, apply_options

if TYPE_CHECKING:
    import optuna
    from accelerate import Accelerator
    from optuna.trial import FrozenTrial, Trial

Direction = Literal["minimize", "maximize"]
SAMPLERS = ("tpe", "random", "grid", "cmaes", "qmc")
PRUNERS = ("median", "hyperband", "none")
OBJECTIVES = (*METRICS, "calibration_error", "parameters")
SMALLER_IS_BETTER = LOWER_IS_BETTER | {"calibration_error", "parameters"}
STUDY = "ct-xception"
# What is noted of a trial: why it was given up, how many epochs it had, whether it is the recipe to beat.
REASON, EPOCHS, REFERENCE = "reason", "epochs", "reference"
SURPLUS = "begun beyond the budget"


@dataclass(frozen=True)
class SearchOptions:
    """How to search. Raises InputError, naming the option, for what does not go together.

    `trials`, `hours` and `epochs` bound the search, whichever is reached first (0: not bounded by it); `heartbeat` is
    in seconds, and a trial that gave none for three of them is another worker's.
    """

    objectives: tuple[str, ...] = ("loss",)
    sampler: str = "tpe"
    pruner: str = "median"
    trials: int = 20
    hours: float = 0.0
    epochs: int = 0
    folds: int = 0
    points: int = 3
    seed: int = 0
    heartbeat: int = 60

    def __post_init__(self) -> None:
        for option, given, known in (
            ("--sampler", (self.sampler,), SAMPLERS),
            ("--pruner", (self.pruner,), PRUNERS),
            ("--objectives", self.objectives, OBJECTIVES),
        ):
            for name in given:
                if name not in known:
                    raise InputError(f"{option}: {name!r} is not one of {', '.join(known)}.")
        if not self.objectives or self.objectives[0] not in METRICS:
            raise InputError(f"--objectives: the first chooses the epoch too; give one of {', '.join(METRICS)}.")
        if len(set(self.objectives)) < len(self.objectives):
            raise InputError("--objectives: one is named twice.")
        if self.trials <= 0 and self.hours <= 0 and self.epochs <= 0 and self.sampler != "grid":
            raise InputError("--trials, --hours and --epochs_in_all are all 0: the search would never end; bound it.")
        if self.folds == 1:
            raise InputError("--folds: 1 is no cross-validation; give 0 or at least 2.")
        if self.sampler == "cmaes" and len(self.objectives) > 1:
            raise InputError("--sampler cmaes: knows one objective alone; take tpe, random or qmc for several.")

    @property
    def directions(self) -> list[Direction]:
        """Which way each objective is better, in Optuna's words."""
        return ["minimize" if name in SMALLER_IS_BETTER else "maximize" for name in self.objectives]

    @property
    def prunes(self) -> bool:
        """Whether poor trials are given up: with one objective, and without folds, which begin anew."""
        return self.pruner != "none" and len(self.objectives) == 1 and not self.folds


@dataclass(frozen=True, eq=False)
class Search:
    """What a search works on: the recipe that trials vary, what stands in for the full training, and where it lies.

    `recipe` is the full training; trials have `proxy` (options that make them cheap) on top of it, and of what the
    space fixes. Raises InputError for a proxy of what is searched.
    """

    recipe: TrainConfig
    proxy: Mapping[str, Any]
    space: Space
    options: SearchOptions
    folder: Path
    storage: str

    def __post_init__(self) -> None:
        if both := [one.name for one in self.space.dimensions if one.name in self.proxy]:
            raise InputError(f"--proxy {both[0]}: the space searches it, too; leave it out of one of them.")

    @property
    def trial_config(self) -> TrainConfig:
        """The recipe as trials train it: the figure that is searched for also chooses the epoch."""
        return replace(apply_options(self.recipe, self.proxy), metric=self.options.objectives[0])

    def configure(self, options: Mapping[str, Any]) -> TrainConfig:
        """A trial's configuration; what the space fixes gives way to what makes trials cheap. Raises InputError."""
        own = {name: value for name, value in options.items() if name not in self.proxy}
        return apply_options(self.trial_config, own)

    def folder_of(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.folder / "trials" / f"{number:04d}"


@dataclass(frozen=True, eq=False)
class Proposal:
    """What one trial is to train: its number, the number under which it was first begun, and its options."""

    number: int
    first_number: int
    options: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a trial scored: a value an objective, and what is noted beside them."""

    values: tuple[float, ...]
    notes: Mapping[str, Any]


class GivenUp(Exception):
    """A trial that ends before its last epoch: pruned, diverged, or with options that do not go together."""


# Trains one proposal; `report(value, epoch)` says how it goes, and raises GivenUp where that is too poor to go on.
RunTrial = Callable[[Proposal, Callable[[float, int], None]], Outcome]


def open_study(storage: str, options: SearchOptions, space: Space) -> tuple[optuna.Study, bool]:
    """The study in a storage, and whether this worker has made it.

    Raises InputError where the storage cannot be had or holds another search.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    place = _open_storage(storage, options)
    stated: dict[str, Any] = {"space": space.to_json(), "objectives": list(options.objectives), "folds": options.folds}
    try:
        study = optuna.create_study(storage=place, study_name=STUDY, directions=options.directions)
        made = True
        for name, value in stated.items():
            study.set_user_attr(name, value)
    except optuna.exceptions.DuplicatedStudyError:
        study, made = optuna.load_study(storage=place, study_name=STUDY), False
    found = _wait_for_statement(study, list(stated))
    for name, value in stated.items():
        if found[name] != value:
            raise InputError(
                f"--{name}: the search in this storage was begun with another; give the same, or another folder."
            )
    # The first worker's draws follow from the seed; those that join must not draw the same again.
    entropy = [options.seed] if made else [options.seed, os.getpid(), time.time_ns()]
    draws = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    study.sampler, study.pruner = _sampler(options, space, draws), _pruner(options)
    return study, made


@contextmanager
def telling_of_storage(storage: str) -> Iterator[None]:
    """Raise WorkError where the storage of a search, once opened, takes or gives nothing any more."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ or error
        reason = " ".join(str(getattr(cause, "orig", None) or cause).split())[:200]
        raise WorkError(
            f"--storage: {_without_password(storage)} no longer does its work ({printable(reason)}); make room, or "
            "start it again, and go on with the same command and --resume auto."
        ) from error


def _wait_for_statement(study: optuna.Study, names: Sequence[str]) -> Mapping[str, Any]:
    """What the maker of a study says of it, which a worker that comes a moment later may have to wait for."""
    for _ in range(100):
        found = study.user_attrs
        if all(name in found for name in names):
            return found
        time.sleep(0.1)
    raise InputError("--storage: holds a study of this name that is no search of ours; give another storage.")


def _open_storage(storage: str, options: SearchOptions) -> optuna.storages.BaseStorage:
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    if "://" not in storage:
        return JournalStorage(JournalFileBackend(storage, lock_obj=JournalFileOpenLock(storage)))
    for patience in (2.0, 4.0, 8.0, 0.0):
        try:
            place = RDBStorage(
                storage,
                heartbeat_interval=options.heartbeat,
                grace_period=3 * options.heartbeat,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
                engine_kwargs={"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else None,
            )
            return _one_writer(place) if storage.startswith("sqlite") else place
        except ImportError as error:
            raise InputError(f"--storage: its driver is missing ({error}); install it, or take a file.") from error
        except Exception as error:  # each database has errors of its own
            # Workers that start at once all find no tables and make them; the slower ones only have to look again.
            if patience == 0.0 or "onnect" in str(error):
                reason = " ".join(str(error).split())[:200]
                raise InputError(f"--storage: {_without_password(storage)} cannot be opened ({reason}).") from error
            time.sleep(patience * random.random())
    raise AssertionError("the last try returns or raises")


def _one_writer(storage: optuna.storages.RDBStorage) -> optuna.storages.RDBStorage:
    """Have every transaction take SQLite's write lock as it begins.

    Optuna locks the row of a trial before it looks whether the trial is still to be had, and SQLite has no such lock:
    two workers both found it waiting, and trained it twice. (The recipe is that of SQLAlchemy's page on pysqlite.)
    """
    from sqlalchemy import event

    @event.listens_for(storage.engine, "connect")
    def leave_transactions_to_us(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(storage.engine, "begin")
    def lock(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    storage.engine.dispose()  # connections that were made before know nothing of this
    return storage


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _sampler(options: SearchOptions, space: Space, seed: int) -> optuna.samplers.BaseSampler:
    from optuna import samplers

    if options.sampler == "grid":
        return samplers.GridSampler(space.grid(options.points), seed=seed)
    if options.sampler == "random":
        return samplers.RandomSampler(seed=seed)
    if options.sampler == "qmc":
        return samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
    if options.sampler == "cmaes":
        try:
            import cmaes  # noqa: F401
        except ImportError:
            raise InputError("--sampler cmaes: needs the package cmaes; pip install 'ct-xception[tune]'.") from None
        return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    return samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=8)


def _pruner(options: SearchOptions) -> optuna.pruners.BasePruner:
    from optuna import pruners

    if not options.prunes:
        return pruners.NopPruner()
    if options.pruner == "hyperband":
        return pruners.HyperbandPruner()
    return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)


class Worker:
    """One worker of a search: asks for trials and has them trained until the budget is spent."""

    def __init__(
        self,
        study: optuna.Study | None,
        space: Space,
        options: SearchOptions,
        accelerator: Accelerator,
        run_trial: RunTrial,
    ) -> None:
        """`study` is the main process's; the others of a launch have None."""
        self.study, self.space, self.options = study, space, options
        self.accelerator, self.run_trial = accelerator, run_trial
        self.started = time.monotonic()
        self.taken_over = False  # the trial that is trained: its heartbeat failed, and another worker has it

    def work(self, after_trial: Callable[[optuna.Study], None] = lambda study: None) -> None:
        """Train trial after trial; `after_trial` is given the study after each, on the main process."""
        if self.study is None:
            self._follow()
            return
        try:
            while self._wants_more():
                self._try_one(self.study)
                after_trial(self.study)
        finally:
            self._broadcast(None)

    def _try_one(self, study: optuna.Study) -> None:
        self.taken_over = False
        try:
            study.optimize(self._lead, n_trials=1, catch=(_GivenBack,))
        except ValueError:  # what Optuna says to an answer that nobody waits for
            if not self.taken_over:
                raise
            print("a trial is another worker's: no heartbeat of this one came in time (did it sleep?)", file=sys.stderr)

    def _wants_more(self) -> bool:
        """Whether there is a trial to begin; waits while others train the last ones, which may yet be killed."""
        assert self.study is not None
        while True:
            _fail_stale(self.study)
            trials = counted(self.study)
            waiting = any(one.state.name == "WAITING" for one in trials)
            running = [one for one in trials if one.state.name == "RUNNING"]
            if self._is_spent(trials):
                return False
            if waiting or not self.options.trials or len(trials) < self.options.trials:
                if self.options.sampler == "grid" and not waiting and self._grid_is_done(trials):
                    return False
                return True
            if not running:
                return False
            time.sleep(min(5.0, self.options.heartbeat))

    def _is_spent(self, trials: Sequence[FrozenTrial]) -> bool:
        hours = (time.monotonic() - self.started) / 3600
        epochs = sum(one.user_attrs.get(EPOCHS, 0) for one in trials)
        return (0 < self.options.hours <= hours) or (0 < self.options.epochs <= epochs)

    def _grid_is_done(self, trials: Sequence[FrozenTrial]) -> bool:
        sizes = [len(values) for values in self.space.grid(self.options.points).values()]
        return len(trials) >= int(np.prod(sizes))

    def _lead(self, trial: Trial) -> float | Sequence[float]:
        import optuna

        _beat(trial)
        if self._is_surplus(trial):
            trial.set_user_attr(REASON, SURPLUS)
            raise _GivenBack
        own = trial.study.get_trials(deepcopy=False)[trial.number]
        proposal = Proposal(trial.number, first_number(own), self.space.suggest(trial))
        self._broadcast(proposal)
        try:
            outcome = self.run_trial(proposal, lambda value, epoch: self._report(trial, value, epoch))
        except GivenUp as error:
            self._note(trial, {REASON: str(error)})
            raise optuna.TrialPruned(str(error)) from error
        self._note(trial, outcome.notes)
        if self.taken_over:
            raise optuna.TrialPruned  # with an answer Optuna would trip over its own assertion
        return outcome.values if len(outcome.values) > 1 else outcome.values[0]

    def _is_surplus(self, trial: Trial) -> bool:
        assert self.study is not None
        earlier = [one for one in counted(self.study) if one.number < trial.number]
        return 0 < self.options.trials <= len(earlier)

    def _report(self, trial: Trial, value: float, epoch: int) -> None:
        self._note(trial, {EPOCHS: epoch})
        if len(self.options.objectives) == 1 and not self.taken_over:
            trial.report(value, epoch)
        poor = self.taken_over or (self.options.prunes and trial.should_prune())
        if self._broadcast(poor):
            raise GivenUp(f"poorer than the others after epoch {epoch}")

    def _note(self, trial: Trial, notes: Mapping[str, Any]) -> None:
        """Note something of a trial, if it is still this worker's."""
        state = trial.study.get_trials(deepcopy=False)[trial.number].state.name
        self.taken_over = self.taken_over or state != "RUNNING"
        for name, value in notes.items() if not self.taken_over else ():
            trial.set_user_attr(name, value)

    def _follow(self) -> None:
        """The other processes of a launch: train what the main one says, and end as it does."""
        while (proposal := self._broadcast(None)) is not None:
            try:
                self.run_trial(proposal, self._heed)
            except GivenUp:
                continue

    def _heed(self, value: float, epoch: int) -> None:
        if self._broadcast(False):
            raise GivenUp(f"poorer than the others after epoch {epoch}")

    def _broadcast(self, value: Any) -> Any:
        """What the main process says."""
        if self.accelerator.num_processes == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]


class _GivenBack(Exception):
    """A trial begun beyond the budget."""


def first_number(trial: FrozenTrial) -> int:
    """The number under which a trial was first begun, before a worker was killed in it: that of its folder."""
    import optuna

    begun = optuna.storages.RetryHeartbeatStaleTrialCallback.retry_history(trial)
    return int(begun[0]) if begun else trial.number


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count: all but those that were killed, whose successors count, or begun beyond the budget."""
    return [one for one in study.get_trials(deepcopy=False) if one.state.name != "FAIL"]


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that went to their end, by number."""
    return [one for one in study.get_trials(deepcopy=False) if one.state.name == "COMPLETE"]


def take_up_again(study: optuna.Study) -> int:
    """Put the trials that an interruption ended back in the queue, once each; how many. They go on where they were."""
    import optuna

    trials = study.get_trials(deepcopy=False)
    again = optuna.storages.RetryHeartbeatStaleTrialCallback()
    succeeded = {number for one in trials for number in again.retry_history(one)}
    left = [
        one
        for one in trials
        if one.state.name == "FAIL" and one.number not in succeeded and REASON not in one.user_attrs and one.params
    ]
    for one in left:
        again(study, one)
    return len(left)


def _beat(trial: Trial) -> None:
    """Give the first sign of life at once: of who is killed before it, the others would wait for one for ever."""
    if record := getattr(trial.storage, "record_heartbeat", None):  # journal files know none
        record(trial._trial_id)


def _fail_stale(study: optuna.Study) -> None:
    import optuna

    with _quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optuna.storages.fail_stale_trials(study)


@contextmanager
def _quiet() -> Iterator[None]:
    """Journal files know no heartbeat, and say so with an error; there a killed trial waits for --resume auto."""
    try:
        yield
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        return


def pareto_front(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that no other one betters in every objective, those first that are best by the first objective.

    With one objective that is the single best one, or those that tie.
    """
    if not finished(study):
        return []
    sign = 1 if study.directions[0].name == "MINIMIZE" else -1
    return sorted(study.best_trials, key=lambda one: (sign * one.values[0], one.number))
