"""Training under `accelerate launch --dynamo_backend inductor`: the numbers of a plain run, for every CNN."""

import json
import shutil

import pytest
import torch
from conftest import rows_of
from safetensors.torch import load_file
from torch._inductor import config as inductor

from seg_models.catalog import MODELS

CNNS = {  # one of each kind, the smallest
    "acfnet_resnet50": ("--encoder", "resnet18"),
    "attention_unet": (),
    "deeplabv3_resnet50": ("--encoder", "resnet18"),
    "deeplabv3plus_resnet18": (),
    "deeplabv3plus_resnest50": ("--encoder", "resnest14d"),
    "encdec_maxunpool": (),
    "fcn_resnet50": ("--encoder", "resnet18"),
    "hrnet_w18": ("--encoder", "hrnet_w18_small"),
    "pspnet_resnet18": (),
    "streetnet": (),
    "streetnet_fine": (),
    "unet": (),
    "unet_resnet18": (),
}
# Batch norm over two images amplifies rounding, above all in pooled branches. These two cannot do without it.
NORMS = {name: "batch" if name in ("hrnet_w18", "deeplabv3plus_resnest50") else "group" for name in CNNS}
FLAGS = "--dataset toycity --crop_size 64 96 --batch_size 2 --max_train_steps 2 --num_workers 0 --report_to none"
FLAGS += " --optimizer sgd --learning_rate 0.01 --aux_weight 0"


def kind(name: str) -> str:
    return name.replace("_large", "").rstrip("0123456789")


def test_every_cnn_is_here():
    cnns = [name for name in MODELS if not name.startswith("segformer")]
    assert {kind(name) for name in CNNS} >= {kind(name) for name in cnns}


def trained(in_process, monkeypatch, backend, run, *flags) -> tuple[dict, dict]:
    """Train with a backend. Returns the last row of the log, and the weights that were saved."""
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", backend)
    torch._dynamo.reset()
    with inductor.patch(fallback_random=True):  # else dropout draws other numbers
        in_process("train_seg", *FLAGS.split(), *flags, "--output_dir", run)
    assert json.loads((run / "results.json").read_text())["best_mean_iou"] >= 0
    return rows_of(run)[-1], load_file(run / "best" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
@pytest.mark.parametrize(("name", "norm"), [*NORMS.items(), ("streetnet", "batch"), ("streetnet", "evo")])
def test_a_compiled_run_has_the_numbers_of_a_plain_one(name, norm, toycity, in_process, monkeypatch, tmp_path):
    """Two steps and a validation at another size than the crops'."""
    flags = ["--model", name, "--norm", norm, "--dataset_path", toycity, *CNNS[name]]
    plain, weights = trained(in_process, monkeypatch, "no", tmp_path / "plain", *flags)
    compiled, others = trained(in_process, monkeypatch, "inductor", tmp_path / "compiled", *flags)
    for key in ("train_loss", "val_loss"):
        assert float(compiled[key]) == pytest.approx(float(plain[key]), rel=5e-3)
    assert weights.keys() == others.keys()  # nothing of the compiler's in the names
    tolerance = 0.1 if norm == "batch" else 0.01  # a bias began at 0: after two steps, it is nothing but its gradients
    for key, tensor in weights.items():
        assert (others[key].double() - tensor).norm() <= tolerance * tensor.double().norm() + 1e-6, key
