"""CopyBlob, CutMix, class-centred crops, rotation, rare-class sampling."""

import dataclasses
import json
import os

import numpy as np
import pytest
import torch
from conftest import launch, rows_of
from PIL import Image

from data_scripts import copyblob
from data_scripts.augment import Augmentation, Crop, augment, crop_matrix, sample_augmentation, take_crop
from data_scripts.copyblob import (
    PASTED,
    BlobBank,
    Placement,
    build_bank,
    parse_rules,
    paste,
    paste_in_batch,
    sample_placement,
    sample_placements,
)
from data_scripts.cutmix import cutmix, sample_boxes
from data_scripts.labels import CAMVID, CITYSCAPES, DataError
from data_scripts.loading import TrainBatches, train_loader
from data_scripts.pixels import Pixels
from data_scripts.sampling import inverse_frequency, make_order, training_split
from data_scripts.sources import from_files, load_source
from data_scripts.transforms import AugmentOptions, SharedEpoch, TrainTransform, item_generator, sample_pixel

SAME = Augmentation(1.0, 0, 0, False, 1.0, 1.0, 1.0, 0.0)
BUILDING, ROAD, PAVEMENT, FENCE, CAR = 1, 3, 4, 7, 8


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINICITY_SEG_CACHE", str(tmp_path / "cache"))


def crop_of(image, label, instance=None) -> Crop:
    return take_crop(image.copy(), label.copy(), SAME, label.shape, None if instance is None else instance.copy())


def random_crop(seed=0, shape=(20, 30)) -> Crop:
    rng = np.random.default_rng(seed)
    image, label = rng.integers(0, 256, (*shape, 3), dtype=np.uint8), rng.integers(0, 11, shape, dtype=np.uint8)
    return crop_of(image, label, rng.integers(0, 50, shape, dtype=np.uint16))


# Rotation, colour, class-centred crops


def test_half_a_turn_mirrors_image_label_and_instances_both_ways():
    crop = random_crop()
    arrays = (crop.image, crop.label)
    turned = augment(*arrays, dataclasses.replace(SAME, rotation=180.0), (20, 30), instance=crop.instance)
    for before, after in zip((*arrays, crop.instance), turned, strict=True):
        assert np.array_equal(after, before[::-1, ::-1])


def test_a_quarter_turn_is_clockwise_about_the_centre_and_pads_with_ignored():
    label = np.zeros((20, 30), np.uint8)
    label[2, 14:16] = 5  # above the centre
    image = np.repeat(label[..., None] * 40, 3, axis=2)
    turned, ids, instances = augment(
        image, label, dataclasses.replace(SAME, rotation=90.0), (20, 30), instance=label.astype(np.uint16) + 1
    )
    assert (ids[9:11, 22] == 5).all() and (ids == 5).sum() == 2  # to its right
    padding = np.ones((20, 30), bool)
    padding[:, 5:25] = False
    assert ((ids == 255) == padding).all() and (instances[padding] == 0).all() and (turned[9:11, 22] > 100).all()


@pytest.mark.parametrize("rotation", [0.0, 10.0, 40.0])
def test_a_focused_crop_contains_its_pixel(rotation):
    for index in range(300):
        rng = item_generator(0, 0, index)
        label = np.zeros((40, 60), np.uint8)
        row, column = int(rng.integers(40)), int(rng.integers(60))
        label[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = 9  # turned pixels are not squares
        drawn = sample_augmentation(rng, (40, 60), (16, 24), (1.5, 2.0), rotation=rotation, focus=(row, column))
        crop = take_crop(np.zeros((40, 60, 3), np.uint8), label, drawn, (16, 24))
        assert (crop.label == 9).any()
        if not rotation:  # no more padding than other crops have
            assert crop.padding is None


def test_class_centred_crops_draw_the_rare_class_of_the_image():
    label = np.full((40, 60), 255, np.uint8)
    label[:20], label[5, 7] = 1, 2
    weights = inverse_frequency(np.array([1000, 799, 1]))
    drawn = [sample_pixel(item_generator(0, 0, i), label, weights) for i in range(200)]
    assert drawn.count((5, 7)) > 190 and all(label[pixel] != 255 for pixel in drawn)
    assert sample_pixel(item_generator(0, 0, 0), np.full((4, 4), 255, np.uint8), weights) is None


def test_distortion_is_shift_gain_saturation_and_hue_each_half_of_the_time_in_both_orders():
    drawn = [sample_augmentation(item_generator(0, 0, i), (20, 30), (16, 24), jitter=None) for i in range(400)]
    for field, low, high, neutral in (
        *(("shift", -32, 32, 0), ("brightness", 0.5, 1.5, 1), ("saturation", 0.5, 1.5, 1), ("hue", -0.05, 0.05, 0)),
    ):
        values = np.array([getattr(a, field) for a in drawn])
        assert 0.4 < np.mean(values == neutral) < 0.6 and low <= values.min() and values.max() <= high
        assert np.ptp(values) > 0.9 * (high - low)
    assert 0.4 < np.mean([a.shift_first for a in drawn]) < 0.6 and {a.contrast for a in drawn} == {1.0}
    image = np.full((4, 4, 3), 100, np.uint8)
    for first, expected in ((True, (100 + 20) * 1.5), (False, 100 * 1.5 + 20)):
        change = dataclasses.replace(SAME, brightness=1.5, shift=20.0, shift_first=first)
        assert (augment(image, image[..., 0], change, (4, 4))[0] == expected).all()


# CutMix


def test_boxes_are_copied_in_image_label_and_instances_and_nothing_else_is():
    one, other = random_crop(1), random_crop(2)
    other.label[3, 4] = 255  # ignored pixels travel too
    before = [array.copy() for array in (one.image, one.label, one.instance)]
    boxes = [(slice(2, 5), slice(3, 9)), (slice(10, 12), slice(0, 2))]
    cutmix(one, other, boxes)
    inside = np.zeros((20, 30), bool)
    inside[2:5, 3:9] = inside[10:12, 0:2] = True
    new = (other.image, other.label, other.instance)
    for old, mixed, theirs in zip(before, (one.image, one.label, one.instance), new, strict=True):
        assert np.array_equal(mixed[inside], theirs[inside]) and np.array_equal(mixed[~inside], old[~inside])


@pytest.mark.parametrize("boxes, beta", [(1, 1.0), (4, 2.0)])
def test_boxes_have_the_crops_shape_and_the_share_that_beta_gives(boxes, beta):
    sides, cut_off = [], 0
    for index in range(2000):
        drawn = sample_boxes(item_generator(0, 0, index), (200, 400), boxes, beta)
        assert len(drawn) == boxes
        for rows, columns in drawn:
            assert 0 <= rows.start <= rows.stop <= 200 and 0 <= columns.start <= columns.stop <= 400
            if rows.start and columns.start and rows.stop < 200 and columns.stop < 400:
                sides.append((rows.stop - rows.start, columns.stop - columns.start))
            else:
                cut_off += 1
    sides = np.array(sides)
    assert cut_off and np.abs(sides[:, 0] * 2 - sides[:, 1]).max() <= 2
    share = np.array([item_generator(0, 0, i).beta(beta, beta) for i in range(2000)])
    assert abs(share.mean() - 0.5) < 0.02 and (sides.prod(1).max() <= 200 * 400 * share.max() / boxes + 400)


# CopyBlob: a scene of 40x60 with the horizon at row 20, pavement on the left, road on the right, a fence and a car


def scene() -> tuple[np.ndarray, np.ndarray]:
    label = np.full((40, 60), BUILDING, np.uint8)
    label[20:, :30], label[20:, 30:] = PAVEMENT, ROAD
    label[22:30, 8:14] = FENCE
    image = np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    image[label == FENCE] = (200, 30, 30)
    return image, label


@pytest.fixture
def split(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    image, label = scene()
    Image.fromarray(image).save(folder / "a.png")
    Image.fromarray(label).save(folder / "a_label.png")
    bare = np.where(label == FENCE, PAVEMENT, label).astype(np.uint8)
    Image.fromarray(image[:, ::-1].copy()).save(folder / "b.png")
    Image.fromarray(bare).save(folder / "b_label.png")
    return from_files([(name, folder / f"{name}.png", folder / f"{name}_label.png", None) for name in "ab"], "here")


def counts_of(split) -> np.ndarray:
    labels = [np.asarray(Image.open(row["label"]["path"])) for row in split]
    return np.stack([np.bincount(label.reshape(-1), minlength=11)[:11] for label in labels])


RULES = ((FENCE, PAVEMENT),)


@pytest.fixture
def bank(split):
    folder = build_bank(split, CAMVID, RULES, counts_of(split), progress=False)
    return BlobBank(folder, np.ones(11), CAMVID)


def test_the_bank_holds_each_blob_with_its_foot_and_the_horizon(bank):
    assert len(bank) == 1 and bank.horizon == pytest.approx(20 / 40, abs=0.01)
    blob = bank.blobs[0]
    assert (blob.label, blob.ground) == RULES[0] and blob.foot_row == pytest.approx(29.5 / 40)
    pixels = bank.cut_out(0)
    assert pixels.shape == (8 + 4, 6 + 4, 4)
    assert (pixels[2:10, 2:8] == (200, 30, 30, 255)).all() and (pixels[..., 3] > 0).sum() == 48


def blank(label=None) -> Crop:
    label = np.where(scene()[1] == FENCE, PAVEMENT, scene()[1]).astype(np.uint8) if label is None else label
    return crop_of(np.full((40, 60, 3), 100, np.uint8), label, np.zeros((40, 60), np.uint16))


def test_a_pasted_blob_stands_where_it_was_put(bank):
    crop, before = blank(), blank()
    paste(crop, bank, Placement(0, row=35, column=20, zoom=1.0, flip=False), PASTED + 1)
    inside = np.zeros((40, 60), bool)
    inside[28:36, 18:24] = True  # 8 high, its foot in row 35, about column 20
    assert (crop.label[inside] == FENCE).all() and np.array_equal(crop.label[~inside], before.label[~inside])
    assert np.array_equal(crop.instance == PASTED + 1, inside) and (crop.image[~inside] == 100).all()
    assert (crop.image[30:34, 20:22] == (200, 30, 30)).all()  # within
    edge = crop.image[31, 18]
    assert 100 < edge[0] < 200 and 30 < edge[1] < 100  # blended, but only on its own side


@pytest.mark.parametrize("row, column", [(35, 0), (39, 59), (2, 30), (0, 0), (39, 0)])
def test_what_lies_beyond_the_border_is_cut_off_not_pressed_onto_it(bank, row, column):
    crop = blank(np.full((40, 60), PAVEMENT, np.uint8))
    paste(crop, bank, Placement(0, row, column, 1.0, False))
    expected = np.zeros((40 + 40, 60 + 40), bool)
    expected[20 + row - 7 : 20 + row + 1, 20 + column - 2 : 20 + column + 4] = True
    assert np.array_equal(crop.label == FENCE, expected[20:60, 20:80])


def test_the_mirrored_blob_is_mirrored_about_its_foot_and_the_zoomed_one_zoomed(bank):
    crop = blank()
    paste(crop, bank, Placement(0, 35, 20, 1.0, True))
    assert (crop.label == FENCE).sum() == 48 and (crop.label[28:36, 17:23] == FENCE).all()
    crop = blank()
    paste(crop, bank, Placement(0, 38, 25, 2.0, False))
    rows, columns = np.nonzero(crop.label == FENCE)
    assert abs(np.ptp(rows) + 1 - 16) <= 1 and abs(np.ptp(columns) + 1 - 12) <= 1


def test_what_is_nearer_stays_in_front(bank):
    crop = blank()
    crop.label[26:39, 19:21] = CAR  # stands below the blob's foot
    crop.label[26:32, 22:24] = CAR  # stands above it: behind
    paste(crop, bank, Placement(0, 35, 20, 1.0, False), PASTED + 1)
    assert (crop.label[28:36, 19:21] == CAR).all() and (crop.image[28:36, 19:21] == 100).all()
    assert (crop.label[28:36, 22:24] == FENCE).all() and (crop.instance[28:36, 19:21] == 0).all()


def test_the_whole_of_a_nearer_thing_stays_in_front_but_of_a_wall_only_its_columns(bank):
    for kind, rows, columns in ((CAR, (30, 36), (18, 22)), (BUILDING, (30, 36), (18, 19))):
        crop = blank()
        crop.label[30:36, 18:22] = kind
        crop.label[36:39, 18:19] = kind  # one column reaches below the blob's foot
        paste(crop, bank, Placement(0, 35, 20, 1.0, False))
        expected = np.zeros((40, 60), bool)
        expected[28:36, 18:24] = True
        expected[slice(*rows), slice(*columns)] = False
        assert np.array_equal(crop.label == FENCE, expected)


def test_a_turned_crop_gets_a_turned_blob(bank):
    drawn = dataclasses.replace(SAME, rotation=90.0)
    crop = take_crop(np.full((40, 60, 3), 100, np.uint8), np.full((40, 60), PAVEMENT, np.uint8), drawn, (40, 60))
    paste(crop, bank, Placement(0, 20, 30, 1.0, False))
    rows, columns = np.nonzero(crop.label == FENCE)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (6, 8) and columns.min() == 30  # its foot was turned to the left


def test_places_are_on_the_ground_and_sizes_follow_perspective(bank):
    blob, seen = bank.blobs[0], []
    for index in range(300):
        rng = item_generator(0, 0, index)
        drawn = sample_augmentation(rng, (40, 60), (30, 40), (0.8, 1.6), rotation=8.0)
        crop = take_crop(np.full((40, 60, 3), 100, np.uint8), blank().label, drawn, (30, 40))
        placement = sample_placement(rng, bank, crop, 40)
        if placement is None:
            continue
        assert crop.label[placement.row, placement.column] == blob.ground
        row = (crop_matrix(drawn, (40, 60)) @ (placement.column, placement.row, 1))[1] + 0.5
        ratio = (row / 40 - bank.horizon) / (blob.foot_row - bank.horizon)
        assert 1 / 1.5 <= ratio <= 1.5 and placement.zoom == pytest.approx(ratio * drawn.scale)
        seen.append((ratio, placement.flip))
        paste(crop, bank, placement)
        assert crop.label[placement.row, placement.column] == FENCE
    ratios, flips = np.array(seen).T
    assert len(seen) > 150 and ratios.min() < 0.8 and ratios.max() > 1.3 and 0.4 < flips.mean() < 0.6


def test_without_ground_nothing_is_pasted(bank):
    crop = crop_of(np.zeros((40, 60, 3), np.uint8), np.full((40, 60), ROAD, np.uint8))
    assert sample_placement(item_generator(0, 0, 0), bank, crop, 40) is None


def test_probability_0_pastes_nothing_and_1_three_the_farthest_first(bank):
    for index in range(20):
        rng = item_generator(0, 0, index)
        assert sample_placements(rng, bank, blank(), 40, 0.0) == []
        rows = [placement.row for placement in sample_placements(rng, bank, blank(), 40, 1.0)]
        assert len(rows) == 3 and rows == sorted(rows)


def test_rare_classes_are_drawn_often_and_their_blobs_equally(bank, tmp_path):
    rows = [list(vars(bank.blobs[0]).values())] * 3 + [[BUILDING, *list(vars(bank.blobs[0]).values())[1:]]]
    bank.pixels.tofile(tmp_path / "pixels.bin")
    (tmp_path / "bank.json").write_text(json.dumps({"horizon": 0.5, "blobs": rows}))
    weights = np.zeros(11)
    weights[FENCE], weights[BUILDING] = 0.25, 0.75
    several = BlobBank(tmp_path, weights, CAMVID)
    rng = item_generator(0, 0, 0)
    share = np.bincount([several.draw(rng) for _ in range(4000)], minlength=4) / 4000
    assert np.abs(share - (0.25 / 3, 0.25 / 3, 0.25 / 3, 0.75)).max() < 0.03


def test_instances_tell_touching_objects_apart(toycity):
    mask, instances = np.ones((4, 6), bool), np.full((4, 6), 26001, np.uint16)
    instances[:, 3:] = 26002
    parts = copyblob.components(mask, instances)
    assert [part.sum() for part in parts] == [12, 12] and len(copyblob.components(mask, None)) == 1
    data, labels = load_source("toycity", toycity)
    rules = parse_rules(["car:road", "fence:sidewalk"], labels)
    folder = build_bank(data["train"], labels, rules, np.ones((6, 19), int), progress=False)
    found = BlobBank(folder, np.ones(19), labels)
    assert {blob.label for blob in found.blobs} == {kind for kind, _ in rules}


def test_rules_name_classes():
    assert parse_rules(CITYSCAPES.copyblob, CITYSCAPES) == ((3, 1), (4, 1), (15, 0), (16, 0))
    assert parse_rules(["traffic sign : sidewalk"], CITYSCAPES) == ((7, 1),)
    for rules in (["fence"], ["fence:moon"], ["a:b:c"], ["fence:road:road"], []):
        with pytest.raises(DataError, match="--copyblob"):
            parse_rules(rules, CITYSCAPES)


def test_no_blob_at_all_is_said(split):
    with pytest.raises(DataError, match="--copyblob: no training image has a bicyclist"):
        build_bank(split, CAMVID, ((10, ROAD),), counts_of(split), progress=False)


def test_the_bank_is_built_once_and_again_when_a_file_changes(split, monkeypatch):
    built, write = [], copyblob._write_bank
    monkeypatch.setattr(copyblob, "_write_bank", lambda *args: (built.append(1), write(*args)))
    folders = [build_bank(split, CAMVID, RULES, counts_of(split), progress=False) for _ in range(2)]
    assert folders[0] == folders[1] and len(built) == 1
    path = split[1]["label"]["path"]
    status = os.stat(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert build_bank(split, CAMVID, RULES, counts_of(split), progress=False) != folders[0] and len(built) == 2


# CopyBlob as in the tutorial


def test_the_tutorials_paste_is_anchored_top_left_and_pressed_onto_the_border():
    donor, target = (crop_of(np.zeros((4, 5, 3), np.uint8), np.full((4, 5), ROAD, np.uint8)) for _ in range(2))
    donor.label[1:3, 1:4] = FENCE
    donor.image[1:3, 1:4] = np.arange(6).reshape(2, 3, 1) + 10
    target.label[2, 3] = PAVEMENT
    paste_in_batch(item_generator(0, 0, 0), [donor, target], RULES)
    # (1, 1) goes to (2, 3): columns 3, 4 and, pressed back, 4 again
    expected = np.full((4, 5), ROAD)
    expected[2:4, 3:5] = FENCE
    assert np.array_equal(target.label, expected)
    assert target.image[2:4, 3:5, 0].tolist() == [[10, 12], [13, 15]]
    assert (donor.label == FENCE).sum() == 6  # its only other image has no pavement left


def test_a_batch_of_one_pastes_nothing():
    crop = crop_of(*scene())
    before = crop.label.copy()
    paste_in_batch(item_generator(0, 0, 0), [crop], RULES)
    assert np.array_equal(crop.label, before)


# Sampling


def test_inverse_frequency():
    assert inverse_frequency(np.array([100, 0, 300])).tolist() == pytest.approx([0.75, 0, 0.25])


@pytest.mark.parametrize("sampling", ["rare", "balanced"])
def test_rare_classes_come_often_and_each_time_as_another_item(sampling):
    counts = np.zeros((50, 4), int)
    counts[:, 0], counts[:5, 1], counts[7, 2] = 1000, 10, 1
    order = make_order(sampling, counts)
    items = order(item_generator(0, 1, 0))
    assert len(items) == 50 and len(set(items)) == 50  # no item twice, though images are
    images = np.array(items) % 50
    rare = (images == 7).mean()
    assert rare > 0.8 if sampling == "rare" else 0.25 < rare < 0.45
    assert order(item_generator(0, 1, 0)) == items != order(item_generator(0, 2, 0))


def test_balanced_batches_show_every_class():
    counts = np.eye(4, dtype=int) * 10
    items = make_order("balanced", np.repeat(counts, 3, axis=0))(item_generator(0, 1, 0))
    for i in range(0, 12, 4):
        assert {item % 12 // 3 for item in items[i : i + 4]} == {0, 1, 2, 3}


def test_training_splits_are_numbered_anew(toycity):
    data, _ = load_source("toycity", toycity)
    joined = training_split(data["train"], data["validation"])
    assert joined["index"][:] == list(range(9)) and joined["name"][6:] == data["validation"]["name"]
    repeated = training_split(data["train"], sampling="rare")
    assert len(repeated) == 6 * 64 and repeated["name"][6:12] == data["train"]["name"][:]


# Items and runs


EVERYTHING = {"rotation": 10.0, "class_crop_prob": 0.5, "cutmix": True, "cutmix_boxes": 4, "copyblob_prob": 1.0}


def items_of(toycity, **options):
    data, labels = load_source("toycity", toycity)
    counts = np.ones((6, 19), int)
    folder = build_bank(data["train"], labels, parse_rules(labels.copyblob, labels), counts, progress=False)
    blobs = BlobBank(folder, np.ones(19), labels)
    options = {"class_weights": np.full(19, 1 / 19), "blobs": blobs, **options}
    epoch = SharedEpoch()
    split = training_split(data["train"])
    transform = TrainTransform(Pixels(split, labels), 255, 0, epoch, AugmentOptions((48, 64), **options))
    return split.with_transform(transform), transform, epoch


def test_items_with_everything_on_do_not_depend_on_workers_nor_on_their_batch(toycity):
    seen = []
    for workers, batch_size in ((0, 2), (2, 3)):
        split, _, epoch = items_of(toycity, **EVERYTHING)
        epoch.set(3)
        batches = TrainBatches(6, batch_size, 1, 1, 0, 0, epoch)
        loaded = list(train_loader(split, batches, workers, pin_memory=False))
        seen.append([torch.cat([batch[key] for batch in loaded]) for key in ("pixel_values", "labels")])
    assert all(torch.equal(*pair) for pair in zip(*seen, strict=True))


def test_probabilities_of_0_change_nothing(toycity):
    _, plain, _ = items_of(toycity, blobs=None)
    off = {"cutmix": True, "cutmix_prob": 0.0, "copyblob_prob": 0.0, "class_crop_prob": 0.0}
    _, off, _ = items_of(toycity, **off)
    for index in range(6):
        one, two = plain.crops([index])[0], off.crops([index])[0]
        assert np.array_equal(one.image, two.image) and np.array_equal(one.label, two.label)


def test_cutmix_of_a_single_image_is_that_image(toycity):
    data, labels = load_source("toycity", toycity)
    split = training_split(data["train"].select([0]))
    crops = [
        TrainTransform(Pixels(split, labels), 255, 0, SharedEpoch(), AugmentOptions((48, 64), cutmix=cutmix)).crops(
            [0]
        )[0]
        for cutmix in (False, True)
    ]
    assert np.array_equal(crops[0].image, crops[1].image)


def test_instance_maps_move_with_labels(toycity):
    """Cityscapes' instance ids are source id x 1000 + number, or the source id."""
    _, transform, _ = items_of(toycity, **EVERYTHING)
    pasted = 0
    for crop in transform.crops(range(6), instances=True):
        own = (crop.instance > 0) & (crop.instance < PASTED) & (crop.label != 255)
        source = np.where(crop.instance < 1000, crop.instance, crop.instance // 1000)
        assert own.any() and np.array_equal(CITYSCAPES.train_ids[source[own]], crop.label[own])
        on_top = crop.instance > PASTED
        pasted += on_top.sum()
        assert np.isin(crop.label[on_top], (3, 4, 15, 16)).all()
    assert pasted


SMALL = ("--dataset", "toycity", "--model", "streetnet", "--crop_size", 64, 64, "--batch_size", 2, "--num_workers", 0)


@pytest.mark.parametrize(
    "copyblob", [(), ("--copyblob",), ("--copyblob", "tutorial")], ids=["none", "bank", "tutorial"]
)
def test_two_processes(toycity, tmp_path, copyblob):
    flags = (*SMALL, "--dataset_path", toycity, *copyblob, "--cutmix", "--max_train_steps", 2, "--output_dir", "run")
    ended = launch("train_seg.py", *flags, "--batch_size", 4, processes=2, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert rows_of(tmp_path / "run")[-1]["mean_iou"]


def test_a_preview_is_written_before_training(in_process, toycity, tmp_path):
    in_process(
        *("train_seg", *SMALL, "--dataset_path", toycity, "--copyblob", "--copyblob_prob", 1, "--max_train_steps", 1),
        *("--preview", 3, "--output_dir", "run"),
    )
    sheet = np.asarray(Image.open(tmp_path / "run" / "preview.png"))
    assert sheet.shape[1] > 4 * 480 and (sheet == (255, 255, 0)).all(2).any()  # an outline
    assert "preview" not in (tmp_path / "run" / "args.yaml").read_text()


def test_training_on_everything_keeps_the_last_model_and_says_so(in_process, toycity, tmp_path):
    flags = (*SMALL, "--dataset_path", toycity, "--train_on", "train+val", "--epochs", 2)
    in_process("train_seg", *flags, "--output_dir", "run")
    run = tmp_path / "run"
    assert json.loads((run / "best" / "config.json").read_text())["trained_on"] == "train+val"
    results = json.loads((run / "results.json").read_text())
    assert results == {"step": 2 * (9 // 2), "best_mean_iou": None, "best_epoch": 2}
    assert [row["mean_iou"] for row in rows_of(run)] == ["", ""] and "train_on: train+val" in (
        run / "args.yaml"
    ).read_text()
    last = max((run / "checkpoints").iterdir()) / "model.safetensors"
    from safetensors.torch import load_file

    best, trained = load_file(run / "best" / "model.safetensors"), load_file(last)
    assert all(torch.equal(best[key], trained[key]) for key in best)
    in_process("predict_seg", "--model_name_or_path", "run", "--splits", "test", "--num_workers", 0)
    in_process("train_seg", *flags, "--resume_from_checkpoint", "run")  # complete: nothing to do, nothing lost
    assert json.loads((run / "results.json").read_text()) == results


def test_a_rule_of_unknown_classes_is_refused_before_any_work(in_process, toycity, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        in_process("train_seg", *SMALL, "--dataset_path", toycity, "--copyblob", "--copyblob_rules", "fence:moon")
    assert stop.value.code == 1 and "no class moon" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
