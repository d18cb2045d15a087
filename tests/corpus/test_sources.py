"""The kinds of source: each one file, found by being there, and asked in the order of their ranks."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct_xception.corpus import sources as registry
from ct_xception.corpus.listing import CorpusOptions, Listing
from ct_xception.corpus.sources import Source, find_source, source_of, sources
from ct_xception.corpus.split import MANY_CLASSES, make_splits
from ct_xception.corpus.summary import is_generated, is_public
from ct_xception.errors import InputError


def test_every_module_of_the_room_is_a_source():
    modules = {path.stem for path in Path(registry.__file__).parent.glob("*.py")} - {"__init__"}
    assert {source.kind for source in sources()} == modules
    ranks = [source.rank for source in sources()]
    assert ranks == sorted(ranks, reverse=True)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("phantom", "phantom"), ("phantom:patients=4", "phantom"), ("{folder}", "folder"), ("{folder}/t.csv", "table"),
     ("user/name", "hub"), ("user/name@v1", "hub")],
)  # fmt: skip
def test_what_a_name_means(tmp_path: Path, name: str, kind: str):
    (tmp_path / "t.csv").write_text("a")
    assert find_source(name.format(folder=tmp_path)).kind == kind


@pytest.mark.parametrize("name", ["", "/nonexistent", "no/such/folder", "/dev/zero", "phantoms"])
def test_a_name_that_means_nothing_is_said_with_what_would(name: str):
    with pytest.raises(InputError, match="no such folder or file; give phantom.*a folder.*a CSV.*a Hub dataset"):
        find_source(name)


def test_what_a_record_says_of_its_source():
    assert is_generated({"kind": "phantom"}) and is_public({"kind": "hub"})
    for kind in ("folder", "table", "saved", "of the future", None):
        assert not is_generated({"kind": kind}) and not is_public({"kind": kind})
    assert source_of("of the future") is None


def test_another_source_is_one_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """What a newcomer writes: one file with SOURCE in it."""
    (tmp_path / "other.py").write_text(
        "from ct_xception.corpus.listing import Listing\nfrom ct_xception.corpus.sources import Source\n"
        "SOURCE = Source('other', 'other:NAME', lambda name: name.startswith('other:'), "
        "lambda name, options: Listing('other'), rank=9)\n"
    )
    monkeypatch.setattr(registry, "__path__", [*registry.__path__, str(tmp_path)])
    sources.cache_clear()
    try:
        found = find_source("other:x")
        assert isinstance(found, Source) and isinstance(found.list_corpus("other:x", CorpusOptions()), Listing)
    finally:
        monkeypatch.undo()
        sources.cache_clear()


@pytest.mark.parametrize("inner", ["", "/P{}", "/case {}"])
def test_many_classes_are_split_by_groups(grow, inner: str):
    from ct_xception.corpus.load import load_corpus

    classes = MANY_CLASSES + 6
    root = grow({f"class {index}{inner.format(index * 8 + one)}": 2 if inner else 8
                 for index in range(classes) for one in range(8 if inner else 1)})  # fmt: skip
    corpus = load_corpus(root, CorpusOptions(decode=False))
    splits, described = make_splits(corpus.dataset)
    assert described["crossing_groups"] == 0 and sum(described["counts"].values()) == corpus.report["images"]
    assert all(len(set(part["label"])) == classes for part in splits.values())
    assert make_splits(corpus.dataset)[1]["name"] == described["name"]
