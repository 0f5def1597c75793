"""What app_gradio.py refuses before it loads torch and gradio, which takes several seconds."""

import ipaddress
import socket
from pathlib import Path

from seg_jobs.arguments import AppArguments
from seg_jobs.model_paths import check_models
from seg_runs.errors import RunError, os_reason


def check_app(args: AppArguments) -> None:
    """Raise an error if a model or the examples are nowhere, or if the address cannot be used."""
    check_models(args.model_name_or_path)
    if args.examples:
        from data_scripts.listing import list_images  # loads cv2, which --help does not need

        if not list_images(Path(args.examples)):
            raise RunError(f"--examples {args.examples} holds no photo: name another folder")
    address = bare_address(args.server_name)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:  # port 0 is any free one: without --server_port, gradio would try a wrong address at a hundred ports
        socket.create_server((address, args.server_port or 0), family=family).close()
    except OSError as error:
        raise cannot_listen(args, error) from error


def bare_address(name: str) -> str:
    """Return --server_name without the brackets that URLs put around an IPv6 address."""
    return name.removeprefix("[").removesuffix("]")


def is_public(args: AppArguments) -> bool:
    """Whether people on other machines can open the page."""
    address = bare_address(args.server_name)
    try:
        own = ipaddress.ip_address(address).is_loopback
    except ValueError:  # a name
        own = address == "localhost"
    return args.share or not own


def cannot_listen(args: AppArguments, error: OSError) -> RunError:
    """Return the error for a port that is taken, or an address that is not this machine's."""
    port = f" --server_port {args.server_port}" if args.server_port else ""
    reason = os_reason(error).partition(" (while")[0]  # Python repeats the address there
    remedy = "choose another --server_port, or an address of this machine"
    return RunError(f"cannot listen at --server_name {args.server_name}{port} ({reason}): {remedy}")
