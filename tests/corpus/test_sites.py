"""Where an image was made: a column of hospitals is taken for sites, numbered, and told by name in private alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pandas
import pytest
from PIL import Image

from ct_xception.audit.audit import audit_corpus
from ct_xception.corpus.load import Corpus, CorpusOptions, corpus_summary, load_corpus, public_report
from ct_xception.evaluation.report.subgroups import survey_traits
from ct_xception.training.data.batches import EpochSampler
from ct_xception.training.data.cache import Reading, prepare_slices

HOSPITALS = ["North"] * 12 + ["South"] * 8 + [""] * 4


def table(folder: Path, sites: list[str], name: str = "hospital", patients: int = 12) -> Path:
    """24 pictures of `patients` in two classes, and the table of them."""
    rng = np.random.default_rng(0)
    rows = []
    for index, site in enumerate(sites):
        Image.fromarray(rng.integers(0, 255, (40, 40), dtype=np.uint8)).save(folder / f"{index}.png")
        patient = index * patients // len(sites)
        rows.append({"path": f"{index}.png", "label": "ab"[patient % 2], "patient": f"p{patient}", name: site})
    pandas.DataFrame(rows).to_csv(folder / "slices.csv", index=False)
    return folder / "slices.csv"


def load(path: Path, **options: str) -> Corpus:
    return load_corpus(path, CorpusOptions(decode=False, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "options"), [("Hospital", {}), ("where", {"site_column": "where"})])
def test_a_column_of_hospitals_is_numbered(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    corpus = load(table(tmp_path, HOSPITALS, name), **options)
    assert Counter(corpus.dataset["train"]["site"]) == {"1": 12, "2": 8, "": 4}
    assert corpus.report["sites"] == 2 and ", 12 groups, 2 sites, hash" in corpus_summary(corpus.report)
    assert "site 1 is 'North'" in corpus.report["details"]
    assert "North" not in str(public_report(corpus.report))


def test_what_parts_no_sites_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "same").mkdir()
    same = load(table(tmp_path / "same", ["North"] * 24))
    assert "site" not in same.dataset["train"].column_names and same.report["sites"] == 0
    (tmp_path / "own").mkdir()
    own = load(table(tmp_path / "own", [f"h{index // 2}" for index in range(24)], "site"))
    assert "site" not in own.dataset["train"].column_names
    assert any("has 12 values for 12 groups, so it names none" in said for said in own.report["untaken"])


def test_a_dataset_s_column_is_taken_alike(tmp_path: Path) -> None:
    rows = pandas.read_csv(table(tmp_path, HOSPITALS), keep_default_na=False)
    columns = {"image": [str(tmp_path / name) for name in rows["path"]], "label": list(rows["label"])}
    columns |= {"patient_id": list(rows["patient"]), "site": list(rows["hospital"])}
    saved = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    saved.save_to_disk(str(tmp_path / "saved"))
    corpus = load(tmp_path / "saved")
    assert Counter(corpus.dataset["train"]["site"]) == {"1": 12, "2": 8, "": 4}


def test_sites_are_drawn_evenly_and_part_the_figures(tmp_path: Path) -> None:
    corpus = load(table(tmp_path, HOSPITALS))
    train = corpus.dataset["train"]
    slices = prepare_slices(train, tmp_path / "cache", Reading(body_crop=False), description="reading")
    assert slices.sites == train["site"][:]
    drawn = [index for epoch in range(100) for *_, index in sampled(slices.sites, epoch)]
    found = Counter(slices.sites[index] for index in drawn)
    assert all(abs(count / len(drawn) - 1 / 3) < 0.03 for count in found.values()) and len(found) == 3

    survey = audit_corpus(corpus, cache=tmp_path / "audit").survey
    trait = next(trait for trait in survey_traits(survey, np.arange(len(survey))) if trait.name == "site")
    assert Counter(trait.values) == {"1": 12, "2": 8, "not stated": 4}


def sampled(sites: list[str], epoch: int) -> list[tuple[int, int, int]]:
    """The draws of one epoch."""
    sampler = EpochSampler(len(sites), 0, alike=sites)
    sampler.epoch = epoch
    return list(sampler)
