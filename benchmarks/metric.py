"""Measure how long the metric takes to count a pair of 1024x2048 maps on one core, and how much memory it keeps.

    python benchmarks/metric.py

Compares it with the three histograms of masked maps that `evaluate`'s mean_iou on the hub computes, with a masked
bincount, and with torchmetrics and cityscapesscripts if they are installed (pip install -e '.[bench]'). Checks that all
but cityscapesscripts count the same pixels. Times are medians.
"""

import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import evaluate
import numpy as np
import torch
from PIL import Image
from timing import milliseconds, one_core

ROOT = Path(__file__).resolve().parent.parent
LABELS, VOID = 19, 255


def maps() -> tuple[np.ndarray, np.ndarray]:
    """Return a reference of blocks with void rows at top and bottom, and a prediction with some errors."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, LABELS, (32, 64), dtype=np.uint8)
    reference = np.kron(blocks, np.ones((32, 32), np.uint8))
    prediction = np.where(rng.random(reference.shape) < 0.1, rng.integers(0, LABELS, reference.shape), reference)
    reference[:8] = reference[-8:] = VOID
    return reference, prediction.astype(np.uint8)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder))


def measure(folder: Path) -> None:
    one_core()
    reference, prediction = maps()
    metric = evaluate.load(str(ROOT / "metrics" / "mean_iou"))

    def ours() -> None:
        metric.add_batch(predictions=prediction, references=reference)

    counts = bincount(reference, prediction)
    hits, union = histograms(reference, prediction)
    ours()
    assert np.array_equal(metric.counts.numpy()[:LABELS, :LABELS], counts)
    assert np.array_equal(hits, counts.diagonal()) and (union == counts.sum(0) + counts.sum(1) - hits).all()
    ways = {"mean_iou here": ours, "evaluate's histograms": lambda: histograms(reference, prediction)}
    ways["a masked bincount"] = lambda: bincount(reference, prediction)
    if way := torchmetrics_way(reference, prediction, counts):
        ways["torchmetrics' confusion matrix"] = way
    times = {name: milliseconds(way, 30) for name, way in ways.items()}
    if pair := cityscapes_way(reference, prediction, folder):
        way, decoding = pair
        print(f"cityscapesscripts reads its pairs from files: {decoding:.1f} ms for decoding are subtracted")
        times["cityscapesscripts"] = milliseconds(way, 30) - decoding
    for name, value in times.items():
        print(f"{name:<40} {value:8.2f} ms per pair   {value / times['mean_iou here']:6.1f} x")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1000):
        ours()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"memory after 1,000 more pairs: {(after - before) / 1024:.1f} MiB more")


def histograms(reference: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return intersection and union by class, counted as `evaluate`'s script on the hub does."""
    valid = reference != VOID
    predicted, true = prediction[valid], reference[valid]
    hits, *areas = (
        np.histogram(ids, bins=LABELS, range=(0, LABELS - 1))[0]
        for ids in (predicted[predicted == true], predicted, true)
    )
    return hits, areas[0] + areas[1] - hits


def bincount(reference: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return confusion counts (LABELS, LABELS) with references in rows."""
    valid = reference != VOID
    pairs = LABELS * reference[valid].astype(np.int64) + prediction[valid]
    return np.bincount(pairs, minlength=LABELS**2).reshape(LABELS, LABELS)


def torchmetrics_way(reference: np.ndarray, prediction: np.ndarray, counts: np.ndarray) -> Callable | None:
    """Return a function that counts the pair with torchmetrics, or None if it is not installed."""
    try:
        from torchmetrics.classification import MulticlassConfusionMatrix
    except ImportError:
        print("torchmetrics is not installed")
        return None
    matrix = MulticlassConfusionMatrix(LABELS, ignore_index=VOID)
    pair = [torch.from_numpy(ids.astype(np.int64)) for ids in (prediction, reference)]
    matrix.update(*pair)
    assert np.array_equal(matrix.compute().numpy(), counts)
    return lambda: matrix.update(*pair)


def cityscapes_way(reference: np.ndarray, prediction: np.ndarray, folder: Path) -> tuple[Callable, float] | None:
    """Return a function that counts the pair with cityscapesscripts, and the milliseconds that it spends on decoding.

    Writes the pair to files in `folder`. Returns None if cityscapesscripts is not installed.
    """
    try:
        from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
    except ImportError:
        print("cityscapesscripts is not installed")
        return None
    args = official.args
    args.evalInstLevelScore = args.evalPixelAccuracy = False
    table = official.generateMatrix(args)
    source = np.append([label.id for label in official.labels if label.trainId in range(LABELS)], np.zeros(237, int))
    files = [folder / "truth.png", folder / "prediction.png"]
    for path, ids in zip(files, (reference, prediction), strict=True):
        Image.fromarray(source.astype(np.uint8)[ids]).save(path)
    decoding = milliseconds(lambda: [np.asarray(Image.open(path)) for path in files], 30)
    return lambda: official.evaluatePair(str(files[1]), str(files[0]), table, {}, {}, args), decoding


if __name__ == "__main__":
    main()
