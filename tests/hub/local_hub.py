"""A small Hub on this machine, for tests through the real clients.

    with LocalHub(tmp_path) as hub:
        subprocess.run(["hf", "download", "alice/model"], env=hub.environment("alice", tmp_path / "home"))

It keeps repositories of models, datasets and Spaces with their commits, branches and tags, takes large files by the LFS
protocol, and knows accounts by their tokens. Two loopback addresses: the client follows a redirect within one origin
while it looks for a file's commit, and then misses it, so large files lie at another origin, as on the real Hub.

`log` holds every request. `faults` are mishaps to come: each is used up by one request that it matches.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import uvicorn
import yaml
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response

LARGE_SUFFIXES = ("safetensors", "parquet", "onnx", "bin", "zip")
LARGE_BYTES = 10 * 2**20
REPOSITORY = r"(?P<id>[\w.-]+/[\w.-]+)"
API = rf"/api/(?P<kind>models|datasets|spaces)/{REPOSITORY}"
PAGE = rf"/(?:(?P<kind>datasets|spaces)/)?{REPOSITORY}"
TOKENS = {"alice": "hf_alice_writes", "reader": "hf_alice_reads", "bob": "hf_bob_writes"}


class Refusal(Exception):
    """What the server answers instead: a status, a message, and the Hub's own code for it."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        self.status, self.message = status, message
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | headers


@dataclass(frozen=True)
class File:
    """One file of a commit: where its bytes are, and the git blob that stands for it (a pointer, if it is large)."""

    sha256: str
    size: int
    oid: str
    pointer: int | None = None  # bytes of the pointer; None for a file kept in git itself

    def lfs(self, key: str) -> dict[str, Any]:
        known = self.pointer is not None
        return {"lfs": {key: self.sha256, "size": self.size, "pointerSize": self.pointer}} if known else {}

    def entry(self, path: str) -> dict[str, Any]:
        return {"type": "file", "path": path, "oid": self.oid, "size": self.size, **self.lfs("oid")}


@dataclass(frozen=True)
class Commit:
    id: str
    parent: str | None
    title: str
    files: Mapping[str, File]
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()))


@dataclass
class Repository:
    kind: str
    id: str
    private: bool
    sdk: str | None = None
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    variables: dict[str, dict[str, str]] = field(default_factory=dict)

    def at(self, revision: str) -> Commit:
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def add(self, branch: str, title: str, files: Mapping[str, File]) -> Commit:
        commit = Commit(secrets.token_hex(20), self.branches.get(branch), title, files)
        self.commits[commit.id], self.branches[branch] = commit, commit.id
        return commit

    @property
    def history(self) -> list[str]:
        """The titles of main, newest first."""
        found, oid = [], self.branches["main"]
        while oid:
            found.append(self.commits[oid].title)
            oid = self.commits[oid].parent
        return found


@dataclass
class Fault:
    """A mishap of one request whose "METHOD /path" matches: a status, a cut line, or an answer lost after the work.

    `pace` slows the reading of a request's body: seconds for each piece.
    """

    match: str
    status: int = 0
    cut: bool = False
    lose_answer: bool = False
    pace: float = 0.0


def git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%b" % (len(data), data)).hexdigest()


def header_of(text: str) -> dict[str, Any] | None:
    """The YAML header of a card. Raises yaml.YAMLError."""
    found = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    return yaml.safe_load(found[1]) if found else None


class LocalHub:
    """The server, in a thread of its own; its state may be looked at from the test's thread."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.log: list[tuple[str, int]] = []
        self.faults: list[Fault] = []
        self.receiving = threading.Event()  # set while a large file arrives
        (self.root / "blobs").mkdir(parents=True, exist_ok=True)

    # Life

    def __enter__(self) -> LocalHub:
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        for one in sockets:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # no pauses of 40 ms
        self.endpoint = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        self.storage = f"http://localhost:{sockets[1].getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(self, log_level="critical", lifespan="off"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": sockets}, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(10)

    def environment(self, account: str | None, home: Path) -> dict[str, str]:
        """The variables that point a real client here, with a cache of its own; `account` of None is nobody."""
        switches = ("XET", "UPDATE_CHECK", "TELEMETRY", "PROGRESS_BARS", "IMPLICIT_TOKEN")[
            : 5 if account is None else 4
        ]
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            **{f"HF_HUB_DISABLE_{name}": "1" for name in switches},
            **({"HF_TOKEN": TOKENS[account]} if account else {}),
        }

    def __getitem__(self, name: str) -> Repository:
        """A repository by "user/model", "datasets/user/corpus" or "spaces/user/demo"."""
        kind, _, id_ = name.partition("/") if name.count("/") == 2 else ("models", "", name)
        return self.repositories[kind, id_]

    def read(self, name: str, path: str, revision: str = "main") -> bytes:
        return self.blob(self[name].at(revision).files[path].sha256).read_bytes()

    # One request

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        line = f"{request.method} {scope['raw_path'].decode()}"
        fault = next((one for one in self.faults if re.search(one.match, line)), None)
        if fault:
            self.faults.remove(fault)
        self.log.append((line, 0))
        place = len(self.log) - 1
        try:
            if fault and fault.cut:
                await anext(request.stream())
                return send.__self__.transport.abort()
            if fault and fault.status:
                raise Refusal(fault.status, "a mishap of the test")
            request.state.pace = fault.pace if fault else 0.0
            response = await self.answer(request, line)
            if fault and fault.lose_answer:
                return send.__self__.transport.abort()
        except ClientDisconnect:
            return None
        except Refusal as refusal:
            response = JSONResponse({"error": refusal.message}, refusal.status, refusal.headers)
        self.log[place] = (line, response.status_code)
        await response(scope, receive, send)
        return None

    async def answer(self, request: Request, line: str) -> Response:
        for pattern, name in ROUTES:
            if found := re.fullmatch(pattern, line):
                named = {key: unquote(value) for key, value in found.groupdict().items() if value is not None}
                if "id" in named:
                    write = request.method == "POST" and name not in ("paths_info",)
                    named["repository"] = self.find(request, named.pop("kind", "models"), named.pop("id"), write)
                return await getattr(self, name)(request, **named)
        raise Refusal(404, f"Not Found: {line}")

    def account(self, request: Request) -> tuple[str, str]:
        """Whose token it is and what it may: ("alice", "write"), ("", "") for nobody."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not token:
            return "", ""
        known = {value: name for name, value in TOKENS.items()}
        if token not in known:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return ("alice", "read") if known[token] == "reader" else (known[token], "write")

    def find(self, request: Request, kind: str, id_: str, write: bool) -> Repository:
        (name, role), owner = self.account(request), id_.partition("/")[0]
        repository = self.repositories.get((kind, id_.removesuffix(".git")))
        if repository is None or (repository.private and name != owner):
            raise Refusal(404 if name else 401, "Repository not found", "RepoNotFound")
        if write and (name, role) != (owner, "write"):
            raise Refusal(403 if name else 401, "You don't have the required permissions to perform this action")
        return repository

    # Accounts and repositories

    async def whoami(self, request: Request) -> Response:
        name, role = self.account(request)
        if not name:
            raise Refusal(401, "Invalid username or password.")
        token = {"displayName": "test", "role": role, "createdAt": "2026-01-01T00:00:00.000Z"}
        auth = {"type": "access_token", "accessToken": token}
        return JSONResponse({"type": "user", "id": name, "name": name, "isPro": False, "orgs": [], "auth": auth})

    async def validate_yaml(self, request: Request) -> Response:
        asked = await request.json()
        try:
            header, errors = header_of(asked["content"]) or {}, []
        except yaml.YAMLError as error:
            header, errors = {}, [f"YAML: {error}"]
        if not errors and asked.get("repoType") == "space" and "sdk" not in header:
            errors = ['"sdk" is required']
        messages = [{"message": error} for error in errors]
        return JSONResponse({"errors": messages, "warnings": []}, 400 if errors else 200)

    async def create(self, request: Request) -> Response:
        asked, (name, role) = await request.json(), self.account(request)
        kind, owner = f"{asked.get('type') or 'model'}s", asked.get("organization") or name
        if (owner, "write") != (name, role):
            raise Refusal(403 if name else 401, f"You don't have the rights to create under the namespace {owner!r}")
        id_ = f"{owner}/{asked['name']}"
        told = {"url": f"{self.page(kind)}{id_}", "name": id_}
        if (kind, id_) in self.repositories:
            return JSONResponse({**told, "error": f"You already created this {kind[:-1]} repo"}, 409)
        repository = Repository(kind, id_, asked.get("visibility") == "private", asked.get("sdk"))
        repository.variables = {one["key"]: one for one in asked.get("variables", [])}
        attributes = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE_SUFFIXES)
        repository.add("main", "initial commit", {".gitattributes": self.store(attributes.encode())})
        self.repositories[kind, id_] = repository
        return JSONResponse(told)

    def page(self, kind: str) -> str:
        return f"{self.endpoint}/{'' if kind == 'models' else kind + '/'}"

    async def variable(self, request: Request, repository: Repository) -> Response:
        asked = await request.json()
        repository.variables[asked["key"]] = asked
        return JSONResponse(repository.variables)

    async def tag(self, request: Request, repository: Repository, revision: str) -> Response:
        name = (await request.json())["tag"]
        if name in repository.tags:
            raise Refusal(409, "Tag reference exists already")
        repository.tags[name] = repository.at(revision).id
        return Response()

    # Upload

    def blob(self, sha256: str) -> Path:
        return self.root / "blobs" / sha256

    def store(self, data: bytes) -> File:
        sha256 = hashlib.sha256(data).hexdigest()
        self.blob(sha256).write_bytes(data)
        return File(sha256, len(data), git_blob(data))

    async def preupload(self, request: Request, repository: Repository, revision: str) -> Response:
        commit, told = repository.at(revision), []
        for asked in (await request.json())["files"]:
            path = asked["path"]
            large = asked["size"] > LARGE_BYTES or path.rpartition(".")[2] in LARGE_SUFFIXES
            old = commit.files.get(path)
            known = {} if old is None else {"oid": old.oid if old.pointer is None else old.sha256}
            mode = "lfs" if large else "regular"
            told.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **known})
        return JSONResponse({"files": told, "commitOid": commit.id})

    async def batch(self, request: Request, repository: Repository) -> Response:
        told = []
        for asked in (await request.json())["objects"]:
            oid = asked["oid"]
            upload = {"upload": {"href": f"{self.storage}/_store/{oid}", "header": {}}}
            told.append({**asked, **({} if self.blob(oid).exists() else {"actions": upload})})
        return JSONResponse({"transfer": "basic", "objects": told}, media_type="application/vnd.git-lfs+json")

    async def receive_blob(self, request: Request, sha256: str) -> Response:
        """An upload that ends early leaves nothing behind."""
        temporary, digest = self.root / secrets.token_hex(8), hashlib.sha256()
        self.receiving.set()
        try:
            with temporary.open("wb") as stream:
                async for chunk in request.stream():
                    digest.update(chunk)
                    stream.write(chunk)
                    await asyncio.sleep(request.state.pace)
            if digest.hexdigest() != sha256:
                raise Refusal(400, "The bytes are not those of the object id")
            temporary.rename(self.blob(sha256))
        finally:
            self.receiving.clear()
            temporary.unlink(missing_ok=True)
        return Response()

    async def commit(self, request: Request, repository: Repository, revision: str) -> Response:
        header, *operations = (json.loads(line) for line in (await request.body()).splitlines() if line.strip())
        base = repository.at(revision)
        if header["value"].get("parentCommit") not in (None, base.id):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(base.files)
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = self.store(base64.b64decode(value["content"]))
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.pointed(value["oid"])
            elif operation["key"] == "deletedFile" and value["path"] in files:
                del files[value["path"]]
            else:
                raise Refusal(400, f"Cannot do {operation['key']} of {value.get('path')}")
        new = repository.add(revision, header["value"]["summary"], files)
        url = f"{self.page(repository.kind)}{repository.id}/commit/{new.id}"
        return JSONResponse({"success": True, "commitOid": new.id, "commitUrl": url, "hookOutput": ""})

    def pointed(self, sha256: str) -> File:
        if not self.blob(sha256).exists():
            raise Refusal(400, f"The LFS object {sha256} was never uploaded")
        size = self.blob(sha256).stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        return File(sha256, size, git_blob(pointer), len(pointer))

    # Download

    async def information(self, request: Request, repository: Repository, revision: str = "main") -> Response:
        commit = repository.at(revision)
        header = {}
        if "README.md" in commit.files:
            header = header_of(self.blob(commit.files["README.md"].sha256).read_text("utf-8")) or {}
        told = {
            "_id": repository.id, "id": repository.id, "author": repository.id.partition("/")[0], "sha": commit.id,
            "private": repository.private, "gated": False, "disabled": False, "lastModified": commit.date,
            "createdAt": commit.date, "downloads": 0, "likes": 0, "tags": header.get("tags") or [],
            "cardData": json.loads(json.dumps(header, default=str)),
            "siblings": [{"rfilename": path} for path in sorted(commit.files)],
        }  # fmt: skip
        if repository.kind == "models":
            told |= {"modelId": repository.id, "pipeline_tag": header.get("pipeline_tag")}
        if repository.kind == "spaces":
            told |= {"sdk": repository.sdk}
        return JSONResponse(told)

    async def tree(self, request: Request, repository: Repository, revision: str, path: str = "") -> Response:
        files = repository.at(revision).files
        prefix, deep = f"{path}/" if path else "", request.query_params.get("recursive", "").lower() == "true"
        told: dict[str, dict[str, Any]] = {}
        for name, file in sorted(files.items()):
            if name.startswith(prefix):
                parts = name.removeprefix(prefix).split("/")
                for end in range(1, len(parts) if deep else min(2, len(parts))):
                    folder = prefix + "/".join(parts[:end])
                    told[folder] = {"type": "directory", "path": folder, "oid": git_blob(folder.encode()), "size": 0}
                if deep or len(parts) == 1:
                    told[name] = file.entry(name)
        if path and not told:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        return JSONResponse(list(told.values()))

    async def paths_info(self, request: Request, repository: Repository, revision: str) -> Response:
        asked, files = (await request.form()).getlist("paths"), repository.at(revision).files
        return JSONResponse([files[path].entry(path) for path in asked if path in files])

    async def references(self, request: Request, repository: Repository) -> Response:
        def list_(names: dict[str, str], kind: str) -> list[dict[str, str]]:
            return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in names.items()]

        branches, tags = list_(repository.branches, "heads"), list_(repository.tags, "tags")
        return JSONResponse({"branches": branches, "tags": tags, "converts": []})

    async def resolve(self, request: Request, repository: Repository, revision: str, path: str) -> Response:
        commit = repository.at(revision)
        file = commit.files.get(path)
        if file is None:  # the commit lets the client remember that there is no such file
            raise Refusal(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": commit.id})
        headers = {"X-Repo-Commit": commit.id}
        if file.pointer is None:
            return FileResponse(self.blob(file.sha256), headers={**headers, "ETag": f'"{file.oid}"'})
        headers |= {"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.sha256}"'}
        return Response(status_code=302, headers={**headers, "Location": f"{self.storage}/_stored/{file.sha256}"})

    async def stored(self, request: Request, sha256: str) -> Response:
        return FileResponse(self.blob(sha256), headers={"ETag": f'"{sha256}"'})


REVISION, READ = r"(?P<revision>[^/]+)", "(?:GET|HEAD) "
ROUTES = (
    (r"GET /api/whoami-v2", "whoami"),
    (r"POST /api/validate-yaml", "validate_yaml"),
    (r"POST /api/repos/create", "create"),
    (rf"POST {API}/variables", "variable"),
    (rf"POST {API}/tag/{REVISION}", "tag"),
    (rf"POST {API}/preupload/{REVISION}", "preupload"),
    (rf"POST {API}/commit/{REVISION}", "commit"),
    (rf"POST {API}/paths-info/{REVISION}", "paths_info"),
    (rf"POST {PAGE}/info/lfs/objects/batch", "batch"),
    (r"PUT /_store/(?P<sha256>[0-9a-f]{64})", "receive_blob"),
    (rf"{READ}/_stored/(?P<sha256>[0-9a-f]{{64}})", "stored"),
    (rf"GET {API}(?:/revision/{REVISION})?", "information"),
    (rf"GET {API}/tree/{REVISION}(?:/(?P<path>.+))?", "tree"),
    (rf"GET {API}/refs", "references"),
    (rf"{READ}{PAGE}/resolve/{REVISION}/(?P<path>.+)", "resolve"),
)
