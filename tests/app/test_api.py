"""What stands beside the page: the Gradio API, the MCP tools, and the route in the Hub's words, over a real server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from ct_xception_app import api, app
from ct_xception_app.api import Inference, Limits
from ct_xception_app.uploads import take_tool_files
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import Route

from ct_xception.errors import InputError
from ct_xception.explain.explain import attribute
from ct_xception.files import sha256_file
from ct_xception.imaging.windows import parse_window
from ct_xception.model.modelling import CTXceptionForImageClassification as Network
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.gate import GateVerdict
from ct_xception.serving.patients import answer_units, find_units
from ct_xception.text import RESEARCH_USE
from tests.closeness import ROUNDING
from tests.networks import enliven, wake_attention
from tests.serving.test_inference_api import Doorkeeper

ROOT = Path(__file__).resolve().parents[2]
DICOM = ROOT / "app" / "examples" / "normal.dcm"


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    return Classifier.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def refusing(classifier: Classifier) -> Classifier:
    """The same network behind a gate that lets nothing in."""
    verdict = GateVerdict("refused", ("a colour photograph", "no body outline"), 2.0)
    return Classifier(classifier.model, gate=Doorkeeper(verdict))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def running(demo: gr.Blocks) -> Iterator[str]:
    port = free_port()
    app.launch(demo, port=port, wait=False)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        demo.close(verbose=False)


@pytest.fixture(scope="module")
def demo(tiny_checkpoint: Path) -> gr.Blocks:
    return app.build_demo(tiny_checkpoint)


@pytest.fixture(scope="module")
def url(demo: gr.Blocks) -> Iterator[str]:
    with running(demo) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Client:
    return Client(url, verbose=False, analytics_enabled=False)


@pytest.fixture(scope="module")
def pair(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Classifier]:
    """A network that pools by attention, and the usual one."""
    names = list(classifier.label_names)
    model = Network.from_backbone("legacy_xception", names, 64, seed=11, head="attention")
    folder = tmp_path_factory.mktemp("attending") / "attending" / "model"
    wake_attention(enliven(model, batches=2)).save_pretrained(folder)
    return Classifier.from_pretrained(folder), classifier


@pytest.fixture(scope="module")
def two(pair: tuple[Classifier, Classifier], tiny_checkpoint: Path) -> Iterator[Client]:
    with running(app.build_demo(pair[0].checkpoint.folder, tiny_checkpoint)) as address:
        yield Client(address, verbose=False, analytics_enabled=False)


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The Hub's client may speak to this machine; offline it speaks to nobody."""
    from huggingface_hub import constants, utils

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    utils.close_session()
    yield
    utils.close_session()


def scores(answer: list[dict[str, Any]]) -> dict[str, float]:
    return {item["label"]: item["score"] for item in answer}


class TestGradioApi:
    def test_its_endpoints_are_named_typed_and_described(self, client: Client) -> None:
        info = client.view_api(return_format="dict", print_info=False)
        assert (
            set(info["named_endpoints"]) == {"/predict", "/predict_units", "/explain", "/model"}
            and not info["unnamed_endpoints"]
        )
        parameters = {one["parameter_name"]: one for one in info["named_endpoints"]["/explain"]["parameters"]}
        assert set(parameters) == {"file", "target", "method", "budget", "window", "frame", "tabular"}
        assert parameters["budget"]["type"]["enum"] == ["fast", "balanced", "thorough"]
        assert (
            "gradcam" in parameters["method"]["type"]["enum"] and parameters["method"]["parameter_default"] == "gradcam"
        )

    def test_an_answer_is_the_predictor_s(
        self, client: Client, classifier: Classifier, sample_slices: list[Path]
    ) -> None:
        for path in (*sample_slices[:2], DICOM):
            record, expected = client.predict(handle_file(path), api_name="/predict"), classifier(path)
            assert record["probabilities"] == pytest.approx(expected.probabilities, abs=ROUNDING)
            assert (record["label"], record["source"], record["notice"]) == (expected.label, path.name, RESEARCH_USE)
            assert record["notes"] == list(expected.notes)

    def test_a_series_has_one_answer(self, client: Client, classifier: Classifier, zipped_series: Path) -> None:
        files = [handle_file(zipped_series), handle_file(DICOM)]
        first, other = client.predict(files, api_name="/predict_units")
        (expected, _) = answer_units(classifier, find_units([zipped_series, DICOM])[0])
        assert first["probabilities"] == pytest.approx(expected.together.probabilities, abs=ROUNDING)
        assert (first["label"], first["by"], first["notice"]) == (expected.together.label, "patient", RESEARCH_USE)
        assert len(first["each"]) == 5 and first["carried_by"] and len(other["each"]) == 1
        with pytest.raises(AppError, match="window 'x'"):
            client.predict(files, "series", "x", api_name="/predict_units")

    def test_the_window_asked_for_is_the_one_read_with(self, client: Client, classifier: Classifier) -> None:
        from ct_xception.imaging.windows import WINDOWS

        record = client.predict(handle_file(DICOM), window="bone", api_name="/predict")
        expected = classifier(DICOM, window=WINDOWS["bone"])
        assert record["probabilities"] == pytest.approx(expected.probabilities, abs=ROUNDING)
        assert record["window"] == {"centre": 400, "width": 1800}

    def test_a_map_is_drawn_and_told(self, client: Client, classifier: Classifier, sample_slices: list[Path]) -> None:
        target = classifier.label_names[1]
        record, picture = client.predict(handle_file(sample_slices[0]), target=target, api_name="/explain")
        drawn = Image.open(picture)
        assert drawn.format == "PNG" and drawn.size == (112, 96)
        prediction = classifier(sample_slices[0])
        prepared = classifier.prepare(prediction.slice)
        box, shape = prepared.crop.box, prediction.slice.pixels.shape
        expected = attribute(classifier.model, prepared.pixel_values, 1, box=box, shape=shape)
        assert record["explanation"]["target"] == target and record["label"] == prediction.label
        assert record["explanation"]["strength"] == pytest.approx(expected.strength, rel=ROUNDING)

    def test_only_the_methods_that_the_network_allows_are_offered(self, client: Client, two: Client) -> None:
        """Attention's shares are those of a network that pools by them, DeepLIFT's rules those of one that does not."""

        def offered(client: Client) -> list[str]:
            endpoint = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/explain"]
            (method,) = (one for one in endpoint["parameters"] if one["parameter_name"] == "method")
            return list(method["type"]["enum"])

        assert "attention" not in offered(client) and "deeplift" in offered(client)
        assert "attention" in offered(two) and "deeplift" not in offered(two)
        record, _ = two.predict(handle_file(DICOM), method="attention", api_name="/explain")
        assert record["explanation"]["method"] == "attention"

    def test_what_it_keeps_is_swept_with_the_rest(
        self, client: Client, demo: gr.Blocks, sample_slices: list[Path]
    ) -> None:
        client.predict(handle_file(sample_slices[1]), api_name="/explain")
        kept = {Path(file).name for files in demo.temp_file_sets for file in files}
        assert {"heat_map.png", sample_slices[1].name} <= kept

    def test_the_model_says_who_it_is_and_not_where_it_lies(
        self, client: Client, classifier: Classifier, tiny_checkpoint: Path
    ) -> None:
        told = client.predict(api_name="/model")
        assert told["classes"] == classifier.label_names and told["notice"] == RESEARCH_USE
        assert told["model"] == "/".join(tiny_checkpoint.parts[-2:]) and str(tiny_checkpoint) not in json.dumps(told)
        assert told["weights_sha256"] == sha256_file(tiny_checkpoint / "model.safetensors") and told["gate"] is False

    def test_a_bad_file_gets_the_reader_s_sentence(self, client: Client, tmp_path: Path) -> None:
        (tmp_path / "x.png").write_bytes(b"no picture")
        with pytest.raises(AppError, match="x.png: neither DICOM nor one of PNG"):
            client.predict(handle_file(tmp_path / "x.png"), api_name="/predict")

    @pytest.mark.parametrize(
        ("wish", "words"),
        [
            ({"target": "aliens"}, "class 'aliens' is unknown"),
            ({"method": "guessing"}, "method 'guessing' is unknown"),
            ({"window": "wide"}, "window 'wide' is neither a preset"),
        ],
    )
    def test_a_wish_that_cannot_be_met_is_said(
        self, client: Client, sample_slices: list[Path], wish: dict[str, str], words: str
    ) -> None:
        with pytest.raises(AppError, match=words):
            client.predict(handle_file(sample_slices[0]), **wish, api_name="/explain")

    @pytest.mark.parametrize("meta", [True, False])
    def test_a_file_of_the_server_s_own_is_not_read(
        self, url: str, client: Client, sample_slices: list[Path], meta: bool
    ) -> None:
        """A forged request names a picture that nobody uploaded; with and without Gradio's mark of a file."""
        forged: dict[str, Any] = {"path": str(sample_slices[2])}
        if meta:
            forged["meta"] = {"_type": "gradio.FileData"}
        started = httpx.post(f"{url}/gradio_api/call/predict", json={"data": [forged, "", None]}).json()
        answer = httpx.get(f"{url}/gradio_api/call/predict/{started['event_id']}", timeout=30).text
        assert "event: error" in answer and "probabilities" not in answer

    def test_no_address_is_fetched(self, url: str, client: Client) -> None:
        """Gradio itself would read whatever a web address gives, of any size."""
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            listening.settimeout(0.2)
            address = f"http://127.0.0.1:{listening.getsockname()[1]}/x.png"
            given = {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}}
            started = httpx.post(f"{url}/gradio_api/call/predict", json={"data": [given, "", None, ""]}).json()
            answer = httpx.get(f"{url}/gradio_api/call/predict/{started['event_id']}", timeout=30).text
            assert "event: error" in answer and "from which nothing is fetched here" in answer
            with pytest.raises(TimeoutError):
                listening.accept()

    def test_a_slow_map_is_stopped(
        self, client: Client, sample_slices: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api, "LONGEST_SECONDS", -1)
        with pytest.raises(AppError, match="occlusion took longer than -1 s; ask for gradcam, or a smaller budget"):
            client.predict(handle_file(sample_slices[0]), method="occlusion", api_name="/explain")

    def test_a_full_queue_says_so(
        self, tiny_checkpoint: Path, sample_slices: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(app, "MAX_QUEUE", 1)
        hold, answer = threading.Event(), Classifier.__call__
        monkeypatch.setattr(
            Classifier, "__call__", lambda self, *args, **more: hold.wait(120) and answer(self, *args, **more)
        )
        with running(app.build_demo(tiny_checkpoint)) as address:
            asker = Client(address, verbose=False, analytics_enabled=False)
            jobs = [asker.submit(handle_file(sample_slices[0]), api_name="/predict") for _ in range(5)]
            # Which of them finds the queue full is chance; none but those that do can end while the first is held.
            early = wait([job.future for job in jobs], timeout=60, return_when=FIRST_COMPLETED).done
            hold.set()
            done = [job.exception(60) for job in jobs]
        assert early and all("Queue is full" in str(one.exception()) for one in early)
        assert None in done and all(one is None or "Queue is full" in str(one) for one in done)


class TestTwoModels:
    def test_both_are_asked_only_where_there_are_two(self, two: Client) -> None:
        endpoints = two.view_api(return_format="dict", print_info=False)["named_endpoints"]
        assert set(endpoints) == {"/predict", "/predict_units", "/explain", "/model", "/compare", "/compare_units"}
        assert [one["parameter_name"] for one in endpoints["/compare"]["parameters"]] == [
            "file",
            "window",
            "frame",
            "tabular",
        ]
        assert "say whether they agree" in endpoints["/compare"]["description"]

    def test_a_slice_is_compared(self, two: Client, pair: tuple[Classifier, Classifier]) -> None:
        for window in ("", "bone"):
            record = two.predict(handle_file(DICOM), window=window, api_name="/compare")
            asked = parse_window(window) if window else None
            answers = [model(DICOM, window=asked) for model in pair]
            told = [one["answer"]["probabilities"] for one in record["models"]]
            assert told == [pytest.approx(answer.probabilities, abs=ROUNDING) for answer in answers]
            assert record["agree"] is (answers[0].label == answers[1].label)
            assert record["sentence"].startswith("They agree" if record["agree"] else "They disagree")
            assert (record["name"], record["notice"]) == (DICOM.name, RESEARCH_USE)
        with pytest.raises(AppError, match="window 'x'"):
            two.predict(handle_file(DICOM), window="x", api_name="/compare")

    def test_a_patient_is_compared(self, two: Client, pair: tuple[Classifier, Classifier], zipped_series: Path) -> None:
        files = [zipped_series, DICOM]
        found = two.predict([handle_file(file) for file in files], api_name="/compare_units")
        expected = [list(answer_units(model, find_units(files)[0])) for model in pair]
        for record, mine, theirs in zip(found, *expected, strict=True):
            told = [one["answer"]["probabilities"] for one in record["models"]]
            wanted = [pytest.approx(one.together.probabilities, abs=ROUNDING) for one in (mine, theirs)]
            assert told == wanted and record["agree"] is (mine.together.label == theirs.together.label)
        assert [record["models"][0]["model"] for record in found] == ["attending/model"] * 2
        (silent,) = two.predict([handle_file(ROOT / "LICENSE")], api_name="/compare_units")
        assert (silent["agree"], silent["sentence"]) == (None, "Neither model answers.")
        assert all("neither DICOM nor one of PNG" in one["left_out"][0]["reason"] for one in silent["models"])


class TestExamples:
    """What page and documents tell a program to do is done."""

    def run(self, code: str, url: str) -> str:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(code.replace(api.HERE, url).replace("slice.dcm", str(DICOM)), {})
        return said.getvalue()

    def test_two_models_are_compared(self, two: Client) -> None:
        said = self.run(api.PYTHON_EXAMPLE + api.COMPARE_EXAMPLE, str(two.src).rstrip("/"))
        assert len(re.findall(r"They (dis)?agree: attending/model answers", said)) == 2

    def test_the_gradio_client(self, url: str, classifier: Classifier) -> None:
        said = self.run(api.PYTHON_EXAMPLE, url)
        assert (
            f"{classifier(DICOM).label} {{" in said and "heat_map.png" in said and str(classifier.label_names) in said
        )

    def test_the_hub_s_client(self, url: str, classifier: Classifier, online: None) -> None:
        said = self.run(api.HUB_EXAMPLE, url)
        assert said.startswith("[ImageClassificationOutputElement(") and classifier(DICOM).label in said

    def test_the_page_shows_them_and_the_documents_too(self, demo: gr.Blocks) -> None:
        shown = next(block.value for block in demo.blocks.values() if getattr(block, "elem_id", "") == "api")
        plain = shown.replace(f'<span class="here">{api.HERE}</span>', api.HERE)
        told = (ROOT / "docs" / "serving.md").read_text()
        assert api.COMPARE_EXAMPLE.strip() in told and "/compare" not in plain
        for code in (api.PYTHON_EXAMPLE, api.HUB_EXAMPLE, api.CURL_EXAMPLE):
            assert code in told and code.replace("'", "&#x27;").replace('"', "&quot;") in plain


class TestInferenceRoute:
    def test_the_hub_s_client_gets_the_predictor_s_answer(
        self, url: str, classifier: Classifier, sample_slices: list[Path], online: None
    ) -> None:
        from huggingface_hub import InferenceClient

        route = f"{url}{api.INFERENCE}"
        for path in (sample_slices[0], DICOM):
            found, expected = InferenceClient().image_classification(str(path), model=route), classifier(path)
            assert [one.label for one in found] == list(expected.probabilities)
            assert {one.label: one.score for one in found} == pytest.approx(expected.probabilities, abs=ROUNDING)
        assert len(InferenceClient().image_classification(str(DICOM), model=route, top_k=2)) == 2

    def test_bytes_of_any_content_type(self, url: str, classifier: Classifier, sample_slices: list[Path]) -> None:
        content, expected = sample_slices[1].read_bytes(), classifier(sample_slices[1]).probabilities
        for kind in ("image/png", "application/octet-stream", "application/x-www-form-urlencoded", "application/dicom"):
            found = httpx.post(f"{url}{api.INFERENCE}", content=content, headers={"Content-Type": kind})
            assert found.status_code == 200 and scores(found.json()) == pytest.approx(expected, abs=ROUNDING)
            assert found.headers["x-notice"] == RESEARCH_USE and found.headers["cache-control"] == "no-store"

    def test_the_window_asked_for(self, url: str, classifier: Classifier) -> None:
        from ct_xception.imaging.windows import Window

        found = httpx.post(f"{url}{api.INFERENCE}?window=40/400&top_k=1", content=DICOM.read_bytes()).json()
        expected = classifier(DICOM, window=Window(40, 400))
        assert scores(found) == {
            expected.label: pytest.approx(expected.probabilities[expected.label], abs=ROUNDING),
        }

    def test_who_asks_without_a_file_is_told_what_this_is(self, url: str, classifier: Classifier) -> None:
        told = httpx.get(f"{url}{api.INFERENCE}").json()
        assert told["task"] == "image-classification" and told["classes"] == classifier.label_names
        assert "POST" in told["how"] and told["limits"]["bytes"] == 64 * 2**20 and told["notice"] == RESEARCH_USE

    @pytest.mark.parametrize(
        ("content", "kind", "query", "status", "words"),
        [
            (b"no picture", "image/png", "", 400, "the posted file: neither DICOM nor one of PNG"),
            (b"", "image/png", "", 400, "the posted file: an empty file"),
            (b"{", "application/json", "", 400, "the body is not JSON"),
            (b'{"inputs": "?"}', "application/json; charset=utf-8", "", 400, '"inputs" is not base64'),
            (b"x", "image/png", "?topk=2", 400, "parameter 'topk' is unknown"),
            (b"x", "image/png", "?frame=1&top_k=2&frame=0", 400, "parameter 'frame' is given twice; give it once."),
            (b"x", "multipart/form-data; boundary=a", "", 415, "the body is a form; post the file's own bytes"),
        ],
    )
    def test_a_bad_request_gets_one_sentence(
        self, url: str, content: bytes, kind: str, query: str, status: int, words: str
    ) -> None:
        found = httpx.post(f"{url}{api.INFERENCE}{query}", content=content, headers={"Content-Type": kind})
        assert found.status_code == status and words in found.json()["error"]
        assert str(ROOT) not in found.text and found.json()["error"].count("\n") == 0

    def test_its_health_is_told(self, url: str) -> None:
        found = httpx.get(f"{url}/health")
        assert found.status_code == 200 and found.json() == {"status": "ok", "inside": 0, "running_seconds": 0.0}

    def test_no_place_on_this_machine_is_told(self, url: str) -> None:
        for page in ("/config", "/", "/gradio_api/info"):
            told = httpx.get(f"{url}{page}").text
            local = [place for place in re.findall(r"/(?:[\w.-]+/)+", told) if Path(place).exists()]
            assert not local and str(ROOT) not in told and str(Path.home()) not in told, page
            assert get_upload_folder() not in told

    def test_other_methods_and_other_paths_stay_gradio_s(self, url: str) -> None:
        assert httpx.put(f"{url}{api.INFERENCE}", content=b"x").status_code == 405
        assert "<!doctype html>" in httpx.get(url).text.lower()


class TestTheGate:
    def test_what_it_refuses_has_reasons_and_no_answer(self, refusing: Classifier, sample_slices: list[Path]) -> None:
        functions = api.Api(refusing)
        record = functions._record(refusing(sample_slices[0]))
        assert list(record)[0] == "refused" and record["refused"] == ["a colour photograph", "no body outline"]
        assert record["label"] is None and record["probabilities"] == {} and record["gate"]["verdict"] == "refused"
        shares = set(refusing(sample_slices[0]).probabilities.values())
        assert not any(str(share) in json.dumps(record) for share in shares)

    def test_there_is_no_map_of_it(
        self, refusing: Classifier, sample_slices: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api, "uploaded", lambda file: (sample_slices[0], "x.png"))
        with pytest.raises(gr.Error, match="not answered: a colour photograph; no body outline"):
            api.Api(refusing).explain(file=None)  # type: ignore[arg-type]


# The route without a server, to reach its limits


Scenario = Callable[[httpx.AsyncClient, Inference], Any]


def play(classifier: Classifier, limits: Limits, scenario: Scenario) -> Any:
    """Run a scenario against a route of these limits."""

    async def run() -> Any:
        route = Inference(classifier, limits)
        server = Starlette(routes=[Route("/", route.respond, methods=["GET", "POST"])])
        transport = httpx.ASGITransport(app=server)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as asker:
            return await scenario(asker, route)

    return asyncio.run(run())


class TestLimits:
    @pytest.fixture
    def held(self, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
        """Answers wait until the event is set."""
        hold = threading.Event()
        monkeypatch.setattr(api, "classify", lambda *_, **__: hold.wait(20) and [{"label": "a", "score": 1.0}])
        return hold

    def test_a_large_body(self, classifier: Classifier) -> None:
        async def scenario(asker: httpx.AsyncClient, route: Inference) -> httpx.Response:
            return await asker.post("/", content=bytes(2**20 + 1))

        found = play(classifier, Limits(body_bytes=2**20), scenario)
        assert found.status_code == 413 and "the posted file: more than 1 MiB; give one slice" in found.json()["error"]

    def test_a_full_queue_says_when_to_come_back(self, classifier: Classifier, held: threading.Event) -> None:
        async def scenario(asker: httpx.AsyncClient, route: Inference) -> list[httpx.Response]:
            waiting = [asyncio.create_task(asker.post("/", content=b"x")) for _ in range(3)]
            while route.lane.inside < 3:
                await asyncio.sleep(0.01)
            late = await asker.post("/", content=b"x")
            held.set()
            return [late, *await asyncio.gather(*waiting), await asker.post("/", content=b"x")]

        late, *others = play(classifier, Limits(running=1, waiting=2), scenario)
        assert late.status_code == 503 and late.json()["error"].startswith(
            "the queue is full (2 waiting); try again in"
        )
        assert int(late.headers["retry-after"]) >= 1
        assert [other.status_code for other in others] == [200] * 4

    def test_a_queue_that_does_not_move(self, classifier: Classifier, held: threading.Event) -> None:
        async def scenario(asker: httpx.AsyncClient, route: Inference) -> list[httpx.Response]:
            first = asyncio.create_task(asker.post("/", content=b"x"))
            while route.lane.inside < 1:
                await asyncio.sleep(0.01)
            second = await asker.post("/", content=b"x")
            held.set()
            return [second, await first]

        second, first = play(classifier, Limits(wait_seconds=0.05), scenario)
        assert (second.status_code, first.status_code) == (503, 200)
        assert "did not move within 0.05 s" in second.json()["error"] and "retry-after" in second.headers

    def test_a_slice_that_the_gate_refuses_gets_its_reasons_and_no_figure(
        self, refusing: Classifier, sample_slices: list[Path]
    ) -> None:
        async def scenario(asker: httpx.AsyncClient, route: Inference) -> httpx.Response:
            return await asker.post("/", content=sample_slices[0].read_bytes())

        found = play(refusing, Limits(), scenario)
        assert found.status_code == 422
        assert found.json() == {
            "error": "not answered: a colour photograph; no body outline.",
            "reasons": ["a colour photograph", "no body outline"],
        }

    def test_places_are_given_back_after_failures(self, classifier: Classifier, sample_slices: list[Path]) -> None:
        async def scenario(asker: httpx.AsyncClient, route: Inference) -> tuple[list[int], int]:
            bad = [(await asker.post("/", content=b"x")).status_code for _ in range(5)]
            good = await asker.post("/", content=sample_slices[0].read_bytes())
            return [*bad, good.status_code], route.lane.inside

        assert play(classifier, Limits(waiting=1), scenario) == ([400] * 5 + [200], 0)

    def test_a_body_of_base64_is_measured_as_a_file(self, classifier: Classifier, sample_slices: list[Path]) -> None:
        content = sample_slices[0].read_bytes()
        body = {"inputs": base64.b64encode(content).decode(), "parameters": {"top_k": 1}}

        async def scenario(asker: httpx.AsyncClient, route: Inference) -> httpx.Response:
            return await asker.post("/", json=body)

        found = play(classifier, Limits(body_bytes=len(content)), scenario)
        assert found.status_code == 200 and len(found.json()) == 1


class TestMcp:
    @pytest.fixture(autouse=True)
    def _needs_mcp(self) -> None:
        if not api.has_mcp():
            pytest.skip(api.WITHOUT_MCP)

    def speak(self, url: str, what: Callable[[Any], Any]) -> Any:
        from mcp import ClientSession
        from mcp.client.streamable_http import streamablehttp_client

        async def run() -> Any:
            async with streamablehttp_client(f"{url}{api.MCP}") as (read, write, _):
                async with ClientSession(read, write) as session:
                    await session.initialize()
                    return await what(session)

        return asyncio.run(run())

    def test_the_tools_are_the_api(self, url: str) -> None:
        tools = {tool.name: tool for tool in self.speak(url, lambda session: session.list_tools()).tools}
        (predict,) = (tool for name, tool in tools.items() if name.endswith("predict"))
        assert len(tools) == 4 and "research use only" in predict.description
        assert predict.inputSchema["required"] == ["file"]
        assert predict.inputSchema["properties"]["file"]["type"] == "string"

    def test_every_file_of_a_tool_s_list_is_looked_at(self) -> None:
        with pytest.raises(InputError, match="files: '/etc/hostname' is no file"):
            take_tool_files({"files": ["/etc/hostname"]}, [["files", 0]])

    def test_a_tool_answers(self, url: str, classifier: Classifier, sample_slices: list[Path]) -> None:
        file = "data:image/png;base64," + base64.b64encode(sample_slices[0].read_bytes()).decode()

        async def ask(session: Any) -> Any:
            (name,) = (tool.name for tool in (await session.list_tools()).tools if tool.name.endswith("predict"))
            return await session.call_tool(name, {"file": file})

        found = self.speak(url, ask)
        assert not found.isError and classifier(sample_slices[0]).label in found.content[0].text
        assert RESEARCH_USE in found.content[0].text

    @pytest.mark.parametrize(
        ("file", "words"),
        [
            ("", "file: 'empty' is no file; send its bytes as data:image/png;base64"),
            ("/etc/hostname", "file: '/etc/hostname' is no file"),
            ("file:///etc/hostname", "is no file; send its bytes"),
            ("http://127.0.0.1:1/x.png", "is no file; send its bytes"),
            ("http://127.0.0.1/gradio_api/file=/etc/hostname", "is no file; send its bytes"),
            ("data:,hello", "the file is not in base64"),
            ("data:image/png;base64,!!!", "is not base64"),
            ("data:image/png;base64,", "an empty file"),
            ("data:image/png;base64,bm8gcGljdHVyZQ==", "neither DICOM nor one of PNG"),
        ],
    )
    def test_a_tool_says_what_is_wrong_with_its_file(self, url: str, file: str, words: str) -> None:
        found = self.speak(url, lambda session: session.call_tool("predict", {"file": file}))
        said = found.content[0].text
        assert found.isError and words in said and "\n" not in said and str(ROOT) not in said

    def test_a_tool_takes_what_was_uploaded(self, url: str, classifier: Classifier, sample_slices: list[Path]) -> None:
        """Gradio's own upload tool gives the address of what it uploaded."""
        content = {"files": ("x.png", sample_slices[0].read_bytes())}
        (path,) = httpx.post(f"{url}/gradio_api/upload", files=content).json()
        address = f"{url}/gradio_api/file={path}"
        found = self.speak(url, lambda session: session.call_tool("predict", {"file": address}))
        assert not found.isError and classifier(sample_slices[0]).label in found.content[0].text
