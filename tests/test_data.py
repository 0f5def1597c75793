"""Sources, reader, checks, augmentation, order."""

import numpy as np
import pytest
import torch
from conftest import augment, sample
from PIL import Image

from data_scripts.arguments import AugmentOptions
from data_scripts.augment import IMAGENET_MEAN, Augmentation
from data_scripts.catalog import DATASETS
from data_scripts.file_checks import check_split
from data_scripts.fold_files import load_data
from data_scripts.labels import CAMVID, CITYSCAPES, DataError
from data_scripts.loading import BatchPlan, TrainBatches, eval_loader, train_loader
from data_scripts.pixels import Pixels
from data_scripts.reader import read_image, read_label, upright_size
from data_scripts.sources import folder_of_images, load_source
from data_scripts.training import note_on_shape
from data_scripts.transforms import EvalTransform, SharedEpoch, TrainTransform, item_generator

SAME = {
    "scale": 1.0,
    "top": 0,
    "left": 0,
    "flip": False,
    "brightness": 1.0,
    "contrast": 1.0,
    "saturation": 1.0,
    "hue": 0.0,
}
MEAN = np.round(np.array(IMAGENET_MEAN) * 255)


def write_camvid(root, suffix=".png", **splits):
    rng = np.random.default_rng(0)
    for split, names in splits.items():
        (root / split).mkdir(parents=True, exist_ok=True)
        (root / f"{split}annot").mkdir(exist_ok=True)
        for name in names:
            Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(root / split / f"{name}{suffix}")
            Image.fromarray(rng.integers(0, 12, (24, 32), dtype=np.uint8)).save(root / f"{split}annot" / f"{name}.png")
    return root


# Sources


def test_minicity_layout(toycity):
    data, labels = load_source("minicity", toycity)
    assert {name: len(split) for name, split in data.items()} == {"train": 6, "validation": 3, "test": 2}
    assert set(data["train"].column_names) == {"index", "image", "label", "instance", "name"}
    assert set(data["test"].column_names) == {"index", "image", "name"}
    row = data["train"][0]
    assert row["index"] == 0 and row["name"].endswith("_leftImg8bit") and row["image"]["bytes"] is None
    assert read_label(row["label"]).shape == read_image(row["image"]).shape[:2] == (96, 192)
    assert labels.names[0] == "road" and len(labels.names) == 19


def test_cityscapes_folders_by_city_without_instances(toycity, tmp_path):
    for split in ("train", "val"):
        for i, image in enumerate(sorted((toycity / "leftImg8bit" / split).iterdir())):
            city, stem = ("aachen", "ulm")[i % 2], image.name.removesuffix("_leftImg8bit.png")
            label = toycity / "gtFine" / split / f"{stem}_gtFine_labelIds.png"
            for kind, file in (("leftImg8bit", image), ("gtFine", label)):
                folder = tmp_path / kind / split / city
                folder.mkdir(parents=True, exist_ok=True)
                (folder / file.name).symlink_to(file)
    data, _ = load_source("cityscapes", tmp_path)
    assert len(data["train"]) == 6 and "instance" not in data["train"].column_names and "test" not in data
    assert {row["image"]["path"].split("/")[-2] for row in data["train"]} == {"aachen", "ulm"}


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".PNG"])
def test_camvid_layout_with_any_image_extension(tmp_path, suffix):
    root = write_camvid(tmp_path, suffix, train=["a", "b"], val=["c"])
    (root / "test").mkdir()
    (root / "test" / "d.png").write_bytes((root / "train" / f"a{suffix}").read_bytes())
    data, labels = load_source("camvid", root)
    assert data["train"]["name"] == ["a", "b"] and "label" not in data["test"].column_names
    assert len(labels.names) == 11 and labels.train_ids[11] == 255 and labels.train_ids[10] == 10


def test_a_missing_minicity_says_how_to_get_it_and_how_to_make_toycity(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"minicity.*vipriors.*python -m data_scripts.toycity") as error:
        load_source("minicity")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_data_set_says_what_to_do_when_its_folder_is_missing(dataset, tmp_path):
    flag = "--dataset_name" if dataset == "hub" else "--dataset_path"
    with pytest.raises(DataError, match=flag):
        load_source(dataset, tmp_path / "nowhere")
    with pytest.raises(DataError, match=flag):
        load_source(dataset, tmp_path)


def test_an_image_without_label_is_named(tmp_path):
    root = write_camvid(tmp_path, train=["a", "b"], val=["c"])
    (root / "trainannot" / "b.png").unlink()
    with pytest.raises(DataError, match="b.png"):
        load_source("camvid", root)


def test_an_empty_split_is_named(tmp_path):
    root = write_camvid(tmp_path, train=["a"], val=[])
    with pytest.raises(DataError, match="no validation images of a camvid data set"):
        load_data("camvid", root)
    root = write_camvid(tmp_path / "other", train=[], val=["a"])
    with pytest.raises(DataError, match="split train of .* is empty"):
        load_data("camvid", root)


def test_two_images_of_one_name_are_refused(tmp_path):
    root = write_camvid(tmp_path, train=["a", "b"], val=["c"])
    Image.open(root / "train" / "a.png").save(root / "train" / "a.jpg")
    with pytest.raises(DataError, match="named a"):
        load_source("camvid", root)


def test_a_folder_of_photos(tmp_path):
    write_camvid(tmp_path, train=["a", "b"])
    assert folder_of_images(str(tmp_path / "train"))["name"] == ["a", "b"]
    with pytest.raises(DataError, match="--input"):
        folder_of_images(str(tmp_path / "nowhere"))


# Label sets


@pytest.mark.parametrize("labels", [CITYSCAPES, CAMVID], ids=lambda labels: labels.name)
def test_ids_survive_the_way_to_train_ids_and_back(labels):
    source = np.array([labels.source_ids], np.uint8)
    assert np.array_equal(labels.train_ids[source][0], np.arange(len(labels.names)))
    assert np.array_equal(labels.to_source(labels.train_ids[source]), source)
    assert (labels.train_ids[list(labels.void_ids)] == labels.ignore_index).all()
    assert not labels.known_ids[200] and labels.to_color(np.array([[255]], np.uint8)).sum() == 0
    assert len(set(labels.palette)) == len(labels.names)


def test_cityscapes_ids_are_the_official_ones():
    cityscapes = pytest.importorskip("cityscapesscripts.helpers.labels", reason="cityscapesscripts is optional")
    for label in cityscapes.labels:
        if 0 <= label.id:
            assert CITYSCAPES.train_ids[label.id] == label.trainId % 256


# Reader


@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_and_mask_are_turned_together(tmp_path, orientation):
    """A photo whose stored pixels are rotated, with a mask drawn on the stored pixels."""
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    Image.fromarray(pixels[..., 0] // 255).save(tmp_path / "mask.png")
    image = read_image(str(tmp_path / "photo.png"))
    mask = read_label(str(tmp_path / "mask.png"), str(tmp_path / "photo.png"))
    assert image.shape[:2] == mask.shape == upright_size(str(tmp_path / "photo.png"))
    assert np.array_equal(image[..., 0] > 0, mask == 1)


def test_a_mask_drawn_on_the_upright_photo_stays(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "photo.png", exif=exif)
    mask = np.arange(24, dtype=np.uint8).reshape(6, 4)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert np.array_equal(read_label(str(tmp_path / "mask.png"), str(tmp_path / "photo.png")), mask)


def test_palette_and_16_bit_masks_give_their_ids_and_colour_masks_are_refused(tmp_path):
    ids = np.array([[0, 7], [11, 33]], np.uint8)
    palette = Image.fromarray(ids, "P")
    palette.putpalette([i % 251 for i in range(768)])
    palette.save(tmp_path / "p.png")
    Image.fromarray(ids.astype(np.uint16)).save(tmp_path / "i16.png")
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "rgb.png")
    Image.fromarray(np.full((2, 2), 300, np.uint16)).save(tmp_path / "big.png")
    for name in ("p.png", "i16.png"):
        label = read_label(str(tmp_path / name))
        assert label.dtype == np.uint8 and np.array_equal(label, ids)
    for name in ("rgb.png", "big.png"):
        with pytest.raises(DataError, match=name):
            read_label(str(tmp_path / name))


# Checks


def test_counts_of_classes(tmp_path):
    data, labels = load_source("camvid", write_camvid(tmp_path, train=["a", "b"], val=["c"]))
    counts, smallest = check_split(data["train"], labels, "train", progress=False)
    truth = [np.bincount(read_label(row["label"]).reshape(-1), minlength=12)[:11] for row in data["train"]]
    assert np.array_equal(counts, truth) and smallest == (24, 32)


def break_size(label):
    Image.fromarray(np.zeros((23, 32), np.uint8)).save(label)


def break_id(label):
    Image.fromarray(np.full((24, 32), 77, np.uint8)).save(label)


def cut_off(file):
    file.write_bytes(file.read_bytes()[:-40])


@pytest.mark.parametrize("fault, word", [(break_size, "23x32"), (break_id, "77"), (cut_off, "cannot read")])
def test_a_bad_label_is_named(tmp_path, fault, word):
    root = write_camvid(tmp_path, train=["a", "b"], val=["c"])
    fault(root / "trainannot" / "b.png")
    data, labels = load_source("camvid", root)
    with pytest.raises(DataError, match=word) as error:
        check_split(data["train"], labels, "train", progress=False)
    assert "b.png" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
@pytest.mark.parametrize("kept", [0, 0.5, 0.98])
def test_a_truncated_image_is_named_without_decoding_it(tmp_path, suffix, kept):
    root = write_camvid(tmp_path, suffix, train=["a", "b"], val=["c"])
    file = root / "train" / f"b{suffix}"
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    data, labels = load_source("camvid", root)
    with pytest.raises(DataError, match=f"b{suffix}"):
        check_split(data["train"], labels, "train", progress=False)


# Augmentation


def random_pair(height=20, width=30):
    rng = np.random.default_rng(1)
    shape = (height, width)
    return rng.integers(0, 256, (*shape, 3), dtype=np.uint8), rng.integers(0, 11, shape, dtype=np.uint8)


def test_the_unchanged_crop_is_the_image():
    image, label = random_pair()
    a, b = augment(image, label, Augmentation(**SAME), (20, 30))
    assert np.array_equal(a, image) and np.array_equal(b, label)


def test_crop_and_flip_move_image_and_label_together():
    image, label = random_pair()
    a, b = augment(image, label, Augmentation(**{**SAME, "top": 3, "left": 5, "flip": True}), (8, 9))
    assert np.array_equal(a, image[3:11, 5:14][:, ::-1]) and np.array_equal(b, label[3:11, 5:14][:, ::-1])


def test_padding_is_the_mean_in_the_image_and_ignored_in_the_label():
    image, label = random_pair()
    a, b = augment(image, label, Augmentation(**{**SAME, "top": -2, "left": -4}), (25, 40))
    inside = np.zeros((25, 40), bool)
    inside[2:22, 4:34] = True
    assert np.array_equal(a[inside].reshape(image.shape), image) and np.array_equal(
        b[inside].reshape(label.shape), label
    )
    assert (b[~inside] == 255).all() and (a[~inside] == MEAN).all()


@pytest.mark.parametrize("scale", [0.8, 1.4, 2.0])
def test_scaling_agrees_with_resizing_and_then_cropping(scale):
    cv2 = pytest.importorskip("cv2")
    image, label = random_pair(60, 90)
    image = cv2.GaussianBlur(image, (0, 0), 2)
    height, width = round(60 * scale), round(90 * scale)
    whole = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    whole_label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    a, b = augment(image, label, Augmentation(**{**SAME, "scale": scale, "top": 4, "left": 7}), (30, 40), jitter=False)
    assert np.abs(a.astype(int) - whole[4:34, 7:47]).mean() < 1.0
    assert (b == whole_label[4:34, 7:47]).mean() > 0.99


def test_no_new_label_values_appear():
    image, label = random_pair()
    label[:] = np.where(label > 5, 10, 0)
    for index in range(20):
        drawn = sample(item_generator(0, 0, index), (20, 30), (16, 24))
        assert set(np.unique(augment(image, label, drawn, (16, 24))[1])) <= {0, 10, 255}


def test_sampled_parameters_cover_their_ranges():
    drawn = [sample(item_generator(0, 1, i), (20, 30), (16, 24)) for i in range(400)]
    scales = [a.scale for a in drawn]
    assert 0.75 <= min(scales) < 0.8 and 1.95 < max(scales) <= 2.0
    assert 0.4 < np.mean([a.flip for a in drawn]) < 0.6
    for a in drawn:
        assert min(0, round(20 * a.scale) - 16) <= a.top <= max(0, round(20 * a.scale) - 16)
        assert all(0.7 <= f <= 1.3 for f in (a.brightness, a.contrast, a.saturation)) and -0.3 <= a.hue <= 0.3
    assert np.ptp([a.hue for a in drawn]) > 0.5 and np.ptp([a.brightness for a in drawn]) > 0.5


def test_flags_switch_flip_and_colour_off():
    drawn = [
        sample(item_generator(0, 1, i), (20, 30), (16, 24), scale_range=(1, 1), hflip=False, colorjitter_factor=0.0)
        for i in range(50)
    ]
    assert {(a.scale, a.flip, a.brightness, a.contrast, a.saturation, a.hue) for a in drawn} == {(1, False, 1, 1, 1, 0)}


@pytest.mark.parametrize(
    "change, reference",
    [
        ({"brightness": 1.2}, lambda f, image: f.adjust_brightness(image, 1.2)),
        ({"contrast": 0.7}, lambda f, image: f.adjust_contrast(image, 0.7)),
        ({"saturation": 0.4}, lambda f, image: f.adjust_saturation(image, 0.4)),
    ],
)
def test_colour_changes_agree_with_torchvision(change, reference):
    functional = pytest.importorskip("torchvision.transforms.functional")
    image, label = random_pair()
    image = 60 + image // 2  # far from clipping, which would make the order of operations matter
    ours, _ = augment(image, label, Augmentation(**{**SAME, **change}), (20, 30))
    theirs = reference(functional, torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 2


def test_hue_keeps_the_luma_and_turns_the_colour():
    image, label = random_pair()
    image = 100 + image // 8
    ours, _ = augment(image, label, Augmentation(**{**SAME, "hue": 0.25}), (20, 30))
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs(ours @ luma - image @ luma).max() < 2 and np.abs(ours.astype(int) - image).max() > 8


# Items, order, loaders


def items(data, labels, **options):
    epoch = SharedEpoch()
    pixels = Pixels(data, labels, options.pop("size", None))
    transform = TrainTransform(pixels, 0, epoch, AugmentOptions((32, 48), **options))
    return data.with_transform(transform), epoch


def test_an_item_depends_on_seed_epoch_and_index_alone(toycity):
    data, labels = load_source("toycity", toycity)
    train, epoch = items(data["train"], labels)
    first = train[2]
    assert first["pixel_values"].dtype == first["labels"].dtype == torch.uint8
    assert first["pixel_values"].shape == (3, 32, 48) and first["labels"].shape == (32, 48)
    train[0]
    assert torch.equal(train[2]["pixel_values"], first["pixel_values"])
    epoch.set(1)
    assert not torch.equal(train[2]["pixel_values"], first["pixel_values"])


def test_batches_do_not_depend_on_the_number_of_workers(toycity):
    data, labels = load_source("toycity", toycity)
    seen = []
    for workers in (0, 2):
        train, epoch = items(data["train"], labels)
        batches = TrainBatches(BatchPlan(6, 2), 0, epoch)
        loader = train_loader(train, batches, workers, pin_memory=False)
        pixels = []
        for number in (1, 2):  # workers live on, so the second epoch must reach them
            epoch.set(number)
            pixels += [batch["pixel_values"] for batch in loader]
        seen.append(torch.cat(pixels))
    assert torch.equal(*seen) and not torch.equal(seen[0][:6], seen[0][6:])


def steps_of(num_images, batch_size, accumulation, processes, number=3):
    """Return the images of each optimizer step, over all processes and accumulation steps."""
    epoch = SharedEpoch()
    epoch.set(number)
    shares = [
        list(TrainBatches(BatchPlan(num_images, batch_size, accumulation, processes, rank), 0, epoch))
        for rank in range(processes)
    ]
    parts = [sum(together, []) for together in zip(*shares, strict=True)]
    return [sum(parts[i : i + accumulation], []) for i in range(0, len(parts), accumulation)]


def test_a_step_sees_the_same_images_however_they_are_spread():
    one = steps_of(11, 4, 1, 1)
    assert len(one) == 2 and len(set(sum(one, []))) == 8
    for accumulation, processes in ((2, 1), (1, 2), (2, 2), (1, 4)):
        assert [sorted(s) for s in steps_of(11, 4, accumulation, processes)] == [sorted(s) for s in one]
    assert steps_of(11, 4, 1, 1, number=4) != one


def test_batches_can_begin_within_an_epoch_and_take_another_order():
    """What a resumed run has left of its epoch is the end of the whole one."""
    batches = TrainBatches(BatchPlan(11, 2, accumulation=2), 0, SharedEpoch())
    whole = list(batches)
    batches.start_at(3)
    assert list(batches) == whole[6:] and len(batches) == len(whole) - 6 == 4
    backwards = TrainBatches(BatchPlan(4, 2), 0, SharedEpoch(), order=lambda rng: [3, 2, 1, 0])
    assert list(backwards) == [[3, 2], [1, 0]]


@pytest.mark.parametrize("batch_size, accumulation, processes", [(5, 1, 2), (6, 4, 1), (8, 2, 3)])
def test_a_batch_size_that_does_not_divide_is_refused(batch_size, accumulation, processes):
    with pytest.raises(DataError, match=f"--batch_size {batch_size}.*{processes} processes.*{accumulation}"):
        BatchPlan(100, batch_size, accumulation, processes)


def test_more_images_per_step_than_there_are_is_refused():
    with pytest.raises(DataError, match="--batch_size 8.*7"):
        BatchPlan(7, 8)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_every_validation_image_is_seen_by_exactly_one_process(toycity, processes):
    data, labels = load_source("toycity", toycity)
    split = data["validation"].with_transform(EvalTransform(Pixels(data["validation"], labels)))
    names = [item["name"] for rank in range(processes) for item in eval_loader(split, processes, rank, 0, False)]
    assert sorted(names) == sorted(data["validation"]["name"])


def test_evaluation_items_are_native(toycity):
    data, labels = load_source("toycity", toycity)
    item = data["validation"].with_transform(EvalTransform(Pixels(data["validation"], labels)))[0]
    row = data["validation"][0]
    assert np.array_equal(item["pixel_values"].permute(1, 2, 0), read_image(row["image"]))
    assert np.array_equal(item["labels"], CITYSCAPES.train_ids[read_label(row["label"])])


def test_train_size_resizes_before_the_crop(toycity):
    data, labels = load_source("toycity", toycity)
    train, _ = items(data["train"], labels, size=(48, 96), scale_range=(1, 1))
    label = train[0]["labels"]
    assert label.shape == (32, 48) and (label != 255).any()


def test_train_size_of_another_shape_is_said(capsys):
    sizes = np.array([[480, 640], [640, 480], [512, 640]])
    note_on_shape((768, 1024), sizes)
    line = (
        "note: --train_size 768 1024 (height, width) changes the shape of 1 of 3 training images by more than a fifth"
    )
    assert (
        capsys.readouterr().out
        == f"{line}: upright and wide images have no shape in common, and a square changes both alike\n"
    )
    note_on_shape((768, 1024), sizes[[1, 1]])
    assert capsys.readouterr().out.endswith(
        "2 of 2 training images by more than a fifth: choose the shape of your images\n"
    )
    note_on_shape((768, 1024), sizes[[0, 2]])
    assert not capsys.readouterr().out
