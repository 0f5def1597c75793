"""Score a network on the labels of another data set, whose classes are not quite the network's (--eval_dataset).

    network's classes      other data set's        scored as
    vegetation, tree       vegetation              vegetation
    car, van               car                     car
    misc                   -                       not at all; such a prediction is a miss for the true class
    -                      sidewalk                not at all; such pixels are ignored

Classes with the same name belong together. A class without a namesake goes to a synonym, if the other data set has one.
A YAML file of `network's class: other class` lines (a list, or null for none) replaces these rules for its classes.
"""

import re
from dataclasses import dataclass

import numpy as np
import torch

from .labels import IGNORE_INDEX, DataError, LabelInfo
from .text_yaml import load_text_yaml, read_start

SYNONYMS = (
    {"vegetation", "tree", "vegetation misc"},
    {"car", "van"},
    {"sidewalk", "pavement"},
    {"person", "pedestrian"},
    {"traffic sign", "sign symbol"},
    {"pole", "column pole"},
    {"rider", "bicyclist"},
    {"bicycle", "bicyclist"},
)
NOTHING = ("", "null", "~")  # what YAML writes for none


@dataclass(frozen=True)
class ClassMap:
    """Which classes of a network and of other labels are scored together.

    Classes that belong together form a group. It has the train id of one of the network's classes: of one that has a
    namesake, if there is one, or else of the first.

    labels       train id of the group of each train id of the other labels, uint8 (256,); ignored without a group
    predictions  id that each predicted train id counts as, uint8 (256,); `IGNORE_INDEX`, a miss, without a group
    shared       whether several of the network's classes have the group, by its train id, bool (256,)
    left_out     names of the other labels' classes that are not scored
    unused       names of the network's classes that are not scored
    """

    labels: np.ndarray
    predictions: np.ndarray
    shared: np.ndarray
    left_out: tuple[str, ...]
    unused: tuple[str, ...]

    def counted(self, prediction: torch.Tensor) -> torch.Tensor:
        """Return the ids that predicted train ids count as, uint8, on the same device."""
        return torch.from_numpy(self.predictions).to(prediction.device)[prediction.long()]

    def for_loss(self, target: torch.Tensor) -> torch.Tensor:
        """Return labels of groups without those that stand for several classes of the network: they fit no single one.

        target  train ids of groups, uint8
        """
        return target.masked_fill(torch.from_numpy(self.shared).to(target.device)[target.long()], IGNORE_INDEX)


def make_class_map(network: LabelInfo, other: LabelInfo, path: str | None = None) -> ClassMap:
    """Return which classes of `network` and of `other` labels are scored together.

    path  YAML file with the user's own rules

    Raises DataError if the file is wrong, or if no class has a counterpart.
    """
    pairs = matched(network.names, other.names)
    if path is not None:
        own = read_class_map(path, network.names, other.names)
        pairs = [(mine, theirs) for mine, theirs in pairs if mine not in own]
        pairs += [(mine, theirs) for mine, found in own.items() for theirs in found]
    if not pairs:
        raise DataError(
            f"no class of {other.name} is one of the network's ({', '.join(network.names)}): name the pairs in a "
            "--class_map"
        )
    labels = np.full(256, IGNORE_INDEX, np.uint8)
    predictions = labels.copy()
    shared = np.zeros(256, bool)
    for mine, theirs in grouped(pairs):
        namesakes = {name for name in mine if plain(name) in map(plain, theirs)}
        group = min(map(network.names.index, namesakes or mine))
        shared[group] = len(mine) > 1
        predictions[[network.names.index(name) for name in mine]] = group
        labels[[other.names.index(name) for name in theirs]] = group
    left_out = tuple(name for name, group in zip(other.names, labels, strict=False) if group == IGNORE_INDEX)
    unused = tuple(name for name, group in zip(network.names, predictions, strict=False) if group == IGNORE_INDEX)
    return ClassMap(labels, predictions, shared, left_out, unused)


def matched(mine: tuple[str, ...], theirs: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the pairs of equal names, and for each class on either side that has none, the pairs of synonyms."""
    pairs = [(a, b) for a in mine for b in theirs if plain(a) == plain(b)]
    with_mate = {a for a, _ in pairs}, {b for _, b in pairs}
    for a in mine:
        for b in theirs:
            if (a not in with_mate[0] or b not in with_mate[1]) and synonymous(a, b):
                pairs.append((a, b))
    return pairs


def synonymous(first: str, second: str) -> bool:
    return any({plain(first), plain(second)} <= names for names in SYNONYMS) and plain(first) != plain(second)


def plain(name: str) -> str:
    """Return a name in lower case with spaces: "SignSymbol", "sign_symbol" and "sign symbol" are the same."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[_\s-]+", " ", name).strip().lower()


def grouped(pairs: list[tuple[str, str]]) -> list[tuple[set[str], set[str]]]:
    """Return the groups that the pairs connect, each with its names on either side."""
    groups = []
    for mine, theirs in pairs:
        touching = [group for group in groups if mine in group[0] or theirs in group[1]]
        groups = [group for group in groups if group not in touching]
        groups.append(({mine}.union(*(a for a, _ in touching)), {theirs}.union(*(b for _, b in touching))))
    return groups


def read_class_map(path: str, mine: tuple[str, ...], theirs: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the classes of the other data set for each class of the network that the file names.

    Raises DataError that names the file and the class.
    """
    file = f"--class_map {path}"
    entries = load_text_yaml(read_start(path, file), file)
    if not isinstance(entries, dict) or not entries:
        raise DataError(f"{file} is not a list of 'class of the network: class of the other data' lines")
    found = {}
    for name, value in entries.items():
        if isinstance(value, list):
            others = value
        else:
            others = [] if value in NOTHING and value not in theirs else [value]
        for kind, given, known in (("the network", [name], mine), ("--eval_dataset", others, theirs)):
            if unknown := [item for item in given if item not in known]:
                raise DataError(f"{file}: {unknown[0]!s:.60} is not a class of {kind}, which has {', '.join(known)}")
        found[name] = others
    return found
