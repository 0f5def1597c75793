"""`python pushing.py train_seg.main ...` runs a script's main with short pauses between attempts to upload."""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from seg_runs import hub

hub.PAUSE = 0.01
module, function = sys.argv[1].rsplit(".", 1)
getattr(importlib.import_module(module), function)(sys.argv[2:])
