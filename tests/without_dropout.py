"""train_seg.py with no dropout in StreetNet: what is left of a step does not depend on how it is spread."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

import train_seg  # noqa: E402
from seg_models import streetnet  # noqa: E402


class NoDropout(torch.nn.Identity):
    def __init__(self, p):
        super().__init__()


streetnet.nn.Dropout2d = NoDropout
train_seg.main()
