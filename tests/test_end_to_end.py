"""The main job through the real programs: accelerate, a SIGKILL, two processes, stock pipeline(), the command line."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
LAUNCH = [str(BIN / "accelerate"), "launch", "--quiet"]
OPTIONS = "--weights none --image_size 64 --epochs 2 --batch_size 8 --threads 1 --explained 2".split()


def command(corpus: Path, run: Path, *more: str, launch: list[str] = LAUNCH) -> list[str]:
    return [*launch, "train_hf.py", "--corpus", str(corpus), "--output_dir", str(run), *OPTIONS, *more]


def run_whole(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def unbroken(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    done = run_whole(command(tiny_corpus, run))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "our predictor" in done.stdout and "95 % interval" in done.stdout
    return run


def test_the_run_folder_holds_every_stage(unbroken: Path) -> None:
    written = ("config.json", "corpus.json", "audit.json", "audit.html", "split.json", "history.jsonl", "examples.png")
    for name in (*written, "errors.html"):
        assert (unbroken / name).stat().st_size > 0, name
    model = unbroken / "model"
    assert not (unbroken / "model.partial").exists()
    side = json.loads((model / "ct_xception.json").read_text())
    files = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert files - {"ct_xception.json"} == set(side["manifest"])
    assert {"config.json", "model.safetensors", "gate.safetensors", "README.md", "evaluation/metrics.json"} <= files
    assert side["gate"]["fitted_on"] == {"split": "train", "n": 32}
    for name, digest in side["manifest"].items():
        assert hashlib.sha256((model / name).read_bytes()).hexdigest() == digest
    assert not {path.suffix for path in model.rglob("*")} & {".bin", ".pt", ".pkl", ".py"}


def test_figures_and_card_agree_with_the_predictions(unbroken: Path) -> None:
    model = unbroken / "model"
    metrics = json.loads((model / "evaluation" / "metrics.json").read_text())
    table = pandas.read_parquet(model / "evaluation" / "predictions.parquet")
    ours = table[table["path"] == "predictor"]
    assert len(ours) == metrics["n"] == len(ours["source"].unique())
    figure = metrics["paths"]["predictor"]["accuracy"]
    assert figure["value"] == pytest.approx((ours["label"] == ours["predicted"]).mean())
    assert figure["low"] <= figure["value"] <= figure["high"]
    card = (model / "README.md").read_text()
    assert "pipeline_tag: image-classification" in card and "model-index" in card and "esearch use" in card


def test_killed_and_resumed_equals_unbroken_bit_for_bit(unbroken: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    process = subprocess.Popen(
        command(tiny_corpus, run), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    deadline = time.monotonic() + 800
    while not list(run.glob("checkpoints/epoch-0001")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (run / "model").exists() and list(run.glob("checkpoints/epoch-*/progress.json"))
    done = run_whole(command(tiny_corpus, run, "--resume", "auto"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "resumed after epoch" in done.stdout
    for name in ("model.safetensors", "config.json", "evaluation/predictions.parquet", "evaluation/metrics.json"):
        assert (run / "model" / name).read_bytes() == (unbroken / "model" / name).read_bytes(), name


def test_two_processes_train_and_count_every_item_once(unbroken: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    launch = [*LAUNCH, "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    done = run_whole(command(tiny_corpus, tmp_path / "two", "--epochs", "1", "--batch_size", "4", launch=launch))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("run folder:") == 1 and "2 processes" in done.stdout
    metrics = json.loads((tmp_path / "two" / "model" / "evaluation" / "metrics.json").read_text())
    alone = json.loads((unbroken / "model" / "evaluation" / "metrics.json").read_text())
    assert metrics["n"] == alone["n"] and metrics["split_hash"] == alone["split_hash"]
    table = pandas.read_parquet(tmp_path / "two" / "model" / "evaluation" / "predictions.parquet")
    alone_table = pandas.read_parquet(unbroken / "model" / "evaluation" / "predictions.parquet")
    assert table[["source", "path", "label"]].equals(alone_table[["source", "path", "label"]])
    (line,) = [json.loads(text) for text in (tmp_path / "two" / "history.jsonl").read_text().splitlines()]
    split = json.loads((tmp_path / "two" / "split.json").read_text())
    assert line["train_n"] == split["counts"]["train"] == 32  # whole batches of 8 on each of two
    assert line["validation_n"] == split["counts"]["validation"]


PIPELINE = """
import json, sys
from transformers import pipeline
print(json.dumps(pipeline("image-classification", model=sys.argv[1])(sys.argv[2])))
assert "ct_xception" not in sys.modules
"""


def test_stock_pipeline_and_our_command_line_answer(unbroken: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    model, picture = unbroken / "model", next(iter(sorted((tiny_corpus / "test").rglob("*.png"))))
    stock = subprocess.run(
        [sys.executable, "-c", PIPELINE, str(model), str(picture)], capture_output=True, text=True, cwd=tmp_path
    )
    assert stock.returncode == 0, stock.stderr
    answer = {item["label"]: item["score"] for item in json.loads(stock.stdout.splitlines()[-1])}
    assert sum(answer.values()) == pytest.approx(1, abs=1e-4)
    ours = subprocess.run(
        [str(BIN / "ct-xception"), "predict", str(picture), "--model", str(model), "--json"],
        capture_output=True,
        text=True,
    )
    assert ours.returncode == 0, ours.stderr
    assert set(json.loads(ours.stdout)["probabilities"]) == set(answer)


def test_resuming_a_complete_run_changes_nothing(unbroken: Path, tiny_corpus: Path) -> None:
    before = (unbroken / "model" / "ct_xception.json").stat().st_mtime_ns
    done = run_whole(command(tiny_corpus, unbroken, "--resume", "auto"))
    assert done.returncode == 0 and "complete already" in done.stdout
    assert (unbroken / "model" / "ct_xception.json").stat().st_mtime_ns == before


def test_the_best_weights_are_what_was_published(unbroken: Path) -> None:
    import torch

    model = load_file(unbroken / "model" / "model.safetensors")
    (best,) = unbroken.glob("checkpoints/epoch-*/best.safetensors")
    kept = load_file(best)
    stem = model.pop("conv1.weight")
    assert torch.allclose(stem.sum(dim=1), kept.pop("conv1.weight").sum(dim=1), atol=1e-6)  # tied to luminance
    temperature = json.loads((unbroken / "model" / "ct_xception.json").read_text())["temperature"]
    for name in ("fc.weight", "fc.bias"):
        assert torch.allclose(model.pop(name) * temperature, kept.pop(name), rtol=1e-5)
    assert all(torch.equal(value, kept[key]) for key, value in model.items())


def test_every_protocol_that_ran_is_measured(unbroken: Path) -> None:
    metrics = json.loads((unbroken / "model" / "evaluation" / "metrics.json").read_text())
    side = json.loads((unbroken / "model" / "ct_xception.json").read_text())
    assert set(metrics["protocols"]) == {"deduplicated"} and set(metrics["baselines"]) == {"published", "deduplicated"}
    reached = {"published": metrics["paths"]} | {name: one["paths"] for name, one in metrics["protocols"].items()}
    values = {name: paths["predictor"]["accuracy"]["value"] for name, paths in reached.items()}
    assert values[metrics["headline"]["protocol"]] == min(values.values())
    assert metrics["calibration"]["temperature"] == side["temperature"] != 1.0
    assert metrics["conformal"]["rule"] == side["conformal"]
    assert (unbroken / "model" / "evaluation" / "reliability.png").is_file()


def test_heat_maps_are_held_against_the_phantoms_lesions(unbroken: Path) -> None:
    folder = unbroken / "model" / "evaluation"
    metrics, stated = (json.loads((folder / name).read_text()) for name in ("metrics.json", "explanations.json"))
    answers = pandas.read_parquet(folder / "predictions.parquet").query("path == 'predictor' and label != 'normal'")
    right = answers[answers["predicted"] == answers["label"]]
    assert [lesion["source"] for lesion in stated.get("lesions", [])] == list(right["source"])
    if len(right):
        assert metrics["explanations"]["pointing_game"]["n"] == len(right)
        assert "Strongest pixel lies in the lesion" in (unbroken / "model" / "README.md").read_text()


def test_a_cross_validation_can_be_added_to_a_complete_run(unbroken: Path, tiny_corpus: Path) -> None:
    weights = (unbroken / "model" / "model.safetensors").read_bytes()
    more = ("--resume", "auto", "--protocols", "grouped", "--folds", "2")
    done = run_whole(command(tiny_corpus, unbroken, *more, "--only_fold", "2"))
    assert done.returncode == 0 and "others are left" in done.stdout, done.stderr[-3000:]
    two = [*LAUNCH, "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    done = run_whole(command(tiny_corpus, unbroken, *more, launch=two))
    assert done.returncode == 0 and "fold 1 of 2" in done.stdout and "fold 2 of 2" not in done.stdout, done.stderr
    model = unbroken / "model"
    metrics = json.loads((model / "evaluation" / "metrics.json").read_text())
    grouped = metrics["protocols"]["grouped"]
    assert grouped["n"] == 48 == sum(fold["n"] for fold in grouped["folds"])
    assert set(metrics["protocols"]) == {"deduplicated", "grouped"}
    assert (model / "model.safetensors").read_bytes() == weights and "cross-validation" in (
        model / "README.md"
    ).read_text()
    manifest = json.loads((model / "ct_xception.json").read_text())["manifest"]
    assert all(hashlib.sha256((model / name).read_bytes()).hexdigest() == digest for name, digest in manifest.items())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--corpus", "no/such/folder", "--weights", "none"], "no/such/folder"),
        (["--corpus", "phantom", "--epochs", "0"], "--epochs: 0 is out of range"),
        (["--corpus", "phantom", "--epohcs", "3"], "--epohcs"),
        (["--corpus", "phantom", "--config", "absent.yaml"], "absent.yaml cannot be read"),
        (["--corpus", "phantom", "--backbone", "resnet50"], "'resnet50' is not one of"),
        (["--corpus", "phantom", "--optimizer", "foo", "--weights", "none"], "--optimizer: 'foo'"),
        (["--corpus", "phantom", "--weights", "gone.safetensors"], "gone.safetensors is not a file"),
    ],
)
def test_bad_usage_is_one_sentence_and_leaves_nothing(arguments: list[str], words: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = run_whole([sys.executable, "train_hf.py", *arguments, "--output_dir", str(run)])
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not run.exists()


def test_a_run_with_other_options_is_refused_and_its_records_stay(unbroken: Path, tiny_corpus: Path) -> None:
    before = (unbroken / "config.json").read_bytes()
    words = command(tiny_corpus, unbroken, "--resume", "auto", "--learning_rate", "0.5", launch=[])
    done = run_whole([sys.executable, *words])
    assert done.returncode == 2 and "--learning_rate 0.001 -> 0.5" in done.stderr
    assert (unbroken / "config.json").read_bytes() == before


def test_a_folder_that_holds_a_run_is_not_overwritten(unbroken: Path, tiny_corpus: Path) -> None:
    done = run_whole([sys.executable, *command(tiny_corpus, unbroken, launch=[])])
    assert done.returncode == 2 and "holds a run already" in done.stderr
