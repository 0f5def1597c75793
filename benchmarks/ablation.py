"""Train the runs of an ablation and print the gain of each change, with intervals.

    python benchmarks/ablation.py benchmarks/camvid_ablation.yaml --dataset_path camvid --out runs/ablation
    python benchmarks/ablation.py benchmarks/camvid_ablation.yaml --dataset_path camvid --out runs/ablation --table

The YAML file lists the flags that all runs share (`common`) and those that each run changes (`runs`). The first run is
the baseline. `--flags`, at the end of the command, changes flags of all runs. Started again after an interruption, the
program continues where it stopped.

The table shows the mIoU on the validation images at one scale, and the difference to the baseline, each with a 95 %
bootstrap interval over images (paired for the difference). The intervals cover the choice of images. Different seeds
add further variation.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.flags import PRECISIONS, count  # noqa: E402
from data_scripts.fold_files import Division, load_data  # noqa: E402
from data_scripts.reader import read_label  # noqa: E402
from metrics.intervals import image_counts, interval, mean_iou  # noqa: E402
from seg_runs.epoch_rows import read_rows  # noqa: E402
from seg_runs.launch import available_cores  # noqa: E402
from seg_runs.recipes import RecipeLoader  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ablation", type=Path, help="YAML file of the runs")
    parser.add_argument("--dataset_path", required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the run folders")
    parser.add_argument("--only", nargs="+", metavar="RUN", help="train only the baseline and these runs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the runs that set none")
    parser.add_argument("--jobs", type=count, default=1, help="parallel runs; if several, each writes a log file")
    parser.add_argument("--mixed_precision", choices=PRECISIONS, default="no")
    parser.add_argument("--table", action="store_true", help="do not train; print the table of the complete runs")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="flags of train_seg.py; must come last")
    args = parser.parse_args()
    try:
        common, runs = read_ablation(args.ablation)
        baseline, *others = runs
        if unknown := set(args.only or ()) - set(runs):
            raise ValueError(f"it has no run {min(unknown)}: choose from {', '.join(runs)}")
        names = [baseline, *(name for name in others if not args.only or name in args.only)]
        folders = folders_of(names, args.out, args.seed)
        flags = {name: {"seed": args.seed} | common | runs[name] for name in names}
        for name in names:
            refuse_changed(folders[name], flags[name], args)
    except (OSError, ValueError, yaml.YAMLError) as error:
        parser.error(f"{args.ablation}: {' '.join(str(error).split())}")
    todo = [] if args.table else [name for name, folder in folders.items() if not is_complete(folder)]
    if args.jobs == 1:
        for name in todo:
            train(folders[name], flags[name], args)
    else:
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda name: train(folders[name], flags[name], args), todo))
    complete = {name: folder for name, folder in folders.items() if is_complete(folder)}
    if baseline in complete:
        print_table(complete, args)
    else:
        print(f"the first run, {baseline}, is not complete: there is nothing to compare with")


def read_ablation(path: Path) -> tuple[dict, dict[str, dict]]:
    """Return the common flags and the flags of each run. Raises ValueError that says what is wrong with the file."""
    content = yaml.load(path.read_text(), RecipeLoader)  # a subclass of the safe loader
    if not isinstance(content, dict) or not isinstance(content.get("runs"), dict) or not content["runs"]:
        raise ValueError("it needs 'runs', a mapping from the name of each run to its flags")
    common, runs = content.get("common") or {}, content["runs"]
    for name, flags in {"common": common, **runs}.items():
        if not isinstance(name, str) or not isinstance(flags, dict):
            raise ValueError(f"{name!r} is not a name with a mapping of flags, such as 'more weight decay: {{...}}'")
    return common, runs


def folders_of(names: Sequence[str], out: Path, seed: int) -> dict[str, Path]:
    """Return the folder of each run. Raises ValueError if two names lead to one folder."""
    folders = {name: out / f"{re.sub('[^a-z0-9.]+', '-', name.lower())}-seed{seed}" for name in names}
    first = {}
    for name, folder in folders.items():
        if folder in first:
            raise ValueError(f"the runs {first[folder]!r} and {name!r} would share the folder {folder}: rename one")
        first[folder] = name
    return folders


def refuse_changed(folder: Path, flags: dict, args: argparse.Namespace) -> None:
    """Raise ValueError if the run of `folder` began with other flags. Older runs did not record them."""
    record = folder.parent / f"{folder.name}.json"
    wanted = json.loads(
        json.dumps({"flags": flags, "more": args.flags, "precision": args.mixed_precision}, default=str)
    )
    if record.is_file() and not args.table and json.loads(record.read_text()) != wanted:
        raise ValueError(f"{folder} began with other flags, which {record} lists: choose another --out, or delete both")
    if not args.table and not folder.exists():
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(wanted, indent=1) + "\n")


def is_complete(folder: Path) -> bool:
    """Whether a run has been trained and its validation images have been predicted at one scale."""
    if not (folder / "scores_val.json").exists():
        return False
    settings = json.loads((folder / "scores_val.json").read_text())["settings"]
    return (settings["scales"], settings["flip"]) == ([1.0], False)


def train(folder: Path, flags: dict, args: argparse.Namespace) -> None:
    """Train the run of `folder`, or resume it, and predict its validation images."""
    log = folder.with_name(f"{folder.name}.log") if args.jobs > 1 else None
    common = {"precision": args.mixed_precision, "log": log, "threads": max(1, available_cores() // args.jobs)}
    if not (folder / "results.json").exists():
        if any(folder.glob("checkpoints/step_*")):
            chosen = ["--resume_from_checkpoint", folder]
        else:
            recipe = folder.parent / f"{folder.name}.yaml"
            recipe.parent.mkdir(parents=True, exist_ok=True)
            recipe.write_text(yaml.safe_dump(flags, sort_keys=False))
            chosen = [recipe, *args.flags, "--output_dir", folder, "--overwrite_output_dir"]
        launch("train_seg.py", *chosen, "--dataset_path", args.dataset_path, **common)
    launch("predict_seg.py", "--model_name_or_path", folder, "--splits", "val", **common)


def launch(script: str, *flags, precision: str, log: Path | None = None, threads: int | None = None) -> None:
    """Run a script in a separate process. If it fails, this program ends too. Output goes to the file `log`, if given.

    threads  limit on its threads, if any; parallel runs with more threads than there are cores slow each other down
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1"]
    command += ["--dynamo_backend", "no", "--mixed_precision", precision, str(ROOT / script), *map(str, flags)]
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") if log else nullcontext() as output:
        limit = {"OMP_THREAD_LIMIT": str(threads)} if threads else {}
        result = subprocess.run(command, env=os.environ | limit, stdout=output, stderr=output)
    if result.returncode:
        sys.exit(f"{script} failed: {log} says why" if log else 1)


def print_table(folders: dict[str, Path], args: argparse.Namespace) -> None:
    """Print a Markdown table with one row per run. The first run is the baseline."""
    print("| run | mIoU | 95 % interval | difference | 95 % interval | minutes |\n|---|---|---|---|---|---|")
    baseline = None
    for name, folder in folders.items():
        counts = validation_counts(folder, args.dataset_path)
        score = float(mean_iou(counts.sum(0)))
        low, high = interval(counts)
        difference = " | "
        if baseline is None:
            baseline = (score, counts)
        else:
            gain_low, gain_high = interval(counts, baseline[1])
            difference = f"{score - baseline[0]:+.3f} | {gain_low:+.3f} to {gain_high:+.3f}"
        minutes = sum(row["seconds"] for row in read_rows(folder / "log_epoch.csv")) / 60
        print(f"| {name} | {score:.4f} | {low:.3f} to {high:.3f} | {difference} | {minutes:.0f} |")


def validation_counts(folder: Path, dataset_path: str) -> np.ndarray:
    """Return the pixel counts by (label, prediction) of each validation image of a run, int64 (N, C, C)."""
    flags = yaml.safe_load((folder / "args.yaml").read_text())
    division = {key.name: flags[key.name] for key in fields(Division) if flags.get(key.name) is not None}
    data, labels = load_data(flags["dataset"], dataset_path, Division(**division))
    tables = []
    for row in data["validation"]:
        prediction = labels.train_ids[read_label(str(folder / "results_val" / f"{row['name']}.png"))]
        label = labels.train_ids[read_label(row["label"], row["image"], labels.colors_of(row["label"]))]
        tables.append(image_counts(prediction, label, len(labels.names)))
    return np.stack(tables)


if __name__ == "__main__":
    main()
