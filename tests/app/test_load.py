"""Many clients at once, in small: every answer belongs to its own request, at both ways in."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ct_xception_app import app
from PIL import Image

from benchmarks.load import FULL, Ask, Exam, Outcome, besiege, gradio_client, http_client, judge, make_exams
from ct_xception.serving.classifier import Classifier


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    return Classifier.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def url(tiny_checkpoint: Path) -> Iterator[str]:
    demo = app.build_demo(tiny_checkpoint)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app.launch(demo, port=port, wait=False)
    yield f"http://127.0.0.1:{port}"
    demo.close(verbose=False)


@pytest.fixture(scope="module")
def exams(classifier: Classifier, sample_slices: list[Path]) -> list[Exam]:
    slices = [np.asarray(Image.open(path)) for path in sample_slices]
    return make_exams(classifier, slices, 32)


def test_no_two_slices_have_one_answer(exams: list[Exam]) -> None:
    """Else an answer that belongs to another request could not be told."""
    known = np.stack([exam.scores for exam in exams])
    gaps = np.abs(known[:, None] - known[None]).max(axis=2) + np.eye(len(exams))
    assert gaps.min() > 2e-6 and len({exam.file for exam in exams}) == len(exams)


@pytest.mark.parametrize(("clients", "connect"), [(8, http_client), (16, http_client), (8, gradio_client)])
def test_every_answer_is_its_own_request_s(
    classifier: Classifier, url: str, exams: list[Exam], clients: int, connect: Callable[[str], Ask]
) -> None:
    part = exams[: 2 * clients] if connect is http_client else exams[:clients]
    verdict = judge(part, *besiege(part, clients, lambda: connect(url), classifier.label_names))
    assert (verdict.answered, verdict.right, verdict.full, verdict.other) == (len(part), len(part), 0, 0)


def test_a_swapped_answer_and_a_failure_are_seen() -> None:
    exams = [Exam(b"a", np.array([0.2, 0.8])), Exam(b"b", np.array([0.6, 0.4]))]
    good = [Outcome(0, 200, 0.1, exams[0].scores), Outcome(1, FULL, 0.1), Outcome(1, 200, 0.3, exams[1].scores)]
    verdict = judge(exams, good, 2.0)
    assert (verdict.answered, verdict.right, verdict.full, verdict.other) == (2, 2, 1, 0)
    assert (verdict.p50, verdict.throughput) == (pytest.approx(0.2), 1.0)
    swapped = [replace(good[0], scores=exams[1].scores), good[2], Outcome(0, 500, 0.1)]
    assert judge(exams, swapped, 2.0).right == 1 and judge(exams, swapped, 2.0).other == 1
    twins = [exams[0], Exam(b"c", exams[0].scores)]
    assert judge(twins, [Outcome(1, 200, 0.1, exams[0].scores)], 1.0).right == 0  # it might be the other one's
