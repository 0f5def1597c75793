"""Measure a few steps and predictions before a run begins, without leaving a trace in it.

`measure` runs the real steps, on the real data, and restores everything that they change. So a run has the same numbers
with a dry run and without.
"""

import copy
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

from data_scripts.evaluation import evenly_spread
from seg_models.cost import forward_memory, training_memory
from seg_runs import checkpoints
from seg_runs.errors import LESS_MEMORY, RunError
from seg_runs.pace import Pace, in_words, seconds_of
from seg_runs.processes import local_processes, on_first_process

from .trained_model import free_memory_of
from .training_job import Setup

PAYS = 500  # a new run of so many steps is measured without --dry_run too: if steps are slow, it takes 1 % of the time
WARM_UP = 1  # steps before the measured ones: they choose kernels and allocate memory
FEWEST, MOST, ENOUGH = 3, 50, 3.0  # measured steps: at least, at most, and seconds that suffice in between
SHARE = 0.05  # of --max_train_time: when the measured steps have taken it, fewer of them suffice
FEW = 2  # images of the first step on a CPU: batch norm needs two
PICTURES = 3  # validation images to measure
MILESTONE = 2.5  # seconds to draw, plot and write what goes with a validation, on two CPU cores
# A step takes more memory than its tensors: inputs in other layouts, workspaces, and freed memory that fits nothing
# else. Measured on a CPU in float32, beside the optimizer's moments: 1.45 to 1.63 times its tensors for StreetNet, 1.35
# to 1.43 for DeepLabV3 on ResNet-50, and 1.65 to 1.91 for SegFormer-B0. If the smaller share does not fit, the run is
# refused; if the larger one does not, `refuse_growth` tries. Its estimate is 0.56 (DeepLabV3) to 0.87 (SegFormer) of
# what the step takes.
LEAST_SHARE, MOST_SHARE = 1.1, 2.1


@dataclass(frozen=True)
class Forecast:
    """What a dry run has measured.

    pace    seconds of a step and of a validation
    peak    largest number of bytes that this process has held, on the GPU if there is one
    free    bytes that were free beside it at the end
    device  "cuda" or "cpu"
    """

    pace: Pace
    peak: int
    free: int
    device: str

    def line(self, steps: int, validations: int) -> str:
        """Return the forecast for a run of that many steps and validations, in one line."""
        seconds = self.pace.seconds(steps, validations)
        parts = [f"{in_words(self.pace.step)} a step"]
        if self.pace.validation:
            parts.append(f"{in_words(self.pace.validation)} a validation ({validations} of them)")
        where = "GPU memory" if self.device == "cuda" else "memory per process"
        return (
            f"dry run: {', '.join(parts)}: about {in_words(seconds)} for {steps} steps; peak {where} "
            f"{self.peak / 1e9:.1f} GB, {self.free / 1e9:.1f} GB more are free"
        )


def is_due(setup: Setup) -> bool:
    """Whether to measure the run: the user asks, its length depends on it, or a new run is so long that it pays."""
    run = setup.args.run
    new = setup.run.checkpoint is None
    return run.dry_run or setup.schedule is None or (new and setup.schedule.steps >= PAYS)


def measure(setup: Setup, step: Callable[[list[dict]], object], predict: Callable[[dict], torch.Tensor]) -> Forecast:
    """Run a few steps and predictions, restore what they change, and return what they took.

    step     runs an optimizer step on the micro-batches of this process
    predict  predicts and scores a validation item, and returns its train ids
    """
    device = setup.accelerator.device
    with unchanged(setup):
        setup.training_mode()
        setup.feed.epoch.set(1)
        steps = endless_steps(setup)
        refuse_growth(setup, step, next(steps))
        seconds, count = time_steps(setup, step, steps)
        validation = time_validation(setup, predict)
    pace = Pace(seconds, validation, count)
    forecast = Forecast(pace, peak_memory(device), free_memory_of(device), device.type)
    return on_first_process(setup.accelerator, lambda: forecast)  # all processes plan with the same numbers


def time_steps(setup: Setup, step: Callable[[list[dict]], object], steps: Iterator[list[dict]]) -> tuple[float, int]:
    """Return the mean seconds of a step, with the wait for its data, and the number of steps measured."""
    given = setup.args.optimization.max_train_time
    ends = []
    limit = SHARE * seconds_of("--max_train_time", given) if given else math.inf
    for micro_batches in steps:
        step(micro_batches)
        ends.append(time.perf_counter())
        if on_first_process(setup.accelerator, is_enough, ends, limit):  # all processes stop after the same step
            break
    count = len(ends) - WARM_UP
    return (ends[-1] - ends[WARM_UP - 1]) / count, count


def is_enough(ends: list[float], limit: float = math.inf) -> bool:
    """Whether steps that ended at these times, in seconds, suffice to know their mean, or took `limit` seconds."""
    count = len(ends) - WARM_UP
    if count < 1:
        return False
    seconds = ends[-1] - ends[WARM_UP - 1]
    return seconds >= limit or (count >= FEWEST and (count >= MOST or seconds >= ENOUGH))


def endless_steps(setup: Setup) -> Iterator[list[dict]]:
    """Yield the micro-batches of one step after the other, and begin again after the last step of the epoch."""
    while True:
        batches = iter(setup.feed.loader)
        while micro_batches := list(itertools.islice(batches, setup.plan.accumulation)):
            yield micro_batches


def time_validation(setup: Setup, predict: Callable[[dict], torch.Tensor]) -> float:
    """Return the seconds that a validation takes, estimated from a few images; 0 without validation images."""
    if not setup.feed.validates:
        return 0.0
    images = setup.feed.val_loader.dataset
    chosen = evenly_spread(images, PICTURES)
    predict(images[chosen[0]]).cpu()
    begun = time.perf_counter()
    for index in chosen:
        predict(images[index]).cpu()
    each = (time.perf_counter() - begun) / len(chosen)
    return MILESTONE + each * math.ceil(len(images) / setup.accelerator.num_processes)


@contextmanager
def unchanged(setup: Setup) -> Iterator[None]:
    """Restore weights, buffers, moving average, optimizer, gradient scaler and random state after the block.

    Copies lie in the memory of the CPU, so that they do not count as GPU memory.
    """
    learner = setup.learner
    scaler = setup.accelerator.scaler
    networks = [learner.model] if learner.ema is None else [learner.model, learner.ema.module]
    tensors = [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]
    copies = [tensor.detach().to("cpu", copy=True) for tensor in tensors]
    optimizer = copy.deepcopy(learner.optimizer.state_dict())
    random = checkpoints.rng_state()
    scale = None if scaler is None else scaler.state_dict()
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, before in zip(tensors, copies, strict=True):
                tensor.copy_(before)
        learner.optimizer.zero_grad()
        learner.optimizer.load_state_dict(optimizer)
        if scale is not None:
            scaler.load_state_dict(scale)
        checkpoints.set_rng_state(random)


def peak_memory(device: torch.device) -> int:
    """Return the largest number of bytes that this process has held: on its GPU, or as its resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def refuse_lack_of_memory(setup: Setup) -> bool:
    """Raise RunError if a step on a CPU certainly needs more memory than is free, without running one.

    The system would kill the run without a word. A GPU says so itself. Returns whether a step may need more than is
    free, so that `refuse_growth` should try it.
    """
    if setup.accelerator.device.type != "cpu":
        return False
    tensors = tensors_of_step(setup, setup.plan.micro_batch_size)
    refuse_more_than_free(setup, LEAST_SHARE * tensors)
    return MOST_SHARE * tensors * local_processes() > free_memory_of(setup.accelerator.device)


def refuse_growth(setup: Setup, step: Callable[[list[dict]], object], micro_batches: list[dict]) -> None:
    """Raise RunError if a step on a few images shows that one on `micro_batches` does not fit into a CPU's memory.

    The memory that the process takes grows with the tensors of the step.
    """
    images = setup.plan.micro_batch_size
    compiled = setup.accelerator.state.dynamo_plugin.backend.value != "NO"
    if setup.accelerator.device.type != "cpu" or images <= FEW or compiled:  # another size would compile another graph
        return
    process = psutil.Process()
    optimizer = setup.learner.optimizer
    before = process.memory_info().rss
    step([{key: value[:FEW] for key, value in micro_batches[0].items()}])
    moments = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    grown = process.memory_info().rss - before - sum(tensor.nbytes for tensor in moments)
    refuse_more_than_free(setup, grown * (tensors_of_step(setup, images) / tensors_of_step(setup, FEW) - 1))


def tensors_of_step(setup: Setup, images: int) -> float:
    """Return the bytes of the tensors of a step on micro-batches of `images`."""
    crop = setup.feed.crop_size
    # A teacher is done before the network begins, so the larger of the two counts.
    taught = [forward_memory(teacher.network, crop, images) for teacher in setup.teachers]
    size = max([training_memory(setup.learner.model, crop, images), *taught])
    return size if setup.accelerator.mixed_precision == "no" else size / 2  # most tensors have half the bytes


def refuse_more_than_free(setup: Setup, needed: float) -> None:
    """Raise RunError if each process of this machine needs more than its share of the free memory, in bytes."""
    needed *= local_processes()
    free = free_memory_of(setup.accelerator.device, needed)
    if needed > free:
        raise RunError(
            f"a training step needs at least {needed / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free. It "
            f"needs less with {LESS_MEMORY}"
        )
