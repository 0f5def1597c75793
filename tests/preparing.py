"""Shared by the tests of data_scripts.prepare: make small sources, run the program, read what it wrote."""

import json
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from data_scripts import prepare

REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "real"


def save(path: Path, array: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def photo(path: Path, height: int = 6, width: int = 8, **options) -> Path:
    rng = np.random.default_rng(len(path.name) + height)
    return save(path, rng.integers(0, 256, (height, width, 3), dtype=np.uint8), **options)


def ids(*rows) -> np.ndarray:
    return np.array(rows, np.uint8)


def halves(left: int, right: int, height: int = 6, width: int = 8) -> np.ndarray:
    array = np.full((height, width), left, np.uint8)
    array[:, width // 2 :] = right
    return array


def write_json(path: Path, content: object, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), **options)
    return path


def run(source: object, destination: Path, *flags: object) -> int:
    return prepare.main([str(source), str(destination), *map(str, flags)])


def mask(destination: Path, name: str) -> np.ndarray:
    """Return the ids in a written mask, which must be an 8-bit PNG of one channel."""
    with Image.open(destination / "masks" / f"{name}.png") as image:
        assert (image.mode, image.format) == ("L", "PNG")
        return np.asarray(image)


def classes(destination: Path) -> dict[str, int]:
    """Return {name: id} of a classes.yaml, in its order."""
    return {entry["name"]: entry["id"] for entry in _yaml(destination)["classes"]}


def colors(destination: Path) -> dict[str, list[int]]:
    return {entry["name"]: entry["color"] for entry in _yaml(destination)["classes"]}


def ignored(destination: Path) -> list[int]:
    return _yaml(destination)["ignore"]


def files(folder: Path) -> dict[str, bytes]:
    """Return {relative path: content} of all files, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _yaml(destination: Path) -> dict:
    return yaml.safe_load((destination / "classes.yaml").read_text(encoding="utf-8"))
