"""What tests share: offline mode, a tiny ToyCity, and how scripts are run."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # bit-for-bit claims are about the CPU; set it to test on GPUs
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # several processes on few cores

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
CAMVID = ROOT.parent / "shared" / "camvid"
sys.path.insert(0, str(ROOT))
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def toycity(tmp_path_factory):
    """A ToyCity of 6 training, 3 validation (2 does not divide them) and 2 test images of 96x192; not to be changed."""
    from data_scripts.toycity import write_toycity

    folder = tmp_path_factory.mktemp("toycity") / "data"
    write_toycity(folder, train=6, val=3, test=2, size=(96, 192), seed=0)
    return folder


@pytest.fixture
def in_process(tmp_path, monkeypatch):
    """`in_process("train_seg", "--flag", ...)`: a script's main in this process, in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def run(script: str, *flags) -> None:
        import importlib

        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        importlib.import_module(script).main([str(flag) for flag in flags])

    return run


def launch(script: str, *flags, processes: int = 1, cwd=None, env=None) -> subprocess.CompletedProcess:
    """A script as its users start it: `accelerate launch`, here on a CPU, on one or more processes."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes)]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    if processes > 1:
        command += ["--multi_gpu", "--main_process_port", "0"]
    command += [str(ROOT / script), *map(str, flags)]
    one_thread = {"OMP_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1"}
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", **one_thread, **(env or {})}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
