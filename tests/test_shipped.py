"""The network that comes with the project: what it is, and that it answers where there is no run."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import CAMVID, ROOT
from PIL import Image
from safetensors.torch import load_file

from seg_jobs import model_paths
from seg_jobs.model_paths import SHIPPED, find_model
from seg_jobs.trained_model import load_model
from seg_models.modeling import save_code
from seg_runs.errors import RunError

ON_BOTH = SHIPPED.with_name("camvid_streetnet_trainval")
ON_DISK = sum(path.stat().st_size for path in SHIPPED.rglob("*"))


def test_it_is_small_and_in_half_precision():
    assert SHIPPED == ROOT / "checkpoints" / "camvid_streetnet" and ON_DISK < 16 * 2**20
    tensors = load_file(SHIPPED / "model.safetensors")
    halves = sum(t.numel() for t in tensors.values() if t.dtype == torch.float16)
    assert halves > 0.99 * sum(t.numel() for t in tensors.values() if t.is_floating_point())
    assert all(t.isfinite().all() for t in tensors.values())


def test_its_configuration_and_card_say_what_it_is():
    config = json.loads((SHIPPED / "config.json").read_text())
    assert (config["dataset"], config["pretrained"], config["train_images"]) == ("camvid", "none", 367)
    assert (config["trained_on"], config["fold"], config["select"]) == ("train", None, "last")
    card = (SHIPPED / "README.md").read_text()
    record = json.loads((SHIPPED / "training.json").read_text())
    score = f"{record['validation']['mean_iou']:.4f}"
    for said in ("train_seg.py --dataset camvid", "Seed 0", score, "published for research", "measures"):
        assert said in card, said


def test_it_loads_in_single_precision():
    model, _ = load_model(SHIPPED)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("shipped", [SHIPPED, ON_BOTH], ids=lambda path: path.name)
def test_the_code_beside_it_is_that_of_the_package(shipped, tmp_path):
    """If it is not, run `seg_models.modeling.save_code(load_model(folder)[0].config, folder)`."""
    save_code(load_model(shipped)[0].config, tmp_path)
    package, beside = ({path.name: path.read_text() for path in folder.glob("*.py")} for folder in (tmp_path, shipped))
    assert beside == package


def test_the_code_beside_it_and_the_package_give_the_same_logits(tmp_path):
    """The folder loads where the package is not, by the code that it was saved with."""
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "photo.png")
    pixels = torch.randn(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    torch.save(pixels, tmp_path / "pixels.pt")
    words = [ROOT / "tests" / "loading.py", tmp_path / "photo.png", tmp_path / "pixels.pt", tmp_path / "found.pt"]
    cache = {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    subprocess.run([sys.executable, *words, SHIPPED], cwd=tmp_path, env=os.environ | cache, check=True)
    found = torch.load(tmp_path / "found.pt", weights_only=True)[str(SHIPPED)]
    with torch.no_grad():
        logits = load_model(SHIPPED)[0].eval()(pixels).logits
    assert found["module"] == "transformers_modules"
    torch.testing.assert_close(found["logits"], logits, rtol=1e-5, atol=1e-5 * float(logits.abs().max()))


def test_photos_are_predicted_where_there_is_no_run(in_process, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.full((60, 80, 3), 128, np.uint8)).save(tmp_path / "photos" / "grey.png")
    before = sorted(SHIPPED.rglob("*"))
    in_process("predict_seg", "--input", tmp_path / "photos", "--num_workers", 0)
    output = tmp_path / "predictions" / "camvid_streetnet"
    ids = np.asarray(Image.open(output / "results_photos" / "grey.png"))
    assert ids.shape == (60, 80) and ids.max() < 11
    assert "the network that comes with the project" in capsys.readouterr().out
    assert sorted(SHIPPED.rglob("*")) == before  # nothing is written into the project


def test_the_app_takes_it_where_there_is_no_run_and_shows_no_path(tmp_path, monkeypatch):
    import app_gradio
    from seg_app import facts
    from seg_app.requests import Requests

    monkeypatch.chdir(tmp_path)
    assert facts.models_by_name(None) == {"camvid_streetnet": str(SHIPPED)}
    assert facts.models_by_name(["a", "b"]) == {"a": "a", "b": "b"}
    assert facts.example_images("camvid", {}) == [str(model_paths.STREET)]  # without the data set
    assert facts.example_images("toycity", {}) == [] and facts.facts_of(str(SHIPPED)).publishable
    page = app_gradio.build_page(facts.models_by_name(None), Requests(dict, tmp_path, 30), None)
    assert "camvid_streetnet" in str(page.config) and str(ROOT) not in str(page.config)


def test_the_second_network_says_what_it_was_trained_on():
    config = json.loads((ON_BOTH / "config.json").read_text())
    assert (config["trained_on"], config["train_images"], config["select"]) == ("train+val", 388, "last")
    card = (ON_BOTH / "README.md").read_text()
    assert "Every fifth" in card and "Not measured: the 80 validation images that were left out" in card
    assert sum(path.stat().st_size for path in ON_BOTH.rglob("*")) < 16 * 2**20


def test_without_any_model_one_line_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_paths, "SHIPPED", tmp_path / "nothing")
    with pytest.raises(RunError, match="no finished run in runs/: train one with train_seg.py"):
        find_model(None)


def test_an_empty_name_is_not_the_default_model():
    with pytest.raises(RunError, match="--teacher is empty: give a run folder, a saved model, or a hub id"):
        find_model("", "--teacher")


def test_named_by_its_folder_it_writes_elsewhere_too(monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(ROOT)
    for name in ("camvid_streetnet", "camvid_streetnet_trainval"):
        assert find_model(f"checkpoints/{name}")[0] == Path("predictions") / name


@pytest.mark.slow
@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not here")
def test_its_validation_score_is_the_one_that_it_says(in_process, tmp_path):
    in_process("predict_seg", "--dataset_path", CAMVID, "--splits", "val")
    scores = json.loads((tmp_path / "predictions" / "camvid_streetnet" / "scores_val.json").read_text())
    said = json.loads((SHIPPED / "training.json").read_text())["validation"]
    assert scores["mean_iou"] == pytest.approx(said["mean_iou"], abs=1e-3)
