"""Perceptual hashes: which images look alike, and which only have the same colours."""

import cv2
import numpy as np
import pytest
from conftest import CAMVID
from PIL import Image

from data_scripts.labels import DataError
from data_scripts.near_duplicates import NEAR, equal_files, groups, groups_of, hashes, nearest, perceptual_hash


def scene(seed, size=(120, 160)):
    """Return a picture of a few large and small shapes, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), rng.integers(60, 200, 3), np.uint8)
    for _ in range(40):
        center, radius = (int(rng.integers(size[1])), int(rng.integers(size[0]))), int(rng.integers(4, 30))
        cv2.circle(image, center, radius, [int(value) for value in rng.integers(0, 255, 3)], -1)
    return image


def saved(folder, name, image, **options):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / name, **options)
    return str(folder / name)


def test_a_photo_saved_again_keeps_its_group_and_another_photo_has_its_own(tmp_path):
    image = scene(0)
    brighter = np.clip(image * 1.2, 0, 255).astype(np.uint8)
    files = [
        saved(tmp_path, "a.png", image),
        saved(tmp_path, "b.png", scene(1)),
        saved(tmp_path, "c.jpg", image, quality=60),
        saved(tmp_path, "d.png", cv2.resize(image, (320, 240))),
        saved(tmp_path, "e.png", brighter),
        saved(tmp_path, "f.png", scene(2)),
    ]
    assert groups(files).tolist() == [0, 1, 0, 0, 0, 2]
    rows, bits = nearest(hashes(files[2:3]), hashes(files[:2]))
    assert rows.tolist() == [0] and 0 < bits[0] <= NEAR
    in_memory = [{"path": None, "bytes": open(file, "rb").read()} for file in files]
    assert np.array_equal(hashes(in_memory), hashes(files))


def test_a_large_jpeg_decoded_at_a_reduced_size_has_the_hash_of_its_pixels(tmp_path):
    image = cv2.resize(scene(3), (1600, 1200), interpolation=cv2.INTER_CUBIC)
    small, whole = hashes([saved(tmp_path, "a.jpg", image), saved(tmp_path, "a.png", image)])
    assert np.bitwise_count(small ^ whole).sum() <= 4


def test_a_rotated_file_is_compared_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.rot90(scene(4))
    files = [saved(tmp_path, "a.jpg", turned, exif=exif, quality=95), saved(tmp_path, "b.png", scene(4))]
    assert groups(files).tolist() == [0, 0]


def test_chains_of_near_duplicates_are_one_group_and_groups_count_from_the_first():
    rng = np.random.default_rng(0)
    links = [rng.integers(0, 2, 256)]
    for i in range(4):  # each link differs from the one before by NEAR bits, from the others by more
        links.append(links[-1].copy())
        links[-1][i * NEAR : (i + 1) * NEAR] ^= 1
    far = 1 - links[0]
    packed = np.packbits(np.array([far, *links[::-1], far]), axis=1).view(np.uint64)
    assert groups_of(packed).tolist() == [0, 1, 1, 1, 1, 1, 0]
    beyond = links[0].copy()
    beyond[: NEAR + 1] ^= 1
    assert groups_of(np.packbits(np.array([links[0], beyond]), axis=1).view(np.uint64)).tolist() == [0, 1]


def test_groups_are_those_of_all_pairs_whatever_the_block():
    rng = np.random.default_rng(1)
    bits = np.repeat(rng.integers(0, 2, (60, 256)), 5, axis=0)
    bits[rng.random(bits.shape) < 0.06] ^= 1
    bits = bits[rng.permutation(len(bits))]
    near = (bits[:, None] != bits[None]).sum(-1) <= NEAR
    reached = np.linalg.matrix_power(near.astype(float), 8) > 0  # over chains of up to 8 links
    found = groups_of(np.packbits(bits, axis=1).view(np.uint64))
    assert np.array_equal(found[:, None] == found[None], reached)
    assert len(set(found.tolist())) < len(found)


def test_no_images_and_flat_images_have_groups():
    assert groups([]).shape == (0,) and groups([]).dtype == np.int64
    flat = np.array([perceptual_hash(np.full((20, 30), 90, np.uint8))] * 3)
    assert groups_of(flat).tolist() == [0, 0, 0]


def test_a_damaged_image_is_named(tmp_path):
    path = saved(tmp_path, "cut.png", scene(5))
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(data[: len(data) // 2])
    with pytest.raises(DataError, match="cut.png"):
        hashes([path])


def test_equal_files_are_found_by_content(tmp_path):
    images = [scene(0), scene(1), scene(0), scene(2), scene(1)]
    files = [saved(tmp_path, f"{i}.png", image) for i, image in enumerate(images)]
    (tmp_path / "same size").write_bytes(b"x" * len(open(files[3], "rb").read()))
    assert equal_files([*files, str(tmp_path / "same size")]) == [[0, 2], [1, 4]]
    assert equal_files(files[:2]) == []


@pytest.mark.skipif(not CAMVID.is_dir(), reason="needs ../shared/camvid")
def test_the_frames_of_camvid_s_validation_clip_are_one_group():
    clip = sorted(map(str, (CAMVID / "val").glob("*.webp")))
    drives = [str(next((CAMVID / "train").glob(f"{drive}_*"))) for drive in ("0001TP", "0006R0", "0016E5")]
    found = groups([*clip, *drives])
    assert len(set(found[: len(clip)].tolist())) == 1
    assert len(set(found[len(clip) :].tolist())) == 3
