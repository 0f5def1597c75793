"""Order the images of an epoch into batches, and make data loaders."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import parent_process
from threading import Thread

import cv2
import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from .labels import DataError
from .transforms import SharedEpoch, item_generator


@dataclass(frozen=True)
class BatchPlan:
    """Divides the images of an optimizer step among processes and micro-batches.

    num_images    images per epoch
    batch_size    images per step, over all processes and accumulation steps
    accumulation  micro-batches that each process computes per step
    processes     number of processes
    rank          index of this process

    Raises DataError if the batch does not divide evenly, or is larger than the epoch.
    """

    num_images: int
    batch_size: int
    accumulation: int = 1
    processes: int = 1
    rank: int = 0

    def __post_init__(self):
        shares = self.processes * self.accumulation
        if self.batch_size % shares:
            raise DataError(
                f"--batch_size {self.batch_size} does not divide evenly: it counts the images of an optimizer step "
                f"over {self.processes} processes x {self.accumulation} accumulation steps, so give a multiple of "
                f"{shares}"
            )
        if self.num_images < self.batch_size:
            raise DataError(
                f"--batch_size {self.batch_size} is more than the {self.num_images} training images: give a smaller one"
            )

    @property
    def micro_batch_size(self) -> int:
        """Images that a process sees at a time."""
        return self.batch_size // (self.processes * self.accumulation)

    @property
    def steps(self) -> int:
        """Optimizer steps per epoch. Drops the images of an incomplete step; the next epoch has another order."""
        return self.num_images // self.batch_size


Order = Callable[[np.random.Generator], list[int]]


class TrainBatches:
    """Batch sampler: yields the indices of each micro-batch of one process. They depend only on (seed, epoch).

    An optimizer step takes the next `batch_size` items of the epoch's order, over all processes and accumulation steps.
    So a step sees the same images, however they are divided. `order` makes the order from the epoch's generator, as
    `sampling.make_order` does; None stands for a permutation of the images.
    """

    def __init__(self, plan: BatchPlan, seed: int, epoch: SharedEpoch, order: Order | None = None):
        self.plan, self.seed, self.epoch = plan, seed, epoch
        self.order = order or (lambda rng: rng.permutation(plan.num_images).tolist())
        self.first_step = 0

    def start_at(self, step: int) -> None:
        """Start the next iterations at this step of the epoch, where a resumed run continues."""
        self.first_step = step

    def __len__(self) -> int:
        return (self.plan.steps - self.first_step) * self.plan.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        plan = self.plan
        images = plan.micro_batch_size
        order = self.order(item_generator(self.seed, self.epoch.get(), 2**32 - 1))
        for step in range(self.first_step, plan.steps):
            for i in range(plan.accumulation):
                start = step * plan.batch_size + (i * plan.processes + plan.rank) * images
                yield order[start : start + images]


def start_worker(_: int) -> None:
    """Initialise a data loading worker.

    It uses one thread, so that the workers do not compete for cores. It ignores Ctrl-C and SIGTERM, and leaves the
    process group, so that the run can finish its step before it stops: `pkill`, systemd and SLURM may signal each
    process. The loader itself ends its workers with SIGTERM, if the run fails. (Where `Loader` cannot block it for all
    threads, as with `forkserver`, a thread of torch or BLAS may get the signal first.)
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=end_with_loader, args=(parent_process().pid,), daemon=True).start()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def end_with_loader(loader: int) -> None:
    """End this process at a SIGTERM from `loader`, the process that it loads for, and drop those of others."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != loader:
        pass
    os._exit(0)


class Loader(DataLoader):
    """A loader whose workers start with SIGTERM blocked, so that the threads that torch starts in them inherit this."""

    def __iter__(self) -> Iterator:
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            return super().__iter__()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def train_loader(split: Dataset, batches: TrainBatches, num_workers: int, pin_memory: bool) -> DataLoader:
    """Return a loader of the micro-batches of one process. Its workers live for the whole run.

    A loader draws a seed for each of its iterators. It gets its own generator, because dropout uses the global one.
    """
    workers = {"num_workers": num_workers, "worker_init_fn": start_worker, "persistent_workers": num_workers > 0}
    return Loader(split, batch_sampler=batches, pin_memory=pin_memory, generator=torch.Generator(), **workers)


def eval_loader(split: Dataset, processes: int, rank: int, num_workers: int, pin_memory: bool) -> DataLoader:
    """Return a loader of single items. Each image goes to exactly one process, without padding, so it counts once."""
    mine = range(rank, len(split), processes)
    workers = {"num_workers": min(num_workers, len(mine)), "worker_init_fn": start_worker}
    return Loader(split, batch_size=None, sampler=mine, pin_memory=pin_memory, generator=torch.Generator(), **workers)
