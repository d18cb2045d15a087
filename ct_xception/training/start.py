"""Where a run begins: which weights, which version of them, and what it takes over from a checkpoint it goes on from.

`--weights` takes a body and gives it a new head, for any classes; that of a Keras file is written as safetensors
first. `--init` goes on with body and head, on the same classes; backbone, input size and the preparation of slices
are then the checkpoint's unless they are given; so they are of the checkpoints that `--soup` averages. What comes from
the Hub is pinned to its commit before anything else, so that the record names what was used, and a run that is resumed
goes on with it whatever was published since.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.checkpoint import ATTENTIONS, CONFIG, HEADS, WEIGHTS
from ct_xception.corpus.sources import find_source
from ct_xception.errors import CheckpointError, InputError, printable
from ct_xception.files import cache_folder, read_record

if TYPE_CHECKING:
    from ct_xception.model.modelling import CTXceptionForImageClassification
    from ct_xception.serving.checkpoint import Checkpoint

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
_OUR_LEVELS = [0.5, 0.5, 0.5]  # mean and std of every checkpoint of ours: grey levels in [-1, 1]


def settle_start(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options as given, with Hub ids pinned and, for `init`, what the checkpoint says of backbone and input.

    Raises `InputError` for a corpus that is no source, before anything is fetched, and where both `init` and `weights`
    are given; `CheckpointError` for what is no checkpoint.
    """
    given = dict(values)
    if given.get("corpus") and given.get("resume") != "auto":  # a finished run needs its corpus no more
        find_source(str(given["corpus"]))
    if given.get("init") is not None:
        for other in ("weights", "soup"):
            if given.get(other):
                raise InputError(
                    f"--init and --{other}: both say where to begin; --init takes the head too, so give one."
                )
        source, own = _inherited(str(_recorded(given, "init") or given["init"]), given, "init")
        return own | given | {"init": source, "weights": source}
    if given.get("soup"):
        if given.get("weights"):
            raise InputError("--soup: averages what was trained already; give it without --weights.")
        named = _recorded(given, "soup") or given["soup"]
        found = [_inherited(str(source), given, "soup") for source in named]
        return found[0][1] | given | {"soup": [source for source, _ in found], "weights": found[0][0]}
    if isinstance(weights := given.get("weights"), str):
        is_keras = Path(weights).suffix.lower() in KERAS_SUFFIXES
        recorded = None if is_keras else _recorded(given, "weights")
        given["weights"] = _keras_body(weights, given) if is_keras else _pinned_weights(recorded, weights, given)
    return given


def _keras_body(weights: str, given: Mapping[str, Any]) -> str:
    """The body of a Keras file in timm's layout, in the cache; the first process says what was left of the file."""
    from ct_xception.formats.keras.convert import BACKBONE, write_keras_body

    if given.get("backbone", BACKBONE) != BACKBONE:
        raise InputError(f"--weights: {printable(weights)} is of Keras, whose Xception is {BACKBONE}; drop --backbone.")
    file, notes = write_keras_body(weights, cache_folder() / "keras")
    if os.environ.get("RANK", "0") == "0":
        print("\n".join(f"--weights: {note}" for note in notes), file=sys.stderr)
    return str(file)


def _inherited(source: str, given: Mapping[str, Any], option: str) -> tuple[str, dict[str, Any]]:
    """The checkpoint that `option` names, with its commit, and the options that follow from it."""
    from ct_xception.serving.checkpoint import checkpoint_in, open_checkpoint

    source = str(checkpoint_in(source))
    try:
        checkpoint = open_checkpoint(source)
    except CheckpointError as error:
        raise CheckpointError(f"--{option}: {error}") from error
    config = checkpoint.config["pretrained_cfg"]
    if list(config["mean"]) != _OUR_LEVELS or list(config["std"]) != _OUR_LEVELS:
        raise InputError(
            f"--{option}: {printable(source)} takes its input with mean {config['mean']} and std {config['std']}, and "
            "training with 0.5 and 0.5; give a checkpoint of ct-xception."
        )
    if checkpoint.revision is not None:
        source = f"{source.partition('@')[0]}@{checkpoint.revision}"
    own = _options_of(checkpoint)
    for name, what in _taken_over(own, given):
        raise InputError(f"--{name}: {printable(source)} {what}, which --{option} takes over; leave --{name} out.")
    return source, own


def _taken_over(own: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The options that are given otherwise than a checkpoint has them and cannot be changed, with what it has."""
    columns = own.get("tabular_columns")
    if columns and given.get("tabular_columns", columns) != columns:
        yield "tabular_columns", f"takes {columns}"
    if own["head"] != given.get("head", own["head"]) == HEADS[0]:
        yield "head", "pools by attention"


def _options_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """The options that a checkpoint was trained with, as far as another run must share them to go on with it."""
    contract, config, window = checkpoint.contract, checkpoint.config, checkpoint.contract.window
    beside = config.get("tabular")
    return {
        "backbone": str(config["architecture"]),
        "image_size": int(config["pretrained_cfg"]["input_size"][-1]),
        "head": str(config.get("head", HEADS[0])),
        "attention": str(config.get("attention", ATTENTIONS[0])),
        "modality": contract.modality,
        "body_crop": contract.body_crop,
        "filters": list(contract.filters),
        "window": None if window is None else f"{window.centre:g}/{window.width:g}",
        **({"tabular_columns": ",".join(column["name"] for column in beside["columns"])} if beside else {}),
    }


def _pinned_weights(recorded: str | None, weights: str, given: Mapping[str, Any]) -> str:
    from ct_xception.serving.checkpoint import checkpoint_in

    if weights in ("hub", "none") or Path(weights).exists():
        return str(checkpoint_in(weights))  # said before anything slow is imported
    from ct_xception.model.configuration import BACKBONES
    from ct_xception.model.weights import find_weights, is_hub_id

    if not is_hub_id(weights):
        return weights
    name = recorded or weights
    file = find_weights(name, str(given.get("backbone", BACKBONES[0])))
    assert file is not None  # a Hub id is neither "none" nor random
    return f"{weights.partition('@')[0]}@{file.parent.name}"


def _recorded(given: Mapping[str, Any], name: str) -> Any:
    """What a run that is resumed began with, where it is of the repositories that are named without a revision."""
    file = Path(str(given.get("output_dir", ""))) / CONFIG
    if given.get("resume") != "auto" or not given.get("output_dir") or not file.is_file():
        return None
    try:
        before = read_record(file).get(name)
    except (OSError, ValueError):
        return None  # the preflight says what is wrong with it
    bare = [str(one).partition("@")[0] for one in (before if isinstance(before, list) else [before])]
    return before if bare == (given[name] if isinstance(given[name], list) else [given[name]]) else None


def check_classes(init: str | None, label_names: Sequence[str]) -> None:
    """Raise `InputError` where the run goes on from a checkpoint of other classes than these."""
    if init is None:
        return
    from ct_xception.serving.checkpoint import open_checkpoint

    known = list(open_checkpoint(init).config["label_names"])
    if set(known) != set(label_names):
        raise InputError(
            f"--init: {printable(init)} knows the classes {', '.join(known)}, and the corpus has "
            f"{', '.join(label_names)}; begin with its body alone (--weights) where classes differ."
        )


def continue_head(model: CTXceptionForImageClassification, init: str | None) -> None:
    """Give a network, whose body is that of `--init` already, its head as well, class by class; nothing without it."""
    if init is None:
        return
    import safetensors.torch
    import torch

    from ct_xception.serving.checkpoint import open_checkpoint

    start = open_checkpoint(init)
    state = safetensors.torch.load_file(start.folder / WEIGHTS)
    name, *others = model.head_names
    known = list(start.config["label_names"])
    rows = [known.index(label) for label in model.label_names]
    with torch.no_grad():
        for part in ("weight", "bias"):
            values = state.get(f"{name}.{part}", state.get(f"timm_model.{name}.{part}"))
            if values is None or len(values) != len(known):
                raise InputError(f"--init: {start.name} holds no head of its {len(known)} classes; give it --weights.")
            getattr(model.head, part).copy_(values[rows])
        for key, own in model.timm_model.state_dict().items():
            if key.startswith(tuple(f"{part}." for part in others)) and key in state:
                own.copy_(state[key][rows] if key == "tabular.share.weight" else state[key])  # a row a class
