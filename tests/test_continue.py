"""From one version to the next: train_hf.py goes on from a checkpoint, and writes a new version only if it is one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from ct_xception.audit.audit import look_over
from ct_xception.corpus.load import Corpus, load_corpus
from ct_xception.corpus.split import make_splits, split_corpus
from ct_xception.errors import CheckpointError
from ct_xception.files import read_json, sha256_file
from ct_xception.imaging.reader import read_slice
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.phantom.corpus import generate_phantom
from ct_xception.phantom.plants import alter
from ct_xception.publish.card.card import render_card
from ct_xception.publish.release import release_checkpoint
from tests.accelerators import forget_accelerator
from tests.networks import enliven

GoOn = Callable[..., tuple[int, Path]]
# Next to nothing is learnt: what is tested is what becomes of the answers, not how good they are.
OPTIONS = "--epochs 1 --batch_size 8 --learning_rate 1e-6 --frozen_blocks 12 --workers 0 --threads 1".split()
OPTIONS += ["--explained", "0"]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("corpora")
    options = {"patients": 12, "slices_per_patient": 2, "size": 64, "classes": 2}
    return [generate_phantom(folder / name, **options, seed=len(name)) for name in ("old", "newer")]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def first(corpora: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A first version, as far as its side file goes: trained on the old corpus."""
    corpus = load_corpus(corpora[0])
    _, split = make_splits(corpus.dataset)
    model = CTXceptionForImageClassification.from_backbone("legacy_xception", corpus.label_names, 64, seed=5)
    folder = tmp_path_factory.mktemp("first") / "model"
    enliven(model, batches=1).save_pretrained(folder)
    tell_of(folder, corpus, {key: split[key] for key in ("name", "protocol", "seed")})
    return folder


def tell_of(folder: Path, corpus: Corpus, split: dict[str, Any]) -> None:
    provenance = {
        "corpus": {key: corpus.report[key] for key in ("source", "kind", "hash")} | {"source": "old"},
        "split": split,
        "weights_sha256": sha256_file(folder / "model.safetensors"),
        "date": "2026-11-01",
    }
    (folder / "ct_xception.json").write_text(json.dumps({"format": 1, "provenance": provenance, "manifest": {}}))


@pytest.fixture(scope="module")
def go_on(corpora: list[Path], first: Path, tmp_path_factory: pytest.TempPathFactory) -> GoOn:
    """Train on from the first version in one run folder; the exit code, and that folder."""
    from ct_xception.pipeline.run import main

    run = tmp_path_factory.mktemp("runs") / "second"

    def call(*more: str) -> tuple[int, Path]:
        words = ["--init", str(first), "--corpus", str(corpora[1]), "--replay", str(corpora[0])]
        try:
            return main([*words, "--no-audit", *OPTIONS, "--output_dir", str(run), *more]), run
        finally:
            forget_accelerator()

    return call


@pytest.fixture(scope="module")
def refused(go_on: GoOn) -> tuple[int, Path]:
    """The tests hold four slices: no margin below 1 can be kept."""
    return go_on()


@pytest.fixture(scope="module")
def second(refused: tuple[int, Path], go_on: GoOn) -> Path:
    code, run = go_on("--resume", "auto", "--margin", "1")
    assert code == 0
    return run / "model"


def test_a_network_that_may_be_worse_is_kept_and_not_published(refused: tuple[int, Path]) -> None:
    code, run = refused
    folder = run / "model.refused"
    assert code == 1 and not (run / "model").exists() and not (run / "model.partial").exists()
    assert (folder / "model.safetensors").is_file() and (folder / "evaluation" / "metrics.json").is_file()
    side = read_json(folder / "ct_xception.json")
    assert "by a margin of 0.050 it is not shown to be no worse" in side["refused"]
    assert "not shown: accuracy 0." in side["refused"] and "n = 4" in side["refused"]
    shutil.copytree(folder, run / "renamed")
    for name in ("model.refused", "renamed"):
        with pytest.raises(CheckpointError, match="is not published, since by a margin of 0.050 it is not shown"):
            release_checkpoint(run / name, "alice/ct")


def test_a_new_version_says_where_it_comes_from(second: Path, first: Path) -> None:
    provenance = read_json(second / "ct_xception.json")["provenance"]
    assert provenance["version"] == 2 and "refused" not in read_json(second / "ct_xception.json")
    assert provenance["went_on_from"] == {
        "name": "model",
        "revision": None,
        "weights_sha256": sha256_file(first / "model.safetensors"),
    }
    (before,) = provenance["lineage"]
    assert (before["version"], before["corpus"]["source"], before["date"]) == (1, "old", "2026-11-01")
    assert provenance["replay"]["images"] == provenance["replay"]["available"] == 16
    assert provenance["replay"]["share"] == 0.5 and provenance["replay"]["corpora"][0]["known"]
    card = (second / "README.md").read_text()
    assert "## Versions" in card and "This is version 2; it went on from `model`." in card
    assert "50 % were replayed from old" in card and "| 1: model |" in card and "below −100.0 points" in card


def test_it_can_be_published_and_its_comparison_is_checked(second: Path, tmp_path: Path) -> None:
    files = release_checkpoint(second, "alice/ct")
    assert {"evaluation/continuity.json", "evaluation/continuity.parquet"} <= set(files)
    record = read_json(second / "evaluation" / "continuity.json")
    assert set(record["protocols"]) == {"new", "old 1"} and record["passed"]
    copy = Path(shutil.copytree(second, tmp_path / "copy"))
    path = copy / "evaluation" / "continuity.parquet"
    table = pandas.read_parquet(path)
    table.loc[0, "predicted"] = next(name for name in sorted(set(table["label"])) if name != table.loc[0, "predicted"])
    table.to_parquet(path)
    with pytest.raises(CheckpointError, match=r"with the version before is not what continuity\.parquet gives"):
        render_card(copy)


@pytest.fixture(scope="module")
def shared(corpora: list[Path], first: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The old corpus without splits or names, the new one with three pictures of it, a first version split by looks.

    A test image of the old one is in the new training, and two of its training images, one altered, in the new test.
    """
    root = tmp_path_factory.mktemp("shared")
    old, new = root / "old", Path(shutil.copytree(corpora[1], root / "newer"))
    (new / "metadata.csv").unlink()
    for folder in (one for split in ("train", "valid", "test") for one in (corpora[0] / split).iterdir()):
        shutil.copytree(folder, old / folder.name, dirs_exist_ok=True)
    corpus = load_corpus(old)
    survey, twins = look_over(corpus, progress=False)
    patients = dict(zip(survey.sources, twins.patients, strict=True))
    splits, split, _ = split_corpus(corpus, patients, fractions=(0.5, 0.25, 0.25), seed=5)
    tested, learnt, altered = splits["test"]["source"][0], *splits["train"]["source"][:2]
    for source, place in ((tested, "train"), (learnt, "test")):
        shutil.copy(old / source, new / place / Path(source).parent / "planted.png")
    content, suffix = alter(read_slice(old / altered).pixels, "re-encoded", np.random.default_rng(0))
    (new / "test" / Path(altered).parent / f"altered{suffix}").write_bytes(content)
    start = Path(shutil.copytree(first, root / "start"))
    tell_of(start, corpus, {key: value for key, value in split.items() if key != "sources"})
    return old, new, start


def test_two_processes_leave_out_what_the_corpora_share(shared: tuple[Path, Path, Path], tmp_path: Path) -> None:
    old, new, start = shared
    root, run = Path(__file__).resolve().parents[1], tmp_path / "run"
    launch = [str(Path(sys.executable).parent / "accelerate"), "launch", "--quiet", "--multi_gpu"]
    launch += ["--num_processes", "2", "--main_process_port", "0", "train_hf.py", "--init", str(start)]
    words = [*launch, "--corpus", str(new), "--replay", str(old), *OPTIONS, "--margin", "1", "--output_dir", str(run)]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "2 processes" in done.stdout, done.stderr[-3000:]
    said = "2 of 6 test images of newer show a picture that is in training or validation of old too: 1 pixel for"
    assert done.stderr.count(said) == 1 and done.stdout.count("this is a new version") == 1
    assert len(list((run / "cache").glob("audit-*"))) == 2 and len(list((run / "cache").glob("overlap-*.json"))) == 1

    record = read_json(run / "model" / "evaluation" / "continuity.json")
    left_out = {name: one["left_out"]["seen"] for name, one in record["protocols"].items()}
    assert left_out == {"new": 2, "old 1": 1}
    table = pandas.read_parquet(run / "model" / "evaluation" / "continuity.parquet")
    tests = {"new": 6, "old 1": record["overlaps"][1]["n"]}
    assert {name: len(set(rows["source"])) for name, rows in table.groupby("protocol")} == {
        name: n - left_out[name] for name, n in tests.items()
    }
    metrics = read_json(run / "model" / "evaluation" / "metrics.json")
    assert metrics["n"] == 6 and metrics["protocols"]["deduplicated"]["n"] == 4
    for audit in (run / "audit.json", run / "model" / "evaluation" / "audit.json"):
        assert [one["n"] for one in read_json(audit)["findings"] if one["kind"] == "leak_across"] == [2, 1]
    card = (run / "model" / "README.md").read_text()
    assert card.count(said) == 2 and "3 test images were left out because another of these corpora" in card
    assert "planted" not in card and "**The corpus leaks**" in card
