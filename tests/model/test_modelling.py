"""The network and its checkpoint: stock readers give the same logits, classes change cleanly, the maths is exact."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ct_xception.errors import CheckpointError, InputError
from ct_xception.model.configuration import BACKBONES
from ct_xception.model.modelling import LUMINANCE, CTXceptionForImageClassification
from tests.closeness import ROUNDING, assert_near
from tests.networks import enliven

NAMES = ["adenocarcinoma", "large cell carcinoma", "normal"]
SIZE = 64


def make(backbone: str = "legacy_xception", names: list[str] = NAMES, **options) -> CTXceptionForImageClassification:
    """A random network that tells pictures apart."""
    model = CTXceptionForImageClassification.from_backbone(backbone, names, SIZE, **options)
    return enliven(model, batches=1)


@pytest.fixture(scope="module")
def pixel_values() -> torch.Tensor:
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CTXceptionForImageClassification]:
    folder = tmp_path_factory.mktemp("checkpoint")
    model = make()
    model.save_pretrained(folder)
    return folder, model


def logits(model: torch.nn.Module, pixel_values: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        answer = model(pixel_values)
    return getattr(answer, "logits", answer)


def test_the_networks_of_these_tests_tell_pictures_apart(pixel_values: torch.Tensor) -> None:
    first, second = logits(make(), pixel_values)
    assert (first - second).abs().max() > 1e-2


def test_every_backbone_is_one_of_timm_and_answers_with_one_logit_a_class(pixel_values: torch.Tensor) -> None:
    import timm

    assert set(BACKBONES) <= set(timm.list_models("*xception*")) | {"legacy_xception"}
    for backbone in ("legacy_xception", "xception41p"):
        model = make(backbone, ["a", "b"])
        assert logits(model, pixel_values).shape == (2, 2)
        features = model.features(pixel_values)
        assert features.shape[1:] == (2048, 2, 2)
        assert torch.equal(model.classify(features), model(pixel_values).logits)


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name != "legacy_xception"])
def test_aligned_backbones_build_and_save_stock(backbone: str, tmp_path: Path, pixel_values: torch.Tensor) -> None:
    import timm

    model = make(backbone)
    model.save_pretrained(tmp_path)
    stock = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert_near(logits(stock, pixel_values), logits(model, pixel_values))


def test_timm_reads_the_folder_with_equal_logits(saved, pixel_values: torch.Tensor) -> None:
    import timm

    folder, model = saved
    stock = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert_near(logits(stock, pixel_values), logits(model, pixel_values))


STOCK = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ct_xception":
            raise ImportError("hidden")
sys.meta_path.insert(0, Hidden())
try:
    import ct_xception
except ImportError:
    pass
else:
    sys.exit("ct_xception can be imported")
import json, torch
from transformers import AutoModelForImageClassification, pipeline
folder = sys.argv[1]
model = AutoModelForImageClassification.from_pretrained(folder).eval()
pixel_values = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
with torch.inference_mode():
    logits = model(pixel_values).logits.tolist()
from PIL import Image
picture = Image.linear_gradient("L").resize((90, 60))
answer = pipeline("image-classification", model=folder)(picture)
print(json.dumps({"logits": logits, "answer": answer, "class": type(model).__name__}))
"""


def test_stock_transformers_answers_in_a_process_without_the_package(saved, pixel_values: torch.Tensor) -> None:
    from PIL import Image

    from ct_xception.imaging.reader import read_slice
    from ct_xception.imaging.transforms import EvalTransform

    folder, model = saved
    done = subprocess.run([sys.executable, "-c", STOCK, str(folder)], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["class"] == "TimmWrapperForImageClassification"
    assert_near(found["logits"], logits(model, pixel_values))
    slice_ = read_slice(Image.linear_gradient("L").resize((90, 60)))
    ours = logits(model, EvalTransform(model.config.pretrained_cfg)(slice_)[None]).softmax(dim=1)[0]
    stock = {item["label"]: item["score"] for item in found["answer"]}
    assert stock == pytest.approx(dict(zip(NAMES, ours.tolist(), strict=True)), abs=ROUNDING)


def test_save_load_save_gives_the_same_bytes(saved, tmp_path: Path) -> None:
    folder, _ = saved
    CTXceptionForImageClassification.from_pretrained(folder).save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_config_is_stock(saved) -> None:
    folder, _ = saved
    config = json.loads((folder / "config.json").read_text())
    assert config["label_names"] == NAMES and config["num_classes"] == 3
    assert config["architectures"] == ["TimmWrapperForImageClassification"]
    assert config["model_type"] == "timm_wrapper" and config["model_args"] == {}
    assert "auto_map" not in config and "num_classes" not in config["pretrained_cfg"]
    assert (config["pretrained_cfg"]["crop_pct"], config["pretrained_cfg"]["crop_mode"]) == (1.0, "squash")
    assert all(not key.startswith("timm_model") for key in load_file(folder / "model.safetensors"))


def test_fine_tuning_to_other_classes_takes_the_new_names_and_the_old_body(saved, tmp_path: Path) -> None:
    folder, model = saved
    other = make(names=["benign", "malignant"], weights=str(folder))
    other.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["label_names"] == ["benign", "malignant"] and config["num_classes"] == 2
    assert torch.equal(other.timm_model.conv1.weight, model.timm_model.conv1.weight)
    assert CTXceptionForImageClassification.from_pretrained(tmp_path).label_names == ["benign", "malignant"]


def test_stem_tied_to_luminance_reads_colour_as_grey_and_leaves_grey_alone() -> None:
    model = make()
    colour = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    grey = (colour * torch.tensor(LUMINANCE).view(1, 3, 1, 1)).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    before = logits(model, grey * 2 - 1)
    assert (logits(model, colour * 2 - 1) - before).abs().max() > 1e-2  # colour counted until now
    model.tie_stem_to_luminance()
    assert_near(logits(model, grey * 2 - 1), before)
    assert_near(logits(model, colour * 2 - 1), before)


def test_class_activation_map_averages_to_the_logit(pixel_values: torch.Tensor) -> None:
    model, target = make(), torch.tensor([0, 2])
    with torch.inference_mode():
        cam = model.class_activation_map(model.features(pixel_values), target)
        expected = model(pixel_values).logits[torch.arange(2), target] - model.head.bias[target]
    assert_near(cam.mean(dim=(1, 2)), expected)


def test_temperature_divides_the_logits(pixel_values: torch.Tensor) -> None:
    model = make()
    before = logits(model, pixel_values)
    model.fold_temperature(2.5)
    assert_near(logits(model, pixel_values), before / 2.5)


@pytest.mark.parametrize("backbone", ["legacy_xception", "xception41"])
def test_dropout_drops_while_training_only(backbone: str, pixel_values: torch.Tensor) -> None:
    model = make(backbone, dropout=0.5)
    features = model.features(pixel_values)
    model.timm_model.train()
    torch.manual_seed(0)
    assert not torch.equal(model.classify(features), model.classify(features))
    model.timm_model.eval()
    assert torch.equal(model.classify(features), model.classify(features))


@pytest.mark.parametrize(("backbone", "blocks"), [("legacy_xception", 12), ("xception41", 13)])
def test_first_blocks_hold_the_network_up_to_there(backbone: str, blocks: int) -> None:
    model = make(backbone)
    assert model.block_count == blocks and model.first_blocks(0) == []
    kept = {id(weight) for module in model.first_blocks(blocks - 1) for weight in module.parameters()}
    last = "timm_model.block12." if backbone == "legacy_xception" else "timm_model.blocks.12."
    rest = [name for name, weight in model.named_parameters() if id(weight) not in kept]
    assert rest[0].startswith(last) and all(id(weight) in kept for weight in itertools.islice(model.parameters(), 5))
    with pytest.raises(InputError, match=f"from 0 to {blocks}"):
        model.first_blocks(blocks + 1)


def test_the_seed_governs_random_weights() -> None:
    build = CTXceptionForImageClassification.from_backbone
    first, same, other = (build("legacy_xception", NAMES, SIZE, seed=seed) for seed in (1, 1, 2))
    for key in ("conv1.weight", "fc.weight"):
        kept = first.timm_model.state_dict()[key]
        assert torch.equal(kept, same.timm_model.state_dict()[key])
        assert not torch.equal(kept, other.timm_model.state_dict()[key])


def test_weights_that_do_not_fit_are_refused_in_one_sentence(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("not safetensors")
    for name, words in [
        ("other.safetensors", "does not fit the backbone"),
        ("text.safetensors", "not a readable safetensors file"),
        ("absent.safetensors", "is not a file"),
    ]:
        with pytest.raises(CheckpointError, match=words):
            make(weights=str(tmp_path / name))


def test_hub_weights_fail_quickly_and_say_what_to_do_offline() -> None:
    with pytest.raises(CheckpointError, match=r"timm/legacy_xception\.tf_in1k could not be had.*--weights FILE"):
        make(weights="hub")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backbone": "resnet50"}, "'resnet50' is not one of legacy_xception"),
        ({"backbone": "hf-hub:user/repo"}, "is not one of"),
        ({"label_names": ["one"]}, "two or more"),
        ({"label_names": ["one", "one"]}, "more than once"),
        ({"image_size": 16}, "16 is out of range"),
        ({"dropout": 1.0}, "dropout: 1.0"),
    ],
)
def test_bad_options_are_named(options: dict, words: str) -> None:
    values = {"backbone": "legacy_xception", "label_names": NAMES, "image_size": SIZE} | options
    with pytest.raises(InputError, match=words):
        CTXceptionForImageClassification.from_backbone(**values)


@pytest.mark.real_corpus
def test_imagenet_weights_load_into_the_body(reference_weights: Path) -> None:
    model = make(weights=str(reference_weights))
    assert torch.equal(model.timm_model.conv1.weight, load_file(reference_weights)["conv1.weight"])
