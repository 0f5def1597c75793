"""The app's server: the one folder of its files, and the gate before gradio's routes. Imported before gradio.

All files lie in one folder, which is deleted when the server ends. In it each answer has a folder of its own, with a
name that cannot be guessed. An upload's folder is named by gradio, after a secret and the photo's content.
"""

import asyncio
import errno
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any


def server_folder_name() -> str:
    """Where this server's files will lie, gradio's too: nobody else's folder, and no name that can be guessed."""
    try:
        parent = os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()
    except OSError:  # there is none that can be written to: said when the folder is made
        parent = "/tmp"
    return str(Path(parent).resolve() / f"minicity-seg-{secrets.token_hex(8)}")


os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import, which reads both
os.environ["GRADIO_TEMP_DIR"] = server_folder_name()

from gradio.data_classes import FileData
from gradio.route_utils import API_PREFIX
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seg_runs.launch import RunError

KEPT_SECONDS, KEPT_BYTES = 3600, 2 * 10**9  # of photos and predictions; the oldest go first
MAX_CALL = 2**20  # bytes of a request that is no upload
UPLOADS_AT_ONCE = 4  # gradio keeps parts of them in memory
API_NAME = "segment"


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the program as Ctrl-C does: with its files deleted."""

    ended = []

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one does not stop the deleting
        ended.append(number)
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}  # nohup's
    if threading.current_thread() is not threading.main_thread():
        before = {}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if ended:  # at once: a prediction that is under way in a thread would make Python abort
            sys.stdout.flush()
            os._exit(128 + ended[0])


@contextmanager
def server_folder(folder: Path | None = None) -> Iterator[Path]:
    """The folder that gradio was told of, or `folder`: only its user can open it, and it is gone afterwards."""
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
    """Delete old files of `folder` each minute while the block runs, but for what is there now: the examples. Gives a
    function that deletes them at once and returns the bytes that are left."""
    stop, make_room = threading.Event(), partial(sweep, folder, set(folder.iterdir()))

    def each_minute() -> None:
        while not stop.wait(60):
            make_room()

    threading.Thread(target=each_minute, daemon=True).start()
    try:
        yield make_room
    finally:
        stop.set()


def sweep(folder: Path, keep: set[Path], seconds: float = KEPT_SECONDS + 300, size: int = KEPT_BYTES) -> int:
    """Delete what lies in `folder` and is older than `seconds`, and the oldest beyond `size` bytes, but for `keep`.
    Returns the bytes that are left.

    gradio deletes by age too, a little earlier, and only the files that it knows; it forgets them then.
    """
    found = []
    for entry in set(folder.iterdir()) - keep:
        try:
            states = [path.lstat() for path in (entry, *entry.rglob("*"))]
        except OSError:  # somebody else has deleted it
            continue
        found.append((max(state.st_ctime for state in states), sum(state.st_size for state in states), entry))
    total, now = sum(size for _, size, _ in found), time.time()
    for changed, taken, entry in sorted(found):
        if total > size or now - changed > seconds:
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
            total -= taken
    return total


def route_of(scope: Scope) -> str:
    """The path of a request as gradio's routes see it: below the root path of a proxy, without gradio's prefix."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path.removeprefix(API_PREFIX).strip("/")


class TooLarge(Exception):
    """More bytes came than are taken."""


class Gate:
    """Stands before gradio's routes: an ASGI middleware that lets through what this page needs.

    - No other routes: gradio's also fetch from addresses that a client names, convert videos and keep states.
    - A file is an upload or an example: other paths, addresses and data in a request become "no file".
    - An upload has at most `max_upload` bytes in all. gradio limits each of its 1000 files.
    - What fails because of what the client sent is one sentence for the client, and nothing in the log.

    folder     of all files that can be fetched
    functions  {id: API name} of the page's functions
    make_room  deletes old files and returns how many bytes are left
    """

    POSTS = ("upload", "queue/join", "cancel", "reset", f"call/{API_NAME}", f"run/{API_NAME}", f"api/{API_NAME}")
    POSTS += ("run/predict", "api/predict")  # what a browser takes for functions outside the queue: there are none
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
        self.make_room, self.uploads = make_room, asyncio.Semaphore(UPLOADS_AT_ONCE)

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
            status, sentence = 413, f"This is too large: photos may have {self.max_upload / 1e6:.0f} MB."
        except ClientDisconnect:
            return None
        except (ValueError, RecursionError) as error:
            if begun or not route.startswith(self.CALLS) or not isinstance(error, (BadCall, RecursionError)):
                raise
            status, sentence = 400, str(error) if isinstance(error, BadCall) else "This request cannot be read."
        except Exception as error:
            if begun or route != "upload":
                raise
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
            status = 507 if full else 400
            sentence = "The server has no room for this photo: try again later." if full else "Send a photo as a form."
        await JSONResponse({"detail": sentence}, status)(scope, receive, send)

    async def upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A few uploads at a time, in what room there is: their bytes are in memory, then on the disk."""
        async with self.uploads:
            if await run_in_threadpool(self.make_room) > 2 * KEPT_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            await self.app(scope, limited(receive, self.max_upload + MAX_CALL), send)

    def is_open(self, method: str, route: str) -> bool:
        if method == "POST":
            return route in self.POSTS
        if route.startswith(("file=", "file/")):
            path = Path(os.path.abspath(route[5:]))
            return path.is_file() and path.resolve().is_relative_to(self.folder)
        return not route.startswith(self.NO_GETS)

    def checked(self, body: bytes) -> bytes:
        """A call with nothing in it but the fields that this page's functions need."""
        try:
            call = json.loads(body)
        except ValueError as error:
            raise BadCall("This request is no JSON.") from error
        if not isinstance(call, dict) or not isinstance(call.get("data"), list):
            raise BadCall('This request has no list "data".')
        index = call.get("fn_index")
        if index is not None and not (isinstance(index, int) and index in self.functions):
            raise BadCall("There is no such function.")
        first, *others = [*call["data"], None, None, None, None][:4]
        others = [without_files(value) for value in others]
        # Only the choice of an example begins with something else than a photo.
        chosen = index is not None and self.functions[index] != API_NAME
        first = without_files(first) if chosen else self.file(first)
        fields = {key: call[key] for key in ("fn_index", "session_hash", "trigger_id") if key in call}
        return json.dumps({**fields, "data": [first, *others]}).encode()

    def file(self, value: object) -> dict | None:
        """A reference to a file in `folder`, as gradio takes it; None for everything else."""
        path = value.get("path") if isinstance(value, dict) else None
        try:
            if isinstance(path, str) and os.path.isabs(path):
                real = Path(path).resolve(strict=True)
                # gradio takes no file that begins with a dot.
                if real.is_file() and real.is_relative_to(self.folder) and not real.name.startswith("."):
                    return FileData(path=str(real)).model_dump()
        except (OSError, ValueError):  # it is not there; no name can be so long, or have such characters
            pass
        return None


def without_files(value: Any) -> Any:
    """A value of JSON, or None where gradio could find a file in it."""
    return None if isinstance(value, dict) or "{" in json.dumps(value) else value


class BadCall(ValueError):
    """A request that no page and no client of gradio's sends: one sentence."""


def limited(receive: Receive, size: int) -> Receive:
    """`receive` that raises TooLarge after `size` bytes."""
    taken = 0

    async def receive_some() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > size:
            raise TooLarge
        return message

    return receive_some


async def body_of(receive: Receive) -> bytes:
    """All bytes of a request; ClientDisconnect if the client went away before it had sent them."""
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` that gives `body`, and then what comes after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
