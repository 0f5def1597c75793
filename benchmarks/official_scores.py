"""Measure how long the official Cityscapes figures take from files, here and in cityscapesScripts, on one core.

    python benchmarks/official_scores.py                      # four scenes of ToyCity, 1024x2048
    python benchmarks/official_scores.py --folder cityscapes  # frames of gtFine/train, or of another --split

Needs cityscapesScripts (pip install -e '.[bench]'). Both read the same files, including the instance maps, and take
turns. Checks that the figures are equal to 1e-9. The prediction is the label, shifted by 9 pixels.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from flags import count, existing_folder
from PIL import Image
from timing import median_of, one_core

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_scripts.reader import read_instances, read_label
from data_scripts.toycity import write_toycity
from metrics.cityscapes import CityscapesCounts

FIGURES = ("classScores", "classInstScores", "categoryScores", "categoryInstScores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=existing_folder, help="Cityscapes or MiniCity (default: ToyCity is drawn)")
    parser.add_argument("--split", default="train")
    parser.add_argument("--repeats", type=count, default=9)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder
        if folder is None:
            folder = Path(temporary) / "toycity"
            write_toycity(folder, train=4, val=1, test=1, size=(1024, 2048), seed=0)
        labels = sorted((folder / "gtFine" / args.split).rglob("*_labelIds.png"))
        if not labels:
            parser.error(f"there is no *_labelIds.png in {folder / 'gtFine' / args.split}")
        predictions = [Path(temporary) / f"{number}.png" for number in range(len(labels))]
        for label, prediction in zip(labels, predictions, strict=True):
            Image.fromarray(np.roll(np.asarray(Image.open(label)), 9, (0, 1))).save(prediction)
        measure(labels, predictions, args.repeats)


def measure(labels: list[Path], predictions: list[Path], repeats: int) -> None:
    one_core()
    evaluation = official_script()

    def here() -> dict:
        counts = CityscapesCounts()
        for label, prediction in zip(labels, predictions, strict=True):
            instances = read_instances(str(label).replace("labelIds", "instanceIds"))
            counts.add(read_label(str(prediction)), read_label(str(label)), instances)
        return counts.scores()

    def there() -> dict:
        return evaluation.evaluateImgLists([*map(str, predictions)], [*map(str, labels)], evaluation.args)

    def decode() -> None:
        for label, prediction in zip(labels, predictions, strict=True):
            for path in (label, prediction, str(label).replace("labelIds", "instanceIds")):
                np.asarray(Image.open(path))

    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        decode()
        decoded = time.perf_counter() - begun
        begun = time.perf_counter()
        ours = here()
        between = time.perf_counter()
        official = there()
        taken.append((between - begun, time.perf_counter() - between, decoded))
    for key in FIGURES:
        for name, value in ours[key].items():
            assert np.isclose(value, official[key][name], rtol=0, atol=1e-9, equal_nan=True), (key, name)
    for name, column in (("here", 0), ("cityscapesScripts", 1), ("decoding, in each", 2)):
        low, median, high = median_of([1000 * pair[column] / len(labels) for pair in taken])
        print(f"{name:<20} {median:8.1f} ms per image ({low:.1f} to {high:.1f})")
    for name, ratios in (
        ("ratio, there / here", [there / here for here, there, _ in taken]),
        ("without decoding", [(there - decoded) / (here - decoded) for here, there, decoded in taken]),
    ):
        low, median, high = median_of(ratios)
        print(f"{name:<20} {median:8.2f} ({low:.2f} to {high:.2f})")
    print(f"the figures of {len(labels)} images are equal")


def official_script() -> ModuleType:
    """Return the module of the official script, silent. Its 2.3.0 calls np.in1d, which numpy 2.4 no longer has."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as evaluation

    if not hasattr(np, "in1d"):
        np.in1d = np.isin
    evaluation.args.evalInstLevelScore = evaluation.args.quiet = True
    evaluation.args.JSONOutput = False
    print(f"cityscapesScripts with its compiled part: {evaluation.CSUPPORT}")
    return evaluation


if __name__ == "__main__":
    main()
