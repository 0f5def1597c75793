"""Read what labelling tools and data sets write: one file for each kind, listed in `kinds.py`.

Each has `looks_like(found) -> bool`, `read(found, options) -> Annotated` (see `annotated.py`) and `READS`, the names of
the `Options` that it reads. To add a kind, write such a file and add one line to `kinds.KINDS`. `writing.py` makes the
canonical folder of what was read.
"""
