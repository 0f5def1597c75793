"""Train a segmentation network from scratch on a few hundred images.

    accelerate launch train_seg.py --norm evo
    accelerate launch --config_file accelerate_config.yaml train_seg.py --norm evo      # 4 GPUs, mixed precision
    accelerate launch train_seg.py --dataset camvid --dataset_path camvid --model streetnet --epochs 100

Read it from top to bottom: `train` checks the arguments, builds everything and runs the epochs, `train_one_epoch` runs
the steps, and `evaluate_model` scores the model.
"""

from script_arguments import TrainArguments, answer_early, predict_flags

answer_early(__name__, TrainArguments)

import itertools
import math
import shlex
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset, DatasetDict
from torch.utils.data import DataLoader

import predict_seg
from card_facts import card_facts
from data_scripts.augment import IMAGENET_MEAN, IMAGENET_STD
from data_scripts.fingerprint import data_fingerprint
from data_scripts.labels import IGNORE_INDEX, DataError, LabelInfo
from data_scripts.loading import BatchPlan, TrainBatches, eval_loader, train_loader
from data_scripts.pixels import Pixels
from data_scripts.preview import preview_rows
from data_scripts.recognition import with_dataset
from data_scripts.saved_classes import describe_data
from data_scripts.training import count_images, load_training_data, make_training_data
from data_scripts.transforms import EvalTransform, SharedEpoch, TrainTransform
from seg_models.arguments import LossOptions
from seg_models.errors import ModelError
from seg_models.losses import enet_class_weights, make_loss
from seg_models.modeling import at_output_stride
from seg_models.models import build_network, in_head, model_entry
from seg_models.norms import freeze_batch_norm, synchronize_batch_norm
from seg_models.predictor import Predictor, check_sides, normalize, resize_logits
from seg_models.weights import start_weights
from seg_runs import checkpoints, run_folder
from seg_runs.card import public_arguments
from seg_runs.files import write_picture, writing
from seg_runs.hub import HubUploads, hub_flags
from seg_runs.launch import (
    RunError,
    check_batch_norm,
    make_accelerator,
    on_first_process,
    one_line_errors,
    progress_bar,
)
from seg_runs.log import TrainingLog, iou_column
from seg_runs.optimization import Schedule, make_ema, make_optimization, set_learning_rate, total_steps
from seg_runs.parsing import changed_flags, parse_arguments, recipe_of
from seg_runs.report import class_table, comparison
from seg_runs.state import Conditions, RunState, Totals
from seg_runs.stop import StopRequest, stop_with_launcher
from seg_runs.trackers import Trackers, refuse_missing_trackers, tracker_names
from trained_model import score_split

Sums = tuple[torch.Tensor, torch.Tensor]  # loss, weight
LossFunction = Callable[[torch.Tensor, torch.Tensor], Sums]  # of logits and labels
NUM_PICTURES = 3  # validation images to draw after each validation


def main(argv: list[str] | None = None) -> None:
    stop_with_launcher()
    with one_line_errors(DataError, ModelError):
        args = parse_arguments(TrainArguments, argv)
        if args.run.predict:  # the tutorial's training script predicts too
            return predict_seg.main(predict_flags(args))
        train(replace(args, data=with_dataset(args.data)))


@dataclass(frozen=True)
class Feed:
    """The data of a run."""

    epoch: SharedEpoch  # tells the data loading workers which epoch it is
    loader: torch.utils.data.DataLoader
    val_loader: torch.utils.data.DataLoader | None  # None if the run trains on the validation images
    transform: TrainTransform  # makes the training crops
    counts: np.ndarray  # (N, C): pixels of each class in each training image


@dataclass(frozen=True)
class Learner:
    """The network of a run and what updates it."""

    model: torch.nn.Module
    ema: torch.nn.Module | None  # timm's moving average; the averaged model is its `module`
    wrapped: torch.nn.Module  # `model`, wrapped to average gradients if there are several processes
    aux_weight: float  # weight of the losses of auxiliary logits
    optimizer: torch.optim.Optimizer
    schedule: Schedule


@dataclass(frozen=True)
class Job:
    """Everything that training needs, as `build` makes it from the arguments."""

    args: TrainArguments
    accelerator: Accelerator
    data: DatasetDict
    labels: LabelInfo
    plan: BatchPlan
    feed: Feed
    learner: Learner
    loss_function: LossFunction
    folder: Path
    state: RunState  # progress of the run

    def is_milestone(self, epoch: int) -> bool:
        """Whether `epoch` ends with a checkpoint and a validation: every `--eval_every` epochs, and the last one."""
        return epoch % self.args.run.eval_every == 0 or epoch * self.plan.steps >= self.learner.schedule.steps


def train(args: TrainArguments) -> None:
    """Check everything, build everything, run the epochs."""
    hub = HubUploads(args.hub, card_facts())
    with ExitStack() as held:
        train_in_folder(build(args, held), hub)


def train_in_folder(job: Job, hub: HubUploads) -> None:
    """Run the epochs of a job whose folder is locked."""
    run, state, accelerator = job.args.run, job.state, job.accelerator
    steps, steps_per_epoch = job.learner.schedule.steps, job.plan.steps
    log = open_log(job)
    with StopRequest(accelerator) as stop:
        for number in range(state.epoch + 1, math.ceil(steps / steps_per_epoch) + 1):
            begun = time.perf_counter() - state.seconds
            first, end = (number - 1) * steps_per_epoch, min(number * steps_per_epoch, steps)
            train_one_epoch(job, log, stop, number, begun)
            rate = job.learner.optimizer.param_groups[0]["initial_lr"] * job.learner.schedule(first)
            row = {"epoch": number, "learning_rate": rate}
            row |= {"train_loss": state.totals.mean_loss, "train_accuracy": state.totals.accuracy}
            if end == steps or (job.feed.val_loader is not None and job.is_milestone(number)):
                row |= validate(job, number)
            log.epoch(row | {"seconds": time.perf_counter() - begun})
            if end == number * steps_per_epoch:  # else a longer run can complete this epoch when it resumes
                state.end_epoch()
            if accelerator.is_main_process:
                checkpoints.update_state(job.folder, state)
            hub.saved(job.folder, better=state.best_epoch == number)
    run_folder.refuse_worthless(job.folder, state)
    log.finish(state.results())
    hub.finish(job.folder)
    log.trackers.end_training()
    accelerator.print(run_folder.outcome(job.folder, state, run.select))


def open_log(job: Job) -> TrainingLog:
    """Return the log of a run, and start its trackers. If one cannot start, a new run's folder can be used again."""
    accelerator, trackers = job.accelerator, Trackers(job.accelerator, job.folder)
    try:
        on_first_process(accelerator, trackers.start, job.state, public_arguments(recipe_of(job.args)))
    except RunError:
        if accelerator.is_main_process and not job.args.run.resume_from_checkpoint:
            run_folder.forget(job.folder)
        raise
    return TrainingLog(job.folder, job.state, job.labels.names, trackers, accelerator.is_main_process)


def build(args: TrainArguments, held: ExitStack) -> Job:
    """Load the data, build the network and the optimizer, and open the run folder, whose lock goes into `held`.

    Raises an error before any long work if something does not fit.
    """
    changes = check_arguments(args)
    data, labels = load_training_data(args.data)
    checkpointing, trackers = args.network.gradient_checkpointing, tracker_names(args.run)
    accelerator = make_accelerator(args.run.deterministic, checkpointing, trackers)
    held_run = run_folder.HeldRun(args.run, accelerator, held)
    plan = make_plan(args, count_images(args.data, data), accelerator)
    check_rooms(args, labels, plan, accelerator)
    described = describe_data(args.data, data, labels)
    learner = make_learner(args, labels, plan, held_run.checkpoint, described, accelerator)
    feed = make_feed(args, data, labels, plan, accelerator)
    check_crops(args, learner.model, feed.transform)
    fingerprint = on_first_process(accelerator, data_fingerprint, data, feed.counts)
    precision, processes = accelerator.mixed_precision, accelerator.num_processes
    now = Conditions(learner.schedule.steps, plan.steps, precision, processes, fingerprint)
    folder, state = open_run(args, held_run, changes, learner, now)
    accelerator.print(description(args, accelerator, learner, feed.transform, folder))
    if args.run.preview and accelerator.is_main_process:
        write_preview(folder / "preview.png", feed, args.run.preview, labels)
    weights = class_weights(args.loss, labels, feed.counts.sum(0)).to(accelerator.device)
    loss_function = make_loss(args.loss.loss, weights, args.loss.focal_gamma)
    return Job(args, accelerator, data, labels, plan, feed, learner, loss_function, folder, state)


# Checks across packages. The parser has already made the checks within one package.


def check_arguments(args: TrainArguments) -> list[str]:
    """Make the checks that read no data. Returns a line for each flag that a resumed run changes."""
    model_entry(args.network.model)
    run_folder.refuse_occupied(args.run)
    refuse_missing_trackers(args.run)
    if not args.run.resume_from_checkpoint:
        return []
    return changed_flags(args, checkpoints.run_of(args.run.resume_from_checkpoint) / "args.yaml")


def check_rooms(args: TrainArguments, labels: LabelInfo, plan: BatchPlan, accelerator: Accelerator) -> None:
    """Raise RunError if the loss does not suit the classes, or if a process sees too few images at a time."""
    if args.loss.class_weights == "challenge" and not labels.class_weights:
        raise RunError(f"--class_weights challenge needs the Cityscapes classes, not those of {labels.name}: use enet")
    if args.augmentation.copyblob == "tutorial" and plan.micro_batch_size < 2:
        raise RunError("--copyblob tutorial pastes between the images of a batch, but each process has 1 at a time")
    if args.network.norm == "batch" and not args.network.freeze_bn:
        check_batch_norm(accelerator, args.network.sync_bn, plan.micro_batch_size)


def check_crops(args: TrainArguments, model: torch.nn.Module, transform: TrainTransform) -> None:
    """Raise an error if crops or validation images are too small for the network."""
    follows_from = "--train_size" if args.data.train_size else "the images"
    given = args.augmentation.crop_size is not None
    check_sides(model, transform.options.crop_size, args.network.test_size, None if given else follows_from)


# The parts of a job.


def make_plan(args: TrainArguments, num_images: int, accelerator: Accelerator) -> BatchPlan:
    """Return the plan that divides the images of a step among processes and micro-batches."""
    size, parts = args.optimization.batch_size, args.optimization.gradient_accumulation_steps
    return BatchPlan(num_images, size, parts, accelerator.num_processes, accelerator.process_index)


def make_learner(
    args: TrainArguments,
    labels: LabelInfo,
    plan: BatchPlan,
    checkpoint: Path | None,
    described: dict,
    accelerator: Accelerator,
) -> Learner:
    """Build network, moving average and optimizer for this launch.

    checkpoint  the one to resume from, or None
    described   entries of config.json about the data, from `describe_data`
    """
    options, defaults = args.optimization, model_entry(args.network.model).training
    aux_weight = defaults.aux_weight if args.loss.aux_weight is None else args.loss.aux_weight
    provenance = {
        "pretrained": pretrained(args, checkpoint),
        "trained_on": args.data.train_on,
        "fold": args.data.fold,
        "train_images": plan.num_images,
        "select": args.run.select,
        "seed": args.run.seed,
        **described,
    }
    model = make_model(args, labels, aux_weight > 0, provenance, plan.micro_batch_size, accelerator)
    model = model.to(accelerator.device, memory_format=torch.channels_last)
    ema = make_ema(model, options.ema_decay) if options.ema_decay else None
    steps = total_steps(plan.steps, options.epochs, options.max_train_steps)
    optimizer, schedule = make_optimization(options, defaults, model, in_head, steps)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    if ema is not None:
        accelerator.prepare_model(ema.module, evaluation_mode=True)  # validate it in the launch's precision
    return Learner(model, ema, wrapped, aux_weight, optimizer, schedule)


def make_model(
    args: TrainArguments, labels: LabelInfo, auxiliary: bool, provenance: dict, images: int, accelerator: Accelerator
) -> torch.nn.Module:
    """Return the network with its initial weights. `images` is the number of images that a process sees at a time."""
    options = args.network
    torch.manual_seed(args.run.seed)
    model = build_network(options, labels.id2label, args.data.dataset, auxiliary, provenance)
    if options.freeze_bn and any(isinstance(layer, torch.nn.AdaptiveAvgPool2d) for layer in model.classifier.modules()):
        check_batch_norm(accelerator, False, images)
    starts = not args.run.resume_from_checkpoint
    if starts and (report := start_weights(model, options.init_from, options.pretrained_encoder)):
        accelerator.print(report)
        if bad := checkpoints.not_finite(model.state_dict()):
            flag = "--init_from" if options.init_from else "--pretrained_encoder"
            raise RunError(f"{flag} {options.init_from or options.pretrained_encoder}: its {bad} is not finite")
    torch.manual_seed(args.run.seed + accelerator.process_index)  # same weights, different dropout
    return synchronize_batch_norm(model) if options.sync_bn else model


def pretrained(args: TrainArguments, checkpoint: Path | None = None) -> str:
    """Return a name of the initial weights that may be published."""
    return run_folder.started_from(args.network.init_from or args.network.pretrained_encoder, checkpoint)


def make_feed(
    args: TrainArguments, data: DatasetDict, labels: LabelInfo, plan: BatchPlan, accelerator: Accelerator
) -> Feed:
    """Check the data files, and return loaders of training crops and validation images."""
    epoch, once = SharedEpoch(), partial(on_first_process, accelerator)
    made = make_training_data(args.data, args.augmentation, data, labels, epoch, args.run.seed, once)
    batches = TrainBatches(plan, args.run.seed, epoch, made.order)
    workers = {"num_workers": args.data.num_workers, "pin_memory": accelerator.device.type == "cuda"}
    loader, val_loader = train_loader(made.train, batches, **workers), None
    if made.validation is not None:
        once(refuse_void, made.validation)
        val_loader = eval_loader(made.validation, accelerator.num_processes, accelerator.process_index, **workers)
    return Feed(epoch, loader, val_loader, made.transform, made.counts)


def open_run(
    args: TrainArguments, held_run: run_folder.HeldRun, changes: list[str], learner: Learner, now: Conditions
) -> tuple[Path, RunState]:
    """Return folder and state of a new run, or of a resumed one, whose checkpoint is loaded into `learner`."""
    if not args.run.resume_from_checkpoint:
        return run_folder.begin_run(args, held_run, run_name(args), pretrained(args), now)
    return run_folder.resume_run(args, held_run, changes, learner.model, learner.ema, learner.optimizer, now)


def run_name(args: TrainArguments) -> str:
    """Return the beginning of the run folder's name, used without --output_dir."""
    encoder = f"_{args.network.encoder}" if args.network.encoder else ""
    return f"{args.data.dataset}_{args.network.model.lower()}{encoder}_{args.network.norm}"


def description(
    args: TrainArguments, accelerator: Accelerator, learner: Learner, transform: TrainTransform, folder: Path
) -> str:
    """Return one line that describes the run."""
    network, (height, width) = args.network, transform.options.crop_size
    encoder = f" ({network.encoder})" if network.encoder else ""
    parameters = sum(p.numel() for p in learner.model.parameters()) / 1e6
    return (
        f"{network.model}{encoder} with {network.norm} norm, {parameters:.2f} M parameters, on {len(transform.pixels)} "
        f"images of {args.data.dataset}, crops {height}x{width}, {learner.schedule.steps} steps of "
        f"{args.optimization.batch_size} images, {accelerator.num_processes} process(es), precision "
        f"{accelerator.mixed_precision}, seed {args.run.seed}, in {folder}"
    )


def write_preview(path: Path, feed: Feed, number: int, labels: LabelInfo) -> None:
    """Draw the first `number` training images as the network will see them, with their labels."""
    rows = preview_rows(feed.transform, feed.loader.batch_sampler, number, labels)
    with writing(path):
        write_picture(path, comparison(rows, ("augmented image", "label") * 2, labels.legend))
    print(f"look at {path}", flush=True)


def class_weights(options: LossOptions, labels: LabelInfo, pixels: np.ndarray) -> torch.Tensor:
    """Return class weights (C,): those published for the label set, or ENet's, from the training `pixels` per class."""
    if labels.class_weights and options.class_weights != "enet":
        return torch.tensor(labels.class_weights)
    return torch.tensor(enet_class_weights(pixels, options.class_weights_constant))


def refuse_void(validation: Dataset) -> None:
    """Raise DataError if no validation pixel has a label, because mIoU is undefined then. Stops at the first label."""
    if not any(bool((item["labels"] != IGNORE_INDEX).any()) for item in validation):
        raise DataError(
            "every validation pixel is ignored, so no model can be selected: label some, or train on these images too "
            "with --train_on train+val"
        )


def train_one_epoch(job: Job, log: TrainingLog, stop: StopRequest, number: int, begun: float) -> None:
    """Run the optimizer steps of epoch `number`. A resumed run skips the steps that are done.

    `begun` is the start of the epoch on `time.perf_counter`, moved back by the time that the interrupted run took.
    """
    state, plan, learner, run = job.state, job.plan, job.learner, job.args.run
    first, end = (number - 1) * plan.steps, min(number * plan.steps, learner.schedule.steps)
    done = state.step - first
    job.feed.epoch.set(number)
    job.feed.loader.batch_sampler.start_at(done)
    batches = iter(job.feed.loader)
    images = {"total": (end - first) * plan.batch_size, "done": done * plan.batch_size}
    learner.wrapped.train()
    if job.args.network.freeze_bn:
        freeze_batch_norm(learner.model.backbone)
    with progress_bar(job.accelerator, f"Epoch {number}", **images) as bar:
        while state.step < end:
            rate = set_learning_rate(learner.optimizer, learner.schedule(state.step))
            parts = list(itertools.islice(batches, plan.accumulation))
            totals, norm = train_step(
                job.accelerator,
                learner.wrapped,
                parts,
                job.loss_function,
                learner.optimizer,
                job.args.optimization.max_grad_norm,
                learner.aux_weight,
            )
            count_step(job, totals, norm)
            loss = totals.loss / (totals.weight or 1)
            log.step({"loss": loss, "learning_rate": rate, "grad_norm": norm}, last=state.step == end)
            bar.set_postfix(loss=f"{loss:.3f}", lr=f"{rate:.2e}", refresh=False)
            bar.update(plan.batch_size)
            stopped = stop.agreed()
            due = run.checkpointing_steps and state.step % run.checkpointing_steps == 0
            if stopped or due or (state.step == end and job.is_milestone(number)):
                state.seconds = time.perf_counter() - begun
                checkpoints.save_checkpoint(
                    job.accelerator,
                    job.folder,
                    learner.model,
                    learner.ema,
                    learner.optimizer,
                    state,
                    run.keep_checkpoints,
                )
            if stopped:
                folder, hub = shlex.quote(str(job.folder)), hub_flags(job.args.hub)
                stop.exit(f"train_seg.py --resume_from_checkpoint {folder}{hub}")


def count_step(job: Job, totals: Totals, norm: float) -> None:
    """Add a step to the epoch's sums and to the moving average, or count it as skipped if `norm` is not finite."""
    state, learner = job.state, job.learner
    if math.isfinite(norm):
        state.count_step(totals)
        if learner.ema is not None:
            learner.ema.update(learner.model, step=state.step)
    else:
        state.skip_step()
        bad = checkpoints.not_finite(learner.model.state_dict())
        run_folder.refuse_endless_skipping(job.folder, state, bad)


def train_step(
    accelerator: Accelerator,
    model: torch.nn.Module,
    parts: list[dict[str, torch.Tensor]],
    loss_function: LossFunction,
    optimizer: torch.optim.Optimizer,
    max_grad_norm: float | None,
    aux_weight: float,
) -> tuple[Totals, float]:
    """Run one optimizer step. Returns its `Totals` over all processes, and the norm of the gradient.

    `parts` are the micro-batches of this process. The objective is the total loss divided by the total weight. If the
    gradient is not finite, the step leaves weights, buffers and optimizer unchanged.
    """
    device = accelerator.device
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    pixels_per_step = sum(part["labels"].numel() for part in parts)
    counter = where_sums_are_exact(device)
    totals = torch.zeros(4, device=counter, dtype=torch.float64)
    for i, part in enumerate(parts, start=1):
        pixels = normalize(part["pixel_values"].to(device, non_blocking=True), IMAGENET_MEAN, IMAGENET_STD)
        target = part["labels"].to(device, non_blocking=True)
        with nullcontext() if i == len(parts) else accelerator.no_sync(model):
            output = model(pixel_values=pixels)
            logits = resize_logits(output.logits, target.shape[-2:])
            loss, weight = loss_function(logits, target)
            objective = loss
            for more in (output.aux_logits or ()) if aux_weight else ():
                objective = objective + aux_weight * loss_function(resize_logits(more, target.shape[-2:]), target)[0]
            # The exact denominator, the weight summed over processes and parts, is not known yet. Dividing by the
            # number of pixels keeps fp16 gradients in range. The factor below corrects for the difference.
            accelerator.backward(objective / pixels_per_step)
        correct, valid = (logits.detach().argmax(1) == target).sum(), (target != IGNORE_INDEX).sum()
        totals += torch.stack([value.detach().to(counter).double() for value in (loss, weight, correct, valid)])
    totals = Totals(*accelerator.reduce(totals).tolist())
    accelerator.unscale_gradients(optimizer)
    # `num_processes` turns the average over processes into a sum. Without a valid pixel, the gradients are zero.
    factor = pixels_per_step * accelerator.num_processes / (totals.weight or 1)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = factor * torch.nn.utils.get_total_norm(gradients).item()
    if not math.isfinite(totals.loss):
        norm = math.nan  # the gradient of a loss that overflowed cannot be trusted
    if max_grad_norm is not None and norm > max_grad_norm:
        factor *= max_grad_norm / norm
    if math.isfinite(norm):
        for gradient in gradients:
            gradient.mul_(factor)
        optimizer.step()
    else:
        for buffer, before in buffers:
            buffer.copy_(before)
        if accelerator.scaler is not None:
            accelerator.scaler.update()  # lowers the scale
    optimizer.zero_grad()
    return totals, norm


def where_sums_are_exact(device: torch.device) -> torch.device:
    """Return the device for float64 sums: `device`, or the CPU if it has no float64 (MPS)."""
    return torch.device("cpu") if device.type == "mps" else device


def validate(job: Job, number: int) -> dict:
    """Score the model, or its moving average, on the validation images, and draw pictures. Returns values to log.

    Saves it to best/ if it is the best so far, if `--select last` is given, or if there are no validation images, but
    never if its validation loss is not finite.
    """
    state, ema, network = job.state, job.learner.ema, job.args.network
    model = job.learner.model if ema is None else ema.module
    predictor, scores = Predictor(model, IMAGENET_MEAN, IMAGENET_STD, network.test_size), None
    with at_output_stride(model, network.eval_output_stride):
        if job.feed.val_loader is not None:
            if job.accelerator.num_processes > 1:  # score with the batch norm statistics that are saved: rank 0's
                for buffer in model.buffers():
                    torch.distributed.broadcast(buffer, src=0)
            scores = evaluate_model(job.accelerator, predictor, job.feed.val_loader, job.loss_function, job.labels)
        sound = scores is None or math.isfinite(scores["val_loss"])
        first = scores is None or state.best_mean_iou is None
        better = sound and (first or job.args.run.select == "last" or scores["mean_iou"] > state.best_mean_iou)
        if not sound:
            job.accelerator.print("note: the validation loss is not finite: these weights are not saved to best/")
        if better:
            state.keep_best(number, scores and scores["mean_iou"])
        if better and job.accelerator.is_main_process:
            run_folder.save_best(job.folder, model, predictor.image_processor(), state, card_facts(), scores)
        if scores and job.accelerator.is_main_process:
            path = job.folder / "images" / f"epoch_{number:04d}.png"
            with writing(path):
                draw_pictures(path, predictor, job.data["validation"], job.labels)
            print(class_table(job.labels.names, scores), flush=True)
    if scores is None:
        return {}
    by_class = dict(zip(map(iou_column, job.labels.names), scores["per_category_iou"], strict=True))
    measured = {key: scores[key] for key in ("val_loss", "val_accuracy", "mean_iou")} | by_class
    return {key: value if math.isfinite(value) else None for key, value in measured.items()}


def evaluate_model(
    accelerator: Accelerator, predictor: Predictor, loader: DataLoader, loss_function: Callable, labels: LabelInfo
) -> dict:
    """Return the scores of the `mean_iou` metric, and the mean loss as `val_loss`.

    Every image counts once, at the size of its label, for any number of processes.
    """
    device = accelerator.device
    totals = torch.zeros(2, device=where_sums_are_exact(device), dtype=torch.float64)

    def predict_image(item: dict) -> torch.Tensor:
        target = item["labels"].to(device)
        scores = predictor(item["pixel_values"].to(device), size=target.shape)
        totals.add_(torch.stack(loss_function(scores[None], target[None])).to(totals.device).double())
        return scores.argmax(0).to(torch.uint8)

    scores = score_split(accelerator, "Validation", loader, labels, predict_image)
    loss, weight = accelerator.reduce(totals).tolist()
    return scores | {"val_loss": loss / (weight or 1), "val_accuracy": scores["overall_accuracy"]}


def draw_pictures(path: Path, predictor: Predictor, split: Dataset, labels: LabelInfo) -> None:
    """Draw image, truth and prediction of a few images spread over the split."""
    chosen = np.linspace(0, len(split) - 1, min(NUM_PICTURES, len(split))).round().astype(int).tolist()
    items = split.with_transform(EvalTransform(Pixels(split, labels)))
    rows = []
    for index in chosen:
        image, truth = items[index]["pixel_values"], items[index]["labels"].numpy()
        prediction = predictor.labels(image.to(predictor.model.device), truth.shape).to(torch.uint8).cpu().numpy()
        rows.append((image.permute(1, 2, 0).numpy(), labels.to_color(truth), labels.to_color(prediction)))
    write_picture(path, comparison(rows, ("image", "truth", "prediction"), labels.legend))


if __name__ == "__main__":
    main()
