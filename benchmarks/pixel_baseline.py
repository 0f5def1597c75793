"""Predict classes from position and colour alone, with class counts per (row, column, red, green, blue) bin.

    python benchmarks/pixel_baseline.py --dataset camvid --dataset_path camvid

A network that does not beat this has learned nothing about shape. The counts come from the training split. The score is
the project's mIoU on the validation split at full resolution.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from datasets import DatasetDict

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_scripts.catalog import DATASETS
from data_scripts.fold_files import load_data
from data_scripts.labels import DataError, LabelInfo
from data_scripts.reader import read_image, read_label
from metrics.figures import iou
from metrics.intervals import image_counts
from seg_runs.errors import one_line_errors

BINS = ((16, 16, 8), (8, 8, 6), (8, 4, 4), (6, 1, 2), (1, 1, 2))  # (rows, columns, levels per colour), fine to coarse


class PixelBaseline:
    """P(class | position, colour) from counts. Each bin adds the next coarser bin as a prior of `prior` pixels."""

    def __init__(self, num_classes: int, bins=BINS, prior: float = 20.0):
        self.num_classes, self.bins, self.prior = num_classes, bins, prior
        self.counts = [np.zeros((rows * columns * levels**3, num_classes), np.int64) for rows, columns, levels in bins]

    def cells(self, image: np.ndarray, bins: tuple[int, int, int]) -> np.ndarray:
        """Return the bin of each pixel, (H, W), of a uint8 image (H, W, 3)."""
        rows, columns, levels = bins
        height, width = image.shape[:2]
        y = (np.arange(height) * rows // height)[:, None]
        x = (np.arange(width) * columns // width)[None, :]
        red, green, blue = np.moveaxis(image.astype(np.int64) * levels // 256, 2, 0)
        return ((((y * columns + x) * levels) + red) * levels + green) * levels + blue

    def fit(self, image: np.ndarray, label: np.ndarray) -> None:
        """Count the pixels of an image. Leaves out those whose train ids in `label` (H, W) are not classes."""
        valid = label < self.num_classes
        for bins, counts in zip(self.bins, self.counts, strict=True):
            pairs = self.cells(image, bins)[valid] * self.num_classes + label[valid]
            counts += np.bincount(pairs, minlength=counts.size).reshape(counts.shape)

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Return train ids (H, W), uint8."""
        probability = np.full(self.num_classes, 1 / self.num_classes)
        for bins, counts in zip(reversed(self.bins), reversed(self.counts), strict=True):
            seen = counts[self.cells(image, bins)]
            probability = (seen + self.prior * probability) / (seen.sum(-1, keepdims=True) + self.prior)
        return probability.argmax(-1).astype(np.uint8)


def score(pairs, num_classes: int) -> np.ndarray:
    """Return the IoU by class (C,) over (prediction, label) pairs of maps, with nan for classes that do not occur."""
    counts = sum(image_counts(prediction, label, num_classes) for prediction, label in pairs)
    return iou(counts)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="minicity", choices=tuple(DATASETS))
    parser.add_argument("--dataset_path")
    with one_line_errors(DataError):
        args = parser.parse_args(argv)
        print_scores(*load_data(args.dataset, args.dataset_path))


def print_scores(data: DatasetDict, labels: LabelInfo) -> None:
    """Fit the training split, and print the scores on the validation split."""

    def pairs(split):
        for row in data[split]:
            ids = read_label(row["label"], row["image"], labels.colors_of(row["label"]))
            yield read_image(row["image"]), labels.train_ids[ids]

    baseline = PixelBaseline(len(labels.names))
    for image, label in pairs("train"):
        baseline.fit(image, label)
    scores = score(((baseline.predict(image), label) for image, label in pairs("validation")), len(labels.names))
    for name, value in zip(labels.names, scores, strict=True):
        print(f"{name:<14} {value:.4f}")
    print(f"mIoU {np.nanmean(scores):.4f}")


if __name__ == "__main__":
    main()
