"""What no trial could be trained with is told before a search begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ct_xception.errors import InputError
from ct_xception.training.options import TrainConfig
from ct_xception.training.search.check import check_search
from ct_xception.training.search.space import parse_space
from ct_xception.training.search.study import Search, SearchOptions

RECIPE = TrainConfig(corpus="phantom", weights="none")


def make(space: dict[str, Any], **proxy: Any) -> Search:
    return Search(RECIPE, proxy, parse_space(space, "a test"), SearchOptions(), Path("nowhere"), "sqlite://")


@pytest.mark.parametrize(
    ("space", "proxy", "said"),
    [
        ({"optimizer": ["adamw", "adamx"]}, {}, "^--space: optimizer: 'adamx' is not one of timm's"),
        ({"loss": ["focal", "hinge"]}, {}, "^--space: loss: 'hinge' is not one of"),
        ({"backbone": ["xception41", "resnet50"]}, {}, "^--space: backbone: .*resnet50"),
        ({"image_size": {"from": 16, "to": 128}}, {}, "^--space: image_size: 16 is out of range"),
        ({"augment.rotation": {"from": 0, "to": 90}}, {}, "^--space: augment.rotation: .*90"),
        ({"optimizer": ["adamw", "sgd"], "loss": "hinge"}, {}, "loss: 'hinge'"),
        ({"focal_gamma": {"from": -1, "to": 2, "when": {"loss": "focal"}}, "loss": ["focal"]}, {}, "focal_gamma: -1"),
        ({"dropout": [0.1, 0.2]}, {"image_size": 48}, "^--proxy: .*48"),
    ],
)
def test_a_value_that_no_trial_could_have_is_named(space: dict[str, Any], proxy: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_search(make(space, **proxy))


def test_what_goes_together_in_the_space_alone_is_no_mistake() -> None:
    check_search(make({"small_size": [0, 96], "small_epochs": [0, 1]}))
    check_search(make({"learning_rate": {"from": 1e-4, "to": 1e-2, "log": True}, "optimizer": ["adam", "rmsprop"]}))


def test_what_makes_trials_cheap_goes_before_what_the_space_fixes() -> None:
    search = make({"dropout": [0.1, 0.2], "epochs": 8}, epochs=1, image_size=64)
    trial = search.configure({"dropout": 0.2, "epochs": 8})
    assert (trial.epochs, trial.image_size, trial.dropout) == (1, 64, 0.2)


def test_what_is_searched_is_not_made_cheap() -> None:
    with pytest.raises(InputError, match="--proxy epochs: the space searches it, too; leave it out of one of them"):
        make({"epochs": [4, 8]}, epochs=1)
