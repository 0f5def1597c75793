"""Exported files: they give the network's classes, say what they are, and are refused in one line where they cannot."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seg_models.catalog import MODELS
from seg_models.export_graph import PhotoGraph, least_side, trace
from seg_models.export_onnx import to_onnx
from seg_models.exported import open_exported, save_onnx, save_openvino, save_torch
from seg_models.models import build_model
from seg_models.predictor import Predictor

MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)
SIZES = [(97, 131), (96, 64), (75, 201)]


def photo(size, seed=0):
    """Return smooth noise, uint8 (1, H, W, 3)."""
    coarse = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(seed)) * 255
    return F.interpolate(coarse, size, mode="bilinear").round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


@torch.no_grad()
def network(name, norm="batch"):
    """Return a network with random weights whose classes differ over the image, as those of a trained one do."""
    torch.manual_seed(0)
    model = build_model(name, norm, {i: f"class {i}" for i in range(5)}).eval()
    last = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d) and layer.out_channels == 5][-1]
    nn.init.normal_(last.weight)
    logits = Predictor(model, MEAN, STD)(torch.from_numpy(photo((97, 131))[0]).permute(2, 0, 1))
    factor = 2 / logits.std((1, 2))
    last.bias.copy_((last.bias - logits.mean((1, 2))) * factor)
    last.weight.mul_(factor[:, None, None, None])
    return model


def assert_same(run, predictor, sizes=SIZES):
    for size in sizes:
        image = photo(size, seed=1)
        expected = predictor.probabilities(torch.from_numpy(image[0]).permute(2, 0, 1)).numpy()
        found = run(image)[0]
        assert found.shape == expected.shape and found.dtype == np.float32
        assert np.abs(found - expected).max() < 1e-3, size
        assert (found.argmax(0) == expected.argmax(0)).mean() > 0.998, size


def export_all(model, folder, norm="batch"):
    predictor, graph = Predictor(model, MEAN, STD), PhotoGraph(model, MEAN, STD, output="probabilities")
    program, sizes = trace(graph, None), [tuple(max(side, least_side(graph)) for side in size) for size in SIZES]
    save_torch(program, str(folder / "net.pt2"), {})
    converted = to_onnx(program, "probabilities")
    save_onnx(converted, str(folder / "net.onnx"), {})
    save_openvino(converted, str(folder / "net.xml"), {}, half=False)
    for kind, name in (("torch_export", "net.pt2"), ("onnx", "net.onnx"), ("openvino", "net.xml")):
        assert_same(open_exported(str(folder / name), kind, threads=1), predictor, sizes)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_network_exports_for_any_size(name, tmp_path):
    export_all(network(name), tmp_path)
