"""The one place that fetches from the Hub: one pattern of its names, one translation of what goes wrong.

    HubId.parse("user/repo@v2")                    # None where the text is no such name
    fetch(HubId("user/repo"), ["config.json"])     # the folder of a snapshot that holds these files

No code of a repository is run, and nothing is asked of the Hub but what is named.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ct_xception.errors import InputError, printable

ANSWER_SECONDS = 5.0  # to wait for the Hub's first answer
_NAME = re.compile(r"(?P<repo>\w[\w.-]{0,95}/\w[\w.-]{0,95}?)(?:@(?P<revision>[\w./-]{1,200}))?")


class HubError(InputError):
    """What was asked of the Hub is not to be had: `name`, the `problem`, and what to do, in one sentence."""

    def __init__(self, name: object, problem: str) -> None:
        self.problem = problem
        super().__init__(f"{printable(name)}: {problem}.")


@dataclass(frozen=True)
class HubId:
    """A repository of the Hub, at a branch, tag or commit where one is named."""

    repo: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubId | None:
        """`user/repo` or `user/repo@revision`; None for anything else."""
        match = _NAME.fullmatch(text)
        return None if match is None else cls(match["repo"], match["revision"])

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


@contextlib.contextmanager
def hub_errors(source: HubId) -> Iterator[None]:
    """Raise as HubError whatever the Hub's client, or a library on top of it, raises within."""
    try:
        yield
    except Exception as error:  # a dozen unrelated classes for "no answer"
        raise HubError(source, _problem(error)) from error


def fetch(source: HubId, files: Sequence[str]) -> Path:
    """The snapshot folder of a model repository with those of `files` (patterns) that it has. Raises HubError.

    The folder's name is the commit.
    """
    from huggingface_hub import snapshot_download

    with hub_errors(source):
        return Path(
            snapshot_download(
                source.repo, revision=source.revision, etag_timeout=ANSWER_SECONDS, allow_patterns=list(files)
            )
        )


def fetch_file(source: HubId, file: str) -> Path:
    """One file of a model repository. Raises HubError."""
    from huggingface_hub import hf_hub_download

    with hub_errors(source):
        return Path(hf_hub_download(source.repo, file, revision=source.revision, etag_timeout=ANSWER_SECONDS))


def find_dataset(source: HubId) -> None:
    """Ask whether a dataset is there, unless the Hub is switched off: `datasets` alone would try for half a minute.

    Raises HubError within seconds.
    """
    import huggingface_hub

    if not huggingface_hub.constants.is_offline_mode():
        with hub_errors(source):
            huggingface_hub.HfApi().dataset_info(source.repo, revision=source.revision, timeout=2 * ANSWER_SECONDS)


def _problem(error: Exception) -> str:
    """What went wrong and what to do, without the name."""
    import huggingface_hub
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return "the Hub repository is gated; ask for access on its page, then `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return "the Hub repository has no such revision; name a branch, tag or commit"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; make room, and try again"
    if huggingface_hub.constants.is_offline_mode() and not isinstance(error, HFValidationError):
        return (
            "nothing of that name here, and the Hub is switched off (HF_HUB_OFFLINE) with no copy cached; unset it, "
            "or give what lies here"
        )
    if (
        isinstance(error, (RepositoryNotFoundError, HFValidationError))
        or type(error).__name__ == "DatasetNotFoundError"
    ):
        return "nothing of that name here, nor on the Hub where you may read it; mend the name, or `hf auth login`"
    reason = printable(" ".join(str(error).split()))[:160] or type(error).__name__
    if isinstance(error, (LocalEntryNotFoundError, OSError)) or type(error).__module__.startswith("httpx"):
        return f"nothing of that name here, and the Hub does not answer ({reason}); try again later"
    return f"cannot be loaded from the Hub ({reason}); fetch it elsewhere (hf download), and give the folder"
