"""app_gradio.py as its users see it: over the network, and in a real browser."""

import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
from conftest import ROOT, launch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

FAST = "--dataset toycity --model streetnet --crop_size 32 64 --batch_size 2 --num_workers 0 --report_to none".split()


@pytest.fixture(scope="module")
def trained(toycity, tmp_path_factory):
    run = tmp_path_factory.mktemp("app") / "run"
    result = launch("train_seg.py", *FAST, "--max_train_steps", 6, "--dataset_path", toycity, "--output_dir", run)
    assert result.returncode == 0, result.stderr
    return run


@pytest.fixture(scope="module")
def photos(toycity, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i, path in enumerate(sorted((toycity / "leftImg8bit" / "test").iterdir())):
        shutil.copy(path, folder / f"street_{i}.png")
    return folder


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
    address = f"http://127.0.0.1:{port}/"
    while True:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).read()
            break
        except (urllib.error.URLError, OSError):
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                pass
    yield address
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def client(url, tmp_path_factory):
    return Client(url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


def segment(client, photo, model, scales=(1.0,), flip=False):
    return client.predict(handle_file(str(photo)), str(model), list(scales), flip, api_name="/segment")


@pytest.mark.parametrize("flags, scales, flip", [((), (1.0,), False), (("--scales", "0.5", "1.0"), (0.5, 1.0), True)])
def test_the_pngs_are_those_of_predict_seg_byte_for_byte(client, trained, photos, tmp_path, flags, scales, flip):
    result = launch(
        "predict_seg.py", "--model_name_or_path", trained, "--input", photos, "--output_dir", tmp_path, *flags
    )
    assert result.returncode == 0, result.stderr
    for photo in sorted(photos.iterdir()):
        annotated, table, ids, colors = segment(client, photo, trained, scales, flip)
        for file, folder in ((ids, f"results_{photos.name}"), (colors, f"results_color_{photos.name}")):
            with open(file, "rb") as opened:
                assert opened.read() == (tmp_path / folder / photo.name).read_bytes()
        predicted = np.asarray(Image.open(ids))
        shares = [float(share.rstrip("%")) / 100 for _, share in table["data"]]
        assert len(shares) == len(np.unique(predicted)) and sum(shares) == pytest.approx(1, abs=0.01)
        assert {part["label"] for part in annotated["annotations"]} == {name for name, _ in table["data"]}


def test_what_cannot_be_chosen_is_refused(client, trained, photos, tmp_path):
    photo = photos / "street_0.png"
    with pytest.raises(AppError):
        segment(client, photo, tmp_path)  # another folder
    with pytest.raises(AppError):
        segment(client, photo, trained, scales=(50.0,))
    with pytest.raises(AppError, match="at least one scale"):
        segment(client, photo, trained, scales=())


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
    from script_arguments import AppArguments
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


def test_in_a_browser(url, photos, tmp_path):
    """Upload, segment, see the legend, download."""
    from playwright.sync_api import expect, sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Debian's chromium (apt-get install chromium), which .ci/run installs")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1100})
        page.goto(url)
        page.set_input_files("input[type=file]", str(photos / "street_0.png"))
        page.get_by_role("button", name="Segment").click()
        legend = page.locator(".legend")
        expect(legend).to_be_visible(timeout=60_000)
        assert re.search("road|building|sky|vegetation", legend.inner_text())
        with page.expect_download() as download:
            page.get_by_role("button", name="Ids (PNG)").click()
        assert Image.open(download.value.path()).size == (192, 96)
        page.screenshot(path=tmp_path / "app.png", full_page=True)
        browser.close()
