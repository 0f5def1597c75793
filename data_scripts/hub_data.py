"""Read a data set of the `datasets` library for training, as --dataset_name gives it.

    --dataset_name USER/NAME    an id on the hub, or what was downloaded of it
    --dataset_name my_saved     a folder of `save_to_disk`, or of Parquet files

Masks hold ids, as in a folder of one's own. Their names stand in id2label.json, or in the column's features. A data set
with other masks, or without names, can go through `data_scripts.prepare`, which reads it with the same functions.
"""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, DatasetInfo, Features, Image, Value
from datasets.fingerprint import generate_random_fingerprint

from .arguments import SourceOptions
from .catalog import SPLITS, source_of
from .class_file import About, default_palette
from .labels import IGNORE_INDEX, DataError, LabelInfo
from .listing import name_key, note
from .own_folder import prepare_command
from .preparing.annotated import Options, is_nothing
from .preparing.class_lists import read_id2label
from .preparing.found import Found
from .preparing.hub import (
    HUB_ID,
    cell_of,
    class_list_of_id,
    class_names,
    find_columns,
    load_folder,
    load_id,
    looks_like,
    names_of,
    place_of,
    split_names,
)

Columns = tuple[str | None, str | None]  # --image_column, --label_column
FILES = Image(decode=False)


def columns_of(options: SourceOptions) -> Columns:
    """Return the columns that the flags name."""
    return options.image_column, options.label_column


@dataclass(frozen=True)
class Part:
    """Rows that become a split, or a part of it. `name` is what the data set calls them."""

    name: str
    rows: Dataset


def load_hub(
    name: str | None, columns: Columns = (None, None), flag: str = "--dataset_name"
) -> tuple[DatasetDict, LabelInfo]:
    """Return the splits and the label set of a data set.

    The splits are "train", and "validation" and "test" if the data set has them; test images may lack labels. Files
    stay undecoded: {"path", "bytes"}, where "path" names the row if there are bytes. What the data set says about
    itself stays in the splits' `info`. Raises `DataError`, which names the `flag` that gave `name`, if something
    is missing.
    """
    if name is None:
        raise DataError(f"--dataset hub needs a name: {source_of('hub').help}")
    where = f"{name} ({flag})"
    loaded, listed = _load(name, where)
    splits = _divide(loaded, where)
    if others := [part for part in loaded if not any(part == one.name for parts in splits.values() for one in parts)]:
        note(f"splits of {where} that are empty or have other names are left out: {', '.join(others)}")
    features = splits["train"][0].rows.features
    photo, mask = find_columns(features, Options(image_column=columns[0], label_column=columns[1]), where)
    remedy = f"make a folder of it with {_prepare(name, columns)}"
    names = dict(enumerate(class_names(features[mask]))) if listed is None else listed
    labels = _label_set(name, names, mask, remedy, where)
    data = DatasetDict({split: _rows(parts, split, photo, mask, where) for split, parts in splits.items()})
    sizes = ", ".join(f"{len(rows)} {split}" for split, rows in data.items())
    note(f"{name} has {sizes} images; photos are in the column {photo}, masks in {mask}")
    return data, labels


def about(name: str, data: DatasetDict) -> About:
    """Return what is known about a data set that `load_hub` returned, for model cards. Paths are private."""
    licence = " ".join(str(data["train"].info.license or "").split()) or None
    if Path(name).is_dir():
        return About(title=Path(name).resolve().name, licence=licence)
    return About(title=name, licence=licence, link=f"https://huggingface.co/datasets/{name}")


def _load(name: str, where: str) -> tuple[dict[str, Dataset], dict[int, str] | None]:
    """Return the rows of a data set by split, and the names in its id2label.json, or None without such a file."""
    root = Path(name)
    if root.is_dir():
        found = Found(root)
        if not looks_like(found):
            raise DataError(f"{where} is not a folder written by `save_to_disk` or of Parquet files")
        files = found.named("id2label.json")
        return load_folder(found), read_id2label(root / files[0]).names if files else None
    if not HUB_ID.fullmatch(name):
        raise DataError(f"no folder {where}; an id on the hub is USER/NAME")
    loaded = load_id(name)
    listed = class_list_of_id(name)
    return loaded, None if listed is None else listed.names


def _divide(loaded: dict[str, Dataset], where: str) -> dict[str, list[Part]]:
    """Return the parts of each split. Without names of splits, all rows are "train"."""
    known = {name: SPLITS.get(split) for name, split in split_names(loaded).items()}
    if not any(known.values()):
        known = dict.fromkeys(loaded, "train")
    splits = {}
    for split in SPLITS.values():
        parts = [Part(name, rows) for name, rows in loaded.items() if known[name] == split and len(rows)]
        if parts:
            splits[split] = parts
    if "train" not in splits:
        raise DataError(f"{where} has no training images: its splits are {', '.join(loaded)}")
    return splits


def _prepare(name: str, columns: Columns) -> str:
    """Return the command that makes a folder of a data set."""
    flags = zip(("--image_column", "--label_column"), columns, strict=True)
    return prepare_command(name) + "".join(f" {flag} {shlex.quote(given)}" for flag, given in flags if given)


def _label_set(name: str, names: dict[int, str], mask: str, remedy: str, where: str) -> LabelInfo:
    """Return the label set of the ids that have names. Those called void or ignored belong to no class."""
    if not names:
        raise DataError(
            f"{where} has no id2label.json, nor names in the column {mask}, so its ids mean nothing: {remedy}"
        )
    names = {number: " ".join(text.split()) for number, text in sorted(names.items())}
    classes = {number: text for number, text in names.items() if not is_nothing(text)}
    if wrong := [number for number in classes if not 0 <= number < IGNORE_INDEX]:
        raise DataError(
            f"{where}: class {classes[wrong[0]]} has id {wrong[0]}, but ids are 0 to {IGNORE_INDEX - 1}: {remedy}"
        )
    text, times = Counter(classes.values()).most_common(1)[0] if classes else ("", 0)
    if times > 1:
        raise DataError(f"{where}: {times} ids are called {text}: {remedy}")
    if len(classes) < 2:
        raise DataError(f"{where} names {len(classes)} class, but a network needs two to choose from: {remedy}")
    void = [number for number in names if number not in classes and 0 <= number < IGNORE_INDEX]
    return LabelInfo(
        name=name,
        names=tuple(classes.values()),
        source_ids=tuple(classes),
        palette=default_palette(len(classes)),
        void_ids=(*void, IGNORE_INDEX),
        remedies=dict.fromkeys(("colors", "values", "id"), remedy),
    )


def _rows(parts: Sequence[Part], split: str, photo: str, mask: str, where: str) -> Dataset:
    """Return a split with the columns that `sources.from_files` gives one. The bytes of its files are not copied."""
    for part in parts:
        if not isinstance(part.rows.features.get(photo), Image):
            raise DataError(
                f"split {part.name} of {where} has no column {photo} of images: its columns are "
                f"{', '.join(part.rows.features)}"
            )
    images = _joined([_files(part, photo) for part in parts])
    names = [Path(name).stem for part in parts for name in names_of(part.rows, photo, part.name)]
    if len({name_key(name) for name in names}) < len(names):
        names = [f"{part.name or 'row'}_{number:06d}" for part in parts for number in range(len(part.rows))]
    columns = {"index": np.arange(len(names)), "image": images, "name": names}
    features = {"index": Value("int64"), "image": FILES, "name": Value("string")}
    _refuse_empty(images, parts, photo, where)
    labels = _joined([_files(part, mask) for part in parts])
    if split != "test" or labels.null_count < len(labels):
        _refuse_empty(labels, parts, mask, where)
        columns["label"], features["label"] = labels, FILES
    info = DatasetInfo(features=Features(features), license=parts[0].rows.info.license or "")
    # The default fingerprint would hash every byte.
    return Dataset(pa.table(columns), info, fingerprint=generate_random_fingerprint())


def _files(part: Part, column: str) -> pa.ChunkedArray:
    """Return a column as {"bytes", "path"}, null where it is empty. Arrays become PNG files in memory."""
    rows = part.rows
    kind = FILES.pa_type
    if column not in rows.features:
        return pa.chunked_array([pa.nulls(len(rows), kind)])
    is_image = isinstance(rows.features[column], Image)
    if is_image:
        rows = rows.cast_column(column, FILES)
    cells = rows.with_format("arrow")[:][column]
    if not is_image:
        empty = cells.is_null().to_pylist()
        made = [None if no else cell_of(rows, i, column, part.name)() for i, no in enumerate(empty)]
        return pa.chunked_array([pa.array(made, kind)])
    chunks = []
    first = 0
    for chunk in cells.chunks:
        content, paths = (pc.struct_field(chunk, key) for key in ("bytes", "path"))
        places = [place_of(number, column, part.name) for number in range(first, first + len(chunk))]
        paths = pc.if_else(content.is_valid(), pa.array(places, pa.string()), paths)
        chunks.append(pa.StructArray.from_arrays([content, paths], fields=list(kind), mask=paths.is_null()))
        first += len(chunk)
    return pa.chunked_array(chunks, kind)


def _joined(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], FILES.pa_type)


def _refuse_empty(files: pa.ChunkedArray, parts: Sequence[Part], column: str, where: str) -> None:
    """Raise `DataError` for the first row without a file."""
    empty = np.flatnonzero(files.is_null().to_numpy())
    if not len(empty):
        return
    number = int(empty[0])
    for part in parts:
        if number < len(part.rows):
            raise DataError(f"{where}: {place_of(number, column, part.name)} is empty: remove such rows, or fill them")
        number -= len(part.rows)
