"""Out and back: what was published, through the programs and libraries that others have, each in its own process."""

from __future__ import annotations

import copy
import errno
import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ct_xception.checkpoint_files import Side, side_text
from ct_xception.errors import CheckpointError
from ct_xception.publish.hub import Pushed
from tests.closeness import ROUNDING
from tests.hub.conftest import REPOSITORY, client
from tests.hub.local_hub import Fault, LocalHub

Run = Callable[..., subprocess.CompletedProcess[str]]

STOCK = """
import json, sys
try:
    import ct_xception
    sys.exit("this process can import ct_xception, so it shows nothing")
except ImportError:
    pass
import timm, torch
from huggingface_hub import ModelCard
from transformers import pipeline

repository, picture = sys.argv[1:]
classify = pipeline("image-classification", model=repository)
network = timm.create_model(f"hf-hub:{repository}", pretrained=True).eval()
noise = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
with torch.no_grad():
    ours, theirs = classify.model(pixel_values=noise).logits, network(noise)
data = ModelCard.load(repository).data
print(json.dumps({
    "answers": classify(picture, top_k=4),
    "timm_apart": ((ours - theirs).abs().max() / theirs.abs().max()).item(),
    "task": data.pipeline_tag,
    "results": [[one.metric_type, one.metric_value, one.dataset_split] for one in data.eval_results],
}))
"""


@pytest.fixture(scope="module")
def stock(
    hub: LocalHub, published: Pushed, sample_slices: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a process without our code says of the published checkpoint, online and then from its cache alone."""
    home, found = tmp_path_factory.mktemp("stranger"), {}
    for mood in ("0", "1"):
        command, environment = client(hub, "python", None, home, bare=True)
        sent = len(hub.log)
        done = subprocess.run(
            [*command, "-c", STOCK, REPOSITORY, str(sample_slices[0])],
            cwd=home,  # from which Python imports as well
            env={**environment, "HF_HUB_OFFLINE": mood},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found[mood] = json.loads(done.stdout.splitlines()[-1]) | {"requests": len(hub.log) - sent}
    return {"online": found["0"], "offline": found["1"]}


class TestStock:
    def test_pipeline_answers_as_the_folder_does(
        self, stock: dict[str, Any], checkpoint: Path, sample_slices: list[Path]
    ) -> None:
        from transformers import pipeline

        local = pipeline("image-classification", model=str(checkpoint))(str(sample_slices[0]), top_k=4)
        answers = stock["online"]["answers"]
        assert [one["label"] for one in answers] == [one["label"] for one in local]
        assert [one["score"] for one in answers] == pytest.approx([one["score"] for one in local], abs=ROUNDING)

    def test_timm_gives_the_same_logits(self, stock: dict[str, Any]) -> None:
        assert stock["online"]["timm_apart"] < ROUNDING

    def test_the_card_holds_the_model_index(self, stock: dict[str, Any], checkpoint: Path) -> None:
        metrics = json.loads((checkpoint / "evaluation/metrics.json").read_text())
        accuracy = metrics["paths"]["predictor"]["accuracy"]["value"]
        assert stock["online"]["task"] == "image-classification"
        assert ["accuracy", pytest.approx(accuracy, abs=1e-4), "test"] in stock["online"]["results"]

    def test_the_cache_answers_without_the_hub(self, stock: dict[str, Any]) -> None:
        online, offline = stock["online"], stock["offline"]
        assert online.pop("requests") > 0 and offline.pop("requests") == 0
        assert offline == online


class TestPrograms:
    def test_hf_download_of_a_version(self, hub: LocalHub, published: Pushed, run_program: Run, tmp_path: Path) -> None:
        done = run_program("hf", "download", REPOSITORY, "--revision", "v1", "--local-dir", str(tmp_path / "copy"))
        assert done.returncode == 0, done.stderr
        for path, file in hub[REPOSITORY].at("v1").files.items():
            assert (tmp_path / "copy" / path).read_bytes() == hub.blob(file.sha256).read_bytes()

    def test_hf_upload_of_the_folder(self, hub: LocalHub, checkpoint: Path, run_program: Run) -> None:
        done = run_program("hf", "upload", "alice/by-hand", str(checkpoint), ".")
        assert done.returncode == 0, done.stderr
        files = {path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if path.is_file()}
        assert set(hub["alice/by-hand"].at("main").files) == files | {".gitattributes"}

    @pytest.mark.parametrize(("account", "code"), [("alice", 0), ("bob", 1), (None, 1)])
    def test_a_private_repository(
        self, hub: LocalHub, published: Pushed, run_program: Run, tmp_path: Path, account: str | None, code: int
    ) -> None:
        private = copy.copy(hub[REPOSITORY])
        private.id, private.private = "alice/private", True
        hub.repositories["models", "alice/private"] = private
        done = run_program("hf", "download", "alice/private", "config.json", account=account)
        assert done.returncode == code, done.stderr
        assert list((tmp_path / "home").rglob("config.json")) == [] or code == 0


@pytest.mark.usefixtures("log_in")
class TestOurs:
    @pytest.fixture
    def moved(self, hub: LocalHub, published: Pushed) -> str:
        """The checkpoint again, whose main branch has gone on to a version that does not crop to the body."""
        moved = copy.deepcopy(hub[REPOSITORY])
        moved.id = "alice/moved"
        side = json.loads(hub.read(REPOSITORY, "ct_xception.json"))
        side["input"]["body_crop"] = False
        moved.add(
            "main",
            "Crop no more",
            {**moved.at("v1").files, "ct_xception.json": hub.store(side_text(Side.of(side)).encode())},
        )
        hub.repositories["models", "alice/moved"] = moved
        return "alice/moved"

    def test_a_pinned_revision_stays(
        self, hub: LocalHub, moved: str, published: Pushed, checkpoint: Path, sample_slices: list[Path]
    ) -> None:
        from ct_xception import Classifier
        from ct_xception.serving.checkpoint import open_checkpoint

        pinned = Classifier.from_pretrained(f"{moved}@v1")
        answer, local = pinned(sample_slices[0]), Classifier.from_pretrained(checkpoint)(sample_slices[0])
        assert answer.probabilities == pytest.approx(local.probabilities, abs=ROUNDING)
        for revision in ("v1", published.commit):
            opened = open_checkpoint(f"{moved}@{revision}")
            assert (opened.revision, opened.contract.body_crop) == (published.commit, True)
        newest = open_checkpoint(moved)
        assert (newest.revision, newest.contract.body_crop) == (hub[moved].at("main").id, False)

    def test_only_who_may_reads_a_private_one(
        self, hub: LocalHub, published: Pushed, log_in: Callable[[str | None], None]
    ) -> None:
        from ct_xception.serving.checkpoint import open_checkpoint

        private = copy.copy(hub[REPOSITORY])
        private.id, private.private = "alice/closed", True
        hub.repositories["models", "alice/closed"] = private
        log_in("bob")
        with pytest.raises(CheckpointError, match="alice/closed: nothing of that name here, nor on the Hub"):
            open_checkpoint("alice/closed")
        log_in("alice")
        assert open_checkpoint("alice/closed").revision == published.commit

    def test_an_unknown_revision(self, published: Pushed) -> None:
        from ct_xception.serving.checkpoint import open_checkpoint

        with pytest.raises(CheckpointError, match="has no such revision; name a branch, tag or commit"):
            open_checkpoint(f"{REPOSITORY}@v9")

    def test_a_disk_that_is_full(self, published: Pushed, monkeypatch: pytest.MonkeyPatch) -> None:
        from ct_xception.serving.checkpoint import open_checkpoint

        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
        with pytest.raises(CheckpointError, match="alice/ct: the disk is full; make room, and try again"):
            open_checkpoint(REPOSITORY)

    def test_training_goes_on_from_a_published_checkpoint(self, published: Pushed, checkpoint: Path) -> None:
        from ct_xception.model.weights import find_weights

        for name in (REPOSITORY, f"{REPOSITORY}@v1"):
            found = find_weights(name, "legacy_xception")
            assert found is not None and found.read_bytes() == (checkpoint / "model.safetensors").read_bytes()
        with pytest.raises(CheckpointError, match="no .* here, and alice/none could not be had from the Hub"):
            find_weights("alice/none", "legacy_xception")


PUSH = """
import signal, sys
from pathlib import Path
from ct_xception.publish.hub import Target, push_files

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born deaf to it
files = {"ct_xception.json": b"{}", "model.safetensors": Path(sys.argv[2])}
print(push_files(Target(sys.argv[1]), files, message="Publish").commit)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_push_is_made_again(hub: LocalHub, tmp_path: Path, run_program: Run, end: signal.Signals) -> None:
    """Killed while the weights go up: the branch is as it was, and the same command completes it."""
    repo_id, weights = f"alice/killed-{end.name.lower()}", tmp_path / "model.safetensors"
    weights.write_bytes(end.name.encode() * 2**20)
    hub.faults.append(Fault("PUT /_store", pace=0.05))
    command, environment = client(hub, "python", "alice", tmp_path / "home")
    process = subprocess.Popen(
        [*command, "-c", PUSH, repo_id, str(weights)], env=environment, stderr=subprocess.DEVNULL
    )
    assert hub.receiving.wait(60)
    process.send_signal(end)
    assert process.wait(30) != 0
    assert hub[repo_id].history == ["initial commit"]
    assert not any(path.stat().st_size == weights.stat().st_size for path in (hub.root / "blobs").iterdir())
    done = run_program("python", "-c", PUSH, repo_id, str(weights))
    assert done.returncode == 0, done.stderr
    assert hub[repo_id].history == ["Publish", "initial commit"]
    assert hub.read(repo_id, "model.safetensors") == weights.read_bytes()
