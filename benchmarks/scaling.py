"""Predict memory and time of training on several GPUs, and compare the prediction with two processes on this CPU.

    python benchmarks/scaling.py table --model streetnet_large --crop_size 360 480 --ms 0.80
    python benchmarks/scaling.py measure                          # one thread a process; at most half of the cores busy

table    memory of a process, and crops per second, for 1 to 32 GPUs. `--ms` are the milliseconds of one GPU per crop,
         from `train_seg.py --dry_run` on one. `--gigabytes` is the rate at which gradients travel between neighbours.
measure  a training step of one process, the same in two processes side by side, which shows what they take from each
         other's core and memory, the sum of the gradients of two processes, and a step of two that sum theirs. The
         prediction for the last one follows from the two before it. Also the memory by which a step makes a process
         grow, and its prediction.

docs/scaling.md explains the model. A measured time is the shortest of all repeats: other programs only add to it. The
CPU seconds beside it contain no waiting, neither for other programs nor for the other process.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil
import torch
from flags import count, positive
from timing import row
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from seg_models.catalog import MODELS
from seg_models.cost import training_memory
from seg_models.layers import resize_logits
from seg_models.losses import cross_entropy
from seg_models.models import build_model, model_entry

GPUS = (1, 2, 4, 8, 16, 32)
STATE = {"sgd": 1, "adamw": 2}  # float32 copies of the weights that the optimizer keeps


def network(name: str, labels: int = 19) -> torch.nn.Module:
    return build_model(name, "batch", {i: str(i) for i in range(labels)})


def bytes_of_weights(model: torch.nn.Module) -> int:
    return sum(4 * parameter.numel() for parameter in model.parameters())


def predicted_memory(model: torch.nn.Module, optimizer: str, crop: tuple[int, int], crops: int, gpus: int) -> float:
    """Return the bytes of a process in a float32 step: weights, optimizer, activations with gradients, and, with
    several processes, the buckets in which gradients travel."""
    copies = 1 + STATE[optimizer] + (1 if gpus > 1 else 0)
    return copies * bytes_of_weights(model) + training_memory(model, crop, crops)


def ring_seconds(gradients: float, processes: int, rate: float) -> float:
    """Return the seconds of an all-reduce around a ring: each process sends 2 (n - 1) / n times the gradients."""
    return 2 * (processes - 1) / processes * gradients / rate


def step_bounds(compute: float, exchange: float) -> tuple[float, float]:
    """Return the shortest and the longest time of a step.

    Gradients travel while the backward pass, two thirds of the step, computes the others: at best all of them.
    """
    return max(compute, compute / 3 + exchange), compute + exchange


def table(args) -> None:
    model = network(args.model)
    entry = model_entry(args.model)
    gradients = bytes_of_weights(model)
    print(f"{args.model}, {gradients / 4e6:.1f} M parameters, {args.images} crops of {args.crop_size} per GPU")
    print("| GPUs | memory of a process, fp32 | crops per second, at worst | at best |\n|---|---|---|---|")
    for gpus in GPUS:
        memory = predicted_memory(model, entry.training.optimizer, args.crop_size, args.images, gpus)
        exchange = ring_seconds(gradients, gpus, 1e9 * args.gigabytes)
        bounds = step_bounds(args.images * args.ms / 1000, exchange)
        rates = [gpus * args.images / seconds for seconds in reversed(bounds)]
        shares = [rate * args.ms / 1000 / gpus for rate in rates]
        low, high = (f"{rate:,.0f} ({share:.2f})" for rate, share in zip(rates, shares, strict=True))
        print(f"| {gpus} | {memory / 1e9:.1f} GB | {low} | {high} |")


def shortest(function: Callable[[], None], repeats: int) -> tuple[float, float]:
    """Return the least seconds, and the least CPU seconds of this process, of `repeats` calls after two others."""
    taken = []
    for _ in range(2 + repeats):
        begun = time.perf_counter()
        worked = time.process_time()
        function()
        taken.append((time.perf_counter() - begun, time.process_time() - worked))
    seconds, worked = zip(*taken[2:], strict=True)
    return min(seconds), min(worked)


def stepper(model: torch.nn.Module, crops: int, crop: tuple[int, int]):
    """Return a function that runs one training step in float32 on random crops."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    pixels = torch.randn(crops, 3, *crop).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 19, (crops, *crop))

    def step() -> None:
        total, weight = cross_entropy(resize_logits(model(pixels).logits, crop), labels)
        optimizer.zero_grad()
        (total / weight).backward()
        optimizer.step()

    return step


def resident() -> int:
    return psutil.Process().memory_info().rss


def process(rank: int, args, processes: int, results) -> None:
    """Measure steps, and the sum of gradients, in one of `processes` processes."""
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(args.port))
    distributed.init_process_group("gloo", rank=rank, world_size=processes)
    torch.manual_seed(0)
    plain = network(args.model).to(memory_format=torch.channels_last).train()
    before = resident()
    gradients = torch.zeros(bytes_of_weights(plain) // 4)
    model = DistributedDataParallel(plain) if processes > 1 else plain
    step = shortest(stepper(model, args.images, args.crop_size), args.repeats)
    grown = resident() - before + bytes_of_weights(plain)
    exchange = shortest(lambda: distributed.all_reduce(gradients), args.repeats)
    distributed.barrier()
    own = shortest(stepper(plain, args.images, args.crop_size), args.repeats)
    results[rank] = (*step, *exchange, *own, grown)
    distributed.destroy_process_group()


def run(args, processes: int) -> tuple[float, ...]:
    """Return seconds and CPU seconds of a step, of the sum of gradients, and of a step without that sum, and bytes.

    Each is that of the process with the most.
    """
    with torch.multiprocessing.Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.spawn(process, (args, processes, results), nprocs=processes)
        found = list(results.values())
    return tuple(max(values) for values in zip(*found, strict=True))


def measure(args) -> None:
    one, two = run(args, 1), run(args, 2)
    print(f"{args.model}, {args.images} crops of {args.crop_size} for each process")
    for i, unit in enumerate(("ms", "ms of CPU")):
        exchange, own = two[2 + i], two[4 + i]
        low, high = step_bounds(own, exchange)
        row("a step of one process", 1000 * one[i], unit)
        row("a step of two processes side by side, without the sum", 1000 * own, unit)
        row("the sum of the gradients of two processes, alone", 1000 * exchange, unit)
        row("a step of two processes: measured", 1000 * two[i], unit)
        row("    measured / predicted at best", two[i] / low, "x")
        row("    measured / predicted at worst", two[i] / high, "x")
    model = network(args.model)
    for name, grown, processes in (("one process", one[-1], 1), ("two processes", two[-1], 2)):
        tensors = predicted_memory(model, "sgd", args.crop_size, args.images, processes)
        row(f"memory of {name}: measured / predicted", grown / tensors, "x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("table", "measure"))
    parser.add_argument("--model", default="streetnet", choices=MODELS)
    parser.add_argument("--crop_size", type=count, nargs=2, default=(180, 240), metavar=("H", "W"))
    parser.add_argument("--images", type=count, default=4, help="crops of a process in a step")
    parser.add_argument("--ms", type=positive, default=0.8, help="milliseconds of one GPU per crop")
    parser.add_argument("--gigabytes", type=positive, default=10.0, help="per second, between two neighbours")
    parser.add_argument("--repeats", type=count, default=20)
    parser.add_argument("--port", type=int, default=29517)
    args = parser.parse_args()
    args.crop_size = tuple(args.crop_size)
    {"table": table, "measure": measure}[args.what](args)


if __name__ == "__main__":
    main()
