"""The files of a prediction: results_NAME/STEM.png, results_color_NAME/STEM.png, scores_NAME.json."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .checkpoints import write_json
from .report import score_summary
from .run_folder import make_folders


class Predictions:
    """Ids and colours of the images of a split, in `output`.

    While a prediction is under way, .predicting_NAME.json says with which settings: begun again with the same ones, it
    goes on with the images that are left; with others it begins anew.
    """

    def __init__(self, output: Path, name: str):
        self.folders = output / f"results_{name}", output / f"results_color_{name}"
        self.marker = output / f".predicting_{name}.json"

    def ids(self, stem: str) -> Path:
        return self.folders[0] / f"{stem}.png"

    def begin(self, settings: dict, stems: Sequence[str]) -> set[str]:
        """The stems that are done already."""
        make_folders(*self.folders)
        settings = json.loads(json.dumps(settings))
        try:
            same = json.loads(self.marker.read_text()) == settings
        except (OSError, ValueError):
            same = False
        files = {stem: [folder / f"{stem}.png" for folder in self.folders] for stem in stems}
        if same:
            return {stem for stem, paths in files.items() if all(path.exists() for path in paths)}
        for path in (path for paths in files.values() for path in paths):
            path.unlink(missing_ok=True)
        write_json(self.marker, settings)
        return set()

    def write(self, stem: str, *arrays: np.ndarray) -> None:
        """Ids (H, W) and colours (H, W, 3); each file is whole or not there."""
        for folder, array in zip(self.folders, arrays, strict=True):
            temporary = folder / f".{stem}.tmp"
            Image.fromarray(array).save(temporary, format="PNG")
            temporary.replace(folder / f"{stem}.png")

    def end(self) -> None:
        self.marker.unlink(missing_ok=True)


def write_scores(path: Path, scores: dict, names: Sequence[str], settings: dict) -> None:
    """The scores, and how they came about."""
    summary = score_summary(names, scores)
    by_class = {key: summary.pop(key) for key in ("iou", "accuracy")}
    write_json(path, {**summary, "settings": settings, **by_class})
