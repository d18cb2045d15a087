"""A dataset of the Hub as a corpus: `USER/NAME`, or `USER/NAME@REVISION` for one version of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ct_xception.corpus.listing import CorpusOptions, Listing
from ct_xception.corpus.sources import Source
from ct_xception.errors import CorpusError, printable

if TYPE_CHECKING:
    import datasets

HUB_SECONDS = 10.0  # to wait for the Hub's first answer


def list_hub(name: str, options: CorpusOptions) -> Listing:
    """List a dataset of the Hub, downloaded into the cache of `datasets`."""
    from ct_xception.corpus.arrow import list_splits  # imports datasets

    return list_splits(Listing(SOURCE.kind, exact_labels=True), name, _download(name), options)


def _download(name: str) -> datasets.DatasetDict:
    """A Hub dataset, or one clear sentence within seconds; code of the dataset's own is never run."""
    import datasets
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    repo, _, revision = name.partition("@")
    try:
        if not huggingface_hub.constants.is_offline_mode():
            # Asked first: `datasets` alone would try an absent Hub six times, for half a minute.
            huggingface_hub.HfApi().dataset_info(repo, revision=revision or None, timeout=HUB_SECONDS)
        return datasets.load_dataset(repo, revision=revision or None)
    except GatedRepoError:
        problem = f"the Hub dataset {repo} is gated; ask for access on its page and log in with hf auth login"
    except (RepositoryNotFoundError, RevisionNotFoundError, datasets.exceptions.DatasetNotFoundError):
        problem = f"{name} is neither a folder here nor a dataset of the Hub that you may read; check the name"
    except Exception as error:  # a dozen classes, of httpx2, of datasets and of its readers
        problem = _hub_failure(name, error)
    raise CorpusError([problem])


def _hub_failure(name: str, error: Exception) -> str:
    import huggingface_hub

    reason = printable(" ".join(str(error).split()))[:200] or type(error).__name__
    if huggingface_hub.constants.is_offline_mode():
        remedy = "unset HF_HUB_OFFLINE to download it, or give a folder or a table"
        return f"{name} is no folder here, and the Hub is switched off (HF_HUB_OFFLINE) with no copy cached; {remedy}"
    if isinstance(error, OSError) or type(error).__module__.startswith("httpx"):
        remedy = "check the network, or give a folder or a table"
        return f"{name} is no folder here, and the Hub did not answer ({reason}); {remedy}"
    return f"the Hub dataset {name} cannot be loaded ({reason}); download it and give its folder"


SOURCE = Source(
    "hub",
    "a Hub dataset as USER/NAME",
    lambda name: re.fullmatch(r"[\w][\w.-]*/[\w][\w.-]*(@[\w./-]+)?", name) is not None,
    list_hub,
    rank=0,
    public=True,
)
