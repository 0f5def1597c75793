"""Define what the ids in a label image mean: `LabelInfo`, and the label sets of Cityscapes and CamVid."""

from dataclasses import dataclass

import numpy as np

IGNORE_INDEX = 255


class DataError(ValueError):
    """Invalid data or flags, or a file that cannot be written. The message is one line for the user."""


class MaskError(DataError):
    """A label file is sound, but holds something else than class ids."""


@dataclass(frozen=True)
class LabelInfo:
    """A label set. Label files hold source ids; networks learn train ids 0..C-1.

    name           name of the label set
    names          class names by train id
    source_ids     source id of each train id, in label files and submissions
    palette        (R, G, B) by train id
    void_ids       source ids that are ignored; an id that is neither here nor in `source_ids` is an error
    instances      names of the classes whose objects have instance ids
    class_weights  published loss weights by train id, if there are any
    copyblob       CopyBlob's rules, "pasted class:class that it stands on"
    ground         names of the flat classes; any other class below an object's foot is nearer than the object
    things         names of the classes of separate, upright objects, in groups; touching things of one group are one
                   object
    remedy         what to do about a label file that does not fit, for error messages
    ignore_index   train id of ignored pixels
    """

    name: str
    names: tuple[str, ...]
    source_ids: tuple[int, ...]
    palette: tuple[tuple[int, int, int], ...]
    void_ids: tuple[int, ...]
    instances: tuple[str, ...] = ()
    class_weights: tuple[float, ...] = ()
    copyblob: tuple[str, ...] = ()
    ground: tuple[str, ...] = ()
    things: tuple[tuple[str, ...], ...] = ()
    remedy: str = ""
    ignore_index: int = IGNORE_INDEX

    @property
    def id2label(self) -> dict[int, str]:
        return dict(enumerate(self.names))

    @property
    def legend(self) -> dict[str, tuple[int, int, int]]:
        return dict(zip(self.names, self.palette, strict=True))

    @property
    def train_ids(self) -> np.ndarray:
        """Lookup table uint8 (256,) from source id to train id or `ignore_index`."""
        table = np.full(256, self.ignore_index, np.uint8)
        table[list(self.source_ids)] = np.arange(len(self.source_ids))
        return table

    @property
    def is_ground(self) -> np.ndarray:
        """Whether each train id is ground, bool (256,). Ignored pixels are; without `ground`, every id is."""
        table = np.full(256, not self.ground)
        table[[*(self.names.index(name) for name in self.ground), self.ignore_index]] = True
        return table

    @property
    def thing_groups(self) -> np.ndarray:
        """The group of each train id in `things`, counted from 1, uint8 (256,); 0 for other classes."""
        table = np.zeros(256, np.uint8)
        for number, group in enumerate(self.things, start=1):
            table[[self.names.index(name) for name in group]] = number
        return table

    @property
    def known_ids(self) -> np.ndarray:
        """Whether a label file may hold each source id, bool (256,)."""
        table = np.zeros(256, bool)
        table[[*self.source_ids, *self.void_ids]] = True
        return table

    def to_source(self, train_ids: np.ndarray) -> np.ndarray:
        """Map train ids to source ids, uint8. Ignored pixels become the first void id."""
        table = np.full(256, self.void_ids[0], np.uint8)
        table[: len(self.source_ids)] = self.source_ids
        return table[train_ids]

    def to_color(self, train_ids: np.ndarray) -> np.ndarray:
        """Map train ids (H, W) to RGB, uint8 (H, W, 3). Ignored pixels become black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self.palette)] = self.palette
        return table[train_ids]


# Names, ids and colours are those of labels.py in cityscapesScripts (Cordts et al., 2016, arXiv 1604.01685).
_CITYSCAPES = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)

CITYSCAPES = LabelInfo(
    name="cityscapes",
    names=tuple(name for name, _, _ in _CITYSCAPES),
    source_ids=tuple(source_id for _, source_id, _ in _CITYSCAPES),
    palette=tuple(color for _, _, color in _CITYSCAPES),
    void_ids=(0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255),
    instances=("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    # from the VIPriors challenge's starting code
    class_weights=(
        *(0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023),
        *(0.9539, 0.9843, 1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507),
    ),
    copyblob=("wall:sidewalk", "fence:sidewalk", "bus:road", "train:road"),
    ground=("road", "sidewalk", "terrain"),
    things=(
        *(("pole", "traffic light", "traffic sign"), ("rider", "motorcycle", "bicycle")),
        *(("person",), ("car",), ("truck",), ("bus",), ("train",)),
    ),
)

# The 11 classes of SegNet's CamVid (Badrinarayanan et al., 2017, arXiv 1511.00561), in the order of its label files.
_CAMVID = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (60, 40, 222)),
    ("tree", (128, 128, 0)),
    ("sign symbol", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)

CAMVID = LabelInfo(
    name="camvid",
    names=tuple(name for name, _ in _CAMVID),
    source_ids=tuple(range(len(_CAMVID))),
    palette=tuple(color for _, color in _CAMVID),
    void_ids=(11, 255),
    copyblob=("fence:pavement",),
    ground=("road", "pavement"),
    things=(("pole", "sign symbol"), ("car",), ("pedestrian",), ("bicyclist",)),
)
