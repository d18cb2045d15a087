"""What an evaluation writes, and what it will not write."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
from datasets import Dataset

from ct_xception.errors import CheckpointError, InputError
from ct_xception.evaluation.answers import PREDICTOR, STOCK_PIPELINE, Answers
from ct_xception.evaluation.evaluator import check_split, evaluate_checkpoint, write_evaluation
from ct_xception.evaluation.figures import Outputs
from ct_xception.files import sha256_file
from tests.evaluation.conftest import LABEL_NAMES, draw_nothing, make_split

REFUSED = {"test/case03.png": "case03 is torn"}


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures at screen size: printing them takes most of the time."""
    monkeypatch.setattr("ct_xception.evaluation.figures._DPI", 40)


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ct_xception.evaluation.evaluator.draw_evaluation", draw_nothing)


@pytest.fixture
def answers() -> dict[str, Answers]:
    """Six of eight right, one wrong, one refused by our predictor; stock answers all, half of them right."""
    ours = np.full((8, 4), 0.1)
    ours[np.arange(8), [0, 1, 2, 3, 0, 1, 2, 0]] = 0.7
    ours[3] = np.nan
    stock = np.full((8, 4), 0.1)
    stock[np.arange(8), [0, 1, 2, 3, 1, 2, 3, 0]] = 0.7
    return {PREDICTOR: Answers(ours, REFUSED), STOCK_PIPELINE: Answers(stock)}


@pytest.fixture
def bare_checkpoint(tmp_path: Path) -> Path:
    """As much of a checkpoint as writing figures needs."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"label_names": LABEL_NAMES}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.mark.usefixtures("without_figures")
class TestWriteEvaluation:
    def test_metrics_say_what_they_are_figures_of(
        self, bare_checkpoint: Path, picture_split: Dataset, picture_split_record: dict, answers: dict
    ) -> None:
        corpus = {"source": "clinic", "kind": "folder", "hash": "c0ffee", "class_table": []}
        returned = write_evaluation(bare_checkpoint, picture_split, answers, split=picture_split_record, corpus=corpus)
        metrics = json.loads((bare_checkpoint / "evaluation/metrics.json").read_text())
        assert metrics == returned
        head = {key: value for key, value in metrics.items() if key not in ("paths", "figures")}
        assert head == {
            "format": 1,
            "protocol": "made",
            "split": "test",
            "split_hash": "5f0c",
            "weights_sha256": sha256_file(bare_checkpoint / "model.safetensors"),
            "corpus": {"source": "clinic", "kind": "folder", "hash": "c0ffee"},
            "split_sizes": {"train": 3, "validation": 1, "test": 8},
            "best_epoch": None,
            "n": 8,
            "n_groups": 4,
            "label_names": LABEL_NAMES,
            "intervals": {"confidence": 0.95, "resamples": 1000, "seed": 0},
        }

    def test_refused_files_are_counted_and_listed(
        self, bare_checkpoint: Path, picture_split: Dataset, picture_split_record: dict, answers: dict
    ) -> None:
        paths = write_evaluation(bare_checkpoint, picture_split, answers, split=picture_split_record)["paths"]
        assert paths[PREDICTOR]["n"] == 7 and paths[STOCK_PIPELINE]["n"] == 8
        assert paths[PREDICTOR]["refused"] == [{"source": "test/case03.png", "reason": "case03 is torn"}]
        assert paths[PREDICTOR]["accuracy"]["value"] == pytest.approx(6 / 7)
        assert paths[STOCK_PIPELINE]["accuracy"]["value"] == pytest.approx(4 / 8)
        assert paths[PREDICTOR]["accuracy"]["method"] == "wilson_by_group"

    def test_predictions_hold_every_item_of_both_paths(
        self, bare_checkpoint: Path, picture_split: Dataset, picture_split_record: dict, answers: dict
    ) -> None:
        write_evaluation(bare_checkpoint, picture_split, answers, split=picture_split_record)
        table = pandas.read_parquet(bare_checkpoint / "evaluation/predictions.parquet")
        probabilities = [f"p {name}" for name in LABEL_NAMES]
        assert list(table.columns) == ["source", "group", "label", "predicted", *probabilities, "refused", "path"]
        assert table["group"][:4].tolist() == ["group 000000", "group 000000", "group 000001", "group 000001"]
        assert table["path"].value_counts().to_dict() == {PREDICTOR: 8, STOCK_PIPELINE: 8}
        torn = table[table["refused"].notna()]
        assert torn["source"].tolist() == ["test/case03.png"]
        assert torn[["predicted", *probabilities]].isna().all(axis=None)
        assert table["predicted"][7] == "adenocarcinoma" and table["label"][7] == "squamous cell carcinoma"
        assert table.loc[7, probabilities].tolist() == pytest.approx([0.7, 0.1, 0.1, 0.1])

    def test_a_path_that_reads_nothing_has_no_figure(
        self, bare_checkpoint: Path, picture_split: Dataset, answers: dict
    ) -> None:
        reasons = {source: "DICOM" for source in picture_split["source"]}
        answers[STOCK_PIPELINE] = Answers(np.full((8, 4), np.nan), reasons)
        block = write_evaluation(bare_checkpoint, picture_split, answers)["paths"][STOCK_PIPELINE]
        assert block["n"] == 0 and len(block["refused"]) == 8 and "accuracy" not in block

    def test_without_a_split_record_there_is_no_protocol(
        self, bare_checkpoint: Path, picture_split: Dataset, answers: dict
    ) -> None:
        metrics = write_evaluation(bare_checkpoint, picture_split, answers)
        assert (metrics["protocol"], metrics["split_hash"]) == ("unstated", None)

    def test_the_same_answers_give_the_same_bytes(
        self, bare_checkpoint: Path, picture_split: Dataset, picture_split_record: dict, answers: dict, tmp_path: Path
    ) -> None:
        for name in ("a", "b"):
            outputs = Outputs(folder=tmp_path / name)
            write_evaluation(bare_checkpoint, picture_split, answers, split=picture_split_record, outputs=outputs)
        files = sorted(path.name for path in (tmp_path / "a").iterdir())
        assert {"metrics.json", "predictions.parquet"} < set(files)
        assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


class TestPublication:
    """Pictures of a corpus leave the run folder only when they may."""

    @pytest.mark.parametrize(
        ("kind", "allowed", "published"),
        [("folder", False, False), ("folder", True, True), ("phantom", False, True)],
    )
    def test_examples(
        self, bare_checkpoint: Path, picture_split: Dataset, answers: dict, kind: str, allowed: bool, published: bool
    ) -> None:
        run = bare_checkpoint.parent
        outputs = Outputs(examples=run, publish_examples=allowed)
        metrics = write_evaluation(bare_checkpoint, picture_split, answers, corpus={"kind": kind}, outputs=outputs)
        assert (run / "examples.png").is_file()
        assert (bare_checkpoint / "evaluation/examples.png").is_file() == published
        assert ("examples.png" in metrics["figures"]) == published

    def test_an_older_evaluation_leaves_no_picture_behind(
        self, bare_checkpoint: Path, picture_split: Dataset, answers: dict
    ) -> None:
        folder = bare_checkpoint / "evaluation"
        folder.mkdir()
        (folder / "examples.png").write_bytes(b"pictures that might be published then")
        write_evaluation(bare_checkpoint, picture_split, answers)
        assert not (folder / "examples.png").exists()

    def test_curves_are_drawn_from_the_history(
        self, bare_checkpoint: Path, picture_split: Dataset, answers: dict, tmp_path: Path
    ) -> None:
        history = tmp_path / "history.jsonl"
        history.write_text('{"epoch": 1, "train_loss": 1.2, "train_accuracy": 0.4}\n')
        metrics = write_evaluation(bare_checkpoint, picture_split, answers, outputs=Outputs(history=history))
        assert metrics["figures"] == ["confusion_matrix.png", "roc.png", "curves.png"]
        (bare_checkpoint / "ct_xception.json").write_text('{"provenance": {"best_epoch": 1}}')
        assert write_evaluation(bare_checkpoint, picture_split, answers)["best_epoch"] == 1
        history.write_text("{torn")
        with pytest.raises(InputError, match="training history cannot be read"):
            write_evaluation(bare_checkpoint, picture_split, answers, outputs=Outputs(history=history))


@pytest.mark.usefixtures("without_figures")
class TestRefusals:
    def test_other_classes(self, bare_checkpoint: Path, picture_split: Dataset) -> None:
        other = make_split([picture_split[0]["image"]["bytes"]], [0], ["benign", "malignant"])
        with pytest.raises(InputError, match=r"are not the corpus's \(benign, malignant\)"):
            check_split(bare_checkpoint, other, None, "test")

    def test_other_items_than_the_split_names(
        self, bare_checkpoint: Path, picture_split: Dataset, picture_split_record: dict
    ) -> None:
        with pytest.raises(InputError, match="not the items of the test split"):
            check_split(bare_checkpoint, picture_split.select(range(7)), picture_split_record, "test")

    def test_an_empty_split(self, bare_checkpoint: Path, picture_split: Dataset) -> None:
        with pytest.raises(InputError, match="test split is empty"):
            check_split(bare_checkpoint, picture_split.select([]), None, "test")

    def test_a_folder_that_is_no_checkpoint(self, tmp_path: Path, picture_split: Dataset) -> None:
        with pytest.raises(CheckpointError, match="give a checkpoint folder"):
            check_split(tmp_path, picture_split, None, "test")

    def test_answers_of_another_number(self, bare_checkpoint: Path, picture_split: Dataset) -> None:
        padded = {PREDICTOR: Answers(np.full((10, 4), 0.25))}
        with pytest.raises(InputError, match=r"Expected answers \(8, 4\), got \(10, 4\).*without padding"):
            write_evaluation(bare_checkpoint, picture_split, padded)

    def test_a_row_without_answer_or_reason(self, bare_checkpoint: Path, picture_split: Dataset, answers: dict) -> None:
        silent = {PREDICTOR: Answers(answers[PREDICTOR].probabilities)}
        with pytest.raises(InputError, match=r"neither probabilities nor a reason, for example test/case03\.png"):
            write_evaluation(bare_checkpoint, picture_split, silent)
        assert not (bare_checkpoint / "evaluation" / "metrics.json").exists()


def test_evaluate_checkpoint_runs_both_paths(
    tiny_checkpoint: Path, picture_split: Dataset, picture_split_record: dict, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, checkpoint)
    metrics = evaluate_checkpoint(
        checkpoint, picture_split, split=picture_split_record, corpus={"source": "clinic"}, progress=False
    )
    assert set(metrics["paths"]) == {PREDICTOR, STOCK_PIPELINE}
    for block in metrics["paths"].values():
        assert block["n"] == 8 and block["refused"] == []
        assert np.sum(block["confusion_matrix"]) == 8
    assert (checkpoint / "evaluation/predictions.parquet").is_file()


@pytest.mark.usefixtures("without_figures")
def test_stock_can_be_left_out(
    bare_checkpoint: Path, picture_split: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sure = {name: float(name == "normal") for name in LABEL_NAMES}
    stub = "ct_xception.evaluation.evaluator.predictor_answers"
    monkeypatch.setattr(stub, lambda *_, **__: lambda batch: [sure] * len(batch))
    outputs = Outputs(folder=tmp_path / "elsewhere")
    metrics = evaluate_checkpoint(bare_checkpoint, picture_split, stock=False, progress=False, outputs=outputs)
    assert list(metrics["paths"]) == [PREDICTOR]
    assert metrics["paths"][PREDICTOR]["accuracy"]["value"] == 0.25
    assert not (bare_checkpoint / "evaluation").exists()
