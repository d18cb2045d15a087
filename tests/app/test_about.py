"""The About tab: a card's words and figures, and nothing of its front matter or of other files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ct_xception_app.about import NO_CARD, card_text
from PIL import Image

from ct_xception.serving.classifier import Classifier

CARD = """---
license: apache-2.0
---
# A title

**The corpus leaks** ([what was found](#leaks)); see [`metrics`](evaluation/metrics.json) and [paper](https://x.org/a).

![ROC curves](evaluation/roc.png) ![Elsewhere](../secret.png) ![Missing](evaluation/none.png)

## Leaks

```python
# a comment
```
"""


@pytest.fixture
def carded(tiny_checkpoint: Path, tmp_path: Path) -> Classifier:
    folder = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "README.md").write_text(CARD)
    (folder / "evaluation").mkdir()
    Image.new("RGB", (3, 2)).save(folder / "evaluation" / "roc.png")
    Image.new("RGB", (3, 2)).save(tmp_path / "secret.png")
    return Classifier.from_pretrained(folder)


def test_the_card_is_shown_with_its_figures_inside(carded: Classifier) -> None:
    text = card_text(carded)
    assert "license" not in text and "## A title" in text and "### Leaks" in text and "\n# a comment" in text
    assert "![ROC curves](data:image/png;base64," in text
    assert "*Elsewhere*" in text and "*Missing*" in text and text.count("data:image") == 1
    assert "see `metrics` and [paper](https://x.org/a)" in text and "[what was found](#leaks)" in text


def test_without_a_card_the_page_says_so(tiny_checkpoint: Path) -> None:
    assert card_text(Classifier.from_pretrained(tiny_checkpoint)) == NO_CARD
