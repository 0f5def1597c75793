"""Write a folder that a hub Space runs: the app, its requirements, a model, and the Space's card.

python app_gradio.py --export_space my_space --model_name_or_path runs/A
hf upload USER/my_space my_space --repo-type space
"""

import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import gradio
import yaml

from seg_jobs.model_paths import HERE, STREET, find_model
from seg_runs.best_model import OF_A_MODEL
from seg_runs.errors import RunError
from seg_runs.files import current_umask, discard, replace_folder, writing

PACKAGES = ("data_scripts", "metrics", "seg_app", "seg_jobs", "seg_models", "seg_runs")
MADE_BY = "Made by app_gradio.py --export_space."  # in the card: such a folder may be replaced
APP = '''"""Start the app with the model beside this file."""

from pathlib import Path

from app_gradio import main

if __name__ == "__main__":
    model = str(Path(__file__).resolve().parent / "model")
    main(["--model_name_or_path", model, "--server_name", "0.0.0.0", "--server_port", "7860"])
'''


def export_space(destination: Path, model: str | None) -> None:
    """Write the folder. `model` is a run folder, a saved model or a hub id; None for the default one.

    Raises RunError if the folder exists and is not one that this function wrote, if the user added files to it, if the
    program runs in it, or if it cannot be written.
    """
    if Path.cwd().is_relative_to(destination.resolve()):
        raise RunError(f"--export_space {destination} would replace the folder that you are in: name another folder")
    if destination.exists() and not is_space(destination):
        raise RunError(f"--export_space {destination} exists already: name another folder")
    _, folder = find_model(model)
    if not any(folder.glob("*.safetensors")):
        raise RunError(f"--export_space: {folder} has no weights as .safetensors: save the model with save_pretrained")
    destination = destination.resolve()  # a link stays a link
    with writing(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
        try:
            write_space(temporary, folder)
            if added := additions(destination, temporary):
                raise RunError(
                    f"--export_space {destination} would delete {added[0]}: move it away, or name another folder"
                )
            temporary.chmod(0o777 & ~current_umask())  # a temporary folder is its owner's only
            discard(*([destination] if destination.exists() else []))
            replace_folder(temporary, destination)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def is_space(folder: Path) -> bool:
    """Whether `export_space` wrote this folder, or it is empty."""
    if not folder.is_dir():
        return False
    card = folder / "README.md"
    return not any(folder.iterdir()) or (card.is_file() and MADE_BY.encode() in card.read_bytes())


def additions(old: Path, new: Path) -> list[Path]:
    """Return the files of the Space `old` that are neither in `new` nor those of another model."""

    def ours(file: Path) -> bool:
        is_model = file.parent == Path("model") and any(map(file.match, OF_A_MODEL))
        return is_model or (new / file).is_file() or "__pycache__" in file.parts

    files = [path.relative_to(old) for path in sorted(old.rglob("*")) if not path.is_dir()]
    return [file for file in files if not ours(file)]


def write_space(folder: Path, model: Path) -> None:
    shutil.copy(HERE / "app_gradio.py", folder)
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(HERE / package, folder / package, ignore=ignored)
    if STREET.is_file():
        (folder / STREET.relative_to(HERE)).parent.mkdir(parents=True)
        shutil.copy(STREET, folder / STREET.relative_to(HERE))
    (folder / "model").mkdir()
    for pattern in OF_A_MODEL:
        for path in model.glob(pattern):
            shutil.copy(path, folder / "model")
    (folder / "app.py").write_text(APP)
    (folder / "requirements.txt").write_text("\n".join(requirements()) + "\n")
    card = {
        "title": "What is each pixel?",
        "emoji": "🚦",
        "colorFrom": "blue",
        "colorTo": "gray",
        "sdk": "gradio",
        "sdk_version": gradio.__version__,
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",  # a Space's own may be too old
        "app_file": "app.py",
        "pinned": False,
        "license": "other",
    }
    front = yaml.safe_dump(card, sort_keys=False, allow_unicode=True)
    text = f"Segments photos. {MADE_BY}"
    if (model / "README.md").is_file():
        text += " `model/README.md` says what the model knows, and under which terms."
    (folder / "README.md").write_text(f"---\n{front}---\n\n{text}\n", encoding="utf-8")


def requirements() -> list[str]:
    """Return the packages that the app needs. A Space installs gradio itself, in the version of its card."""
    try:
        found = requires("minicity-seg") or []
    except PackageNotFoundError as error:
        raise RunError("--export_space needs the installed project: pip install --editable .") from error
    return [line for line in found if "extra ==" not in line and not line.startswith("gradio")]
