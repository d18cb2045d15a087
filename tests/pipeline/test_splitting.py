"""The first stage: each file is decoded by the audit's survey alone, and what it cannot read ends the run."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ct_xception.corpus import inspection
from ct_xception.errors import CorpusError
from ct_xception.pipeline.splitting import load_and_split
from ct_xception.training.options import TrainConfig


@pytest.fixture
def corpus(small_phantom: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_phantom, tmp_path / "corpus")


def split(corpus: Path, run: Path, **options):
    from accelerate import Accelerator

    config = TrainConfig(corpus=str(corpus), output_dir=str(run), **options)
    return load_and_split(config, run, Accelerator(cpu=True), "command")


def test_loading_decodes_nothing_that_the_audit_decodes(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []

    def count(source, **options):
        read.append(source)
        return SimpleNamespace(pixels=np.zeros((64, 64), np.uint8))

    monkeypatch.setattr(inspection, "read_slice", count)
    split(corpus, tmp_path / "run")
    assert all("masks" in Path(str(source)).parts for source in read)
    split(corpus, tmp_path / "other", audit=False)
    assert sum("masks" not in Path(str(source)).parts for source in read) == 24


@pytest.mark.parametrize("audit", [True, False])
def test_what_cannot_be_used_ends_the_run_before_it_is_split(corpus: Path, tmp_path: Path, audit: bool) -> None:
    damaged = sorted((corpus / "train" / "normal").glob("*.png"))[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    mask = sorted((corpus / "masks").rglob("*.png"))[0]
    Image.fromarray(np.ones((6, 5), np.uint8)).save(mask)
    with pytest.raises(CorpusError) as told:
        split(corpus, tmp_path / "run", audit=audit)
    assert damaged.name in str(told.value) and "has 5 x 6 pixels and its image 64 x 64" in str(told.value)
    assert not (tmp_path / "run" / "split.json").exists()
