"""From a table to a checkpoint that takes its columns: trained, measured with and without, asked, told in the card."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from ct_xception.checkpoint import CARD, CONFIG, EVALUATION, METRICS
from ct_xception.cli import main as cli
from ct_xception.errors import InputError
from ct_xception.metrics import read_metrics
from ct_xception.phantom.corpus import generate_phantom
from ct_xception.pipeline.owners import read_rows
from ct_xception.pipeline.run import main
from ct_xception.publish.hosted.browser_space import write_site
from ct_xception.publish.verify import read_evidence
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.inference_api import Asked, classify
from ct_xception.serving.series import Member
from ct_xception.training.options import TrainConfig
from tests.accelerators import forget_accelerator


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, 30 patients, a slice each; age is some 20 years higher in the first, and missing in a few."""
    folder = tmp_path_factory.mktemp("beside") / "phantom"
    generate_phantom(folder, patients=30, slices_per_patient=1, size=64, classes=2)
    with open(folder / "metadata.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    first = min(row["label"] for row in rows)
    for number, row in enumerate(rows):
        row["age"] = "" if number % 7 == 0 else str(50 + 20 * (row["label"] == first) + number * 5 % 11)
        row["sex"] = "FM"[number % 2]
    with open(folder / "metadata.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def run(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beside") / "run"
    words = (
        f"--corpus {phantom} --output_dir {folder} --tabular_columns age,sex --weights none --image_size 64 --epochs 2 "
        "--batch_size 8 --explained 0 --workers 0 --threads 1"
    )
    assert main(words.split()) == 0
    forget_accelerator()
    return folder


def test_the_checkpoint_is_complete_and_tells_what_was_missing(run: Path) -> None:
    columns = json.loads((run / "model" / CONFIG).read_text())["tabular"]["columns"]
    assert [(one["name"], one["kind"]) for one in columns] == [("age", "number"), ("sex", "category")]
    told = json.loads((run / "corpus.json").read_text())["tabular"]
    assert sum(told["missing"]["age"].values()) == 5 and not any(told["missing"]["sex"].values())


def test_what_the_columns_are_worth_is_measured_and_can_be_counted_again(run: Path) -> None:
    metrics = read_metrics(run / "model" / EVALUATION / METRICS)
    assert metrics.paths["columns_withheld"].n == metrics.paths["predictor"].n
    worth = metrics.columns[metrics.protocol]
    assert worth.rule in ("columns_linear", "columns_forest") and worth.withheld.n == metrics.n
    alone = metrics.baselines[metrics.protocol].figures[worth.rule].accuracy.value
    given = metrics.paths["predictor"].accuracy.value
    assert worth.alone is not None and worth.alone.value == pytest.approx(given - alone)  # type: ignore[operator]
    read_evidence(run / "model")  # recounts every figure


def test_the_card_tells_the_columns_and_warns_where_they_do_alone(run: Path) -> None:
    card = (run / "model" / CARD).read_text()
    metrics = read_metrics(run / "model" / EVALUATION / METRICS)
    assert "## Beside the image" in card and "- sex: F, M, or other" in card and "columns withheld" in card
    assert ("may do as well as this network" in card) == metrics.columns[metrics.protocol].needless
    assert "import ct_xception" in card


def test_predict_takes_a_table_and_says_what_it_does_not_name(
    run: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((phantom / "test").rglob("*.png"))[:3]
    relative = files[0].relative_to(phantom).as_posix()
    (tmp_path / "t.csv").write_text(f"path,age,sex\n{relative},63,F\n{files[1].name},,M\n")
    words = ["predict", *map(str, files), "--model", str(run), "--no-gate", "--json"]
    assert cli([*words, "--table", str(tmp_path / "t.csv")]) == 0
    captured = capsys.readouterr()
    rows = [one["tabular"] for one in json.loads(captured.out)]
    assert rows == [{"age": 63.0, "sex": "F"}, {"age": None, "sex": "M"}, {"age": None, "sex": None}]
    assert "--table names 2 of 3 slices" in captured.err
    assert cli(words) == 0
    assert "answers without age, sex" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [("path,age\na.png,3\n", "no column 'sex'"), ("path,age,sex\na.png,3,F\na.png,4,F\n", "says two things of a.png")],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read_rows(tmp_path / "t.csv", ("age", "sex"))


def test_programs_give_a_row_in_json(run: Path, phantom: Path) -> None:
    classifier = Classifier.from_pretrained(run, gate=False)
    file = next((phantom / "test").rglob("*.png")).read_bytes()
    told = classify(classifier, file, Asked.of({"tabular": '{"age": 63, "sex": "F"}'}))
    without = classify(classifier, file, Asked.of({}))
    assert not any("answered without" in note for note in told[0]["notes"])
    assert "answered without age, sex" in without[0]["notes"]
    unit = classify(classifier, file, Asked.of({"by": "patient", "tabular": {"age": 63}}))
    assert unit[0]["without"] == {"sex": 1}
    with pytest.raises(InputError, match="no JSON object"):
        Asked.of({"tabular": "age=63"})


def test_a_member_carries_its_row_into_answers_by_patient(run: Path, phantom: Path) -> None:
    classifier = Classifier.from_pretrained(run, gate=False)
    file = next((phantom / "test").rglob("*.png"))
    assert Member("one", file, tabular={"age": 63}).read(classifier).tabular == {"age": 63}


def test_doors_without_fields_say_so(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="the page in the browser has no fields"):
        write_site(run / "model", tmp_path / "site")
    shutil.copytree(run / "model", tmp_path / "model")
    words = ["recalibrate", str(tmp_path / "model"), "--with", "phantom:patients=6,slices=1,size=64,classes=2"]
    assert cli([*words, "--output_dir", str(tmp_path / "new")]) == 2
    assert "takes columns of a table beside the image (age, sex)" in capsys.readouterr().err


def test_mixup_would_mix_the_images_and_not_the_rows() -> None:
    with pytest.raises(InputError, match="not the rows of --tabular_columns"):
        TrainConfig(corpus="phantom", tabular_columns="age", mixup=0.2)
