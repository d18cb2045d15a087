"""What the card may not say of itself, and what it may repeat: names and notes that others chose are no claims."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ct_xception.errors import InputError
from ct_xception.publish.card.card import outside_texts, render_card
from ct_xception.publish.card.markdown import packaged_template
from ct_xception.publish.verify import read_evidence
from tests.publish.conftest import FINDINGS, Folder, edit_json, write_audit

MakeFolder = Callable[..., Folder]
MakeModelDir = Callable[..., Path]


def edit_provenance(folder: Path, **values: Any) -> None:
    edit_json(folder / "ct_xception.json", lambda side: side["provenance"].update(values))


class TestOthersWords:
    def test_classes(self, make_folder: MakeFolder) -> None:
        folder = make_folder(["newly_diagnosed *case*", "CE marked", "detects tumours", "normal"])
        folder.run_protocols()
        folder.choose_thresholds()
        text = render_card(folder.write())
        assert r"newly\_diagnosed \*case\*, CE marked, detects tumours, normal" in text

    def test_class_groups(self, full_folder: Folder) -> None:
        folder = full_folder.write()
        for name in ("ct_xception.json", "evaluation/metrics.json"):
            (folder / name).write_text((folder / name).read_text().replace('"cancer', '"newly diagnosed'))
        text = render_card(folder)
        assert "| newly diagnosed or normal? |" in text and "| newly diagnosed: specificity of" in text

    def test_notes_findings_and_the_command(self, make_model_dir: MakeModelDir) -> None:
        note = "3 scans of newly diagnosed patients look CE-marked."
        folder = make_model_dir(["newly diagnosed", "normal"], notes=[note])
        title = "Images of newly diagnosed (30) are FDA approved scans."
        write_audit(folder, [FINDINGS[0], {**FINDINGS[1], "title": title}])
        edit_provenance(folder, command="accelerate launch train_hf.py --class_map 'new=newly diagnosed'")
        text = render_card(folder)
        assert f"- Corpus: {note}" in text and f"- **warning**: {title}" in text and "'new=newly diagnosed'" in text

    @pytest.mark.parametrize(
        "source",
        [
            "/home/somebody/Newly Diagnosed",
            "/data/newly_found, FDA-approved",
            "Detect Lung Cancer in CT of many people " * 4,
        ],
    )
    def test_a_corpus(self, make_model_dir: MakeModelDir, source: str) -> None:
        assert "# Xception for CT slices: " in render_card(make_model_dir(source=source))

    def test_corpora_of_earlier_versions(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir()
        before = {"version": 1, "name": "someone/newly-diagnosed@c0ffee", "corpus": {"source": "/data/CE marked/"}}
        edit_provenance(folder, lineage=[before], replay={"corpora": [{"corpus": {"source": "FDA approved@main"}}]})
        outside = set(outside_texts(read_evidence(folder)))
        assert {"someone/newly-diagnosed", "CE marked", "FDA approved"} <= outside

    def test_a_corpus_of_the_hub_at_a_revision(self, make_model_dir: MakeModelDir) -> None:
        text = render_card(make_model_dir(kind="hub", source="someone/newly-diagnosed@main"))
        assert "- someone/newly-diagnosed\n" in text

    def test_columns_and_first_weights(self, make_model_dir: MakeModelDir) -> None:
        folder = make_model_dir(groups={"count": 60, "origin": "column diagnosed by"})
        edit_provenance(folder, initial_weights="newly diagnosed.safetensors")
        text = render_card(folder)
        assert "known from column diagnosed by" in text and "`newly diagnosed.safetensors`" in text


class TestOurs:
    @pytest.mark.parametrize(
        ("names", "claim"),
        [
            (["diagnoses", "normal"], "It diagnoses tumours."),
            (["detects cancer", "normal"], "It detects cancer."),
            (["cancer", "normal"], "It detects cancer."),
            (["a", "s"], "It is clinically validated, as it detects a tumour."),
            (["lung cancer", "normal"], "It detects {{ network.label_names | join(', ') }}."),
            (["detects cancer", "normal"], "It detects {% if true %}cancers{% endif %}."),
        ],
    )
    def test_a_class_of_that_name_excuses_nothing(
        self, make_model_dir: MakeModelDir, names: list[str], claim: str
    ) -> None:
        with pytest.raises(InputError, match="which a research model may not"):
            render_card(make_model_dir(names), template=f"{packaged_template()}\n{claim}\n")

    def test_a_name_of_the_repository_is_ours(self, make_model_dir: MakeModelDir) -> None:
        with pytest.raises(InputError, match="says 'diagnosing'"):
            render_card(make_model_dir(), repo_id="someone/cancer-diagnosing")
