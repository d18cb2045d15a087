"""What answers in whatever runtime: a network with three outputs, and what an exported file says of itself.

The runtimes themselves are one file each in `serving/runtimes/`. Nothing slow is imported here.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from ct_xception.errors import CheckpointError, InputError

if TYPE_CHECKING:
    import numpy as np

    from ct_xception.tabular import Tabular

INPUT, TABULAR, OUTPUTS = "pixel_values", "tabular", ("logits", "features", "cam")
# The keys of an exported file's own description: JSON, JSON, 64 hexadecimal digits, text, JSON where there are columns.
DESCRIPTION = ("preprocessing", "label_names", "weights_sha256", "source", "tabular")


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
        """Its name among `serving.runtimes.RUNTIMES`."""

    @property
    def label_names(self) -> Sequence[str]:
        """The class names in index order."""

    @property
    def pretrained_cfg(self) -> Mapping[str, Any]:
        """The preprocessing that it expects, in timm's terms."""

    def __call__(self, pixel_values: np.ndarray, tabular: np.ndarray | None = None) -> Outputs:
        """The outputs for pixel_values (B, 3, S, S) float32, normalised.

        `tabular` (B, D) float32 are the rows of a network that takes them; without, every column counts as missing.
        """


class ExportedNetwork(Network, Protocol):
    """A network from a file that tells what it is."""

    @property
    def description(self) -> Description:
        """What the file says of itself."""


@dataclass(frozen=True)
class Description:
    """What an exported file says of itself: enough to answer from it alone."""

    label_names: tuple[str, ...]
    preprocessing: Mapping[str, Any]
    weights_sha256: str
    source: str
    columns: Tabular | None = None

    def feed(self, pixel_values: np.ndarray, tabular: np.ndarray | None) -> dict[str, np.ndarray]:
        """The file's inputs by their names: rows, too, where it takes them, of missing values where none are given."""
        if self.columns is None:
            return {INPUT: pixel_values}
        missing = self.columns.absent[None].repeat(len(pixel_values), axis=0)
        return {INPUT: pixel_values, TABULAR: missing if tabular is None else tabular}

    @classmethod
    def read(cls, stated: Mapping[str, str], name: str) -> Description:
        """From a file's own metadata. Raises CheckpointError where the file was not exported by this package."""
        try:
            names, preprocessing = json.loads(stated["label_names"]), json.loads(stated["preprocessing"])
            columns = _columns_of(stated["tabular"], name) if "tabular" in stated else None
            return cls(tuple(names), preprocessing, stated["weights_sha256"], stated["source"], columns)
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


def _columns_of(text: str, name: str) -> Tabular:
    from ct_xception.checkpoint_files import TabularRule
    from ct_xception.tabular import Tabular

    return Tabular(TabularRule.from_json(text, name))


def needed(package: str, what: str, extra: str = "export") -> Any:
    """Import a package of an extra; raises InputError, one sentence with the remedy, where it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"{what}: needs {package}, which is not installed; pip install 'ct-xception[{extra}]'."
        ) from error


def opened(load: Callable[[], Any], path: str | Path) -> Any:
    """What `load` makes of a file. The runtimes raise classes of their own, which share no parent but Exception.

    What they say is of their own insides, and where their source lay; a ValueError is ours.
    """
    try:
        return load()
    except Exception as error:
        reason = str(error) if isinstance(error, ValueError) else "it is damaged, or of another version of its runtime"
        raise CheckpointError(f"{Path(path).name}: cannot be loaded ({reason}); export it again.") from error
