"""Find the folder of a trained model. Needs no torch, so that a wrong name is refused at once."""

import shlex
from dataclasses import asdict
from pathlib import Path

from data_scripts.arguments import DataOptions
from seg_models.hub_folders import hub_folder
from seg_runs import run_folder
from seg_runs.errors import RunError, os_reason
from seg_runs.parsing import read_options

HERE = Path(__file__).resolve().parent.parent
SHIPPED = HERE / "checkpoints" / "camvid_streetnet"  # the network that comes with the project
STREET = HERE / "docs" / "images" / "street.jpg"  # a photo that comes with the project


def check_models(names: list[str] | None) -> None:
    """Raise an error if one of the models `names`, or the default one for None, is nowhere."""
    for name in names or [None]:
        find_model(name)


def find_model(name: str | None, flag: str = "--model_name_or_path") -> tuple[Path, Path]:
    """Return the folder for results and the folder of the saved model.

    name  a run folder, a saved model, or a hub id; None for `default_model`
    flag  where the name was given, for errors
    """
    if name == "":  # most often a shell's variable that is not set
        raise RunError(f"{flag} is empty: give a run folder, a saved model, or a hub id")
    folder = default_model() if name is None else Path(name)
    if name is not None and not is_there(folder, flag):
        return Path("predictions") / name.replace("/", "--"), Path(hub_folder(name, flag))
    if folder.resolve().parent == HERE / "checkpoints":  # write no results into the repository's own files
        return Path("predictions") / folder.resolve().name, folder
    if has_best(folder):
        return folder, folder / "best"
    if not (folder / "config.json").is_file():
        raise RunError(f"{flag} {folder} is neither a run folder with best/ nor a saved model")
    return (folder.parent if folder.name == "best" else folder), folder


def default_model() -> Path:
    """Return the newest finished run in runs/, or the network that comes with the project if there is none."""
    run = run_folder.newest_run()
    if run is None and not (SHIPPED / "config.json").is_file():
        raise RunError(
            f"no finished run in {run_folder.RUNS}/: train one with train_seg.py, or give --model_name_or_path"
        )
    return run or SHIPPED


def note_on_default() -> str | None:
    """Return what to say to a user who named no model, if `default_model` may not be what she expects."""
    model = default_model()
    unfinished = run_folder.newest_unfinished_run()
    if unfinished:
        name = shlex.quote(str(unfinished))
        as_it_is = f", or use its best weights so far: --model_name_or_path {name}" if has_best(unfinished) else ""
        return (
            f"note: {unfinished} is not finished, so this uses {model}. Finish it: accelerate launch train_seg.py "
            f"--resume_from_checkpoint {name}{as_it_is}"
        )
    if model == SHIPPED:
        return (
            f"note: {run_folder.RUNS}/ holds no finished run: using the network that comes with the project, {SHIPPED} "
            "(for a run elsewhere, give --model_name_or_path RUN)"
        )
    return None


def has_best(run: Path) -> bool:
    return (run / "best" / "config.json").is_file()


def is_there(folder: Path, flag: str) -> bool:
    """Whether `folder` exists. Raises RunError, which names `flag`, if the system cannot tell."""
    try:
        return folder.exists()
    except OSError as error:  # such as a name that is too long
        raise RunError(f"{flag} {folder}: {os_reason(error)}") from error


def read_arguments(run: Path) -> dict:
    """Return the flags of a run that say what it read, from its args.yaml; {} for a model that is not in a run folder.

    Raises RunError if one of them is not valid.
    """
    path = run / "args.yaml"
    return asdict(read_options(DataOptions, path)) if path.exists() else {}
