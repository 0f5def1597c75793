"""The app under many and hostile requests: who gets which answer, what is refused, and what stays on the disk."""

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from conftest import ROOT
from gradio_client import Client, handle_file
from PIL import Image

from data_scripts.catalog import source_of
from seg_models.cost import forward_memory, prediction_memory, prediction_pixels
from seg_models.models import build_model
from seg_models.predictor import Predictor
from seg_models.views import Views

API = "gradio_api"
PATIENCE = 300  # seconds to wait for an answer; a busy machine is no fault


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A small network whose prediction depends on the photo's colour."""
    folder = tmp_path_factory.mktemp("models") / "secret_model"
    torch.manual_seed(0)
    labels = source_of("toycity").labels
    model = build_model("streetnet", "evo", dict(enumerate(labels.names)), "toycity").eval()
    model.save_pretrained(folder)
    Predictor(model, [0.5] * 3, [0.25] * 3).image_processor().save_pretrained(folder)
    return folder


class App:
    """A running app; its scratch files lie in `scratch`."""

    def __init__(self, model_folder: Path, folder: Path, *flags, scratch: Path | None = None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.model, self.log = model_folder.name, folder / "log.txt"  # users see no path
        self.scratch = scratch or folder / "scratch"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        environment["GRADIO_TEMP_DIR"] = str(self.scratch)
        command = [sys.executable, str(ROOT / "app_gradio.py"), "--model_name_or_path", str(model_folder)]
        command += ["--server_port", str(self.port), *map(str, flags)]
        options = {"cwd": folder, "env": environment, "stderr": subprocess.STDOUT, "start_new_session": True}
        options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's & ignores it
        with self.log.open("w") as output:
            self.process = subprocess.Popen(command, stdout=output, **options)
        self.read, self.url = 0, f"http://127.0.0.1:{self.port}"
        while True:
            assert self.process.poll() is None, self.log.read_text()
            try:
                urllib.request.urlopen(self.url, timeout=5).read()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)

    def upload(self, path: Path, name: str = "photo.png") -> str:
        files = {"files": (name, path.read_bytes())}
        (stored,) = httpx.post(f"{self.url}/{API}/upload", files=files, timeout=PATIENCE).json()
        return stored

    def call(self, data: list) -> httpx.Response | str:
        """Send `data` by POST /call/segment and read its stream. Returns the last event, or the refusal of the POST."""
        posted = httpx.post(f"{self.url}/{API}/call/segment", json={"data": data}, timeout=PATIENCE)
        if posted.status_code != 200:
            return posted
        event = posted.json()["event_id"]
        return httpx.get(f"{self.url}/{API}/call/segment/{event}", timeout=PATIENCE).text

    def new_log(self) -> str:
        """Return what was logged since the last call."""
        text = self.log.read_text()
        new, self.read = text[self.read :], len(text)
        return new

    def ends_after(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def app(model_folder, tmp_path_factory):
    running = App(model_folder, tmp_path_factory.mktemp("app"), "--max_megapixels", 1, "--max_file_size", 2)
    yield running
    running.ends_after(signal.SIGTERM)


def photo(folder: Path, number: int) -> Path:
    """Write photo.png to a folder of its own, with a size that no other photo has."""
    path = folder / str(number) / "photo.png"
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (40, 33 + number, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def file_data(path: str, **more) -> dict:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


@pytest.mark.slow
def test_eighty_requests_at_once_get_their_own_answers_or_none(app, tmp_path):
    photos = [photo(tmp_path, number) for number in range(80)]
    uploads = [app.upload(path) for path in photos]  # first, so that the calls overlap

    def ask(number: int) -> tuple[str, tuple[int, int] | None]:
        """Call /run, /api or, every second time, the queue."""
        if number % 2:
            route = ("run", "api")[number // 2 % 2]
            body = {"data": [file_data(uploads[number]), app.model, [1.0], False]}
            answer = httpx.post(f"{app.url}/{API}/{route}/segment", json=body, timeout=PATIENCE)
            if answer.status_code != 200:
                return "refused", None
            (ids, *_) = answer.json()["data"]
        else:  # not by gradio's client: shared by threads, it may lose an answer (gradio_client 2.7)
            answer = app.call([file_data(uploads[number]), app.model, [1.0], False])
            if not isinstance(answer, str):
                assert answer.status_code == 503 and "full" in answer.text
                return "refused", None
            assert answer.startswith("event: complete"), answer
            (ids, *_) = json.loads(answer.splitlines()[1].removeprefix("data: "))
        file = httpx.get(app.url + ids["url"].removeprefix(app.url), timeout=PATIENCE)
        return "answered", Image.open(io.BytesIO(file.content)).size

    with ThreadPoolExecutor(12) as several:
        outcomes = list(several.map(ask, range(80)))
    for number, (outcome, size) in enumerate(outcomes):
        assert outcome == "refused" or size == (33 + number, 40)
    assert sum(outcome == "answered" for outcome, _ in outcomes[::2]) >= 20
    assert "Traceback" not in app.new_log()


def test_an_answer_lies_in_a_folder_that_cannot_be_guessed(app, tmp_path):
    answers = [app.call([file_data(app.upload(photo(tmp_path, 3))), app.model, [1.0], False]) for _ in range(2)]
    paths = [json.loads(answer.splitlines()[1].removeprefix("data: "))[0]["path"] for answer in answers]
    parents = {Path(path).parent.parent for path in paths}
    assert len(parents) == 2 and all(len(parent.name) == 32 for parent in parents)
    for guess in (f"{parents.pop().parent}/photo.png", str(app.scratch), f"{app.scratch}/", "/etc/passwd", "log.txt"):
        assert httpx.get(f"{app.url}/{API}/file={guess}").status_code in (403, 404)


@pytest.mark.parametrize(
    "value",
    [
        file_data("/etc/passwd"),
        file_data("../../etc/passwd"),
        file_data("log.txt"),
        file_data("http://127.0.0.1:1/x.png"),
        file_data("https://example.org/x.png"),
        {"url": "data:image/png;base64,iVBORw0KGgo="},
        file_data("x.png", url="data:image/png;base64,iVBORw0KGgo="),
        {"path": None, "meta": None},
        {"path": {"path": 1}},
        file_data("/" + "x" * 5000),
        file_data("/\0"),
        "photo.png",
        [],
        [file_data("/etc/passwd")],
        7,
        True,
        None,
    ],
    ids=lambda value: str(value)[:40],
)
def test_only_uploads_are_photos(app, value):
    for data in ([value, app.model, [1.0], False], [value, app.model, [1.0], False, {"path": "/etc/passwd"}]):
        answer = app.call(data)
        assert "Give a photo first" in answer and "/etc" not in answer and "Traceback" not in app.new_log()


@pytest.mark.parametrize(
    "scales, sentence",
    [
        ([], "at least one scale"),
        ([2.2] * 100, "100 scales"),
        ([1.0, 1.0], "occurs twice"),
        ([50.0], "50.0 is not an available scale"),
        ([0], "0 is not an available scale"),
        ([-1.0], "-1.0 is not an available scale"),
        (["1.0"], "1.0 is not an available scale"),
        ([True], "True is not an available scale"),
        ([None], "None is not an available scale"),
        ([[1.0]], "not an available scale"),
        ([10**400], "not an available scale"),
        (1.0, "a list of"),
        ("1.0", "a list of"),
        (None, "a list of"),
        ({"a": 1}, "a list of"),
    ],
    ids=str,
)
def test_scales_that_cannot_be_chosen_are_one_sentence(app, scales, sentence):
    assert sentence in app.call([None, app.model, scales, False])
    assert "Traceback" not in app.new_log()


def test_numbers_that_are_none_are_refused(app):
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        body = f'{{"data": [null, "{app.model}", [{number}], false]}}'
        posted = httpx.post(f"{app.url}/{API}/call/segment", content=body, headers={"content-type": "application/json"})
        event = posted.json()["event_id"]
        assert "not an available scale" in httpx.get(f"{app.url}/{API}/call/segment/{event}", timeout=60).text


def test_other_models_and_flips_are_one_sentence_without_paths(app):
    for name in ("/etc", "nothing", None, 1, ["a"], {"path": "x"}, "x" * 10000):
        answer = app.call([None, name, [1.0], False])
        assert "no such model" in answer and str(ROOT) not in answer and app.model not in answer
    for flip in ("yes", 1, None, []):
        assert "true or false" in app.call([None, app.model, [1.0], flip])
    assert "Traceback" not in app.new_log()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"1",
        b'{"data": 1}',
        b"[" * 100_000,
        b'{"fn_index": 99, "data": []}',
        b'{"fn_index": [1], "data": []}',
    ],
    ids=lambda body: repr(body[:30]),
)
@pytest.mark.parametrize("route", ["queue/join", "call/segment", "run/segment", "api/segment"])
def test_requests_that_are_none_are_one_sentence(app, route, body):
    answer = httpx.post(f"{app.url}/{API}/{route}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and "\n" not in answer.json()["detail"]
    assert "Traceback" not in app.new_log()


def test_routes_that_the_page_does_not_need_are_closed(app):
    posts = ("process_recording", "component_server", "vibe-edit", "run-history/connect", "call/v2/segment", "run/x")
    for route in posts:
        assert httpx.post(f"{app.url}/{API}/{route}", json={"data": []}).status_code == 404
    for route in ("deep_link?session_hash=a", "proxy=http://127.0.0.1/", "file=http://127.0.0.1:1/", "runs"):
        assert httpx.get(f"{app.url}/{API}/{route}").status_code == 404
    assert httpx.get(f"{app.url}/monitoring").status_code == 404


@pytest.fixture(scope="module")
def odd_photos(tmp_path_factory):
    """{file name: whether it can be segmented; None: an answer or a sentence}."""
    folder = tmp_path_factory.mktemp("odd")
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8))
    image.save(folder / "whole.png")
    (folder / "text.png").write_text("no image")
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:900])
    (folder / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    image.save(folder / "animated.gif", save_all=True, append_images=[image.rotate(90)])
    image.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(rng.integers(0, 65536, (40, 50), np.uint16)).save(folder / "deep.png")
    image.convert("P").save(folder / "palette.png", transparency=bytes(range(256)))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "turned.jpg", exif=exif)
    (folder / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    header = (folder / "whole.png").read_bytes()
    (folder / "bomb.png").write_bytes(header[:16] + (60000).to_bytes(4) + (60000).to_bytes(4) + header[24:])
    return folder


@pytest.mark.parametrize(
    "name, readable",
    [
        ("whole.png", True),
        ("text.png", False),
        ("empty.png", False),
        ("cut.png", False),
        ("drawing.svg", False),
        ("animated.gif", None),
        ("cmyk.jpg", True),
        ("deep.png", None),
        ("palette.png", True),
        ("turned.jpg", True),
        ("photo.heic", False),
        ("bomb.png", False),
    ],
)
def test_each_photo_is_an_answer_or_one_sentence(app, odd_photos, name, readable):
    answer = app.call([file_data(app.upload(odd_photos / name, name)), app.model, [1.0], False])
    assert answer.startswith(("event: complete", "event: error"))
    if readable is not None:
        assert answer.startswith("event: complete") == readable, answer
    if answer.startswith("event: error"):
        error = json.loads(answer.splitlines()[1].removeprefix("data: "))["error"]
        assert "\n" not in error and str(app.scratch) not in error and "0x" not in error and len(error) < 500
    elif name == "turned.jpg":
        ids = json.loads(answer.splitlines()[1].removeprefix("data: "))[0]
        assert Image.open(ids["path"]).size == (40, 50)
    assert "Traceback" not in app.new_log()


@pytest.mark.parametrize(
    "name", ["x" * 300 + ".png", "straße 東京 🚲.png", "../../x.png", "con.png", "..x.png", "a b'\"&.png"]
)
def test_names_of_all_kinds(app, odd_photos, name):
    stored = app.upload(odd_photos / "whole.png", name)
    assert Path(stored).is_relative_to(app.scratch)
    answer = app.call([file_data(stored), app.model, [1.0], False])
    if name.startswith("..x"):
        assert "Give a photo first" in answer
        return
    assert answer.startswith("event: complete"), answer
    files = json.loads(answer.splitlines()[1].removeprefix("data: "))[:2]
    for file, kind in zip(files, ("ids", "color"), strict=True):
        assert httpx.get(file["url"]).headers["content-type"] == "image/png"
        assert file["orig_name"] == Path(file["path"]).name == f"{Path(stored).stem}_{kind}.png"


def test_an_upload_that_is_too_large_leaves_nothing(app):
    before = set(app.scratch.rglob("*"))
    many = [("files", (f"{i}.png", bytes(10**6))) for i in range(5)]  # each fits, all together do not
    assert httpx.post(f"{app.url}/{API}/upload", files=many, timeout=60).status_code == 413
    assert httpx.post(f"{app.url}/{API}/upload", files={"files": ("a", bytes(3 * 10**6))}).status_code == 413
    assert httpx.post(f"{app.url}/{API}/upload", data={"files": "text"}).status_code in (400, 422)
    assert sum(path.stat().st_size for path in set(app.scratch.rglob("*")) - before if path.exists()) < 4 * 10**6
    assert "Traceback" not in app.new_log()


def test_too_much_work_is_refused_with_the_numbers(app, tmp_path):
    Image.new("RGB", (1000, 900)).save(tmp_path / "large.png")
    stored = app.upload(tmp_path / "large.png")
    answer = app.call([file_data(stored), app.model, [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.2], True])
    assert "32 megapixels, but the limit is 10" in answer and "fewer or smaller scales" in answer


def test_a_client_that_goes_away_does_not_stop_the_others(app, tmp_path):
    data = [file_data(app.upload(photo(tmp_path, 5))), app.model, [1.0, 2.0], True]
    event = httpx.post(f"{app.url}/{API}/call/segment", json={"data": data}).json()["event_id"]
    with httpx.stream("GET", f"{app.url}/{API}/call/segment/{event}", timeout=60):
        pass  # closed before the answer arrives
    with socket.create_connection(("127.0.0.1", app.port)) as connection:  # in the middle of an upload
        head = f"POST /{API}/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n"
        connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n".encode())
    assert app.call(data).startswith("event: complete")
    assert "Traceback" not in app.new_log()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_nothing_stays_after_the_end(model_folder, tmp_path, number):
    app = App(model_folder, tmp_path)
    app.call([file_data(app.upload(photo(tmp_path, 1))), app.model, [1.0], False])
    (folder,) = app.scratch.iterdir()
    assert folder.stat().st_mode & 0o077 == 0 and list(folder.rglob("photo.png"))
    app.ends_after(number)
    assert not list(app.scratch.iterdir())
    assert "Traceback" not in app.new_log()


def test_old_files_are_deleted_and_the_oldest_when_there_are_too_many(tmp_path):
    from seg_app.server import sweep

    for name in ("example", "first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "photo.png").write_bytes(bytes(1000))
        time.sleep(0.02)  # file times are only as fine as the system's clock ticks
    keep = {tmp_path / "example"}
    sweep(tmp_path, keep, seconds=3600, size=10**6)
    assert len(list(tmp_path.iterdir())) == 3
    used = sum(path.lstat().st_size for path in (tmp_path / "second", *(tmp_path / "second").iterdir()))
    sweep(tmp_path, keep, seconds=3600, size=used)
    assert {path.name for path in tmp_path.iterdir()} == {"example", "second"}
    sweep(tmp_path, keep, seconds=-1, size=10**6)
    assert {path.name for path in tmp_path.iterdir()} == {"example"}


def test_a_temporary_folder_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    from seg_app.server import server_folder

    with pytest.raises(ValueError, match="cannot write to .*let TMPDIR name a folder with room"):
        with server_folder(tmp_path / "file" / "below" / "folder"):
            pass


class Few:
    """A segmenter without a network, with the memory of a small machine."""

    def __init__(self, wanted: int, free: int):
        self.wanted, self.free = wanted, free

    def pixels(self, size, views) -> int:
        return 1

    def memory(self, size, views) -> int:
        return self.wanted

    def free_memory(self, wanted) -> int:
        return self.free

    def __call__(self, image, views, calibrated):
        raise self.error


def test_memory_that_would_not_suffice_is_refused_before_the_photo_is_decoded(tmp_path):
    from seg_app.requests import Requests

    requests = Requests(lambda: {"m": Few(60_000_000_000, 20_000_000_000)}, tmp_path, 30)
    whole = photo(tmp_path, 1).read_bytes()
    (tmp_path / "photo.png").write_bytes(whole[:100])  # decoding would fail with another sentence
    with pytest.raises(Exception, match="60.0 GB of memory, but 20.0 GB are free: cut the photo into windows"):
        requests.segment({"path": str(tmp_path / "photo.png")}, "m", [2.2], True)


@pytest.mark.parametrize(
    "error, sentence, logged",
    [
        (MemoryError(), "out of memory", False),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: tried"), "out of memory", False),
        (OSError(28, "No space left on device", "/srv/secret"), "its disk may be full", False),
        (KeyError("/srv/secret"), "its log says why", True),
    ],
)
def test_faults_of_the_server_are_one_sentence_without_paths(tmp_path, capfd, error, sentence, logged):
    from seg_app.requests import Requests

    few = Few(0, 1)
    few.error = error
    requests = Requests(lambda: {"m": few}, tmp_path, 30)
    with pytest.raises(Exception, match=sentence) as refused:
        requests.segment({"path": str(photo(tmp_path, 1))}, "m", [1.0], False)
    assert "secret" not in str(refused.value) and not refused.value.print_exception
    assert ("Traceback" in capfd.readouterr().err) == logged


def test_direct_calls_of_the_function_are_one_at_a_time(tmp_path):
    """This holds even for a request that bypasses the queue."""
    from seg_app.requests import Requests

    inside, most = [], []

    class Slow(Few):
        def __call__(self, image, views, calibrated):
            inside.append(views)
            most.append(len(inside))
            threading.Event().wait(0.02)
            inside.pop()
            raise MemoryError

    requests = Requests(lambda: {"m": Slow(0, 1)}, tmp_path, 30)
    path = str(photo(tmp_path, 1))

    def ask(_):
        with pytest.raises(Exception, match="memory"):
            requests.segment({"path": path}, "m", [1.0], False)

    with ThreadPoolExecutor(4) as several:
        list(several.map(ask, range(8)))
    assert most == [1] * 8


@pytest.mark.parametrize("loaded", [True, False])
def test_a_photo_waits_for_the_models(tmp_path, loaded):
    """If they cannot be loaded, it does not wait forever."""
    from seg_app.requests import Requests

    class Fine(Few):
        def __call__(self, image, views, calibrated):
            raise MemoryError  # as good an answer as any

    loading = Future()
    requests = Requests(loading.result, tmp_path, 30)
    with ThreadPoolExecutor(1) as other:
        asked = other.submit(requests.segment, {"path": str(photo(tmp_path, 1))}, "m", [1.0], False)
        assert not asked.done()
        if loaded:
            loading.set_result({"m": Fine(0, 1)})
        else:
            loading.cancel()
        with pytest.raises(Exception, match="out of memory" if loaded else "could not load its models") as refused:
            asked.result()
    assert not refused.value.print_exception


def test_the_gate_passes_on_what_was_not_sent_in_one_piece():
    from seg_app import server

    parts = [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.request", "body": b"c"}]

    async def receive():
        return parts.pop(0)

    assert asyncio.run(server.body_of(receive)) == b"abc"


@pytest.mark.parametrize("name", ["streetnet", "segformer_b0", "deeplabv3_resnet18"])
def test_memory_is_known_before(name):
    """The estimate counts what a network with real tensors allocates, and grows with scales, flips and classes."""
    model = build_model(name, "batch", {i: str(i) for i in range(5)}).eval()
    weights = next(model.parameters()).clone()
    size = (64, 96)
    one, mirrored, more = Views(), Views(flip=True), Views(scales=(1.0, 2.0), flip=True)
    first, second, third = (prediction_memory(model, size, views) for views in (one, mirrored, more))
    assert first < second < third
    assert forward_memory(model, (128, 192)) == pytest.approx(4 * forward_memory(model, size), rel=0.2)
    large = (640, 960)
    assert prediction_memory(model, large, Views(size)) < prediction_memory(model, large, one)
    assert prediction_pixels(model, size, Views(scales=(0.5, 1.0), flip=True)) == 2 * (32 * 48 + 64 * 96)
    assert torch.equal(next(model.parameters()), weights) and weights.device.type == "cpu"


def test_counted_memory_is_that_of_the_tensors():
    class Network(torch.nn.Module):
        def forward(self, x):
            x = x * 2
            x = x + 1  # two tensors exist
            return (x + 1) + (x - 1)  # four, including the sum

    assert forward_memory(Network(), (10, 10)) == 4 * 4 * 300


def test_attention_makes_no_map_of_all_pairs():
    class Network(torch.nn.Module):
        def forward(self, x):
            x = x.flatten(2).transpose(1, 2)
            return torch.nn.functional.scaled_dot_product_attention(x, x, x)

    assert forward_memory(Network(), (100, 100)) < 4 * 10_000**2 / 100


# The gate alone


@pytest.fixture
def status(tmp_path):
    """`status(method, path, root, query, room)` returns the gate's status before an app that answers 200."""
    from seg_app import server

    async def everything(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive():
        return {"type": "http.request", "body": b"{}", "more_body": False}

    def answer(method, path, root="", query=b"", taken=0):
        sent = []

        async def send(message):
            sent.append(message)

        gate = server.Gate(everything, tmp_path, {}, 10**6, make_room=lambda: taken)
        scope = {"type": "http", "method": method, "path": root + path, "root_path": root, "query_string": query}
        asyncio.run(gate({**scope, "headers": []}, receive, send))
        return sent[0]["status"]

    return answer


@pytest.mark.parametrize("root", ["", "/seg", "/a/b/"])
def test_the_gate_holds_below_the_root_path_of_a_proxy(status, root):
    root = root.rstrip("/")
    assert status("GET", "/", root) == status("POST", "/gradio_api/upload", root) == 200
    for path in ("proxy=http://x", "file=/etc/passwd", "deep_link", "vibe-code", "stream/x"):
        assert status("GET", f"/gradio_api/{path}", root) == 404, path
    assert status("GET", "/monitoring", root) == status("GET", "/", root, query=b"deep_link=../x") == 404
    assert status("POST", "/gradio_api/component_server", root) == 404


def test_an_upload_without_room_is_refused(status):
    from seg_app.server import KEPT_BYTES

    assert status("POST", "/gradio_api/upload", taken=2 * KEPT_BYTES) == 200
    assert status("POST", "/gradio_api/upload", taken=2 * KEPT_BYTES + 1) == 507


def test_an_upload_that_stalls_makes_room(tmp_path, monkeypatch):
    """After its last byte, it may take its time."""
    from seg_app import server

    monkeypatch.setattr(server, "LONGEST_SILENCE", 0.05)

    async def read_all(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await asyncio.sleep(0.1)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def answer(stalls):
        sent = []

        async def receive():
            if stalls:
                await asyncio.sleep(60)
            return {"type": "http.request", "body": b"x", "more_body": False}

        async def send(message):
            sent.append(message)

        gate = server.Gate(read_all, tmp_path, {}, 10**6, make_room=lambda: 0)
        scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "root_path": "", "headers": []}
        asyncio.run(gate(scope, receive, send))
        return sent[0]["status"]

    assert (answer(stalls=True), answer(stalls=False)) == (408, 200)


def test_with_auth_nothing_is_open_without_the_password(model_folder, tmp_path):
    running = App(model_folder, tmp_path, "--auth", "ann:pass:word", "bob:x")
    try:
        image = photo(tmp_path, 2)
        data = {"data": [file_data("x"), running.model, [1.0], False]}
        with httpx.Client(base_url=running.url) as stranger:
            assert stranger.post(f"/{API}/upload", files={"files": ("a.png", b"x")}).status_code == 401
            assert stranger.post(f"/{API}/call/segment", json=data).status_code == 401
            assert stranger.get("/config").status_code == 401
            assert stranger.post("/login", data={"username": "ann", "password": "pass"}).status_code == 400
        answered = Client(
            running.url,
            auth=("ann", "pass:word"),
            verbose=False,
            download_files=tmp_path / "got",
            httpx_kwargs={"timeout": 300},
        )
        ids, *_ = answered.predict(handle_file(str(image)), running.model, [1.0], False, api_name="/segment")
        assert Image.open(ids).size == Image.open(image).size
        assert "pass:word" not in running.log.read_text()
    finally:
        running.ends_after(signal.SIGTERM)


@pytest.mark.parametrize("entry", ["secret", "ann:", ":secret"])
def test_a_wrong_auth_is_one_line_without_the_password(entry):
    from seg_jobs.arguments import AppArguments
    from seg_runs.errors import RunError
    from seg_runs.parsing import parse_arguments

    with pytest.raises(RunError, match="--auth: user number 2 is not of the form NAME:PASSWORD") as refused:
        parse_arguments(AppArguments, ["--auth", "bob:x", entry])
    assert "secret" not in str(refused.value)
    with pytest.raises(RunError, match="--auth: a user is given twice") as refused:
        parse_arguments(AppArguments, ["--auth", "bob:x", "bob:secret"])
    assert "secret" not in str(refused.value)


def test_the_second_view_shows_where_the_names_differ(tmp_path):
    """Classes are compared by name: the models number them in other ways."""
    from seg_app.viewer import add_differences

    view, ids = {}, [np.array(rows, np.uint8) for rows in ([[0, 1], [1, 1]], [[1, 0], [0, 2]])]
    add_differences(view, ids, [("road", "car"), ("car", "road", "sky")], tmp_path)
    differs = np.asarray(Image.open(view["differs"]["path"]))
    assert (differs == [[0, 0], [0, 255]]).all() and "25.0% of the pixels" in view["differs_line"]
