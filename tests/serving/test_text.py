"""Answers as text, compared whole with what a reader should see."""

from __future__ import annotations

import json

import numpy as np

from ct_xception.imaging.slices import Slice, Window
from ct_xception.serving.predictor import Prediction
from ct_xception.serving.text import bars, json_list, json_object, tab_separated, table
from ct_xception.wording import RESEARCH_USE, percent

LABELS = ["cancer", "normal"]


def prediction(source: str, cancer: float) -> Prediction:
    ranked = sorted({"cancer": cancer, "normal": 1 - cancer}.items(), key=lambda pair: -pair[1])
    slice_ = Slice(np.zeros((4, 4), np.uint8), source, 16, True, Window(-600, 1500))
    return Prediction(source, ranked[0][0], dict(ranked), slice_, ("alpha composited on black",))


def test_one_answer_shows_every_class_with_a_bar() -> None:
    assert list(bars([prediction("a.dcm", 0.75)])) == [
        "a.dcm (window -600/1500 HU)",
        "  cancer   75.0 %  " + "█" * 21,
        "  normal   25.0 %  " + "█" * 7,
        "  - alpha composited on black",
    ]


def test_several_answers_are_aligned_and_long_paths_keep_their_end() -> None:
    answers = [prediction("a.dcm", 0.9), prediction("b" * 80 + ".dcm", 0.0001)]
    rows = list(table(answers, ["a.dcm", "b" * 84], LABELS, 60))
    assert rows == [
        "file                         answer           next",
        "a.dcm                        cancer   90.0 %  normal 10.0 %",
        "…" + "b" * 22 + ".dcm  normal  >99.9 %  cancer <0.1 %",
    ]
    assert max(map(len, rows)) <= 60


def test_a_pipe_gets_tab_separated_columns_in_class_order() -> None:
    assert list(tab_separated([prediction("a.dcm", 0.25)], LABELS)) == [
        "source\tlabel\tcancer\tnormal",
        "a.dcm\tnormal\t0.250000\t0.750000",
    ]


def test_json_is_an_object_or_a_list_and_carries_model_and_notice() -> None:
    answers = [prediction("ä.dcm", 0.25), prediction("b.dcm", 0.5)]
    record = json.loads("\n".join(json_object(answers[:1], "m")))
    assert record["label"] == "normal" and record["model"] == "m" and record["notice"] == RESEARCH_USE
    records = json.loads("\n".join(json_list(answers, "m")))
    assert [row["source"] for row in records] == ["ä.dcm", "b.dcm"]
    assert json.loads("\n".join(json_list([], "m"))) == [] and list(json_object([], "m")) == []


def test_no_answer_is_called_certain() -> None:
    assert [percent(p) for p in (0.0, 0.0004, 0.5, 0.9994, 1.0)] == ["<0.1 %", "<0.1 %", "50.0 %", ">99.9 %", ">99.9 %"]
