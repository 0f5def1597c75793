"""Segment a photo with a file that `python -m seg_models.export` wrote. Needs onnxruntime and pillow, not this project.

python run_exported.py street.onnx photo.jpg classes.png
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

if len(sys.argv) != 4:
    sys.exit("usage: python run_exported.py MODEL.onnx PHOTO TARGET.png")
model, photo, target = sys.argv[1:]
for path in (model, photo):
    if not Path(path).is_file():
        sys.exit(f"{path} is not a file")
if not target.lower().endswith(".png"):  # JPEG would change the ids
    sys.exit(f"{target}: the name of the target must end in .png")
if Path(target).resolve() == Path(photo).resolve():
    sys.exit(f"{target} is the photo: give another target")
try:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    facts = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
except Exception as error:  # onnxruntime has kinds of its own
    sys.exit(f"cannot read {model}: {error}")
if "sides" not in facts:
    sys.exit(f"{model} was not written by python -m seg_models.export")
try:
    opened = Image.open(photo, formats=["JPEG", "PNG", "WEBP"])
    if opened.mode.startswith("I"):  # pillow would turn all but the darkest pixels white
        sys.exit(f"{photo} has 16 bits a pixel: save it with 8")
    image = ImageOps.exif_transpose(opened).convert("RGB")
except (OSError, ValueError, Image.DecompressionBombError) as error:
    sys.exit(f"cannot read {photo} ({error}): give a sound JPEG, PNG or WebP")
height, width = facts["input"]["shape"][1:3]  # numbers in a file for one size, else "H" and "W"
resized = image.resize((width, height)) if facts["sides"] is None else image
result = session.run(None, {"image": np.asarray(resized)[None]})[0][0]
classes = result.argmax(0).astype(np.uint8) if result.ndim == 3 else result  # (H, W)
picture = Image.fromarray(classes).resize(image.size, Image.Resampling.NEAREST)
picture.putpalette(np.array(facts["colors"], np.uint8).tobytes())
try:
    picture.save(target)
except OSError as error:
    sys.exit(f"cannot write {target}: {error.strerror}")
for number, name in enumerate(facts["classes"]):
    print(f"{name}: {(classes == number).mean():.1%}")
