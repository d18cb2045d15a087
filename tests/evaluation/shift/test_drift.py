"""A checkpoint that keeps what its patients are like says of a folder whether it is such, alone and in batches."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ct_xception.cli import main
from ct_xception.corpus.load import load_corpus
from ct_xception.evaluation.gate_fit import distance_of, fit_gate, see_items, write_gate
from ct_xception.evaluation.shift.drift_fit import fit_reference, write_reference
from ct_xception.files import sha256_file, write_json
from ct_xception.serving.classifier import Classifier


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network with a gate and a reference of the tiny corpus."""
    folder = tmp_path_factory.mktemp("drift") / "model"
    shutil.copytree(tiny_checkpoint, folder)
    weights = sha256_file(folder / "model.safetensors")
    write_json(folder / "ct_xception.json", {"format": 1, "provenance": {"weights_sha256": weights}})
    splits = load_corpus(tiny_corpus).dataset
    classifier = Classifier.from_pretrained(folder, gate=False)
    train = see_items(classifier, splits["train"])
    held_out = see_items(classifier, [*splits["validation"], *splits["test"]])
    rule, arrays = fit_gate(train, held_out, weights_sha256=weights)
    write_gate(folder, rule, arrays)
    held_out = replace(held_out, groups=tuple(f"p{row // 2}" for row in range(len(held_out.groups))))
    told = fit_reference(train, held_out, distance_of(rule, arrays))
    assert told[0]["n_patients"]["features"] >= 8
    write_reference(folder, *told)
    return folder


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dozen pictures of another size, each an oval of its own place and texture."""
    folder = tmp_path_factory.mktemp("foreign")
    rng = np.random.default_rng(0)
    for number in range(24):
        rows, columns = np.mgrid[-1:1:64j, -1:1:80j]
        place, size = rng.uniform(-0.4, 0.4, 2), rng.uniform(0.3, 0.9, 2)
        oval = ((rows - place[0]) / size[0]) ** 2 + ((columns - place[1]) / size[1]) ** 2 < 1
        texture = Image.fromarray(rng.integers(60, 250, (5, 6), dtype=np.uint8)).resize((80, 64))
        Image.fromarray((oval * np.asarray(texture)).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def test_a_folder_of_another_kind_is_named(checkpoint: Path, foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(foreign), "--model", str(checkpoint)]) in (0, 2, 3)
    said = capsys.readouterr().err
    assert "warning: these 24 slices are unlike those that the network was measured on" in said
    assert "its figures do not carry over." in said and "their size" in said


def test_of_few_files_nothing_is_said(checkpoint: Path, foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["predict", *(str(foreign / f"{number}.png") for number in range(5)), "--model", str(checkpoint)])
    assert "the network was measured on" not in capsys.readouterr().err


def test_batch_scoring_says_it_too(
    checkpoint: Path, foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ct_xception.pipeline import scoring

    words = ["--model", str(checkpoint), "--folder", str(foreign), "--output", str(tmp_path / "a.parquet")]
    assert scoring.main(words) == 0
    assert "warning: these 24 slices are unlike" in capsys.readouterr().err


def test_a_checkpoint_that_keeps_nothing_says_nothing(tiny_checkpoint: Path) -> None:
    classifier = Classifier.from_pretrained(tiny_checkpoint)
    classifier.watch_set()
    assert classifier.watch is None
