"""The Hub: one commit or none.

    push_checkpoint("runs/mine/model", "user/repo", tag="v1")
    push_space("user/repo", "user/demo")
    push_browser_space("runs/mine/model", "user/repo", "user/page")
    push_corpus("runs/mine", "user/corpus")

Everything that can be known on this machine is checked before the first request, and who may write where before the
first byte goes up. A push that was cut off, at any moment, is simply made again: what had arrived is not sent twice,
and the repository shows either the version before or the whole new one. Nothing here asks a question.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id
from huggingface_hub.utils.sha import git_hash

from ct_xception.checkpoint import SIDE_FILE
from ct_xception.errors import InputError, printable
from ct_xception.files import sha256_file
from ct_xception.publish.clearance import Content, check_secrets
from ct_xception.publish.corpus_record import write_corpus_record
from ct_xception.publish.hosted.browser_space import browser_space_files
from ct_xception.publish.hosted.space import space_files
from ct_xception.publish.release import release_checkpoint

WAITS = (1.0, 3.0, 8.0)  # seconds before each new attempt after the line dropped
MODEL_VARIABLE = "CT_XCEPTION_MODEL"
# The files by which we know a repository of ours; another's is not overwritten.
_MARKS = {
    "model": (SIDE_FILE,),
    "dataset": ("splits.json",),
    "space": ("ct_xception/__init__.py", "checkpoint.json"),
}
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_UNTOUCHED = {".gitattributes"}
_FRESH = {".gitattributes", "README.md"}  # what the Hub's own page puts into a new repository


class PushError(OSError):
    """The Hub or this machine stopped a push that was asked for rightly; one sentence. Pushing again goes on."""


@dataclass(frozen=True)
class Target:
    """Where something goes: a repository of one kind ("model", "dataset" or "space")."""

    repo_id: str
    kind: str = "model"

    def __str__(self) -> str:
        return self.repo_id if self.kind == "model" else f"{self.kind}s/{self.repo_id}"


@dataclass(frozen=True)
class Pushed:
    """What is on the Hub now: the commit, its page, and whether this push changed anything."""

    target: Target
    commit: str
    url: str
    changed: bool
    tag: str | None = None


def push_checkpoint(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    tag: str | None = None,
    message: str | None = None,
    new_card: bool = False,
    handler: bool = False,
) -> Pushed:
    """Publish a checkpoint folder as a model, its card filled in with `repo_id`, and tag the version if `tag`.

    `handler` puts the handler for Inference Endpoints, which is code, beside it; without it no code is published.
    What lies in the repository and not in the folder goes. Raises InputError where the folder, the name, the token or
    the tag will not do, and PushError where the Hub, the network or the disk fails.
    """
    check_access(repo_id)  # which is quick; to count every figure again is not
    files = release_checkpoint(folder, repo_id, new_card=new_card, handler=handler)
    return push_files(Target(repo_id), files, private=private, tag=tag, message=message or "Publish the checkpoint")


def push_space(model_id: str, repo_id: str, *, private: bool = False, tag: str | None = None) -> Pushed:
    """Publish the demo page as a Space that answers from `model_id` ("user/repo" or "user/repo@revision")."""
    check_name(repo_id)
    check_name(model_id.partition("@")[0])
    variables = {MODEL_VARIABLE: model_id}
    files = space_files(model_id)
    return push_files(
        Target(repo_id, "space"), files, private=private, tag=tag, message="Publish the page", variables=variables
    )


def push_browser_space(
    source: str | Path,
    model_id: str,
    repo_id: str,
    *,
    ort: str | Path | None = None,
    private: bool = False,
    tag: str | None = None,
) -> Pushed:
    """Publish the page that answers in the visitor's browser, as a static Space.

    `source` is the checkpoint, with its exported network: a folder, or a Hub id; `model_id` is where it is on the Hub.
    `ort` is a folder with onnxruntime-web's files, which go into the Space; without it the page loads them elsewhere.
    """
    check_name(repo_id)
    check_name(model_id.partition("@")[0])
    files = browser_space_files(source, model_id, ort=ort)
    message = "Publish the page that answers in the browser"
    return push_files(Target(repo_id, "space"), files, private=private, tag=tag, message=message, sdk="static")


def push_corpus(
    run: str | Path, repo_id: str, *, private: bool = False, tag: str | None = None, images: bool = False
) -> Pushed:
    """Publish the corpus record of a run folder as a dataset: splits and audit, and the images only if asked."""

    check_name(repo_id)
    target = Target(repo_id, "dataset")
    with _one_sentence(target), tempfile.TemporaryDirectory(prefix="ct-xception-") as folder:
        files = write_corpus_record(run, Path(folder), images=images)
        return push_files(target, files, private=private, tag=tag, message="Publish the corpus's record")


def check_name(repo_id: str) -> None:
    """Raise InputError where `repo_id` cannot be a repository's name, USER/NAME."""

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        reason = " ".join(str(error).split()).partition(":")[0]
        raise InputError(f"{printable(repo_id)}: is no name for a repository ({reason}); give USER/NAME.") from error
    if repo_id.count("/") != 1:
        raise InputError(f"{printable(repo_id)}: is no name for a repository on the Hub; give USER/NAME.")


def check_access(repo_id: str, kind: str = "model", *, private: bool = False, tag: str | None = None) -> None:
    """Raise InputError or PushError unless a push to `repo_id` may begin: token, name, tag. Nothing is changed."""
    check_name(repo_id)
    target = Target(repo_id, kind)
    with _one_sentence(target):
        api = _open(target)
        state = _look(api, target)
        if state is not None:
            _check_state(target, state, private)
            if tag in _tags(api, target):
                raise _taken(target, tag)


def push_files(
    target: Target,
    files: Mapping[str, Content],
    *,
    private: bool = False,
    tag: str | None = None,
    message: str,
    variables: Mapping[str, str] | None = None,
    sdk: str = "gradio",
) -> Pushed:
    """Make a repository hold exactly `files`, {path: a file, or bytes}, in one commit; what else it held goes.

    `variables` and `sdk` are those of a Space. Raises InputError where a file holds a token, and as `push_checkpoint`
    does.
    """

    check_name(target.repo_id)
    check_secrets(files, [get_token() or ""])
    with _one_sentence(target):
        api = _open(target)
        state = _look(api, target)
        if state is None:
            _create(api, target, private, variables or {}, sdk)
        # Looked at again after the creation: somebody may have been faster, and less private.
        _check_state(target, _look(api, target) if state is None else state, private)
        return _write(api, target, files, tag=tag, message=message, variables=None if state is None else variables)


def _write(
    api: HfApi,
    target: Target,
    files: Mapping[str, Content],
    *,
    tag: str | None,
    message: str,
    variables: Mapping[str, str] | None,
) -> Pushed:
    """The commit, then what stands outside it: the tag, and the variables of a Space that was there before."""
    begun = _head(api, target)
    known = _tags(api, target) if tag else {}
    if tag in known and not (known[tag] == begun and _holds(api, target, begun, files)):
        raise _taken(target, tag)
    commit = _commit(api, target, files, begun, message)
    if tag and tag not in known:
        api.create_tag(target.repo_id, repo_type=target.kind, tag=tag, revision=commit, exist_ok=True)
    for key, value in (variables or {}).items():
        api.add_space_variable(target.repo_id, key, value)
    page = f"{api.endpoint}/{'' if target.kind == 'model' else target.kind + 's/'}{target.repo_id}"
    return Pushed(target, commit, page, commit != begun, tag)


def _commit(api: HfApi, target: Target, files: Mapping[str, Content], begun: str, message: str) -> str:
    """One commit on top of `begun` that makes the repository hold `files` and nothing else; the head after it.

    A line that drops is taken up again. Its answer may be what was lost, so the repository is looked at first.
    """

    additions = [
        CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in files.items()
    ]
    for wait in (*WAITS, None):
        head = _head(api, target)
        if _holds(api, target, head, files):
            return head
        if head != begun:
            raise _overtaken(target)
        try:
            return _send(api, target, additions, head, message)
        except Exception as error:
            if _status_of(error) != 412 and (wait is None or not _is_passing(error)):
                raise
            time.sleep(0 if _status_of(error) == 412 else wait or 0)
    raise _overtaken(target)


def _send(api: HfApi, target: Target, additions: list[Any], head: str, message: str) -> str:

    kept = {addition.path_in_repo for addition in additions} | _UNTOUCHED
    gone = [path for path in _remote(api, target, head) if path not in kept]
    with warnings.catch_warnings():
        # The predictions behind a model's figures are Parquet, and belong to it.
        warnings.filterwarnings("ignore", message=".*commit a data file", category=UserWarning)
        told = api.create_commit(
            target.repo_id,
            [*additions, *(CommitOperationDelete(path, is_folder=False) for path in gone)],
            repo_type=target.kind,
            commit_message=message,
            parent_commit=head,
        )
    return told.oid


# What the Hub holds


def _open(target: Target) -> HfApi:
    """The Hub, after it has said that the token may write there."""

    api = HfApi()
    account = api.whoami()
    owner = target.repo_id.partition("/")[0]
    owners = [account["name"], *(one["name"] for one in account.get("orgs", []))]
    if owner not in owners:
        raise InputError(
            f"{target}: the token is {account['name']}'s, and {owner} is neither that account nor an organisation of "
            "it; name a repository of your own, or log in as another (hf auth login)."
        )
    if account.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise InputError(
            f"{target}: the token of {account['name']} may only read; make one that may write, and hf auth login."
        )
    return api


def _look(api: HfApi, target: Target) -> Any:
    """What the Hub says of the repository, or None where there is none."""

    try:
        return api.repo_info(target.repo_id, repo_type=target.kind)
    except RepositoryNotFoundError:
        return None


def _check_state(target: Target, state: Any, private: bool) -> None:
    names = {sibling.rfilename for sibling in state.siblings or []}
    if not names & set(_MARKS[target.kind]) and names - _FRESH:
        raise InputError(
            f"{target}: the name is taken by something that ct-xception did not publish (no {_MARKS[target.kind][0]}); "
            "choose another name."
        )
    if private and not state.private:
        raise InputError(f"{target}: exists and is public; make it private on its page first, or drop --private.")


def _create(api: HfApi, target: Target, private: bool, variables: Mapping[str, str], sdk: str) -> None:
    own: dict[str, Any] = {}
    if target.kind == "space":
        pairs = [{"key": key, "value": value} for key, value in variables.items()]
        own = {"space_sdk": sdk, "space_variables": pairs}
    # Left open where not asked for: organisations may make private the default.
    api.create_repo(target.repo_id, repo_type=target.kind, private=private or None, exist_ok=True, **own)


def _head(api: HfApi, target: Target) -> str:
    return api.repo_info(target.repo_id, repo_type=target.kind).sha or ""


def _tags(api: HfApi, target: Target) -> dict[str, str]:
    found = api.list_repo_refs(target.repo_id, repo_type=target.kind)
    return {one.name: one.target_commit for one in found.tags}


def _remote(api: HfApi, target: Target, revision: str) -> dict[str, Any]:
    """The files of a commit, {path: what the Hub says of it}."""

    tree = api.list_repo_tree(target.repo_id, repo_type=target.kind, revision=revision, recursive=True)
    return {one.path: one for one in tree if isinstance(one, RepoFile)}


def _holds(api: HfApi, target: Target, revision: str, files: Mapping[str, Content]) -> bool:
    """Whether a commit is exactly these files."""
    remote = {path: file for path, file in _remote(api, target, revision).items() if path not in _UNTOUCHED}
    return remote.keys() == files.keys() and all(_is_same(file, files[path]) for path, file in remote.items())


def _is_same(remote: Any, content: Content) -> bool:

    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if size != remote.size:
        return False
    if remote.lfs is None:
        return git_hash(content if isinstance(content, bytes) else content.read_bytes()) == remote.blob_id
    found = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256_file(content)
    return found == remote.lfs.sha256


# What goes wrong on the way, each in one sentence: whose turn it is, and what to do


@contextlib.contextmanager
def _one_sentence(target: Target) -> Iterator[None]:
    """Raise what the Hub's client raises within as InputError or PushError; what is neither's business passes."""
    try:
        yield
    except Exception as error:
        told = _told(error, target)
        if told is error:
            raise
        raise told from error


def _told(error: BaseException, target: Target) -> BaseException:
    """The error as its reader should see it; one that is no business of theirs is given back as it is."""

    cause = _cause(error)
    if isinstance(cause, (InputError, PushError)):
        return cause
    if isinstance(cause, LocalTokenNotFoundError):
        return InputError(f"{target}: no token of the Hub is stored here; log in (hf auth login), or set HF_TOKEN.")
    if isinstance(cause, OfflineModeIsEnabled):
        return InputError(f"{target}: the Hub is switched off here (HF_HUB_OFFLINE); unset it, and push again.")
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return PushError(f"{target}: the disk of this machine is full; make room, and push again.")
    if isinstance(cause, HfHubHTTPError) and cause.response is not None:
        return _refused(cause, target)
    if _is_passing(cause):
        reason = printable(" ".join(str(cause).split()))[:120] or type(cause).__name__
        return PushError(f"{target}: the Hub does not answer ({reason}); push again when the network is back.")
    return error


def _refused(error: Any, target: Target) -> BaseException:
    """An answer of the Hub that is no success."""
    status = error.response.status_code
    said = printable(" ".join((error.server_message or error.response.reason_phrase or "").split()))[:200]
    if status == 401:
        return InputError(
            f"{target}: the Hub does not know the token; make another, and log in with it (hf auth login)."
        )
    if status in (402, 403):
        return InputError(f"{target}: the Hub does not let the token write there ({said}); use one that may.")
    if status in _PASSING:
        return PushError(f"{target}: the Hub is in trouble ({status}, {said}); push again later.")
    return PushError(f"{target}: the Hub refused ({status}, {said}); nothing was published.")


def _taken(target: Target, tag: str | None) -> InputError:
    """A tag that stands for another version."""
    return InputError(f"{target}: the version {tag} exists already, and is something else; choose another --tag.")


def _overtaken(target: Target) -> PushError:
    """Two pushers, and the other was faster."""
    return PushError(
        f"{target}: somebody else pushed at the same moment, and nothing of this push was published; look at theirs, "
        "and push again to replace it."
    )


def _cause(error: BaseException) -> BaseException:
    """What the client wrapped: a failed upload arrives as a RuntimeError."""
    while type(error) is RuntimeError and error.__cause__ is not None:
        error = error.__cause__
    return error


def _status_of(error: BaseException) -> int | None:
    """The HTTP status of the Hub's answer, None where none came."""
    response = getattr(_cause(error), "response", None)
    return getattr(response, "status_code", None)


def _is_passing(error: BaseException) -> bool:
    """Whether the same request may well succeed later: no answer came, or the Hub said so."""

    status, cause = _status_of(error), _cause(error)
    if status is not None:
        return status in _PASSING
    return isinstance(cause, (HTTPError, ConnectionError, TimeoutError)) and not isinstance(cause, OfflineModeIsEnabled)
