"""MR and X-rays by option: read, trained on, measured and answered without what only CT has."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from ct_xception.audit.audit import audit_corpus
from ct_xception.checkpoint_files import InputSteps
from ct_xception.corpus.load import CorpusOptions, load_corpus
from ct_xception.errors import CorpusError, InputError
from ct_xception.evaluation.gate_fit import Seen, fit_signs
from ct_xception.imaging.body.crop import crop_body
from ct_xception.imaging.modality import MODALITIES
from ct_xception.imaging.reader import read_slice
from ct_xception.serving.checkpoint import InputContract
from ct_xception.training.options import TrainConfig
from tests.imaging.builders import ct
from tests.modality_corpora import chest_film, dicom, grow_corpus, head_mr, png

ROOT = Path(__file__).resolve().parents[1]
DRAW = {"mr": head_mr, "xray": chest_film}
OF_CT = re.compile(r"\bHU\b|\bCT\b(?!-)|lung window|axial", re.ASCII)


def grey(modality: str, seed: int = 0, lesion: bool = True) -> np.ndarray:
    return DRAW[modality](np.random.default_rng(seed), lesion)


class TestReading:
    @pytest.mark.parametrize("modality", ["mr", "xray"])
    def test_dicom_says_nothing_of_what_only_ct_has(self, modality: str) -> None:
        drawn = grey(modality)
        slice_ = read_slice(dicom(drawn, modality), modality=modality)
        assert not [note for note in slice_.notes if OF_CT.search(note)] and not slice_.is_hu
        assert any("percentiles" in note for note in slice_.notes)
        assert np.corrcoef(slice_.pixels.ravel(), drawn.ravel())[0, 1] > 0.99  # MONOCHROME1 turned
        as_ct = read_slice(dicom(drawn, modality))
        assert any(OF_CT.search(note) for note in as_ct.notes) and np.array_equal(as_ct.pixels, slice_.pixels)

    def test_the_files_own_window_comes_first(self) -> None:
        slice_ = read_slice(dicom(grey("mr"), "mr", WindowCenter=1600, WindowWidth=3001), modality="mr")
        assert str(slice_.window) == "1600/3001" and slice_.notes == ()

    @pytest.mark.parametrize(("modality", "other"), [("mr", "xray"), ("xray", "mr")])
    def test_another_modality_is_noted(self, modality: str, other: str) -> None:
        notes = read_slice(dicom(grey(other), other), modality=modality).notes
        assert notes[0] == {"mr": "modality CR, not MR", "xray": "modality MR, not X-ray"}[modality]
        assert not any("modality" in note for note in read_slice(dicom(grey(other), other), modality="any").notes)

    def test_ct_keeps_its_unit_when_any_is_asked_for(self) -> None:
        stored = np.full((64, 64), 24, np.int16)
        stored[16:48, 16:48] = 1064
        assert read_slice(ct(stored), modality="any").is_hu

    @pytest.mark.parametrize("suffix", ["png", "jpeg"])
    def test_8_bit_pictures(self, suffix: str, tmp_path: Path) -> None:
        path = png(grey("xray"), tmp_path / f"film.{suffix}")
        assert read_slice(path, modality="xray").notes == () != read_slice(path).notes

    def test_deep_pictures_are_shown_by_percentiles(self) -> None:
        stream, values = io.BytesIO(), np.rint(grey("mr") * 700).astype(np.uint16)
        Image.fromarray(values).save(stream, "PNG")
        slice_ = read_slice(stream.getvalue(), modality="mr")
        assert "percentiles 0.5 to 99.5" in slice_.notes[0] and np.ptp(slice_.pixels) == 255
        assert np.corrcoef(slice_.pixels.ravel(), values.ravel())[0, 1] > 0.99

    def test_a_modality_lookup_table_is_applied(self) -> None:
        item = Dataset()
        item.LUTDescriptor, item.LUTData = [4, 0, 16], np.array([0, 16, 1000, 4000], np.uint16).tobytes()
        stored = np.repeat(np.arange(4, dtype=np.uint16), 16).reshape(8, 8)
        tags: dict[str, Any] = {"ModalityLUTSequence": Sequence([item]), "RescaleSlope": None, "RescaleIntercept": None}
        slice_ = read_slice(ct(stored, Modality="CR", WindowCenter=2000.5, WindowWidth=4001, **tags), modality="xray")
        assert "the file's modality lookup table applied" in slice_.notes
        assert [int(level) for level in np.unique(slice_.pixels)] == [0, 1, 64, 255]


class TestCorpus:
    def test_a_tree_of_mr_is_asked_about(self, tmp_path: Path) -> None:
        corpus = grow_corpus(tmp_path / "corpus", "mr")
        with pytest.raises(CorpusError, match="40 DICOM files state the modality MR, and none CT.*--modality mr"):
            load_corpus(corpus)
        with pytest.raises(CorpusError, match="state the modality MR, and none X-ray"):
            load_corpus(corpus, CorpusOptions(modality="xray"))
        for modality in ("mr", "any"):
            assert load_corpus(corpus, CorpusOptions(modality=modality)).report["images"] == 40

    def test_ct_beside_mr_is_left_out_and_counted(self, tmp_path: Path) -> None:
        corpus = grow_corpus(tmp_path / "corpus", "mr")
        (corpus / "train" / "lesion" / "ct.dcm").write_bytes(ct(np.full((96, 96), 1000, np.uint16)))
        report = load_corpus(corpus, CorpusOptions(modality="mr")).report
        assert report["images"] == 40 and report["passed_over"] == {"DICOM slices of another modality": 1}

    @pytest.mark.parametrize("modality", ["mr", "xray"])
    def test_the_audit_speaks_of_no_body_and_no_window_in_hu(self, modality: str, tmp_path: Path) -> None:
        options = CorpusOptions(modality=modality, decode=False)
        audit = audit_corpus(load_corpus(grow_corpus(tmp_path / "corpus", modality), options), progress=False)
        kinds = {finding.kind for finding in audit.findings}
        assert not kinds & {"hidden_lung", "hidden_soft_tissue", "windows", "foreign_no_body", "foreign_strokes"}
        assert not [finding.title for finding in audit.findings if OF_CT.search(finding.title)]


class TestContract:
    def test_only_ct_is_cropped_unless_asked_for(self) -> None:
        crops = {name: TrainConfig(corpus="x", modality=name).reading.body_crop for name in MODALITIES}
        assert crops == {"ct": True, "mr": False, "xray": False, "any": False}
        assert TrainConfig(corpus="x", modality="mr", body_crop=True).reading.body_crop

    def test_a_checkpoints_word_is_not_overruled(self) -> None:
        silent, mr = InputContract(), InputContract(stated=InputSteps(modality="mr").modality)
        assert silent.modality == "ct" and silent.told("xray", "it").modality == "xray"
        assert mr.told(None, "it").modality == mr.told("mr", "it").modality == "mr"
        with pytest.raises(InputError, match="--modality ct: it was trained on MR images; leave it out"):
            mr.told("ct", "it")

    @pytest.mark.parametrize(
        ("network", "seen", "verdicts"),
        [
            ("ct", (), {"CT": 0, "MR": 1, "CR": 1, "": 0.5}),
            ("ct", ("PT",), {"CT": 0, "PT": 0, "MR": 1}),
            ("mr", (), {"MR": 0, "CT": 1, "DX": 1}),
            ("xray", ("DX",), {"DX": 0, "CR": 0, "MG": 0, "MR": 1}),
            ("any", (), {"CT": 0, "MR": 0, "US": 0}),
            ("any", ("MR", "US"), {"MR": 0, "US": 0, "CT": 1}),
        ],
    )
    def test_which_files_the_gate_refuses_by_what_they_state(
        self, network: str, seen: tuple[str, ...], verdicts: dict[str, float]
    ) -> None:
        rows = seen or (None,)
        n = len(rows)
        looked = Seen(np.ones((n, 2), np.float32), (96,) * n, (96,) * n, (0.0,) * n, (False,) * n, rows, (None,) * n)
        signs = fit_signs(looked, looked, body_crop=False, modality=network)
        for stated, weight in verdicts.items():
            file = ct(
                np.arange(96 * 96, dtype=np.uint16).reshape(96, 96) % 2000,
                Modality=stated,
                WindowCenter=0,
                WindowWidth=2000,
            )
            slice_ = read_slice(file, modality=network)
            found = [sign.weight for sign in signs.against(slice_, crop_body(slice_)) if "modality" in sign.reason]
            assert sum(found) == weight, stated


@pytest.mark.parametrize("modality", ["mr", "xray"])
def test_end_to_end(modality: str, tmp_path: Path) -> None:
    """Trained, evaluated and asked by the real programs; what is written never speaks of CT."""
    corpus, run = grow_corpus(tmp_path / "corpus", modality), tmp_path / "run"
    options = "--weights none --image_size 64 --epochs 3 --batch_size 4 --ema 0 --threads 1 --explained 1".split()
    call("train_hf.py", "--corpus", str(corpus), "--modality", modality, "--output_dir", str(run), *options)
    model = run / "model"
    side = json.loads((model / "ct_xception.json").read_text())
    assert side["input"]["modality"] == modality and side["input"]["body_crop"] is False
    assert side["gate"]["signs"]["body"] is None and side["gate"]["signs"]["lungs"] == 0
    card = (model / "README.md").read_text()
    assert {"mr": "# Xception for MR slices", "xray": "# Xception for X-rays"}[modality] in card
    told = re.sub(r"ct-xception\S*|CT-Xception|ct_xception\S*", "", card, flags=re.IGNORECASE)
    assert not OF_CT.search(told) and "inside the lungs" not in told

    command = ["-m", "ct_xception.cli"]
    call(*command, "evaluate", str(model), "--corpus", str(corpus), "--output", str(tmp_path / "again"))
    figures = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert figures["paths"]["predictor"]["n"] == 8

    held_out = corpus / "test" / "lesion"
    answers = json.loads(call(*command, "predict", str(held_out), "--model", str(model), "--json"))
    assert len(answers) == 4 and not [note for one in answers for note in one["notes"] if OF_CT.search(note)]
    assert not [reason for one in answers for reason in one["gate"]["reasons"] if "modality" in reason]
    ct_file = tmp_path / "ct.dcm"
    ct_file.write_bytes(ct(np.arange(96 * 96, dtype=np.uint16).reshape(96, 96) % 2000))
    refused = run_program(*command, "predict", str(ct_file), "--model", str(model), "--json")
    assert refused.returncode != 0 and "the file says modality CT, not" in refused.stderr


def run_program(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=900)


def call(*words: str) -> str:
    done = run_program(*words)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
