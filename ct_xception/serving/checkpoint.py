"""A checkpoint found and checked before anything is loaded from it: a folder, or a Hub repository.

Nothing in a checkpoint is trusted as code: weights are safetensors only, the architecture is a plain timm name, and
where `ct_xception.json` holds a manifest, the files that decide an answer must have the hashes it states (safetensors
refuses a truncated file, but loads most single-bit flips without a word).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ct_xception.checkpoint import (
    CARD,
    CONFIG,
    DRIFT,
    EVALUATION,
    GATE,
    MODEL,
    OPTIONS,
    POOLING,
    SIDE_FILE,
    SPLIT,
    WEIGHTS,
)
from ct_xception.checkpoint_files import Side, read_config, read_side
from ct_xception.errors import CheckpointError, InputError, printable
from ct_xception.files import sha256_file
from ct_xception.hub_download import HubError, HubId, fetch
from ct_xception.imaging.modality import CT, NAMES
from ct_xception.imaging.preprocessing import Preprocessing
from ct_xception.imaging.windows import Window
from ct_xception.serving.decisions import Decisions, Pooling
from ct_xception.serving.drift import Reference
from ct_xception.serving.gate import Gate, load_arrays
from ct_xception.statistics.attention import GatedAttention
from ct_xception.statistics.pooling import ATTENTION
from ct_xception.text import did_you_mean


@dataclass(frozen=True)
class InputContract:
    """What the network expects of a slice before its eval transform; stock config cannot say it.

    `filters` run first, then the body crop. `window` is the one to show 16-bit and DICOM input through when
    the caller names none. `stated` is the modality of its images, one of MODALITIES, or None where nobody said.
    """

    body_crop: bool = True
    filters: tuple[str, ...] = ()
    window: Window | None = None
    stated: str | None = None

    @property
    def modality(self) -> str:
        """What its images are taken for: CT where nobody said."""
        return self.stated or CT

    def told(self, modality: str | None, name: str) -> InputContract:
        """The contract with a modality that the user named. Raises InputError where the checkpoint says another."""
        if modality is None:
            return self
        if self.stated not in (None, modality):
            raise InputError(f"--modality {modality}: {name} was trained on {NAMES[self.stated]} images; leave it out.")
        return replace(self, stated=modality)

    def stated_with(self, pretrained_cfg: Mapping[str, Any]) -> dict[str, Any]:
        """What is done to a slice before a square network, as exported files and the browser's page state it."""
        wanted = Preprocessing.of(pretrained_cfg)
        return {
            "size": wanted.size[0],
            "mean": list(wanted.mean),
            "std": list(wanted.std),
            "interpolation": wanted.interpolation,
            "crop_pct": wanted.crop_pct,
            "crop_mode": wanted.crop_mode,
            "body_crop": self.body_crop,
            "filters": list(self.filters),
        }


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checked checkpoint: its folder on disk, its name as the user gave it, and what its two JSON files say.

    `manifest` is {file: SHA-256} as the side file states it; empty where it states none. `gate` is the input gate, and
    `drift` what sets of slices are compared with; None where it has none. `attention` says how much a slice of a
    patient counts, where that was learnt.
    """

    folder: Path
    name: str
    revision: str | None
    config: Mapping[str, Any]
    contract: InputContract
    notes: tuple[str, ...] = ()
    decisions: Decisions = Decisions()
    manifest: Mapping[str, str] = field(default_factory=dict)
    gate: Gate | None = None
    drift: Reference | None = None
    attention: GatedAttention | None = None


def open_checkpoint(source: str | Path, network: Sequence[str] = (WEIGHTS,)) -> Checkpoint:
    """Find and check a checkpoint: a folder, or a Hub id `user/repo`, or `user/repo@revision`.

    `network` are the files that the network will be read from; of a Hub repository no other large ones are fetched.
    Raises CheckpointError with one sentence when it is neither, is not a timm_wrapper image classifier, holds pickled
    weights only, was not exported for what is asked, or differs from its own manifest.
    """
    source = checkpoint_in(source)
    _check_trained(Path(source))
    folder, revision = _locate(source, network)
    name = printable(source)
    config = read_config(folder, name)
    for file in network:
        _check_present(folder, name, file)
    stated = read_side(folder, name)
    side = stated or Side()
    read = (CONFIG, *network, *(file for file in (GATE, DRIFT, POOLING) if (folder / file).is_file()))
    _check_manifest(folder, name, side.manifest, read)
    return Checkpoint(
        folder,
        name,
        revision,
        config.to_json(),
        _contract(side, name),
        _notes(stated),
        _decisions(side, config.label_names, name),
        side.manifest,
        Gate.of(side, folder, name),
        Reference.of(side.drift, folder, name),
        _attention(side, folder, name),
    )


def checkpoint_in(source: str | Path) -> str | Path:
    """The checkpoint of a run folder (`runs/NAME` for `runs/NAME/model`); anything else as it is."""
    inside = Path(source) / MODEL
    return inside if (inside / CONFIG).is_file() and not (Path(source) / WEIGHTS).is_file() else source


def _check_trained(folder: Path) -> None:
    """Raise CheckpointError for the folder of a run that has no checkpoint yet."""
    if (folder / SPLIT).is_file() and (folder / OPTIONS).is_file() and not (folder / WEIGHTS).is_file():
        raise CheckpointError(
            f"{printable(folder)}: a run that has not ended, and so holds no checkpoint yet; go on with it: the same "
            "command and --resume auto."
        )


def _notes(side: Side | None) -> tuple[str, ...]:
    if side is None:
        return (f"no {SIDE_FILE}: the body crop is assumed",)
    if side.manifest and side.seal is None:
        return (f"an older version sealed it: a changed rule in {SIDE_FILE} would not be noticed",)
    return ()


def _check_present(folder: Path, name: str, file: str) -> None:
    if (folder / file).is_file():
        return
    if file == WEIGHTS:
        raise CheckpointError(f"{name}: {WEIGHTS} is missing; only safetensors weights are read, so save them as such.")
    raise CheckpointError(
        f"{name}: {file} is missing; write it with `ct-xception export` (--help says how), or answer with torch."
    )


def _locate(source: str | Path, network: Sequence[str]) -> tuple[Path, str | None]:
    """The folder on disk, and the commit when it came from the Hub."""
    path = Path(source)
    if path.is_dir():
        _check_no_runs(path)
        return path, None
    if path.exists():
        raise CheckpointError(f"{printable(source)}: is a file; give the folder that holds {CONFIG} and {WEIGHTS}.")
    found = HubId.parse(str(source))
    if found is None:
        said = f"{printable(source)}: neither a folder nor a Hub id (user/repo or user/repo@revision)"
        raise CheckpointError(f"{said}{_near(path) or '.'}")
    try:
        folder = _fetch(found, [CONFIG, SIDE_FILE, GATE, DRIFT, POOLING, *network])
    except CheckpointError as error:
        raise CheckpointError(f"{str(error).rstrip('.')}{_near(path) or '.'}") from error
    return folder, folder.name


def _check_no_runs(folder: Path) -> None:
    """Raise CheckpointError for a folder of runs, with the checkpoint of one of them."""
    inside = sorted(folder.glob(f"*/{MODEL}/{CONFIG}"))
    if inside and not (folder / CONFIG).is_file():
        one = printable(inside[0].parent)
        raise CheckpointError(
            f"{printable(folder)}: holds runs, and is no checkpoint; give one of theirs, such as {one}."
        )


def _near(path: Path) -> str:
    """The folder beside it that is spelt nearly so, as a question."""
    if not path.parent.is_dir():
        return ""
    return did_you_mean(str(path), [str(one) for one in path.parent.iterdir() if one.is_dir()])


def _fetch(source: HubId, files: Sequence[str]) -> Path:
    try:
        return fetch(source, files)
    except HubError as error:
        raise CheckpointError(str(error)) from error


def fetch_card(checkpoint: Checkpoint) -> Path:
    """The folder that holds a checkpoint's card and the card's figures, fetched where it came from the Hub.

    Raises CheckpointError where the Hub does not give them.
    """
    if checkpoint.revision is None:
        return checkpoint.folder
    return _fetch(HubId(checkpoint.name.partition("@")[0], checkpoint.revision), [CARD, f"{EVALUATION}/*.png"])


def read_provenance(folder: Path) -> dict[str, Any]:
    """Where a checkpoint's weights come from, as its side file says; empty where it says nothing."""
    side = read_side(folder)
    return {} if side is None else side.provenance.to_json()


def _contract(side: Side, name: str) -> InputContract:
    steps = side.input
    if steps.model_extra:
        # An input step that this version does not know would be skipped, and the answer would be wrong.
        unknown = printable(", ".join(sorted(steps.model_extra)))[:200]
        raise CheckpointError(f"{name}: unknown input steps in {SIDE_FILE} ({unknown}); update ct-xception.")
    window = None if steps.window is None else Window(steps.window.centre, steps.window.width)
    return InputContract(steps.body_crop, steps.filters, window, steps.modality)


def _decisions(side: Side, label_names: Sequence[str], name: str) -> Decisions:
    try:
        return Decisions.of(side, label_names)
    except InputError as error:
        raise CheckpointError(f"{name}: {SIDE_FILE}: {error}") from error


def _attention(side: Side, folder: Path, name: str) -> GatedAttention | None:
    """What the checkpoint's rule of pooling needs; a rule of a later version is passed over with its arrays."""
    if Pooling.of(side.pooling, {}).method != ATTENTION:
        return None
    try:
        return GatedAttention.of(load_arrays(folder / POOLING))
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{name}: how much each slice counts cannot be read ({printable(error)}); fetch the checkpoint again."
        ) from error


def _check_manifest(folder: Path, name: str, manifest: Mapping[str, str], files: Sequence[str]) -> None:
    """Compare the files that decide an answer with the SHA-256 that the checkpoint states for them."""
    for file in files:
        stated = manifest.get(file)
        if stated is not None and sha256_file(folder / file) != stated:
            raise CheckpointError(
                f"{name}: {file} differs from the SHA-256 in {SIDE_FILE}; it was damaged or changed, fetch it again."
            )
        if stated is None and manifest:
            raise CheckpointError(
                f"{name}: {file} is not in the manifest of {SIDE_FILE}; it was added later, or left by an "
                "export that was cut off; export again, or fetch the checkpoint again."
            )
