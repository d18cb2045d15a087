"""A search whose workers share a real PostgreSQL, as workers on many machines do."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ct_xception.training.search.study import SearchOptions, counted, finished, open_study
from tests.training.search.test_study import SPACE, race


def _server_programs() -> Path:
    """The folder of initdb and postgres, or a skip where there is none."""
    places = [
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
        Path(shutil.which("initdb") or "").parent,
    ]
    for place in places:
        if (place / "initdb").is_file() and (place / "postgres").is_file():
            return place
    pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")


@pytest.fixture
def postgres() -> Iterator[str]:
    """The URL of an empty database of a server that this test starts and stops."""
    pytest.importorskip("psycopg")
    programs = _server_programs()
    # The server refuses root; whoever else runs the tests starts it as themselves.
    root = os.getuid() == 0
    if root and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL refuses root, and there is no runuser to be somebody else")
    become = ["runuser", "-u", "nobody", "--"] if root else []
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        folder = Path(name)
        if root:
            shutil.chown(folder, "nobody")
        data = folder / "data"
        subprocess.run(
            [*become, programs / "initdb", "-D", data, "-U", "search", "--auth=trust", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=folder,
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = ["-c", "listen_addresses=127.0.0.1", "-p", str(port), "-k", str(folder), "-c", "fsync=off"]
        server = subprocess.Popen(
            [*become, programs / "postgres", "-D", data, *settings], cwd=folder, stderr=subprocess.DEVNULL
        )
        try:
            _wait_until_ready(programs, port)
            yield f"postgresql+psycopg://search@127.0.0.1:{port}/postgres"
        finally:
            server.terminate()
            server.wait(timeout=60)


def _wait_until_ready(programs: Path, port: int) -> None:
    for _ in range(300):
        asked = subprocess.run([programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port)], capture_output=True)
        if asked.returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError("PostgreSQL did not start within 30 seconds")


def test_four_workers_share_a_postgres_and_one_is_killed(postgres: str, tmp_path: Path) -> None:
    trained = race(postgres, tmp_path)
    study, _ = open_study(postgres, SearchOptions(sampler="random", trials=8), SPACE)
    assert len(finished(study)) == len(counted(study)) == 8
    assert len(trained) == len(set(trained)) == 8
