"""A kept survey is the survey that was made, is made anew where anything differs, and is never half there."""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from ct_xception.audit import audit as module
from ct_xception.audit import cache as audit_cache
from ct_xception.audit.audit import Audit, audit_corpus, keep_audit
from ct_xception.corpus.load import Corpus, load_corpus
from ct_xception.imaging.windows import WINDOWS


@pytest.fixture(scope="module")
def corpus(small_phantom: Path) -> Corpus:
    return load_corpus(small_phantom)


@pytest.fixture
def kept(corpus: Corpus, tmp_path: Path) -> Audit:
    found = audit_corpus(corpus, progress=False, cache=tmp_path)
    assert not any(tmp_path.iterdir())  # an audit alone writes nothing
    keep_audit(found, tmp_path)
    return found


def test_what_is_kept_is_what_was_found(corpus: Corpus, kept: Audit, tmp_path: Path) -> None:
    found = audit_cache.load(tmp_path / audit_cache.cache_name(corpus, None, None))
    assert found is not None
    survey, twins = found
    for one in fields(survey):
        expected, given = getattr(kept.survey, one.name), getattr(survey, one.name)
        if isinstance(expected, dict):
            assert list(expected) == list(given)
            for name, values in expected.items():
                np.testing.assert_array_equal(given[name], values)
        else:
            np.testing.assert_array_equal(given, expected)
    assert (twins.pairs, twins.related, twins.patients) == (kept.twins.pairs, kept.twins.related, kept.twins.patients)
    np.testing.assert_array_equal(twins.clusters, kept.twins.clusters)


def test_the_next_audit_looks_at_no_file(
    corpus: Corpus, kept: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct_xception.audit.survey.look_at", None)
    again = audit_corpus(corpus, progress=False, cache=tmp_path)
    assert again.public() | {"seconds": 0} == kept.public() | {"seconds": 0}
    with pytest.raises(TypeError):
        audit_corpus(corpus, progress=False, cache=tmp_path, window=WINDOWS["lung"])
    with pytest.raises(TypeError):
        module.audit_corpus(corpus, progress=False)


def test_a_damaged_or_changed_cache_is_made_anew(corpus: Corpus, kept: Audit, tmp_path: Path, small_phantom) -> None:
    folder = tmp_path / audit_cache.cache_name(corpus, None, None)
    (folder / "columns.npz").write_bytes(b"PK")
    assert audit_cache.load(folder) is None
    (folder / "columns.npz").unlink()
    assert audit_cache.load(folder) is None
    copy = tmp_path / "copy"
    shutil.copytree(small_phantom, copy)
    picture = next(copy.rglob("*.png"))
    picture.write_bytes(picture.read_bytes() + b"\0")
    assert audit_cache.cache_name(load_corpus(copy), None, None) != folder.name
