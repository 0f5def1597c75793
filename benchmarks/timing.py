"""Time functions and print rows, for the benchmarks."""

import math
import os
import statistics
import time
from collections.abc import Callable


def times(function: Callable[[], object], repeats: int, before: int = 0) -> list[float]:
    """Return the seconds of each of `repeats` calls, after `before` calls that are not timed."""
    taken = []
    for _ in range(before + repeats):
        begun = time.perf_counter()
        function()
        taken.append(time.perf_counter() - begun)
    return taken[before:]


def cpu_seconds(function: Callable[[], object]) -> float:
    """Return the CPU seconds of one call. Other programs change them less than seconds."""
    begun = time.process_time()
    function()
    return time.process_time() - begun


def seconds(function: Callable[[], object], repeats: int, before: int = 0) -> float:
    """Return the median time of a call in seconds, after `before` calls that are not timed."""
    return statistics.median(times(function, repeats, before))


def median_of(values: list[float]) -> tuple[float, float, float]:
    """Return (low, median, high), where low and high are a 95 % confidence interval of the median by the sign test.

    The interval holds for any distribution. It needs six values or more; with fewer, low and high are the smallest and
    the largest.
    """
    values = sorted(values)
    below = 0  # values outside the interval at each end
    while 2 * sum(math.comb(len(values), k) for k in range(below + 2)) <= 0.05 * 2 ** len(values):
        below += 1
    return values[below], statistics.median(values), values[-1 - below]


def milliseconds(function: Callable[[], object], repeats: int = 60) -> float:
    return 1000 * seconds(function, repeats)


def row(name: str, value: float, unit: str = "ms") -> None:
    print(f"{name:<64} {value:9.2f} {unit}", flush=True)


def one_core() -> None:
    """Restrict this process and all libraries in it to one core."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
