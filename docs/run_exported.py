"""Segment a photo with a file that `python -m seg_models.export` wrote. Needs onnxruntime and pillow, not this project.

python run_exported.py street.onnx photo.jpg classes.png
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(model: str, photo: str, target: str) -> None:
    if not target.lower().endswith(".png") or Path(target).exists():
        sys.exit(f"error: {target}: give the name of a new file that ends in .png")
    session, facts = open_model(model)
    image = open_photo(photo)
    if facts["sides"] is None:  # the file takes one size
        height, width = facts["input"]["shape"][1:3]
        given = image.resize((width, height))
    else:
        least, most = facts["sides"]
        if not least <= min(image.size) <= max(image.size) <= most:
            sys.exit(f"error: {photo} is {image.width}x{image.height}: this model takes sides of {least} to {most}")
        given = image
    result = session.run(None, {"image": np.asarray(given)[None]})[0][0]
    classes = result.argmax(0).astype(np.uint8) if result.ndim == 3 else result  # (H, W)
    picture = Image.fromarray(classes).resize(image.size, Image.Resampling.NEAREST)
    picture.putpalette(np.array(facts["colors"], np.uint8).tobytes())
    try:
        picture.save(target)
    except OSError as error:
        sys.exit(f"error: cannot write {target}: {error.strerror or error}")
    for number, name in enumerate(facts["classes"]):
        print(f"{name}: {(classes == number).mean():.1%}")


def open_model(path: str) -> tuple[onnxruntime.InferenceSession, dict]:
    """Return an exported network, and what the file says about it."""
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        facts = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
        return session, {name: facts[name] for name in ("input", "sides", "colors", "classes")}
    except Exception as error:  # onnxruntime's errors have no common class
        sys.exit(f"error: {path} is no .onnx file of seg_models.export: {' '.join(str(error).split())[:200]}")


def open_photo(path: str) -> Image.Image:
    """Return a photo, upright, in RGB."""
    try:
        image = ImageOps.exif_transpose(Image.open(path, formats=["JPEG", "PNG", "WEBP"]))
        if image.mode.startswith("I"):  # 16 bits: Pillow would clip them
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return image.convert("RGB")
    except Exception as error:  # damaged files raise almost anything
        sys.exit(f"error: cannot read the photo {path}: {error}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python run_exported.py MODEL.onnx PHOTO TARGET.png")
    main(*sys.argv[1:])
