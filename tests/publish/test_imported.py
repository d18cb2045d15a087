"""An imported checkpoint's folder: it answers, claims no figure, and is not published as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from ct_xception.cli import main
from ct_xception.errors import CheckpointError, InputError
from ct_xception.formats.keras import convert as keras_import
from ct_xception.formats.keras import padding
from ct_xception.formats.keras.convert import Imported
from ct_xception.formats.keras.padding import padding_figures
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.publish.imported import write_imported_checkpoint
from ct_xception.publish.release import release_checkpoint
from ct_xception.serving.classifier import Classifier

RECORD: dict[str, Any] = {
    "from": "Keras",
    "file": "model.h5",
    "sha256": "0" * 64,
    "keras_version": "2.15.0",
    "activation": "softmax",
    "rescaling": {"scale": 1 / 255, "offset": 0.0, "in_the_file": True},
}


@pytest.fixture(scope="module")
def imported(tiny_checkpoint: Path) -> Imported:
    return Imported(CTXceptionForImageClassification.from_pretrained(tiny_checkpoint).eval(), RECORD, ("a note.",))


@pytest.fixture(scope="module")
def folder(imported: Imported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("imported") / "checkpoint"
    return write_imported_checkpoint(place, imported, padding_figures(imported.model, slices=2))


def test_the_folder_answers_whole_slices(folder: Path, imported: Imported, sample_slices: list[Path]) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "ct_xception.json",
        "README.md",
    }
    classifier = Classifier.from_pretrained(folder)
    assert classifier.contract.body_crop is False and classifier.label_names == imported.model.label_names
    prediction = classifier(sample_slices[0])
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert not [path for path in folder.parent.iterdir() if path != folder]


def test_card_and_side_file_claim_nothing(folder: Path) -> None:
    card = ModelCard.load(folder / "README.md")
    assert "**No figures.**" in card.text and "n = 2" in card.text and "imported from Keras" in card.text
    assert card.data.pipeline_tag == "image-classification" and card.data.eval_results is None
    assert card.data.license is None  # nobody here knows it
    origin = json.loads((folder / "ct_xception.json").read_text())["provenance"]["imported"]
    assert origin["figures"] == "none were measured" and origin["padding"]["even_maps"] == [8, 4]
    assert origin["rescaling"] == RECORD["rescaling"]


def test_it_is_not_published_as_it_is(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"was imported from Keras, and which images .*train_hf.py --init"):
        release_checkpoint(folder, "alice/ct")


def test_a_place_that_is_taken(folder: Path, imported: Imported) -> None:
    with pytest.raises(InputError, match="-o: .*checkpoint is there already and not an empty folder"):
        write_imported_checkpoint(folder, imported, {})


def test_the_command_says_what_was_assumed_and_measured(
    imported: Imported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}

    def pretend(file: str, names: list[str] | None, **options: Any) -> Imported:
        asked.update(file=file, names=names, **options)
        return imported

    monkeypatch.setattr(keras_import, "import_keras", pretend)
    monkeypatch.setattr(padding, "padding_figures", lambda model, progress: padding_figures(model, slices=2))
    words = [
        "import-keras",
        "model.h5",
        "-o",
        str(tmp_path / "out"),
        "--labels",
        "benign, malignant",
        "--rescale",
        "unit",
    ]
    assert main(words) == 0
    assert asked == {"file": "model.h5", "names": ["benign", "malignant"], "image_size": None, "rescale": "unit"}
    said = capsys.readouterr()
    assert "note: a note." in said.out and "note: At 64 px the maps of 8 x 8 and 4 x 4" in said.out
    assert "how often it is right was not measured" in said.out and "esearch use" in said.err
    assert main(words) == 2 and "is there already" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "out")
    monkeypatch.undo()
    (tmp_path / "model.h5").write_text("no HDF5")
    assert main(["import-keras", str(tmp_path / "model.h5"), "-o", str(tmp_path / "out")]) == 2
    assert "is neither a .keras archive nor HDF5" in capsys.readouterr().err and not (tmp_path / "out").exists()
