"""What an ONNX file says in words, which is what may tell of a patient or a machine."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from ct_xception.errors import CheckpointError, InputError
from ct_xception.formats.onnx import onnx_texts, write_onnx
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.publish.clearance import check_checkpoint
from ct_xception.serving.onnx_whole import check_whole
from ct_xception.serving.runtimes.pytorch import TorchNetwork

onnx = pytest.importorskip("onnx", reason="ONNX files are read with the onnx package (extra export)")


class TestTexts:
    def test_every_text_is_found_and_no_number(self, exported_checkpoint: Path) -> None:
        data = (exported_checkpoint / "onnx/model_int8.onnx").read_bytes()
        proto, texts = onnx.load_from_string(data), set(onnx_texts(data))
        assert {node.name for node in proto.graph.node} | {one.name for one in proto.graph.initializer} <= texts
        assert {entry.value for entry in proto.metadata_props} <= texts
        assert sum(map(len, texts)) < len(data) / 50

    def test_the_network_is_straight(self, exported_checkpoint: Path) -> None:
        """Loops and sequences, which exporters write for strides, are not read by every runtime."""
        proto = onnx.load(exported_checkpoint / "onnx/model.onnx")
        kinds = {node.op_type for node in proto.graph.node}
        assert "Conv" in kinds and not any(kind in ("Loop", "If", "Scan") or "Sequence" in kind for kind in kinds)

    def test_strides_of_no_meaning_leave_no_trace(self, tmp_path: Path) -> None:
        """Weights of one channel are plain and channels last at once, and the exporter believes their strides."""
        model = CTXceptionForImageClassification.from_backbone("legacy_xception", ["a", "b"], 64, seed=7)
        write_onnx(TorchNetwork(model).model, tmp_path / "model.onnx", {})
        check_whole(tmp_path / "model.onnx")
        kinds = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
        assert kinds == {"Conv", "Relu", "Add", "MaxPool", "ReduceMean", "Reshape", "Gemm"}

    def test_a_name_hidden_in_a_file_is_found(self) -> None:
        node = onnx.helper.make_node("Relu", ["x"], ["y"], doc_string="DOE^JOHN")
        info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
        proto = onnx.helper.make_model(onnx.helper.make_graph([node], "g", info[:1], info[1:]))
        with pytest.raises(CheckpointError, match=r"onnx/model.onnx .*tells who a patient is"):
            check_checkpoint({"onnx/model.onnx": proto.SerializeToString()}, phantom=False)

    def test_damage_and_weights_elsewhere_are_refused(self) -> None:
        tensor = onnx.numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
        proto = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor]))
        whole = proto.SerializeToString()
        assert "w" in set(onnx_texts(whole))
        with pytest.raises(ValueError, match="cut off or damaged"):
            list(onnx_texts(whole[:-3]))
        proto.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
        with pytest.raises(ValueError, match="keeps weights in another file"):
            onnx_texts(proto.SerializeToString())

    def test_a_field_that_onnx_does_not_know_is_refused(self) -> None:
        """Such a field is skipped by every reader, so a name could travel in it unseen."""
        hidden = b"DOE^JOHN"
        strange = bytes([(25 << 3 | 2) & 127 | 128, (25 << 3 | 2) >> 7, len(hidden)]) + hidden  # field 25 is functions
        proto = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
        unknown = bytes([(90 << 3 | 2) & 127 | 128, (90 << 3 | 2) >> 7, len(hidden)]) + hidden
        with pytest.raises(ValueError, match="fields that ONNX does not know"):
            onnx_texts(proto.SerializeToString() + unknown)
        with pytest.raises(ValueError, match="damaged|does not know"):
            onnx_texts(proto.SerializeToString() + strange)

    def test_without_the_package_it_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "onnx", None)
        with pytest.raises(InputError, match=r"a folder with ONNX files: needs onnx.*ct-xception\[export\]"):
            check_checkpoint({"onnx/model.onnx": b"\x08\x0a"}, phantom=False)
