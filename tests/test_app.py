"""app_gradio.py as its users see it: over the network, and in a real browser."""

import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, launch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from seg_app.checks import check_app, is_public
from seg_app.facts import Facts, from_card, models_by_name
from seg_app.space import export_space
from seg_jobs.arguments import AppArguments
from seg_jobs.model_paths import SHIPPED
from seg_models.views import Views
from seg_runs.errors import RunError
from seg_runs.parsing import parse_arguments
from seg_runs.temperatures import store_temperature

FAST = "--dataset toycity --model streetnet --crop_size 32 64 --batch_size 2 --num_workers 0 --report_to none".split()


@pytest.fixture(scope="module")
def trained(toycity, tmp_path_factory):
    run = tmp_path_factory.mktemp("app") / "run"
    result = launch("train_seg.py", *FAST, "--max_train_steps", 6, "--dataset_path", toycity, "--output_dir", run)
    assert result.returncode == 0, result.stderr
    views = asdict(Views()) | {"output_stride": None, "crf": False}
    store_temperature(run / "best", views, {"temperature": 1.5})
    return run


@pytest.fixture(scope="module")
def photos(toycity, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i, path in enumerate(sorted((toycity / "leftImg8bit" / "test").iterdir())):
        shutil.copy(path, folder / f"street_{i}.png")
    return folder


@pytest.fixture
def saved(tmp_path):
    """Return a saved model that is not in a run folder."""
    return shutil.copytree(SHIPPED, tmp_path / "saved")


def wait_for(process, port, log):
    """Return the address of an app when it answers."""
    address = f"http://127.0.0.1:{port}/"
    while True:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).read()
            return address
        except (urllib.error.URLError, OSError):
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                pass


@pytest.fixture(scope="module")
def url(trained, photos, tmp_path_factory):
    """Start the app. Returns its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--model_name_or_path", trained, "--examples", photos, "--server_port", port, "--max_megapixels", 1]
    log = tmp_path_factory.mktemp("log") / "app.txt"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    environment["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("gradio"))
    with log.open("w") as output:
        command = [sys.executable, str(ROOT / "app_gradio.py"), *map(str, flags)]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    yield wait_for(process, port, log)
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def client(url, tmp_path_factory):
    return Client(
        url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"), httpx_kwargs={"timeout": 300}
    )


def segment(client, photo, model, scales=(1.0,), flip=False, **more):
    return client.predict(handle_file(str(photo)), Path(model).name, list(scales), flip, **more, api_name="/segment")


@pytest.mark.parametrize("flags, scales, flip", [((), (1.0,), False), (("--scales", "0.5", "1.0"), (0.5, 1.0), True)])
def test_the_pngs_are_those_of_predict_seg_byte_for_byte(client, trained, photos, tmp_path, flags, scales, flip):
    result = launch(
        "predict_seg.py", "--model_name_or_path", trained, "--input", photos, "--output_dir", tmp_path, *flags
    )
    assert result.returncode == 0, result.stderr
    for photo in sorted(photos.iterdir()):
        ids, colors, shares = segment(client, photo, trained, scales, flip)
        for file, folder in ((ids, f"results_{photos.name}"), (colors, f"results_color_{photos.name}")):
            with open(file, "rb") as opened:
                assert opened.read() == (tmp_path / folder / photo.name).read_bytes()
        predicted = np.asarray(Image.open(ids))
        assert len(shares) == len(np.unique(predicted)) and sum(shares.values()) == pytest.approx(1)
        assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_windows_are_those_of_predict_seg(client, trained, tmp_path):
    (tmp_path / "large").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (70, 60, 3), np.uint8)
    Image.fromarray(pixels).resize((600, 700), Image.Resampling.BILINEAR).save(tmp_path / "large" / "large.png")
    flags = ["--model_name_or_path", trained, "--input", tmp_path / "large", "--output_dir", tmp_path]
    result = launch("predict_seg.py", *flags, "--window", 512, 512)
    assert result.returncode == 0, result.stderr
    whole, cut = (segment(client, tmp_path / "large" / "large.png", trained, window=side)[0] for side in (0, 512))
    assert Path(cut).read_bytes() == (tmp_path / "results_large" / "large.png").read_bytes() != Path(whole).read_bytes()


def test_what_cannot_be_chosen_is_refused(client, trained, photos, tmp_path):
    photo = photos / "street_0.png"
    with pytest.raises(AppError):
        segment(client, photo, tmp_path)  # another folder
    with pytest.raises(AppError):
        segment(client, photo, trained, scales=(50.0,))
    with pytest.raises(AppError, match="at least one scale"):
        segment(client, photo, trained, scales=())
    for side in (100, "512", 512.0, True):
        with pytest.raises(AppError, match="is not a window size: choose from 0, 512, 1024"):
            segment(client, photo, trained, window=side)


def test_a_photo_that_is_too_large_is_refused_before_it_is_decoded(client, trained, tmp_path):
    Image.new("L", (1500, 1000)).save(tmp_path / "large.png")
    whole = (tmp_path / "large.png").read_bytes()
    (tmp_path / "large.png").write_bytes(whole[:200])  # if it were decoded, the message would be another
    with pytest.raises(AppError, match=r"2 megapixels, but the limit is 1"):
        segment(client, tmp_path / "large.png", trained)


def test_a_broken_photo_is_said_to_be_one(client, trained, photos, tmp_path):
    (tmp_path / "cut.png").write_bytes((photos / "street_0.png").read_bytes()[:3000])
    with pytest.raises(AppError, match="cannot read image"):
        segment(client, tmp_path / "cut.png", trained)


def test_only_this_machine_can_reach_it_by_default():
    from seg_jobs.arguments import AppArguments
    from seg_runs.parsing import parse_arguments

    assert parse_arguments(AppArguments, []).server_name == "127.0.0.1"


def test_a_port_that_is_taken_is_named(url, trained, tmp_path):
    port = url.rstrip("/").rpartition(":")[2]
    command = [sys.executable, str(ROOT / "app_gradio.py"), "--model_name_or_path", trained, "--server_port", port]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 1 and f"--server_port {port}" in line and "Traceback" not in result.stderr


def test_a_model_that_is_nowhere_is_one_line(tmp_path):
    command = [sys.executable, str(ROOT / "app_gradio.py"), "--model_name_or_path", "nobody/nothing"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 1 and "nobody/nothing: no such file or folder here, the hub cannot be reached" in line


def test_an_address_that_is_not_this_machines_is_one_line():
    with pytest.raises(RunError, match="cannot listen at --server_name 256.1.1.1 .*: choose another"):
        check_app(AppArguments(model_name_or_path=[str(SHIPPED)], server_name="256.1.1.1"))


@pytest.mark.parametrize(
    ("address", "public"),
    [("127.0.0.1", False), ("localhost", False), ("::1", False), ("[::1]", False), ("0.0.0.0", True), ("::", True)],
)
def test_who_can_open_the_page(address, public):
    args = AppArguments(model_name_or_path=[str(SHIPPED)], server_name=address)
    check_app(args)  # this machine has the address
    assert is_public(args) == public and is_public(replace(args, share=True))


def test_a_page_for_others_shows_no_images_that_may_not_be_passed_on(monkeypatch, tmp_path, capsys):
    import app_gradio

    Image.new("RGB", (8, 8)).save(tmp_path / "street.png")
    facts = Facts(11, "Cityscapes", examples=[str(tmp_path / "street.png")], publishable=False)
    monkeypatch.setattr(app_gradio, "facts_of", lambda _: facts)
    monkeypatch.setattr(app_gradio, "lay_out", lambda facts, requests, examples: examples)
    assert app_gradio.build_page({"a": "a"}, None, None) == facts.examples
    assert app_gradio.build_page({"a": "a"}, None, None, public=True) == []
    assert "it shows no images of Cityscapes; --examples FOLDER" in capsys.readouterr().out
    assert app_gradio.build_page({"a": "a"}, None, str(tmp_path), public=True) == facts.examples


def test_examples_without_a_photo_are_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("no photo")
    with pytest.raises(RunError, match="--examples .* holds no photo: name another folder"):
        check_app(AppArguments(model_name_or_path=[str(SHIPPED)], examples=str(tmp_path)))


@pytest.mark.parametrize(
    ("script", "flag", "said"),
    [
        ("app_gradio.py", "--model_name_or_path", "it cannot be a hub id"),
        ("predict_seg.py", "--model_name_or_path", "it cannot be a hub id"),
        ("predict_seg.py", "--input", "no folder and no image nothing/here/at/all (--input)"),
    ],
)
def test_what_is_nowhere_is_refused_before_torch_loads(script, flag, said, tmp_path):
    code = f"""
import runpy, sys
sys.argv = [{script!r}, {flag!r}, "nothing/here/at/all"]
sys.path.insert(0, {str(ROOT)!r})
try:
    runpy.run_path({str(ROOT / script)!r}, run_name="__main__")
except SystemExit as end:
    print(end.code, "torch" in sys.modules, "gradio" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout == "1 False False\n" and said in result.stderr


def test_the_page_needs_no_torch(tmp_path):
    """torch loads while the page is there already."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from seg_app.facts import models_by_name
from app_gradio import build_page
from seg_app.requests import Requests
page = build_page(models_by_name(None), Requests(dict, Path(), 30), None)
print("11 classes, trained on CamVid" in str(page.config), "torch" in sys.modules, "transformers.models" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.split() == ["True", "False", "False"], result.stderr


def test_a_model_that_cannot_be_loaded_ends_the_app_in_one_line(trained, tmp_path):
    shutil.copytree(trained / "best", tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, str(ROOT / "app_gradio.py"), "--model_name_or_path", "cut", "--server_port", port]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 1 and "cannot load the model in cut" in line and "Traceback" not in result.stderr


def test_further_models_are_folded_away():
    from app_gradio import header
    from seg_app.facts import Facts

    models = {f"m{i}": Facts(2, "<CamVid>") for i in range(4)}
    shown, _, folded = header(models).partition("<details>")
    assert "m0" in shown and "m1" in shown and "m2" not in shown and "and 2 more to choose from" in folded
    assert "m3" in folded and "&lt;CamVid&gt;" in shown and "<details>" not in header({"m0": models["m0"]})


def test_a_card_that_is_no_yaml_is_as_none(saved):
    (saved / "README.md").write_text("---\ntitle: a: b\n---\n")
    assert from_card(saved, "camvid") == {"data": "CamVid", "score": "", "limits": ""}


def test_the_card_of_a_stranger_may_name_its_data_by_a_number(saved):
    metric = "metrics: [{type: mean_iou, value: 0.5}]"
    result = f"{{task: {{type: image-segmentation}}, dataset: {{type: a, name: 5}}, {metric}}}"
    (saved / "README.md").write_text(f"---\nmodel-index: [{{name: x, results: [{result}]}}]\n---\n")
    facts = from_card(saved, "folder")
    assert facts["data"] == "5" and facts["score"].startswith("mIoU 0.500")


@pytest.mark.parametrize("value", ["1" + 400 * "0", ".nan", "-1", "2", "true"])
def test_a_score_of_a_stranger_that_is_none_is_not_shown(saved, value):
    result = f"{{task: {{type: x}}, dataset: {{type: a, name: b}}, metrics: [{{type: mean_iou, value: {value}}}]}}"
    (saved / "README.md").write_text(f"---\nmodel-index: [{{name: x, results: [{result}]}}]\n---\n")
    assert from_card(saved, "folder")["score"] == ""


def test_names_of_models_on_the_hub_and_with_braces(tmp_path):
    (tmp_path / "{run}").mkdir()
    given = ["USER/NAME@refs/pr/1", "USER/NAME", str(tmp_path / "{run}")]
    assert list(models_by_name(given)) == ["USER/NAME@refs/pr/1", "USER/NAME", "(run)"]


def test_models_of_one_name_are_numbered(tmp_path):
    runs = [tmp_path / name / "x" / "R" for name in "abc"]
    for run in runs:
        run.mkdir(parents=True)
    assert list(models_by_name(list(map(str, runs)))) == ["R", "R (2)", "R (3)"]


CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")  # a drawn picture, always allowed


@pytest.fixture
def browser_page(url):
    """Return a function that opens the page at a width in pixels, light or dark, with the first example answered."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Debian's chromium (apt-get install chromium), which .ci/run installs")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *CAMERA])

        def opened(width=1280, scheme="light"):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.faults = []
            page.on("pageerror", lambda error: page.faults.append(str(error)))
            page.goto(url)
            page.wait_for_selector("#view .viewer[data-state=shown]", timeout=60_000)
            return page

        yield opened
        browser.close()


def colors_of(page, viewer="#view"):
    """Return the colours (r, g, b, a) that the overlay has, as a set."""
    pixels = page.evaluate(
        """(query) => {
          const canvas = document.querySelector(query + ' canvas');
          const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
          return [...new Set(new Uint32Array(data.buffer))];
        }""",
        viewer,
    )
    return {tuple(int(value).to_bytes(4, "little")) for value in pixels}


def swatches_of(page):
    styles = page.locator("#view .legend b").evaluate_all("all => all.map((one) => one.style.backgroundColor)")
    return {(*map(int, re.findall("[0-9]+", style)), 255) for style in styles}


def contrasts(page):
    """Return the contrast ratio (WCAG 2.2) of every visible text and its background, as {text: ratio}."""
    found = page.evaluate(
        """() => {
          const rgba = (style) => (style.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number), found = [];
          const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          while (texts.nextNode()) {
            const text = texts.currentNode.textContent.trim(), element = texts.currentNode.parentElement;
            if (!text || !element.checkVisibility() || ['SCRIPT', 'STYLE'].includes(element.tagName)) continue;
            let behind = element;
            while (behind.parentElement && rgba(getComputedStyle(behind).backgroundColor)[3] === 0) {
              behind = behind.parentElement;
            }
            found.push([text, rgba(getComputedStyle(element).color), rgba(getComputedStyle(behind).backgroundColor)]);
          }
          return found;
        }"""
    )
    return {text: contrast(*colors) for text, *colors in found}


def contrast(*colors):
    linear = [[(v / 255 + 0.055) ** 2.4 / 1.055**2.4 if v > 10 else v / 255 / 12.92 for v in c[:3]] for c in colors]
    dark, bright = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in linear)
    return (bright + 0.05) / (dark + 0.05)


SLOW_VIEWS = [pytest.param(*view, marks=pytest.mark.slow) for view in (("light", 390), ("dark", 1280))]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390), *SLOW_VIEWS])
def test_the_page_opens_with_an_answer_that_fits(browser_page, width, scheme):
    page = browser_page(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    photo, overlay = (page.locator(f"#view {part}").bounding_box() for part in ("img", "canvas"))
    assert photo == overlay and photo["y"] + photo["height"] < 900  # on top of each other, on the first screen
    assert overlay["width"] / overlay["height"] == pytest.approx(2, rel=0.02)  # 192x96
    assert "19 classes, trained on ToyCity" in page.locator("#head").inner_text()
    assert "A toy: it knows drawn streets only" in page.locator("#head").inner_text()
    for folded in ("More accurate, slower", "Use it from Python"):
        page.get_by_text(folded).click()
    page.get_by_text("Windows take less memory").wait_for()
    found = contrasts(page)
    assert {text: ratio for text, ratio in found.items() if ratio < 4.5} == {}
    hint = "Windows take less memory for large photos. They cut nothing if the model resizes photos to less."
    assert {hint, "Names"} <= set(found) and not page.faults


def test_legend_and_overlay_have_the_same_colors(browser_page):
    """So has the isolated class, alone; the file for download has the photo's size."""
    page = browser_page()
    if page.locator("#view .more").count():
        page.click("#view .more")
    page.mouse.move(5, 5)  # a class is isolated while the mouse is over its name
    assert colors_of(page) == swatches_of(page)
    first = page.locator("#view .legend [data-id]").first
    first.click()
    page.mouse.move(5, 5)
    assert first.get_attribute("aria-pressed") == "true" and len(colors_of(page) - {(0, 0, 0, 0)}) == 1
    first.press("Escape")
    assert colors_of(page) == swatches_of(page)
    page.click("#view [data-view=confidence]")
    assert page.locator("#view .scale").is_visible() and not page.locator("#view .legend").is_visible()
    page.locator("#view [data-view=confidence]").press("ArrowRight")
    assert page.locator("#view [data-view=entropy]").get_attribute("aria-checked") == "true"
    with page.expect_download() as download:
        page.get_by_role("button", name="Ids (PNG)").click()
    assert Image.open(download.value.path()).size == (192, 96)
    assert download.value.suggested_filename.endswith("_ids.png") and not page.faults


def test_names_stand_on_the_regions_of_their_classes(browser_page):
    """None hides another or is cut off; a class that is shown alone has its own; the button removes them."""
    page = browser_page()
    names = page.locator("#view .names span")
    frame = page.locator("#view .stage").bounding_box()
    boxes = [name.bounding_box() for name in names.all()]
    assert len(boxes) > 1
    for i, box in enumerate(boxes):
        assert frame["x"] <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"]
        assert frame["y"] <= box["y"] and box["y"] + box["height"] <= frame["y"] + frame["height"]
        for other in boxes[:i]:
            beside = box["x"] + box["width"] <= other["x"] or other["x"] + other["width"] <= box["x"]
            assert beside or box["y"] + box["height"] <= other["y"] or other["y"] + other["height"] <= box["y"]
    name, box = names.first.inner_text(), boxes[0]
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.locator("#view .tip").inner_text().startswith(f"{name} ")
    page.locator("#view .legend [data-id]", has_text=re.compile(rf"^{name}\s*\d")).click()
    page.mouse.move(5, 5)
    assert names.all_inner_texts() == [name]
    page.get_by_role("button", name="Names").click()
    assert names.count() == 0 and not page.faults


def test_the_widest_spot_is_the_centre_of_the_largest_circle_inside():
    from seg_app.viewer import widest_spot

    mask = np.zeros((40, 60), bool)
    mask[5:8, :] = True  # long, but thin
    mask[20:31, 40:51] = True
    (x, y), radius = widest_spot(mask)
    assert (x, y) == (45, 25) and radius == pytest.approx(6, abs=0.5)
    (x, y), radius = widest_spot(np.ones((9, 21), bool))  # the picture's edge is an edge of the region
    assert y == 4 and 4 <= x <= 16 and radius == pytest.approx(5, abs=0.5)


def test_the_confidence_says_whether_it_is_calibrated(browser_page):
    page = browser_page()
    page.click("#view [data-view=confidence]")
    assert "Calibrated with temperature 1.50." in page.locator("#view .line").inner_text()
    page.get_by_text("More accurate, slower").click()
    for box, checked, line in (
        ("Calibrated confidence", False, "Not calibrated."),
        ("Calibrated confidence", True, "Calibrated with temperature 1.50."),
        ("Mirrored views too", True, "Not calibrated."),  # no temperature is stored for these views
    ):
        page.get_by_label(box).set_checked(checked)
        page.get_by_role("button", name="Segment again").click()
        page.locator("#view .line", has_text=line).wait_for(timeout=60_000)
    assert not page.faults


def test_the_answer_follows_the_photo(browser_page, tmp_path):
    """A new photo is answered; without a photo there is no answer; a text file called .png gives one sentence."""
    page = browser_page()
    page.get_by_label("Remove Image").first.click()
    page.wait_for_selector("#view .viewer[data-state=empty]", timeout=60_000)
    assert page.locator("#view .legend button").count() == 0
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 60, 3), np.uint8)).save(tmp_path / "tall.png")
    page.set_input_files("input[type=file]", str(tmp_path / "tall.png"))
    page.wait_for_selector("#view .viewer[data-state=shown]", timeout=60_000)
    box = page.locator("#view canvas").bounding_box()
    assert box["height"] / box["width"] == pytest.approx(2, rel=0.02) and box["height"] < 900
    page.get_by_label("Remove Image").first.click()
    page.wait_for_selector("#view .viewer[data-state=empty]", timeout=60_000)
    (tmp_path / "text.png").write_text("no photo")
    page.set_input_files("input[type=file]", str(tmp_path / "text.png"))
    page.get_by_text("Give a photo, such as a PNG or a JPEG").wait_for(timeout=60_000)
    assert page.locator("#view .viewer").get_attribute("data-state") == "empty" and not page.faults


def test_a_photo_from_the_camera_arrives(browser_page):
    """Chromium's drawn camera has more pixels than this app accepts, so the answer is a sentence."""
    page = browser_page(390)
    page.get_by_label("Capture from camera").first.click()
    page.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('video')?.videoWidth > 0")
    page.get_by_label("capture photo").first.click()
    page.get_by_text("megapixels, but the limit is 1").wait_for(timeout=60_000)
    assert page.locator("#view .viewer").get_attribute("data-state") == "empty" and not page.faults


# --export_space


ALONE = """
import runpy, sys
sys.path = [sys.argv[1], *(path for path in sys.path if path not in ("", {root!r}))]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]  # as where it is not installed
import app_gradio
assert app_gradio.__file__.startswith(sys.argv[1]), app_gradio.__file__
app_gradio.main(["--model_name_or_path", sys.argv[1] + "/model", "--server_port", sys.argv[2]])
"""


def test_a_space_runs_from_its_folder_alone(trained, photos, tmp_path):
    space = tmp_path / "space"
    command = [sys.executable, str(ROOT / "app_gradio.py"), "--export_space", space, "--model_name_or_path", trained]
    for _ in range(2):  # again replaces it
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    front = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert front["sdk"] == "gradio" and front["app_file"] == "app.py" and (space / "app.py").is_file()
    wanted = (space / "requirements.txt").read_text()
    assert "torchvision" in wanted and "extra ==" not in wanted and not list(space.rglob("__pycache__"))
    assert str(trained) not in "".join(path.read_text() for path in space.rglob("*.*") if path.suffix in (".md", ".py"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONDONTWRITEBYTECODE": "1"}
    code = [sys.executable, "-c", ALONE.format(root=str(ROOT)), str(space), str(port)]
    log = tmp_path / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(code, cwd=tmp_path, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        address = wait_for(process, port, log)
        client = Client(address, verbose=False, download_files=tmp_path / "got", httpx_kwargs={"timeout": 300})
        ids, _, _ = segment(client, photos / "street_0.png", "model")
        assert Image.open(ids).size == (192, 96)
    finally:
        process.terminate()
        process.wait()


def test_a_link_to_a_space_stays_a_link(saved, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for _ in range(2):
        export_space(tmp_path / "link", str(saved))
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "app.py").is_file()


def test_a_space_replaces_no_other_folder(trained, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("my notes")
    command = [sys.executable, str(ROOT / "app_gradio.py"), "--export_space", "mine", "--model_name_or_path", trained]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1 and "error: --export_space mine exists already" in result.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "README.md"]


@pytest.mark.parametrize("place", [".", ".."])
def test_a_space_does_not_replace_the_current_folder(place, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="would replace the folder that you are in"):
        export_space(Path(place), str(saved))
    assert list(tmp_path.iterdir()) == [saved]


@pytest.mark.parametrize(
    "flags",
    [
        "--auth a:b",
        "--test_size 32 32",
        "--examples .",
        "--trust_remote_code",
        "--share",
        "--server_name 0.0.0.0",
        "--server_port 7860",
        "--max_megapixels 5",
        "--max_file_size 5",
        "--model_name_or_path a b",
    ],
)
def test_a_space_refuses_flags_that_it_would_not_keep(flags):
    with pytest.raises(RunError, match=flags.split()[0]):
        parse_arguments(AppArguments, ["--export_space", "space", *flags.split()])


def test_a_space_keeps_what_a_user_added_to_it(saved, tmp_path):
    space = tmp_path / "space"
    export_space(space, str(saved))
    card = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert card["python_version"] == ".".join(map(str, sys.version_info[:2]))  # else it is 3.10, which is too old
    (space / "__pycache__").mkdir()  # of a trial run
    (space / "__pycache__" / "app.pyc").touch()
    (space / "model" / "calibration.json").write_text("{}")  # of another model
    export_space(space, str(saved))
    (space / ".git").mkdir()
    (space / ".git" / "HEAD").touch()
    with pytest.raises(RunError, match=r"would delete \.git/HEAD"):
        export_space(space, str(saved))
    assert (space / ".git" / "HEAD").is_file() and not list(tmp_path.glob(".space*"))


def test_a_card_in_another_encoding_is_no_space(saved, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_bytes("déjà vu".encode("latin-1"))
    with pytest.raises(RunError, match="exists already"):
        export_space(tmp_path / "mine", str(saved))


def test_a_space_without_a_card_says_so(saved, in_process, tmp_path, capsys):
    flags = ("--export_space", "space", "--model_name_or_path", saved)
    in_process("app_gradio", *flags)
    assert "terms in space/model/README.md" in capsys.readouterr().out
    assert "model/README.md" in (tmp_path / "space" / "README.md").read_text()
    (saved / "README.md").unlink()
    in_process("app_gradio", *flags)
    assert "README.md" not in capsys.readouterr().out
    assert "model/README.md" not in (tmp_path / "space" / "README.md").read_text()
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    with pytest.raises(RunError, match="has no weights as .safetensors"):
        export_space(tmp_path / "other", str(saved))


def test_a_space_holds_no_predictions(saved, tmp_path):
    for name in ("shares_photos.json", "scores_val.json", "calibration.json"):
        (saved / name).write_text("{}")
    export_space(tmp_path / "space", str(saved))
    names = {path.name for path in (tmp_path / "space" / "model").glob("*.json")}
    assert names == {path.name for path in SHIPPED.glob("*.json")} | {"calibration.json"}
