"""Bad input, in subprocesses with one and two processes: one line that names the culprit, once, and an exit code."""

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
ON_TWO_PROCESSES = [no_folder, unknown_model, batch_that_does_not_divide, truncated_label, output_below_a_file]
LAUNCHES = [(fault, 1) for fault in FAULTS] + [(fault, 2) for fault in ON_TWO_PROCESSES]


def refusal(fault, toycity, folder, processes):
    """Launch with a fault. Returns the culprit, the output of the launch, and the existing files that changed."""
    data = folder / "data"
    shutil.copytree(toycity, data)
    flags, culprit = fault(data)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    flags = [*TRAIN, "--batch_size", 2 * processes, "--dataset_path", data, *flags]
    result = launch("train_seg.py", *flags, processes=processes, cwd=folder)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return culprit, result, {path for path in {**before, **after} if before.get(path) != after.get(path)}


@pytest.mark.parametrize(("fault", "processes"), LAUNCHES, ids=lambda value: getattr(value, "__name__", value))
def test_bad_input_is_refused_in_one_line(fault, processes, toycity, tmp_path):
    culprit, result, changed = refusal(fault, toycity, tmp_path, processes)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode != 0
    assert len(lines) == 1, result.stderr
    assert culprit in lines[0]
    assert_no_traceback_of_the_script(result.stderr)
    assert not changed


def assert_no_traceback_of_the_script(stderr: str) -> None:
    """At most one traceback is allowed: the launcher's own report, which no script can prevent."""
    _, *tracebacks = stderr.split("Traceback (most recent call last)")
    assert len(tracebacks) <= 1 and all("accelerate/commands/launch.py" in report for report in tracebacks), stderr
