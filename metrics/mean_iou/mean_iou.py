"""Mean intersection over union as an `evaluate` module that keeps pixel counts instead of maps.

    metric = evaluate.load(str(Path(__file__).parent / "metrics" / "mean_iou"))
    metric.add_batch(predictions=maps, references=labels)  # any number of times
    scores = metric.compute(num_labels=19, ignore_index=255)

A class's IoU is computed over the pixels of all images, as in Everingham et al., "The PASCAL Visual Object Classes
(VOC) Challenge", IJCV 2010. Mean and overall ("pixel") accuracy are those of Long et al., "Fully Convolutional Networks
for Semantic Segmentation", CVPR 2015. `evaluate` reads imports line by line, so each has its own line.
"""

from typing import Any

import cv2
import datasets
import evaluate
import numpy as np
import torch
from PIL import Image

Map = np.ndarray | torch.Tensor | Image.Image
Maps = Map | list[Map] | tuple[Map, ...]
NUM_IDS = 256  # ids are bytes: a row of the table for each reference id, a column for each predicted id
CHUNK = 2**24  # pixels counted at a time; calcHist returns float32, which is exact for integers up to here

DESCRIPTION = "Mean IoU and accuracies of semantic segmentation maps, computed from a table of pixel counts."
INPUTS = """
A map is an (H, W) array of class ids in 0..255. Pass one map, a stack (B, H, W), or a list of maps of any
sizes, as torch tensors on any device, numpy arrays or PIL images.
"""
CITATION = "Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, IJCV 88:303-338, 2010"


def split_maps(maps: Maps) -> list[Map]:
    """Return a list of maps from one map, a stack (B, H, W), a list or a tuple."""
    is_stack = getattr(maps, "ndim", 2) == 3  # a PIL image has no ndim
    return list(maps) if is_stack or isinstance(maps, (list, tuple)) else [maps]


def as_bytes(ids: Map, name: str) -> np.ndarray | torch.Tensor:
    """Return one map (H, W) as uint8: a tensor if it is on an accelerator, else a numpy array.

    Raises ValueError if it is not a map of integer ids in 0..255.
    """
    if isinstance(ids, torch.Tensor):
        is_integer = not (ids.is_floating_point() or ids.is_complex())
        if is_integer and ids.is_cpu:
            ids = ids.numpy()
        elif is_integer and ids.dtype != torch.uint8:
            ids = ids.long()
    else:
        ids = np.asarray(ids)
        is_integer = ids.dtype.kind in "biu"
    if not is_integer:
        raise ValueError(f"{name} must be integer class ids, not {ids.dtype}: take the argmax of scores")
    if ids.ndim != 2:
        raise ValueError(f"{name} must be maps (H, W) or stacks (B, H, W): one map is {tuple(ids.shape)}")
    cast = ids.astype(np.uint8, copy=False) if isinstance(ids, np.ndarray) else ids.to(torch.uint8)
    if cast is not ids and (changed := cast != ids).any():
        wrong = int(ids[changed][0])
        raise ValueError(f"{name} contain the id {wrong}, outside 0..255: give such pixels an unused id (255)")
    return cast


def count_pairs(reference: np.ndarray | torch.Tensor, prediction: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Return the pixels per pair of ids in two uint8 maps (H, W), int64 (256, 256) indexed [reference, prediction].

    OpenCV counts numpy arrays, in a fraction of bincount's time. A tensor is counted on its device.
    """
    if isinstance(reference, np.ndarray) and isinstance(prediction, np.ndarray):
        maps = [reference.reshape(-1), prediction.reshape(-1)]
        counts = np.zeros((NUM_IDS, NUM_IDS), np.int64)
        for start in range(0, reference.size, CHUNK):
            chunk = [ids[start : start + CHUNK] for ids in maps]
            if chunk[0].size % 4 == 0:  # interleave four quarters: counting neighbours of one bin in a row is slow
                chunk = [cv2.merge(list(ids.reshape(4, -1))).reshape(-1) for ids in chunk]
            counts += cv2.calcHist(chunk, [0, 1], None, [NUM_IDS] * 2, [0, NUM_IDS] * 2).astype(np.int64)
        return torch.from_numpy(counts)
    device = next(ids.device for ids in (prediction, reference) if isinstance(ids, torch.Tensor))
    reference, prediction = (
        torch.tensor(ids, device=device) if isinstance(ids, np.ndarray) else ids.to(device)
        for ids in (reference, prediction)
    )
    pairs = reference.int() * NUM_IDS + prediction
    return torch.bincount(pairs.flatten(), minlength=NUM_IDS**2).view(NUM_IDS, NUM_IDS)


def new_ids(label_map: dict[int, int] | None, reduce_labels: bool) -> np.ndarray:
    """Return the id that replaces each reference id, (256,). Raises ValueError if `label_map` leaves 0..255."""
    ids = np.arange(NUM_IDS)
    for old, new in (label_map or {}).items():
        if old not in range(NUM_IDS) or new not in range(NUM_IDS):
            raise ValueError(f"label_map must map integers in 0..255, not {old!r} to {new!r}")
        ids[old] = new
    return np.where(ids % 255 == 0, 255, ids - 1) if reduce_labels else ids


def scores_of(counts: np.ndarray, num_labels: int) -> dict[str, np.ndarray | np.float64]:
    """Return the scores of `MeanIoU.compute` from counts (256, 256), indexed [reference, prediction]."""
    hits = counts.diagonal()[:num_labels]
    reference_pixels, predicted_pixels = counts[:num_labels].sum(1), counts[:, :num_labels].sum(0)
    with np.errstate(invalid="ignore"):  # 0 / 0 is nan, the score of what does not occur
        iou = hits / (reference_pixels + predicted_pixels - hits)
        accuracy = hits / reference_pixels
        overall_accuracy = hits.sum() / reference_pixels.sum()
    return {
        "mean_iou": mean_of_present(iou),
        "mean_accuracy": mean_of_present(accuracy),
        "overall_accuracy": overall_accuracy,
        "per_category_iou": iou,
        "per_category_accuracy": accuracy,
    }


def mean_of_present(scores: np.ndarray) -> np.float64:
    """Return the mean of the scores that are not nan, or nan if all are."""
    present = scores[~np.isnan(scores)]
    return present.mean() if present.size else np.float64("nan")


class MeanIoU(evaluate.Metric):
    """Compute IoU and accuracy per class and their means, from one table of counts for any number of maps.

    Each process counts maps that no other counts. Sum `counts` over the processes before `compute`.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        if self.num_process != 1:
            raise ValueError("mean_iou counts per process: load it without num_process and sum its `counts`")
        self._reset()

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Image(), "references": datasets.Image()})
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation=CITATION, features=features, inputs_description=INPUTS
        )

    def _reset(self) -> None:
        self._counts = torch.zeros(NUM_IDS, NUM_IDS, dtype=torch.int64)

    @property
    def counts(self) -> torch.Tensor:
        """Pixels per pair of ids, int64 (256, 256) indexed [reference, prediction], on the last map's device."""
        return self._counts

    @counts.setter
    def counts(self, counts: torch.Tensor) -> None:
        if counts.dtype != torch.int64 or counts.shape != (NUM_IDS, NUM_IDS):
            raise ValueError(f"counts must be int64 (256, 256), not {counts.dtype} {tuple(counts.shape)}")
        self._counts = counts

    def add(
        self,
        *,
        prediction: Map | None = None,
        reference: Map | None = None,
        predictions: Map | None = None,
        references: Map | None = None,
    ) -> None:
        """Count one pair of maps (H, W), under either name: `evaluate.combine` says `predictions` and `references`.

        Raises ValueError as `add_batch` does.
        """
        prediction = predictions if prediction is None else prediction
        reference = references if reference is None else reference
        self.add_batch(predictions=[prediction], references=[reference])

    def add_batch(self, *, predictions: Maps, references: Maps) -> None:
        """Count pairs of maps of equal shape.

        Raises ValueError, and counts nothing, if shapes or numbers of maps differ or ids are not integers in 0..255.
        """
        predictions, references = split_maps(predictions), split_maps(references)
        if len(predictions) != len(references):
            raise ValueError(f"{len(predictions)} predicted maps, but {len(references)} reference maps")
        total = self._counts
        for prediction, reference in zip(predictions, references, strict=True):
            prediction, reference = as_bytes(prediction, "predictions"), as_bytes(reference, "references")
            sizes = tuple(prediction.shape), tuple(reference.shape)
            if sizes[0] != sizes[1]:
                raise ValueError(f"a prediction is {sizes[0]}, its reference {sizes[1]}: resize the former")
            counts = count_pairs(reference, prediction)
            total = total.to(counts.device) + counts
        self._counts = total

    def compute(
        self,
        *,
        predictions: Maps | None = None,
        references: Maps | None = None,
        num_labels: int,
        ignore_index: int | None,
        nan_to_num: float | None = None,
        label_map: dict[int, int] | None = None,
        reduce_labels: bool = False,
    ) -> dict[str, float | np.ndarray]:
        """Return the scores (0..1) of all maps added so far, `predictions` and `references` included. Resets counts.

        num_labels     the classes are 0..num_labels - 1
        label_map      maps reference ids, all at once: {0: 1, 1: 0} swaps
        reduce_labels  then subtracts 1 from reference ids: 0 becomes 255, 255 stays
        ignore_index   pixels with this reference id are then left out; None: no pixel is
        nan_to_num     replaces nan in all results

        If the predicted id is not a class, the pixel is a miss for the reference's class. If the reference id is not a
        class, the pixel is a false positive for the predicted class and counts in no accuracy.

        The result has these keys:

        per_category_iou         float64 (num_labels,); nan for a class in neither references nor predictions
        per_category_accuracy    float64 (num_labels,); nan for a class not in the references
        mean_iou, mean_accuracy  means of those values that are not nan
        overall_accuracy         over all pixels whose reference is a class

        Raises ValueError if nothing was added, one of predictions and references is missing, num_labels is not in
        1..256, or label_map has an id outside 0..255.
        """
        if not 1 <= num_labels <= NUM_IDS:
            raise ValueError(f"num_labels must be in 1..256, not {num_labels}")
        renamed = new_ids(label_map, reduce_labels)
        if (predictions is None) != (references is None):
            raise ValueError("compute needs both predictions and references, or neither")
        if predictions is not None:
            self.add_batch(predictions=predictions, references=references)
        if not self._counts.any():
            raise ValueError("mean_iou has nothing to score: call add_batch before compute")

        counts = np.zeros((NUM_IDS, NUM_IDS), np.int64)
        np.add.at(counts, renamed, self._counts.cpu().numpy())
        self._reset()
        counts[np.arange(NUM_IDS) == ignore_index] = 0
        nan = np.nan if nan_to_num is None else nan_to_num
        scores = {name: np.nan_to_num(score, nan=nan) for name, score in scores_of(counts, num_labels).items()}
        return {name: score if score.ndim else float(score) for name, score in scores.items()}

    _compute = compute  # tutorials of the hub's module call it by this name
