"""Which slices without labels may be learnt from: nothing that validation or test holds, nor its patients'."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import datasets
import pandas
import pytest
from PIL import Image

from ct_xception.audit.overlap import SplitCorpus
from ct_xception.corpus.load import load_corpus
from ct_xception.errors import CorpusError, InputError
from ct_xception.phantom.corpus import generate_phantom
from ct_xception.training.data.unlabelled import Chosen, held_out, load_unlabelled, settle_unlabelled
from ct_xception.training.options import TrainConfig


@dataclass(frozen=True)
class Pool:
    """A labelled corpus, a folder of slices without labels, and which of these belong to whom."""

    labelled: Path
    folder: Path
    table: pandas.DataFrame


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Twelve patients, of two slices each. Without labels: a copy of a test slice, and another crop of a validation
    slice, each with a slice of the same owner that shows something else; a slice of a test patient; two of others."""
    folder = tmp_path_factory.mktemp("pool")
    labelled = generate_phantom(folder / "labelled", patients=12, slices_per_patient=2, size=96, classes=2, seed=3)
    others = generate_phantom(folder / "others", patients=8, slices_per_patient=2, size=96, classes=2, seed=4)
    own, new = (pandas.read_csv(one / "metadata.csv") for one in (labelled, others))
    test, valid = (own[own["split"] == name].iloc[0] for name in ("test", "valid"))
    (folder / "pool").mkdir()
    rows = []

    def add(name: str, picture: Image.Image, patient: str) -> None:
        picture.save(folder / "pool" / name)
        rows.append({"file": name, "patient": patient, "label": "normal"})

    pictures = [Image.open(others / name) for name in new["file_name"]]
    add("copy.png", Image.open(labelled / test["file_name"]), "NEW-1")
    add("beside-copy.png", pictures[0], "NEW-1")
    crop = Image.open(labelled / valid["file_name"])
    add("crop.png", crop.resize((128, 128)).crop((2, 2, 126, 126)), "NEW-2")
    add("beside-crop.png", pictures[2], "NEW-2")
    add("namesake.png", pictures[4], str(test["patient"]).lower())
    add("free-1.png", pictures[6], "NEW-3")
    add("free-2.png", pictures[8], "NEW-4")
    table = pandas.DataFrame(rows)
    table.to_csv(folder / "pool" / "metadata.csv", index=False)
    return Pool(labelled, folder / "pool", table)


def choose(pool: Pool, source: str, cache: Path, **options) -> Chosen:
    config = TrainConfig(**{"corpus": str(pool.labelled), "unlabelled": [source], "epochs": 2} | options)
    own = load_corpus(config.corpus, config.corpus_options)
    labelled = SplitCorpus(own.dataset, own.report, {"name": "s"})
    found = settle_unlabelled(load_unlabelled(config), [labelled], config, cache)
    return found.apart_from(held_out(0, own.dataset))


def sources(chosen: Chosen) -> list[str]:
    (one,), (rows,) = chosen.unlabelled.corpora, chosen.rows
    return [one.splits["train"][row]["source"] for row in rows]


def test_copies_look_alikes_and_their_patients_are_left_out(pool: Pool, tmp_path: Path) -> None:
    for _ in range(2):  # looked for, and read again
        chosen = choose(pool, str(pool.folder), tmp_path)
        assert sources(chosen) == ["free-1.png", "free-2.png"]
        assert chosen.left_out == {"twins": 2, "patients": 3} and chosen.groups == 2
    config = TrainConfig(corpus=str(pool.labelled), unlabelled=["x"], image_size=64, epochs=2)
    slices = chosen.prepare(tmp_path, config)
    said = chosen.describe(slices)
    assert "2 images of 2 groups (pool); no label is looked at" in said
    assert "left out: 2 that are, or look like, images of validation or test" in said
    assert "left out: 3 more of patients of validation or test" in said


def test_without_an_audit_files_are_compared_and_patients_by_name(pool: Pool, tmp_path: Path) -> None:
    whole = pool.folder.parent / "bytes"
    shutil.copytree(pool.folder, whole, dirs_exist_ok=True)
    own = pandas.read_csv(pool.labelled / "metadata.csv")
    shutil.copy(pool.labelled / own[own["split"] == "test"].iloc[0]["file_name"], whole / "copy.png")
    chosen = choose(pool, str(whole), tmp_path, audit=False)
    assert sources(chosen) == ["beside-crop.png", "crop.png", "free-1.png", "free-2.png"]
    assert chosen.left_out == {"twins": 1, "patients": 2} and not chosen.unlabelled.alike


def test_where_patients_are_not_known_look_alikes_stand_for_them(pool: Pool, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(pool.folder, bare, ignore=shutil.ignore_patterns("*.csv"))
    chosen = choose(pool, str(bare), tmp_path)
    assert not {"copy.png", "crop.png"} & set(sources(chosen))
    assert chosen.left_out["twins"] == 2 and chosen.groups == len(sources(chosen))  # nobody knows whose these are


def test_a_corpus_with_and_without_labels_gives_the_same_slices(pool: Pool, tmp_path: Path) -> None:
    """A folder, a table, and a saved dataset, of one class or none, of splits of any name."""
    table = pool.table.assign(file=[str(pool.folder / name) for name in pool.table["file"]])
    table.to_csv(tmp_path / "labelled.csv", index=False)
    table.drop(columns="label").assign(fold=["x"] * len(table)).to_csv(tmp_path / "bare.csv", index=False)
    images = datasets.Dataset.from_dict(
        {"image": list(table["file"]), "patient": list(table["patient"])},
        features=datasets.Features(image=datasets.Image(), patient=datasets.Value("string")),
    )
    datasets.DatasetDict(week_1=images.select(range(3)), week_2=images.select(range(3, 7))).save_to_disk(
        str(tmp_path / "saved")
    )
    for source in ("labelled.csv", "bare.csv", "saved"):
        chosen = choose(pool, str(tmp_path / source), tmp_path / "cache")
        assert len(chosen.rows[0]) == 2, source
        assert chosen.left_out == {"twins": 2, "patients": 3}, source
    labelled = choose(pool, str(pool.labelled), tmp_path / "cache")  # the very corpus: what it trains on is left
    own = pandas.read_csv(pool.labelled / "metadata.csv")
    assert len(labelled.rows[0]) == (own["split"] == "train").sum()


def test_what_cannot_be_read_is_left_out_and_counted(pool: Pool, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(pool.folder, folder)
    content = (folder / "free-2.png").read_bytes()
    (folder / "free-2.png").write_bytes(content[: len(content) // 2])
    (folder / "empty.png").touch()
    chosen = choose(pool, str(folder), tmp_path)
    slices = chosen.prepare(tmp_path, TrainConfig(corpus="x", unlabelled=["x"], epochs=2))
    assert slices.sources == ["free-1.png"] and chosen.unreadable(slices) == 2
    assert "left out: 2 images that cannot be read" in chosen.describe(slices)


def test_what_leaves_nothing_is_refused(pool: Pool, tmp_path: Path) -> None:
    only = tmp_path / "only"
    only.mkdir()
    shutil.copy(pool.folder / "copy.png", only)
    with pytest.raises(InputError, match="--unlabelled: nothing is left of 1 images, all of which are in validation"):
        choose(pool, str(only), tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(CorpusError, match="--unlabelled .*none: .* holds no images; name another source"):
        choose(pool, str(tmp_path / "none"), tmp_path)
    with pytest.raises(InputError, match="--unlabelled: nowhere: no such folder or file"):
        choose(pool, "nowhere", tmp_path)
