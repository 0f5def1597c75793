"""Bad input: one line that names the culprit, once, and an exit code, also of launches with one and two processes."""

import shutil

import numpy as np
import pytest
from conftest import launch
from PIL import Image

TRAIN = "--dataset toycity --model streetnet --num_workers 0 --report_to none --max_train_steps 1".split()


def first(folder, pattern):
    return sorted(folder.glob(pattern))[0]


def label_of(data, split="train"):
    return first(data, f"gtFine/{split}/*labelIds.png")


def image_of(data, split="train"):
    return first(data, f"leftImg8bit/{split}/*.png")


def no_folder(data):
    shutil.rmtree(data)
    return [], str(data)


def no_label(data):
    label = label_of(data)
    label.unlink()
    return [], label.name


def label_of_another_size(data):
    label = label_of(data, "val")
    Image.fromarray(np.full((95, 192), 7, np.uint8)).save(label)
    return [], label.name


def unknown_id(data):
    label = label_of(data)
    ids = np.asarray(Image.open(label)).copy()
    ids[0, 0] = 99
    Image.fromarray(ids).save(label)
    return [], label.name


def truncated_image(data):
    image = image_of(data)
    image.write_bytes(image.read_bytes()[:2000])
    return [], image.name


def truncated_label(data):
    label = label_of(data)
    label.write_bytes(label.read_bytes()[:200])
    return [], label.name


def empty_split(data):
    for image in (data / "leftImg8bit" / "val").iterdir():
        image.unlink()
    return [], "val"


def crop_that_does_not_fit(data):
    return ["--crop_size", 400, 100], "--crop_size 400 100"


def batch_that_does_not_divide(data):
    return ["--batch_size", 3, "--gradient_accumulation_steps", 2], "--batch_size 3"


def one_image_with_batch_norm(data):
    return ["--gradient_accumulation_steps", 2], "--norm batch"


def momentum_of_adamw(data):
    return ["--momentum", 0.9], "--momentum"


def optimizer_of_another_model(data):
    return ["--optimizer", "sgd"], "--learning_rate"


def unknown_model(data):
    return ["--model", "deeplabv9"], "deeplabv3_resnet50"


def unknown_norm(data):
    return ["--norm", "weight"], "instance"


def not_a_checkpoint(data):
    return ["--resume_from_checkpoint", data], f"--resume_from_checkpoint {data}"


def folder_with_a_run(data):
    run = data.parent / "run"
    (run / "best").mkdir(parents=True)
    (run / "args.yaml").write_text("seed: 3\n")
    return ["--output_dir", run], f"--output_dir {run}"


def output_below_a_file(data):
    (data.parent / "file").write_text("")
    return ["--output_dir", data.parent / "file" / "run"], "--output_dir"


def more_images_than_there_are(data):
    return ["--batch_size", 64], "--batch_size 64"


FAULTS = [
    no_folder,
    no_label,
    label_of_another_size,
    unknown_id,
    truncated_image,
    truncated_label,
    empty_split,
    crop_that_does_not_fit,
    batch_that_does_not_divide,
    one_image_with_batch_norm,
    momentum_of_adamw,
    optimizer_of_another_model,
    unknown_model,
    unknown_norm,
    not_a_checkpoint,
    folder_with_a_run,
    output_below_a_file,
    more_images_than_there_are,
]
# One case for each place that finds it: before any process group, every process, the first process for all.
LAUNCHED = [no_folder, unknown_model, batch_that_does_not_divide, truncated_label, output_below_a_file]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def broken(fault, toycity, folder, processes):
    """Make a data set with a fault. Returns the flags of the training and the culprit that an error must name."""
    data = folder / "data"
    shutil.copytree(toycity, data)
    flags, culprit = fault(data)
    return [*TRAIN, "--batch_size", 2 * processes, "--dataset_path", data, *flags], culprit


def the_error(stderr):
    """Return the only line that begins with `error: `."""
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, stderr
    return lines[0]


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if fault not in LAUNCHED], ids=lambda fault: fault.__name__
)
def test_bad_input_is_refused_in_one_line(fault, toycity, tmp_path, in_process, capsys):
    flags, culprit = broken(fault, toycity, tmp_path, 1)
    before = contents(tmp_path)
    with pytest.raises(SystemExit) as stop:
        in_process("train_seg", *flags)
    assert stop.value.code == 1
    assert culprit in the_error(capsys.readouterr().err.replace("\r", "\n"))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("fault", LAUNCHED, ids=lambda fault: fault.__name__)
def test_a_launch_shows_the_line_once(fault, processes, toycity, tmp_path):
    flags, culprit = broken(fault, toycity, tmp_path, processes)
    before = contents(tmp_path)
    result = launch("train_seg.py", *flags, processes=processes, cwd=tmp_path)
    assert result.returncode != 0 and culprit in the_error(result.stderr)
    assert_no_traceback_of_the_script(result.stderr)
    assert contents(tmp_path) == before


def assert_no_traceback_of_the_script(stderr: str) -> None:
    """At most one traceback is allowed: the launcher's own report, which no script can prevent."""
    _, *tracebacks = stderr.split("Traceback (most recent call last)")
    assert len(tracebacks) <= 1 and all("accelerate/commands/launch.py" in report for report in tracebacks), stderr
