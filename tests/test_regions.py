"""Regions become the pixels whose centres lie inside, and run lengths are those of COCO and Label Studio."""

import numpy as np
import pytest
from preparing import ids

from data_scripts.labels import DataError
from data_scripts.preparing import regions
from data_scripts.preparing.regions import (
    ALL,
    HIDDEN,
    OUTSIDE,
    Region,
    draw_regions,
    ellipse,
    line,
    pixels,
    polygon,
    rectangle,
)
from data_scripts.preparing.rle import coco_counts, decode_coco, decode_label_studio


def drawn(shape, height=6, width=8) -> np.ndarray:
    return draw_regions([Region(1, shape)], height, width, "later").ids


def ring(*points) -> np.ndarray:
    return np.array(points, float)


def test_a_pixel_belongs_to_a_polygon_if_its_centre_is_inside():
    square = polygon([ring((1.5, 0.6), (4.5, 0.6), (4.5, 3.4), (1.5, 3.4))])  # centres 1.5 are on its left edge
    expected = np.zeros((6, 8), np.uint8)
    expected[1:3, 1:4] = 1
    assert np.array_equal(drawn(square), expected)


@pytest.mark.parametrize("seed", range(20))
def test_polygons_agree_with_a_test_of_every_centre(seed):
    from matplotlib.path import Path

    rng = np.random.default_rng(seed)
    points = rng.uniform(-4, 14, (rng.integers(3, 9), 2))
    rows, columns = np.mgrid[:9, :11] + 0.5
    crossings = np.zeros((9, 11), int)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        spans = (np.minimum(y0, y1) <= rows) & (rows < np.maximum(y0, y1))
        crossings += spans & (x0 + (rows - y0) * (x1 - x0) / (y1 - y0) <= columns)
    assert np.array_equal(drawn(polygon([points]), 9, 11), crossings % 2)
    inside = Path(points[np.argsort(np.arctan2(*(points - points.mean(0)).T))])  # star-shaped: no edge crosses another
    star = inside.vertices
    expected = inside.contains_points(np.stack([columns.ravel(), rows.ravel()], axis=1)).reshape(9, 11)
    assert np.array_equal(drawn(polygon([star]), 9, 11).astype(bool), expected)


def test_parts_outside_the_image_are_cut_off():
    assert drawn(polygon([ring((-99, -99), (99, -99), (99, 99), (-99, 99))])).all()
    result = draw_regions([Region(1, polygon([ring((20, 1), (30, 1), (30, 5))]))], 6, 8, "later")
    assert not result.ids.any() and result.remarks == {OUTSIDE: 1, ALL: 1}


@pytest.mark.parametrize("far", [1e12, 1e300])
def test_absurd_coordinates_do_not_overflow(far):
    assert drawn(polygon([ring((-far, -far), (far, -far), (far, far), (-far, far))])).all()


def test_a_polygon_on_a_line_or_a_point_covers_nothing():
    assert not drawn(polygon([ring((1, 1), (4, 4), (1, 1))])).any()
    assert not drawn(polygon([ring((2.5, 2.5), (2.5, 2.5), (2.5, 2.5))])).any()


def test_rings_of_one_region_are_united():
    one, two = ring((0, 0), (4, 0), (4, 6), (0, 6)), ring((2, 0), (6, 0), (6, 6), (2, 6))
    assert np.array_equal(drawn(polygon([one, two])), np.repeat([[1] * 6 + [0] * 2], 6, axis=0))


def test_rectangles_turn_clockwise_about_their_corner():
    assert np.array_equal(np.argwhere(drawn(rectangle(1, 1, 3, 2))), [(r, c) for r in (1, 2) for c in (1, 2, 3)])
    turned = drawn(rectangle(4, 1, 3, 2, 90))  # the side of 3 points down, the side of 2 to the left
    assert np.array_equal(np.argwhere(turned), [(r, c) for r in (1, 2, 3) for c in (2, 3)])


def test_ellipses_and_discs():
    rows, columns = np.mgrid[:6, :8] + 0.5
    assert np.array_equal(drawn(ellipse(4, 3, 3, 1.5)), ((columns - 4) / 3) ** 2 + ((rows - 3) / 1.5) ** 2 <= 1)
    assert np.array_equal(drawn(ellipse(4, 3, 1.5, 3, 90)), ((columns - 4) / 3) ** 2 + ((rows - 3) / 1.5) ** 2 <= 1)
    assert np.array_equal(drawn(line(ring((4, 3)), 4)), (columns - 4) ** 2 + (rows - 3) ** 2 <= 4)


def test_lines_have_a_width():
    expected = np.zeros((6, 8), np.uint8)
    expected[2:4, 2:6] = 1
    assert np.array_equal(drawn(line(ring((2.5, 3), (5.5, 3)), 1.5)), expected)


@pytest.mark.parametrize("seed", range(10))
def test_lines_agree_with_a_test_of_every_pixel(seed):
    """Lines are drawn in parts, which must leave no gap."""
    rng = np.random.default_rng(seed)
    width = rng.choice([0.5, 1, 3, 10, 40])
    points = rng.uniform(-200, 500, (rng.integers(2, 6), 2)).round(seed % 3)
    points[1] = (90, 60)
    expected = np.zeros((210, 320), bool)
    rows, columns = np.mgrid[:210, :320] + 0.5
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        along = ((columns - x0) * (x1 - x0) + (rows - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2)
        along = along.clip(0, 1)
        expected |= np.hypot(columns - x0 - along * (x1 - x0), rows - y0 - along * (y1 - y0)) <= width / 2
    assert expected.any() and np.array_equal(drawn(line(points, width), 210, 320), expected)


@pytest.mark.parametrize("number", [2, 30, 300])
def test_the_work_of_a_line_does_not_grow_with_the_photo(number, monkeypatch):
    tested = []
    centres = regions._centres
    monkeypatch.setattr(regions, "_centres", lambda *box: tested.append(centres(*box)) or tested[-1])
    points = np.stack([np.linspace(0, 4000, number), np.linspace(0, 3000, number)], axis=1)
    top, left, inside = line(points, 10)(3000, 4000)
    assert (top, left, inside.shape) == (0, 0, (3000, 4000)) and inside.sum() == pytest.approx(5000 * 10, rel=0.01)
    assert max(boxes.nbytes for boxes in tested) < 2**20
    assert sum(boxes[..., 0].size for boxes in tested) < 10 * inside.sum()  # not 12 million for each part


def test_a_line_far_outside_is_cut_off():
    far = drawn(line(ring((-1e9, 3), (1e9, 3)), 2))
    assert np.array_equal(np.flatnonzero(far.any(1)), [2, 3]) and far[2:4].all()


def test_stored_pixels_are_placed_and_cut():
    bits = np.array([[1, 0], [1, 1]], bool)
    assert np.argwhere(drawn(pixels(lambda: bits, 7, -1))).tolist() == [[0, 7]]
    with pytest.raises(DataError, match="2x2 pixels on an image of 6x8"):
        drawn(pixels(lambda: bits, whole=True))


def test_of_stored_pixels_only_their_box_is_kept():
    bits = np.zeros((6, 8), bool)
    bits[2:4, 5] = True
    top, left, inside = pixels(lambda: bits, 1, 1)(6, 8)
    assert (top, left, inside.tolist()) == (3, 6, [[True], [True]]) and inside.base is None
    assert not drawn(pixels(lambda: bits, 20, 0)).any()
    with pytest.raises(ValueError, match="not a number"):
        pixels(lambda: bits, float("inf"), 0)


def test_the_later_region_is_on_top_or_the_smaller_one():
    small, large = Region(1, rectangle(2, 2, 2, 2)), Region(2, rectangle(0, 0, 8, 6))
    later = draw_regions([small, large], 6, 8, "later")
    assert (later.ids == 2).all() and later.remarks == {HIDDEN: 1, ALL: 2}
    smaller = draw_regions([small, large], 6, 8, "smaller")
    assert smaller.ids[2:4, 2:4].tolist() == [[1, 1], [1, 1]] and smaller.remarks == {ALL: 2}
    twins = [Region(value, rectangle(0, 0, 4, 4)) for value in (1, 2)]
    assert draw_regions(twins, 6, 8, "smaller").ids[0, 0] == 2


def test_uncompressed_runs_go_down_the_columns():
    assert np.array_equal(decode_coco({"size": [2, 3], "counts": [1, 2, 3]}), ids([0, 1, 0], [1, 0, 0]))


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"size": [2, 3]},
        {"size": [2, 3], "counts": [1, 2]},
        {"size": [2, 3], "counts": "~~"},
        {"size": [0, 3], "counts": []},
    ]
    + [{"size": [2, 3], "counts": [-1, 7]}, {"size": [2, 3], "counts": "a"}, {"size": 3, "counts": [3]}],
)
def test_a_wrong_run_length_code_is_one_line(wrong):
    with pytest.raises(DataError, match="run-length code"):
        decode_coco(wrong)


def compress(counts: list[int]) -> str:
    """Encode run lengths as the C code of COCO does."""
    text = ""
    for i, count in enumerate(counts):
        number, more = count - (counts[i - 2] if i > 2 else 0), True
        while more:
            low = number & 31
            number >>= 5
            more = number != (-1 if low & 16 else 0)
            text += chr(low + 32 * more + 48)
    return text


def test_compressed_runs_are_differences_from_the_fourth_on():
    assert coco_counts("234") == [2, 3, 4] and coco_counts("2345") == [2, 3, 4, 5 + 3]


@pytest.mark.parametrize("seed", range(10))
def test_compressed_runs(seed):
    rng = np.random.default_rng(seed)
    counts = [int(count) for count in rng.integers(0, 10 ** rng.integers(1, 7), rng.integers(1, 30))]
    assert coco_counts(compress(counts)) == counts


def test_runs_and_polygons_agree_with_pycocotools():
    coco = pytest.importorskip("pycocotools.mask", reason="compares with pycocotools where it is installed")
    rng = np.random.default_rng(0)
    for _ in range(20):
        bits = rng.random((37, 53)) < rng.random()
        rle = coco.encode(np.asfortranarray(bits.astype(np.uint8)))
        assert np.array_equal(decode_coco(rle), bits)
        assert np.array_equal(decode_coco({**rle, "counts": rle["counts"].decode()}), bits)
        star = np.sort(rng.uniform(0, 2 * np.pi, 9))
        points = np.stack([30 + 25 * np.cos(star), 20 + 18 * np.sin(star)], axis=1)
        theirs = coco.decode(coco.merge(coco.frPyObjects([points.ravel().tolist()], 37, 60))).astype(bool)
        ours = drawn(polygon([points]), 37, 60).astype(bool)
        near = np.pad(ours, 1)
        border = np.zeros_like(ours)
        for row, column in ((0, 1), (2, 1), (1, 0), (1, 2)):
            border |= near[row : row + 37, column : column + 60] != ours
        assert not ((theirs != ours) & ~border).any()  # they differ only beside a border


def pack(values: list[int], sizes=(3, 4, 8, 16)) -> list[int]:
    """Encode bytes as Label Studio does: runs of at least 3 equal ones, the rest as they are."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    place = 0
    while place < len(values):
        end = place + 1
        while end < len(values) and values[end] == values[place]:
            end += 1
        run = end - place >= 3
        if not run:
            while end < len(values) and end - place < 8 and values[end] != values[end - 1]:
                end += 1
        end = min(end, place + 2 ** sizes[-1])
        which = next(i for i, size in enumerate(sizes) if end - place <= 2**size)
        bits += f"{int(run)}{which:02b}{end - place - 1:0{sizes[which]}b}"
        bits += "".join(f"{value:08b}" for value in (values[place : place + 1] if run else values[place:end]))
        place = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


@pytest.mark.parametrize("seed", range(6))
def test_brush_strokes_of_label_studio(seed):
    rng = np.random.default_rng(seed)
    bits = rng.random((7, 5)) < 0.5
    bits[:3] = bool(seed % 2)
    colors = np.zeros((7, 5, 4), np.uint8)
    colors[bits] = (30, 99, 7, 255)
    assert np.array_equal(decode_label_studio(pack(colors.ravel().tolist()), 7, 5), bits)


@pytest.mark.parametrize(
    "code", [[], [1, 2, 3], "text", [300], pack([0] * 4 * 34), pack([0] * 4 * 35)[:-3], [255] * 40]
)
def test_a_damaged_brush_stroke_is_one_line(code):
    with pytest.raises(DataError, match="brush stroke"):
        decode_label_studio(code, 7, 5)
