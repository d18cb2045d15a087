"""The whole audit on small phantoms: planted defects are found, a clean corpus passes, and what is written is safe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from ct_xception.audit.audit import Audit, audit_corpus, audit_summary, write_audit
from ct_xception.audit.findings import name_classes
from ct_xception.cli import main
from ct_xception.corpus.load import CorpusOptions, load_corpus
from ct_xception.phantom.corpus import generate_phantom
from tests.conftest import Grow


def audit(folder: Path) -> Audit:
    return audit_corpus(load_corpus(folder, CorpusOptions(decode=False)), progress=False)


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of 24 patients with leaks, conflicts, duplicates and one brighter class."""
    plant = ["duplicates:4", "leaks:7", "conflicts:2", "brightness"]
    folder = tmp_path_factory.mktemp("planted") / "phantom"
    return generate_phantom(folder, patients=24, slices_per_patient=2, size=96, plant=plant)


@pytest.fixture(scope="session")
def planted_audit(planted: Path) -> Audit:
    return audit(planted)


@pytest.fixture(scope="session")
def clean_audit(tiny_corpus: Path) -> Audit:
    return audit(tiny_corpus)


def test_a_clean_phantom_has_nothing_critical_and_leaks_nothing(clean_audit: Audit) -> None:
    assert [finding.title for finding in clean_audit.findings if finding.severity == "critical"] == []
    assert not clean_audit.leaks
    assert clean_audit.warning() == ""
    assert "Nothing critical." in audit_summary(clean_audit)


def test_planted_defects_are_all_found(planted: Path, planted_audit: Audit) -> None:
    found = {finding.kind: finding for finding in planted_audit.findings}
    truth = json.loads((planted / "planted.json").read_text())["planted"]
    copied = {Path(one["files"]["test"]) for one in truth if one["kind"] == "leaks" and one["how"] == "copied"}
    assert copied <= {Path(source) for source in found["leak_exact"].items}
    assert found["leak_group"].severity == found["conflict"].severity == "critical"
    conflicts = {Path(name) for one in truth if one["kind"] == "conflicts" for name in one["files"]}
    # Of a conflict whose one copy lies in the class made brighter, the two are no longer equal, but nearly.
    contradicting = found["conflict"].items + found["conflict_near"].items if "conflict_near" in found else ()
    assert conflicts <= {Path(source) for source in contradicting or found["conflict"].items}
    assert found["duplicates"].n >= 4
    assert planted_audit.leaks


def test_the_planted_brightness_is_found_and_the_class_named(planted: Path, planted_audit: Audit) -> None:
    (truth,) = [
        one for one in json.loads((planted / "planted.json").read_text())["planted"] if one["kind"] == "brightness"
    ]
    found = {finding.kind: finding for finding in planted_audit.findings}
    finding = found["shortcut_border"]
    assert finding.severity == "critical"
    assert finding.detail["figures"]["strongest"] == truth["label"]
    assert f"Images of {truth['label']} can be told from the rest by the border outside the body" in finding.title


def test_the_warning_says_what_is_critical(planted_audit: Audit) -> None:
    said = planted_audit.warning()
    assert said.startswith("Figures on this corpus's own splits are not to be trusted")
    for finding in planted_audit.findings:
        if finding.severity == "critical":
            assert finding.title in said


def test_public_names_no_file_and_no_patient(planted_audit: Audit) -> None:
    public = json.dumps(planted_audit.public(), allow_nan=False)
    full = json.dumps(planted_audit.to_dict(), allow_nan=False)
    for source, patient in planted_audit.patients.items():
        assert source not in public and source in full
        assert f'"{patient}"' not in public
    counts = planted_audit.public()["counts"]
    assert sum(counts.values()) == len(planted_audit.findings)


def test_the_summary_fits_the_terminal_and_lists_every_finding(planted_audit: Audit) -> None:
    lines = audit_summary(planted_audit, 80).splitlines()
    assert max(map(len, lines)) <= 80
    marks = [line.split()[0] for line in lines[1:] if line[2] != " "]
    assert [mark.lower() for mark in marks] == [finding.severity for finding in planted_audit.findings]


def test_class_names_that_differ_between_splits_are_said(grow: Grow) -> None:
    root = grow({"train/a_T0": 4, "train/b": 4, "test/a": 3, "test/b": 3})
    (finding,) = [one for one in audit(root).findings if one.kind == "class_names"]
    assert finding.title.startswith("3 class names stand for 2 classes")
    assert finding.detail["names"] == {"a": ["a", "a_T0"], "b": ["b"]}
    assert (finding.n, finding.total) == (7, 14)


def test_a_file_that_cannot_be_read_is_critical_and_harms_nothing_else(tiny_corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_corpus, folder)
    victim = next((folder / "train" / "normal").glob("*.png"))
    victim.write_bytes(victim.read_bytes()[:40])
    result = audit(folder)
    (finding,) = [one for one in result.findings if one.kind == "unreadable"]
    assert finding.items == (f"train/normal/{victim.name}",)
    assert [one.kind for one in result.findings if one.severity == "critical"] == ["unreadable"]
    write_audit(result, tmp_path / "out")


def test_an_absent_class_and_small_classes_are_said(grow: Grow) -> None:
    found = {
        finding.kind: finding.title for finding in audit(grow({"train/a": 12, "train/b": 12, "test/a": 3})).findings
    }
    assert found["class_absent"] == "There are no images of b in test."
    assert found["class_few"].endswith("too few for a figure: a 3 in test.")


def test_the_audit_of_a_corpus_without_splits(grow: Grow) -> None:
    result = audit(grow({"a": 3, "b": 3}))
    assert not result.leaks
    assert not [one.kind for one in result.findings if one.kind.startswith(("leak", "split_shift", "framing"))]


def test_cli_audit_writes_page_and_json_and_is_strict_on_request(
    planted: Path, planted_audit: Audit, clean_audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "audit"
    answers = iter([planted_audit, planted_audit, clean_audit])
    monkeypatch.setattr("ct_xception.audit.audit.audit_corpus", lambda *_, **__: next(answers))
    assert main(["audit", str(planted), "--output", str(output), "--strict"]) == 1
    assert "CRITICAL" in capsys.readouterr().out
    assert json.loads((output / "audit.json").read_text(encoding="utf-8"))["leaks"] is True
    assert (output / "audit.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["audit", str(planted), "--output", str(output)]) == 0
    assert main(["audit", str(planted), "--output", str(output), "--strict"]) == 0
    assert json.loads((output / "audit.json").read_text(encoding="utf-8"))["leaks"] is False


def test_cli_audit_refuses_a_file_as_output(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (2, 2)).save(tmp_path / "taken.png")
    assert main(["audit", str(tiny_corpus), "--output", str(tmp_path / "taken.png")]) == 2
    assert "--output" in capsys.readouterr().err


def test_a_sentence_on_a_thousand_classes_is_one() -> None:
    counts = {f"class {k}": {"n": 1, "total": 2} for k in range(1000)}
    said = name_classes(counts)
    assert said.startswith("1 of 2 class 0, 1 of 2 class 1, ") and said.endswith("1 of 2 class 19, 980 more")
    assert name_classes({"a": {"n": 1, "total": 4}, "b": {"n": 2, "total": 4}}) == "2 of 4 b, 1 of 4 a"
    assert name_classes({"a": {"n": 4, "total": 4}, "b": {"n": 2, "total": 2}}) == "all of every class"
    assert name_classes({"a": {"n": 4, "total": 4}, "b": {"n": 0, "total": 0}}) == "4 of 4 a"


def test_the_terminal_names_what_cannot_be_read(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = shutil.copytree(tiny_corpus, tmp_path / "corpus")
    for path in sorted((corpus / "train").rglob("*.png"))[:4]:
        path.write_bytes(path.read_bytes()[:200])
    assert main(["audit", str(corpus), "--output", str(tmp_path / "audit")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    audit = json.loads((tmp_path / "audit/audit.json").read_text(encoding="utf-8"))
    assert len(audit["unreadable"]) == 4 and sum(name in said for name in audit["unreadable"]) == 3
    assert " and 1 more " in said


@pytest.mark.parametrize(
    ("patients", "severity"), [("aabb", "critical"), ("aabc", "warning"), ("abcd", ""), ("abab", "")]
)
def test_a_class_that_is_one_patient_is_said(tiny_corpus: Path, tmp_path: Path, patients: str, severity: str) -> None:
    """Four images, two of each class; the letters are their patients."""
    sources = sorted(tiny_corpus.rglob("*.png"))[:4]
    rows = [f"{source},{'xxyy'[k]},{patients[k]}" for k, source in enumerate(sources)]
    table = tmp_path / "slices.csv"
    table.write_text("\n".join(["path,label,patient", *rows]))
    found = {finding.kind: finding for finding in audit(table).findings}
    assert ("single_patients" in found) == bool(severity)
    if severity:
        assert found["single_patients"].severity == severity
        assert found["single_patients"].n == (4 if severity == "critical" else 2)
