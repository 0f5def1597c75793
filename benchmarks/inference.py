"""Time the ways to run a network on a CPU, from the bytes of a photo to its classes, and score each.

    python benchmarks/inference.py --dataset_path camvid
    python benchmarks/inference.py --dataset_path camvid --cores 1 --size 512 1024 --rounds 15

PyTorch in fp32 and bf16, compiled, and files of `python -m seg_models.export` in onnxruntime and OpenVINO. The files
are made once, in --files. Each number of cores has a process of its own, which uses no others. In it, all ways take
turns: in each round, each has one call that is not timed and --calls that are. A way's time is the median over the
rounds of the mean time of a call; ratios are taken round by round and come with a 95 % confidence interval of the
median. The photo is the first training image, resized. Scores are mIoU on all validation images.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from flags import count
from timing import median_of

from seg_jobs.export_checks import Photos, classes_of, find_photos, mean_iou, resized
from seg_jobs.model_paths import SHIPPED, find_model
from seg_jobs.prediction_job import newest_change, open_model
from seg_jobs.trained_model import label_set, processor_size
from seg_models.exported import open_exported
from seg_models.predictor import Predictor
from seg_models.views import Views
from seg_runs.launch import available_cores

ROOT = Path(__file__).resolve().parent.parent
EAGER = "PyTorch bf16"
STEMS = {"street": "fp32", "street_fp16": "fp16", "street_int8": "int8"}  # names of files and their --precision
Way = Callable[[np.ndarray], np.ndarray]  # maps a photo, uint8 (1, H, W, 3), to train ids (1, H, W)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(SHIPPED), help="default: the network that ships")
    parser.add_argument("--dataset_path", required=True, help="the model's data set")
    parser.add_argument("--files", type=Path, default=Path("exported"), help="folder of the exported files")
    parser.add_argument("--size", type=count, nargs=2, action="append", metavar=("H", "W"), help="may be repeated")
    parser.add_argument("--cores", type=count, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=count, default=9)
    parser.add_argument("--calls", type=count, default=3, help="timed calls of each way in a round")
    parser.add_argument(
        "--cpu_seconds",
        action="store_true",
        help="count CPU seconds: less disturbed by other programs, for one core only",
    )
    parser.add_argument("--only", choices=["files", "times", "scores"], help="default: one after the other")
    parser.add_argument("--in_process", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cpu_seconds and max(args.cores) > 1:
        parser.error("--cpu_seconds needs --cores 1: threads that wait for each other count too")
    if max(args.cores) > available_cores():
        parser.error(f"--cores must be from 1 to {available_cores()} on this machine")
    args.size = args.size or [[360, 480], [512, 1024]]
    if args.in_process:
        compare_times(args)
        return
    make_files(args)
    for cores in args.cores if args.only in (None, "times") else ():
        sizes = [word for size in args.size for word in ("--size", *map(str, size))]
        command = [sys.executable, __file__, "--in_process", "--cores", str(cores), *sizes, "--files", str(args.files)]
        command += ["--model", args.model, "--dataset_path", args.dataset_path]
        command += ["--rounds", str(args.rounds), "--calls", str(args.calls)]
        command += ["--cpu_seconds"] if args.cpu_seconds else []
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(allowed)[-cores:])  # the new process inherits them
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": str(cores)})
        os.sched_setaffinity(0, allowed)
    if args.only in (None, "scores"):
        compare_scores(args)


def make_files(args: argparse.Namespace) -> None:
    """Export the files that are not there yet. Exits if those that are there may be another model's."""
    folder = find_model(args.model)[1].resolve()
    made_of = args.files / "made_of.txt"
    note = f"{folder}, changed at {newest_change(folder)}\n"
    others = (made_of.read_text() != note) if made_of.exists() else any(args.files.glob("street*"))
    if others:
        sys.exit(
            f"--files {args.files} may hold files of another model than {folder}: delete it, or give another folder"
        )
    args.files.mkdir(parents=True, exist_ok=True)
    made_of.write_text(note)
    for name in (f"{stem}.{ending}" for stem in STEMS for ending in ("onnx", "xml")):
        if not (args.files / name).exists():
            command = [sys.executable, "-m", "seg_models.export", str(folder), name]
            command += ["--precision", STEMS[Path(name).stem]]
            command += ["--dataset_path", str(Path(args.dataset_path).resolve())]
            subprocess.run(command, check=True, cwd=args.files, env=os.environ | {"PYTHONPATH": str(ROOT)})


def ways(args: argparse.Namespace, threads: int) -> dict[str, Way]:
    """Return the ways to run the network, by name."""
    torch.set_num_threads(threads)
    trained = open_model(args.model, False)
    network = trained.model.to(memory_format=torch.channels_last).eval()
    processor = trained.processor

    def in_pytorch(model: torch.nn.Module, bf16: bool) -> Way:
        views = Views(processor_size(processor))
        predictor = Predictor(model, processor.image_mean, processor.image_std, views)

        def run(photo: np.ndarray) -> np.ndarray:
            with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
                return predictor.labels(torch.from_numpy(photo[0]).permute(2, 0, 1)).to(torch.uint8).numpy()[None]

        return run

    found = {
        "PyTorch fp32": in_pytorch(network, False),
        EAGER: in_pytorch(network, True),
        "PyTorch bf16, compiled": in_pytorch(torch.compile(network, dynamic=False), True),
    }
    for stem, precision in STEMS.items():
        path = args.files / stem
        found[f"onnxruntime {precision}"] = open_exported(f"{path}.onnx", "onnx", threads)
        found[f"OpenVINO {precision}"] = open_exported(f"{path}.xml", "openvino", threads)
        found[f"OpenVINO {precision}, rest in bf16"] = open_exported(f"{path}.xml", "openvino", threads, "bf16")
    return found


def compare_times(args: argparse.Namespace) -> None:
    """Print the times of all ways for photos of each size."""
    found = ways(args, args.cores[0])
    photo = next(data_of(args).some(1))
    for size in args.size:
        given = resized(photo, size)[None]
        for way in found.values():  # compiles
            way(given)
        taken = {name: [] for name in found}
        for _ in range(args.rounds):
            for name, way in found.items():
                taken[name].append(seconds_of(way, given, args.calls, args.cpu_seconds))
        of_cpu = ", CPU seconds" if args.cpu_seconds else ""
        print(f"\n{size[0]}x{size[1]}, {args.cores[0]} core{'s' * (args.cores[0] > 1)}{of_cpu}\n")
        print(f"| way | ms | images/s | times {EAGER} |\n|---|---|---|---|")
        for name, times in taken.items():
            ratios = [eager / own for eager, own in zip(taken[EAGER], times, strict=True)]
            low, middle, high = median_of(ratios)
            median = statistics.median(times)
            print(
                f"| {name} | {1000 * median:.0f} | {1 / median:.1f} | {middle:.2f} ({low:.2f} to {high:.2f}) |",
                flush=True,
            )


def seconds_of(way: Way, photo: np.ndarray, calls: int, cpu: bool) -> float:
    """Return the mean seconds of a call, after one that is not timed."""
    clock = time.process_time if cpu else time.perf_counter
    way(photo)
    begun = clock()
    for _ in range(calls):
        way(photo)
    return (clock() - begun) / calls


def data_of(args: argparse.Namespace) -> Photos:
    """Return the images of the model's data set."""
    trained = open_model(args.model, False)
    dataset, labels = label_set(trained.model, trained.folder, trained.arguments.get("dataset"))
    return find_photos(None, args.dataset_path, True, trained, dataset, labels)


def compare_scores(args: argparse.Namespace) -> None:
    """Print the mIoU of all ways on the validation images."""
    photos = data_of(args)
    print(f"\n| way | mIoU on {len(photos.labelled)} validation images |\n|---|---|")
    for name, way in ways(args, max(args.cores)).items():
        print(f"| {name} | {mean_iou(classes_of(way, None), name, photos):.4f} |", flush=True)


if __name__ == "__main__":
    main()
