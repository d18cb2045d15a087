"""pyplot draws into memory."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib
import pytest

from ct_xception import Classifier

matplotlib.use("Agg")


@pytest.fixture(scope="session")
def classifier(tiny_checkpoint: object) -> Classifier:
    return Classifier.from_pretrained(str(tiny_checkpoint))


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    from matplotlib import pyplot

    pyplot.close("all")
