"""Checks of the flags together with the data, the network and the launch. They come before any long work.

The parser has already made the checks within one package. training_job.py calls these.
"""

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from datasets import Dataset

from data_scripts.labels import IGNORE_INDEX, DataError
from seg_models.arguments import LossOptions
from seg_models.loss_terms import loss_terms
from seg_models.models import model_entry, parts_to_freeze
from seg_models.sides import check_sides, refuse_smaller, smallest_side
from seg_runs import checkpoints, run_folder
from seg_runs.errors import RunError
from seg_runs.launch import check_batch_norm
from seg_runs.lineage import sources_note, sources_that_may_have_seen
from seg_runs.parsing import changed_flags
from seg_runs.processes import say
from seg_runs.trackers import refuse_missing_trackers

from .arguments import TrainArguments
from .teachers import Teacher


def check_arguments(args: TrainArguments) -> list[str]:
    """Make the checks that read no data. Returns a line for each flag that a resumed run changes."""
    model_entry(args.network.model)
    sources = [*(args.distillation.teacher or ()), *filter(None, [args.network.start])]
    run_folder.refuse_occupied(args.run, sources)
    refuse_missing_trackers(args.run)
    if not args.run.resume_from_checkpoint:
        return []
    return changed_flags(args, checkpoints.run_of(args.run.resume_from_checkpoint) / "args.yaml")


def check_micro_batch(args: TrainArguments, images: int, accelerator: Accelerator) -> None:
    """Raise RunError if `images`, the number that a process sees at a time, is too small."""
    if args.augmentation.copyblob == "tutorial" and images < 2:
        raise RunError(
            "--copyblob tutorial pastes between the images of a batch, but each process has 1 at a time: give a larger "
            "--batch_size, or --copyblob bank"
        )
    if args.network.norm == "batch" and not args.network.freeze_bn:
        check_batch_norm(accelerator, args.network.sync_bn, images)


def check_learning_head(args: TrainArguments, model: torch.nn.Module, images: int, accelerator: Accelerator) -> None:
    """Raise RunError if `--freeze_bn` leaves batch norm over pooled maps in the head, and it would see a single image.

    images  number that a process sees at a time
    """
    if not args.network.freeze_bn or model.classifier in parts_to_freeze(model, args.network):
        return
    if any(isinstance(layer, torch.nn.AdaptiveAvgPool2d) for layer in model.classifier.modules()):
        check_batch_norm(accelerator, sync_bn=False, images=images)


def check_crops(args: TrainArguments, model: torch.nn.Module, crop_size: Sequence[int]) -> None:
    """Raise an error if crops or validation images are too small for the network."""
    follows_from = "--train_size" if args.data.train_size else "the images"
    given = args.augmentation.crop_size is not None
    check_sides(model, crop_size, args.network.test_size, None if given else follows_from)


def note_on_sizes(args: TrainArguments, accelerator: Accelerator) -> None:
    """Print a note if only training resizes the images."""
    if args.data.train_size and not args.network.test_size:
        height, width = args.data.train_size
        say(
            accelerator,
            f"note: training sees images of {height}x{width} (--train_size), but validation and prediction see them at "
            f"their own size: give --test_size {height} {width} too",
        )


def note_on_ohem(options: LossOptions, crop_size: Sequence[int], accelerator: Accelerator) -> None:
    """Print a note if OHEM takes all pixels of a crop."""
    pixels = crop_size[0] * crop_size[1]
    if "ohem" in loss_terms(options.loss) and options.ohem_min_kept >= pixels:
        say(
            accelerator,
            f"note: ohem takes all {pixels} pixels of a crop, as ce does, because --ohem_min_kept is "
            f"{options.ohem_min_kept}: give a fifth of a crop, {pixels // 5}, or less",
        )


def check_teachers(teachers: list[Teacher], crop_size: Sequence[int]) -> None:
    """Raise ModelError if crops are too small for a teacher."""
    for teacher in teachers:
        refuse_smaller("--crop_size", crop_size, smallest_side(teacher.network))


def note_on_sources(args: TrainArguments, origin: dict, validates: bool, accelerator: Accelerator) -> None:
    """Print a note if a teacher or the initial weights may know the validation images.

    origin     entries of the network's configuration
    validates  whether the run has validation images
    """
    known = sources_that_may_have_seen(origin, args.data.scored_dataset, "val", origin["held_out"])
    if known and validates:
        say(accelerator, f"note: {sources_note(known)}")


def refuse_void(validation: Dataset) -> None:
    """Raise DataError if no validation pixel has a label, because mIoU is undefined then. Stops at the first label."""
    if not any(bool((item["labels"] != IGNORE_INDEX).any()) for item in validation):
        raise DataError(
            "every validation pixel is ignored, so no model can be selected: label some, or train on these images too "
            "with --train_on train+val"
        )
