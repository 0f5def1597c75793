"""The dry run before a run leaves no trace, and what follows from it. No test depends on the speed of the machine."""

import itertools
import json
import re
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import yaml
from conftest import assert_same_run, launch, rows_of

import train_seg
from seg_jobs import dry_run
from seg_jobs.arguments import TrainArguments
from seg_models.arguments import NetworkOptions
from seg_models.cost import LiveMemory, training_memory
from seg_models.layers import resize_logits
from seg_models.meta import QuickNorms
from seg_models.models import build_network
from seg_runs.errors import RunError
from seg_runs.pace import Calendar, Pace, in_words, seconds_of, steps_within
from seg_runs.parsing import parse_arguments

FAST = "--dataset toycity --model streetnet --crop_size 32 64 --batch_size 2 --num_workers 0 --report_to none".split()
HOURS = 3600.0
HELP = ["--batch_size", "--gradient_accumulation_steps", "--crop_size", "--gradient_checkpointing", "--model"]


# Times in words and in steps.


@pytest.mark.parametrize(
    "text, seconds", [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("1h0m5s", 3605), (" 2H ", 7200)]
)
def test_a_time_is_read(text, seconds):
    assert seconds_of("--max_train_time", text) == seconds
    assert parse_arguments(TrainArguments, ["--max_train_time", text]).optimization.max_train_time == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "2",
        "h",
        "2x",
        "2h30",
        "30m2h",
        "2h 30m",
        "1h1h",
        "-2h",
        "+2h",
        "1.5h",
        "2hm",
        "0s",
        "0h0m",
        "inf",
        "1e3s",
    ]
    + ["99999999h", "\u0662h", "2h;3m", "2:30"],
)
def test_what_is_no_time_is_one_line(text):
    with pytest.raises(
        RunError, match="^--max_train_time .*(is not a time: give|is out of range: give|is empty: )"
    ) as error:
        parse_arguments(TrainArguments, [f"--max_train_time={text}"])
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


@pytest.mark.parametrize(
    "seconds, words",
    [(0.0349, "0.035 s"), (0.35, "0.35 s"), (7.24, "7.2 s"), (9.97, "10 s"), (48.2, "48 s"), (59.7, "1 min 00 s")]
    + [(200, "3 min 20 s"), (599.9, "10 min"), (3599, "60 min"), (7500, "2 h 05 min"), (100 * HOURS, "4 d 4 h")],
)
def test_durations_in_words(seconds, words):
    assert in_words(seconds) == words


def test_the_validations_of_a_run_are_those_of_its_milestones():
    for steps, per_epoch, every in itertools.product(range(1, 30), (1, 3, 7), (1, 2, 5)):
        calendar = Calendar(steps, per_epoch, every)
        milestones = [e for e in range(1, calendar.epochs + 1) if e % every == 0 or e * per_epoch >= steps]
        assert calendar.validations == len(milestones)
        for done in range(calendar.epochs):
            assert calendar.validations_left(done) == sum(epoch > done for epoch in milestones)


@pytest.mark.parametrize("validation", [None, 0.0, 0.5, 2.0, 40.0])
def test_the_steps_that_fit_are_the_most_that_fit(validation):
    pace = Pace(step=1.0, validation=validation)
    for budget, per_epoch, every in itertools.product((0.5, 1, 3, 7.25, 41, 100, 333), (1, 3, 7), (1, 2, 5)):

        def takes(steps, per_epoch=per_epoch, every=every):
            return pace.seconds(steps, Calendar(steps, per_epoch, every).validations)

        fitting = [steps for steps in range(1, 400) if takes(steps) <= budget]
        assert steps_within(budget, pace, per_epoch, every) == max(fitting, default=0)
    assert steps_within(-5.0, pace, 3, 1) == 0


def test_the_pace_is_a_mean_that_follows_a_machine_that_becomes_busy():
    pace = Pace()
    assert pace.seconds(10, 2) is None
    for seconds in (4.0, 1.0, 1.0):
        pace.add_step(seconds)
    assert pace.step == pytest.approx(2.0) and pace.seconds(10, 2) == pytest.approx(20.0)
    pace.add_validation(7.0)
    assert pace.seconds(10, 2) == pytest.approx(34.0)
    pace = Pace(step=1.0, validation=3.0, count=10_000)
    for _ in range(150):
        pace.add_step(5.0)
    assert 4.5 < pace.step < 5.0


def test_how_many_steps_are_measured():
    def measured(seconds: float, *limit: float) -> int:
        ends = itertools.accumulate(itertools.repeat(seconds))
        seen = []
        while not dry_run.is_enough(seen, *limit):
            seen.append(next(ends))
        return len(seen) - dry_run.WARM_UP

    assert measured(60.0) == dry_run.FEWEST and measured(0.001) == dry_run.MOST
    assert dry_run.FEWEST < measured(0.5) == 6 < dry_run.MOST
    assert measured(10.0, 6.0) == 1 and measured(2.0, 3.0) == 2 and measured(0.5, 6.0) == 6


def test_the_forecast_is_one_line():
    forecast = dry_run.Forecast(Pace(0.5, 20.0), int(1.9e9), int(15.2e9), "cpu")
    assert forecast.line(600, 25) == (
        "dry run: 0.5 s a step, 20 s a validation (25 of them): about 13 min for 600 steps; peak memory per process "
        "1.9 GB, 15.2 GB more are free"
    )
    on_gpu = dry_run.Forecast(Pace(0.5, 0.0), 2, 3, "cuda").line(7200, 1)
    assert "dry run: 0.5 s a step: about 1 h 00 min for 7200 steps; peak GPU memory " in on_gpu


# The run is the same with a dry run and without.


NETWORKS = {
    "streetnet": ["--ema_decay", 0.9, "--num_workers", 1],
    "segformer_b0": ["--eval_every", 2, "--norm", "batch", "--gradient_accumulation_steps", 2, "--batch_size", 4],
}


@pytest.mark.parametrize("network", NETWORKS)
def test_a_dry_run_changes_no_number(network, toycity, in_process, monkeypatch, tmp_path, capsys):
    """Weights, moving average, optimizer, random state (dropout), batch norm's statistics, the order of the data."""
    flags = [*FAST, "--dataset_path", toycity, "--model", network, *NETWORKS[network], "--report_to", "tensorboard"]
    in_process("train_seg", *flags, "--epochs", 2, "--output_dir", tmp_path / "without")
    assert "dry run:" not in capsys.readouterr().out
    monkeypatch.setattr(dry_run, "PAYS", 1)
    monkeypatch.setattr(dry_run, "ENOUGH", 0.0)
    in_process("train_seg", *flags, "--epochs", 2, "--output_dir", tmp_path / "with")
    assert capsys.readouterr().out.count("dry run:") == 1
    assert_same_run(tmp_path / "without", tmp_path / "with")


def test_the_dry_run_does_train(toycity, in_process, monkeypatch, tmp_path):
    """Without the restoring, the numbers would differ: the test above can fail."""
    seen = []

    def spy(setup, step, predict):
        before = [parameter.clone() for parameter in setup.learner.model.parameters()]
        parts = next(dry_run.endless_steps(setup))
        step(parts)
        after = list(setup.learner.model.parameters())
        seen.append(any(not torch.equal(one, two) for one, two in zip(before, after, strict=True)))
        return dry_run.Forecast(Pace(1.0, 1.0), 0, 0, "cpu")

    monkeypatch.setattr(dry_run, "measure", spy)
    in_process("train_seg", *FAST, "--dataset_path", toycity, "--dry_run")
    assert seen == [True]


def test_a_dry_run_prints_and_stops(toycity, in_process, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dry_run, "ENOUGH", 0.0)
    run = tmp_path / "run"
    run.mkdir()
    (run / "log_epoch.csv").write_text("an older run")
    flags = [*FAST, "--dataset_path", toycity, "--epochs", 5]
    in_process("train_seg", *flags, "--dry_run", "--output_dir", run, "--overwrite_output_dir")
    out = capsys.readouterr().out
    assert "crops 32x64, 15 steps of 2 images" in out and "for 15 steps; peak memory per process" in out
    assert "a validation (5 of them)" in out and "done" not in out
    assert (run / "log_epoch.csv").read_text() == "an older run"
    (tmp_path / "empty").mkdir()
    in_process("train_seg", *flags, "--dry_run", "--output_dir", tmp_path / "empty")
    assert not any((tmp_path / "empty").iterdir())
    in_process("train_seg", *flags, "--dry_run")
    assert not (tmp_path / "runs").exists()


def test_a_long_new_run_is_measured_unasked_and_a_resumed_one_is_not():
    def due(dry_run_flag=False, checkpoint=None, steps=10):
        args = SimpleNamespace(run=SimpleNamespace(dry_run=dry_run_flag))
        schedule = steps and SimpleNamespace(steps=steps)
        return dry_run.is_due(SimpleNamespace(args=args, run=SimpleNamespace(checkpoint=checkpoint), schedule=schedule))

    assert not due() and due(dry_run_flag=True) and due(steps=None) and due(steps=dry_run.PAYS)
    assert not due(steps=dry_run.PAYS - 1) and not due(steps=dry_run.PAYS, checkpoint="step_1")
    assert due(dry_run_flag=True, checkpoint="step_1")


# --max_train_time.


@pytest.fixture
def paced(monkeypatch):
    """A dry run that finds 10 hours a step and 1 hour a validation: what the test itself takes does not count."""
    forecast = dry_run.Forecast(Pace(10 * HOURS, HOURS, 1), 0, 0, "cpu")
    monkeypatch.setattr(dry_run, "measure", lambda *_: forecast)


def test_the_time_becomes_steps_that_repeat_the_run(toycity, in_process, paced, tmp_path, capsys, monkeypatch):
    flags = [*FAST, "--dataset_path", toycity, "--warmup_steps", 3]  # 3 steps an epoch: 31 hours, then 21 for 2 steps
    in_process("train_seg", *flags, "--max_train_time", "55h", "--output_dir", tmp_path / "one")
    printed = capsys.readouterr().out
    assert "about 2 d 4 h for 5 steps" in printed
    assert printed.count("note: --max_train_time 55h leaves time for 5 steps, and a network needs hundreds.") == 1
    written = yaml.safe_load((tmp_path / "one" / "args.yaml").read_text())
    assert written["max_train_steps"] == 5 and "max_train_time" not in written and "dry_run" not in written
    assert json.loads((tmp_path / "one" / "results.json").read_text())["step"] == 5
    monkeypatch.setattr(dry_run, "measure", None)  # from now on, nothing is measured
    in_process("train_seg", tmp_path / "one" / "args.yaml", "--output_dir", tmp_path / "two")
    in_process("train_seg", *flags, "--max_train_steps", 5, "--output_dir", tmp_path / "three")
    in_process("train_seg", "--resume_from_checkpoint", tmp_path / "two" / "checkpoints" / "step_000003")
    for other in ("two", "three"):  # the schedule is that of 5 steps
        for row, again in zip(rows_of(tmp_path / "one"), rows_of(tmp_path / other), strict=True):
            assert {**row, "seconds": 0} == {**again, "seconds": 0}


@pytest.mark.parametrize("given", ["10h", "1s"])
def test_a_time_that_is_too_short_is_one_line(given, toycity, in_process, paced, tmp_path, capsys):
    with pytest.raises(SystemExit):
        in_process("train_seg", *FAST, "--dataset_path", toycity, "--max_train_time", given)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: --max_train_time {given} is too short: ")
    assert ", a step takes 10 h 00 min and a validation 1 h 00 min. Give more than " in line
    assert 660 <= int(re.search("Give more than ([0-9]+)m, or a smaller --train_size", line)[1]) < 720
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("other", ["--epochs 200", "--max_train_steps 5", "--resume_from_checkpoint x"])
def test_a_time_excludes_other_lengths(other):
    for line in (f"--max_train_time 2h {other}", f"{other} --max_train_time 2h"):
        with pytest.raises(RunError, match=f"^--max_train_time and {other.split()[0]} exclude each other: "):
            parse_arguments(TrainArguments, line.split())


def test_the_users_length_counts_instead_of_a_recipes(tmp_path):
    recipe = tmp_path / "a.yaml"
    recipe.write_text("epochs: 30\nmax_train_steps: 40\nseed: 3\n")
    args = parse_arguments(TrainArguments, [str(recipe), "--max_train_time", "2h"])
    assert args.optimization.max_train_time == "2h" and args.optimization.max_train_steps is None and args.run.seed == 3
    recipe.write_text("max_train_time: 2h\n")
    assert parse_arguments(TrainArguments, [str(recipe)]).optimization.max_train_time == "2h"
    args = parse_arguments(TrainArguments, [str(recipe), "--epochs", "7"])
    assert args.optimization.max_train_time is None and args.optimization.epochs == 7
    recipe.write_text("max_train_time: 2h\nepochs: 7\n")
    with pytest.raises(RunError, match="^--max_train_time and --epochs exclude each other: "):
        parse_arguments(TrainArguments, [str(recipe)])
    recipe.write_text("max_train_time: 90\n")
    with pytest.raises(RunError, match="^--max_train_time '90' is not a time"):
        parse_arguments(TrainArguments, [str(recipe)])


@pytest.mark.slow
def test_two_processes_agree_on_the_steps_and_their_dry_run_changes_no_number(city, tmp_path):
    """Each process measures another time; the first one's counts. One epoch is 3 steps and takes 31 hours."""
    flags = [*FAST, "--batch_size", 4, "--dataset_path", city, "--report_to", "tensorboard"]
    timed = launch("tests/forecast.py", *flags, "--max_train_time", "55h", "--output_dir", tmp_path / "a", processes=2)
    assert timed.returncode == 0, timed.stderr
    assert timed.stdout.count("about 2 d 4 h for 5 steps") == 1 and "2 process(es)" in timed.stdout
    assert yaml.safe_load((tmp_path / "a" / "args.yaml").read_text())["max_train_steps"] == 5
    plain = launch("train_seg.py", *flags, "--max_train_steps", 5, "--output_dir", tmp_path / "b", processes=2)
    assert plain.returncode == 0 and "dry run:" not in plain.stdout, plain.stderr
    assert_same_run(tmp_path / "a", tmp_path / "b")


# The time that is left.


def test_the_bar_shows_the_time_left_of_the_whole_run(toycity, in_process, monkeypatch, tmp_path):
    """A minute a step, ten minutes a validation; also after a resume."""
    shown = []

    class Bar:
        def __init__(self, *_, loader=(), **__):
            self.loader = loader

        def __iter__(self):
            return iter(self.loader)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, *_):
            pass

        def set_postfix(self, run_left, **_):
            shown.append(run_left)

    monkeypatch.setattr(train_seg, "progress_bar", Bar)
    monkeypatch.setattr(train_seg, "rehearse", lambda setup, _: (setup, Pace(60.0, 600.0, 1)))
    monkeypatch.setattr(Pace, "add_step", lambda *_: None)
    monkeypatch.setattr(Pace, "add_validation", lambda *_: None)
    flags = [*FAST, "--dataset_path", toycity, "--output_dir", tmp_path / "r", "--epochs", 2]
    in_process("train_seg", *flags, "--checkpointing_steps", 1, "--keep_checkpoints", 9)
    assert shown == ["25 min", "24 min", "23 min", "12 min", "11 min", "10 min"]
    shown.clear()
    in_process("train_seg", "--resume_from_checkpoint", tmp_path / "r" / "checkpoints" / "step_000004")
    assert shown == ["11 min", "10 min"]
    shown.clear()
    in_process("train_seg", "--resume_from_checkpoint", tmp_path / "r", "--epochs", 3, "--eval_every", 2)
    assert shown == ["12 min", "11 min", "10 min"]


# Memory.


def test_a_run_that_does_not_fit_is_refused_before_a_step(toycity, in_process, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dry_run, "free_memory_of", lambda *_: 10**6)
    monkeypatch.setattr(train_seg, "train_step", None)
    with pytest.raises(SystemExit):
        in_process("train_seg", *FAST, "--dataset_path", toycity, "--epochs", 1)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: a training step needs at least 0.0 GB of memory, but 0.0 GB are free. ")
    places = [line.index(flag) for flag in HELP]
    assert places == sorted(places) and not (tmp_path / "runs").exists()


def setup_of(images: int, processes=1, precision="no"):
    backend = SimpleNamespace(dynamo_plugin=SimpleNamespace(backend=SimpleNamespace(value="NO")))
    return SimpleNamespace(
        accelerator=SimpleNamespace(device=torch.device("cpu"), mixed_precision=precision, state=backend),
        plan=SimpleNamespace(micro_batch_size=images),
        teachers=[],
        learner=SimpleNamespace(model=None, optimizer=SimpleNamespace(state={0: {"exp_avg": torch.zeros(250)}})),
        feed=SimpleNamespace(crop_size=(1, 1)),
    )


def test_the_refusal_begins_where_the_memory_ends(monkeypatch):
    """100 bytes of tensors an image: 8 images need 880 to 1680 bytes, twice that on two processes."""
    monkeypatch.setattr(dry_run, "training_memory", lambda model, crop, images: 100 * images)

    def refused(free, **options):
        monkeypatch.setattr(dry_run, "free_memory_of", lambda *_: free)
        try:
            tight.append(dry_run.refuse_lack_of_memory(setup_of(8, **options)))
        except RunError:
            return True
        return False

    tight = []
    assert not refused(1679) and not refused(1681) and tight == [True, False]
    assert refused(879) and not refused(881) and not refused(441, precision="bf16") and refused(439, precision="bf16")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert refused(1759) and not refused(1761) and tight[-1]


def test_a_step_on_two_images_shows_that_eight_do_not_fit(monkeypatch):
    """It takes 2000 bytes, 1000 of which are the optimizer's; six more images take 3000."""
    monkeypatch.setattr(dry_run, "training_memory", lambda model, crop, images: 100 * images)
    seen, held = [], [5000, 7000]
    monkeypatch.setattr(dry_run.psutil.Process, "memory_info", lambda _: SimpleNamespace(rss=held[len(seen)]))

    def refused(free, images=8):
        seen.clear()
        monkeypatch.setattr(dry_run, "free_memory_of", lambda *_: free)
        parts = [{"labels": torch.zeros(images, 4)}, {"labels": torch.zeros(images, 4)}]
        try:
            dry_run.refuse_growth(setup_of(images), seen.append, parts)
        except RunError:
            return True
        return False

    assert refused(2999) and [len(part["labels"]) for part in seen[0]] == [2]
    assert not refused(3001) and len(seen) == 1
    assert not refused(0, images=2) and not seen  # nothing is smaller than two images


@pytest.mark.parametrize("place", ["train_step", "predict_item"])
def test_a_gpu_without_memory_is_one_line(place, toycity, in_process, monkeypatch, capsys):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(train_seg, place, fail)
    for more in (["--dry_run"], ["--epochs", 1]):
        with pytest.raises(SystemExit):
            in_process("train_seg", *FAST, "--dataset_path", toycity, *more)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and "CUDA out of memory" in lines[0]
        places = [lines[0].index(flag) for flag in HELP]
        assert places == sorted(places)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_norms_on_the_meta_device_have_the_sizes_of_pytorch(norm, memory_format, training, affine):
    layers = {
        "batch": lambda: torch.nn.BatchNorm2d(8, affine=affine, device="meta"),
        "layer": lambda: torch.nn.LayerNorm((5, 7), elementwise_affine=affine, device="meta"),
    }

    def results(mode) -> list[tuple]:
        layer = layers[norm]().train(training)
        images = torch.empty(2, 8, 5, 7, device="meta").contiguous(memory_format=memory_format).requires_grad_()
        with mode:
            maps = layer(images)
            maps.sum().backward()
        tensors = [maps, images.grad, *(parameter.grad for parameter in layer.parameters())]
        return [(tensor.shape, tensor.stride(), tensor.dtype, tensor.device) for tensor in tensors]

    assert results(QuickNorms()) == results(nullcontext())


@pytest.mark.parametrize("network", ["streetnet", "deeplabv3_resnet50", "segformer_b0", "segformer_swin_tiny"])
def test_the_estimate_counts_the_tensors_of_a_real_step(network):
    """Where there is real memory behind the tensors, they are as many, apart from what kernels keep to themselves."""
    model = build_network(NetworkOptions(model=network), {0: "a", 1: "b"}, "x", False, {}).train()
    model = model.to(memory_format=torch.channels_last)
    size = (128, 256) if network.startswith("segformer") else (64, 96)  # large enough for attention to count
    pixels, labels = torch.zeros(2, 3, *size), torch.zeros(2, *size, dtype=torch.int64)
    with LiveMemory() as memory:
        logits = model(pixel_values=pixels).logits
        F.cross_entropy(resize_logits(logits, size), labels, reduction="sum").backward()
    assert 0.9 < training_memory(model, size, 2) / memory.peak < 1.1
