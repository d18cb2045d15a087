"""README and docs: every link leads somewhere, every command parses, every snippet compiles, the badges are true."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ct_xception.cli import build_parser, commands

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.S | re.M)


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """(page, words) of each of our commands in a block of shell, continued lines joined and comments left out."""
    for path in PAGES:
        for block in blocks(path, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|\|", line):
                    words = shlex.split(part, comments=True)
                    if words[:1] == ["ct-xception"]:
                        yield path.name, words[1:]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target, anchor in LINK.findall(path.read_text(encoding="utf-8")):
        found = path.parent / target if target else path
        assert found.exists(), f"{path.name}: {target}"
        assert not anchor or anchor in anchors(found), f"{path.name}: {target}#{anchor}"


@pytest.mark.parametrize(("page", "words"), list(command_lines()))
def test_every_command_parses(page: str, words: list[str]) -> None:
    assert callable(build_parser(words[:1]).parse_args(words).run)


def test_the_list_of_commands_is_whole() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8"), re.M)
    assert {name for row in rows for name in re.findall(r"`([\w-]+)`", row)} == set(commands())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_snippet_compiles(path: Path) -> None:
    for block in blocks(path, "python"):
        ast.parse(block)


def test_the_badges_are_true() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = README.read_text(encoding="utf-8")
    assert f"python-{project['requires-python'][2:]}%2B" in text and project["requires-python"].startswith(">=")
    assert f"licence-{project['license'].replace('-', '--')}-" in text


def test_the_readme_is_short_and_names_targets_that_are_there() -> None:
    text, makefile = README.read_text(encoding="utf-8"), (ROOT / "Makefile").read_text(encoding="utf-8")
    assert len(text.split()) < 900
    for target in re.findall(r"^make ([\w-]+)", "\n".join(blocks(README, "bash")), re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
