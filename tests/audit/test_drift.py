"""A corpus held against another: told apart or not, what matters of it, what both have, and how it is shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ct_xception.audit.against import _some_patients, audit_against
from ct_xception.audit.audit import audit_corpus, audit_summary, write_audit
from ct_xception.audit.drift import CLASSES, Sample, compare_corpora
from ct_xception.cli import main
from ct_xception.corpus.load import load_corpus
from ct_xception.errors import InputError
from ct_xception.phantom.corpus import generate_phantom

NAMES = ["covid", "other"]
TWO = ("adenocarcinoma", "normal")


def made(
    name: str, patients: int = 60, *, seed: int = 0, mean: float = 120.0, learns: float = 0.0, covid: float = 0.5
) -> Sample:
    """Three slices a patient; `learns` is what the class adds to the mean grey level."""
    rng = np.random.default_rng(seed)
    units = np.repeat(np.arange(patients), 3)
    labels = np.repeat((rng.permutation(patients) >= covid * patients).astype(np.intp), 3)
    grey = np.repeat(rng.normal(mean, 10, patients), 3) + rng.normal(0, 3, len(units)) + learns * (labels == 0)
    noise = np.repeat(rng.normal(5, 1, patients), 3)
    columns = {"mean": grey, "noise": noise, "is_png": np.ones(len(units)), "height": np.full(len(units), 512.0)}
    return Sample(name, columns, units, labels, NAMES)


def test_two_draws_of_one_source_are_not_told_apart() -> None:
    fired = sum(compare_corpora(made("a", seed=2 * k), made("b", seed=2 * k + 1)).unlike for k in range(60))
    assert fired <= 1  # at p < 0.001, corrected
    drift = compare_corpora(made("a"), made("b", seed=1))
    assert drift.judged and drift.sentences()[0].startswith("The images of b are not told from those of a by any of 4")
    assert drift.findings()[0].severity == "note"


def test_what_differs_is_named_and_what_goes_with_the_class_matters() -> None:
    here = made("a", learns=15)
    drift = compare_corpora(here, made("b", seed=1, mean=150))
    assert drift.unlike and drift.families == ("grey levels",) and [one.name for one in drift.told] == ["mean"]
    (grey,) = drift.matters
    assert grey.moves is not None and grey.moves.what in NAMES and abs(grey.moves.correlation) > 0.4
    assert drift.findings()[0].severity == "warning"
    said = " ".join(drift.sentences())
    assert "by their grey levels: 1 of 4 numbers" in said and "Likely to move answers" in said
    plain = compare_corpora(made("a"), made("b", seed=1, mean=150))  # as unlike, but no class goes with it
    assert plain.unlike and not plain.matters and "Nothing of it goes with the class in a" in plain.sentences()[1]


def test_files_and_sizes_are_told_though_all_images_of_a_corpus_are_alike() -> None:
    other = made("b", seed=1)
    other.columns["is_png"][:] = 0  # type: ignore[index]
    other.columns["height"][:] = 256  # type: ignore[index]
    assert {one.name for one in compare_corpora(made("a"), other).told} == {"is_png", "height"}


def test_another_mix_of_classes_is_said_and_is_no_drift_of_images() -> None:
    drift = compare_corpora(made("a", 200, covid=0.5), made("b", 200, seed=1, covid=0.1))
    assert not drift.unlike and any(one.told and one.family == CLASSES for one in drift.numbers)
    assert "The mix of classes differs, by patient: covid 50 % here, 10 % there" in " ".join(drift.sentences())
    more = Sample("b", made("b", seed=1).columns, made("b").units, made("b").labels, ["covid", "flu"])
    assert "other only in a; flu only in b" in " ".join(compare_corpora(made("a"), more).sentences())


def test_few_patients_tell_nothing() -> None:
    drift = compare_corpora(made("a", 4), made("b", 3, seed=1, mean=400))
    assert not drift.judged and not drift.unlike and "too few patients" in drift.verdict()


def test_a_networks_answers_say_what_moves_them() -> None:
    here, there = made("a"), made("b", seed=1, mean=150)
    rng = np.random.default_rng(3)

    def answered(sample: Sample, shift: float) -> Sample:
        first = -0.1 * (sample.columns["noise"] - 5) + 0.05 * rng.normal(0, 1, len(sample.units))
        logs = np.log(np.stack([1 / (1 + np.exp(-first)), 1 / (1 + np.exp(first))], axis=1))
        logs[::7] = np.nan  # slices that it was not asked
        features = rng.normal(shift, 1, (len(sample.units), 2))
        features[::7] = np.nan
        return sample.with_network(features, logs, NAMES)

    drift = compare_corpora(answered(here, 0), answered(there, 4), checkpoint="runs/x/model")
    goes = {one.name: one.moves for one in drift.numbers if one.moves is not None and one.moves.matters}
    assert set(goes) == {"noise"} and goes["noise"].by == "answer"
    assert "features" in drift.families and "The network's features differ" in " ".join(drift.sentences())
    kept = np.sort(rng.normal(4, 1, (2, 40)))  # the checkpoint's own values stand in for those of `here`
    calm = compare_corpora(answered(here, 0), answered(there, 4), known_features=kept)
    assert "features" not in calm.families


def test_whole_patients_are_looked_at() -> None:
    units = np.repeat(np.arange(200), 3)
    rows = _some_patients(units, 0)
    assert len(rows) <= 300 and set(np.bincount(units[rows]).tolist()) <= {0, 3} and len(rows) > 290
    assert len(_some_patients(np.zeros(500, np.intp), 0)) == 500  # one patient is whole, too


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A phantom corpus of pictures, and one of DICOM with other patients."""
    root = tmp_path_factory.mktemp("corpora")
    one = generate_phantom(root / "home", patients=24, slices_per_patient=2, size=64, classes=TWO)
    two = generate_phantom(
        root / "clinic",
        patients=24,
        slices_per_patient=2,
        size=96,
        classes=TWO,
        seed=9,
        dicom=True,
    )
    return one, two


def test_the_audit_gains_finding_page_and_json(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, clinic = folders
    assert main(["audit", str(home), "--against", str(clinic), "--output", str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "The images of clinic are told from those of home by their" in said
    stated = json.loads((tmp_path / "audit.json").read_text())
    assert stated["drift"]["unlike"] and {"sizes", "files"} <= set(stated["drift"]["families"])
    assert stated["drift"]["overlap"] == {"exact": 0, "near": 0, "namesakes": 0}
    assert [one["kind"] for one in stated["findings"]].count("drift") == 1
    page = (tmp_path / "audit.html").read_text()
    assert "clinic, held against home" in page and "height in pixels" in page and "goes with" in page


def test_copies_of_this_corpus_in_the_other_are_counted(folders: tuple[Path, Path], tmp_path: Path) -> None:
    home, _ = folders
    other = generate_phantom(tmp_path / "mixed", patients=12, slices_per_patient=2, size=64, classes=TWO, seed=4)
    theirs = sorted((other / "train").rglob("*.png"))
    for source, target in zip(sorted((home / "train").rglob("*.png"))[:3], theirs, strict=False):
        target.write_bytes(source.read_bytes())
    audit = audit_corpus(load_corpus(home), progress=False)
    found = audit_against(audit, load_corpus(other), progress=False)
    assert found.drift is not None and found.drift.overlap is not None
    assert found.drift.overlap["exact"] == 3
    assert "3 of 24 images of mixed are in home too: 3 pixel for pixel" in " ".join(found.drift.sentences())
    write_audit(found, tmp_path / "out")
    assert "mixed" in audit_summary(found)


def test_a_corpus_against_itself_is_a_mistake_and_a_checkpoint_needs_another(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = load_corpus(folders[0])
    with pytest.raises(InputError, match="is the corpus itself"):
        audit_against(audit_corpus(corpus, progress=False), corpus, progress=False)
    assert main(["audit", str(folders[0]), "--checkpoint", "x", "--output", str(tmp_path)]) == 2
    assert "--checkpoint: goes with --against" in capsys.readouterr().err
