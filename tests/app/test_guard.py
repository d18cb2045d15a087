"""What slow, many and foreign askers get, and that others are answered meanwhile: over real sockets, in small."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from ct_xception_app import guard
from ct_xception_app.guard import HEALTH, Guard, Punctual
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def length(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def patient(request: Request) -> PlainTextResponse:
    await asyncio.sleep(1)
    return PlainTextResponse("late")


ROUTES = [Route("/", length, methods=["GET", "POST"]), Route("/gradio_api/upload", length, methods=["POST"])]
ROUTES += [Route("/file=x.svg", length), Route(HEALTH, length), Route("/patient", patient)]


@contextmanager
def serving(folder: Path, *, public: bool = False) -> Iterator[str]:
    """Its address, HOST:PORT."""
    app = Starlette(routes=ROUTES, middleware=[Middleware(Guard, public=public, folder=folder)])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", http=Punctual))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Limits to be set for one test; short ones of time at once."""
    monkeypatch.setattr(guard, "HEADER_SECONDS", 0.4)
    monkeypatch.setattr(guard, "GRACE_SECONDS", 0.4)
    return monkeypatch


@pytest.fixture
def address(limits: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path) as found:
        yield found


def send(address: str, text: str) -> socket.socket:
    host, port = address.split(":")
    found = socket.create_connection((host, int(port)), timeout=10)
    found.sendall(text.replace("\n", "\r\n").encode())
    return found


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(10) == b""
    except ConnectionResetError:
        return True


def slow_body(address: str) -> socket.socket:
    return send(address, f"POST / HTTP/1.1\nHost: {address}\nContent-Length: 1000\n\nx")


def ask(address: str, body: bytes = b"abc") -> tuple[int, str, float]:
    began = time.monotonic()
    found = httpx.post(f"http://{address}/", content=body)
    return found.status_code, found.text, time.monotonic() - began


class TestSlow:
    def test_headers_that_do_not_come_end_the_connection(self, address: str) -> None:
        for text in ("", "G", f"GET / HTTP/1.1\nHost: {address}\n"):
            with send(address, text) as slow:
                began = time.monotonic()
                assert is_closed(slow) and 0.2 < time.monotonic() - began < 5

    def test_a_second_request_on_the_same_connection_must_come_as_well(self, address: str) -> None:
        with send(address, f"GET / HTTP/1.1\nHost: {address}\n\n") as kept:
            assert b"200 OK" in kept.recv(4000)
            kept.sendall(b"G")
            began = time.monotonic()
            while not is_closed(kept):
                pass
            assert time.monotonic() - began < 3

    def test_a_body_that_does_not_come_is_told_so(self, address: str) -> None:
        with slow_body(address) as slow:
            answer = slow.recv(4000)
            assert answer.startswith(b"HTTP/1.1 408") and b"connection: close" in answer.lower()

    def test_a_body_that_drips_is_ended_too(self, address: str, limits: pytest.MonkeyPatch) -> None:
        with slow_body(address) as slow:
            with pytest.raises(OSError):
                for _ in range(100):  # 10 s of drops, none of them late by itself
                    slow.sendall(b"x")
                    time.sleep(0.1)
                raise AssertionError

    def test_slow_bodies_give_their_places_to_others(self, address: str, limits: pytest.MonkeyPatch) -> None:
        limits.setattr(guard, "UPLOADS", 4)
        limits.setattr(guard, "GRACE_SECONDS", 30.0)
        with ExitStack() as stack:
            for _ in range(12):
                stack.enter_context(slow_body(address))
            time.sleep(0.3)
            for _ in range(5):
                status, text, seconds = ask(address, bytes(300_000))
                assert (status, text) == (200, "300000") and seconds < 2

    def test_idle_connections_give_their_places_to_others(self, address: str, limits: pytest.MonkeyPatch) -> None:
        limits.setattr(guard, "WAITING_CONNECTIONS", 8)
        limits.setattr(guard, "HEADER_SECONDS", 30.0)
        with ExitStack() as stack:
            idle = [stack.enter_context(send(address, "G")) for _ in range(20)]
            assert ask(address)[0] == 200
            assert is_closed(idle[0])
            idle[-1].settimeout(0.2)
            with pytest.raises(TimeoutError):
                idle[-1].recv(10)


class TestMany:
    def test_one_client_s_requests_are_counted_and_health_is_told_all_the_same(
        self, address: str, limits: pytest.MonkeyPatch
    ) -> None:
        limits.setattr(guard, "CLIENT_REQUESTS", 2)
        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(send(address, f"GET /patient HTTP/1.1\nHost: {address}\n\n"))
            time.sleep(0.3)
            assert ask(address)[0] == 429
            assert httpx.get(f"http://{address}{HEALTH}").status_code == 200
        time.sleep(1.2)
        assert ask(address)[0] == 200

    def test_a_body_larger_than_any(self, address: str, limits: pytest.MonkeyPatch) -> None:
        limits.setattr(guard, "MOST_BODY", 2**20)
        status, text, _ = ask(address, bytes(2**20 + 1))
        assert status == 413 and "larger than 1 MiB" in text

    def test_no_more_uploads_are_kept_than_that(self, address: str, limits: pytest.MonkeyPatch, tmp_path: Path) -> None:
        limits.setattr(guard, "KEPT_BYTES", 2**20)
        url = f"http://{address}/gradio_api/upload"
        assert httpx.post(url, content=bytes(2**19)).status_code == 200
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "a").write_bytes(bytes(2**20 - 100))
        found = httpx.post(url, content=bytes(101))
        assert found.status_code == 503 and int(found.headers["retry-after"]) == guard.KEPT_SECONDS
        assert httpx.post(url, content=bytes(99)).status_code == 200


class TestNames:
    def status(self, address: str, method: str = "POST", **headers: str) -> int:
        return httpx.request(method, f"http://{address}/", headers=headers).status_code

    def test_a_foreign_name_or_page_is_refused(self, address: str) -> None:
        port = address.partition(":")[2]
        assert self.status(address) == self.status(address, host=f"localhost:{port}") == 200
        assert self.status(address, host="evil.example") == 421  # a name that was led here
        assert self.status(address, host="192.168.0.1") == 421
        assert self.status(address, origin=f"http://{address}") == 200
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
            assert self.status(address, origin=origin) == 403
            assert self.status(address, "GET", origin=origin) == 200

    def test_a_public_server_answers_to_its_addresses_and_the_names_it_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(guard.HOSTS_VARIABLE, "ct.example, other.example")
        monkeypatch.setenv("SPACE_HOST", "user-space.hf.space")
        with serving(tmp_path, public=True) as address:
            for host in ("ct.example:7860", "OTHER.example", "user-space.hf.space", "10.0.0.7:7860", "[::1]:80"):
                assert self.status(address, host=host) == 200, host
            assert self.status(address, host="evil.example") == 421
            assert self.status(address, host="ct.example", origin="https://ct.example") == 200
            assert self.status(address, host="ct.example", origin="https://evil.example") == 403


def test_no_other_server_is_asked_for_a_stranger(address: str) -> None:
    for elsewhere in ("http://127.0.0.1:1/x", "HTTPS://ct.example/x.png", "http:/ct.example"):
        found = httpx.get(f"http://{address}/gradio_api/file={elsewhere}")
        assert found.status_code == 404 and "nothing is fetched" in found.text


def test_every_answer_says_what_a_browser_may_do_with_it(address: str) -> None:
    for found in (httpx.get(f"http://{address}/"), httpx.get(f"http://{address}/none"), httpx.post(f"http://{address}/",
                  headers={"origin": "null"})):  # fmt: skip
        assert found.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in found.headers["content-security-policy"]
    file = httpx.get(f"http://{address}/file=x.svg")
    assert file.headers["content-security-policy"].endswith("sandbox")


def test_an_upload_whose_time_is_up_is_not_asked_to_go_again(address: str, limits: pytest.MonkeyPatch) -> None:
    limits.setattr(guard, "UPLOADS", 4)
    limits.setattr(guard, "GRACE_SECONDS", 0.05)
    with ExitStack() as stack:
        for _ in range(20):  # they end and are followed by others at the same time
            for _ in range(6):
                stack.enter_context(slow_body(address))
            assert ask(address)[0] == 200
