"""One run folder, one run: what a second start sees, and what a kill, another machine or a frozen owner leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ct_xception.errors import InputError
from ct_xception.pipeline import lock
from ct_xception.pipeline.lock import LOCK, SILENT, refuse_if_held, run_lock

HOLD = "import sys, time; from pathlib import Path; from ct_xception.pipeline.lock import run_lock\n"
HOLD += "with run_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"


def hold(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def write_lock(folder: Path, seconds_ago: float = 0.0, **owner: object) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / LOCK
    path.write_text(json.dumps({"host": "elsewhere", "machine": "another", "pid": 7, "begun": "today"} | owner))
    os.utime(path, (time.time() - seconds_ago, time.time() - seconds_ago))
    return path


def test_the_second_is_refused_and_a_killed_one_is_succeeded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    first = hold(run)
    try:
        with pytest.raises(InputError, match=rf"run is in use by process {first.pid} on "), run_lock(run):
            pass
        with pytest.raises(InputError, match="in use"):
            refuse_if_held(run)
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    assert (run / LOCK).is_file()
    refuse_if_held(run)
    with run_lock(run):
        assert json.loads((run / LOCK).read_text())["pid"] == os.getpid()
        with pytest.raises(InputError, match="in use"), run_lock(run):
            pass
    assert f"taken over from process {first.pid} on " in capsys.readouterr().err
    assert not list(run.iterdir())


def test_of_many_that_start_at_once_one_holds_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    write_lock(tmp_path / "run", seconds_ago=2 * SILENT)  # a dead one's, which all of them may take over
    code = HOLD.replace("time.sleep(600)", "sys.stdin.read()")
    words = [sys.executable, "-c", code, str(tmp_path / "run")]
    pipe = subprocess.PIPE
    several = [subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(6)]
    deadline = time.monotonic() + 60
    while sum(one.poll() is None for one in several) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    ended = [one.communicate() for one in several]
    assert sorted(out for out, _ in ended) == [""] * 5 + ["held\n"]
    assert sum("InputError" in errors and "in use by" in errors for _, errors in ended) == 5


def test_another_machine_s_lock_counts_while_it_is_touched(tmp_path: Path) -> None:
    write_lock(tmp_path / "run", seconds_ago=SILENT / 2)
    with pytest.raises(InputError, match=r"process 7 on elsewhere, begun today; .* It was seen \d+ s ago"):
        refuse_if_held(tmp_path / "run")
    write_lock(tmp_path / "run", seconds_ago=SILENT + 5)
    with run_lock(tmp_path / "run"):
        pass


def test_without_posix_locks_a_process_is_known_by_number_and_birth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    own = lock._self()
    write_lock(tmp_path / "run", **own)
    with pytest.raises(InputError, match="in use"):
        refuse_if_held(tmp_path / "run")
    write_lock(tmp_path / "run", **(own | {"birth": "1"}))  # the same number, used again
    refuse_if_held(tmp_path / "run")


def test_without_hard_links_it_is_held_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    with run_lock(tmp_path / "run"), pytest.raises(InputError, match="in use"), run_lock(tmp_path / "run"):
        pass


def test_whose_lock_was_taken_over_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(lock._thread, "interrupt_main", ended.append)
    monkeypatch.setattr(lock, "BEAT", 0.01)
    with run_lock(tmp_path / "run"):
        began = (tmp_path / "run" / LOCK).stat().st_mtime_ns
        time.sleep(0.2)
        assert (tmp_path / "run" / LOCK).stat().st_mtime_ns > began and not ended
        other = write_lock(tmp_path, seconds_ago=0)
        other.replace(tmp_path / "run" / LOCK)
        time.sleep(0.2)
        assert ended == [signal.SIGTERM]
    assert (tmp_path / "run" / LOCK).is_file()  # the other's


def test_what_was_not_written_to_goes_again(tmp_path: Path) -> None:
    with run_lock(tmp_path / "runs" / "a"):
        pass
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--output_dir: .* cannot be written"), run_lock(tmp_path / "file" / "run"):
        pass


def test_training_is_refused_before_anything_slow(tmp_path: Path) -> None:
    first = hold(tmp_path / "run")
    try:
        code = "import sys; from ct_xception.cli import main; code = main(sys.argv[1:])\n"
        code += "sys.exit(code if not {'torch', 'accelerate', 'transformers'} & set(sys.modules) else 9)"
        words = [
            "train",
            "--corpus",
            "phantom",
            "--weights",
            "none",
            "--resume",
            "auto",
            "--output_dir",
            str(tmp_path / "run"),
        ]
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.startswith("ct-xception train: --output_dir: "), done
        fold = [*words, "--protocols", "grouped", "--only_fold", "2"]
        assert subprocess.run([sys.executable, "-c", code, *fold], capture_output=True).returncode == 2
    finally:
        first.kill()
        first.communicate()
