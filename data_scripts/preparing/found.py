"""List the files of a source once, and read its text and JSON files whatever their encoding."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TypeVar

from ..labels import DataError
from ..listing import IMAGE_SUFFIXES, OTHER_SUFFIXES, name_key, some, visible_files

SPLITS = {
    **{"train": "train", "training": "train", "trn": "train"},
    **{"val": "val", "valid": "val", "validation": "val", "dev": "val"},
    **{"test": "test", "testing": "test"},
}
SIDECARS = {"thumbs.db", "desktop.ini"}
SEVERAL = "photos of whose name there are several (give folders in the annotations, or rename the photos)"
HEAD = 4096  # bytes of a JSON file that show what it is
EXPORT = "correct it, or export it again"
T = TypeVar("T")


class Found:
    """The visible files below a folder, or a folder of which one JSON file was named.

    root   the folder
    files  relative paths, sorted
    """

    def __init__(self, source: Path):
        self.root = source.parent if source.is_file() else source
        below = (path.relative_to(self.root) for path in visible_files(self.root))
        self.files = sorted(path for path in below if path.name.lower() not in SIDECARS)
        if source.is_file():
            self.files = [path for path in self.files if path.suffix.lower() != ".json" or path.name == source.name]

    @cached_property
    def images(self) -> list[Path]:
        return [path for path in self.files if path.suffix.lower() in IMAGE_SUFFIXES]

    @cached_property
    def unreadable(self) -> list[Path]:
        """Pictures in formats that we cannot read."""
        return [path for path in self.files if path.suffix.lower() in OTHER_SUFFIXES - IMAGE_SUFFIXES - {".npy"}]

    @cached_property
    def json_files(self) -> list[Path]:
        return [path for path in self.files if path.suffix.lower() == ".json"]

    @cached_property
    def by_ending(self) -> dict[tuple[str, ...], list[Path]]:
        """Return {last parts of a path, as keys: the images that end so}. Before a whole path, the first part is ""."""
        endings: dict[tuple[str, ...], list[Path]] = {}
        for path in self.images:
            keys = ("", *path_keys(path))
            for start in range(len(keys)):
                endings.setdefault(keys[start:], []).append(path)
        return endings

    @cache  # noqa: B019 - one source a program
    def json(self, path: Path) -> object:
        """Return the content of a JSON file, read once."""
        return read_json(self.root / path)

    def named(self, *names: str) -> list[Path]:
        """Return the files that have one of these names in any folder, the highest ones first."""
        return sorted((path for path in self.files if path.name.lower() in names), key=lambda path: len(path.parts))


def path_keys(path: Path) -> tuple[str, ...]:
    """Return a key for each part of a path, without "..", that is equal where case or Unicode form alone differ."""
    return tuple(name_key(part) for part in Path(os.path.normpath(path)).parts if part != "..")


def refuse_several(passed_over: dict[str, list[str]]) -> None:
    """Raise `DataError` if photos were passed over because there are several of their names."""
    if names := passed_over.get(SEVERAL):
        raise DataError(f"no photo can be used; {SEVERAL}: {count(names)}")


def split_of(path: Path) -> str | None:
    """Return the split that the last telling part of a path names, such as `train2017` or `valid_labels`."""
    told = [split for part in path.parts for split in splits_in(part)]
    return told[-1] if told else None


def splits_in(name: str) -> list[str]:
    """Return the splits that words of a name say, in their order."""
    plain = (re.sub(r"\d+$|annot$", "", word) for word in words(name))
    return [SPLITS[word] for word in plain if word in SPLITS]


def words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]


def read_text(path: Path) -> str:
    """Return a text file in UTF-8 or, with a byte order mark, UTF-16."""
    try:
        content = path.read_bytes()
        utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeError as error:
        raise DataError(f"{path} is not UTF-8: save it with that encoding") from error


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file without surrounding blanks, empty lines and comments (#)."""
    lines = (line.strip() for line in read_text(path).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def read_json(path: Path) -> object:
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {' '.join(str(error).split())}; {EXPORT}") from error


@contextmanager
def as_written_by(tool: str, where: object) -> Iterator[None]:
    """Turn errors that wrong types and missing keys cause in the block into a `DataError`. `where` names the place."""
    try:
        yield
    except DataError:
        raise
    except (TypeError, KeyError, ValueError, AttributeError, IndexError, OverflowError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        if isinstance(error, (TypeError, AttributeError)):  # Python's words tell users nothing
            reason = "a value has the wrong type"
        raise DataError(f"{where} is not as {tool} writes it: {reason:.200}; {EXPORT}") from error


@lru_cache(maxsize=16384)
def json_head(path: Path) -> str:
    """Return the beginning of a JSON file, without any blanks."""
    try:
        with path.open("rb") as file:
            content = file.read(HEAD)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    return re.sub(r"\s", "", content.decode("utf-16" if utf16 else "utf-8-sig", errors="ignore"))


def by_id(pairs: Iterable[tuple[object, T]], where: object) -> dict[object, T]:
    """Return {id: value}. Raises `DataError`, which names the file, if two different values have one id."""
    values = {}
    for number, value in pairs:
        if (other := values.setdefault(number, value)) != value:
            raise DataError(f"{where}: {other!r:.60} and {value!r:.60} have the same id {number!r:.40}: change one")
    return values


def count(names: Iterable[object]) -> str:
    """Return how many names there are, and the first ones."""
    names = list(names)
    return f"{len(names)} ({some(names)})"
