"""Mean intersection over union as an `evaluate` module that keeps counts of pixels instead of maps.

    metric = evaluate.load(str(Path(__file__).parent / "metrics" / "mean_iou"))
    metric.add_batch(predictions=maps, references=labels)  # any number of times
    scores = metric.compute(num_labels=19, ignore_index=255)

IoU of a class over the pixels of all images: Everingham et al., "The PASCAL Visual Object Classes (VOC)
Challenge", IJCV 2010. Mean and overall ("pixel") accuracy: Long et al., "Fully Convolutional Networks for
Semantic Segmentation", CVPR 2015. evaluate reads the imports line by line, so each has a line of its own.
"""

import cv2
import datasets
import evaluate
import numpy as np
import torch

NUM_IDS = 256  # ids are bytes: a reference selects the row of the table, a prediction the column
CHUNK = 2**24  # pixels; calcHist answers in float32, which is exact for whole numbers up to here

DESCRIPTION = "Mean IoU and accuracies of semantic segmentation maps, computed from a table of pixel counts."
INPUTS = """
A map is an (H, W) array of class ids in 0..255. Give one map, a stack (B, H, W), or a list of maps of any
sizes, as torch tensors on any device, numpy arrays or PIL images.
"""
CITATION = "Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, IJCV 88:303-338, 2010"


def split_maps(maps) -> list:
    """The single maps of one map, a stack (B, H, W), a list or a tuple."""
    is_stack = getattr(maps, "ndim", 2) == 3  # a PIL image has no ndim
    return list(maps) if is_stack or isinstance(maps, (list, tuple)) else [maps]


def as_bytes(ids, name: str) -> np.ndarray | torch.Tensor:
    """One map (H, W) as uint8: a tensor if it lies on an accelerator, else a numpy array."""
    if isinstance(ids, torch.Tensor):
        is_integer = not (ids.is_floating_point() or ids.is_complex())
        if is_integer:
            ids = ids.numpy() if ids.is_cpu else ids.long()
    else:
        ids = np.asarray(ids)
        is_integer = ids.dtype.kind in "biu"
    if not is_integer:
        raise ValueError(f"{name} must be integer class ids, not {ids.dtype}: of scores, take the argmax")
    if ids.ndim != 2:
        raise ValueError(f"{name} must be maps (H, W) or stacks (B, H, W): one map is {tuple(ids.shape)}")
    cast = ids.astype(np.uint8, copy=False) if isinstance(ids, np.ndarray) else ids.to(torch.uint8)
    if cast is not ids and (changed := cast != ids).any():
        wrong = int(ids[changed][0])
        raise ValueError(f"{name} hold the id {wrong}, outside 0..255: give such pixels a free id (255)")
    return cast


def count_pairs(reference: np.ndarray | torch.Tensor, prediction: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Pixels per pair of ids, int64 (256, 256) indexed [reference, prediction], of two uint8 maps (H, W).

    OpenCV counts two arrays, in a fraction of bincount's time; if one is a tensor, its device counts.
    """
    if isinstance(reference, np.ndarray) and isinstance(prediction, np.ndarray):
        maps, counts = [reference.reshape(-1), prediction.reshape(-1)], np.zeros((NUM_IDS, NUM_IDS), np.int64)
        for start in range(0, reference.size, CHUNK):
            chunk = [ids[start : start + CHUNK] for ids in maps]
            if chunk[0].size % 4 == 0:  # read four places in turn: neighbours share a bin and wait for it
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


def mean_of_present(scores: np.ndarray) -> np.float64:
    """Mean of the scores that are not nan; nan if all are."""
    present = scores[~np.isnan(scores)]
    return present.mean() if present.size else np.float64("nan")


class MeanIoU(evaluate.Metric):
    """IoU and accuracy per class and their means, from one table of counts, however many maps are added.

    Every process counts its own maps; sum `counts` over the processes before `compute`.
    """

    def __init__(self, **kwargs):
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
        """Pixels per pair of ids: int64 (256, 256) [reference, prediction], on the last map's device."""
        return self._counts

    @counts.setter
    def counts(self, counts: torch.Tensor) -> None:
        if counts.dtype != torch.int64 or counts.shape != (NUM_IDS, NUM_IDS):
            raise ValueError(f"counts must be int64 (256, 256), not {counts.dtype} {tuple(counts.shape)}")
        self._counts = counts

    def add(self, *, prediction, reference) -> None:
        """Count one pair of maps (H, W). Raises what `add_batch` raises."""
        self.add_batch(predictions=[prediction], references=[reference])

    def add_batch(self, *, predictions, references) -> None:
        """Count pairs of maps of equal shape; none of them if one is not valid.

        Raises ValueError if shapes or numbers of maps differ, or if ids are not integers in 0..255.
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
        predictions=None,
        references=None,
        num_labels: int,
        ignore_index: int | None,
        nan_to_num: float | None = None,
        label_map: dict[int, int] | None = None,
        reduce_labels: bool = False,
    ) -> dict[str, float | np.ndarray]:
        """Scores (0..1) of all that was added, `predictions` and `references` included; then starts anew.

        The classes are 0..num_labels - 1. References are changed first by `label_map`, all ids at once
        ({0: 1, 1: 0} swaps), then by `reduce_labels` (0 becomes 255, 255 stays, others become one less).
        Pixels whose reference is then `ignore_index` are left out (None: no pixel). A predicted id that is no
        class is a miss of the reference's class. A reference id that is no class is a false positive of the
        class predicted there, and no part of any accuracy. `nan_to_num` replaces nan in all results.

        Returns per_category_iou (float64, (num_labels,); nan: neither in references nor predictions),
        per_category_accuracy (likewise; nan: not in references), mean_iou and mean_accuracy over what is not
        nan, and overall_accuracy over all pixels whose reference is a class.

        Raises ValueError if nothing was added, if num_labels is not in 1..256, or an id in label_map not in
        0..255.
        """
        if not 1 <= num_labels <= NUM_IDS:
            raise ValueError(f"num_labels must be in 1..256, not {num_labels}")
        ids = np.arange(NUM_IDS)
        new_ids = ids.copy()
        for old, new in (label_map or {}).items():
            if old not in range(NUM_IDS) or new not in range(NUM_IDS):
                raise ValueError(f"label_map must map integers in 0..255, not {old!r} to {new!r}")
            new_ids[old] = new
        if reduce_labels:
            new_ids = np.where(new_ids % 255 == 0, 255, new_ids - 1)
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references)
        if not self._counts.any():
            raise ValueError("mean_iou has nothing to score: call add_batch before compute")

        counts = np.zeros((NUM_IDS, NUM_IDS), np.int64)
        np.add.at(counts, new_ids, self._counts.cpu().numpy())
        self._reset()
        counts[ids == ignore_index] = 0
        hits = counts.diagonal()[:num_labels]
        reference_pixels, predicted_pixels = counts[:num_labels].sum(1), counts[:, :num_labels].sum(0)
        with np.errstate(invalid="ignore"):  # 0 / 0 is nan, the score of what does not occur
            iou = hits / (reference_pixels + predicted_pixels - hits)
            accuracy = hits / reference_pixels
            overall_accuracy = hits.sum() / reference_pixels.sum()
        scores = {
            "mean_iou": mean_of_present(iou),
            "mean_accuracy": mean_of_present(accuracy),
            "overall_accuracy": overall_accuracy,
            "per_category_iou": iou,
            "per_category_accuracy": accuracy,
        }
        nan = np.nan if nan_to_num is None else nan_to_num
        scores = {name: np.nan_to_num(score, nan=nan) for name, score in scores.items()}
        return {name: score if score.ndim else float(score) for name, score in scores.items()}
