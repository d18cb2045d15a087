"""Answers as text, compared whole with what a reader should see."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from ct_xception.checkpoint_files import Side
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window
from ct_xception.serving.classifier import Prediction
from ct_xception.serving.decisions import Decision, Decisions
from ct_xception.serving.gate import GateVerdict
from ct_xception.serving.text import bars, describe_decision, json_list, json_object, tab_separated, table
from ct_xception.text import RESEARCH_USE, ShortNames, percent

LABELS = ["cancer", "normal"]


RULES = Decisions.of(
    Side.of(
        {
            "conformal": {"method": "lac", "coverage": 0.9, "threshold": 0.7},
            "abstention": {"threshold": 0.65},
            "temperature": 1.316,
            "operating_points": [
                {
                    "name": f"{name}: as asked",
                    "kind": kind,
                    "positive": ["cancer"],
                    "threshold": 0.5,
                    "chosen_for": "as asked",
                }
                for name, kind in (("any cancer", "group"), ("cancer", "class"))
            ],
        }
    ),
    LABELS,
)


REFUSED = GateVerdict(
    "refused", ("63 % of its pixels are coloured, where all should be grey", "no lungs stand out in it"), 2.1
)
DOUBTFUL = GateVerdict("doubtful", ("no lungs stand out in it",), 0.7)


def prediction(
    source: str,
    cancer: float,
    rules: Decisions = Decisions(),  # noqa: B008 (frozen)
    gate: GateVerdict | None = None,
) -> Prediction:
    ranked = sorted({"cancer": cancer, "normal": 1 - cancer}.items(), key=lambda pair: -pair[1])
    slice_ = Slice(np.zeros((4, 4), np.uint8), source, 16, True, Window(-600, 1500))
    values, notes = dict(ranked), ("alpha composited on black",)
    return Prediction(source, ranked[0][0], values, slice_, notes, rules.decide(values), gate=gate)


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


def test_a_narrow_terminal_loses_the_runner_up_and_never_tells_two_files_alike() -> None:
    names = [f"{place}/a_folder_with_a_long_name/slice_{number}.dcm" for place in "ab" for number in (1, 2)]
    answers = [*(prediction(name, 0.9, RULES) for name in names), prediction("c.dcm", 0.6, RULES)]
    rows = list(table(answers, [*names, "c.dcm"], LABELS, 60, RULES))
    assert rows[0].split() == ["file", "answer"] and max(map(len, rows)) <= 60
    shown = [row.partition("  ")[0] for row in rows[1:]]
    assert len(set(shown)) == len(names) + 1 and shown[0].endswith("slice_1.dcm") and shown[2].startswith("b")
    assert rows[-1].split() == ["c.dcm", "no", "answer", "abstains"]


def test_short_names_are_not_shared() -> None:
    short = ShortNames(12)
    names = [f"{place}/{'x' * 40}" for place in "abc"]
    assert len({short(name) for name in names}) == 3 and short(names[0]) == short(names[0])
    assert max(map(len, map(short, names))) <= 12
    same = ShortNames(8)
    assert same("y" * 30 + "1" + "z" * 30) != same("y" * 30 + "2" + "z" * 30)  # then all of it


def test_a_pipe_gets_tab_separated_columns_in_class_order() -> None:
    assert list(tab_separated([prediction("a.dcm", 0.25)], LABELS)) == [
        "source\tlabel\tcancer\tnormal\tnotes",
        "a.dcm\tnormal\t0.250000\t0.750000\talpha composited on black",
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


def test_the_rules_speak_below_the_bars() -> None:
    lines = list(bars([prediction("a.dcm", 0.6, RULES)]))
    assert lines[1] == "  No answer: between cancer and normal"
    assert lines[4:] == [
        "  prediction set at 90 % coverage: cancer, normal",
        "  abstains: this checkpoint answers from 65.0 % confidence on",
        "  any cancer: as asked: yes (60.0 % ≥ 50.0 %)",
        "  probabilities calibrated on validation (temperature 1.32)",
        "  - alpha composited on black",
    ]
    empty = describe_decision(Decision(prediction_set=(), coverage=0.9))
    assert empty == ["prediction set at 90 % coverage: empty, no class fits as well as right answers mostly do"]


def test_rows_that_the_rules_object_to_end_in_a_remark() -> None:
    loose = Decisions(conformal=RULES.conformal)
    answers = [prediction("a.dcm", 0.9, RULES), prediction("b.dcm", 0.6, RULES), prediction("c.dcm", 0.6, loose)]
    rows = list(table(answers, ["a.dcm", "b.dcm", "c.dcm"], LABELS, 80, RULES))
    assert [row[46:] for row in rows] == ["", "", "abstains", "2 possible"]
    assert rows[2].split() == ["b.dcm", "no", "answer", "cancer", "60.0", "%", "abstains"]
    strict = Decisions(conformal=RULES.conformal.with_(threshold=0.05))
    assert list(table([prediction("d", 0.6, strict)], ["d"], LABELS, 80, strict))[1].endswith("no class fits")


def test_what_the_gate_refused_has_reasons_and_no_figure() -> None:
    assert list(bars([prediction("a.dcm", 0.99, RULES, REFUSED)])) == [
        "a.dcm (window -600/1500 HU)",
        "  refused: this is no slice such as the model was trained on",
        "  - 63 % of its pixels are coloured, where all should be grey",
        "  - no lungs stand out in it",
        "  (--no-gate answers all the same)",
    ]
    answers = [prediction("a.dcm", 0.99, RULES, REFUSED), prediction("b.dcm", 0.9, gate=GateVerdict("accepted"))]
    rows = list(table(answers, ["a.dcm", "b.dcm"], LABELS, 60, gated=True))
    assert rows[1] == "a.dcm  refused  63 % of its pixels are coloured, where all …" and max(map(len, rows)) <= 60
    assert rows[2].split() == ["b.dcm", "cancer", "90.0", "%", "normal", "10.0", "%"]
    assert list(tab_separated(answers, LABELS, gated=True)) == [
        "source\tgate\tlabel\tcancer\tnormal\tgate_reasons\tnotes",
        f"a.dcm\trefused\t\t\t\t{'; '.join(REFUSED.reasons)}\talpha composited on black",
        "b.dcm\taccepted\tcancer\t0.900000\t0.100000\t\talpha composited on black",
    ]


def test_what_the_gate_doubts_is_answered_with_the_doubt_first() -> None:
    lines = list(bars([prediction("a.dcm", 0.75, gate=DOUBTFUL)]))
    doubt = "  doubtful: this may be no slice such as the model was trained on"
    assert lines[1:3] == [doubt, "  - no lungs stand out in it"] and lines[3].startswith("  cancer   75.0 %")
    assert list(table([prediction("a", 0.9, gate=DOUBTFUL)], ["a"], LABELS, 80, gated=True))[1].endswith("doubtful")


def test_json_of_a_refused_file_has_its_reasons_and_no_answer() -> None:
    record = json.loads("\n".join(json_object([prediction("a.dcm", 0.75, RULES, gate=REFUSED)], "m")))
    assert list(record) == ["refused", "source", "gate", "label", "probabilities", "window", "notes", "model", "notice"]
    assert record["refused"] == list(REFUSED.reasons) and record["label"] is None and record["probabilities"] == {}
    assert record["gate"] == {"verdict": "refused", "reasons": list(REFUSED.reasons), "score": 2.1}


def test_an_overruled_gate_is_said_beside_the_answer() -> None:
    overruled = prediction("a.dcm", 0.75, gate=replace(REFUSED, overruled=True))
    record = json.loads("\n".join(json_object([overruled], "m")))
    assert record["gate_overruled"]["verdict"] == "refused" and record["label"] == "cancer"
    assert list(bars([overruled]))[1].startswith("  refused by the input gate, and answered all the same, as asked")
    assert list(table([overruled], ["a.dcm"], LABELS, 80, gated=True))[1].endswith("overruled")
    assert list(tab_separated([overruled], LABELS, gated=True))[1].split("\t")[1:3] == ["overruled", "cancer"]


def test_a_pipe_gets_the_rules_as_columns() -> None:
    answers = [prediction("a", 0.6, RULES), prediction("b", 0.9, RULES)]
    rows = [row.split("\t") for row in tab_separated(answers, LABELS, RULES)]
    assert rows[0] == ["source", "label", "cancer", "normal", "prediction_set", "abstained", "notes"]
    assert [row[4:6] for row in rows[1:]] == [["cancer; normal", "yes"], ["cancer", "no"]]
