"""A checkpoint found and checked before anything is loaded from it: a folder, or a Hub repository.

Nothing in a checkpoint is trusted as code: weights are safetensors only, the architecture is a plain timm name, and
where `ct_xception.json` holds a manifest, the files that decide an answer must have the hashes it states (safetensors
refuses a truncated file, but loads most single-bit flips without a word).
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ct_xception.checkpoint import CARD, CONFIG, EVALUATION, GATE, SIDE_FILE, SIDE_FORMAT, WEIGHTS
from ct_xception.errors import CheckpointError, InputError, printable
from ct_xception.files import sha256_file
from ct_xception.imaging.windows import Window
from ct_xception.serving.decisions import Decisions
from ct_xception.serving.gate import Gate

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?")
_SINGLE_LABEL = "single_label_classification"
_ARCHITECTURE = re.compile(r"\w[\w.]*")
# Arguments of timm.create_model that make it open files or addresses of the checkpoint's choosing.
_FORBIDDEN_MODEL_ARGS = {"checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}


@dataclass(frozen=True)
class InputContract:
    """What the network expects of a slice before its eval transform; stock config cannot say it.

    `filters` run first, then the body crop. `window` is the one to show 16-bit and DICOM input through when
    the caller names none.
    """

    body_crop: bool = True
    filters: tuple[str, ...] = ()
    window: Window | None = None


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checked checkpoint: its folder on disk, its name as the user gave it, and what its two JSON files say.

    `manifest` is {file: SHA-256} as the side file states it; empty where it states none. `gate` is the input gate, None
    where it has none.
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


def open_checkpoint(source: str | Path, network: Sequence[str] = (WEIGHTS,)) -> Checkpoint:
    """Find and check a checkpoint: a folder, or a Hub id `user/repo`, or `user/repo@revision`.

    `network` are the files that the network will be read from; of a Hub repository no other large ones are fetched.
    Raises CheckpointError with one sentence when it is neither, is not a timm_wrapper image classifier, holds pickled
    weights only, was not exported for what is asked, or differs from its own manifest.
    """
    folder, revision = _locate(source, network)
    name = printable(source)
    try:
        return _open(folder, revision, name, network)
    except InputError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # JSON of another shape than ours
        raise CheckpointError(
            f"{name}: {CONFIG} or {SIDE_FILE} is not of the form that a checkpoint has ({printable(str(error))}); "
            "fetch the checkpoint again."
        ) from error


def _open(folder: Path, revision: str | None, name: str, network: Sequence[str]) -> Checkpoint:
    config = _read_config(folder, name)
    for file in network:
        _check_present(folder, name, file)
    side = _read_json(folder / SIDE_FILE, name) if (folder / SIDE_FILE).is_file() else None
    notes = () if side is not None else (f"no {SIDE_FILE}: the body crop is assumed",)
    manifest = (side or {}).get("manifest", {})
    _check_manifest(folder, name, manifest, (CONFIG, *network, *([GATE] if (folder / GATE).is_file() else [])))
    contract, decisions = _read_contract(side, name), _read_decisions(side, config["label_names"], name)
    gate = Gate.of(side or {}, folder, name)
    return Checkpoint(folder, name, revision, config, contract, notes, decisions, manifest, gate)


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
        return path, None
    if path.exists():
        raise CheckpointError(f"{printable(source)}: is a file; give the folder that holds {CONFIG} and {WEIGHTS}.")
    match = _HUB_ID.fullmatch(str(source))
    if match is None:
        raise CheckpointError(f"{printable(source)}: neither a folder nor a Hub id (user/repo or user/repo@revision).")
    folder = _download(match["repo"], match["revision"], printable(source), [CONFIG, SIDE_FILE, GATE, *network])
    return folder, folder.name


def _download(repo: str, revision: str | None, name: str, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    cause: Exception
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=files, etag_timeout=5))
    except GatedRepoError as error:
        problem, cause = "the Hub repository is gated; ask for access there, then `hf auth login`", error
    except RevisionNotFoundError as error:
        problem, cause = "the Hub repository has no such revision; name a branch, tag or commit", error
    except (RepositoryNotFoundError, HFValidationError) as error:
        problem, cause = "no such folder, nor public Hub repository; mend the name, or `hf auth login`", error
    except (LocalEntryNotFoundError, HTTPError, OSError) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC
        away = "no such folder, and the Hub does not answer; give a folder, or try again later"
        problem, cause = "the disk is full; make room, and try again" if full else away, error
    raise CheckpointError(f"{name}: {problem}.") from cause


def fetch_card(checkpoint: Checkpoint) -> Path:
    """The folder that holds a checkpoint's card and the card's figures, fetched where it came from the Hub.

    Raises CheckpointError where the Hub does not give them.
    """
    if checkpoint.revision is None:
        return checkpoint.folder
    repo = checkpoint.name.partition("@")[0]
    return _download(repo, checkpoint.revision, checkpoint.name, [CARD, f"{EVALUATION}/*.png"])


def read_provenance(folder: Path) -> dict[str, Any]:
    """Where a checkpoint's weights come from, as its side file says; empty where it says nothing."""
    side = _read_json(folder / SIDE_FILE, printable(folder)) if (folder / SIDE_FILE).is_file() else {}
    return dict(side.get("provenance") or {})


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{name}: {path.name} is not JSON ({error}); fetch the checkpoint again.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{name}: {path.name} holds no JSON object; fetch the checkpoint again.")
    return value


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    """config.json, checked to be a stock timm_wrapper classifier that names its own preprocessing."""
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{name}: {CONFIG} is missing; give a checkpoint folder, such as runs/NAME/model.")
    config = _read_json(folder / CONFIG, name)
    if config.get("model_type") != "timm_wrapper":
        found = config.get("model_type", "nothing")
        raise CheckpointError(f"{name}: model_type is {found!r}, not 'timm_wrapper'; give a timm image classifier.")
    missing = [key for key in ("input_size", "mean", "std") if not config.get("pretrained_cfg", {}).get(key)]
    if missing:
        raise CheckpointError(
            f"{name}: pretrained_cfg in {CONFIG} lacks {', '.join(missing)}; without its preprocessing a network's "
            "answers mean nothing."
        )
    if len(config.get("label_names") or []) < 2 or config.get("problem_type", _SINGLE_LABEL) != _SINGLE_LABEL:
        raise CheckpointError(f"{name}: {CONFIG} describes no choice between two or more classes; give one that does.")
    _check_architecture(config, name)
    return config


def _check_architecture(config: Mapping[str, Any], name: str) -> None:
    """Refuse what would make timm fetch or unpickle something: it takes addresses where a name is expected."""
    architecture = str(config.get("architecture", ""))
    if not _ARCHITECTURE.fullmatch(architecture):
        raise CheckpointError(f"{name}: architecture {architecture!r} is no plain timm name; it is not loaded.")
    forbidden = sorted(_FORBIDDEN_MODEL_ARGS & set(config.get("model_args") or {}))
    if forbidden:
        raise CheckpointError(f"{name}: model_args in {CONFIG} holds {', '.join(forbidden)}; it is not loaded.")


def _read_contract(side: Mapping[str, Any] | None, name: str) -> InputContract:
    if side is None:
        return InputContract()
    if side.get("format") != SIDE_FORMAT:
        raise CheckpointError(
            f"{name}: {SIDE_FILE} has format {side.get('format')!r}, this version reads {SIDE_FORMAT}; "
            "update ct-xception."
        )
    stated = dict(side.get("input", {}))
    window = stated.pop("window", None)
    body_crop, filters = bool(stated.pop("body_crop", True)), tuple(stated.pop("filters", ()))
    if stated:
        # An input step that this version does not know would be skipped, and the answer would be wrong.
        steps = ", ".join(sorted(stated))
        raise CheckpointError(f"{name}: unknown input steps in {SIDE_FILE} ({steps}); update ct-xception.")
    return InputContract(body_crop, filters, Window(window["centre"], window["width"]) if window else None)


def _read_decisions(side: Mapping[str, Any] | None, label_names: Sequence[str], name: str) -> Decisions:
    try:
        return Decisions.of(side or {}, label_names)
    except InputError as error:
        raise CheckpointError(f"{name}: {SIDE_FILE}: {error}") from error


def _check_manifest(folder: Path, name: str, manifest: Mapping[str, str], files: Sequence[str]) -> None:
    """Compare the files that decide an answer with the SHA-256 that the checkpoint states for them."""
    for file in files:
        stated = manifest.get(file)
        if stated is not None and sha256_file(folder / file) != stated:
            raise CheckpointError(
                f"{name}: {file} differs from the SHA-256 in {SIDE_FILE}; it was damaged or changed, fetch it again."
            )
