"""Upload a run to a hub. The repository holds:

    README.md                                                                       the card, with the repository's name
    config.json, model.safetensors, preprocessor_config.json, training.json, *.py   from best/
    args.yaml, log_epoch.csv, learning_curve.png, tensorboard/, validation.png      from the run

Uploads never stop a training or change a run's files. They are made from a copy, in the background, and are retried; if
all attempts fail, a warning gives the command that repeats them. huggingface_hub handles the token (`hf auth login` or
$HF_TOKEN). It appears in no message, because all messages go through `without_token`.
"""

import shlex
import shutil
import tempfile
import threading
import time
from pathlib import Path

import yaml

from .arguments import HubOptions
from .best_model import BEST_IS_WHOLE
from .card import CardFacts, make_card, public_arguments, read_card_files
from .errors import RunError, is_first_process, os_line
from .files import damage, write_atomically

ATTEMPTS = 3
PAUSE = 10.0  # seconds before the second attempt, six times as long before the third


def hub_flags(options: HubOptions) -> str:
    """Return the flags to repeat when the run is resumed: args.yaml does not record where to push."""
    if not options.push_to_hub:
        return ""
    private = " --hub_private" if options.hub_private else ""
    strategy = f" --hub_strategy {options.hub_strategy}"
    return f" --push_to_hub --hub_model_id {shlex.quote(options.hub_model_id)}{private}{strategy}"


def publish_command(run: Path, repository: str, private: bool) -> str:
    command = f"python -m seg_runs.publish {shlex.quote(str(run))} --hub_model_id {repository}"
    return command + (" --hub_private" if private else "")


def make_repository(name: str, private: bool) -> str:
    """Create the repository if it does not exist. Returns its full name, USER/NAME.

    Raises RunError if we may not write to it, or if it should be private but is public: it may get pictures that others
    must not see.
    """
    from huggingface_hub import HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise RunError(f"--hub_model_id {name}: offline mode is on (HF_HUB_OFFLINE), so nothing can be uploaded")
    if get_token() is None:
        raise RunError(f"--hub_model_id {name}: no token found: log in with `hf auth login`, or set HF_TOKEN")
    try:
        repository = HfApi().create_repo(name, private=private or None, exist_ok=True).repo_id
        public = private and not HfApi().repo_info(repository).private
    except Exception as error:  # anything that the hub or the network raises
        raise RunError(f"--hub_model_id {name}: {reason(error)}") from error
    if public:
        raise RunError(
            f"--hub_private: {repository} exists already and is public: name another repository, or make it private"
        )
    return repository


def reason(error: BaseException) -> str:
    """Return an error of the hub as one line, without the token."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return "the hub does not accept the token (401): log in again with `hf auth login`, or set HF_TOKEN"
    if status == 403:
        return "the token may not write there (403): it needs the role `write`, and USER must be you or an organisation"
    if isinstance(error, OSError) and error.errno and status is None:
        return without_token(os_line(error))
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    return without_token(f"{type(error).__name__}: {lines[0]}")


def without_token(text: str) -> str:
    from huggingface_hub import get_token

    token = get_token()
    return text.replace(token, "...") if token else text


def stage(run: Path, folder: Path, repository: str, private: bool, facts: CardFacts) -> None:
    """Copy what is uploaded to `folder`, because the run may change its files meanwhile.

    Raises RunError if best/ is damaged or was saved without its code.
    """
    with BEST_IS_WHOLE:
        for path in (run / "best").iterdir():
            if path.is_file() and not path.name.startswith("."):
                shutil.copyfile(path, folder / path.name)
    if wrong := damage(folder):
        raise RunError(f"{run}/best is damaged: {wrong}")
    config, record, _, arguments = read_card_files(folder, run)  # of the copy: training may have replaced best/ since
    if config.get("model_type") in facts.own_types and "auto_map" not in config:
        raise RunError(f"{run}/best was saved without the code that builds its network: train it again")
    for name in ("log_epoch.csv", "learning_curve.png"):
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    if (run / "tensorboard").is_dir():
        shutil.copytree(run / "tensorboard", folder / "tensorboard")
    if arguments:
        text = yaml.safe_dump(public_arguments(arguments), sort_keys=False)
        write_atomically(folder / "args.yaml", text)
    pictures = {}
    drawn = sorted((run / "images").glob("epoch_*.png"))
    if drawn and (private or facts.note_on_validation(config)["publishable"]):
        number = str(record.get("epoch")).zfill(4)
        of_the_weights = [path for path in drawn if path.stem == f"epoch_{number}"]
        shutil.copyfile((of_the_weights or drawn)[-1], folder / "validation.png")
        pictures["validation.png"] = "Validation images: image, truth, prediction"
    if (folder / "learning_curve.png").is_file():
        pictures["learning_curve.png"] = "Learning curve: loss and scores over epochs"
    try:
        card = make_card(folder, run, facts, repository, pictures)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:  # entries that no run writes
        raise RunError(f"cannot describe {run}/best: {type(error).__name__} {error} in its JSON files") from error
    card.save(folder / "README.md")


def upload(run: Path, repository: str, private: bool, facts: CardFacts) -> str:
    """Upload a run. Returns the URL of the commit. Raises what huggingface_hub raises."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()  # they would disturb the progress bar of the training
    with tempfile.TemporaryDirectory(prefix=".push-", dir=run) as folder:
        stage(run, Path(folder), repository, private, facts)
        commit = HfApi().upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=f"Upload {run.resolve().name}",
            delete_patterns=["tensorboard/**", "validation.png", "calibration.json"],  # left by an earlier upload
        )
    return commit.commit_url


def upload_with_retries(run: Path, repository: str, private: bool, facts: CardFacts) -> str | None:
    """Upload a run, with retries. Returns the URL, or None after a warning with the command that repeats it."""
    for attempt in range(ATTEMPTS):
        try:
            return upload(run, repository, private, facts)
        except Exception as error:  # no failed upload may end a run
            status = getattr(getattr(error, "response", None), "status_code", None)
            last = attempt == ATTEMPTS - 1 or isinstance(error, RunError) or status in (401, 403)
            then = "not tried again" if last else f"tried again in {PAUSE * 6**attempt:.0f} s"
            print(f"warning: upload to {repository} failed, {then}: {reason(error)}", flush=True)
            if last:
                break
            time.sleep(PAUSE * 6**attempt)
    command = publish_command(run, repository, private)
    print(f"warning: nothing of {run} is lost; upload it with: {command}", flush=True)
    return None


class HubUploads:
    """The uploads of a training run, made by its first process. Without --push_to_hub, every method does nothing.

    Create it first, so that a wrong name, a missing token or a hub that does not answer ends the run before it begins.
    While an upload is running, others are skipped: the last one contains everything.
    """

    def __init__(self, options: HubOptions, facts: CardFacts):
        self.on = options.push_to_hub and is_first_process()
        self.private = options.hub_private
        self.each_save = options.hub_strategy == "every_save"
        self.facts = facts
        self.thread = None
        if self.on:
            self.repository = make_repository(options.hub_model_id, self.private)
            print(f"the model will be uploaded to {self.repository}", flush=True)

    def saved(self, run: Path, better: bool) -> None:
        """Upload in the background after an epoch, if `better` says that there is a new best model."""
        if self.on and self.each_save and better and not (self.thread and self.thread.is_alive()):
            job = (run, self.repository, self.private, self.facts)
            # a daemon thread, so that a stopped run does not wait for it
            self.thread = threading.Thread(target=upload_with_retries, args=job, daemon=True)
            self.thread.start()

    def finish(self, run: Path) -> None:
        """Wait for a running upload, then upload everything. Call it when the run is complete."""
        if not self.on:
            return
        if self.thread:
            self.thread.join()
        address = upload_with_retries(run, self.repository, self.private, self.facts)
        if address:
            print(f"uploaded: {address}", flush=True)
