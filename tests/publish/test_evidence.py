"""A card is refused when weights, split or figures do not belong together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

from ct_xception.errors import CheckpointError
from ct_xception.files import read_json
from ct_xception.publish.recount import agree
from ct_xception.publish.verify import read_evidence
from tests.publish.conftest import Folder, edit_json, write_audit

MakeModelDir = Callable[..., Path]


def test_a_whole_folder_is_read(make_model_dir: MakeModelDir) -> None:
    evidence = read_evidence(make_model_dir())
    assert evidence.metrics.n == 40
    assert evidence.provenance["seed"] == 7


class TestRefusals:
    def test_other_weights(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir()
        (folder / "model.safetensors").write_bytes(b"other")
        with pytest.raises(CheckpointError, match=r"metrics\.json speaks of weights 277089d91c0b, but model.*remove"):
            read_evidence(folder)

    def test_weights_that_training_did_not_leave(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir()
        edit_json(folder / "ct_xception.json", lambda side: side["provenance"].update(weights_sha256="0" * 64))
        with pytest.raises(CheckpointError, match=r"ct_xception\.json speaks of weights 000000000000"):
            read_evidence(folder)

    @pytest.mark.parametrize("name", ["another", None])
    def test_another_split(self, make_model_dir: MakeModelDir, name: str | None) -> None:
        folder = make_model_dir()
        edit_json(folder / "evaluation/metrics.json", lambda metrics: metrics.update(split_hash=name))
        with pytest.raises(
            CheckpointError, match=r"figures are of split .*, but the network was trained by split 5f0c77aa"
        ):
            read_evidence(folder)

    def test_figures_of_the_validation_split(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir()
        edit_json(folder / "evaluation/metrics.json", lambda metrics: metrics.update(split="validation"))
        with pytest.raises(CheckpointError, match="of the validation split, not of test"):
            read_evidence(folder)

    def test_another_protocol(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir()
        edit_json(folder / "evaluation/metrics.json", lambda metrics: metrics.update(protocol="deduplicated"))
        with pytest.raises(CheckpointError, match="protocol or classes"):
            read_evidence(folder)

    @pytest.mark.parametrize("path", ["predictor", "stock_pipeline"])
    def test_a_figure_typed_by_hand(self, make_model_dir: MakeModelDir, path: str) -> None:
        folder = make_model_dir()
        edit_json(folder / "evaluation/metrics.json", lambda m: m["paths"][path]["accuracy"].update(value=0.99))
        with pytest.raises(CheckpointError, match=f"the {path.replace('_', ' ')} figures .* are not those"):
            read_evidence(folder)

    def test_an_interval_typed_by_hand(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir()
        edit_json(
            folder / "evaluation/metrics.json",
            lambda m: m["paths"]["predictor"]["per_class"]["normal"]["auroc"].update(low=0.9),
        )
        with pytest.raises(CheckpointError, match="are not those"):
            read_evidence(folder)

    def test_a_refusal_left_out(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir()
        edit_json(folder / "evaluation/metrics.json", lambda m: m["paths"]["stock_pipeline"].update(refused=[]))
        with pytest.raises(CheckpointError, match="are not those"):
            read_evidence(folder)

    def test_an_older_format(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir()
        edit_json(folder / "evaluation/metrics.json", lambda metrics: metrics.update(format=1))
        with pytest.raises(CheckpointError, match=r"is of format 1, and a card needs format 2; remove .* again"):
            read_evidence(folder)

    def test_predictions_of_something_else(self, make_model_dir: MakeModelDir) -> None:
        path = make_model_dir() / "evaluation/predictions.parquet"
        table = pandas.read_parquet(path)
        table.loc[3, "label"] = "normal"
        table.to_parquet(path)
        with pytest.raises(CheckpointError, match="are not those"):
            read_evidence(path.parents[1])

    @pytest.mark.parametrize(
        "name",
        [
            "config.json",
            "ct_xception.json",
            "model.safetensors",
            "evaluation/metrics.json",
            "evaluation/predictions.parquet",
        ],
    )
    def test_a_missing_file_is_named(self, make_model_dir: MakeModelDir, name: str) -> None:
        folder = make_model_dir()
        (folder / name).unlink()
        with pytest.raises(CheckpointError, match=f"{name} is missing; "):
            read_evidence(folder)

    def test_a_torn_file_is_named(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir()
        (folder / "ct_xception.json").write_text("{torn")
        with pytest.raises(CheckpointError, match=r"ct_xception\.json is not JSON"):
            read_evidence(folder)


TAMPERED = {
    "deduplicated figures": (
        lambda m: m["protocols"]["deduplicated"]["paths"]["predictor"]["macro_f1"].update(value=0.99),
        "predictor figures of the deduplicated protocol",
    ),
    "stock figures without twins": (
        lambda m: m["protocols"]["deduplicated"]["paths"]["stock_pipeline"]["accuracy"].update(high=1.0),
        "stock pipeline figures of the deduplicated protocol",
    ),
    "removed items": (
        lambda m: m["protocols"]["deduplicated"].update(removed=1),
        "deduplicated protocol's count of removed items",
    ),
    "grouped figures": (
        lambda m: m["protocols"]["grouped"]["paths"]["predictor"]["accuracy"].update(low=0.9),
        r"grouped protocol in .* are not those of predictions_grouped\.parquet",
    ),
    "folds": (lambda m: m["protocols"]["grouped"]["folds"].pop(), "the folds' counts"),
    "a kinder headline": (
        lambda m: m["headline"].update(protocol="published"),
        "the headline is the published protocol, but the most pessimistic is grouped",
    ),
    "a headline of the other path": (lambda m: m["headline"].update(path="stock_pipeline"), "the headline is"),
    "a baseline": (
        lambda m: m["baselines"]["published"]["figures"]["nearest_body"]["accuracy"].update(value=0.1),
        "the baselines of the published protocol",
    ),
    "the best baseline": (
        lambda m: m["baselines"]["grouped"].update(best="majority"),
        "the baselines of the grouped protocol",
    ),
    "beating it": (lambda m: m["baselines"]["grouped"].update(beats_best=True), "the baselines of the grouped"),
    "calibration before": (lambda m: m["calibration"]["before"]["ece"].update(value=0.5), "the calibration"),
    "calibration after": (lambda m: m["calibration"]["after"]["brier"].update(value=0.0), "the calibration"),
    "coverage": (
        lambda m: m["conformal"]["deduplicated"]["coverage"].update(value=0.9),
        "the prediction sets of the deduplicated protocol",
    ),
    "a question": (
        lambda m: m["questions"]["grouped"]["within"]["cancer"]["accuracy"].update(value=0.99),
        "the answers to the two questions of the grouped protocol",
    ),
    "an operating point": (
        lambda m: m["operating_points"][0]["sensitivity"].update(low=0.99),
        "the figures of operating points",
    ),
    "abstention": (lambda m: m["abstention"]["accuracy"].update(value=1.0), "the figures of abstention"),
    "other class groups": (lambda m: m["class_groups"].update(benign=["normal"]), "another class groups"),
    "figures of a protocol that did not run": (
        lambda m: m["baselines"].update(external=m["baselines"]["published"]),
        "figures of the protocol external, which did not run",
    ),
    "another temperature": (lambda m: m["calibration"].update(temperature=2.0), "measured another temperature"),
    "a share that the gate refused": (lambda m: m["gate"]["refused"].update(value=0.0), "the input gate's figures"),
    "a heat map's figure": (
        lambda m: m["explanations"]["deletion_area"].update(value=0.1),
        "the heat maps' figures of the published protocol",
    ),
    "another gate": (lambda m: m["gate"]["rule"].update(refused=9.0), "measured another gate"),
    "another conformal rule": (lambda m: m["conformal"]["rule"].update(threshold=0.9), "another conformal"),
}


class TestFullFolder:
    def test_everything_agrees(self, full_folder: Folder) -> None:
        evidence = read_evidence(full_folder.write())
        assert list(evidence.metrics.all_protocols) == ["published", "deduplicated", "grouped"]
        assert evidence.headline == "grouped"
        assert {name: len(rows) for name, rows in evidence.answers.items()} == {
            "published": 80,
            "deduplicated": 68,
            "grouped": 80,
        }

    def test_the_metrics_are_typed_and_keep_every_block(self, full_folder: Folder) -> None:
        metrics = read_evidence(full_folder.write()).metrics
        assert metrics.n == 40 and metrics.paths["predictor"].per_class["normal"].auroc.n == 40
        assert metrics.to_json() == read_json(full_folder.path / "evaluation/metrics.json")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda m: m.update(n="eighty"), r"evaluation/metrics\.json.*\(n: Input should be a valid integer"),
            (lambda m: m.pop("label_names"), r"evaluation/metrics\.json.*\(label_names: Field required"),
            (lambda m: m["headline"].pop("path"), r"evaluation/metrics\.json.*\(headline\.path: Field required"),
        ],
    )
    def test_a_head_of_other_types_is_one_sentence(self, full_folder: Folder, change: Any, said: str) -> None:
        folder = full_folder.write()
        edit_json(folder / "evaluation/metrics.json", change)
        with pytest.raises(CheckpointError, match=said):
            read_evidence(folder)

    def test_metrics_that_are_no_object(self, full_folder: Folder) -> None:
        folder = full_folder.write()
        (folder / "evaluation/metrics.json").write_text("[]")
        with pytest.raises(CheckpointError, match=r"metrics\.json cannot be read \(no JSON object\)"):
            read_evidence(folder)

    @pytest.mark.parametrize("what", TAMPERED)
    def test_a_figure_typed_by_hand(self, full_folder: Folder, what: str) -> None:
        change, told = TAMPERED[what]
        folder = full_folder.write()
        edit_json(folder / "evaluation/metrics.json", change)
        with pytest.raises(CheckpointError, match=f"{told}.*; remove its evaluation folder and let its run"):
            read_evidence(folder)

    def test_a_group_in_two_folds(self, full_folder: Folder) -> None:
        full_folder.grouped.loc[[0, 3], "fold"] = full_folder.grouped.loc[[3, 0], "fold"].to_numpy()
        with pytest.raises(CheckpointError, match="a group lies in two folds"):
            read_evidence(full_folder.write())

    def test_an_item_answered_twice(self, full_folder: Folder) -> None:
        full_folder.grouped.loc[1, "source"] = full_folder.grouped.loc[0, "source"]
        with pytest.raises(CheckpointError, match="holds an item twice"):
            read_evidence(full_folder.write())

    def test_twins_that_are_not_marked(self, full_folder: Folder) -> None:
        full_folder.answers = full_folder.answers.drop(columns="has_twin")
        with pytest.raises(CheckpointError, match="does not say which items have a twin"):
            read_evidence(write_bare(full_folder))

    def test_a_verdict_of_the_gate_made_kinder(self, full_folder: Folder) -> None:
        full_folder.answers.loc[0, "gate"] = "accepted"
        with pytest.raises(
            CheckpointError, match="the input gate's figures of the published protocol .* are not those"
        ):
            read_evidence(full_folder.write())

    def test_heat_maps_of_other_answers(self, full_folder: Folder) -> None:
        full_folder.explanations["records"][0]["target"] = "normal"
        with pytest.raises(CheckpointError, match=r"explanations\.json explains answers that are not those of pred"):
            read_evidence(full_folder.write())

    def test_lesions_of_wrong_answers(self, full_folder: Folder) -> None:
        lesion = full_folder.explanations["lesions"][0]
        lesion["label"] = "normal" if lesion["label"] != "normal" else "adenocarcinoma"
        with pytest.raises(
            CheckpointError, match=r"explanations\.json points at lesions of answers that are not right"
        ):
            read_evidence(full_folder.write())

    def test_a_hit_too_many(self, full_folder: Folder) -> None:
        full_folder.explanations["lesions"][1]["hit"] = True
        with pytest.raises(CheckpointError, match="the heat maps' figures .* are not those"):
            read_evidence(full_folder.write())

    def test_a_heat_map_left_out(self, full_folder: Folder) -> None:
        full_folder.explanations["records"].pop()
        with pytest.raises(CheckpointError, match="the heat maps' figures .* are not those"):
            read_evidence(full_folder.write())

    def test_verdicts_that_are_not_published(self, full_folder: Folder) -> None:
        full_folder.answers = full_folder.answers.drop(columns="gate")
        with pytest.raises(CheckpointError, match="holds no verdict of the input gate"):
            read_evidence(full_folder.write())

    def test_a_gate_of_other_weights(self, full_folder: Folder) -> None:
        for rule in (full_folder.side["gate"], full_folder.metrics["gate"]["rule"]):
            rule["weights_sha256"] = "0" * 64
        with pytest.raises(
            CheckpointError, match="its input gate was fitted to weights 000000000000, but .*resume auto"
        ):
            read_evidence(full_folder.write())

    def test_baselines_of_other_items(self, full_folder: Folder) -> None:
        full_folder.baselines.loc[0, "source"] = "item 999999"
        with pytest.raises(CheckpointError, match="are not of the model's items"):
            read_evidence(full_folder.write())

    @pytest.mark.parametrize("name", ["predictions_grouped.parquet", "baselines.parquet", "explanations.json"])
    def test_a_missing_table_is_named(self, full_folder: Folder, name: str) -> None:
        folder = full_folder.write()
        (folder / "evaluation" / name).unlink()
        with pytest.raises(CheckpointError, match=f"evaluation/{name} is missing"):
            read_evidence(folder)

    def test_an_audit_of_another_corpus(self, full_folder: Folder) -> None:
        folder = full_folder.write()
        write_audit(folder, corpus_hash="bad0")
        with pytest.raises(CheckpointError, match=r"audit\.json is of corpus bad0, but the network .* corpus c0ffee"):
            read_evidence(folder)


def write_bare(folder: Folder) -> Path:
    """Write a folder whose table of answers lost a column that the protocols need."""
    folder.metrics["protocols"].pop("grouped")
    folder.metrics["headline"]["protocol"] = "published"
    for name in ("baselines", "questions"):
        folder.metrics[name].pop("grouped")
    return folder.write()


def test_agreement_is_to_nine_digits_and_of_every_key() -> None:
    assert agree({"a": [1.0, None, "x"]}, {"a": (1.0 + 1e-12, None, "x")})
    assert agree(1.0, 1) and agree(0.0, 1e-13)
    for other in ({"a": 1.1}, {"b": 1.0}, {"a": 1.0, "b": 2}, {"a": None}, [1.0]):
        assert not agree({"a": 1.0}, other)
