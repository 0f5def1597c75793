"""Define what the ids in a label image mean: `LabelInfo`, and the label sets of Cityscapes and CamVid."""

from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np

IGNORE_INDEX = 255
BLACK_AND_WHITE = {0, IGNORE_INDEX}  # the ids of a mask that holds black and white instead of ids
Color = tuple[int, int, int]  # (R, G, B)


class DataError(ValueError):
    """Invalid data or flags, or a file that cannot be written. The message is one line for the user."""


class MaskError(DataError):
    """A label file is sound, but holds something else than class ids. `kind` is a key of `LabelInfo.remedies`."""

    def __init__(self, message: str, kind: str = ""):
        self.kind = kind
        super().__init__(message)


@dataclass(frozen=True)
class LabelInfo:
    """A label set. Label files hold source ids; networks learn train ids 0..C-1.

    name           name of the label set, for messages; of one's own folder, the path of its classes.yaml
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
    colors         for label files in colours instead of ids: source id of each colour, by folder of the label file, as
                   a path; "" stands for all folders. Empty: label files hold ids
    remedies       what to do about label files that do not fit, for error messages, by kind: "colors" instead of ids,
                   "values" that cannot be ids, an unknown "id"
    ignore_index   train id of ignored pixels
    """

    name: str
    names: tuple[str, ...]
    source_ids: tuple[int, ...]
    palette: tuple[Color, ...]
    void_ids: tuple[int, ...]
    instances: tuple[str, ...] = ()
    class_weights: tuple[float, ...] = ()
    copyblob: tuple[str, ...] = ()
    ground: tuple[str, ...] = ()
    things: tuple[tuple[str, ...], ...] = ()
    colors: dict[str, dict[Color, int]] = field(default_factory=dict)
    remedies: dict[str, str] = field(default_factory=dict)
    ignore_index: int = IGNORE_INDEX

    @property
    def id2label(self) -> dict[int, str]:
        return dict(enumerate(self.names))

    @property
    def legend(self) -> dict[str, Color]:
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

    def colors_of(self, file: dict | str) -> dict[Color, int] | None:
        """Return the source id of each colour in a label file, or None if it holds ids."""
        if not self.colors:
            return None
        path = file.get("path") if isinstance(file, dict) else file
        return self.colors.get(str(PurePath(path or "").parent)) or self.colors.get("")

    @property
    def cache_key(self) -> tuple:
        """What the train ids of a label file depend on, besides the file."""
        return (self.source_ids, self.colors) if self.colors else (self.source_ids,)

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

# The 32 classes of CamVid with their colours (Brostow et al., 2009), and the class of SegNet's CamVid that each is part
# of: the 11 groups of Sturgess et al., 2009, "Combining Appearance and Structure from Motion Features for Road Scene
# Understanding", in the form of MathWorks' example "Semantic Segmentation Using Deep Learning".
CAMVID_CLASSES = (
    ("Animal", (64, 128, 64), "pedestrian"),
    ("Archway", (192, 0, 128), "building"),
    ("Bicyclist", (0, 128, 192), "bicyclist"),
    ("Bridge", (0, 128, 64), "building"),
    ("Building", (128, 0, 0), "building"),
    ("Car", (64, 0, 128), "car"),
    ("CartLuggagePram", (64, 0, 192), "pedestrian"),
    ("Child", (192, 128, 64), "pedestrian"),
    ("Column_Pole", (192, 192, 128), "pole"),
    ("Fence", (64, 64, 128), "fence"),
    ("LaneMkgsDriv", (128, 0, 192), "road"),
    ("LaneMkgsNonDriv", (192, 0, 64), "road"),
    ("Misc_Text", (128, 128, 64), "sign symbol"),
    ("MotorcycleScooter", (192, 0, 192), "bicyclist"),
    ("OtherMoving", (128, 64, 64), "car"),
    ("ParkingBlock", (64, 192, 128), "pavement"),
    ("Pedestrian", (64, 64, 0), "pedestrian"),
    ("Road", (128, 64, 128), "road"),
    ("RoadShoulder", (128, 128, 192), "pavement"),
    ("Sidewalk", (0, 0, 192), "pavement"),
    ("SignSymbol", (192, 128, 128), "sign symbol"),
    ("Sky", (128, 128, 128), "sky"),
    ("SUVPickupTruck", (64, 128, 192), "car"),
    ("TrafficCone", (0, 0, 64), "pole"),
    ("TrafficLight", (0, 64, 64), "sign symbol"),
    ("Train", (192, 64, 128), "car"),
    ("Tree", (128, 128, 0), "tree"),
    ("Truck_Bus", (192, 128, 192), "car"),
    ("Tunnel", (64, 0, 64), "building"),
    ("VegetationMisc", (192, 192, 0), "tree"),
    ("Void", (0, 0, 0), ""),
    ("Wall", (64, 192, 0), "building"),
)
_CAMVID32 = tuple((name, color) for name, color, _ in CAMVID_CLASSES if name != "Void")

CAMVID32 = LabelInfo(
    name="camvid32",
    names=tuple(name for name, _ in _CAMVID32),
    source_ids=tuple(range(len(_CAMVID32))),
    palette=tuple(color for _, color in _CAMVID32),
    void_ids=(len(_CAMVID32), 255),
    copyblob=("Fence:Sidewalk",),
    ground=("Road", "LaneMkgsDriv", "LaneMkgsNonDriv", "RoadShoulder", "Sidewalk"),
    things=(
        *(("Column_Pole", "SignSymbol", "TrafficLight"), ("Bicyclist", "MotorcycleScooter"), ("Pedestrian", "Child")),
        *(("Car",), ("SUVPickupTruck",), ("Truck_Bus",)),
    ),
)

# The classes of Virtual KITTI with their colours in version 2 (Cabon et al., 2020, arXiv 2001.10773).
VIRTUAL_KITTI_COLORS = {
    "terrain": (210, 0, 200),
    "sky": (90, 200, 255),
    "tree": (0, 199, 0),
    "vegetation": (90, 240, 0),
    "building": (140, 140, 140),
    "road": (100, 60, 100),
    "guard rail": (250, 100, 255),
    "traffic sign": (255, 255, 0),
    "traffic light": (200, 200, 0),
    "pole": (255, 130, 0),
    "misc": (80, 80, 80),
    "truck": (160, 60, 60),
    "car": (255, 127, 80),
    "van": (0, 139, 139),
    "undefined": (0, 0, 0),
}
_VIRTUAL_KITTI = tuple((name, color) for name, color in VIRTUAL_KITTI_COLORS.items() if name != "undefined")

VIRTUAL_KITTI = LabelInfo(
    name="virtual_kitti",
    names=tuple(name for name, _ in _VIRTUAL_KITTI),
    source_ids=tuple(range(len(_VIRTUAL_KITTI))),
    palette=tuple(color for _, color in _VIRTUAL_KITTI),
    void_ids=(255,),
    copyblob=("truck:road", "van:road"),
    ground=("road", "terrain"),
    things=(("pole", "traffic light", "traffic sign"), ("truck",), ("car",), ("van",)),
)
