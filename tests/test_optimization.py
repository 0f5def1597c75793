"""The learning rate at each step, and the optimizers' parameter groups."""

import math

import pytest
import torch

from seg_runs.arguments import SCHEDULES, OptimizationOptions
from seg_runs.errors import RunError
from seg_runs.optimization import (
    Schedule,
    make_ema,
    make_optimizer,
    make_schedule,
    optimizer_from_flags,
    set_learning_rate,
    total_steps,
)


def test_total_steps():
    assert total_steps(25, 200, None) == 5000 and total_steps(25, 200, 7) == 7


@pytest.mark.parametrize("kind, middle", [("cosine", 0.5), ("poly", 0.5**0.9), ("constant", 1.0)])
def test_schedules(kind, middle):
    factors = [Schedule(kind, 10)(step) for step in range(11)]
    assert factors[0] == 1 and factors[5] == pytest.approx(middle) and factors == sorted(factors, reverse=True)
    assert factors[10] == pytest.approx(1.0 if kind == "constant" else 0.0)


@pytest.mark.parametrize("kind, reference", [("cosine", torch.optim.lr_scheduler.CosineAnnealingLR), ("poly", None)])
def test_schedules_are_torchs(kind, reference):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
    if reference is None:
        scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=12, power=0.9)
    else:
        scheduler = reference(optimizer, T_max=12)
    for step in range(12):
        assert 0.3 * Schedule(kind, 12)(step) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("kind", SCHEDULES)
def test_warmup_rises_linearly_and_then_the_schedule_begins(kind):
    schedule = Schedule(kind, steps=24, warmup_steps=4, cycles=2 if kind == "poly_with_restarts" else 1)
    assert [schedule(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    plain = Schedule(kind, steps=20, cycles=schedule.cycles)
    assert [schedule(step + 4) for step in range(20)] == [plain(step) for step in range(20)]


def test_restarts_repeat_the_cycle():
    schedule = Schedule("poly_with_restarts", steps=30, cycles=3)
    cycle = [(1 - step / 10) ** 0.9 for step in range(10)]
    assert [schedule(step) for step in range(30)] == pytest.approx(3 * cycle)
    uneven = [Schedule("poly_with_restarts", steps=32, cycles=3)(step) for step in range(32)]
    assert sum(a < b for a, b in zip(uneven, uneven[1:], strict=False)) == 2 and min(uneven) > 0


def test_each_group_keeps_its_own_learning_rate():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    optimizer = make_optimizer(model, "adamw", 1e-3, 0.9, 0.05)
    optimizer.param_groups[1]["initial_lr"] = 1e-2
    assert set_learning_rate(optimizer, 0.5) == 5e-4
    assert [group["lr"] for group in optimizer.param_groups] == [5e-4, 5e-3]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.0]


def test_segformers_head_learns_ten_times_as_fast():
    from seg_models.models import build_model, in_head, model_entry

    model = build_model("segformer_b0", "evo", {0: "a", 1: "b"}, auxiliary=True)
    defaults = model_entry("segformer_b0").training
    optimizer = make_optimizer(model, "adamw", 6e-5, 0.9, 0.01, defaults.head_factor, in_head)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        heads = ("decode_head.", "aux_classifier.")
        assert rates[id(parameter)] == pytest.approx(6e-4 if name.startswith(heads) else 6e-5)


@pytest.mark.parametrize("given, decay", [({}, 1e-4), ({"weight_decay": 0.3}, 0.3)])
def test_another_optimizer_does_not_take_the_models_weight_decay(given, decay):
    from seg_models.models import build_model, in_head, model_entry

    options = OptimizationOptions(optimizer="sgd", learning_rate=0.01, **given)
    model = build_model("streetnet", "group", {0: "a", 1: "b"})
    optimizer = optimizer_from_flags(options, model_entry("streetnet").training, model, in_head)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {decay}


def test_the_flags_choose_power_and_rate_of_the_heads():
    from seg_models.models import build_model, in_head, model_entry

    defaults = model_entry("deeplabv3plus_resnet18").training
    model = build_model("deeplabv3plus_resnet18", "batch", {0: "a", 1: "b"}, auxiliary=True)
    for options, factor in ((OptimizationOptions(), 1), (OptimizationOptions(head_lr_factor=5.0), 5)):
        optimizer = optimizer_from_flags(options, defaults, model, in_head)
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in model.named_parameters():
            assert rates[id(parameter)] == pytest.approx(0.01 if name.startswith("backbone.") else 0.01 * factor)
    options = OptimizationOptions(lr_scheduler_type="poly", lr_power=2.0)
    assert make_schedule(options, defaults, 10)(5) == pytest.approx(0.25)
    with pytest.raises(RunError, match="--lr_power needs --lr_scheduler_type poly or poly_with_restarts, not cosine"):
        make_schedule(OptimizationOptions(lr_power=2.0), defaults, 10)


def test_the_moving_average_is_the_plain_formula():
    """decay_t = min(decay, 1 - t^-0.75), with t counted from the second step; the first step copies the weights."""
    model = torch.nn.Linear(3, 2, bias=False)
    ema, expected = make_ema(model, 0.99), None
    for step in range(1, 30):
        with torch.no_grad():
            model.weight.normal_()
        ema.update(model, step=step)
        decay = 0.0 if step == 1 else min(0.99, 1 - step**-0.75)
        value = model.weight.detach().clone()
        expected = value if expected is None else decay * expected + (1 - decay) * value
        torch.testing.assert_close(ema.module.weight, expected)
    assert not math.isnan(expected.sum())
