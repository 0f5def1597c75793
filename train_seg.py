"""Train a segmentation network from scratch on a few hundred images.

    accelerate launch train_seg.py --norm evo
    accelerate launch --config_file accelerate_config.yaml train_seg.py --norm evo      # 4 GPUs, mixed precision
    accelerate launch train_seg.py --dataset camvid --dataset_path camvid --model streetnet --epochs 100

Reads top to bottom: `train` checks, builds and runs the epochs, `train_one_epoch` the steps; `evaluate_model` scores.
"""

from seg_runs.arguments import TrainArguments, parse_arguments, predict_flags
from seg_runs.launch import one_line_errors

if __name__ == "__main__":  # --help and mistakes in flags are answered before torch is loaded, which takes seconds
    with one_line_errors():
        parse_arguments(TrainArguments)

import itertools
import math
import shlex
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from datasets import DatasetDict
from torch.utils.data import DataLoader

import predict_seg
from data_scripts.augment import IMAGENET_MEAN, IMAGENET_STD
from data_scripts.fingerprint import data_fingerprint
from data_scripts.folds import load_data
from data_scripts.labels import IGNORE_INDEX, DataError, LabelInfo
from data_scripts.loading import TrainBatches, eval_loader, train_loader
from data_scripts.pixels import Pixels
from data_scripts.preview import preview_rows
from data_scripts.sampling import make_order
from data_scripts.training import count_images, make_training_data
from data_scripts.transforms import EvalTransform, SharedEpoch
from seg_models import ModelError, Predictor, build_model, model_entry, start_weights
from seg_models.losses import enet_class_weights, make_loss
from seg_models.modeling import at_output_stride
from seg_models.norms import freeze_batch_norm, synchronize_batch_norm
from seg_models.predictor import check_sides, normalize, resize_logits
from seg_runs import checkpoints, run_folder
from seg_runs.files import write_picture, writing
from seg_runs.hub import HubUploads, hub_flags
from seg_runs.launch import RunError, check_batch_norm, make_accelerator, on_first_process, progress_bar
from seg_runs.log import TrainingLog
from seg_runs.optimization import Schedule, make_ema, make_optimization, set_learning_rate, total_steps
from seg_runs.report import class_table, comparison
from seg_runs.stop import StopRequest, stop_with_launcher
from trained_model import score_split

NUM_PICTURES = 3  # validation images that are drawn after each validation


def main(argv: list[str] | None = None) -> None:
    stop_with_launcher()
    with one_line_errors(DataError, ModelError):
        args = parse_arguments(TrainArguments, argv)
        if args.predict:  # as the tutorial that this grew out of has it
            return predict_seg.main(predict_flags(args))
        train(args)


@dataclass
class Job:
    """What `build` makes of the arguments and the epochs work on."""

    accelerator: Accelerator
    data: DatasetDict
    labels: LabelInfo
    epoch: SharedEpoch  # read by the workers that prepare the data
    loader: torch.utils.data.DataLoader
    val_loader: torch.utils.data.DataLoader | None  # None when its images are trained on
    model: torch.nn.Module
    ema: torch.nn.Module | None  # timm's moving average; the averaged model is its `module`
    wrapped: torch.nn.Module  # what trains: under several processes it adds the exchange of gradients
    loss_function: Callable  # (logits, labels) -> (sum, weight)
    aux_weight: float  # of the losses of further logits
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    folder: Path
    state: dict  # where the run stands: what a checkpoint's state.json holds


def train(args: TrainArguments) -> None:
    """Check everything, build everything, run the epochs."""
    hub = HubUploads(args)
    with ExitStack() as held:
        train_in_folder(args, build(args, held), hub)


def train_in_folder(args: TrainArguments, job: Job, hub: HubUploads) -> None:
    """The epochs of a run whose folder is held."""
    state, accelerator = job.state, job.accelerator
    steps, steps_per_epoch = job.schedule.steps, job.loader.batch_sampler.steps
    log = TrainingLog(job.folder, args.report_to, accelerator.is_main_process, state)
    with StopRequest(accelerator) as stop:
        for number in range(state["epoch"] + 1, math.ceil(steps / steps_per_epoch) + 1):
            begun = time.perf_counter() - state["seconds"]
            first, end = (number - 1) * steps_per_epoch, min(number * steps_per_epoch, steps)
            train_one_epoch(args, job, log, stop, number, first, end, begun)
            loss, weight, correct, pixels = state["totals"]
            row = {"epoch": number, "learning_rate": job.optimizer.param_groups[0]["initial_lr"] * job.schedule(first)}
            row |= {"train_loss": loss / weight if weight else None}
            row |= {"train_accuracy": correct / pixels if pixels else None}  # None: no step counted
            if end == steps or (job.val_loader is not None and is_milestone(args, job, number)):
                row |= validate(args, job, number)
            log.epoch(row | {"seconds": time.perf_counter() - begun})
            if end == number * steps_per_epoch:  # steps may end within an epoch, which a longer run then completes
                state |= {"epoch": number, **run_folder.NEW_EPOCH}
            if accelerator.is_main_process:
                checkpoints.update_state(job.folder, state)
            hub.saved(job.folder, better=state["best_epoch"] == number)
    run_folder.refuse_worthless(job.folder, state)
    log.finish({key: state[key] for key in ("step", "best_mean_iou", "best_epoch")})
    hub.finish(job.folder)
    accelerator.print(run_folder.outcome(job.folder, state, args.select))
    accelerator.end_training()


def is_milestone(args: TrainArguments, job: Job, number: int) -> bool:
    """Whether epoch `number` ends with a checkpoint and a validation: one in `--eval_every` does, and the last."""
    return number % args.eval_every == 0 or number * job.loader.batch_sampler.steps >= job.schedule.steps


def build(args: TrainArguments, held: ExitStack) -> Job:
    """Data, model, optimizer and run folder, or an error before any of the long work. `held` keeps its lock."""
    model_entry(args.model)
    if args.output_dir and not (args.overwrite_output_dir or args.resume_from_checkpoint):
        run_folder.refuse_run(Path(args.output_dir))
    data, labels = load_data(args.dataset, args.dataset_path, args.folds, args.fold, args.train_on)
    if args.class_weights == "challenge" and not labels.class_weights:
        raise RunError(f"--class_weights challenge is for the Cityscapes classes, not those of {labels.name}: use enet")
    accelerator = make_accelerator(args.deterministic, args.gradient_checkpointing)
    held_run = run_folder.HeldRun(args, accelerator, held)
    epoch = SharedEpoch()
    batches = make_batches(args, data, epoch, accelerator)
    defaults = model_entry(args.model).training
    aux_weight = defaults.aux_weight if args.aux_weight is None else args.aux_weight
    provenance = run_folder.provenance(args, count_images(args, data), held_run.checkpoint)
    model = make_model(args, labels, aux_weight > 0, batches.micro_batch_size, provenance, accelerator)
    ema = make_ema(model, args.ema_decay) if args.ema_decay else None
    steps = total_steps(batches.steps, args.epochs, args.max_train_steps)
    optimizer, schedule = make_optimization(args, defaults, model, steps)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    if ema is not None:
        accelerator.prepare_model(ema.module, evaluation_mode=True)  # in the launch's precision, as it is predicted
    loader, val_loader, transform, counts = make_loaders(args, data, labels, epoch, batches, accelerator)
    follows_from = None if args.crop_size else "--train_size" if args.train_size else "the images"
    check_sides(model, transform.options.crop_size, args.test_size, follows_from)
    fingerprint = on_first_process(accelerator, data_fingerprint, data, counts)
    now = run_folder.conditions(accelerator, steps, batches.steps, fingerprint)
    if args.resume_from_checkpoint:
        folder, state = run_folder.resume_run(args, held_run, model, ema, optimizer, now)
    else:
        folder, state = run_folder.begin_run(args, held_run, now)
    accelerator.print(description(args, accelerator, model, transform, steps, folder))
    if args.preview and accelerator.is_main_process:
        write_preview(folder / "preview.png", preview_rows(transform, batches, args.preview, labels), labels)
    weights = class_weights(args, labels, counts.sum(0)).to(accelerator.device)
    return Job(
        accelerator=accelerator,
        data=data,
        labels=labels,
        epoch=epoch,
        loader=loader,
        val_loader=val_loader,
        model=model,
        ema=ema,
        wrapped=wrapped,
        loss_function=make_loss(args.loss, weights, args.focal_gamma),
        aux_weight=aux_weight,
        optimizer=optimizer,
        schedule=schedule,
        folder=folder,
        state=state,
    )


def make_model(args, labels, auxiliary: bool, images: int, provenance: dict, accelerator) -> torch.nn.Module:
    """The network on its device, with the weights that it starts from. `images`: that a process sees at a time."""
    torch.manual_seed(args.seed)
    model = build_model(
        args.model,
        args.norm,
        labels.id2label,
        args.dataset,
        auxiliary=auxiliary,
        encoder=args.encoder,
        output_stride=args.output_stride,
        eval_output_stride=args.eval_output_stride,
        freeze_bn=args.freeze_bn,
        gradient_checkpointing=args.gradient_checkpointing,
    )
    if args.freeze_bn and any(isinstance(layer, torch.nn.AdaptiveAvgPool2d) for layer in model.classifier.modules()):
        check_batch_norm(accelerator, False, images)
    model.config.update(provenance)
    if not args.resume_from_checkpoint and (report := start_weights(model, args.init_from, args.pretrained_encoder)):
        accelerator.print(report)
        if bad := checkpoints.not_finite(model.state_dict()):
            flag = "--init_from" if args.init_from else "--pretrained_encoder"
            raise RunError(f"{flag} {args.init_from or args.pretrained_encoder}: its {bad} is not finite")
    torch.manual_seed(args.seed + accelerator.process_index)  # the same weights everywhere, but not the same dropout
    if args.sync_bn:
        model = synchronize_batch_norm(model)
    return model.to(accelerator.device, memory_format=torch.channels_last)


def description(args, accelerator, model, transform, steps: int, folder: Path) -> str:
    """What is trained, in one line."""
    encoder = f" ({args.encoder})" if args.encoder else ""
    parameters, images = sum(p.numel() for p in model.parameters()) / 1e6, len(transform.pixels)
    height, width = transform.options.crop_size
    return (
        f"{args.model}{encoder} with {args.norm} norm, {parameters:.2f} M parameters, on {images} images "
        f"of {args.dataset}, crops {height}x{width}, {steps} steps of {args.batch_size} images, "
        f"{accelerator.num_processes} process(es), precision {accelerator.mixed_precision}, seed {args.seed}, "
        f"in {folder}"
    )


def write_preview(path: Path, rows: list, labels: LabelInfo) -> None:
    """Training images as the network will see them, with their labels."""
    with writing(path):
        write_picture(path, comparison(rows, ("augmented image", "label") * 2, labels.legend))
    print(f"look at {path}", flush=True)


def class_weights(args, labels: LabelInfo, pixels: np.ndarray) -> torch.Tensor:
    """(C,): the published weights of the label set, or those that follow from the training `pixels` (C,)."""
    if labels.class_weights and args.class_weights != "enet":
        return torch.tensor(labels.class_weights)
    constant = {} if args.class_weights_constant is None else {"constant": args.class_weights_constant}
    return torch.tensor(enet_class_weights(pixels, **constant))


def make_batches(args, data, epoch, accelerator) -> TrainBatches:
    """How many images each process sees at a time, or an error if that cannot be."""
    processes = (accelerator.num_processes, accelerator.process_index)
    images = count_images(args, data)
    batches = TrainBatches(images, args.batch_size, args.gradient_accumulation_steps, *processes, args.seed, epoch)
    if args.copyblob == "tutorial" and batches.micro_batch_size < 2:
        raise RunError("--copyblob tutorial pastes between the images of a batch, and each process has 1 at a time")
    if args.norm == "batch" and not args.freeze_bn:
        check_batch_norm(accelerator, args.sync_bn, batches.micro_batch_size)
    return batches


def make_loaders(args, data, labels, epoch, batches, accelerator):
    """Check the files; loaders of training crops and validation images (None if they are trained on), what makes the
    crops, pixels (N, C) of each class in each training image."""
    once = partial(on_first_process, accelerator)
    made = make_training_data(args, data, labels, epoch, once, accelerator.is_main_process)
    if args.sampling != "shuffle":
        batches.order = make_order(args.sampling, made.counts)
    workers = {"num_workers": args.num_workers, "pin_memory": accelerator.device.type == "cuda"}
    loader, val_loader = train_loader(made.train, batches, **workers), None
    if made.validation is not None:
        once(refuse_void, made.validation)
        val_loader = eval_loader(made.validation, accelerator.num_processes, accelerator.process_index, **workers)
    return loader, val_loader, made.transform, made.counts


def refuse_void(validation) -> None:
    """Refuse validation images without a labelled pixel: their mIoU does not exist. It looks until it has found one."""
    if not any(bool((item["labels"] != IGNORE_INDEX).any()) for item in validation):
        raise DataError(
            "every validation pixel is ignored, so no model could be chosen: label some, or train on them too by "
            "--train_on train+val"
        )


def train_one_epoch(args, job: Job, log: TrainingLog, stop: StopRequest, number: int, first: int, end: int, begun):
    """The optimizer steps `first` to `end` of the run, or what a resumed run has left of them."""
    state, done = job.state, job.state["step"] - first
    job.epoch.set(number)
    job.loader.batch_sampler.first_step = done
    batches = iter(job.loader)
    images = {"total": (end - first) * args.batch_size, "done": done * args.batch_size}
    job.wrapped.train()
    if args.freeze_bn:
        freeze_batch_norm(job.model.backbone)
    with progress_bar(job.accelerator, f"Epoch {number}", **images) as bar:
        while state["step"] < end:
            rate = set_learning_rate(job.optimizer, job.schedule(state["step"]))
            parts = list(itertools.islice(batches, args.gradient_accumulation_steps))
            totals, norm = train_step(
                job.accelerator,
                job.wrapped,
                parts,
                job.loss_function,
                job.optimizer,
                args.max_grad_norm,
                job.aux_weight,
            )
            state["step"] += 1
            if math.isfinite(norm):
                state["skipped"] = 0
                state["totals"] = [a + b for a, b in zip(state["totals"], totals, strict=True)]
                if job.ema is not None:
                    job.ema.update(job.model, step=state["step"])
            else:
                state["skipped"] += 1
                bad = checkpoints.not_finite(job.model.state_dict())
                run_folder.refuse_endless_skipping(job.folder, state, bad)
            loss = totals[0] / (totals[1] or 1)
            log.step(state["step"], {"loss": loss, "learning_rate": rate, "grad_norm": norm})
            bar.set_postfix(loss=f"{loss:.3f}", lr=f"{rate:.2e}", refresh=False)
            bar.update(args.batch_size)
            stopped = stop.agreed()
            due = args.checkpointing_steps and state["step"] % args.checkpointing_steps == 0
            if stopped or due or (state["step"] == end and is_milestone(args, job, number)):
                state["seconds"] = time.perf_counter() - begun
                log.flush()  # what is logged of these steps is on the disk first: a resumed run does not log it again
                saved = job.model, job.ema, job.optimizer, state
                checkpoints.save_checkpoint(job.accelerator, job.folder, *saved, args.keep_checkpoints)
            if stopped:
                stop.exit(f"train_seg.py --resume_from_checkpoint {shlex.quote(str(job.folder))}{hub_flags(args)}")


def train_step(accelerator, model, parts, loss_function, optimizer, max_grad_norm: float | None, aux_weight: float):
    """One optimizer step: ((loss, weight, correct pixels, pixels) of all processes, norm of the gradient).

    `parts`: the micro-batches of this process. The gradient is that of the total loss over the total weight. Where it
    is not finite, the step changes nothing: weights, buffers and optimizer stay as they were.
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
            # The exact denominator, the weight summed over processes and parts, is not known yet: divided by the
            # number of pixels, fp16 gradients stay in range, and the rest of the factor follows below.
            accelerator.backward(objective / pixels_per_step)
        correct, valid = (logits.detach().argmax(1) == target).sum(), (target != IGNORE_INDEX).sum()
        totals += torch.stack([value.detach().to(counter).double() for value in (loss, weight, correct, valid)])
    totals = accelerator.reduce(totals).tolist()
    accelerator.unscale_gradients(optimizer)
    # Gradients were averaged over processes, hence that factor. Without a valid pixel they are zero.
    factor = pixels_per_step * accelerator.num_processes / (totals[1] or 1)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = factor * torch.nn.utils.get_total_norm(gradients).item()
    if not math.isfinite(totals[0]):
        norm = math.nan  # of a loss that overflowed no gradient is to be trusted
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
            accelerator.scaler.update()  # lowers its scale
    optimizer.zero_grad()
    return totals, norm


def where_sums_are_exact(device: torch.device) -> torch.device:
    """Where sums in float64 are kept: on the device, or on the CPU where it has none (MPS)."""
    return torch.device("cpu") if device.type == "mps" else device


def validate(args: TrainArguments, job: Job, number: int) -> dict:
    """Score the model, or its moving average, and draw pictures. Keep it in best/ if it is the best so far, if the run
    keeps its last weights, or if there are no validation images."""
    state, model = job.state, job.model if job.ema is None else job.ema.module
    predictor, scores = Predictor(model, IMAGENET_MEAN, IMAGENET_STD, args.test_size), None
    with at_output_stride(model, args.eval_output_stride):
        if job.val_loader is not None:
            if job.accelerator.num_processes > 1:  # with the batch-norm statistics that are saved: the first process's
                for buffer in model.buffers():
                    torch.distributed.broadcast(buffer, src=0)
            scores = evaluate_model(job.accelerator, predictor, job.val_loader, job.loss_function, job.labels)
        sound = scores is None or math.isfinite(scores["val_loss"])
        first = scores is None or state["best_mean_iou"] is None
        better = sound and (first or args.select == "last" or scores["mean_iou"] > state["best_mean_iou"])
        if not sound:
            job.accelerator.print("note: the validation loss is not finite: these weights are not kept in best/")
        if better:
            state |= {"best_mean_iou": scores and scores["mean_iou"], "best_epoch": number}
        if better and job.accelerator.is_main_process:
            run_folder.save_best(job.folder, model, predictor.image_processor(), state, scores)
        if scores and job.accelerator.is_main_process:
            path = job.folder / "images" / f"epoch_{number:04d}.png"
            with writing(path):
                draw_pictures(path, predictor, job.data["validation"], job.labels)
            print(class_table(job.labels.names, scores), flush=True)
    measured = {key: scores[key] for key in ("val_loss", "val_accuracy", "mean_iou")} if scores else {}
    return {key: value if math.isfinite(value) else None for key, value in measured.items()}


def evaluate_model(
    accelerator: Accelerator, predictor: Predictor, loader: DataLoader, loss_function: Callable, labels: LabelInfo
) -> dict:
    """Scores of the `mean_iou` metric, and the mean loss, over every pixel of every image, whatever the processes."""
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


def draw_pictures(path: Path, predictor, split, labels) -> None:
    """Input, truth and prediction of a few images spread over the split."""
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
