"""The section on versions: what it says of a start on the Hub, of an imported one, and of one alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ct_xception.checkpoint_files import need_side
from ct_xception.evaluation.continuity import Judgement
from ct_xception.publish.card.card import render_card
from ct_xception.publish.lineage import note_version
from ct_xception.publish.verify import Evidence, read_evidence
from tests.publish.conftest import Folder

FIGURE = {"value": 0.02, "low": -0.01, "high": 0.05, "n": 40, "method": "bootstrap"}
COMPARISON = {"n": 40, "n_groups": 20, "first": FIGURE, "second": FIGURE, "difference": FIGURE}
JUDGED: dict[str, Any] = {
    "format": 1,
    "margin": 0.05,
    "confidence": 0.95,
    "seed": 0,
    "passed": True,
    "protocols": {
        "new": {
            "title": "the new test split (clinic_b)",
            "left_out": {"seen": 2, "refused": 0},
            "verdict": "no worse",
            "comparison": COMPARISON | {"mcnemar": {"b": 1, "c": 2, "p": 1.0}, "by_group": None},
        }
    },
}
REPLAY = {"corpora": [{"corpus": {"source": "clinic_a"}}], "images": 30, "available": 90, "share": 0.25}


def start_at(folder: Path, provenance: dict[str, Any], revision: str | None) -> Any:
    folder.mkdir()
    (folder / "ct_xception.json").write_text(json.dumps({"format": 1, "provenance": provenance}))
    return SimpleNamespace(folder=folder, name=f"alice/ct@{revision}" if revision else str(folder), revision=revision)


def versions(folder: Path, evidence: Evidence) -> tuple[str, list[str]]:
    """The statement and the table's rows, the newest first, of the card that the side file gives now."""
    side = need_side(folder)
    card = render_card(folder, evidence=dataclasses.replace(evidence, side=side))
    lines = card.partition("\n## Versions\n")[2].partition("\n## ")[0].splitlines()
    rows = [line for line in lines if line.startswith("|")]
    return " ".join(line for line in lines if line and line not in rows), rows[2:]


def test_versions_are_counted_and_remembered(make_folder: Callable[..., Folder], tmp_path: Path) -> None:
    made = make_folder(n=8, source="clinic_b")
    folder = made.write()
    evidence = read_evidence(folder)
    past = {"version": 1, "name": "random", "corpus": {"source": "older"}, "split": {}}
    before = {"version": 2, "lineage": [past], "corpus": {"source": "clinic_a"}, "weights_sha256": "ab" * 32}
    note_version(folder, start_at(tmp_path / "start", before, "c0ffee" * 6), Judgement.of(JUDGED), REPLAY)
    side = json.loads((folder / "ct_xception.json").read_text())
    assert side["provenance"]["version"] == 3 and len(side["provenance"]["lineage"]) == 2
    assert "mcnemar" not in json.dumps(side)
    said, (third, second, first) = versions(folder, evidence)
    assert first.startswith("| 1: random |") and second.startswith("| 2: alice/ct@c0ffeec0ffee | `abababababab` |")
    assert "clinic\\_b, and 30 images of clinic\\_a | the new test split (clinic\\_b): +2.0 points" in third
    assert "n = 40 in 20 groups" in third
    assert "This is version 3; it went on from `alice/ct@c0ffeec0ffee`." in said
    assert "25 % were replayed from clinic\\_a" in said
    assert "only resemble training images of another were not looked for. 2 test images were left out because" in said
    assert "trains on the same file" in said and "Not given" not in said


def test_what_the_corpora_share_is_said(make_folder: Callable[..., Folder], tmp_path: Path) -> None:
    made = make_folder(n=8, source="clinic_b")
    evidence = read_evidence(made.write())
    shared = {"test": "clinic_b", "others": ["clinic_a"], "n": 42, "exact": 1, "near": 1, "namesakes": 3}
    past = [{"version": number, "name": "v", "corpus": {"source": f"/x/{name}", "hash": name}, "split": {}}
            for number, name in enumerate(("older", "clinic_a"), start=1)]  # fmt: skip
    replay = REPLAY | {"corpora": [{"corpus": {"source": "clinic_a", "hash": "clinic_a"}}]}
    start = start_at(tmp_path / "start", {"version": 3, "lineage": past}, None)
    protocols = {**JUDGED["protocols"], "new, deduplicated": JUDGED["protocols"]["new"]}  # the same images, not others
    statements = []
    for found in ([shared], []):
        note_version(made.path, start, Judgement.of(JUDGED | {"overlaps": found, "protocols": protocols}), replay)
        statements.append(versions(made.path, evidence)[0])
    assert (
        "2 of 42 test images of clinic\\_b show a picture that is in training or validation of clinic\\_a"
        in statements[0]
    )
    assert "3 more of 42 test images of clinic\\_b are of patients whose identifiers are in" in statements[0]
    assert "2 test images were left out because another of these corpora trains on the same picture" in statements[0]
    assert "Not given, and so not looked at: older, on which an earlier version was trained." in statements[0]
    assert "no copy of a training image of another was found" in statements[1]


def test_what_an_imported_start_was_trained_on_is_not_known(make_folder: Callable[..., Folder], tmp_path: Path) -> None:
    folder = make_folder(n=8, source="clinic_b").write()
    limit = "- An earlier version was imported, and which images that one was trained on is not known"
    evidence = read_evidence(folder)
    assert versions(folder, evidence) == ("", []) and limit not in render_card(folder)
    note_version(
        folder, start_at(tmp_path / "start", {"imported": {"from": "Keras"}}, None), Judgement.of(JUDGED), REPLAY
    )
    side = need_side(folder)
    card = render_card(folder, evidence=dataclasses.replace(evidence, side=side))
    assert limit in card and "| not known: imported from Keras | the first one |" in card
