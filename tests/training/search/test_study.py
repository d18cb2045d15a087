"""The search's bookkeeping, with a network that answers at once: budgets, workers, kills, pruning, front."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import sqlalchemy.exc

from ct_xception.errors import InputError, WorkError
from ct_xception.training.search.space import parse_space
from ct_xception.training.search.study import (
    EPOCHS,
    REASON,
    GivenUp,
    Outcome,
    Proposal,
    SearchOptions,
    Worker,
    counted,
    finished,
    open_study,
    pareto_front,
    take_up_again,
    telling_of_storage,
)

SPACE = parse_space({"learning_rate": {"from": 1e-4, "to": 1.0, "log": True}}, "space")
ALONE: Any = SimpleNamespace(num_processes=1)


def bowl(proposal: Proposal, report: Callable[[float, int], None]) -> Outcome:
    """Two epochs whose loss is least at a learning rate of 0.01."""
    import math

    loss = abs(math.log10(proposal.options["learning_rate"]) + 2)
    for epoch in (1, 2):
        report(loss / epoch, epoch)
    return Outcome((loss,), {})


def search(storage: str, options: SearchOptions, run: Any = bowl) -> Any:
    study, _ = open_study(storage, options, SPACE)
    Worker(study, SPACE, options, ALONE, run).work()
    return study


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "grid", "cmaes"])
def test_every_sampler_ends_with_its_budget(sampler: str, tmp_path: Path) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    study = search(f"sqlite:///{tmp_path}/a.db", SearchOptions(sampler=sampler, trials=6, points=6, pruner="none"))
    assert len(finished(study)) == 6
    assert len({one.params["learning_rate"] for one in finished(study)}) == 6


def test_a_search_goes_on_and_the_same_seed_draws_the_same(tmp_path: Path) -> None:
    options = SearchOptions(sampler="random", trials=4)
    first = search(f"sqlite:///{tmp_path}/a.db", options)
    again = search(f"sqlite:///{tmp_path}/b.db", options)
    assert [one.params for one in first.trials] == [one.params for one in again.trials]
    more = search(f"sqlite:///{tmp_path}/a.db", SearchOptions(sampler="random", trials=6))
    assert len(counted(more)) == 6
    assert len({one.params["learning_rate"] for one in more.trials}) == 6


def test_a_journal_file_is_a_storage_too(tmp_path: Path) -> None:
    assert len(finished(search(str(tmp_path / "search.journal"), SearchOptions(trials=3)))) == 3


def test_poor_trials_are_pruned_and_count(tmp_path: Path) -> None:
    study = search(f"sqlite:///{tmp_path}/a.db", SearchOptions(sampler="random", trials=20))
    states = [one.state.name for one in counted(study)]
    assert states.count("PRUNED") > 0
    assert len(states) == 20
    pruned = next(one for one in study.trials if one.state.name == "PRUNED")
    assert pruned.user_attrs[REASON] == f"poorer than the others after epoch {pruned.user_attrs[EPOCHS]}"


def test_epochs_bound_a_search(tmp_path: Path) -> None:
    study = search(f"sqlite:///{tmp_path}/a.db", SearchOptions(trials=0, epochs=7, pruner="none"))
    assert len(finished(study)) == 4


def test_what_a_trial_cannot_do_is_noted_and_counts(tmp_path: Path) -> None:
    def impossible(proposal: Proposal, report: Any) -> Outcome:
        raise GivenUp("options that do not go together")

    study = search(f"sqlite:///{tmp_path}/a.db", SearchOptions(trials=2), impossible)
    assert [one.user_attrs[REASON] for one in study.trials] == ["options that do not go together"] * 2
    assert pareto_front(study) == []


def test_an_interrupted_trial_is_taken_up_again_in_its_own_folder(tmp_path: Path) -> None:
    storage, options = f"sqlite:///{tmp_path}/a.db", SearchOptions(sampler="random", trials=3)
    seen: list[tuple[int, int, float]] = []

    def interrupted(proposal: Proposal, report: Any) -> Outcome:
        seen.append((proposal.number, proposal.first_number, proposal.options["learning_rate"]))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return bowl(proposal, report)

    with pytest.raises(KeyboardInterrupt):
        search(storage, options, interrupted)
    study, _ = open_study(storage, options, SPACE)
    assert take_up_again(study) == 1
    assert take_up_again(study) == 0
    Worker(study, SPACE, options, ALONE, interrupted).work()
    assert len(finished(study)) == 3
    assert seen[1][2] == seen[2][2]
    assert seen[2][:2] == (2, 1)


def test_several_objectives_have_a_front(tmp_path: Path) -> None:
    def two(proposal: Proposal, report: Any) -> Outcome:
        rate = proposal.options["learning_rate"]
        return Outcome((rate, 1 - rate), {})

    options = SearchOptions(objectives=("loss", "calibration_error"), sampler="random", trials=5)
    study = search(f"sqlite:///{tmp_path}/a.db", options, two)
    front = pareto_front(study)
    assert len(front) == 5 and front[0].values[0] == min(one.values[0] for one in front)  # not the first that came
    assert front[0].number != 0


def test_another_search_in_the_storage_is_refused(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/a.db"
    search(storage, SearchOptions(trials=1))
    with pytest.raises(InputError, match="--space: the search in this storage was begun with another"):
        open_study(storage, SearchOptions(), parse_space({"dropout": [0.1, 0.2]}, "other"))


def test_a_storage_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(InputError, match="--storage: ") as raised:
        open_study("postgresql+nodriver://me:secret@localhost/x", SearchOptions(), SPACE)
    assert "secret" not in str(raised.value)


def test_a_storage_that_fails_on_the_way_is_one_sentence_without_its_password() -> None:
    full = sqlalchemy.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))
    failed = optuna.exceptions.StorageInternalError("An exception is raised during the commit.\n")
    failed.__cause__ = full
    said = r"^--storage: x://host/a no longer does its work \(database or disk is full\); make room.*--resume auto\.$"
    for error in (full, failed):
        with pytest.raises(WorkError, match=said), telling_of_storage("x://me:secret@host/a"):
            raise error


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"sampler": "bayes"}, "--sampler: 'bayes' is not one of"),
        ({"objectives": ("size",)}, "--objectives: 'size' is not one of"),
        ({"objectives": ("parameters",)}, "the first chooses the epoch too"),
        ({"trials": 0}, "would never end"),
        ({"folds": 1}, "no cross-validation"),
        ({"sampler": "cmaes", "objectives": ("loss", "parameters")}, "knows one objective alone"),
    ],
)
def test_options_are_checked(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SearchOptions(**wrong)


WORKER = """
    import os, signal, sys, time
    from pathlib import Path
    from tests.training.search.test_study import ALONE, SPACE, bowl
    from ct_xception.training.search.study import SearchOptions, Worker, open_study
    storage, dies, done = sys.argv[1:]
    killed = Path(done).with_name("killed")
    options = SearchOptions(sampler="random", trials=8, pruner="none", heartbeat=4)  # 1 fails who lives under load
    def run(proposal, report):
        if dies == "dies":
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.2)
        with open(done, "a") as stream:
            stream.write(f"{proposal.options['learning_rate']!r}\\n")
        return bowl(proposal, report)
    study, _ = open_study(storage, options, SPACE)
    while dies != "dies" and not killed.exists():  # the others could end the search before its first trial
        time.sleep(0.05)
    Worker(study, SPACE, options, ALONE, run).work()
"""


def race(storage: str, folder: Path) -> list[str]:
    """Four workers on one storage, one of which is killed in its first trial; what was trained to its end."""
    done = folder / "done.txt"
    start = [sys.executable, "-c", textwrap.dedent(WORKER), storage]
    workers = [
        subprocess.Popen([*start, "dies" if index == 0 else "lives", str(done)], stderr=subprocess.PIPE)
        for index in range(4)
    ]
    codes = [worker.wait(timeout=240) for worker in workers]
    assert codes == [-9, 0, 0, 0], [worker.stderr.read() for worker in workers if worker.stderr]
    return done.read_text().split()


def test_of_four_workers_one_is_killed_and_no_trial_is_lost_or_done_twice(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/shared.db"
    trained = race(storage, tmp_path)
    study, _ = open_study(storage, SearchOptions(sampler="random", trials=8), SPACE)
    assert len(finished(study)) == len(counted(study)) == 8
    assert len(trained) == len(set(trained)) == 8


def test_a_waiting_trial_is_had_by_one_worker_of_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other worker asks for it when the first has seen that it waits, and has not yet said that it has it."""
    from optuna.storages import RDBStorage
    from optuna.trial import TrialState

    options = SearchOptions(sampler="random", trials=8)
    study, other = (open_study(f"sqlite:///{tmp_path}/a.db", options, SPACE)[0] for _ in range(2))
    study.enqueue_trial({"learning_rate": 0.1})
    (waiting,) = study.get_trials(deepcopy=False)
    look, got = RDBStorage.check_trial_is_updatable, list[bool]()

    def take(storage: Any) -> None:
        got.append(storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING))

    def interrupted(storage: Any, trial: int, state: TrialState) -> None:
        look(storage, trial, state)
        if storage is first and rival.ident is None:
            rival.start()
            rival.join(1.0)

    first, second = (one._storage._backend for one in (study, other))
    rival = threading.Thread(target=take, args=(second,))
    monkeypatch.setattr(RDBStorage, "check_trial_is_updatable", interrupted)
    take(first)
    rival.join()
    assert sorted(got) == [False, True]


@pytest.mark.parametrize("after", [1, 2])
def test_a_worker_whose_trial_was_taken_over_leaves_it_and_goes_on(
    after: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """As after a machine's sleep: the others have failed its first trial and queued it anew."""
    from optuna.trial import TrialState

    storage, options = f"sqlite:///{tmp_path}/a.db", SearchOptions(sampler="random", trials=2, pruner="none")
    ran: list[int] = []

    def slept(proposal: Proposal, report: Callable[[float, int], None]) -> Outcome:
        ran.append(proposal.number)
        report(1.0, 1)
        if proposal.number == 0 and after == 1:
            fail(storage, options)
        report(0.5, 2)
        if proposal.number == 0 and after == 2:
            fail(storage, options)
        return Outcome((0.5,), {"seen": 1})

    def fail(storage: str, options: SearchOptions) -> None:
        other, _ = open_study(storage, options, SPACE)
        (own,) = other.get_trials(deepcopy=False)
        other._storage.set_trial_state_values(own._trial_id, TrialState.FAIL)
        take_up_again(other)

    study = search(storage, options, slept)
    assert len(finished(study)) == len(counted(study)) == 2
    assert ran == [0, 1, 2] and "another worker's" in capsys.readouterr().err


def test_a_worker_gives_a_sign_of_life_before_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if its thread of heartbeats has not come to it yet."""
    from optuna.storages._heartbeat import HeartbeatThread

    for name in ("start", "join"):
        monkeypatch.setattr(HeartbeatThread, name, lambda self: None)
    seen: list[int] = []

    def run(proposal: Proposal, report: Callable[[float, int], None]) -> Outcome:
        with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as database:
            seen.extend(database.execute("select count(*) from trial_heartbeats").fetchone())
        return bowl(proposal, report)

    search(f"sqlite:///{tmp_path}/a.db", SearchOptions(sampler="random", trials=2), run)
    assert seen == [1, 2]
