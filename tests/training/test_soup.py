"""A model soup, end to end: networks of one beginning and one split are averaged, and told in the card."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ct_xception.checkpoint import CARD, MODEL, WEIGHTS
from ct_xception.checkpoint_files import need_side
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.phantom.corpus import generate_phantom
from ct_xception.pipeline.run import main
from ct_xception.training import soup
from tests.accelerators import forget_accelerator

pytestmark = pytest.mark.usefixtures("fresh_accelerator")
BASE = ["--image_size", "64", "--batch_size", "8", "--explained", "0", "--no-audit", "--workers", "0", "--threads", "1"]
FIRST, HEAD, NORM = "conv1.weight", "fc.weight", "bn1.running_mean"


def train(corpus: Path, output: Path, *words: str) -> int:
    """Run the pipeline; the exit code."""
    try:
        return main([*BASE, "--epochs", "1", "--corpus", str(corpus), "--output_dir", str(output), *words])
    finally:
        forget_accelerator()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of two classes with splits of its own."""
    folder = tmp_path_factory.mktemp("phantom")
    return generate_phantom(folder, patients=12, slices_per_patient=2, size=64, classes=2)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of first weights."""
    folder = tmp_path_factory.mktemp("begun")
    CTXceptionForImageClassification.from_backbone("legacy_xception", ["a", "b"], 64, weights="none").save_pretrained(
        folder
    )
    return (folder / WEIGHTS).rename(folder / "begun.safetensors")


@pytest.fixture(scope="module")
def runs(corpus: Path, begun: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of the same first weights."""
    folder = tmp_path_factory.mktemp("runs")
    found = [folder / f"seed{seed}" for seed in (1, 2)]
    for seed, run in enumerate(found, 1):
        assert train(corpus, run, "--weights", str(begun), "--seed", str(seed)) == 0
    return found


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """What validation says, in the order in which it is asked."""
    said: list[float] = []
    monkeypatch.setattr(soup, "_figure", lambda training: said.pop(0))
    yield said
    assert not said


def plain(run: Path, name: str) -> torch.Tensor:
    """A tensor of a run's checkpoint, as it was before its temperature."""
    folder = run / MODEL
    return load_file(folder / WEIGHTS)[name] * (need_side(folder).temperature if name.startswith("fc.") else 1)


def test_a_soup_is_the_mean_and_says_so(
    corpus: Path, runs: list[Path], figures: list[float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures += [0.7, 0.6, 0.6]  # the first, the second, and both, which are no worse than the second
    assert train(corpus, tmp_path / "soup", "--soup", *map(str, runs)) == 0
    for name in (FIRST, HEAD):
        mean = (plain(runs[0], name) + plain(runs[1], name)) / 2
        torch.testing.assert_close(plain(tmp_path / "soup", name), mean, rtol=1e-5, atol=1e-7)
    mean = (plain(runs[0], NORM) + plain(runs[1], NORM)) / 2
    assert (plain(tmp_path / "soup", NORM) - mean).abs().max() > 1e-3 * mean.abs().max()
    provenance = need_side(tmp_path / "soup" / MODEL).provenance
    assert provenance.soup is not None and provenance.best_epoch is None
    assert [(one.name, one.seed, one.kept, one.together) for one in provenance.soup.ingredients] == [
        ("seed2", 2, True, None),
        ("seed1", 1, True, 0.6),
    ]
    card = (tmp_path / "soup" / MODEL / CARD).read_text()
    assert "| Average of | 2 of 2 networks (model soup): " in card and "| First weights | `begun.safetensors` |" in card
    assert "an average of networks, taken in one by one by validation" in card
    assert "with seed1: validation loss 0.6000, kept" in capsys.readouterr().out


def test_what_makes_it_worse_is_left_out(corpus: Path, runs: list[Path], figures: list[float], tmp_path: Path) -> None:
    figures += [0.6, 0.7, 0.61]
    assert train(corpus, tmp_path / "soup", "--soup", *map(str, runs)) == 0
    for name in (FIRST, HEAD, NORM):
        torch.testing.assert_close(plain(tmp_path / "soup", name), plain(runs[0], name), rtol=1e-5, atol=1e-7)
    card = (tmp_path / "soup" / MODEL / CARD).read_text()
    assert "| Average of | 1 of 2 networks (model soup): " in card and "of seed 2 left out; chosen" in card


def test_a_soup_is_measured_by_validation_itself(corpus: Path, runs: list[Path], tmp_path: Path) -> None:
    assert train(corpus, tmp_path / "soup", "--soup", *map(str, runs), "--metric", "accuracy") == 0
    told = need_side(tmp_path / "soup" / MODEL).provenance.soup
    assert told is not None and told.metric == "accuracy" and told.n == 4
    best, other = told.ingredients
    assert best.figure >= other.figure and other.together is not None
    assert other.kept == (other.together >= best.figure)


def refusal(corpus: Path, output: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a run that must be refused says; it leaves nothing."""
    assert train(corpus, output, *words) == 2
    assert not (output / MODEL).exists()
    return capsys.readouterr().err


def test_what_cannot_be_averaged_is_refused(
    corpus: Path, begun: Path, runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = map(str, runs)
    out = tmp_path / "soup"
    assert "one checkpoint has no average" in refusal(corpus, out, capsys, "--soup", first)
    assert "has the weights of another" in refusal(corpus, out, capsys, "--soup", first, first)
    assert "give it without --weights" in refusal(corpus, out, capsys, "--soup", first, second, "--weights", str(begun))
    assert "leave --protocols grouped out" in refusal(
        corpus, out, capsys, "--soup", first, second, "--protocols", "grouped"
    )
    assert train(corpus, tmp_path / "random", "--weights", "none") == 0
    said = refusal(corpus, out, capsys, "--soup", first, str(tmp_path / "random"))
    assert "began with random weights" in said and "begun.safetensors" in said


def test_a_network_of_another_split_or_other_classes_is_refused(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--soup", *map(str, runs))
    other = generate_phantom(tmp_path / "other", patients=12, slices_per_patient=2, size=64, classes=2, seed=5)
    assert "was trained by another split" in refusal(other, tmp_path / "a", capsys, *words)
    three = generate_phantom(tmp_path / "three", patients=12, slices_per_patient=2, size=64, classes=3)
    assert "knows the classes" in refusal(three, tmp_path / "b", capsys, *words)
