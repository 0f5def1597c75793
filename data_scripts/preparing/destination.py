"""The folder that `data_scripts.prepare` writes: whose it is, what was written there, and how it is replaced.

    images/, masks/   with the splits below them
    classes.yaml      for the user to correct
    prepared.json     from what, and what was written: this marks the folder as ours

All is written into `.prepare.tmp` in that folder first, and takes the place of an earlier result at the end. While a
folder is incomplete, `files.UNFINISHED` in it says so, and training refuses it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..cache import discard, in_threads
from ..class_file import CLASS_FILE
from ..files import UNFINISHED, sync, write_whole
from ..labels import DataError
from .annotated import Annotated
from .found import some

RECORD, TEMPORARY, LOCK = "prepared.json", ".prepare.tmp", ".lock"
FOLDERS = ("images", "masks")
OURS = {*FOLDERS, CLASS_FILE, RECORD, TEMPORARY, LOCK, UNFINISHED, *(f".{name}.old" for name in FOLDERS)}
ROOM = "make room or allow reading and writing there, or name another DESTINATION"


class Destination:
    """A folder that is to be written.

    root    the folder
    record  the content of its prepared.json; empty if there is none
    """

    def __init__(self, root: Path, source: str, overwrite: bool):
        """Raise `DataError` if the folder holds anything that an earlier run from the same source did not write."""
        existing = next(path for path in (root, *root.absolute().parents) if path.exists())
        if not existing.is_dir():
            below = "" if existing == root else f" lies below {existing}, which"
            raise DataError(f"{root} (DESTINATION){below} is a file: name a folder")
        self.root = root
        self.record = {} if overwrite else _record(root)
        self._replacing = False
        if self.record:
            self._check_record(source)
        elif not overwrite and root.is_dir() and (others := self._others()):
            raise DataError(
                f"{root} (DESTINATION) is not empty, and this program did not write it ({some(others, 3)}): name "
                "another folder, or give --overwrite to replace its images, masks and classes.yaml"
            )

    def _others(self) -> list[str]:
        names = {path.name for path in self.root.iterdir()}
        return sorted(names - OURS if UNFINISHED in names else names - {LOCK, TEMPORARY})

    def _check_record(self, source: str) -> None:
        if not _is_same(self.record["source"], source):
            raise DataError(
                f"{self.root} (DESTINATION) was made from {self.record['source']}: name another folder, or give "
                "--overwrite"
            )
        if (self.root / UNFINISHED).exists():  # killed while it replaced files
            return
        known = {*self.record["files"]}
        found = {
            path.relative_to(self.root).as_posix()
            for name in FOLDERS
            for path in (self.root / name).rglob("*")
            if path.is_file()
        }
        if others := sorted(found - known):
            raise DataError(
                f"{self.root} (DESTINATION) has files that this program did not write ({some(others, 3)}): move them "
                "away, or give --overwrite to lose them"
            )

    def corrected_classes(self) -> bytes | None:
        """Return the content of classes.yaml if the user has ever changed it, else None."""
        path = self.root / CLASS_FILE
        if not self.record or not path.exists():
            return None
        content = path.read_bytes()
        return content if self.record["corrected"] or self.record["classes"] != _digest(content) else None

    @contextmanager
    def being_written(self, command: str) -> Iterator[Path]:
        """Yield an empty folder for the new files, and remove it at the end.

        One program at a time may do this. If the block fails before `replace`, the folder is as it was.
        """
        made = [path for path in (self.root, *self.root.absolute().parents) if not path.exists()]
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / LOCK, timeout=0, fallback_to_soft=False):
                marked = (self.root / UNFINISHED).exists()
                try:
                    if made or {path.name for path in self.root.iterdir()} <= {LOCK, TEMPORARY}:
                        self._mark(command)
                    shutil.rmtree(self.root / TEMPORARY, ignore_errors=True)
                    (self.root / TEMPORARY).mkdir()
                    yield self.root / TEMPORARY
                finally:
                    shutil.rmtree(self.root / TEMPORARY, ignore_errors=True)
                    if not self._replacing and not marked:
                        (self.root / UNFINISHED).unlink(missing_ok=True)
                    with suppress(OSError):  # on Windows, where the lock removes it
                        (self.root / LOCK).unlink(missing_ok=True)
                    with suppress(OSError):  # what is not empty stays
                        for path in made:
                            path.rmdir()
        except Timeout as error:
            raise DataError(f"{self.root} is being written by another program: wait for it") from error
        except OSError as error:
            path = error.filename2 or error.filename or self.root
            raise DataError(f"cannot write {path}: {error.strerror or error}; {ROOM}") from error

    def _mark(self, command: str) -> None:
        text = f"run it again, {command}\n"
        write_whole(self.root / UNFINISHED, lambda path: path.write_text(text, encoding="utf-8"), ROOM)

    def replace(self, temporary: Path, record: dict, command: str) -> None:
        """Put new folders, record and, if `temporary` has one, classes.yaml in the place of the old ones."""
        for _ in in_threads(sync, list(temporary.rglob("*"))):
            pass
        self._mark(command)
        self._replacing = True
        for name in FOLDERS:
            if (self.root / name).exists():
                discard(self.root / name)
            (temporary / name).rename(self.root / name)
        new = temporary / CLASS_FILE
        classes = (new if new.exists() else self.root / CLASS_FILE).read_bytes()
        text = json.dumps({**record, "classes": _digest(classes)}, indent=1, ensure_ascii=False, allow_nan=False)
        write_whole(self.root / RECORD, lambda path: path.write_text(text + "\n", encoding="utf-8"), ROOM)
        if new.exists():
            new.replace(self.root / CLASS_FILE)
        sync(self.root)
        (self.root / UNFINISHED).unlink()


def _record(root: Path) -> dict:
    """Return the content of prepared.json, or an empty dict if there is none or the folder is unfinished."""
    path = root / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; {ROOM}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}): give --overwrite to write everything anew") from error
    kinds = {"source": str, "files": list, "names": dict, "merged": dict, "corrected": bool, "classes": str}
    if not isinstance(content, dict) or not all(isinstance(content.get(key), kind) for key, kind in kinds.items()):
        raise DataError(f"{path} is not what this program wrote: give --overwrite to write everything anew")
    return content


def _is_same(one: str, other: str) -> bool:
    """Return whether two sources, absolute paths or ids on the hub, are the same, also through links."""
    both = os.path.isabs(one) and os.path.isabs(other)
    return one == other or both and os.path.realpath(one) == os.path.realpath(other)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def check_apart(source: Path, root: Path) -> None:
    """Raise `DataError` if one of the two folders is inside the other: the source is never changed."""
    one, two = (Path(os.path.realpath(path)) for path in (source, root))
    if one == two or one in two.parents or two in one.parents:
        raise DataError(f"DESTINATION {root} and SOURCE {source} lie in each other: name a folder elsewhere")


def check_space(root: Path, annotated: Annotated) -> None:
    """Raise `DataError` if the photos, where they are files, do not fit on the disk of `root`."""
    existing = next(path for path in (root, *root.absolute().parents) if path.exists())
    files = (item.image() for item in annotated.items) if annotated.kind != "datasets" else ()
    free = shutil.disk_usage(existing).free
    needed = sum(
        os.path.getsize(file["path"]) for file in files if file["bytes"] is None and os.path.exists(file["path"])
    )
    if needed > free:
        raise DataError(
            f"the photos take {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free on the disk of {root}: name "
            "another DESTINATION, or give --link if SOURCE is on the same disk"
        )
