"""Shared by all tests: offline mode, a tiny ToyCity, and running the scripts."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # bit-for-bit claims hold on the CPU; set this to test on GPUs
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # waiting threads must not take the few cores
os.environ["OMP_THREAD_LIMIT"] = "1"  # else the scripts use all cores when OMP_NUM_THREADS is 1

import csv
import functools
import gc
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1"}  # of each process that the tests start
CAMVID = ROOT.parent / "shared" / "camvid"
sys.path.insert(0, str(ROOT))

from seg_runs.launch import keep_memory  # noqa: E402
from seg_runs.trackers import PROJECT  # noqa: E402

torch.set_num_threads(1)
keep_memory()  # as the scripts do
gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Keep the cache of data sets apart from the user's."""
    os.environ["MINICITY_SEG_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def toycity(tmp_path_factory):
    """A ToyCity of 6 training, 3 validation (2 does not divide them) and 2 test images of 96x192. Read only."""
    return make_toycity(tmp_path_factory, train=6)


@pytest.fixture(scope="session")
def city(tmp_path_factory):
    """The same with 12 training images: three steps of 4, which two processes can share."""
    return make_toycity(tmp_path_factory, train=12)


def make_toycity(tmp_path_factory, train: int) -> Path:
    from data_scripts.toycity import write_toycity

    folder = tmp_path_factory.mktemp("toycity") / "data"
    write_toycity(folder, train=train, val=3, test=2, size=(96, 192), seed=0)
    return folder


@pytest.fixture
def in_process(tmp_path, monkeypatch):
    """`in_process("train_seg", "--flag", ...)` runs a script's main in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(script: str, *flags) -> None:
        import importlib

        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        importlib.import_module(script).main([str(flag) for flag in flags])

    return run


def start(script: str, *flags, processes: int = 1, precision: str = "no", cwd=None, env=None) -> subprocess.Popen:
    """Start a script as its users do, with `accelerate launch`, here on a CPU with one or more processes."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes)]
    command += ["--num_machines", "1", "--mixed_precision", precision, "--dynamo_backend", "no"]
    if processes > 1:
        command += ["--multi_gpu", "--main_process_port", "0"]
    command += [str(ROOT / script), *map(str, flags)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", **ONE_THREAD, **(env or {})}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=cwd, env=environment, start_new_session=True, **pipes)


def launch(script: str, *flags, processes: int = 1, precision: str = "no", cwd=None, env=None, launcher=False):
    """Run a script to its end, and return a `subprocess.CompletedProcess`.

    With `launcher`, or where GPUs may be used, this is `start`. Else it is `serve`, because to import the libraries
    takes most of the time.
    """
    options = {"processes": processes, "precision": precision, "cwd": cwd, "env": env}
    if not (launcher or os.environ["CUDA_VISIBLE_DEVICES"]):
        return serve(script_server(), script, *flags, **options)
    process = start(script, *flags, **options)
    try:
        stdout, stderr = process.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def serve(server: subprocess.Popen, script: str, *flags, processes: int = 1, precision: str = "no", cwd=None, env=None):
    """Run a script as `launch` does, in processes that have the libraries loaded.

    The script gets the variables that `accelerate launch` sets. `server` comes from `start_script_server`.
    """
    command = [str(ROOT / script), *map(str, flags)]
    settings = {
        "ACCELERATE_USE_CPU": "true",
        "ACCELERATE_MIXED_PRECISION": precision,
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        **(env or {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        job = {"command": command, "processes": processes, "environment": {**os.environ, **ONE_THREAD, **settings}}
        job |= {"cwd": str(cwd or Path.cwd()), "output": str(output), "errors": str(errors)}
        print(json.dumps(job), file=server.stdin, flush=True)
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(command, code, output.read_text(), errors.read_text())


@functools.cache
def script_server() -> subprocess.Popen:
    """Return the process that serves all tests of this process of pytest."""
    return start_script_server()


def start_script_server(env=None) -> subprocess.Popen:
    """Start script_server.py. Libraries that read variables when they are imported find those of `env`."""
    command = [sys.executable, Path(__file__).with_name("script_server.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, **ONE_THREAD, **(env or {})}, **pipes)


def checked(result: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    assert result.returncode == 0, result.stderr
    return result


def refusal(in_process, capsys, *flags) -> str:
    """Run a script that must refuse its flags, and return its line."""
    with pytest.raises(SystemExit) as stop:
        in_process(*flags)
    assert stop.value.code == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    return line


def browse(page: Path, width: int, scheme: str, work):
    """Open a page in a browser, and return what `work(page)` returns. It must load nothing else."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Debian's chromium (apt-get install chromium), which .ci/run installs")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        errors, requests = [], []
        opened.on("console", lambda message: errors.append(message.text))
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("request", lambda request: requests.append(request.url))
        opened.goto(page.as_uri())
        result = work(opened)
        browser.close()
    assert not errors and {url for url in requests if not url.startswith("data:")} == {page.as_uri()}
    return result


def sample(rng, size, crop_size, focus=None, **options):
    """Call `sample_augmentation` with the training script's defaults, or other `options`."""
    from data_scripts.arguments import AugmentOptions
    from data_scripts.augment import sample_augmentation

    return sample_augmentation(rng, size, AugmentOptions(crop_size=crop_size, **options), focus)


def augment(image, label, augmentation, crop_size, jitter=True, instance=None) -> tuple:
    """Take and finish a crop of an image, its label and its instance map."""
    from data_scripts.augment import finish_crop, take_crop

    crop = finish_crop(take_crop(image, label, augmentation, crop_size, instance), augmentation, color=jitter)
    return (crop.image, crop.label) if instance is None else (crop.image, crop.label, crop.instance)


def rows_of(run: Path) -> list[dict]:
    """Return the rows of log_epoch.csv, as text."""
    with (run / "log_epoch.csv").open() as file:
        return list(csv.DictReader(file))


def scalars_of(run: Path) -> dict[str, dict[int, float]]:
    """Return a run's TensorBoard values by tag and step. Fails if a value was logged twice."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run / "tensorboard" / PROJECT), size_guidance={"scalars": 0}).Reload()
    events = {tag: board.Scalars(tag) for tag in board.Tags()["scalars"]}
    for tag, values in events.items():
        assert len({event.step for event in values}) == len(values), f"{tag} logged twice"
    return {tag: {event.step: event.value for event in values} for tag, values in events.items() if values}


def assert_same_run(one: Path, two: Path) -> None:
    """Assert that all logged and saved values of two runs are bit-identical, except durations."""
    for row, other in zip(rows_of(one), rows_of(two), strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    checkpoints = [sorted((run / "checkpoints").iterdir()) for run in (one, two)]
    assert checkpoints[0][-1].name == checkpoints[1][-1].name  # the newest: an interrupted run may keep an older one
    last = f"checkpoints/{checkpoints[0][-1].name}"
    files = ["learning_curve.png", "results.json", "best/model.safetensors"]
    files += [f"{last}/{path.name}" for path in sorted(checkpoints[0][-1].glob("*.safetensors"))]
    for name in files:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    for name in ["training.pt", *(path.name for path in checkpoints[0][-1].glob("rng_*.pt"))]:
        first, second = (torch.load(run / last / name, weights_only=True) for run in (one, two))
        torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
    states = [json.loads((run / last / "state.json").read_text()) for run in (one, two)]
    assert states[0] == {**states[1], **{key: states[0][key] for key in ("seconds", "tracking_id")}}
    scalars = [scalars_of(run) for run in (one, two)]
    assert scalars[0] == {**scalars[1], "epoch/seconds": scalars[0]["epoch/seconds"]}
    assert len({tuple(run["epoch/seconds"]) for run in scalars}) == 1
