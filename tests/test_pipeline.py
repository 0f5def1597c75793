"""What docs/hub.md says about transformers' pipeline and Trainer."""

import re

import numpy as np
import pytest
import torch
from conftest import ROOT
from datasets import Dataset
from PIL import Image
from transformers import pipeline

from seg_app.facts import facts_of
from seg_models.models import build_model
from seg_models.predictor import Predictor
from seg_models.views import Views


def masks_of(found):
    return [{mask["label"]: np.asarray(mask["mask"]).tobytes() for mask in image} for image in found]


@pytest.mark.parametrize("size", [None, (64, 96)])
def test_batches_need_equal_sizes_or_a_size_of_the_model(tmp_path, size):
    torch.manual_seed(0)
    model = build_model("streetnet", "batch", {i: f"class {i}" for i in range(5)}, "toycity").eval()
    model.save_pretrained(tmp_path)
    Predictor(model, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), Views(size)).image_processor().save_pretrained(tmp_path)
    segment, rng = pipeline("image-segmentation", model=str(tmp_path), trust_remote_code=True), np.random.default_rng(1)
    one, two, other = (
        Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in ((64, 96), (64, 96), (48, 96))
    )
    for images in ([one, two], [one, other]):
        alone = masks_of([segment(image) for image in images])
        assert masks_of(segment(images)) == alone
        if size is None and images[1] is other:
            with pytest.raises(RuntimeError, match="[Ss]izes of tensors must match"):
                segment(images, batch_size=2)
        else:
            assert masks_of(segment(images, batch_size=2)) == alone
    assert "`batch_size` above 1" in (ROOT / "docs" / "hub.md").read_text()


def test_transformers_trainer_fine_tunes_the_network_that_ships(tmp_path, monkeypatch, in_process, capsys):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "hub.md").read_text().split("## Train with `transformers`")[1]
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    for shown, here in (('"checkpoints', f'"{ROOT}/checkpoints'), ("256", "48"), ("=20", "=1, use_cpu=True")):
        assert shown in code
        code = code.replace(shown, here)
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)) for _ in range(2)]
    masks = [Image.fromarray(rng.choice(np.array([0, 1, 2, 255], np.uint8), (40, 60))) for _ in photos]
    found = {"data": {"train": Dataset.from_dict({"image": photos, "label": masks})}}
    exec(code, found)
    assert 0 < found["trainer"].state.log_history[-1]["train_loss"] < 3
    parts = pipeline("image-segmentation", model="fine_tuned", trust_remote_code=True)(photos[0])
    assert {part["label"] for part in parts} <= {"road", "roof", "tree"}
    photos[0].save("photo.png")
    in_process("predict_seg", "--model_name_or_path", "fine_tuned", "--input", "photo.png", "--output_dir", "out")
    assert {*np.unique(Image.open("out/results_photo/photo.png"))} <= {0, 1, 2}
    facts = facts_of("fine_tuned")
    assert facts.classes == 3 and facts.data == "" and facts.examples == []  # config.json still names CamVid
    with pytest.raises(SystemExit):
        in_process("predict_seg", "--model_name_or_path", "fine_tuned", "--dataset", "camvid", "--dataset_path", ".")
    assert "fine_tuned predicts 3 classes but --dataset camvid has 11" in capsys.readouterr().err
