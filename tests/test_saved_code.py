"""A saved network carries the code that it needs, no more, and that code builds it where this package is not."""

import json
import os
import subprocess
import sys
from functools import cache
from importlib import import_module

import pytest
import torch
from conftest import ROOT
from PIL import Image
from transformers import AutoConfig, AutoModelForSemanticSegmentation

from seg_models.modeling import SegmentationConfig
from seg_models.models import build_model
from seg_models.parts import DECODERS, ENCODERS
from seg_models.predictor import Predictor
from seg_models.views import Views
from seg_runs.card import carried_packages

NORM_FILES = {"evonorm", "names", "norms"}
OURS = NORM_FILES | {"layers", "losses", "modeling", "output", "parts"}
TIMM = {"timm_encoder"}
FILES = {  # in the order of loading: timm's encoders last
    "streetnet": OURS | {"resnet", "streetnet"},
    "streetnet_fine": OURS | {"resnet", "streetnet"},
    "streetnet_large": OURS | {"resnet", "streetnet"},
    "unet": OURS | {"unet"},
    "attention_unet": OURS | {"unet"},
    "encdec_maxunpool": OURS | {"maxunpool", "unet"},
    "unet_resnet18": OURS | {"resnet", "unet"},
    "fcn_resnet50": OURS | {"fcn", "resnet"},
    "deeplabv3_resnet50": OURS | {"deeplabv3", "resnet"},
    "deeplabv3plus_resnet18": OURS | {"deeplabv3", "deeplabv3plus", "resnet"},
    "pspnet_resnet18": OURS | {"pspnet", "resnet"},
    "acfnet_resnet50": OURS | {"acfnet", "deeplabv3", "resnet"},
    "segformer_swin_tiny": OURS | {"short_heads", "swin"},
    "segformer_b0": NORM_FILES | {"layers", "losses", "output", "segformer", "short_heads"},  # with norm group: ours
    "hrnet_w18": OURS | TIMM | {"hrnet"},
    "deeplabv3plus_resnest50": OURS | TIMM | {"deeplabv3", "deeplabv3plus"},
    "unet_convnext_tiny": OURS | TIMM | {"unet"},
}


@cache
def meta(name):
    """A network without memory for its weights."""
    with torch.device("meta"):
        return build_model(name, "group" if name == "segformer_b0" else "batch", {i: f"class {i}" for i in range(5)})


def save(name, folder):
    """Save a network. Our SegFormer's code comes with its weights, that of the others with the configuration."""
    if name == "segformer_b0":
        meta(name).to_empty(device="cpu").save_pretrained(folder)
        meta.cache_clear()  # it has memory now
    else:
        meta(name).config.save_pretrained(folder)


def code_in(folder) -> dict[str, str]:
    return {path.stem: path.read_text() for path in folder.glob("*.py")}


def without_package(folder, script, *words) -> subprocess.CompletedProcess:
    """Run a script of tests/ in `folder`, where this package cannot be imported."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(folder / "modules"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, ROOT / "tests" / script, *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_every_kind_is_here():
    configs = [meta(name).config for name in FILES if name != "segformer_b0"]
    assert {config.decoder for config in configs} == DECODERS.keys()
    assert {ENCODERS.get(config.encoder, ENCODERS["timm"]) for config in configs} == set(ENCODERS.values())


@pytest.mark.parametrize("name", FILES)
def test_a_network_carries_its_own_files_only(name, tmp_path):
    save(name, tmp_path)
    code = code_in(tmp_path)
    assert code.keys() == FILES[name]
    needed = {"torch", "torchvision", "transformers"} | ({"timm"} if FILES[name] & TIMM else set())
    assert set(carried_packages(tmp_path)) == needed  # of a model on a hub, each file's imports must be installed
    for file in code.keys() - {"parts"}:  # parts.py is written, the others are copies
        assert code[file] == (ROOT / "seg_models" / f"{file}.py").read_text()


def test_every_network_is_built_alone_and_saved_again_with_the_same_code(tmp_path):
    """One process for all of them, so that files of one network cannot be taken for those of another either."""
    for name in FILES:
        save(name, tmp_path / name)
    folders = [tmp_path / name for name in FILES]
    done = without_package(tmp_path, "building.py", tmp_path / "found.json", *folders)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    for name, folder in zip(FILES, folders, strict=True):
        seen = found[str(folder)]
        assert seen["module"] == "transformers_modules"
        assert seen["shapes"] == {key: list(tensor.shape) for key, tensor in meta(name).state_dict().items()}
        assert seen["timm"] == bool(FILES[name] & TIMM)  # the others load where timm is not installed
        assert code_in(folder / "again") == code_in(folder)


def test_weights_come_back_with_the_carried_code(tmp_path):
    torch.manual_seed(0)
    model = build_model("streetnet_fine", "evo", {i: f"class {i}" for i in range(5)}).eval()
    model.save_pretrained(tmp_path / "net")
    pixels = torch.randn(1, 3, 49, 65)
    torch.save(pixels, tmp_path / "pixels.pt")
    Image.new("RGB", (65, 49)).save(tmp_path / "photo.png")
    Predictor(model, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), Views()).image_processor().save_pretrained(tmp_path / "net")
    words = (tmp_path / "photo.png", tmp_path / "pixels.pt", tmp_path / "found.pt", tmp_path / "net")
    done = without_package(tmp_path, "loading.py", *words)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "found.pt", weights_only=True)[str(tmp_path / "net")]
    with torch.no_grad():
        torch.testing.assert_close(found["logits"], model(pixels).logits, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(found["weights"][key], tensor) for key, tensor in model.state_dict().items())


def test_a_folder_says_what_it_has_no_code_for(tmp_path, monkeypatch):
    meta("streetnet").config.save_pretrained(tmp_path / "carried")
    monkeypatch.syspath_prepend(tmp_path)
    carried = import_module("carried.modeling")
    with pytest.raises(ValueError, match=r"encoder resnet18 is not among .* code for: \['streetnet'\]"):
        carried.SegmentationModel(carried.SegmentationConfig("resnet18", "streetnet"))
    with pytest.raises(ValueError, match="unknown decoder 'unet': choose one of streetnet$"):
        carried.SegmentationModel(carried.SegmentationConfig("streetnet", "unet"))


def test_no_network_is_saved_that_could_not_be_built(tmp_path):
    with pytest.raises(ValueError, match="unknown decoder 'nothing': choose one of acfnet, "):
        SegmentationConfig(decoder="nothing").save_pretrained(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_saving_after_loading_from_a_hub_names_the_folders_own_code(tmp_path):
    config = meta("streetnet").config
    config.auto_map = {"AutoConfig": "user/net--modeling.SegmentationConfig"}
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == {
        "AutoConfig": "modeling.SegmentationConfig",
        "AutoModelForSemanticSegmentation": "modeling.SegmentationModel",
    }
    with torch.device("meta"):
        again = AutoModelForSemanticSegmentation.from_config(AutoConfig.from_pretrained(tmp_path))
    assert type(again).__module__ == "seg_models.modeling"  # where the package is, its classes are used
