"""The processes of one run: how they find each other, on GPUs or on CPUs alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from ct_xception.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState

PATIENCE = timedelta(days=7)  # of a process that waits while another one audits, measures or is slower


def join_processes() -> PartialState:
    """This process among the others that the launcher started.

    Without an accelerator accelerate must be told so: it would count each process as the only one. Raises InputError
    where several processes were asked for in a way that starts one.
    """
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    refuse_lonely_launch(os.environ)
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu, timeout=PATIENCE)


@contextmanager
def main_first(accelerator: Accelerator) -> Iterator[None]:
    """The block on the main process, then on the others, which find its files; bad input they meet and report alike.

    accelerate's own would leave them waiting for a process that is gone, and end in a traceback about their connection.
    """
    if not accelerator.is_main_process:
        accelerator.wait_for_everyone()
    try:
        yield
    except InputError:
        if accelerator.is_main_process:
            accelerator.wait_for_everyone()
        raise
    if accelerator.is_main_process:
        accelerator.wait_for_everyone()


def refuse_lonely_launch(environment: Mapping[str, str]) -> None:
    """Refuse `accelerate launch --cpu --num_processes 2`, which starts one process and says nothing of it.

    It leaves the address that several would meet at, and no rank. Raises InputError.
    """
    ranks = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
    meeting = "ACCELERATE_USE_CPU" in environment and environment.get("MASTER_ADDR") == "127.0.0.1"
    if meeting and not any(name in environment for name in ranks):
        raise InputError(
            "--num_processes: accelerate launch has started one process only (it starts several on CPUs with "
            "--multi_gpu, and without --cpu); write accelerate launch --multi_gpu --num_processes N."
        )
