"""Write the files of a prediction: results_NAME/IMAGE.png and others, scores_NAME.json, and summaries."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .arguments import PICTURES
from .files import write_atomically, write_json, writing
from .lock import PREDICTING, locked
from .processes import on_first_process
from .results import comparison, score_summary
from .run_folder import make_folders

if TYPE_CHECKING:
    from accelerate import Accelerator

# A folder for each kind of picture. The ids are always written, because an interrupted prediction goes on from them.
KINDS = {"ids": "results_", **{kind: f"results_{kind}_" for kind in PICTURES}}
PNG_ENDS = b"\x00\x00\x00\x00IEND\xaeB`\x82"


class Predictions:
    """Id images and other pictures of a split, in the folder `output`.

    pictures  kinds of pictures besides ids, of `PICTURES`

    While a prediction runs, .predicting_NAME.json records its settings and files. Started again with the same settings,
    it goes on with the images that are left or have changed. With other settings it starts over.
    """

    def __init__(self, output: Path, name: str, pictures: Sequence[str] = ("color",)):
        self.output, self.name = output, name
        self.folders = {kind: output / f"{KINDS[kind]}{name}" for kind in ("ids", *pictures)}
        self.marker = output / f".predicting_{name}.json"
        self.scores = output / f"scores_{name}.json"
        self.shares = output / f"shares_{name}.json"

    def files(self, name: str) -> dict[str, Path]:
        """Return the paths of an image's pictures by kind. A `name` with a slash leads to a subfolder."""
        return {kind: folder / f"{name}.png" for kind, folder in self.folders.items()}

    def begin(self, settings: dict, images: dict[str, list]) -> set[str]:
        """Start or continue a prediction. Returns the names of the images that are done.

        images  {name: state of the image's file}, where a changed file has another state
        """
        make_folders(*self.folders.values())
        record = json.loads(json.dumps({"settings": settings, "images": images}))
        before = self._record()
        same = before.get("settings") == record["settings"] and isinstance(before.get("images"), dict)
        done = set()
        with writing_output(self.marker.parent):
            for folder in self.folders.values():  # left by a killed process
                for left in folder.rglob(".*.png.tmp"):
                    left.unlink()
            for name, state in record["images"].items():
                if same and before["images"].get(name) == state and all(map(is_whole, self.files(name).values())):
                    done.add(name)
                else:
                    for path in self.files(name).values():
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

    def write(self, name: str, pictures: dict[str, np.ndarray]) -> None:
        """Write the pictures of an image by kind, uint8 (H, W) or (H, W, 3), each file atomically."""
        for kind, path in self.files(name).items():
            with writing_output(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_png(path, Image.fromarray(pictures[kind]))

    def write_legend(self, legend: dict[str, tuple]) -> Path:
        """Write a picture of the class colours by name. Returns its path."""
        path = self.output / f"legend_{self.name}.png"
        with writing_output(path):
            write_png(path, comparison([], ("classes",), legend))
        return path

    def write_shares(self, names: Sequence[str], counts: dict[str, np.ndarray]) -> Path:
        """Write the share of each class's pixels, over all images and by image. Returns the path.

        names   of the classes
        counts  pixels (C,) of each class, by image
        """
        path = self.shares
        content = {"all images": _shares(names, sum(counts.values(), np.zeros(len(names))))}
        content["images"] = {image: _shares(names, pixels) for image, pixels in counts.items()}
        with writing_output(path):
            write_json(path, content)
        return path

    def others(self, images: Sequence[str]) -> list[Path]:
        """Return the id images that belong to none of `images`, such as those of another folder of the same name."""
        return sorted({*self.folders["ids"].rglob("*.png")} - {self.files(name)["ids"] for name in images})

    def earlier(self, shares: bool, archive: bool) -> list[Path]:
        """Return the files and folders of this split that this prediction does not write.

        shares, archive  whether it writes the classes' shares, and a zip file
        """
        folders = (self.output / f"{begins}{self.name}" for begins in KINDS.values())
        found = [folder for folder in folders if folder not in self.folders.values() and any(folder.rglob("*.png"))]
        found += [] if shares else [self.shares]
        found += [] if archive else [self.output / f"{self.folders['ids'].name}.zip"]
        return [path for path in found if path.exists()]

    def end(self) -> None:
        with writing_output(self.marker):
            self.marker.unlink(missing_ok=True)


def _shares(names: Sequence[str], pixels: np.ndarray) -> dict[str, float]:
    shares = {}
    for name, share in zip(names, pixels / max(1, pixels.sum()), strict=True):
        if share:
            shares[name] = shares.get(name, 0.0) + float(share)  # two classes of a stranger's model may have one name
    return shares


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


def write_png(path: Path, picture: Image.Image) -> None:
    write_atomically(path, lambda temporary: picture.save(temporary, "PNG"))


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
    for begins in sorted(KINDS.values(), key=len, reverse=True):  # results_ begins all others
        if folder.name.startswith(begins):
            name = folder.name.removeprefix(begins)
            others = [f"{other}{name}" for other in KINDS.values() if other != begins]
            others += [f"scores_{name}.json", f"shares_{name}.json", f"legend_{name}.png", f".predicting_{name}.json"]
            return any((folder.parent / other).exists() for other in others)
    return False


def write_scores(path: Path, scores: dict, names: Sequence[str], settings: dict) -> None:
    """Write the scores and the settings that they were measured with."""
    summary = score_summary(names, scores)
    by_class = {key: summary.pop(key) for key in ("iou", "accuracy")}
    with writing_output(path):
        write_json(path, {**summary, "settings": settings, **by_class})
