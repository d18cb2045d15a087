"""The main job on a corpus of volumes: audit, training, evaluation, prediction and scoring, slice by slice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas
import pydicom
import pytest

from ct_xception.phantom.corpus import generate_phantom

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = "--weights none --image_size 64 --epochs 1 --batch_size 8 --threads 1 --explained 1 --slices_per_file 2"


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten patients' series of the phantom as NIfTI volumes in class folders."""
    drawn = generate_phantom(
        tmp_path_factory.mktemp("drawn") / "d", patients=10, slices_per_patient=3, size=64, classes=2, dicom=True
    )
    series: dict[tuple[str, str], list[pydicom.Dataset]] = {}
    for path in sorted(drawn.rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        series.setdefault((path.parent.name, str(dataset.PatientID)), []).append(dataset)
    root = tmp_path_factory.mktemp("volumes")
    for (label, patient), slices in series.items():
        hu = np.stack([one.pixel_array.astype(np.int16) - 1024 for one in slices])
        (root / label).mkdir(exist_ok=True)
        affine = np.diag([-5.0, -5, 5, 1])
        nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0), affine), root / label / f"{patient}.nii.gz")
    return root


@pytest.fixture(scope="module")
def trained(volumes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "volumes"
    done = run("train_hf.py", "--corpus", volumes, "--output_dir", folder, *OPTIONS.split())
    assert done.returncode == 0, done.stderr[-3000:]
    assert "10 files of several slices gave 20 slices" in done.stdout
    return folder


def test_every_stage_answers_slices_and_no_split_cuts_a_volume(trained: Path) -> None:
    split = json.loads((trained / "split.json").read_text())["sources"]
    files = {name: {source.partition("#")[0] for source in sources} for name, sources in split.items()}
    assert sum(map(len, files.values())) == len(set.union(*files.values())) == 10
    table = pandas.read_parquet(trained / "model" / "evaluation" / "predictions.parquet")
    ours, stock = table[table["path"] == "predictor"], table[table["path"] == "stock_pipeline"]
    assert len(ours) == len(split["test"]) and ours["refused"].isna().all()
    assert stock["refused"].notna().all()
    assert (trained / "errors.html").stat().st_size and (trained / "audit.html").stat().st_size
    side = json.loads((trained / "model" / "ct_xception.json").read_text())
    assert side["gate"]["fitted_on"]["n"] == len(split["train"])


def test_audit_predict_and_score_take_volumes(trained: Path, volumes: Path, tmp_path: Path) -> None:
    audit = run("-m", "ct_xception.cli", "audit", volumes, "--output", tmp_path / "audit")
    assert audit.returncode == 0 and "Audit of 30 images" in audit.stdout, audit.stderr
    assert (tmp_path / "audit" / "audit.html").stat().st_size
    one = sorted(volumes.rglob("*.nii.gz"))[0]
    told = run("-m", "ct_xception.cli", "predict", one, "--model", trained / "model", "--json")
    assert told.returncode == 0, told.stderr
    answers = json.loads(told.stdout)
    sources = [answer["source"] for answer in (answers["predictions"] if isinstance(answers, dict) else answers)]
    assert sources == [f"{one}#{frame}" for frame in range(3)]
    output = tmp_path / "a.parquet"
    scored = run(
        "-m", "ct_xception.cli", "score", "--model", trained / "model", "--folder", volumes, "--output", output
    )
    assert scored.returncode == 0, scored.stderr
    table = pandas.read_parquet(output)
    assert len(table) == 30 and table["source"].str.contains("#").all()
