"""Several processes that were asked for are several, or the run stops."""

from __future__ import annotations

import pytest

from ct_xception.errors import InputError
from ct_xception.training.processes import refuse_lonely_launch

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
