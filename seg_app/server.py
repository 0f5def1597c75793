"""The app's server: the folder that holds all its files, and the gate in front of gradio's routes.

Import this module before gradio. The folder is deleted when the server ends. In it, each answer has its own folder with
an unguessable name. gradio names an upload's folder after a secret and the photo's content.
"""

import asyncio
import errno
import json
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any


def server_folder_name() -> str:
    """Return an unguessable path for the folder of this server's files, gradio's included."""
    try:
        parent = os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()
    except OSError:  # no temporary folder is writable: `server_folder` reports it
        parent = "/tmp"
    return str(Path(parent).resolve() / f"minicity-seg-{secrets.token_hex(8)}")


os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # gradio reads both when it is imported
os.environ["GRADIO_TEMP_DIR"] = server_folder_name()

from gradio.data_classes import FileData
from gradio.route_utils import API_PREFIX
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seg_runs.errors import RunError

LONGEST_SILENCE, LONGEST_UPLOAD = 20, 300  # seconds: a few uploads that stall would keep out all others
KEPT_SECONDS, KEPT_BYTES = 3600, 2 * 10**9  # limits for photos and predictions; the oldest are deleted first
MAX_CALL = 2**20  # bytes of a request other than an upload
MOST_VALUES = 7  # that a function of the page takes
UPLOADS_AT_ONCE = 4  # gradio holds parts of each in memory
API_NAME, PAGE_NAME = "segment", "show"  # functions that take a photo: for clients, and for the page


@contextmanager
def server_folder(folder: Path | None = None) -> Iterator[Path]:
    """Create `folder`, by default the one that gradio uses, and delete it afterwards. Only its owner can open it.

    Raises RunError if nothing can be written there.
    """
    folder = folder or Path(os.environ["GRADIO_TEMP_DIR"])
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        (folder / "test").write_bytes(bytes(2**16))
        (folder / "test").unlink()
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        why = error.strerror or error
        raise RunError(f"cannot write to {folder.parent}: {why}; let TMPDIR name a folder with room") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def swept(folder: Path) -> Iterator[Callable[[], int]]:
    """Delete old files in `folder` every minute while the block runs, except those present now (the examples).

    Yields a function that deletes them at once and returns the bytes that are left.
    """
    stop = threading.Event()
    make_room = partial(sweep, folder, set(folder.iterdir()))

    def each_minute() -> None:
        while not stop.wait(60):
            make_room()

    threading.Thread(target=each_minute, daemon=True).start()
    try:
        yield make_room
    finally:
        stop.set()


def sweep(folder: Path, keep: set[Path], seconds: float = KEPT_SECONDS + 300, size: int = KEPT_BYTES) -> int:
    """Delete entries of `folder` older than `seconds`, then the oldest until at most `size` bytes are left.

    Entries in `keep` stay. Returns the bytes that are left. gradio also deletes the files that it knows by age, a
    little earlier.
    """
    found = []
    for entry in set(folder.iterdir()) - keep:
        try:
            states = [path.lstat() for path in (entry, *entry.rglob("*"))]
        except OSError:  # it has been deleted meanwhile
            continue
        found.append((max(state.st_ctime for state in states), sum(state.st_size for state in states), entry))
    total = sum(size for _, size, _ in found)
    now = time.time()
    for changed, taken, entry in sorted(found):
        if total > size or now - changed > seconds:
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
            total -= taken
    return total


def route_of(scope: Scope) -> str:
    """Return the path of a request without a proxy's root path and gradio's prefix."""
    path = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path.removeprefix(API_PREFIX).strip("/")


class TooLarge(Exception):
    """A request has more bytes than allowed."""


class Gate:
    """ASGI middleware in front of gradio's routes that refuses what this page does not need.

    - Only the POST routes in `POSTS` are open. GET routes are open except those in `NO_GETS`, some of which fetch
      addresses that a client names, convert videos or keep state.
    - A file must lie in `folder`: an upload, an example or an answer. Other paths, addresses and data in a request
      become "no file".
    - An upload has at most `max_upload` bytes in total. (gradio limits each of up to 1000 files.)
    - A faulty request gets one sentence as its answer and leaves nothing in the log.

    folder     holds all files that can be fetched
    functions  {id: API name} of the page's functions
    make_room  deletes old files and returns how many bytes are left
    """

    POSTS = ("login", "upload", "queue/join", "cancel", "reset")
    POSTS += (f"call/{API_NAME}", f"run/{API_NAME}", f"api/{API_NAME}")
    POSTS += ("run/predict", "api/predict")  # browsers use these for functions outside the queue; the page has none
    CALLS = ("queue/join", "call/", "run/", "api/")
    NO_GETS = ("deep_link", "proxy=", "stream", "run-history", "runs", "vibe", "dev", "profiling", "monitoring")

    def __init__(
        self,
        app: ASGIApp,
        folder: Path,
        functions: dict[int, str],
        max_upload: int,
        make_room: Callable[[], int],
    ):
        self.app, self.folder, self.functions, self.max_upload = app, folder, functions, max_upload
        self.make_room = make_room
        self.uploads = asyncio.Semaphore(UPLOADS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        route = route_of(scope)
        try:
            status, sentence = 404, "There is nothing here."
            if self.is_open(scope["method"], route) and b"deep_link" not in scope.get("query_string", b""):
                if scope["method"] == "POST" and route == "upload":
                    return await self.upload(scope, receive, sending)
                if scope["method"] == "POST":
                    receive = limited(receive, MAX_CALL)
                if scope["method"] == "POST" and route.startswith(self.CALLS):
                    receive = replayed(self.checked(await body_of(receive)), receive)
                return await self.app(scope, receive, sending)
        except TooLarge:
            status = 413
            sentence = f"This is too large: photos may have up to {self.max_upload / 1e6:.0f} MB."
        except TooSlow:
            status = 408
            sentence = "The photo did not arrive in time: try again."
        except ClientDisconnect:
            return None
        except (ValueError, RecursionError) as error:
            if begun or not route.startswith(self.CALLS) or not isinstance(error, (BadCall, RecursionError)):
                raise
            status = 400
            sentence = str(error) if isinstance(error, BadCall) else "This request cannot be read."
        except Exception as error:
            if begun or route != "upload":
                raise
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
            status = 507 if full else 400
            sentence = "The server has no room for this photo: try again later." if full else "Send a photo as a form."
        await JSONResponse({"detail": sentence}, status)(scope, receive, send)

    async def upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an upload on when there is room for it, a few at a time, because gradio holds parts of it in memory."""
        async with self.uploads:
            if await run_in_threadpool(self.make_room) > 2 * KEPT_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            await self.app(scope, limited(receive, self.max_upload + MAX_CALL, patient=False), send)

    def is_open(self, method: str, route: str) -> bool:
        if method == "POST":
            return route in self.POSTS
        if route.startswith(("file=", "file/")):
            path = Path(os.path.abspath(route[5:]))
            return path.is_file() and path.resolve().is_relative_to(self.folder)
        return not route.startswith(self.NO_GETS)

    def checked(self, body: bytes) -> bytes:
        """Return a call with only the fields that this page's functions need. Raises BadCall."""
        try:
            call = json.loads(body)
        except ValueError as error:
            raise BadCall("This request is not JSON.") from error
        if not isinstance(call, dict) or not isinstance(call.get("data"), list):
            raise BadCall('This request has no list "data".')
        index = call.get("fn_index")
        if index is not None and not (isinstance(index, int) and index in self.functions):
            raise BadCall("There is no such function.")
        first, *others = [*call["data"], *[None] * MOST_VALUES][:MOST_VALUES]
        others = [without_files(value) for value in others]
        # The first value is a photo, except when an example is chosen.
        chosen = index is not None and self.functions[index] not in (API_NAME, PAGE_NAME)
        first = without_files(first) if chosen else self.file(first)
        fields = {key: call[key] for key in ("fn_index", "session_hash", "trigger_id") if key in call}
        return json.dumps({**fields, "data": [first, *others]}).encode()

    def file(self, value: object) -> dict | None:
        """Return gradio's reference to a file in `folder`, or None for anything else."""
        path = value.get("path") if isinstance(value, dict) else None
        try:
            if isinstance(path, str) and os.path.isabs(path):
                real = Path(path).resolve(strict=True)
                # gradio refuses files whose name begins with a dot.
                if real.is_file() and real.is_relative_to(self.folder) and not real.name.startswith("."):
                    return FileData(path=str(real)).model_dump()
        except (OSError, ValueError):  # no such file, or an impossible name
            pass
        return None


def without_files(value: Any) -> Any:
    """Return a JSON value, or None if gradio could find a file in it."""
    return None if isinstance(value, dict) or "{" in json.dumps(value) else value


class BadCall(ValueError):
    """A request that neither the page nor a gradio client would send. The message is one sentence."""


class TooSlow(Exception):
    """An upload that keeps others waiting."""


def limited(receive: Receive, size: int, patient: bool = True) -> Receive:
    """Return a `receive` that raises TooLarge after `size` bytes.

    Unless `patient`, it raises TooSlow after `LONGEST_SILENCE` without a byte, and after `LONGEST_UPLOAD` in all.
    """
    taken, whole = 0, patient
    deadline = time.monotonic() + LONGEST_UPLOAD

    async def receive_some() -> Message:
        nonlocal taken, whole
        try:
            left = None if whole else min(LONGEST_SILENCE, deadline - time.monotonic())
            message = await asyncio.wait_for(receive(), left)
        except TimeoutError as error:
            raise TooSlow from error
        whole = whole or not message.get("more_body", False)
        taken += len(message.get("body", b""))
        if taken > size:
            raise TooLarge
        return message

    return receive_some


async def body_of(receive: Receive) -> bytes:
    """All bytes of a request; ClientDisconnect if the client went away before it had sent them."""
    parts = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives `body` first, then what the original gives."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
