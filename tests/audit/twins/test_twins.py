"""Planted copies are found, whatever was done to them; different patients are not taken for one picture."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ct_xception.audit.survey import Survey, survey_corpus
from ct_xception.audit.twins import lookalikes
from ct_xception.audit.twins import twins as module
from ct_xception.audit.twins.twins import TwinPair, Twins, find_twins, linked, twin_of_other_split
from ct_xception.corpus.listing import CorpusOptions
from ct_xception.corpus.load import load_corpus
from ct_xception.phantom.corpus import generate_phantom

PLANTED = ["leaks:7", "duplicates:4", "near-duplicates:15", "conflicts:4"]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins") / "p"
    return generate_phantom(folder, patients=40, slices_per_patient=2, size=128, plant=PLANTED, seed=3)


@pytest.fixture(scope="module")
def survey(planted: Path) -> Survey:
    return survey_corpus(load_corpus(planted).dataset, groups_known=False, progress=False)


@pytest.fixture(scope="module")
def twins(survey: Survey) -> Twins:
    return find_twins(survey)


def pairs_planted(folder: Path, survey: Survey) -> list[tuple[str, int, int]]:
    place = {source: index for index, source in enumerate(survey.sources)}
    found = []
    for one in json.loads((folder / "planted.json").read_text())["planted"]:
        if one["how"] != "patient":
            files = list(one["files"].values()) if isinstance(one["files"], dict) else one["files"]
            found.append((one["how"], *sorted(place[name] for name in files)))
    return found


def patient_of(source: str) -> str:
    return re.findall(r"P\d{4}", source)[0]


def test_every_planted_copy_is_found(planted: Path, survey: Survey, twins: Twins):
    wanted = pairs_planted(planted, survey)
    assert len(wanted) > 25 and len({how for how, _, _ in wanted}) == 6
    assert [pair for pair in wanted if twins.clusters[pair[1]] != twins.clusters[pair[2]]] == []


def test_no_pair_joins_two_patients(survey: Survey, twins: Twins):
    crossing = [
        pair
        for pair in twins.pairs
        if patient_of(survey.sources[pair.first]) != patient_of(survey.sources[pair.second])
    ]
    assert crossing == []


def test_pairs_are_ordered_unique_and_of_the_right_kind(survey: Survey, twins: Twins):
    assert len({(pair.first, pair.second) for pair in twins.pairs}) == len(twins.pairs)
    for pair in twins.pairs:
        assert pair.first < pair.second and 0.9 < pair.similarity <= 1
        same = survey.byte_hash[pair.first] == survey.byte_hash[pair.second]
        assert (pair.kind == "bytes") == same
    assert Counter(pair.kind for pair in twins.pairs)["near"] >= 15


def test_pseudo_patients_keep_twins_and_relatives_together(twins: Twins):
    for first, second in [(pair.first, pair.second) for pair in twins.pairs] + [pair[:2] for pair in twins.related]:
        assert twins.patients[first] == twins.patients[second]
    assert len(set(twins.patients)) > 5 and twins.patients[0] == "pseudo-patient 1"


def test_relatives_correlate_and_are_no_twins(survey: Survey, twins: Twins):
    assert twins.related
    for first, second, correlation in twins.related[:20]:
        ends = survey.aligned[[first, second]].reshape(2, -1)
        assert correlation == pytest.approx(np.corrcoef(ends)[0, 1], abs=1e-3) and correlation > 0.85
        assert twins.clusters[first] != twins.clusters[second]


def test_known_groups_are_merged_across_twins_and_series_alone(survey: Survey, twins: Twins):
    groups = [f"g{index}" for index in range(len(survey))]
    apart = replace(survey, groups=groups, groups_known=True, series=[""] * len(survey))
    known = module._patients(apart, twins.clusters, twins.related)
    assert len(set(known)) == len(set(twins.clusters.tolist()))
    assert set(known) <= set(groups)
    pair = twins.pairs[0]
    assert known[pair.first] == known[pair.second] and known[0] == "g0"
    joined = module._patients(replace(apart, series=survey.series), twins.clusters, twins.related)
    assert all(len({joined[i] for i, own in enumerate(survey.series) if own == one}) == 1 for one in survey.series)
    assert len(set(joined)) < len(set(known))


def test_an_index_finds_the_same_twins_and_most_relatives(
    survey: Survey, twins: Twins, monkeypatch: pytest.MonkeyPatch
):
    for one in (module, lookalikes):
        monkeypatch.setattr(one, "OUTRIGHT", 40)
    again = find_twins(survey)
    wanted = {(pair.first, pair.second) for pair in twins.pairs}
    assert len(wanted & {(pair.first, pair.second) for pair in again.pairs}) >= 0.97 * len(wanted)
    related = {pair[:2] for pair in twins.related}
    assert {pair[:2] for pair in again.related} <= related | wanted
    assert set(again.patients) and len(again.related) > 0.5 * len(related)


def test_what_could_not_be_read_has_no_twin(survey: Survey):
    blank = replace(
        survey,
        byte_hash=["", "", *survey.byte_hash[2:]],
        pixel_hash=["", "", *survey.pixel_hash[2:]],
        failed=dict.fromkeys(survey.sources[:2], "broken"),
    )
    found = find_twins(blank)
    assert not any(pair.first < 2 for pair in found.pairs) and not any(pair[0] < 2 for pair in found.related)
    assert found.patients[0] != found.patients[1]


@pytest.mark.parametrize("count", [0, 1])
def test_a_corpus_too_small_for_pairs(count: int, survey: Survey):
    few: dict[str, Any] = {
        name: getattr(survey, name)[:count]
        for name in (
            "sources",
            "splits",
            "labels",
            "groups",
            "byte_hash",
            "pixel_hash",
            "aligned",
            "raw",
            "detail",
            "boxes",
        )
    }
    found = find_twins(replace(survey, **few))
    assert found.pairs == [] and found.related == [] and len(found.patients) == count


def test_linked_numbers_components_by_first_appearance():
    assert linked(6, [(4, 1), (5, 4), (2, 3)]).tolist() == [0, 1, 2, 2, 1, 1]
    assert linked(3, []).tolist() == [0, 1, 2]


def test_a_twin_in_another_split_counts_through_chains(survey: Survey):
    splits = ["train", "validation", "test", "test", "test"]
    five = replace(survey, splits=splits)
    twins = Twins([], [], [], linked(5, [(2, 3), (0, 3)]))
    assert twin_of_other_split(twins, five).tolist() == [False, False, True, True, False]
    assert twin_of_other_split(twins, five, others=("validation",)).tolist() == [False] * 5


def test_of_very_many_copies_each_is_paired_with_the_first_of_every_split(survey: Survey):
    count = 100
    same = replace(survey, splits=["train"] * 60 + ["test"] * 40)
    pairs = list(module._equal(same, ["x"] * count, "bytes"))
    assert len(pairs) == 2 * (count - 1) - 1
    assert all(pair.first in (0, 60) or pair.second == 60 for pair in pairs) and TwinPair(0, 99, "bytes", 1.0) in pairs


@pytest.mark.real_corpus
def test_known_twins_of_the_reference_corpus(reference_corpus: Path):
    dataset = load_corpus(reference_corpus, CorpusOptions(decode=False)).dataset
    wanted = ("normal", "000119 (4)", "000119 (5)", "l4.png", "sq2.png")
    for name, split in dataset.items():
        dataset[name] = split.select(
            [index for index, source in enumerate(split["source"]) if any(part in source for part in wanted)]
        )
    survey = survey_corpus(dataset, progress=False)
    twins = find_twins(survey)
    normal = survey.labels == survey.label_names.index("normal")
    same = replace(twins, clusters=np.unique(survey.byte_hash, return_inverse=True)[1])
    assert (twin_of_other_split(same, survey, others=("train",)) & normal).sum() == 46
    assert (twin_of_other_split(same, survey, "validation", ("train",)) & normal).sum() == 10
    named = {frozenset(Path(survey.sources[end]).name for end in (pair.first, pair.second)) for pair in twins.pairs}
    assert {frozenset({"l4.png", "sq2.png"}), frozenset({"000119 (4).png", "000119 (5).png"})} <= named
