"""Write the zip file for a challenge server: one checked id image per image of the split."""

import zipfile
from pathlib import Path

import numpy as np
from datasets import Dataset

from .files import write_whole
from .labels import DataError, LabelInfo
from .reader import describe, read_label, upright_size


def write_submission(split: Dataset, labels: LabelInfo, results: Path) -> Path:
    """Pack the id images of `split` from results_NAME/ into results_NAME.zip, and return its path.

    Leaves out other files in the folder. Raises `DataError` if a prediction is missing, has another size than its
    image, or holds an id that is no class, or if the file cannot be written.
    """
    path = results.with_name(f"{results.name}.zip")
    files = [results / f"{name}.png" for name in split["name"]]
    for file, image in zip(files, split["image"], strict=True):
        if not file.is_file():
            raise DataError(f"no prediction {file} of image {describe(image)}: predict it first")
        ids = read_label(str(file))
        size = upright_size(image)
        if ids.shape != size:
            raise DataError(f"{file} is {ids.shape[0]}x{ids.shape[1]}, but its image is {size[0]}x{size[1]}")
        strange = np.setdiff1d(ids, labels.source_ids)
        if len(strange):
            raise DataError(f"{file} holds id {strange[0]}, which is not a class of {labels.name}")

    def pack(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:  # PNG is compressed already
            for file in files:
                archive.write(file, file.relative_to(results))

    write_whole(path, pack, "make room or allow writing there, or choose another --output_dir")
    return path
