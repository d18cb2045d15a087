"""Spaces of a search: plain words in, values of the options' own types out, every mistake named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from ct_xception.errors import InputError
from ct_xception.training.options import TrainConfig
from ct_xception.training.search.space import DEFAULT_SPACE, apply_options, parse_space, read_space

SPACE = """
learning_rate: {from: 1e-4, to: 1e-2, log: true}
loss: [cross_entropy, focal]
focal_gamma: {from: 1, to: 4, when: {loss: focal}}
filters: {choices: [[], [clahe]]}
batch_size: {from: 8, to: 32, step: 8}
augment.rotation: {from: 0, to: 30, step: 5}
body_crop: [true, false]
epochs: 3
"""


def test_a_file_becomes_trials_that_become_configurations(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)
    space = read_space(file)
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(sampler=sampler)
    seen = []
    for _ in range(30):
        trial = study.ask()
        options = space.suggest(trial)
        config = apply_options(TrainConfig(corpus="phantom", augment={"flip": "0"}), options)
        assert 1e-4 <= config.learning_rate <= 1e-2
        assert config.batch_size in (8, 16, 24, 32)
        assert config.epochs == 3
        assert config.augment["flip"] == "0"
        assert float(config.augment["rotation"]) in range(0, 31, 5)
        assert ("focal_gamma" in options) == (config.loss == "focal")
        assert space.values(trial.params) == options
        seen.append(config)
    assert {tuple(config.filters) for config in seen} == {(), ("clahe",)}
    assert {config.body_crop for config in seen} == {True, False}


def test_the_default_space_is_one_and_can_be_recorded() -> None:
    space = read_space(None)
    assert {one.name for one in space.dimensions} == set(DEFAULT_SPACE)
    assert parse_space(json.loads(json.dumps(space.to_json())), "again").to_json() == space.to_json()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"learning_rat": [1]}, "learning_rat is no option of training; did you mean learning_rate?"),
        ({"augment.rotatoin": [1]}, "did you mean augment.rotation?"),
        ({"seed": [1, 2]}, "seed says which data, luck or machine"),
        ({"corpus": ["a"]}, "corpus says which data"),
        ({"learning_rate": {"from": 1}}, "a range needs both from and to"),
        ({"learning_rate": {"from": 2, "to": 1}}, "is no range"),
        ({"learning_rate": {"from": 0, "to": 1, "log": True}}, "is no range for log"),
        ({"learning_rate": {"low": 0, "high": 1}}, "'low' is not one of"),
        ({"learning_rate": {"from": 1, "to": 2, "step": 0.1, "log": True}}, "do not go together"),
        ({"optimizer": {"from": 1, "to": 2}}, "takes no range"),
        ({"batch_size": [8, "many"]}, "'many' is not of the kind"),
        ({"batch_size": [8.5]}, "8.5 is not of the kind"),
        ({"optimizer": []}, "at least one value"),
        ({"epochs": 3}, "searches nothing"),
        ({"focal_gamma": {"from": 1, "to": 2, "when": {"loss": "focal"}}}, "when names loss"),
        (
            {
                "focal_gamma": {"from": 1, "to": 2, "when": {"mixup": 1}},
                "mixup": {"from": 0, "to": 1, "when": {"focal_gamma": 1}},
            },
            "wait for one another",
        ),
    ],
)
def test_mistakes_are_named(table: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=None) as raised:
        parse_space(table, "space.yaml")
    assert words in str(raised.value)
    assert "space.yaml" in str(raised.value)


def test_grids_hold_the_ends_and_whole_numbers() -> None:
    space = parse_space(
        {
            "learning_rate": {"from": 1e-4, "to": 1e-2, "log": True},
            "batch_size": {"from": 4, "to": 10},
            "loss": ["bce"],
        },
        "grid",
    )
    grid = space.grid(3)
    assert grid["learning_rate"] == pytest.approx([1e-4, 1e-3, 1e-2])
    assert grid["batch_size"] == [4, 7, 10]
    assert grid["loss"] == ['"bce"']
