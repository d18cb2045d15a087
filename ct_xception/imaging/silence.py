"""Decoders talk: to the warnings filter, to loggers and, from C, to file descriptor 2. A refusal is one sentence."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LIBRARIES = ("pydicom", "PIL", "nibabel")
_MODULES = r"(pydicom|PIL|nibabel|ct_xception\.imaging)(\.|$)"
_descriptor = threading.Lock()


def silence_libraries() -> None:
    """No warnings of Pillow, pydicom and nibabel: what matters in them becomes a note or a refusal.

    For good and not for a while: the filters are the whole process's, and other threads read files too.
    """
    if not any(getattr(entry[3], "pattern", "") == _MODULES for entry in warnings.filters):
        warnings.filterwarnings("ignore", module=_MODULES)
        for name in _LIBRARIES:
            logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def muted_descriptor() -> Iterator[None]:
    """File descriptor 2 closed for the moment that a C library decodes what is known to make it print."""
    with _descriptor:
        sys.stderr.flush()
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)
