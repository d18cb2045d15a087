"""The allocator setting, seen by the page faults of a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from ct_xception.training.memory import keep_freed_memory
print(keep_freed_memory() if {keep} else None)
for _ in range(12):
    torch.ones(12_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(12_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*, keep: bool) -> int:
    program = PROGRAM.format(keep=keep)
    told, count = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.split()
    if told == "False":
        pytest.skip("this C library has no mallopt")
    return int(count)


def test_kept_memory_is_not_faulted_in_again() -> None:
    """Ten blocks of 48 MB are 117,000 pages of 4 KB; the warm-up lets the heap settle."""
    assert faults(keep=False) > 1000 > 100 > faults(keep=True)
