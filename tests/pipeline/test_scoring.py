"""Batch scoring: the rows of the predictor, in order, whatever the number of processes, and after a kill."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas
import pyarrow
import pytest
from accelerate.state import PartialState
from pyarrow import parquet

from ct_xception.phantom.corpus import generate_phantom
from ct_xception.pipeline import scoring
from ct_xception.pipeline.lock import run_lock
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.patients import answer_units, find_units
from tests.closeness import ROUNDING

BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def _fresh_state() -> Iterator[None]:
    """accelerate keeps its settings for the life of a process; each test here begins without any."""
    PartialState._reset_state()
    yield
    PartialState._reset_state()


@pytest.fixture(scope="module")
def folder(sample_slices: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve files in two folders, two of them unreadable, and one that is none of ours."""
    folder = tmp_path_factory.mktemp("series")
    for index in range(10):
        place = folder / ("a" if index % 2 else "b/c") / f"{index:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample_slices[index % 5], place)
    (folder / "a" / "broken.png").write_bytes(b"no picture")
    (folder / "b" / "empty.dcm").touch()
    (folder / "notes.txt").write_text("no slice")
    return folder


def command(model: Path, folder: Path, output: Path, *more: str) -> list[str]:
    return ["--model", str(model), "--folder", str(folder), "--output", str(output), *more]


@pytest.fixture(scope="module")
def alone(tiny_checkpoint: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The answers of one process, in shards of 5 and batches of 2."""
    output = tmp_path_factory.mktemp("alone") / "answers.parquet"
    PartialState._reset_state()
    assert scoring.main(command(tiny_checkpoint, folder, output, "--shard_size", "5", "--batch_size", "2")) == 0
    return output


def test_the_rows_are_the_predictor_s(alone: Path, tiny_checkpoint: Path, folder: Path) -> None:
    rows, classifier = parquet.read_table(alone).to_pylist(), Classifier.from_pretrained(tiny_checkpoint)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in (".png", ".dcm"))
    assert [row["source"] for row in rows] == sorted(names, key=lambda name: Path(folder, name)) and len(rows) == 12
    for row in rows:
        if row["source"] in ("a/broken.png", "b/empty.dcm"):
            assert row["label"] is row["p normal"] is None and row["refused"].startswith(row["source"])
            continue
        expected = classifier(folder / row["source"])
        found = {name: row[f"p {name}"] for name in classifier.label_names}
        assert found == pytest.approx(expected.probabilities, abs=ROUNDING)
        assert (row["label"], row["refused"]) == (expected.label, None)
        assert row["notes"] == "; ".join(expected.notes)
    assert b"notice" in parquet.read_schema(alone).metadata
    assert not list(alone.parent.glob(".*"))


def test_two_processes_leave_the_same_file(alone: Path, tiny_checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    launch = [str(BIN / "accelerate"), "launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    words = command(tiny_checkpoint, folder, tmp_path / "answers.parquet", "--shard_size", "5", "--batch_size", "2")
    done = subprocess.run(
        [*launch, "-m", "ct_xception.pipeline.scoring", *words], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "12 slices in" in done.stdout and "slices/s, 2 processes" in done.stdout
    assert "2 of 12 refused; the column refused says why" in done.stdout
    found, expected = pandas.read_parquet(tmp_path / "answers.parquet"), pandas.read_parquet(alone)
    pandas.testing.assert_frame_equal(found, expected, rtol=0, atol=ROUNDING)


def test_a_killed_scoring_goes_on(alone: Path, tiny_checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers.parquet"
    words = command(tiny_checkpoint, folder, output, "--shard_size", "1", "--batch_size", "1")
    program = [sys.executable, "-m", "ct_xception.pipeline.scoring", *words]
    process = subprocess.Popen(program, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    shards, deadline = tmp_path / ".answers.parquet.shards", time.monotonic() + 60
    while len(list(shards.glob("0*.parquet"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path.name: path.stat().st_mtime_ns for path in shards.glob("0*.parquet")}
    assert 3 <= len(before) < 12 and not output.exists()
    kept: dict[str, int] = {}
    join = scoring._join
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            scoring,
            "_join",
            lambda work: (kept.update({p.name: p.stat().st_mtime_ns for p in shards.glob("0*.parquet")}), join(work)),
        )
        assert scoring.main(words) == 0
    assert len(kept) == 12 and all(kept[name] == time_ for name, time_ in before.items())
    found, expected = pandas.read_parquet(output), pandas.read_parquet(alone)
    pandas.testing.assert_frame_equal(found, expected, rtol=0, atol=ROUNDING)
    assert not shards.exists()


def test_a_second_start_is_refused_while_the_first_is_at_work(
    tiny_checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(tiny_checkpoint, folder, tmp_path / "answers.parquet")
    with run_lock(tmp_path / ".answers.parquet.shards"):
        assert scoring.main(words) == 2
    assert re.search(r"--output: \S*answers.parquet.shards is in use by process \d+ on ", capsys.readouterr().err)
    PartialState._reset_state()
    assert scoring.main(words) == 0 and not list(tmp_path.glob(".*"))


def test_a_damaged_plan_is_another_s(
    tiny_checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "answers.parquet"
    (tmp_path / ".answers.parquet.shards").mkdir()
    (tmp_path / ".answers.parquet.shards" / "plan.json").write_bytes(b"\0" * 40)
    assert scoring.main(command(tiny_checkpoint, folder, output)) == 2
    assert "holds a half-done scoring of another checkpoint" in capsys.readouterr().err
    parquet.write_table(pyarrow.table({"a": [1]}).replace_schema_metadata({scoring.KEY: b"{"}), output)
    PartialState._reset_state()
    assert scoring.main(command(tiny_checkpoint, folder, output)) == 2
    assert "exists and holds other answers" in capsys.readouterr().err


def test_what_is_scored_is_not_scored_again(
    alone: Path, tiny_checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = shutil.copy(alone, tmp_path / "answers.parquet")
    words = command(tiny_checkpoint, folder, output, "--shard_size", "5", "--batch_size", "2")
    assert scoring.main(words) == 0 and "scored already" in capsys.readouterr().out
    PartialState._reset_state()
    assert scoring.main([*words, "--window", "lung"]) == 2
    assert "answers.parquet exists and holds other answers" in capsys.readouterr().err


def test_shards_of_other_options_are_not_gone_on_with(
    tiny_checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "answers.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_write_shard", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert scoring.main(command(tiny_checkpoint, folder, output)) == 130
    assert "the same command goes on" in capsys.readouterr().err
    PartialState._reset_state()
    assert scoring.main(command(tiny_checkpoint, folder, output, "--shard_size", "3")) == 2
    assert "holds a half-done scoring of another checkpoint, other files or other options" in capsys.readouterr().err


def test_a_corpus_keeps_its_labels_and_groups(tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers.parquet"
    words = ["--model", str(tiny_checkpoint), "--corpus", str(tiny_corpus), "--output", str(output)]
    assert scoring.main(words) == 0
    table = pandas.read_parquet(output)
    assert len(table) == 48 and set(table["split"]) == {"train", "validation", "test"}
    assert all(label in source for label, source in zip(table["true_label"], table["source"], strict=True))
    assert table["group"].str.startswith("P").all() and table["refused"].isna().all()
    total = table[[name for name in table.columns if name.startswith("p ")]].sum(axis=1)
    assert total.to_numpy() == pytest.approx(1)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--folder", "absent", "--output", "a.parquet"], "--folder: absent is no folder"),
        (["--folder", ".", "--output", "a.csv"], "--output: a.csv is no name of a Parquet file"),
        (["--folder", ".", "--output", "a.parquet", "--shard_size", "0"], "--shard_size: 0 is too small"),
        (["--folder", ".", "--output", "a.parquet", "--window", "wide"], "window 'wide' is neither a preset"),
        (["--folder", ".", "--output", "a.parquet"], "--folder: . holds no image or DICOM file"),
        (["--output", "a.parquet"], "one of the arguments --folder --corpus is required"),
    ],
)
def test_bad_usage_is_one_sentence(
    more: list[str],
    words: str,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert scoring.main(["--model", str(tiny_checkpoint), *more]) == 2
    assert words in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_second_file_has_a_row_a_patient(tiny_checkpoint: Path, tmp_path: Path) -> None:
    corpus = generate_phantom(tmp_path / "p", patients=5, slices_per_patient=3, size=64, dicom=True)
    files = sorted(corpus.glob("t*/*/*.dcm")) + sorted(corpus.glob("valid/*/*.dcm"))
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, file in enumerate(files):
        shutil.copy(file, flat / f"{number * 7 % len(files):02d}.dcm")
    output = tmp_path / "answers.parquet"
    words = command(tiny_checkpoint, flat, output, "--by", "patient")
    assert scoring.main(words) == 0
    slices = pandas.read_parquet(output)
    units = pandas.read_parquet(tmp_path / "answers_by_patient.parquet")
    assert len(slices) == 15 and len(units) == 5 and set(slices["patient"]) == set(units["patient"])
    wanted = {
        frozenset(str(member.path.name) for member in unit.members): answer.together
        for unit in find_units([flat], "patient")[0]
        for answer in answer_units(Classifier.from_pretrained(tiny_checkpoint), [unit])
    }
    for row in units.to_dict("records"):
        own = frozenset(slices[slices["patient"] == row["patient"]]["source"])
        together = wanted[own]
        assert together is not None and row["label"] == together.label and row["answered"] == row["slices"] == 3
        assert row[f"p {together.label}"] == pytest.approx(together.probabilities[together.label], abs=1e-5)
        assert not row["calibrated"] and row["pooled_by"] == "mean_log" and pandas.isna(row["refused"])
    (tmp_path / "answers_by_patient.parquet").unlink()
    PartialState._reset_state()
    assert scoring.main(words) == 0  # scored already: only the second file is made again
    assert (tmp_path / "answers_by_patient.parquet").is_file()
