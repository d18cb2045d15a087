"""Pushing: what arrives, what is refused, and what a bad line, a second pusher or a full disk does to it.

Few of these tests publish a real checkpoint: how a push goes does not depend on what the files say.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

import ct_xception.publish.hub as publishing
from ct_xception.cli import main
from ct_xception.errors import InputError
from ct_xception.publish.hub import Pushed, PushError, Target, check_access, push_checkpoint, push_files
from tests.hub.conftest import REPOSITORY
from tests.hub.local_hub import Fault, LocalHub

LogIn = Callable[[str | None], None]
FILES = {"ct_xception.json": b"{}", "README.md": b"---\nlicense: mit\n---\n", "model.safetensors": b"weights"}
pytestmark = pytest.mark.usefixtures("log_in")


def push(repo_id: str, files: dict[str, Any] | None = None, **options: Any) -> Pushed:
    return push_files(Target(repo_id), FILES if files is None else files, message="Publish", **options)


def weights(text: str) -> dict[str, bytes]:
    """Another version: large files of other bytes have to be sent."""
    return {**FILES, "model.safetensors": text.encode()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestACheckpoint:
    def test_the_folder_under_its_new_name(self, hub: LocalHub, checkpoint: Path, published: Pushed) -> None:
        repository, local = hub[REPOSITORY], contents(checkpoint)
        assert repository.history == ["Publish the checkpoint", "initial commit"]
        assert set(repository.at("main").files) == set(local) | {".gitattributes"}
        for path in set(local) - {"README.md", "ct_xception.json"}:
            assert hub.read(REPOSITORY, path) == local[path]
        card = hub.read(REPOSITORY, "README.md").decode()
        assert f'model="{REPOSITORY}"' in card and "USER/REPO" not in card
        assert ModelCard(card).data.model_name == "ct"
        assert "USER/REPO" in local["README.md"].decode()  # the folder itself is as it was
        assert (published.changed, published.tag) == (True, "v1")

    def test_the_seal_is_that_of_what_arrived(self, hub: LocalHub, published: Pushed) -> None:
        manifest = json.loads(hub.read(REPOSITORY, "ct_xception.json"))["manifest"]
        assert set(manifest) | {"ct_xception.json", ".gitattributes"} == set(hub[REPOSITORY].at("main").files)
        for path, digest in manifest.items():
            assert hashlib.sha256(hub.read(REPOSITORY, path)).hexdigest() == digest

    def test_the_version_is_tagged(self, hub: LocalHub, published: Pushed) -> None:
        assert hub[REPOSITORY].tags == {"v1": published.commit}

    def test_the_command_pushes_again_what_is_there(
        self,
        hub: LocalHub,
        checkpoint: Path,
        published: Pushed,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked a question"))
        assert main(["push", str(checkpoint), REPOSITORY, "--tag", "v1"]) == 0
        told = f"{REPOSITORY}: unchanged, commit {published.commit[:12]}, tag v1: {hub.endpoint}/{REPOSITORY}"
        assert capsys.readouterr().out.strip() == told
        assert len(hub[REPOSITORY].history) == 2


class TestVersions:
    def test_a_new_one_replaces_the_old_one_and_keeps_its_tag(self, hub: LocalHub) -> None:
        first = push("alice/versions", {**weights("old"), "onnx/model.onnx": b"\x08"}, tag="v1")
        with pytest.raises(InputError, match="the version v1 exists already, and is something else; choose another"):
            push("alice/versions", tag="v1")
        second = push("alice/versions", tag="v2")
        repository = hub["alice/versions"]
        assert repository.tags == {"v1": first.commit, "v2": second.commit}
        assert "onnx/model.onnx" in repository.at("v1").files and "onnx/model.onnx" not in repository.at("v2").files

    def test_what_arrived_before_is_not_sent_again(self, hub: LocalHub) -> None:
        push("alice/again")
        sent = len(hub.log)
        push("alice/again", {**FILES, "ct_xception.json": b"{ }"})
        assert not any("PUT" in line for line, _ in hub.log[sent:])

    def test_the_same_again_is_no_commit(self, hub: LocalHub) -> None:
        first, second = push("alice/same", tag="v1"), push("alice/same", tag="v1")
        assert (second.commit, second.changed) == (first.commit, False)
        assert len(hub["alice/same"].history) == 2


class TestWhoMay:
    def test_private_is_never_public(self, hub: LocalHub) -> None:
        push("alice/open")
        with pytest.raises(InputError, match="alice/open: exists and is public; make it private"):
            push("alice/open", weights("new"), private=True)
        push("alice/secret", private=True)
        assert hub["alice/secret"].private and len(hub["alice/open"].history) == 2

    @pytest.mark.parametrize(
        ("account", "sentence"),
        [
            (None, "no token of the Hub is stored here; log in (hf auth login), or set HF_TOKEN."),
            ("reader", "the token of alice may only read; make one that may write, and hf auth login."),
            ("bob", "the token is bob's, and alice is neither that account nor an organisation of it; "),
        ],
    )
    def test_tokens_that_will_not_do(self, hub: LocalHub, log_in: LogIn, account: str | None, sentence: str) -> None:
        log_in(account)
        with pytest.raises(InputError, match=re.escape(f"alice/new: {sentence}")):
            push("alice/new")
        assert ("models", "alice/new") not in hub.repositories

    def test_the_token_comes_before_the_figures_are_counted(self, log_in: LogIn, tmp_path: Path) -> None:
        log_in(None)
        with pytest.raises(InputError, match="no token of the Hub is stored here"):
            push_checkpoint(tmp_path, "alice/new")

    def test_a_wrong_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_of_yesterday")
        with pytest.raises(InputError, match="alice/new: the Hub does not know the token; make another"):
            push("alice/new")

    def test_a_name_that_is_taken(self, hub: LocalHub) -> None:
        from huggingface_hub import HfApi

        HfApi().create_repo("alice/thesis")
        HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo="thesis.tex", repo_id="alice/thesis")
        with pytest.raises(InputError, match="taken by something that ct-xception did not publish"):
            push("alice/thesis")
        assert set(hub["alice/thesis"].at("main").files) == {".gitattributes", "thesis.tex"}

    @pytest.mark.parametrize("name", ["ct", "alice/ct/v1", "alice/", "alice/c t", "../ct", "alice/ct.git"])
    def test_a_name_that_is_none(self, hub: LocalHub, name: str) -> None:
        sent = len(hub.log)
        with pytest.raises(InputError, match="is no name for a repository"):
            push(name)
        assert len(hub.log) == sent

    def test_asked_before_training(self, hub: LocalHub, log_in: LogIn) -> None:
        push("alice/asked", tag="v1")
        check_access("alice/not-yet")
        assert ("models", "alice/not-yet") not in hub.repositories
        with pytest.raises(InputError, match="the version v1 exists"):
            check_access("alice/asked", tag="v1")
        log_in("bob")
        with pytest.raises(InputError, match="the token is bob's"):
            check_access("alice/asked")


class TestOneCommitOrNone:
    @pytest.mark.parametrize(
        "fault",
        [
            Fault("PUT /_store", cut=True),
            Fault("POST .*/preupload/", cut=True),
            Fault("POST .*/commit/main", status=503),
            Fault("POST .*/commit/main", cut=True),
            Fault("POST .*/commit/main", lose_answer=True),
        ],
        ids=["upload cut", "question cut", "commit refused for now", "commit cut", "answer lost"],
    )
    def test_a_dropped_line_is_taken_up_again(
        self, hub: LocalHub, request: pytest.FixtureRequest, fault: Fault
    ) -> None:
        name = request.node.name
        repo_id = f"alice/dropped-{hashlib.sha1(name.encode()).hexdigest()[:8]}"
        hub.faults.append(fault)
        pushed = push(repo_id, weights(name))
        assert not hub.faults, "the mishap did not happen"
        assert hub[repo_id].history == ["Publish", "initial commit"]
        assert pushed.commit == hub[repo_id].at("main").id and pushed.changed

    def test_a_line_that_stays_dead(self, hub: LocalHub) -> None:
        hub.faults += [Fault("POST .*/commit/main", status=503) for _ in range(4)]
        with pytest.raises(PushError, match=r"the Hub is in trouble \(503, .*; push again later"):
            push("alice/dead-line")
        assert hub["alice/dead-line"].history == ["initial commit"]
        assert push("alice/dead-line").changed

    def test_two_pushers_of_different_things(self, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
        """The other one commits between our look and our commit."""
        push("alice/shared")
        send = publishing._send

        def overtake(*arguments: object) -> str:
            monkeypatch.setattr(publishing, "_send", send)
            files = hub["alice/shared"].at("main").files
            hub["alice/shared"].add("main", "Theirs", {**files, "notes.json": hub.store(b"{}")})
            return send(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(publishing, "_send", overtake)
        with pytest.raises(PushError, match="somebody else pushed at the same moment"):
            push("alice/shared", weights("ours"))
        assert hub["alice/shared"].history[0] == "Theirs"

    def test_two_pushers_of_the_same(self, hub: LocalHub) -> None:
        commits: list[str] = []

        def push_once() -> None:
            commits.append(push("alice/twice").commit)

        threads = [threading.Thread(target=push_once) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert commits == [hub["alice/twice"].at("main").id] * 2
        assert hub["alice/twice"].history == ["Publish", "initial commit"]


class TestThisMachine:
    def test_no_network(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr("ct_xception.publish.hub.space_files", lambda _: FILES)
        assert main(["push", "alice/ct", "alice/new", "--space"]) == 1
        assert re.fullmatch(
            r"ct-xception: spaces/alice/new: the Hub does not answer \(.*\); push again when the network is back\.\n",
            capsys.readouterr().err,
        )

    def test_the_hub_switched_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import utils

        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        utils.close_session()
        with pytest.raises(InputError, match=r"the Hub is switched off here \(HF_HUB_OFFLINE\); unset it"):
            push("alice/new")

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_a_full_disk(self, monkeypatch: pytest.MonkeyPatch, wrapped: bool) -> None:
        def fail(*_: object, **__: object) -> None:
            full = OSError(errno.ENOSPC, "No space left on device")
            if wrapped:  # as the client does where an upload fails
                raise RuntimeError("Error while uploading") from full
            raise full

        monkeypatch.setattr("huggingface_hub.HfApi.create_commit", fail)
        with pytest.raises(PushError, match="alice/full: the disk of this machine is full; make room, and push again"):
            push("alice/full")

    def test_a_fault_of_ours_is_not_dressed_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.HfApi.create_commit", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            push("alice/ours")

    def test_the_token_is_not_published(self, hub: LocalHub) -> None:
        with pytest.raises(InputError, match="notes.json: holds an access token or key"):
            push("alice/leak", {**FILES, "notes.json": b'{"token": "hf_alice_writes"}'})
        assert ("models", "alice/leak") not in hub.repositories
