"""External validation: which question another corpus asks, what it may not hold, and what comes out."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from ct_xception.audit.overlap import SplitCorpus
from ct_xception.checkpoint import CARD, METRICS, evaluated
from ct_xception.checkpoint_files import GateRule, Side
from ct_xception.cli import main
from ct_xception.corpus.listing import CorpusOptions
from ct_xception.corpus.load import load_corpus
from ct_xception.errors import CheckpointError, InputError
from ct_xception.evaluation.answers import PREDICTOR, Answers, Items
from ct_xception.evaluation.predictions import Names
from ct_xception.evaluation.protocols import Part
from ct_xception.evaluation.shift.external import External, is_counted, load_external, plan_external
from ct_xception.evaluation.shift.questions import Question, match_question
from ct_xception.evaluation.shift.validation import Validation, validation_figures
from ct_xception.phantom.corpus import generate_phantom
from ct_xception.publish.verify import read_evidence
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.drift import SetWatch
from tests.sealed import copy_checkpoint

CLASSES = ["adenocarcinoma", "large cell carcinoma", "normal", "squamous cell carcinoma"]
GROUPS = {"cancer": ["adenocarcinoma", "large cell carcinoma", "squamous cell carcinoma"]}
OPTIONS = CorpusOptions(decode=False)


class TestQuestion:
    def test_classes_match_by_their_words(self) -> None:
        asked = match_question(["Large_Cell.Carcinoma", "NORMAL", "benign"], CLASSES, None, {}, name="x")
        assert asked.by_class and list(asked.alternatives) == CLASSES
        assert asked.answers == {"Large_Cell.Carcinoma": "large cell carcinoma", "NORMAL": "normal"}
        assert asked.unasked == ("benign",)

    def test_a_group_makes_it_the_question_between_groups(self) -> None:
        found = ["Malignant", "normal", "adenocarcinoma"]
        asked = match_question(found, CLASSES, GROUPS, {"Malignant": "cancer"}, name="x")
        assert asked.alternatives == {"cancer": tuple(GROUPS["cancer"]), "normal": ("normal",)}
        assert asked.answers == {"Malignant": "cancer", "normal": "normal", "adenocarcinoma": "cancer"}

    def test_probabilities_of_a_group_are_summed(self) -> None:
        asked = match_question(["cancer", "normal"], CLASSES, GROUPS, {}, name="x")
        answers = Answers(np.array([[0.1, 0.2, 0.3, 0.4], [np.nan] * 4]), {"b": "torn"}, {"a": "doubtful"})
        found = asked.collapse_answers(answers, CLASSES)
        assert found.probabilities[0] == pytest.approx([0.7, 0.3]) and np.isnan(found.probabilities[1]).all()
        assert (found.refused, found.verdicts) == ({"b": "torn"}, {"a": "doubtful"})

    @pytest.mark.parametrize(
        ("found", "groups", "mapped", "said"),
        [
            (
                ["covid", "other"],
                None,
                {},
                r"--external x: none of its classes \(covid, other\) .*--class_map 'x/covid=",
            ),
            (["covid", "other"], GROUPS, {}, r"or of its groups \(cancer\)"),
            (["covid", "normal"], GROUPS, {"covid": "infection"}, r"--class_map covid=infection: neither a class nor"),
        ],
    )
    def test_what_cannot_be_asked_is_said(self, found: list[str], groups: Any, mapped: Any, said: str) -> None:
        with pytest.raises(InputError, match=said):
            match_question(found, CLASSES, groups, mapped, name="x")


@pytest.mark.parametrize("name", ["7", "patient_012", "Case 3", "pt-44", "P001", "study 12", "patient"])
def test_a_counter_is_no_identity(name: str) -> None:
    assert is_counted(name)


@pytest.mark.parametrize("name", ["Lung_Dx-A0123", "DOE-1977", "1.2.840.113619", "mueller", "123456"])
def test_an_identity_is_no_counter(name: str) -> None:
    assert not is_counted(name)


@pytest.fixture(scope="module")
def learnt(small_phantom: Path) -> list[SplitCorpus]:
    corpus = load_corpus(small_phantom, OPTIONS)
    return [SplitCorpus(corpus.dataset, corpus.report, {})]


@pytest.fixture(scope="module")
def elsewhere(small_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of eight new patients in folders malignant, normal and benign, and two of the own corpus's."""
    folder = tmp_path_factory.mktemp("elsewhere")
    fresh = generate_phantom(folder / "fresh", patients=8, slices_per_patient=2, size=64, classes=2, seed=77)
    table = pandas.read_csv(fresh / "metadata.csv")
    for row in table.itertuples():
        kind = "normal" if row.label == "normal" else "malignant"
        target = folder / "clinic" / kind / f"new{row.Index}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(fresh / row.file_name, target)
    own = pandas.read_csv(small_phantom / "metadata.csv")
    for name in own[own["label"] == "normal"]["file_name"][:2]:
        shutil.copy(small_phantom / name, folder / "clinic" / "normal" / f"old_{Path(name).name}")
    (folder / "clinic" / "benign").mkdir()
    shutil.copy(fresh / table["file_name"][0], folder / "clinic" / "benign" / "b.png")
    return folder / "clinic"


def plan(corpus: Any, learnt: Any, **options: Any) -> Any:
    told: dict[str, Any] = {"class_groups": GROUPS, "class_map": {"malignant": "cancer"}, "options": OPTIONS}
    return plan_external("clinic", corpus, CLASSES, learnt=learnt, progress=False, **(told | options))


class TestPlan:
    def test_overlaps_and_unasked_classes_are_left_out_and_counted(self, elsewhere: Path, learnt: Any) -> None:
        corpus = load_external("clinic", str(elsewhere), OPTIONS)
        found = plan(corpus, learnt)
        assert found.record["images"] == 19 and found.record["overlap"]["exact"] == 2
        assert found.record["n"] == len(found.groups) and found.record["n"] <= 16
        assert not any("old_" in source or "benign" in source for source in found.groups)
        assert found.record["classes"]["benign"] == {"images": 1, "asked": 0, "as": None}
        external = External.of("clinic", found, corpus, OPTIONS)
        kinds = [source.split("/")[0] for source in external.items.sources]
        assert external.items.labels.tolist() == [1 if kind == "normal" else 0 for kind in kinds]

    def test_without_the_own_corpus_nothing_is_claimed_about_overlaps(self, elsewhere: Path) -> None:
        found = plan(load_external("clinic", str(elsewhere), OPTIONS), None)
        assert found.record["overlap"] is None and found.record["n"] == 18
        assert found.record["groups_origin"].startswith("pseudo-patients")

    def test_the_own_corpus_is_no_external_one(self, small_phantom: Path, learnt: Any) -> None:
        with pytest.raises(InputError, match="the very corpus that the network was trained on"):
            plan(load_external("clinic", str(small_phantom), OPTIONS), learnt, class_map={})

    def test_patients_of_one_name_are_left_out_and_counters_are_not(
        self, elsewhere: Path, tmp_path: Path, learnt: list[SplitCorpus]
    ) -> None:
        names = sorted((elsewhere / "normal").glob("new*.png"))[:4] + sorted((elsewhere / "malignant").glob("*"))[:4]
        rows = [{"file": str(path), "label": path.parent.name, "patient": f"case {i}"} for i, path in enumerate(names)]
        rows[0]["patient"], rows[5]["patient"] = "Mueller77", "Mueller77"
        pandas.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
        own = learnt[0].splits
        train = (
            own["train"].remove_columns("group").add_column("group", ["Mueller77", "case 3"] * (len(own["train"]) // 2))
        )
        known = SplitCorpus(type(own)({"train": train}), learnt[0].corpus, {})
        found = plan(load_external("clinic", str(tmp_path / "t.csv"), OPTIONS), [known])
        assert found.record["overlap"]["namesakes"] == 2 and found.record["overlap"]["counted_alike"] == 1
        assert found.record["n"] == 6 and found.record["groups_origin"] == "column patient"

    def test_a_problem_names_the_option(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"^--external clinic: .*gone"):
            load_external("clinic", str(tmp_path / "gone"), OPTIONS)
        with pytest.raises(InputError, match=r"--external \.\./x=…: a name is of letters"):
            load_external("../x", str(tmp_path), OPTIONS)


def test_class_map_entries_of_an_external_corpus_are_its_own() -> None:
    options = CorpusOptions(class_map={"a": "b", "clinic/malignant": "cancer"})
    assert options.without_external(["clinic"]).class_map == {"a": "b"}
    assert options.for_external("clinic").class_map == {"malignant": "cancer"}
    assert options.without_external([]).class_map == options.class_map


def test_figures_stand_beside_the_same_question_at_home() -> None:
    """Four of five right elsewhere, one of them refused by the gate; at home both cancers right, the normal wrong."""
    asked = Question({"cancer": ("a", "b"), "normal": ("n",)}, {"m": "cancer", "n": "normal"})
    labels, scores = np.array([0, 0, 1, 1, 1]), np.array([0.9, 0.6, 0.2, 0.3, 0.8])
    sources = list("vwxyz")
    answers = Answers(np.stack([scores, 1 - scores], axis=1), {}, dict.fromkeys(sources, "accepted") | {"z": "refused"})
    part = Part(Items(labels, ["1", "1", "2", "3", "3"], sources), {PREDICTOR: answers})
    counts = {"images": 5, "n": 5, "n_groups": 3, "overlap": None, "classes": {}, "corpus": {}}
    record = {"groups_origin": "column patient", "alternatives": {"cancer": ["a", "b"], "normal": ["n"]}, **counts}
    one = Validation(part, asked, Names(sources, anonymous=True), record)
    home = np.array([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4], [0.3, 0.3, 0.4]])
    own = Part(Items(np.array([0, 1, 2]), list("abc"), list("abc")), {PREDICTOR: Answers(home)})
    side = Side(gate=GateRule(method="mahalanobis"))
    found = validation_figures(one, {}, own, ["a", "b", "n"], side, 0)
    assert found.gate.refused.value == pytest.approx(0.2) and found.gate.refused.n == 5
    assert found.passed.n == 4 and found.passed.accuracy.value == 1
    assert found.own.n == 3 and found.own.accuracy.value == pytest.approx(2 / 3)
    assert found.by_patient.n == 3


class TestEvaluateKeeps:
    @pytest.fixture
    def kept(self, exported_checkpoint: Path, elsewhere: Path, tmp_path: Path) -> Path:
        folder = copy_checkpoint(exported_checkpoint, tmp_path / "model")
        groups = f"cancer={','.join(GROUPS['cancer'])}"
        words = ["evaluate", str(folder), "--external", f"clinic={elsewhere}", "--class_groups", groups]
        words += ["--class_map", "clinic/malignant=cancer", "--keep", "--output", str(tmp_path / "out")]
        assert main(words) == 0
        return folder

    def test_in_the_card_in_the_figures_and_under_the_seal(self, kept: Path, tmp_path: Path) -> None:
        evidence = read_evidence(kept)
        block = evidence.metrics.external["clinic"]
        assert block.n == 18 and block.own.n and set(block.paths) == {"predictor", "stock_pipeline"}
        card = (kept / CARD).read_text()
        assert "## External validation" in card and "No external validation" not in card
        assert "clinic, external validation (cancer or normal)" in card
        assert "was not looked for" in card and "1 of benign, which the network cannot be asked about" in card
        table = pandas.read_parquet(kept / "evaluation/external/clinic.parquet")
        assert set(table["label"]) == {"cancer", "normal"} and table["source"].str.fullmatch(r"item \d{6}").all()
        assert len(json.loads((tmp_path / "out/evaluation_sources_clinic.json").read_text())) == 18
        assert json.loads((tmp_path / "out/external.json").read_text())["external"]["clinic"] == block.to_json()

    def test_a_corpus_of_one_class_by_what_it_can_say(
        self, exported_checkpoint: Path, elsewhere: Path, tmp_path: Path
    ) -> None:
        folder = copy_checkpoint(exported_checkpoint, tmp_path / "model")
        shutil.copytree(elsewhere / "malignant", tmp_path / "sick" / "malignant")
        words = ["evaluate", str(folder), "--external", f"sick={tmp_path / 'sick'}", "--keep"]
        words += ["--class_groups", f"cancer={','.join(GROUPS['cancer'])}", "--class_map", "sick/malignant=cancer"]
        assert main([*words, "--output", str(tmp_path / "out")]) == 0
        card = (folder / CARD).read_text()
        assert re.search(r"On sick, another source \(cancer or normal\?\): right on \d.*, all of one class, n = ", card)
        assert "AUROC none, n" not in card

    def test_a_table_of_other_columns_and_windows_is_read_by_its_own_options(
        self, exported_checkpoint: Path, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = copy_checkpoint(exported_checkpoint, tmp_path / "model")
        rows = [f"{path.parent.name}/{path.name},{path.parent.name}" for path in sorted(elsewhere.glob("[mn]*/*.png"))]
        (tmp_path / "t.csv").write_text("scan,verdict\n" + "\n".join(rows) + "\n")
        words = [
            "evaluate",
            str(folder),
            "--external",
            f"clinic={tmp_path / 't.csv'}",
            "--output",
            str(tmp_path / "out"),
        ]
        words += ["--keep", "--class_groups", f"cancer={','.join(GROUPS['cancer'])}"]
        own = ["clinic.image_column=scan", "clinic.label_column=verdict", "clinic.class_map=malignant=cancer"]
        assert main([*words, "--external_options", *own]) == 2
        assert "--external_options clinic.image_root" in capsys.readouterr().err
        own += [f"clinic.image_root={elsewhere}", "clinic.window=lung"]
        assert main([*words, "--external_options", *own]) == 0
        assert read_evidence(folder).metrics.external["clinic"].window == "-600/1500"
        assert "Slices in HU were read in the window -600/1500" in (folder / CARD).read_text()

    def test_a_figure_typed_by_hand_is_refused(self, kept: Path) -> None:
        path = kept / evaluated(METRICS)
        metrics = json.loads(path.read_text())
        metrics["external"]["clinic"]["paths"]["predictor"]["accuracy"]["value"] = 0.99
        path.write_text(json.dumps(metrics))
        with pytest.raises(CheckpointError, match="external validation on clinic"):
            read_evidence(kept)


def test_a_corpus_of_one_class_has_a_sensitivity_and_the_window_it_wants_is_told(
    tiny_checkpoint: Path,
    elsewhere: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = SetWatch(None, None)  # type: ignore[arg-type]
    told.through.note(("lung",))
    monkeypatch.setattr(Classifier, "watch_set", lambda self: setattr(self, "watch", told))
    shutil.copytree(elsewhere / "malignant", tmp_path / "sick" / "malignant")
    words = [
        "evaluate",
        str(tiny_checkpoint),
        "--external",
        f"sick={tmp_path / 'sick'}",
        "--output",
        str(tmp_path / "out"),
    ]
    words += ["--class_groups", f"cancer={','.join(GROUPS['cancer'])}", "--class_map", "sick/malignant=cancer"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert (
        "warning: sick: of the 1 doubted" in printed.err
        and "accept 1 with --external_options sick.window=lung" in printed.err
    )
    assert "the split holds one class only" in printed.out
    block = json.loads((tmp_path / "out/external.json").read_text())["external"]["sick"]
    assert block["n"] > 0 and set(block["classes"]) == {"cancer"}


def test_what_cannot_be_validated_is_refused_before_the_work(
    tiny_checkpoint: Path, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["evaluate", str(tiny_checkpoint), "--output", str(tmp_path / "out")]
    assert main(base) == 2 and "neither --corpus nor --external" in capsys.readouterr().err
    assert main([*base, "--external", f"x={elsewhere}", "--keep"]) == 2
    assert "holds no evaluation of its own" in capsys.readouterr().err
    assert main([*base, "--external", str(elsewhere)]) == 2 and "NAME=" in capsys.readouterr().err
