"""Read run folders, put runs of one configuration together, and compare these groups."""

import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .epoch_rows import read_rows
from .errors import RunError, os_reason
from .files import read_json
from .parsing import as_given
from .recipes import read_recipe
from .report_noise import Difference, Fit, mean_and_deviation
from .run_folder import public_name
from .temperatures import relevant

RECORD = "best/training.json"  # has the scores on the validation images of the run
MEANS = {"mean_iou": "mean IoU", "mean_accuracy": "mean accuracy", "overall_accuracy": "pixel accuracy"}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")  # owner/name; any other --dataset_name is a folder
REPEATS = ("fold", "seed")  # flags by which runs of one group differ


@dataclass(frozen=True)
class Flags:
    """What is known of the flags of train_seg.py.

    defaults        {flag: default}; an older run may lack a flag, and behaved as its default does
    needs           {flag: other flags}: the flag has an effect only if the others have certain values
    images          flags that say which images and labels a run is scored on
    without_effect  flags that change no score
    check           raises RunError if the args.yaml of a run has a value that a flag does not take
    """

    defaults: Mapping[str, Any]
    needs: Mapping[str, Sequence[str]]
    images: Sequence[str]
    without_effect: Collection[str] = ()
    check: Callable[[Path], None] = lambda path: None


@dataclass(frozen=True)
class FinishedRun:
    """A complete run, as its folder describes it. What an older run did not record is None.

    folder      the run folder
    flags       the flags that bear on its scores, without `REPEATS`; None in args.yaml stands for the default
    fold, seed  the others
    images      which validation images and classes it is scored on
    means       scores by name (`MEANS`), nan where undefined
    iou         IoU by class, nan where undefined
    epochs      the rows of log_epoch.csv
    best_epoch  epoch of the weights in best/
    settings    how predict_seg.py measured the scores, such as the scales and --crf; {} if training did
    record      the other entries of training.json
    """

    folder: Path
    flags: dict
    fold: str | None
    seed: int | None
    images: tuple
    means: dict[str, float]
    iou: dict[str, float]
    epochs: list[dict]
    best_epoch: int | None
    settings: dict
    record: dict

    @property
    def mean_iou(self) -> float:
        return self.means["mean_iou"]

    @property
    def seconds(self) -> float | None:
        """Duration of the training with its validations."""
        known = [row["seconds"] for row in self.epochs if row.get("seconds") is not None]
        return sum(known) if known else None

    @property
    def peak_memory(self) -> float | None:
        """Largest number of bytes that a process held."""
        return _positive(self.record.get("peak_memory"))

    @property
    def parameters(self) -> float | None:
        return _positive(self.record.get("parameters"))

    @property
    def macs(self) -> float | None:
        """Multiply-adds of the network for one image of `image_size`."""
        operations = self.record.get("operations")
        return _positive(operations.get("macs")) if isinstance(operations, dict) else None

    @property
    def image_size(self) -> str | None:
        """Height and width of the image for which `macs` counts."""
        operations = self.record.get("operations")
        size = operations.get("size") if isinstance(operations, dict) else None
        return "x".join(map(str, size)) if isinstance(size, list) else None

    @property
    def hardware(self) -> str:
        return str(self.record.get("hardware", "unknown hardware"))


def _positive(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) and value > 0 else None


def read_runs(folders: Iterable[Path], scores: str, flags: Flags) -> tuple[list[FinishedRun], list[tuple[Path, str]]]:
    """Return the complete runs among `folders`, and the other folders, each with the reason why it is left out.

    scores  name of the file of scores in each run folder
    """
    folders = list(folders)
    files = [path for path in folders if path.is_file()]
    runs = []
    left_out = []
    seen = {}
    if files:  # a shell's runs/* names log files too
        left_out.append((files[0], "it is a file" if len(files) == 1 else f"it is one of {len(files)} files"))
    for folder in [path for path in folders if path not in files]:
        try:
            run = read_run(folder, scores, flags)
        except RunError as error:
            left_out.append((folder, str(error).replace(f"{folder}{os.sep}", "")))
            continue
        key = run.folder.resolve()
        same = seen.get(key) or next((other.folder for other in runs if is_repeated(run, other)), None)
        if key in seen:
            left_out.append((folder, "it is named twice"))
        elif same is not None:
            left_out.append((folder, f"it repeats {same.name}: same flags, seed and scores"))
        else:
            seen[key] = folder
            runs.append(run)
    return runs, left_out


def is_repeated(run: FinishedRun, other: FinishedRun) -> bool:
    """Whether two runs are one experiment: equal flags, seed and scores, which tell nothing about noise."""
    same = (run.flags, run.images, run.seed) == (other.flags, other.images, other.seed)
    if not same or run.iou.keys() != other.iou.keys():
        return False
    return all(is_equal(score, other.iou[name]) for name, score in run.iou.items())


def is_equal(score: float, other: float) -> bool:
    """Whether two scores are equal; two undefined ones (nan) are."""
    return score == other or (math.isnan(score) and math.isnan(other))


def read_run(folder: Path, scores: str, flags: Flags) -> FinishedRun:
    """Return the run of a folder. Raises RunError that says why it is no complete run, or what is damaged."""
    if not folder.is_dir():
        raise RunError("it does not exist")
    if not (folder / "args.yaml").is_file():
        raise RunError("it is not a run folder: it has no args.yaml")
    if not (folder / "results.json").is_file():
        raise RunError(f"it is not finished: {_progress(folder)}")
    if not (folder / scores).is_file():
        raise RunError(f"it has no {scores}")
    found, results = read_json(folder / scores), read_json(folder / "results.json")
    record = read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    if scores == RECORD:
        found = record.get("validation")
    if found is None:
        raise RunError("it was not validated")
    try:
        means = {key: _score(found[key]) for key in MEANS}
        iou = {str(name): _score(value) for name, value in found["iou"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"cannot read {folder / scores}: it holds no scores as a run or a prediction writes them"
        ) from error
    if math.isnan(means["mean_iou"]):
        raise RunError("it has no mean IoU")
    flags.check(folder / "args.yaml")
    given = filled_in(read_recipe(folder / "args.yaml"), flags)
    own = {key: value for key, value in given.items() if key not in (*REPEATS, *flags.without_effect)}
    own["classes"] = list(iou)  # of the data set, which classes.yaml may have changed meanwhile
    images = (*(str(given.get(key)) for key in flags.images), *iou)
    fold = None if given.get("fold") is None else str(given["fold"])
    epochs = read_epochs(folder / "log_epoch.csv")
    best = results.get("best_epoch")
    best = best if isinstance(best, int) else None
    settings = relevant(found["settings"]) if isinstance(found.get("settings"), dict) else {}
    return FinishedRun(folder, own, fold, given.get("seed"), images, means, iou, epochs, best, settings, record)


def _score(value: float | None) -> float:
    number = float("nan") if value is None else float(value)
    if not (math.isnan(number) or 0 <= number <= 1):
        raise ValueError(value)
    return number


def _progress(folder: Path) -> str:
    """Return how far an unfinished run has come."""
    try:
        epochs = read_epochs(folder / "log_epoch.csv")
    except RunError as error:
        return os_reason(error).replace(f"{folder}{os.sep}", "")
    return f"{len(epochs)} epoch{'s are' if len(epochs) != 1 else ' is'} logged"


def read_epochs(path: Path) -> list[dict]:
    """Return the rows of log_epoch.csv with an epoch, without numbers that are not finite; [] if there is no file."""
    if not path.exists():
        return []
    rows = read_rows(path)
    if rows and rows[0].get("epoch") is None:
        raise RunError(f"cannot read {path}: it has no column epoch")
    finite = [{k: v if v is None or math.isfinite(v) else None for k, v in row.items()} for row in rows]
    return [row for row in finite if row["epoch"] is not None]


def filled_in(given: dict, flags: Flags) -> dict:
    """Return all flags of a run. What args.yaml lacks, or holds null for, is the default."""
    values = {**flags.defaults, **{key: value for key, value in given.items() if value is not None}}
    if values.get("max_train_steps") is not None:
        values.pop("epochs", None)
    if values.get("dataset") != "folder":  # elsewhere, --dataset names the data
        values.pop("dataset_path", None)
    folders = [] if HUB_ID.fullmatch(str(values.get("dataset_name"))) else ["dataset_name"]
    for key in (*folders, "dataset_path", "folds", "class_map"):  # the same file may lie elsewhere on another machine
        values[key] = Path(str(values[key])).name if values.get(key) else None
    if isinstance(values.get("eval_dataset"), list):
        name, *path = map(str, values["eval_dataset"])
        values["eval_dataset"] = [name, *(Path(part).name for part in path if name == "folder")]
    for key in ("init_from", "pretrained_encoder"):
        values[key] = public_name(values[key]) if isinstance(values.get(key), str) else None
    if isinstance(values.get("teacher"), list):
        values["teacher"] = [public_name(str(name)) for name in values["teacher"]]
    if values.get("dataset") is not None:
        values["dataset"] = str(values["dataset"])
    return values


class Group:
    """The runs of one configuration: they differ in seed and fold only."""

    def __init__(self, runs: Sequence[FinishedRun]):
        self.runs = list(runs)
        self.flags = runs[0].flags

    def scores(self, name: str | None = None) -> list[float]:
        """Return the IoU of a class in each run, or without `name` the mean IoU."""
        return [run.mean_iou if name is None else run.iou.get(name, math.nan) for run in self.runs]

    def mean_of(self, attribute: str) -> float | None:
        """Return the mean of a number over the runs that recorded it."""
        known = [value for run in self.runs if (value := getattr(run, attribute)) is not None]
        return sum(known) / len(known) if known else None

    @property
    def repeats(self) -> str:
        """The number of runs, and their seeds and folds."""
        count = len(self.runs)
        found = []
        for title, values in (("fold", [r.fold for r in self.runs]), ("seed", [r.seed for r in self.runs])):
            known = list(dict.fromkeys(str(value) for value in values if value is not None))
            found += [f"{title}{'s' if len(known) > 1 else ''} {', '.join(known)}"] if known else []
        return "; ".join([f"{count} run{'s' if count > 1 else ''}", *found])


class Comparison:
    """Groups of runs, the best first.

    groups    the groups
    baseline  index of the group that the others are compared with
    varying   flags that not all groups have in common
    classes   names of the classes
    """

    def __init__(self, runs: Sequence[FinishedRun], flags: Flags, baseline: Path | None = None):
        """Compare `runs`. `baseline` is the folder of a run of the baseline; without it, `choose_baseline` chooses."""
        self.groups = sorted(grouped(runs), key=lambda group: -_known(mean_and_deviation(group.scores())[0]))
        self.varying = varying_flags(self.groups)
        self._needs = flags.needs
        self.classes = list(dict.fromkeys(name for run in runs for name in run.iou))
        self.baseline = self.choose_baseline(flags) if baseline is None else self.group_of(baseline)

    def group_of(self, folder: Path) -> int:
        for i, group in enumerate(self.groups):
            if folder.resolve() in [run.folder.resolve() for run in group.runs]:
                return i
        raise RunError(
            f"--baseline {folder} is not among the runs that are compared: name it among the run folders too"
        )

    def choose_baseline(self, flags: Flags) -> int:
        """Return the group from which most others differ in one flag.

        Of equals, the one with most flags at their defaults, then the one with most runs.
        """

        def rank(i: int) -> tuple[int, int, int]:
            group = self.groups[i]
            neighbours = sum(len(self.changes(k, i)) == 1 for k in range(len(self.groups)) if k != i)
            plain = sum(group.flags.get(key) == flags.defaults.get(key) for key in self.varying)
            return neighbours, plain, len(group.runs)

        return max(range(len(self.groups)), key=rank)

    def changes(self, group: int, other: int) -> dict[str, list[str]]:
        """Return the flags in which two groups differ, each with those that only detail it and differ too."""
        mine = self.groups[group].flags
        its = self.groups[other].flags
        found = [key for key in self.varying if mine.get(key) != its.get(key)]
        mains = {key: self._main(key, found) for key in found}
        return {main: [key for key in found if mains[key] == main != key] for main in dict.fromkeys(mains.values())}

    def _main(self, key: str, found: Sequence[str]) -> str:
        """Return the flag among `found` that `key` details, directly or through others, or `key` itself."""
        seen = {key}
        while needed := [other for other in self._needs.get(key, ()) if other in found and other not in seen]:
            key = needed[0]
            seen.add(key)
        return key

    def name(self, group: int) -> str:
        """Return what a group changes in the baseline: "norm evo, loss weighted_ce (class_weights enet)"."""
        flags = self.groups[group].flags
        parts = []
        for main, details in self.changes(group, self.baseline).items():
            if main == "classes":
                parts.append(other_classes(flags[main], self.groups[self.baseline].flags[main]))
                continue
            text = ", ".join(worded(key, flags.get(key)) for key in details if flags.get(key) is not None)
            parts.append(worded(main, flags.get(main)) + (f" ({text})" if text else ""))
        return ", ".join(parts) if parts else "baseline"

    @cached_property
    def fits(self) -> dict[str | None, Fit]:
        """The fit of the mean IoU (None) and of the IoU of each class.

        Groups on other images than the baseline are left out: runs on other data have another noise.
        """
        return {name: self._fit(name, self.comparable) for name in (None, *self.classes)}

    @cached_property
    def comparable(self) -> list[int]:
        """The groups that share images with the baseline, directly or through others."""
        every = self._fit(None, range(len(self.groups)))
        return [i for i in range(len(self.groups)) if every.difference(i, self.baseline) is not None]

    def _fit(self, name: str | None, chosen: Sequence[int]) -> Fit:
        runs = [(i, run) for i in chosen for run in self.groups[i].runs]
        scores = [score for i in chosen for score in self.groups[i].scores(name)]
        return Fit([i for i, _ in runs], [run.images for _, run in runs], scores)

    def gain(self, group: int, name: str | None = None) -> Difference | None:
        """Return how much a group scores above the baseline in a class, or in mean IoU; None if on other images."""
        return self.fits[name].difference(group, self.baseline)

    def best(self, name: str | None = None) -> tuple[int | None, list[int]]:
        """Return the group with the highest score, and the groups that noise does not separate from it.

        Leaves out groups that are scored on other images than the baseline.
        """
        known = [i for i in self.comparable if self.gain(i, name) is not None]
        if not known:
            return None, []
        best = max(known, key=lambda i: self.gain(i, name).value)
        differences = {i: self.fits[name].difference(i, best) for i in known if i != best}
        return best, [i for i, difference in differences.items() if difference.is_noise]


def _known(value: float) -> float:
    return -1.0 if math.isnan(value) else value


def grouped(runs: Iterable[FinishedRun]) -> list[Group]:
    """Return the runs in groups of one configuration, in the order of their first runs."""
    groups: list[list[FinishedRun]] = []
    for run in runs:
        group = next((group for group in groups if group[0].flags == run.flags), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    return [Group(group) for group in groups]


def varying_flags(groups: Sequence[Group]) -> list[str]:
    """Return the flags that not all groups have in common, in the order of args.yaml."""
    every = dict.fromkeys(key for group in groups for key in group.flags)
    first = groups[0].flags
    return [key for key in every if any(group.flags.get(key) != first.get(key) for group in groups)]


def other_classes(names: Sequence[str], usual: Sequence[str]) -> str:
    """Return how the classes of a run differ from the usual ones: "classes without bus, with tram"."""
    missing = [name for name in usual if name not in names]
    added = [name for name in names if name not in usual]
    parts = [f"{word} {', '.join(some)}" for word, some in (("without", missing), ("with", added)) if some]
    return f"classes {', '.join(parts) or 'in another order'}"


def worded(key: str, value: Any) -> str:
    """Return a flag and its value as short words: "norm evo", "cutmix", "no hflip"."""
    if isinstance(value, bool):
        return key if value else f"no {key}"
    return f"{key} {'default' if value is None else as_given(value)}"
