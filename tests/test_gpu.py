"""What only a GPU can show: the norms' own kernels, fp16, deterministic kernels. Skipped where there is none."""

import copy

import pytest
import torch
from conftest import rows_of
from safetensors.torch import load_file

from seg_models.norms import NORMS, norm_layer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
FAST = "--dataset toycity --crop_size 32 64 --batch_size 2 --num_workers 0 --report_to none".split()


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("act", [True, False])
@pytest.mark.parametrize("name", NORMS)
def test_a_norm_and_its_gradients_are_those_of_the_cpu_in_float64(name, act, dtype, tolerance):
    torch.manual_seed(0)
    reference = norm_layer(name, 32, act=act).double().train()
    layer = copy.deepcopy(reference).float().cuda()
    x, dy = torch.randn(4, 32, 24, 40, dtype=torch.float64), torch.randn(4, 32, 24, 40, dtype=torch.float64)
    expected_x, given = x.clone().requires_grad_(), x.to("cuda", dtype).requires_grad_()
    expected = reference(expected_x)
    with torch.autocast("cuda", torch.bfloat16, enabled=dtype == torch.bfloat16):  # as in training
        y = layer(given.to(memory_format=torch.channels_last))
    expected.backward(dy)
    y.backward(dy.to(y))
    pairs = [(y, expected), (given.grad, expected_x.grad)]
    pairs += [(p.grad, q.grad) for p, q in zip(layer.parameters(), reference.parameters(), strict=True)]
    for found, wanted in pairs:
        assert (found.double().cpu() - wanted).norm() <= tolerance * wanted.norm()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("norm", NORMS)
def test_mixed_precision_trains_with_every_norm(norm, precision, toycity, in_process, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
    flags = ["--model", "streetnet", "--norm", norm, "--max_train_steps", 6, "--eval_every", 9]
    in_process("train_seg", *FAST, *flags, "--dataset_path", toycity, "--output_dir", tmp_path / "r")
    assert float(rows_of(tmp_path / "r")[-1]["train_loss"]) < float(rows_of(tmp_path / "r")[0]["train_loss"])


def test_deterministic_kernels_give_the_same_weights_twice(toycity, in_process, tmp_path):
    flags = ["--model", "deeplabv3_resnet50", "--deterministic", "--max_train_steps", 3, "--dataset_path", toycity]
    for run in ("one", "two"):
        in_process("train_seg", *FAST, *flags, "--output_dir", tmp_path / run)
    one, two = (load_file(tmp_path / run / "best" / "model.safetensors") for run in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
