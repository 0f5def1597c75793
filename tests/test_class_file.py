"""classes.yaml: what is read from it, what is refused and how, and that what is written can be read."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from data_scripts.class_file import About, default_palette, read_classes, write_classes
from data_scripts.labels import CITYSCAPES, DataError, LabelInfo
from data_scripts.text_yaml import MOST_BYTES

GOOD = """\
title: Road damage
classes:
  - name: road
    id: 1
    color: [128, 64, 128]
    weight: 1.2
    ground: true
  - {name: pothole, id: 7, weight: 3}
  - {name: no, id: 0, weight: 1e0, ground: false}
ignore: [9]
copyblob: ["pothole:road"]
things: [[pothole], ["no"]]
licence: CC BY 4.0
link: https://example.org/roads
note: |
  two
  lines
"""


def refused(path, content: bytes | str) -> str:
    """Write `content` to `path` and return the line with which it is refused."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        read_classes(path)
    line = str(caught.value)
    assert str(path) in line and "\n" not in line and len(line) < 500
    return line


def test_everything_that_the_file_can_say_is_read(tmp_path):
    path = tmp_path / "classes.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())  # as Windows saves UTF-8
    labels, about = read_classes(path)
    assert labels == LabelInfo(
        name=str(path),
        names=("road", "pothole", "no"),
        source_ids=(1, 7, 0),
        palette=((128, 64, 128), *default_palette(2)),
        void_ids=(9, 255),
        class_weights=(1.2, 3.0, 1.0),
        copyblob=("pothole:road",),
        ground=("road",),
        things=(("pothole",), ("no",)),
    )
    assert about == About("Road damage", "CC BY 4.0", "https://example.org/roads", "two lines")
    assert labels.train_ids[[1, 7, 0, 9, 255]].tolist() == [0, 1, 2, 255, 255]


def test_names_and_ids_are_enough(tmp_path):
    (tmp_path / "classes.yaml").write_text("classes: [{name: a, id: 0}, {name: b, id: 254}]")
    labels, about = read_classes(tmp_path / "classes.yaml")
    assert labels.palette == default_palette(2) and labels.void_ids == (255,) and labels.class_weights == ()
    assert about == About() and "not known" in about.data_note().note and not about.data_note().publishable


def test_a_default_colour_is_none_that_another_class_has(tmp_path):
    first, second = default_palette(2)
    text = f"classes: [{{name: a, id: 0}}, {{name: b, id: 1, color: {list(first)}}}, {{name: c, id: 2}}]"
    (tmp_path / "classes.yaml").write_text(text)
    assert read_classes(tmp_path / "classes.yaml")[0].palette == (second, first, default_palette(3)[2])


TWO = "classes: [{name: a, id: 0}, {name: b, id: 1}]\n"
WRONG = {
    "an unknown key": (TWO + "colour: 3", "'colour'"),
    "an unknown key of a class": ("classes: [{name: a, id: 0, colour: 1}, {name: b, id: 1}]", "class 1: 'colour'"),
    "a misspelt licence": (TWO + "license: MIT", "'license'"),
    "a name twice": ("classes: [{name: a, id: 0}, {name: ' a ', id: 1}]", "name a is there twice"),
    "an id twice": ("classes: [{name: a, id: 1}, {name: b, id: 1}]", "id 1 is there twice"),
    "an id above 255": ("classes: [{name: a, id: 256}, {name: b, id: 1}]", "class 1 (a): id is '256'"),
    "an id below 0": ("classes: [{name: a, id: 0}, {name: b, id: -1}]", "class 2 (b): id is '-1'"),
    "an id with a fraction": ("classes: [{name: a, id: 0}, {name: b, id: 1.0}]", "id is '1.0'"),
    "an id that is a list": ("classes: [{name: a, id: [0]}, {name: b, id: 1}]", "id is ['0']"),
    "the id 255": ("classes: [{name: a, id: 0}, {name: b, id: 255}]", "255 always means ignored"),
    "no id": ("classes: [{name: a}, {name: b, id: 1}]", "class 1 has no id"),
    "no name": ("classes: [{name: a, id: 0}, {id: 1}]", "class 2 has no name"),
    "an empty name": ("classes: [{name: '', id: 0}, {name: b, id: 1}]", "name is ''"),
    "a name of two lines": ('classes: [{name: "a\\nb", id: 0}, {name: b, id: 1}]', "name is 'a"),
    "a long name": (f"classes: [{{name: {'a' * 101}, id: 0}}, {{name: b, id: 1}}]", "at most 100 characters"),
    "a name that is a list": ("classes: [{name: [a], id: 0}, {name: b, id: 1}]", "name is ['a']"),
    "two numbers for a colour": ("classes: [{name: a, id: 0, color: [1, 2]}, {name: b, id: 1}]", "color is ['1', '2']"),
    "a colour above 255": ("classes: [{name: a, id: 0, color: [1, 2, 300]}, {name: b, id: 1}]", "color is '300'"),
    "a colour in HTML": ("classes: [{name: a, id: 0, color: '#ff0000'}, {name: b, id: 1}]", "color is '#ff0000'"),
    "a colour twice": (
        "classes: [{name: a, id: 0, color: [1, 2, 3]}, {name: b, id: 1, color: [1, 2, 3]}]",
        "color [1, 2, 3] is there twice",
    ),
    "a weight for some": ("classes: [{name: a, id: 0, weight: 1}, {name: b, id: 1}]", "b has no weight"),
    "a weight of 0": ("classes: [{name: a, id: 0, weight: 0}, {name: b, id: 1}]", "weight is '0'"),
    "an endless weight": ("classes: [{name: a, id: 0, weight: inf}, {name: b, id: 1}]", "weight is 'inf'"),
    "a weight that is no number": ("classes: [{name: a, id: 0, weight: nan}, {name: b, id: 1}]", "weight is 'nan'"),
    "ground that is no switch": ("classes: [{name: a, id: 0, ground: yes}, {name: b, id: 1}]", "true or false"),
    "no classes": ("title: x", "classes is missing"),
    "an empty list": ("classes: []", "classes is missing or empty"),
    "classes as a mapping": ("classes: {0: a, 1: b}", "a line such as '- {name: road, id: 1}'"),
    "classes as words": ("classes: [a, b]", "class 1 is 'a'"),
    "one class": ("classes: [{name: a, id: 0}]", "add the background"),
    "more than 255 classes": (
        "classes:\n" + "".join(f"- {{name: c{i}, id: {i % 255}}}\n" for i in range(256)),
        "256 classes",
    ),
    "a class that is ignored": (TWO + "ignore: [1]", "1 is the id of class b"),
    "ignore that is no list": (TWO + "ignore: 7", "ignore is '7'"),
    "an ignored id above 255": (TWO + "ignore: [256]", "ignore is '256'"),
    "a rule for a class that is not there": (TWO + "copyblob: ['c:a']", "copyblob: 'c:a'"),
    "a rule without ground": (TWO + "copyblob: [a]", "copyblob: 'a'"),
    "a rule as a mapping": (TWO + "copyblob: [a: b]", "copyblob: {'a': 'b'}"),
    "a thing that is not there": (TWO + "things: [[c]]", "no class 'c'"),
    "a thing in two groups": (TWO + "things: [[a], [a, b]]", "a is there twice"),
    "things that are no groups": (TWO + "things: [a]", "things is ['a']"),
    "a link that is no address": (TWO + "link: javascript:alert(1)", "https://"),
    "a title that is a list": (TWO + "title: [a]", "title is ['a']"),
    "a key twice": (TWO + "title: a\ntitle: b", "title is there twice"),
    "a key of a class twice": ("classes: [{name: a, id: 0, id: 2}, {name: b, id: 1}]", "id is there twice"),
    "an alias": ("classes: [&x {name: a, id: 0}, *x]", "*x"),
    "a bomb": ("a: &a [x, x]\nb: &b [*a, *a]\nclasses: [*b, *b]", "write out what"),
    "a tag": ("classes: !!python/object/apply:os.system [ls]", "remove the tag"),
    "a tag of YAML": ("classes: [{name: a, id: !!int 0}, {name: b, id: 1}]", "remove the tag"),
    "a merge": (TWO + "<<: {title: a}", "'<<'"),
    "two documents": (TWO + "---\n" + TWO, "expected a single document in the stream but found another document"),
    "no YAML": (
        "classes: [",
        "as YAML at line 1, column 11: indent the lines of one class equally, with spaces, close",
    ),
    "a line that is indented too little": (
        "classes:\n  - name: a\n    id: 0\n  - name: b\n   id: 1",
        "classes.yaml cannot be read as YAML at line 5, column 4: indent the lines of one class equally, with spaces, "
        "close brackets and quotes, quote names with :",
    ),
    "tabs": ("classes:\n\t- name: a", "cannot be read as YAML"),
    "deep nesting": ("[" * 20_000, "cannot be read as YAML"),
    "a list": ("- a", "not a list of 'key: value' lines"),
    "nothing": ("", "not a list of 'key: value' lines"),
    "Latin-1": ("title: Straße\n".encode("latin-1"), "not UTF-8"),
    "UTF-16": (TWO.encode("utf-16"), "not UTF-8"),
    "zeros": (b"\0" * 100, "cannot be read as YAML"),
    "a huge file": (b"#" * (MOST_BYTES + 1), "more than"),
}


@pytest.mark.parametrize("content, part", WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_in_one_line_that_names_file_and_key(content, part, tmp_path):
    assert part in refused(tmp_path / "classes.yaml", content)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "classes.yaml", tmp_path):
        with pytest.raises(DataError, match=f"cannot read {path}: "):
            read_classes(path)


NAMES = ("no", "1e3", "a: b", "ä {x}, [y]", "# z", "null", "'q'", '"', "a b-c_d", "~", "\\n", "日本")


def test_what_is_written_is_read_again_and_by_any_yaml_reader(tmp_path):
    count = len(NAMES)
    labels = LabelInfo(
        name=str(tmp_path / "classes.yaml"),
        names=NAMES,
        source_ids=tuple(range(count, 0, -1)),
        palette=default_palette(count),
        void_ids=(200, 0, 255),
        class_weights=tuple(0.1 + i / 3 for i in range(count)),
        copyblob=("no:null",),
        ground=("no", "日本"),
        things=(("# z", '"'), ("~",)),
    )
    about = About("a: # b", "null", "https://example.org/?a=1&b=2", "- x")
    write_classes(tmp_path / "classes.yaml", labels, about, ["found\n40 images"])
    assert read_classes(tmp_path / "classes.yaml") == (labels, about)
    text = (tmp_path / "classes.yaml").read_text()
    assert text.startswith("# found 40 images\n")
    plain = yaml.safe_load(text)
    assert [entry["name"] for entry in plain["classes"]] == list(NAMES)
    assert plain["title"] == "a: # b" and plain["ignore"] == [200, 0, 255]


def test_cityscapes_survives_the_file(tmp_path):
    write_classes(tmp_path / "classes.yaml", CITYSCAPES)
    read, _ = read_classes(tmp_path / "classes.yaml")
    assert replace(read, name="cityscapes", instances=CITYSCAPES.instances) == CITYSCAPES


def test_255_classes_fit(tmp_path):
    names = tuple(f"class number {i} {'x' * 80}" for i in range(255))
    labels = LabelInfo("", names, tuple(range(255)), default_palette(255), (255,))
    write_classes(tmp_path / "classes.yaml", labels)
    assert read_classes(tmp_path / "classes.yaml")[0].names == names


@pytest.mark.parametrize("names", [("a", "a"), ("a\nb", "c"), (" a", "b"), ("\ud800", "b")])
def test_what_could_not_be_read_is_not_written(names, tmp_path):
    path = tmp_path / "classes.yaml"
    path.write_text("old")
    with pytest.raises(DataError):
        write_classes(path, LabelInfo("", names, (0, 1), default_palette(2), (255,)))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_default_colours_are_far_from_each_other_and_from_black():
    palette = default_palette(255)
    assert len({*palette}) == 255 and default_palette(10) == palette[:10]
    assert palette[:3] == ((153, 255, 85), (238, 102, 255), (255, 102, 17))  # pictures keep their colours
    first = np.array([(0, 0, 0), *palette[:20]], float)
    distance = np.linalg.norm(first[:, None] - first[None], axis=-1)
    assert distance[~np.eye(21, dtype=bool)].min() > 60
