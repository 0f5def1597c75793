"""The order of batches, and data loaders."""

import os
import signal
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from .labels import DataError
from .transforms import SharedEpoch, item_generator


class TrainBatches:
    """Indices of each micro-batch of one process: a pure function of (seed, epoch).

    An optimizer step takes the next `batch_size` items of the epoch's order, over all processes and accumulation steps,
    so a step sees the same images however they are spread. What is left over at the end of an epoch is dropped: another
    order follows. `order` makes it from the epoch's generator: a permutation of the images, or one of
    `sampling.make_order`. `first_step` is where a resumed run goes on within an epoch.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        accumulation: int,
        processes: int,
        rank: int,
        seed: int,
        epoch: SharedEpoch,
    ):
        self.order: Callable[[np.random.Generator], list[int]] = lambda rng: rng.permutation(num_images).tolist()
        self.batch_size, self.accumulation = batch_size, accumulation
        self.processes, self.rank, self.seed, self.epoch = processes, rank, seed, epoch
        shares = processes * accumulation
        if batch_size % shares:
            raise DataError(
                f"--batch_size {batch_size} does not divide evenly: it is images per optimizer step = images per "
                f"process x {processes} processes x {accumulation} accumulation steps, so give a multiple of {shares}"
            )
        if num_images < batch_size:
            raise DataError(f"--batch_size {batch_size} is more than the {num_images} training images")
        self.micro_batch_size = batch_size // shares
        self.steps = num_images // batch_size
        self.first_step = 0

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        order = self.order(item_generator(self.seed, self.epoch.get(), 2**32 - 1))
        for step in range(self.first_step, self.steps):
            for i in range(self.accumulation):
                start = step * self.batch_size + (i * self.processes + self.rank) * self.micro_batch_size
                yield order[start : start + self.micro_batch_size]


def start_worker(_: int) -> None:
    """A worker is one thread: more would take the cores from the others. Ctrl-C in a terminal goes to the whole process
    group; the worker leaves it, because the run wants to end in its own time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def train_loader(split: Dataset, batches: TrainBatches, num_workers: int, pin_memory: bool) -> DataLoader:
    """Micro-batches of one process; workers start once and live for the whole run.

    A loader draws a seed for each of its iterators: from a generator of its own, because the global one is dropout's.
    """
    workers = {"num_workers": num_workers, "worker_init_fn": start_worker, "persistent_workers": num_workers > 0}
    return DataLoader(split, batch_sampler=batches, pin_memory=pin_memory, generator=torch.Generator(), **workers)


def eval_loader(split: Dataset, processes: int, rank: int, num_workers: int, pin_memory: bool) -> DataLoader:
    """Single items, every image in exactly one process: nothing is padded, so nothing is counted twice."""
    mine = range(rank, len(split), processes)
    workers = {"num_workers": min(num_workers, len(mine)), "worker_init_fn": start_worker}
    return DataLoader(
        split, batch_size=None, sampler=mine, pin_memory=pin_memory, generator=torch.Generator(), **workers
    )
