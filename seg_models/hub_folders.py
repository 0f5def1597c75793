"""Models on the hub, as folders on this machine: `USER/NAME` or `USER/NAME@REVISION`."""

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
    """Where huggingface_hub keeps a model of the hub, `USER/NAME` or `USER/NAME@REVISION`, downloaded now or before."""
    repository, _, revision = name.partition("@")
    files = ["*.json", "*.safetensors", "*.py"]
    try:
        folder = snapshot_download(repository, revision=revision or None, allow_patterns=files)
        if not any(path.endswith(".safetensors") for path in os.listdir(folder)):
            folder = snapshot_download(repository, revision=revision or None, allow_patterns=[*files, "*.bin"])
        return folder
    except HFValidationError as error:
        raise ModelError(f"{flag} {name}: no such file or folder here, and it cannot be a hub id") from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        why = "the hub has no such model or revision, or shows it only to those who are logged in"
        raise ModelError(f"{flag} {name}: no such file or folder here, and {why}") from error
    except LocalEntryNotFoundError as error:
        why = "the hub cannot be reached (offline?), and it was not downloaded before"
        raise ModelError(f"{flag} {name}: no such file or folder here, {why}") from error
    except Exception as error:  # whatever the hub, or the way to it, says
        raise ModelError(f"{flag} {name}: {first_line(error)}") from error
