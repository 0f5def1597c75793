"""What docs/hub.md says about batches in transformers' pipeline."""

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from transformers import pipeline

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
