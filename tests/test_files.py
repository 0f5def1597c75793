"""Files as people have them: folders, formats, bit depths, orientation, damage."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, features

from data_scripts import listing, reader
from data_scripts.file_checks import check_split, check_whole, fit_crop
from data_scripts.labels import CAMVID, DataError
from data_scripts.listing import list_images
from data_scripts.reader import FORMATS, number_of_pixels, read_image, read_instances, read_label, upright_size
from data_scripts.sources import folder_of_images, from_files, load_source

AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
BANDS = np.zeros((40, 60, 3), np.uint8)  # red, green and blue quarters, so that each orientation looks different
BANDS[:20, :30], BANDS[:20, 30:], BANDS[20:, :30] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
# Exif 2.3 in Pillow's words: how stored pixels become upright
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def photo(path, size=(8, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path, {"JPG": "JPEG"}.get(path.suffix[1:].upper()))
    return path


def stored(image, kind, **options):
    """Save an image in a file of `kind`. Returns it as an undecoded column has it."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return {"path": None, "bytes": file.getvalue()}


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows, depth, color=0, more=(), after=()):
    """Write a PNG by hand, of any bit depth, from `rows` of samples."""
    width = len(rows[0]) // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    raw = b""
    for row in rows:
        bits = "".join(format(value, f"0{depth}b") for value in row)
        bits += "0" * (-len(bits) % 8)
        raw += b"\0" + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    head = struct.pack(">IIBBBBB", width, len(rows), depth, color, 0, 0, 0)
    chunks = [(b"IHDR", head), *more, (b"IDAT", zlib.compress(raw)), *after, (b"IEND", b"")]
    return {"path": None, "bytes": b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)}


# Folders


def test_hidden_files_and_those_of_systems_are_passed_over(tmp_path):
    kept = [photo(tmp_path / name) for name in ("a.png", "sub/b.JPG", "sub/deep/c.jpeg")]
    for name in (".ipynb_checkpoints/a-checkpoint.png", "__MACOSX/x.png", "@eaDir/t.jpg", ".hidden/h.png", "._a.png"):
        photo(tmp_path / name)
    for name in ("Thumbs.db", ".DS_Store", "notes.txt", "sub/classes.yaml"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert list_images(tmp_path) == sorted(kept)


def test_links_are_followed_once_and_loops_end(tmp_path):
    data = tmp_path / "data"
    inside, outside = photo(data / "a.png"), photo(tmp_path / "elsewhere" / "b.png")
    (data / "linked").symlink_to(outside.parent)
    (data / "again").symlink_to(outside.parent)
    (outside.parent / "back").symlink_to(data)
    (data / "a_real").mkdir()
    (data / "a_before").symlink_to(data / "a_real")  # comes first by name, but the folder is found under its own name
    real = photo(data / "a_real" / "c.png")
    (data / "to_file.png").symlink_to(outside)
    assert list_images(data) == sorted([inside, data / "again" / "b.png", real, data / "to_file.png"])


def test_a_link_that_leads_nowhere_is_found_and_then_named(tmp_path):
    photo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "c.png")
    found = list_images(tmp_path)
    assert [path.name for path in found] == ["a.png", "b.png", "c.png"]
    for path in found[1:]:
        with pytest.raises(DataError, match=path.name):
            read_image(str(path))


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    photo(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "to_pipe.png").symlink_to(tmp_path / "pipe.png")
    assert [path.name for path in list_images(tmp_path)] == ["a.png"]


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    photo(tmp_path / "closed" / "a.png")
    scan = os.scandir

    def scandir(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="cannot read folder .*closed: Permission denied"):
        list_images(tmp_path)


def test_pictures_that_are_not_read_are_named(tmp_path, capsys, monkeypatch):
    photo(tmp_path / "a.png")
    for name in ("x.CR2", "y.svg", "sub/z.svg", "film.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"0")
    assert len(list_images(tmp_path)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(line.startswith("note: ") and str(tmp_path) in line for line in lines)
    assert "x.CR2" in lines[0] and "film.mp4" in lines[1] and "y.svg, z.svg" in lines[2] and "PNG" in lines[0]
    monkeypatch.setenv("RANK", "1")
    list_images(tmp_path)
    assert not capsys.readouterr().out  # the first process has printed it


def test_heic_is_read_with_its_plug_in_and_named_without(tmp_path, capsys):
    (tmp_path / "a.heic").write_bytes(b"0")
    found = list_images(tmp_path)
    if reader.pillow_heif is None:
        assert not found and "pip install pillow-heif" in capsys.readouterr().out
        with pytest.raises(DataError, match="pip install pillow-heif"):
            read_image(str(tmp_path / "a.heic"))
    else:
        assert len(found) == 1
        pixels = Image.fromarray(BANDS)
        exif = Image.Exif()
        exif[0x0112] = 6
        file = stored(pixels, "HEIF", exif=exif)
        assert upright_size(file) == read_image(file).shape[:2]


def test_photos_of_one_name_in_several_folders_keep_their_folders(tmp_path):
    for name in ("one/a.png", "b.png", "two/deep/c.png"):
        photo(tmp_path / name)
    assert folder_of_images(str(tmp_path))["name"] == ["b", "a", "c"]
    photo(tmp_path / "two" / "A.png")
    assert folder_of_images(str(tmp_path))["name"] == ["b", "one/a", "two/A", "two/deep/c"]


@pytest.mark.parametrize("one, two", [("a.jpg", "a.png"), ("A.png", "a.png"), ("caf\u00e9.png", "cafe\u0301.png")])
def test_photos_whose_predictions_would_have_one_name_are_both_named(tmp_path, one, two):
    for name in (one, two):
        photo(tmp_path / "sub" / name)
    if len(list((tmp_path / "sub").iterdir())) < 2:
        pytest.skip("this file system takes these names for the same")
    with pytest.raises(DataError) as error:
        folder_of_images(str(tmp_path))
    assert one in str(error.value) and two in str(error.value) and "\n" not in str(error.value)


def test_input_is_a_folder_or_a_photo(tmp_path):
    path = photo(tmp_path / "a.b.png")
    assert folder_of_images(str(path))["name"] == ["a.b"] == folder_of_images(str(tmp_path))["name"]
    (tmp_path / "linked").symlink_to(tmp_path)
    assert len(folder_of_images(str(tmp_path / "linked"))) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image in .*empty .--input.: images are PNG, JPEG, .* files"):
        folder_of_images(str(tmp_path / "empty"))
    with pytest.raises(DataError, match="no folder and no image .*gone.*--input"):
        folder_of_images(str(tmp_path / "gone"))
    (tmp_path / "photo without an ending").write_bytes(path.read_bytes())
    assert len(folder_of_images(str(tmp_path / "photo without an ending"))) == 1
    for arrangement in ("one/{}/train", "two/train/{}"):
        for kind in ("images", "masks"):
            (tmp_path / arrangement.format(kind)).mkdir(parents=True)
    photo(tmp_path / "one" / "images" / "train" / "a.png")
    (tmp_path / "one" / "masks" / "train" / "a.txt").write_text("0 0.1 0.1 0.2 0.2 0.3 0.1")
    assert folder_of_images(str(tmp_path / "one"))["name"] == ["a"]  # as YOLO's exports
    photo(tmp_path / "one" / "masks" / "train" / "a.png")
    photo(tmp_path / "two" / "train" / "masks" / "a.png")
    for root, photos in (("one", "one/images"), ("two", "two/train/images")):
        with pytest.raises(DataError, match=rf"is a data set.* give --input {tmp_path / photos}, or --dataset_path"):
            folder_of_images(str(tmp_path / root))
    (tmp_path / "photos.zip").write_bytes(b"PK\3\4")
    with pytest.raises(DataError, match="--input .*photos.zip is no image .PNG, .*: .* unpack an archive first"):
        folder_of_images(str(tmp_path / "photos.zip"))


# Formats and depths


def test_only_listed_formats_are_opened(tmp_path):
    from PIL import EpsImagePlugin

    path = tmp_path / "street.png"
    Image.fromarray(BANDS).save(path, "EPS")
    assert EpsImagePlugin.EpsImageFile.format == Image.open(path).format == "EPS"  # Pillow alone would accept it
    with pytest.raises(DataError, match="street.png"):
        read_image(str(path))
    for kind in ("TGA", "PCX", "ICO", "SGI"):
        with pytest.raises(DataError):
            read_image(stored(Image.fromarray(BANDS), kind))


def test_images_are_opened_in_one_place():
    """Only the reader opens users' files. The others open what the project wrote itself."""
    files = [*ROOT.glob("*.py")]
    for folder in ("data_scripts", "seg_runs", "seg_models", "metrics", "seg_jobs", "seg_app"):
        files += (ROOT / folder).rglob("*.py")
    opening = {path.name: path.read_text() for path in files if "Image.open(" in path.read_text()}
    assert set(opening) == {"reader.py", "predictions.py", "report_pictures.py", "score_plots.py"}
    assert all(text.count("Image.open(") == text.count("formats=") == 1 for text in opening.values())


def test_every_listed_format_is_one_of_pillow():
    Image.init()
    assert set(FORMATS) - {"HEIF"} <= set(Image.OPEN)
    suffixes = [suffix for group in FORMATS.values() for suffix in group]
    assert len(set(suffixes)) == len(suffixes) and listing.IMAGE_SUFFIXES == set(suffixes)


GREY = (np.arange(256).reshape(16, 16) * 7 % 256).astype(np.uint8)
DEEP = GREY.astype(np.uint16) * 256 + np.arange(256, dtype=np.uint16).reshape(16, 16)[::-1]


def grey_16(kind):
    if kind == "I;16 png":
        return stored(Image.fromarray(DEEP), "PNG")
    if kind == "I;16 tiff":
        return stored(Image.fromarray(DEEP), "TIFF")
    if kind == "I;16B tiff":
        return stored(Image.fromarray(DEEP.astype(">u2")), "TIFF")
    if kind == "rgb png":
        return png([[value for value in row for _ in range(3)] for row in DEEP.tolist()], 16, 2)
    if kind == "grey and alpha png":
        return png([[sample for value in row for sample in (value, 65535)] for row in DEEP.tolist()], 16, 4)
    return {"path": None, "bytes": b"P5 16 16 65535\n" + DEEP.astype(">u2").tobytes()}


@pytest.mark.parametrize("kind", ["I;16 png", "I;16 tiff", "I;16B tiff", "rgb png", "grey and alpha png", "pgm"])
def test_16_bits_are_the_photo_of_8(kind):
    file = grey_16(kind)
    image = read_image(file)
    assert image.dtype == np.uint8 and image.shape == (16, 16, 3) == (*upright_size(file), 3)
    assert np.array_equal(image, np.repeat(GREY[..., None], 3, axis=2))


def test_a_tiff_whose_zero_is_white_is_not_the_negative():
    file = stored(Image.fromarray(DEEP), "TIFF", tiffinfo={262: 0})
    assert np.array_equal(read_image(file)[..., 0], 255 - GREY)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_photos_of_few_bits(depth):
    white = 2**depth - 1
    image = read_image(png([[0, white, white // 2]], depth))
    assert image[0, :, 0].tolist() == [0, 255, round(white // 2 * 255 / white)]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_photos_of_all_usual_modes(mode):
    image = Image.fromarray(BANDS if mode not in ("1", "L", "LA") else np.tile(BANDS.max(2)[..., None], 3))
    expected = np.asarray(image.convert(mode).convert("RGB"))
    kind = {"CMYK": "TIFF", "YCbCr": "JPEG"}.get(mode, "PNG")
    found = read_image(stored(image.convert(mode), kind, **({"quality": 100} if kind == "JPEG" else {})))
    assert found.shape == (40, 60, 3) and np.abs(found.astype(int) - expected).mean() < 3


def test_transparency_of_a_palette_is_left_out():
    image = Image.fromarray(BANDS).quantize(4)
    expected = np.asarray(image.convert("RGB"))
    for transparency in (0, b"\0\x40\xff\x80"):
        assert np.array_equal(read_image(stored(image, "PNG", transparency=transparency)), expected)


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_photos_without_a_known_white_are_refused_before_they_are_decoded(tmp_path, mode):
    path = tmp_path / "strange.tif"
    Image.new(mode, (4, 4)).save(path)
    for look in (upright_size, read_image):
        with pytest.raises(DataError, match="strange.tif.*8 or 16 bits"):
            look(str(path))
    with pytest.raises(DataError, match="strange.tif"):
        check_split(from_files([("a", path, None, None)], "here"), CAMVID, "train", progress=False)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("color", [0, 3])
def test_masks_of_every_depth_hold_their_ids(depth, color):
    if color and depth == 16:
        pytest.skip("palettes have at most 8 bits")
    ids = [[0, 1, min(7, 2**depth - 1), 2 ** min(depth, 8) - 1, 0, 1, 1]]
    palette = [(b"PLTE", bytes(i * 37 % 256 for i in range(3 * 2**depth)))] if color else []
    file = png(ids, depth, color, palette)
    for read, kind in ((read_label, np.uint8), (read_instances, np.uint16)):
        found = read(file)
        assert found.dtype == kind and found.tolist() == ids


@pytest.mark.parametrize("maxval", [1, 7, 19, 255, 300, 65535])
@pytest.mark.parametrize("plain", [True, False])
def test_levels_of_a_pgm_are_ids(maxval, plain):
    ids = [0, 1, 1, min(7, maxval), min(200, maxval)]
    kind = ">u2" if maxval > 255 else np.uint8
    data = " ".join(map(str, ids)).encode() if plain else np.array(ids, kind).tobytes()
    file = {"path": None, "bytes": b"P%d 5 1 %d\n" % (2 if plain else 5, maxval) + data}
    assert read_label(file).tolist() == read_instances(file).tolist() == [ids]


@pytest.mark.parametrize("zero", ["is white", "is black"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_masks_of_few_bits_in_a_tiff(bits, zero):
    ids = [value % 2**bits for value in (0, 1, 2, 3, 1, 0, 3, 2)]
    packed = int("".join(format(value, f"0{bits}b") for value in ids), 2).to_bytes(bits, "big")
    entries = [
        (256, 3, 8),
        (257, 3, 1),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, 0 if zero == "is white" else 1),
        (273, 4, 0),
        (277, 3, 1),
        (278, 3, 1),
    ]
    entries.append((279, 4, len(packed)))
    start = 8 + 2 + 12 * len(entries) + 4
    data = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for tag, kind, value in entries:
        value = start if tag == 273 else value
        data += struct.pack("<HHI", tag, kind, 1) + struct.pack("<I" if kind == 4 else "<Hxx", value)
    file = {"path": None, "bytes": data + b"\0\0\0\0" + packed}
    assert read_label(file).tolist() == [ids]


@pytest.mark.parametrize("content", [b"P1 4 1 0 1 1 0", b"P4 4 1\n\x60"])
def test_bits_of_a_pbm_are_ids(content):
    file = {"path": None, "bytes": content}
    assert read_label(file).tolist() == read_instances(file).tolist() == [[0, 1, 1, 0]]


def test_a_mask_saved_as_jpeg_is_refused(tmp_path):
    path = tmp_path / "mask.png"  # whatever its name
    Image.fromarray(np.array([[0, 7], [11, 7]], np.uint8)).save(path, "JPEG")
    with pytest.raises(DataError, match="mask.png is a JPEG, which changes class ids: save it as PNG"):
        read_label(str(path))


def test_a_grey_bitmap_of_4_bits_is_refused(tmp_path):
    """Pillow mistakes its packed bytes for pixels if the palette is (0, 0, 0), (1, 1, 1) and so on."""
    palette = b"".join(bytes([i, i, i, 0]) for i in range(16))
    header = struct.pack("<IiiHHIIiiII", 40, 4, 1, 1, 4, 0, 4, 0, 0, 16, 0)
    data = b"BM" + struct.pack("<IHHI", 14 + 40 + 64 + 4, 0, 0, 14 + 40 + 64) + header + palette + b"\x01\x7f\0\0"
    path = tmp_path / "few.bmp"
    path.write_bytes(data)
    for read in (read_label, read_image):
        with pytest.raises(DataError, match="few.bmp.*fewer than 8 bits.*save it as PNG"):
            read(str(path))


def test_the_number_of_pixels_is_known_without_decoding():
    """Asking a PNG with an XMP text for its orientation would decode it. Here its pixels are broken."""
    good = png([[0] * 50] * 40, 8, 0, [(b"tEXt", b"XML:com.adobe.xmp\0<x/>")])
    broken = {"path": None, "bytes": good["bytes"][: good["bytes"].index(b"IDAT") + 6]}
    assert number_of_pixels(good) == number_of_pixels(broken) == 2000


def test_vast_images_are_refused_with_a_remedy(tmp_path, monkeypatch):
    Image.new("L", (40, 40)).save(tmp_path / "vast.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(DataError, match="vast.png has more than .* megapixels: cut it into tiles"):
        read_image(str(tmp_path / "vast.png"))


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_not_utf_8_is_one_line(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(path, "wb") as file:
        Image.new("L", (4, 4)).save(file, "PNG")
    with pytest.raises(DataError, match="not UTF-8.*rename it"):
        folder_of_images(str(tmp_path))


def test_an_instance_map_that_lies_on_its_side_is_refused(tmp_path):
    for name, size in (("image", (64, 32)), ("label", (64, 32)), ("instance", (32, 64))):
        Image.new("L", size).save(tmp_path / f"{name}.png")
    row = [("a", *(tmp_path / f"{name}.png" for name in ("image", "label", "instance")))]
    with pytest.raises(DataError, match="instance map .*instance.png is 64x32 but its mask"):
        check_split(from_files(row, "here"), CAMVID, "train", progress=False)


@pytest.mark.parametrize(
    "mode, reason",
    [(mode, f"{mode} image.*single channel") for mode in ("F", "LA")]
    + [(mode, rf"in colours \({mode}\), not class ids") for mode in ("RGB", "RGBA")],
)
def test_masks_that_hold_no_ids_are_refused(mode, reason):
    with pytest.raises(DataError, match=reason):
        read_label(stored(Image.new(mode, (4, 4)), "TIFF"))


def test_ids_that_do_not_fit_are_named():
    for ids, word in (([[0, 300]], "300"), ([[0, -5]], "-5")):
        with pytest.raises(DataError, match=f"id {word}"):
            read_label(stored(Image.fromarray(np.array(ids, np.int32)), "TIFF"))


# Upright

KINDS = [
    ("PNG", {}),
    ("JPEG", {"quality": 95}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "jpeg"}),
    pytest.param("AVIF", {"quality": 95}, marks=AVIF),
    ("PNG after", {}),
    ("XMP", {"quality": 95}),
]


def tagged(pixels, kind, orientation, **options):
    """A file with this orientation tag."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "PNG after":  # the tag follows the pixels
        rows = pixels.reshape(len(pixels), -1).tolist()
        return png(rows, 8, 2 if pixels.ndim == 3 else 0, after=[(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))])
    if kind == "XMP":
        xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'
        return stored(Image.fromarray(pixels), "JPEG", xmp=xmp.encode(), **options)
    return stored(Image.fromarray(pixels), kind, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind, options", KINDS)
def test_size_pixels_and_masks_are_upright_alike(kind, options, orientation):
    file = tagged(BANDS, kind, orientation, **options)
    image = Image.fromarray(BANDS)
    expected = np.asarray(image.transpose(UPRIGHT[orientation]) if orientation > 1 else image)
    found = read_image(file)
    assert upright_size(file) == found.shape[:2] == expected.shape[:2]
    assert np.abs(found.astype(int) - expected).mean() < 6
    mask, upright_mask = (np.ascontiguousarray(array[..., 0] // 255) for array in (BANDS, expected))
    drawn_on_stored = stored(Image.fromarray(mask), "PNG")
    assert np.array_equal(read_label(drawn_on_stored, file), upright_mask)
    if orientation >= 5:
        assert np.array_equal(read_label(stored(Image.fromarray(upright_mask), "PNG"), file), upright_mask)
    if "quality" not in options and options != {"compression": "jpeg"} and kind != "WEBP":
        with_a_tag = tagged(mask, kind, orientation, **options)
        assert np.array_equal(read_label(with_a_tag, file), upright_mask)
        assert np.array_equal(read_instances(with_a_tag, file), upright_mask)


def test_the_size_of_a_png_without_tags_does_not_decode_it(monkeypatch):
    from PIL.PngImagePlugin import PngImageFile

    file = stored(Image.fromarray(BANDS), "PNG")
    monkeypatch.setattr(PngImageFile, "load", lambda self: pytest.fail("decoded"))
    assert upright_size(file) == (40, 60)


# Damage


def samples():
    """Small photos and masks in each format."""
    rng = np.random.default_rng(5)
    image = Image.fromarray(np.kron(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8), np.ones((6, 6, 1), np.uint8)))
    ids = Image.fromarray(rng.integers(0, 12, (24, 30), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "png": stored(image, "PNG", exif=exif),
        "jpeg": stored(image, "JPEG", exif=exif),
        "progressive": stored(image, "JPEG", progressive=True),
        "webp": stored(image, "WEBP", exif=exif),
        "tiff": stored(image, "TIFF", exif=exif),
        "lzw": stored(image, "TIFF", compression="tiff_lzw"),
        "bmp": stored(image, "BMP"),
        "ppm": stored(image, "PPM"),
        "plain": {"path": None, "bytes": b"P3 2 2 255\n" + b" 0 1 2 3 4 5 6 7 8 9 10 11"},
        "gif": stored(image, "GIF"),
        "ids": stored(ids, "PNG"),
        "palette": stored(image.quantize(8), "PNG"),
        "instances": stored(Image.fromarray(np.asarray(ids).astype(np.uint16) * 1000), "PNG"),
        "ids tiff": stored(ids, "TIFF"),
        "pgm": {"path": None, "bytes": b"P5 4 3 9\n" + bytes(range(12))},
    }
    return files | ({"avif": stored(image, "AVIF", exif=exif)} if features.check("avif") else {})


def mutations(data, rng, count):
    for number in range(count):
        bad = bytearray(data)
        what = number % 5
        if what == 0:
            bad = bad[: int(rng.integers(len(bad)))]
        elif what == 1:
            for place in rng.integers(0, len(bad), 1 + int(rng.integers(8))):
                bad[place] = int(rng.integers(256))
        elif what == 2:  # decoders trust what they read in headers
            place = int(rng.integers(min(64, len(bad))))
            bad[place : place + 4] = rng.integers(0, 256, 4, dtype=np.uint8).tobytes()
        elif what == 3:
            place, length = (int(value) for value in rng.integers(0, len(bad), 2))
            del bad[place : place + 1 + length // 4]
        else:
            place, source = (int(value) for value in rng.integers(0, len(bad), 2))
            bad[place:place] = bad[source : source + 16]
        yield bytes(bad)


@pytest.mark.parametrize("kind", samples())
def test_a_damaged_file_gives_pixels_or_a_data_error(kind):
    data, rng, refused = samples()[kind]["bytes"], np.random.default_rng(len(kind)), 0
    for bad in mutations(data, rng, 60):
        file = {"path": None, "bytes": bad}
        for look in (read_image, read_label, read_instances, upright_size, check_whole):
            try:
                found = look(file)
            except DataError as error:
                assert "\n" not in str(error)
                refused += 1
            else:
                assert look is check_whole or look is upright_size or found.size
        try:  # if it can be read, its size was right
            assert read_image(file).shape[:2] == upright_size(file)
        except DataError:
            pass
    assert refused


@pytest.mark.parametrize(
    "error",
    [MemoryError(), struct.error("short"), IndexError(), zlib.error("bad"), OverflowError(), EOFError(), KeyError(3)],
)
def test_whatever_a_decoder_raises_becomes_one_line(tmp_path, monkeypatch, error):
    path = photo(tmp_path / "a.png")

    def fail(*args):
        raise error

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(DataError, match="cannot read image .*a.png: .+") as caught:
        read_image(str(path))
    assert "\n" not in str(caught.value)


def test_reading_says_nothing_of_large_pictures_and_odd_tags(tmp_path):
    path = photo(tmp_path / "a.png", (30, 30))
    code = "import sys; from PIL import Image; Image.MAX_IMAGE_PIXELS = 500\n"
    code += "from data_scripts.reader import read_image; read_image(sys.argv[1])"
    result = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# Small images among larger ones


def write_mixed(root, sizes):
    for split in ("train", "val"):
        for i, size in enumerate(sizes):
            for folder, array in ((split, np.full((*size, 3), 100)), (f"{split}annot", np.full(size, i % 11))):
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.astype(np.uint8)).save(root / folder / f"{i}.png")
    return root


def test_one_small_image_does_not_shrink_the_crops():
    sizes = [(120, 160)] * 4 + [(30, 40)]
    assert fit_crop(None, (360, 480), sizes, 2.0) == (120, 160)
    assert fit_crop(None, (100, 480), sizes, 2.0) == (100, 160)
    assert fit_crop((200, 300), (360, 480), sizes, 2.0) == (200, 300)
    assert fit_crop((200, 300), (360, 480), [(30, 40)] * 4 + [(120, 160)], 2.0) == (200, 300)
    with pytest.raises(DataError, match="--crop_size 241 300.*240x320"):
        fit_crop((241, 300), (360, 480), sizes, 2.0)


@pytest.mark.parametrize("size", [(360, 480), (576, 1152), (96, 192)])
def test_where_all_images_have_one_size_the_crop_is_that_or_the_data_sets(size):
    assert fit_crop(None, (256, 512), [size] * 5, 2.0) == (min(256, size[0]), min(512, size[1]))


def test_a_small_image_is_padded_in_training(tmp_path):
    from data_scripts.arguments import AugmentOptions
    from data_scripts.pixels import Pixels
    from data_scripts.transforms import SharedEpoch, TrainTransform

    data, labels = load_source("camvid", write_mixed(tmp_path, [(120, 160), (120, 160), (30, 40)]))
    transform = TrainTransform(Pixels(data["train"], labels), 0, SharedEpoch(), AugmentOptions((120, 160)))
    crops = transform.crops([0, 2])
    assert all(crop.label.shape == (120, 160) for crop in crops)
    assert set(np.unique(crops[1].label)) == {2, 255} and (crops[1].label == 2).sum() <= 60 * 80


def test_training_on_images_of_several_sizes(in_process, tmp_path, capsys):
    write_mixed(tmp_path / "data", [(120, 160), (120, 160), (120, 160), (30, 40)])
    flags = "--dataset camvid --model streetnet --batch_size 2 --max_train_steps 1 --num_workers 0 --report_to none"
    in_process("train_seg", *flags.split(), "--dataset_path", tmp_path / "data", "--output_dir", tmp_path / "run")
    assert "crops 120x160" in capsys.readouterr().out


def test_a_size_that_nobody_gave_is_not_blamed_on_a_flag(in_process, tmp_path, capsys):
    write_mixed(tmp_path / "data", [(20, 40)] * 2)
    flags = "--dataset camvid --model segformer_b0 --batch_size 2 --max_train_steps 1 --num_workers 0".split()
    flags += ["--report_to", "none", "--dataset_path", tmp_path / "data", "--output_dir", tmp_path / "run"]
    for more, line in (
        ((), "error: the crop size that follows from the images is 20x40, but this network needs at least 29"),
        (
            ("--train_size", 24, 60),
            "error: the crop size that follows from --train_size is 24x60, but this network needs",
        ),
        (("--crop_size", 28, 40), "error: --crop_size 28 40 is too small"),
    ):
        with pytest.raises(SystemExit):
            in_process("train_seg", *flags, *more)
        assert line in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_free_memory_is_known_on_systems_without_sysconf(monkeypatch):
    from data_scripts import pixels

    monkeypatch.delattr(os, "sysconf", raising=False)
    assert 0 < pixels.free_memory() < 2**50
