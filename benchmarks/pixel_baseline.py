"""How far position and colour alone go: a table of class counts per (row, column, red, green, blue) bin.

    python benchmarks/pixel_baseline.py --dataset camvid --dataset_path camvid

A network that does not beat this has learned nothing about shape. The table is fitted on the training split and
scored on the validation split, at full resolution, with the project's own metric definition.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_scripts.reader import read_image, read_label  # noqa: E402
from data_scripts.sources import load_source  # noqa: E402

BINS = ((16, 16, 8), (8, 8, 6), (8, 4, 4), (6, 1, 2), (1, 1, 2))  # rows, columns, levels of each colour: fine to coarse


class PixelBaseline:
    """P(class | position, colour) from counts; each bin leans on the next coarser one, as if seen `prior` times."""

    def __init__(self, num_classes: int, bins=BINS, prior: float = 20.0):
        self.num_classes, self.bins, self.prior = num_classes, bins, prior
        self.counts = [np.zeros((rows * columns * levels**3, num_classes), np.int64) for rows, columns, levels in bins]

    def cells(self, image: np.ndarray, bins: tuple[int, int, int]) -> np.ndarray:
        """(H, W, 3) uint8 -> the bin of each pixel (H, W)."""
        rows, columns, levels = bins
        height, width = image.shape[:2]
        y = (np.arange(height) * rows // height)[:, None]
        x = (np.arange(width) * columns // width)[None, :]
        red, green, blue = np.moveaxis(image.astype(np.int64) * levels // 256, 2, 0)
        return ((((y * columns + x) * levels) + red) * levels + green) * levels + blue

    def fit(self, image: np.ndarray, label: np.ndarray) -> None:
        """Count the pixels of an image whose train ids (H, W) are below `num_classes`."""
        valid = label < self.num_classes
        for bins, counts in zip(self.bins, self.counts, strict=True):
            pairs = self.cells(image, bins)[valid] * self.num_classes + label[valid]
            counts += np.bincount(pairs, minlength=counts.size).reshape(counts.shape)

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Train ids (H, W), uint8."""
        probability = np.full(self.num_classes, 1 / self.num_classes)
        for bins, counts in zip(reversed(self.bins), reversed(self.counts), strict=True):
            seen = counts[self.cells(image, bins)]
            probability = (seen + self.prior * probability) / (seen.sum(-1, keepdims=True) + self.prior)
        return probability.argmax(-1).astype(np.uint8)


def score(pairs, num_classes: int) -> np.ndarray:
    """IoU by class over (prediction, label) maps; nan for a class that does not occur."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    for prediction, label in pairs:
        valid = label < num_classes
        flat = label[valid].astype(np.int64) * num_classes + prediction[valid]
        counts += np.bincount(flat, minlength=num_classes**2).reshape(counts.shape)
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    return np.divide(counts.diagonal(), union, out=np.full(num_classes, np.nan), where=union > 0)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="minicity")
    parser.add_argument("--dataset_path")
    args = parser.parse_args(argv)
    data, labels = load_source(args.dataset, args.dataset_path)

    def pairs(split):
        for row in data[split]:
            yield read_image(row["image"]), labels.train_ids[read_label(row["label"], row["image"])]

    baseline = PixelBaseline(len(labels.names))
    for image, label in pairs("train"):
        baseline.fit(image, label)
    iou = score(((baseline.predict(image), label) for image, label in pairs("validation")), len(labels.names))
    for name, value in zip(labels.names, iou, strict=True):
        print(f"{name:<14} {value:.4f}")
    print(f"mIoU {np.nanmean(iou):.4f}")


if __name__ == "__main__":
    main()
