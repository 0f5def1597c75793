"""List the image files below a folder, and print notes about what is left out."""

import errno
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from .labels import DataError
from .reader import FORMATS, PLUGIN

IMAGE_SUFFIXES = {suffix for suffixes in FORMATS.values() for suffix in suffixes}
# Picture and video formats that this installation may not be able to read. A note names the files that are skipped.
OTHER_SUFFIXES = set(
    """
    .heic .heif .hif .avif .avifs .jxl .jxr .wdp .jp2 .j2k .jpf .jpx .jpc .bpg .svg .svgz .pdf .eps .ps .ai .psd .psb
    .xcf .kra .exr .hdr .pfm .dds .ico .icns .cur .tga .pcx .qoi .sgi .fits .fit .dcm .nii .wmf .emf .npy .npz .mat
    .dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .srw .x3f .raw .rwl .3fr .iiq .kdc .dcr .mrw .erf
    .mef .mos .insp .mp4 .mov .avi .mkv .webm .m4v .mpg .mpeg .wmv .mts .m2ts .3gp .ogv
    """.split()
)
MOST_NAMES = 20  # of skipped files in one note
# Folders that systems and archives create beside the pictures. Hidden folders are skipped too.
FOLDERS_OF_SYSTEMS = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}


def list_images(folder: Path, leave_out: Callable[[Path], bool] | None = None) -> list[Path]:
    """Return the image files below `folder`, at any depth, sorted.

    Links are followed, but no folder is read twice. Hidden files and folders are skipped, as are those that systems and
    archives create. Pictures in other formats are skipped with a note. So is each subfolder for which `leave_out`
    returns True.
    """
    found = []
    others = defaultdict(list)
    for path in visible_files(folder, leave_out):
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            found.append(path)
        elif suffix in OTHER_SUFFIXES:
            others[suffix].append(path.name)
    for suffix, names in sorted(others.items()):
        remedy = f"pip install {PLUGIN[suffix]}, or save" if suffix in PLUGIN else "save"
        note(f"{suffix} files in {folder} are skipped: {some(sorted(names), MOST_NAMES)}; {remedy} them as PNG or JPEG")
    return sorted(found)


def visible_files(folder: Path, leave_out: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """Yield the visible files below `folder`. Links come last, so that a folder is found under its own name."""
    seen = set()
    waiting = [folder]
    for start in waiting:  # the loop appends to it
        for place, folders, files in os.walk(start, onerror=refuse_folder):
            here = Path(place)
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            below = [here / name for name in sorted(folders) if name[0] != "." and name not in FOLDERS_OF_SYSTEMS]
            left_out = [path for path in below if leave_out is not None and leave_out(path)]
            for path in left_out:
                note(f"{path} is skipped: a prediction or a training run wrote it")
            below = [path for path in below if path not in left_out]
            waiting += [path for path in below if path.is_symlink()]
            folders[:] = [path.name for path in below if not path.is_symlink()]
            for path in (here / name for name in files if name[0] != "."):
                if path.is_file() or not path.exists():  # a broken link is reported when it is read
                    yield path


def refuse_folder(error: OSError) -> NoReturn:
    """Raise `DataError` about a folder that the system does not let us read."""
    remedy = "name another" if error.errno in (errno.ENOENT, errno.ENOTDIR) else "make it readable, or remove it"
    raise DataError(f"cannot read folder {error.filename}: {error.strerror}; {remedy}")


def note(line: str) -> None:
    """Print a note, from the first process only."""
    if os.environ.get("RANK", "0") == "0":
        print(f"note: {line}", flush=True)


def name_key(name: str) -> str:
    """Return a key that is equal for names that some file systems confuse: case and Unicode normal form."""
    return unicodedata.normalize("NFC", name).casefold()


def is_text(name: str) -> bool:
    """Return whether a file name is valid UTF-8. Python turns other bytes into surrogates, which cannot be encoded."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def some(names: Iterable[object], most: int = 5) -> str:
    """Return names for one line: the first ones, and how many more there are."""
    names = list(map(str, names))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def label_of(label: Path, split: str) -> Path | None:
    """Return the label file if it exists, or None in the test split. Raises `DataError` in the other splits."""
    if label.exists():
        return label
    if split == "test":
        return None
    raise DataError(f"no label {label} for its image in split {split}: add it or remove the image")
