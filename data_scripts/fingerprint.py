"""Record which data a run was trained on, so that a resumed run notices other files."""

import hashlib
from collections.abc import Iterable

import numpy as np
from datasets import DatasetDict

from .evaluation import Scoring
from .reader import content_of, number_of_bytes


def data_fingerprint(data: DatasetDict, scoring: Scoring, counts: np.ndarray) -> dict[str, int | str]:
    """Return counts and digests (16 hex digits) of the data that a run reads.

    They cover names, sizes of image files, contents of label files, pixels by class, and the classes: their names, ids,
    weights and rules, and which of the network's are scored as which. They do not depend on where the folder lies.

    counts  pixels of each train id in each training image, (N, C)
    """
    labels = scoring.labels
    classes = [labels.names, labels.source_ids, labels.void_ids, labels.class_weights]
    classes += [labels.copyblob, labels.ground, labels.things]
    if scoring.table is not None:
        classes.append(scoring.table.tolist())
    found = {
        "pixels by class": digest([counts.astype("<i8").tobytes()]),
        "classes": digest(repr(part).encode() for part in classes),
    }
    if scoring.classes is not None:
        found["class map"] = digest([scoring.classes.predictions.tobytes()])
    for name in ("train", "validation"):
        split = data[name]
        found[f"{name} images"] = len(split)
        found[f"{name} names"] = digest(stem.encode() for stem in split["name"])
        found[f"{name} image sizes"] = digest(str(number_of_bytes(file)).encode() for file in split["image"])
        found[f"{name} labels"] = digest(map(content_of, split["label"] if "label" in split.column_names else ()))
    return found


def digest(parts: Iterable[bytes]) -> str:
    made = hashlib.sha256()
    for part in parts:
        made.update(hashlib.sha256(part).digest())
    return made.hexdigest()[:16]
