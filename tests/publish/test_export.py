"""Exported files: what they hold, that only what answers as the network does is kept, and that the card cannot lie."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import numpy as np
import onnx
import pandas
import pytest
from onnx import numpy_helper
from PIL import Image

from ct_xception.checkpoint_files import seal
from ct_xception.cli import main
from ct_xception.corpus.load import CorpusOptions
from ct_xception.corpus.split import PSEUDO_PATIENTS
from ct_xception.errors import CheckpointError, InputError, SliceError
from ct_xception.files import read_json, sha256_file, write_json
from ct_xception.formats import onnx_int8
from ct_xception.formats.onnx import onnx_texts
from ct_xception.imaging.windows import Window
from ct_xception.metrics import ABSENT, AgreementMetrics, Loss
from ct_xception.publish import export, export_slices
from ct_xception.publish.card.card import render_card
from ct_xception.publish.clearance import list_files
from ct_xception.publish.export import export_checkpoint, int8_verdict
from ct_xception.publish.export_slices import ExportSlices, find_slices
from ct_xception.publish.recount import Recount
from ct_xception.publish.release import release_checkpoint
from ct_xception.publish.verify import EXPORT, INT8, INT8_ANSWERS, exported_names, int8_figures
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.network import Outputs
from ct_xception.serving.runtimes import EXPORTED
from tests.closeness import ROUNDING
from tests.metrics import metric
from tests.publish.conftest import Folder, edit_json
from tests.sealed import copy_checkpoint

ROOT = Path(__file__).resolve().parents[2]
LABEL_NAMES = ["adenocarcinoma", "large cell carcinoma", "normal", "squamous cell carcinoma"]


@pytest.fixture
def copy_of(exported_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the exported checkpoint, to be changed."""
    return copy_checkpoint(exported_checkpoint, tmp_path / "copy")


@pytest.fixture
def rewrite(exported_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let exports write the files that there are already instead of making them, after `change` has its way."""

    def use(change: Callable[[onnx.ModelProto], object] | None = None) -> None:
        def write(model: object, path: Path, description: object) -> None:
            proto = onnx.load(exported_checkpoint / "onnx/model.onnx")
            if change is not None:
                change(proto)
            onnx.save(proto, path)

        def quantise(source: Path, path: Path, batches: Iterable[np.ndarray], description: object) -> None:
            for _ in batches:  # as the quantiser would look at them
                pass
            shutil.copy(exported_checkpoint / "onnx/model_int8.onnx", path)

        monkeypatch.setattr(export, "write_onnx", write)
        monkeypatch.setattr(onnx_int8, "quantise_onnx", quantise)

    return use


class TestFiles:
    @pytest.mark.parametrize("runtime", ["onnx", INT8])
    def test_names_batch_and_metadata(self, exported_checkpoint: Path, runtime: str) -> None:
        proto = onnx.load(exported_checkpoint / EXPORTED[runtime].files[0])
        (given,) = proto.graph.input
        assert given.name == "pixel_values"
        assert [one.name for one in proto.graph.output] == ["logits", "features", "cam"]
        for one in (given, *proto.graph.output):
            assert one.type.tensor_type.shape.dim[0].dim_param, f"{one.name} has a fixed batch"
        stated = {entry.key: entry.value for entry in proto.metadata_props}
        assert set(stated) == {"preprocessing", "label_names", "weights_sha256", "source"}
        assert json.loads(stated["label_names"]) == LABEL_NAMES
        assert json.loads(stated["preprocessing"]) == {
            "size": 64, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "crop_pct": 1.0,
            "crop_mode": "squash", "body_crop": True, "filters": [],
        }  # fmt: skip
        assert stated["weights_sha256"] == sha256_file(exported_checkpoint / "model.safetensors")
        onnx.checker.check_model(proto)

    def test_they_say_nothing_of_the_machine_that_wrote_them(self, exported_checkpoint: Path) -> None:
        for runtime in ("onnx", INT8):
            texts = "\n".join(onnx_texts((exported_checkpoint / EXPORTED[runtime].files[0]).read_bytes()))
            assert not re.search(r"\.py\b|[/\\]\w", texts)
        assert str(ROOT) not in (exported_checkpoint / "openvino/model.xml").read_text(encoding="utf-8")

    def test_int8_has_a_scale_a_channel_and_leaves_the_head_alone(self, exported_checkpoint: Path) -> None:
        proto = onnx.load(exported_checkpoint / "onnx/model_int8.onnx")
        arrays = {one.name: numpy_helper.to_array(one) for one in proto.graph.initializer}
        makers = {output: node for node in proto.graph.node for output in node.output}
        convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
        scales = 0
        for node in convolutions:
            unpacked = makers.get(node.input[1])
            if unpacked is None:
                assert node.output[0] == "cam", f"{node.name} is not int8"
                continue
            weights, scale = arrays[unpacked.input[0]], arrays[unpacked.input[1]]
            assert weights.dtype == np.int8 and scale.shape == (len(weights),)
            assert np.abs(weights.astype(int)).max() <= 64  # 7 bits: no CPU's 16-bit sums overflow
            scales += 1
        assert scales == 74 and len(convolutions) == 75
        size = (exported_checkpoint / "onnx/model_int8.onnx").stat().st_size
        assert size <= 24e6 < (exported_checkpoint / "onnx/model.onnx").stat().st_size

    def test_the_folder_is_sealed_and_can_be_released(self, exported_checkpoint: Path) -> None:
        released = release_checkpoint(exported_checkpoint, "someone/ct")
        names = {name for runtime in EXPORTED.values() for name in runtime.files}
        assert names | {EXPORT, INT8_ANSWERS} <= set(released)
        card = bytes(released["README.md"]).decode()
        assert "## Other runtimes" in card and "| `onnx/model_int8.onnx` | ONNX, int8 | 21." in card
        manifest = json.loads(bytes(released["ct_xception.json"]))["manifest"]
        assert manifest["onnx/model.onnx"] == sha256_file(exported_checkpoint / "onnx/model.onnx")


class TestRecord:
    def test_float32_files_give_the_logits(self, exported_checkpoint: Path) -> None:
        record = read_json(exported_checkpoint / EXPORT)
        for runtime in ("onnx", "openvino"):
            apart = record["files"][runtime]["difference"]
            assert apart["n"] == 48 and apart["slices"] == "test, validation and training slices"
            assert 0 < apart["largest"]["logits"] <= 1e-4 and apart["largest"]["cam"] < 1e-3

    def test_int8_is_measured_on_test_slices_and_calibrated_on_training_slices(self, exported_checkpoint: Path) -> None:
        found = read_json(exported_checkpoint / EXPORT)["files"][INT8]
        side = read_json(exported_checkpoint / "ct_xception.json")
        counts = side["provenance"]["split"]["counts"]
        assert found["figures"]["n"] == counts["test"]
        assert found["calibration"] == {"n": counts["train"], "split": "train"}
        table = pandas.read_parquet(exported_checkpoint / INT8_ANSWERS)
        own = pandas.read_parquet(exported_checkpoint / "evaluation/predictions.parquet").set_index("source")
        assert set(table["source"]) == set(own.index)
        for name in LABEL_NAMES:
            wanted = own.loc[table["source"], f"p {name}"].to_numpy()
            np.testing.assert_allclose(table[f"reference p {name}"], wanted, rtol=0, atol=ROUNDING)

    def test_int8_figures_by_hand(self) -> None:
        right, other = [0.6, 0.4], [0.4, 0.6]
        reference, own = [right, right, other, other], [right, other, other, right]
        table = pandas.DataFrame(
            {"source": list("abcd"), "group": list("abcd"), "label": ["x", "x", "y", "x"]}
            | {f"{prefix}p {name}": [row[k] for row in rows] for prefix, rows in (("", own), ("reference ", reference))
               for k, name in enumerate("xy")}
        )  # fmt: skip
        figures = int8_figures(table, ["x", "y"])
        assert figures.agreement.value == 0.5 and figures.largest_difference == pytest.approx(0.2)
        assert figures.accuracy.reference.value == 0.75  # the last of x is missed
        assert figures.accuracy.approximation.value == 0.75  # the second of x is missed
        assert figures.accuracy.loss.value == 0

    @pytest.mark.parametrize(
        ("agreement", "accuracy", "auroc", "missed", "unsure"),
        [
            ((0.995, 0.991, 0.999), (0.0, -0.01, 0.004), (0.0, -0.01, 0.004), 0, 0),
            ((0.99, 0.99, 0.99), (0.005, 0.005, 0.005), (0.005, 0.005, 0.005), 0, 0),  # on the bar
            ((0.985, 0.979, 0.9899), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1, 0),  # many slices, surely below
            ((1.0, 0.92, 1.0), (0.0, -0.02, 0.02), (0.0, 0.0, 0.0), 0, 2),  # 45 slices, all alike
            ((0.9875, 0.93, 0.998), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0, 1),  # 79 of 80: may be 99 %
            ((0.9375, 0.86, 0.973), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1, 0),  # 75 of 80 cannot be
            ((1.0, 1.0, 1.0), (0.02, 0.0051, 0.04), (0.0051, None, None), 2, 0),
            ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (None, None, None), 0, 0),
        ],
    )
    def test_bars_are_judged_by_interval(
        self, agreement: tuple, accuracy: tuple, auroc: tuple, missed: int, unsure: int
    ) -> None:
        losses = [Loss(reference=ABSENT, approximation=ABSENT, loss=metric(*ends)) for ends in (accuracy, auroc)]
        figures = AgreementMetrics(
            n=300,
            n_groups=300,
            agreement=metric(*agreement),
            accuracy=losses[0],
            macro_auroc=losses[1],
            largest_difference=0.0,
        )
        assert tuple(map(len, int8_verdict(figures))) == (missed, unsure)


class TestKeepingOut:
    def test_an_int8_file_that_decides_otherwise(
        self,
        copy_of: Path,
        tiny_corpus: Path,
        rewrite: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        rewrite()
        monkeypatch.setattr(export, "LEAST_AGREEMENT", 1.01)
        monkeypatch.setattr(export, "MOST_LOST", dict.fromkeys(export.MOST_LOST, 1.0))
        assert main(["export", str(copy_of), "--int8", "--corpus", str(tiny_corpus)]) == 1
        assert "not kept: it puts the same class first" in capsys.readouterr().out
        assert not (copy_of / "onnx/model_int8.onnx").exists() and (copy_of / "onnx/model.onnx").exists()
        record = read_json(copy_of / EXPORT)
        assert (
            set(record["files"]) == {"onnx", "openvino"}
            and "and 101 % is the least" in (record["kept_out"][INT8]["reason"])
        )
        card = bytes(release_checkpoint(copy_of, "someone/ct")["README.md"]).decode()
        assert "**ONNX, int8 was not kept**" in card and "--runtime onnx-int8" not in card

    def test_a_float32_file_with_other_logits(self, copy_of: Path, tiny_corpus: Path, rewrite) -> None:
        def shift(proto: onnx.ModelProto) -> None:
            _replace_head(proto, lambda weights: weights * np.float32(1.001))

        rewrite(shift)
        record = export_checkpoint(copy_of, ["onnx"], corpus=str(tiny_corpus), progress=False)
        assert re.search(r"by up to [\d.e-]+ on 48 slices", record.kept_out["onnx"].reason)
        assert not (copy_of / "onnx/model.onnx").exists() and (copy_of / "onnx/model_int8.onnx").exists()

    @pytest.mark.parametrize(("scale", "apart"), [(1e-3, 1e-5), (1.0, 1e-2), (1e5, 1e3)])
    def test_what_is_near_goes_by_the_logits_size(self, scale: float, apart: float) -> None:
        wanted = Outputs(*(np.full((2, 3), 10 * scale, np.float32) for _ in range(3)))
        slices = cast(ExportSlices, SimpleNamespace(title="test slices"))
        for factor, kept in ((1e-3, True), (1.0, False)):
            measured = export._Measured([0, 1])
            measured.add("torch", wanted, wanted)
            measured.add("onnx", Outputs(*(part + np.float32(factor * apart) for part in wanted)), wanted)
            judged = export._judge("onnx", measured, slices, None)
            assert (judged.reason is None) == kept
            assert judged.difference.tolerance == pytest.approx(1e-3 * scale)

    def test_a_float32_file_that_gives_no_numbers(self, copy_of: Path, tiny_corpus: Path, rewrite) -> None:
        rewrite(lambda proto: _replace_head(proto, lambda weights: np.full_like(weights, np.nan)))
        record = export_checkpoint(copy_of, ["onnx"], corpus=str(tiny_corpus), progress=False)
        assert record.kept_out["onnx"].difference.largest["logits"] is None


def _replace_head(proto: onnx.ModelProto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    (weights,) = (one for one in proto.graph.initializer if one.name.endswith("fc.weight"))
    weights.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weights)), weights.name))


class TestRefusals:
    def test_int8_needs_the_corpus_of_training(self, copy_of: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="int8: is calibrated on the slices of training; name the corpus"):
            export_checkpoint(copy_of, [INT8])
        from ct_xception.phantom.corpus import generate_phantom

        other = generate_phantom(tmp_path / "other", patients=24, slices_per_patient=2, size=64, seed=3)
        with pytest.raises(InputError, match="is not the corpus that the checkpoint was trained on"):
            export_checkpoint(copy_of, [INT8], corpus=str(other))

    def test_a_folder_that_is_not_as_it_was_sealed(self, copy_of: Path) -> None:
        (copy_of / "evaluation/metrics.json").write_text("{}")
        with pytest.raises(CheckpointError, match=r"evaluation/metrics.json differs from the SHA-256"):
            export_checkpoint(copy_of, ["onnx"])
        with pytest.raises(CheckpointError, match="is no folder; fetch a Hub checkpoint"):
            export_checkpoint("someone/ct", ["onnx"])

    def test_figures_that_no_card_would_take_are_refused_before_anything_is_made(
        self, copy_of: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in exported_names(list_files(copy_of)):
            (copy_of / name).unlink()
        seal(copy_of)
        before = sorted(copy_of.rglob("*"))
        monkeypatch.setattr(Recount, "check", refuse := Mock(side_effect=CheckpointError("no such figure")))
        with pytest.raises(CheckpointError, match="no such figure"):
            export_checkpoint(copy_of, ["onnx"])
        assert refuse.called and sorted(copy_of.rglob("*")) == before

    def test_a_missing_package(
        self, copy_of: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = {path: path.stat().st_mtime_ns for path in copy_of.rglob("*")}
        monkeypatch.setitem(sys.modules, "onnxscript", None)
        assert main(["export", str(copy_of), "--corpus", str(tiny_corpus)]) == 2
        said = capsys.readouterr().err
        assert "export: needs onnxscript, which is not installed; pip install 'ct-xception[export]'." in said
        assert before == {path: path.stat().st_mtime_ns for path in copy_of.rglob("*")}

    def test_an_export_that_was_cut_off_is_made_again(self, copy_of: Path, tiny_corpus: Path, rewrite) -> None:
        rewrite()
        (copy_of / "onnx/model.onnx").unlink()
        (copy_of / "onnx/model.onnx").write_bytes(b"\x08")
        (copy_of / "README.md").write_text("half")
        edit_json(copy_of / EXPORT, lambda record: record["files"].pop("openvino"))
        export_checkpoint(copy_of, ["onnx"], corpus=str(tiny_corpus), progress=False)
        assert not (copy_of / "openvino/model.xml").exists()  # nobody's record knew it
        assert "onnx/model.onnx" in release_checkpoint(copy_of, "someone/ct")


class TestReading:
    """Slices are read with the window and the frame that were asked for, as training read them."""

    @pytest.fixture
    def paged(self, tiny_corpus: Path, tmp_path: Path) -> Path:
        """The tiny corpus with two pages in every file, of which the second is the slice."""
        folder = Path(shutil.copytree(tiny_corpus, tmp_path / "paged"))
        for path in set(folder.rglob("*.png")) - set(
            folder.glob("masks/**/*.png")
        ):  # what a file is, its first bytes say
            with Image.open(path) as picture:
                slice_ = picture.convert("L")
            Image.new("L", slice_.size).save(path, "TIFF", save_all=True, append_images=[slice_])
        return folder

    def test_pages_of_a_file(
        self, copy_of: Path, paged: Path, rewrite: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rewrite()
        monkeypatch.setattr(export, "LEAST_AGREEMENT", 0.0)
        monkeypatch.setattr(export, "MOST_LOST", dict.fromkeys(export.MOST_LOST, 1.0))
        edit_json(
            copy_of / "ct_xception.json",
            lambda side: side["provenance"]["corpus"].pop("hash") and side.update(manifest={}),
        )
        seal(copy_of)  # of the same slices, in other files
        assert main(["export", str(copy_of), "--onnx", "--int8", "--corpus", str(paged), "--frame", "1"]) == 0
        record = read_json(copy_of / EXPORT)["files"]
        assert record["onnx"]["difference"]["n"] == 48
        # The card that the export wrote holds the answers against the evaluation of the tiny corpus itself.
        assert record[INT8]["figures"]["n"] == len(pandas.read_parquet(copy_of / INT8_ANSWERS))

    def test_a_window_for_deep_pictures(
        self, copy_of: Path, sample_slices: list[Path], rewrite: Callable[..., None], tmp_path: Path
    ) -> None:
        rewrite()
        for number, path in enumerate(sample_slices):
            folder = tmp_path / "deep" / ("normal" if number % 2 else "tumour")
            folder.mkdir(parents=True, exist_ok=True)
            with Image.open(path) as picture:
                deep = np.asarray(picture.convert("L")).astype(np.uint16) + 1000  # 12 bits stored in 16
            Image.fromarray(deep).save(folder / f"{number}.png")
        words = ["--onnx", "--corpus", str(tmp_path / "deep"), "--window", "1128/256"]
        assert main(["export", str(copy_of), *words]) == 0
        assert read_json(copy_of / EXPORT)["files"]["onnx"]["difference"]["n"] == len(sample_slices)

    def test_pseudo_patients_are_those_of_the_same_slices(
        self, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: dict[str, Any] = {}

        def audit(corpus: object, **options: Any) -> Any:
            asked.update(options)
            raise InputError("that is enough")

        monkeypatch.setattr("ct_xception.publish.export_slices.audit_corpus", audit)
        trained = {"split": {"name": "another", "groups_origin": PSEUDO_PATIENTS}}
        options = CorpusOptions(window=Window(40, 400), frame=0)
        with pytest.raises(InputError, match="that is enough"):
            find_slices(trained, LABEL_NAMES, str(tiny_corpus), options, calibrate=True)
        assert (asked["window"], asked["frame"]) == (Window(40, 400), 0)

    def test_nothing_to_calibrate_on(
        self, copy_of: Path, tiny_corpus: Path, rewrite: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise SliceError("slice", "gone", "bring it back")

        rewrite()
        monkeypatch.setattr(Classifier, "read", refuse)
        with pytest.raises(CheckpointError, match="none of the training slices that int8 is calibrated on could be"):
            export_checkpoint(copy_of, [INT8], corpus=str(tiny_corpus), progress=False)


class TestSlices:
    def test_the_phantom_will_do_for_logits(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("CT_XCEPTION_CACHE", str(tmp_path))
        monkeypatch.setattr(export_slices, "PHANTOM", "phantom:patients=24,slices=1,size=64")
        found = find_slices({"corpus": {"kind": "folder", "hash": "c0ffee"}}, ["a", "b"], None, CorpusOptions(),
                            calibrate=False)  # fmt: skip
        assert len(found.checked) == 24 and found.calibration is None and found.tested == 0

    def test_a_phantom_checkpoint_finds_its_own(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("CT_XCEPTION_CACHE", str(tmp_path))
        trained = {"corpus": {"kind": "phantom", "source": "phantom:patients=24,slices=2,size=64"}}
        found = find_slices(trained, LABEL_NAMES, None, CorpusOptions(), calibrate=True)
        assert found.calibration is not None and not found.anonymous
        tested = found.checked.select(range(found.tested))
        assert found.tested > 0 and not set(tested["source"]) & set(found.calibration["source"])


class TestCardLock:
    """A folder of made-up answers with an export: what does not belong together gives no card."""

    @pytest.fixture
    def folder(self, full_folder: Folder) -> Path:
        folder = full_folder.write()
        (folder / "onnx").mkdir()
        (folder / "onnx/model_int8.onnx").write_bytes(b"\x08\x0a")
        own = full_folder.rows("published")
        table = own[["source", "group", "label"]].copy()
        for name in full_folder.names:
            table[f"reference p {name}"] = table[f"p {name}"] = own[f"p {name}"]
        table.to_parquet(folder / INT8_ANSWERS, index=False)
        found = {
            "sha256": {"onnx/model_int8.onnx": sha256_file(folder / "onnx/model_int8.onnx")},
            "bytes": 21_500_000,
            "figures": int8_figures(table, full_folder.names).to_json(),
            "calibration": {"n": 256, "split": "train"},
        }
        weights = full_folder.metrics["weights_sha256"]
        write_json(folder / EXPORT, {"format": 1, "weights_sha256": weights, "files": {INT8: found}, "kept_out": {}})
        return folder

    def test_a_whole_one_is_in_the_card(self, folder: Path) -> None:
        card = render_card(folder)
        assert "| `onnx/model_int8.onnx` | ONNX, int8 | 21.5 MB | 100.0 % (" in card
        assert "calibrated on 256 training slices" in card and "--runtime onnx-int8" in card

    def test_what_too_few_slices_cannot_tell_is_said(self, folder: Path) -> None:
        unsure = "40 slices are too few to tell: it loses 0.0000 of accuracy, and 0.005 is the most"
        edit_json(folder / EXPORT, lambda record: record["files"][INT8].update(unsure=unsure))
        assert f"**Whether ONNX, int8 is within its bars is not known**: {unsure}." in render_card(folder)

    @pytest.mark.parametrize(
        ("tamper", "found"),
        [
            (lambda f: (f / "onnx/model_int8.onnx").write_bytes(b"\x08\x0b"), "is not the file that was measured"),
            (lambda f: (f / "onnx/model.onnx").write_bytes(b"\x08\x0a"), "onnx/model.onnx is in the folder or in"),
            (lambda f: (f / "onnx/model_int8.onnx").unlink(), "but not in both"),
            (lambda f: (f / EXPORT).unlink(), "onnx/model_int8.onnx has no figures"),
            (lambda f: (f / INT8_ANSWERS).unlink(), "predictions_int8.parquet is missing"),
            (lambda f: edit_json(f / EXPORT, lambda r: r.update(weights_sha256="0" * 64)), "speaks of other weights"),
            (lambda f: edit_json(f / EXPORT, _better), "figures in evaluation/export.json are not those of"),
            (lambda f: _edit_answers(f, lambda t: t.drop(index=0)), "are not those of"),
            (lambda f: _edit_both(f, lambda t: t.drop(index=0)), "is not of the images that the card's figures"),
            (lambda f: _edit_both(f, _flatter), "the answers of the network in .* are not those of its own"),
            (lambda f: _edit_both(f, lambda t: t.assign(group=t["source"])), "are not those of its own evaluation"),
        ],
    )
    def test_tampering_is_refused(self, folder: Path, tamper: Callable[[Path], Any], found: str) -> None:
        tamper(folder)
        with pytest.raises(CheckpointError, match=found):
            render_card(folder)


def _better(record: dict[str, Any]) -> None:
    record["files"][INT8]["figures"]["accuracy"]["approximation"]["value"] += 0.01


def _flatter(table: pandas.DataFrame) -> pandas.DataFrame:
    """The reference's answers made worse, so that int8 seems to gain."""
    worse = table.copy()
    columns = [name for name in worse if str(name).startswith("reference p ")]
    worse.loc[0, columns] = worse.loc[0, columns].to_numpy(float)[::-1].copy()
    return worse


def _edit_answers(folder: Path, change: Callable[[pandas.DataFrame], pandas.DataFrame]) -> pandas.DataFrame:
    table = change(pandas.read_parquet(folder / INT8_ANSWERS))
    table.to_parquet(folder / INT8_ANSWERS, index=False)
    return table


def _edit_both(folder: Path, change: Callable[[pandas.DataFrame], pandas.DataFrame]) -> None:
    """Change the answers, and the figures with them."""
    figures = int8_figures(_edit_answers(folder, change), LABEL_NAMES).to_json()
    edit_json(folder / EXPORT, lambda record: record["files"][INT8].update(figures=figures))
