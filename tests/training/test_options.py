"""Options: every bad one is named in a sentence, YAML and command line agree, nothing unknown is swallowed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from ct_xception.errors import InputError
from ct_xception.imaging.transforms import AugmentConfig
from ct_xception.training.options import (
    EVIDENCE,
    FREE_TO_DIFFER,
    TrainConfig,
    augment_config,
    build_parser,
    config_from_mapping,
    parse_config,
)

RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_command_line_reaches_every_field() -> None:
    config = parse_config(
        ["--corpus", "phantom", "--epochs", "3", "--no-body_crop", "--filters", "median", "clahe", "--window", "lung"]
        + ["--class_map", "a.b=adenocarcinoma", "--class_map", "c=normal", "--augment", "rotation=5", "flip=0"]
    )
    assert (config.epochs, config.body_crop, config.filters) == (3, False, ["median", "clahe"])
    assert config.class_map == {"a.b": "adenocarcinoma", "c": "normal"}
    assert (augment_config(config).rotation, augment_config(config).flip) == (5.0, 0.0)
    assert (config.reading.window.centre, config.reading.window.width) == (-600, 1500)
    assert config.reading.body_crop is False


def test_help_names_every_option_with_its_default() -> None:
    text = build_parser().format_help()
    for field in dataclasses.fields(TrainConfig):
        assert f"--{field.name}" in text
    assert "(default: 0.001)" in text and "research use" in text


def test_yaml_gives_defaults_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("corpus: phantom\nepochs: 7\nlearning_rate: 1e-4\nfilters: [median]\nwindow:\n")
    config = parse_config(["--config", str(file), "--epochs", "2"])
    assert (config.corpus, config.epochs, config.learning_rate) == ("phantom", 2, 1e-4)
    assert (config.filters, config.window) == (["median"], None)


def test_a_bare_no_in_yaml_is_the_word(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("corpus: phantom\nmixed_precision: no\naugment: {rotation: 5}\n")
    config = parse_config(["--config", str(file)])
    assert config.mixed_precision == "no" and augment_config(config).rotation == 5.0


def test_a_config_survives_its_own_json(tmp_path: Path) -> None:
    config = TrainConfig(corpus="phantom", filters=["median"], class_map={"a": "b"})
    assert config_from_mapping(config.mapping) == config


def test_class_groups_are_lists_of_classes_however_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("corpus: phantom\nclass_groups: {cancer: [adeno, squamous], normal: normal}\n")
    wanted = {"cancer": ["adeno", "squamous"], "normal": ["normal"]}
    assert parse_config(["--config", str(file)]).class_group_lists == wanted
    words = ["--corpus", "phantom", "--class_groups", "cancer=adeno,squamous", "normal=normal"]
    assert parse_config(words).class_group_lists == wanted


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda file: file.stem)
def test_recipes_are_taken_as_they_stand(file: Path) -> None:
    stated = yaml.safe_load(file.read_text())
    config = parse_config(["--config", str(file), *([] if "corpus" in stated else ["--corpus", "phantom"])])
    augment = {name: float(value) for name, value in stated.pop("augment", {}).items()}
    assert {name: type(value)(getattr(config, name)) for name, value in stated.items()} == stated
    assert dataclasses.asdict(augment_config(config)) == dataclasses.asdict(AugmentConfig()) | augment


def test_what_is_measured_does_not_bind_a_run() -> None:
    """A later --protocols grouped must find the run that was trained without."""
    assert EVIDENCE <= FREE_TO_DIFFER and {"protocols", "folds", "only_fold"} <= EVIDENCE


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"corpus": ""}, "--corpus: not given"),
        ({"frozen_blocks": 3, "weights": "none"}, "--frozen_blocks: random blocks would stay random"),
        ({"epochs": 0}, "--epochs: 0 is out of range; give a value from 1"),
        ({"epochs": "three"}, "--epochs: 'three' is not a whole number"),
        ({"epochs": True}, "--epochs: True is not a whole number"),
        ({"epoch": 3}, "unknown option epoch"),
        ({"batch_size": 1}, "--batch_size: 1 is out of range"),
        ({"learning_rate": float("nan")}, "--learning_rate: nan"),
        ({"loss": "hinge"}, "--loss: 'hinge' is not one of cross_entropy, focal, bce"),
        ({"metric": "luck"}, "--metric: 'luck' is not one of loss"),
        ({"filters": ["sharpen"]}, "--filters: 'sharpen' is not one of median, clahe"),
        ({"trackers": ["paper"]}, "--trackers: 'paper' is not one of tensorboard"),
        ({"window": "chest"}, "chest"),
        ({"augment": {"turn": "3"}}, "--augment: 'turn' is not one of"),
        ({"augment": {"rotation": "much"}}, "rotation=much is not a number"),
        ({"augment": {"rotation": "500"}}, "rotation"),
        ({"mixup": 0.2, "batch_size": 15}, "--mixup: pairs the images"),
        ({"small_epochs": 3}, "--small_epochs and --small_size: .* give both or none"),
        ({"small_size": 96}, "--small_epochs and --small_size: .* give both or none"),
        ({"small_size": 192, "small_epochs": 3}, "--small_size: 192 is not below --image_size 192"),
        ({"small_size": 96, "small_epochs": 20}, "--small_epochs: 20 of 20 epochs leave none"),
        ({"freeze_epochs": 20}, "--freeze_epochs: 20 of 20 epochs"),
        ({"valid_fraction": 0.6, "test_fraction": 0.4}, "less than a tenth for training"),
        ({"class_map": ["a=b"]}, "--class_map: .* is not a table"),
        ({"class_map": {"a": None}}, "--class_map: a: None is neither text nor a number"),
        ({"augment": {"rotation": None}}, "--augment: rotation: None"),
        ({"resume": "auto"}, "--resume auto: needs --output_dir"),
        ({"frame": -1}, "--frame: -1 is below 0"),
        ({"protocols": ["random"]}, "--protocols: 'random' is not one of published, deduplicated, grouped"),
        ({"only_fold": 2}, "--only_fold: .* add --protocols grouped"),
        ({"only_fold": 6, "protocols": ["grouped"]}, "--only_fold: 6 is none of the folds 1 to 5"),
        ({"folds": 1}, "--folds: 1 is out of range"),
        ({"class_groups": {"cancer": "a,b", "normal": "b"}}, "--class_groups: a class is empty or in two groups"),
    ],
)
def test_bad_values_are_named(values: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        config_from_mapping({"corpus": "phantom"} | values)


@pytest.mark.parametrize(
    ("text", "words"),
    [("- a\n- b\n", "holds no options"), ("corpus: [", "is not YAML"), ("epohcs: 3\n", "unknown option epohcs")],
)
def test_bad_yaml_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        parse_config(["--config", str(file)])
    with pytest.raises(InputError, match="cannot be read"):
        parse_config(["--config", str(tmp_path / "absent.yaml")])
