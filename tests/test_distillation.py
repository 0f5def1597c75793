"""Distillation: divergences by hand and against torch's, ignored pixels, and runs with teachers, end to end."""

import dataclasses
import json
import math
import shutil

import pytest
import torch
import torch.nn.functional as F
import yaml
from conftest import launch, rows_of
from safetensors.torch import load_file, save_file

import train_seg
from seg_jobs import dry_run
from seg_models.arguments import DistillOptions
from seg_models.distillation import DEFAULTS, Distillation, distillation_loss
from seg_models.losses import cross_entropy
from seg_models.names import DISTILL
from seg_models.objective import Criterion
from seg_models.output import SegmentationOutput
from seg_models.streetnet import StreetNetEncoder
from seg_runs.card import what_taught
from seg_runs.errors import RunError
from seg_runs.lineage import models_behind, sources_that_may_have_seen
from seg_runs.run_folder import public_name

FAST = "--dataset toycity --model streetnet --crop_size 32 64 --batch_size 2 --num_workers 0 --report_to none".split()


def batch(dtype=torch.float32, seed=0, teachers=1):
    """Logits (3, 5, 4, 6), logits of teachers at another stride, and labels (3, 8, 12), a third of them 255."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *size: (3 * torch.randn(*size, generator=generator)).to(dtype)  # noqa: E731
    taught = [draw(3, 5, 8, 12), draw(3, 5, 2, 3)][:teachers]
    labels = torch.randint(5, (3, 8, 12), generator=generator)
    void = torch.rand(3, 4, 6, generator=generator) < 1 / 3
    void = void.repeat_interleave(2, 1).repeat_interleave(2, 2)
    return draw(3, 5, 4, 6).requires_grad_(), taught, labels.masked_fill(void, 255)


@pytest.fixture(params=DISTILL)
def method(request):
    return request.param


def test_kl_by_hand():
    # One position of two classes, p = (3/4, 1/4) for the teacher and (1/2, 1/2) for the network. At T = 2, the odds of
    # the teacher are the root of 3.
    taught, logits = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    labels = torch.tensor([[[0, 1], [1, 255]]])
    expected = 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)
    total, weight = distillation_loss(logits, [taught], labels[..., :1], "kl", 1.0)
    assert weight.item() == 2 and total.item() / 2 == pytest.approx(expected)
    p = math.sqrt(3) / (1 + math.sqrt(3))
    expected = 4 * (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    total, weight = distillation_loss(logits, [taught], labels[..., :1], "kl", 2.0)
    assert total.item() / weight.item() == pytest.approx(expected)


def test_cwd_by_hand():
    # Class 0: the teacher has 3/4 and 1/4 at the two valid positions, the network 1/2 and 1/2. Class 1: equal. The
    # third position is ignored. The mean over the classes is half of class 0's divergence.
    taught = torch.tensor([[math.log(3), 0.0, 9.0], [0.0, 0.0, -9.0]]).view(1, 2, 1, 3)
    labels = torch.tensor([[[0, 1, 255]]])
    total, weight = distillation_loss(torch.zeros(1, 2, 1, 3), [taught], labels, "cwd", 1.0)
    expected = (3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)) / 2
    assert weight.item() == 2 and total.item() / 2 == pytest.approx(expected)


def test_of_two_teachers_the_mean_of_the_probabilities_counts(method):
    dim = {"kl": 0, "cwd": 1}[method]
    one, two = (torch.tensor(p).log() for p in ([[0.5, 0.2], [0.5, 0.8]], [[0.1, 0.6], [0.9, 0.4]]))
    one, two = ((x.T if dim else x)[None, :, None] for x in (one, two))  # sums of 1 over classes, or over positions
    labels = torch.zeros(1, 1, 2, dtype=torch.int64)
    logits = torch.randn(1, 2, 1, 2, generator=torch.Generator().manual_seed(0))
    given = distillation_loss(logits, [one, two], labels, method, 1.0)
    mean = ((one.exp() + two.exp()) / 2).log()
    torch.testing.assert_close(given, distillation_loss(logits, [mean], labels, method, 1.0))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_it_is_torchs_divergence_image_by_image(method, temperature):
    """Written with torch's `kl_div` over the valid positions alone, picked out one image at a time."""
    logits, (taught,), labels = batch()
    total, weight = distillation_loss(logits, [taught], labels, method, temperature)
    taught, expected = F.interpolate(taught, (4, 6), mode="bilinear"), 0.0
    for x, y, label in zip(logits, taught, labels, strict=True):
        valid = label[1::2, 1::2] != 255
        x, y = (z[:, valid] / temperature for z in (x, y))  # (C, N)
        dim = 0 if method == "kl" else 1
        divergence = F.kl_div(x.log_softmax(dim), y.softmax(dim), reduction="sum")
        mean = divergence / (valid.sum() if method == "kl" else 5)
        expected = expected + temperature**2 * mean * (label != 255).sum()
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (total, expected)))
    assert weight.item() == (labels != 255).sum().item()


def test_the_sums_of_two_halves_add_up(method):
    logits, taught, labels = batch(teachers=2)
    whole = torch.stack(distillation_loss(logits, taught, labels, method, 2.0))
    halves = [
        torch.stack(distillation_loss(logits[part], [t[part] for t in taught], labels[part], method, 2.0))
        for part in (slice(1), slice(1, 3))
    ]
    torch.testing.assert_close(sum(halves), whole)


def test_gradients_in_double_precision(method):
    logits, taught, labels = batch(torch.float64, teachers=2)
    taught = [t.to(torch.float32) for t in taught]  # as `resize_logits` gives them
    assert torch.autograd.gradcheck(lambda x: distillation_loss(x, taught, labels, method, 2.0)[0], logits)


def test_ignored_pixels_get_a_gradient_of_exactly_zero(method):
    logits, taught, labels = batch()
    distillation_loss(logits, taught, labels, method, 2.0)[0].backward()
    per_position = logits.grad.abs().amax(1)
    ignored = labels[:, ::2, ::2] == 255
    assert (per_position[ignored] == 0).all() and (per_position[~ignored] > 0).all()


def test_without_a_valid_pixel_everything_is_zero(method):
    logits, taught, labels = batch()
    labels[0] = 255  # one image, then all
    total, weight = distillation_loss(logits, taught, labels, method, 2.0)
    total.backward()
    assert total.isfinite() and (logits.grad[0] == 0).all() and logits.grad.isfinite().all() and logits.grad.any()
    logits.grad = None
    total, weight = distillation_loss(logits, taught, torch.full_like(labels, 255), method, 2.0)
    total.backward()
    assert (total.item(), weight.item()) == (0, 0) and (logits.grad == 0).all()


def test_a_network_like_its_teacher_has_nothing_to_learn(method):
    logits, _, labels = batch()
    total, _ = distillation_loss(logits, [logits.detach()], labels, method, 4.0)
    total.backward()
    assert abs(total.item()) < 1e-4 and logits.grad.abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(method, dtype):
    logits, taught, labels = batch(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = distillation_loss(logits, taught, labels, method, 2.0)
    total.backward()
    assert total.dtype == torch.float32 and logits.grad.isfinite().all()
    assert torch.equal(total, distillation_loss(logits.float(), taught, labels, method, 2.0)[0])


def test_logits_that_are_not_finite_are_noticed(method):
    logits, taught, labels = batch()
    with torch.no_grad():
        logits[:, 2] = math.nan
    distillation_loss(logits, taught, labels, method, 2.0)[0].backward()
    assert not logits.grad.isfinite().all()


def test_the_flags_choose_weight_and_temperature(method):
    found = Distillation.from_flags(DistillOptions(teacher=["x"], distill=method), [])
    assert (found.weight, found.temperature) == DEFAULTS[method]
    options = DistillOptions(teacher=["x"], distill=method, distill_weight=5.0, distill_temperature=1.5)
    assert Distillation.from_flags(options, []) == Distillation([], method, 5.0, 1.5)
    text = [field.metadata["help"] for field in dataclasses.fields(DistillOptions)]
    assert "(default: 3 for cwd, 1 for kl)" in text[2] and "(default: 4 for cwd, 1 for kl)" in text[3]
    assert DEFAULTS == {"cwd": (3, 4), "kl": (1, 1)}


def test_the_objective_is_the_loss_plus_what_is_weighted(method):
    """The distillation weighs as much as the mean loss, whatever the weight of the loss is."""
    logits, taught, labels = batch()
    total, count = distillation_loss(logits, taught, labels, method, 2.0)
    halved = lambda x, y: (cross_entropy(x, y)[0] / 2, cross_entropy(x, y)[1] / 2)  # noqa: E731 - the same mean
    output = SegmentationOutput(logits=logits, aux_logits=(logits,))
    for loss_function in (cross_entropy, halved):
        criterion = Criterion(loss_function, 0.4, Distillation([], method, 3.0, 2.0))
        value, weight = loss_function(F.interpolate(logits, (8, 12), mode="bilinear"), labels)
        given = criterion.total((value, weight), output, taught, labels)
        torch.testing.assert_close(given / weight, 1.4 * value / weight + 3 * total / count)


# What a student may say of its teachers.


@pytest.mark.parametrize(
    ("trained_on", "own", "dataset", "held_out", "known"),
    [
        ("train", None, "camvid", None, False),
        ("train+val", None, "camvid", None, True),
        ("train", None, "camvid", "T", True),
        ("train", "T", "camvid", "T", False),
        ("train", "U", "camvid", "T", True),
        ("train+val", None, "kitti", None, False),
    ],
)
def test_teachers_that_may_know_the_images(trained_on, own, dataset, held_out, known):
    teacher = {"name": "x", "dataset": "camvid", "trained_on": trained_on, "held_out": own}
    for key in ("teachers", "started_from"):
        found = sources_that_may_have_seen({key: [teacher]}, dataset, "val", held_out)
        assert found == (["x"] if known else []) and sources_that_may_have_seen({}, dataset, "val", held_out) == []


def test_the_models_behind_initial_weights(tmp_path):
    """The model itself, what it started from, and its teachers."""
    rest = {"trained_on": "train", "fold": None, "held_out": None, "pretrained": "none"}
    first, second = ({"name": name, "dataset": "camvid", **rest} for name in "ab")
    config = {"dataset": "kitti", **rest, "started_from": [first], "teachers": [second, first]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    own = {"name": "me", "dataset": "kitti", **rest}
    assert models_behind(str(tmp_path), "me") == [own, first, second]
    assert models_behind("user/model", "user/model") == models_behind(str(tmp_path / "config.json"), "x") == []
    (tmp_path / "config.json").write_text(json.dumps(config | {"teachers": ["x"]}))
    with pytest.raises(RunError, match="config.json: teachers is"):
        models_behind(str(tmp_path), "me")


def test_what_a_card_says_of_a_teacher():
    assert what_taught({"dataset": "camvid", "fold": "T"}) == "trained on `train` of camvid without fold T"
    pretrained = {"dataset": None, "trained_on": "train+val", "fold": None, "pretrained": "nvidia/mit-b0"}
    assert what_taught(pretrained) == "trained on `train+val` of unknown data, from `nvidia/mit-b0`"


def test_the_name_of_a_best_folder_is_that_of_its_run(tmp_path, monkeypatch):
    (tmp_path / "run" / "best").mkdir(parents=True)
    assert public_name(str(tmp_path / "run" / "best")) == public_name(str(tmp_path / "run")) == "run"
    monkeypatch.chdir(tmp_path / "run")
    assert public_name("best") == "run" and public_name("user/model@v1") == "user/model@v1"


# Runs.


@pytest.fixture(scope="module")
def teacher(toycity, tmp_path_factory):
    """A run of DeepLabV3+ with output stride 8, trained for a step."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    run = tmp_path_factory.mktemp("teacher") / "deeplab"
    flags = [*FAST, "--dataset_path", toycity, "--model", "deeplabv3plus_resnet18", "--output_stride", 8]
    train_seg.main([str(flag) for flag in [*flags, "--max_train_steps", 1, "--output_dir", run]])
    return run


def flags_of(data, run, teacher, *more):
    return ["train_seg", *FAST, "--dataset_path", data, "--output_dir", run, "--teacher", teacher, *more]


def test_a_run_learns_from_teachers_and_says_so(teacher, toycity, in_process, tmp_path):
    """Two teachers of other architectures and strides; a teacher's own teachers are named too."""
    in_process(*flags_of(toycity, tmp_path / "one", teacher, "--max_train_steps", 1))
    both = [tmp_path / "one" / "best", "--model", "segformer_b0", "--distill", "kl", "--distill_temperature", 2]
    more = ["--max_train_steps", 1, "--aux_weight", 0.4, "--ema_decay", 0.9, "--cutmix", "--norm", "group"]
    in_process(*flags_of(toycity, tmp_path / "two", teacher, *both, *more))
    named = [t["name"] for t in json.loads((tmp_path / "two" / "best" / "config.json").read_text())["teachers"]]
    assert named == ["deeplab", "one"]
    card = (tmp_path / "two" / "best" / "README.md").read_text()
    assert "it learnt the predictions of `deeplab` (trained on `train` of toycity) and `one`" in card
    assert "Beware" not in card
    args = yaml.safe_load((tmp_path / "one" / "args.yaml").read_text())
    assert (args["teacher"], args["distill"], args["distill_weight"]) == ([str(teacher)], None, None)
    assert yaml.safe_load((teacher / "args.yaml").read_text())["teacher"] is None
    assert "teachers" not in json.loads((teacher / "best" / "config.json").read_text())
    in_process("train_seg", tmp_path / "two" / "args.yaml", "--output_dir", tmp_path / "again")
    weights = [load_file(tmp_path / run / "best" / "model.safetensors") for run in ("two", "again")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_step_learns_what_the_teacher_says(teacher, toycity, in_process, tmp_path, monkeypatch):
    """The teacher sees the images that the network sees, in evaluation mode, and does not change."""
    seen, teach = [], Distillation.teacher_logits

    def watched(self, pixel_values):
        taught = teach(self, pixel_values)
        (network,) = self.teachers
        assert not network.training and not any(p.requires_grad for p in network.parameters())
        with torch.no_grad():
            torch.testing.assert_close(taught, [network(pixel_values).logits])
        seen.append((pixel_values, network, {key: value.clone() for key, value in network.state_dict().items()}))
        return taught

    forward, shown = StreetNetEncoder.forward, []

    def watched_forward(self, pixel_values):
        shown.extend([pixel_values] if self.training and pixel_values.device.type != "meta" else [])
        return forward(self, pixel_values)

    monkeypatch.setattr(Distillation, "teacher_logits", watched)
    monkeypatch.setattr(StreetNetEncoder, "forward", watched_forward)
    in_process(*flags_of(toycity, tmp_path / "r", teacher, "--max_train_steps", 2))
    assert len(seen) == 2 and [x is y for (x, *_), y in zip(seen, shown, strict=True)] == [True, True]
    (_, network, first), (_, same, _) = seen
    assert network is same and all(torch.equal(value, first[key]) for key, value in network.state_dict().items())


def test_a_resumed_run_keeps_its_teacher(teacher, toycity, in_process, tmp_path, capsys):
    """Bit for bit, also from another folder. With another teacher, or none, it is refused."""
    flags = ["--max_train_steps", 4, "--distill", "cwd"]
    in_process(*flags_of(toycity, tmp_path / "whole", teacher, *flags))
    in_process(*flags_of(toycity, tmp_path / "r", teacher, *flags, "--checkpointing_steps", 2, "--keep_checkpoints", 9))
    run, checkpoint = tmp_path / "r", tmp_path / "r" / "checkpoints" / "step_000002"
    shutil.copytree(teacher, tmp_path / "moved")
    shutil.copytree(teacher / "best", tmp_path / "other")
    weights = load_file(tmp_path / "other" / "model.safetensors")
    weights[min(weights)] += 1
    save_file(weights, tmp_path / "other" / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "other" / "checksums.json").unlink()
    with pytest.raises(SystemExit):
        in_process("train_seg", "--resume_from_checkpoint", checkpoint, "--teacher", tmp_path / "other")
    assert f"error: --teacher: {run} started with other teachers" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        more = ["--teacher", teacher, "--distill_weight", 2]
        in_process("train_seg", "--resume_from_checkpoint", checkpoint, *more)
    assert "error: --distill_weight 2.0 differs from None" in capsys.readouterr().err
    assert len(list((run / "checkpoints").iterdir())) == 3  # nothing was lost
    in_process("train_seg", "--resume_from_checkpoint", checkpoint, "--teacher", tmp_path / "moved")
    assert "--teacher" in capsys.readouterr().out
    assert_same_run_without_curve(tmp_path / "whole", run)
    with pytest.raises(SystemExit):
        in_process("train_seg", "--resume_from_checkpoint", teacher, "--max_train_steps", 2, "--teacher", teacher)
    assert "started with other teachers" in capsys.readouterr().err


def assert_same_run_without_curve(one, two):
    for row, other in zip(rows_of(one), rows_of(two), strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    weights = [load_file(run / "best" / "model.safetensors") for run in (one, two)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"id2label": lambda names: {**names, "0": "lane"}},
            "must predict the classes of the data, in their order, but ",
        ),
        ({"id2label": lambda names: dict(zip(names, reversed(names.values()), strict=True))}, "has them in the order"),
        ({"image_mean": lambda _: [0.5, 0.5, 0.5]}, "normalises images with mean [0.5, 0.5, 0.5]"),
        ({"auto_map": lambda _: {"AutoModel": "x.Y"}, "model_type": lambda _: "x"}, "which train_seg.py does not run"),
        ({"teachers": lambda _: [{"name": 3}]}, "teachers is [{'name': 3}]"),
    ],
)
def test_a_teacher_that_does_not_fit_is_one_line(change, said, teacher, toycity, in_process, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(teacher / "best", other)
    for key, new in change.items():
        path = other / ("preprocessor_config.json" if key == "image_mean" else "config.json")
        entries = json.loads(path.read_text())
        path.write_text(json.dumps({**entries, key: new(entries.get(key))}))
    assert refusal(flags_of(toycity, tmp_path / "r", other), in_process, capsys).count(said) == 1


def test_a_teacher_that_is_not_there_or_sees_too_little_is_one_line(toycity, in_process, tmp_path, capsys):
    assert "--teacher no/such/run: no such file" in refusal(
        flags_of(toycity, tmp_path / "r", "no/such/run"), in_process, capsys
    )
    (tmp_path / "empty").mkdir()
    line = refusal(flags_of(toycity, tmp_path / "r", tmp_path / "empty"), in_process, capsys)
    assert line == f"error: --teacher {tmp_path / 'empty'} is neither a run folder with best/ nor a saved model"
    model = ["--model", "segformer_b0", "--max_train_steps", 1, "--output_dir", tmp_path / "segformer"]
    in_process("train_seg", *FAST, "--dataset_path", toycity, *model)
    line = refusal(
        [*flags_of(toycity, tmp_path / "r", tmp_path / "segformer"), "--crop_size", 20, 32], in_process, capsys
    )
    assert "--crop_size 20 32 is too small" in line
    assert not (tmp_path / "r").exists()


def refusal(command, in_process, capsys) -> str:
    with pytest.raises(SystemExit) as ended:
        in_process(*command)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert ended.value.code
    return line


def test_scores_on_images_of_the_teacher_are_marked(toycity, in_process, tmp_path, capsys):
    """The teacher was trained on all images, the student holds one out."""
    names = sorted(path.name for path in (toycity / "leftImg8bit" / "train").rglob("*.png"))
    (tmp_path / "folds.json").write_text(json.dumps({"a": [names[0].removesuffix(".png")]}))
    short = ["--max_train_steps", 1]
    in_process("train_seg", *FAST, *short, "--dataset_path", toycity, "--output_dir", tmp_path / "all")
    folds = ["--folds", tmp_path / "folds.json", "--fold", "a"]
    capsys.readouterr()
    in_process(*flags_of(toycity, tmp_path / "r", tmp_path / "all", *short, *folds))
    note = "this model builds on all, which may have been trained on the images that are scored"
    assert f"note: {note}" in capsys.readouterr().out
    assert f"Beware: {note}" in (tmp_path / "r" / "best" / "README.md").read_text()
    in_process("predict_seg", "--model_name_or_path", tmp_path / "r", "--splits", "val", "--num_workers", 0)
    assert f"note: {note}" in capsys.readouterr().out


def test_scores_on_images_of_the_initial_weights_are_marked(toycity, in_process, tmp_path, capsys):
    """Also two runs later, and after a resumed training."""
    short = ["--max_train_steps", 1, "--dataset_path", toycity]
    in_process("train_seg", *FAST, *short, "--train_on", "train+val", "--output_dir", tmp_path / "all")
    start = ["--init_from", tmp_path / "all"]
    in_process("train_seg", *FAST, *short, *start, "--train_on", "train+val", "--output_dir", tmp_path / "more")
    start = ["--init_from", tmp_path / "more" / "best", "--checkpointing_steps", 1, "--keep_checkpoints", 9]
    capsys.readouterr()
    in_process("train_seg", *FAST, *short, *start, "--max_train_steps", 2, "--output_dir", tmp_path / "r")
    note = "this model builds on more and all, which may have been trained on the images that are scored"
    assert f"note: {note}" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "more")
    checkpoint = tmp_path / "r" / "checkpoints" / "step_000001"
    in_process("train_seg", "--resume_from_checkpoint", checkpoint)
    config = json.loads((tmp_path / "r" / "best" / "config.json").read_text())
    assert [entry["name"] for entry in config["started_from"]] == ["more", "all"] and "teachers" not in config
    assert f"Beware: {note}" in (tmp_path / "r" / "best" / "README.md").read_text()
    capsys.readouterr()
    in_process("predict_seg", "--model_name_or_path", tmp_path / "r", "--splits", "val", "--num_workers", 0)
    assert f"note: {note}" in capsys.readouterr().out


def test_a_dry_run_counts_the_teacher_and_changes_no_number(
    teacher, toycity, in_process, tmp_path, capsys, monkeypatch
):
    from seg_models.cost import forward_memory

    sizes, tensors = [], dry_run.tensors_of_step

    def watched(setup, images):
        sizes.append((tensors(setup, images), forward_memory(setup.teachers[0].network, (32, 64), images)))
        return sizes[-1][0]

    monkeypatch.setattr(dry_run, "tensors_of_step", watched)
    run = flags_of(toycity, tmp_path / "r", teacher, "--max_train_steps", 2)
    in_process(*run, "--dry_run")
    assert "dry run: " in capsys.readouterr().out and not (tmp_path / "r").exists()
    assert all(size >= taught > 0 for size, taught in sizes)
    monkeypatch.setattr(dry_run, "training_memory", lambda *_: 0)
    sizes.clear()
    in_process(*run, "--dry_run")
    assert all(size == taught for size, taught in sizes) and sizes
    monkeypatch.undo()


@pytest.mark.slow
def test_processes_and_micro_batches_change_no_number(teacher, city, in_process, tmp_path, monkeypatch):
    """The divergence of an image does not depend on the others. (Dropout would.)"""
    monkeypatch.setattr(torch.nn.Dropout2d, "forward", lambda self, x: x)
    weights = []
    for processes, parts in ((1, 1), (1, 2), (2, 1)):
        run = tmp_path / f"{processes}_{parts}"
        flags = [*FAST, "--norm", "group", "--batch_size", 4, "--gradient_accumulation_steps", parts]
        flags += ["--max_train_steps", 2, "--eval_every", 9, "--dataset_path", city, "--output_dir", run]
        flags += ["--optimizer", "sgd", "--learning_rate", 0.01, "--teacher", teacher]
        if processes == 1:
            in_process("train_seg", *flags)
        else:
            result = launch("tests/without_dropout.py", *flags, processes=processes)
            assert result.returncode == 0, result.stderr
        weights.append(load_file(run / "best" / "model.safetensors"))
    for spread in weights[1:]:
        for name, tensor in weights[0].items():
            torch.testing.assert_close(spread[name], tensor, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_compiled_run_has_the_numbers_of_a_plain_one(teacher, toycity, in_process, tmp_path, monkeypatch):
    flags = ["--max_train_steps", 1, "--norm", "group", "--optimizer", "sgd", "--learning_rate", 0.01]
    for backend in ("no", "aot_eager"):
        monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", backend)
        in_process(*flags_of(toycity, tmp_path / backend, teacher, *flags))
    one, two = (load_file(tmp_path / name / "best" / "model.safetensors") for name in ("no", "aot_eager"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-4)
