"""`ct-xception tune` from its command line to the winner's card, on a phantom and in small."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from ct_xception.cli import main
from ct_xception.errors import InputError
from ct_xception.pipeline import searching
from ct_xception.pipeline.search_report import verdict
from ct_xception.statistics.selection import judge_selection
from ct_xception.training.options import TrainConfig, parse_config
from ct_xception.training.search.space import parse_space
from ct_xception.training.search.study import SearchOptions, open_study

ROOT, BIN = Path(__file__).resolve().parents[2], Path(sys.executable).parent
SPACE = "learning_rate: {from: 1e-4, to: 1e-2, log: true}\nlabel_smoothing: {from: 0.0, to: 0.2, step: 0.1}\n"
QUICK = "--weights none --image_size 64 --epochs 1 --batch_size 8 --threads 1 --workers 0 --no-audit --explained 0"


@pytest.fixture(scope="module")
def searched(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of two trials, and its winner."""
    folder = tmp_path_factory.mktemp("tune")
    (folder / "space.yaml").write_text(SPACE)
    words = ["tune", "--corpus", str(tiny_corpus), *QUICK.split(), "--protocols", "published"]
    words += ["--space", str(folder / "space.yaml"), "--trials", "2", "--output_dir", str(folder / "search")]
    assert main(words) == 0
    return folder / "search"


def test_the_winner_is_its_trials_own_network_and_alone_saw_the_test_split(searched: Path) -> None:
    record = json.loads((searched / "search.json").read_text())
    own = next((searched / record["winner"]["folder"] / "checkpoints").glob("*/best.safetensors"))
    kept, chosen = load_file(searched / "winner/model/model.safetensors"), load_file(own)
    assert np.array_equal(kept["conv2.weight"], chosen["conv2.weight"])
    assert (searched / "winner/model/evaluation/metrics.json").is_file()
    assert (searched / "winner/model/README.md").is_file()
    assert len(list((searched / "trials").rglob("best.safetensors"))) == 2
    assert len(list((searched / "trials").rglob("state.safetensors"))) == 1  # the winner's, which may go on
    for trial in (searched / "trials").iterdir():
        assert not list(trial.rglob("metrics.json"))
        with np.load(trial / "validation.npz", allow_pickle=False) as answers:
            assert len(answers["labels"]) == json.loads((searched / "split.json").read_text())["counts"]["validation"]


def test_what_a_search_leaves_can_be_read(searched: Path) -> None:
    rows = list(csv.DictReader((searched / "trials.csv").open()))
    assert [row["state"] for row in rows] == ["complete", "complete"]
    assert float(rows[0]["validation loss"]) > 0 and rows[0]["epochs trained"] == "1"
    assert float(rows[0]["learning_rate"]) == 1e-3  # the recipe itself comes first
    config = parse_config(["--config", str(searched / "best.yaml"), "--output_dir", "elsewhere"])
    assert config.image_size == 64
    page = (searched / "search.html").read_text()
    assert "Which options mattered" in page
    assert "cdn.plot.ly" not in page.split("<h2>")[0]
    assert "no trial was better" in page or "beat the recipe" in page
    assert "<li>Best of 2: trial " in page and "<th>learning_rate</th>" in page and "<td>0.001</td>" in page
    assert 'name="color-scheme" content="light dark"' in page
    wide = re.findall(r'<div class="card scroll[^>]*>\s*(?:<table|<div|<p)', page)  # none makes the page wider
    assert len(wide) == page.count("<h2>")


def test_the_card_tells_the_search(searched: Path) -> None:
    card = (searched / "winner/model/README.md").read_text()
    told = card.partition("### How the recipe was chosen")[2].partition("\n## ")[0]
    assert "trained 2 configurations to their end and gave up 0, 2 epochs in all" in told
    assert "| `learning_rate` | 0.0001 to 0.01, logarithmic |" in told
    assert "| `label_smoothing` | 0 to 0.2 in steps of 0.1 |" in told
    assert "ct-xception tune --corpus " in card and str(searched.parent) not in card
    verdict = json.loads((searched / "search.json").read_text())["verdict"]
    assert told.count("\n- ") == len(verdict) and ("the choice flatters by" in told or "no flattery" in told)


def test_a_search_that_is_there_goes_on_only_when_asked(
    searched: Path, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = str(searched.parent / "space.yaml")
    words = ["tune", "--corpus", str(tiny_corpus), *QUICK.split(), "--protocols", "published", "--space", space]
    words += ["--output_dir", str(searched), "--no-winner"]
    assert main([*words, "--trials", "3"]) == 2
    assert "holds a search already" in capsys.readouterr().err
    assert main([*words, "--trials", "3", "--resume", "auto"]) == 0
    assert len(list(csv.DictReader((searched / "trials.csv").open()))) == 3


def test_every_process_of_a_launch_trains_the_trials_and_the_winner(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    launch = [str(BIN / "accelerate"), "launch", "--quiet", "--multi_gpu", "--num_processes", "2"]
    launch += [
        "--main_process_port",
        "0",
        "-m",
        "ct_xception.cli",
        "tune",
        "--corpus",
        "phantom:patients=12,slices=2,size=64",
    ]
    launch += [*QUICK.split(), "--protocols", "published", "--space", str(tmp_path / "space.yaml"), "--trials", "1"]
    done = subprocess.run([*launch, "--output_dir", str(tmp_path / "search")], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "search/winner/model/README.md").is_file()
    assert len(list(csv.DictReader((tmp_path / "search/trials.csv").open()))) == 1


def test_a_worker_between_two_trials_is_no_search_that_ended(tmp_path: Path) -> None:
    options = SearchOptions(trials=3, heartbeat=1)
    study, _ = open_study(f"sqlite:///{tmp_path}/a.db", options, parse_space({"dropout": [0.1, 0.2]}, "a test"))
    study.optimize(lambda trial: trial.suggest_categorical("dropout", ["0.1", "0.2"]) and 1.0, n_trials=1)
    with searching._present(study):
        assert not searching._alone(study, SearchOptions(heartbeat=600))
        time.sleep(3.1)
        assert searching._alone(study, options)  # nothing was heard of it for three heartbeats: it was killed
    assert searching._alone(study, SearchOptions(heartbeat=600))


def test_a_search_that_was_ended_in_its_first_trial_goes_on_only_when_asked(tmp_path: Path) -> None:
    options = SearchOptions(trials=3)
    study, _ = open_study(f"sqlite:///{tmp_path}/a.db", options, parse_space({"dropout": [0.1, 0.2]}, "a test"))
    study.enqueue_trial({"dropout": "0.1"})
    assert not searching._was_begun(study)  # another worker may come before the first one trains

    def interrupted(trial: Any) -> float:
        trial.suggest_categorical("dropout", ["0.1", "0.2"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), searching._present(study):
        study.optimize(interrupted, n_trials=1)
    assert searching._was_begun(study) and searching._alone(study, options)


def test_mistakes_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["tune", "--corpus", "phantom", "--output_dir", str(tmp_path / "search")]
    for words, said in (
        (["--sampler", "bayes"], "--sampler: 'bayes' is not one of"),
        (["--proxy", "image_size"], "'image_size' is not NAME=VALUE"),
        (["--proxy", "seed=3"], "seed says which data, luck or machine"),
        (["--space", str(tmp_path / "no.yaml")], "--space: "),
        (["--replay", "x"], "--replay: "),
    ):
        assert main([*start, *words]) == 2
        assert said in capsys.readouterr().err
    assert main(["tune", "--corpus", "phantom"]) == 2
    assert "--output_dir: not given" in capsys.readouterr().err


def test_who_ends_a_search_is_told_how_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def terminated(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr(searching, "search_corpus", terminated)
    assert main(["tune", "--corpus", "phantom", "--output_dir", str(tmp_path)]) == 143
    said = "terminated; what its trials have done is kept, and the same command goes on with --resume auto.\n"
    assert capsys.readouterr().err.endswith(said)


def test_a_search_that_beat_nothing_says_so() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 80)
    coins = [rng.normal(size=(80, 2)) for _ in range(5)]
    found = judge_selection(coins, labels, None, "accuracy", reference=0, resamples=200)
    trials: list[Any] = [SimpleNamespace(number=n, user_attrs={"reference": n == 0}) for n in range(5)]
    said = " ".join(verdict((found, trials)))
    assert "does NOT beat the recipe" in said or "no trial was better" in said
    assert "the choice flatters by" in said


def test_what_is_for_the_training_that_follows_is_refused() -> None:
    config = TrainConfig(corpus="phantom", weights="none", soup=["a", "b"])
    with pytest.raises(InputError, match="--soup: is not for a search; give it to the training that follows"):
        searching._refuse_what_is_not_searched(config)


def test_of_several_objectives_the_first_chooses_the_winner(tiny_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("learning_rate: {from: 1e-4, to: 1e-2, log: true}\n")
    words = ["tune", "--corpus", str(tiny_corpus), *QUICK.split(), "--protocols", "published", "--no-winner"]
    words += ["--space", str(tmp_path / "space.yaml"), "--trials", "3", "--objectives", "loss", "calibration_error"]
    assert main([*words, "--output_dir", str(tmp_path / "search")]) == 0
    record = json.loads((tmp_path / "search/search.json").read_text())
    rows = list(csv.DictReader((tmp_path / "search/trials.csv").open()))
    best = min(rows, key=lambda row: float(row["validation loss"]))
    assert record["winner"]["number"] == record["front"][0] == int(best["trial"])
    assert f"# Trial {best['trial']} of a search." in (tmp_path / "search/best.yaml").read_text()
    assert any(f"Best of 3: trial {best['trial']}" in line for line in record["verdict"])
