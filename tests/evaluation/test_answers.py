"""Two ways to an answer: ours and stock transformers', and what each refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from ct_xception.evaluation.answers import (
    AnswerBatch,
    Answers,
    Items,
    Judged,
    answer_items,
    join_answers,
    predictor_answers,
    stock_answers,
)
from ct_xception.serving.classifier import Classifier
from tests.closeness import ROUNDING
from tests.evaluation.conftest import LABEL_NAMES, encode_picture, make_split


class TestAnswerItems:
    def test_batches_order_and_refusals(self, picture_split: Dataset) -> None:
        sizes = []

        def answer(batch: list) -> list:
            sizes.append(len(batch))
            even = dict.fromkeys(LABEL_NAMES, 0.25)
            return ["unreadable" if item["source"].endswith("03.png") else even for item in batch]

        answers = answer_items(picture_split, answer, LABEL_NAMES, batch_size=3)
        assert sizes == [3, 3, 2]
        assert answers.probabilities.shape == (8, 4)
        assert answers.refused == {"test/case03.png": "unreadable"}
        assert answers.answered.tolist() == [True, True, True, False, True, True, True, True]

    def test_probabilities_follow_class_names_not_dictionary_order(self, picture_split: Dataset) -> None:
        ranked = {"normal": 0.7, "adenocarcinoma": 0.2, "squamous cell carcinoma": 0.1, "large cell carcinoma": 0.0}
        answers = answer_items(picture_split, lambda batch: [ranked] * len(batch), LABEL_NAMES)
        assert answers.probabilities[0].tolist() == [0.2, 0.0, 0.7, 0.1]

    def test_shards_join_in_order(self) -> None:
        first, second = Answers(np.array([[0.1, 0.9]])), Answers(np.array([[np.nan, np.nan]]), {"b": "bad"})
        joined = join_answers([first, second])
        assert joined.answered.tolist() == [True, False] and joined.refused == {"b": "bad"}

    def test_verdicts_of_the_input_gate_are_kept_by_source(self, picture_split: Dataset) -> None:
        even = dict.fromkeys(LABEL_NAMES, 0.25)
        said = {"test/case01.png": "refused", "test/case02.png": "accepted"}

        def answer(batch: list) -> list:
            return [Judged(even, said[item["source"]]) if item["source"] in said else even for item in batch]

        answers = answer_items(picture_split, answer, LABEL_NAMES)
        assert answers.verdicts == said and answers.answered.all()
        first = answers.select(np.arange(8) < 2, ["test/case00.png", "test/case01.png"])
        assert first.verdicts == {"test/case01.png": "refused"}
        assert join_answers([first, Answers(np.eye(4))]).verdicts == first.verdicts

    def test_a_missing_class_is_an_error(self, picture_split: Dataset) -> None:
        with pytest.raises(KeyError):
            answer_items(picture_split, lambda batch: [{"normal": 1.0}] * len(batch), LABEL_NAMES)


def test_items_are_columns_without_images(picture_split: Dataset) -> None:
    items = Items.of(picture_split)
    assert items.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert items.groups[:3] == ["patient0", "patient0", "patient1"]
    assert items.sources[7] == "test/case07.png"


@pytest.fixture(scope="module")
def ours(tiny_checkpoint: Path) -> AnswerBatch:
    return predictor_answers(Classifier.from_pretrained(tiny_checkpoint))


@pytest.fixture(scope="module")
def stock(tiny_checkpoint: Path) -> AnswerBatch:
    return stock_answers(tiny_checkpoint)


class TestBothPaths:
    def test_predictor_equals_the_classifier_and_names_what_it_refuses(
        self, tiny_checkpoint: Path, ours: AnswerBatch, picture_split: Dataset
    ) -> None:
        from ct_xception.serving.classifier import Classifier

        broken = make_split([picture_split[0]["image"]["bytes"], b"not a picture"], [0, 1])
        answers = answer_items(broken, ours, LABEL_NAMES)
        expected = Classifier.from_pretrained(tiny_checkpoint)(picture_split[0]["image"]["bytes"])
        assert answers.probabilities[0] == pytest.approx(
            [expected.probabilities[name] for name in LABEL_NAMES], abs=ROUNDING
        )
        assert np.isnan(answers.probabilities[1]).all()
        assert answers.refused["test/case01.png"].startswith("test/case01.png: ")

    def test_stock_equals_the_pipeline_on_the_file(
        self, tiny_checkpoint: Path, stock: AnswerBatch, picture_split: Dataset, tmp_path: Path
    ) -> None:
        from transformers import pipeline

        answers = answer_items(picture_split, stock, LABEL_NAMES, batch_size=4)
        file = tmp_path / "case.png"
        file.write_bytes(picture_split[5]["image"]["bytes"])
        found = pipeline("image-classification", model=str(tiny_checkpoint))(str(file), top_k=4)
        expected = {one["label"]: one["score"] for one in found}
        assert answers.probabilities[5] == pytest.approx([expected[name] for name in LABEL_NAMES], abs=ROUNDING)
        assert answers.probabilities.sum(axis=1) == pytest.approx(np.ones(8), abs=1e-5)

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # the DICOM file's preamble is that of a TIFF
    def test_stock_counts_what_it_cannot_read(self, stock: AnswerBatch) -> None:
        import pydicom.data

        deep = encode_picture(np.full((20, 20), 40_000, np.uint16))
        dicom = Path(pydicom.data.get_testdata_file("CT_small.dcm", download=False)).read_bytes()
        answers = answer_items(make_split([deep, dicom], [0, 1]), stock, LABEL_NAMES)
        assert not answers.answered.any()
        assert "would clip its pixels (mode I;16)" in answers.refused["test/case00.png"]
        assert answers.refused["test/case01.png"] == "stock transformers cannot open it (UnidentifiedImageError)"

    def test_predictor_reads_dicom(self, ours: AnswerBatch) -> None:
        import pydicom.data

        dicom = Path(pydicom.data.get_testdata_file("CT_small.dcm", download=False)).read_bytes()
        answers = answer_items(make_split([dicom], [2]), ours, LABEL_NAMES)
        assert answers.answered.all()

    def test_a_file_without_bytes_is_read_from_its_path(
        self, ours: AnswerBatch, stock: AnswerBatch, tmp_path: Path
    ) -> None:
        file = tmp_path / "slice.png"
        file.write_bytes(encode_picture(np.eye(30, dtype=np.uint8) * 200))
        item = {"image": {"path": str(file), "bytes": None}, "label": 0, "group": "g", "source": "slice.png"}
        for answer in (ours, stock):
            assert answer_items([item], answer, LABEL_NAMES).answered.all()
