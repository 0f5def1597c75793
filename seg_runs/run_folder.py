"""The folder of a run, and how it is found again.

runs/camvid_streetnet_batch_20260101-120000/
    args.yaml            a recipe that reproduces the run
    log_epoch.csv        a row per epoch
    learning_curve.png
    preview.png          with --preview: what training sees
    images/              validation pictures
    tensorboard/
    checkpoints/         to resume from
    best/                the model at its best validation mIoU, for from_pretrained, complete by itself: weights,
                         configuration, image processor, the code of the network, training.json and a card, README.md
    results.json         written when training is complete
"""

import csv
import os
import shutil
import time
from pathlib import Path
from threading import Lock

from safetensors import SafetensorError

from .arguments import OTHER_GROUPS, changed_flags, save_arguments
from .card import make_card, training_record
from .checkpoints import (
    find_checkpoint,
    last_checkpoint,
    load_checkpoint,
    read_state,
    remove_later,
    write_atomically,
    write_json,
)
from .launch import RunError, on_first_process

COLUMNS = (
    "epoch",
    "train_loss",
    "val_loss",
    "train_accuracy",
    "val_accuracy",
    "mean_iou",
    "learning_rate",
    "seconds",
)
RUNS = Path("runs")
BEST_IS_WHOLE = Lock()  # an upload in the background copies best/ while training may replace it
MAX_SKIPPED_STEPS = 10  # in a row, for want of a finite gradient; fp16 skips a few until it has found its scale


# Where a run stands, as in a checkpoint's state.json. `totals` of the epoch so far: loss, its weight, correct pixels,
# pixels; `skipped`: steps in a row, up to now, without a finite gradient.
NEW_EPOCH = {"totals": [0.0, 0.0, 0.0, 0.0], "seconds": 0.0}
NEW_RUN = {"epoch": 0, "step": 0, "skipped": 0, **NEW_EPOCH, "best_mean_iou": None, "best_epoch": None}


def begin_run(args, accelerator, steps: int, steps_per_epoch: int) -> tuple[Path, dict]:
    """The folder of a new run and its state."""
    encoder = f"_{args.encoder}" if args.encoder else ""
    name = f"{args.dataset}_{args.model.lower()}{encoder}_{args.norm}"
    run = on_first_process(accelerator, create_run, args.output_dir, name, args.overwrite_output_dir)
    if accelerator.is_main_process:
        save_arguments(args, run / "args.yaml")
    return run, NEW_RUN | {"pretrained": started_from(args)} | conditions(accelerator, steps, steps_per_epoch)


def conditions(accelerator, steps: int, steps_per_epoch: int) -> dict:
    """Under which a run goes on; a part of its state, so that a change can be said."""
    precision, processes = accelerator.mixed_precision, accelerator.num_processes
    return {"steps": steps, "steps_per_epoch": steps_per_epoch, "precision": precision, "processes": processes}


def provenance(args, images: int) -> dict:
    """What a saved model's configuration says of where its weights come from, beside the data set."""
    resumed = args.resume_from_checkpoint and read_state(find_checkpoint(args.resume_from_checkpoint))
    pretrained = resumed.get("pretrained", "none") if resumed else started_from(args)
    of_data = {"trained_on": args.train_on, "fold": args.fold, "train_images": images}
    return {"pretrained": pretrained, **of_data, "select": args.select, "seed": args.seed}


def started_from(args) -> str:
    """The name of the weights that a new run begins with; of a path the last part: whose folders these are is nobody's
    business."""
    name = args.init_from or args.pretrained_encoder or "none"
    return os.path.basename(os.path.normpath(name)) if os.path.exists(name) or os.path.isabs(name) else name


def outcome(run: Path, state: dict, select: str) -> str:
    """The last line of a run, which keeps the weights that `select` says."""
    score = state["best_mean_iou"]
    if score is None:
        what = "the last weights"
    elif select == "last":
        what = f"the last weights, validation mIoU {score:.4f},"
    else:
        what = f"best validation mIoU {score:.4f} in epoch {state['best_epoch']}"
    return f"done: {what} in {run}/best. Next: accelerate launch predict_seg.py --model_name_or_path {run} --mst"


def resume_run(args, accelerator, model, ema, optimizer, steps: int, steps_per_epoch: int) -> tuple[Path, dict]:
    """The folder and the state of a run that goes on from a checkpoint, which is loaded."""
    checkpoint = find_checkpoint(args.resume_from_checkpoint)
    run = checkpoint.parent.parent
    if args.output_dir and Path(args.output_dir).resolve() != run.resolve():
        raise RunError(f"--output_dir {args.output_dir}: a resumed run goes on in its own folder, {run}")
    changes = changed_flags(args, run / "args.yaml")
    state = read_state(checkpoint)
    now = conditions(accelerator, steps, steps_per_epoch)
    if now["steps_per_epoch"] != state["steps_per_epoch"]:
        raise RunError(
            f"{run} was begun with {state['steps_per_epoch']} steps in an epoch, and --dataset_path has images for "
            f"{steps_per_epoch}: a resumed run keeps its data"
        )
    done = state["epoch"] * steps_per_epoch >= steps
    if state["step"] > steps or (done and state["best_epoch"] is None):
        raise RunError(f"{checkpoint} leaves nothing to do in a run of {steps} steps: give more --epochs or steps")
    if steps != state["steps"]:
        changes.append(f"{steps} steps in all instead of {state['steps']}: the learning rate follows the new length")
    if now["precision"] != state["precision"]:
        changes.append(f"precision {now['precision']} instead of {state['precision']}")
    if now["processes"] != state["processes"]:
        changes.append(f"{now['processes']} process(es) instead of {state['processes']}{OTHER_GROUPS}")
    load_checkpoint(accelerator, checkpoint, model, ema, optimizer)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        remove_later(checkpoint)
        cut_rows(run / "log_epoch.csv", state["epoch"])
        restore_best(run)
        remove(*run.glob(".push-*"))  # what an upload leaves when the run is killed
        save_arguments(args, run / "args.yaml")
        if state["step"] < steps:
            (run / "results.json").unlink(missing_ok=True)
    accelerator.print("\n".join([f"resumed {checkpoint}: step {state['step']} is done", *changes]))
    return run, state | now


def refuse_endless_skipping(run: Path, state: dict) -> None:
    """Stop a run whose loss has become NaN or infinite for good; its weights are still those of before."""
    if state["skipped"] >= MAX_SKIPPED_STEPS:
        raise RunError(
            f"the gradient was not finite in {MAX_SKIPPED_STEPS} steps in a row, from step "
            f"{state['step'] - MAX_SKIPPED_STEPS + 1} on; none of them changed a weight. Lower --learning_rate or "
            f"give --max_grad_norm. {last_checkpoint(run)}"
        )


def create_run(output_dir: str | None, name: str, overwrite: bool = False) -> Path:
    """Make the folder of a new run and return it. One that holds a run already is refused unless `overwrite`."""
    folder = Path(output_dir) if output_dir else RUNS / f"{name}_{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        if overwrite and holds_run(folder):
            for part in ("args.yaml", "log_epoch.csv", "learning_curve.png", "results.json", "preview.png"):
                (folder / part).unlink(missing_ok=True)
            for predicted in folder.glob("scores_*.json"):
                predicted.unlink()
            parts = ("images", "tensorboard", "checkpoints", "best", ".best.new", ".best.old")
            remove(*(folder / part for part in parts), *folder.glob("results_*"), *folder.glob(".push-*"))
        while not output_dir and folder.exists():  # several runs begun in one second
            folder = Path(f"{folder}-{os.getpid()}")
        refuse_run(folder)
        (folder / "images").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to --output_dir {folder}: {error.strerror}") from error
    return folder


def refuse_run(folder: Path) -> None:
    if holds_run(folder):
        raise RunError(
            f"--output_dir {folder} already holds a run: choose another, go on with it by "
            f"--resume_from_checkpoint {folder}, or delete it by --overwrite_output_dir"
        )


def holds_run(folder: Path) -> bool:
    return any((folder / part).exists() for part in ("args.yaml", "log_epoch.csv", "checkpoints", "best"))


def newest_run(runs: Path = RUNS) -> Path:
    """The complete run below `runs` whose training ended last."""
    results = sorted(runs.glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    complete = [path.parent for path in results if (path.parent / "best" / "config.json").exists()]
    if not complete:
        raise RunError(f"no complete run below {runs}/: train one with train_seg.py, or give --model_name_or_path")
    return complete[-1]


def append_row(path: Path, row: dict) -> None:
    """Add an epoch to log_epoch.csv; a value that was not measured is an empty cell."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        digits = {"learning_rate": ".4e", "seconds": ".1f"}
        writer.writerow({k: format(v, digits.get(k, ".4f")) if isinstance(v, float) else v for k, v in row.items()})


def read_rows(path: Path) -> list[dict]:
    """The rows of log_epoch.csv, as numbers; None where the cell is empty."""
    with path.open(newline="") as file:
        return [{key: float(value) if value else None for key, value in row.items()} for row in csv.DictReader(file)]


def cut_rows(path: Path, epochs: int) -> None:
    """Keep the rows of the first `epochs` epochs: what a resumed run computes again is not logged twice."""
    if epochs == 0 or not path.exists():  # there may be half a header, of a run that was killed
        path.unlink(missing_ok=True)
    else:  # the row of each epoch was written before its checkpoint
        write_atomically(path, "".join(path.read_text().splitlines(keepends=True)[: 1 + epochs]))


def restore_best(run: Path) -> None:
    """Undo a replacement of best/ that was killed between its two renames."""
    if not (run / "best").exists() and (run / ".best.old").exists():
        (run / ".best.old").rename(run / "best")


def save_best(run: Path, model, processor, state: dict, scores: dict | None = None) -> None:
    """Replace best/ by `model` and its image processor, with a card; old or new, never half. `scores` of the metric on
    the validation split, if there was a validation."""
    restore_best(run)
    new, old, best = run / ".best.new", run / ".best.old", run / "best"
    remove(new, old)
    try:
        model.save_pretrained(new)
        processor.save_pretrained(new)
        write_json(new / "training.json", training_record(model, state, seconds_until_now(run, state), scores))
        make_card(new, run).save(new / "README.md")
    except (OSError, SafetensorError) as error:
        remove(new)
        raise RunError(f"cannot write {best}: {error}. {last_checkpoint(run)}") from error
    with BEST_IS_WHOLE:
        if best.exists():
            best.rename(old)
        new.rename(best)
    remove(old)


def seconds_until_now(run: Path, state: dict) -> float:
    """What the epochs that are logged took, and the steps of the one that is not yet."""
    path = run / "log_epoch.csv"
    return state["seconds"] + sum(row["seconds"] or 0.0 for row in (read_rows(path) if path.exists() else ()))


def make_folders(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot write to {folder}: {error.strerror}") from error


def remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
