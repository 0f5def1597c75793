"""What the page says of a model before it is loaded: classes, card, examples. Needs no torch."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from huggingface_hub import ModelCard

from data_scripts.catalog import UNNAMED, data_note, dataset_of_classes, named_dataset
from data_scripts.fold_files import Division, divided
from data_scripts.labels import DataError
from data_scripts.sources import load_source
from seg_jobs.model_paths import STREET, default_model, find_model, read_arguments
from seg_runs.files import read_json
from seg_runs.state import is_number
from seg_runs.temperatures import read_temperatures

STREETS = ("cityscapes", "minicity", "camvid", "camvid32", "kitti", "virtual_kitti")  # data sets of streets


@dataclass(frozen=True)
class Facts:
    """What is known of a model; "" and 0 for what its files do not say.

    classes           number of classes
    data              title of the data set that it was trained on
    score             its mIoU, in words
    limits            what its card says of intended use and limits, in Markdown
    has_temperatures  whether `predict_seg.py --calibrate` stored a temperature
    examples          paths of photos
    publishable       whether the examples may be shown in public
    """

    classes: int = 0
    data: str = ""
    score: str = ""
    limits: str = ""
    has_temperatures: bool = False
    examples: list[str] = field(default_factory=list)
    publishable: bool = True


def facts_of(model: str) -> Facts:
    """Return what the files of a model say: a run folder, a saved model or a hub id.

    Raises RunError if it is nowhere, or if its config.json or args.yaml cannot be read.
    """
    results, folder = find_model(model)
    config = read_json(folder / "config.json")
    arguments = read_arguments(results)
    names = config.get("id2label")
    names = [str(name) for name in names.values()] if isinstance(names, dict) else []
    dataset = config.get("dataset")
    dataset = named_dataset(dataset, names) if isinstance(dataset, str) else None  # loading refuses a damaged entry
    dataset = arguments.get("dataset") or dataset or dataset_of_classes(names)
    examples = example_images(dataset, arguments)
    return Facts(
        classes=len(names),
        **from_card(folder, dataset),
        has_temperatures=bool(read_temperatures(folder)),
        examples=examples,
        publishable=data_note(dataset).publishable or examples in ([], [str(STREET)]),
    )


def from_card(folder: Path, dataset: str | None) -> dict[str, str]:
    """Return what the model's card says: `data`, `score` and `limits`; "" for what it does not say.

    dataset  key of the data set in the catalogue
    """
    title = data_note(dataset).title
    facts = {"data": "" if title == UNNAMED else title, "score": "", "limits": ""}
    try:
        card = ModelCard.load(folder / "README.md")
        results = card.data.eval_results or []
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError):  # no card, or another kind
        return facts
    for result in results:
        if result.metric_type == "mean_iou" and is_number(result.metric_value) and 0 <= result.metric_value <= 1:
            name = str(result.dataset_name)  # in a stranger's card it may be a number
            facts["data"] = facts["data"] or (name if name != UNNAMED else "")
            facts["score"] = f"mIoU {result.metric_value:.3f} on its {result.dataset_split or 'validation'} images"
            break
    _, _, limits = card.text.partition("## Intended use and limits")
    facts["limits"] = limits.partition("\n## ")[0].strip()
    return facts


def example_images(dataset: str | None, trained: dict) -> list[str]:
    """Return paths of test or validation images of the model's data set.

    trained  flags of the run, or {}

    Where the data set is not on this machine: a photo of a street if it shows streets, else [].
    """
    if dataset is None:
        return []
    path = trained.get("dataset_path")
    division = Division(val_share=trained.get("val_share"), group_by=trained.get("group_by"))
    try:
        data, labels = load_source(dataset, path)
        data = data if "test" in data else divided(data, labels, division, dataset, path)
    except DataError:
        return [str(STREET)] if dataset in STREETS and STREET.is_file() else []
    split = data["test"] if "test" in data else data["validation"]
    return [image["path"] for image in split["image"]]


def models_by_name(given: list[str] | None) -> dict[str, str]:
    """Return {name that users see: model}: a hub id as given, else the name of the folder, never a whole path.

    The second model of a name gets the number 2, and so on.
    """
    named = {}
    for model in given or [str(default_model())]:
        path = Path(model)
        parts = path.resolve().parts if path.exists() else path.parts[-2:]
        parts = parts[:-1] if parts[-1] == "best" and len(parts) > 1 else parts
        short = parts[-1] if path.exists() else "/".join(parts)
        if not path.exists() and model.partition("@")[0].count("/") == 1:  # a hub id; its revision may have slashes
            short = model
        short = short.translate(str.maketrans("{}", "()"))  # the server takes braces for files
        numbers = itertools.count(2)
        name = short
        while name in named:
            name = f"{short} ({next(numbers)})"
        named[name] = model
    return named
