"""Two models' answers to one thing, and the sentence that says where they disagree."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ct_xception.serving.comparison import compare, short_names
from ct_xception.serving.decisions import Decision
from ct_xception.serving.pooling import SeriesAnswer

NAMES = ("a", "b")


def answered(
    kept: tuple[str, ...] | None = None, abstained: bool | None = None, **probabilities: float
) -> SeriesAnswer:
    ranked = dict(sorted(probabilities.items(), key=lambda pair: -pair[1]))
    decision = Decision(kept, None if kept is None else 0.9, abstained=abstained)
    return SeriesAnswer(next(iter(ranked)), ranked, "mean", 1, 1, 1, 0, decision=decision)


@pytest.mark.parametrize(
    ("first", "second", "agree", "sentence"),
    [
        (
            answered(x=0.9, y=0.1),
            answered(x=0.85, y=0.15),
            True,
            "They agree: a answers x (90.0 %), b answers x (85.0 %).",
        ),
        (
            answered(x=0.95, y=0.05),
            answered(x=0.6, y=0.4),
            True,
            "They agree: a answers x (95.0 %), b answers x (60.0 %). They are farthest apart on x: 95.0 % and 60.0 %.",
        ),
        (
            answered(("x",), x=0.9, y=0.1),
            answered(("y",), x=0.2, y=0.8),
            False,
            "They disagree: a answers x (90.0 %), b answers y (80.0 %). No class is in both prediction sets: at least "
            "one of them is wrong.",
        ),
        (
            answered(("x", "y"), x=0.6, y=0.4),
            answered(("y",), x=0.2, y=0.8),
            False,
            "They disagree: a answers x (60.0 %), b answers y (80.0 %). Both prediction sets hold y.",
        ),
        (
            answered(abstained=True, x=0.5, y=0.5),
            answered(abstained=False, x=0.52, y=0.48),
            None,
            "Only b answers: a abstains between x and y, b answers x (52.0 %).",
        ),
        (
            answered(abstained=True, x=0.5, y=0.5),
            answered(abstained=True, y=0.51, x=0.49),
            None,
            "Neither answers: a abstains between x and y, b abstains between y and x.",
        ),
        (None, answered(x=0.9, y=0.1), None, "Only b answers: it answers x (90.0 %). a refuses what was given."),
        (answered(x=0.9, y=0.1), None, None, "Only a answers: it answers x (90.0 %). b refuses what was given."),
        (None, None, None, "Neither model answers."),
        (
            answered(x=0.9, y=0.1),
            answered(x=0.9, z=0.1),
            True,
            "They agree: a answers x (90.0 %), b answers x (90.0 %). Only a knows y. Only b knows z.",
        ),
    ],
)
def test_the_sentence_says_where_they_disagree(first: Any, second: Any, agree: bool | None, sentence: str) -> None:
    found = compare(first, second, NAMES)
    assert (found.agree, found.sentence) == (agree, sentence)
    told = found.to_dict()
    assert told["sentence"] == sentence and [one["model"] for one in told["models"]] == ["a", "b"]


def test_why_one_refuses_is_said() -> None:
    refused, answering = SimpleNamespace(refusal=("no body", "a photograph")), answered(x=0.9, y=0.1)
    found = compare(refused, answering, NAMES)  # type: ignore[arg-type]
    assert found.agree is None
    assert found.sentence == (
        "Only b answers: it answers x (90.0 %). a refuses what was given (no body; a photograph)."
    )
    mine, theirs = found.to_dict()["models"]
    assert mine == {"model": "a", "answer": None, "refused": ["no body", "a photograph"]} and "refused" not in theirs
    both = compare(refused, refused, NAMES)  # type: ignore[arg-type]
    assert both.sentence == "Neither model answers. a: no body; a photograph. b: no body; a photograph."


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("runs/a/model", "runs/b/model", ("a", "b")),
        ("user/one", "user/two", ("one", "two")),
        ("x", "x", ("the first", "the second")),
        ("runs/a/model", "user/repo@v1", ("model", "repo@v1")),
    ],
)
def test_two_names_are_told_apart(first: str, second: str, expected: tuple[str, str]) -> None:
    assert short_names(first, second) == expected
