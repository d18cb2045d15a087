"""The versions of a checkpoint: which network it went on from, and that no test got worse on the way.

`note_version` writes it into ct_xception.json (provenance: version, went_on_from, judged, replay, and lineage, the
versions before); the card's section is made from that, and a folder whose comparison is not what its answers give, or
was not passed, gets neither card nor push.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.checkpoint import CONTINUITY, CONTINUITY_ANSWERS, EVALUATION
from ct_xception.checkpoint_files import need_side, write_side
from ct_xception.errors import CheckpointError, printable
from ct_xception.files import read_json
from ct_xception.publish.tables import code, markdown_table, plain, points_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ct_xception.audit.overlap import Overlap, SplitCorpus
    from ct_xception.evaluation.answers import Answers
    from ct_xception.publish.evidence import Evidence
    from ct_xception.serving.checkpoint import Checkpoint

_KEPT = ("date", "weights_sha256", "imported", "replay", "judged", "went_on_from")
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
    from ct_xception.evaluation.continuity import describe_judgement, judge, pair_up, reason, write_judgement
    from ct_xception.training.model_folder import replace_model_folder

    names = tests[0].splits["test"].features["label"].names
    trials = pair_up(tests, answers, has_twin=has_twin, overlaps=overlaps)
    judged, table = judge(trials, names, margin=margin, seed=seed)
    judged["weights_sha256"] = _provenance(folder)["weights_sha256"]
    judged["overlaps"] = None if overlaps is None else [one.summary() for one in overlaps]
    write_judgement(folder / EVALUATION, judged, table)
    note_version(folder, start, judged, replay)
    print("\n".join(["against the version before:", *describe_judgement(judged)]), flush=True)
    if judged["passed"]:
        return None
    why = reason(judged)
    note_refusal(folder, why)
    place = run / "model.refused"
    replace_model_folder(folder, place)
    return f"{printable(place)} is finished and no new version: {why}; train it further, or state another --margin."


def note_version(folder: Path, start: Checkpoint, judged: Mapping[str, Any], replay: Mapping[str, Any]) -> None:
    """Say in a checkpoint's side file what it went on from, with which replay, and how both were judged."""
    before = _provenance(start.folder)
    side = need_side(folder)
    # A folder's name alone: where it lay on this machine is nobody's business.
    name = start.name if start.revision else Path(start.name).name
    provenance = side.provenance.to_json() | {
        "version": _version(before) + 1,
        "went_on_from": {"name": name, "revision": start.revision, "weights_sha256": before.get("weights_sha256")},
        "replay": dict(replay),
        "judged": _summary(judged),
        "lineage": [*before.get("lineage", []), _entry(before, name)],
    }
    write_side(folder, side.with_(provenance=provenance, refused=None))


def note_refusal(folder: Path, why: str) -> None:
    """Mark a folder as no new version: it is not sealed, and `refuse_unfit` keeps it from being published."""
    write_side(folder, need_side(folder).with_(refused=why, manifest={}))


def refuse_unfit(name: object, side: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` where a side file says that its checkpoint is no new version."""
    if side.get("refused"):
        found = f"{printable(name)}: is not published, since {printable(side['refused'])}"
        raise CheckpointError(f"{found}; train it further, or keep the version before.")


def _provenance(folder: Path) -> dict[str, Any]:
    from ct_xception.serving.checkpoint import read_provenance

    return read_provenance(folder)


def _version(provenance: Mapping[str, Any]) -> int:
    return int(provenance.get("version", 1))


def _entry(provenance: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A version as those after it remember it."""
    entry: dict[str, Any] = {"version": _version(provenance), "name": name}
    entry |= {key: provenance[key] for key in _KEPT if key in provenance}
    entry["corpus"] = {key: provenance["corpus"][key] for key in _CORPUS if key in provenance.get("corpus", {})}
    return entry | {"split": {key: value for key, value in provenance.get("split", {}).items() if key != "sources"}}


def _summary(judged: Mapping[str, Any]) -> dict[str, Any]:
    """The record without the parts of each comparison that only its own file needs."""
    kept = ("n", "n_groups", "first", "second", "difference")
    protocols = {
        name: {
            "title": one["title"],
            "left_out": one["left_out"],
            "verdict": one["verdict"],
            "comparison": one["comparison"] and {key: one["comparison"][key] for key in kept},
        }
        for name, one in judged["protocols"].items()
    }
    summary = {"margin": judged["margin"], "confidence": judged["confidence"], "protocols": protocols}
    return summary | {key: judged[key] for key in ("overlaps",) if key in judged}


def check_lineage(folder: Path, side: Mapping[str, Any], remedy: str) -> None:
    """Raise `CheckpointError` where a version's comparison was not passed, or is not what its answers give."""
    import pandas

    from ct_xception.evaluation.continuity import NO_WORSE, judge_table
    from ct_xception.publish.recount import agree

    stated = side.get("provenance", {}).get("judged")
    if stated is None:
        return
    try:
        record = read_json(folder / EVALUATION / CONTINUITY)
        table = pandas.read_parquet(folder / EVALUATION / CONTINUITY_ANSWERS)
        seed, weights = record["seed"], record["weights_sha256"]
        same = agree(_summary(record), stated) and weights == side["provenance"]["weights_sha256"]
        found = {name: table[table["protocol"] == name] for name in record["protocols"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{printable(folder)}: its comparison with the one before cannot be read ({printable(error)}); {remedy}."
        ) from error
    for name, rows in found.items():
        own = record["protocols"][name]
        again = judge_table(rows, margin=record["margin"], seed=seed)
        if not (same and agree(again, {key: own[key] for key in again})):
            raise CheckpointError(
                f"{printable(folder)}: the comparison with the version before is not what {CONTINUITY_ANSWERS} gives; "
                f"{remedy}."
            )
        if own["verdict"] != NO_WORSE:
            raise CheckpointError(f"{printable(folder)}: {own['title']} is {own['verdict']}; it is no new version.")


# The card


def lineage_slots(evidence: Evidence) -> dict[str, str]:
    """The card's section on versions; empty where there is one version only."""
    provenance = evidence.provenance
    judged = provenance.get("judged")
    if judged is None:
        return {"versions_table": "", "versions_statement": ""}
    entries = [*provenance.get("lineage", []), _entry(provenance, "this one")]
    heads = ["Version", "Weights", "Date", "Trained on", "Accuracy against the version before"]
    rows = [
        [
            f"{entry['version']}: {plain(_short(entry['name']))}",
            code(str(entry.get("weights_sha256") or "")[:12]),
            plain(str(entry.get("date", ""))),
            _trained_on(entry),
            _changes(entry.get("judged")),
        ]
        for entry in reversed(entries)
    ]
    return {"versions_table": markdown_table(heads, rows), "versions_statement": _statement(provenance, judged)}


def _short(name: str) -> str:
    """A Hub id with as much of its commit as tells it apart."""
    repository, sign, revision = str(name).partition("@")
    return repository + sign + revision[:12]


def _trained_on(entry: Mapping[str, Any]) -> str:
    if "imported" in entry:
        return f"not known: imported from {plain(str(entry['imported'].get('from', 'elsewhere')))}"
    told = plain(Path(str(entry.get("corpus", {}).get("source", "not stated"))).name)
    replay = entry.get("replay") or {}
    if not replay.get("images"):
        return told
    return f"{told}, and {replay['images']:,} images of {_names(replay['corpora'])}"


def _names(corpora: Sequence[Mapping[str, Any]]) -> str:
    return " and ".join(plain(Path(str(one["corpus"].get("source"))).name) for one in corpora)


def _changes(judged: Mapping[str, Any] | None) -> str:
    if judged is None:
        return "the first one"
    parts = [
        f"{plain(one['title'])}: {points_text(one['comparison']['difference'])}, n = {one['comparison']['n']:,} in "
        f"{one['comparison']['n_groups']:,} groups"
        for one in judged["protocols"].values()
        if one["comparison"]
    ]
    return "; ".join(parts)


def _statement(provenance: Mapping[str, Any], judged: Mapping[str, Any]) -> str:
    start, replay = provenance["went_on_from"], provenance.get("replay", {})
    old = (
        "No corpus of before was given, so what was forgotten of it was not looked for."
        if not replay.get("corpora")
        else f"Of the training images {100 * replay['share']:.0f} % were replayed from {_names(replay['corpora'])}."
    )
    told = f"{100 * judged['confidence']:.0f} % interval of the change of accuracy (paired bootstrap by group)"
    return (
        f"This is version {provenance['version']}; it went on from {code(_short(start['name']))}. {old} It was written "
        f"because on no test the {told} lies below zero or reaches below −{100 * judged['margin']:.1f} points. "
        f"{_shared(judged)}{_not_given(provenance)} Both answers to every item are in "
        "[`evaluation/continuity.parquet`](evaluation/continuity.parquet)."
    )


def _shared(judged: Mapping[str, Any]) -> str:
    """What one corpus's test shares with another's training, and what became of it."""
    from ct_xception.audit.overlap import sentences
    from ct_xception.evaluation.continuity import WITHOUT_TWINS

    left_out = sum(one["left_out"]["seen"] for name, one in judged["protocols"].items() if name != WITHOUT_TWINS)
    same = "file" if judged.get("overlaps") is None else "picture"
    without = f"{left_out:,} test images were left out because another of these corpora trains on the same {same}."
    if judged.get("overlaps") is None:
        looked = ["Images of one corpus that only resemble training images of another were not looked for."]
    else:
        found = [plain(said) for one in judged["overlaps"] for said in sentences(one)]
        looked = found or ["Among the test images of one corpus no copy of a training image of another was found."]
    return " ".join([*looked, *([without] if left_out else [])])


def _not_given(provenance: Mapping[str, Any]) -> str:
    """The corpora of earlier versions that were not there to be searched; where none was, the statement says so."""
    old = [one["corpus"] for one in provenance.get("replay", {}).get("corpora", [])]
    given = {one.get("hash") for one in [*old, provenance.get("corpus", {})]}
    past = [entry.get("corpus", {}) for entry in provenance.get("lineage", [])]
    absent = sorted({Path(str(one["source"])).name for one in past if one.get("hash") and one["hash"] not in given})
    if not old or not absent:
        return ""
    return f" Not given, and so not looked at: {plain(', '.join(absent))}, on which an earlier version was trained."
