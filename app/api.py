"""Other ways into the page's process: a Gradio API, MCP tools, and a route that answers as the Hub's API does.

    gradio_client.Client("http://127.0.0.1:7860").predict(handle_file("slice.dcm"), api_name="/predict")
    InferenceClient().image_classification("slice.dcm", model="http://127.0.0.1:7860/image-classification")

All of them ask the classifier that the page asks, through the same reader, and each has its limits: how large a file
may be, how many wait, and how long. Nothing is kept of a file that comes through the route.
"""

from __future__ import annotations

import asyncio
import functools
import html
import importlib.util
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Literal, TypeVar, cast, get_type_hints
from weakref import WeakKeyDictionary

import anyio.to_thread
import gradio as gr
from ct_xception_app.downloads import Origin
from ct_xception_app.guard import HEALTH
from ct_xception_app.limits import LONGEST_SECONDS, STUCK_SECONDS
from ct_xception_app.uploads import uploaded
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ct_xception.errors import InputError, printable
from ct_xception.explain.budget import BUDGETS, DEFAULT_BUDGET, DEFAULT_METHOD, Cancelled
from ct_xception.explain.explain import Explanation, explain
from ct_xception.explain.methods import methods_for
from ct_xception.explain.overlay import draw_overlay
from ct_xception.explain.summary import explanation_record
from ct_xception.files import dump_json
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window, parse_window
from ct_xception.serving.classifier import Classifier, Prediction
from ct_xception.serving.comparison import Comparison, compare
from ct_xception.serving.inference_api import POSTED, Asked, NotAnswered, classify, read_json_request, read_row
from ct_xception.serving.patients import UnitAnswer, answer_units
from ct_xception.serving.series import MAX_SLICES, Unit, gather_units, slices_in
from ct_xception.serving.text import answer_record
from ct_xception.serving.unit_text import unit_record
from ct_xception.text import RESEARCH_USE

INFERENCE, MCP = "/image-classification", "/gradio_api/mcp/"
NETWORK = "network"  # the concurrency group of the API's functions
HERE = "http://127.0.0.1:7860"
WITHOUT_MCP = "No MCP tools: the package mcp is not installed (pip install 'gradio[mcp]')."

PYTHON_EXAMPLE = f"""from gradio_client import Client, handle_file

client = Client("{HERE}")
answer = client.predict(handle_file("slice.dcm"), api_name="/predict")
print(answer["label"], answer["probabilities"])
record, heat_map = client.predict(handle_file("slice.dcm"), target=answer["label"], api_name="/explain")
print(heat_map, record["explanation"]["regions"])
for patient in client.predict([handle_file("slice.dcm")], api_name="/predict_units"):
    print(patient["name"], patient["label"], patient["carried_by"])
print(client.predict(api_name="/model")["classes"])"""
COMPARE_EXAMPLE = """
print(client.predict(handle_file("slice.dcm"), api_name="/compare")["sentence"])
for patient in client.predict([handle_file("slice.dcm")], api_name="/compare_units"):
    print(patient["name"], patient["agree"], patient["sentence"])"""
HUB_EXAMPLE = f"""from huggingface_hub import InferenceClient

print(InferenceClient().image_classification("slice.dcm", model="{HERE}{INFERENCE}"))"""
CURL_EXAMPLE = f"curl --data-binary @slice.dcm '{HERE}{INFERENCE}?top_k=2'"

Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])

# The classifier behind each page, for the routes that `launch` adds to it.
_CLASSIFIERS: WeakKeyDictionary[gr.Blocks, Classifier] = WeakKeyDictionary()


@dataclass(frozen=True)
class Limits:
    """What the HTTP route bears: bytes of a body, answers at a time, requests waiting, and their patience."""

    body_bytes: int = 64 * 2**20
    running: int = 1
    waiting: int = 32
    wait_seconds: float = 60.0


def add_api(demo: gr.Blocks, classifier: Classifier, second: Classifier | None = None) -> None:
    """Give the page named endpoints, which are its MCP tools too, and the lines that say how to call them.

    Where there is a second model, both can be asked at once. To be called inside the page's own block context.
    """
    _CLASSIFIERS[demo] = classifier
    api = Api(classifier)
    functions = [api.predict, api.predict_units, _choosing(api.explain, api.methods), api.model]
    if second is not None:
        both = Both(api, Api(second))
        functions += [both.compare, both.compare_units]
    for function in functions:
        gr.api(function, concurrency_limit=1, concurrency_id=NETWORK)
    gr.HTML(how_to(two=second is not None), elem_id="api")
    # The page knows its own address only in the browser.
    demo.load(None, js=_TELL_ADDRESS)


def routes(demo: gr.Blocks, limits: Limits = Limits()) -> list[BaseRoute]:  # noqa: B008 (frozen)
    """The HTTP routes of a page that `add_api` was called on, to be given to its server."""
    inference = Inference(_CLASSIFIERS[demo], limits)
    return [Route(INFERENCE, inference.respond, methods=["GET", "POST"]), Route(HEALTH, inference.health)]


def has_mcp() -> bool:
    """Whether MCP tools can be served here."""
    return importlib.util.find_spec("mcp") is not None


# The Gradio API and the MCP tools


def _resolved(function: Function) -> Function:
    """Turn a function's annotations into the types themselves: Gradio does not look up names of types."""
    function.__annotations__ = get_type_hints(function)
    return function


def _choosing(function: Callable[..., Any], methods: Iterable[str]) -> Callable[..., Any]:
    """A bound method as a function whose `method` is one of these: what a checkpoint cannot do is not offered."""

    @functools.wraps(function)
    def chosen(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    chosen.__annotations__ = {**function.__annotations__, "method": Literal[tuple(methods)]}
    return chosen


class Api:
    """What a program may ask of one checkpoint. Its docstrings are what API clients and language models read."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.name = Origin.of(classifier).name
        checkpoint = classifier.checkpoint
        self.methods = methods_for(checkpoint.config if checkpoint else {})

    @_resolved
    def predict(
        self, file: gr.FileData, window: str = "", frame: int | None = None, tabular: str = ""
    ) -> dict[str, Any]:
        """Classify one slice or X-ray. For research use only; no answer is a diagnosis.

        The answer has the class (label), the calibrated probability of every class, what the checkpoint's rules say of
        it, and what was done to the file. Where the slice is not what the model knows, label is null and refused says
        why.

        Args:
            file: one slice or X-ray as PNG, JPEG, TIFF or DICOM; for a tool as data:TYPE;base64,…
            window: lung, mediastinal, bone, or CENTRE/WIDTH in HU such as -600/1500; empty for the
                model's, else the file's own
            frame: of a file with several, from 0
            tabular: for a model that takes columns beside the image (model says which), JSON such as
                {"age": 63, "sex": "F"}; what is left out counts as missing, and the notes say so
        """
        return self._record(self._answer(self._read(file, window, frame), tabular))

    @_resolved
    def predict_units(
        self, files: list[gr.FileData], by: Literal["patient", "series"] = "patient", window: str = ""
    ) -> list[dict[str, Any]]:
        """Give one answer a patient or series, from all of its slices. For research use only; no answer is a diagnosis.

        Each answer has its label, probabilities, prediction set and whether the checkpoint abstains, the slices that
        carry it, those that have no vote and why, and every slice's own probabilities. DICOM tells whose a slice is;
        where a file does not, its folder in a zip or the file itself is taken for one.

        Args:
            files: slices of one or more patients, or zips of them; for a tool as data:TYPE;base64,…
            by: what has one answer
            window: lung, mediastinal, bone, or CENTRE/WIDTH in HU such as -600/1500; empty for the
                model's, else the file's own
        """
        try:
            return self._answer_units(files, by, parse_window(window) if window else None)
        except InputError as error:
            raise _error(str(error)) from error

    def _answer_units(self, files: list[Any], by: str, window: Window | None) -> list[dict[str, Any]]:
        pooling = self.classifier.decisions.pooling
        answers = answer_units(self.classifier, _units(files, by), window=window)
        return [unit_record(answer, by, pooling, self.name) for answer in _in_time(answers)]

    @_resolved
    def explain(
        self,
        file: gr.FileData,
        target: str = "",
        method: str = DEFAULT_METHOD,
        budget: Literal[tuple(BUDGETS)] = DEFAULT_BUDGET,  # type: ignore[valid-type]
        window: str = "",
        frame: int | None = None,
        tabular: str = "",
    ) -> tuple[dict[str, Any], gr.FileData]:
        """Show where on a slice or X-ray the evidence lies. For research use only; no answer is a diagnosis.

        Gives the answer with the strongest regions, and the slice under its heat map as a PNG.

        Args:
            file: one slice or X-ray as PNG, JPEG, TIFF or DICOM; for a tool as data:TYPE;base64,…
            target: the class to explain; empty for the one answered
            method: how the map is computed
            budget: how much work a method other than gradcam, cam and attention may do
            window: lung, mediastinal, bone, or CENTRE/WIDTH in HU such as -600/1500; empty for the
                model's, else the file's own
            frame: of a file with several, from 0
            tabular: as predict has it
        """
        prediction = self._answer(self._read(file, window, frame), tabular)
        if prediction.refusal:
            raise _error(str(NotAnswered(prediction.refusal)))
        explanation = self._explain(prediction, target, method, budget)
        path = save_pil_to_cache(
            draw_overlay(explanation), cache_dir=get_upload_folder(), name="heat_map", format="png"
        )
        drawn = gr.FileData(path=path, orig_name="heat_map.png", mime_type="image/png")
        return {**self._record(prediction), "explanation": explanation_record(explanation)}, drawn.model_dump()  # type: ignore[return-value]

    @_resolved
    def model(self) -> dict[str, Any]:
        """Say which model answers here: its name, its classes, what it expects of a slice, and its limits."""
        return describe(self.classifier)

    def _read(self, file: Any, window: str, frame: int | None) -> Slice:
        try:
            path, name = uploaded(file)
            return self.classifier.read(path, window=parse_window(window) if window else None, frame=frame, name=name)
        except InputError as error:
            raise _error(str(error)) from error

    def _answer(self, slice_: Slice, tabular: str) -> Prediction:
        try:
            return self.classifier(slice_, tabular=read_row(tabular))
        except InputError as error:
            raise _error(str(error)) from error

    def _explain(self, prediction: Prediction, target: str, method: str, budget: str) -> Explanation:
        deadline = time.monotonic() + LONGEST_SECONDS
        options: dict[str, Any] = {"budget": budget, "cancelled": lambda: time.monotonic() > deadline}
        try:
            return explain(self.classifier, prediction.slice, target or prediction.label, method, **options)
        except InputError as error:
            raise _error(str(error)) from error
        except Cancelled as error:
            raise _error(
                f"{method} took longer than {LONGEST_SECONDS} s; ask for gradcam, or a smaller budget."
            ) from error

    def _record(self, prediction: Prediction) -> dict[str, Any]:
        return answer_record(prediction, self.name)


def _units(files: list[Any], by: str) -> tuple[Unit, ...]:
    """The series or patients in uploaded files. Raises InputError."""
    members = [one for path, name in map(uploaded, files) for one in slices_in(path, printable(name))[0]]
    if len(members) > MAX_SLICES:
        raise InputError(f"{len(members)} slices, more than {MAX_SLICES}; ask for fewer at a time.")
    return gather_units(members, by)[0]


def _in_time(answers: Iterable[Result]) -> Iterator[Result]:
    """Answers as they come. Raises InputError where they take longer than anybody may have the network for."""
    deadline = time.monotonic() + LONGEST_SECONDS
    for answer in answers:
        if time.monotonic() > deadline:
            raise InputError(f"it took longer than {LONGEST_SECONDS} s; ask for fewer patients at a time.")
        yield answer


class Both:
    """What a program may ask of two checkpoints at once; which of them is right is said by neither."""

    def __init__(self, first: Api, second: Api) -> None:
        self.first, self.second = first, second
        self.names = (first.name, second.name) if first.name != second.name else ("the first", "the second")

    @_resolved
    def compare(
        self, file: gr.FileData, window: str = "", frame: int | None = None, tabular: str = ""
    ) -> dict[str, Any]:
        """Let two models answer one slice or X-ray, and say whether they agree. For research use only; no diagnosis.

        The answer has the sentence, agree (null where one of them gives no class) and each model's whole answer.

        Args:
            file: one slice or X-ray as PNG, JPEG, TIFF or DICOM; for a tool as data:TYPE;base64,…
            window: lung, mediastinal, bone, or CENTRE/WIDTH in HU such as -600/1500; empty for each
                model's own, else the file's
            frame: of a file with several, from 0
            tabular: for models that take columns beside the image, as predict has it; the others pass it over
        """
        answers = [
            api._answer(api._read(file, window, frame), tabular if api.classifier.columns else "")
            for api in (self.first, self.second)
        ]
        return self._record(answers[0].source, compare(answers[0], answers[1], self.names))

    @_resolved
    def compare_units(
        self, files: list[gr.FileData], by: Literal["patient", "series"] = "patient", window: str = ""
    ) -> list[dict[str, Any]]:
        """Let two models answer each patient or series, and say if they agree. For research use only; no diagnosis.

        Each answer has the name, the sentence, agree (null where one of them gives no class) and each model's answer,
        by its own rule of pooling, with the slices that have no vote and why.

        Args:
            files: slices of one or more patients, or zips of them; for a tool as data:TYPE;base64,…
            by: what has one answer
            window: lung, mediastinal, bone, or CENTRE/WIDTH in HU such as -600/1500; empty for each
                model's own, else the file's
        """
        try:
            units, asked = _units(files, by), parse_window(window) if window else None
            each = [answer_units(api.classifier, units, window=asked) for api in (self.first, self.second)]
            pairs = list(_in_time(zip(*each, strict=True)))
        except InputError as error:
            raise _error(str(error)) from error
        return [self._unit_record(mine, theirs) for mine, theirs in pairs]

    def _unit_record(self, *answers: UnitAnswer) -> dict[str, Any]:
        mine, theirs = answers
        record = self._record(mine.name, compare(mine.together, theirs.together, self.names))
        for model, answer in zip(record["models"], answers, strict=True):
            model["left_out"] = [{"source": name, "reason": why} for name, why in answer.left_out]
        return record

    def _record(self, name: str, found: Comparison) -> dict[str, Any]:
        return {"name": name, **found.to_dict(), "notice": RESEARCH_USE}


def _error(sentence: str) -> gr.Error:
    return gr.Error(sentence, print_exception=False)


def describe(classifier: Classifier) -> dict[str, Any]:
    """Which model answers: JSON-able, without paths of this machine."""
    contract, rules = classifier.contract, classifier.decisions
    return {
        **Origin.of(classifier).to_dict(),
        "task": "image-classification",
        "classes": list(classifier.label_names),
        "input": {
            "files": "one slice: PNG, JPEG, TIFF, BMP or DICOM",
            "modality": contract.modality,
            "body_crop": contract.body_crop,
            "window": None if contract.window is None else str(contract.window),
        },
        **({} if classifier.columns is None else {"columns": classifier.columns.describe()}),
        "temperature": rules.temperature,
        "coverage": None if rules.conformal is None else rules.conformal.coverage,
        "operating_points": [point.name for point in rules.operating_points],
        "abstains_below": rules.abstain_below,
        "gate": classifier.gate is not None,
        "notice": RESEARCH_USE,
    }


# The HTTP route


class Unanswered(Exception):
    """A request that ends without an answer: the HTTP status, one sentence, and headers."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, dict(headers or {})


class Lane:
    """So many answers at a time, so many requests waiting their turn, and the rest told when to come back."""

    def __init__(self, running: int, waiting: int, patience: float) -> None:
        self.room, self.patience = running + waiting, patience
        self.running, self.waiting = running, waiting
        self.inside, self.seconds = 0, 1.0
        self.since: float | None = None  # when the last answer that runs was begun
        self._turn = asyncio.Semaphore(running)

    def check_room(self) -> None:
        """Raise Unanswered (503) where nobody more may wait."""
        if self.inside >= self.room:
            sentence = f"the queue is full ({self.waiting} waiting); try again in {self.retry_after} s."
            raise Unanswered(503, sentence, {"Retry-After": str(self.retry_after)})

    @property
    def retry_after(self) -> int:
        """Whole seconds until the ones who wait now should be done, by the answers so far."""
        return max(1, math.ceil(self.inside * self.seconds / self.running))

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do `work` in a thread, in turn. Raises Unanswered (503) where the queue is full or does not move."""
        self.check_room()
        self.inside += 1
        try:
            await self._wait()
            self.since = started = time.monotonic()
            try:
                return await anyio.to_thread.run_sync(work)
            finally:
                self.seconds += 0.2 * (time.monotonic() - started - self.seconds)
                self.since = None if self.since == started else self.since
                self._turn.release()
        finally:
            self.inside -= 1

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self.patience):
                await self._turn.acquire()
        except TimeoutError:
            sentence = f"the queue did not move within {self.patience:g} s; try again later."
            raise Unanswered(503, sentence, {"Retry-After": str(self.retry_after)}) from None


class Inference:
    """The route that answers as the Hub's image-classification API does: a file in, [{"label", "score"}] out."""

    def __init__(self, classifier: Classifier, limits: Limits) -> None:
        self.classifier, self.limits = classifier, limits
        self.lane = Lane(limits.running, limits.waiting, limits.wait_seconds)

    async def respond(self, request: Request) -> Response:
        """GET says what this is; POST answers one slice, or says in one sentence why not (4xx), or not now (503)."""
        if request.method != "POST":
            return self._reply(self.introduction())
        try:
            return self._reply(await self._answer(request))
        except NotAnswered as refusal:
            return self._reply({"error": str(refusal), "reasons": list(refusal.reasons)}, 422)
        except InputError as error:
            return self._reply({"error": str(error)}, 400)
        except Unanswered as end:
            return self._reply({"error": str(end)}, end.status, end.headers)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it

    async def health(self, _: Request) -> Response:
        """Whether answers come: 200, or 503 where one has been running for longer than any should."""
        lane = self.lane
        running = 0.0 if lane.since is None else time.monotonic() - lane.since
        stuck = running > STUCK_SECONDS
        told = {"status": "stuck" if stuck else "ok", "inside": lane.inside, "running_seconds": round(running, 1)}
        return JSONResponse(told, 503 if stuck else 200, {"Cache-Control": "no-store"})

    def introduction(self) -> dict[str, Any]:
        """What a GET is told."""
        limits = self.limits
        return {
            **describe(self.classifier),
            "how": 'POST the bytes of one file here, or JSON {"inputs": BASE64, "parameters": {…}}.',
            "example": CURL_EXAMPLE,
            "parameters": {"top_k": "number of classes", "window": "PRESET or CENTRE/WIDTH", "frame": "from 0"},
            "limits": {"bytes": limits.body_bytes, "waiting": limits.waiting, "seconds": limits.wait_seconds},
        }

    def _reply(self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        # A list of labels and scores has no room for the line that goes with every answer.
        return JSONResponse(content, status, {**(headers or {}), "X-Notice": RESEARCH_USE, "Cache-Control": "no-store"})

    async def _answer(self, request: Request) -> list[dict[str, Any]]:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind.startswith("multipart/"):
            raise Unanswered(415, "the body is a form; post the file's own bytes (curl --data-binary @FILE).")
        is_json = kind == "application/json"
        asked = Asked() if is_json else Asked.of(_once(request.query_params.multi_items()))
        with tempfile.SpooledTemporaryFile(max_size=2**20) as body:
            await self._receive(request, cast("BinaryIO", body), self._body_limit(is_json))
            return await self.lane.run(partial(self._classify, cast("BinaryIO", body), is_json, asked))

    def _body_limit(self, is_json: bool) -> int:
        return self.limits.body_bytes * 4 // 3 + 2**16 if is_json else self.limits.body_bytes

    def _classify(self, body: BinaryIO, is_json: bool, asked: Asked) -> list[dict[str, Any]]:
        body.seek(0)
        if is_json:
            content, asked = read_json_request(body.read())
            return classify(self.classifier, content, asked)
        return classify(self.classifier, body, asked, POSTED)

    async def _receive(self, request: Request, body: BinaryIO, limit: int) -> None:
        """Write the request's body to `body`. Raises Unanswered: 413 too large, 503 too many."""
        refused = await self._spool(request, body, limit)
        if refused is not None:
            raise refused

    async def _spool(self, request: Request, body: BinaryIO, limit: int) -> Unanswered | None:
        """Write the body as it comes; what stands against it, if anything does."""
        refused: Unanswered | None = None
        received = 0
        async for chunk in request.stream():
            received += len(chunk)
            refused = refused or self._objection(received, limit)
            if refused is None:
                body.write(chunk)
            elif received > 2 * limit:
                break  # who is refused is heard out, so that the answer reaches him, but not for ever
        return refused

    def _objection(self, received: int, limit: int) -> Unanswered | None:
        if received > limit:
            most = self.limits.body_bytes / 2**20
            return Unanswered(413, f"{POSTED}: more than {most:g} MiB; give one slice, not a series.")
        try:
            self.lane.check_room()
        except Unanswered as full:
            return full
        return None


def _once(items: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The parameters of an address. Raises InputError for one that is given twice, of which none would be the right."""
    told = dict(items)
    if len(told) < len(items):
        twice = next(name for place, (name, _) in enumerate(items) if name in dict(items[:place]))
        raise InputError(f"parameter {printable(twice)!r} is given twice; give it once.")
    return told


# What the page says of them

_TELL_ADDRESS = """() => {
    const address = location.origin + location.pathname.replace(/\\/+$/, "");
    document.querySelectorAll("#api .here").forEach((place) => { place.textContent = address; });
}"""


def how_to(*, two: bool = False) -> str:
    """The page's section for programs, as HTML that shows no more than a line until it is opened."""
    parts = [
        _example("From Python", PYTHON_EXAMPLE + COMPARE_EXAMPLE * two),
        _example("As the Hub's inference API", HUB_EXAMPLE),
        _example("From a shell", CURL_EXAMPLE),
    ]
    if has_mcp():
        tool = dump_json({"mcpServers": {"ct-xception": {"url": f"{HERE}{MCP}"}}})
        parts.append(_example("As an MCP tool", tool))
    return f"<details><summary>Ask from a program</summary>{''.join(parts)}</details>"


def _example(title: str, code: str) -> str:
    shown = html.escape(code).replace(HERE, f'<span class="here">{HERE}</span>')
    return f'<h2>{title}</h2><pre tabindex="0" aria-label="{html.escape(title)}"><code>{shown}</code></pre>'
