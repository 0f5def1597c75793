"""Damaged, foreign and hostile files load or are refused in one line. None runs code."""

import copy
import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import SegformerConfig, SegformerForSemanticSegmentation
from transformers.utils import logging as transformers_logging

from data_scripts.labels import CITYSCAPES, DataError
from seg_jobs import model_paths, trained_model
from seg_jobs.arguments import TrainArguments
from seg_models.errors import ModelError
from seg_models.models import build_model
from seg_models.predictor import Predictor
from seg_runs import checkpoints, files
from seg_runs.errors import RunError
from seg_runs.optimization import Learner
from seg_runs.parsing import parse_arguments, save_arguments
from seg_runs.state import Conditions, RunState, Totals, read_state

VALUES = [None, -1, 0, 10**9, 1.5, float("nan"), "x", [], [1], {}, {"a": 1}, True, "../../etc"]
ONE_LINE = (RunError, ModelError, DataError)


class Hostile:
    """Creates a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("/tmp") / f"hostile_{os.getpid()}",)


@pytest.fixture(autouse=True)
def nothing_hostile_ran():
    trace = Hostile().__reduce__()[1][0]
    trace.unlink(missing_ok=True)
    yield
    assert not trace.exists()


def mutations(content: dict, values, offset: int = 0):
    """Yield (what changed, changed content): each key removed, and each key with two of the bad values."""
    for number, key in enumerate(content):
        yield f"no {key}", {other: value for other, value in content.items() if other != key}
        for i in range(2):
            value = values[(2 * number + i + offset) % len(values)]
            yield f"{key}: {value!r}", {**content, key: value}


BYTES = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "zeroed": lambda data: bytes(len(data)),
    "no text": lambda data: b"\xff\xfe\x00garbage",
    "deep": lambda data: b"[" * 100_000,
    "a list": lambda data: b"[1, 2]",
    "a number": lambda data: b"3",
    "longer": lambda data: data + b"{}",
    "pickle": lambda data: pickle.dumps(Hostile()),
}


def save_processor(folder: Path) -> None:
    network = torch.nn.Module()
    network.config = None
    Predictor(network, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)).image_processor().save_pretrained(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A SegFormer of few weights and a StreetNet, saved."""
    folder = tmp_path_factory.mktemp("models")
    sizes = {"depths": [1] * 4, "hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2]}
    names = {"id2label": CITYSCAPES.id2label, "label2id": {name: i for i, name in CITYSCAPES.id2label.items()}}
    torch.manual_seed(0)
    segformer = SegformerForSemanticSegmentation(SegformerConfig(**sizes, **names, decoder_hidden_size=8))
    networks = {"segformer": segformer, "streetnet": build_model("streetnet", "batch", CITYSCAPES.id2label, "toycity")}
    for name, network in networks.items():
        network.save_pretrained(folder / name)
        save_processor(folder / name)
    return {name: (network, folder / name) for name, network in networks.items()}


@pytest.fixture
def model(models, tmp_path):
    shutil.copytree(models["segformer"][1], tmp_path / "model")
    return tmp_path / "model"


def use(folder: Path) -> bool:
    """Return whether a saved model loads and predicts. Any failure other than one line is an error."""
    try:
        network, processor = trained_model.load_model(folder)
        trained_model.processor_size(processor)
        trained_model.label_set(network, folder, None)
    except ONE_LINE as error:
        assert "\n" not in str(error) and len(str(error).replace(str(folder), "")) < 400
        return False
    return True


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_changed_settings_of_a_model_load_or_are_one_line(name, model):
    whole, loaded, number = json.loads((model / name).read_text()), 0, 0
    for number, (_, content) in enumerate(mutations(whole, VALUES), start=1):  # noqa: B007
        (model / name).write_text(json.dumps(content))
        loaded += use(model)
    assert number >= 30 and 0 < loaded < number


def test_changed_settings_of_a_network_of_ours_load_or_are_one_line(models, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(models["streetnet"][1], folder)
    whole = json.loads((folder / "config.json").read_text())
    for key, value in (("encoder", "nonsense"), ("decoder", 3), ("norm", "x"), ("output_stride", "16"), ("norm", None)):
        (folder / "config.json").write_text(json.dumps({**whole, key: value}))
        assert not use(folder), key
    names = {"a": "b"}, {"0": 1}, {"0": "road", "2": "x"}, ["road"], {}, {"-1": "x"}, {str(10**9): "x"}
    for wrong in names:
        (folder / "config.json").write_text(json.dumps({**whole, "id2label": wrong}))
        assert not use(folder), wrong
    (folder / "config.json").write_text(json.dumps(whole))
    (folder / "preprocessor_config.json").write_text("{}")  # transformers names all the processors that it knows
    assert not use(folder)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_changed_bytes_of_a_model_are_one_line(name, model):
    whole = (model / name).read_bytes()
    for how, change in BYTES.items():
        (model / name).write_bytes(change(whole))
        assert not use(model), how
    (model / name).unlink()
    assert not use(model)
    (model / name).mkdir()
    assert not use(model)


def test_a_hostile_pickle_in_place_of_weights_is_one_line(model):
    (model / "model.safetensors").unlink()
    for content in (Hostile(), {"weight": Hostile()}, [Hostile()]):
        torch.save(content, model / "pytorch_model.bin")
        assert not use(model)
        (model / "pytorch_model.bin").write_bytes(pickle.dumps(content))
        assert not use(model)


def test_weights_of_other_shapes_kinds_and_names_are_one_line(model):
    path = model / "model.safetensors"
    whole = load_file(path)
    key = max(whole, key=lambda name: whole[name].numel())
    others = [
        {**whole, key: whole[key][:1].clone()},
        {**whole, key: whole[key] * float("nan")},
        {f"x.{name}": tensor for name, tensor in whole.items()},
        {"x": torch.zeros(1)},
    ]
    for weights in others:
        save_file(weights, path, {"format": "pt"})
        assert not use(model)


@pytest.mark.parametrize(
    "change, line",
    [
        ({"decoder": "unet"}, r"\d+ of its weights are missing, for example \S+"),
        ({"norm": "group"}, r"\d+ of its weights have no place in the network of config.json, for example \S+"),
        ({"id2label": {"0": "road"}}, r"\S+ has shape \(19,.*\), but the network of config.json needs \(1,.*\)"),
    ],
)
def test_a_configuration_of_another_network_is_one_line(change, line, models, tmp_path, capfd):
    folder = tmp_path / "model"
    shutil.copytree(models["streetnet"][1], folder)
    whole = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**whole, **change}))
    before = transformers_logging.get_verbosity()
    with pytest.raises(RunError, match=f"^cannot load the model in {folder}: {line}$"):
        trained_model.load_model(folder)
    said = capfd.readouterr()
    assert "REPORT" not in said.out + said.err
    assert transformers_logging.get_verbosity() == before


def test_surplus_weights_of_another_project_are_a_note(model, capsys):
    path = model / "model.safetensors"
    save_file({**load_file(path), "neck.weight": torch.zeros(1)}, path, {"format": "pt"})
    assert use(model)
    note = "note: 1 of its weights have no place in the network of config.json, for example neck.weight\n"
    assert capsys.readouterr().out == note


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["segformer", "streetnet"])
def test_models_in_half_precision_are_computed_in_fp32(name, dtype, models, tmp_path):
    half = copy.deepcopy(models[name][0]).to(dtype)
    half.save_pretrained(tmp_path)
    save_processor(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    assert said["dtype"] == str(dtype).removeprefix("torch.")
    image = torch.rand(1, 3, 64, 64)
    for content in (said, {**said, "dtype": "float32"}):
        (tmp_path / "config.json").write_text(json.dumps(content))
        network, _ = trained_model.load_model(tmp_path)
        assert {weight.dtype for weight in network.parameters()} == {torch.float32}
        with torch.no_grad():
            expected = half.float().eval()(image).logits
            torch.testing.assert_close(network(image).logits, expected, rtol=0, atol=1e-5)


def test_best_that_is_no_longer_what_was_written_is_one_line(model):
    files.write_checksums(model, ["model.safetensors"])
    assert use(model)
    path = model / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match="model.safetensors has changed since it was written"):
        trained_model.load_model(model)


# checkpoints

CONDITIONS = Conditions(steps=9, steps_per_epoch=3, precision="no", processes=1)
STATE = RunState(
    CONDITIONS, epoch=1, step=3, totals=Totals(1.0, 2.0, 3.0, 4.0), seconds=1.0, best_mean_iou=0.5, best_epoch=1
)


class Alone:
    """The parts of an `Accelerator` that a checkpoint needs."""

    is_main_process, process_index, num_processes, scaler = True, 0, 1, None

    def wait_for_everyone(self):
        pass


def network_and_optimizer(kind=torch.optim.AdamW):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    optimizer = kind([{"params": network.parameters(), "initial_lr": 0.1}], lr=0.1, weight_decay=0.1)
    network(torch.randn(4, 3)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    return network, optimizer


def learner_of(network, optimizer):
    return Learner(network, None, network, optimizer)


@pytest.fixture
def run(tmp_path):
    """A run folder with checkpoints of steps 2 and 3."""
    run, learner = tmp_path / "run", learner_of(*network_and_optimizer())
    run.mkdir()
    save_arguments(parse_arguments(TrainArguments, ["--dataset", "toycity"]), run / "args.yaml")
    for step in (2, 3):
        checkpoints.save_checkpoint(Alone(), run, learner, replace(STATE, step=step, epoch=0), 9)
    return run


def goes_on(folder: Path) -> bool:
    """Return whether a checkpoint loads and a step can be made. Any failure other than one line is an error."""
    network, optimizer = network_and_optimizer()
    try:
        found, _ = checkpoints.find_checkpoint(str(folder))
        read_state(found)
        checkpoints.load_checkpoint(Alone(), found, learner_of(network, optimizer))
    except RunError as error:
        assert "\n" not in str(error)
        return False
    network(torch.randn(4, 3)).square().mean().backward()
    optimizer.step()
    return True


@pytest.mark.parametrize("name", ["model.safetensors", "training.pt", "state.json", "rng_0.pt", files.CHECKSUMS])
def test_a_damaged_newest_checkpoint_is_passed_over(name, run):
    newest = run / "checkpoints" / "step_000003"
    whole = (newest / name).read_bytes()
    assert checkpoints.find_checkpoint(str(run)) == (newest, [])
    for change in BYTES.values():
        (newest / name).write_bytes(change(whole))
        found, (note,) = checkpoints.find_checkpoint(str(run))
        assert found.name == "step_000002" and f"checkpoint {newest} is damaged" in note and goes_on(run)
        assert not goes_on(newest)
    (newest / name).unlink()
    assert checkpoints.find_checkpoint(str(run))[0].name == "step_000002" or name == files.CHECKSUMS


def test_a_state_that_is_written_again_is_sound_before_and_after(run, monkeypatch):
    """Two files change, and the power may fail between them."""
    newest = run / "checkpoints" / "step_000003"

    def die(*_):
        raise KeyboardInterrupt

    for seconds in (5.0, 6.0):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(checkpoints, "write_atomically", die)
            checkpoints.update_state(run, replace(STATE, seconds=seconds))
        assert files.damage(newest) == "" and read_state(newest).seconds == 1.0
    checkpoints.update_state(run, replace(STATE, seconds=7.0))
    assert files.damage(newest) == "" and read_state(newest).seconds == 7.0


def test_a_moving_average_is_not_dropped_without_a_word(run):
    """args.yaml says that there is none, and the checkpoint has one."""
    newest = run / "checkpoints" / "step_000003"
    shutil.copy(newest / "model.safetensors", newest / "ema.safetensors")
    network, optimizer = network_and_optimizer()
    with pytest.raises(RunError, match="it holds a moving average, but the run has no --ema_decay"):
        checkpoints.load_checkpoint(Alone(), newest, learner_of(network, optimizer))


@pytest.fixture
def old(run):
    """A single checkpoint, from before there were checksums."""
    shutil.rmtree(run / "checkpoints" / "step_000002")
    folder = run / "checkpoints" / "step_000003"
    (folder / files.CHECKSUMS).unlink()
    assert goes_on(folder)
    return folder


def test_changed_states_are_one_line(old):
    whole = json.loads((old / "state.json").read_text())
    refused = 0
    for _, content in mutations(whole, VALUES):
        (old / "state.json").write_text(json.dumps(content))
        refused += not goes_on(old)
    assert refused > 25


@pytest.mark.parametrize("name", ["model.safetensors", "training.pt", "state.json", "rng_0.pt"])
def test_changed_bytes_of_a_checkpoint_are_one_line(name, old):
    whole = (old / name).read_bytes()
    for how, change in BYTES.items():
        (old / name).write_bytes(change(whole))
        assert not goes_on(old) or how == "longer"  # an archive may have bytes after its end
    (old / name).unlink()
    (old / name).mkdir()
    assert not goes_on(old)


def test_changed_training_states_are_one_line(old):
    whole = torch.load(old / "training.pt", weights_only=True)
    group, first = whole["optimizer"]["param_groups"][0], whole["optimizer"]["state"][0]
    changed = [[], {}, 3, {"optimizer": None}, {"optimizer": {}}, {"optimizer": {"state": {}, "param_groups": []}}]
    for content in ({k: v for k, v in group.items() if k != "params"}, *({**group, "params": p} for p in ([], [0], 3))):
        changed.append({"optimizer": {**whole["optimizer"], "param_groups": [content]}})
    for key, value in (("lr", "x"), ("betas", (1,)), ("betas", 3), ("eps", None), ("weight_decay", float("nan"))):
        changed.append({"optimizer": {**whole["optimizer"], "param_groups": [{**group, key: value}]}})
    moments = [{}, {"exp_avg": first["exp_avg"]}, {**first, "exp_avg": torch.zeros(2)}, {**first, "exp_avg_sq": "x"}]
    moments += [{**first, "step": torch.zeros(3)}, {**first, "exp_avg": first["exp_avg"] * float("nan")}]
    for content in moments[1:]:
        state = {**whole["optimizer"]["state"], 0: content}
        changed.append({"optimizer": {**whole["optimizer"], "state": state}})
    for content in changed:
        torch.save(content, old / "training.pt")
        assert not goes_on(old), content
    for content in ([], {}, {"cpu": 3}, {"cpu": torch.zeros(3)}, {"cpu": torch.zeros(3, dtype=torch.uint8)}):
        torch.save(whole, old / "training.pt")
        torch.save(content, old / "rng_0.pt")
        assert not goes_on(old), content


def test_changed_arguments_of_a_run_are_one_line(run, capsys):
    path = run / "args.yaml"
    whole = path.read_bytes()
    contents = [
        "3",
        "[]",
        "x",
        "",
        "a: b",
        "batch_size: []",
        "batch_size: {a: b}",
        "copyblob_rules: [{1: 2}]",
        "seed: x",
    ]
    contents += ["{", "? [a]\n: b", "epochs: 2026-13-45", "a: &a [*a]", "dataset: [a, b]", "!!python/object:os.x {}"]
    for content in [*(text.encode() for text in contents), *(change(whole) for change in BYTES.values())]:
        path.write_bytes(content)
        try:
            parse_arguments(TrainArguments, ["--resume_from_checkpoint", str(run)])
        except RunError as error:
            assert "\n" not in str(error)
        except SystemExit:
            assert capsys.readouterr().err.startswith("error: ")
        try:
            model_paths.read_arguments(run)
        except RunError as error:
            assert "\n" not in str(error)
    path.unlink()
    path.mkdir()
    with pytest.raises(RunError):
        model_paths.read_arguments(run)


def test_a_run_that_ended_before_its_first_checkpoint_says_how_to_begin_it_again(run):
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(RunError, match=f"--output_dir {run} --overwrite_output_dir"):
        parse_arguments(TrainArguments, ["--resume_from_checkpoint", str(run)])
    entries = yaml.safe_load((run / "args.yaml").read_text())
    assert entries["dataset"] == "toycity"
    from seg_runs.run_folder import refuse_run

    with pytest.raises(RunError, match="ended before its first checkpoint") as refused:
        refuse_run(run)
    assert "--resume_from_checkpoint" not in str(refused.value)


def test_printed_commands_can_be_pasted(tmp_path):
    import shlex

    from seg_runs.outcome import outcome

    run = tmp_path / "my runs; rm x"
    words = shlex.split(outcome(run, STATE, "best").partition("Next: ")[2])
    assert words[words.index("--model_name_or_path") + 1] == str(run)
    (run / "checkpoints" / "step_000003").mkdir(parents=True)
    words = shlex.split(checkpoints.last_checkpoint(run).partition("continue with ")[2])
    assert words == ["--resume_from_checkpoint", str(run)]


@pytest.mark.parametrize("names", ['{"/dev/zero": [[1, 2]]}', '{"../x": [[1, 2]]}', '{"a\\u0000": [[1, 2]]}'])
def test_checksums_of_anothers_making_read_nothing_outside_the_folder(tmp_path, names):
    (tmp_path / files.CHECKSUMS).write_text(names)
    assert files.damage(tmp_path).startswith(f"{files.CHECKSUMS} ")


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"train_on": "foo"}, "--train_on foo is not known"),
        ({"train_on": ["train"]}, "train_on takes one value"),
        ({"fold": "a"}, "fold to hold out (python -m data_scripts.folds writes the file)"),
        ({"folds": "f.json"}, "--folds needs --fold"),
        ({"num_workers": "many"}, "num_workers is 'many', but takes whole numbers"),
    ],
)
def test_absurd_flags_of_a_run_are_one_line_in_prediction(tmp_path, entries, words):
    (tmp_path / "args.yaml").write_text(yaml.safe_dump({"dataset": "toycity", "batch_size": "x", **entries}))
    with pytest.raises(RunError) as refused:
        model_paths.read_arguments(tmp_path)
    assert f"{tmp_path}/args.yaml" in str(refused.value) and words in str(refused.value)


def test_a_best_model_of_another_epoch_than_the_checkpoints_is_not_trusted(run):
    from seg_runs.best_model import damage_of_best

    (run / "best").mkdir(exist_ok=True)
    (run / "best" / "training.json").write_text('{"epoch": 4}')
    assert damage_of_best(run, STATE) == "is not from epoch 1, which the checkpoint names"
    (run / "best" / "training.json").write_text('{"epoch": 1}')
    assert damage_of_best(run, STATE) == ""
