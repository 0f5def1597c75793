"""Train a segmentation network from scratch on a few hundred images.

    accelerate launch train_seg.py --norm evo
    accelerate launch --config_file accelerate_config.yaml train_seg.py --norm evo      # 4 GPUs, mixed precision
    accelerate launch train_seg.py --dataset camvid --dataset_path camvid --model streetnet --epochs 100

Read it from top to bottom: `train` runs the epochs of the job that seg_jobs/training_job.py builds, `train_one_epoch`
runs the steps, `train_step` computes loss and gradient, and `validate` scores the model. `rehearse`, at the end,
measures a few steps before the first epoch.
"""

import time

STARTED = time.perf_counter()  # before the libraries load, which takes seconds

from seg_jobs.arguments import TrainArguments, answer_early, prediction_of

answer_early(__name__, TrainArguments)

import itertools
import math
import shlex
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from datasets import Dataset
from torch.utils.data import DataLoader

import predict_seg
from data_scripts.augment import IMAGENET_MEAN, IMAGENET_STD
from data_scripts.evaluation import Scoring, evenly_spread
from data_scripts.labels import IGNORE_INDEX, DataError, LabelInfo
from data_scripts.recognition import with_dataset
from seg_jobs import dry_run
from seg_jobs.card_facts import card_facts
from seg_jobs.trained_model import compute_scores, load_metric
from seg_jobs.training_job import Job, Setup, description, fit_time, open_setup, start_job
from seg_models.errors import ModelError
from seg_models.layers import resize_logits
from seg_models.losses import Sums
from seg_models.objective import Criterion, LossFunction
from seg_models.output_strides import at_output_stride
from seg_models.predictor import Predictor, normalize
from seg_models.views import Views
from seg_runs import checkpoints
from seg_runs.best_model import save_best
from seg_runs.errors import one_line_errors
from seg_runs.files import write_picture, writing
from seg_runs.hub import HubUploads, hub_flags
from seg_runs.launch import note_on_precision, spare_libraries
from seg_runs.log import iou_column
from seg_runs.optimization import set_learning_rate
from seg_runs.outcome import outcome, refuse_endless_skipping, refuse_worthless
from seg_runs.pace import Pace
from seg_runs.parsing import parse_arguments
from seg_runs.processes import on_first_process, progress_bar, say
from seg_runs.results import class_table, comparison
from seg_runs.state import Totals
from seg_runs.stop import StopRequest, stop_with_launcher

NUM_PICTURES = 3  # validation images to draw after each validation


def main(argv: list[str] | None = None, started: float | None = None) -> None:
    """Train as the command line says. --max_train_time counts from `started` on `time.perf_counter` (default: now)."""
    started = time.perf_counter() if started is None else started
    stop_with_launcher()
    with one_line_errors(DataError, ModelError):
        args = parse_arguments(TrainArguments, argv)
        if args.run.predict:  # the tutorial's training script predicts too
            return predict_seg.predict(prediction_of(args))
        train(replace(args, data=with_dataset(args.data)), started)


def train(args: TrainArguments, started: float) -> None:
    """Check everything, build everything, run the epochs. --max_train_time counts from `started`."""
    hub = HubUploads(args.hub, card_facts())
    with open_setup(args) as setup:
        setup, pace = rehearse(setup, started)
        if args.run.dry_run:
            return
        job = start_job(setup, pace)
        with StopRequest(job.accelerator) as stop:
            for number in job.epochs_left():
                begun = time.perf_counter() - job.state.seconds
                train_one_epoch(job, stop, number, begun)
                end_epoch(job, number, begun)
                hub.saved(job.folder, better=job.state.best_epoch == number)
        refuse_worthless(job.folder, job.state)
        job.log.finish()
        hub.finish(job.folder)
        job.log.trackers.end_training()
        say(job.accelerator, outcome(job.folder, job.state, args.run.select))


def train_one_epoch(job: Job, stop: StopRequest, number: int, begun: float) -> None:
    """Run the optimizer steps of epoch `number`. A resumed run skips the steps that are done.

    `begun` is the start of the epoch on `time.perf_counter`, moved back by the time that the interrupted run took.
    """
    accelerator = job.accelerator
    state = job.state
    plan = job.plan
    learner = job.learner
    run = job.args.run
    max_grad_norm = job.args.optimization.max_grad_norm
    steps = job.steps_of(number)
    done = state.step - steps.start
    job.feed.epoch.set(number)
    job.feed.loader.batch_sampler.start_at(done)
    batches = iter(job.feed.loader)
    job.training_mode()
    images = {"total": len(steps) * plan.batch_size, "done": done * plan.batch_size}
    with progress_bar(accelerator, f"Epoch {number}", **images) as bar:
        ended = time.perf_counter()
        while state.step < steps.stop:
            rate = set_learning_rate(learner.optimizer, job.schedule(state.step))
            micro_batches = list(itertools.islice(batches, plan.accumulation))
            totals, grad_norm = train_step(
                accelerator, learner.wrapped, micro_batches, job.criterion, learner.optimizer, max_grad_norm
            )
            if math.isfinite(grad_norm):
                state.count_step(totals)
                if learner.ema is not None:
                    learner.ema.update(learner.model, step=state.step)
            else:
                state.skip_step()
                refuse_endless_skipping(job.folder, state, learner.model)
            last = state.step == steps.stop
            loss = totals.loss / (totals.weight or 1)
            job.log.step({"loss": loss, "learning_rate": rate, "grad_norm": grad_norm}, last)
            before = ended
            ended = time.perf_counter()
            job.pace.add_step(ended - before)
            bar.set_postfix(loss=f"{loss:.3f}", lr=f"{rate:.2e}", run_left=job.time_left(), refresh=False)
            bar.update(plan.batch_size)
            stopped = stop.agreed()
            due = run.checkpointing_steps and state.step % run.checkpointing_steps == 0
            if stopped or due or (last and job.is_milestone(number)):
                state.seconds = time.perf_counter() - begun
                checkpoints.save_checkpoint(accelerator, job.folder, learner, state, run.keep_checkpoints)
            if stopped:
                folder = shlex.quote(str(job.folder))
                hub = hub_flags(job.args.hub)
                stop.exit(f"train_seg.py --resume_from_checkpoint {folder}{hub}")


def train_step(
    accelerator: Accelerator,
    model: torch.nn.Module,
    micro_batches: list[dict[str, torch.Tensor]],
    criterion: Criterion,
    optimizer: torch.optim.Optimizer,
    max_grad_norm: float | None,
) -> tuple[Totals, float]:
    """Run one optimizer step. Returns its `Totals` over all processes, and the norm of the gradient.

    The step minimises the total loss divided by the total weight, over the micro-batches of all processes. If the
    gradient is not finite, the step leaves weights, buffers and optimizer unchanged.
    """
    device = accelerator.device
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    own_pixels = sum(batch["labels"].numel() for batch in micro_batches)
    sums = torch.zeros(4, device=device_of_sums(device), dtype=torch.float64)
    for i, batch in enumerate(micro_batches, start=1):
        pixels = normalize(batch["pixel_values"].to(device, non_blocking=True), IMAGENET_MEAN, IMAGENET_STD)
        target = batch["labels"].to(device, non_blocking=True)
        with nullcontext() if i == len(micro_batches) else accelerator.no_sync(model):
            teacher_logits = criterion.teacher_logits(pixels)
            output = model(pixel_values=pixels)
            logits = resize_logits(output.logits, target.shape[-2:])
            loss, weight = criterion.loss_function(logits, target)
            total = criterion.total((loss, weight), output, teacher_logits, target)
            # The exact denominator, the weight of all micro-batches and processes, is not known yet. Dividing by the
            # number of pixels keeps fp16 gradients in range. The factor below corrects for the difference.
            accelerator.backward(total / own_pixels)
        correct, valid = (logits.detach().argmax(1) == target).sum(), (target != IGNORE_INDEX).sum()
        sums += torch.stack([value.detach().to(sums.device).double() for value in (loss, weight, correct, valid)])
    totals = Totals(*accelerator.reduce(sums).tolist())
    accelerator.unscale_gradients(optimizer)
    # `num_processes` turns the average over processes into a sum. Without a valid pixel, the gradients are zero.
    factor = own_pixels * accelerator.num_processes / (totals.weight or 1)
    grad_norm = scale_gradients(model, factor, max_grad_norm)
    if not math.isfinite(totals.loss):
        grad_norm = math.nan  # the gradient of a loss that overflowed cannot be trusted
    if math.isfinite(grad_norm):
        optimizer.step()
    else:
        for buffer, before in buffers:
            buffer.copy_(before)
        if accelerator.scaler is not None:
            accelerator.scaler.update()  # lowers the scale
    optimizer.zero_grad()
    return totals, grad_norm


def scale_gradients(model: torch.nn.Module, factor: float, max_grad_norm: float | None) -> float:
    """Multiply the gradients by `factor`, then clip their norm to `max_grad_norm`. Returns the norm before clipping.

    Gradients whose norm is not finite stay as they are.
    """
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = factor * torch.nn.utils.get_total_norm(gradients).item()
    if not math.isfinite(norm):
        return norm
    if max_grad_norm is not None and norm > max_grad_norm:
        factor *= max_grad_norm / norm
    for gradient in gradients:
        gradient.mul_(factor)
    return norm


def device_of_sums(device: torch.device) -> torch.device:
    """Return the device for float64 sums: `device`, or the CPU if it has no float64 (MPS)."""
    return torch.device("cpu") if device.type == "mps" else device


def end_epoch(job: Job, number: int, begun: float) -> None:
    """Validate the model if epoch `number` is a milestone, log the epoch, and count it. `begun` is its start.

    Without validation images, only the last epoch saves best/.
    """
    state = job.state
    steps = job.steps_of(number)
    schedule = job.schedule
    rate = job.learner.optimizer.param_groups[0]["initial_lr"] * schedule(steps.start)
    row = {"epoch": number, "learning_rate": rate}
    row |= {"train_loss": state.totals.mean_loss, "train_accuracy": state.totals.accuracy}
    if steps.stop == schedule.steps or (job.feed.validates and job.is_milestone(number)):
        validated = time.perf_counter()
        scores = validate(job, number)
        row |= loggable(scores, job.labels) if scores else {}
        job.pace.add_validation(time.perf_counter() - validated)
    job.log.epoch(row | {"seconds": time.perf_counter() - begun})
    if len(steps) == job.plan.steps:  # else a longer run can complete this epoch when it resumes
        state.end_epoch()
    if job.accelerator.is_main_process:
        checkpoints.update_state(job.folder, state)


def validate(job: Job, number: int) -> dict | None:
    """Score the model, or its moving average, and keep it in best/ if it improves. Draw pictures.

    Returns the scores, or None without validation images.
    """
    accelerator = job.accelerator
    model = job.learner.scored
    network = job.args.network
    predictor = Predictor(model, IMAGENET_MEAN, IMAGENET_STD, Views(network.test_size))
    scores = None
    with at_output_stride(model, network.eval_output_stride):
        if job.feed.validates:
            scores = evaluate_model(
                accelerator, predictor, job.feed.val_loader, job.criterion.loss_function, job.scoring
            )
            if not math.isfinite(scores["val_loss"]):
                say(accelerator, "note: the validation loss is not finite: these weights are not saved to best/")
        if job.state.improves(scores, job.args.run.select):
            keep_best(job, number, predictor, scores)
        if scores and accelerator.is_main_process:
            path = job.folder / "images" / f"epoch_{number:04d}.png"
            with writing(path):
                draw_pictures(path, predictor, job.feed.val_loader.dataset, job.labels)
            print(class_table(job.labels.names, scores), flush=True)
    return scores


def keep_best(job: Job, number: int, predictor: Predictor, scores: dict | None) -> None:
    """Save the weights of epoch `number` to best/, with their scores."""
    job.state.keep_best(number, None if scores is None else scores["mean_iou"])
    if job.accelerator.is_main_process:
        measured = {"operations": job.operations, "peak_memory": dry_run.peak_memory(job.accelerator.device)}
        processor = predictor.image_processor()
        save_best(job.folder, predictor.model, processor, job.state, card_facts(), scores, measured)


def evaluate_model(
    accelerator: Accelerator, predictor: Predictor, loader: DataLoader, loss_function: LossFunction, scoring: Scoring
) -> dict:
    """Return the scores of the `mean_iou` metric, and the mean loss as `val_loss`.

    Every image counts once, at the size of its label, for any number of processes. All processes use the batch norm
    statistics of the first, which are saved.
    """
    if accelerator.num_processes > 1:
        for buffer in predictor.model.buffers():
            torch.distributed.broadcast(buffer, src=0)
    device = accelerator.device
    metric = load_metric()
    sums = torch.zeros(2, device=device_of_sums(device), dtype=torch.float64)
    for item in progress_bar(accelerator, "Validation", loader=loader):
        prediction, loss = predict_item(predictor, item, loss_function, scoring, device)
        metric.add_batch(predictions=scoring.counted(prediction), references=item["labels"].to(device))
        sums += torch.stack(loss).to(sums.device).double()
    scores = compute_scores(accelerator, metric, scoring.labels)
    loss, weight = accelerator.reduce(sums).tolist()
    return scores | {"val_loss": loss / (weight or 1), "val_accuracy": scores["overall_accuracy"]}


def predict_item(
    predictor: Predictor, item: dict, loss_function: LossFunction, scoring: Scoring, device: torch.device
) -> tuple[torch.Tensor, Sums]:
    """Return the train ids (H, W) that are predicted for a validation item, uint8, and its loss."""
    target = item["labels"].to(device)
    scores = predictor(item["pixel_values"].to(device), size=target.shape)
    loss = loss_function(scores[None], scoring.for_loss(target)[None])
    return scores.argmax(0).to(torch.uint8), loss


def loggable(scores: dict, labels: LabelInfo) -> dict[str, float | None]:
    """Return what an epoch's row holds of its scores, with None for what is not finite."""
    row = {key: scores[key] for key in ("val_loss", "val_accuracy", "mean_iou")}
    row |= dict(zip(map(iou_column, labels.names), scores["per_category_iou"], strict=True))
    return {key: value if math.isfinite(value) else None for key, value in row.items()}


def draw_pictures(path: Path, predictor: Predictor, items: Dataset, labels: LabelInfo) -> None:
    """Draw image, truth and prediction of a few images, evenly spread over the evaluation items."""
    rows = []
    for index in evenly_spread(items, NUM_PICTURES):
        image = items[index]["pixel_values"]
        truth = items[index]["labels"].numpy()
        prediction = predictor.labels(image.to(predictor.device), truth.shape).to(torch.uint8).cpu().numpy()
        rows.append((image.permute(1, 2, 0).numpy(), labels.to_color(truth), labels.to_color(prediction)))
    write_picture(path, comparison(rows, ("image", "truth", "prediction"), labels.legend))


def rehearse(setup: Setup, started: float) -> tuple[Setup, Pace]:
    """Refuse a run that does not fit into memory, and measure a few steps of a long one (dry_run.py says when).

    `started` is the start of the program on `time.perf_counter`, from which --max_train_time counts. Returns the setup
    with the number of steps that fit, and the pace of the run, as far as it is known.
    """
    may_not_fit = on_first_process(setup.accelerator, dry_run.refuse_lack_of_memory, setup)
    if not (may_not_fit or dry_run.is_due(setup)):
        return setup, Pace()
    learner = setup.learner
    network = setup.args.network
    device = setup.accelerator.device
    max_grad_norm = setup.args.optimization.max_grad_norm
    predictor = Predictor(learner.scored, IMAGENET_MEAN, IMAGENET_STD, Views(network.test_size))

    def step(micro_batches: list[dict[str, torch.Tensor]]) -> None:
        train_step(setup.accelerator, learner.wrapped, micro_batches, setup.criterion, learner.optimizer, max_grad_norm)
        if learner.ema is not None:
            learner.ema.update(learner.model, step=1)

    def predict(item: dict) -> torch.Tensor:
        with at_output_stride(learner.scored, network.eval_output_stride):
            return predict_item(predictor, item, setup.criterion.loss_function, setup.scoring, device)[0]

    forecast = dry_run.measure(setup, step, predict)
    setup = fit_time(setup, forecast.pace, time.perf_counter() - started)
    line = forecast.line(setup.schedule.steps, setup.calendar.validations)
    say(setup.accelerator, f"{description(setup)}\n{line}")
    if note := note_on_precision(setup.accelerator):
        say(setup.accelerator, note)
    return setup, forecast.pace


if __name__ == "__main__":
    spare_libraries()
    main(started=STARTED)
