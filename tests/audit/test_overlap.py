"""Test images of one corpus that another trains on are found, in both directions, and no others."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from ct_xception.audit import overlap as module
from ct_xception.audit.overlap import Overlap, SplitCorpus, find_overlaps, overlap_findings, sentences
from ct_xception.corpus.listing import CorpusOptions
from ct_xception.corpus.load import load_corpus
from ct_xception.corpus.split import split_corpus
from ct_xception.imaging.reader import read_slice
from ct_xception.phantom.corpus import generate_phantom
from ct_xception.phantom.plants import alter

NAMES = ("adenocarcinoma", "normal")


def pictures_of(corpus: Path, split: str, label: str) -> list[Path]:
    return sorted((corpus / split / label).glob("*.png"))


def plant(picture: Path, folder: Path, how: str = "") -> str:
    """Put a picture, altered or byte for byte, among those of another corpus; its source there."""
    content, suffix = (
        alter(read_slice(picture).pixels, how, np.random.default_rng(0)) if how else (picture.read_bytes(), ".png")
    )
    name = f"planted-{picture.stem}{suffix}"
    (folder / name).write_bytes(content)
    return f"{folder.parent.name}/{folder.name}/{name}"


def split_up(folder: Path, pattern: str | None = None) -> SplitCorpus:
    corpus = load_corpus(folder, CorpusOptions(group_pattern=pattern))
    splits, split, report = split_corpus(corpus, None, fractions=(0.7, 0.15, 0.15), seed=0)
    return SplitCorpus(splits, report, split)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two corpora without names of patients, eight of them each; nothing is in both."""
    root = tmp_path_factory.mktemp("overlap")
    made = []
    for name, seed in (("newer", 1), ("old", 2)):
        made.append(generate_phantom(root / name, patients=12, slices_per_patient=2, size=96, classes=NAMES, seed=seed))
        (made[-1] / "metadata.csv").unlink()
    return made


@pytest.fixture(scope="module")
def planted(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], dict[str, str]]:
    """The same with twins of test images in the other's training and validation; {test image: twin} of all."""
    root = tmp_path_factory.mktemp("planted")
    newer, old = (Path(shutil.copytree(folder, root / folder.name)) for folder in folders)
    tests = [(one, picture) for one in (newer, old) for label in NAMES for picture in pictures_of(one, "test", label)]
    truth = {}
    for (one, picture), (how, split) in zip(tests, [
        ("", "train"), ("re-encoded", "valid"), ("cropped", "train"), (None, ""),
        ("", "train"), ("drawn upon", "train"), (None, ""), ("rescaled", "valid"),
    ], strict=True):  # fmt: skip
        if how is not None:
            other = old if one is newer else newer
            source = picture.relative_to(one).as_posix()
            truth[f"{one.name}/{source}"] = plant(picture, other / split / picture.parent.name, how)
    plant(pictures_of(old, "train", NAMES[0])[0], newer / "train" / NAMES[0])  # both train on it: nobody is misled
    plant(tests[6][1], newer / "test" / NAMES[1])  # both test on it: nor here
    return [newer, old], truth


@pytest.fixture(scope="module")
def found(planted: tuple[list[Path], dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> list[Overlap]:
    corpora = [split_up(folder) for folder in planted[0]]
    return find_overlaps(corpora, window=None, frame=None, cache=tmp_path_factory.mktemp("cache"), progress=False)


def test_twins_across_are_found_in_both_directions_and_nothing_else(
    planted: tuple[list[Path], dict[str, str]], found: list[Overlap]
) -> None:
    _, truth = planted
    assert {f"{one.test}/{source}": twin for one in found for source, (_, twin) in one.twins.items()} == truth
    assert [(one.test, one.others, one.n) for one in found] == [("newer", ["old"], 5), ("old", ["newer"], 4)]
    assert [(len(one.exact), len(one.near), one.namesakes) for one in found] == [(1, 2, []), (1, 2, [])]
    newer = split_up(planted[0][0]).splits["test"]["source"]
    assert [source for source, seen in zip(newer, found[0].mask(newer), strict=True) if seen] == [*found[0].twins]


def test_what_it_comes_to_in_words(found: list[Overlap]) -> None:
    new, old = overlap_findings(found)
    assert new.title == (
        "3 of 5 test images of newer show a picture that is in training or validation of old too: 1 pixel for pixel, 2 "
        "in another crop, size, window or encoding."
    )
    assert (new.kind, new.severity, new.detail["split"]) == ("leak_across", "critical", "test")
    assert (old.severity, old.detail["split"], old.items) == ("warning", "test of old", ())
    assert "planted" not in str(new.public()) + str([one.summary() for one in found])


def test_corpora_that_share_nothing(folders: list[Path], tmp_path: Path) -> None:
    corpora = [split_up(folder) for folder in folders]
    found = find_overlaps(corpora, window=None, frame=None, cache=tmp_path, progress=False)
    assert overlap_findings(found) == [] and sentences(found[0].summary()) == []


def test_the_next_search_looks_at_no_file(folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpora = [split_up(folder) for folder in folders]
    options = {"window": None, "frame": None, "cache": tmp_path, "progress": False}
    before = find_overlaps(corpora, **options)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "survey_corpus", None)
    assert find_overlaps(corpora, **options) == before  # type: ignore[arg-type]
    with pytest.raises(TypeError):  # other splits are another question
        others = [dataclasses.replace(corpora[0], split={"name": "another"}), corpora[1]]
        find_overlaps(others, **options)  # type: ignore[arg-type]


def test_patients_of_one_name_are_told_and_left_in(folders: list[Path], tmp_path: Path) -> None:
    corpora = [split_up(folder, r"_(S\d)_") for folder in folders]  # series for patients: every corpus has an S1
    found = find_overlaps(corpora, window=None, frame=None, cache=tmp_path, progress=False)
    for one, own, other in ((found[0], *corpora), (found[1], *corpora[::-1])):
        assert {"S1", "S2"} <= set(other.splits["train"]["group"])
        assert one.namesakes == list(own.splits["test"]["source"]) and not one.mask(one.namesakes).any()
    said = sentences(found[0].summary())
    assert len(said) == 1 and "test images of newer are of patients whose identifiers" in said[0]
    assert [finding.kind for finding in overlap_findings(found)] == ["namesakes"] * 2
    half = [corpora[0], split_up(folders[1])]  # where one corpus knows no patients there are no names to compare
    assert not any(one.namesakes for one in module.search_overlaps(half, _surveys(half)))


def _surveys(corpora: list[SplitCorpus]) -> list[module.Survey]:
    return [module.survey_corpus(one.splits, progress=False) for one in corpora]
