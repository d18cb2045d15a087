"""A checkpoint meets a new site: recalibrated on labelled cases, or adapted without, and kept only if it helps."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from ct_xception_app.app import build_demo
from safetensors.numpy import load_file

from ct_xception.checkpoint_files import check_seal, need_side
from ct_xception.cli import main
from ct_xception.errors import CheckpointError
from ct_xception.evaluation.shift.site_rules import FITTED_ON
from ct_xception.files import sha256_file
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.pipeline import sites
from ct_xception.publish.clearance import list_files
from ct_xception.publish.release import release_checkpoint
from ct_xception.serving.classifier import Classifier, softmax
from ct_xception.statistics.calibration import calibration_figures
from ct_xception.training.start import check_classes, continue_head, settle_start
from tests.sites import CLEAR, HAZY, SITE, draw_site, home_checkpoint

REPLACED = "The batch norms' means and variances"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    return home_checkpoint(folder / "model", folder / "corpus")


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Another scanner's slices: `cases` with labels, and `scans` of other patients, whose labels nobody looks at."""
    folder = tmp_path_factory.mktemp("away")
    return {
        "cases": draw_site(folder / "cases", 24, factor=SITE, seed=1),
        "scans": draw_site(folder / "scans", 24, factor=SITE, seed=2),
    }


@pytest.fixture(scope="module")
def recalibrated(home: Path, away: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new") / "clinic"
    assert main(["recalibrate", str(home), "--with", str(away["cases"]), "--output_dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def adapted(home: Path, away: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With none of training's statistics left: those of a factor are then undone in full."""
    folder = tmp_path_factory.mktemp("new") / "clinic"
    words = ["adapt", str(home), "--to", str(away["scans"]), "--check", str(away["cases"]), "--source_size", "0"]
    assert main([*words, "--output_dir", str(folder)]) == 0
    return folder


def site_record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation" / "site.json").read_text())


class TestRecalibrated:
    def test_the_weights_are_the_parents_byte_for_byte(self, home: Path, recalibrated: Path) -> None:
        for name in ("model.safetensors", "config.json", "gate.safetensors"):
            assert (recalibrated / name).read_bytes() == (home / name).read_bytes()
        check_seal(recalibrated, list_files(recalibrated), need_side(recalibrated).manifest)

    def test_the_predictor_divides_by_the_new_temperature(
        self, home: Path, away: dict[str, Path], recalibrated: Path
    ) -> None:
        side = need_side(recalibrated)
        assert side.output_temperature != 1 and side.temperature == need_side(home).temperature
        slice_ = away["cases"].parent / "images" / "000_0.png"
        before, after = (Classifier.from_pretrained(folder)(slice_) for folder in (home, recalibrated))
        assert before.outputs is not None
        scaled = softmax(before.outputs.logits / side.output_temperature)
        assert [after.probabilities[name] for name in (CLEAR, HAZY)] == pytest.approx(scaled.tolist(), abs=1e-5)
        assert after.decision.calibrated_on == FITTED_ON

    def test_readers_that_would_not_scale_are_told_so(self, recalibrated: Path, home: Path) -> None:
        formats = [json.loads((folder / "ct_xception.json").read_text())["format"] for folder in (home, recalibrated)]
        assert formats == [2, 3]

    def test_figures_are_those_of_the_answers_out_of_fold(self, recalibrated: Path) -> None:
        table = pandas.read_parquet(recalibrated / "evaluation" / "site.parquet")
        figures = site_record(recalibrated)["figures"]
        assert table.groupby("group")["fold"].nunique().max() == 1 and len(table) == 48
        labels = table["label"].map([CLEAR, HAZY].index).to_numpy()
        for side in ("before", "after"):
            scores = table[[f"{side} p {name}" for name in (CLEAR, HAZY)]].to_numpy()
            found = calibration_figures(scores, labels, table["group"].tolist())
            assert figures[side]["ece"]["value"] == pytest.approx(found.ece.value)
            assert figures[side]["log_loss"]["value"] == pytest.approx(found.log_loss.value)
            assert figures[side]["accuracy"]["value"] == pytest.approx((scores.argmax(axis=1) == labels).mean())
        assert not table["source"].str.contains("png").any() and not table["group"].str.contains("site").any()

    def test_no_case_is_scaled_by_a_temperature_that_saw_its_patient(self, recalibrated: Path) -> None:
        """Each fold's scale is told by its answers; they are not that of the rules that were fitted to all."""
        table = pandas.read_parquet(recalibrated / "evaluation" / "site.parquet")
        logs = {side: np.log(table[f"{side} p {HAZY}"] / table[f"{side} p {CLEAR}"]) for side in ("before", "after")}
        scales = (logs["before"] / logs["after"]).groupby(table["fold"]).agg(["min", "max"])
        assert np.allclose(scales["min"], scales["max"], rtol=1e-3) and scales["min"].nunique() > 1

    def test_nothing_of_the_parent_stands_as_its_own(self, recalibrated: Path) -> None:
        card = (recalibrated / "README.md").read_text()
        assert (
            "The card of the parent" not in card and "byte for" in card and "48 labelled slices of 24 patients" in card
        )
        assert "not this version's" in card and need_side(recalibrated).provenance.version == 2
        assert not (recalibrated / "evaluation" / "metrics.json").exists()
        with pytest.raises(CheckpointError, match="no figures of a test split"):
            release_checkpoint(recalibrated, "user/repo")

    def test_sets_of_slices_are_compared_with_the_site(
        self, away: dict[str, Path], recalibrated: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["predict", str(away["scans"].parent / "images"), "--model", str(recalibrated)]) == 0
        assert "unlike those" not in capsys.readouterr().err

    def test_it_can_be_recalibrated_again(
        self, home: Path, away: dict[str, Path], recalibrated: Path, tmp_path: Path
    ) -> None:
        assert (
            main(["recalibrate", str(recalibrated), "--with", str(away["cases"]), "--output_dir", str(tmp_path / "a")])
            == 0
        )
        again = need_side(tmp_path / "a")
        assert again.output_temperature == pytest.approx(need_side(recalibrated).output_temperature, rel=1e-3)
        assert again.provenance.version == 3 and len(again.provenance.lineage) == 2


class TestTooFew:
    def refused(self, words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
        assert main([*words, "--output_dir", str(folder)]) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert not folder.exists() and not list(folder.parent.glob(f".{folder.name}-*"))
        return said

    def test_cases(self, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        few = draw_site(tmp_path / "few", 8)
        said = self.refused(["recalibrate", str(home), "--with", str(few)], tmp_path / "new", capsys)
        assert "--with: 8 patients, 4 of clear and 4 of hazy" in said and "label more" in said

    def test_slices(self, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        few = draw_site(tmp_path / "few", 8)
        said = self.refused(["adapt", str(home), "--to", str(few)], tmp_path / "new", capsys)
        assert "--to: 16 slices of 8 patients" in said

    def test_other_classes(self, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        table = draw_site(tmp_path / "other", 8)
        table.write_text(table.read_text().replace(f",{HAZY},", ",fibrosis,"))
        said = self.refused(["recalibrate", str(home), "--with", str(table)], tmp_path / "new", capsys)
        assert "fibrosis is no class of the checkpoint" in said and "--class_map" in said

    def test_a_folder_that_is_there(self, home: Path, away: dict[str, Path], tmp_path: Path) -> None:
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "kept").touch()
        assert main(["adapt", str(home), "--to", str(away["scans"]), "--output_dir", str(tmp_path / "new")]) == 2
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["kept"]

    @pytest.mark.parametrize("command", [("recalibrate", "--with"), ("adapt", "--to")])
    def test_a_folder_that_cannot_be_made_is_refused_before_anything_slow(
        self, command: tuple[str, str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def never(*_: object, **__: object) -> None:
            raise AssertionError("a slice was looked at")

        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
        monkeypatch.setattr(sites.Reading, "look", never)
        name, option = command
        table = draw_site(tmp_path / "few", 8)
        output = tmp_path / "new" / "version"
        assert main([name, str(home), option, str(table), "--output_dir", str(output)]) == 2
        assert not output.parent.exists()


class TestAdapted:
    def test_it_is_right_where_the_parent_was_not(self, adapted: Path) -> None:
        figures = site_record(adapted)["figures"]
        assert figures["before"]["accuracy"]["value"] < 0.9 < figures["after"]["accuracy"]["value"]
        assert figures["difference"]["log_loss"]["high"] < 0

    def test_only_statistics_and_the_heads_scale_are_others(self, home: Path, adapted: Path) -> None:
        before, after = (load_file(folder / "model.safetensors") for folder in (home, adapted))
        changed = {key for key in before if not np.array_equal(before[key], after[key])}
        assert changed and all(
            key.endswith(("running_mean", "running_var")) or key.startswith("fc.") for key in changed
        )
        assert np.unique(np.round(before["fc.weight"] / after["fc.weight"], 4)).size == 1  # one temperature

    def test_gate_and_reference_are_of_the_site(self, home: Path, adapted: Path, away: dict[str, Path]) -> None:
        side = need_side(adapted)
        assert side.gate is not None and side.gate.weights_sha256 == sha256_file(adapted / "model.safetensors")
        assert side.gate.fitted_on is not None and "unlabelled" in side.gate.fitted_on.split
        for name in ("gate.safetensors", "drift.safetensors"):
            assert (adapted / name).is_file() and (adapted / name).read_bytes() != (home / name).read_bytes()
        table = away["cases"]
        rows = list(csv.DictReader(table.open()))
        answers = Classifier.from_pretrained(adapted)([table.parent / row["path"] for row in rows])
        assert np.mean([one.label == row["label"] for one, row in zip(answers, rows, strict=True)]) > 0.9
        assert np.mean([bool(one.refusal) for one in answers]) < 0.1

    def test_the_card_says_what_was_done(self, adapted: Path) -> None:
        card = " ".join((adapted / "README.md").read_text().split())
        for said in (REPLACED, "Kept by a labelled sample", "share in training", "it was not used", "0 % training's"):
            assert said in card

    def test_another_site_than_the_labelled_ones_is_not_kept(
        self, home: Path, away: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cases = draw_site(tmp_path / "cases", 24, seed=3)  # as at home, where the parent is right
        words = ["adapt", str(home), "--to", str(away["scans"]), "--check", str(cases), "--source_size", "0"]
        assert main([*words, "--output_dir", str(tmp_path / "new")]) == 1
        said = capsys.readouterr().err
        assert "not shown to help by a labelled sample" in said and "log-loss after less before" in said
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cases"]

    def test_what_is_labelled_is_not_fitted_to(
        self, home: Path, away: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Two patients of the cases lie among the scans under other names, one only by another file of theirs."""
        site = tmp_path / "scans"
        shutil.copytree(away["scans"].parent, site)
        rows, cases = (list(csv.DictReader(away[name].open())) for name in ("scans", "cases"))
        for number, case in enumerate(cases[:2]):  # the same pictures, and a third that only the patient shares
            shutil.copy(away["cases"].parent / case["path"], site / f"images/copy{number}.png")
            rows.append({"path": f"images/copy{number}.png", "label": "", "patient": "somebody"})
        shutil.copy(site / rows[0]["path"], site / "images/other.png")
        rows.append({"path": "images/other.png", "label": "", "patient": cases[4]["patient"]})
        with open(site / "all.csv", "w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        words = ["adapt", str(home), "--to", str(site / "all.csv"), "--check", str(away["cases"]), "--source_size", "0"]
        assert main([*words, "--output_dir", str(tmp_path / "new")]) == 0
        said = "3 slices were left out: they, or their patients, are among those of --check"
        assert said in capsys.readouterr().out and said in (tmp_path / "new/README.md").read_text()
        assert need_side(tmp_path / "new").provenance.to_json()["site"]["unlabelled"]["n"] == len(rows) - 3
        words[words.index("--to") + 1] = str(away["cases"])
        assert main([*words, "--output_dir", str(tmp_path / "none")]) == 2
        assert "--to: 0 slices of 0 patients can be used" in capsys.readouterr().err

    def test_without_labels_a_proxy_decides_and_nothing_is_promised(
        self, home: Path, away: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sites, "MOST_TRIED", 12)
        words = ["adapt", str(home), "--to", str(away["scans"].parent / "images"), "--patients", str(away["scans"])]
        steady = np.eye(2)[np.arange(12) % 2]
        votes = iter([np.full((12, 2), 0.5), steady, steady, np.full((12, 2), 0.5)])
        monkeypatch.setattr(sites, "vote", lambda *_: next(votes))
        folder = tmp_path / "new"
        assert main([*words, "--use_prior", "--output_dir", str(folder)]) == 0
        side, record = need_side(folder), site_record(folder)
        assert (side.conformal, side.operating_points, side.abstention, side.calibration) == (None, (), None, None)
        assert record["figures"] is None and "steadiness 0.000 before and 0.693 after" in record["judged"]["sentence"]
        assert "**No figures.**" in (folder / "README.md").read_text()
        moved, source = [side_["fc.bias"] for side_ in (load_file(one / "model.safetensors") for one in (folder, home))]
        share = {name: one["value"] for name, one in record["prior"]["target"].items()}
        wanted = [np.log(max(share[name], 1e-4) / record["prior"]["source"][name]) for name in (CLEAR, HAZY)]
        assert moved - source == pytest.approx(wanted, abs=1e-4)
        shutil.rmtree(folder)
        assert main([*words, "--output_dir", str(folder)]) == 1 and not folder.exists()


class TestReaders:
    """Who reads a version of a site as they would its parent."""

    def test_an_exported_file_answers_with_the_new_rules(
        self, home: Path, recalibrated: Path, away: dict[str, Path], tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(recalibrated, tmp_path / "model"))
        few = draw_site(tmp_path / "few", 4, factor=SITE)
        assert main(["export", str(folder), "--onnx", "--corpus", str(few)]) == 0
        slices = [away["cases"].parent / row["path"] for row in list(csv.DictReader(away["cases"].open()))[:4]]
        torch, onnx = (Classifier.from_pretrained(folder, runtime=runtime) for runtime in ("torch", "onnx"))
        answers = [[one.probabilities[HAZY] for one in classifier(slices)] for classifier in (torch, onnx)]
        assert answers[1] == pytest.approx(answers[0], abs=1e-4)
        before = [one.probabilities[HAZY] for one in Classifier.from_pretrained(home)(slices)]
        assert np.abs(np.subtract(answers[1], before)).max() > 1e-3  # its own temperature

    @pytest.mark.parametrize("name", ["recalibrated", "adapted"])
    def test_training_goes_on_from_its_body_and_head(self, name: str, request: pytest.FixtureRequest) -> None:
        folder = request.getfixturevalue(name)
        settled = settle_start({"init": str(folder), "corpus": "phantom"})
        assert settled["image_size"] == 64 and settled["weights"] == settled["init"] == str(folder)
        check_classes(str(folder), [HAZY, CLEAR])
        model = CTXceptionForImageClassification.from_backbone("legacy_xception", [HAZY, CLEAR], 64, seed=1)
        continue_head(model, str(folder))
        head = load_file(folder / "model.safetensors")
        assert np.array_equal(model.head.weight.detach().numpy(), head["fc.weight"][::-1])
        assert np.array_equal(model.head.bias.detach().numpy(), head["fc.bias"][::-1])

    def test_the_page_opens_it_with_its_record(self, adapted: Path) -> None:
        texts = str(build_demo(adapted).get_config_file())
        assert "Kept by a labelled sample of the site" in texts and "share in training" in texts
