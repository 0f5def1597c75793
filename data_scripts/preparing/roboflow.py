"""Roboflow's export "Semantic Segmentation Masks": NAME.jpg, NAME_mask.png and _classes.csv in each split's folder."""

from . import masks
from .annotated import Annotated, Options
from .found import Found

READS = masks.READS
CLASSES = "_classes.csv"


def looks_like(found: Found) -> bool:
    return bool(found.named(CLASSES))


def read(found: Found, options: Options) -> Annotated:
    annotated = masks.read(found, options)
    annotated.kind = "Roboflow masks"
    return annotated
