"""A card is refused when weights, split or figures do not belong together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

from ct_xception.errors import CheckpointError
from ct_xception.publish.evidence import read_evidence

MakeModelDir = Callable[..., Path]


def edit_json(path: Path, change: Callable[[dict], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_a_whole_folder_is_read(make_model_dir: MakeModelDir) -> None:
    evidence = read_evidence(make_model_dir())
    assert evidence.metrics["n"] == 40
    assert evidence.provenance["seed"] == 7


class TestRefusals:
    def test_other_weights(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir()
        (folder / "model.safetensors").write_bytes(b"other")
        with pytest.raises(CheckpointError, match=r"metrics\.json speaks of weights 277089d91c0b, but model.*evaluate"):
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
        with pytest.raises(CheckpointError, match=r"ct_xception\.json cannot be read"):
            read_evidence(folder)
