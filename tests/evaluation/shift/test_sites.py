"""A site's slices listed and drawn, rules fitted anew out of fold, and what decides whether a network is kept."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from ct_xception.checkpoint_files import Rules
from ct_xception.corpus.load import CorpusOptions
from ct_xception.errors import CorpusError, InputError
from ct_xception.evaluation.answers import Answers, Items
from ct_xception.evaluation.rules import fit_rules
from ct_xception.evaluation.shift.adaptation import judge_by_labels, judge_steadiness, steadiness
from ct_xception.evaluation.shift.next_labels import COLUMNS, choose_slices
from ct_xception.evaluation.shift.site_rules import FITTED_ON, Cases, check_enough, fold_of, refit_rules
from ct_xception.evaluation.shift.site_slices import Waiting, draw_evenly, list_files, look_at
from ct_xception.phantom.corpus import generate_phantom
from ct_xception.pipeline.unlabelled import list_unlabelled
from ct_xception.serving.classifier import Classifier
from ct_xception.statistics.calibration import apply_temperature
from tests.gates import add_gate
from tests.sites import CLEAR, HAZY, draw_site

NAMES = [CLEAR, HAZY]


def made_cases(patients: int = 40, *, spoilt: float = 0.3, seed: int = 0) -> tuple[Cases, np.ndarray]:
    """Two slices a patient, calibrated answers made over-confident by the temperature `spoilt`."""
    rng = np.random.default_rng(seed)
    share = rng.beta(1, 1, 2 * patients)
    labels = (rng.random(2 * patients) < share).astype(np.intp)
    labels[1::2] = labels[::2]  # of one class each
    answers = apply_temperature(np.stack([1 - share, share], axis=1), spoilt)
    groups = [f"patient {i // 2}" for i in range(2 * patients)]
    return Cases(Items(labels, groups, [f"slice {i}" for i in range(2 * patients)]), True), answers


@pytest.fixture(scope="module")
def old_rules() -> Rules:
    """Those of over-confident answers, as of another place."""
    cases, answers = made_cases(60, seed=9)
    options = {"coverage": 0.9, "class_groups": {}, "calibrated": True, "patients_known": True}
    return fit_rules(cases.items, Answers(answers), NAMES, **options)  # type: ignore[arg-type]


class TestRefit:
    def test_folds_keep_patients_whole_and_deal_classes_out(self) -> None:
        cases, _ = made_cases()
        fold = fold_of(cases, 0)
        assert all(len(set(fold[cases.groups == group])) == 1 for group in range(40))
        assert np.bincount(fold).min() >= 14 and set(fold.tolist()) == set(range(5))

    def test_a_spoilt_scale_is_mended_and_measured_out_of_fold(self, old_rules: Rules) -> None:
        cases, answers = made_cases()
        refit = refit_rules(cases, answers, answers, old_rules, NAMES, coverage=0.9)
        assert refit.rules.temperature > 1.5 and refit.rules.calibration is not None
        assert refit.rules.calibration.split == FITTED_ON
        figures = refit.figures()
        assert figures["difference"]["log_loss"].high < 0 and figures["difference"]["accuracy"].value == 0
        assert figures["after"]["ece"].value < figures["before"]["ece"].value
        assert figures["by_patient"]["n"] == 40 and figures["n"] == 80
        # What is said is not what the rules get on the cases that they were fitted to.
        fitted = apply_temperature(answers, refit.rules.temperature)[refit.rows]
        assert not np.allclose(refit.after.scores, fitted)

    def test_each_case_is_decided_on_without_its_patient(self, old_rules: Rules) -> None:
        """A label that is changed moves no answer of its own patient, and does move others'."""
        cases, answers = made_cases()
        own = cases.groups == 0
        changed = Cases(cases.items.with_labels(np.where(own, 1 - cases.items.labels, cases.items.labels)), True)
        found = []
        for one in (cases, changed):
            refit = refit_rules(one, answers, answers, old_rules, NAMES, coverage=0.9)
            placed = np.empty_like(answers)
            placed[refit.rows] = refit.after.scores
            found.append((refit.fold, placed))
        if (found[0][0] == found[1][0]).all():  # the class deals the folds
            assert np.allclose(found[0][1][own], found[1][1][own])
        assert not np.allclose(found[0][1], found[1][1])

    @pytest.mark.parametrize(("patients", "said"), [(10, "10 patients"), (18, "18 patients")])
    def test_too_few_are_refused(self, patients: int, said: str) -> None:
        cases, _ = made_cases(patients)
        with pytest.raises(InputError, match=said):
            check_enough(cases, NAMES, "--with")

    def test_one_class_is_refused_however_many(self) -> None:
        cases, _ = made_cases(60)
        with pytest.raises(InputError, match="of two or more"):
            check_enough(Cases(cases.items.with_labels(np.zeros(120, np.intp)), True), NAMES, "--with")


class TestKept:
    def test_labels_tell_a_better_network_from_a_scale(self, old_rules: Rules) -> None:
        cases, answers = made_cases()
        right = np.eye(2)[cases.items.labels] * 0.8 + 0.1
        alone, scaled, better = (
            refit_rules(cases, answers, after, old_rules, NAMES, coverage=0.9)
            for after in (answers, apply_temperature(answers, 2.0), right)
        )
        assert judge_by_labels(alone, better).kept
        assert not judge_by_labels(alone, scaled).kept  # recalibration does as much
        assert not judge_by_labels(better, alone).kept

    def test_steadiness_by_hand(self) -> None:
        torn = np.array([[0.75, 0.25], [0.25, 0.75]])
        inside = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
        assert steadiness(torn, np.ones((1, 2))) == pytest.approx([np.log(2) - inside])
        assert steadiness(np.eye(2), np.ones((1, 2))) == pytest.approx([np.log(2)])
        assert steadiness(np.eye(2), np.array([[2.0, 0.0]])) == pytest.approx([0])

    def test_a_network_that_answers_one_class_is_not_steady(self) -> None:
        units, steady = list(range(40)), np.eye(2)[np.arange(40) % 2]
        noisy = np.where(np.arange(40)[:, None] % 2, [0.3, 0.7], [0.7, 0.3])
        assert judge_steadiness(noisy, steady, units).kept
        assert not judge_steadiness(noisy, np.tile([1.0, 0.0], (40, 1)), units).kept
        assert not judge_steadiness(steady, steady, units).kept


def listed(table: Path, **options: str) -> list[Waiting]:
    return list_unlabelled([str(table)], "--to", CorpusOptions(**options))[0]  # type: ignore[arg-type]


class TestSlices:
    def test_a_table_needs_no_labels(self, tmp_path: Path) -> None:
        table = draw_site(tmp_path / "site", 3)
        rows = [{key: row[key] for key in ("path", "patient")} for row in csv.DictReader(table.open())]
        table.write_text("path,patient\n" + "".join(f"{row['path']},{row['patient']}\n" for row in rows))
        found = listed(table)
        assert len(found) == 6 and len({one.patient for one in found}) == 3 and all(one.label == -1 for one in found)
        elsewhere = tmp_path / "tables" / "site.csv"
        elsewhere.parent.mkdir()
        elsewhere.write_text(table.read_text())
        assert len(listed(elsewhere, image_root=str(table.parent))) == 6
        with pytest.raises(CorpusError, match="images/000_0.png: is not there.*--image_root"):
            listed(elsewhere)
        table.write_text("path,patient\nimages/no.png,a\n")
        with pytest.raises(CorpusError, match="images/no.png: is not there"):
            listed(table)
        table.write_text("path,patient\nimages/no.png,a\nimages/000_0.png,b\n")
        found, notes = list_unlabelled([str(table)], "--to", CorpusOptions())
        assert len(found) == 1 and notes[0] == "--to: passed over: 1 images that cannot be read"
        assert "images/no.png: is not there" in notes[1]

    def test_dicom_tells_its_patients_and_pictures_do_not(self, tmp_path: Path) -> None:
        folder = generate_phantom(tmp_path / "dicom", patients=4, slices_per_patient=2, size=64, dicom=True)
        found, _ = list_files(sorted(folder.rglob("*.dcm")))  # masks lie beside them
        assert len({one.patient for one in found}) == 4 and all(one.patient for one in found)
        pictures, _ = list_files([draw_site(tmp_path / "site", 2).parent / "images"])
        assert [one.patient for one in pictures] == [""] * 4

    def test_slices_that_are_kept_hold_pixels_and_no_values(self, tiny_checkpoint: Path, tmp_path: Path) -> None:
        folder = generate_phantom(tmp_path / "dicom", patients=4, slices_per_patient=1, size=64, dicom=True)
        copied = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
        add_gate(copied)
        classifier, (waiting, _) = Classifier.from_pretrained(copied), list_files(sorted(folder.rglob("*.dcm")))
        assert waiting[0].read(classifier, None).values is not None  # which its gate may want to look at again
        found = look_at(classifier, waiting, keep=True)
        assert len(found.slices) == 4 and all(one.values is None for one in found.slices)

    def test_a_sample_is_drawn_patient_by_patient(self) -> None:
        many = [Waiting(f"{i}", "long" if i < 50 else f"short {i}", lambda *_: None) for i in range(60)]  # type: ignore[arg-type,return-value]
        drawn = draw_evenly(many, 15)
        assert sum(one.patient == "long" for one in drawn) == 5 and drawn == draw_evenly(many, 15)
        assert [int(one.name) for one in drawn] == sorted(int(one.name) for one in drawn)


def test_what_to_label_next_is_a_table_and_a_section(tiny_checkpoint: Path, tmp_path: Path) -> None:
    table = draw_site(tmp_path / "site", 4)
    (tmp_path / "site" / "images" / "broken.png").write_bytes(b"no picture")
    table.write_text(table.read_text() + "images/broken.png,clear,broken\n")
    found = choose_slices(Classifier.from_pretrained(tiny_checkpoint), listed(table), 3, most_each=1)
    found.write(tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "next.csv").open()))
    assert [row["rank"] for row in rows] == ["1", "2", "3"] and set(rows[0]) == set(COLUMNS)
    assert len({row["patient"] for row in rows}) == 3 and found.looked == 8
    section = found.section()
    assert section.count("<figure>") == 3 and section.count("data:image/") == 3 and "cannot be read" in section
