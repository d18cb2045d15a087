"""Whose an image is: by DICOM whatever a file is called, by folders, and never by one name on everything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pandas
import pydicom
import pytest
from PIL import Image

from ct_xception.audit.audit import audit_corpus
from ct_xception.corpus.load import CorpusOptions, corpus_summary, load_corpus, public_report
from ct_xception.corpus.split import make_splits
from ct_xception.phantom.corpus import generate_phantom

Rename = Callable[[Path, int], str]


@pytest.fixture
def dicom(tmp_path: Path) -> Path:
    """Twelve DICOM files of six patients in three splits, two of them moved across the splits; no metadata."""
    folder = generate_phantom(tmp_path / "d", patients=6, slices_per_patient=2, size=32, classes=2, dicom=True)
    (folder / "metadata.csv").unlink()
    for label in ("adenocarcinoma", "normal"):
        first = sorted((folder / "train" / label).glob("*.dcm"))[0]
        first.rename(folder / "test" / label / first.name)
    return folder


def files(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".json"]
    return [path for path in found if "masks" not in path.parts]


def edit(folder: Path, **tags: str) -> None:
    for path in files(folder):
        dataset = pydicom.dcmread(path)
        for name, value in tags.items():
            setattr(dataset, name, value)
        dataset.save_as(path)


@pytest.mark.parametrize(
    "name",
    [lambda path, index: path.name, lambda path, index: f"IM{index:06}", lambda path, index: f"CT.1.2.3.{index}",
     lambda path, index: f"1.2.840.113619.{index}", lambda path, index: f"{index}.DCM",
     lambda path, index: f"{index}.png", lambda path, index: f"{index}.dicom"],
)  # fmt: skip
def test_patients_are_read_wherever_the_bytes_are_dicom(dicom: Path, name: Rename):
    for index, path in enumerate(files(dicom)):
        path.rename(path.with_name(name(path, index)))
    corpus = load_corpus(dicom, CorpusOptions(decode=False))
    assert corpus.report["groups"] == {"count": 6, "origin": "DICOM PatientID"} and corpus.report["images"] == 12
    assert len(set(corpus.dataset["train"]["group"]) & set(corpus.dataset["test"]["group"])) == 2
    whole = datasets.DatasetDict(train=datasets.concatenate_datasets(list(corpus.dataset.values())))
    assert make_splits(whole)[1]["crossing_groups"] == 0


@pytest.mark.parametrize("how", ["parquet", "paths", "saved"])
def test_patients_of_dicom_in_tables(dicom: Path, tmp_path: Path, how: str):
    content = [path.read_bytes() for path in files(dicom)]
    labels = [path.parent.name for path in files(dicom)]
    if how == "parquet":
        pandas.DataFrame({"image": content, "label": labels}).to_parquet(tmp_path / "t.parquet")
    elif how == "paths":
        pandas.DataFrame({"image": list(map(str, files(dicom))), "label": labels}).to_csv(tmp_path / "t.csv")
    else:
        features = datasets.Features(image=datasets.Image(decode=False), label=datasets.Value("string"))
        cells = [{"bytes": one, "path": None} for one in content]
        datasets.Dataset.from_dict({"image": cells, "label": labels}, features=features).save_to_disk(tmp_path / "t")
    name = {"parquet": "t.parquet", "paths": "t.csv", "saved": "t"}[how]
    assert load_corpus(tmp_path / name).report["groups"] == {"count": 6, "origin": "DICOM PatientID"}


@pytest.mark.parametrize("patient", ["ANON", "0", "P7"])
def test_one_patient_id_on_every_file_is_said_and_not_taken(dicom: Path, patient: str):
    edit(dicom, PatientID=patient)
    report = load_corpus(dicom, CorpusOptions(decode=False)).report
    assert report["groups"] == {"count": 6, "origin": "DICOM StudyInstanceUID"}
    assert report["untaken"] == ["DICOM PatientID is the same on every image, tells nobody apart and is not used"]
    assert f"{patient!r} on every image" in corpus_summary(report)
    assert "details" not in public_report(report) and "every image" not in str(public_report(report)["notes"])


def test_an_empty_patient_id_leaves_the_study(dicom: Path):
    edit(dicom, PatientID="")
    assert load_corpus(dicom).report["groups"] == {"count": 6, "origin": "DICOM StudyInstanceUID"}


def test_a_table_that_sets_apart_what_dicom_joins_is_named(dicom: Path):
    rows = [f"{path.relative_to(dicom)},g{index}" for index, path in enumerate(files(dicom))]
    (dicom / "metadata.csv").write_text("\n".join(["file_name,group", *rows]))
    report = load_corpus(dicom, CorpusOptions(decode=False)).report
    assert report["groups"] == {"count": 12, "origin": "column group"}
    (said,) = report["untaken"]
    assert said.startswith("DICOM PatientID looks like patients and is not used, though it joins 12 groups")


def test_a_header_that_cannot_be_read_does_not_end_an_audit(dicom: Path):
    first = files(dicom)[0]
    first.write_bytes(first.read_bytes()[:140])
    assert load_corpus(dicom, CorpusOptions(decode=False)).report["groups"]["count"] == 7


def test_folders_of_patients_are_taken_and_said(grow):
    root = grow({"benign/P001": 2, "benign/P002": 2, "malignant/P003": 2, "malignant/P004": 1})
    report = load_corpus(root).report
    assert report["groups"] == {"count": 4, "origin": "folders like patients'"}
    assert "4 folders look like patients' and are taken for them" in report["notes"]


@pytest.mark.parametrize(
    "name", ["P{:04d}_{:02d}", "patient{}_slice{}", "subject-{}-slice-{}", "case{}_{}", "{:06d}_{}"]
)
def test_names_of_files_like_patients_are_pointed_at_and_never_taken(grow, name: str):
    root = grow({"a": 6, "b": 6})
    for index, path in enumerate(sorted(root.rglob("*.png"))):
        path.rename(path.with_name(name.format(index // 3, index % 3) + ".png"))
    report = load_corpus(root).report
    (said,) = report["untaken"]
    assert report["groups"]["origin"] is None
    assert said.startswith("the names of 12 files begin like patients, 4 of them, and are not used; use them with --gr")
    pattern = said.split("'")[1]
    assert load_corpus(root, CorpusOptions(group_pattern=pattern)).report["groups"]["count"] == 4


@pytest.mark.parametrize("name", ["img_{:04d}", "slice_{:03d}_0", "covid-19-pneumonia-{}", "{:06d} (1)", "1-{:02d}"])
def test_other_names_of_files_are_no_patients(grow, name: str):
    root = grow({"a": 6, "b": 6})
    for index, path in enumerate(sorted(root.rglob("*.png"))):
        path.rename(path.with_name(name.format(index) + ".png"))
    assert load_corpus(root).report["untaken"] == []


def test_the_audit_warns_of_what_was_not_taken_and_counts_what_was_not_read(small_phantom: Path, tmp_path: Path):
    rows = [f"{path},{path.parent.name},P{index // 2}" for index, path in enumerate(files_of(small_phantom))]
    (tmp_path / "t.csv").write_text("\n".join(["image,label,my_patient_ref", *rows]))
    corpus = load_corpus(tmp_path / "t.csv", CorpusOptions(decode=False, exclude=("normal",)))
    findings = audit_corpus(corpus, progress=False).findings
    untaken = [finding for finding in findings if finding.kind == "identity_not_taken"]
    assert untaken[0].title.startswith("The column my_patient_ref looks like patients and is not used")
    assert {finding.severity for finding in untaken} == {"warning"}
    (passed,) = (finding for finding in findings if finding.kind == "passed_over")
    assert passed.title == "6 other files lie in the corpus and are left out: 6 excluded by name."


def files_of(phantom: Path) -> list[Path]:
    return [path for path in sorted(phantom.rglob("*.png")) if "masks" not in path.parts]


def test_what_goes_to_the_world_names_no_file_and_no_folder_of_this_machine(grow):
    root = grow({"a": 6, "b": 6})
    for index, path in enumerate(sorted(root.rglob("*.png"))):
        path.rename(path.with_name(f"P{index // 3:04d}_{index % 3}.png"))
    (root / "metadata.csv").write_text("file_name,patient\nx.png,p\n")
    report = load_corpus(root).report
    assert "P0000" in str(report) and str(root) in str(report)
    public = str(public_report(report))
    assert "P0000" not in public and str(root.parent) not in public and "x.png" not in public


def numbered(folder: Path, columns: dict[str, list[str]]) -> Path:
    """A table of six pictures in two splits, of two classes, with these columns beside them."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(6):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{index}.png")
    own = {
        "image": [f"{index}.png" for index in range(6)],
        "label": list("ababab"),
        "split": ["train"] * 4 + ["test"] * 2,
    }
    pandas.DataFrame(own | columns).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


@pytest.mark.parametrize("named", [["1", "2"], ["S1", "S2"], ["series 01", "series 02"]], ids=str)
def test_a_series_number_is_one_of_its_patient_alone(tmp_path: Path, named: list[str]):
    """Series 1 of every patient is another one: it joins no patients, and crosses no split."""
    patients = {"patient": ["p1", "p1", "p2", "p2", "p3", "p3"], "series": named * 3}
    corpus = load_corpus(numbered(tmp_path / "with", patients))
    assert corpus.dataset["train"]["series"][:2] == [f"p1/{one}" for one in named]
    audit = audit_corpus(corpus, progress=False)
    assert len(set(audit.twins.patients)) == 3
    assert not [finding for finding in audit.findings if finding.kind == "leak_series"]
    alone = load_corpus(numbered(tmp_path / "without", {"series": named * 3}))
    assert alone.report["groups"]["count"] == 6
    assert any("series are numbers" in said for said in alone.report["untaken"])


@pytest.mark.parametrize("named", ["1.2.840.113619.{}", "CT_2021_{}_a"], ids=str)
def test_any_other_series_name_is_one_series_everywhere(tmp_path: Path, named: str):
    columns = {
        "patient": [f"p{index}" for index in range(6)],
        "series": [named.format(index % 4) for index in range(6)],
    }
    audit = audit_corpus(load_corpus(numbered(tmp_path / "t", columns)), progress=False)
    assert len(set(audit.twins.patients)) == 4
    assert [finding for finding in audit.findings if finding.kind == "leak_series"]


@pytest.mark.parametrize(
    "spelt",
    [("P1", "p1 "), ("007", "7"), ("7", "7.0"), ("sub-01", "Sub-1"), ("Ada  Lovelace", "ada lovelace")],
)
def test_spellings_of_one_patient_are_one(grow, spelt: tuple[str, str]) -> None:
    """Apart, patient 0 would lie in training and in test without anyone noticing."""
    root = grow({"i": 8})
    patients = [spelt[0], "11", spelt[0], "12", spelt[1], "21", spelt[1], "22"]
    rows = [f"i/{row}.png,{'ab'[row % 2]},{who},{'train' if row < 4 else 'test'}" for row, who in enumerate(patients)]
    (root / "t.csv").write_text("\n".join(["image,label,patient,split", *rows]))
    report = load_corpus(root / "t.csv", CorpusOptions(decode=False)).report
    assert report["groups"]["count"] == 5
    assert "1 patients are spelt in several ways (case, blanks, zeros); each is taken for one" in report["notes"]
    assert not any(spelt[0] in note for note in public_report(report)["notes"])


def test_patients_that_differ_by_more_stay_apart(grow) -> None:
    root = grow({"i": 6})
    patients = ["10", "1", "100", "1.5", "P1", "1a"]
    rows = [f"i/{row}.png,{'ab'[row % 2]},{who}" for row, who in enumerate(patients)]
    (root / "t.csv").write_text("\n".join(["image,label,patient", *rows]))
    report = load_corpus(root / "t.csv", CorpusOptions(decode=False)).report
    assert report["groups"]["count"] == 6
    assert not any("spelt" in note for note in report["notes"])
