"""What an evaluation writes, and what it will not write."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
from datasets import Dataset

from ct_xception.errors import CheckpointError, InputError
from ct_xception.evaluation.answers import PREDICTOR, STOCK_PIPELINE, Answers, Items
from ct_xception.evaluation.evaluation import Evaluation, Outputs
from ct_xception.evaluation.measure import check_split, evaluate, write_evaluation
from ct_xception.evaluation.protocols import OutOfFold, Part, Protocols
from ct_xception.evaluation.rules import fit_rules, groups_cross
from ct_xception.files import sha256_file
from ct_xception.metrics import ABSENT, PathMetrics, Refusal
from ct_xception.serving.classifier import Classifier
from tests.evaluation.conftest import LABEL_NAMES, draw_nothing, make_split

REFUSED = {"test/case03.png": "case03.png is torn"}


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures at screen size: printing them takes most of the time."""
    monkeypatch.setattr("ct_xception.evaluation.report.figures._DPI", 40)


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ct_xception.evaluation.measure.draw_evaluation", draw_nothing)


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


def test_patients_that_all_have_several_classes_are_drawn_by_slice_alone(
    bare_checkpoint: Path, picture_split: Dataset
) -> None:
    corpus = {"groups": {"count": 4, "origin": "column patient"}}
    answers = {PREDICTOR: Answers(0.1 + 0.6 * np.eye(4)[picture_split["label"]])}
    metrics = write_evaluation(Evaluation(bare_checkpoint, {"test": picture_split}, corpus=corpus), answers)
    found = metrics.by_patient["unstated"]
    assert (found.n, found.several, found.mixed) == (0, 4, 4)
    assert "confusion_matrix.png" in metrics.figures and not [one for one in metrics.figures if "patients" in one]


@pytest.mark.usefixtures("without_figures")
class TestWriteEvaluation:
    def test_metrics_say_what_they_are_figures_of(
        self, bare_checkpoint: Path, picture_split: Dataset, picture_split_record: dict, answers: dict
    ) -> None:
        corpus = {"source": "clinic", "kind": "folder", "hash": "c0ffee", "class_table": []}
        returned = write_evaluation(
            Evaluation(bare_checkpoint, {"test": picture_split}, split=picture_split_record, corpus=corpus), answers
        )
        metrics = json.loads((bare_checkpoint / "evaluation/metrics.json").read_text())
        assert metrics == returned.to_json()
        head = {key: value for key, value in metrics.items() if key not in ("paths", "figures")}
        assert head == {
            "format": 2,
            "headline": {"protocol": "made", "path": "predictor", "by": "slice"},
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
        paths = write_evaluation(
            Evaluation(bare_checkpoint, {"test": picture_split}, split=picture_split_record), answers
        ).paths
        assert paths[PREDICTOR].n == 7 and paths[STOCK_PIPELINE].n == 8
        assert paths[PREDICTOR].refused == (Refusal(source="item 000003", reason="item 000003 is torn"),)
        assert paths[PREDICTOR].accuracy.value == pytest.approx(6 / 7)
        assert paths[STOCK_PIPELINE].accuracy.value == pytest.approx(4 / 8)
        assert paths[PREDICTOR].accuracy.method == "wilson_by_group"

    def test_predictions_hold_every_item_of_both_paths(
        self, bare_checkpoint: Path, picture_split: Dataset, picture_split_record: dict, answers: dict
    ) -> None:
        write_evaluation(Evaluation(bare_checkpoint, {"test": picture_split}, split=picture_split_record), answers)
        table = pandas.read_parquet(bare_checkpoint / "evaluation/predictions.parquet")
        probabilities = [f"p {name}" for name in LABEL_NAMES]
        assert list(table.columns) == ["source", "group", "label", "predicted", *probabilities, "refused", "path"]
        assert table["group"][:4].tolist() == ["group 000000", "group 000000", "group 000001", "group 000001"]
        assert table["path"].value_counts().to_dict() == {PREDICTOR: 8, STOCK_PIPELINE: 8}
        torn = table[table["refused"].notna()]
        assert torn["source"].tolist() == ["item 000003"]
        assert torn[["predicted", *probabilities]].isna().all(axis=None)
        assert table["predicted"][7] == "adenocarcinoma" and table["label"][7] == "squamous cell carcinoma"
        assert table.loc[7, probabilities].tolist() == pytest.approx([0.7, 0.1, 0.1, 0.1])

    def test_verdicts_of_the_input_gate_are_published_and_counted(
        self, bare_checkpoint: Path, picture_split: Dataset, answers: dict
    ) -> None:
        rule = {"method": "mahalanobis", "weights_sha256": "a"}
        (bare_checkpoint / "ct_xception.json").write_text(json.dumps({"gate": rule}))
        said = {f"test/case{row:02}.png": "refused" if row == 5 else "accepted" for row in range(8) if row != 3}
        answers[PREDICTOR] = Answers(answers[PREDICTOR].probabilities, REFUSED, said)
        metrics = write_evaluation(Evaluation(bare_checkpoint, {"test": picture_split}), answers)
        assert metrics.gate.rule.to_json() == rule and metrics.gate.refused.n == 7
        assert metrics.gate.refused.value == pytest.approx(1 / 7)
        table = pandas.read_parquet(bare_checkpoint / "evaluation/predictions.parquet")
        ours = table[table["path"] == PREDICTOR]["gate"].fillna("none").tolist()
        assert ours == ["accepted"] * 3 + ["none", "accepted", "refused", "accepted", "accepted"]
        assert table[table["path"] == STOCK_PIPELINE]["gate"].isna().all()

    def test_a_path_that_reads_nothing_has_no_figure(
        self, bare_checkpoint: Path, picture_split: Dataset, answers: dict
    ) -> None:
        reasons = {source: "DICOM" for source in picture_split["source"]}
        answers[STOCK_PIPELINE] = Answers(np.full((8, 4), np.nan), reasons)
        block = write_evaluation(Evaluation(bare_checkpoint, {"test": picture_split}), answers).paths[STOCK_PIPELINE]
        assert block.n == 0 and len(block.refused) == 8 and block.accuracy == ABSENT

    def test_without_a_split_record_there_is_no_protocol(
        self, bare_checkpoint: Path, picture_split: Dataset, answers: dict
    ) -> None:
        metrics = write_evaluation(Evaluation(bare_checkpoint, {"test": picture_split}), answers)
        assert (metrics.protocol, metrics.split_hash) == ("unstated", None)

    def test_the_same_answers_give_the_same_bytes(
        self, bare_checkpoint: Path, picture_split: Dataset, picture_split_record: dict, answers: dict, tmp_path: Path
    ) -> None:
        for name in ("a", "b"):
            outputs = Outputs(folder=tmp_path / name)
            write_evaluation(
                Evaluation(bare_checkpoint, {"test": picture_split}, split=picture_split_record, outputs=outputs),
                answers,
            )
        files = sorted(path.name for path in (tmp_path / "a").iterdir())
        assert {"metrics.json", "predictions.parquet"} < set(files)
        assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def in_folds(split: Dataset, right: list[bool]) -> OutOfFold:
    """A cross-validation in two folds of whole groups, its answers right where told."""
    items = Items.of(split)
    said = np.where(right, items.labels, (items.labels + 1) % 4)
    probabilities = np.where(np.arange(4) == said[:, None], 0.7, 0.1)
    folds = [{"split_hash": f"f{number}", "weights_sha256": f"w{number}", "n": 4, "seconds": 1} for number in (1, 2)]
    record = {"name": "folds", "k": 2, "seed": 0, "groups_origin": "column patient", "folds": folds}
    rules = {"majority": np.tile([0.4, 0.2, 0.2, 0.2], (8, 1))}
    return OutOfFold(Part(items, {PREDICTOR: Answers(probabilities)}, rules, np.repeat([1, 2], 4)), record)


@pytest.fixture
def protocols(picture_split: Dataset) -> Protocols:
    """The first two items have twins; out of fold five of eight are right; a rule that always says class 0."""
    return Protocols(
        has_twin=np.arange(8) < 2,
        deduplicated={"split_hash": "dedup", "n": 6, "n_groups": 3, "removed": 2},
        out_of_fold=in_folds(picture_split, [True] * 5 + [False] * 3),
        baselines={"majority": np.tile([0.4, 0.2, 0.2, 0.2], (8, 1))},
        skipped={"frozen_features": "random"},
        audit={"corpus_hash": "c0ffee", "findings": []},
    )


@pytest.mark.usefixtures("without_figures")
class TestProtocols:
    """The same network under every protocol that ran, and the most pessimistic one on top."""

    @pytest.fixture
    def evaluated(
        self,
        bare_checkpoint: Path,
        picture_split: Dataset,
        picture_split_record: dict,
        answers: dict,
        protocols: Protocols,
    ) -> tuple[dict, Path]:
        outputs = Outputs(names=bare_checkpoint.parent / "names.json")
        metrics = write_evaluation(
            Evaluation(
                bare_checkpoint,
                {"test": picture_split},
                split=picture_split_record,
                outputs=outputs,
                protocols=protocols,
            ),
            answers,
        )
        return metrics, bare_checkpoint / "evaluation"

    def test_each_has_its_own_items_and_figures(self, evaluated: tuple[dict, Path]) -> None:
        metrics, _ = evaluated
        less, grouped = metrics.protocols["deduplicated"], metrics.protocols["grouped"]
        assert (less.n, less.n_groups, less.removed, less.split_hash) == (6, 3, 2, "dedup")
        assert less.paths[PREDICTOR].n == 5 and len(less.paths[PREDICTOR].refused) == 1
        assert less.paths[PREDICTOR].accuracy.value == pytest.approx(4 / 5)
        assert less.paths[STOCK_PIPELINE].accuracy.value == pytest.approx(2 / 6)
        assert [fold.to_json() for fold in grouped.folds] == [
            {"split_hash": f"f{k}", "weights_sha256": f"w{k}", "n": 4} for k in (1, 2)
        ]
        assert (grouped.n, grouped.split_hash, grouped.groups_origin) == (8, "folds", "column patient")
        assert grouped.paths[PREDICTOR].accuracy.value == pytest.approx(5 / 8)
        assert metrics.headline.to_json() == {"protocol": "grouped", "path": PREDICTOR, "by": "slice"}

    def test_simple_rules_stand_beside_each(self, evaluated: tuple[dict, Path]) -> None:
        metrics, folder = evaluated
        assert set(metrics.baselines) == {"made", "deduplicated", "grouped"}
        block = metrics.baselines["grouped"]
        assert block.figures["majority"].accuracy.value == 0.25
        assert block.difference.value == pytest.approx(5 / 8 - 2 / 8)
        assert block.skipped == {"frozen_features": "random"}
        table = pandas.read_parquet(folder / "baselines.parquet")
        assert table["protocol"].value_counts().to_dict() == {"made": 8, "grouped": 8, "deduplicated": 6}

    def test_rows_say_which_have_a_twin_and_which_fold_answered(self, evaluated: tuple[dict, Path]) -> None:
        _, folder = evaluated
        table = pandas.read_parquet(folder / "predictions.parquet")
        assert table["has_twin"].tolist() == ([True] * 2 + [False] * 6) * 2
        grouped = pandas.read_parquet(folder / "predictions_grouped.parquet")
        assert grouped["fold"].tolist() == [1] * 4 + [2] * 4
        assert list(grouped.columns) == [*[name for name in table.columns if name != "has_twin"], "fold"]
        assert json.loads((folder / "audit.json").read_text()) == {"corpus_hash": "c0ffee", "findings": []}

    def test_no_name_of_a_file_is_published(self, evaluated: tuple[dict, Path]) -> None:
        _, folder = evaluated
        published = b"".join(path.read_bytes() for path in folder.iterdir())
        assert b"case0" not in published and b"patient" not in published.replace(b"column patient", b"")
        names = json.loads((folder.parents[1] / "names.json").read_text())
        assert names["item 000003"] == "test/case03.png"
        table = pandas.read_parquet(folder / "predictions.parquet")
        assert [names[item] for item in table["source"][:2]] == ["test/case00.png", "test/case01.png"]

    def test_a_protocol_that_is_no_longer_measured_leaves_nothing_behind(
        self, evaluated: tuple[dict, Path], bare_checkpoint: Path, picture_split: Dataset, answers: dict
    ) -> None:
        _, folder = evaluated
        metrics = write_evaluation(Evaluation(bare_checkpoint, {"test": picture_split}), answers)
        assert not {"protocols", "baselines", "audit"} & metrics.model_fields_set
        assert not {"predictions_grouped.parquet", "baselines.parquet", "audit.json"} & {
            path.name for path in folder.iterdir()
        }
        assert "has_twin" not in pandas.read_parquet(folder / "predictions.parquet")

    def test_every_test_image_may_have_a_twin(
        self, bare_checkpoint: Path, picture_split: Dataset, answers: dict, protocols: Protocols
    ) -> None:
        gone = {"split_hash": "none", "n": 0, "n_groups": 0, "removed": 8}
        protocols = replace(protocols, has_twin=np.ones(8, bool), deduplicated=gone, out_of_fold=None)
        metrics = write_evaluation(Evaluation(bare_checkpoint, {"test": picture_split}, protocols=protocols), answers)
        assert metrics.protocols["deduplicated"].paths[PREDICTOR] == PathMetrics(n=0)
        assert metrics.headline.protocol == "unstated"


@pytest.mark.usefixtures("without_figures")
def test_the_rules_of_the_side_file_are_measured(
    bare_checkpoint: Path, picture_split: Dataset, answers: dict, protocols: Protocols
) -> None:
    items = Items.of(picture_split)
    groups = {"cancer": LABEL_NAMES[:2] + LABEL_NAMES[3:], "normal": ["normal"]}
    rules = fit_rules(items, answers[PREDICTOR], LABEL_NAMES, coverage=0.8, class_groups=groups)
    (bare_checkpoint / "ct_xception.json").write_text(json.dumps(rules.to_json() | {"temperature": 2.0}))
    metrics = write_evaluation(Evaluation(bare_checkpoint, {"test": picture_split}, protocols=protocols), answers)
    calibration = metrics.calibration
    assert (calibration.temperature, calibration.n_validation, calibration.after.n) == (2.0, 7, 7)
    undone = 0.7**2 / (0.7**2 + 3 * 0.1**2)  # a head that was divided by 2, multiplied again
    assert calibration.before.bins[0].confidence == pytest.approx(undone)
    assert calibration.after.bins[0].confidence == pytest.approx(0.7)
    assert set(metrics.conformal.coverages) == {"unstated", "deduplicated"}  # the folds' networks have no such rule
    assert set(metrics.questions) == {"unstated", "deduplicated", "grouped"}
    assert metrics.class_groups == rules.class_groups and metrics.conformal.rule == rules.conformal
    assert metrics.abstention.n == 7 and len(metrics.operating_points) > 0


def test_sets_are_promised_for_a_new_group_only_where_no_group_crosses(picture_split: Dataset, answers: dict) -> None:
    items, options = Items.of(picture_split), {"coverage": 0.7, "class_groups": {}}
    rules = [fit_rules(items, answers[PREDICTOR], LABEL_NAMES, crossing=crossing, **options) for crossing in (0, 1)]
    assert [(rule.conformal.unit, rule.conformal.n_groups) for rule in rules] == [("group", 4), ("item", 7)]
    apart = picture_split.select(range(4))  # two items a patient, so none lies in both halves
    assert not groups_cross({"train": picture_split.select(range(4, 8)), "validation": apart})
    assert groups_cross({"train": picture_split.select(range(3, 8)), "validation": apart})
    assert not groups_cross({"train": apart, "test": apart, "validation": picture_split.select(range(4, 8))})


class TestPublication:
    """Pictures of a corpus leave the run folder only when they may."""

    @pytest.mark.parametrize(
        ("kind", "published"),
        [("folder", False), ("phantom", True)],
    )
    def test_examples(
        self, bare_checkpoint: Path, picture_split: Dataset, answers: dict, kind: str, published: bool
    ) -> None:
        run = bare_checkpoint.parent
        outputs = Outputs(examples=run)
        metrics = write_evaluation(
            Evaluation(bare_checkpoint, {"test": picture_split}, corpus={"kind": kind}, outputs=outputs), answers
        )
        assert (run / "examples.png").is_file()
        assert (bare_checkpoint / "evaluation/examples.png").is_file() == published
        assert ("examples.png" in metrics.figures) == published

    def test_an_older_evaluation_leaves_no_picture_behind(
        self, bare_checkpoint: Path, picture_split: Dataset, answers: dict
    ) -> None:
        folder = bare_checkpoint / "evaluation"
        folder.mkdir()
        (folder / "examples.png").write_bytes(b"pictures that might be published then")
        write_evaluation(Evaluation(bare_checkpoint, {"test": picture_split}), answers)
        assert not (folder / "examples.png").exists()

    def test_curves_are_drawn_from_the_history(
        self, bare_checkpoint: Path, picture_split: Dataset, answers: dict, tmp_path: Path
    ) -> None:
        history = tmp_path / "history.jsonl"
        history.write_text('{"epoch": 1, "train_loss": 1.2, "train_accuracy": 0.4}\n')
        metrics = write_evaluation(
            Evaluation(bare_checkpoint, {"test": picture_split}, outputs=Outputs(history=history)), answers
        )
        assert metrics.figures == ("confusion_matrix.png", "roc.png", "curves.png")
        (bare_checkpoint / "ct_xception.json").write_text('{"provenance": {"best_epoch": 1}}')
        assert write_evaluation(Evaluation(bare_checkpoint, {"test": picture_split}), answers).best_epoch == 1
        history.write_text("{torn")
        with pytest.raises(InputError, match="training history cannot be read"):
            write_evaluation(
                Evaluation(bare_checkpoint, {"test": picture_split}, outputs=Outputs(history=history)), answers
            )


@pytest.mark.usefixtures("without_figures")
class TestRefusals:
    def test_other_classes(self, bare_checkpoint: Path, picture_split: Dataset) -> None:
        other = make_split([picture_split[0]["image"]["bytes"]], [0], ["benign", "malignant"])
        with pytest.raises(InputError, match=r"are not the corpus's \(benign, malignant\)"):
            check_split(Evaluation(bare_checkpoint, {"test": other}))

    def test_other_items_than_the_split_names(
        self, bare_checkpoint: Path, picture_split: Dataset, picture_split_record: dict
    ) -> None:
        with pytest.raises(InputError, match="not the items of the test split"):
            check_split(
                Evaluation(bare_checkpoint, {"test": picture_split.select(range(7))}, split=picture_split_record)
            )

    def test_an_empty_split(self, bare_checkpoint: Path, picture_split: Dataset) -> None:
        with pytest.raises(InputError, match="test split is empty"):
            check_split(Evaluation(bare_checkpoint, {"test": picture_split.select([])}))

    def test_a_folder_that_is_no_checkpoint(self, tmp_path: Path, picture_split: Dataset) -> None:
        with pytest.raises(CheckpointError, match="give a checkpoint folder"):
            check_split(Evaluation(tmp_path, {"test": picture_split}))

    def test_answers_of_another_number(self, bare_checkpoint: Path, picture_split: Dataset) -> None:
        padded = {PREDICTOR: Answers(np.full((10, 4), 0.25))}
        with pytest.raises(InputError, match=r"Expected answers \(8, 4\), got \(10, 4\).*without padding"):
            write_evaluation(Evaluation(bare_checkpoint, {"test": picture_split}), padded)

    def test_a_row_without_answer_or_reason(self, bare_checkpoint: Path, picture_split: Dataset, answers: dict) -> None:
        silent = {PREDICTOR: Answers(answers[PREDICTOR].probabilities)}
        with pytest.raises(InputError, match=r"neither probabilities nor a reason, for example test/case03\.png"):
            write_evaluation(Evaluation(bare_checkpoint, {"test": picture_split}), silent)
        assert not (bare_checkpoint / "evaluation" / "metrics.json").exists()


def test_an_evaluation_runs_both_paths(
    tiny_checkpoint: Path, picture_split: Dataset, picture_split_record: dict, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, checkpoint)
    stated = {"split": picture_split_record, "corpus": {"source": "clinic"}}
    metrics = evaluate(Evaluation(checkpoint, {"test": picture_split}, **stated, progress=False))
    assert set(metrics.paths) == {PREDICTOR, STOCK_PIPELINE}
    for block in metrics.paths.values():
        assert block.n == 8 and block.refused == ()
        assert np.sum(block.confusion_matrix) == 8
    assert (checkpoint / "evaluation/predictions.parquet").is_file()


@pytest.mark.usefixtures("without_figures")
def test_stock_can_be_left_out(
    bare_checkpoint: Path, picture_split: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sure = {name: float(name == "normal") for name in LABEL_NAMES}
    stub = "ct_xception.evaluation.measure.predictor_answers"
    monkeypatch.setattr(stub, lambda *_, **__: lambda batch: [sure] * len(batch))
    outputs = Outputs(folder=tmp_path / "elsewhere")
    monkeypatch.setattr(Classifier, "from_pretrained", lambda *_, **__: SimpleNamespace(columns=None))
    options = {"stock": False, "progress": False, "outputs": outputs}
    metrics = evaluate(Evaluation(bare_checkpoint, {"test": picture_split}, **options))
    assert list(metrics.paths) == [PREDICTOR]
    assert metrics.paths[PREDICTOR].accuracy.value == 0.25
    assert not (bare_checkpoint / "evaluation").exists()
