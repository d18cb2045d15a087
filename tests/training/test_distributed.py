"""Several processes that were asked for are several, or the run stops."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from ct_xception.errors import InputError
from ct_xception.training.distributed import main_first, refuse_lonely_launch

ASKED = {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def test_several_that_were_asked_for_and_one_that_started() -> None:
    with pytest.raises(InputError, match="--num_processes: .* one process only .* --multi_gpu --num_processes N"):
        refuse_lonely_launch(ASKED)


@pytest.mark.parametrize(
    "environment",
    [{}, {"ACCELERATE_USE_CPU": "False"}, ASKED | {"WORLD_SIZE": "2"}, ASKED | {"MASTER_ADDR": "10.0.0.1"}],
    ids=["python", "accelerate launch", "several", "a cluster's leftovers"],
)
def test_what_is_as_it_was_asked_for(environment: dict[str, str]) -> None:
    refuse_lonely_launch(environment)


@pytest.mark.parametrize("bad", [False, True], ids=["good input", "bad input"])
def test_the_main_process_goes_first_and_no_other_is_left_waiting(bad: bool) -> None:
    barrier, told = threading.Barrier(2, timeout=10), list[str]()

    def work(name: str) -> None:
        side: Any = SimpleNamespace(is_main_process=name == "main", wait_for_everyone=barrier.wait)
        try:
            with main_first(side):
                told.append(name)
                if bad:
                    raise InputError("bad")
            told.append("done")
        except InputError:
            told.append("refused")

    sides = [threading.Thread(target=work, args=(name,)) for name in ("other", "main")]
    for side in sides:
        side.start()
    for side in sides:
        side.join()
    assert told[:1] == ["main"] and sorted(told) == sorted(["main", "other", *["refused" if bad else "done"] * 2])
