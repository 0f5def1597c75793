"""The data sets that `--dataset` can name, with their facts. Plain data: this module reads no files.

`sources.py` finds the files of each layout. `labels.py` defines the classes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .labels import CAMVID, CAMVID32, CITYSCAPES, VIRTUAL_KITTI, DataError, LabelInfo

SPLITS = {"train": "train", "val": "validation", "test": "test"}  # name of the folder -> name of the split
TRAIN_ON = {"train": ("train",), "train+val": ("train", "validation")}  # value of --train_on -> splits
UNNAMED = "unnamed data"  # the title of data that nobody has named
TOYCITY_COMMAND = "python -m data_scripts.toycity toycity"


@dataclass(frozen=True)
class DataNote:
    """Text about a data set for model cards."""

    title: str
    link: str | None
    licence: str  # the hub's name of the licence for weights trained on this data
    note: str  # explains the licence
    limits: str  # what a model cannot learn from this data
    publishable: bool = True  # whether its images may be shown in public
    validation: str = ""  # warning about scores on the validation split, if one is needed


def unknown_data(title: str) -> DataNote:
    """Return the note on data of which nothing but the title is known."""
    note = f"The licence of {title} is not known here. Find out, and keep to it for these weights too."
    return DataNote(title, None, "other", note, "It knows only what its training images show.", publishable=False)


@dataclass(frozen=True)
class Source:
    """A data set that `--dataset` can name.

    layout     arrangement of the files, a key of `sources.LAYOUTS`
    labels     its classes, ids and colours
    crop_size  default (H, W) of training crops, reduced for smaller images (see `file_checks.fit_crop`)
    help       what to do if the folder is missing
    note       text for model cards
    """

    layout: str
    labels: LabelInfo | None
    crop_size: tuple[int, int]
    help: str
    note: DataNote


CITYSCAPES_TERMS = (
    "Cityscapes may be used for research, teaching and personal experiments, not commercially, and its images may not "
    "be passed on ([terms](https://www.cityscapes-dataset.com/license/)). Keep to these terms for the weights too."
)
NON_COMMERCIAL = (
    "{} may be used and passed on, but not commercially, and only under the same terms "
    "([CC BY-NC-SA 3.0](https://creativecommons.org/licenses/by-nc-sa/3.0/)). Keep to them for the weights too."
)
STREETS = "It has seen daylight and dry weather in German and Swiss cities, from one car's camera, and nothing else."
CAMVID_RELEASE = "the folders 701_StillsRaw_full and LabeledApproved_full of the original CamVid"
CAMVID_HELP = f"the folder needs train, trainannot, val, valannot (and test) of SegNet's CamVid, or {CAMVID_RELEASE}"
CAMVID_NOTE = DataNote(
    "CamVid",
    "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
    "other",
    "CamVid is published for research without a licence of its own: ask its authors before other uses.",
    "It has seen one city on a few drives, and nothing else.",
    validation="CamVid's validation split is one clip of 6.7 seconds between training frames of the same "
    "drive. A score on it measures how well such frames are fitted: one network had a mIoU of 0.54 there and "
    "of 0.36 on a drive that it had not seen.",
)
DATASETS = {
    "minicity": Source(
        "cityscapes",
        CITYSCAPES,
        (576, 1152),
        "download MiniCity (link and rules: https://vipriors.github.io) and unpack it to ./minicity/leftImg8bit and "
        f"./minicity/gtFine, or make a stand-in with {TOYCITY_COMMAND} and train with --dataset toycity",
        DataNote("MiniCity", "https://vipriors.github.io", "other", CITYSCAPES_TERMS, STREETS, publishable=False),
    ),
    "cityscapes": Source(
        "cityscapes",
        CITYSCAPES,
        (576, 1152),
        "unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from https://www.cityscapes-dataset.com there",
        DataNote(
            "Cityscapes", "https://www.cityscapes-dataset.com", "other", CITYSCAPES_TERMS, STREETS, publishable=False
        ),
    ),
    "camvid": Source("camvid", CAMVID, (360, 480), CAMVID_HELP, CAMVID_NOTE),
    "camvid32": Source("camvid", CAMVID32, (360, 480), f"the folder needs {CAMVID_RELEASE}", CAMVID_NOTE),
    "kitti": Source(
        "kitti",
        CITYSCAPES,
        (368, 768),
        "unpack data_semantics.zip of https://www.cvlibs.net/datasets/kitti/eval_semseg.php?benchmark=semantics2015 "
        "there: it needs training/image_2 and training/semantic",
        DataNote(
            "KITTI semantics 2015",
            "https://www.cvlibs.net/datasets/kitti/eval_semseg.php?benchmark=semantics2015",
            "cc-by-nc-sa-3.0",
            NON_COMMERCIAL.format("KITTI"),
            "It has seen daylight and dry weather in and around one German city, from one car's camera.",
            validation="KITTI names no validation images. Every fourth training image is one here, so the same drive "
            "can have images on both sides.",
        ),
    ),
    "virtual_kitti": Source(
        "virtual_kitti",
        VIRTUAL_KITTI,
        (368, 768),
        "unpack the images and the semantic labels of version 1.3.1 (vkitti_1.3.1_rgb, vkitti_1.3.1_scenegt) or 2 "
        "(Scene01, Scene02, ...) from https://europe.naverlabs.com/proxy-virtual-worlds there",
        DataNote(
            "Virtual KITTI",
            "https://europe.naverlabs.com/proxy-virtual-worlds",
            "cc-by-nc-sa-3.0",
            NON_COMMERCIAL.format("Virtual KITTI"),
            "It has seen five computer-made streets without people: its scores say little about photos.",
        ),
    ),
    "toycity": Source(
        "cityscapes",
        CITYSCAPES,
        (256, 512),
        f"create it with {TOYCITY_COMMAND}",
        DataNote(
            "ToyCity",
            None,
            "apache-2.0",
            "ToyCity is drawn by the program that trained this network, so no other licence applies.",
            "It has seen only drawings: its predictions on photos are meaningless.",
        ),
    ),
    "folder": Source(
        "folder",
        None,
        (768, 768),  # whole photos up to this size: as many pixels as a crop of MiniCity
        "the folder needs images/, masks/ and classes.yaml, and `python -m data_scripts.prepare SOURCE FOLDER` makes "
        "such a folder",
        unknown_data(UNNAMED),
    ),
    "hub": Source(
        "hub",
        None,
        (768, 768),
        "give --dataset_name an id on the hub, or a folder of `save_to_disk` or of Parquet files",
        unknown_data(UNNAMED),
    ),
}


def source_of(dataset: str) -> Source:
    """Return the entry of `DATASETS`. Raises `DataError` with the list of names if `dataset` is unknown."""
    if dataset not in DATASETS:
        raise DataError(f"--dataset {dataset} is not known: choose one of {', '.join(DATASETS)}")
    return DATASETS[dataset]


def dataset_of_classes(names: Sequence[str]) -> str | None:
    """Return the first data set of the catalogue with these classes, or MiniCity for as many generic names, or None."""
    if are_generic(names) and len(names) == len(CITYSCAPES.names):
        return "minicity"
    known = {key: source.labels.names for key, source in DATASETS.items() if source.labels is not None}
    return next((key for key, classes in known.items() if sorted(classes) == sorted(names)), None)


def named_dataset(dataset: str | None, names: Sequence[str]) -> str | None:
    """Return the data set that a configuration names, or None if the catalogue knows it by other classes than `names`.

    A network that was fine-tuned elsewhere keeps the entry of the network that it started from.
    """
    labels = DATASETS[dataset].labels if dataset in DATASETS else None
    if labels is None or (are_generic(names) and len(names) == len(labels.names)):
        return dataset
    return dataset if sorted(labels.names) == sorted(names) else None


def are_generic(names: Sequence[str]) -> bool:
    """Whether these are transformers' names for unnamed classes: LABEL_0, LABEL_1, ..."""
    return all(re.fullmatch(r"LABEL_\d+", name) for name in names)


def data_note(dataset: str | None) -> DataNote:
    """Return the note on a data set. For an unknown one, the note warns that its licence is not known."""
    if dataset in DATASETS:
        return DATASETS[dataset].note
    return unknown_data(dataset or UNNAMED)


def may_be_shown(dataset: str | None) -> bool:
    """Whether a page may hold images of a data set without a warning. Of a folder of one's own, the owner knows."""
    return dataset == "folder" or data_note(dataset).publishable
