"""Train a segmentation network from scratch on a few hundred images.

    accelerate launch train_seg.py --norm evo
    accelerate launch --config_file accelerate_config.yaml train_seg.py --norm evo      # 4 GPUs, mixed precision
    accelerate launch train_seg.py --dataset camvid --dataset_path camvid --model streetnet --epochs 100

Reads top to bottom: `train` checks, builds and runs the epochs, `train_one_epoch` the steps; `evaluate_model` scores.
"""

import contextlib
import itertools
import time
from pathlib import Path

import numpy as np
import torch
from transformers import SegformerImageProcessor

from data_scripts.check import check_split
from data_scripts.labels import DataError
from data_scripts.loading import TrainBatches, eval_loader, train_loader
from data_scripts.sources import load_source, source_of
from data_scripts.transforms import IMAGENET_MEAN, IMAGENET_STD, EvalTransform, SharedEpoch, TrainTransform
from seg_models import LOSSES, ModelError, Predictor, build_model, model_entry, normalize, resize_logits
from seg_runs import checkpoints, run_folder
from seg_runs.arguments import TrainArguments, check_resumed, parse_arguments, save_arguments
from seg_runs.launch import RunError, make_accelerator, on_first_process, one_line_errors, progress_bar
from seg_runs.optimization import make_optimizer, make_scheduler, total_steps
from seg_runs.report import class_table, comparison, plot_learning_curve

METRIC = Path(__file__).resolve().parent / "metrics" / "mean_iou"
NUM_PICTURES = 3  # validation images that are drawn after each validation


def main(argv: list[str] | None = None) -> None:
    with one_line_errors(DataError, ModelError):
        train(parse_arguments(TrainArguments, argv))


def train(args: TrainArguments) -> None:
    """Check everything, build everything, run the epochs."""
    model_entry(args.model)
    if args.resume_from_checkpoint:
        checkpoints.find_checkpoint(args.resume_from_checkpoint)
    elif args.output_dir and not args.overwrite_output_dir:
        run_folder.refuse_run(Path(args.output_dir))
    data, labels = load_source(args.dataset, args.dataset_path)
    accelerator = make_accelerator()
    torch.manual_seed(args.seed)

    epoch = SharedEpoch()
    loader, val_loader, crop_size = make_loaders(args, data, labels, epoch, accelerator)
    model = build_model(args.model, args.norm, labels.id2label, dataset=args.dataset)
    torch.manual_seed(args.seed + accelerator.process_index)  # the same weights everywhere, but not the same dropout
    if args.sync_bn:
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model = model.to(accelerator.device, memory_format=torch.channels_last)
    steps_per_epoch = loader.batch_sampler.steps
    steps = total_steps(steps_per_epoch, args.epochs, args.max_train_steps)
    optimizer, scheduler = make_optimization(args, model, steps)
    # `wrapped` is what trains: under several processes it adds the exchange of gradients. The scheduler is not
    # prepared: accelerate would step it once per process.
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    run, state = open_run(args, accelerator, model, optimizer, scheduler)

    loss_function = LOSSES[args.loss]
    predictor = Predictor(model, IMAGENET_MEAN, IMAGENET_STD, args.test_size)
    accelerator.print(
        f"{args.model} with {args.norm} norm, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, on "
        f"{len(data['train'])} images of {args.dataset}, crops {crop_size[0]}x{crop_size[1]}, {steps} steps of "
        f"{args.batch_size} images, {accelerator.num_processes} process(es), precision {accelerator.mixed_precision}, "
        f"seed {args.seed}, in {run}"
    )
    log = TrainingLog(run, args.report_to, accelerator.is_main_process, first_epoch=state["epoch"] + 1)
    for number in range(state["epoch"] + 1, -(-steps // steps_per_epoch) + 1):
        started = time.perf_counter()
        epoch.set(number)
        todo = min(steps_per_epoch, steps - state["step"])
        row = {"epoch": number, "learning_rate": scheduler.get_last_lr()[0]}
        row |= train_one_epoch(accelerator, wrapped, loader, loss_function, optimizer, scheduler, todo, number)
        state |= {"epoch": number, "step": state["step"] + todo}
        last = state["step"] == steps
        if last or number % args.eval_every == 0:
            copy_buffers_from_first(accelerator, model)
            scores = evaluate_model(accelerator, predictor, val_loader, loss_function, labels)
            row |= {key: scores[key] for key in ("val_loss", "val_accuracy", "mean_iou")}
            if state["best_mean_iou"] is None or scores["mean_iou"] > state["best_mean_iou"]:
                state |= {"best_mean_iou": scores["mean_iou"], "best_epoch": number}
                if accelerator.is_main_process:
                    save_best(run, model, args.test_size)
            if accelerator.is_main_process:
                draw_pictures(run / "images" / f"epoch_{number:04d}.png", predictor, data["validation"], labels)
                print(class_table(labels.names, scores), flush=True)
        row["seconds"] = time.perf_counter() - started
        log.write(row)
        checkpoints.save_checkpoint(accelerator, run / "checkpoints", model, optimizer, scheduler, state)
    log.finish(state)
    accelerator.print(
        f"done: best validation mIoU {state['best_mean_iou']:.4f} in epoch {state['best_epoch']}. Model: {run}/best, "
        f"pictures: {run}/images. Next: accelerate launch predict_seg.py --model_name_or_path {run} --mst"
    )
    accelerator.end_training()


def make_loaders(args, data, labels, epoch, accelerator):
    """Check the files; the loader of training crops, the loader of validation images, and the crop size."""
    processes = (accelerator.num_processes, accelerator.process_index)
    batches = TrainBatches(
        len(data["train"]), args.batch_size, args.gradient_accumulation_steps, *processes, args.seed, epoch
    )
    check_norm(args, batches.micro_batch_size, accelerator)
    smallest = on_first_process(accelerator, check_data, data, labels, accelerator.is_main_process)
    crop_size = fit_crop(args, source_of(args.dataset).crop_size, smallest)
    transform = TrainTransform(
        labels, crop_size, args.seed, epoch, args.train_size, args.scale_range, args.hflip, args.colorjitter_factor
    )
    workers = {"num_workers": args.num_workers, "pin_memory": accelerator.device.type == "cuda"}
    loader = train_loader(data["train"].with_transform(transform), batches, **workers)
    val_loader = eval_loader(data["validation"].with_transform(EvalTransform(labels)), *processes, **workers)
    return loader, val_loader, crop_size


def check_data(data, labels, progress: bool) -> tuple[int, int]:
    """Look at every file that training will read; the size of the smallest training image."""
    counts, smallest = check_split(data["train"], labels, "train", progress)
    missing = [name for name, pixels in zip(labels.names, counts.sum(0), strict=True) if not pixels]
    if missing:
        print(f"note: no training pixel of {', '.join(missing)}")
    check_split(data["validation"], labels, "validation", progress)
    return smallest


def fit_crop(args, default: tuple[int, int], image: tuple[int, int]) -> tuple[int, int]:
    """The crop size: as asked, if it fits, or the data set's, at most the image's."""
    image = tuple(args.train_size or image)
    if args.crop_size is None:
        return tuple(map(min, default, image))
    if any(crop > side * args.scale_range[1] for crop, side in zip(args.crop_size, image, strict=True)):
        raise RunError(
            f"--crop_size {args.crop_size[0]} {args.crop_size[1]} does not fit: at the largest scale "
            f"({args.scale_range[1]}) the smallest training image is {image[0] * args.scale_range[1]:.0f}x"
            f"{image[1] * args.scale_range[1]:.0f}"
        )
    return tuple(args.crop_size)


def check_norm(args, images: int, accelerator) -> None:
    """Batch norm after a pooling to 1x1 needs two values per channel: two images per process."""
    if args.sync_bn and accelerator.device.type != "cuda":
        raise RunError("--sync_bn needs GPUs")
    if args.norm == "batch" and images * (accelerator.num_processes if args.sync_bn else 1) < 2:
        raise RunError(
            f"--norm batch needs at least 2 images per process at a time, and --batch_size {args.batch_size} gives 1: "
            "raise it, or use --norm group or evo"
        )


def make_optimization(args, model, steps: int):
    """Optimizer and scheduler: the model's defaults, where no flag says otherwise."""
    defaults = model_entry(args.model).training
    chosen = {
        name: getattr(defaults, name) if getattr(args, name) is None else getattr(args, name)
        for name in ("optimizer", "learning_rate", "momentum", "weight_decay", "lr_scheduler_type")
    }
    schedule, kind = chosen.pop("lr_scheduler_type"), chosen.pop("optimizer")
    if args.momentum is not None and kind != "sgd":
        raise RunError(f"--momentum is for --optimizer sgd, and this is {kind}")
    if args.learning_rate is None and kind != defaults.optimizer:
        raise RunError(
            f"--optimizer {kind} is not the one that --model {args.model} has by default: give --learning_rate"
        )
    optimizer = make_optimizer(model, kind, **chosen)
    return optimizer, make_scheduler(optimizer, schedule, steps)


def open_run(args, accelerator, model, optimizer, scheduler) -> tuple[Path, dict]:
    """The run's folder and where it stands: new, or resumed from a checkpoint."""
    if not args.resume_from_checkpoint:
        name = f"{args.dataset}_{args.model.lower()}_{args.norm}"
        run = on_first_process(accelerator, run_folder.create_run, args.output_dir, name, args.overwrite_output_dir)
        if accelerator.is_main_process:
            save_arguments(args, run / "args.yaml")
        return run, {"epoch": 0, "step": 0, "best_mean_iou": None, "best_epoch": None}
    checkpoint = checkpoints.find_checkpoint(args.resume_from_checkpoint)
    run = checkpoint.parent.parent
    if args.output_dir and Path(args.output_dir).resolve() != run.resolve():
        raise RunError(f"--output_dir {args.output_dir}: a resumed run goes on in its own folder, {run}")
    check_resumed(args, run / "args.yaml")
    state = checkpoints.read_state(checkpoint)
    checkpoints.load_checkpoint(accelerator, checkpoint, model, optimizer, scheduler)
    if accelerator.is_main_process:
        run_folder.cut_rows(run / "log_epoch.csv", state["epoch"])
        run_folder.restore_best(run)
        save_arguments(args, run / "args.yaml")
    accelerator.print(f"resumed {checkpoint}: epoch {state['epoch']} is done")
    return run, state


def train_one_epoch(accelerator, model, loader, loss_function, optimizer, scheduler, steps: int, epoch: int) -> dict:
    """`steps` optimizer steps; the mean loss and accuracy over all valid pixels they saw."""
    model.train()
    device, processes = accelerator.device, accelerator.num_processes
    batch_size, accumulation = loader.batch_sampler.batch_size, loader.batch_sampler.accumulation
    epoch_totals = torch.zeros(3, device=device, dtype=torch.float64)
    bar = progress_bar(accelerator, f"Epoch {epoch}", steps * batch_size)
    batches = iter(loader)
    for step in range(steps):
        totals = torch.zeros(3, device=device, dtype=torch.float64)  # loss, weight, correct pixels
        for i, batch in enumerate(itertools.islice(batches, accumulation), start=1):
            pixels = normalize(batch["pixel_values"].to(device, non_blocking=True), IMAGENET_MEAN, IMAGENET_STD)
            target = batch["labels"].to(device, non_blocking=True)
            with contextlib.nullcontext() if i == accumulation else accelerator.no_sync(model):
                logits = resize_logits(model(pixel_values=pixels).logits, target.shape[-2:])
                loss, weight = loss_function(logits, target)
                # The exact denominator, the weight summed over processes and parts, is not known yet: divided by
                # the number of pixels, fp16 gradients stay in range, and the rest of the factor follows below.
                pixels_per_step = target.numel() * accumulation
                accelerator.backward(loss / pixels_per_step)
            correct = (logits.detach().argmax(1) == target).sum()
            totals += torch.stack([loss.detach().double(), weight.double(), correct.double()])
        totals = accelerator.reduce(totals)
        # Gradients were averaged over processes, hence that factor. Without a valid pixel they are zero.
        correction = pixels_per_step * processes / totals[1].clamp(min=1)
        for parameter in model.parameters():
            parameter.grad.mul_(correction.to(parameter.grad.dtype))
        optimizer.step()
        optimizer.zero_grad()
        epoch_totals += totals
        if step % 10 == 0:  # reading a number makes the device finish its queue
            loss_now = totals[0] / totals[1].clamp(min=1)
            bar.set_postfix(loss=f"{loss_now:.3f}", lr=f"{scheduler.get_last_lr()[0]:.2e}", refresh=False)
        bar.update(batch_size)
        scheduler.step()
    bar.close()
    loss, weight, correct = epoch_totals.tolist()
    return {"train_loss": loss / max(weight, 1), "train_accuracy": correct / max(weight, 1)}


def copy_buffers_from_first(accelerator, model) -> None:
    """Every process evaluates with the first one's batch-norm statistics: the ones that are saved."""
    if accelerator.num_processes > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)


def evaluate_model(accelerator, predictor, loader, loss_function, labels) -> dict:
    """Scores of the `mean_iou` metric, and the mean loss, over every pixel of every image, whatever the processes."""
    import evaluate

    metric = evaluate.load(str(METRIC))
    device = accelerator.device
    totals = torch.zeros(2, device=device, dtype=torch.float64)
    for item in progress_bar(accelerator, "Validation", loader=loader):
        target = item["labels"].to(device)
        scores = predictor(item["pixel_values"].to(device), size=target.shape)
        totals += torch.stack(loss_function(scores[None], target[None])).double()
        metric.add_batch(predictions=scores.argmax(0).to(torch.uint8), references=target)
    metric.counts = accelerator.reduce(metric.counts.to(device))
    loss, weight = accelerator.reduce(totals).tolist()
    scores = metric.compute(num_labels=len(labels.names), ignore_index=labels.ignore_index)
    return scores | {"val_loss": loss / max(weight, 1), "val_accuracy": scores["overall_accuracy"]}


def save_best(run: Path, model, test_size) -> None:
    """best/: the model and the image processor that repeats the evaluation's preprocessing; old or new, never half."""
    run_folder.restore_best(run)
    new, old, best = run / ".best.new", run / ".best.old", run / "best"
    size = {"height": test_size[0], "width": test_size[1]} if test_size else None
    processor = SegformerImageProcessor(
        do_resize=size is not None, size=size, image_mean=list(IMAGENET_MEAN), image_std=list(IMAGENET_STD)
    )
    run_folder.remove(new, old)
    model.save_pretrained(new)
    processor.save_pretrained(new)
    if best.exists():
        best.rename(old)
    new.rename(best)
    run_folder.remove(old)


def draw_pictures(path: Path, predictor, split, labels) -> None:
    """Input, truth and prediction of a few images spread over the split."""
    chosen = np.linspace(0, len(split) - 1, min(NUM_PICTURES, len(split))).round().astype(int).tolist()
    items = split.with_transform(EvalTransform(labels))
    rows = []
    for index in chosen:
        image, truth = items[index]["pixel_values"], items[index]["labels"].numpy()
        prediction = predictor.labels(image.to(predictor.model.device), truth.shape).to(torch.uint8).cpu().numpy()
        rows.append((image.permute(1, 2, 0).numpy(), labels.to_color(truth), labels.to_color(prediction)))
    legend = dict(zip(labels.names, labels.palette, strict=True))
    comparison(rows, ("image", "truth", "prediction"), legend).save(path)


class TrainingLog:
    """log_epoch.csv, learning_curve.png, TensorBoard, results.json: written by the first process."""

    def __init__(self, run: Path, report_to: str, on: bool, first_epoch: int):
        self.run, self.on, self.board = run, on, None
        if on and report_to == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(run / "tensorboard", purge_step=first_epoch)

    def write(self, row: dict) -> None:
        """One epoch; keys as in `run_folder.COLUMNS`."""
        if not self.on:
            return
        run_folder.append_row(self.run / "log_epoch.csv", row)
        if "mean_iou" in row:
            plot_learning_curve(run_folder.read_rows(self.run / "log_epoch.csv"), self.run / "learning_curve.png")
        for key, value in row.items():
            if self.board and key != "epoch":
                self.board.add_scalar(key, value, row["epoch"])
        print("  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)

    def finish(self, state: dict) -> None:
        if self.on:
            run_folder.write_json(self.run / "results.json", state)
        if self.board:
            self.board.close()


if __name__ == "__main__":
    main()
