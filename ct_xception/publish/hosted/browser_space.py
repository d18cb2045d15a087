"""The page that answers in the visitor's browser: static files, so that no slice leaves the machine that it lies on.

    write_site("runs/mine/model", "site")           # serve it: python -m http.server --directory site

The page (app/browser/) does in JavaScript what reader, body crop and preprocessing do in Python, and runs the exported
network in onnxruntime-web. Its Content-Security-Policy lets it connect to its own files alone, to those of the pinned
runtime where these were not put beside it, and in a Space to the hosts from which the Hub gives a Space's large files.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct_xception import __version__
from ct_xception.checkpoint import GATE, ONNX_INT8, WEIGHTS
from ct_xception.errors import InputError, printable
from ct_xception.explain.placement import FIRST_CENTRE
from ct_xception.files import dump_json, read_json, sha256_file
from ct_xception.imaging.modality import CT, ONE
from ct_xception.imaging.reader import read_slice
from ct_xception.publish.clearance import Content
from ct_xception.publish.hosted.space import package_folder
from ct_xception.serving.checkpoint import Checkpoint, open_checkpoint
from ct_xception.serving.decisions import Decisions, Pooling
from ct_xception.serving.network import needed
from ct_xception.serving.runtimes import EXPORTED
from ct_xception.serving.runtimes.onnx import OnnxNetwork
from ct_xception.serving.unit_text import describe_rule
from ct_xception.statistics.pooling import POOLS
from ct_xception.text import RESEARCH_USE, a

RECORD = "checkpoint.json"
FILTERS = ("median",)  # those that the page can do, too
# The runtime that the page was tested with: the module, what it imports, and what that runs.
ORT_VERSION = "1.30.0"
ORT_FILES = {
    "ort.wasm.min.mjs": "sha384-SfFfy/pvthiOsgaw3KX0bV5TfQ6Iq+oY9KutMe4SxIuHH4cl+DCSD4rTsYOoG1tJ",
    "ort-wasm-simd-threaded.mjs": "sha384-XcXA/MtAf0WpB8e023xQH9CM7RIjiugakT7x99DIwpFf7k56BIFFcAPerIF7FDad",
    "ort-wasm-simd-threaded.wasm": "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
}
ORT_CDN = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{ORT_VERSION}/dist/"
_ORT_FOLDER = "ort/"
# Where the Hub redirects to for a Space's large and binary files: the hosts for downloads of its own list, which is
# huggingface.co/.well-known/meta.json, and the bridge before them. A browser holds every hop of a redirect against the
# policy, but no path after the first: only a request of the page's own must be for a file of a Space.
HUB_STORAGE = (
    "https://huggingface.co/spaces/",
    "https://cdn-lfs.hf.co",
    "https://cdn-lfs-us-1.hf.co",
    "https://cdn-lfs-eu-1.hf.co",
    "https://cas-bridge.xethub.hf.co",
    "https://*.cdn.hf.co",
)
_HEADER = """---
title: ct-xception in the browser
emoji: 🫁
colorFrom: gray
colorTo: green
sdk: static
app_file: index.html
license: apache-2.0
short_description: A slice classified in the browser; none leaves it
models:
- {model}
tags:
- medical-imaging
- ct
- image-classification
- xception
- onnx
custom_headers:
  cross-origin-embedder-policy: require-corp
  cross-origin-opener-policy: same-origin
  cross-origin-resource-policy: cross-origin
---

# ct-xception in the browser

Drop a slice (CT in DICOM, uncompressed, or an 8-bit PNG or JPEG): the network runs in this browser and shows the
probability of each class, and where on the slice the evidence for it lies. No image leaves the visitor's machine.

{notice}

Made by ct-xception {version} from [{model}](https://huggingface.co/{model}), whose card says how often it is right:

```bash
ct-xception push {model} USER/REPO --browser
```
"""


def write_site(source: str | Path, folder: str | Path, *, ort: str | Path | None = None) -> dict[str, Path]:
    """Write the whole page for a checkpoint into `folder`, in place of an earlier one; {path in it: its file}.

    `source` is a checkpoint folder or a Hub id with an exported ONNX file: the int8 one is taken where there is one.
    `ort` is a folder with onnxruntime-web's files (the npm package, or its dist); without it the page loads the pinned
    version from its CDN. Raises CheckpointError and InputError, one sentence; `folder` is whole or as it was.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and ((folder / RECORD).is_file() or not any(folder.iterdir()))):
        raise InputError(f"{printable(folder)}: holds something else than such a page; name a new or empty folder.")
    files = site_files(source, ort=ort)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        staging, replaced = Path(temporary) / "new", Path(temporary) / "old"
        for name, content in files.items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                (staging / name).write_bytes(content)
            else:
                shutil.copyfile(content, staging / name)
        _replace(staging, folder, replaced)
    return {name: folder / name for name in files}


def _replace(new: Path, place: Path, aside: Path) -> None:
    """Put a folder in its place; what is there waits `aside`, and comes back where the new one cannot be had."""
    if place.exists():
        place.rename(aside)
    try:
        new.rename(place)
    except OSError as error:
        if aside.exists():
            aside.rename(place)
        raise InputError(f"{printable(place)}: the page cannot be put there ({error}); name another folder.") from error


def browser_space_files(source: str | Path, model_id: str, *, ort: str | Path | None = None) -> dict[str, Content]:
    """The files of a static Space that answers with a checkpoint, which is on the Hub as `model_id`.

    `source` is that Hub id (user/repo or user/repo@revision), or the folder that was published under it.
    """
    header = _HEADER.format(model=model_id.partition("@")[0], notice=RESEARCH_USE, version=__version__)
    return site_files(source, ort=ort, name=model_id, storage=HUB_STORAGE) | {"README.md": header.encode()}


def site_files(
    source: str | Path, *, ort: str | Path | None = None, name: str | None = None, storage: Sequence[str] = ()
) -> dict[str, Content]:
    """The files of the page, {path: a file, or bytes}; it calls the checkpoint `name`. Raises as `write_site` does.

    `storage` are the hosts that its server may redirect to for a file.
    """
    checkpoint, runtime = _opened(source)
    network = _Parts.of(checkpoint.folder / EXPORTED[runtime].files[0])
    files: dict[str, Content] = dict(network.files)
    if checkpoint.gate is not None:
        files[GATE] = checkpoint.folder / GATE
    found = _Runtime.of(ort)
    files |= found.files
    examples = _examples(checkpoint.config["label_names"])
    files |= {f"examples/{path.name}": path for path in examples}
    files |= {_picture(path): _png(path) for path in examples if path.suffix == ".dcm"}
    files |= {path.name: path for path in sorted(_page().glob("*")) if path.suffix in (".js", ".css")}
    record = {"name": name or _name(checkpoint), **_record(checkpoint, runtime, found, network)}
    files[RECORD] = (dump_json(record) + "\n").encode()
    return files | {"index.html": _index(record, found, examples, storage, checkpoint.contract.modality).encode()}


def _opened(source: str | Path) -> tuple[Checkpoint, str]:
    """The checkpoint, and which of its exported files is the page's: int8 where it was kept."""
    found = open_checkpoint(source, ())  # which says what there is, before a network is fetched or checked
    if beside := found.config.get("tabular"):
        told = ", ".join(printable(column["name"]) for column in beside["columns"])
        raise InputError(
            f"{found.name}: takes columns of a table beside the image ({told}), and the page in the browser has no "
            "fields for them; serve it with `ct-xception demo`."
        )
    kept = (found.folder / ONNX_INT8).is_file() or found.revision is not None and ONNX_INT8 in found.manifest
    runtime = "onnx-int8" if kept else "onnx"
    if found.revision is not None:
        source = f"{found.name.partition('@')[0]}@{found.revision}"  # somebody may push between the two
    return open_checkpoint(source, EXPORTED[runtime].files), runtime


def _page() -> Path:
    return package_folder("ct_xception_app") / "browser"


def _examples(label_names: Sequence[str]) -> list[Path]:
    """The demo page's generated slices, where the checkpoint knows every class that they show."""
    folder = package_folder("ct_xception_app") / "examples"
    found = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".dcm"))
    return found if {_title(path) for path in found} <= set(label_names) else []


def _picture(example: Path) -> str:
    """The file that shows an example on its button."""
    return f"examples/{example.stem}-small.png" if example.suffix == ".dcm" else f"examples/{example.name}"


def _png(example: Path) -> bytes:
    """A DICOM example as a small picture, which browsers do not make of it."""
    stream = io.BytesIO()
    picture = read_slice(example).to_pil()
    picture.thumbnail((192, 192))
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _title(example: Path) -> str:
    return example.stem.replace("_", " ")


# onnxruntime-web


@dataclass(frozen=True)
class _Runtime:
    """Where the page finds onnxruntime-web: `base` is relative for files beside it, `version` "" where not known."""

    base: str
    version: str
    files: Mapping[str, Path]

    @classmethod
    def of(cls, folder: str | Path | None) -> _Runtime:
        """From a local folder, or None for the CDN. Raises InputError where files are missing."""
        if folder is None:
            return cls(ORT_CDN, ORT_VERSION, {})
        root = Path(folder)
        dist = root / "dist" if (root / "dist").is_dir() else root
        for name in ORT_FILES:
            if not (dist / name).is_file():
                raise InputError(
                    f"--ort: {printable(dist)} lacks {name}; name the unpacked npm package onnxruntime-web "
                    f"{ORT_VERSION} (npm pack onnxruntime-web@{ORT_VERSION})."
                )
        package = dist.parent / "package.json"
        version = str(read_json(package).get("version", "")) if package.is_file() else ""
        return cls(f"./{_ORT_FOLDER}", version, {_ORT_FOLDER + name: dist / name for name in ORT_FILES})

    @property
    def is_local(self) -> bool:
        """Whether the page needs no address but its own."""
        return bool(self.files)

    def record(self) -> dict[str, Any]:
        """What the page is told; files from elsewhere must have the bytes of the version that was tested."""
        pinned = {name: "" if self.is_local else integrity for name, integrity in ORT_FILES.items()}
        files = [{"name": name, "integrity": integrity} for name, integrity in pinned.items()]
        return {"base": self.base, "version": self.version, "files": files}

    def policy(self, storage: Sequence[str]) -> str:
        """The page's Content-Security-Policy: nothing but what it needs to answer."""
        own = " ".join(("'self'", *storage))
        # What came from elsewhere is checked, and then imported from memory (blob:), so that no foreign script may run.
        script, connect = ("'self'", own) if self.is_local else ("'self' blob:", f"{own} {self.base}")
        return "; ".join(
            (
                "default-src 'none'",
                f"script-src {script} 'wasm-unsafe-eval'",
                f"worker-src {script}",
                f"connect-src {connect}",
                "style-src 'self'",
                f"img-src {own} data:",
                "base-uri 'none'",
                "form-action 'none'",
            )
        )


# The network


@dataclass(frozen=True)
class _Parts:
    """The network's files in the page: two, of which the second gives Grad-CAM, or the exported one as it is.

    `unmapped` says why it is not in two; the page then draws the class activation map, and says so.
    """

    files: Mapping[str, Content]
    unmapped: str = ""

    @classmethod
    def of(cls, path: Path) -> _Parts:
        """The parts of an exported file."""
        from ct_xception.formats.onnx_gradcam import NoGradient, split_for_gradcam

        onnx = needed("onnx", "export --browser")
        try:
            parts = split_for_gradcam(onnx.load(str(path)))
        except NoGradient as error:
            return cls({path.name: path}, str(error))
        names = (f"{path.stem}_to_middle.onnx", f"{path.stem}_exit.onnx")
        return cls({name: part.SerializeToString() for name, part in zip(names, parts, strict=True)})

    def records(self) -> list[dict[str, Any]]:
        """What the page is to fetch, in order."""
        return [{"file": name, **_measured(content)} for name, content in self.files.items()]


def _measured(content: Content) -> dict[str, Any]:
    if isinstance(content, bytes):
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {"bytes": content.stat().st_size, "sha256": sha256_file(content)}


# What the page is told


def _record(checkpoint: Checkpoint, runtime: str, ort: _Runtime, parts: _Parts) -> dict[str, Any]:
    """checkpoint.json: what the network expects, what its outputs mean, and the rules that apply to them."""
    from ct_xception.explain.overlay import palette

    network, window = EXPORTED[runtime].open(checkpoint), checkpoint.contract.window
    assert isinstance(network, OnnxNetwork)
    return {
        "made_by": f"ct-xception {__version__}",
        "label_names": list(network.label_names),
        "window": None if window is None else {"centre": window.centre, "width": window.width},
        "preprocessing": _preprocessing(checkpoint, network.description.pretrained_cfg),
        "model": {"runtime": runtime, "parts": parts.records(), "unmapped": parts.unmapped},
        "weights_sha256": network.description.weights_sha256,
        "rules": _rules(checkpoint.decisions) | {"pooling": _pooling(checkpoint.decisions.pooling)},
        "gate": _gate(checkpoint),
        "runtime": ort.record(),
        "palette": palette().tolist(),
    }


def _name(checkpoint: Checkpoint) -> str:
    """A Hub id with its commit; of a folder the end alone, since where it lies is nobody's business."""
    if checkpoint.revision is not None:
        return f"{checkpoint.name.partition('@')[0]}@{checkpoint.revision[:12]}"
    return "/".join(Path(checkpoint.name).resolve().parts[-2:])


def _preprocessing(checkpoint: Checkpoint, pretrained_cfg: Mapping[str, Any]) -> dict[str, Any]:
    contract = checkpoint.contract
    if unknown := [name for name in contract.filters if name not in FILTERS]:
        raise InputError(
            f"{checkpoint.name}: its filter {unknown[0]} cannot be done by the page in the browser; use the demo page "
            "(ct-xception demo, push --space)."
        )
    return {
        **contract.stated_with(pretrained_cfg),
        "first_centre": FIRST_CENTRE.get(checkpoint.config["architecture"], 0),
    }


def _rules(decisions: Decisions) -> dict[str, Any]:
    """The rules of serving/decisions.py, as the page applies them."""
    points = [
        {"name": point.name, "kind": point.kind, "positive": list(point.positive), "threshold": point.threshold}
        for point in decisions.operating_points
    ]
    wanted = {"method", "coverage", "threshold", "penalty", "free_ranks"}
    rule = decisions.conformal
    return {
        "conformal": None if rule is None else rule.model_dump(include=wanted, exclude_unset=True),
        "operating_points": points,
        "abstain_below": decisions.abstain_below,
        "temperature": decisions.temperature,
        "output_temperature": decisions.output_temperature,
        "calibrated_on": decisions.calibrated_on,
    }


def _pooling(pooling: Pooling) -> dict[str, Any]:
    """The rule of several slices; the mean of logits in place of one that is learnt, whose weights stay here."""
    own, how = pooling, describe_rule(pooling)
    if POOLS[pooling.method].learnt:
        own, learnt = Pooling(), POOLS[pooling.method].title
        how = f"{POOLS[own.method].title}; not calibrated: the checkpoint's own rule, {learnt}, is not computed here"
    return {
        "method": own.method,
        "temperature": own.temperature,
        "how": how[0].upper() + how[1:],
        "rules": _rules(own.decisions or Decisions()),
    }


def _gate(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The input gate's file and the part of its rules that a picture can be judged by."""
    gate = checkpoint.gate
    if gate is None:
        return None
    rule = {
        "noise": gate.distance.noise,
        "length": gate.distance.length,
        "usual": gate.usual,
        "doubtful": gate.doubtful,
        "refused": gate.refused,
        "signs": gate.signs.to_dict(),
    }
    path = checkpoint.folder / GATE
    return {"file": GATE, "bytes": path.stat().st_size, "sha256": sha256_file(path), "rule": rule}


# What the visitor is told


def _index(
    record: Mapping[str, Any], ort: _Runtime, examples: list[Path], storage: Sequence[str], modality: str
) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((_page() / "index.html").read_text(encoding="utf-8"))
    own = "its own files" + (" (wherever the Hub stores them)" if storage else "")
    return template.render(
        policy=ort.policy(storage),
        model=record["name"],
        one_of=a(ONE[modality]),
        notice=RESEARCH_USE,
        reach=own if ort.is_local else f"{own} and those of onnxruntime-web on {ORT_CDN.split('/')[2]}",
        examples=[
            {"file": f"examples/{path.name}", "picture": _picture(path), "title": _title(path)} for path in examples
        ],
        reads_dicom=modality == CT,
        unmapped=record["model"]["unmapped"],
        facts=_facts(record, ort),
    )


def _facts(record: Mapping[str, Any], ort: _Runtime) -> list[str]:
    model = record["model"]
    precision = "8-bit integers" if model["runtime"] == "onnx-int8" else "32-bit floats"
    size = sum(part["bytes"] for part in model["parts"])
    network = f"The network: {record['name']}, {size / 1e6:.1f} MB, {precision}"
    weights = record["weights_sha256"][:16]
    gate = (
        "An input gate asks first whether a picture is such a slice as the model knows, and refuses what is not."
        if record["gate"]
        else "This checkpoint has no input gate: the page answers any picture, a photograph too."
    )
    version = f" {ort.version}" if ort.version else ""
    where = "from this page's own files" if ort.is_local else f"fetched from {ort.base} and checked byte for byte"
    return [
        f"{network}, made from the {WEIGHTS} whose SHA-256 begins with {weights}.",
        gate,
        "Reading, body crop and resizing are those of ct-xception in Python, number for number; what the browser "
        "decodes of a JPEG, or of a transparent picture, may differ by a grey level.",
        _map_fact(model),
        "Other methods, compressed DICOM, series and windows are on the demo page (ct-xception demo).",
        f"Runtime: onnxruntime-web{version} (MIT licence), {where}.",
        f"Made by {record['made_by']} (Apache-2.0).",
    ]


def _map_fact(model: Mapping[str, Any]) -> str:
    """Which map the page draws, and how it stands to that of the other doors."""
    if model["unmapped"]:
        return (
            f"The map is the class activation map of the network's last layer, since {model['unmapped']}. The Grad-CAM "
            "that the demo page and the command line show is of its middle, and finer: where the two differ, believe "
            "that one."
        )
    rounded = " through the 8-bit network, so that its cells may differ a little" * (model["runtime"] == "onnx-int8")
    return (
        "The map is Grad-CAM of the layer before the last stride, as the demo page, the API and the command line draw "
        f"it{rounded}; whether the network used the place is what the demo page can measure, and this page cannot."
    )
