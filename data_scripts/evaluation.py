"""The labels that a network is scored on: its own data set's, or another one's (--eval_dataset)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict

from .arguments import ScoringOptions
from .class_map import ClassMap, make_class_map
from .labels import DataError, LabelInfo
from .sources import load_source


@dataclass(frozen=True)
class Scoring:
    """How predictions are scored on label files.

    labels   label set of the network; scores are in its train ids
    files    label set of the files
    classes  how the classes of both belong together; None: they are the same
    """

    labels: LabelInfo
    files: LabelInfo
    classes: ClassMap | None = None

    @property
    def table(self) -> np.ndarray | None:
        """Train id of the network for each train id of the files, uint8 (256,), or None: they are the same."""
        return None if self.classes is None else self.classes.labels

    def counted(self, prediction: torch.Tensor) -> torch.Tensor:
        """Return the ids that predicted train ids count as, uint8."""
        return prediction if self.classes is None else self.classes.counted(prediction)

    def for_loss(self, target: torch.Tensor) -> torch.Tensor:
        """Return the labels that a loss can be measured on: each belongs to one class of the network."""
        return target if self.classes is None else self.classes.for_loss(target)

    def explain(self) -> str:
        """Return which classes are not scored, for the user."""
        if self.classes is None:
            return ""
        members = {}
        for name, group in zip(self.labels.names, self.classes.predictions.tolist(), strict=False):
            if group != self.labels.ignore_index:
                members.setdefault(self.labels.names[group], []).append(name)
        names = ", ".join(" + ".join(group) for group in members.values())
        missing = ", ".join(self.classes.left_out) or "nothing"
        unused = f"; predictions of {', '.join(self.classes.unused)} count as wrong" if self.classes.unused else ""
        return f"scored on {names}; left out of the score: {missing}{unused}"


def evenly_spread(items: Dataset, number: int) -> list[int]:
    """Return the positions of up to `number` items, evenly spread over all of them."""
    return np.linspace(0, len(items) - 1, min(number, len(items))).round().astype(int).tolist()


def load_evaluation(options: ScoringOptions, network: LabelInfo) -> tuple[DatasetDict, Scoring]:
    """Return the splits of --eval_dataset, and how the network's classes are scored on them.

    Raises DataError if files are missing or no class has a counterpart.
    """
    name, path = options.eval_dataset
    if name == options.dataset and Path(path).resolve() == Path(options.path or options.dataset).resolve():
        raise DataError(f"--eval_dataset {name} {path} is the data set itself: leave it out")
    data, files = load_source(name, path, flag="--eval_dataset")
    if "validation" not in data:
        raise DataError(f"{path} (--eval_dataset) has no validation images: divide its images into train and val")
    return data, Scoring(network, files, make_class_map(network, files, options.class_map))
