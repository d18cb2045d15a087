"""What goes wrong on the way to the Hub, each in one sentence: whose turn it is, and what to do."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ct_xception.errors import InputError, printable

_PASSING = {408, 425, 429, 500, 502, 503, 504}


class PushError(OSError):
    """The Hub or this machine stopped a push that was asked for rightly; one sentence. Pushing again goes on."""


@dataclass(frozen=True)
class Target:
    """Where something goes: a repository of one kind ("model", "dataset" or "space")."""

    repo_id: str
    kind: str = "model"

    def __str__(self) -> str:
        return self.repo_id if self.kind == "model" else f"{self.kind}s/{self.repo_id}"


@contextlib.contextmanager
def one_sentence(target: Target) -> Iterator[None]:
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
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

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
    if is_passing(cause):
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


def taken(target: Target, tag: str | None) -> InputError:
    """A tag that stands for another version."""
    return InputError(f"{target}: the version {tag} exists already, and is something else; choose another --tag.")


def overtaken(target: Target) -> PushError:
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


def status_of(error: BaseException) -> int | None:
    """The HTTP status of the Hub's answer, None where none came."""
    response = getattr(_cause(error), "response", None)
    return getattr(response, "status_code", None)


def is_passing(error: BaseException) -> bool:
    """Whether the same request may well succeed later: no answer came, or the Hub said so."""
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

    status, cause = status_of(error), _cause(error)
    if status is not None:
        return status in _PASSING
    return isinstance(cause, (HTTPError, ConnectionError, TimeoutError)) and not isinstance(cause, OfflineModeIsEnabled)
