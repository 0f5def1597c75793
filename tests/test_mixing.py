"""CopyBlob, CutMix, class-centred crops, rotation, rare-class sampling."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import torch
import yaml
from conftest import augment, launch, rows_of, sample
from PIL import Image

from data_scripts import copyblob
from data_scripts.arguments import AugmentOptions
from data_scripts.augment import Augmentation, Crop, crop_matrix, take_crop
from data_scripts.copyblob import (
    PASTED,
    BlobBank,
    Placement,
    build_bank,
    components,
    parse_rules,
    paste,
    paste_in_batch,
    sample_placement,
    sample_placements,
)
from data_scripts.cutmix import cutmix, sample_boxes
from data_scripts.labels import CAMVID, CITYSCAPES, DataError
from data_scripts.loading import BatchPlan, TrainBatches, train_loader
from data_scripts.pixels import Pixels
from data_scripts.sampling import inverse_frequency, make_order, repeated, training_split
from data_scripts.sources import from_files, load_source
from data_scripts.transforms import RareClasses, SharedEpoch, TrainTransform, item_generator, sample_pixel
from seg_jobs.arguments import TrainArguments
from seg_runs.parsing import flags_of

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
        label[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = 9  # rotated pixels are not squares
        drawn = sample(rng, (40, 60), (16, 24), (row, column), scale_range=(1.5, 2.0), rotation=rotation)
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
    drawn = [sample(item_generator(0, 0, i), (20, 30), (16, 24), photometric=True) for i in range(400)]
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
    whole = cut_off = 0
    for index in range(500):
        drawn = sample_boxes(item_generator(0, 0, index), (200, 400), boxes, beta)
        share = item_generator(0, 0, index).beta(beta, beta) / boxes  # of each box
        assert len(drawn) == boxes
        for rows, columns in drawn:
            assert 0 <= rows.start <= rows.stop <= 200 and 0 <= columns.start <= columns.stop <= 400
            if rows.start and columns.start and rows.stop < 200 and columns.stop < 400:
                whole += 1
                assert abs(rows.stop - rows.start - 200 * share**0.5) <= 1
                assert abs(columns.stop - columns.start - 400 * share**0.5) <= 1
            else:
                cut_off += 1
    assert whole > 50 and cut_off > 50


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
    folder = build_bank(Pixels(split, CAMVID), CAMVID, RULES, counts_of(split), progress=False)
    return BlobBank(folder, np.ones(11), CAMVID)


def test_the_bank_holds_each_blob_with_its_foot_and_the_horizon(bank):
    assert len(bank) == 1 and bank.horizon == pytest.approx(20 / 40, abs=0.01)
    blob = bank.blobs[0]
    assert (blob.image, blob.label, blob.ground) == (0, *RULES[0]) and blob.depth == pytest.approx(29.5 / 40)
    pixels = bank.cut_out(0)
    assert pixels.shape == (8 + 4, 6 + 4, 4)
    assert (pixels[2:10, 2:8] == (200, 30, 30, 255)).all() and (pixels[..., 3] > 0).sum() == 48


OWN, OTHER = 0, 1  # the blob's own image, and one without


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
    assert (crop.image[30:34, 20:22] == (200, 30, 30)).all()  # inside the image
    edge = crop.image[31, 18]
    assert 100 < edge[0] < 200 and 30 < edge[1] < 100  # blended, but only inside the blob


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
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (6, 8) and columns.min() == 30  # rotated: the foot is left


def test_places_are_on_the_ground_and_sizes_follow_perspective(bank):
    blob, seen = bank.blobs[0], []
    for index in range(300):
        rng = item_generator(0, 0, index)
        drawn = sample(rng, (40, 60), (30, 40), scale_range=(0.8, 1.6), rotation=8.0)
        crop = take_crop(np.full((40, 60, 3), 100, np.uint8), blank().label, drawn, (30, 40))
        placement = sample_placement(rng, bank, crop, OTHER)
        if placement is None:
            continue
        assert crop.label[placement.row, placement.column] == blob.ground
        row = (crop_matrix(drawn, (40, 60)) @ (placement.column, placement.row, 1))[1] + 0.5
        ratio = (row / 40 - bank.horizon) / (blob.depth - bank.horizon)
        assert 1 / 1.5 <= ratio <= 1.5 and placement.zoom == pytest.approx(ratio)
        seen.append((ratio, placement.flip))
        paste(crop, bank, placement)
        assert crop.label[placement.row, placement.column] == FENCE
    ratios, flips = np.array(seen).T
    assert len(seen) > 150 and ratios.min() < 0.8 and ratios.max() > 1.3 and 0.4 < flips.mean() < 0.6


def test_without_ground_nothing_is_pasted(bank):
    crop = crop_of(np.zeros((40, 60, 3), np.uint8), np.full((40, 60), ROAD, np.uint8))
    assert sample_placement(item_generator(0, 0, 0), bank, crop, OTHER) is None


def test_probability_0_pastes_nothing_and_1_three_the_farthest_first(bank):
    for index in range(20):
        rng = item_generator(0, 0, index)
        assert sample_placements(rng, bank, blank(), OTHER, 0.0) == []
        rows = [placement.row for placement in sample_placements(rng, bank, blank(), OTHER, 1.0)]
        assert len(rows) == 3 and rows == sorted(rows)


def test_rare_classes_are_drawn_often_and_their_blobs_equally(bank, tmp_path):
    image, _, *rest = vars(bank.blobs[0]).values()
    rows = [[image, FENCE, *rest]] * 3 + [[image, BUILDING, *rest]]
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
    instances[2, 3:] = 26001  # which cuts the other in two, one of them too small
    parts = components(mask, instances, smallest=4)
    assert [(top, left, part.sum()) for top, left, part in parts] == [(0, 0, 15), (0, 3, 6)]
    assert [part.shape for *_, part in components(mask, None, 4)] == [(4, 6)] and components(mask, None, 25) == []
    data, labels = load_source("toycity", toycity)
    rules = parse_rules(["car:road", "fence:sidewalk"], labels)
    folder = build_bank(Pixels(data["train"], labels), labels, rules, np.ones((6, 19), int), progress=False)
    found = BlobBank(folder, np.ones(19), labels)
    assert {blob.label for blob in found.blobs} == {kind for kind, _ in rules}


def test_rules_name_classes():
    assert parse_rules(CITYSCAPES.copyblob, CITYSCAPES) == ((3, 1), (4, 1), (15, 0), (16, 0))
    assert parse_rules(["traffic sign : sidewalk"], CITYSCAPES) == ((7, 1),)
    for rules in (["fence"], ["fence:moon"], ["a:b:c"], ["fence:road:road"], []):
        with pytest.raises(DataError, match="--copyblob"):
            parse_rules(rules, CITYSCAPES)


def test_no_blob_at_all_is_said(split):
    with pytest.raises(DataError, match="no training image has a bicyclist.*stand below the row where road begins"):
        build_bank(Pixels(split, CAMVID), CAMVID, ((10, ROAD),), counts_of(split), progress=False)


def test_the_bank_is_built_once_and_again_when_a_file_changes(split, monkeypatch):
    built, write = [], copyblob._write_bank
    monkeypatch.setattr(copyblob, "_write_bank", lambda *args: (built.append(1), write(*args)))
    folders = [build_bank(Pixels(split, CAMVID), CAMVID, RULES, counts_of(split), progress=False) for _ in range(2)]
    assert folders[0] == folders[1] and len(built) == 1
    path = split[1]["label"]["path"]
    status = os.stat(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert (
        build_bank(Pixels(split, CAMVID), CAMVID, RULES, counts_of(split), progress=False) != folders[0]
        and len(built) == 2
    )


def test_blobs_that_cannot_be_placed_are_left_out(tmp_path):
    """Blobs that are cut off below, too small, or at the horizon. A side may be cut off."""
    label = np.full((40, 60), BUILDING, np.uint8)
    label[20:] = PAVEMENT
    label[30:, 5:15] = label[25, 20] = label[16:21, 30:35] = label[22:30, 54:] = FENCE
    Image.fromarray(np.repeat(label[..., None] * 20, 3, 2)).save(tmp_path / "a.png")
    Image.fromarray(label).save(tmp_path / "a_label.png")
    split = from_files([("a", tmp_path / "a.png", tmp_path / "a_label.png", None)], "here")
    folder = build_bank(Pixels(split, CAMVID), CAMVID, RULES, counts_of(split), progress=False)
    bank = BlobBank(folder, np.ones(11), CAMVID)
    assert [(blob.height - 4, blob.width - 4) for blob in bank.blobs] == [(8, 6)]
    assert (bank.cut_out(0)[..., :3][2:10, 2:] == 140).all()  # beyond the border, its own colour and not black


def test_blobs_keep_their_shape_in_images_of_another_size(bank):
    """With a label of twice the height and the same width, as --train_size can give, the blob is stretched too."""
    label = np.repeat(np.where(scene()[1] == FENCE, PAVEMENT, scene()[1]), 2, axis=0).astype(np.uint8)
    crop = crop_of(np.zeros((80, 60, 3), np.uint8), label)
    placement = None
    for index in range(50):
        placement = placement or sample_placement(item_generator(0, 0, index), bank, crop, OTHER)
    paste(crop, bank, dataclasses.replace(placement, row=70, column=20, zoom=1.0))
    rows, columns = np.nonzero(crop.label == FENCE)
    assert abs(np.ptp(rows) + 1 - 16) <= 1 and abs(np.ptp(columns) + 1 - 6) <= 1


# CopyBlob as in the tutorial


def test_the_tutorials_paste_is_anchored_top_left_and_pressed_onto_the_border():
    donor, target = (crop_of(np.zeros((4, 5, 3), np.uint8), np.full((4, 5), ROAD, np.uint8)) for _ in range(2))
    donor.label[1:3, 1:4] = FENCE
    donor.image[1:3, 1:4] = np.arange(6).reshape(2, 3, 1) + 10
    target.label[2, 3] = PAVEMENT
    paste_in_batch(item_generator(0, 0, 0), [donor, target], [0, 1], RULES)
    # (1, 1) goes to (2, 3): columns 3, 4 and, pressed back, 4 again
    expected = np.full((4, 5), ROAD)
    expected[2:4, 3:5] = FENCE
    assert np.array_equal(target.label, expected)
    assert target.image[2:4, 3:5, 0].tolist() == [[10, 12], [13, 15]]
    assert (donor.label == FENCE).sum() == 6  # the only other image has no pavement left


def test_an_image_is_never_its_own_donor(bank):
    crops = [crop_of(*scene()), blank()]
    before = [crop.label.copy() for crop in crops]
    paste_in_batch(item_generator(0, 0, 0), crops, [5, 5], RULES)  # one image, twice in a batch
    assert all(np.array_equal(crop.label, label) for crop, label in zip(crops, before, strict=True))
    for index in range(50):
        assert sample_placement(item_generator(0, 0, index), bank, blank(), OWN) is None


# Sampling


def test_inverse_frequency():
    assert inverse_frequency(np.array([100, 0, 300])).tolist() == pytest.approx([0.75, 0, 0.25])


@pytest.mark.parametrize("sampling", ["rare", "balanced"])
def test_rare_classes_come_often_and_each_time_as_another_item(sampling):
    counts = np.zeros((50, 4), int)
    counts[:, 0], counts[:5, 1], counts[7, 2] = 1000, 10, 1
    order = make_order(sampling, counts)
    items = order(item_generator(0, 1, 0))
    assert len(items) == 50 and len(set(items)) == 50  # images repeat, items do not
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
    assert len(repeated(6)) == 6 * 64


# Items and runs


NO_BLOBS = {"blobs": None}
EVERYTHING = {"rotation": 10.0, "class_crop_prob": 0.5, "cutmix": True, "cutmix_boxes": 4, "copyblob_prob": 1.0}


def items_of(toycity, rare=None, **options):
    data, labels = load_source("toycity", toycity)
    counts = np.ones((6, 19), int)
    folder = build_bank(
        Pixels(data["train"], labels), labels, parse_rules(labels.copyblob, labels), counts, progress=False
    )
    blobs = BlobBank(folder, np.ones(19), labels)
    rare = {"weights": np.full(19, 1 / 19), "blobs": blobs, **(rare or {})}
    epoch = SharedEpoch()
    split = training_split(data["train"])
    options = AugmentOptions((48, 64), **options)
    transform = TrainTransform(Pixels(split, labels), 0, epoch, options, RareClasses(**rare))
    return split.with_transform(transform), transform, epoch


def test_items_with_everything_on_do_not_depend_on_workers_nor_on_their_batch(toycity):
    seen = []
    for workers, batch_size in ((0, 2), (2, 3)):
        split, _, epoch = items_of(toycity, **EVERYTHING)
        epoch.set(3)
        batches = TrainBatches(BatchPlan(6, batch_size), 0, epoch)
        loaded = list(train_loader(split, batches, workers, pin_memory=False))
        seen.append([torch.cat([batch[key] for batch in loaded]) for key in ("pixel_values", "labels")])
    assert all(torch.equal(*pair) for pair in zip(*seen, strict=True))


def test_each_option_reaches_the_items(toycity):
    plain = items_of(toycity, NO_BLOBS)[1].crops(range(6))

    def changed(rare=None, **options) -> list[tuple[bool, bool]]:
        """Return for each item whether image and label differ."""
        crops = items_of(toycity, {**NO_BLOBS, **(rare or {})}, **options)[1].crops(range(6))
        pairs = zip(plain, crops, strict=True)
        return [tuple(not np.array_equal(getattr(a, k), getattr(b, k)) for k in ("image", "label")) for a, b in pairs]

    assert {label for _, label in changed(photometric=True)} == {False} and (True, False) in changed(photometric=True)
    assert all(label for _, label in changed(rotation=30.0))
    assert sum(label for _, label in changed(cutmix=True)) >= 3
    assert sum(label for _, label in changed({"batch_rules": ((3, 1), (4, 1), (15, 0), (16, 0))})) >= 3
    weights = np.zeros(19)
    weights[7] = 1.0  # traffic signs: small, so a crop seldom has one
    rare = {**NO_BLOBS, "weights": weights}
    signs = items_of(toycity, rare, class_crop_prob=1.0, scale_range=(1.0, 1.2))[1]
    there = [index for index in range(6) if (signs.pixels.label(index) == 7).any()]
    assert there and all((crop.label == 7).any() for crop in signs.crops(there))


def test_cutmix_never_takes_the_image_itself(toycity, monkeypatch):
    _, transform, _ = items_of(toycity, NO_BLOBS, cutmix=True)
    taken, augmented = [], transform._augmented

    def spied(rng, index, *args):
        taken.append(index)
        return augmented(rng, index, *args)

    monkeypatch.setattr(transform, "_augmented", spied)
    transform.crops([index + 6 * draw for draw in range(10) for index in range(6)])
    pairs = list(zip(taken[::2], taken[1::2], strict=True))
    assert len(pairs) == 60 and all(one != other for one, other in pairs) and len(set(pairs)) > 15


def test_probabilities_of_0_change_nothing(toycity):
    _, plain, _ = items_of(toycity, NO_BLOBS)
    off = {"cutmix": True, "cutmix_prob": 0.0, "copyblob_prob": 0.0, "class_crop_prob": 0.0}
    _, off, _ = items_of(toycity, **off)
    for index in range(6):
        one, two = plain.crops([index])[0], off.crops([index])[0]
        assert np.array_equal(one.image, two.image) and np.array_equal(one.label, two.label)


def test_cutmix_of_a_single_image_is_that_image(toycity):
    data, labels = load_source("toycity", toycity)
    split = training_split(data["train"].select([0]))
    crops = [
        TrainTransform(Pixels(split, labels), 0, SharedEpoch(), AugmentOptions((48, 64), cutmix=cutmix)).crops([0])[0]
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
    "copyblob",
    [
        pytest.param((), id="none", marks=pytest.mark.slow),
        pytest.param(("--copyblob",), id="bank", marks=pytest.mark.slow),
        pytest.param(("--copyblob", "tutorial"), id="tutorial"),
    ],
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


def test_the_order_of_the_sampling_is_that_of_training(in_process, toycity, monkeypatch):
    from data_scripts import training

    seen, crops = [], TrainTransform.crops
    monkeypatch.setattr(training, "make_order", lambda sampling, counts: lambda rng: [len(counts) + 2] * len(counts))
    monkeypatch.setattr(TrainTransform, "crops", lambda self, indices: (seen.extend(indices), crops(self, indices))[1])
    in_process("train_seg", *SMALL, "--dataset_path", toycity, "--sampling", "rare", "--max_train_steps", 2)
    assert seen == [8] * 4


@pytest.mark.parametrize(
    "flags, named",
    [
        (
            ("--copyblob", "tutorial", "--gradient_accumulation_steps", 2),
            "--copyblob tutorial pastes between the images",
        ),
        (
            ("--resume_from_checkpoint", "run", "--cutmix"),
            "--cutmix True differs from False, the value that the run started with",
        ),
    ],
)
def test_what_cannot_be_is_refused(in_process, toycity, tmp_path, capsys, flags, named):
    run = ("train_seg", *SMALL, "--norm", "group", "--dataset_path", toycity, "--output_dir", "run")
    if "--resume_from_checkpoint" in flags:  # from a run older than the flag
        in_process(*run, "--max_train_steps", 1)
        path, flags_now = tmp_path / "run" / "args.yaml", flags_of(TrainArguments)
        older = {k: v for k, v in yaml.safe_load(path.read_text()).items() if "added" not in flags_now[k].metadata}
        assert "cutmix" not in older
        path.write_text(yaml.safe_dump(older))
    with pytest.raises(SystemExit):
        in_process(*run, *flags)
    assert named in capsys.readouterr().err


def test_a_wrong_instance_map_or_labels_without_any_class_are_said(toycity, tmp_path, in_process, capsys):
    data = tmp_path / "data"
    shutil.copytree(toycity, data)
    (path, *_) = sorted((data / "gtFine" / "train").glob("*_instanceIds.png"))
    whole = path.read_bytes()
    for bad in (whole[: len(whole) // 2], None):
        path.write_bytes(bad) if bad else Image.fromarray(np.zeros((10, 20), np.uint16)).save(path)
        with pytest.raises(SystemExit):
            in_process("train_seg", *SMALL, "--dataset_path", data, "--copyblob")
        error = capsys.readouterr().err
        assert f"instance map {path}" in error and "Traceback" not in error
    path.write_bytes(whole)
    for label in (data / "gtFine" / "train").glob("*_labelIds.png"):
        Image.fromarray(np.zeros((96, 192), np.uint8)).save(label)
    with pytest.raises(SystemExit):
        in_process("train_seg", *SMALL, "--dataset_path", data, "--sampling", "rare")
    assert "every training pixel is ignored" in capsys.readouterr().err


def test_training_on_everything_keeps_the_last_model_and_says_so(in_process, toycity, tmp_path, capsys):
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
    in_process("train_seg", *flags, "--resume_from_checkpoint", "run")  # complete, so there is nothing to do or lose
    assert json.loads((run / "results.json").read_text()) == results
    assert (run / "learning_curve.png").is_file()
    capsys.readouterr()
    in_process("predict_seg", "--model_name_or_path", "run", "--splits", "val", "--num_workers", 0)
    assert "note: this model may have been trained on images of val" in capsys.readouterr().out


def test_a_rule_of_unknown_classes_is_refused_before_any_work(in_process, toycity, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        in_process("train_seg", *SMALL, "--dataset_path", toycity, "--copyblob", "--copyblob_rules", "fence:moon")
    assert stop.value.code == 1 and "no class moon" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
