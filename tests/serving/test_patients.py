"""One answer a series or a patient: whose each slice is, what is left out, and which slices carry the answer."""

from __future__ import annotations

import io
import json
import math
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from safetensors.numpy import load_file, save_file

from ct_xception.checkpoint import POOLING
from ct_xception.checkpoint_files import ConformalRule, PoolingRule, Side, read_side, seal, write_side
from ct_xception.cli import main
from ct_xception.errors import CheckpointError, InputError
from ct_xception.imaging.slice import Slice
from ct_xception.phantom.corpus import generate_phantom
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.decisions import Decisions, OperatingPoint, Pooling
from ct_xception.serving.inference_api import Asked, NotAnswered, classify
from ct_xception.serving.patients import UnitAnswer, answer_units, find_units
from ct_xception.serving.pooling import SliceAnswer, answer_together
from ct_xception.serving.unit_text import describe_pooling, unit_bars, unit_columns, unit_table
from ct_xception.statistics.attention import attention_weights
from tests.sealed import copy_checkpoint

RULE = Pooling("mean", 0.5, "patient", 120, True, Decisions(ConformalRule(method="lac", coverage=0.9, threshold=0.8)))


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    return Classifier.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DICOM files of six patients, three slices each, in one flat folder."""
    corpus = generate_phantom(
        tmp_path_factory.mktemp("scans") / "p", patients=6, slices_per_patient=3, size=64, dicom=True
    )
    folder = tmp_path_factory.mktemp("flat")
    for number, file in enumerate(sorted(corpus.glob("t*/*/*.dcm")) + sorted(corpus.glob("valid/*/*.dcm"))):
        shutil.copy(file, folder / f"{number * 7 % 18:03d}.dcm")  # in nobody's order
    return folder


def predict_units(classifier: Classifier, *paths: Path) -> list[UnitAnswer]:
    return list(answer_units(classifier, find_units(paths)[0]))


def said(name: str, **probabilities: float) -> SliceAnswer:
    return SliceAnswer(name, {"probabilities": probabilities})


def test_dicom_tells_patients_and_series_apart(scans: Path) -> None:
    units, notes = find_units([scans], "patient")
    assert [len(unit.members) for unit in units] == [3] * 6 and notes == ()
    for unit in units:
        files = [pydicom.dcmread(member.path, stop_before_pixels=True) for member in unit.members]
        assert len({file.PatientID for file in files}) == 1
        for series in {file.SeriesInstanceUID for file in files}:
            own = [float(file.ImagePositionPatient[2]) for file in files if file.SeriesInstanceUID == series]
            assert own == sorted(own, reverse=True)
        assert files[0].PatientID not in unit.name + unit.place
    known = {pydicom.dcmread(path, stop_before_pixels=True).SeriesInstanceUID for path in scans.iterdir()}
    assert len(find_units([scans], "series")[0]) == len(known) > 6
    with pytest.raises(InputError, match="'house'"):
        find_units([scans], "house")


def test_an_identifier_that_names_nobody_is_none(scans: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(scans.iterdir())[:4]):
        file = pydicom.dcmread(path)
        file.PatientID, file.StudyInstanceUID = "ANONYMIZED", f"1.2.{number % 2}"
        file.save_as(tmp_path / path.name)
    assert [len(unit.members) for unit in find_units([tmp_path], "patient")[0]] == [2, 2]


def test_pictures_are_told_by_their_folders_and_that_is_said(sample_slices: list[Path], tmp_path: Path) -> None:
    for number, path in enumerate(sample_slices):
        (tmp_path / f"case {number % 2}").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / f"case {number % 2}" / path.name)
    units, notes = find_units([tmp_path], "patient")
    assert [unit.place for unit in units] == [str(tmp_path / "case 0"), str(tmp_path / "case 1")]
    assert notes == ("5 slices say no patient: the 2 folders or files that hold them are taken for one each",)


def test_the_checkpoints_rule_pools_and_decides() -> None:
    answers = [
        said("1", a=0.9, b=0.1),
        said("2", a=0.5, b=0.5),
        SliceAnswer("3", error="3: torn"),
        said("4", a=0.1, b=0.9),
    ]
    found = answer_together(answers, pooling=RULE)
    assert found is not None and found.calibrated and (found.answered, found.slices) == (3, 4)
    mean = (0.9 + 0.5 + 0.1) / 3
    assert found.probabilities["a"] == pytest.approx(mean**2 / (mean**2 + (1 - mean) ** 2))
    assert found.decision.prediction_set is not None and set(found.decision.prediction_set) == {"a", "b"}
    assert found.support[2] is None and found.carriers[0] == 0 and 3 not in found.carriers
    other = answer_together(answers, "top_1", RULE)
    assert other is not None and not other.calibrated and other.temperature == 1
    assert other.decision.prediction_set is None
    assert "not calibrated" in describe_pooling(other, RULE)
    assert "120 validation patients (temperature 0.50)" in describe_pooling(found, RULE)


def test_slices_that_agree_carry_an_answer_alike() -> None:
    found = answer_together([said(str(number), a=0.8, b=0.2) for number in range(5)])
    assert found is not None and found.carriers == (0, 1, 2) and found.agreeing == 5
    alone = answer_together([said("only", a=0.3, b=0.7)])
    assert alone is not None and alone.carriers == (0,) and alone.label == "b"


def test_a_patient_of_whom_nothing_is_answered_is_refused() -> None:
    refused = SliceAnswer("x", {"gate": {"verdict": "refused"}, "refused": ["a photograph"], "probabilities": {}})
    answer = UnitAnswer("patient 1", "x", None, (refused, SliceAnswer("y", error="y: torn; mend it.")))
    record = answer.to_dict()
    assert record["label"] is None and record["refused"] == ["none of its slices is answered"]
    assert record["left_out"] == [
        {"source": "x", "reason": "refused by the input gate (a photograph)"},
        {"source": "y", "reason": "y: torn; mend it."},
    ]
    assert list(unit_table([answer], "patient", ["a", "b"], 80))[1].endswith("refused: each of its slices was refused")
    assert list(unit_columns([answer], "patient", ["a", "b"], RULE))[1].split("\t")[-3:] == ["0", "2", ""]
    assert any("x: refused by the input gate (a photograph)" in line for line in unit_bars([answer], RULE))


def test_rows_and_bars_say_who_carries(classifier: Classifier) -> None:
    slices = (said("one", a=0.9, b=0.1), said("two", a=0.2, b=0.8), SliceAnswer("three", error="three: torn"))
    answer = UnitAnswer("patient 1", "scans", answer_together(slices, pooling=RULE), slices)
    header, row = (line.split("\t") for line in unit_columns([answer], "patient", ["a", "b"], RULE))
    told = dict(zip(header, row, strict=True))
    assert (told["patient"], told["label"], told["answered"], told["slices"]) == ("patient 1", "a", "2", "3")
    assert told["carried_by"] == "one" and "prediction_set" in told and "abstained" not in told
    bars = "\n".join(unit_bars([answer], RULE))
    assert "carried by one (90.0 % a)" in bars and "- three: torn" in bars and "(2 of 3 slices)" in bars
    assert "scans" in "\n".join(unit_table([answer], "patient", ["a", "b"], 100))


def test_each_answer_is_the_pool_of_its_slices_alone(classifier: Classifier, scans: Path) -> None:
    from ct_xception.serving.pooling import pool

    for answer in predict_units(classifier, scans):
        alone = [classifier(scans / Path(one.name).name).probabilities for one in answer.slices]
        assert answer.together is not None
        # Alone and among others a slice goes through the same float32 sums in another order.
        assert answer.together.probabilities == pytest.approx(pool(alone, "mean_log"), abs=1e-5)
        assert {one["source"] for one in answer.carried_by} <= {one.name for one in answer.slices}


def test_a_session_has_them_as_a_frame(tiny_checkpoint: Path, scans: Path, tmp_path: Path) -> None:
    from ct_xception import Classifier as Handy

    (tmp_path / "broken.png").write_bytes(b"no picture")
    answers = Handy.from_pretrained(tiny_checkpoint).predict_by([scans, tmp_path])
    frame = answers.to_frame()
    assert frame["slices"].tolist() == [3] * 6 + [1] and frame["answered"].tolist() == [3] * 6 + [0]
    assert frame["label"].isna().tolist() == [False] * 6 + [True]
    assert frame.loc[0, f"p {frame.loc[0, 'label']}"] == answers[0].together.probabilities[frame.loc[0, "label"]]
    assert repr(answers).startswith("UnitAnswers(7: ") and "1 refused" in repr(answers)
    assert len(answers.notes) == 1 and "1 slice says no patient" in answers.notes[0]


def test_the_command_answers_by_patient_and_counts_what_is_left_out(
    scans: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(scans, tmp_path / "scans")
    broken = sorted(folder.iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:1500])
    assert main(["predict", str(folder), "--model", str(tiny_checkpoint), "--by", "patient", "--json"]) == 3
    printed = capsys.readouterr()
    answers = json.loads(printed.out)
    assert sum(one["answered"] for one in answers if one["label"]) == 17
    assert all(one["by"] == "patient" and one["pooling"]["calibrated"] is False for one in answers)
    assert f"{broken.name}: " in printed.err and "1 of 18 inputs refused." in printed.err


def test_a_table_says_whose_the_slices_are(
    sample_slices: list[Path], tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in sample_slices:
        shutil.copy(path, folder / path.name)
    rows = [f"{path.name},{'AB'[number % 2]}" for number, path in enumerate(sample_slices)]
    table = tmp_path / "whose.csv"
    table.write_text("\n".join(["path,patient", *rows]))
    command = ["predict", str(folder), "--model", str(tiny_checkpoint), "--by", "patient", "--patients", str(table)]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert [line.split("\t")[-2] for line in printed.out.splitlines()] == ["slices", "3", "2"]
    assert "say no patient" not in printed.err
    for text, problem in (
        ("\n".join(["path,patient", *rows[1:]]), "does not name"),
        ("\n".join(["path,patient", *rows, f"{sample_slices[0].name},B"]), "says more than one patient of"),
        ("path,age\nx.png,60", "has no column of the patient (path, age)"),
    ):
        table.write_text(text)
        assert main(command) == 2
        assert problem in capsys.readouterr().err
    assert main([*command[:4], "--patients", str(table)]) == 2
    assert "--patients: goes with --by" in capsys.readouterr().err


def test_the_api_answers_a_zip_of_one_patient(classifier: Classifier, scans: Path) -> None:
    def packed(files: list[Path]) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for file in files:
                archive.write(file, file.name)
        return stream.getvalue()

    unit = find_units([scans], "patient")[0][0]
    files = [member.path for member in unit.members]
    asked = Asked.of({"by": "patient", "top_k": 2})
    found = classify(classifier, packed(files), asked)
    wanted = predict_units(classifier, *files)[0].together
    assert wanted is not None and [one["label"] for one in found] == list(wanted.probabilities)[:2]
    assert found[0]["score"] == pytest.approx(wanted.probabilities[wanted.label])
    assert classify(classifier, io.BytesIO(packed(files)), asked)[0]["score"] == pytest.approx(found[0]["score"])
    with pytest.raises(InputError, match="holds the slices of 6 patients; give one at a time"):
        classify(classifier, packed(sorted(scans.iterdir())), asked)
    with pytest.raises(InputError, match="by: 'ward' is none of slice, series, patient"):
        Asked.of({"by": "ward"})
    with pytest.raises(InputError, match="frame: one slice is not a patient"):
        Asked.of({"by": "patient", "frame": 1})
    with pytest.raises(NotAnswered, match="none of its slices is answered"):
        classify(classifier, packed(files[:1])[:0] or b"no picture", asked)


def test_a_sealed_rule_reaches_the_answer(classifier: Classifier, scans: Path) -> None:
    point = OperatingPoint("normal: sensitivity", ("normal",), 0.0, "sensitivity of at least 0.95")
    rule = replace(RULE, decisions=Decisions(operating_points=(point,), abstain_below=1.1))
    ruled = Classifier(classifier.network, classifier.contract, decisions=Decisions(pooling=rule))
    together = predict_units(ruled, scans)[0].together
    assert together is not None and together.calibrated and together.aggregation == "mean"
    assert together.decision.abstained is True and together.decision.operating[point.name]["positive"] is True
    assert together.to_dict()["abstained"] is True


def attentive(source: Path, folder: Path) -> Path:
    """A copy of a checkpoint that pools by attention, sealed."""
    copy_checkpoint(source, folder)
    rng = np.random.default_rng(5)
    arrays = {name: rng.normal(0, 0.2, (4, 2048)).astype(np.float32) for name in ("tanh_weight", "gate_weight")}
    arrays |= {"tanh_bias": np.zeros(4, np.float32), "gate_bias": np.zeros(4, np.float32)}
    arrays["score_weight"] = np.array([2, -3, 4, 1], np.float32)
    save_file(arrays, folder / POOLING)
    rule = PoolingRule(version=1, unit="patient", method="attention", temperature=0.5, n_groups=30, losses={})
    write_side(folder, (read_side(folder) or Side()).with_(pooling=rule.to_json()))
    seal(folder)
    return folder


def test_attention_pools_with_its_weights_told(tiny_checkpoint: Path, scans: Path, tmp_path: Path) -> None:
    classifier = Classifier.from_pretrained(attentive(tiny_checkpoint, tmp_path / "model"))
    answer = predict_units(classifier, scans)[0]
    together = answer.together
    assert together is not None and together.aggregation == "attention" and together.calibrated
    weights = np.array(together.weights, float)
    assert weights.sum() == pytest.approx(1) and np.ptp(weights) > 0.01
    alone = [classifier(member.path) for member in find_units([scans], "patient")[0][0].members]
    assert weights == pytest.approx(attention_weights([one.attention for one in alone]), rel=1e-3)
    logs = weights @ [[math.log(one.probabilities[name]) for name in classifier.label_names] for one in alone]
    wanted = np.exp(logs / 0.5) / np.exp(logs / 0.5).sum()
    assert [together.probabilities[name] for name in classifier.label_names] == pytest.approx(wanted, rel=1e-3)
    told = answer.to_dict()
    assert [one["weight"] for one in told["each"]] == pytest.approx(weights)
    of = {one["source"]: one["weight"] for one in told["each"]}
    assert all(one["weight"] == of[one["source"]] for one in told["carried_by"])


@pytest.mark.parametrize("harm", ["gone", "shape", "nan", "features"])
def test_an_attention_that_is_not_whole_is_refused(tiny_checkpoint: Path, tmp_path: Path, harm: str) -> None:
    folder = attentive(tiny_checkpoint, tmp_path / "model")
    arrays = load_file(folder / POOLING)
    if harm == "shape":
        arrays["score_weight"] = arrays["score_weight"][:3].copy()
    elif harm == "nan":
        arrays["gate_bias"][0] = np.nan
    elif harm == "features":
        arrays |= {name: arrays[name][:, :100].copy() for name in ("tanh_weight", "gate_weight")}
    save_file(arrays, folder / POOLING)
    if harm == "gone":
        (folder / POOLING).unlink()
    with pytest.raises(CheckpointError, match=POOLING):
        Classifier.from_pretrained(folder)  # before anything else, its hash
    seal(folder)
    with pytest.raises(CheckpointError, match="fetch"):
        Classifier.from_pretrained(folder)(np_slice())


def np_slice() -> Slice:
    return Slice(np.full((64, 64), 90, np.uint8), "a slice", 8, False, None)
