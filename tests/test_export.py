"""Exported files: they give the network's classes, say what they are, and are refused in one line where they cannot."""

import errno
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from PIL import Image
from torch import nn

from data_scripts.labels import CAMVID
from seg_jobs import export_checks
from seg_models import export, exported
from seg_models.catalog import MODELS
from seg_models.errors import ModelError
from seg_models.export_graph import GridAverages, PhotoGraph, least_side, shrink_or_enlarge, trace
from seg_models.export_onnx import to_onnx
from seg_models.exported import open_exported, save_onnx, save_openvino, save_torch
from seg_models.models import build_model
from seg_models.names import NORMS
from seg_models.predictor import Predictor
from seg_models.views import Views

MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)
# Max-unpooling binds the sizes, timm's encoders refuse some sides, multiples of 32 among them, and Swin's shapes become
# too long for the exporter (docs/deploy.md).
ONE_SIZE = ("encdec_maxunpool", "deeplabv3plus_resnest50", "hrnet_w18", "segformer_swin_tiny")
SIZES = [(97, 131), (96, 64), (75, 201)]


def photo(size, seed=0):
    """Return smooth noise, uint8 (1, H, W, 3)."""
    coarse = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(seed)) * 255
    return F.interpolate(coarse, size, mode="bilinear").round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


@torch.no_grad()
def network(name, names=tuple("abcde"), dataset=None, norm="batch"):
    """Return a network with random weights whose classes differ over the image, as those of a trained one do."""
    torch.manual_seed(0)
    model = build_model(name, norm, dict(enumerate(names)), dataset).eval()
    last = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d) and layer.out_channels == len(names)][-1]
    nn.init.normal_(last.weight)
    logits = Predictor(model, MEAN, STD)(torch.from_numpy(photo((97, 131))[0]).permute(2, 0, 1))
    factor = 2 / logits.std((1, 2))
    last.bias.copy_((last.bias - logits.mean((1, 2))) * factor)
    last.weight.mul_(factor[:, None, None, None])
    return model


def assert_same(run, predictor, sizes=SIZES):
    for size in sizes:
        image = photo(size, seed=1)
        expected = predictor.probabilities(torch.from_numpy(image[0]).permute(2, 0, 1)).numpy()
        found = run(image)[0]
        assert found.shape == expected.shape and found.dtype == np.float32
        assert np.abs(found - expected).max() < 1e-3, size
        assert (found.argmax(0) == expected.argmax(0)).mean() > 0.998, size


def export_all(model, folder, fixed=None):
    predictor, graph = Predictor(model, MEAN, STD), PhotoGraph(model, MEAN, STD, output="probabilities")
    sizes = [fixed] if fixed else [tuple(max(side, least_side(graph)) for side in size) for size in SIZES]
    program = trace(graph, fixed)
    save_torch(program, str(folder / "net.pt2"), {})
    converted = to_onnx(program, "probabilities")
    save_onnx(converted, str(folder / "net.onnx"), {})
    save_openvino(converted, str(folder / "net.xml"), {}, half=False)
    for kind, name in (("torch_export", "net.pt2"), ("onnx", "net.onnx"), ("openvino", "net.xml")):
        assert_same(open_exported(str(folder / name), kind, threads=1), predictor, sizes)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name not in ONE_SIZE])
def test_a_network_exports_for_any_size(name, tmp_path):
    export_all(network(name), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_SIZE)
def test_a_network_exports_for_one_size(name, tmp_path):
    export_all(network(name), tmp_path, fixed=(96, 128))


@pytest.mark.slow
@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "batch"])
def test_a_network_of_every_norm_exports(norm, tmp_path):
    fixed = (96, 128) if norm == "instance" else None  # torch.export binds the sizes of instance norm's maps
    export_all(network("streetnet", norm=norm), tmp_path, fixed)


@pytest.mark.slow
def test_max_unpooling_needs_one_size():
    with pytest.raises(ModelError, match="for photos of any size, so give --size H W"):
        trace(PhotoGraph(network("encdec_maxunpool"), MEAN, STD), None)


def test_swin_needs_one_size():
    swin = build_model("segformer_swin_tiny", "batch", dict(enumerate("ab")), None).eval()
    with pytest.raises(ModelError, match="for a Swin transformer and photos of any size.*: give --size H W"):
        trace(PhotoGraph(swin, MEAN, STD), None)


@pytest.mark.parametrize("size", [(6, 6), (7, 13), (1, 5), (12, 18)])
@pytest.mark.parametrize("cells", [2, 3, 6])
def test_grid_averages_are_adaptive_pooling(size, cells):
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(GridAverages(cells)(x), F.adaptive_avg_pool2d(x, cells))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved model with CamVid's classes that sees photos at 96x128."""
    folder = tmp_path_factory.mktemp("saved")
    model = network("streetnet", names=CAMVID.names, dataset="camvid")
    model.save_pretrained(folder)
    Predictor(model, MEAN, STD, Views(size=(96, 128))).image_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        Image.fromarray(photo((100, 150), number)[0]).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("size", [(375, 500), (97, 131), (1080, 1920), (1, 1)])
def test_one_of_the_compared_sizes_has_multiples_of_32(size):
    sizes = export_checks.sizes_of(np.zeros((*size, 3), np.uint8), None, 64)
    assert len(sizes) == 3 and min(map(min, sizes)) >= 64
    assert any(height % 32 == width % 32 == 0 for height, width in sizes)


def test_one_of_the_compared_sizes_is_larger_than_what_the_network_sees():
    sizes = export_checks.sizes_of(np.zeros((360, 480, 3), np.uint8), None, 64, seen=(540, 720))
    assert sizes[0] == (360, 480) and any(height > 540 and width > 720 for height, width in sizes)


@pytest.mark.parametrize("size", [(96, 128), (97, 131), (64, 300), (401, 64), (1080, 1920), (1, 7)])
def test_photos_are_resized_as_pytorch_does(size):
    photo = torch.rand(1, 3, *size)
    expected = F.interpolate(photo, size=(96, 128), mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(shrink_or_enlarge(photo, (96, 128)), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [pytest.param(None, marks=pytest.mark.slow), (250, 300)])
def test_openvino_shrinks_photos_as_pytorch_does(size, tmp_path):
    model, seen = network("streetnet"), (96, 128)
    program = trace(PhotoGraph(model, MEAN, STD, seen, "probabilities"), size)
    save_openvino(to_onnx(program, "probabilities"), str(tmp_path / "net.xml"), {}, half=False)
    run = open_exported(str(tmp_path / "net.xml"), "openvino", threads=1)
    assert_same(run, Predictor(model, MEAN, STD, Views(size=seen)), [size] if size else [(250, 300), *SIZES])


def test_the_script_of_the_docs_runs_a_file_without_this_package(in_process, saved, photos, tmp_path, capsys):
    in_process("seg_models.export", saved, "net.onnx", "--calibration_images", photos)
    assert capsys.readouterr().out.count("of the pixels have the same class") == 9
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert str(ROOT).encode() not in (tmp_path / "net.onnx").read_bytes()
    command = [sys.executable, "-I", ROOT / "docs" / "run_exported.py", "net.onnx", photos / "1.png", "ids.png"]
    lines = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(CAMVID.names)
    result = Image.open(tmp_path / "ids.png", formats=["PNG"])
    model = Predictor(network("streetnet", names=CAMVID.names), MEAN, STD, Views(size=(96, 128)))
    expected = model.labels(torch.from_numpy(photo((100, 150), 1)[0]).permute(2, 0, 1)).numpy()
    assert (np.asarray(result) == expected).mean() > 0.998
    assert result.getpalette()[:33] == [value for color in CAMVID.palette for value in color]
    photos_of_all_kinds(photos / "1.png")


def photos_of_all_kinds(photo):
    """Segment a photo that is rotated by its tag, has transparency, or is grey."""
    image, turned = Image.open(photo, formats=["PNG"]), Image.Exif()
    turned[0x0112] = 6  # shown, the picture is turned clockwise
    image.transpose(Image.Transpose.ROTATE_90).save("turned.png", exif=turned)
    image.convert("RGBA").save("clear.png")
    image.convert("L").save("grey.png")
    for kind in ("turned", "clear", "grey"):
        run_script("net.onnx", f"{kind}.png", f"{kind}_ids.png")
    assert np.array_equal(read_ids("turned_ids.png"), read_ids("ids.png"))
    assert np.array_equal(read_ids("clear_ids.png"), read_ids("ids.png"))
    assert read_ids("grey_ids.png").shape == (100, 150)
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save("deep.png")
    with pytest.raises(SystemExit, match="deep.png has 16 bits a pixel: save it with 8"):
        run_script("net.onnx", "deep.png", "deep_ids.png")
    Path("cut.png").write_bytes(photo.read_bytes()[:2000])
    Path("text.png").write_text("no photo")
    for words, line in (
        (("net.onnx", "nothing.png"), "nothing.png is not a file"),
        (("nothing.onnx", "grey.png"), "nothing.onnx is not a file"),
        (("net.onnx", "cut.png"), r"cannot read cut.png \(.*\): give a sound JPEG, PNG or WebP"),
        (("net.onnx", "text.png"), r"cannot read text.png \(.*\): give a sound JPEG, PNG or WebP"),
    ):
        with pytest.raises(SystemExit, match=line):
            run_script(*words, "ids.png")
    before = photo.read_bytes()
    for target, line in (
        ("ids.jpg", "ids.jpg: the name of the target must end in .png"),
        (photo, "1.png is the photo: give another target"),
        ("nowhere/ids.png", "cannot write nowhere/ids.png: No such file or directory"),
    ):
        with pytest.raises(SystemExit, match=line):
            run_script("net.onnx", str(photo), str(target))
    other = onnx.load("net.onnx")
    del other.metadata_props[:]
    onnx.save(other, "other.onnx")
    with pytest.raises(SystemExit, match="other.onnx was not written by python -m seg_models.export"):
        run_script("other.onnx", str(photo), "ids.png")
    assert photo.read_bytes() == before


def run_script(*words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["run_exported.py", *words])
        runpy.run_path(str(ROOT / "docs" / "run_exported.py"))


def read_ids(path):
    return np.asarray(Image.open(path, formats=["PNG"]))


def test_int8_in_openvino_is_close_and_says_what_it_is(in_process, saved, photos, tmp_path, monkeypatch):
    """The weights are random, so classes are close: on an AMD EPYC with AVX2, 10.35 % of the pixels changed theirs."""
    import openvino

    monkeypatch.setitem(export_checks.BOUNDS, "int8", (0.8, 1.0))
    words = ["--precision", "int8", "--calibration_images", photos, "--output", "probabilities", "--size", 64, 96]
    in_process("seg_models.export", saved, "net.xml", *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.bin", "net.xml"]
    model = openvino.Core().read_model(tmp_path / "net.xml")
    facts = {name: json.loads(text.value) for name, text in model.get_rt_info()["minicity_seg"].items()}
    assert facts["classes"] == list(CAMVID.names) and facts["precision"] == "int8"
    assert facts["input"]["shape"] == [1, 64, 96, 3] and facts["network_size"] == [96, 128]
    assert model.output(0).shape == openvino.Shape([1, 11, 64, 96])
    assert "i8" in {node.get_output_element_type(0).get_type_name() for node in model.get_ops()}
    assert not any("onnxruntime" in path for path in sys.path)  # its quantisation adds one, with a metrics.py


def test_half_precision_by_torch_export(in_process, saved, tmp_path, capsys):
    in_process("seg_models.export", saved, "net.pt2", "--precision", "fp16", "--output", "probabilities")
    assert "noise" in capsys.readouterr().out
    inside = {"classes": ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=inside)
    assert json.loads(inside["classes"]) == list(CAMVID.names)
    assert torch.float16 in {tensor.dtype for tensor in program.state_dict.values()}


def test_a_file_that_differs_from_the_network_is_not_kept(in_process, saved, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export, "open_exported", lambda *_: lambda photo: np.zeros(photo.shape[:3], np.uint8))
    (tmp_path / "net.pt2").write_text("before")
    with pytest.raises(SystemExit) as stop:
        in_process("seg_models.export", saved, "net.pt2", "--calibration_images", photos, "--overwrite")
    assert stop.value.code == 1 and "the exported file differs too much from the network" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["net.onnx", "--format", "openvino"], "net.onnx: the name of a file of --format openvino ends in .xml"),
        (["net.bin"], "net.bin: give --format, or a name that ends in one of .onnx, .pt2, .xml"),
        (["net.pt2", "--precision", "int8"], "has no --precision int8: give --format onnx or openvino"),
        (["net.onnx", "--precision", "int8"], "--precision int8 needs photos: give --calibration_images or"),
        (["net.onnx", "--size", "64"], "--size takes a height and a width of 1 to 16384, or dynamic, not 64"),
        (["net.onnx", "--size", "0", "64"], "--size takes a height and a width"),
        (["net.onnx", "--test_size", "0", "64"], "--test_size 0 is out of range: 16 to 65536"),
        (["net.onnx", "--precision", "int8", "--calibration_count", "0"], "--calibration_count 0 is out of range"),
        (["net.onnx", "--calibration_count", "3"], "--calibration_count needs --precision int8"),
        (["net.onnx", "--calibration_images", ".", "--dataset_path", "."], "exclude each other: leave out one of them"),
        (["net.onnx", "--calibration_images", "cut.png"], "cannot read image cut.png: "),
        (["folder.xml", "--overwrite"], "folder.bin is a folder: give another name"),
        (["net.onnx", "--calibration_images", "nowhere"], "no folder and no image nowhere (--calibration_images)"),
        (["net.onnx", "--score"], "--score needs labelled validation images"),
        (["nowhere/net.onnx"], "nowhere/net.onnx: there is no folder nowhere"),
        (["there.onnx"], "there.onnx exists: give --overwrite, or another name"),
    ],
)
def test_wrong_flags_give_one_line(words, line, in_process, saved, photos, tmp_path, capsys):
    (tmp_path / "there.onnx").write_text("")
    (tmp_path / "folder.bin").mkdir()
    (tmp_path / "cut.png").write_bytes((photos / "0.png").read_bytes()[:-200])
    with pytest.raises(SystemExit) as stop:
        in_process("seg_models.export", saved, *words)
    said = capsys.readouterr().err
    assert stop.value.code == 1 and line in said and said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.png", "folder.bin", "there.onnx"]


def test_an_unknown_model_is_named_as_what_it_was_given_as(in_process, tmp_path, capsys):
    with pytest.raises(SystemExit):
        in_process("seg_models.export", tmp_path, "net.onnx")
    assert f"error: MODEL {tmp_path} is neither a run folder with best/ nor a saved model" in capsys.readouterr().err


def test_a_size_that_fills_the_memory_is_refused_before_any_work(in_process, saved, capsys, monkeypatch):
    monkeypatch.setattr(export_checks, "free_memory_of", lambda device, wanted: wanted - 1)
    monkeypatch.setattr(export, "trace", None)
    with pytest.raises(SystemExit):
        in_process("seg_models.export", saved, "net.onnx", "--size", 200, 300)
    line = capsys.readouterr().err
    assert "a photo of 200x300, which the network sees at 96x128, needs about" in line
    assert line.endswith("a smaller --size or --test_size\n")


def test_a_full_disk_leaves_the_file_before(in_process, saved, tmp_path, capsys, monkeypatch):
    def refuse(args, path, *_):
        path.write_text("half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(export, "write", refuse)
    (tmp_path / "net.onnx").write_text("before")
    killed = tmp_path / ".net.onnx.export" / "files"
    killed.mkdir(parents=True)
    (killed / "net.onnx").write_text("what a killed export has left")
    with pytest.raises(SystemExit):
        in_process("seg_models.export", saved, "net.onnx", "--overwrite")
    assert capsys.readouterr().err == "error: cannot write net.onnx: No space left on device\n"
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_second_export_to_the_same_file_is_refused(in_process, saved, tmp_path, capsys):
    with export.workplace(tmp_path / ".net.onnx.export") as folder:
        with pytest.raises(SystemExit):
            in_process("seg_models.export", saved, "net.onnx")
        assert folder.is_dir()
    assert "the working folder .net.onnx.export is in use by" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_terminated_export_leaves_nothing(in_process, saved, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "write", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    process = multiprocessing.get_context("fork").Process(
        target=in_process, args=("seg_models.export", saved, "net.onnx")
    )
    process.start()
    process.join()
    assert process.exitcode == 128 + signal.SIGTERM and not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_the_remedy(in_process, saved, capsys, monkeypatch):
    monkeypatch.setattr(exported, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        in_process("seg_models.export", saved, "net.onnx")
    line = "error: --format onnx needs onnx, onnxscript, onnxruntime: pip install onnx onnxscript onnxruntime\n"
    assert capsys.readouterr().err == line
