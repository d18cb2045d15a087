"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from ct_xception import Classifier

MODULES = (
    "audit.corpus_audit",
    "imaging.reader",
    "imaging.windows",
    "notebook.classifier",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str, tiny_checkpoint: Path, sample_slices: list[Path], classifier: Classifier) -> None:
    module = importlib.import_module(f"ct_xception.{name}")
    given = {
        "Classifier": Classifier,
        "CHECKPOINT": str(tiny_checkpoint),
        "SLICE": str(sample_slices[0]),
        "FOLDER": str(sample_slices[0].parent),
        "c": classifier,
    }
    done = doctest.testmod(module, extraglobs=given, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert done.attempted and not done.failed
