"""The versions of a checkpoint: which network it went on from, and that no test got worse on the way.

`note_version` writes it into ct_xception.json (provenance: version, went_on_from, judged, replay, and lineage, the
versions before); the card's section is made from that, and a folder whose comparison is not what its answers give, or
was not passed, gets neither card nor push.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.checkpoint import EVALUATION
from ct_xception.checkpoint_files import need_side, write_side
from ct_xception.errors import CheckpointError, printable
from ct_xception.evaluation.continuity import (
    Judgement,
    describe_judgement,
    judge,
    pair_up,
    reason,
    write_judgement,
)
from ct_xception.serving.checkpoint import read_provenance
from ct_xception.training.model_folder import replace_model_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ct_xception.audit.overlap import Overlap, SplitCorpus
    from ct_xception.evaluation.answers import Answers
    from ct_xception.serving.checkpoint import Checkpoint

_KEPT = ("date", "weights_sha256", "imported", "replay", "judged", "went_on_from", "site")
_CORPUS = ("source", "kind", "hash")


def settle_version(
    folder: Path,
    run: Path,
    start: Checkpoint,
    tests: Sequence[SplitCorpus],
    answers: Sequence[Sequence[Answers]],
    replay: Mapping[str, Any],
    *,
    margin: float,
    seed: int,
    has_twin: NDArray[np.bool_] | None,
    overlaps: Sequence[Overlap] | None,
) -> str | None:
    """Judge a finished checkpoint against the one it went on from, write that into it, and say it on the terminal.

    None where it is a new version. Else the folder is moved to `run`/model.refused, and the sentence says why. `tests`,
    `answers`, `has_twin` and `overlaps` are those of `pair_up`.
    """
    names = tests[0].splits["test"].features["label"].names
    trials = pair_up(tests, answers, has_twin=has_twin, overlaps=overlaps)
    judged, table = judge(trials, names, margin=margin, seed=seed)
    shared = None if overlaps is None else [one.summary() for one in overlaps]
    judged = judged.with_(weights_sha256=_provenance(folder)["weights_sha256"], overlaps=shared)
    write_judgement(folder / EVALUATION, judged, table)
    note_version(folder, start, judged, replay)
    print("\n".join(["against the version before:", *describe_judgement(judged)]), flush=True)
    if judged.passed:
        return None
    why = reason(judged)
    note_refusal(folder, why)
    place = run / "model.refused"
    replace_model_folder(folder, place)
    return f"{printable(place)} is finished and no new version: {why}; train it further, or state another --margin."


def note_version(folder: Path, start: Checkpoint, judged: Judgement, replay: Mapping[str, Any]) -> None:
    """Say in a checkpoint's side file what it went on from, with which replay, and how both were judged."""
    side = need_side(folder)
    told = {"replay": dict(replay), "judged": judged.summary()}
    write_side(folder, side.with_(provenance=side.provenance.to_json() | descent(start) | told, refused=None))


def descent(start: Checkpoint) -> dict[str, Any]:
    """What the record of a version says of the one that it went on from, and of those before: keys of provenance."""
    before = _provenance(start.folder)
    # A folder's name alone: where it lay on this machine is nobody's business.
    name = start.name if start.revision else Path(start.name).name
    return {
        "version": _version(before) + 1,
        "went_on_from": {"name": name, "revision": start.revision, "weights_sha256": before.get("weights_sha256")},
        "lineage": [*before.get("lineage", []), _entry(before, name)],
    }


def note_refusal(folder: Path, why: str) -> None:
    """Mark a folder as no new version: it is not sealed, and `refuse_unfit` keeps it from being published."""
    write_side(folder, need_side(folder).with_(refused=why, manifest={}))


def refuse_unfit(name: object, side: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` where a side file says that its checkpoint is no new version."""
    if side.get("refused"):
        found = f"{printable(name)}: is not published, since {printable(side['refused'])}"
        raise CheckpointError(f"{found}; train it further, or keep the version before.")


def _provenance(folder: Path) -> dict[str, Any]:
    return read_provenance(folder)


def _version(provenance: Mapping[str, Any]) -> int:
    return int(provenance.get("version", 1))


def _entry(provenance: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A version as those after it remember it."""
    entry: dict[str, Any] = {"version": _version(provenance), "name": name}
    entry |= {key: provenance[key] for key in _KEPT if key in provenance}
    entry["corpus"] = {key: provenance["corpus"][key] for key in _CORPUS if key in provenance.get("corpus", {})}
    return entry | {"split": {key: value for key, value in provenance.get("split", {}).items() if key != "sources"}}
