"""python -m data_scripts.eda: the numbers, and the page as a browser shows it."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import CAMVID, browse
from PIL import Image
from test_data_check import CLASSES, SIZE, mask, own, save, truncate  # noqa: F401 - `own` is a fixture
from test_near_duplicates import scene

from data_scripts import class_statistics as statistics
from data_scripts import eda
from data_scripts.findings import Finding
from data_scripts.sources import load_source
from data_scripts.survey import take_survey


@pytest.fixture
def survey(own):  # noqa: F811
    data, labels = load_source("folder", str(own))
    return take_survey(data, labels)


def strict(text):
    """Parse JSON. Fails for NaN and infinity."""

    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_the_numbers_are_those_of_the_masks(own, tmp_path, capsys):  # noqa: F811
    for i in (1, 2):
        save(own / f"masks/train/photo {i:02d}.png", np.minimum(mask(), 1))
    eda.main([str(own), str(tmp_path / "page"), "--pictures", "0"])
    stats = strict((tmp_path / "page" / "stats.json").read_text())
    road, car = stats["classes"]
    assert (road["name"], road["id"], car["id"]) == ("road", 1, 2)
    assert car["splits"]["train"] | {"region size, quantiles": 0} == {
        "images": 4,
        "pixels": 1200,
        "share of labelled pixels": 1200 / (6 * 56 * 128),
        "regions": 4,
        "region size, quantiles": 0,
    }
    assert car["splits"]["val"]["region size, quantiles"] == [300] * 5
    assert stats["images that show both"] == {"road": [13, 11], "car": [11, 11]}
    train = stats["splits"]["train"]
    assert (train["images"], train["masks"], train["different scenes"]) == (6, 6, 6)
    assert train["sizes, height x width"] == {"96x128": 6} and sum(train["brightness, histogram"]) == 6
    grey = np.mean([scene(i, SIZE).mean() for i in range(6)])
    assert abs(train["brightness, mean"] - grey) < 15 and abs(np.mean(train["mean color"]) - grey) < 0.5
    assert str(tmp_path) not in (tmp_path / "page" / "stats.json").read_text()


def test_heat_maps_say_how_often_a_class_covers_a_place(survey):
    road, car = statistics.heat_maps(survey)
    assert road.shape == statistics.GRID and road[:19].max() == 0 and road[31:].min() == 1  # row 40 of 96 is 20 of 48
    total = sum(row.ids[2] for row in survey.rows) / len(survey.rows)
    assert car.sum() / car.size * SIZE[0] * SIZE[1] == pytest.approx(total, rel=0.1)
    assert np.allclose((road + car)[21:], 1)


def test_pictures_show_rare_classes_and_no_scene_twice(own):  # noqa: F811
    (own / "classes.yaml").write_text(CLASSES.replace("ignore", "  - {name: tree, id: 3}\nignore"))
    ids = mask()
    ids[80:90, :20] = 3
    save(own / "masks/train/photo 04.png", ids)
    shutil.copy(own / "images/train/photo 04.png", own / "images/train/photo 05.png")
    data, labels = load_source("folder", str(own))
    survey = take_survey(data, labels)
    chosen = statistics.choose_pictures(survey, 100)
    assert survey.rows[chosen[0]].name == "photo 04" and len(chosen) == 12  # all but the copy
    assert "photo 05" not in {survey.rows[i].name for i in chosen}
    assert statistics.choose_pictures(survey, 2) == chosen[:2]


def test_look_alikes_are_paired_across_splits(own):  # noqa: F811
    save(own / "images/val/photo 12.png", scene(3, SIZE) // 2 + 60)
    data, labels = load_source("folder", str(own))
    survey = take_survey(data, labels)
    alike = statistics.look_alikes(survey)
    ((other, training, bits),) = alike.pairs
    assert (survey.rows[other].name, survey.rows[training].name) == ("photo 12", "photo 03") and bits > 0
    assert alike.groups[other] == alike.groups[training] and len(set(alike.groups.tolist())) == 12


def test_the_page_needs_nothing_and_says_nothing_of_this_machine(own, tmp_path, capsys):  # noqa: F811
    eda.main([str(own), str(tmp_path / "page")])
    assert "note: the page holds pictures of my data: show it only" in capsys.readouterr().out
    page = (tmp_path / "page" / "index.html").read_text()
    assert "Content-Security-Policy" in page and "default-src 'none'" in page
    assert set(re.findall(r'(?:src|href)="(.{11})', page)) == {"data:image/"}  # JPEG and PNG
    assert "http" not in page.replace("http-equiv", "") and str(tmp_path) not in page and "my data" in page
    assert page.count("<figure>") >= 12
    eda.main([str(tmp_path / "page"), "--dataset", "folder", "--dataset_path", str(own), "--pictures", "0"])
    assert "pictures of" not in capsys.readouterr().out
    page = (tmp_path / "page" / "index.html").read_text()
    assert "image/jpeg" not in page and "How much of each class" in page


@pytest.mark.parametrize(
    ("root", "before", "after"),
    [
        (".", "python -m data_scripts.prepare . ../mine_prepared", "python -m data_scripts.prepare . ../mine_prepared"),
        ("/a b/c", "data_scripts.prepare '/a b/c' '/a b/c_prepared'", "data_scripts.prepare 'c' 'c_prepared'"),
        ("/a b/c/", "correct /a b/c/classes.yaml, not /x/a b/c", "correct classes.yaml, not /x/a b/c"),
    ],
)
def test_the_folder_is_taken_out_of_paths_alone(root, before, after):
    assert eda.without_folder([Finding("note", "t", (), before)], root)[0].then == after


def test_a_forgotten_page_is_asked_for(own, capsys):  # noqa: F811
    with pytest.raises(SystemExit):
        eda.main([str(own)])
    assert f"name the folder for the page too: python -m data_scripts.eda '{own}' page" in capsys.readouterr().err


def test_nothing_is_left_behind_if_the_data_cannot_be_loaded(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as stop:
        eda.main([str(tmp_path / "empty"), str(tmp_path / "page")])
    assert stop.value.code and "none of the layouts" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_names_cannot_inject_html(own, tmp_path):  # noqa: F811
    evil = "<img src=x onerror=alert(1)>"
    (own / "classes.yaml").write_text(
        f"title: \"{evil}\"\nclasses:\n  - {{name: '{evil}', id: 1}}\n  - {{name: '\"><script>x</script>', id: 2}}\n"
    )
    for folder in ("images", "masks"):
        path = own / folder / "train"
        (path / "photo 00.png").rename(path / '"><script>alert(2)<\\script>.png')
        truncate(path / "photo 01.png")  # its name appears in a finding
        (path / "photo 01.png").rename(path / "<b>bold</b>.png".replace("/", "_"))
    eda.main([str(own), str(tmp_path / "page")])
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count("<script>") == 1 and "<img src=x" not in page and "<b>bold" not in page
    assert "&lt;img src=x" in page and "&lt;script&gt;alert(2)" in page and "&lt;b&gt;bold" in page


def test_a_damaged_data_set_still_has_a_page(own, tmp_path):  # noqa: F811
    for path in (own / "masks").rglob("*.png"):
        truncate(path)
    truncate(own / "images/train/photo 02.png")
    eda.main([str(own), str(tmp_path / "page")])
    page, stats = (tmp_path / "page" / "index.html").read_text(), (tmp_path / "page" / "stats.json").read_text()
    assert "Masks that cannot be read: 11" in page and "What occurs together" not in page
    assert strict(stats)["splits"]["train"]["share of labelled pixels"] is None


def refused(capsys, *argv):
    with pytest.raises(SystemExit) as end:
        eda.main([str(argument) for argument in argv])
    error = capsys.readouterr().err
    assert end.value.code == 1 and error.count("\n") == 1
    return error


def test_what_is_not_ours_is_not_overwritten(own, tmp_path, capsys):  # noqa: F811
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("mine")
    assert "not a page of this program" in refused(capsys, own, tmp_path / "site")
    assert (tmp_path / "site" / "index.html").read_text() == "mine" and len(list((tmp_path / "site").iterdir())) == 1
    (tmp_path / "file").write_text("mine")
    assert "cannot write" in refused(capsys, own, tmp_path / "file")
    assert "DATA OUT" in refused(capsys, own, tmp_path / "a", tmp_path / "b")
    assert "DATA OUT" in refused(capsys, "--dataset_path", own)
    assert "no folder" in refused(capsys, tmp_path / "nowhere", tmp_path / "page")


@pytest.mark.parametrize("width, scheme", [(390, "dark"), (1280, "light")])
def test_the_page_in_a_browser(width, scheme, own, tmp_path):  # noqa: F811
    name = "a class with a name so long that it fits into no column"
    (own / "classes.yaml").write_text(CLASSES.replace("road", name))
    shutil.copy(own / "images/train/photo 00.png", own / "images/val/photo 10.png")
    eda.main([str(own), str(tmp_path / "page")])

    def look(page):
        assert page.evaluate("document.documentElement.scrollWidth") == width  # nothing sticks out
        page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
        page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert page.evaluate("document.images.length") > 20
        page.fill("#mask", "100")
        assert page.evaluate("getComputedStyle(document.querySelector('.stack img + img')).opacity") == "1"
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", color)[:3])) / 3

    brightness = browse(tmp_path / "page" / "index.html", width, scheme, look)
    assert brightness < 60 if scheme == "dark" else brightness > 200


@pytest.mark.skipif(not CAMVID.is_dir(), reason="needs ../shared/camvid")
def test_camvid_s_page(tmp_path):
    eda.main([str(CAMVID), str(tmp_path / "page"), "--pictures", "4"])
    stats = strict((tmp_path / "page" / "stats.json").read_text())
    assert {name: entry["images"] for name, entry in stats["splits"].items()} == {"train": 367, "val": 101, "test": 233}
    assert stats["splits"]["val"]["different scenes"] == 1
    masks = [np.asarray(Image.open(path)) for path in (CAMVID / "trainannot").iterdir()]
    assert sum(entry["splits"]["train"]["pixels"] for entry in stats["classes"]) == sum((m < 11).sum() for m in masks)
