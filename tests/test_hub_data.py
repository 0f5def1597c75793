"""--dataset_name: data sets of the `datasets` library, in folders that the tests make. The hub is never asked."""

import io
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from datasets import Array2D, ClassLabel, Dataset, DatasetDict, DatasetInfo, Features, Value, load_from_disk
from datasets import Image as ImageColumn
from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError
from PIL import Image

from data_scripts import check, eda, hub_data, prepare
from data_scripts.arguments import DataOptions, InputOptions
from data_scripts.class_file import default_palette
from data_scripts.fold_files import Division, load_data
from data_scripts.labels import DataError
from data_scripts.preparing import hub
from data_scripts.reader import file_state, read_image, read_label
from data_scripts.recognition import recognize, with_dataset
from data_scripts.saved_classes import describe_data
from data_scripts.sources import load_source
from data_scripts.training import load_training_data

NAMES = {"0": "gravel", "3": "grass", "7": "void", "9": "shed"}
FAST = (
    *("--model", "streetnet", "--norm", "evo", "--batch_size", 2, "--max_train_steps", 2, "--crop_size", 24, 32),
    *("--num_workers", 0, "--scale_range", 1, 1),
)


def photo(seed: int) -> np.ndarray:
    """Blobs, which differ a lot between seeds, (24, 32, 3)."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((32, 24), Image.Resampling.BICUBIC))


def ids(seed: int) -> np.ndarray:
    """The ids 0, 3, 9, 7 and 255 in stripes, which start elsewhere for each seed, (24, 32)."""
    stripes = np.array([0, 3, 9, 7, 255], np.uint8)[(np.arange(32) // 4 + seed) % 5]
    return np.repeat(stripes[None], 24, axis=0)


def png(array: np.ndarray, path: str | None = None) -> dict:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": path}


def rows(count: int, first: int = 0, image="image", label="label", **masks: dict) -> Dataset:
    """Return rows with photos and masks of the seeds from `first`. `masks` replaces the mask of row_N."""
    seeds = range(first, first + count)
    columns = {
        image: [png(photo(seed)) for seed in seeds],
        label: [masks.get(f"row_{i}", png(ids(seed))) for i, seed in enumerate(seeds)],
    }
    return Dataset.from_dict(columns, features=Features({image: ImageColumn(), label: ImageColumn()}))


def saved(root: Path, names: dict | None = NAMES, **splits: Dataset) -> str:
    """Save splits, or one of no name as "rows", and id2label.json beside them. Returns the folder."""
    (splits["rows"] if [*splits] == ["rows"] else DatasetDict(splits)).save_to_disk(str(root))
    if names is not None:
        (root / "id2label.json").write_text(json.dumps(names))
    return str(root)


def refusal(*arguments) -> str:
    with pytest.raises(DataError) as caught:
        load_source("hub", *arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_ids_and_photos_are_those_of_the_data_set_pixel_by_pixel(tmp_path, capsys):
    root = saved(tmp_path / "my yards", train=rows(3), validation=rows(2, 3), test=rows(1, 5))
    data, labels = load_source("hub", root)
    assert {split: len(part) for split, part in data.items()} == {"train": 3, "validation": 2, "test": 1}
    assert labels.names == ("gravel", "grass", "shed") and labels.source_ids == (0, 3, 9)
    assert labels.void_ids == (7, 255) and labels.palette == default_palette(3)
    everything = [row for part in data.values() for row in part]
    for seed, row in enumerate(everything):
        np.testing.assert_array_equal(read_image(row["image"]), photo(seed))
        np.testing.assert_array_equal(read_label(row["label"], row["image"]), ids(seed))
    table = {0: 0, 3: 1, 9: 2, 7: 255, 255: 255}
    expected = np.array([[table[i] for i in row] for row in ids(4).tolist()])
    np.testing.assert_array_equal(labels.train_ids[read_label(everything[4]["label"])], expected)
    assert data["validation"][1]["label"]["path"] == "row 1 of split validation, column label"
    assert data["train"]["name"][:2] == ["train_000000", "train_000001"] and data["train"]["index"][2] == 2
    assert "3 train, 2 validation, 1 test images; photos are in the column image, masks in label" in (
        capsys.readouterr().out
    )


def test_names_come_from_the_files_unless_two_share_one(tmp_path):
    features = Features({"image": ImageColumn(), "label": ImageColumn()})

    def named(*paths: str) -> Dataset:
        cells = [png(photo(i), path) for i, path in enumerate(paths)]
        return Dataset.from_dict({"image": cells, "label": [png(ids(0))] * len(paths)}, features=features)

    data, _ = load_source("hub", saved(tmp_path / "a", train=named("x/a 1.png", "é.jpg"), val=named("A.png", "a.jpg")))
    assert data["train"]["name"] == ["a 1", "é"] and data["validation"]["name"] == ["val_000000", "val_000001"]


@pytest.mark.parametrize("nested", [True, False], ids=["lists", "array"])
def test_masks_may_be_arrays(tmp_path, nested):
    feature = [[Value("int64")]] if nested else Array2D((24, 32), "uint8")
    features = Features({"photo": ImageColumn(), "mask": feature})
    columns = {"photo": [png(photo(i)) for i in range(3)], "mask": [ids(i).tolist() for i in range(3)]}
    data, _ = load_source("hub", saved(tmp_path / "d", rows=Dataset.from_dict(columns, features=features)))
    for seed, row in enumerate(data["train"]):
        np.testing.assert_array_equal(read_label(row["label"]), ids(seed))


def test_names_of_classes_may_stand_in_the_column(tmp_path):
    features = Features({"image": ImageColumn(), "label": [[ClassLabel(names=["sky", "road"])]]})
    columns = {"image": [png(photo(0))], "label": [(ids(0) > 2).astype(int).tolist()]}
    _, labels = load_source("hub", saved(tmp_path / "d", None, train=Dataset.from_dict(columns, features=features)))
    assert labels.names == ("sky", "road") and labels.source_ids == (0, 1)


def test_parquet_files(tmp_path):
    (tmp_path / "d").mkdir()
    rows(3).to_parquet(str(tmp_path / "d" / "train.parquet"))
    (tmp_path / "d" / "id2label.json").write_text(json.dumps(NAMES))
    data, _ = load_source("hub", str(tmp_path / "d"))
    np.testing.assert_array_equal(read_label(data["train"][2]["label"]), ids(2))


def test_several_chunks_and_parts_of_a_split_keep_their_order(tmp_path):
    from datasets import concatenate_datasets

    parts = {"train_a": concatenate_datasets([rows(2), rows(2, 2)]), "train_b": rows(1, 4), "extra": rows(1)}
    data, _ = load_source("hub", saved(tmp_path / "d", **parts))
    assert [*data] == ["train"]
    for seed, row in enumerate(data["train"]):
        np.testing.assert_array_equal(read_label(row["label"]), ids(seed))
    assert data["train"]["name"][3:] == ["train_a_000003", "train_b_000000"]


def test_other_splits_beside_train_and_val_are_left_out(tmp_path, capsys):
    """Here they have images of both."""
    parts = {"train": rows(6), "val": rows(2, 6), "train_minus_val": rows(4), "train_small": rows(2), "val_b": rows(3)}
    root = saved(tmp_path / "d", **parts)
    data, _ = load_source("hub", root)
    assert {split: len(part) for split, part in data.items()} == {"train": 6, "validation": 2}
    assert "left out: train_minus_val, train_small, val_b" in capsys.readouterr().out
    prepare.main([root, str(tmp_path / "made")])
    made = {split: len([*(tmp_path / "made/images" / split).iterdir()]) for split in ("train", "val")}
    assert made == {"train": 6, "val": 2}
    assert "splits of other names" in capsys.readouterr().out


def test_a_test_split_may_lack_labels_but_no_other(tmp_path):
    nothing = {"row_0": None, "row_1": None}
    for number, test in enumerate((rows(2, 4, **nothing), rows(2, 4).remove_columns("label"))):
        data, _ = load_source("hub", saved(tmp_path / f"{number}", train=rows(2), test=test))
        assert "label" not in data["test"].column_names and len(data["test"]) == 2
    where = "row 1 of split {}, column label is empty"
    root = saved(tmp_path / "some", train=rows(2), test=rows(2, 4, row_1=None))
    assert where.format("test") in refusal(root)
    root = saved(tmp_path / "train", train=rows(2, row_1=None))
    assert where.format("train") in refusal(root)


def test_columns_that_are_wrong_or_cannot_be_told_are_named(tmp_path):
    root = saved(tmp_path / "d", train=rows(2, image="left", label="right"))
    assert "does not say which column: give --image_column, one of left, right" in refusal(root)
    assert "has no column nope of images: give --label_column, one of left, right" in refusal(root, ("left", "nope"))
    assert "has no column nope of images: give --image_column" in refusal(root, ("nope", "right"))
    data, _ = load_source("hub", root, ("left", "right"))
    np.testing.assert_array_equal(read_label(data["train"][1]["label"]), ids(1))
    np.testing.assert_array_equal(read_image(data["train"][1]["image"]), photo(1))


@pytest.mark.parametrize(
    "names, part",
    [
        (None, "has no id2label.json, nor names in the column label"),
        ({"0": "a", "1": "a"}, "2 ids are called a"),
        ({"0": "a", "255": "b"}, "class b has id 255"),
        ({"0": "a", "1": "void"}, "names 1 class"),
    ],
)
def test_classes_that_do_not_fit_are_one_line_with_the_remedy(tmp_path, names, part):
    message = refusal(saved(tmp_path / "my d", names, train=rows(2)))
    assert part in message
    assert f"python -m data_scripts.prepare '{tmp_path}/my d' '{tmp_path}/my d_prepared'" in message


def test_what_is_no_data_set_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo(0)).save(tmp_path / "photos" / "a.png")
    assert "photos (--dataset_name) is not a folder written by `save_to_disk`" in refusal("photos")
    assert "no folder nothing (--dataset_name)" in refusal("nothing")
    for name in ("photos/b", "someone/nothing-of-this-name"):  # whether or not there is a folder called after the owner
        assert f"cannot load the data set {name} from the hub (no folder has this name)" in refusal(name)
    assert "has no training images" in refusal(saved(tmp_path / "d", test=rows(1)))


@pytest.mark.parametrize(
    "mask, part",
    [
        (png(photo(0)), "mask row 1 of split train, column label is in colours (RGB)"),
        (png(np.full((24, 32), 5, np.uint8)), "mask row 1 of split train, column label holds id 5, which"),
    ],
    ids=["colours", "id"],
)
def test_a_mask_that_does_not_fit_stops_training_with_the_command_that_helps(tmp_path, in_process, capsys, mask, part):
    root = saved(tmp_path / "d", train=rows(4, row_1=mask), validation=rows(2, 4))
    with pytest.raises(SystemExit):
        in_process("train_seg", *FAST, "--dataset_name", root)
    message = capsys.readouterr().err.strip().splitlines()[-1]  # after the progress bars
    assert part in message and "make a folder of it with python -m data_scripts.prepare" in message


def test_a_saved_data_set_given_as_a_folder_is_refused_with_the_flag(tmp_path):
    root = saved(tmp_path / "my set", train=rows(4))
    with pytest.raises(DataError, match=f"give --dataset_name '{root}' instead, or .*data_scripts.prepare"):
        recognize(root)


@pytest.mark.parametrize("kind", [DataOptions, InputOptions])
def test_flags_that_say_two_things_are_refused(kind):
    for flags, part in (
        ({"dataset_name": "a/b", "dataset_path": "c"}, "--dataset_name and --dataset_path exclude each other"),
        ({"dataset_name": "a/b", "dataset": "camvid"}, "--dataset_name and --dataset camvid exclude each other"),
        ({"dataset": "hub"}, "--dataset hub needs --dataset_name"),
    ):
        with pytest.raises(DataError, match=part):
            kind(**flags)
    assert with_dataset(kind(dataset_name="a/b")).dataset == "hub"


def test_a_column_needs_a_data_set(in_process, capsys):
    with pytest.raises(SystemExit):
        in_process("train_seg", "--label_column", "mask", "--dataset_path", "x")
    assert "--label_column needs --dataset_name" in capsys.readouterr().err


def test_the_held_out_images_and_the_cache_follow_the_bytes(tmp_path):
    root = saved(tmp_path / "d", train=rows(12))
    one, two = (load_data("hub", root, Division(val_share=0.25))[0] for _ in range(2))
    assert len(one["validation"]) == 3 and one["validation"]["name"] == two["validation"]["name"]
    state = file_state(load_source("hub", root)[0]["train"][0]["label"])
    other = saved(tmp_path / "e", train=rows(12, row_0=png(ids(1))))
    assert file_state(load_source("hub", other)[0]["train"][0]["label"]) != state


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """A data set with a licence, columns that must be named, no validation images, and a test split without labels."""
    root = tmp_path_factory.mktemp("hub") / "yards"
    names = {"image": "left", "label": "right"}
    train, test = rows(10, **names), rows(2, 10, **names).remove_columns("right")
    train = Dataset(train.data, DatasetInfo(features=train.features, license="CC BY 4.0"))
    return saved(root, train=train, test=test)


def test_training_prediction_resume_and_card(data, in_process, tmp_path, capsys):
    run, columns = tmp_path / "run", ("--image_column", "left", "--label_column", "right")
    flags = (*FAST, "--dataset_name", data, *columns, "--val_share", 0.3, "--output_dir", run)
    in_process("train_seg", *flags)
    recorded = yaml.safe_load((run / "args.yaml").read_text())
    assert (recorded["dataset"], recorded["dataset_name"], recorded["label_column"]) == ("hub", data, "right")
    card = (run / "best" / "README.md").read_text()
    for part in ("yards", "names this licence: CC BY 4.0", "30% were held out", "--dataset_name yards", "gravel"):
        assert part in card, part
    assert data not in card

    in_process("predict_seg", "--model_name_or_path", run, "--num_workers", 0, "--output_dir", tmp_path)
    held_out = load_data("hub", data, Division(val_share=0.3), ("left", "right"))[0]["validation"]["name"]
    assert sorted(path.stem for path in (tmp_path / "results_val").iterdir()) == sorted(held_out)
    score = json.loads((tmp_path / "scores_val.json").read_text())["mean_iou"]
    assert score == json.loads((run / "best" / "training.json").read_text())["validation"]["mean_iou"]
    assert sorted(path.stem for path in (tmp_path / "results_test").iterdir()) == ["test_000000", "test_000001"]
    with Image.open(tmp_path / "results_test" / "test_000001.png") as image:
        assert image.size == (32, 24) and {*np.unique(image)} <= {0, 3, 9}

    in_process("train_seg", "--resume_from_checkpoint", run, "--max_train_steps", 3)
    assert "step 2 is done" in capsys.readouterr().out


def test_it_is_opened_once(data, monkeypatch):
    opened, load = [], hub_data._load
    monkeypatch.setattr(hub_data, "_load", lambda name, where: opened.append(name) or load(name, where))
    options = DataOptions("hub", dataset_name=data, image_column="left", label_column="right")
    rows, scoring, division = load_training_data(options)
    facts = describe_data(options, rows, scoring.labels)["training_data"]
    assert opened == [data] and division["val_share"] == 0.2
    assert facts["images"] == {"train": 8, "validation": 2, "test": 2} and facts["licence"] == "CC BY 4.0"


def test_a_card_without_a_licence_says_that_none_is_known(in_process, tmp_path):
    root = saved(tmp_path / "lawns", train=rows(4), validation=rows(2, 4))
    in_process("train_seg", *FAST, "--dataset_name", root, "--output_dir", tmp_path / "run")
    card = (tmp_path / "run" / "best" / "README.md").read_text()
    assert "The licence of lawns is not known here" in card and "held out" not in card


def test_check_and_eda_look_at_it(data, tmp_path, capsys):
    flags = ("--dataset_name", data, "--image_column", "left", "--label_column", "right")
    assert check.main([*flags]) in (0, 1)
    said = capsys.readouterr().out
    assert "gravel" in said and "verdict" in said and "test  2 images of 24x32 (height x width), no masks" in said
    eda.main([str(tmp_path / "page"), *flags])
    page = (tmp_path / "page" / "index.html").read_text()
    assert "gravel" in page and "<title>yards: a look at the data</title>" in page and data not in page


def test_the_source_is_as_it_was(data):
    before = load_from_disk(data)
    load_source("hub", data, ("left", "right"))
    assert load_from_disk(data)["train"].features == before["train"].features


@pytest.mark.parametrize(
    ("kind", "status", "noted"), [(RemoteEntryNotFoundError, 404, False), (HfHubHTTPError, 503, True)]
)
def test_a_hub_that_does_not_answer_is_not_a_missing_list_of_classes(monkeypatch, capsys, kind, status, noted):
    def fail(*_, **__):
        raise kind("no answer", response=httpx.Response(status, request=httpx.Request("GET", "http://hub")))

    monkeypatch.setattr(hub, "hf_hub_download", fail)  # the hub cannot be reached here
    assert hub.class_list_of_id("user/name") is None
    assert ("note: cannot ask the hub for id2label.json of user/name: no answer" in capsys.readouterr().out) == noted
