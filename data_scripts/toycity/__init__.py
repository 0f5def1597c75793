"""ToyCity: procedurally drawn street scenes in exactly MiniCity's files, to try everything offline.

    python -m data_scripts.toycity OUT --train 24 --val 8 --test 8 --size 512 1024 --seed 0

It writes OUT/leftImg8bit/{train,val,test}/NAME_leftImg8bit.png (RGB) and, for train and val, into
OUT/gtFine/{train,val}/ NAME_gtFine_labelIds.png (Cityscapes source ids) and NAME_gtFine_instanceIds.png
(16 bit).

A scene is made in five steps: camera -> street (what stands where, in metres) -> painters (ground, street
fronts, things, back to front, on a canvas) -> atmosphere (light, haze, rain, lens) -> files.

There are two coordinate frames, both in metres. World: X to the right, Y up from the ground, Z ahead of the
camera. Street: x across the (yawed, bent) street from its middle line, negative on the left, at depth Z.
Pixels are (column, row) from the top left; colours are RGB, 0..255; shapes are (height, width).
"""

from collections.abc import Callable

__all__ = ["make_scene", "write_toycity"]


def __getattr__(name: str) -> Callable:
    """Import the generator, and with it OpenCV, only when it is asked for."""
    if name in __all__:
        from . import files

        return getattr(files, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
