"""The house stands: rooms import from floors below alone, and heavy packages keep to the rooms that own them."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A room imports only from floors below; rooms on one floor know nothing of each other.
FLOORS = {
    room: floor
    for floor, rooms in enumerate(
        (
            ("auto_classes", "callable_package", "errors"),
            ("files", "html", "text"),
            ("checkpoint", "command_line", "hub_download"),
            ("checkpoint_files",),
            ("metrics", "tabular"),
            ("export_record",),
            ("statistics",),
            ("imaging",),
            ("phantom", "model"),
            ("corpus", "serving"),
            ("audit", "explain", "formats"),
            ("training", "evaluation"),
            ("publish",),
            ("pipeline",),
            ("cli",),
            ("notebook",),
        )
    )
    for room in rooms
}
OWNERS = {
    "captum": ("ct_xception/explain/",),
    "accelerate": ("ct_xception/training/", "ct_xception/pipeline/"),
    "optuna": ("ct_xception/training/", "ct_xception/pipeline/"),
    "nibabel": ("ct_xception/imaging/decoders/nifti.py",),
    "pydicom": (
        "ct_xception/imaging/decoders/dicom.py",
        "ct_xception/imaging/decoders/dicom_frames.py",
        "ct_xception/imaging/decoder_process.py",
        "ct_xception/phantom/dicom.py",
    ),
    "gradio": ("app/",),
}
# Who may open a connection; of the Hub's client others take what is made of text alone.
ONLINE = ("ct_xception/hub_download.py", "ct_xception/publish/hub.py", "app/")
CONNECTING = {"aiohttp", "ftplib", "http", "httpx", "requests", "socket", "ssl", "urllib3", "websockets", "smtplib"}
TEXT_ALONE = {"EvalResult", "ModelCard", "ModelCardData", "strict"}
# How many files a newcomer can take in at once: more, and a noun is missing.
ROOM = 18
SOURCES = sorted([*ROOT.glob("ct_xception/**/*.py"), *ROOT.glob("app/**/*.py"), ROOT / "train_hf.py"])


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too, as a dotted name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import hides its room"
            if node.module == "ct_xception":
                yield from (f"ct_xception.{alias.name}" for alias in node.names)
            else:
                yield node.module


def room_of(name: str) -> str:
    return name.split(".")[1]


def test_the_walk_sees_every_room() -> None:
    rooms = {
        path.relative_to(ROOT / "ct_xception").parts[0].removesuffix(".py")
        for path in SOURCES[:-1]
        if path.is_relative_to(ROOT / "ct_xception")
    }
    assert rooms - {"__init__"} <= set(FLOORS)


def test_no_room_is_crowded() -> None:
    files = Counter(path.parent.relative_to(ROOT).as_posix() for path in SOURCES)
    assert {room: count for room, count in files.items() if count > ROOM} == {}


def test_every_room_is_packaged() -> None:
    packages = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"])
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in SOURCES if path.name == "__init__.py"}
    assert {room.replace("/", ".").replace("app", "ct_xception_app") for room in rooms} == packages


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_from_floors_below(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    if parts[:2] == ("ct_xception", "__init__.py"):
        return  # the lazy table of public names is no import
    own = parts[1].removesuffix(".py") if parts[0] == "ct_xception" else "face"
    floor = FLOORS.get(own, 99)
    for name in imports(path):
        if name.startswith("ct_xception.") and room_of(name) in FLOORS:
            room = room_of(name)
            assert room == own or FLOORS[room] < floor, f"{path}: {own} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_stay_in_the_rooms_that_own_them(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    for name in imports(path):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or place.startswith(owners), f"{place} imports {name}"


def reads_slices(node: ast.AST) -> bool:
    calls = (ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call))
    return any(call.endswith(("read_slice", "classifier.read", "member.read")) for call in calls)


def test_one_function_lets_a_file_go() -> None:
    """`try_read` alone turns a refused slice into a value; two others do more with the file than read it."""
    found = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Try)
        and any("SliceError" in ast.unparse(handler.type or node) for handler in node.handlers)
        and any(reads_slices(line) for line in node.body)
    }
    assert found == {"app/scenes.py", "ct_xception/corpus/inspection.py"}


def test_every_owner_is_there() -> None:
    owners = [*ONLINE, *(place for places in OWNERS.values() for place in places)]
    assert [place for place in owners if not (ROOT / place).exists()] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_network_is_reached_from_few_places(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    if place.startswith(ONLINE):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots = {
                alias.name if alias.name.startswith("urllib") else alias.name.split(".")[0] for alias in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.module:
            root = node.module.split(".")[0]
            if root == "huggingface_hub":
                assert {alias.name for alias in node.names} <= TEXT_ALONE, f"{place} reaches the Hub"
            roots = {f"urllib.{alias.name}" for alias in node.names} if node.module == "urllib" else {root}
            roots |= {node.module} if root == "urllib" else set()
        else:
            continue
        assert not roots & (CONNECTING | {"urllib.request"}), f"{place} opens connections"
        assert "huggingface_hub" not in roots or isinstance(node, ast.ImportFrom), f"{place} reaches the Hub"


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("ct_xception_app", *parts[1:]) if parts[0] == "app" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def edges(modules: dict[str, Path]) -> dict[str, set[str]]:
    """What each module imports of the others, inside functions and under TYPE_CHECKING too."""
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        targets = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= inner & set(modules) or {node.module}
        found[module] = targets & set(modules) - {module}
    return found


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The strongly connected parts of more than one module (Tarjan 1972)."""
    order, low = dict[str, int](), dict[str, int]()
    stack, found = list[str](), list[set[str]]()

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for target in graph[module]:
            if target not in order:
                visit(target)
            if target in stack:
                low[module] = min(low[module], low[target])
        if low[module] == order[module]:
            part = set(stack[stack.index(module) :])
            del stack[stack.index(module) :]
            found.extend([part] if len(part) > 1 else [])

    for module in graph:
        if module not in order:
            visit(module)
    return found


def test_the_walk_finds_circles() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"f", "a"}, "f": {"e"}}
    assert sorted(map(sorted, circles(graph))) == [["b", "c"], ["e", "f"]]


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Not at the top, not in a function, not for types alone; but for the lazy table of public names."""
    graph = edges({module_of(path): path for path in SOURCES if path != ROOT / "ct_xception" / "__init__.py"})
    assert "ct_xception.imaging.reader" in graph["ct_xception.serving.classifier"]
    assert circles(graph) == []


def test_serving_never_reaches_what_trains_and_measures() -> None:
    """Walk what the app and the predictor import, directly or not, inside this package."""
    seen, queue = set(), [*ROOT.glob("app/*.py"), ROOT / "ct_xception/serving/classifier.py"]
    while queue:
        path = queue.pop()
        seen.add(path)
        for name in imports(path):
            target = ROOT.joinpath(*name.split("."))
            for file in (target.with_suffix(".py"), target / "__init__.py"):
                if file.is_file() and name.startswith("ct_xception.") and file not in seen:
                    queue.append(file)
    rooms = {
        path.relative_to(ROOT / "ct_xception").parts[0] for path in seen if path.is_relative_to(ROOT / "ct_xception")
    }
    assert {"serving", "imaging", "model"} <= rooms
    assert not rooms & {"corpus", "audit", "training", "evaluation", "publish", "pipeline"}


def loaded_of(names: set[str], code: str) -> list[str]:
    """Which of some packages a fresh Python holds after some code."""
    code = f"{code}\nimport sys\nprint(*sorted({names!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.split()


HEAVY = {
    "torch", "transformers", "timm", "gradio", "captum", "datasets", "matplotlib", "pandas", "scipy", "skimage",
    "sklearn", "pydicom", "nibabel", "pydantic",
}  # fmt: skip
COMMANDS = ("explain", "predict", "score", "train", "tune")


@pytest.mark.parametrize("statement", ["import ct_xception", "from ct_xception.cli import build_parser"])
def test_light_imports_load_nothing_heavy(statement: str) -> None:
    assert loaded_of(HEAVY | {"numpy"}, statement) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_help_loads_nothing_heavy(command: str) -> None:
    assert loaded_of(HEAVY, f"from ct_xception.cli import build_parser\nbuild_parser([{command!r}])") == []


def test_a_png_is_read_and_judged_without_what_it_does_not_need() -> None:
    code = """
from ct_xception.imaging.body.crop import crop_body
from ct_xception.imaging.reader import read_slice
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.gate import has_lungs
assert has_lungs(crop_body(read_slice("app/examples/adenocarcinoma.png")))"""
    assert loaded_of(HEAVY - {"pydantic", "scipy"}, code) == []


def test_public_names_load_and_unknown_ones_are_refused() -> None:
    import ct_xception

    assert all(getattr(ct_xception, name) is not None for name in ct_xception.__all__)
    with pytest.raises(AttributeError, match="no attribute 'diagnose'"):
        _ = ct_xception.diagnose
