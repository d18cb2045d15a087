"""The card as a whole, its header, its words, and the code that it tells people to paste.

expected_card.md is the whole card of one made-up checkpoint. After a wanted change of wording, read the difference and
copy the new card over it.
"""

from __future__ import annotations

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
from ct_xception.publish.card import (
    BANNED_WORDS,
    PLACEHOLDER_REPO,
    check_template,
    check_words,
    packaged_template,
    render_card,
    write_card,
)
from ct_xception.wording import RESEARCH_USE

ROOT = Path(__file__).resolve().parents[2]
MakeModelDir = Callable[..., Path]
NOTES = ["46 of 54 normal test files are byte-identical to a training file"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the card asked for the network")

    monkeypatch.setattr("socket.socket.connect", refuse)


def test_the_whole_card(make_model_dir: MakeModelDir) -> None:
    expected = (Path(__file__).parent / "expected_card.md").read_text(encoding="utf-8")
    assert render_card(make_model_dir(notes=NOTES)) == expected


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
            assert result.dataset_name == "chest-ct-scan-images, published protocol, test split 5f0c77aa12bb"
            assert result.dataset_args["split_hash"] == "5f0c77aa12bb34cc"
        first, stock = results[0], results[5]
        assert (first.metric_type, first.metric_name) == ("accuracy", "Accuracy, ct-xception predictor")
        assert first.metric_value == pytest.approx(paths["predictor"]["accuracy"]["value"], abs=5e-5)
        assert first.metric_args["low"] == pytest.approx(paths["predictor"]["accuracy"]["low"], abs=5e-5)
        assert stock.metric_name == "Accuracy, stock pipeline()" and stock.metric_args["n"] == 39

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
         "Clinical grade accuracy", "radiologist-level", "clinically validated", "state-of-the-art"],
    )  # fmt: skip
    def test_a_claim_is_refused(self, make_model_dir: MakeModelDir, claim: str) -> None:
        with pytest.raises(InputError, match="a research model may not"):
            render_card(make_model_dir(), template=packaged_template() + claim)

    def test_neither_template_nor_card_says_a_banned_word(self, make_model_dir: MakeModelDir) -> None:
        for text in (packaged_template(), render_card(make_model_dir(notes=NOTES))):
            check_words(text)
            assert not re.search("|".join(BANNED_WORDS), text, re.IGNORECASE)

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
        assert "40 images of 20 groups" in text and "known from column patient" in text
        assert "Without patient identifiers" not in text

    def test_a_phantom_says_nothing_about_ct(self, make_model_dir: MakeModelDir) -> None:
        text = render_card(make_model_dir(kind="phantom", source="phantom:seed=1"))
        assert "- The corpus is a procedural phantom" in text
        assert "# Xception for CT slices: phantom:seed=1" in text

    def test_pictures_are_shown_only_where_they_were_published(self, make_model_dir: MakeModelDir) -> None:
        text = render_card(make_model_dir())
        assert "evaluation/examples.png" not in text and "none of its images is in this repository" in text

    def test_every_figure_that_is_shown_is_there(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir()
        shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", render_card(folder))
        assert len(shown) == 3 and all((folder / path).is_file() for path in shown)


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
