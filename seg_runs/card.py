"""Write the model card, README.md of a saved model: what a stranger must know to decide whether to use it.

Everything comes from files, so the card can be written again when the model gets a name on a hub:

    best/config.json                the network and the data that it was trained on
    best/training.json              the training up to these weights, its flags, and their scores (`training_record`)
    best/preprocessor_config.json   the image processor
    args.yaml                       the flags, if training.json lacks them (older runs)
"""

import os
import platform
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .files import read_json
from .lineage import sources_note, sources_that_may_have_seen
from .pace import in_words
from .recipes import read_recipe
from .results import score_summary
from .state import RunState

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NOT_OF_THE_RECIPE = ("report_to",)  # flags that say where to report: whoever repeats the run decides that
PACKAGES = ("torch", "torchvision", "transformers", "accelerate", "datasets", "timm", "minicity-seg")


@dataclass(frozen=True)
class CardFacts:
    """What a card takes from other rooms.

    defaults   the defaults of the flags that args.yaml keeps
    note       maps the configuration of a model to the fields of the `data_scripts.catalog.DataNote` on its data
    own_types  model types whose code lies beside the weights
    """

    defaults: dict
    note: Callable[[dict], dict[str, Any]]
    own_types: tuple[str, ...]

    def note_on_validation(self, config: dict) -> dict[str, Any]:
        """Return what `note` returns for the data of the validation images, which --eval_dataset can name."""
        other = config.get("eval_dataset")
        return self.note({"dataset": other} if other else config)


def training_record(
    model: "PreTrainedModel", state: RunState, seconds: float, scores: dict | None, measured: dict
) -> dict:
    """Return the content of training.json, without the flags.

    seconds   training time so far
    scores    the metric's result, or None without validation
    measured  operations and peak memory, as train_seg.py measures them
    """
    names = [name for _, name in sorted(model.config.id2label.items())]
    return {
        "epoch": state.best_epoch,
        "step": state.step,
        "steps": state.conditions.steps,
        "changes": state.changes,
        "seconds": round(seconds, 1),
        "hardware": f"{state.conditions.processes} x {device_name(model)}, precision {state.conditions.precision}",
        "versions": {"python": platform.python_version(), **versions()},
        "parameters": sum(p.numel() for name, p in model.named_parameters() if not name.startswith("aux_classifier.")),
        **measured,
        "validation": None if scores is None else score_summary(names, scores),
    }


def device_name(model: "PreTrainedModel") -> str:
    if model.device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(model.device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.machine()
    return f"CPU ({name}, {os.cpu_count()} cores)"


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # not installed, only a copy of its files
            continue
    return found


def training_command(arguments: dict, defaults: dict) -> str:
    """Return the command line that repeats a run with `arguments`, the entries of its args.yaml.

    Leaves out flags that equal the `defaults`, and `NOT_OF_THE_RECIPE`.
    """
    words = ["accelerate", "launch", "train_seg.py"]
    for key, value in public_arguments(arguments).items():
        if key not in defaults or key in NOT_OF_THE_RECIPE or value == defaults[key] or value is None:
            continue
        if isinstance(value, bool):
            words.append(f"--{key}" if value else f"--no_{key}")
        else:
            words += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def public_arguments(arguments: dict) -> dict:
    """Return the arguments with absolute paths cut to their last part, since folder names may be private."""
    return {
        key: [_public(item) for item in value] if isinstance(value, list) else _public(value)
        for key, value in arguments.items()
    }


def _public(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def read_card_files(folder: Path, run: Path) -> tuple[dict, dict, dict, dict]:
    """Return configuration, training record, image processor and arguments of a saved model; {} for a missing file.

    The arguments are those of the launch that saved the model. A later one may have changed the run's args.yaml.
    """
    paths = [folder / name for name in ("config.json", "training.json", "preprocessor_config.json")]
    config, record, processor = [read_json(path) if path.exists() else {} for path in paths]
    return config, record, processor, record.get("arguments") or run_arguments(run)


def run_arguments(run: Path) -> dict:
    """Return the flags in the args.yaml of a run; {} if there is none."""
    path = run / "args.yaml"
    return read_recipe(path) if path.exists() else {}


def make_card(
    folder: Path, run: Path, facts: CardFacts, name: str | None = None, pictures: dict[str, str] | None = None
) -> ModelCard:
    """Return the card of the model that `run` saved in `folder`.

    name      the model's id on a hub, if it has one
    pictures  {file name in the model's folder: what it shows}
    """
    config, record, processor, arguments = read_card_files(folder, run)
    note = facts.note(config)
    scores = record.get("validation")
    scored = facts.note_on_validation(config)
    network = arguments.get("model", config["model_type"]).lower()
    network += f" ({arguments['encoder']})" if arguments.get("encoder") else ""
    title = f"{network} with {config.get('norm', 'batch')} norm on {note['title']}"
    results = []
    if scores:
        task = dict(task_type="image-segmentation", task_name="Semantic segmentation")
        name_of_data = config.get("eval_dataset") or config.get("dataset") or "unnamed"
        own = "training_data" in config and not config.get("eval_dataset")
        data = dict(dataset_type="own" if own else name_of_data, dataset_name=scored["title"])
        for key, shown in (("mean_iou", "mIoU"), ("mean_accuracy", "mean accuracy"), ("overall_accuracy", "accuracy")):
            value = dict(metric_type=key, metric_name=f"{shown}, one scale", metric_value=round(scores[key], 4))
            results.append(EvalResult(**task, **data, dataset_split="validation", **value))
    licence = {"license": note["licence"]}
    if note["licence"] == "other":
        licence |= {"license_name": "terms-of-the-training-data", "license_link": note["link"]}
    metadata = ModelCardData(
        model_name=name.split("/")[-1] if name else title.replace(" ", "-"),
        pipeline_tag="image-segmentation",
        library_name="transformers",
        tags=["semantic-segmentation", "vision", "minicity-seg", *network.replace("(", "").replace(")", "").split()],
        metrics=["mean_iou"],
        base_model=base_model(config.get("pretrained")),
        eval_results=results or None,
        **licence,
    )
    sections = [
        f"# {title}",
        introduction(config, record, note, network),
        loading(config, processor, name, carried_packages(folder) if config["model_type"] in facts.own_types else []),
        data_section(config, note),
        score_section(config, record, scored, pictures or {}),
        training_section(record, arguments, facts.defaults, pictures or {}),
        limits_section(scores, note),
    ]
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n", ignore_metadata_errors=True)


def base_model(pretrained: str | None) -> str | None:
    """Return the hub id of the weights that training began with, or None."""
    name = (pretrained or "none").split("@")[0]
    return name if name.count("/") == 1 and " " not in name and not Path(name).is_absolute() else None


def introduction(config: dict, record: dict, note: dict[str, Any], network: str) -> str:
    start = "from scratch: nothing in it is pretrained"
    if config.get("pretrained", "none") != "none":
        start = f"from `{config['pretrained']}`, which has a licence of its own"
    teachers = ""
    if config.get("teachers"):
        named = " and ".join(f"`{entries['name']}` ({what_taught(entries)})" for entries in config["teachers"])
        teachers = f" Besides the labels, it learnt the predictions of {named}."
    size = f"{record['parameters'] / 1e6:.1f} million parameters, " if "parameters" in record else ""
    return (
        f"Semantic segmentation: one of {len(config['id2label'])} classes for each pixel of an image. The network is a "
        f"`{network}` ({size}`--norm {config.get('norm', 'batch')}`), trained on {note['title']} {start}.{teachers} It "
        "was made with minicity-seg, which trains on a few hundred labelled images, and is a `transformers` model."
    )


def what_taught(entries: dict) -> str:
    """Return what a teacher was trained on and began with, from its entry in a configuration."""
    without = f" without fold {entries['fold']}" if entries.get("fold") else ""
    begun = entries.get("pretrained") or "none"
    start = "" if begun == "none" else f", from `{begun}`"
    data = entries.get("dataset") or "unknown data"
    return f"trained on `{entries.get('trained_on') or 'train'}` of {data}{without}{start}"


def carried_packages(folder: Path) -> list[str]:
    """Return the packages without which `transformers` refuses the Python files in a saved model's folder."""
    from transformers.dynamic_module_utils import get_imports

    found = {package for file in folder.glob("*.py") for package in get_imports(file)}
    return sorted(found - sys.stdlib_module_names)


def loading(config: dict, processor: dict, name: str | None, own: Sequence[str]) -> str:
    """Return how to load the model. `own` are the packages that code beside its weights needs, if there is any."""
    where = name or "path/to/this/folder"
    trust = ", trust_remote_code=True" if own else ""
    packages = " ".join(own or ("pillow", "torch", "transformers"))  # torchvision brings pillow with it
    photo = "photo.png" if "training_data" in config else "street.png"
    lines = f"""## Use

`pip install {packages}`, then

```python
from transformers import pipeline
segment = pipeline("image-segmentation", model="{where}"{trust})
masks = segment("{photo}")  # a list of {{"label": class name, "mask": PIL image, "score": None}}
```

or, for logits (B, {len(config["id2label"])}, h, w):

```python
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation
processor = AutoImageProcessor.from_pretrained("{where}")
model = AutoModelForSemanticSegmentation.from_pretrained("{where}"{trust})
logits = model(**processor(images=image, return_tensors="pt")).logits
```

"""
    size = processor.get("size") or {}
    seen = f"resized to {size.get('height')}x{size.get('width')}" if processor.get("do_resize") else "at their own size"
    lines += f"The network sees images {seen}; the image processor prepares them as validation did."
    if own:
        lines += (
            " The Python files beside the weights build the network, and `trust_remote_code=True` runs them: read them "
            "first. Where minicity-seg is installed, `import seg_models.models` instead. `pipeline` logs "
            '"The model ... is not supported for image-segmentation", because its list has only the classes of '
            "`transformers`; it works nevertheless."
        )
    return lines


def data_section(config: dict, note: dict[str, Any]) -> str:
    title = f"[{note['title']}]({note['link']})" if note["link"] else note["title"]
    trained_on, images = config.get("trained_on", "train"), config.get("train_images")
    number = f", {images} images," if images else ""
    classes = ", ".join(cell(name) for _, name in sorted(config["id2label"].items(), key=lambda item: int(item[0])))
    without = f" without the images of fold {config['fold']}" if config.get("fold") else ""
    without += split_sizes(config.get("training_data", {}), config.get("val_share"))
    return (
        f"## Data\n\nTrained on the split `{trained_on}`{number} of {title}{without}, with these classes: {classes}. "
        f"Pixels of other classes are ignored.\n\n**Licence.** {note['note']} The code is Apache-2.0."
    )


def split_sizes(facts: dict, share: float | None) -> str:
    """Return how many images the splits of the user's own data have, and which share was held out; "" if neither."""
    parts = []
    if "images" in facts:
        parts.append(", ".join(f"{count} {split}" for split, count in facts["images"].items()) + " images")
    if share is not None:
        parts.append(f"{share:.0%} were held out for validation, with near-duplicates together")
    return f" ({'; '.join(parts)})" if parts else ""


def held_out(config: dict) -> str:
    """Return which images were held out of the training split to be validated on, or "" if none were."""
    if config.get("fold"):
        return f"the images of fold {config['fold']}"
    return "the held-out training images" if config.get("val_share") else ""


def score_section(config: dict, record: dict, note: dict[str, Any], pictures: dict[str, str]) -> str:
    scores = record.get("validation")
    lines = ["## Scores", ""]
    if scores is None:
        return "\n".join([*lines, "Not measured: all labelled images were used for training."])
    where = held_out(config) or "the validation split"
    chosen = "those that scored best on these images, so expect a little less elsewhere"
    if config.get("select") == "last":
        last = "the last of the training" if record["step"] == record["steps"] else "those of the newest validation"
        chosen = f"{last}; they were not chosen by these scores"
    scored = config.get("eval_dataset") or config.get("dataset")
    known = sources_that_may_have_seen(config, scored, "val", config.get("held_out"))
    lines += [
        f"Measured on {where} of {note['title']}, at one scale; every labelled pixel counts once, at the labels' own "
        "resolution. "
        f"These weights are {chosen}.",
        *(["", note["validation"]] if note["validation"] and not held_out(config) else []),
        *(["", f"Beware: {sources_note(known)}."] if known else []),
        "",
        "| class | IoU | accuracy |",
        "|---|---|---|",
    ]
    for name, iou in scores["iou"].items():
        lines.append(f"| {cell(name)} | {number(iou)} | {number(scores['accuracy'][name])} |")
    lines += [f"| **mean** | **{scores['mean_iou']:.4f}** | **{scores['mean_accuracy']:.4f}** |", ""]
    dash = " A dash marks a class that does not occur there." if None in scores["iou"].values() else ""
    lines.append(f"Pixel accuracy {scores['overall_accuracy']:.4f}.{dash}")
    lines += [f"\n![{what}]({file})" for file, what in pictures.items() if "curve" not in file]
    return "\n".join(lines)


def cell(text: str) -> str:
    """Return text for Markdown, in which nothing is markup, nor the end of a table's cell."""
    return re.sub(r"([|<\[\]`*])", r"\\\1", text)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def training_section(record: dict, arguments: dict, defaults: dict, pictures: dict[str, str]) -> str:
    lines = ["## Training", ""]
    if arguments:
        lines += ["```", training_command(arguments, defaults), "```", ""]
    if record:
        installed = ", ".join(f"{package} {release}" for package, release in record["versions"].items())
        lines += [
            f"These are the weights after epoch {record['epoch']}, step {record['step']} of {record['steps']}, "
            f"{in_words(record['seconds'])} after the start, on {record['hardware']}. Seed {arguments.get('seed')}.",
            "",
            *changes_note(record.get("changes", [])),
            f"Versions: {installed}.",
        ]
    lines += [f"\n![{what}]({file})" for file, what in pictures.items() if "curve" in file]
    return "\n".join(lines).rstrip()


def changes_note(changes: list[str]) -> list[str]:
    """Return the lines on what changed when a run resumed, `RunState.changes`."""
    if not changes:
        return []
    lead = "The command above alone does not repeat this run, which was resumed with changes:"
    return [lead, "", *(f"- {change}" for change in changes), ""]


def limits_section(scores: dict | None, note: dict[str, Any]) -> str:
    lines = (
        "## Intended use and limits\n\nFor research, teaching and comparison of training methods on little data, and "
        f"as initial weights for networks on similar images. {note['limits']} Every pixel gets one of the classes "
        "above, even if it shows something else. Do not use it where people could be harmed, above all not for driving."
    )
    if scores:
        known = sorted((iou, name) for name, iou in scores["iou"].items() if iou is not None)
        weak = [f"{cell(name)} ({iou:.2f})" for iou, name in known[:5] if iou < 0.5]
        lines += f" Its lowest IoU{'s' * (len(weak) > 1)}: {', '.join(weak)}." if weak else ""
        absent = [cell(name) for name, iou in scores["iou"].items() if iou is None]
        lines += f" Not validated, because the images show none: {', '.join(absent)}." if absent else ""
    return lines
