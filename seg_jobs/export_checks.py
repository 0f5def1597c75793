"""Compare an exported file with its network on photos, and score both. `python -m seg_models.export` uses this."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset

from data_scripts.arguments import InputOptions
from data_scripts.evaluation import Scoring
from data_scripts.file_checks import check_split
from data_scripts.labels import DataError, LabelInfo
from data_scripts.loading import eval_loader
from data_scripts.pixels import Pixels
from data_scripts.reader import read_image
from data_scripts.sources import folder_of_images
from data_scripts.transforms import EvalTransform
from seg_models.cost import prediction_memory
from seg_models.exported import Runner
from seg_models.predictor import Predictor
from seg_runs.errors import RunError
from seg_runs.launch import make_accelerator
from seg_runs.processes import progress_bar

from .prediction_job import Trained, dataset_of, images_of
from .trained_model import compute_scores, free_memory_of, load_metric

COMPARED = 3  # photos
# The least share of the pixels that must have the network's class, and the most that a probability may differ. float16
# and int8 change pixels of which two classes are about equally likely. Whether that matters, the mIoU tells.
BOUNDS = {"fp32": (0.999, 1e-3), "fp16": (0.99, 0.05), "int8": (0.9, 1.0)}


@dataclass(frozen=True)
class Photos:
    """Photos to calibrate int8 on, and to compare and score with.

    where     what they are, for the user
    photos    split of photos; None: smooth noise takes their place
    labelled  split to score on, or None
    scoring   how `labelled` is scored
    """

    where: str
    photos: Dataset | None = None
    labelled: Dataset | None = None
    scoring: Scoring | None = None

    def some(self, number: int) -> Iterator[np.ndarray]:
        """Yield up to `number` photos, spread over the split, each uint8 (H, W, 3)."""
        if self.photos is None:
            yield smooth_noise(360, 480)
            return
        count = len(self.photos)
        for index in sorted({i * count // number for i in range(number)}):
            yield np.array(read_image(self.photos[index]["image"]))


def smooth_noise(height: int, width: int) -> np.ndarray:
    """Return a picture of random blobs, uint8 (height, width, 3)."""
    coarse = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    return to_photo(F.interpolate(255 * coarse, (height, width), mode="bicubic"))


def find_photos(
    folder: str | None,
    dataset_path: str | None,
    needed: bool,
    trained: Trained,
    dataset: str | None,
    labels: LabelInfo,
) -> Photos:
    """Return the photos in `folder`, or the training and validation images of the model's data set.

    dataset, labels  the model's, as `label_set` returns them

    Without `needed` and `dataset_path`, returns noise if that data set is not where the run or its name says. Raises
    DataError or RunError if a folder is missing or holds no photo.
    """
    if folder is not None:
        return Photos(f"the photos in {folder}", folder_of_images(folder, flag="--calibration_images"))
    options = InputOptions(dataset_path=dataset_path)
    try:
        dataset = dataset_of(options, trained) or dataset
        images = images_of(options, dataset, labels, trained.arguments, usual=("train", "val"))
    except DataError as error:
        if dataset_path is not None:
            raise
        remedy = "give --calibration_images or --dataset_path"
        if needed:
            raise RunError(f"--precision int8 needs photos: {remedy} ({error})") from error
        return Photos(f"noise, because the model's data set is not here ({remedy})")
    validation = images.splits.get("val")
    labelled = validation is not None and "label" in validation.column_names
    return Photos("training images", images.splits["train"], validation if labelled else None, images.scoring)


def check_photos(photos: Photos, calibration: int, scored: bool) -> None:
    """Read all files that will be needed. Raises DataError for the first bad one.

    calibration  number of photos to calibrate on
    scored       whether the validation images are needed
    """
    for number in (COMPARED, calibration):
        for _ in photos.some(number):
            pass
    if scored:
        check_split(photos.labelled, photos.scoring.files, "validation images")


def refuse_large(predictor: Predictor, photos: Photos, fixed: Sequence[int] | None, least: int) -> None:
    """Raise RunError if PyTorch needs more memory than is free at one of the sizes of `compare`."""
    seen = predictor.views.size
    largest = max((size for photo in photos.some(COMPARED) for size in sizes_of(photo, fixed, least, seen)), key=prod)
    needed = prediction_memory(predictor.model, largest, predictor.views)
    free = free_memory_of(predictor.device, needed)
    if needed > free:
        remedy = "a smaller --size or --test_size" if fixed else "--size, a smaller --test_size or smaller photos"
        size = "" if seen is None else f", which the network sees at {seen[0]}x{seen[1]},"
        raise RunError(
            f"a photo of {largest[0]}x{largest[1]}{size} needs about {needed / 1e9:.1f} GB of memory, but "
            f"{free / 1e9:.1f} GB are free: give {remedy}"
        )


def to_photo(pixels: torch.Tensor) -> np.ndarray:
    """Return the picture uint8 (H, W, 3) of pixels (1, 3, H, W) in 0..255."""
    return pixels[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def resized(photo: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return a photo, uint8 (H, W, 3), at another size."""
    if photo.shape[:2] == tuple(size):
        return photo
    pixels = torch.from_numpy(photo).permute(2, 0, 1)[None].float()
    return to_photo(F.interpolate(pixels, tuple(size), mode="bilinear", align_corners=False, antialias=True))


def sizes_of(
    photo: np.ndarray, fixed: Sequence[int] | None, least: int, seen: Sequence[int] | None = None
) -> list[tuple[int, int]]:
    """Return the sizes at which a photo is compared: the file's, or the photo's own, an odd one and an upright one.

    The odd one is larger than the size `seen` by the network, if that is given: photos are shrunk and enlarged in
    different ways. The upright one has multiples of 32: there, networks that pad to a stride take another branch.
    """
    if fixed is not None:
        return [tuple(fixed)]
    height, width = photo.shape[:2]
    odd = (seen[0] * 5 // 4 | 1, seen[1] * 4 // 3 | 1) if seen else (height * 5 // 8 | 1, width * 2 // 3 | 1)
    sizes = (height, width), odd, (width * 3 // 128 * 32, height // 64 * 32)
    return [tuple(max(side, least) for side in size) for size in sizes]


def compare(
    run: Runner, predictor: Predictor, photos: Photos, fixed: Sequence[int] | None, least: int
) -> Iterator[tuple[tuple[int, int], float, float | None]]:
    """Yield (size, share of pixels of the same class, largest difference of a probability or None) for each size.

    run    the exported file
    fixed  (H, W) that it takes, or None for any
    least  its smallest side otherwise
    """
    for photo in photos.some(COMPARED):
        for size in sizes_of(photo, fixed, least, predictor.views.size):
            given = resized(photo, size)
            expected = predictor.probabilities(torch.from_numpy(given).permute(2, 0, 1)).numpy()
            found = run(given[None])[0]
            difference = None
            if found.ndim == 3:
                difference = float(np.abs(found - expected).max())
                found = found.argmax(0)
            yield size, float((found == expected.argmax(0)).mean()), difference


def refuse_difference(precision: str, size: Sequence[int], share: float, difference: float | None) -> None:
    """Raise RunError if a file of `precision` differs too much from its network at `size` (see `compare`)."""
    least, most = BOUNDS[precision]
    if share >= least and (difference is None or difference <= most):
        return
    of_probability = "" if difference is None else f" and a probability differs by {difference:.1g}"
    bound = "" if difference is None else f" and {most:g}"
    raise RunError(
        f"the exported file differs too much from the network: at {size[0]}x{size[1]}, {1 - share:.2%} of the pixels "
        f"have another class{of_probability} (--precision {precision} allows {1 - least:.1%}{bound}), so nothing was "
        "written: try another --precision or --format"
    )


def mean_iou(classes: Callable[[torch.Tensor], torch.Tensor], title: str, photos: Photos) -> float | None:
    """Return the mIoU of a function from photos, uint8 (3, H, W), to train ids (H, W), on the labelled photos."""
    split, scoring = photos.labelled, photos.scoring
    items = split.with_transform(EvalTransform(Pixels(split, scoring.files), table=scoring.table))
    accelerator = make_accelerator()
    metric = load_metric()
    for item in progress_bar(accelerator, title, loader=eval_loader(items, 1, 0, 0, pin_memory=False)):
        prediction = classes(item["pixel_values"]).to(torch.uint8)
        metric.add_batch(predictions=scoring.counted(prediction), references=item["labels"])
    scores = compute_scores(accelerator, metric, scoring.labels)
    return None if scores is None else scores["mean_iou"]


def classes_of(run: Runner, fixed: Sequence[int] | None) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function that gives the train ids (H, W) of a photo, uint8 (3, H, W), by an exported file.

    Of a file of a `fixed` size, photos are resized to it, and the ids back (nearest).
    """

    def classes(photo: torch.Tensor) -> torch.Tensor:
        given = photo.permute(1, 2, 0).numpy()
        found = run(resized(given, fixed or given.shape[:2])[None].copy())[0]
        ids = torch.from_numpy(found.argmax(0) if found.ndim == 3 else found)
        return F.interpolate(ids[None, None].float(), photo.shape[1:], mode="nearest-exact")[0, 0].to(torch.int64)

    return classes
