"""ToyCity: procedurally drawn street scenes in MiniCity's file layout, to try everything offline.

    python -m data_scripts.toycity OUT --train 24 --val 8 --test 8 --size 512 1024 --seed 0

writes these files, the last two for train and val only:

    OUT/leftImg8bit/{train,val,test}/NAME_leftImg8bit.png    RGB
    OUT/gtFine/{train,val}/NAME_gtFine_labelIds.png          Cityscapes source ids
    OUT/gtFine/{train,val}/NAME_gtFine_instanceIds.png       16 bit

A scene is made in five steps: camera -> street (what stands where, in metres) -> painters (ground, street fronts and
things, back to front on a canvas) -> atmosphere (light, haze, rain, lens) -> files.

There are two coordinate frames, both in metres. World: X to the right, Y up from the ground, Z ahead of the camera.
Street: x across the (yawed, bent) street, measured from its middle line and negative on the left, at depth Z. Pixels
are (column, row) from the top left; colours are RGB in 0..255; shapes are (height, width).
"""

from collections.abc import Callable

__all__ = ["make_scene", "write_toycity"]


def __getattr__(name: str) -> Callable:
    """Import the generator, and OpenCV with it, only when it is used."""
    if name in __all__:
        from . import files

        return getattr(files, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
