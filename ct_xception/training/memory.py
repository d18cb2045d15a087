"""Memory that a training step frees and takes again: kept by the process, not given back to the kernel each time."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt(3), from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep freed blocks for the life of the process; whether it could be told.

    By default glibc maps every large block anew and unmaps it when freed. A training step on CPU makes gigabytes of
    activations that way, and the kernel clears each page again: a tenth to a fifth of the step. The process then holds
    on to its peak, which a training reaches at every step anyway. Other C libraries are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    settings = ((_MMAP_THRESHOLD, 2**30), (_TRIM_THRESHOLD, _LARGEST), (_MMAP_MAX, 0))
    return all([bool(mallopt(parameter, value)) for parameter, value in settings])
