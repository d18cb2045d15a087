"""What may not be published, each thing planted in a folder that is otherwise in order."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy
import pandas
import pyarrow
import pyarrow.parquet
import pytest
import safetensors.numpy
from PIL import Image, PngImagePlugin

from ct_xception.errors import CheckpointError, InputError
from ct_xception.publish.clearance import Content, check_checkpoint, check_links, check_no_dicom, check_secrets

Files = dict[str, Content]


def parquet(**columns: object) -> bytes:
    stream = io.BytesIO()
    pandas.DataFrame(columns).to_parquet(stream, index=False)
    return stream.getvalue()


def parquet_of(schema: pyarrow.Schema) -> bytes:
    """A table of one label."""
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"label": "a"}], schema=schema), stream)
    return stream.getvalue()


def png(**texts: str) -> bytes:
    stream, margin = io.BytesIO(), PngImagePlugin.PngInfo()
    for name, text in texts.items():
        margin.add_text(name, text, zip=True)
    Image.new("L", (4, 4)).save(stream, "PNG", pnginfo=margin)
    return stream.getvalue()


def archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        zipped.writestr("archive/data.pkl", b"")
    return stream.getvalue()


def tensors(**metadata: str) -> bytes:
    return safetensors.numpy.save({"weight": numpy.zeros(3, numpy.float32)}, metadata=metadata or None)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG with one more chunk before its end."""
    whole = len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)
    return png()[:-12] + whole + png()[-12:]


def sidecar(**values: object) -> bytes:
    return json.dumps({"format": 1, **values}).encode()


@pytest.fixture
def files() -> Files:
    """A folder that may be published."""
    predictions = parquet(
        source=["item 000000", "item 000001"], group=["group 000000"] * 2, label=["a", "b"], **{"p a": [0.1, 1.0]}
    )
    return {
        "config.json": b'{"model_type": "timm_wrapper", "label_names": ["a", "b"]}',
        "model.safetensors": tensors(format="pt"),
        "ct_xception.json": sidecar(
            groups={"origin": "DICOM PatientID"}, command="--group_column PatientName --seed 1"
        ),
        "README.md": b"Groups are known from PatientID.\n\n| Groups | DICOM PatientID |\n| Seed | 7 |\n\nslice.dcm",
        "evaluation/metrics.json": b'{"figures": ["roc.png"], "refused": ["item 000001: cannot be read"]}',
        "evaluation/predictions.parquet": predictions,
        "evaluation/roc.png": png(Software="Matplotlib"),
        "onnx/model.onnx": b"\x08\x0a",
    }


def check(files: Files, phantom: bool = False) -> None:
    check_checkpoint(files, phantom=phantom, quotable=["slice.dcm"])
    check_secrets(files)


def test_a_folder_in_order_passes(files: Files) -> None:
    check(files)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("optimizer.pt", b"", "optimizer.pt: is a pickle"),
        ("state.json", pickle.dumps({"a": 1}), "state.json: is a pickle"),
        ("weights.bin", archive(), "weights.bin: is a pickle or an archive of one"),
        ("modeling.py", b"", "modeling.py: is code"),
        ("evaluation/run.md", b"#!/bin/sh\n", "run.md: is code"),
        ("onnx/model.onnx", b"\x7fELF\x02", "model.onnx: is code"),
        ("config.json", b'{"auto_map": {"AutoModel": "modeling.Net"}}', "names code to be fetched and run .auto_map."),
        ("config.json", b'{"a": [{"b": {"auto_map": {}}}]}', "names code to be fetched and run .auto_map."),
        ("preprocessor_config.json", b'{"x": {"custom_pipelines": 1}}', "names code to be fetched and run .custom_pip"),
        ("openvino/model.bin", bytes(64) + pickle.dumps({"a": 1}), "model.bin: has a pickle among its bytes"),
        ("openvino/model.bin", bytes(64) + pickle.dumps({"a": 1}, 2), "model.bin: has a pickle among its bytes"),
        ("openvino/model.bin", bytes(64) + b"cos\nsystem\n(S'x'\ntR.", "model.bin: has a pickle among its bytes"),
        ("openvino/model.bin", bytes(64) + archive(), "model.bin: has a pickle among its bytes"),
        ("evaluation/predictions.parquet", parquet(label=["a"]) + b"Jane", "is not what its name says"),
        ("config.json", b"[" * 50_000 + b"]" * 50_000, "config.json: is not what its name says .nested too deeply"),
        ("config.json", b'{"a": NaN}', "config.json: is not what its name says .NaN is no number"),
        ("config.json", b"{torn", "config.json: is not what its name says"),
        ("model.safetensors", b"\x08\0\0\0\0\0\0\0torn", "model.safetensors: is not what its name says"),
        ("evaluation/roc.png", b"GIF89a", "roc.png: is not what its name says"),
        ("notes.docx", b"", "notes.docx: is of no kind that a checkpoint holds"),
    ],
)
def test_what_runs_or_is_not_what_it_says(files: Files, name: str, content: bytes, found: str) -> None:
    with pytest.raises(CheckpointError, match=found):
        check({**files, name: content})


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("scan.dcm", b"", "scan.dcm: is a picture or DICOM file"),
        ("scan.jpg", b"", "scan.jpg: is a picture or DICOM file"),
        ("onnx/model.onnx", b"\x08" + bytes(128) + b"DICM\x02\x00\x00\x00UL", "model.onnx: holds a DICOM file"),
        ("evaluation/slice_7.png", png(), "slice_7.png: is a picture that the evaluation did not draw"),
        ("evaluation/roc.png", png(Comment="DOE"), "the picture carries texts: Comment"),
        ("ct_xception.json", sidecar(PatientName="Doe"), "tells who a patient is .PatientName"),
        ("ct_xception.json", b'{"Patient\\u004eame": "Doe"}', "tells who a patient is .PatientName"),
        ("ct_xception.json", sidecar(notes=["read as DOE^JOHN"]), "tells who a patient is .DOE.JOHN"),
        ("ct_xception.json", sidecar(uid="1.2.840.113619.2.55.3.604688"), "tells who a patient is .1.2.840"),
        ("README.md", b"Patient ID: 4711", "tells who a patient is .Patient ID: 4"),
        ("README.md", b"| PatientName | Doe |", "tells who a patient is .PatientName . D"),
        ("ct_xception.json", b'{"notes": "DOE^JOHN", "notes": ""}', "is not what its name says .a key is given twice"),
        ("model.safetensors", tensors(note="(0010,0010) = Doe"), r"its header.: tells who a patient is"),
        ("model.safetensors", safetensors.numpy.save({"DOE^JOHN": numpy.zeros(1)}), "its header.: tells who a patient"),
        (
            "evaluation/predictions.parquet",
            parquet_of(pyarrow.schema([pyarrow.field("label", "string", metadata={"a": "DOE^JOHN"})])),
            "names and metadata..: tells who a patient is .DOE.JOHN",
        ),
        (
            "evaluation/predictions.parquet",
            parquet_of(pyarrow.schema([("label", "string")], metadata={"DOE^JOHN": ""})),
            "names and metadata..: tells who a patient is .DOE.JOHN",
        ),
        ("ct_xception.json", sidecar(command="--corpus /home/jane/ct"), "holds a path of this machine ./home/jane/ct."),
        ("ct_xception.json", sidecar(notes=["doe_john_3.png was left out"]), "names the image 'doe_john_3.png'"),
        ("evaluation/metrics.json", b'{"figures": ["../doe.png"]}', "names the image '../doe.png'"),
        (
            "evaluation/predictions.parquet",
            parquet(source=["test/DOE/1.png"], group=["group 1"]),
            "column source.: names the image 'test/DOE/1.png'",
        ),
        (
            "evaluation/predictions.parquet",
            parquet(source=["item 1"], group=["Doe, Jane"]),
            "its column group holds a name of the corpus .'Doe, Jane'",
        ),
        ("evaluation/predictions.parquet", parquet(image=[b"\x89PNG"]), "its column image is none that an evaluation"),
        ("evaluation/predictions.parquet", parquet(mrn=[483920]), "its column mrn is none that an evaluation writes"),
        ("evaluation/predictions.parquet", parquet(comment=["fine"]), "its column comment is none that an evaluation"),
        ("evaluation/predictions.parquet", parquet(fold=["Doe"]), "its column fold is none that an evaluation writes"),
        ("evaluation/predictions.parquet", parquet(label=["Jane Doe"]), "its column label holds another word"),
        ("evaluation/predictions.parquet", parquet(gate=["Doe, Jane"]), "its column gate holds another word"),
        ("evaluation/predictions.parquet", parquet(refused=["born 12.03.1954"]), "tells who a patient is .born 1"),
        ("evaluation/roc.png", png() + b"DOE JANE 1954", "13 bytes follow the picture's end"),
        ("evaluation/roc.png", png()[:-12], "roc.png: is not what its name says"),
        ("evaluation/roc.png", chunk(b"juNK", b"Jane Doe"), "the picture carries a chunk 'juNK'"),
        ("evaluation/roc.png", chunk(b"tIME", b"\x07\xb2\1\1\0\0\0"), "the picture carries a chunk 'tIME'"),
        ("evaluation/roc.png", chunk(b"IDAT", b"Jane Doe"), "8 bytes follow the picture's last pixel"),
        ("evaluation/roc.png", png(Software="Jane Doe"), "the picture carries texts: Software"),
        ("README.md", b"The slices of Mrs. Kowalska, taken in June.", "tells who a patient is .Mrs. Kowalska"),
        ("README.md", b"a 63-year-old woman with cough", "tells who a patient is .63-year-old"),
        ("README.md", b"Doe, Jane (female, 63) was left out", "tells who a patient is .Doe, Jane .f"),
        ("README.md", b"patient John Smith came back", "tells who a patient is .patient John Smith"),
        ("README.md", b"DOB: 1954-03-12", "tells who a patient is .DOB: 1"),
        ("README.md", b"MRN 00483920 had two scans", "tells who a patient is .MRN 00"),
        ("README.md", b"SSN 078-05-1120", "tells who a patient is .SSN 07"),
        ("README.md", b"ask jane.doe@clinic.example.org", "tells who a patient is .jane.doe@clinic"),
    ],
)  # fmt: skip
def test_what_tells_of_patients(files: Files, name: str, content: bytes, found: str) -> None:
    with pytest.raises(CheckpointError, match=found):
        check({**files, name: content})


def test_the_phantom_may_be_shown_and_named(files: Files) -> None:
    files["evaluation/metrics.json"] = b'{"figures": ["roc.png", "examples.png"]}'
    files["evaluation/examples.png"] = png()
    files["evaluation/predictions.parquet"] = parquet(source=["test/normal/P0001_S1_001.png"], group=["P0001"])
    check(files, phantom=True)
    with pytest.raises(CheckpointError, match="examples.png: is a picture that the evaluation did not draw, or one of"):
        check({**files, "evaluation/predictions.parquet": parquet(source=["item 1"])})
    with pytest.raises(CheckpointError, match="tells who a patient is"):
        check({**files, "ct_xception.json": sidecar(PatientName="Doe")}, phantom=True)


@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "aB3" * 11,
        "ghp_" + "a1B2" * 9,
        "AKIA" + "ABCD" * 4,
        "ASIA" + "ABCD" * 4,
        "aws_secret_access_key = " + "aB3/" * 10,
        "github_pat_" + "a1B2" * 9,
        "glpat-" + "a1B2c" * 4,
        "AIza" + "aB3_-" * 7,
        "ya29." + "aB3_-" * 7,
        "AccountKey=" + "aB3+" * 21 + "==",
        "https://x.blob.core.windows.net/c?sv=2024&sig=" + "aB3%" * 11,
        "abc8Q~" + "aB3_" * 8,
        "xoxb-" + "123456789012-" * 2 + "aB3",
        "https://hooks.slack.com/services/T0123/B0123/aB3",
        "sk-" + "aB3_" * 10,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.aB3aB3aB3aB3",
        "SG." + "aB3_-a" * 3 + "aB3_." + "aB3_" * 10 + "aB3",
        "wandb_v1_" + "aB3_" * 12,
        "WANDB_API_KEY=" + "ab12" * 10,
        "postgresql+psycopg://searcher:Spring24@db.example/optuna",
        "https://user:hunter2@host.example/x",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----",
        "a token in use",
    ],
)
@pytest.mark.parametrize("hide", [lambda text: text.encode(), lambda text: tensors(note=text)], ids=["text", "header"])
def test_secrets(secret: str, hide: Callable[[str], bytes]) -> None:
    with pytest.raises(InputError, match=r"it.json: holds an access token or key \(.{6}…\); revoke it") as caught:
        check_secrets({"it.json": hide(f"x {secret} y")}, ["a token in use"])
    assert secret not in str(caught.value)
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in secret)
    for name, content in (("a.json", f'["{escaped}"]'.encode()), ("a.parquet", parquet(note=[secret] * 9))):
        with pytest.raises(InputError, match="holds an access token or key"):
            check_secrets({name: content}, ["a token in use"])
    check_secrets({"it.json": hide("hf_hub_download, hf auth login, ghp_")}, ["a token in use", ""])


def test_the_input_gate_holds_nothing_but_its_arrays(files: Files) -> None:
    one = numpy.zeros((1, 4), numpy.float32)
    arrays = {"mean": one[0], "components": one, "variances": one[0, :1]}
    check({**files, "gate.safetensors": safetensors.numpy.save(arrays)})
    for other in (arrays | {"images": one}, {"mean": one[0]}):
        with pytest.raises(CheckpointError, match="gate.safetensors: holds .* not the input gate's mean, components"):
            check({**files, "gate.safetensors": safetensors.numpy.save(other)})


def test_a_file_is_searched_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(2**20) + b"DICM\x02\x00")
    with pytest.raises(CheckpointError, match="large.bin: holds a DICOM file"):
        check_no_dicom({"large.bin": path})
    path.write_bytes(b"")
    check_no_dicom({"large.bin": path})


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private/doe.json").write_text("{}")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "same.json").symlink_to("config.json")
    check_links(folder)
    for target in ("../private/doe.json", tmp_path / "private", "nowhere"):
        (folder / "link.json").symlink_to(target)
        with pytest.raises(CheckpointError, match=r"link.json: is a link to another place; copy what it names"):
            check_links(folder)
        (folder / "link.json").unlink()
