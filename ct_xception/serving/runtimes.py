"""What runs the network: torch, or one of the files that `ct-xception export` wrote.

Each `Network` is called with pixel_values and gives the same three outputs from one forward pass. torch and the two
runtimes are imported only by the network that needs them, so that an exported file answers without torch.
"""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from ct_xception.checkpoint import WEIGHTS
from ct_xception.checkpoint_files import check_safetensors
from ct_xception.errors import CheckpointError, InputError
from ct_xception.imaging.preprocessing import Preprocessing
from ct_xception.serving.catalogue import RUNTIMES
from ct_xception.serving.checkpoint import Checkpoint

if TYPE_CHECKING:
    from ct_xception.model.modelling import CTXceptionForImageClassification

INPUT, OUTPUTS = "pixel_values", ("logits", "features", "cam")
# The keys of an exported file's own description: JSON, JSON, 64 hexadecimal digits, text.
DESCRIPTION = ("preprocessing", "label_names", "weights_sha256", "source")
MOST_BYTES = 2**30  # of a network's file; the largest backbone has 160 MB in float32
_EXTRAS = {"onnxruntime": "export", "openvino": "openvino", "h5py": "keras"}


class Outputs(NamedTuple):
    """What one forward pass gives, float32.

    `logits` (B, K). `features` (B, 2048): the last feature map, globally averaged. `cam` (B, K, h, w): the head's
    weights over the last feature map, whose mean over h and w plus the head's bias is the logit (Zhou et al. 2016).
    """

    logits: np.ndarray
    features: np.ndarray
    cam: np.ndarray

    def item(self, index: int) -> Outputs:
        """The outputs of one item of the batch: (K,), (2048,), (K, h, w)."""
        return Outputs(*(part[index] for part in self))


@runtime_checkable
class Network(Protocol):
    """A checkpoint's network in some runtime; safe to call from several threads."""

    @property
    def runtime(self) -> str:
        """Its name among RUNTIMES."""

    @property
    def label_names(self) -> Sequence[str]:
        """The class names in index order."""

    @property
    def pretrained_cfg(self) -> Mapping[str, Any]:
        """The preprocessing that it expects, in timm's terms."""

    def __call__(self, pixel_values: np.ndarray) -> Outputs:
        """The outputs for pixel_values (B, 3, S, S) float32, normalised."""


class TorchNetwork:
    """The network as torch runs it, on the device where the model lies."""

    runtime = "torch"

    def __init__(self, model: CTXceptionForImageClassification) -> None:
        import torch

        # Depthwise convolutions run a good deal faster on CPU with channels last.
        self.model = model.eval().to(memory_format=torch.channels_last)
        self.label_names = model.label_names
        self.pretrained_cfg = model.config.pretrained_cfg

    def __call__(self, pixel_values: np.ndarray) -> Outputs:
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(pixel_values).to(self.model.device, self.model.dtype)
            found = self.model.outputs(batch.contiguous(memory_format=torch.channels_last))
            return Outputs(*(part.float().cpu().numpy() for part in found))


@dataclass(frozen=True)
class Description:
    """What an exported file says of itself: enough to answer from it alone."""

    label_names: tuple[str, ...]
    preprocessing: Mapping[str, Any]
    weights_sha256: str
    source: str

    @classmethod
    def read(cls, stated: Mapping[str, str], name: str) -> Description:
        """From a file's own metadata. Raises CheckpointError where the file was not exported by this package."""
        try:
            names, preprocessing = json.loads(stated["label_names"]), json.loads(stated["preprocessing"])
            return cls(tuple(names), preprocessing, stated["weights_sha256"], stated["source"])
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{name}: does not say what network it holds ({type(error).__name__}: {error}); export it again."
            ) from error

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """The preprocessing in timm's terms."""
        stated = {key: self.preprocessing[key] for key in ("mean", "std", "interpolation")}
        crop = {
            key: self.preprocessing.get(key, default) for key, default in (("crop_pct", 1.0), ("crop_mode", "squash"))
        }
        return {"input_size": [3, self.preprocessing["size"], self.preprocessing["size"]], **stated, **crop}


class OnnxNetwork:
    """An ONNX file in ONNX Runtime, on the CPU; `threads` None takes every core."""

    def __init__(self, path: str | Path, threads: int | None = None, *, runtime: str = "onnx") -> None:
        onnxruntime = needed("onnxruntime", f"runtime {runtime}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # its warnings speak of the graph, which the user did not write
        self._session = _opened(
            lambda: onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]), path
        )
        self.runtime = runtime
        self.description = Description.read(self._session.get_modelmeta().custom_metadata_map, Path(path).name)
        self.label_names, self.pretrained_cfg = self.description.label_names, self.description.pretrained_cfg

    def __call__(self, pixel_values: np.ndarray) -> Outputs:
        return Outputs(*self._session.run(list(OUTPUTS), {INPUT: pixel_values}))


class OpenVinoNetwork:
    """An OpenVINO IR (model.xml and model.bin beside it) on the CPU, in float32; `threads` None takes every core."""

    runtime = "openvino"

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        openvino = needed("openvino", "runtime openvino")
        # Without the hint a CPU with bfloat16 or float16 arithmetic would silently use it.
        hints: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            hints["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        model = _opened(lambda: core.read_model(str(path)), path)
        stated = {key: str(model.get_rt_info(["ct_xception", key]).value) for key in _stated_keys(model)}
        self.description = Description.read(stated, Path(path).name)
        self.label_names, self.pretrained_cfg = self.description.label_names, self.description.pretrained_cfg
        self._compiled = core.compile_model(model, "CPU", hints)
        self._lock = threading.Lock()  # its one inference request uses every thread

    def __call__(self, pixel_values: np.ndarray) -> Outputs:
        with self._lock:
            found = self._compiled({INPUT: pixel_values}, share_inputs=True)
            return Outputs(*(np.array(found[name]) for name in OUTPUTS))


def _stated_keys(model: Any) -> list[str]:
    return [key for key in DESCRIPTION if model.has_rt_info(["ct_xception", key])]


def needed(package: str, what: str) -> Any:
    """Import an optional package; raises InputError, one sentence with the remedy, where it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        extra = _EXTRAS.get(package, "export")
        raise InputError(
            f"{what}: needs {package}, which is not installed; pip install 'ct-xception[{extra}]'."
        ) from error


def _opened(load: Callable[[], Any], path: str | Path) -> Any:
    """What `load` makes of a file. The runtimes raise classes of their own, which share no parent but Exception."""
    try:
        return load()
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{Path(path).name}: cannot be loaded ({reason}); export it again.") from error


def load_network(
    checkpoint: Checkpoint, runtime: str = "torch", *, device: str = "cpu", threads: int | None = None
) -> Network:
    """The network of an opened checkpoint in one of RUNTIMES; `threads` is for the exported files.

    Raises CheckpointError where its file cannot be loaded, or was exported from other weights, classes or
    preprocessing than the checkpoint has now, and InputError for a missing package or a device it cannot use.
    """
    if runtime == "torch":
        model = load_model(checkpoint)
        try:
            model.to(device)  # type: ignore[arg-type]
        except (RuntimeError, AssertionError) as error:  # torch's, for a name that it does not know or a driver
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"device {device}: cannot be used here ({reason}); use cpu.") from error
        return TorchNetwork(model)
    if device != "cpu":
        raise InputError(f"device {device}: runtime {runtime} answers on the CPU; use cpu, or runtime torch.")
    path = checkpoint.folder / RUNTIMES[runtime][0]
    network = OpenVinoNetwork(path, threads) if runtime == "openvino" else OnnxNetwork(path, threads, runtime=runtime)
    _check_export(checkpoint, network.description, RUNTIMES[runtime][0])
    return network


def _check_export(checkpoint: Checkpoint, found: Description, file: str) -> None:
    """An export is of the weights, classes and input contract that the checkpoint has now."""
    contract, stated = checkpoint.contract, found.preprocessing
    weights = checkpoint.manifest.get(WEIGHTS, found.weights_sha256)
    for what, same in (
        ("weights", weights == found.weights_sha256),
        ("classes", list(found.label_names) == list(checkpoint.config["label_names"])),
        (
            "preprocessing",
            Preprocessing.of(found.pretrained_cfg) == Preprocessing.of(checkpoint.config["pretrained_cfg"])
            and stated.get("body_crop") == contract.body_crop
            and tuple(stated.get("filters", ())) == contract.filters,
        ),
    ):
        if not same:
            raise CheckpointError(
                f"{checkpoint.name}: {file} was exported with other {what} than the checkpoint has now; export it "
                "again."
            )


def load_model(checkpoint: Checkpoint) -> CTXceptionForImageClassification:
    """Load safetensors weights, every one of them: transformers alone would fill missing ones with noise and go on."""
    import torch
    from safetensors import SafetensorError

    from ct_xception.model.configuration import restored_config
    from ct_xception.model.modelling import CTXceptionForImageClassification

    report: dict[str, Any]
    model: CTXceptionForImageClassification
    try:
        check_safetensors(checkpoint.folder / WEIGHTS, MOST_BYTES)
        # The configuration is what the schema let through, so that no other key of the file acts on anything.
        model, report = CTXceptionForImageClassification.from_pretrained(  # type: ignore[misc]
            checkpoint.folder,
            config=restored_config(checkpoint.config),
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{checkpoint.name}: the network cannot be loaded ({reason}).") from error
    absent = sorted(report["missing_keys"])
    if absent:
        raise CheckpointError(
            f"{checkpoint.name}: the weights lack {len(absent)} of the network's tensors (the first: {absent[0]}); "
            "fetch the checkpoint again."
        )
    broken = next((key for key, part in model.state_dict().items() if not torch.isfinite(part).all()), None)
    if broken is not None:
        raise CheckpointError(
            f"{checkpoint.name}: its weights hold values that are not finite (in {broken}); fetch the checkpoint again."
        )
    return model
