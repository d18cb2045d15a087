"""Exported files beside torch: the same outputs, the same table, and nothing of torch in the process."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from ct_xception.checkpoint import EXPORT, evaluated
from ct_xception.checkpoint_files import Side, need_side, write_side
from ct_xception.cli import main
from ct_xception.errors import CheckpointError, InputError
from ct_xception.files import read_json, sha256_file, write_json
from ct_xception.serving.classifier import Classifier, softmax
from ct_xception.serving.fastest import fastest_runtime
from ct_xception.serving.network import Description, Outputs
from ct_xception.serving.runtimes import EXPORTED, RUNTIMES, find_runtime
from ct_xception.serving.runtimes.onnx import OnnxNetwork
from ct_xception.serving.runtimes.pytorch import TorchNetwork
from tests.closeness import ROUNDING, assert_near
from tests.sealed import copy_checkpoint

FLOAT32 = [name for name, runtime in EXPORTED.items() if not runtime.approximate]


@pytest.fixture(scope="module")
def torch_network(exported_checkpoint: Path) -> TorchNetwork:
    network = Classifier.from_pretrained(exported_checkpoint).network
    assert isinstance(network, TorchNetwork)
    return network


@pytest.fixture
def copy_of(exported_checkpoint: Path, tmp_path: Path) -> Path:
    return copy_checkpoint(exported_checkpoint, tmp_path / "copy")


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3, 64, 64)).astype(np.float32)


class TestOutputs:
    def test_torch_gives_the_models_own_logits_pooled_features_and_maps(self, torch_network: TorchNetwork) -> None:
        model, values = torch_network.model, noise(3)
        found = torch_network(values)
        with torch.inference_mode():
            pixels = torch.from_numpy(values)
            maps = model.features(pixels)
            wanted = model(pixel_values=pixels).logits.numpy()
            cam = model.class_activation_map(maps, torch.tensor([1, 1, 1])).numpy()
        assert_near(found.logits, wanted)
        assert_near(found.features, maps.mean((2, 3)))
        assert_near(found.cam[:, 1], cam)
        assert found.cam.shape == (3, 4, 2, 2) and all(part.dtype == np.float32 for part in found)

    @pytest.mark.parametrize("runtime", FLOAT32)
    @pytest.mark.parametrize("count", [1, 3])
    def test_float32_files_give_what_torch_gives(
        self, torch_network: TorchNetwork, exported_checkpoint: Path, runtime: str, count: int
    ) -> None:
        network = EXPORTED[runtime].load(exported_checkpoint / EXPORTED[runtime].files[0], 1)
        values = noise(count, seed=count)
        for ours, theirs in zip(network(values), torch_network(values), strict=True):
            assert ours.shape == theirs.shape and ours.dtype == np.float32
            assert_near(ours, theirs)
            assert np.abs(theirs).max() > 0.1  # so that a file of zeros would be seen

    @pytest.mark.parametrize("runtime", ["torch", *EXPORTED])
    def test_the_maps_average_to_the_logits(
        self, torch_network: TorchNetwork, exported_checkpoint: Path, runtime: str
    ) -> None:
        """In int8, too: map and logits come of the same features, and the head is float32."""
        network = Classifier.from_pretrained(exported_checkpoint, runtime, threads=1).network
        found = network(noise(2))
        bias = torch_network.model.head.bias.detach().numpy()
        assert_near(found.cam.mean((2, 3)) + bias, found.logits)

    def test_an_item_of_a_batch(self) -> None:
        outputs = Outputs(np.arange(6.0).reshape(2, 3), np.zeros((2, 5)), np.ones((2, 3, 1, 1)))
        first, *others = outputs.item(1)
        assert first.tolist() == [3, 4, 5] and [part.shape for part in others] == [(5,), (3, 1, 1)]

    def test_softmax_by_hand(self) -> None:
        np.testing.assert_allclose(softmax(np.log([[1.0, 3.0], [2.0, 2.0]])), [[0.25, 0.75], [0.5, 0.5]])
        assert softmax(np.array([1e4, 0], np.float32)).tolist() == [1, 0]


class TestClassifier:
    @pytest.mark.parametrize("runtime", FLOAT32)
    def test_predict_prints_the_same_table(
        self, exported_checkpoint: Path, sample_slices: list[Path], runtime: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def answers(runtime: str) -> list[dict]:
            command = ["predict", *map(str, sample_slices), "--model", str(exported_checkpoint), "--json"]
            assert main([*command, "--runtime", runtime]) == 0
            return json.loads(capsys.readouterr().out)

        for ours, theirs in zip(answers(runtime), answers("torch"), strict=True):
            assert list(ours["probabilities"]) == list(theirs["probabilities"])  # the same ranks
            for name, value in theirs.pop("probabilities").items():
                assert ours["probabilities"][name] == pytest.approx(value, abs=ROUNDING)
            del ours["probabilities"]
            assert ours == theirs

    def test_predict_asks_the_quickest_that_gave_the_networks_logits(
        self, copy_of: Path, tiny_checkpoint: Path, sample_slices: list[Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        record = read_json(copy_of / evaluated(EXPORT))
        assert all(one["milliseconds"] > 0 for one in record["files"].values())
        for quickest in FLOAT32:
            times = {name: 1 if name == quickest else 0.1 if name == "onnx-int8" else 2 for name in record["files"]}
            for name, milliseconds in times.items():
                record["files"][name]["milliseconds"] = milliseconds
            write_json(copy_of / evaluated(EXPORT), record)
            assert fastest_runtime(copy_of) == quickest
        assert main(["predict", str(sample_slices[0]), "--model", str(copy_of)]) == 0
        assert f"runtime: {EXPORTED[FLOAT32[-1]].title}" in capsys.readouterr().err
        assert fastest_runtime(tiny_checkpoint) == "torch" == fastest_runtime("nobody/nothing") == fastest_runtime("-")

    @pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}', '{"format": 1, "files": {"onnx": 3}}', "null"])
    def test_what_is_no_record_of_exports_leaves_torch(self, copy_of: Path, text: str) -> None:
        (copy_of / evaluated(EXPORT)).write_text(text)
        assert fastest_runtime(copy_of) == "torch"

    def test_a_file_that_the_checkpoint_was_not_sealed_with_is_passed_over(self, copy_of: Path) -> None:
        side = need_side(copy_of)
        write_side(copy_of, side.with_(manifest={k: v for k, v in side.manifest.items() if "onnx" not in k}))
        assert fastest_runtime(copy_of) == "openvino"

    def test_a_runtime_that_is_not_installed_is_passed_over(
        self, exported_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for runtime in EXPORTED.values():
            monkeypatch.setattr(type(runtime), "package", "not_installed_here")
        assert fastest_runtime(exported_checkpoint) == "torch"

    @pytest.mark.parametrize("runtime", EXPORTED)
    def test_torch_is_never_imported(self, exported_checkpoint: Path, sample_slices: list[Path], runtime: str) -> None:
        code = (
            "import sys\n"
            "from ct_xception.cli import main\n"
            f"code = main(['predict', {str(sample_slices[0])!r}, '--model', {str(exported_checkpoint)!r},"
            f" '--runtime', {runtime!r}])\n"
            "heavy = {'torch', 'torchvision', 'timm', 'transformers', 'onnx', 'pandas', 'datasets', 'sklearn'}\n"
            "print(code, sorted(heavy & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "0 []"

    @pytest.mark.parametrize("runtime", EXPORTED)
    def test_threads_get_their_own_answers(self, exported_checkpoint: Path, runtime: str) -> None:
        network = Classifier.from_pretrained(exported_checkpoint, runtime, threads=1).network
        batches = [noise(1, seed) for seed in range(12)]
        alone = [network(batch).logits for batch in batches]
        with ThreadPoolExecutor(4) as pool:
            together = [found.logits for found in pool.map(network, batches)]
        assert_near(together, alone)
        assert np.ptp(np.concatenate(alone), axis=0).min() > 1e-3  # the batches differ

    def test_a_prediction_carries_the_outputs(self, exported_checkpoint: Path, sample_slices: list[Path]) -> None:
        found = Classifier.from_pretrained(exported_checkpoint, "onnx")(sample_slices)[3]
        assert found.outputs is not None and found.outputs.features.shape == (2048,)
        assert found.outputs.cam.shape == (4, 2, 2)
        wanted = softmax(found.outputs.logits)
        assert max(found.probabilities.values()) == pytest.approx(wanted.max(), abs=1e-12)

    def test_attribution_needs_the_torch_model(self, exported_checkpoint: Path) -> None:
        classifier = Classifier.from_pretrained(exported_checkpoint, "onnx")
        with pytest.raises(InputError, match="runtime onnx: holds no torch network"):
            _ = classifier.model

    def test_a_file_alone_answers(self, exported_checkpoint: Path, tmp_path: Path, sample_slices: list[Path]) -> None:
        """What an ONNX file says of itself is enough: classes and preprocessing."""
        alone = Classifier(OnnxNetwork(shutil.copy(exported_checkpoint / "onnx/model.onnx", tmp_path)))
        whole = Classifier.from_pretrained(exported_checkpoint, "onnx")
        assert alone(sample_slices[0]).probabilities == whole(sample_slices[0]).probabilities


class TestRefusals:
    def test_unknown_runtime_and_device(self, exported_checkpoint: Path) -> None:
        with pytest.raises(InputError, match="'tensorrt' is unknown; choose from torch, onnx, onnx-int8, openvino"):
            Classifier.from_pretrained(exported_checkpoint, "tensorrt")
        with pytest.raises(InputError, match="device cuda: runtime onnx answers on the CPU"):
            Classifier.from_pretrained(exported_checkpoint, "onnx", device="cuda")
        with pytest.raises(InputError, match="device gpu: cannot be used here .*; use cpu"):
            Classifier.from_pretrained(exported_checkpoint, device="gpu")

    @pytest.mark.parametrize("runtime", EXPORTED)
    def test_a_checkpoint_without_exports(self, tiny_checkpoint: Path, runtime: str) -> None:
        with pytest.raises(CheckpointError, match=r"is missing; write it with `ct-xception export`"):
            Classifier.from_pretrained(tiny_checkpoint, runtime)

    @pytest.mark.parametrize(("runtime", "file"), [(name, file) for name in EXPORTED for file in EXPORTED[name].files])
    def test_a_damaged_file(self, copy_of: Path, runtime: str, file: str) -> None:
        data = bytearray((copy_of / file).read_bytes())
        data[len(data) // 2] ^= 1
        (copy_of / file).unlink()
        (copy_of / file).write_bytes(bytes(data))
        with pytest.raises(CheckpointError, match=f"{file} differs from the SHA-256 in ct_xception.json"):
            Classifier.from_pretrained(copy_of, runtime)

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            (lambda side, config: side["manifest"].update({"model.safetensors": "0" * 64}), "weights"),
            (lambda side, config: side["input"].update(body_crop=False), "preprocessing"),
            (lambda side, config: side["input"].update(filters=["median"]), "preprocessing"),
            (lambda side, config: config["pretrained_cfg"].update(mean=[0.4] * 3), "preprocessing"),
            (lambda side, config: config["label_names"].reverse(), "classes"),
        ],
    )
    @pytest.mark.parametrize("runtime", ["onnx", "openvino"])
    def test_an_export_of_another_checkpoint(self, copy_of: Path, runtime: str, change, what: str) -> None:
        side, config = read_json(copy_of / "ct_xception.json"), read_json(copy_of / "config.json")
        change(side, config)
        write_json(copy_of / "config.json", config)
        side["manifest"]["config.json"] = sha256_file(copy_of / "config.json")
        write_side(copy_of, Side.of(side))
        with pytest.raises(CheckpointError, match=f"was exported with other {what} than the checkpoint has now"):
            Classifier.from_pretrained(copy_of, runtime)

    @pytest.mark.parametrize(("runtime", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
    def test_a_missing_package_gives_one_sentence(
        self, exported_checkpoint: Path, sample_slices: list[Path], runtime: str, package: str,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        monkeypatch.setitem(sys.modules, package, None)
        command = ["predict", str(sample_slices[0]), "--model", str(exported_checkpoint), "--runtime", runtime]
        assert main(command) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"ct-xception: runtime {runtime}: needs {package}, which is not installed; pip install")

    def test_files_that_are_none_of_ours(self, tmp_path: Path, exported_checkpoint: Path) -> None:
        (tmp_path / "bad.onnx").write_bytes(b"no model")
        with pytest.raises(CheckpointError, match=r"bad.onnx: cannot be loaded \(.*\); export it again"):
            OnnxNetwork(tmp_path / "bad.onnx")
        with pytest.raises(CheckpointError, match="does not say what network it holds .KeyError"):
            Description.read({"label_names": "[]"}, "bare.onnx")


class TestRegistry:
    def test_torch_is_first_and_every_file_of_the_folder_is_offered(self) -> None:
        assert next(iter(RUNTIMES)) == "torch" and {"onnx", "onnx-int8", "openvino"} <= set(EXPORTED)
        assert all(find_runtime(name).files and find_runtime(name).title for name in RUNTIMES)

    def test_every_exported_runtime_has_its_writer_and_its_option(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["export", "--help"]) == 0
        said = capsys.readouterr().out
        for name, runtime in EXPORTED.items():
            assert callable(importlib.import_module(f"ct_xception.formats.{name.replace('-', '_')}").write)
            assert f"--{runtime.flag} " in said and runtime.files[0] in said

    def test_listing_them_loads_none_of_them(self) -> None:
        heavy = ["torch", "onnx", "onnxruntime", "openvino", "transformers", "numpy"]
        code = f"import ct_xception.serving.runtimes, sys; print(sorted(set({heavy}) & set(sys.modules)))"
        assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
