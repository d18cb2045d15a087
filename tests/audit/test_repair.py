"""The repaired split: no leak is left in it, what went where is said, and training reads it as it stands."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from ct_xception.audit.audit import Audit, audit_corpus
from ct_xception.audit.repair import repair_split, write_split
from ct_xception.cli import main
from ct_xception.corpus.load import CorpusOptions, load_corpus
from ct_xception.errors import InputError
from ct_xception.phantom.corpus import generate_phantom


def audit(source: Path) -> Audit:
    return audit_corpus(load_corpus(source, CorpusOptions(decode=False)), progress=False)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """A phantom of 24 patients with copies in the test split, copies elsewhere, and pictures under two labels."""
    folder = tmp_path_factory.mktemp("planted") / "phantom"
    plant = ["duplicates:4", "leaks:7", "conflicts:2"]
    return audit(generate_phantom(folder, patients=24, slices_per_patient=2, size=96, plant=plant))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_patients_are_on_one_side_and_nothing_is_lost(planted: Audit) -> None:
    repaired = repair_split(planted)
    sides = defaultdict(set)
    for source, split in repaired.split.items():
        sides[repaired.group[source]].add(split)
    assert all(len(splits) == 1 for splits in sides.values())
    out = [move["source"] for move in repaired.moves if move["now"] == "left out"]
    assert sorted([*repaired.split, *out]) == sorted(planted.survey.sources)
    assert {split for split in repaired.split.values()} == {"train", "validation", "test"}


def test_every_move_has_its_reason(planted: Audit) -> None:
    moves = repair_split(planted).moves
    reasons = [move["reason"] for move in moves]
    assert sum("one picture is labelled" in reason for reason in reasons) >= 4  # both sides of two conflicts
    assert any("a copy of train/" in reason and reason.endswith("pixel for pixel") for reason in reasons)
    assert all(move["was"] != move["now"] and move["reason"] for move in moves)


def test_the_table_is_a_corpus_without_leaks_and_twice_the_same(planted: Audit, tmp_path: Path) -> None:
    repaired = write_split(planted, tmp_path / "repaired")
    write_split(planted, tmp_path / "copied", copy=True)
    table = (tmp_path / "repaired" / "split.csv").read_bytes()
    assert table == (tmp_path / "copied" / "split.csv").read_bytes()
    rows = read(tmp_path / "repaired" / "split.csv")
    assert len(rows) == len(repaired.split) and list(rows[0]) == ["path", "label", "split", "group"]
    for row in rows:
        link, copied = (tmp_path / name / row["path"] for name in ("repaired", "copied"))
        assert link.is_symlink() and not copied.is_symlink() and link.read_bytes() == copied.read_bytes()
        assert row["path"].startswith(f"images/{row['split']}/{row['label']}/")
    again = audit(tmp_path / "repaired" / "split.csv")
    assert not again.leaks and again.counts["critical"] == 0 and again.survey.groups_known
    assert read(tmp_path / "repaired" / "reasons.csv") == repaired.moves
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_links_are_a_corpus_of_folders_too(planted: Audit, tmp_path: Path) -> None:
    repaired = write_split(planted, tmp_path / "repaired")
    corpus = load_corpus(tmp_path / "repaired" / "images", CorpusOptions(decode=False))
    sizes = {split: len(part) for split, part in corpus.dataset.items()}
    assert sizes == {split: list(repaired.split.values()).count(split) for split in sizes}


def test_a_corpus_without_splits_is_split_by_patient(tmp_path: Path) -> None:
    folder = generate_phantom(tmp_path / "phantom", patients=24, slices_per_patient=2, size=64)
    repaired = repair_split(audit(folder / "train"))
    assert {split for split in repaired.split.values()} == {"train", "validation", "test"}


def test_a_folder_that_is_there_is_left_alone(planted: Audit, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="is there already; name a new folder"):
        write_split(planted, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_command_says_what_it_did(small_phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", str(small_phantom), "--output", str(tmp_path / "audit"), "--write-split", str(tmp_path / "new")]
    assert main(words) == 0
    assert f"{tmp_path}/new/: split.csv, reasons.csv, images: " in capsys.readouterr().out
    assert main([*words[:4], "--copy"]) == 2 and "--copy" in capsys.readouterr().err
    assert main(words) == 2  # before anything slow: the folder is there
    assert "name a new folder" in capsys.readouterr().err
