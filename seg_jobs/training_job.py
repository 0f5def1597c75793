"""Build everything that training needs from the flags. training_checks.py has the checks, before any long work.

`open_setup` makes a `Setup`: data, network, optimizer and loss. dry_run.py can measure a few steps of it. `start_job`
begins or resumes the run and makes a `Job`, which train_seg.py trains.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from datasets import DatasetDict
from torch.utils.data import DataLoader

from data_scripts.evaluation import Scoring
from data_scripts.fingerprint import data_fingerprint
from data_scripts.labels import LabelInfo
from data_scripts.loading import BatchPlan, TrainBatches, eval_loader, train_loader
from data_scripts.preview import preview_rows
from data_scripts.saved_classes import describe_data
from data_scripts.training import count_images, load_training_data, make_training_data
from data_scripts.transforms import SharedEpoch, TrainTransform
from seg_models.distillation import Distillation
from seg_models.models import build_network, in_head, model_entry, parts_to_freeze
from seg_models.norms import freeze_batch_norm
from seg_models.objective import Criterion, aux_weight_of, check_class_weights, loss_from_flags
from seg_models.operations import forward_macs
from seg_models.output_strides import at_output_stride
from seg_models.weights import start_weights
from seg_runs import checkpoints, run_folder
from seg_runs.arguments import BATCH_SIZE, OptimizationOptions
from seg_runs.card import public_arguments
from seg_runs.errors import RunError
from seg_runs.files import write_picture, writing
from seg_runs.launch import let_gloo_finish, make_accelerator
from seg_runs.lineage import Start, each_once
from seg_runs.log import TrainingLog
from seg_runs.optimization import Learner, Schedule, make_ema, make_schedule, optimizer_from_flags, total_steps
from seg_runs.pace import Calendar, Pace, in_words, seconds_of, steps_within
from seg_runs.parsing import recipe_of
from seg_runs.processes import on_each_machine, on_first_process, say
from seg_runs.results import comparison
from seg_runs.resuming import record_resumption, resume_run
from seg_runs.state import Conditions, RunState
from seg_runs.trackers import Trackers, tracker_names

from .arguments import TrainArguments
from .teachers import Teacher, load_teacher
from .training_checks import (
    check_arguments,
    check_crops,
    check_learning_head,
    check_micro_batch,
    check_teachers,
    note_on_ohem,
    note_on_sizes,
    note_on_sources,
    refuse_void,
)

FEW_STEPS = 100  # of a run with --max_train_time: fewer get a note
SHORTER_STEPS = "a smaller --train_size, --crop_size or --batch_size"


@dataclass(frozen=True)
class Feed:
    """The data of a run."""

    epoch: SharedEpoch  # tells the data loading workers which epoch it is
    loader: DataLoader
    val_loader: DataLoader | None  # None if the run trains on the validation images
    transform: TrainTransform  # makes the training crops
    counts: np.ndarray  # (N, C): pixels of each class in each training image

    @property
    def crop_size(self) -> tuple[int, int]:
        """Height and width of the training crops."""
        return self.transform.options.crop_size

    @property
    def validates(self) -> bool:
        """Whether the run has validation images."""
        return self.val_loader is not None


@dataclass(frozen=True)
class Setup:
    """Everything that training needs before its run begins, as `open_setup` makes it from the arguments."""

    args: TrainArguments
    accelerator: Accelerator
    data: DatasetDict
    scoring: Scoring  # of the validation images
    plan: BatchPlan
    feed: Feed
    learner: Learner
    schedule: Schedule | None  # None until `fit_time` knows how many steps --max_train_time allows
    criterion: Criterion  # what a step minimises
    teachers: list[Teacher]
    run: run_folder.LockedRun  # the run to begin or to resume
    start: Start
    changes: list[str]  # a line for each flag that a resumed run changes

    @property
    def labels(self) -> LabelInfo:
        """The label set of the network."""
        return self.scoring.labels

    def training_mode(self) -> None:
        """Put the network into training mode, apart from frozen norms."""
        self.learner.wrapped.train()
        if self.args.network.freeze_bn:
            freeze_batch_norm(*parts_to_freeze(self.learner.model, self.args.network))

    @property
    def calendar(self) -> Calendar:
        """When the run is validated. Without validation images, it saves best/ once, at its end."""
        return Calendar(self.schedule.steps, self.plan.steps, self.args.run.eval_every)


@dataclass(frozen=True)
class Job(Setup):
    """A setup whose run has begun, as `start_job` makes it."""

    folder: Path
    state: RunState  # progress of the run
    log: TrainingLog
    pace: Pace  # how fast the run goes
    operations: dict  # of the network for one image, as training.json records them

    def epochs_left(self) -> range:
        """Return the numbers of the epochs to run, counted from 1. The first one may have begun before a resume."""
        return range(self.state.epoch + 1, self.calendar.epochs + 1)

    def steps_of(self, epoch: int) -> range:
        """Return the optimizer steps of an epoch, counted from 0 over the run. The last epoch may be incomplete."""
        return range((epoch - 1) * self.plan.steps, min(epoch * self.plan.steps, self.schedule.steps))

    def is_milestone(self, epoch: int) -> bool:
        """Whether `epoch` ends with a checkpoint and a validation: every `--eval_every` epochs, and the last one."""
        return epoch % self.args.run.eval_every == 0 or epoch * self.plan.steps >= self.schedule.steps

    def time_left(self) -> str:
        """Return how long the run still takes, or "?" before its first step."""
        validations = self.calendar.validations_left(self.state.epoch)
        seconds = self.pace.seconds(self.schedule.steps - self.state.step, validations)
        return "?" if seconds is None else in_words(seconds)


@contextmanager
def open_setup(args: TrainArguments) -> Iterator[Setup]:
    """Yield the setup that the arguments describe. Its run folder stays locked until the `with` block ends.

    Loads the data, and builds the network and the optimizer. Raises an error before any long work if something does not
    fit. Writes nothing to the run folder yet.
    """
    changes = check_arguments(args)
    data, scoring, division = load_training_data(args.data)
    labels = scoring.labels
    trackers = tracker_names(args.run)
    accelerator = make_accelerator(args.run.deterministic, args.network.gradient_checkpointing, trackers)
    with run_folder.locked_run(args.run, accelerator) as run:
        plan = make_plan(args.optimization, count_images(args.data, data), accelerator)
        args = replace(args, optimization=replace(args.optimization, batch_size=plan.batch_size))
        check_class_weights(args.loss, labels.class_weights)
        aux_weight = aux_weight_of(args.loss, model_entry(args.network.model).training.aux_weight)
        check_micro_batch(args, plan.micro_batch_size, accelerator)
        start = run_folder.started_from(args.network.start, run.checkpoint)
        teachers = [load_teacher(name, labels.names, accelerator) for name in args.distillation.teacher or ()]
        origin = provenance(args, start, plan.num_images, division, teachers)
        origin |= describe_data(args.data, data, labels)
        learner = make_learner(args, labels, aux_weight > 0, origin, accelerator)
        check_learning_head(args, learner.model, plan.micro_batch_size, accelerator)
        schedule = None if args.optimization.max_train_time else schedule_from_flags(args, plan)
        feed = make_feed(args, data, scoring, plan, accelerator)
        check_crops(args, learner.model, feed.crop_size)
        check_teachers(teachers, feed.crop_size)
        note_on_sizes(args, accelerator)
        note_on_ohem(args.loss, feed.crop_size, accelerator)
        note_on_sources(args, origin, feed.validates, accelerator)
        pixels = feed.counts.sum(0)
        images = len(feed.counts)
        loss_function = loss_from_flags(args.loss, labels.class_weights, pixels, images, accelerator.device)
        prepared = [teacher.prepared for teacher in teachers]
        distillation = Distillation.from_flags(args.distillation, prepared) if prepared else None
        yield Setup(
            args=args,
            accelerator=accelerator,
            data=data,
            scoring=scoring,
            plan=plan,
            feed=feed,
            learner=learner,
            schedule=schedule,
            criterion=Criterion(loss_function, aux_weight, distillation),
            teachers=teachers,
            run=run,
            start=start,
            changes=changes,
        )
        let_gloo_finish(accelerator)


def fit_time(setup: Setup, pace: Pace, spent: float) -> Setup:
    """Return the setup with as many steps as fit into --max_train_time, of which `spent` seconds are over.

    From here on, the number counts as --max_train_steps, so that the run can be repeated exactly. All processes agree
    on it. Raises RunError if nothing fits.
    """
    options = setup.args.optimization
    if not options.max_train_time:
        return setup
    steps = on_first_process(setup.accelerator, steps_in_time, setup, pace, spent)
    if steps < FEW_STEPS:
        say(
            setup.accelerator,
            f"note: --max_train_time {options.max_train_time} leaves time for {steps} steps, and a network needs "
            f"hundreds. More fit in with {SHORTER_STEPS}",
        )
    args = replace(setup.args, optimization=replace(options, max_train_steps=steps))
    return replace(setup, args=args, schedule=schedule_from_flags(args, setup.plan))


def steps_in_time(setup: Setup, pace: Pace, spent: float) -> int:
    """Return the number of steps for `fit_time`, on one process."""
    given = setup.args.optimization.max_train_time
    every = setup.args.run.eval_every
    steps = steps_within(seconds_of("--max_train_time", given) - spent, pace, setup.plan.steps, every)
    if not steps:
        least = math.ceil((spent + pace.seconds(1, 1)) / 60)
        raise RunError(
            f"--max_train_time {given} is too short: loading and measuring took {in_words(spent)}, a step takes "
            f"{in_words(pace.step)} and a validation {in_words(pace.validation or 0)}. Give more than {least}m, "
            f"or {SHORTER_STEPS}"
        )
    return steps


def start_job(setup: Setup, pace: Pace) -> Job:
    """Begin or resume the run of a setup whose number of steps is known. Returns its job."""
    args, accelerator, run = setup.args, setup.accelerator, setup.run
    fingerprint = on_first_process(accelerator, data_fingerprint, setup.data, setup.scoring, setup.feed.counts)
    precision, processes = accelerator.mixed_precision, accelerator.num_processes
    teachers = [teacher.fingerprint for teacher in setup.teachers]
    now = Conditions(
        steps=setup.schedule.steps,
        steps_per_epoch=setup.plan.steps,
        precision=precision,
        processes=processes,
        data=fingerprint,
        teachers=teachers,
        accumulation=setup.plan.accumulation,
    )
    if run.checkpoint is None:
        folder, state = run_folder.begin_run(args, run, run_name(args), setup.start, now)
    else:
        folder, state = resume_run(run, setup.learner, setup.changes, now)
    say(accelerator, f"{description(setup)}, in {folder}")
    if args.run.preview and accelerator.is_main_process:
        write_preview(folder / "preview.png", setup.feed, args.run.preview, setup.labels)
    log = open_log(args, accelerator, folder, state, setup.labels)
    if accelerator.is_main_process:
        if run.checkpoint is None:
            run_folder.discard_overwritten(folder)
        else:
            record_resumption(args, run.checkpoint, state)
    return Job(**vars(setup), folder=folder, state=state, log=log, pace=pace, operations=operations_of(setup))


# The parts of a job.


def make_plan(options: OptimizationOptions, num_images: int, accelerator: Accelerator) -> BatchPlan:
    """Return the plan that divides the images of a step among processes and micro-batches."""
    parts = options.gradient_accumulation_steps
    processes = accelerator.num_processes
    size = options.batch_size or default_batch_size(num_images, parts * processes)
    return BatchPlan(num_images, size, parts, processes, accelerator.process_index)


def default_batch_size(num_images: int, shares: int) -> int:
    """Return the number of images of a step that is divided into `shares`: fewer than usual if there are few images."""
    return BATCH_SIZE if num_images >= BATCH_SIZE else num_images // shares * shares or BATCH_SIZE


def provenance(args: TrainArguments, start: Start, images: int, division: dict, teachers: list[Teacher]) -> dict:
    """Return the entries of config.json that say how a network was trained. Cards and notes on scores rely on them.

    images    number of training images
    division  entries on how the images were divided
    """
    sources = {
        "teachers": each_once(entry for teacher in teachers for entry in teacher.about),
        "started_from": each_once([*start.models, *(entry for teacher in teachers for entry in teacher.started_from)]),
    }
    entries = {
        "pretrained": start.name,
        "trained_on": args.data.train_on,
        "fold": args.data.fold,
        **division,
        "eval_dataset": args.data.eval_dataset[0] if args.data.eval_dataset else None,
        "train_images": images,
        "select": args.run.select,
        "seed": args.run.seed,
    }
    if args.data.train_size:
        entries["train_size"] = list(args.data.train_size)
    return entries | {key: found for key, found in sources.items() if found}


def make_learner(
    args: TrainArguments, labels: LabelInfo, auxiliary: bool, origin: dict, accelerator: Accelerator
) -> Learner:
    """Build network, moving average and optimizer for this launch.

    auxiliary  whether the network gets an auxiliary head
    origin     entries of config.json about the training and the data
    """
    options = args.optimization
    defaults = model_entry(args.network.model).training
    model = make_model(args, labels, auxiliary, origin, accelerator)
    model = model.to(accelerator.device, memory_format=torch.channels_last)
    ema = make_ema(model, options.ema_decay) if options.ema_decay else None
    optimizer = optimizer_from_flags(options, defaults, model, in_head)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    if ema is not None:
        accelerator.prepare_model(ema.module, evaluation_mode=True)  # validate it in the launch's precision
    return Learner(model, ema, wrapped, optimizer)


def schedule_from_flags(args: TrainArguments, plan: BatchPlan) -> Schedule:
    """Return the learning rate schedule. Raises RunError for flags that do not fit it or the length of the run."""
    options = args.optimization
    defaults = model_entry(args.network.model).training
    return make_schedule(options, defaults, total_steps(plan.steps, options.epochs, options.max_train_steps))


def make_model(
    args: TrainArguments, labels: LabelInfo, auxiliary: bool, origin: dict, accelerator: Accelerator
) -> torch.nn.Module:
    """Return the network with its initial weights, and `origin` in its configuration."""
    options = args.network
    torch.manual_seed(args.run.seed)
    model = build_network(options, labels.id2label, args.data.dataset, auxiliary, origin)
    starts = not args.run.resume_from_checkpoint
    if starts and (report := start_weights(model, options.init_from, options.pretrained_encoder)):
        say(accelerator, report)
        if bad := checkpoints.not_finite(model.state_dict()):
            flag = "--init_from" if options.init_from else "--pretrained_encoder"
            raise RunError(f"{flag} {options.start}: its {bad} is not finite")
    torch.manual_seed(args.run.seed + accelerator.process_index)  # same weights, different dropout
    if options.sync_bn:
        from timm.layers import convert_sync_batchnorm  # torch's version would drop the activations in timm's norms

        return convert_sync_batchnorm(model)
    return model


def make_feed(
    args: TrainArguments, data: DatasetDict, scoring: Scoring, plan: BatchPlan, accelerator: Accelerator
) -> Feed:
    """Check the data files, and return loaders of training crops and validation images."""
    epoch = SharedEpoch()
    once = partial(on_each_machine, accelerator)
    made = make_training_data(args.data, args.augmentation, data, scoring, epoch, args.run.seed, once)
    batches = TrainBatches(plan, args.run.seed, epoch, made.order)
    workers = {"num_workers": args.data.num_workers, "pin_memory": accelerator.device.type == "cuda"}
    loader = train_loader(made.train, batches, **workers)
    val_loader = None
    if made.validation is not None:
        once(refuse_void, made.validation)
        val_loader = eval_loader(made.validation, accelerator.num_processes, accelerator.process_index, **workers)
    return Feed(epoch, loader, val_loader, made.transform, made.counts)


def run_name(args: TrainArguments) -> str:
    """Return the beginning of the run folder's name, used without --output_dir."""
    encoder = f"_{args.network.encoder}" if args.network.encoder else ""
    return f"{args.data.dataset}_{args.network.model.lower()}{encoder}_{args.network.norm}"


def description(setup: Setup) -> str:
    """Return a line that describes the run."""
    args = setup.args
    height, width = setup.feed.crop_size
    encoder = f" ({args.network.encoder})" if args.network.encoder else ""
    parameters = sum(p.numel() for p in setup.learner.model.parameters()) / 1e6
    where = args.data.path if args.data.dataset in ("folder", "hub") else args.data.dataset
    taught = f", learning from {' and '.join(map(run_folder.public_name, args.distillation.teacher or ()))}"
    return (
        f"{args.network.model}{encoder} with {args.network.norm} norm, {parameters:.2f} M parameters, on "
        f"{len(setup.feed.transform.pixels)} images of {where}, crops {height}x{width}, "
        f"{setup.schedule.steps} steps of {args.optimization.batch_size} images, "
        f"{setup.accelerator.num_processes} process(es), precision {setup.accelerator.mixed_precision}, "
        f"seed {args.run.seed}{taught if setup.teachers else ''}"
    )


def operations_of(setup: Setup) -> dict:
    """Return the MACs of the network for one image, and its height and width: those of validation, or of a crop."""
    size = setup.args.network.test_size
    if not size and setup.feed.validates:
        size = setup.feed.val_loader.dataset[0]["pixel_values"].shape[-2:]
    size = list(size or setup.feed.crop_size)
    with at_output_stride(setup.learner.scored, setup.args.network.eval_output_stride):
        return {"macs": forward_macs(setup.learner.scored, size), "size": size}


def write_preview(path: Path, feed: Feed, number: int, labels: LabelInfo) -> None:
    """Draw the first `number` training images as the network will see them, with their labels."""
    rows = preview_rows(feed.transform, feed.loader.batch_sampler, number, labels)
    with writing(path):
        write_picture(path, comparison(rows, ("augmented image", "label") * 2, labels.legend))
    print(f"look at {path}", flush=True)


def open_log(
    args: TrainArguments, accelerator: Accelerator, folder: Path, state: RunState, labels: LabelInfo
) -> TrainingLog:
    """Return the log of a run, and start its trackers. If one cannot start, a new run's folder can be used again."""
    trackers = Trackers(accelerator, folder)
    try:
        on_first_process(accelerator, trackers.start, state, public_arguments(recipe_of(args)))
    except RunError:
        if accelerator.is_main_process and not args.run.resume_from_checkpoint:
            run_folder.forget(folder)
        raise
    return TrainingLog(folder, state, labels.names, trackers, accelerator.is_main_process)
