"""A folder on its way out: what it must prove, and what becomes of its card and its seal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ct_xception.checkpoint_files import seal
from ct_xception.errors import CheckpointError
from ct_xception.publish.release import release_checkpoint
from tests.publish.conftest import edit_json


def test_the_card_names_its_repository_and_the_seal_is_of_it(sealed: Path) -> None:
    before = {path: path.read_bytes() for path in sealed.rglob("*") if path.is_file()}
    files = release_checkpoint(sealed, "someone/ct")
    card = files["README.md"]
    assert isinstance(card, bytes) and b'"someone/ct"' in card and b"USER/REPO" not in card
    side = json.loads(files["ct_xception.json"])  # type: ignore[arg-type]
    assert side["manifest"]["README.md"] == hashlib.sha256(card).hexdigest()
    assert set(side["manifest"]) == set(files) - {"ct_xception.json"}
    assert before == {path: path.read_bytes() for path in sealed.rglob("*") if path.is_file()}


def test_a_downloaded_folder_goes_elsewhere(sealed: Path) -> None:
    """A copy fetched by `hf download` holds the client's notes, and the name that it was published by."""
    for name, content in release_checkpoint(sealed, "someone/ct").items():
        if isinstance(content, bytes):
            (sealed / name).write_bytes(content)
    (sealed / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (sealed / ".cache/huggingface").mkdir(parents=True)
    (sealed / ".cache/huggingface/CACHEDIR.TAG").touch()
    card = release_checkpoint(sealed, "another/net")["README.md"]
    assert isinstance(card, bytes) and b"another/net" in card and b"someone/ct" not in card


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda folder: (folder / "config.json").write_text("{}"), "config.json differs from the SHA-256"),
        (lambda folder: (folder / "evaluation/roc.png").unlink(), "evaluation/roc.png is in the manifest but not in"),
        (lambda folder: (folder / "notes.json").write_text("{}"), "notes.json is not in the manifest; take it out"),
        (lambda folder: (folder / "ct_xception.json").unlink(), "ct_xception.json is missing"),
        (lambda folder: (folder / "ct_xception.json").write_text("{torn"), "ct_xception.json is not JSON"),
        (lambda folder: edit_json(folder / "ct_xception.json", lambda side: side.pop("manifest")), "was never sealed"),
    ],
)
def test_a_broken_seal(sealed: Path, spoil: Callable[[Path], object], found: str) -> None:
    spoil(sealed)
    with pytest.raises(CheckpointError, match=found):
        release_checkpoint(sealed, "someone/ct")


def test_figures_that_the_answers_do_not_give(sealed: Path) -> None:
    def flatter(metrics: dict) -> None:
        metrics["paths"]["predictor"]["accuracy"]["value"] = 0.999

    edit_json(sealed / "evaluation/metrics.json", flatter)
    seal(sealed)
    with pytest.raises(CheckpointError, match="are not those of predictions.parquet"):
        release_checkpoint(sealed, "someone/ct")


def test_a_card_that_its_files_do_not_give(sealed: Path) -> None:
    card = sealed / "README.md"
    card.write_text(card.read_text() + "\nEverybody likes it.\n")
    seal(sealed)
    with pytest.raises(CheckpointError, match="README.md is not the card that its files give; push with --new_card"):
        release_checkpoint(sealed, "someone/ct")
    new = release_checkpoint(sealed, "someone/ct", new_card=True)["README.md"]
    assert isinstance(new, bytes) and b"Everybody" not in new


def test_what_may_not_be_published_is_refused_though_it_is_sealed(sealed: Path) -> None:
    (sealed / "modeling.py").write_text("print()")
    seal(sealed)
    with pytest.raises(CheckpointError, match=r"modeling\.py: is code"):
        release_checkpoint(sealed, "someone/ct")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder; name a checkpoint folder"):
        release_checkpoint(tmp_path / "none", "someone/ct")
