"""The mean_iou module against counts made pixel by pixel, and the way evaluate loads it."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pickle
import subprocess
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
from PIL import Image

PATH = str(Path(__file__).resolve().parent.parent / "metrics" / "mean_iou")
MEANS = ["mean_iou", "mean_accuracy", "overall_accuracy"]


@pytest.fixture
def metric():
    return evaluate.load(PATH)


def random_maps(seed, high=4, shapes=((5, 7), (1, 1), (9, 2))):
    """Predictions and references of several sizes, ids 0..high - 1, a tenth of the references 255."""
    rng = np.random.default_rng(seed)
    predictions = [rng.integers(0, high, shape, dtype=np.uint8) for shape in shapes]
    references = [rng.integers(0, high, shape, dtype=np.uint8) for shape in shapes]
    for reference in references:
        reference[rng.random(reference.shape) < 0.1] = 255
    return predictions, references


def loop_scores(predictions, references, num_labels, ignore_index, label_map=None, reduce_labels=False):
    """Compute the definitions, one pixel at a time."""
    hit, missed, wrong = ([0] * num_labels for _ in range(3))
    for prediction, reference in zip(predictions, references, strict=True):
        for p, r in zip(np.ravel(prediction).tolist(), np.ravel(reference).tolist(), strict=True):
            r = (label_map or {}).get(r, r)
            if reduce_labels:
                r = 255 if r in (0, 255) else r - 1
            if r == ignore_index:
                continue
            if p == r and r < num_labels:
                hit[r] += 1
                continue
            if r < num_labels:
                missed[r] += 1
            if p < num_labels:
                wrong[p] += 1
    iou = [ratio(h, h + m + w) for h, m, w in zip(hit, missed, wrong, strict=True)]
    accuracy = [ratio(h, h + m) for h, m in zip(hit, missed, strict=True)]
    present = [[x for x in scores if x == x] for scores in (iou, accuracy)]
    return {
        "mean_iou": ratio(sum(present[0]), len(present[0])),
        "mean_accuracy": ratio(sum(present[1]), len(present[1])),
        "overall_accuracy": ratio(sum(hit), sum(hit) + sum(missed)),
        "per_category_iou": iou,
        "per_category_accuracy": accuracy,
    }


def ratio(part, whole):
    return part / whole if whole else float("nan")


def assert_same(scores, expected):
    assert list(scores) == list(expected)
    for key in expected:
        np.testing.assert_allclose(scores[key], expected[key], rtol=1e-12, err_msg=key)


def test_hand_computed_example(metric):
    reference = np.array([[0, 0, 0], [1, 1, 255]], np.uint8)
    prediction = np.array([[0, 0, 1], [1, 3, 2]], np.uint8)  # 3 is no class: a miss of class 1; 2 is ignored
    scores = metric.compute(predictions=prediction, references=reference, num_labels=3, ignore_index=255)
    np.testing.assert_array_equal(scores["per_category_iou"], [2 / 3, 1 / 3, np.nan])
    np.testing.assert_array_equal(scores["per_category_accuracy"], [2 / 3, 1 / 2, np.nan])
    assert [scores[key] for key in MEANS] == pytest.approx([1 / 2, 7 / 12, 3 / 5])
    assert all(type(scores[key]) is float for key in MEANS)
    assert all(scores[key].dtype == np.float64 for key in scores if key.startswith("per_category"))


@pytest.mark.parametrize("num_labels", [1, 2, 4, 19, 256])
@pytest.mark.parametrize("ignore_index", [255, 0, 3, None])
def test_equals_pixel_loop(metric, num_labels, ignore_index):
    for high in (2, 4, 255):
        maps = random_maps(seed=high, high=high)
        scores = metric.compute(
            predictions=maps[0], references=maps[1], num_labels=num_labels, ignore_index=ignore_index
        )
        assert_same(scores, loop_scores(*maps, num_labels, ignore_index))


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        pytest.param([[0, 1]], [[255, 255]], id="all ignored"),
        pytest.param([[2, 2]], [[0, 1]], id="class only predicted"),
        pytest.param([[0, 0]], [[0, 2]], id="class never predicted"),
        pytest.param([[9, 255]], [[0, 1]], id="no prediction is a class"),
        pytest.param([[0, 1]], [[9, 1]], id="a reference is no class"),
        pytest.param([[9, 1]], [[9, 1]], id="same id, but no class"),
        pytest.param([[1]], [[1]], id="one pixel"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_adversarial_maps(metric, prediction, reference):
    maps = [np.array(prediction)], [np.array(reference)]
    scores = metric.compute(predictions=maps[0], references=maps[1], num_labels=3, ignore_index=255)
    assert_same(scores, loop_scores(*maps, 3, 255))


def test_nan_to_num_fills_every_result_but_not_the_means(metric):
    ignored = np.full((2, 2), 255)
    args = {"num_labels": 3, "ignore_index": 255, "nan_to_num": -1}
    scores = metric.compute(predictions=ignored, references=ignored, **args)
    assert [scores[key] for key in MEANS] == [-1, -1, -1]
    zeros = np.zeros((2, 2), np.uint8)
    scores = metric.compute(predictions=zeros, references=zeros, **args)
    assert scores["mean_iou"] == 1 and scores["per_category_iou"].tolist() == [1, -1, -1]


@pytest.mark.parametrize("label_map", [{0: 1, 1: 0}, {0: 1, 1: 2, 2: 3}, {3: 255, 255: 0}, {1: 0, 2: 0}])
@pytest.mark.parametrize("reduce_labels", [False, True])
def test_label_map_and_reduce_labels(metric, label_map, reduce_labels):
    maps = random_maps(seed=3)
    args = {"num_labels": 4, "ignore_index": 255, "label_map": label_map, "reduce_labels": reduce_labels}
    assert_same(metric.compute(predictions=maps[0], references=maps[1], **args), loop_scores(*maps, **args))


def test_label_map_swaps_from_the_original_ids(metric):
    scores = metric.compute(
        predictions=[[[1, 0]]], references=[[[0, 1]]], num_labels=2, ignore_index=255, label_map={0: 1, 1: 0}
    )
    assert scores["mean_iou"] == 1


def test_every_kind_of_input_gives_the_same_counts(metric):
    shapes = [(6, 8)] * 3
    arrays = random_maps(seed=5, shapes=shapes)
    expected = sum(one_pair_counts(p, r) for p, r in zip(*arrays, strict=True))
    kinds = {
        "list of arrays": list,
        "tuple": tuple,
        "stack": np.stack,
        "int64": lambda maps: np.stack(maps).astype(np.int64),
        "big-endian uint16": lambda maps: [m.astype(">u2") for m in maps],
        "Fortran order": lambda maps: [np.asfortranarray(m) for m in maps],
        "tensor": lambda maps: torch.tensor(np.stack(maps)),
        "int32 tensor": lambda maps: torch.tensor(np.stack(maps)).int(),
        "list of tensors": lambda maps: [torch.tensor(m) for m in maps],
        "PIL": lambda maps: [Image.fromarray(m) for m in maps],
        "PIL palette": lambda maps: [palette_image(m) for m in maps],
        "nested lists": lambda maps: [m.tolist() for m in maps],
    }
    for name, kind in kinds.items():
        metric.counts = torch.zeros(256, 256, dtype=torch.int64)
        metric.add_batch(predictions=kind(arrays[0]), references=kind(arrays[1]))
        assert torch.equal(metric.counts, expected), name
        metric.counts = torch.zeros(256, 256, dtype=torch.int64)
        metric.add_batch(predictions=kind(arrays[0]), references=arrays[1])
        assert torch.equal(metric.counts, expected), f"{name}, references as arrays"
    for wrap in (np.asarray, torch.tensor, Image.fromarray):
        metric.counts = torch.zeros(256, 256, dtype=torch.int64)
        for prediction, reference in zip(*arrays, strict=True):
            metric.add(prediction=wrap(prediction), reference=wrap(reference))
        assert torch.equal(metric.counts, expected), wrap
        metric.counts = torch.zeros(256, 256, dtype=torch.int64)
        metric.add_batch(predictions=wrap(arrays[0][0]), references=wrap(arrays[1][0]))
        assert torch.equal(metric.counts, one_pair_counts(arrays[0][0], arrays[1][0])), wrap


def one_pair_counts(prediction, reference):
    counts = torch.zeros(256, 256, dtype=torch.int64)
    for p, r in zip(prediction.ravel().tolist(), reference.ravel().tolist(), strict=True):
        counts[r, p] += 1
    return counts


def palette_image(ids):
    image = Image.fromarray(ids)
    image.putpalette([(7 * i) % 256 for i in range(768)])  # the colours must not matter
    return image


def test_device_path_counts_the_same(metric):
    """The code for accelerators, run on CPU tensors and, with a GPU, also there."""
    count_pairs = sys.modules[type(metric).__module__].count_pairs
    (prediction, *_), (reference, *_) = random_maps(seed=7, high=255, shapes=[(31, 17)])
    expected = one_pair_counts(prediction, reference)
    for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        tensor = torch.tensor(prediction, device=device)
        for other in (reference, torch.tensor(reference)):
            counts = count_pairs(other, tensor)
            assert counts.dtype == torch.int64 and counts.device == tensor.device
            assert torch.equal(counts.cpu(), expected)
            assert torch.equal(count_pairs(tensor, other).cpu(), expected.T)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_counts_stay_on_the_gpu(metric):
    predictions, references = random_maps(seed=8)
    gpu = [torch.tensor(p).long().cuda() for p in predictions]
    metric.add_batch(predictions=gpu, references=[torch.tensor(r) for r in references])
    assert metric.counts.is_cuda
    with pytest.raises(ValueError, match="256"):
        metric.add(prediction=gpu[0] + 256, reference=references[0])
    assert_same(metric.compute(num_labels=4, ignore_index=255), loop_scores(predictions, references, 4, 255))


def test_counts_are_additive_and_can_be_set(metric):
    predictions, references = random_maps(seed=9)
    metric.add_batch(predictions=predictions[:1], references=references[:1])
    first = metric.counts
    metric.counts = torch.zeros_like(first)
    metric.add_batch(predictions=predictions[1:], references=references[1:])
    metric.counts = metric.counts + first  # as a sum over two processes does
    assert_same(metric.compute(num_labels=4, ignore_index=255), loop_scores(predictions, references, 4, 255))

    by_hand = torch.zeros(256, 256, dtype=torch.int64)
    by_hand[0, 0], by_hand[0, 1], by_hand[1, 1] = 3, 1, 2**40
    metric.counts = by_hand
    scores = metric.compute(num_labels=2, ignore_index=255)
    assert scores["per_category_iou"].tolist() == [3 / 4, 2**40 / (2**40 + 1)]
    with pytest.raises(ValueError, match="int64"):
        metric.counts = by_hand.float()
    with pytest.raises(ValueError, match="256"):
        metric.counts = by_hand[:19, :19]


def test_compute_starts_anew_and_keeps_the_counts_on_error(metric):
    ones = np.ones((2, 2), np.uint8)
    metric.add(prediction=ones, reference=ones)
    with pytest.raises(ValueError, match="num_labels"):
        metric.compute(predictions=ones, references=ones, num_labels=0, ignore_index=255)
    assert metric.counts[1, 1] == 4
    assert metric.compute(predictions=ones, references=ones, num_labels=2, ignore_index=255)["mean_iou"] == 1
    assert metric.counts.sum() == 0
    with pytest.raises(ValueError, match="add_batch"):
        metric.compute(num_labels=2, ignore_index=255)


def test_tutorials_of_the_hubs_module_call_compute_by_another_name(metric):
    maps = {"predictions": [np.ones((2, 2), np.int64)], "references": [np.full((2, 2), 2, np.int64)]}
    scores = metric._compute(**maps, num_labels=2, ignore_index=255, reduce_labels=True)
    assert scores["mean_iou"] == 1


def test_memory_does_not_grow(metric):
    maps = random_maps(seed=11, shapes=[(64, 64)] * 2)
    sizes = []
    for batches in (1, 49):
        for _ in range(batches):
            metric.add_batch(predictions=maps[0], references=maps[1])
        sizes.append((len(vars(metric)), metric.counts.untyped_storage().nbytes(), len(pickle.dumps(metric))))
    assert sizes[0] == sizes[1]
    assert metric.counts.sum() == 50 * 2 * 64 * 64


def test_more_equal_pixels_than_float32_can_count(metric):
    ids = np.zeros((4097, 4096), np.uint8)  # 2**24 + 4096 pixels
    ids[-1, -1] = 1
    metric.add(prediction=ids, reference=ids)
    assert metric.counts[0, 0] == 2**24 + 4095 and metric.counts[1, 1] == 1


@pytest.mark.parametrize(
    ("prediction", "reference", "message"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), r"\(2, 3\).*\(3, 2\)"),
        (torch.zeros(2, 2, 3).byte(), torch.zeros(2, 3, 3).byte(), r"\(2, 3\).*\(3, 3\)"),
        (torch.zeros(2, 2, 3).byte(), torch.zeros(2, 3).byte(), "2 predicted maps, but 1"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), "predictions.*float64.*argmax"),
        (torch.zeros(2, 2).long(), torch.zeros(2, 2, dtype=torch.bfloat16), "references.*bfloat16"),
        (torch.zeros(1, 4, 2, 2).long(), torch.zeros(1, 4, 2, 2).long(), r"\(1, 4, 2, 2\)"),
        (np.zeros((2, 2), int), np.array([[0, -100], [0, 0]]), "references.*-100.*255"),
        (torch.tensor([[256]]), torch.tensor([[0]]), "predictions.*256"),
        (np.zeros((1, 1), np.uint8), np.array([[-1]], np.int8), "references.*-1"),
        (Image.new("RGB", (2, 2)), Image.new("L", (2, 2)), r"\(2, 2, 3\)"),
        ([[0, 1], [1, 0]], [[0, 1], [1, 0]], r"predictions.*\(2,\)"),
        (None, np.zeros((2, 2), np.uint8), "predictions.*integer"),
    ],
)
def test_bad_maps_raise_one_line_and_count_nothing(metric, prediction, reference, message):
    with pytest.raises(ValueError, match=message) as error:
        metric.add_batch(predictions=prediction, references=reference)
    assert "\n" not in str(error.value)
    good = np.zeros((2, 2), np.uint8)
    if not isinstance(prediction, list) and getattr(prediction, "ndim", 2) == 2:  # and none of its valid neighbours
        with pytest.raises(ValueError, match=message):
            metric.add_batch(predictions=[good, prediction], references=[good, reference])
    assert metric.counts.sum() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_labels": 257}, "1..256.*257"),
        ({"num_labels": 0}, "1..256.*0"),
        ({"num_labels": 2, "label_map": {"0": 1}}, "'0' to 1"),
        ({"num_labels": 2, "label_map": {0: -1}}, "0 to -1"),
        ({"num_labels": 2, "label_map": {256: 0}}, "256 to 0"),
    ],
)
def test_bad_arguments_of_compute(metric, arguments, message):
    zeros = np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=zeros, references=zeros, ignore_index=255, **arguments)
    assert metric.counts.sum() == 0


@pytest.mark.parametrize("given", ["predictions", "references"])
def test_one_without_the_other_is_refused(metric, given):
    with pytest.raises(ValueError, match="both predictions and references"):
        metric.compute(**{given: np.zeros((2, 2), np.uint8)}, num_labels=2, ignore_index=255)


def test_num_process_is_refused():
    with pytest.raises(ValueError, match="num_process"):
        evaluate.load(PATH, num_process=2, process_id=0)


def test_docstrings_reach_help(metric):
    for method in (metric.compute, metric.add, metric.add_batch):
        assert "PIL images" in method.__doc__


def test_two_processes_load_at_once_from_elsewhere(tmp_path):
    """A cold cache, two processes, another working directory, two loads each: only one copy is left."""
    code = (
        "import evaluate, numpy as np\n"
        f"for _ in range(2):\n    metric = evaluate.load({PATH!r})\n"
        "    x = np.ones((4, 4), np.uint8)\n"
        "    print(metric.compute(predictions=x, references=x, num_labels=2, ignore_index=255)['mean_iou'])\n"
    )
    env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("HF_MODULES_CACHE", "HF_METRICS_CACHE", "HF_EVALUATE_CACHE"):
        env.pop(name, None)
    command = [sys.executable, "-c", code]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, cwd=tmp_path, env=env, **pipes) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.split() == ["1.0", "1.0"]
    names = [path.name for path in (tmp_path / "hf").rglob("*") if path.is_file()]
    assert sorted(set(names) - {"__init__.py"}) == ["mean_iou.json", "mean_iou.lock", "mean_iou.py"]
    assert names.count("mean_iou.py") == 1
