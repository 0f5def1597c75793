"""Download models from the hub."""

import os

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .errors import ModelError, first_line


def hub_folder(name: str, flag: str) -> str:
    """Return the local folder of the model `USER/NAME` or `USER/NAME@REVISION`. Downloads it if necessary.

    `flag` names the flag in errors. Raises `ModelError` if there is no such model, or if the hub cannot be reached.
    """
    repository, _, revision = name.partition("@")
    files = ["*.json", "*.safetensors", "*.py", "README.md"]
    try:
        folder = snapshot_download(repository, revision=revision or None, allow_patterns=files)
        if not any(path.endswith(".safetensors") for path in os.listdir(folder)):
            folder = snapshot_download(repository, revision=revision or None, allow_patterns=[*files, "*.bin"])
        return folder
    except HFValidationError as error:
        raise ModelError(f"{flag} {name}: no such file or folder here, and it cannot be a hub id") from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        why = "the hub has no such model or revision, or shows it only after login"
        raise ModelError(f"{flag} {name}: no such file or folder here, and {why}") from error
    except LocalEntryNotFoundError as error:
        why = "the hub cannot be reached (offline?), and the model was not downloaded before"
        raise ModelError(f"{flag} {name}: no such file or folder here, {why}") from error
    except Exception as error:  # any other error of the hub or the network
        raise ModelError(f"{flag} {name}: {first_line(error)}") from error
