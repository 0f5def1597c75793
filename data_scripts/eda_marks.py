"""Small parts that the page about a data set repeats: colour keys, numbers and pictures, as HTML."""

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from .labels import LabelInfo


def swatch(train_id: int, labels: LabelInfo, in_legend: bool = False) -> str:
    """Return a class's colour and name."""
    red, green, blue = labels.palette[train_id]
    name = escape(labels.names[train_id])
    box = f'<i class="swatch" style="background:rgb({red},{green},{blue})"></i>'
    if in_legend:
        return f"<span>{box}{name}</span>"
    return f'<span class="name" title="{name}">{box}<span>{name}</span></span>'


def dot(split: str) -> str:
    return f'<i class="swatch {escape(split)}"></i>'


def split_key(splits: Sequence[str]) -> str:
    if len(splits) < 2:
        return ""
    return '<div class="legend">' + "".join(f"<span>{dot(split)}{escape(split)}</span>" for split in splits) + "</div>"


def percent(share: float) -> str:
    """Return a share as per cent with two significant digits."""
    value = 100 * share
    if not value:
        return "-"
    if value < 0.001:
        return "< 0.001 %"
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"


def short(number: int) -> str:
    for size, letter in ((10**6, "M"), (1000, "k")):
        if number >= size:
            return f"{number // size}{letter}"
    return str(number)


def png(picture: Image.Image, **options: int) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, **options)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
