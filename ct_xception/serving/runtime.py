"""What a runtime is: something that runs a checkpoint's network, from which of its files.

Nothing slow is imported here, so that the command line can list the runtimes at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from ct_xception.checkpoint import WEIGHTS
from ct_xception.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from ct_xception.serving.checkpoint import Checkpoint
    from ct_xception.serving.network import Description, ExportedNetwork, Network


class Runtime:
    """One thing that runs a network: a class in a file of `serving/runtimes/`, under `@register`.

    `files` are those of the checkpoint folder that it reads, the first the one that is opened; `title` is its name in
    print.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    files: ClassVar[tuple[str, ...]]

    def open(self, checkpoint: Checkpoint, *, device: str = "cpu", threads: int | None = None) -> Network:
        """The network of an opened checkpoint.

        Raises CheckpointError where its file cannot be loaded or is not of this checkpoint, and InputError for a
        missing package or a device that it cannot use.
        """
        raise NotImplementedError


class Exported(Runtime):
    """A runtime of a file that `ct-xception export` wrote; it answers on the CPU, without torch.

    `ct_xception/formats/` writes the file, in a module of the runtime's name with `_` for `-`. `package` must be
    installed. `flag` is the option of the command, `sentence` what it writes. `approximate`: its answers are only near
    the network's, so that it is calibrated on training slices and judged by what it decides.
    """

    package: ClassVar[str]
    flag: ClassVar[str]
    sentence: ClassVar[str]
    approximate: ClassVar[bool] = False

    def load(self, path: str | Path, threads: int | None = None) -> ExportedNetwork:
        """The network in a file; `threads` None takes every core. Raises CheckpointError and InputError."""
        raise NotImplementedError

    def open(self, checkpoint: Checkpoint, *, device: str = "cpu", threads: int | None = None) -> ExportedNetwork:
        if device != "cpu":
            raise InputError(f"device {device}: runtime {self.name} answers on the CPU; use cpu, or runtime torch.")
        network = self.load(checkpoint.folder / self.files[0], threads)
        _check_export(checkpoint, network.description, self.files[0])
        return network


def _check_export(checkpoint: Checkpoint, found: Description, file: str) -> None:
    """An export is of the weights, classes and input contract that the checkpoint has now."""
    from ct_xception.imaging.preprocessing import Preprocessing

    contract, stated = checkpoint.contract, found.preprocessing
    weights = checkpoint.manifest.get(WEIGHTS, found.weights_sha256)
    for what, same in (
        ("weights", weights == found.weights_sha256),
        (
            "columns",
            (None if found.columns is None else found.columns.rule.to_json()) == checkpoint.config.get("tabular"),
        ),
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


REGISTERED: dict[str, Runtime] = {}
Kind = TypeVar("Kind", bound=type[Runtime])


def register(kind: Kind) -> Kind:
    """Offer a runtime under its name, at every door."""
    REGISTERED[kind.name] = kind()
    return kind
