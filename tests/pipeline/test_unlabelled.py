"""A run that learns from slices without labels, from the command line to its card; and its folds."""

from __future__ import annotations

import json
from pathlib import Path

import pandas
import pytest

from ct_xception.phantom.corpus import generate_phantom
from ct_xception.pipeline.run import main
from ct_xception.publish.verify import read_evidence
from ct_xception.training import semi_supervised

pytestmark = pytest.mark.usefixtures("fresh_accelerator")
OPTIONS = "--weights none --image_size 64 --epochs 2 --batch_size 8 --explained 0 --workers 0 --threads 1".split()


def test_a_run_and_its_folds_tell_what_they_learnt_from(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool is a phantom of other patients, and all of the corpus itself, of which a fold may learn its own side."""
    other = generate_phantom(tmp_path / "archive", patients=8, slices_per_patient=1, size=64, seed=9)
    new = pandas.read_csv(other / "metadata.csv")
    new.assign(patient="NEW-" + new["patient"]).drop(columns="label").to_csv(other / "metadata.csv", index=False)
    monkeypatch.setattr(semi_supervised, "choose_threshold", lambda *_: 0.3)
    words = ["--corpus", str(tiny_corpus), "--unlabelled", str(other), str(tiny_corpus), *OPTIONS]
    run = tmp_path / "run"
    words += ["--protocols", "published", "grouped", "--folds", "2", "--output_dir", str(run)]
    assert main(words) == 0
    said = capsys.readouterr().out
    own = pandas.read_csv(tiny_corpus / "metadata.csv")
    train = own[own["split"] == "train"]
    images = 8 + len(train)
    assert f"without labels: {images} images of {8 + train['patient'].nunique()} groups (archive, phantom)" in said
    assert f"left out: {len(own) - len(train)} that are, or look like, images of validation or test" in said
    assert "% of the unlabelled kept" in said
    record = json.loads((run / "model" / "ct_xception.json").read_text())["provenance"]["unlabelled"]
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert record["images"] == images and record["left_out"]["twins"] == len(own) - len(train)
    assert record["kept"] in [line["unlabelled_kept"] for line in history] and history[1]["unlabelled_n"] > 0
    assert f"| Learnt from without labels | {images} images of " in (run / "model" / "README.md").read_text()
    folds = [len(text.splitlines()) for text in said.split("fold ")[1:]]
    counts = [int(text.partition("without labels: ")[2].split()[0]) for text in said.split("fold ")[1:3]]
    assert len(folds) >= 2 and all(8 < count < 8 + len(own) for count in counts)
    read_evidence(run / "model")
