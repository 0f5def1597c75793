"""Time multi-scale prediction against the straightforward loop, which does the same in float32 view by view.

    python benchmarks/tta.py
    python benchmarks/tta.py --size 512 1024 --mixed_precision bf16

The loop resizes the image to each scale, predicts it, resizes the logits to the image's size and takes the softmax,
does the same to the mirrored image, and averages. The network is DeepLabV3 on ResNet-50 with 19 classes. Times are CPU
seconds of this process, so that other work on the machine disturbs them less; the peak is that of the process, in one
process each. The classes are compared with the network that ships, on noise that is smooth: those of a network without
training mean little.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F

from benchmarks.flags import PRECISIONS, count
from benchmarks.timing import cpu_seconds
from seg_jobs.model_paths import SHIPPED
from seg_jobs.trained_model import load_model
from seg_models.models import build_model
from seg_models.names import MULTI_SCALE
from seg_models.predictor import Predictor
from seg_models.views import Views
from seg_runs.launch import make_accelerator

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=count, nargs=2, default=[256, 512], metavar=("H", "W"))
    parser.add_argument("--mixed_precision", choices=PRECISIONS, default="no", help="of Predictor")
    parser.add_argument("--repeats", type=count, default=3)
    parser.add_argument("--only", choices=["loop", "predictor"], help="time one of both, and print its peak of memory")
    args = parser.parse_args()
    os.environ["ACCELERATE_MIXED_PRECISION"] = args.mixed_precision
    image = smooth_noise(args.size)
    if args.only:
        model = build_model("deeplabv3_resnet50", "batch", {i: str(i) for i in range(19)}).eval()
        function = ways(model, MEAN, STD, image)[args.only]
        before = peak()
        function()
        print(peak() - before)
        return
    compare_times(image, args.repeats)
    for name in ("loop", "predictor"):
        command = [sys.executable, __file__, "--only", name, "--size", *map(str, args.size)]
        command += ["--mixed_precision", args.mixed_precision]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        print(f"{name}: {float(result.stdout.split()[-1]):.0f} MB above the weights")
    model, processor = load_model(SHIPPED)
    found = [way().argmax(0) for way in ways(model, processor.image_mean, processor.image_std, image).values()]
    print(f"classes of the shipped network: {(found[0] == found[1]).float().mean():.4%} of the pixels agree")


def compare_times(image: torch.Tensor, repeats: int) -> None:
    """Print the time of both ways and their ratio, pair by pair."""
    model = build_model("deeplabv3_resnet50", "batch", {i: str(i) for i in range(19)}).eval()
    both = ways(model, MEAN, STD, image)
    pairs = [[cpu_seconds(way) for way in both.values()] for _ in range(repeats + 1)][1:]
    for name, times in zip(both, zip(*pairs, strict=True), strict=True):
        print(f"{name}: {statistics.median(times):.2f} s")
    ratios = sorted(loop / ours for loop, ours in pairs)
    print(f"the loop takes {statistics.median(ratios):.2f} times as long ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def ways(model: torch.nn.Module, mean: tuple, std: tuple, image: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """Return functions that predict the probabilities (C, H, W) of `image`, uint8 (3, H, W), in both ways."""
    ours = make_accelerator().prepare_model(build_twin(model), evaluation_mode=True)
    predictor = Predictor(ours, mean, std, Views(scales=MULTI_SCALE, flip=True))
    return {"loop": lambda: loop(model, mean, std, image), "predictor": lambda: predictor(image)}


def build_twin(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a network, in channels_last."""
    twin = type(model)(model.config).eval()
    twin.load_state_dict(model.state_dict())
    return twin.to(memory_format=torch.channels_last)


@torch.no_grad()
def loop(model: torch.nn.Module, mean: tuple, std: tuple, image: torch.Tensor) -> torch.Tensor:
    """Return the mean probabilities (C, H, W) over scales and mirror images, one view after the other, in float32."""
    pixels = (image / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    size = image.shape[-2:]
    total = 0
    for scale in MULTI_SCALE:
        view_size = [round(side * scale) for side in size]
        view = F.interpolate(pixels[None], view_size, mode="bilinear", align_corners=False, antialias=True)
        for mirrored in (False, True):
            logits = model(view.flip(3) if mirrored else view).logits
            scores = F.interpolate(logits, size, mode="bilinear", align_corners=False).softmax(1)
            total = total + (scores.flip(3) if mirrored else scores)
    return total[0] / (2 * len(MULTI_SCALE))


def smooth_noise(size: list[int]) -> torch.Tensor:
    """Return an image uint8 (3, H, W) of random blobs."""
    torch.manual_seed(0)
    coarse = torch.rand(1, 3, size[0] // 16, size[1] // 16)
    return (F.interpolate(coarse, size, mode="bicubic")[0].clamp(0, 1) * 255).to(torch.uint8)


def peak() -> float:
    """Return the most memory that this process has had, in MB. (`getrusage` includes the process that started it.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


if __name__ == "__main__":
    main()
