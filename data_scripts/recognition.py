"""Find out which data set of the catalog a folder holds, from the names of its files."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from .arguments import SourceOptions
from .camvid import looks_like_camvid
from .catalog import source_of
from .kitti import looks_like_kitti
from .labels import DataError
from .own_folder import images_alone, looks_like_folder, prepare_command
from .preparing.found import Found
from .preparing.hub import HUB_ID
from .preparing.hub import looks_like as holds_data_set
from .sources import looks_like_cities, looks_like_cityscapes, looks_like_toycity
from .virtual_kitti import looks_like_virtual_kitti

DEFAULT = "minicity"
# In this order: a folder belongs to the first layout that it looks like. MiniCity's stands for all with its files,
# except for ToyCity, whose images have names of their own, and Cityscapes, which has a folder for each city.
LOOKS_LIKE = {
    "toycity": looks_like_toycity,
    "cityscapes": looks_like_cities,
    "minicity": looks_like_cityscapes,
    "camvid": looks_like_camvid,
    "kitti": looks_like_kitti,
    "virtual_kitti": looks_like_virtual_kitti,
    "folder": looks_like_folder,
}
Options = TypeVar("Options", bound=SourceOptions)


def recognize(
    path: str, known: str | None = None, flag: str = "--dataset_path", on_hub: str = "--dataset_name {path}"
) -> str:
    """Return the data set of the folder `path`, `known` if it can be that one.

    `flag` is where the path was given, and `on_hub` names a data set of the datasets library instead, both for errors.
    Raises `DataError` with the remedy if the folder has none of the layouts.
    """
    root = Path(path)
    on_hub = on_hub.format(path=shlex.quote(path))
    if not root.is_dir():
        remedy = f"; if it is a data set on the hub: {on_hub}" if HUB_ID.fullmatch(path) else ""
        raise DataError(f"no folder {path} ({flag}){remedy}")
    found = next((dataset for dataset, looks_like in LOOKS_LIKE.items() if looks_like(root)), None)
    if known is not None and (found is None or source_of(known).layout == source_of(found).layout):
        return known
    if found is None and holds_data_set(Found(root)):
        raise DataError(
            f"{path} ({flag}) is a data set of the datasets library: give {on_hub} instead, or make a folder "
            f"of it with {prepare_command(path)}"
        )
    if found is None and (remedy := images_alone(root)):
        raise DataError(f"{remedy} ({flag}), or make a folder with {prepare_command(path)}")
    if found is None:
        raise DataError(
            f"{path} ({flag}) has none of the layouts in docs/data.md: if it holds images with masks or "
            f"polygons, make a folder of them with {prepare_command(path)}"
        )
    return found


def with_dataset(options: Options) -> Options:
    """Return `options` with a `dataset`: the one given, the one that --dataset_path holds, or MiniCity.

    With --dataset_name, it is "hub".
    """
    if options.dataset is not None:
        return options
    if options.dataset_name is not None:
        return replace(options, dataset="hub")
    return replace(options, dataset=DEFAULT if options.dataset_path is None else recognize(options.dataset_path))
