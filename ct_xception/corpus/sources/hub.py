"""A dataset of the Hub as a corpus: `USER/NAME`, or `USER/NAME@REVISION` for one version of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct_xception.corpus.listing import CorpusOptions, Listing
from ct_xception.corpus.sources import Source
from ct_xception.errors import CorpusError
from ct_xception.hub_download import HubError, HubId, find_dataset, hub_errors

if TYPE_CHECKING:
    import datasets


def list_hub(name: str, options: CorpusOptions) -> Listing:
    """List a dataset of the Hub, downloaded into the cache of `datasets`."""
    from ct_xception.corpus.arrow import list_splits  # imports datasets

    return list_splits(Listing(SOURCE.kind, exact_labels=True), name, _download(name), options)


def _download(name: str) -> datasets.DatasetDict:
    """A Hub dataset, or one clear sentence within seconds; code of the dataset's own is never run."""
    import datasets

    source = HubId.parse(name)
    assert source is not None  # as SOURCE recognises
    try:
        find_dataset(source)
        with hub_errors(source):
            return datasets.load_dataset(source.repo, revision=source.revision)
    except HubError as error:
        raise CorpusError([str(error)]) from error


SOURCE = Source(
    "hub",
    "a Hub dataset as USER/NAME",
    lambda name: HubId.parse(name) is not None,
    list_hub,
    rank=0,
    public=True,
)
