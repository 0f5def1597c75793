"""Numbers about a data set, from a survey of its files: for stats.json and for the page of data_scripts.eda."""

from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np

from .near_duplicates import BITS, NEAR, groups_of, nearest
from .survey import LAYOUT, Survey

GRID = (48, 64)  # height and width of a heat map
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 32  # of the histogram of brightness


@dataclass(frozen=True)
class Alike:
    """Near-duplicates, as indices of rows of the survey.

    groups  (N,) group of each row, -1 for an image that cannot be read
    pairs   (row in validation or test, nearest training row, bits that differ), the closest first; only near ones
    """

    groups: np.ndarray
    pairs: list[tuple[int, int, int]]


@dataclass(frozen=True)
class Numbers:
    """What both the page and stats.json show.

    classes   for each class, see `class_numbers`
    splits    for each split, see `split_numbers`
    together  int64 (C, C), see `co_occurrence`
    """

    classes: list[dict]
    splits: dict[str, dict]
    together: np.ndarray


def numbers_of(survey: Survey, alike: Alike) -> Numbers:
    """Return the numbers of a survey."""
    return Numbers(class_numbers(survey), split_numbers(survey, alike), co_occurrence(survey))


def class_numbers(survey: Survey) -> list[dict]:
    """Return, for each class, its id and, for each labelled split, images, pixels, share of them, and regions."""
    counts = {split: survey.counts(split) for split in survey.labelled}
    found = []
    for train_id, name in enumerate(survey.labels.names):
        splits = {}
        for split, pixels in counts.items():
            own, total = int(pixels[:, train_id].sum()), int(pixels.sum())
            sizes = survey.region_sizes(train_id, split)
            splits[split] = {
                "images": int(np.count_nonzero(pixels[:, train_id])),
                "pixels": own,
                "share of labelled pixels": own / total if total else 0.0,
                "regions": len(sizes),
                "region size, quantiles": _quantiles(sizes),
            }
        found.append({"name": name, "id": int(survey.labels.source_ids[train_id]), "splits": splits})
    return found


def split_numbers(survey: Survey, alike: Alike) -> dict[str, dict]:
    """Return, for each split, numbers of images, masks and scenes, sizes, share of labelled pixels, and brightness."""
    found = {}
    for split in survey.splits:
        indices = [i for i, row in enumerate(survey.rows) if row.split == split]
        rows = [survey.rows[i] for i in indices]
        readable = [row for row in rows if row.size]
        stored = sum((row.ids for row in rows if row.ids is not None), np.zeros(256, np.int64))
        light = np.array([row.light for row in readable]).reshape(-1, 2)
        sizes = Counter(f"{row.size[0]}x{row.size[1]}" for row in readable)
        found[split] = {
            "images": len(rows),
            "masks": sum(row.ids is not None for row in rows),
            "unusable files": sum(bool(row.faults) for row in rows),
            "different scenes": len(set(alike.groups[indices].tolist()) - {-1}),
            "sizes, height x width": dict(sizes.most_common()),
            "share of labelled pixels": _ratio(survey.counts(split).sum(), stored.sum()),
            "brightness, mean": float(light[:, 0].mean()) if len(light) else None,
            "contrast, mean": float(light[:, 1].mean()) if len(light) else None,
            "brightness, histogram": np.histogram(light[:, 0], BINS, (0, 256))[0].tolist(),
            "mean color": [round(float(value), 1) for value in np.mean([row.color for row in readable], axis=0)]
            if readable
            else None,
        }
    return found


def co_occurrence(survey: Survey) -> np.ndarray:
    """Return in how many images each pair of classes occurs, int64 (C, C), over all labelled splits."""
    none = np.zeros((0, len(survey.labels.names)), bool)
    shown = np.concatenate([none, *(survey.counts(split) > 0 for split in survey.labelled)])
    return shown.astype(np.int64).T @ shown.astype(np.int64)


def heat_maps(survey: Survey) -> np.ndarray:
    """Return how often each class covers each place of an image, float (C, *GRID), 0 to 1, over all labelled splits.

    Places are relative to the size of each image. The maps of a place sum to its share of labelled pixels.
    """
    layouts = [row.layout for row in survey.rows if row.layout is not None]
    total = np.zeros((len(survey.labels.names), *LAYOUT), np.int64)
    for layout in layouts:
        for train_id in np.unique(layout[layout < len(total)]).tolist():
            total[train_id] += layout == train_id
    maps = [cv2.resize(part / max(1, len(layouts)), GRID[::-1], interpolation=cv2.INTER_AREA) for part in total]
    return np.array(maps)


def look_alikes(survey: Survey) -> Alike:
    """Group near-duplicates over all splits, and pair validation and test images with their nearest training image."""
    readable = [i for i, row in enumerate(survey.rows) if row.look is not None]
    groups = np.full(len(survey.rows), -1, np.int64)
    if not readable:
        return Alike(groups, [])
    looks = np.array([survey.rows[i].look for i in readable])
    groups[readable] = groups_of(looks)
    train = [k for k, i in enumerate(readable) if survey.rows[i].split == "train"]
    others = [k for k, i in enumerate(readable) if survey.rows[i].split != "train"]
    pairs = []
    if train and others:
        closest, bits = nearest(looks[others], looks[train])
        for k in np.flatnonzero(bits <= NEAR).tolist():
            pairs.append((readable[others[k]], readable[train[closest[k]]], int(bits[k])))
    return Alike(groups, sorted(pairs, key=lambda pair: pair[2]))


def choose_pictures(survey: Survey, number: int) -> list[int]:
    """Return the indices of up to `number` labelled rows that show every class, rare ones first, and differ in looks.

    Each choice has the largest product of two numbers: the sum of 1 / (images that show the class x its weight) over
    its classes, and the squared share of bits in which it differs from the most similar choice so far. The weight of a
    class grows with each chosen image that shows it. Near-duplicates of a choice are left out.
    """
    indices = [i for i, row in enumerate(survey.rows) if row.ids is not None and row.size]
    if not indices:
        return []
    ids = list(survey.labels.source_ids)
    shown = np.array([survey.rows[i].ids[ids] > 0 for i in indices])
    looks = np.array([survey.rows[i].look for i in indices])
    rare = 1 / np.maximum(shown.sum(0), 1)
    weights = np.ones(len(ids))
    differs = np.full(len(indices), BITS)
    chosen = []
    while len(chosen) < number:
        value = np.where(differs > NEAR, (shown * (rare / weights)).sum(1) * (differs / BITS) ** 2, -1)
        best = int(value.argmax())
        if value[best] < 0:
            break
        chosen.append(indices[best])
        differs = np.minimum(differs, nearest(looks, looks[best : best + 1])[1])
        weights += 3 * shown[best]
    return chosen


def _quantiles(sizes: np.ndarray) -> list[float] | None:
    return np.quantile(sizes, QUANTILES).tolist() if len(sizes) else None


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
