"""Types of the benchmarks' flags, for argparse. A value that does not fit gets one line, not a traceback."""

import json
import math
from argparse import ArgumentTypeError
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDS = json.loads((ROOT / "recipes" / "camvid_folds.json").read_text())  # names of images by fold
PRECISIONS = ("no", "fp16", "bf16")


def count(text: str) -> int:
    """Return a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text} is not a whole number of 1 or more")
    return int(text)


def positive(text: str) -> float:
    """Return a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"{text} is not a number above 0")
    return value


def existing_folder(text: str) -> Path:
    """Return the path of a folder that exists."""
    if not Path(text).is_dir():
        raise ArgumentTypeError(f"there is no folder {text}")
    return Path(text)
