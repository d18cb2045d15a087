"""No worse, worse, or not shown: by hand-made answers, and read again from the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from ct_xception.audit.overlap import Overlap, SplitCorpus
from ct_xception.evaluation.answers import Answers, Items
from ct_xception.evaluation.continuity import (
    NO_WORSE,
    NOT_SHOWN,
    WORSE,
    LeftOut,
    Trial,
    describe_judgement,
    judge,
    judge_table,
    pair_up,
    read_judgement,
    reason,
    too_few_to_judge,
    verdict,
    write_judgement,
)
from ct_xception.statistics.comparison import compare

NAMES = ["benign", "malignant"]


def answers_of(hits: np.ndarray, labels: np.ndarray) -> Answers:
    chosen = np.where(hits, labels, 1 - labels)
    return Answers(np.eye(2)[chosen] * 0.8 + 0.1)


def trial_of(new: np.ndarray, start: np.ndarray, **options: Any) -> Trial:
    labels = np.arange(len(new)) % 2
    items = Items(labels, [f"patient {row // 2}" for row in range(len(new))], [f"{row}.png" for row in range(len(new))])
    seen = options.pop("seen", np.zeros(len(new), bool))
    return Trial("a test", items, answers_of(new, labels), answers_of(start, labels), seen)


def hits(n: int, wrong: int) -> np.ndarray:
    return np.arange(n) >= wrong


@pytest.mark.parametrize(
    ("new", "start", "margin", "wanted"),
    [
        (hits(400, 20), hits(400, 20), 0.05, NO_WORSE),  # never parted: at most 2 % of 200 groups may differ
        (hits(400, 20), hits(400, 20), 0.01, NOT_SHOWN),
        (hits(400, 40), hits(400, 20), 0.20, WORSE),  # 5 points lost, surely: no margin excuses it
        (hits(400, 20), hits(400, 40), 0.0, NO_WORSE),  # better
        (hits(400, 22), hits(400, 20), 0.05, NO_WORSE),  # half a point: the interval reaches 0
        (hits(8, 2), hits(8, 2), 0.05, NOT_SHOWN),  # four patients tell nothing
        (hits(8, 0), hits(8, 1), 0.05, NOT_SHOWN),  # and no more where one of them got better
        (hits(8, 8), hits(8, 0), 1.0, WORSE),
    ],
)
def test_verdicts(new: np.ndarray, start: np.ndarray, margin: float, wanted: str) -> None:
    record, _ = judge({"new": trial_of(new, start)}, NAMES, margin=margin)
    assert record.protocols["new"].verdict == wanted
    assert record.passed == (wanted == NO_WORSE)


def test_the_margin_is_held_against_the_lower_end_of_the_interval() -> None:
    new, start, labels = hits(300, 30), hits(300, 25)[::-1], np.zeros(300, int)
    found = compare(labels, np.where(new, 0, 1), np.where(start, 0, 1), list(range(300)))
    low, high = found.difference.low, found.difference.high
    assert low < 0 < high
    assert verdict(found, -low + 1e-6) == NO_WORSE and verdict(found, -low - 1e-6) == NOT_SHOWN


def test_what_is_trained_on_or_refused_does_not_count(tmp_path: Path) -> None:
    seen = np.zeros(60, bool)
    seen[:10] = True
    trial = trial_of(hits(60, 10), hits(60, 0), seen=seen)  # all it lost is in what another corpus trains on
    trial.start.probabilities[59] = np.nan
    record, table = judge({"old 1": trial}, NAMES, margin=0.2, seed=3)
    own = record.protocols["old 1"]
    assert own.left_out == LeftOut(seen=10, refused=1) and own.comparison.n == 49
    assert own.verdict == NO_WORSE and own.comparison.difference.value == 0
    write_judgement(tmp_path, record, table)
    again = judge_table(pandas.read_parquet(tmp_path / "continuity.parquet"), margin=0.2, seed=3)
    assert again == (own.comparison, own.verdict)
    assert read_judgement(tmp_path) == record
    assert "patient" not in table.to_csv() and set(table["label"]) == set(NAMES)
    nothing, _ = judge({"old 1": trial_of(hits(4, 0), hits(4, 0), seen=np.ones(4, bool))}, NAMES, margin=1.0)
    assert nothing.protocols["old 1"].verdict == NOT_SHOWN and "no item that both" in reason(nothing)


def test_every_test_that_failed_is_named() -> None:
    trials = {"new": trial_of(hits(400, 0), hits(400, 10)), "old 1": trial_of(hits(400, 60), hits(400, 0))}
    record, _ = judge(trials, NAMES, margin=0.05)
    assert not record.passed and record.protocols["new"].verdict == NO_WORSE
    assert "(a test: worse: accuracy 1.000 before, 0.850 now, difference -0.150" in reason(record)
    lines = describe_judgement(record)
    assert len(lines) == 3 and lines[-1].endswith("this is no new version.")


def test_a_verdict_that_few_groups_decide_says_so() -> None:
    """54 patients, one lost and one won: the interval clears the margin, and what so few can hide does not."""
    record, _ = judge({"new": trial_of(hits(108, 1), hits(108, 1)[::-1])}, NAMES, margin=0.05)
    own = record.protocols["new"]
    assert own.verdict == NOT_SHOWN and own.comparison.difference.low >= -0.05
    hidden = 1.959964**2 / (54 + 1.959964**2)  # Wilson's upper end of 0 of 54
    assert f"54 groups, among which a loss of {hidden:.3f} can go unseen" in reason(record)
    lost, _ = judge({"new": trial_of(hits(400, 60), hits(400, 0))}, NAMES, margin=0.05)
    assert "unseen" not in reason(lost)  # there the interval itself says it


def test_tests_of_too_few_groups_are_told_before_training() -> None:
    def corpus_of(groups: int) -> SplitCorpus:
        test = split_of([b"a"] * groups, "mine")
        return SplitCorpus(DatasetDict({"test": test}), {"source": "/somewhere/mine", "hash": "0"}, {"name": "s"})

    assert too_few_to_judge([corpus_of(80)], 0.05) == []  # 3.84 / 83.84 = 0.046
    (told,) = too_few_to_judge([corpus_of(80), corpus_of(54)], 0.05)
    assert told.startswith("among the 54 groups (patients) of the test split of mine a loss of 0.066 can go unseen")
    assert "only a network that is better by 0.016 will be taken for no worse" in told


def split_of(contents: list[bytes], name: str) -> Dataset:
    features = Features(
        image=Image(decode=False), label=ClassLabel(names=NAMES), group=Value("string"), source=Value("string")
    )
    rows = [
        {"image": {"path": None, "bytes": one}, "label": row % 2, "group": str(row), "source": f"{name}{row}"}
        for row, one in enumerate(contents)
    ]
    return Dataset.from_list(rows, features=features)


def test_trials_know_what_the_other_corpus_trains_on() -> None:
    corpora = []
    for name, test in (("new", [b"a", b"b", b"c"]), ("old", [b"d", b"e"])):
        parts = {"train": split_of([b"d" if name == "new" else b"b"], name), "validation": split_of([b"a"], name)}
        splits = DatasetDict({**parts, "test": split_of(test, name)})
        corpora.append(SplitCorpus(splits, {"source": f"/somewhere/{name}", "hash": "0"}, {"name": f"{name} split"}))
    answers = [[Answers(np.full((n, 2), 0.5))] * 2 for n in (3, 2)]
    trials = pair_up(corpora, answers, has_twin=np.array([False, False, True]))
    assert list(trials) == ["new", "old 1", "new, deduplicated"]
    assert trials["new"].seen.tolist() == [True, True, False]  # its own training is the audit's affair
    assert trials["old 1"].seen.tolist() == [True, False]
    assert trials["new, deduplicated"].items.sources == ["new0", "new1"]
    assert trials["old 1"].about == {"split_hash": "old split", "corpus": {"source": "old", "hash": "0"}}
    assert trials["old 1"].title == "the test split of old"
    nothing = {"exact": [], "near": [], "namesakes": [], "twins": {}}
    overlaps = [Overlap("new", [], 3, **nothing), Overlap("old", ["new"], 2, **nothing | {"near": ["old1"]})]
    trials = pair_up(corpora, answers, overlaps=overlaps)  # who looked at the pictures need not compare the files
    assert not trials["new"].seen.any() and trials["old 1"].seen.tolist() == [False, True]


def test_the_verdict_says_what_the_corpora_share() -> None:
    seen = np.zeros(60, bool)
    seen[:10] = True
    record, _ = judge({"old 1": trial_of(hits(60, 10), hits(60, 0), seen=seen)}, NAMES, margin=0.2)
    shared = Overlap("old", ["new"], 60, ["0.png"], [f"{row}.png" for row in range(1, 10)], ["11.png"], {}).summary()
    test, twins, namesakes, _ = describe_judgement(record.with_(overlaps=[shared]))
    assert test.endswith("25 groups, without 10 that another corpus trains on")
    assert (
        "10 of 60 test images of old show a picture that is in training or validation of new too" in twins
        and "1 pixel for pixel, 9 in" in twins
    )
    assert "1 more of 60 test images of old are of patients whose identifiers are in" in namesakes
    assert len(describe_judgement(record)) == 2
