"""The card's shape, its header, its words, its sections' facts, and the code that it tells people to paste."""

from __future__ import annotations

import copy
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from ct_xception.errors import InputError
from ct_xception.metrics import Metrics
from ct_xception.publish.card.card import (
    BANNED_WORDS,
    PLACEHOLDER_REPO,
    check_template,
    check_words,
    render_card,
    write_card,
)
from ct_xception.publish.card.markdown import fill_template, packaged_template
from ct_xception.text import RESEARCH_USE
from tests.publish.conftest import FINDINGS, RULE, Folder, write_audit

ROOT = Path(__file__).resolve().parents[3]
MakeModelDir = Callable[..., Path]
NOTES = ["46 of 54 normal test files are byte-identical to a training file"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the card asked for the network")

    monkeypatch.setattr("socket.socket.connect", refuse)


SECTIONS = [
    "Leaks and shortcuts", "How to use", "Intended use", "Figures", "Calibration", "Prediction sets",
    "Operating points", "Input gate", "Heat maps", "Mistakes", "Training", "Limits", "Checklists", "Provenance",
    "References",
]  # fmt: skip


@pytest.fixture(scope="module")
def full_card(measured_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The card of a folder that has everything but versions and exports."""
    folder = copy.deepcopy(measured_folder)
    folder.path = Path(shutil.copytree(measured_folder.path, tmp_path_factory.mktemp("full") / "model"))
    folder.side["provenance"]["corpus"]["notes"] = NOTES
    write_audit(folder.write(), leaks=True)
    return render_card(folder.path)


def section(card: str, title: str) -> str:
    """What stands under a heading of the second level."""
    return card.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


class TestShape:
    def test_every_section_stands_in_its_place(self, full_card: str) -> None:
        assert re.findall(r"^## (.+)$", full_card, re.MULTILINE) == SECTIONS
        assert all(len(section(full_card, title)) > 100 for title in SECTIONS)

    def test_headings_tables_and_lists_are_read_as_such(self, full_card: str) -> None:
        body = ModelCard(full_card).text
        assert "{{" not in body and "{%" not in body and "\n\n\n" not in body
        lines = body.splitlines()
        for above, line, below in zip(lines, lines[1:], lines[2:], strict=False):
            if line.startswith("#") and "train_hf" not in line:
                assert not above and not below, f"{line} is glued to its neighbours"
            if line.startswith("|"):
                assert not above or above.startswith("|"), f"a table begins right under {above!r}"

    def test_every_row_of_a_table_is_as_wide_as_its_heading(self, full_card: str) -> None:
        tables = re.findall(r"(?:^\|.*\n)+", ModelCard(full_card).text, re.MULTILINE)
        assert len(tables) == 15
        for table in tables:
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(widths) == 1 and len(table.splitlines()) > 2, table

    @pytest.mark.parametrize(
        "name",
        ["model_card.md", *(path.name for path in sorted((ROOT / "ct_xception/publish/card/templates").iterdir()))],
    )
    def test_no_template_holds_a_figure_or_a_claim(self, name: str) -> None:
        check_template(packaged_template(name))
        check_words(packaged_template(name))


def test_write_card_puts_it_into_the_readme(make_model_dir: MakeModelDir) -> None:
    folder = make_model_dir()
    assert write_card(folder, repo_id="someone/ct") == folder / "README.md"
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert 'model="someone/ct"' in text and PLACEHOLDER_REPO not in text


class TestHeader:
    def test_what_the_hub_reads(self, make_model_dir: MakeModelDir) -> None:
        data = ModelCard(render_card(make_model_dir(), repo_id="someone/ct", license="mit")).data
        assert (data.pipeline_tag, data.library_name, data.license) == ("image-classification", "transformers", "mit")
        assert data.base_model == "timm/legacy_xception.tf_in1k"
        assert data.datasets is None
        assert data.model_name == "ct"
        assert "research-only" in data.tags

    def test_the_model_index_holds_the_evaluators_figures_and_the_protocol(self, make_model_dir: MakeModelDir) -> None:
        import json

        folder = make_model_dir()
        paths = json.loads((folder / "evaluation/metrics.json").read_text())["paths"]
        results = ModelCard(render_card(folder)).data.eval_results
        assert len(results) == 10
        for result in results:
            assert result.dataset_config == "published"
            assert result.dataset_name == "chest-ct-scan-images, published protocol, test split 5f0c77aa12bb"
            assert result.dataset_args["split_hash"] == "5f0c77aa12bb34cc"
        first, stock = results[0], results[5]
        assert (first.metric_type, first.metric_name) == ("accuracy", "Accuracy, ct-xception predictor")
        assert first.metric_value == pytest.approx(paths["predictor"]["accuracy"]["value"], abs=5e-5)
        assert first.metric_args["low"] == pytest.approx(paths["predictor"]["accuracy"]["low"], abs=5e-5)
        assert stock.metric_name == "Accuracy, stock pipeline()" and stock.metric_args["n"] == 39

    def test_every_protocol_keeps_its_own_figures_the_most_pessimistic_first(self, full_folder: Folder) -> None:
        """The Hub's library merges results of one type and split: the protocol is what keeps them apart."""
        results = ModelCard(render_card(full_folder.write())).data.eval_results
        accuracies = [(one.dataset_name, one.metric_value) for one in results if one.metric_type == "accuracy"]
        measured = full_folder.metrics["protocols"] | {"published": full_folder.metrics}
        grouped, published, stock, deduplicated, _ = accuracies
        assert grouped[0] == "chest-ct-scan-images, grouped protocol, 5 folds f01df01df01d"
        assert published[0] == stock[0] == "chest-ct-scan-images, published protocol, test split 5f0c77aa12bb"
        assert deduplicated[0] == "chest-ct-scan-images, deduplicated protocol, test split dedca11ab1e0"
        for (_, value), name in ((grouped, "grouped"), (published, "published"), (deduplicated, "deduplicated")):
            stated = measured[name]["paths"]["predictor"]["accuracy"]["value"]
            assert value == pytest.approx(stated, abs=5e-5)

    @pytest.mark.parametrize(
        ("begun", "base"),
        [
            ("random", None),
            ("legacy_xception.tf_in1k.safetensors", "timm/legacy_xception.tf_in1k"),
            ("my_own.safetensors", None),
        ],
    )
    def test_base_model_only_where_the_weights_were_timms(
        self, make_model_dir: MakeModelDir, begun: str, base: str | None
    ) -> None:
        folder = make_model_dir()
        side = (folder / "ct_xception.json").read_text()
        (folder / "ct_xception.json").write_text(side.replace("timm/legacy_xception.tf_in1k", begun))
        assert ModelCard(render_card(folder)).data.base_model == base

    def test_a_hub_corpus_is_linked(self, make_model_dir: MakeModelDir) -> None:
        text = render_card(make_model_dir(kind="hub", source="someone/lungs@main"))
        assert ModelCard(text).data.datasets == ["someone/lungs"]


class TestWords:
    def test_the_research_use_line_comes_first(self, make_model_dir: MakeModelDir) -> None:
        body = ModelCard(render_card(make_model_dir())).text.strip().splitlines()
        assert body[0].startswith("# ") and body[2] == f"> **{RESEARCH_USE}**"

    def test_no_external_validation_is_said(self, make_model_dir: MakeModelDir) -> None:
        assert "**No external validation**" in render_card(make_model_dir())

    @pytest.mark.parametrize(
        "claim",
        ["It diagnoses tumours.", "Detects cancer early.", "detects lung cancers", "a clinical-grade model",
         "Clinical grade accuracy", "radiologist-level", "clinically validated", "state-of-the-art",
         "finds early tumors", "identifies malignant nodules", "better than radiologists", "safe for clinical use",
         "CE-marked", "diagnosing", "outperforms experts", "recognises non-small cell carcinoma"],
    )  # fmt: skip
    def test_a_claim_is_refused(self, claim: str) -> None:
        with pytest.raises(InputError, match="a research model may not"):
            check_words(f"A text. {claim} More text.")

    def test_a_claim_in_the_template_is_refused(self, make_model_dir: MakeModelDir) -> None:
        with pytest.raises(InputError, match="says 'diagnoses'"):
            render_card(make_model_dir(), template=packaged_template() + "It diagnoses tumours.")

    def test_neither_template_nor_card_says_a_banned_word(self, make_model_dir: MakeModelDir) -> None:
        for text in (packaged_template(), render_card(make_model_dir(notes=NOTES))):
            check_words(text)
            assert not re.search("|".join(BANNED_WORDS), text, re.IGNORECASE)

    def test_a_corpus_may_be_called_what_it_is(self, make_model_dir: MakeModelDir) -> None:
        assert "# Xception for CT slices: Detect Lung Cancer" in render_card(
            make_model_dir(source="Detect Lung Cancer")
        )

    def test_paths_of_this_machine_stay_here(self, make_model_dir: MakeModelDir) -> None:
        assert "/home/somebody" not in render_card(make_model_dir())


class TestTemplate:
    @pytest.mark.parametrize("typed", ["accuracy 95 %", "accuracy 95.2%", "AUROC .98", "AUROC 0.98", "300/315 right"])
    def test_a_figure_typed_by_hand_is_refused(self, typed: str) -> None:
        with pytest.raises(InputError, match="The card's template holds the figure"):
            check_template(packaged_template() + typed)

    def test_links_code_and_slots_may_hold_numbers(self) -> None:
        check_template("https://arxiv.org/abs/1610.02357 `0.5` {{ 0.5 }}\n```\n0.5\n```\n2017, page 22")

    def test_an_unknown_slot_is_refused(self, make_model_dir: MakeModelDir) -> None:
        with pytest.raises(InputError, match="'accuracy' is undefined"):
            render_card(make_model_dir(), template="{{ accuracy }}")

    def test_slots_are_filled_once(self, make_model_dir: MakeModelDir) -> None:
        """Text from a corpus is never read as a template, nor as Markdown."""
        text = render_card(make_model_dir(notes=["{{ command }} | <b>*bold*</b>"]))
        assert r"Corpus: {{ command }} \| \<b\>\*bold\*\</b\>." in text


class TestCases:
    def test_two_classes(self, make_model_dir: MakeModelDir) -> None:
        text = render_card(make_model_dir(["normal", "pneumonia"]))
        assert "each of 2 classes out (normal, pneumonia)" in text
        assert len(re.findall(r"^\| (normal|pneumonia) \| 20 \|", text, re.MULTILINE)) == 2

    def test_twenty_classes(self, make_model_dir: MakeModelDir) -> None:
        names = [f"finding_{k}.a|b" for k in range(20)]
        text = render_card(make_model_dir(names, n=60))
        assert len(re.findall(r"^\| finding\\_\d+\.a\\\|b \| 3 \|", text, re.MULTILINE)) == 20
        assert len(ModelCard(text).data.eval_results) == 10

    def test_a_class_absent_from_test(self, make_model_dir: MakeModelDir) -> None:
        text = render_card(make_model_dir(n=3))
        assert "| squamous cell carcinoma | 0 | none |" in text
        assert "- The test split holds no squamous cell carcinoma: nothing is known" in text

    def test_known_patients(self, make_model_dir: MakeModelDir) -> None:
        text = render_card(make_model_dir(groups={"count": 60, "origin": "column patient"}))
        assert "Groups (patients or series) are known from column patient" in text
        assert "Without patient identifiers" not in text and "partitions are disjoint | groups |" in text

    def test_sets_by_class_are_promised_to_each(self, make_folder: Callable[..., Folder]) -> None:
        folder = make_folder()
        names = folder.names
        by_class = {"thresholds": dict.fromkeys(names, 0.75) | {names[1]: None}, "n_by_class": dict.fromkeys(names, 25)}
        folder.promise(RULE | by_class)
        text = render_card(folder.write())
        assert "the true one in 90 % of cases of each class (conformal prediction" in text
        assert f"Validation holds too few of {names[1]} to promise that: every set holds it." in text
        assert "| Class | Coverage, published |" in text

    def test_a_column_of_pseudonyms_names_patients(self, make_model_dir: MakeModelDir) -> None:
        text = render_card(make_model_dir(groups={"count": 60, "origin": "column pseudonym"}))
        assert "known from column pseudonym" in text and "Without patient identifiers" not in text

    def test_look_alikes_are_not_known_patients(self, make_model_dir: MakeModelDir) -> None:
        text = render_card(make_model_dir(groups={"origin": "pseudo-patients from look-alike slices"}))
        assert "look-alike slices count as one patient" in text and "Without patient identifiers" in text

    def test_a_phantom_says_nothing_about_ct(self, make_model_dir: MakeModelDir) -> None:
        text = render_card(make_model_dir(kind="phantom", source="phantom:seed=1"))
        assert "- The corpus is a procedural phantom" in text
        assert "# Xception for CT slices: phantom:seed=1" in text
        assert "this says nothing about real CT" in text.partition("# Xception")[2].split("\n\n")[2]

    def test_pictures_are_shown_only_where_they_were_published(self, make_model_dir: MakeModelDir) -> None:
        text = render_card(make_model_dir())
        assert "evaluation/examples.png" not in text and "none of its images is in this repository" in text

    def test_every_figure_that_is_shown_is_there(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir()
        shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", render_card(folder))
        assert len(shown) == 3 and all((folder / path).is_file() for path in shown)


class TestSections:
    """What the card says of each measurement, where there is one and where there is none."""

    def test_the_headline_is_the_most_pessimistic_protocol(self, full_folder: Folder) -> None:
        body = ModelCard(render_card(full_folder.write())).text
        first = body.split("\n\n")[2]
        accuracy = full_folder.metrics["protocols"]["grouped"]["paths"]["predictor"]["accuracy"]
        assert first.startswith(f"**Right on {100 * accuracy['value']:.1f} % of 80 images (95 % interval ")
        assert "5-fold cross-validation" in first and "most pessimistic of the three protocols" in first
        assert body.index("| **grouped**") < body.index("| published:") < body.index("| deduplicated:")

    def test_one_protocol_says_what_was_not_run(self, make_model_dir: MakeModelDir) -> None:
        text = render_card(make_model_dir())
        assert "the only protocol that was run." in text and "Not run: deduplicated and grouped." in text
        assert "- Cross-validation by group was not run" in text

    @pytest.mark.parametrize(
        ("rate", "said"),
        [
            (
                0.7,
                "**It does not beat the best simple rule (1-nearest neighbour, body crop) by more than the interval**",
            ),
            (1.0, "**It is worse than the best simple rule (1-nearest neighbour, body crop)**"),
            (0.3, "It beats the best simple rule (1-nearest neighbour, body crop), which scores"),
        ],
    )
    def test_the_model_stands_beside_the_best_simple_rule(
        self, make_folder: Callable[..., Folder], rate: float, said: str
    ) -> None:
        folder = make_folder()
        folder.run_protocols()
        folder.run_baselines({"majority": 0.1, "nearest_body": rate})
        assert said in render_card(folder.write())

    def test_the_questions_that_the_classes_mix(self, full_folder: Folder) -> None:
        text = render_card(full_folder.write())
        block = full_folder.metrics["questions"]["grouped"]
        groups, within = block["groups"]["accuracy"]["value"], block["within"]["cancer"]["accuracy"]["value"]
        assert f"| cancer or normal? | 80 | {100 * groups:.1f} %" in text
        cancers = "adenocarcinoma, large cell carcinoma or squamous cell carcinoma"
        assert f"| If cancer: {cancers}? | 60 | {100 * within:.1f} %" in text

    def test_thresholds_of_groups_first_and_abstention(self, full_folder: Folder) -> None:
        text = render_card(full_folder.write()).partition("## Operating points")[2].partition("## Mistakes")[0]
        shown = re.findall(r"^\| (\w+): (\w+) of at least 0.95 \|", text, re.MULTILINE)
        assert shown == [("cancer", "specificity"), ("cancer", "sensitivity")]
        assert f"{len(full_folder.metrics['operating_points']) - 2} more are in" in text
        answered = full_folder.metrics["abstention"]["answered"]["value"]
        assert f"On that split it answers {100 * answered:.1f} %" in text

    def test_what_was_not_measured_is_said_or_left_out(self, make_model_dir: MakeModelDir) -> None:
        text = render_card(make_model_dir())
        assert "What simple rules score on the same images was not measured." in text
        assert "## Calibration\n\nNot measured." in text and "whether they are calibrated was not measured" in text
        assert "The corpus was not audited: whether it holds leaks or shortcuts is unknown." in text
        for absent in ("## Prediction sets", "## Operating points", "The questions that", "Beside simple rules"):
            assert absent not in text

    def test_calibration_before_and_after(self, full_folder: Folder) -> None:
        text = render_card(full_folder.write())
        block = full_folder.metrics["calibration"]
        row = re.search(r"\| Expected calibration error, fixed bins \| ([\d.]+) .*? \| ([\d.]+) ", text)
        assert row is not None
        assert [row[1], row[2]] == [f"{block[part]['ece']['value']:.3f}" for part in ("before", "after")]
        assert "One temperature (1.250), fitted on the 20 validation images" in text
        assert "evaluation/reliability.png" in text and "was not measured" not in text
        before, after = (block[part]["log_loss"]["value"] for part in ("before", "after"))
        assert ("**Scaling made it worse here**" in text) == (after > before)

    def test_calibration_that_does_not_carry_over_is_said(self, full_folder: Folder) -> None:
        block, told = full_folder.metrics["calibration"], []
        template = packaged_template("calibration.md.jinja")
        for before, after in ((0.5, 0.6), (0.6, 0.5)):
            block["before"]["log_loss"]["value"], block["after"]["log_loss"]["value"] = before, after
            calibration = Metrics.of(full_folder.metrics).calibration
            text = fill_template(
                template,
                {"calibration": calibration, "own_protocol": {"name": "published", "patients": None}, "figures": []},
            )
            told.append("**Scaling made it worse here**" in text)
        assert told == [True, False]

    def test_where_exchangeability_fails_is_said(self, full_folder: Folder) -> None:
        text = render_card(full_folder.write())
        assert "**It fails in" not in text
        rule = {**full_folder.metrics["conformal"]["rule"], "threshold": 0.05}
        full_folder.promise(rule)
        text = render_card(full_folder.write())
        failed = full_folder.metrics["conformal"]["published"]["coverage"]
        assert f"**It fails in the corpus's own test split**: the coverage is {100 * failed['value']:.1f} %" in text

    def test_a_rule_on_too_few_images_promises_nothing(self, full_folder: Folder) -> None:
        rule = {**full_folder.metrics["conformal"]["rule"], "threshold": None, "reason": "3 items promise nothing"}
        full_folder.promise(rule)
        assert "No set is promised: 3 items promise nothing." in render_card(full_folder.write())

    def test_findings_the_gravest_first_and_notes_counted(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir()
        write_audit(folder, FINDINGS[::-1])
        text = render_card(folder)
        assert "has 3 findings (1 critical, 1 warning, 1 note)." in text
        assert text.index("- **critical**: 6 of 40 test images") < text.index("- **warning**: Grey levels")
        assert text.index("- **warning**") < text.index("<summary>The other findings") < text.index("1,200 pixels wide")

    def test_a_leak_is_said_at_the_top(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir()
        write_audit(folder, leaks=True)
        body = ModelCard(render_card(folder)).text
        assert body.index("**The corpus leaks**") < body.index("| Protocol |")
        assert "**Figures on its own splits are not to be trusted as they are.**" in body
        write_audit(folder)
        assert "leaks**" not in render_card(folder) and "not to be trusted" not in render_card(folder)

    def test_many_findings_are_folded(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir()
        many = [{**FINDINGS[1], "title": f"Finding {k} of the corpus."} for k in range(20)]
        write_audit(folder, [FINDINGS[0], *many])
        shown, folded = render_card(folder).partition("## How to use")[0].split("<summary>The other findings")
        assert shown.count("- **") == 6 and folded.count("- **warning**: Finding") == 15

    def test_an_audit_that_found_nothing(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir()
        write_audit(folder, [])
        assert "The audit of the corpus found no duplicate, leak, shortcut or foreign image." in render_card(folder)

    def test_the_surest_mistakes_are_told_in_numbers(self, make_folder: Callable[..., Folder]) -> None:
        """One hand-made mistake: item 0, an adenocarcinoma called normal at 97 %."""
        folder = make_folder(n=8)
        for path in ("predictor", "stock_pipeline"):
            rows = folder.answers["path"] == path
            for k, name in enumerate(folder.names):
                right = [folder.names.index(label) == k for label in folder.answers.loc[rows, "label"]]
                folder.answers.loc[rows, f"p {name}"] = [0.97 if hit else 0.01 for hit in right]
            folder.answers.loc[rows, "predicted"] = folder.answers.loc[rows, "label"]
        first = {"p adenocarcinoma": 0.01, "p normal": 0.97, "predicted": "normal"}
        folder.answers.loc[0, list(first)] = list(first.values())
        folder.answers["refused"] = None
        folder.metrics = folder._head(8)
        text = render_card(folder.write())
        assert "1 of 8 answers in the corpus's own test split is wrong." in text
        assert "| adenocarcinoma | 1 of 2 | normal (1) | normal, at 97.0 % |" in text
        assert "No picture of the corpus is published" in text

    def test_the_gallery_where_pictures_may_be_published(self, make_folder: Callable[..., Folder]) -> None:
        folder = make_folder(kind="phantom", source="phantom:seed=1")
        folder.metrics["figures"].append("examples.png")
        mistakes = render_card(folder.write()).partition("## Mistakes")[2].partition("## Training")[0]
        assert "](evaluation/examples.png)" in mistakes and "No picture" not in mistakes

    def test_checklists_answer_or_say_not_available(self, make_model_dir: MakeModelDir) -> None:
        claim, chai = re.findall(r"<details>(.*?)</details>", render_card(make_model_dir()), re.DOTALL)
        answered = {int(number) for number in re.findall(r"^\| (\d+) ", claim, re.MULTILINE)}
        silent = {int(number) for number in re.findall(r"(?:: |; )(\d+) ", claim.partition("Not available")[2])}
        assert answered | silent == set(range(1, 45)) and not answered & silent
        assert {11, 13, 14, 36, 44} <= silent and "| 33 external testing | **No external validation** |" in claim
        assert (
            "| Regulatory approval | none |" in chai and "Not available from the checkpoint's files: Developer" in chai
        )


class TestPasting:
    """The code of the card, run as it is pasted, with the repository's name exchanged for a local checkpoint."""

    def blocks(self, text: str, language: str) -> list[str]:
        return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)

    def test_the_python_runs(
        self,
        make_model_dir: MakeModelDir,
        tiny_checkpoint: Path,
        sample_slices: list[Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        import pydicom.data

        monkeypatch.chdir(tmp_path)
        shutil.copy(sample_slices[0], tmp_path / "slice.png")
        shutil.copy(pydicom.data.get_testdata_file("CT_small.dcm", download=False), tmp_path / "slice.dcm")
        blocks = self.blocks(render_card(make_model_dir()), "python")
        assert len(blocks) == 2
        for block in blocks:
            assert PLACEHOLDER_REPO in block
            exec(compile(block.replace(PLACEHOLDER_REPO, str(tiny_checkpoint)), "card", "exec"), {})
        printed = capsys.readouterr().out
        assert printed.count("adenocarcinoma") >= 2 and "'score'" in printed

    def test_the_commands_exist(self, make_model_dir: MakeModelDir) -> None:
        from ct_xception.cli import build_parser

        lines = self.blocks(render_card(make_model_dir()), "bash")[0].splitlines()
        download, *ours = [shlex.split(line) for line in lines]
        for words in ours:
            assert words[0] == "ct-xception"
            assert build_parser().parse_args(words[1:]).model == "ct-xception-checkpoint"
        hf = Path(sys.executable).with_name("hf")
        told = subprocess.run([hf, *download[1:2], "--help"], capture_output=True, text=True, check=True).stdout
        assert download[0] == "hf" and download[3] in told


def test_the_packaged_template_is_the_one_at_the_top() -> None:
    assert packaged_template() == (ROOT / "model_card.md").read_text(encoding="utf-8")
