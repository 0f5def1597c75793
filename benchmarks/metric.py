"""What counting a pair of 1024x2048 maps costs on one core, beside others' ways, and what it keeps in memory.

    python benchmarks/metric.py

The others: what `evaluate`'s mean_iou, whose script is on the hub, does for a pair (three histograms of the masked
maps); a masked bincount; torchmetrics and cityscapesscripts where they are installed (pip install -e '.[bench]'). It is
checked that all but the last count the same pixels. Times are medians.
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
    """A reference of blocks with a void border, and a prediction that is wrong in places."""
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
        print(f"cityscapesscripts reads its pairs from files: {decoding:.1f} ms of decoding are taken off")
        times["cityscapesscripts"] = milliseconds(way, 30) - decoding
    for name, value in times.items():
        print(f"{name:<40} {value:8.2f} ms a pair   {value / times['mean_iou here']:6.1f} x")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1000):
        ours()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"memory after 1,000 more pairs: {(after - before) / 1024:.1f} MiB more")


def histograms(reference: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The intersection and the union, by class, as `evaluate`'s script on the hub counts them."""
    valid = reference != VOID
    predicted, true = prediction[valid], reference[valid]
    hits, *areas = (
        np.histogram(ids, bins=LABELS, range=(0, LABELS - 1))[0]
        for ids in (predicted[predicted == true], predicted, true)
    )
    return hits, areas[0] + areas[1] - hits


def bincount(reference: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """The confusion counts (LABELS, LABELS), references in rows."""
    valid = reference != VOID
    pairs = LABELS * reference[valid].astype(np.int64) + prediction[valid]
    return np.bincount(pairs, minlength=LABELS**2).reshape(LABELS, LABELS)


def torchmetrics_way(reference: np.ndarray, prediction: np.ndarray, counts: np.ndarray) -> Callable | None:
    """A function that counts the pair by torchmetrics, or None if it is not installed."""
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
    """A function that counts the pair by cityscapesscripts, from files in `folder`, and the milliseconds that decoding
    them takes; None if it is not installed."""
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
