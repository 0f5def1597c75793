"""Run train_seg.py with a fault during training, in one process. $FAULT says which:

file   the training image $FILE is damaged after the check
bug    an error that no input caused, in the last process
hang   the last process dies without a message
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import train_seg
from data_scripts import training

fault = os.environ["FAULT"]
last = int(os.environ.get("RANK", 0)) == int(os.environ.get("WORLD_SIZE", 1)) - 1
check_data, train_step = training.check_data, train_seg.train_step


def check_data_and_break_a_file(*args):
    checked = check_data(*args)
    file = Path(os.environ["FILE"])
    file.write_bytes(file.read_bytes()[:2000])
    return checked


def fail_in_a_step(*args):
    if last and fault == "bug":
        raise ZeroDivisionError("a bug")
    if last and fault == "hang":
        os._exit(3)
    return train_step(*args)


if fault == "file":
    training.check_data = check_data_and_break_a_file
else:
    train_seg.train_step = fail_in_a_step
train_seg.main()
