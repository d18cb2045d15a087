"""Layouts and tables as collections are published: read right, or asked about with an option that then settles it."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pydicom
import pytest

from ct_xception.corpus.load import Corpus, CorpusOptions, load_corpus
from ct_xception.errors import CorpusError, InputError
from ct_xception.phantom.corpus import generate_phantom


def load(path: Path, **options) -> Corpus:
    return load_corpus(path, CorpusOptions(decode=False, **options))


def asked(path: Path, **options) -> str:
    with pytest.raises(CorpusError) as told:
        load(path, **options)
    (problem,) = told.value.problems
    return problem


def csv(path: Path, heading: str, *rows: Sequence[object]) -> Path:
    path.write_text("\n".join([heading, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def counts(corpus: Corpus) -> dict[str, dict[str, int]]:
    return corpus.report["counts"]


@pytest.fixture
def folder(grow) -> Path:
    return grow({"i": 6})


@pytest.mark.parametrize("heading", ["", "filename class xmin ymin xmax ymax\n"])
@pytest.mark.parametrize("between", [" ", ",", "\t"])
def test_a_list_with_boxes_has_their_numbers_in_no_label(folder: Path, heading: str, between: str):
    lines = [between.join([f"i/{row}.png", str(row % 2), "9", "9", "63", "63.5"]) for row in range(6)]
    (folder / "l.txt").write_text(heading + "\n".join(lines))
    corpus = load(folder / "l.txt")
    assert corpus.label_names == ["0", "1"]
    assert "the classes are called by numbers; --class_map 0=NAME and so on gives them names" in corpus.report["notes"]


def test_lists_of_a_flat_folder_are_its_splits_whatever_else_their_names_say(folder: Path):
    (folder / "train_COVIDx-3A.txt").write_text("".join(f"{row}.png {row % 2} 1 1 8 8\n" for row in range(4)))
    (folder / "val_COVIDx-3A.txt").write_text("4.png 0 1 1 8 8\n5.png 1 1 1 8 8\n")
    csv(folder / "metadata.csv", "patient id,finding,modality", ["p1", "covid", "CT"])  # names no images
    assert counts(load(folder)) == {"train": {"0": 2, "1": 2}, "validation": {"0": 1, "1": 1}}


@pytest.mark.parametrize("blank", ["", "0", "0.0"])
def test_blanks_and_uncertain_cells_of_columns_of_zeros_and_ones(folder: Path, blank: str):
    cells = [["1.0", blank], [blank, "1.0"], ["1.0", blank], [blank, blank], ["1.0", "1.0"], [blank, "-1.0"]]
    path = csv(folder / "t.csv", "Path,Edema,Mass", *([f"i/{row}.png", *cell] for row, cell in enumerate(cells)))
    problem = asked(path)
    assert "3 rows have not just one 1 in the columns Edema, Mass (row 4: none)" in problem
    patterns = re.findall(r"--exclude '?([^' ]+)", problem)
    assert counts(load(path, exclude=patterns)) == {"train": {"Edema": 2, "Mass": 1}}
    settled = {"none": "other", "Edema|Mass": "Mass", "uncertain Mass": "Mass"}
    assert counts(load(path, class_map=settled)) == {"train": {"Edema": 2, "Mass": 3, "other": 1}}


def test_a_row_for_each_image_and_class_is_asked_about(folder: Path):
    rows = [[f"{row}_{kind}", int((row % 2 == 0) == (kind == "any"))] for row in range(6) for kind in ("any", "none")]
    assert "has a row for each image and class (0_any, 0_none, …)" in asked(csv(folder / "t.csv", "ID,Label", *rows))


@pytest.mark.parametrize("before", ["C:\\data\\", "/content/drive/My Drive/", "\\\\server\\share\\"])
def test_paths_of_another_machine_are_found_by_their_ends(grow, before: str):
    root = grow({"data/a": 3, "data/b": 3})
    mark = "\\" if "\\" in before else "/"
    rows = [[f"{before}data{mark}{name}{mark}{row}.png", name] for name in "ab" for row in range(3)]
    corpus = load(csv(root / "t.csv", "path,label", *rows))
    found = {Path(cell["path"]).relative_to(root).as_posix() for cell in corpus.dataset["train"]["image"]}
    assert found == {f"data/{name}/{row}.png" for name in "ab" for row in range(3)}


def test_a_table_called_as_a_folder_names_the_files_in_it(grow):
    root = grow({"train": 4, "test": 4})
    csv(root / "train.csv", "id,label", *([f"{row}.png", "ab"[row % 2]] for row in range(4)))
    csv(root / "sample_submission.csv", "id,label", *([f"{row}.png", "a"] for row in range(4)))
    corpus = load(root)
    assert counts(corpus) == {"train": {"a": 2, "b": 2}}
    assert corpus.report["passed_over"]["images that the metadata does not name"] == 4


def test_a_row_said_twice_is_read_once_and_one_said_otherwise_is_asked_about(folder: Path):
    rows = [[f"i/{row}.png", "ab"[row % 2]] for row in range(6)]
    corpus = load(csv(folder / "t.csv", "file,label", *rows, ["./i/0.png", "a"]))
    assert "1 rows of t.csv repeat an earlier one, and are read once" in corpus.report["notes"]
    assert corpus.report["images"] == 6
    assert "an earlier row has named otherwise in 1 rows (row 7)" in asked(
        csv(folder / "t.csv", "file,label", *rows, ["i/0.png", "b"])
    )


@pytest.mark.parametrize("value", ["", "NaN", "null", "?", "N/A", "unlabeled"])
def test_what_stands_for_no_label_is_no_class(folder: Path, value: str):
    path = csv(folder / "t.csv", "file,label", *([f"i/{row}.png", ["a", "b", value][row % 3]] for row in range(6)))
    assert (
        f"t.csv has no value in label in 2 rows (row 3, 6); mend or remove them (--exclude '{glob.escape(value)}'"
        in asked(path)
    )
    assert load(path, exclude=(glob.escape(value),)).label_names == ["a", "b"]
    if value:
        assert load(path, class_map={value: "c"}).label_names == ["a", "b", "c"]


@pytest.mark.parametrize("names", [("diagnosis", "category"), ("label", "class_name"), ("target", "Class")])
def test_two_columns_of_labels_are_asked_about(folder: Path, names: tuple[str, str]):
    rows = [[f"i/{row}.png", "xy"[row % 2], "pqr"[row % 3]] for row in range(6)]
    path = csv(folder / "t.csv", "file," + ",".join(names), *rows)
    assert "has several columns of labels" in asked(path) and "--label_column" in asked(path)
    assert load(path, label_column=names[0]).label_names == ["x", "y"]


def test_a_column_called_label_outranks_a_finding_which_is_named(folder: Path):
    rows = [[f"i/{row}.png", "pqr"[row % 3], "xy"[row % 2], row] for row in range(6)]
    corpus = load(csv(folder / "t.csv", "file,finding,label,y", *rows))
    assert corpus.label_names == ["x", "y"]
    assert "the column finding could be labels, too, and is not used (--label_column)" in corpus.report["notes"]


@pytest.mark.parametrize("of", [lambda row: f"{row * 1.37:.2f}", lambda row: f"a free text, number {row}"])
def test_measures_and_free_text_are_no_classes(grow, of):
    root = grow({"i": 24})
    path = csv(root / "t.csv", "file,target", *([f"i/{row}.png", f'"{of(row)}"'] for row in range(24)))
    assert "24 different values in 24 rows" in asked(path) and "which are no classes" in asked(path)


@pytest.mark.parametrize("column", ["is_test", "Test", "inTrain"])
def test_flags_of_a_split_are_named_with_the_option_that_takes_them(folder: Path, column: str):
    rows = [[f"i/{row}.png", "ab"[row % 2], int(row > 3)] for row in range(6)]
    path = csv(folder / "t.csv", f"file,label,{column}", *rows)
    (said,) = load(path).report["untaken"]
    told = dict(pair.split("=") for pair in said.split("--split_map ")[1].split())
    first, second = ("train", "test") if column == "inTrain" else ("test", "train")
    assert told == {"1": first, "0": second}
    assert set(counts(load(path, split_column=column, split_map=told))) == {"train", "test"}


@pytest.mark.parametrize("form", ["list", "labels", "objects"])
@pytest.mark.parametrize("beside", [False, True])
def test_json(folder: Path, form: str, beside: bool):
    rows = [{"file": f"i/{row}.png", "label": "ab"[row % 2]} for row in range(6)]
    whole = {
        "list": rows,
        "labels": {row["file"]: row["label"] for row in rows},
        "objects": {row["file"]: {"label": row["label"]} for row in rows},
    }
    (folder / "t.json").write_text(json.dumps(whole[form], indent=1))
    assert counts(load(folder if beside else folder / "t.json")) == {"train": {"a": 3, "b": 3}}


def test_json_of_another_shape_and_spreadsheets_are_refused_in_a_sentence(folder: Path):
    (folder / "t.json").write_text('{"images": [], "annotations": []}')
    assert "cannot be read as a table (it is neither JSON lines nor a list of JSON objects)" in asked(folder / "t.json")
    (folder / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(InputError, match="is a spreadsheet, which is not read; save it as CSV"):
        load(folder / "t.xlsx")
    with pytest.raises(CorpusError, match=r"t\.xlsx is a spreadsheet, which is not read"):
        load(folder)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Folders S0 to S3 of two DICOM slices each, of patients called otherwise."""
    source = generate_phantom(tmp_path / "d", patients=4, slices_per_patient=2, size=32, classes=2, dicom=True)
    paths = sorted(path for path in source.rglob("*.dcm") if "masks" not in path.parts)
    for index, path in enumerate(paths[:8]):
        dataset = pydicom.dcmread(path)
        number = index // 2
        dataset.PatientID, dataset.StudyInstanceUID = f"PAT{number}", f"1.2.826.{number}"
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = f"1.2.826.{number}.1", f"1.2.826.{number}.1.{index}"
        (tmp_path / "scans" / f"S{number}").mkdir(parents=True, exist_ok=True)
        dataset.save_as(tmp_path / "scans" / f"S{number}" / f"IM{index}")
    return tmp_path / "scans"


KEYS = {"PatientID": "PAT{}", "StudyInstanceUID": "1.2.826.{}", "SeriesInstanceUID": "1.2.826.{}.1", "subject": "S{}"}


@pytest.mark.parametrize("column", KEYS)
def test_tables_of_patients_studies_and_series_name_their_slices(scans: Path, column: str):
    rows = [[KEYS[column].format(number), "ab"[number % 2]] for number in range(4)]
    path = csv(scans / "labels.csv", f"{column},label", *rows)
    report = load(path).report
    assert report["counts"] == {"train": {"a": 4, "b": 4}} and report["groups"]["count"] == 4


@pytest.mark.parametrize("column", KEYS)
def test_folders_that_a_table_of_patients_contradicts_are_asked_about(scans: Path, column: str):
    rows = [[KEYS[column].format(number), "ab"[number % 2]] for number in range(4)]
    csv(scans / "labels.csv", f"{column},label", *rows)
    problem = asked(scans)
    assert "the classes could be the folders S0, S1, S2 and 1 more, or a, b of labels.csv" in problem
    assert load(scans, exclude=("labels.csv",)).label_names == ["S0", "S1", "S2", "S3"]


def test_slices_are_found_by_the_uid_in_them(scans: Path):
    rows = [[f"1.2.826.{index // 2}.1.{index}", "ab"[index % 2]] for index in range(8)]
    corpus = load(csv(scans / "t.csv", "SOPInstanceUID,label", *rows))
    assert counts(corpus) == {"train": {"a": 4, "b": 4}}
    assert [Path(cell["path"]).name for cell in corpus.dataset["train"]["image"]] == [f"IM{i}" for i in range(8)]


@pytest.mark.parametrize("patients", [False, True])
def test_a_table_that_says_otherwise_than_the_folders_is_asked_about(grow, patients: bool):
    root = grow({"a": 3, "b": 3})
    rows = [[f"{name}/{row}.png", "ab"[row % 2], f"p{row}"] for name in "ab" for row in range(3)]
    path = csv(root / "labels.csv", "file,label" + ",patient" * patients, *(row[: 2 + patients] for row in rows))
    assert "the column label of labels.csv says otherwise than the folders of 3 images" in asked(root)
    assert counts(load(root, exclude=("labels.csv",))) == {"train": {"a": 3, "b": 3}}
    assert counts(load(path)) == {"train": {"a": 4, "b": 2}}


@pytest.mark.parametrize(
    ("label", "notes"), [(lambda name, row: f"of {name}", 0), (lambda name, row: f"{name}{row}", 1)]
)
def test_a_table_that_says_the_same_in_other_words_or_finer_is_not_asked_about(grow, label, notes: int):
    root = grow({"a": 3, "b": 3})
    csv(root / "l.csv", "file,grade", *([f"{name}/{row}.png", label(name, row)] for name in "ab" for row in range(3)))
    (root / "l.csv").write_text((root / "l.csv").read_text().replace("grade", "diagnosis"))
    said = load(root).report["notes"]
    assert (
        sum("the folders are the classes; the column diagnosis of l.csv is not used" in note for note in said) == notes
    )


def test_two_tables_of_labels_are_asked_about(folder: Path):
    for name in ("new.csv", "old.csv"):
        csv(folder / name, "file,label", *([f"i/{row}.png", "ab"[row % 2]] for row in range(6)))
    assert asked(folder) == (
        "the labels could be those of new.csv or of old.csv; leave the others out with --exclude old.csv, or give one "
        "of them as the corpus"
    )
    assert load(folder, exclude=("old.csv",)).label_names == ["a", "b"]


def test_patients_in_the_paths_of_a_table_are_theirs(grow):
    root = grow({f"v1/train/patient{number:05}/study1": 2 for number in range(3)})
    rows = [[f"v1/train/patient{number:05}/study1/{row}.png", "ab"[row]] for number in range(3) for row in range(2)]
    report = load(csv(root / "t.csv", "Path,label", *rows)).report
    assert report["groups"] == {"count": 3, "origin": "folders like patients'"}


@pytest.mark.parametrize("name", ["thumbs", "Thumbnails", "preview"])
def test_thumbnails_are_left_out_and_counted(grow, name: str):
    report = load(grow({"a": 2, "b": 2, f"a/{name}": 2, f"{name}/b": 1})).report
    assert report["counts"] == {"train": {"a": 2, "b": 2}} and report["passed_over"] == {"thumbnails": 3}


def test_masks_of_volumes_are_no_volumes(tmp_path: Path):
    import nibabel
    import numpy as np

    for name in ("a/v1.nii.gz", "a/v1_mask.nii.gz", "b/v2.nii.gz", "b/v2_seg.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 2), np.int16), np.eye(4)), tmp_path / name)
    report = load(tmp_path).report
    assert report["counts"] == {"train": {"a": 2, "b": 2}} and report["passed_over"] == {"masks": 2}


def test_folders_of_lists_are_no_classes(grow):
    root = grow({"Images/CT_COVID": 2, "Images/CT_NonCOVID": 2})
    for name in ("COVID", "NonCOVID"):
        (root / "Data-split" / name).mkdir(parents=True)
        (root / "Data-split" / name / "names.txt").write_text("x")
    corpus = load(root)
    assert corpus.label_names == ["CT COVID", "CT NonCOVID"] and corpus.report["ignored_folders"] == ["Data-split"]


@pytest.mark.parametrize("name", ["unlabeled", "Unsorted", "un_labelled"])
def test_what_nobody_has_sorted_is_asked_about(grow, name: str):
    root = grow({"a": 2, "b": 2, name: 2})
    assert f"--exclude {name}" in asked(root)
    assert load(root, exclude=(name,)).label_names == ["a", "b"]
    assert load(root, class_map={name: "other"}).label_names == ["a", "b", "other"]


@pytest.mark.parametrize("inner", ["", "/a"])
def test_an_empty_split_is_a_note(grow, inner: str):
    root = grow({"train/a": 2, "train/b": 2})
    (root / f"val{inner}").mkdir(parents=True)
    assert "the folder val of validation holds no images" in load(root).report["notes"]


def test_splits_in_the_names_of_files_are_pointed_at(grow):
    root = grow({"a": 4, "b": 4})
    for path in root.rglob("*.png"):
        path.rename(path.with_name(f"{path.parent.name}_{path.stem}_{'train' if path.stem < '3' else 'test'}.png"))
    assert "the names of files tell splits (2 test, 6 train), which are not used" in load(root).report["untaken"][0]


def test_tables_of_splits_in_a_folder_of_their_own_name_images_beside_it(grow):
    root = grow({"images": 8})
    (root / "splits").mkdir()
    for split, rows in (("train", range(4)), ("test", range(4, 8))):
        csv(root / "splits" / f"{split}.csv", "file_name,label", *([f"{row}.png", "ab"[row % 2]] for row in rows))
    assert counts(load(root)) == {"train": {"a": 2, "b": 2}, "test": {"a": 2, "b": 2}}


@pytest.mark.parametrize("column", ["scan_id", "Folder", "Aufnahme"])
@pytest.mark.parametrize("given", [False, True])
def test_a_table_of_scans_names_their_folders(grow, column: str, given: bool):
    root = grow({f"scans/ct_{number:03}": 2 for number in range(4)})
    path = csv(root / "s.csv", f"{column},label", *([f"ct_{number:03}", "ab"[number % 2]] for number in range(4)))
    report = load(path if given else root).report
    assert report["counts"] == {"train": {"a": 4, "b": 4}}
    assert report["groups"] == {"count": 4, "origin": "folders like patients'"}


TABLES = {
    "title": "Export of May\n\nimage,label\n{rows}",
    "ends": "image,label,,\n{rows},,,\n,,,\n",
    "bare": "{rows}",
    "row ends": "image,label\n{rows}",
    "floats": "image,label\n{rows}",
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_as_spreadsheets_leave_them(folder: Path, kind: str):
    end, names = "," if kind == "row ends" else "", ("0.0", "1.0") if kind == "floats" else ("a", "b")
    rows = "".join(f"i/{row}.png,{names[row % 2]}{end}\n" for row in range(6))
    (folder / "t.csv").write_text(TABLES[kind].format(rows=rows))
    assert counts(load(folder / "t.csv")) == {"train": {names[0][0]: 3, names[1][0]: 3}}


def test_a_row_with_more_cells_than_the_heading_is_not_read_shifted(folder: Path):
    path = csv(folder / "t.csv", "image,label", ["i/0.png", "a"], ["i/1.png", "b, with more", "c"])
    assert "row 2 has more cells than the heading has names" in asked(path)


def test_folds_of_a_table_are_asked_about_in_one_sentence(folder: Path):
    rows = [[f"i/{row}.png", "ab"[row % 2], f"fold_{row // 2}"] for row in range(6)]
    path = csv(folder / "t.csv", "img,label,split", *rows)
    assert "--split_map fold_0=test fold_1=train and so on" in asked(path)
    settled = load(path, split_map={"fold_0": "test", "fold_1": "train", "fold_2": "train"})
    assert counts(settled) == {"train": {"a": 2, "b": 2}, "test": {"a": 1, "b": 1}}


def test_patients_whose_studies_have_dates_are_to_be_told_by_a_table(grow):
    root = grow({f"Lung-A{number:04}/04-04-2007-NA-Chest/2.0-5mm": 1 for number in range(3)})
    assert "give a table that says the class of each folder" in asked(root)


def test_a_table_that_swaps_the_folders_names_is_asked_about(grow):
    root = grow({"covid": 3, "normal": 3})
    other = {"covid": "normal", "normal": "covid"}
    csv(root / "labels.csv", "file,label", *([f"{name}/{row}.png", other[name]] for name in other for row in range(3)))
    assert "the column label of labels.csv says otherwise than the folders of 6 images" in asked(root)


@pytest.mark.parametrize("labels", [("1", "01"), ("2", "2.0"), ("Stage 1", "stage_01")])
def test_labels_that_differ_by_zeros_alone_are_asked_about(folder: Path, labels: tuple[str, str]):
    names = [*labels, "other"]
    path = csv(folder / "t.csv", "image,label", *([f"i/{row}.png", names[row % 3]] for row in range(6)))
    assert "are one class spelt twice, or two" in asked(path)
    settled = load(path, class_map=dict.fromkeys(labels, "one"))
    assert counts(settled) == {"train": {"one": 4, "other": 2}}


def test_folders_that_differ_by_zeros_alone(grow, tmp_path: Path):
    root = grow({"train/grade 01": 2, "train/grade 2": 2, "test/grade 1": 2, "test/grade 02": 2})
    assert len(load(root).label_names) == 2
    assert "are one class spelt twice, or two" in asked(
        grow({"grade 1": 2, "grade 01": 2, "healthy": 2}, tmp_path / "two")
    )


@pytest.mark.parametrize("cell", ["covid/effusion", "covid|effusion", "['covid', 'effusion']"])
def test_several_classes_in_one_cell_are_asked_about(folder: Path, cell: str):
    one = "['{}']" if cell.startswith("[") else "{}"
    names = [one.format("covid"), one.format("normal"), cell]
    path = csv(folder / "t.csv", "image,label", *([f"i/{row}.png", f'"{names[row % 3]}"'] for row in range(6)))
    assert "2 rows name several classes in one cell" in asked(path)


def test_names_with_a_slash_of_which_no_part_is_a_class_are_classes(folder: Path):
    path = csv(
        folder / "t.csv", "image,label", *([f"i/{row}.png", ("w/o lesion", "GGO/mixed")[row % 2]] for row in range(6))
    )
    assert load(path).label_names == ["GGO/mixed", "w/o lesion"]


def test_two_columns_of_one_name_are_refused(folder: Path):
    path = csv(
        folder / "t.csv", "image,label,label", *([f"i/{row}.png", "ab"[row % 2], "cd"[row % 2]] for row in range(6))
    )
    assert "its heading has 2 columns called 'label'" in asked(path)


@pytest.mark.parametrize("day", ["2020-01-{:02}", "{:02}.03.2021", "2019_7_{}"])
def test_days_are_no_patients(grow, day: str):
    corpus = load(grow({f"{name}/{day.format(number)}": 2 for name in "ab" for number in (1, 2)}))
    assert corpus.report["groups"] == {"count": 8, "origin": None}


def test_files_that_only_the_metadata_has_are_a_note(grow):
    root = grow({"a": 3, "b": 3})
    csv(
        root / "metadata.csv",
        "file_name,patient",
        *([f"{name}/{row}.png", f"p{row}"] for name in "ab" for row in range(5)),
    )
    assert "4 files that metadata.csv names are not among the images" in load(root).report["notes"]
