"""No figure that is not finite leaves this package: one function makes its JSON, and refuses NaN and infinity."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from ct_xception.files import dump_json, parse_json, write_json

ROOT = Path(__file__).resolve().parents[1]
# Whose JSON is hashed, or looked through, and never written.
UNWRITTEN = {
    "ct_xception/audit/cache.py",
    "ct_xception/audit/overlap.py",
    "ct_xception/checkpoint_files.py",
    "ct_xception/corpus/split.py",
    "ct_xception/evaluation/frozen_features.py",
    "ct_xception/phantom/corpus.py",
    "ct_xception/publish/clearance.py",
    "ct_xception/training/data/cache.py",
}


def calls_json(path: Path) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr in ("dump", "dumps") and ast.unparse(node.value) == "json"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )


def test_nothing_else_writes_json() -> None:
    sources = [*ROOT.glob("ct_xception/**/*.py"), *ROOT.glob("app/*.py"), ROOT / "train_hf.py"]
    found = {path.relative_to(ROOT).as_posix() for path in sources if calls_json(path)}
    assert found - UNWRITTEN == {"ct_xception/files.py"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [{"a": -float("inf")}]])
def test_what_is_not_finite_is_not_written(value: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        dump_json(value)
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NaN", "NaN is no number"),
        ('{"a": [1e999]}', "1e999 is no number"),
        ('{"a": 1, "a": 1}', "a key is given twice"),
        ("[" * 41 + "]" * 41, "nested too deeply"),
        ("[" * 100_000, "nested too deeply|Expecting"),
        ("1" + "0" * 5000, "digits"),
        ("{", "Expecting"),
        (b"\xff\xfe{", "decode"),
    ],
)
def test_what_is_no_json_of_ours_is_refused(text: str | bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(text)


def test_what_was_written_is_read() -> None:
    value = {"é": [1, 2.5, None, True, {"b": "\u2028"}], "": [[[]]]}
    assert parse_json(dump_json(value)) == json.loads(dump_json(value)) == value
