"""Measure the cost of preparing training data on one core, at MiniCity's sizes.

    python benchmarks/data.py mixing|loader [--images 16]

mixing   pasting a blob of 5 % of a 576x1152 crop with CopyBlob, compared with the tutorial's code; CutMix, without
         fetching the second item; building the bank of blobs, for 200 images of 1024x2048
loader   one training sample, from a 1024x2048 PNG to 576x1152: scale, crop, mirror, four-way colour jitter, label;
         compared with albumentations and torchvision v2 (pip install -e '.[bench]'); two workers compared with one

The images are ToyCity's. Times are medians. Run it on an otherwise idle machine.
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from datasets import Dataset
from flags import count
from timing import milliseconds, one_core, row

from data_scripts.arguments import AugmentOptions
from data_scripts.augment import Augmentation, Crop, take_crop
from data_scripts.copyblob import BlobBank, Placement, build_bank, parse_rules, paste, sample_placement
from data_scripts.cutmix import cutmix, sample_boxes
from data_scripts.file_checks import check_split
from data_scripts.labels import CITYSCAPES
from data_scripts.loading import BatchPlan, TrainBatches, train_loader
from data_scripts.pixels import Pixels, build_decoded
from data_scripts.reader import read_image, read_label
from data_scripts.sampling import training_split
from data_scripts.sources import load_source
from data_scripts.toycity import write_toycity
from data_scripts.transforms import SharedEpoch, TrainTransform

CROP = (576, 1152)
ALL_CORES = os.sched_getaffinity(0)
ROAD, BUS = 0, 15
FILL = (124, 116, 104)  # mean colour, pads images that are smaller than the crop


def tutorial_paste(donor: Crop, target: Crop, kind: int, ground: int) -> None:
    """Paste as the tutorial's code does: index all pixels of the class, and clip them at the border in a loop."""
    rows, columns = np.where(donor.label == kind)
    sums = [rows[i] + columns[i] for i in range(len(rows))]
    first = int(np.argmin(sums))
    places = np.where(target.label == ground)
    chosen = np.random.randint(len(places[0]))
    to_rows = rows - rows[first] + places[0][chosen]
    to_columns = columns - columns[first] + places[1][chosen]
    for i in range(len(to_rows)):
        to_rows[i] = min(to_rows[i], target.label.shape[0] - 1)
    for i in range(len(to_columns)):
        to_columns[i] = min(to_columns[i], target.label.shape[1] - 1)
    target.label[to_rows, to_columns] = kind
    target.image[to_rows, to_columns] = donor.image[rows, columns]


def mixing(folder: Path, images: int) -> None:
    height = width = round((0.05 * CROP[0] * CROP[1]) ** 0.5)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, ((height + 4), (width + 4), 4), dtype=np.uint8)
    pixels[..., 3] = 0
    pixels[2:-2, 2:-2, 3] = 255
    pixels.tofile(folder / "pixels.bin")
    blob = [0, BUS, ROAD, height + 4, width + 4, (height + 1, width // 2), 0.7, CROP, 0]
    (folder / "bank.json").write_text(json.dumps({"horizon": 0.4, "blobs": [blob]}))
    bank = BlobBank(folder, np.ones(19), CITYSCAPES)
    image = rng.integers(0, 256, (*CROP, 3), dtype=np.uint8)
    label = np.full(CROP, 2, np.uint8)
    label[250:] = ROAD

    def crop() -> Crop:
        return take_crop(image, label, Augmentation(1.0, 0, 0, False, 1.0, 1.0, 1.0, 0.0), CROP)

    target, donor = crop(), crop()
    placement = Placement(0, 400, 600, 1.0, False)
    turned = Placement(0, 400, 600, 1.3, True)
    draw = milliseconds(lambda: sample_placement(rng, bank, target, 1))
    same = milliseconds(lambda: paste(target, bank, placement))
    larger = milliseconds(lambda: paste(target, bank, turned))
    paste(donor, bank, placement)
    theirs = milliseconds(lambda: tutorial_paste(donor, crop(), BUS, ROAD), 10) - milliseconds(crop)
    row("CopyBlob: draw a place", draw)
    row("CopyBlob: paste a blob of 5 % of the crop", same)
    row("CopyBlob: the same, mirrored and 1.3 times as large", larger)
    row("the tutorial's paste", theirs)
    row("the tutorial's paste / CopyBlob's place and paste", theirs / (draw + same), "x")
    for boxes in (1, 4):
        row(
            f"CutMix, {boxes} box(es), without fetching the second item",
            milliseconds(lambda: cutmix(target, donor, sample_boxes(rng, CROP, boxes))),  # noqa: B023
        )
    write_toycity(folder / "city", train=images, val=1, test=1, size=(1024, 2048), seed=0)
    data, labels = load_source("toycity", folder / "city")
    counts, _ = check_split(data["train"], labels, "train", progress=False)
    begun = time.perf_counter()
    bank = build_bank(
        Pixels(data["train"], labels), labels, parse_rules(labels.copyblob, labels), counts, progress=False
    )
    seconds = (time.perf_counter() - begun) * 200 / images
    row(f"the bank, for 200 images of 1024x2048 (from {images}, all with blobs)", seconds, "s")


def loader(folder: Path, images: int) -> None:
    write_toycity(folder / "city", train=images, val=1, test=1, size=(1024, 2048), seed=0)
    data, labels = load_source("toycity", folder / "city")
    split = training_split(data["train"])
    decoded, refusal = build_decoded(split, labels, None, "training", progress=False)
    assert decoded, refusal
    kinds = {"files": Pixels(split, labels), "the decoded file": Pixels(split, labels, None, decoded)}
    one_sample(split, labels.train_ids, kinds)
    os.sched_setaffinity(0, ALL_CORES)
    for kind, pixels in kinds.items():
        rates = []
        for workers in (1, 2):
            repeated = training_split(*[data["train"]] * (4 if kind == "files" else 40))
            rate, first = second_epoch(repeated, pixels, workers)
            row(f"{workers} worker(s), from {kind}", rate, "samples/s")
            row("    first batch of the second epoch", 1000 * first)
            rates.append(rate)
        row(f"two workers / one, from {kind}", rates[1] / rates[0], "x")


def one_sample(split: Dataset, table: np.ndarray, kinds: dict[str, Pixels]) -> None:
    """Print the time of a training sample, ours and other libraries'. `table` maps source ids to train ids."""
    files = list(zip(split["image"], split["label"], strict=True))

    def decode(i: int) -> tuple[np.ndarray, np.ndarray]:
        image, label = files[i % len(files)]
        return read_image(image), table[read_label(label, image)]

    def ours(pixels: Pixels) -> Callable[[int], dict]:
        transform = TrainTransform(pixels, 0, SharedEpoch(), AugmentOptions(CROP))
        return lambda i: transform({"index": [i]})

    def each(function: Callable[[int], object]) -> float:
        counter = itertools.count()
        return milliseconds(lambda: function(next(counter)), 3 * len(files))

    alone = each(decode)
    row("decoding an image and its label alone", alone)
    found = {
        "ours, from files": each(ours(kinds["files"])),
        "ours, from the decoded file": each(ours(kinds["the decoded file"])),
        "albumentations, from files": each(albumentations_sample(decode)),
        "torchvision v2, from files": each(torchvision_sample(decode)),
    }
    for name, value in found.items():
        row(name, value)
    row("ours from files / decoding alone", found["ours, from files"] / alone, "x")
    for name in ("albumentations", "torchvision v2"):
        row(f"{name} / ours, from files", found[f"{name}, from files"] / found["ours, from files"], "x")
        row(f"{name} / ours, decoded", found[f"{name}, from files"] / found["ours, from the decoded file"], "x")


def albumentations_sample(decode: Callable[[int], tuple]) -> Callable[[int], tuple]:
    """Return a function that makes sample i with albumentations, from the image that `decode` reads."""
    import albumentations

    transform = albumentations.Compose(
        [
            albumentations.RandomScale((-0.25, 1.0), p=1.0),
            albumentations.PadIfNeeded(*CROP, fill=FILL, fill_mask=255),
            albumentations.RandomCrop(*CROP),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.ColorJitter(0.3, 0.3, 0.3, 0.3, p=1.0),
        ]
    )

    def sample(i: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, label = decode(i)
        made = transform(image=image, mask=label)
        return torch.from_numpy(made["image"].transpose(2, 0, 1).copy()), torch.from_numpy(made["mask"])

    return sample


def torchvision_sample(decode: Callable[[int], tuple]) -> Callable[[int], tuple]:
    """Return a function that makes sample i with torchvision's v2 transforms, from the image that `decode` reads."""
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.RandomResize(768, 2048),
            v2.RandomCrop(CROP, pad_if_needed=True, fill={tv_tensors.Image: FILL, tv_tensors.Mask: 255}),
            v2.RandomHorizontalFlip(0.5),
            v2.ColorJitter(0.3, 0.3, 0.3, 0.3),
        ]
    )

    def sample(i: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, label = decode(i)
        pixels = tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1))
        return transform(pixels, tv_tensors.Mask(torch.from_numpy(label)))

    return sample


def second_epoch(split: Dataset, pixels: Pixels, workers: int) -> tuple[float, float]:
    """Return samples per second in the second epoch, when the workers run already, and seconds to its first batch."""
    epoch = SharedEpoch()
    transform = TrainTransform(pixels, 0, epoch, AugmentOptions(CROP))
    batches = TrainBatches(BatchPlan(len(split), 4), 0, epoch)
    batched = train_loader(split.with_transform(transform), batches, workers, pin_memory=False)
    list(batched)
    epoch.set(2)
    begun = time.perf_counter()
    first = None
    for _ in batched:
        first = first or time.perf_counter() - begun
    return len(batches) * 4 / (time.perf_counter() - begun), first


PARTS = {"mixing": mixing, "loader": loader}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--images", type=count, default=16, help="number of ToyCity images, 1024x2048")
    args = parser.parse_args()
    one_core()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINICITY_SEG_CACHE"] = f"{folder}/cache"
        PARTS[args.part](Path(folder), args.images)


if __name__ == "__main__":
    main()
