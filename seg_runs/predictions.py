"""Write the files of a prediction: results_NAME/IMAGE.png, results_color_NAME/IMAGE.png, scores_NAME.json."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .files import write_atomically, write_json, writing
from .launch import on_first_process
from .lock import PREDICTING, locked
from .report import score_summary
from .run_folder import make_folders

if TYPE_CHECKING:
    from accelerate import Accelerator

IDS, COLORS = "results_", "results_color_"
PNG_ENDS = b"\x00\x00\x00\x00IEND\xaeB`\x82"


class Predictions:
    """Id images and colour images of a split, in the folder `output`.

    While a prediction runs, .predicting_NAME.json records its settings and files. Started again with the same settings,
    it goes on with the images that are left or have changed. With other settings it starts over.
    """

    def __init__(self, output: Path, name: str):
        self.name = name
        self.folders = output / f"{IDS}{name}", output / f"{COLORS}{name}"
        self.marker, self.scores = output / f".predicting_{name}.json", output / f"scores_{name}.json"

    def ids(self, name: str) -> Path:
        return self.files(name)[0]

    def files(self, name: str) -> list[Path]:
        """Return the paths of an image's ids and colours. A `name` with a slash leads to a subfolder."""
        return [folder / f"{name}.png" for folder in self.folders]

    def begin(self, settings: dict, images: dict[str, list]) -> set[str]:
        """Start or continue a prediction. Returns the names of the images that are done.

        images  {name: state of the image's file}, where a changed file has another state
        """
        make_folders(*self.folders)
        record = json.loads(json.dumps({"settings": settings, "images": images}))
        before = self._record()
        same = before.get("settings") == record["settings"] and isinstance(before.get("images"), dict)
        done = set()
        with writing_output(self.marker.parent):
            for folder in self.folders:  # left by a killed process
                for left in folder.rglob(".*.png.tmp"):
                    left.unlink()
            for name, state in record["images"].items():
                if same and before["images"].get(name) == state and all(map(is_whole, self.files(name))):
                    done.add(name)
                else:
                    for path in self.files(name):
                        path.unlink(missing_ok=True)
            if self.marker.is_dir() and not self.marker.is_symlink():
                shutil.rmtree(self.marker)
            self.scores.unlink(missing_ok=True)  # they belong to the files that are replaced
            write_json(self.marker, record)
        return done

    def _record(self) -> dict:
        """Return the record of an interrupted prediction, or {} if there is none or it is not readable."""
        try:
            record = json.loads(self.marker.read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        return record if isinstance(record, dict) else {}

    def write(self, name: str, *arrays: np.ndarray) -> None:
        """Write ids (H, W) and colours (H, W, 3), each file atomically."""
        for path, array in zip(self.files(name), arrays, strict=True):
            with writing_output(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, lambda temporary, array=array: Image.fromarray(array).save(temporary, "PNG"))

    def end(self) -> None:
        with writing_output(self.marker):
            self.marker.unlink(missing_ok=True)


@contextmanager
def alone(accelerator: "Accelerator", output: Path) -> Iterator[None]:
    """Hold the lock of a prediction's folder, in the first process for all. Two predictions would mix their files."""
    with ExitStack() as stack:
        lock = locked(output, "the output folder (--output_dir)", PREDICTING)
        on_first_process(accelerator, stack.enter_context, lock)
        if accelerator.is_main_process:
            stack.callback(_take_away, output / PREDICTING)
        yield


def _take_away(lock: Path) -> None:
    with suppress(OSError):  # some systems cannot delete an open file
        lock.unlink()


def writing_output(path: Path) -> AbstractContextManager[None]:
    """Return `files.writing` for a file of a prediction, with what the user can do if the disk refuses."""
    return writing(path, "; make room or allow writing there, or choose another --output_dir")


def is_whole(path: Path) -> bool:
    """Return whether a PNG can be decoded and is not truncated."""
    try:
        with path.open("rb") as file:
            file.seek(-len(PNG_ENDS), 2)
            if file.read() != PNG_ENDS:
                return False
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
    except Exception:  # decoders raise almost anything on damaged files
        return False
    return True


def is_output(folder: Path) -> bool:
    """Return whether a prediction or a training run wrote `folder`, so that its pictures are not photos."""
    if all((folder / part).is_file() for part in ("args.yaml", "log_epoch.csv")):
        return True
    for begins in (COLORS, IDS):
        if folder.name.startswith(begins):
            name, beside = folder.name.removeprefix(begins), folder.parent
            others = (f"{COLORS if begins == IDS else IDS}{name}", f"scores_{name}.json", f".predicting_{name}.json")
            return any((beside / other).exists() for other in others)
    return False


def write_scores(path: Path, scores: dict, names: Sequence[str], settings: dict) -> None:
    """Write the scores and the settings that they were measured with."""
    summary = score_summary(names, scores)
    by_class = {key: summary.pop(key) for key in ("iou", "accuracy")}
    with writing_output(path):
        write_json(path, {**summary, "settings": settings, **by_class})
