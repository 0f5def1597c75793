"""Models go to a hub and come back, through the real client, to a hub on this machine, in processes of their own."""

import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, serve, start_script_server
from hub_server import TOKEN, HubServer
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file, save
from torchvision.models import resnet18
from transformers import pipeline

from data_scripts.catalog import data_note
from data_scripts.labels import CITYSCAPES
from seg_jobs.arguments import TrainArguments
from seg_jobs.card_facts import card_facts
from seg_models.modeling import SegmentationConfig, SegmentationModel
from seg_models.models import build_model
from seg_models.predictor import Predictor
from seg_models.views import Views
from seg_runs import run_folder
from seg_runs.best_model import save_best
from seg_runs.card import make_card, public_arguments, training_command
from seg_runs.parsing import parse_arguments, save_arguments
from seg_runs.state import Conditions, RunState
from seg_runs.temperatures import store_temperature

FAST = "--dataset toycity --model streetnet --crop_size 32 64 --batch_size 2 --num_workers 0".split()
CONDITIONS = Conditions(steps=9, steps_per_epoch=3, precision="no", processes=1)
STATE = RunState(CONDITIONS, step=6, seconds=99.0, best_epoch=2)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BEST = {"README.md", "checksums.json", "config.json", "model.safetensors", "preprocessor_config.json", "training.json"}


@pytest.fixture(scope="module")
def hub_and_scripts(tmp_path_factory):
    """A hub, and a process that has the libraries loaded and runs scripts that know only this hub."""
    home = tmp_path_factory.mktemp("home")
    with HubServer() as hub:
        server = start_script_server(hub.environment(home))

        def script(folder, path, *flags, token=TOKEN) -> subprocess.CompletedProcess:
            folder.mkdir(exist_ok=True)
            result = serve(server, path, *flags, cwd=folder, env=hub.environment(home, token))
            assert not secrets_in(home)
            return result

        yield hub, script
        server.stdin.close()
        server.wait()


@pytest.fixture
def hub(hub_and_scripts):
    hub, _ = hub_and_scripts
    hub.clear()
    return hub


@pytest.fixture
def script(hub_and_scripts):
    """`script(folder, path, *flags, token=TOKEN)` runs a script in a folder, with the hub, to its end."""
    return hub_and_scripts[1]


def start(hub, home, *words, token=TOKEN, stderr=subprocess.PIPE) -> subprocess.Popen:
    """A fresh interpreter in an empty folder that knows only this hub."""
    home.mkdir(exist_ok=True)
    threads = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    environment = {**os.environ, **threads, **hub.environment(home / "hf", token)}
    command = [sys.executable, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=home, env=environment)


def written(folder, code) -> Path:
    """Write a script and return its path."""
    path = folder / "code.py"
    path.write_text(code)
    return path


def publish(script, folder, run, name, *flags, token=TOKEN):
    flags = ["seg_runs.publish.main", run, "--hub_model_id", name, *flags]
    return script(folder, "tests/pushing.py", *flags, token=token)


@torch.no_grad()
def make_run(folder, network, size=None, scores=None, **flags):
    """A run folder as training leaves it, without the training."""
    torch.manual_seed(0)
    classifier = [layer for layer in network.modules() if getattr(layer, "out_channels", 0) == 19][-1]
    torch.nn.init.normal_(classifier.weight, std=0.5)
    colors = torch.nn.functional.interpolate(torch.randn(1, 3, 4, 8), size=(96, 192), mode="bilinear")
    classifier.bias -= network.eval()(colors).logits.mean((0, 2, 3))  # predictions differ from pixel to pixel
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "images" / "epoch_0002.png")
    (folder / "args.yaml").write_text(yaml.safe_dump({"dataset": "toycity", **flags}))
    args = parse_arguments(TrainArguments, [str(folder / "args.yaml")])
    save_arguments(args, folder / "args.yaml")
    network.config.update(
        {
            "pretrained": run_folder.started_from(args.network.start).name,
            "trained_on": args.data.train_on,
            "fold": args.data.fold,
            "train_images": 6,
            "select": args.run.select,
            "seed": args.run.seed,
        }
    )
    predictor = Predictor(network, MEAN, STD, Views(size))
    save_best(folder, network, predictor.image_processor(), STATE, card_facts(), scores)
    return folder


def streetnet(norm="batch"):
    torch.manual_seed(0)
    return build_model("streetnet", norm, CITYSCAPES.id2label, "toycity")


SCORES = {"mean_iou": 0.5, "mean_accuracy": 0.6, "overall_accuracy": 0.7}
SCORES |= {"per_category_iou": [0.5] * 18 + [float("nan")], "per_category_accuracy": [0.6] * 18 + [float("nan")]}


def secrets_in(folder) -> list:
    return [path for path in folder.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


# the way there and back


def test_three_models_go_to_a_hub_and_come_back_to_a_stranger(hub, script, toycity, tmp_path):
    """StreetNet's training pushes it to a hub that answers late, hangs up and fails; the others follow afterwards."""
    hub.faults["commit"] = ["hang up", 500]
    hub.open.clear()
    flags = [*FAST, "--dataset_path", toycity, "--epochs", 2, "--output_dir", tmp_path / "street"]
    flags += ["--push_to_hub", "--hub_model_id", "streetnet", "--hub_strategy", "every_save"]
    words, output = [ROOT / "tests" / "pushing.py", "train_seg.main", *flags], ""
    with (tmp_path / "errors").open("w+") as errors, start(hub, tmp_path / "home", *words, stderr=errors) as trained:
        for line in trained.stdout:
            output += line
            if line.startswith("epoch 2 "):  # training went on while the upload of epoch 1 waited for an answer
                hub.open.set()
    errors = (tmp_path / "errors").read_text()
    assert trained.returncode == 0, errors
    assert output.count("warning: upload to user/streetnet failed, tried again") == 2
    assert output.index("epoch 2 ") < output.index("warning: upload")
    assert re.search(rf"uploaded: {hub.url}/user/streetnet/commit/\w+", output)
    assert output.index("will be uploaded to user/streetnet") < output.index(" M parameters")

    torch.manual_seed(0)
    config = {"id2label": CITYSCAPES.id2label, "dataset": "toycity", "output_stride": 8, "norm": "evo"}
    deeplab = SegmentationModel(SegmentationConfig(encoder="resnet18", decoder="deeplabv3", **config))
    segformer = build_model("segformer_b0", "batch", CITYSCAPES.id2label, "toycity")
    outputs = [output + errors]
    for name, model in (("deeplabv3", deeplab), ("segformer", segformer)):
        run = make_run(tmp_path / name, model, model=f"{name}_x", scores=SCORES)
        published = publish(script, tmp_path / "home", run, f"user/{name}")
        assert published.returncode == 0, published.stderr
        outputs.append(published.stdout + published.stderr)
        hub.large.clear()  # they are in the commits

    # what the repository holds
    files = hub.files("user/streetnet")
    assert {*BEST, "modeling.py", "args.yaml", "log_epoch.csv", "learning_curve.png", "validation.png"} <= files.keys()
    assert any(path.startswith("tensorboard/minicity-seg/") for path in files) and "losses.py" in files
    assert not [path for path in hub.files("user/segformer") if path.endswith(".py")]  # the native class needs no code
    assert b"`pip install pillow torch transformers`" in hub.files("user/segformer")["README.md"]
    assert "dataset_path: data" in files["args.yaml"].decode() and str(toycity) not in files["args.yaml"].decode()
    card = ModelCard(files["README.md"].decode())
    assert (card.data.pipeline_tag, card.data.library_name, card.data.license) == (
        "image-segmentation",
        "transformers",
        "apache-2.0",
    )
    measured = {result.metric_type: result.metric_value for result in card.data.eval_results}
    results = json.loads((tmp_path / "street" / "results.json").read_text())
    assert measured["mean_iou"] == pytest.approx(results["best_mean_iou"], abs=1e-4)
    assert 'pipeline("image-segmentation", model="user/streetnet", trust_remote_code=True)' in card.text

    # a stranger
    image = sorted((toycity / "leftImg8bit" / "val").iterdir())[0]
    torch.save(torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)), tmp_path / "pixels.pt")
    names = ["user/streetnet", "user/deeplabv3", "user/segformer"]
    words = (ROOT / "tests" / "loading.py", image, tmp_path / "pixels.pt", tmp_path / "found.pt", *names)
    with start(hub, tmp_path / "stranger", *words, token="") as loaded:
        _, errors = loaded.communicate(timeout=300)
    assert loaded.returncode == 0, errors
    assert "The model 'SegmentationModel' is not supported for image-segmentation" in errors  # docs/hub.md
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    street = SegmentationModel.from_pretrained(tmp_path / "street" / "best").eval()
    for name, model in zip(names, (street, deeplab, segformer), strict=True):
        with torch.no_grad():
            logits = model(torch.load(tmp_path / "pixels.pt", weights_only=True)).logits
        torch.testing.assert_close(found[name]["logits"], logits, rtol=1e-5, atol=1e-5 * logits.abs().max().item())
        weights = model.state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in found[name]["weights"].items())
        masks = found[name]["masks"]
        assert masks.keys() <= set(CITYSCAPES.names)
        assert torch.equal(sum(mask.int() for mask in masks.values()), torch.full((96 * 192,), 255, dtype=torch.int32))
        assert found[name]["processor"] == "SegformerImageProcessor"
    assert len(found["user/deeplabv3"]["masks"]) > 3
    assert [found[name]["model_type"] for name in names] == ["minicity_seg", "minicity_seg", "segformer"]
    assert [found[name]["module"] for name in names] == ["transformers_modules", "transformers_modules", "transformers"]

    # no token anywhere
    assert not secrets_in(tmp_path) and not any(TOKEN in text for text in outputs)
    for name in names:
        assert not [path for path, content in hub.files(name).items() if TOKEN.encode() in content]


def test_predict_seg_takes_a_hub_id_and_first_weights_do_too(hub, script, toycity, in_process, tmp_path):
    run = make_run(tmp_path / "run", streetnet("evo"))
    hub.add("user/net", {path.name: path.read_bytes() for path in (run / "best").iterdir()})
    home, flags = tmp_path / "home", ["--dataset_path", toycity, "--splits", "val", "--num_workers", 0]
    predicted = script(home, "predict_seg.py", "--model_name_or_path", "user/net", *flags)
    assert predicted.returncode == 0, predicted.stderr
    in_process("predict_seg", "--model_name_or_path", run, *flags)
    scores = [json.loads((path / "scores_val.json").read_text()) for path in (home / "predictions" / "user--net", run)]
    assert scores[0]["iou"] == scores[1]["iou"] and scores[0]["settings"]["model"] != scores[1]["settings"]["model"]
    start = [*FAST, "--norm", "evo", "--max_train_steps", 1, "--dataset_path", toycity, "--report_to", "none"]
    begun = script(home, "train_seg.py", *start, "--init_from", "user/net@main", "--output_dir", "r")
    assert begun.returncode == 0, begun.stderr
    loaded, tensors = re.search(r"--init_from user/net@main: (\d+) of (\d+) tensors loaded", begun.stdout).groups()
    assert loaded == tensors
    assert json.loads((home / "r" / "best" / "config.json").read_text())["pretrained"] == "user/net@main"
    assert ModelCard.load(home / "r" / "best" / "README.md").data.base_model == "user/net"
    # encoders: from timm, and from a repository whose weights are not safetensors
    encoders = {"timm/resnet18.a1_in1k": resnet18(), "nvidia/mit-b0": resnet18(num_classes=7)}
    hub.add("timm/resnet18.a1_in1k", {"model.safetensors": save(encoders["timm/resnet18.a1_in1k"].state_dict())})
    torch.save(encoders["nvidia/mit-b0"].state_dict(), tmp_path / "x.bin")
    hub.add("nvidia/mit-b0", {"config.json": b"{}", "pytorch_model.bin": (tmp_path / "x.bin").read_bytes()})
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom seg_models.errors import ModelError\n"
    code += "from seg_jobs.model_paths import find_model\n"
    code += "from seg_models.weight_files import read_encoder\n"
    code += "for name in ('resnet18.a1_in1k', 'nvidia/mit-b0'): print(read_encoder(name).tensors['fc.weight'].sum())\n"
    code += "for name in sys.argv[1:]:\n    try: find_model(name)\n    except ModelError as error: print(error)"
    names = ("user/nothing", "user/net@v9", "not a name")
    *sums, first, second, third = script(home, written(tmp_path, code), *names).stdout.splitlines()
    assert sums == [str(encoder.fc.weight.detach().sum()) for encoder in encoders.values()]
    missing = first, second, third
    said = ["the hub has no such model or revision"] * 2 + ["it cannot be a hub id"]
    for name, line, what in zip(names, missing, said, strict=True):
        assert line.startswith(f"--model_name_or_path {name}: ") and what in line


def test_the_page_takes_a_hub_id(hub, script, tmp_path):
    run = make_run(tmp_path / "run", streetnet())
    hub.add("user/page", {path.name: path.read_bytes() for path in (run / "best").iterdir()})
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom seg_app.models import Accelerator, Segmenter\n"
    code += "page = Segmenter('user/page', None, False, Accelerator())\n"
    code += "print(page.labels.names[0], sum(p.numel() for p in page.model.parameters()))\n"
    code += "from seg_app.facts import facts_of; print(len(facts_of('user/page').limits) > 100)"
    loaded = script(tmp_path / "home", written(tmp_path, code))
    numbers = sum(p.numel() for p in streetnet().parameters())
    assert loaded.stdout.split()[-3:] == ["road", str(numbers), "True"], loaded.stderr


# a hub that fails


@pytest.mark.parametrize("flag", ["--model_name_or_path", pytest.param("--init_from", marks=pytest.mark.slow)])
def test_a_download_that_breaks_off_is_one_line(hub, script, toycity, tmp_path, flag):
    run = make_run(tmp_path / "run", streetnet())
    hub.add("user/cut", {path.name: path.read_bytes() for path in (run / "best").iterdir()})
    hub.faults["resolve"] = ["hang up"] * 20
    path, more = ("predict_seg.py", []) if flag == "--model_name_or_path" else ("train_seg.py", FAST)
    broken = script(tmp_path / "home", path, flag, "user/cut", "--dataset_path", toycity, *more)
    errors = [line for line in broken.stderr.splitlines() if line.startswith("error: ")]
    assert broken.returncode == 1 and len(errors) == 1 and "user/cut" in errors[0], broken.stderr
    assert "Traceback" not in broken.stderr


def test_what_a_hub_refuses_ends_the_training_before_it_began(hub, script, toycity, tmp_path):
    run = make_run(tmp_path / "run", streetnet())
    flags = [
        *FAST,
        "--dataset_path",
        toycity,
        "--output_dir",
        tmp_path / "r",
        "--push_to_hub",
        "--hub_model_id",
        "user/x",
    ]
    refused = script(tmp_path / "home", "train_seg.py", *flags, token="hf_AnotherToken")
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "error: --hub_model_id user/x: the hub does not accept the token (401)" in refused.stderr
    assert "hf_AnotherToken" not in refused.stdout + refused.stderr and not (tmp_path / "r").exists()
    hub.faults["create"] = [500, 403]
    for token, said in ((TOKEN, "500"), (TOKEN, "may not write there (403)"), ("", "no token found: log in")):
        refused = publish(script, tmp_path / "home", run, "user/x", token=token)
        assert refused.returncode == 1 and refused.stderr.count("\n") == 1 and refused.stderr.startswith("error: ")
        assert said in refused.stderr and not hub.repositories


def test_a_failed_upload_loses_nothing_and_its_command_repeats_it(hub, script, tmp_path):
    run = make_run(tmp_path / "run", streetnet(), scores=SCORES)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code = "from seg_runs import hub; from pathlib import Path; hub.PAUSE = 0.01; import sys; "
    code += "from seg_jobs.card_facts import card_facts; "
    code += "print(hub.upload_with_retries(Path(sys.argv[1]), 'user/x', True, card_facts()))"
    hub.add("user/x", {})
    hub.faults["commit"] = [500, "hang up", 401]
    home = tmp_path / "home"
    failed = script(home, written(tmp_path, f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"), run)
    assert failed.returncode == 0, failed.stderr
    lines = failed.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines[:-1]] == ["warning"] * 4 and lines[-1] == "None"
    assert "tried again in" in lines[0] and "not tried again" in lines[2] and "(401)" in lines[2]
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    command = shlex.split(lines[3].split("upload it with: ")[1])
    assert command == ["python", "-m", "seg_runs.publish", str(run), "--hub_model_id", "user/x", "--hub_private"]
    public = publish(script, home, *command[3:4], command[5], command[6])
    assert public.returncode == 1 and "--hub_private: user/x exists already and is public" in public.stderr
    hub.private.add("user/x")
    hub.faults["lfs"] = ["hang up"]  # which the client itself retries
    repeated = publish(script, home, *command[3:4], command[5], command[6])
    assert repeated.returncode == 0, repeated.stderr
    assert hub.files("user/x")["model.safetensors"] == (run / "best" / "model.safetensors").read_bytes()
    hub.faults["commit"] = [500]
    changed = (run / "log_epoch.csv").write_text("epoch\n")
    broken = publish(script, home, run, "user/x")
    assert changed and broken.returncode == 1 and "Traceback" not in broken.stderr
    assert "error: upload to user/x failed, nothing here is lost" in broken.stderr
    assert not list(run.glob(".push-*"))


@pytest.mark.parametrize(
    "words, said",
    [
        (["--hub_model_id", "a/b/c"], "--hub_model_id 'a/b/c' is not a hub id"),
        (["--hub_model_id", "user/x"], "offline mode is on"),
        ([], "--hub_model_id"),
        (["--hub_model_id", "user/x", "--nonsense"], "--nonsense"),
    ],
)
def test_publishing_what_cannot_be_is_one_line(tmp_path, capsys, words, said):
    from seg_runs.publish import main

    run = make_run(tmp_path / "run", streetnet())
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(run), *words])
    output = capsys.readouterr().err
    assert stop.value.code in (1, 2) and output.count("\n") == 1 and output.startswith("error: ") and said in output
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--hub_model_id", "user/x"])
    assert "is not a run folder" in capsys.readouterr().err


# other people's code


def test_code_beside_a_model_runs_only_if_it_is_trusted(toycity, in_process, tmp_path, monkeypatch, capsys):
    """Somebody else's model type, whose code leaves a trace."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = make_run(tmp_path / "run", streetnet()) / "best"
    config = json.loads((folder / "config.json").read_text())
    trace = tmp_path / "trace"
    for name in ("modeling.py",):
        code = (folder / name).read_text().replace('"minicity_seg"', '"another"')
        (folder / name).write_text(f"{code}\nimport os\nos.makedirs({str(trace)!r}, exist_ok=True)\n")
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "another"}))
    flags = ["--model_name_or_path", folder, "--dataset", "toycity", "--dataset_path", toycity, "--splits", "val"]
    with pytest.raises(SystemExit):
        in_process("predict_seg", *flags, "--num_workers", 0)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: cannot load the model in") and "--trust_remote_code" in line and not trace.exists()
    in_process("predict_seg", *flags, "--num_workers", 0, "--trust_remote_code", "--output_dir", tmp_path / "o")
    assert trace.exists() and (tmp_path / "o" / "scores_val.json").exists()


def test_classes_in_another_order_are_not_scored_as_ours(toycity, in_process, tmp_path, capsys):
    network = build_model("streetnet", "batch", dict(enumerate(CITYSCAPES.names[::-1])), "toycity")
    run = make_run(tmp_path / "run", network)
    with pytest.raises(SystemExit):
        in_process("predict_seg", "--model_name_or_path", run, "--dataset_path", toycity)
    assert "--dataset toycity in another order: bicycle, motorcycle" in capsys.readouterr().err.splitlines()[-1]


# the pipeline


@pytest.mark.parametrize("size", [None, (64, 128)], ids=["native", "resized"])
def test_the_pipelines_score_is_predict_segs(toycity, in_process, tmp_path, size):
    import evaluate

    run = make_run(tmp_path / "run", streetnet(), size)
    in_process("predict_seg", "--model_name_or_path", run, "--dataset_path", toycity, "--splits", "val")
    expected = json.loads((run / "scores_val.json").read_text())
    segment = pipeline("image-segmentation", model=str(run / "best"))
    assert type(segment.model) is SegmentationModel  # ours, where the package is installed
    metric = evaluate.load(str(ROOT / "metrics" / "mean_iou"))
    agree = pixels = 0
    for path in sorted((toycity / "leftImg8bit" / "val").iterdir()):
        prediction = torch.zeros(96, 192, dtype=torch.uint8)
        for mask in segment(str(path)):
            found = torch.tensor(list(mask["mask"].tobytes())).view(96, 192) > 0
            prediction[found] = CITYSCAPES.names.index(mask["label"])
        label = path.name.replace("leftImg8bit", "gtFine_labelIds")
        with Image.open(toycity / "gtFine" / "val" / label) as truth:
            ids = CITYSCAPES.train_ids[torch.tensor(list(truth.tobytes())).view(96, 192).numpy()]
        metric.add_batch(predictions=prediction[None], references=ids[None])
        with Image.open(run / "results_val" / path.name) as image:
            ours = CITYSCAPES.train_ids[torch.tensor(list(image.tobytes())).view(96, 192).numpy()]
        agree, pixels = agree + int((prediction.numpy() == ours).sum()), pixels + ours.size
    score = metric.compute(num_labels=19, ignore_index=255)["mean_iou"]
    assert abs(score - expected["mean_iou"]) < 0.001  # 0.1 of 100
    assert agree / pixels > (0.9999 if size is None else 0.98) and len(set(prediction.flatten().tolist())) > 3


def test_a_temperature_leaves_the_hub_with_its_weights(hub, script, tmp_path):
    run = make_run(tmp_path / "run", streetnet(), scores=SCORES)
    store_temperature(run / "best", {"scales": (1.0,)}, {"temperature": 1.5})
    for expected in (True, False):
        published = publish(script, tmp_path / "home", run, "user/warm")
        assert published.returncode == 0, published.stderr
        assert ("calibration.json" in hub.files("user/warm")) == expected
        (run / "best" / "calibration.json").unlink(missing_ok=True)


# the card


def test_a_card_says_what_a_stranger_needs(tmp_path):
    flags = {"model": "streetnet", "norm": "evo", "seed": 3, "dataset_path": "/home/me/city", "hflip": False}
    run = make_run(tmp_path / "run", streetnet("evo"), (64, 128), SCORES, crop_size=[32, 64], **flags)
    card = make_card(run / "best", run, card_facts(), "user/x")
    command = "accelerate launch train_seg.py --dataset toycity --dataset_path city --model streetnet --norm evo"
    for part in (
        "# streetnet with evo norm on ToyCity",
        "nothing in it is pretrained",
        "the split `train`, 6 images, of ToyCity",
        "**Licence.**",
        "| road | 0.5000 | 0.6000 |",
        "| bicycle | - | - |",
        "| **mean** | **0.5000** | **0.6000** |",
        f"{command} --crop_size 32 64 --no_hflip --seed 3",
        f"torch {torch.__version__.split('+')[0]}",
        "1 min 39 s after the start, on 1 x CPU",
        "## Intended use and limits",
        "Not validated, because the images show none: bicycle.",
        'AutoModelForSemanticSegmentation.from_pretrained("user/x", trust_remote_code=True)',
        "resized to 64x128",
        "`pip install torch torchvision transformers`",
    ):
        assert part in card.text, part
    assert "/home/me" not in str(card)
    (result,) = {(r.dataset_type, r.dataset_split, r.task_type) for r in card.data.eval_results}
    assert result == ("toycity", "validation", "image-segmentation")
    weights = load_file(run / "best" / "model.safetensors")
    assert f"{sum(w.numel() for k, w in weights.items() if 'num_batches' not in k) / 1e6:.1f} million" in card.text


def test_a_card_keeps_the_command_of_its_weights(tmp_path):
    """The run resumed with more epochs since, none of which was better."""
    run = make_run(tmp_path / "run", streetnet(), epochs=4)
    path = run / "args.yaml"
    path.write_text(path.read_text().replace("epochs: 4", "epochs: 40"))
    assert make_card(run / "best", run, card_facts()).text.count("--epochs 4\n") == 1
    record = json.loads((run / "best" / "training.json").read_text())
    del record["arguments"]  # as older runs have it
    (run / "best" / "training.json").write_text(json.dumps(record))
    assert make_card(run / "best", run, card_facts()).text.count("--epochs 40\n") == 1


def test_a_card_without_validation_has_no_scores(tmp_path):
    run = make_run(tmp_path / "run", streetnet(), train_on="train+val")
    card = make_card(run / "best", run, card_facts())
    assert "Not measured" in card.text and card.data.eval_results is None and "`train+val`" in card.text


@pytest.mark.parametrize(("dataset", "validated_on"), [("minicity", None), ("toycity", "cityscapes")])
def test_pictures_of_data_that_may_not_be_shown_stay_here(tmp_path, dataset, validated_on):
    from seg_runs.hub import stage

    model = streetnet()
    model.config.dataset, model.config.eval_dataset = dataset, validated_on
    run = make_run(tmp_path / "run", model, scores=SCORES)
    for private in (False, True):
        folder = tmp_path / f"staged{private}"
        folder.mkdir()
        stage(run, folder, "user/x", private, card_facts())
        assert (folder / "validation.png").exists() == private
        assert ("(validation.png)" in (folder / "README.md").read_text()) == private
    assert ModelCard.load(folder / "README.md").data.license == data_note(dataset).licence


@pytest.mark.parametrize(("drawn", "shown"), [((1, 2, 3), 2), ((1, 3), 3)])
def test_the_uploaded_picture_is_that_of_the_weights(tmp_path, drawn, shown):
    from seg_runs.hub import stage

    run = make_run(tmp_path / "run", streetnet())  # its best epoch is 2
    (run / "images" / "epoch_0002.png").unlink()
    for epoch in drawn:
        Image.new("RGB", (epoch, 1)).save(run / "images" / f"epoch_{epoch:04d}.png")
    (tmp_path / "staged").mkdir()
    stage(run, tmp_path / "staged", "user/x", False, card_facts())
    with Image.open(tmp_path / "staged" / "validation.png") as picture:
        assert picture.width == shown


def test_the_command_of_a_card_is_a_command(tmp_path):
    line = (
        "--dataset camvid --model unet --no_hflip --copyblob tutorial --crop_size 64 96 --scale_range 1 1.5 --norm evo"
    )
    args = parse_arguments(TrainArguments, line.split())
    save_arguments(args, tmp_path / "args.yaml")
    command = training_command(yaml.safe_load((tmp_path / "args.yaml").read_text()), card_facts().defaults)
    assert parse_arguments(TrainArguments, shlex.split(command)[3:]) == args
    assert public_arguments({"a": "/home/me/x", "b": "x/y", "c": 3}) == {"a": "x", "b": "x/y", "c": 3}


@pytest.mark.parametrize("trackers", ["tensorboard", "none", ["tensorboard", "wandb"]])
def test_the_command_of_a_card_does_not_say_where_to_report(trackers):
    """Older runs wrote one tracker as a string, which differs from the default of today."""
    command = training_command({"epochs": 3, "report_to": trackers, "norm": "evo"}, card_facts().defaults)
    assert command == "accelerate launch train_seg.py --epochs 3 --norm evo"


def test_where_a_run_pushes_is_not_in_its_recipe(tmp_path):
    """Whoever repeats the run would push over the first one. The command that resumes it names the repository again."""
    from seg_runs.hub import hub_flags

    args = parse_arguments(TrainArguments, "--push_to_hub --hub_model_id user/x --hub_strategy every_save".split())
    save_arguments(args, tmp_path / "args.yaml")
    assert "hub" not in (tmp_path / "args.yaml").read_text()
    assert hub_flags(args.hub) == " --push_to_hub --hub_model_id user/x --hub_strategy every_save"
    assert (
        parse_arguments(TrainArguments, hub_flags(args.hub).split()) == args and hub_flags(TrainArguments().hub) == ""
    )


def test_card_and_weights_are_those_of_one_validation(tmp_path, monkeypatch):
    """Training may replace best/ while an upload begins."""
    from seg_runs import hub
    from seg_runs.files import announce

    run = make_run(tmp_path / "run", streetnet())
    record = run / "best" / "training.json"
    Image.new("RGB", (4, 4)).save(run / "images" / "epoch_0003.png")

    @contextmanager
    def replaced_before():
        content = json.dumps(json.loads(record.read_text()) | {"epoch": 3}).encode()
        announce(run / "best", record.name, content)
        record.write_bytes(content)
        yield

    monkeypatch.setattr(hub, "BEST_IS_WHOLE", replaced_before())
    (tmp_path / "staged").mkdir()
    hub.stage(run, tmp_path / "staged", "user/x", True, card_facts())
    assert "after epoch 3" in (tmp_path / "staged" / "README.md").read_text()
    assert Image.open(tmp_path / "staged" / "validation.png").size == (4, 4)
