"""The command line: what it prints where, its exit codes, and that a mistake costs one sentence and no traceback."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas
import pytest
from PIL import Image

from ct_xception.cli import build_parser, commands, main
from ct_xception.command_line import run_program
from ct_xception.corpus.load import load_corpus
from ct_xception.errors import InputError, WorkError
from ct_xception.phantom.corpus import generate_phantom
from ct_xception.text import RESEARCH_USE
from tests.gates import add_gate


@pytest.fixture
def bad_file(tmp_path: Path) -> Path:
    path = tmp_path / "notes.png"
    path.write_bytes(b"no picture")
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_help_and_version_answer_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("predict", "explain", "evaluate", "phantom", "demo"))
    assert run("--version") == 0
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ct_xception.cli", "--help"], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.6


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        ("[], ['--help']", {"torch", "numpy", "PIL", "gradio", "transformers"}),
        ("*([name, '--help'] for name in commands())", {"torch", "sklearn", "pandas", "gradio", "transformers"}),
    ],
)
def test_no_help_imports_anything_heavy(words: str, heavy: set[str]) -> None:
    code = (
        "import sys; from ct_xception.cli import commands, main; "
        f"assert {{main(one) for one in [{words}]}} <= {{0, 2}}; "
        f"sys.exit(', '.join({heavy!r} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [(), ("dance",), ("predict",), ("train",), ("predict", "a.png", "--frame", "x")])
def test_wrong_usage_exits_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert "usage: ct-xception" in printed.err and not printed.out
    assert ("error: " in printed.err) == (len(arguments) == 4 or arguments == ("dance",))  # else it is the help


@pytest.mark.parametrize(
    ("arguments", "guess"),
    [
        (("predcit", "a.png"), "did you mean predict?"),
        (("predict", "a.png", "--modle", "x"), "did you mean --model?"),
        (("train", "--corpus", "phantom", "-o", "x"), "unrecognized option: -o; did you mean --output_dir?"),
        (("explain", "a.png", "--method", "gradcma"), "did you mean gradcam?"),
        (("train", "--los", "bce"), "did you mean --loss?"),
        (("train", "--loss", "fokal"), "did you mean focal?"),
        (("score", "--modell", "x"), "did you mean --model?"),
        (("evaluate", "m", "--class-map", "a=b"), "did you mean --class_map?"),
    ],
)
def test_what_is_misspelt_is_guessed(
    arguments: tuple[str, ...], guess: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert guess in capsys.readouterr().err


@pytest.mark.parametrize("name", commands())
def test_every_command_shows_examples_that_parse(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    page = capsys.readouterr().out
    lines = page.partition("\nexamples:\n")[2].splitlines()
    assert lines
    for line in lines:
        for place, part in enumerate(line.split(" && ")):
            program, *words = shlex.split(part)
            assert program == "ct-xception" and callable(build_parser().parse_args(words).run)
            assert words[0] == name or place


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("a.png: is no slice; give another."), 2, "a.png: is no slice; give another."),
        (WorkError("the loss is nan"), 1, "the loss is nan"),
        (OSError(28, "No space left on device", "runs"), 1, "No space left on device: 'runs'"),
        (MemoryError(), 1, "not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted; go on"),
    ],
)
def test_of_many_processes_the_first_one_speaks(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    assert run_program("train", fail, remedy="; go on") == code
    assert capsys.readouterr().err.startswith("train: ") and said in said
    monkeypatch.setenv("RANK", "1")
    assert run_program("train", fail, remedy="; go on") == code
    own = isinstance(error, (OSError, MemoryError))  # what only one machine may have met
    assert capsys.readouterr().err.startswith("train, process 1: " if own else "") and not capsys.readouterr().err


@pytest.mark.parametrize("number, words", [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the disk is read-only")])
def test_a_disk_that_takes_no_more_is_told_wherever_it_is_met(
    number: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise OSError(number, "as the system says it", "runs/a/file")

    assert run_program("train", fail) == 1
    assert capsys.readouterr().err == (
        f"train: runs/a: cannot be written to, since {words}; make room or name another folder, and try again.\n"
    )


def test_sigterm_ends_a_command_with_143() -> None:
    code = (
        "import sys, time; from ct_xception.command_line import run_program\n"
        "sys.exit(run_program('x', lambda: (print(1, flush=True), time.sleep(60))[1]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "1\n"
    process.terminate()
    assert process.communicate()[1] == "x: terminated\n" and process.returncode == 143


@pytest.mark.parametrize(("wish", "fewest", "most"), [({}, 2, 4), ({"TQDM_MININTERVAL": "0.01"}, 8, 1000)])
def test_a_log_is_not_filled_with_progress(wish: dict[str, str], fewest: int, most: int) -> None:
    """The beginning, the end, and seldom between; whoever sets tqdm's own variable has what it says."""
    code = (
        "import sys, time; from ct_xception.command_line import run_program\n"
        "def work():\n    from tqdm import tqdm\n    for _ in tqdm(range(20)): time.sleep(0.05)\n"
        "sys.exit(run_program('x', work))"
    )
    bare = {name: value for name, value in os.environ.items() if not name.startswith("TQDM_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=bare | wish)
    assert b"100%" in done.stderr and fewest <= done.stderr.count(b"\r") <= most


def test_a_run_folder_stands_for_its_checkpoint(
    tiny_checkpoint: Path, sample_slices: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "run" / "model")
    (tmp_path / "run" / "config.json").write_text("{}")
    assert run("predict", sample_slices[0], "--model", tmp_path / "run", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["model"] == str(tmp_path / "run" / "model")
    assert f"checkpoint: {tmp_path / 'run' / 'model'} (of the run folder named)" in printed.err


def test_score_is_the_batch_scoring(
    tiny_checkpoint: Path, sample_slices: list[Path], bad_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(sample_slices[0], bad_file.parent / "good.png")
    words = (
        "score",
        "--model",
        tiny_checkpoint,
        "--folder",
        bad_file.parent,
        "--output",
        bad_file.parent / "a.parquet",
    )
    assert run(*words) == 3 and "1 of 2 refused" in capsys.readouterr().out
    assert run(*words) == 3 and "scored already" in capsys.readouterr().out


def test_one_file_as_json_is_an_object(
    tiny_checkpoint: Path, sample_slices: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("predict", sample_slices[0], "--model", tiny_checkpoint, "--json") == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    assert record["source"] == str(sample_slices[0]) and record["notice"] == RESEARCH_USE
    assert record["model"] == str(tiny_checkpoint)
    assert sum(record["probabilities"].values()) == pytest.approx(1)
    assert RESEARCH_USE in printed.err


def test_a_folder_is_searched_in_depth_and_its_bad_files_are_listed(
    tiny_checkpoint: Path, sample_slices: list[Path], bad_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bad_file.parent
    (folder / "deep" / "er").mkdir(parents=True)
    for path in sample_slices[:3]:
        shutil.copy(path, folder / "deep" / "er")
    (folder / "readme.txt").write_text("not a slice, and not tried")
    assert run("predict", folder, "--model", tiny_checkpoint, "--json", "--batch_size", 2) == 3
    printed = capsys.readouterr()
    sources = [record["source"] for record in json.loads(printed.out)]
    assert sources == [str(folder / "deep" / "er" / path.name) for path in sample_slices[:3]]
    complaints = [line for line in printed.err.splitlines() if line.startswith("ct-xception:")]
    assert complaints[0] == f"ct-xception: {folder}: left out: 1 .txt."
    assert len(complaints) == 2 and "notes.png: neither DICOM nor" in complaints[1]
    assert "1 of 4 inputs refused." in printed.err


def test_a_pipe_gets_columns(
    tiny_checkpoint: Path, sample_slices: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("predict", *sample_slices[:2], "--model", tiny_checkpoint) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == [
        "source",
        "label",
        "adenocarcinoma",
        "large cell carcinoma",
        "normal",
        "squamous cell carcinoma",
        "notes",
    ]
    assert [row[0] for row in rows[1:]] == [str(path) for path in sample_slices[:2]]


def test_a_terminal_gets_a_table_that_fits(
    tiny_checkpoint: Path,
    sample_slices: list[Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    assert run("predict", *sample_slices[:2], "--model", tiny_checkpoint) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["file", "answer", "next"] and len(rows) == 2
    assert all(len(row) <= 100 and "slice_" in row and " %" in row for row in rows)


def test_what_the_input_gate_refuses_is_shown_without_a_figure_unless_asked_for(
    tiny_checkpoint: Path, sample_slices: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    add_gate(model)
    assert run("predict", sample_slices[0], "--model", model) == 2
    told = capsys.readouterr()
    header, row = (line.split("\t") for line in told.out.splitlines())
    assert "slice_0.png: refused by the input gate (its features lie" in told.err
    assert header[:3] == ["source", "gate", "label"] and row[1:7] == ["refused", "", "", "", "", ""]
    assert "times as far from the training slices" in row[7]
    assert run("predict", sample_slices[0], "--model", model, "--json") == 2
    assert json.loads(capsys.readouterr().out)["gate"]["verdict"] == "refused"
    assert run("explain", sample_slices[0], "--model", model, "--json") == 2
    assert "slice_0.png: refused by the input gate (" in capsys.readouterr().err
    assert run("predict", sample_slices[0], "--model", model, "--no-gate", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert "gate" not in record and "refused" not in record and record["gate_overruled"]["verdict"] == "refused"
    assert record["probabilities"][record["label"]] == max(record["probabilities"].values())


def test_a_zip_and_a_volume_are_answered_slice_by_slice(
    tiny_checkpoint: Path, sample_slices: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
        for path in sample_slices[:2]:
            archive.write(path, f"a/{path.name}")
        archive.writestr("a/broken.png", b"\x89PNG\r\n\x1a\n")
        archive.writestr("notes.txt", "words")
    hu = np.random.default_rng(0).integers(-1000, 400, (96, 96, 3)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(hu, np.diag([0.8, 0.8, 5, 1])), tmp_path / "volume.nii.gz")
    both = [tmp_path / "series.zip", tmp_path / "volume.nii.gz"]
    assert run("predict", *both, "--model", tiny_checkpoint, "--json") == 3
    told = capsys.readouterr()
    sources = [record["source"] for record in json.loads(told.out)]
    inside = [f"series.zip/a/{path.name}" for path in sample_slices[:2]]
    frames = [f"volume.nii.gz#{frame}" for frame in range(3)]
    assert [source.removeprefix(f"{tmp_path}/") for source in sources] == [*inside, *frames]
    assert "series.zip/a/broken.png: " in told.err and "one other file in" in told.err
    assert "1 of 6 inputs refused." in told.err
    volume = [tmp_path / "volume.nii.gz", "--model", tiny_checkpoint, "--frame", 1]
    assert run("predict", *volume, "--json") == 0
    assert json.loads(capsys.readouterr().out)["source"].endswith("volume.nii.gz")


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_nothing_readable_exits_2(
    tiny_checkpoint: Path, bad_file: Path, json_option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    empty = bad_file.parent / "empty"
    empty.mkdir()
    assert run("predict", bad_file, bad_file.parent / "gone.png", empty, "--model", tiny_checkpoint, *json_option) == 2
    errors = capsys.readouterr().err
    assert "gone.png: no such file or folder; check the name." in errors
    assert "empty: the folder holds no image or DICOM file; name another folder." in errors
    assert "3 of 3 inputs refused." in errors and "Traceback" not in errors


def test_a_name_that_is_not_utf8_is_escaped(
    tiny_checkpoint: Path, sample_slices: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.path.join(os.fsencode(tmp_path), b"sl\xefce.png")
    Path(os.fsdecode(name)).write_bytes(sample_slices[0].read_bytes())
    assert run("predict", tmp_path, "--model", tiny_checkpoint, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["source"].endswith("sl\\udcefce.png")


@pytest.mark.parametrize("window", [("--window", "-600/1500"), ("--window=-600/1500",), ("--window", "lung")])
def test_a_window_may_start_with_a_minus(
    tiny_checkpoint: Path, tmp_path: Path, window: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("I;16", (70, 70), 900).save(tmp_path / "deep.png")
    assert run("predict", tmp_path / "deep.png", "--model", tiny_checkpoint, "--json", *window) == 0
    assert json.loads(capsys.readouterr().out)["window"] == {"centre": -600, "width": 1500}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "{slice}", "--window", "soft", "--model", "{model}"], "window 'soft' is neither a preset"),
        (["predict", "{slice}", "--model", "nowhere/at/all"], "nowhere/at/all: neither a folder nor a Hub id"),
        (["predict", "{slice}", "--model", "{model}", "--batch_size", "0"], "batch_size is 0"),
        (["predict", "{slice}"], "no checkpoint named, and no runs/*/model here"),
        (["explain", "{slice}", "--model", "{model}", "-o", "x.gif"], "x.gif: figures end in one of .png"),
        (["explain", "{slice}", "--model", "{model}", "-o", "x.png", "--target", "benign"], "'benign' is unknown"),
        (["explain", "gone.png", "--model", "{model}", "-o", "x.png"], "gone.png: no such file; check the name."),
        (["phantom", "new", "--patients", "1"], "patients is 1"),
        (["phantom", "new", "--plant", "bugs"], "bugs"),
        (["evaluate", "{model}", "--corpus", "gone"], "gone: no such folder or file"),
        (["evaluate", "{model}", "--corpus", "gone", "--class_map", "x"], "--class_map: 'x' is not of the form"),
        (["evaluate", "nowhere/at/all", "--corpus", "phantom"], "nowhere/at/all: neither a folder nor a Hub id"),
        (["demo", "nowhere/at/all"], "nowhere/at/all: neither a folder nor a Hub id"),
    ],
)
def test_a_mistake_costs_one_sentence(
    arguments: list[str],
    words: str,
    tiny_checkpoint: Path,
    sample_slices: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*(text.format(slice=sample_slices[0], model=tiny_checkpoint) for text in arguments)) == 2
    errors = capsys.readouterr().err
    assert words in errors and errors.startswith("ct-xception: ") and len(errors.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_newest_run_is_the_default_checkpoint(
    tiny_checkpoint: Path,
    sample_slices: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("older", "newer"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        shutil.copytree(tiny_checkpoint, tmp_path / "runs" / name / "model", copy_function=os.link)
        (tmp_path / "runs" / name / "model" / "config.json").unlink()
        shutil.copy2(tiny_checkpoint / "config.json", tmp_path / "runs" / name / "model")
    os.utime(tmp_path / "runs" / "older" / "model" / "config.json", (1, 1))
    assert run("predict", sample_slices[0], "--json") == 0
    printed = capsys.readouterr()
    assert "checkpoint: runs/newer/model (the newest run)" in printed.err
    assert json.loads(printed.out)["model"] == "runs/newer/model"


def test_explain_writes_a_figure_of_the_class_asked_for(
    tiny_checkpoint: Path, sample_slices: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "why.png"
    assert run("explain", sample_slices[0], "--model", tiny_checkpoint, "-o", out, "--target", "normal") == 0
    printed = capsys.readouterr()
    assert f"{out}: Grad-CAM of normal (" in printed.out and RESEARCH_USE in printed.err
    assert Image.open(out).size[0] > 800
    by_captum = out.read_bytes()
    assert run("explain", sample_slices[0], "--model", tiny_checkpoint, "-o", out, "--target", "normal") == 0
    assert out.read_bytes() == by_captum


def test_phantom_writes_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "corpus"
    assert run("phantom", folder, "--patients", 4, "--slices_per_patient", 1, "--size", 48, "--seed", 3) == 0
    assert "4 slices of 4 patients" in capsys.readouterr().out
    assert len(list(folder.glob("t*/*/*.png"))) + len(list(folder.glob("valid/*/*.png"))) == 4
    assert run("phantom", folder, "--patients", 4) == 2
    assert "not an empty folder" in capsys.readouterr().err


@pytest.fixture(scope="module")
def small_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "corpus"
    assert run("phantom", folder, "--patients", 12, "--slices_per_patient", 1, "--size", 48, "--seed", 5) == 0
    return folder


@pytest.mark.parametrize(("split", "n", "protocol"), [("test", 4, "published"), ("all", 12, "unstated")])
def test_evaluate_measures_a_split_or_the_whole(
    split: str,
    n: int,
    protocol: str,
    tiny_checkpoint: Path,
    small_phantom: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(tiny_checkpoint.iterdir())
    out = tmp_path / "figures"
    assert (
        run(
            "evaluate",
            tiny_checkpoint,
            "--corpus",
            small_phantom,
            "--split",
            split,
            "--output",
            out,
            "--explained",
            "1",
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert f"{split} split, n = {n}, protocol: {protocol}" in printed and f"written to {out}/" in printed
    assert "our predictor     accuracy" in printed and "stock pipeline()  macro auroc" in printed
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["n"] == n
    assert ("deduplicated" in metrics.get("protocols", {})) == ("majority" in printed or "commonest" in printed)
    assert ("deduplicated" in metrics.get("protocols", {})) == (split == "test")
    assert sorted(tiny_checkpoint.iterdir()) == before
    page = (out / "errors.html").read_text()
    assert ("Most alike in training" in page) == (split == "test") and "data:image/" in page


def test_figures_are_not_written_into_a_checkpoint(
    tiny_checkpoint: Path, small_phantom: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tiny_checkpoint / "evaluation"
    assert run("evaluate", tiny_checkpoint, "--corpus", small_phantom, "--output", out) == 2
    assert "lies in a checkpoint, whose files are sealed" in capsys.readouterr().err and not out.exists()


def test_validation_is_what_training_carved_or_refused(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, checkpoint = tmp_path / "corpus", tmp_path / "model"
    generate_phantom(corpus, patients=24, slices_per_patient=1, size=64)
    table = pandas.read_csv(corpus / "metadata.csv")
    table[table["split"] != "valid"].drop(columns=["mask"]).to_csv(corpus / "metadata.csv", index=False)
    shutil.copytree(tiny_checkpoint, checkpoint)
    known = {"corpus": {"hash": load_corpus(corpus).report["hash"]}, "split": {"name": "another", "seed": 0}}
    (checkpoint / "ct_xception.json").write_text(json.dumps({"format": 1, "provenance": known}))
    options = ("--corpus", corpus, "--no-audit", "--explained", "0", "--output", tmp_path / "out")
    assert run("evaluate", checkpoint, *options, "--split", "validation") == 2
    assert "so its validation images may have been trained on" in capsys.readouterr().err

    def measure(*_: object, **__: object) -> None:
        raise InputError("measured.")

    monkeypatch.setattr("ct_xception.evaluation.measure.evaluate", measure)
    assert run("evaluate", checkpoint, *options, "--split", "test") == 2  # a published test split is what it is
    assert "measured" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_failure() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run([sys.executable, "-m", "ct_xception.cli", "--help"], stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    assert done.returncode == 0 and done.stderr == b""


def test_an_interrupt_exits_130_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ct_xception.phantom.corpus.generate_phantom", interrupt)
    assert run("phantom", "anywhere") == 130
    assert capsys.readouterr().err == "ct-xception: interrupted\n"


def test_a_full_disk_is_a_failure_of_the_work(
    tiny_checkpoint: Path, sample_slices: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("explain", sample_slices[0], "--model", tiny_checkpoint, "-o", "/proc/why.png") == 1
    assert "/proc" in capsys.readouterr().err


def test_two_checkpoints_answer_the_same_files(
    tiny_checkpoint: Path, sample_slices: list[Path], bad_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["compare", tiny_checkpoint, tiny_checkpoint, "--on", *sample_slices[:2]]
    assert run(*asked) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(": They agree: the first answers " in line for line in lines)
    assert last == "They agree on 2 of 2 slices that both answer, of 2."
    assert run(*asked, bad_file, "--json") == 3
    told = capsys.readouterr()
    assert [one["agree"] for one in json.loads(told.out)] == [True, True] and bad_file.name in told.err
    assert run("compare", tiny_checkpoint, tiny_checkpoint, "--on", bad_file) == 2


@pytest.fixture
def blank_file(sample_slices: list[Path], tmp_path: Path) -> Path:
    """A slice that lost some of its rows on the way, in a format that cannot tell."""
    pixels = np.array(Image.open(sample_slices[0]))
    pixels[40:60] = 0
    Image.fromarray(pixels).save(tmp_path / "blank.tif")
    return tmp_path / "blank.tif"


@pytest.mark.parametrize("form", [[], ["--json"], ["--by", "series"], ["--by", "series", "--json"], ["--on"]])
def test_missing_pixels_are_told_however_the_answer_is_shown(
    form: list[str], tiny_checkpoint: Path, blank_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if form == ["--on"]:
        assert run("compare", tiny_checkpoint, tiny_checkpoint, "--on", blank_file) == 0
    else:
        assert run("predict", blank_file, "--model", tiny_checkpoint, *form) == 0
    told, words = capsys.readouterr(), "rows 40 to 59 of 96 hold one value: blank, or missing"
    assert f"blank.tif: answered, but {words}.\n" in told.err
    assert words in told.out or "--by" in form or "--on" in form
    if "--json" in form and "--by" in form:
        assert json.loads(told.out)[0]["each"][0]["doubts"] == [words]


def test_what_no_model_answers_is_refused(
    tiny_checkpoint: Path, sample_slices: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    add_gate(model)
    assert run("compare", model, model, "--on", sample_slices[0]) == 2
    assert "Neither model answers." in capsys.readouterr().out
    assert run("compare", model, tiny_checkpoint, "--on", sample_slices[0]) == 0


def test_a_zip_is_opened_a_few_times_and_not_for_each_of_its_slices(
    tiny_checkpoint: Path, sample_slices: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each opening reads the list of all entries, so that to open it for each would be quadratic."""
    packed, opened = tmp_path / "many.zip", list[str]()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(12):
            archive.write(sample_slices[number % 5], f"{number}/slice.png")

    class Counted(zipfile.ZipFile):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            opened.append("once")
            super().__init__(*arguments, **options)

    monkeypatch.setattr("ct_xception.serving.archive.zipfile.ZipFile", Counted)
    for words in (
        ["predict", packed, "--model", tiny_checkpoint],
        ["predict", packed, "--model", tiny_checkpoint, "--by", "series"],
        ["compare", tiny_checkpoint, tiny_checkpoint, "--on", packed],
    ):
        opened.clear()
        assert run(*words) == 0 and len(opened) <= 5
