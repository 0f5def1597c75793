"""train_seg.py with a data set that changes under it: the file $BREAK is cut off between the check and the training."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import train_seg  # noqa: E402

check_data = train_seg.check_data


def check_and_break(*args):
    result = check_data(*args)
    file = Path(os.environ["BREAK"])
    file.write_bytes(file.read_bytes()[:2000])
    return result


train_seg.check_data = check_and_break
train_seg.main()
