"""What a server on a network bears: who may ask, how fast a request must come, and what its answers' headers forbid.

Nobody is kept waiting by those who are slow: a request that does not come is ended, and where there are too many of
them, the slowest ones go. `Guard` is an ASGI middleware; `Punctual` is for what comes before there is a request.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import anyio.to_thread
from ct_xception_app.limits import (
    CLIENT_REQUESTS,
    CONNECTIONS,
    GRACE_SECONDS,
    HEADER_SECONDS,
    KEPT_BYTES,
    KEPT_SECONDS,
    LEAST_RATE,
    MAX_FILE,
    MOST_BODY,
    UPLOADS,
    WAITING_CONNECTIONS,
)
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HEALTH = "/health"
HOSTS_VARIABLE = "CT_XCEPTION_HOSTS"  # names, with commas between, by which a public server may be asked
_UPLOAD, _FILES = "/upload", "/file="
_SAFE = ("GET", "HEAD", "OPTIONS")

# Gradio's page writes its settings into scripts of its own and runs functions that it is sent as text.
_PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors "
)
_FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"


class Ended(Exception):
    """A request that is not heard out: the HTTP status, and one sentence."""

    def __init__(self, status: int, sentence: str, wait: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.wait = status, wait


@dataclass(eq=False)
class Upload:
    """A request's body on its way. It must come at LEAST_RATE, after GRACE_SECONDS; `limit` is in bytes."""

    limit: int
    began: float
    received: int = 0
    timeout: asyncio.Timeout | None = None

    @property
    def deadline(self) -> float:
        """When the next part must be there, by the loop's clock."""
        return self.began + GRACE_SECONDS + self.received / LEAST_RATE

    async def receive(self, receive: Receive) -> Message:
        """The next part. Raises Ended where it comes too late, or is too much."""
        try:
            async with asyncio.timeout_at(self.deadline) as self.timeout:
                message = await receive()
        except TimeoutError:
            raise Ended(408, f"the request came too slowly; it must come at {LEAST_RATE >> 10} KiB/s.") from None
        finally:
            self.timeout = None
        self.received += len(message.get("body", b""))
        if self.received > self.limit:
            raise Ended(413, f"the request is larger than {self.limit >> 20} MiB; give one slice or series at a time.")
        return message


class Guard:
    """Lets in what a server can bear, and gives every answer the headers that a browser needs.

    `public` says whether others than this machine can reach the server: then it answers to the names that
    CT_XCEPTION_HOSTS and SPACE_HOST state, to its own and to addresses; else to localhost alone. `folder` is where
    uploads are kept.
    """

    def __init__(self, app: ASGIApp, *, public: bool, folder: Path) -> None:
        self.app, self.public, self.folder = app, public, folder
        self.uploads: dict[Upload, None] = {}
        self.clients: Counter[str] = Counter()
        self.names = _own_names() if public else {"localhost"}
        self.policy = _PAGE_POLICY + ("https://huggingface.co 'self'" if os.environ.get("SPACE_ID") else "'self'")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say in one sentence why not."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun = False

        async def told(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                self._add_headers(scope["path"], MutableHeaders(scope=message))
            await send(message)

        try:
            await self._let_in(scope, receive, told)
        except Ended as end:
            if not begun:  # else the connection ends with half an answer, as it must
                headers = {"Connection": "close", **({} if end.wait is None else {"Retry-After": str(end.wait)})}
                await JSONResponse({"error": str(end)}, end.status, headers)(scope, receive, told)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._check_names(scope["method"], headers)
        if scope["path"].partition(_FILES)[2].lower().startswith(("http:", "https:")):  # which Gradio would fetch
            raise Ended(404, "nothing is fetched from another server here.")
        if scope["path"].endswith(HEALTH):  # told to whoever asks, however many do
            return await self.app(scope, receive, send)
        with self._counted(scope):
            if int(headers.get("content-length") or 0) == 0 and "transfer-encoding" not in headers:
                return await self.app(scope, receive, send)
            await self._check_kept(scope["path"], headers)
            with self._taken_in(scope["path"]) as upload:
                await self.app(scope, self._paced(upload, receive), send)

    def _add_headers(self, path: str, headers: MutableHeaders) -> None:
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "same-origin"
        headers["Content-Security-Policy"] = _FILE_POLICY if _FILES in path else self.policy

    def _check_names(self, method: str, headers: Headers) -> None:
        """Raise Ended for a name that is not this server's (DNS rebinding), or a page of another one that writes."""
        host = headers.get("host", "")
        name = _name_of(f"//{host}")
        if not (name in self.names or _is_address(name, self.public)):
            remedy = f"; where it is this server's, say so in {HOSTS_VARIABLE}" if self.public else "; ask localhost"
            raise Ended(421, f"this server is not known by the name that was asked for{remedy}.")
        origin = headers.get("origin")
        own = {host, headers.get("x-forwarded-host", host)}
        if method not in _SAFE and origin is not None and origin.partition("://")[2] not in own:
            raise Ended(403, "a page of another site may not ask here.")

    @contextmanager
    def _counted(self, scope: Scope) -> Iterator[None]:
        client = (scope.get("client") or ("",))[0]
        if self.clients[client] >= CLIENT_REQUESTS:
            raise Ended(429, f"more than {CLIENT_REQUESTS} requests at a time; try again in 1 s.", 1)
        self.clients[client] += 1
        try:
            yield
        finally:
            self.clients[client] -= 1
            if not self.clients[client]:
                del self.clients[client]

    async def _check_kept(self, path: str, headers: Headers) -> None:
        """Raise Ended where what is kept of uploads, with those on their way, leaves no room for another one."""
        declared = int(headers.get("content-length") or MAX_FILE)
        coming = sum(upload.received for upload in self.uploads)
        kept = await anyio.to_thread.run_sync(_size_of, self.folder) if path.endswith(_UPLOAD) else 0
        if kept + coming + declared > KEPT_BYTES:
            wait = KEPT_SECONDS if kept + declared > KEPT_BYTES else 1
            raise Ended(503, f"no room for more uploads; they are deleted after a while: try again in {wait} s.", wait)

    @contextmanager
    def _taken_in(self, path: str) -> Iterator[Upload]:
        """A place for an upload; where all are taken, the slowest one loses its own."""
        now = asyncio.get_running_loop().time()
        coming = [one for one in self.uploads if one.timeout is None or not one.timeout.expired()]
        if len(coming) >= UPLOADS:
            waiting = [one for one in coming if one.timeout is not None]
            if not waiting:
                raise Ended(503, "too many uploads at a time; try again in 1 s.", 1)
            slowest = min(waiting, key=lambda one: one.received / (now - one.began + 0.1))
            assert slowest.timeout is not None
            slowest.timeout.reschedule(now)
            del self.uploads[slowest]
        upload = Upload(MAX_FILE + 2**20 if path.endswith(_UPLOAD) else MOST_BODY, now)
        self.uploads[upload] = None
        try:
            yield upload
        finally:
            self.uploads.pop(upload, None)

    def _paced(self, upload: Upload, receive: Receive) -> Receive:
        async def paced() -> Message:
            if upload not in self.uploads and upload.timeout is None:
                return await receive()  # all of it is here: the next message is the client's going away
            message = await upload.receive(receive)
            if not message.get("more_body"):
                self.uploads.pop(upload, None)
            return message

        return paced


def _own_names() -> set[str]:
    stated = [*os.environ.get(HOSTS_VARIABLE, "").split(","), os.environ.get("SPACE_HOST", "")]
    return {name.strip().lower() for name in (*stated, "localhost", socket.gethostname()) if name.strip()}


def _name_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _is_address(name: str, public: bool) -> bool:
    """Whether a host is an IP address, which no foreign name can lead to; for a private server one of this machine."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return public or address.is_loopback


def _size_of(folder: Path) -> int:
    """Bytes of all files below a folder; what goes away meanwhile counts for nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total


class Punctual(H11Protocol):
    """uvicorn's protocol, closing connections whose request line and headers are not there in HEADER_SECONDS.

    Of more than WAITING_CONNECTIONS such connections, the oldest are closed; of more than CONNECTIONS, the new ones.
    """

    _waiting: ClassVar[dict[Punctual, asyncio.TimerHandle]] = {}  # of all connections, the oldest first

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_request()
        if len(self._waiting) > WAITING_CONNECTIONS:
            next(iter(self._waiting))._give_up()
        elif len(self.connections) > CONNECTIONS:
            self._give_up()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_busy():
            self._forget()
        elif self not in self._waiting:
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_request(self) -> None:
        self._waiting[self] = asyncio.get_running_loop().call_later(HEADER_SECONDS, self._give_up)

    def _forget(self) -> None:
        timer = self._waiting.pop(self, None)
        if timer is not None:
            timer.cancel()

    def _give_up(self) -> None:
        self._forget()
        if not self._is_busy() and self.transport.get_protocol() is self:
            self.transport.close()
