"""The command lines of the three scripts, put together from the options of each package.

Each package defines its own flags in `arguments.py`. `seg_runs/parsing.py` parses them. `--help` lists them in the
order of the fields below.
"""

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from transformers.hf_argparser import HfArg

from data_scripts.arguments import AugmentOptions, DataOptions, InputOptions, ScoringOptions
from data_scripts.labels import DataError
from seg_models.arguments import DistillOptions, LossOptions, NetworkOptions, ViewOptions
from seg_models.errors import ModelError
from seg_runs.arguments import HubOptions, OptimizationOptions, ResultOptions, RunOptions
from seg_runs.errors import RunError, one_line_errors
from seg_runs.parsing import parse_arguments


@dataclass(frozen=True)
class TrainArguments:
    """Train a segmentation network from scratch on a few hundred images."""

    data: DataOptions = field(default_factory=DataOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    augmentation: AugmentOptions = field(default_factory=AugmentOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    distillation: DistillOptions = field(default_factory=DistillOptions)
    optimization: OptimizationOptions = field(default_factory=OptimizationOptions)
    run: RunOptions = field(default_factory=RunOptions)
    hub: HubOptions = field(default_factory=HubOptions)

    def __post_init__(self):
        if self.hub.push_to_hub and self.run.predict:
            raise RunError("--push_to_hub and --predict exclude each other: only training uploads a model")


@dataclass(frozen=True)
class PredictArguments:
    """Predict a split or a folder of images, and score the predictions if there are labels."""

    results: ResultOptions = field(default_factory=ResultOptions)
    images: InputOptions = field(default_factory=InputOptions)
    views: ViewOptions = field(default_factory=ViewOptions)

    def __post_init__(self):
        if self.results.zip and self.images.input is not None:
            raise RunError("--zip and --input exclude each other: a challenge's server takes the images of a split")


NOT_IN_A_SPACE = {
    name: "the Space that it writes starts without this flag"
    for name in (
        "trust_remote_code",
        "examples",
        "test_size",
        "max_megapixels",
        "max_file_size",
        "server_name",
        "server_port",
        "auth",
        "share",
    )
}


@dataclass(frozen=True)
class AppArguments:
    """Segment photos in the browser."""

    model_name_or_path: list[str] | None = HfArg(
        default=None,
        help="run folders, saved models or Hugging Face Hub ids to choose from (default: the newest finished "
        "run in runs/, else the network that comes with the project)",
        aliases=["--save_path"],
        metadata={"metavar": "MODEL"},
    )
    trust_remote_code: bool = HfArg(default=False, help="run the Python code that comes with the models")
    examples: str | None = HfArg(
        default=None,
        help="folder of example photos (default: images of the model's data set, or a street)",
        metadata={"metavar": "FOLDER"},
    )
    test_size: list[int] | None = HfArg(
        default=None,
        help="resize photos to this height and width for the network (default: as in validation)",
        metadata={"kind": "size"},
    )
    max_megapixels: int = HfArg(
        default=30, help="largest photo in megapixels; larger ones are refused before decoding", metadata={"least": 1}
    )
    max_file_size: int = HfArg(default=50, help="largest upload in megabytes", metadata={"least": 1})
    server_name: str = HfArg(
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 (IPv6: ::) accepts connections from other machines",
        metadata={"metavar": "ADDRESS"},
    )
    server_port: int | None = HfArg(
        default=None,
        help="port to listen on (default: the first free one from 7860)",
        metadata={"least": 1, "most": 65535},
    )
    auth: list[str] | None = HfArg(
        default=None,
        help="let in only these users, each given as NAME:PASSWORD",
        metadata={"metavar": "NAME:PASSWORD"},
    )
    export_space: str | None = HfArg(
        default=None,
        help="do not start; write a folder that a hub Space runs, with the model",
        metadata={"metavar": "FOLDER", "excludes": NOT_IN_A_SPACE},
    )
    share: bool = HfArg(
        default=False,
        help="also publish the page at a public gradio.live address for up to a week; gradio.live sees all photos",
    )

    def __post_init__(self):
        for number, entry in enumerate(self.auth or (), 1):  # a password must not appear in an error
            name, colon, password = entry.partition(":")
            if not (name and colon and password):
                raise RunError(f"--auth: user number {number} is not of the form NAME:PASSWORD")
        names = [entry.partition(":")[0] for entry in self.auth or ()]
        if len(set(names)) < len(names):
            raise RunError("--auth: a user is given twice, so only the last password would count: give each user once")
        if self.export_space and len(self.model_name_or_path or ()) > 1:
            raise RunError("--model_name_or_path: a Space has one model, so give one with --export_space")


def answer_early(script: str, kind: type, check: Callable[[Any], None] | None = None) -> None:
    """Parse the command line before the script loads torch, so that `--help` and wrong flags are answered at once.

    Then stop the search for garbage until `spare_libraries`, because loading libraries makes little.

    script  `__name__` of the script; an imported script parses nothing
    kind    dataclass of its flags
    check   raises an error for flags that name what is not there
    """
    if script == "__main__":
        with one_line_errors(DataError, ModelError):
            args = parse_arguments(kind, sys.argv[1:])
            if check is not None:
                check(args)
        gc.disable()


def prediction_of(args: TrainArguments) -> PredictArguments:
    """Return the arguments of predict_seg.py that `train_seg.py --predict` stands for.

    Raises RunError if the run folder does not exist.
    """
    run = args.run.output_dir
    if run and not Path(run).is_dir():  # else it could be the name of a model on the hub
        raise RunError(f"--output_dir {run}: there is no such run folder, so --predict has no network")
    return PredictArguments(
        results=ResultOptions(model_name_or_path=[run] if run else None),
        images=InputOptions(**{option.name: getattr(args.data, option.name) for option in fields(ScoringOptions)}),
        views=ViewOptions(
            test_size=args.network.test_size,
            mst=args.run.mst,
            eval_output_stride=args.network.eval_output_stride,
        ),
    )
