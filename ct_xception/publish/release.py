"""A checkpoint folder made ready for one address on the Hub: checked whole, its card filled in, sealed anew.

    files = release_checkpoint("runs/mine/model", "user/repo")

The folder itself is not touched. What leaves is {path in the repository: a file, or the bytes that replace it}.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ct_xception.checkpoint import CARD, SIDE_FILE
from ct_xception.checkpoint_files import Side, check_seal, need_side, side_text
from ct_xception.corpus.summary import is_generated
from ct_xception.errors import CheckpointError, printable
from ct_xception.publish.card.card import card_address, render_card
from ct_xception.publish.card.markdown import packaged_template
from ct_xception.publish.clearance import Content, check_checkpoint, check_links, list_files
from ct_xception.publish.hosted.endpoint import handler_files, handler_hashes, without_handler
from ct_xception.publish.imported import refuse_imported
from ct_xception.publish.lineage import refuse_unfit
from ct_xception.publish.site_versions import refuse_site_version
from ct_xception.publish.verify import read_evidence

_FILE_NAMES = re.compile(r"[\w./-]+\.\w+")


def release_checkpoint(
    folder: str | Path, repo_id: str, *, new_card: bool = False, handler: bool = False
) -> dict[str, Content]:
    """The files to publish as `repo_id`: those of the folder, with a card and a manifest for that address.

    Raises CheckpointError, one sentence, where the folder is not what its manifest says, its figures are not those of
    its weights and answers, its card is not the one that its files give (`new_card` writes it anew instead), or where
    it holds what may not be published. `handler` adds what an Inference Endpoint needs, or replaces an older one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"{printable(folder)}: no such folder; name a checkpoint folder, such as runs/NAME/model."
        )
    check_links(folder)
    files: dict[str, Content] = dict(list_files(folder))
    side = need_side(folder).to_json()
    refuse_imported(folder, side)
    refuse_unfit(folder, side)
    refuse_site_version(folder, side)
    check_seal(folder, files, side.get("manifest") or {})
    phantom = is_generated(side.get("provenance", {}).get("corpus", {}))
    code = handler_hashes() if handler else {}
    if handler:
        files = without_handler(files) | handler_files()
        side["manifest"] = {name: side["manifest"][name] for name in files if name in side["manifest"]} | code
    check_checkpoint(files, phantom=phantom, quotable=_FILE_NAMES.findall(packaged_template()), code=code)
    card = _card(folder, repo_id, new_card, handler).encode()
    side["manifest"][CARD] = hashlib.sha256(card).hexdigest()
    return {**files, CARD: card, SIDE_FILE: side_text(Side.of(side)).encode()}


def _card(folder: Path, repo_id: str, new_card: bool, handler: bool) -> str:
    """The card for `repo_id`, after the folder's own is found to be what its files give under the name it has now."""
    evidence = read_evidence(folder)
    if new_card or not (folder / CARD).is_file():
        return render_card(folder, repo_id=repo_id, evidence=evidence, handler=handler)
    text = (folder / CARD).read_text(encoding="utf-8")
    known, license = card_address(text)
    if text != render_card(folder, repo_id=known, license=license, evidence=evidence):
        raise CheckpointError(
            f"{printable(folder)}: {CARD} is not the card that its files give; push with --new_card to write it anew."
        )
    return render_card(folder, repo_id=repo_id, license=license, evidence=evidence, handler=handler)
