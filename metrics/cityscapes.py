"""The official Cityscapes figures: IoU and instance-weighted IoU of classes and categories, and their averages.

    counts = CityscapesCounts()
    counts.add(prediction, label, instances)      # source ids (H, W) of each image
    print(tables(counts.scores()))

Definitions, ids and mean sizes are those of the benchmark (Cordts et al., 2016, arXiv 1604.01685, section 4.1, and
cityscapesScripts). The results are equal to those of cityscapesScripts. The instance-weighted IoU (iIoU in the paper,
nIoU in its tables) counts each pixel of an object with the weight mean size of the class / size of the object.
"""

from collections.abc import Sequence

import numpy as np

from .mean_iou.mean_iou import count_pairs

NUM_IDS = 34  # source ids 0 to 33
NAMES = (
    *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground"),
    *("road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel"),
    *("pole", "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider"),
    *("car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
)
CATEGORIES = {  # the ids of each
    "void": range(0, 7),
    "flat": range(7, 11),
    "construction": range(11, 17),
    "object": range(17, 21),
    "nature": range(21, 23),
    "sky": range(23, 24),
    "human": range(24, 26),
    "vehicle": range(26, 34),
}
IGNORED = (*range(7), 9, 10, 14, 15, 16, 18, 29, 30)  # ids that no pixel is scored on
SCORED = tuple(i for i in range(NUM_IDS) if i not in IGNORED)
WITH_INSTANCES = ("human", "vehicle")  # categories all of whose classes have objects
MEAN_SIZES = {  # pixels of an object, over the training images
    24: 3462.4756337644,
    25: 3930.4788056518,
    26: 12794.0202738185,
    27: 27855.1264367816,
    28: 35732.1511111111,
    31: 67583.7075812274,
    32: 6298.7200839748,
    33: 4672.3249222261,
}
FIRST_OBJECT = 1001  # instance maps hold 1000 x id + number for objects, and the id itself elsewhere


class CityscapesCounts:
    """Counts of any number of images, from which the scores follow.

    pixels   int64 (34, 34), indexed [label, prediction]
    objects  float64 (34, 2): weighted pixels of the objects of each class, found with the class and missed
    groups   {category: float64 (2,)}, the same for pixels found with a class of the category
    """

    def __init__(self):
        self.pixels = np.zeros((NUM_IDS, NUM_IDS), np.int64)
        self.objects = np.zeros((NUM_IDS, 2))
        self.groups = {name: np.zeros(2) for name in WITH_INSTANCES}
        self.has_instances = True

    def add(self, prediction: np.ndarray, label: np.ndarray, instances: np.ndarray | None) -> None:
        """Count an image: source ids uint8 (H, W), and instance ids uint16 (H, W), or None if there are none.

        A label of 34 or more counts as ignored: 255 is the licence plate, -1. If one image has no instance ids, there
        are no instance-weighted scores. Raises ValueError, and counts nothing, if shapes differ, a prediction is no
        Cityscapes id, or an object belongs to a class without objects.
        """
        if prediction.shape != label.shape or instances is not None and instances.shape != label.shape:
            others = label.shape if instances is None else (label.shape, instances.shape)
            raise ValueError(f"a prediction is {prediction.shape}, its label {others}")
        pixels = count_pairs(label, prediction).numpy()
        if pixels[:, NUM_IDS:].any():
            wrong = int(np.flatnonzero(pixels[:, NUM_IDS:].any(0))[0]) + NUM_IDS
            raise ValueError(f"a prediction holds id {wrong}: Cityscapes ids are 0 to {NUM_IDS - 1}")
        if instances is None:
            self.has_instances = False
        else:
            self._add_objects(prediction, instances)
        self.pixels += pixels[:NUM_IDS, :NUM_IDS]

    def _add_objects(self, prediction: np.ndarray, instances: np.ndarray) -> None:
        places = np.flatnonzero(instances >= FIRST_OBJECT)
        found, predicted = instances.reshape(-1)[places], prediction.reshape(-1)[places]
        sizes = np.bincount(found)
        objects = np.flatnonzero(sizes)
        ids = (objects // 1000).tolist()
        if strange := [i for i in ids if i >= NUM_IDS or i in SCORED and i not in MEAN_SIZES]:
            raise ValueError(f"an instance map has an object of id {strange[0]}, a class without objects")
        row = np.zeros(len(sizes), np.int64)  # of each object in the table of its predicted ids
        row[objects] = NUM_IDS * np.arange(len(objects))
        pixels = np.bincount(row[found] + predicted, minlength=NUM_IDS * len(objects)).reshape(-1, NUM_IDS)
        for i, size, counts in zip(ids, sizes[objects], pixels, strict=True):
            if i in MEAN_SIZES:
                weight = MEAN_SIZES[i] / size
                category = next(name for name in WITH_INSTANCES if i in CATEGORIES[name])
                near = counts[list(CATEGORIES[category])].sum()
                self.objects[i] += weight * np.array([counts[i], size - counts[i]])
                self.groups[category] += weight * np.array([near, size - near])

    def scores(self) -> dict:
        """Return the scores, under the names of cityscapesScripts; nan where a score is undefined.

        classScores, classInstScores        {class: IoU}, {class: instance-weighted IoU}
        categoryScores, categoryInstScores  the same for categories
        averageScore...                     means of those that are defined
        """
        scores: dict[str, dict[str, float]] = {
            key: {} for key in ("classScores", "classInstScores", "categoryScores", "categoryInstScores")
        }
        for i, name in enumerate(NAMES):
            iou = weighted = float("nan")
            if i in SCORED:
                hits = self.pixels[i, i]
                wrong = self.pixels[list(SCORED), i].sum() - self.pixels[i, i]
                iou = _share(hits, self.pixels[i].sum() + wrong)
                if i in MEAN_SIZES and self.has_instances:
                    weighted = _share(self.objects[i, 0], self.objects[i].sum() + wrong)
            scores["classScores"][name], scores["classInstScores"][name] = iou, weighted
        for name, members in CATEGORIES.items():
            own = [i for i in members if i in SCORED]
            others = [i for i in SCORED if i not in members]
            hits, wrong = self.pixels[np.ix_(own, own)].sum(), self.pixels[np.ix_(others, own)].sum()
            scores["categoryScores"][name] = _share(hits, self.pixels[own].sum() + wrong) if own else float("nan")
            weighted = float("nan")
            if name in self.groups and self.has_instances:
                wrong = self.pixels[np.ix_(others, list(members))].sum()  # here also as classes that are not scored
                weighted = _share(self.groups[name][0], self.groups[name].sum() + wrong)
            scores["categoryInstScores"][name] = weighted
        averages = {
            "averageScoreClasses": "classScores",
            "averageScoreInstClasses": "classInstScores",
            "averageScoreCategories": "categoryScores",
            "averageScoreInstCategories": "categoryInstScores",
        }
        return scores | {name: _average(scores[key]) for name, key in averages.items()}


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _average(scores: dict[str, float]) -> float:
    known = [score for score in scores.values() if score == score]
    return sum(known) / len(known) if known else float("nan")


def tables(scores: dict) -> str:
    """Return the scores in the layout of the benchmark's script: a table of classes and one of categories."""
    classes, categories = [NAMES[i] for i in SCORED], [name for name in CATEGORIES if name != "void"]
    parts = [("classes", classes, "class", "Classes"), ("categories", categories, "category", "Categories")]
    return "\n\n".join(
        table(
            title,
            {name: (scores[f"{kind}Scores"][name], scores[f"{kind}InstScores"][name]) for name in names},
            (scores[f"averageScore{kinds}"], scores[f"averageScoreInst{kinds}"]),
        )
        for title, names, kind, kinds in parts
    )


def table(title: str, rows: dict[str, Sequence[float]], average: Sequence[float]) -> str:
    """Return a table of scores by name in the layout of the benchmark's script.

    Each row, and `average`, holds an IoU, and an instance-weighted IoU if there is one.
    """
    width = max(14, *map(len, rows))
    head = f"{title:<{width + 3}}" + "      ".join(("IoU", "nIoU")[: len(average)])
    lines = [
        f"{name:<{width}}: " + "    ".join(f"{score:>5.3f}" for score in scores)
        for name, scores in [*rows.items(), ("Score Average", average)]
    ]
    line = "-" * (width + 9 * len(average))
    return "\n".join([head, line, *lines[:-1], line, lines[-1], line])
