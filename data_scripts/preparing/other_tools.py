"""Recognise annotations that `data_scripts.prepare` cannot read, to say what to export instead."""

import re

from ..labels import DataError
from .class_lists import READERS
from .found import Found, json_head, read_text

YOLO = re.compile(r"\d+( -?[\d.]+(e-?\d+)?){4,}", re.IGNORECASE)  # a class and coordinates
CREATE_ML = '"coordinates":{'
OF_JSON = {  # what the beginning of a JSON file of a tool holds -> the tool
    '"classTitle"': "Supervisely",
    '"geometryType"': "Supervisely",
    '"region_attributes"': "VGG Image Annotator",
    '"_via_': "VGG Image Annotator",
    CREATE_ML: "CreateML",
}
REMEDY = "export masks or COCO from your tool"
PANOPTIC = "is a panoptic file of COCO, which is not read: take the instances file, or convert it to COCO or masks"
TABLES = {".json", ".jsonl", ".ndjson", ".csv", ".tsv"}  # what other tools write
LISTS = {name for names, _ in READERS for name in names}  # these are read, and hold no annotations


def unread_annotations(found: Found) -> str:
    """Return which files look like annotations of a kind that is not read, and what to do, or ""."""
    for path in found.json_files:
        if path.name.lower().startswith("panoptic"):
            return f"{path} {PANOPTIC}"
        head = json_head(found.root / path)
        for content, tool in OF_JSON.items():
            if content in head:
                return f"{path} is a file of {tool}, which is not read: {REMEDY}"
    for suffix, tool in ((".xml", "XML annotations"), (".npy", "NumPy arrays"), (".mat", "MATLAB files")):
        if files := [path for path in found.files if path.suffix.lower() == suffix]:
            remedy = REMEDY if suffix == ".xml" else "save masks as PNG"
            return f"{files[0]} and the like are {tool}, which are not read: {remedy}"
    for path in [path for path in found.files if path.suffix.lower() == ".txt"][:10]:
        try:
            lines = read_text(found.root / path).splitlines()
        except DataError:
            continue
        if lines and YOLO.fullmatch(lines[0].strip()):
            if len(lines[0].split()) == 5:
                return f"{path} is a YOLO file of boxes, which have no outline: label outlines, and export those"
            return f"{path} is of --kind yolo, but its photo is not beside it, nor in images/ beside labels/"
    return ""


def unknown_files(found: Found) -> str:
    """Return which file may hold annotations in a form that nothing here knows, and what to do, or ""."""
    tables = [path for path in found.files if path.suffix.lower() in TABLES and path.name.lower() not in LISTS]
    return f"; if {tables[0]} holds annotations, it is not read: {REMEDY}" if tables else ""
