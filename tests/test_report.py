"""python -m seg_runs.report: which runs belong together, what is noise, and the page, the tables and the terminal."""

import csv
import json
import math
import re
import shutil

import numpy as np
import pytest
import yaml
from conftest import browse
from PIL import Image

from seg_jobs.arguments import TrainArguments
from seg_runs import report
from seg_runs.epoch_rows import COLUMNS, append_row
from seg_runs.files import write_json, write_picture
from seg_runs.parsing import parse_arguments, save_arguments
from seg_runs.report_charts import Axis, curves, spread
from seg_runs.report_noise import Fit, quantile
from seg_runs.report_page import points
from seg_runs.report_pictures import photos_of
from seg_runs.report_runs import Comparison, read_runs
from seg_runs.results import comparison as draw_comparison
from seg_runs.results import panels

COMMON = ["--dataset", "camvid", "--model", "streetnet", "--max_train_steps", "20"]
MEANS = {"mean_accuracy": 0.5, "overall_accuracy": 0.75}
COLORS = {"sky": (128, 128, 128), "building": (128, 0, 0)}  # CamVid's


def make_run(folder, *flags, iou=0.5, scores="best/training.json", epochs=2, seconds=30.0, **record):
    """Write what training writes of a complete run, with the project's own writers. `iou` is one for all classes, or a
    dict. `seconds` is what an epoch took, `record` are more entries of the file of scores."""
    iou = iou if isinstance(iou, dict) else {"sky": iou, "building": iou}
    known = [value for value in iou.values() if value is not None]
    found = {"mean_iou": sum(known) / len(known), **MEANS, "iou": iou}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / scores).parent.mkdir(exist_ok=True)
    save_arguments(parse_arguments(TrainArguments, [*COMMON, *flags]), folder / "args.yaml")
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "train_loss": 1 / epoch, "mean_iou": found["mean_iou"] * epoch / epochs}
        row["seconds"] = seconds
        append_row(folder / "log_epoch.csv", row, COLUMNS)
    write_json(folder / "results.json", {"step": 20, "best_mean_iou": found["mean_iou"], "best_epoch": epochs})
    write_json(folder / scores, {"validation": found, **record} if scores.startswith("best") else {**found, **record})
    return folder


def seeds(root, name, scores, *flags):
    """Write a run for each of `scores`, with seeds 0, 1, ..."""
    return [make_run(root / f"{name}{i}", *flags, "--seed", str(i), iou=score) for i, score in enumerate(scores)]


def compare(folders, baseline=None):
    flags = report.known_flags()
    return Comparison(read_runs(folders, "best/training.json", flags)[0], flags, baseline)


def rows_of(said):
    """Return {class: columns} of the first table."""
    lines = [line for line in said.split("\n\n")[0].splitlines() if line.count(".") >= 1 or line.endswith(" 0")]
    return {line[:16].strip(): line[16:].split() for line in lines}


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# noise


def test_noise_of_seeds_is_their_pooled_deviation():
    fit = Fit([0, 0, 1, 1, 2], ["T"] * 5, [0.50, 0.52, 0.60, 0.64, 0.55])
    pooled = math.sqrt((0.02**2 / 2 + 0.04**2 / 2) / 2)
    assert fit.freedom == 2 and fit.deviation == pytest.approx(pooled)
    gain = fit.difference(1, 0)
    assert gain.value == pytest.approx(0.11) and gain.margin == pytest.approx(4.303 * pooled * math.sqrt(1 / 2 + 1 / 2))
    single = fit.difference(2, 0)  # a group of one seed borrows the noise of the others
    assert single.margin == pytest.approx(4.303 * pooled * math.sqrt(1 + 1 / 2)) and single.is_noise


def test_what_folds_have_in_common_is_no_noise():
    one, two = [0.40, 0.60, 0.50], [0.45, 0.64, 0.55]
    fit = Fit([0] * 3 + [1] * 3, [1, 2, 3] * 2, one + two)
    paired = np.subtract(two, one)
    gain = fit.difference(1, 0)
    assert fit.freedom == 2 and gain.value == pytest.approx(paired.mean())
    assert gain.margin == pytest.approx(4.303 * paired.std(ddof=1) / math.sqrt(3)) and gain.is_noise is False


def test_a_gain_counts_only_the_images_that_groups_share():
    fit = Fit([0, 0, 1, 2], ["1", "2", "1", "9"], [0.5, 0.3, 0.55, 0.9])
    assert fit.difference(1, 0).value == pytest.approx(0.05) and fit.difference(1, 0).margin is None
    assert fit.difference(2, 0) is None and fit.difference(5, 0) is None


def test_missing_scores_are_left_out_of_the_fit():
    fit = Fit([0, 0, 1, 1], ["T"] * 4, [0.5, math.nan, 0.6, 0.62])
    assert fit.freedom == 1 and fit.difference(1, 0).value == pytest.approx(0.11)
    assert Fit([0], ["T"], [math.nan]).difference(0, 0) is None


@pytest.mark.parametrize("freedom,value", [(1, 12.706), (10, 2.228), (11, 2.201), (20, 2.086), (60, 2.000)])
def test_quantiles_are_those_of_the_tables(freedom, value):
    assert quantile(freedom) == pytest.approx(value, abs=0.0025)


# groups


def test_runs_of_one_configuration_are_a_group_whatever_bears_on_no_score(tmp_path):
    first = make_run(tmp_path / "a", "--seed", "0", "--num_workers", "1", iou=0.5)
    second = make_run(tmp_path / "b", "--seed", "1", "--report_to", "none", "--output_dir", "x", iou=0.6)
    args = yaml.safe_load((second / "args.yaml").read_text())
    for newer in ("select", "label_smoothing"):  # an older run lacks these flags
        del args[newer]
    (second / "args.yaml").write_text(yaml.safe_dump(args))
    found = compare([first, second, make_run(tmp_path / "c", "--norm", "evo")])
    assert [len(group.runs) for group in found.groups] == [2, 1] and found.varying == ["norm"]


@pytest.mark.parametrize(
    ("first", "second", "groups"),
    [
        (["--init_from", "/data/A/best"], ["--init_from", "/data/B/best"], 2),
        (["--init_from", "/data/A/best"], ["--init_from", "/elsewhere/A/best"], 1),
        (["--teacher", "/data/A/best"], ["--teacher", "/data/B/best"], 2),
        (["--eval_dataset", "folder", "/data/one"], ["--eval_dataset", "folder", "/data/two"], 2),
        (["--eval_dataset", "kitti", "/data/one"], ["--eval_dataset", "kitti", "/data/two"], 1),
    ],
)
def test_other_weights_to_start_from_are_another_group(first, second, groups, tmp_path):
    taught = ["--distill", "kl"] if "--teacher" in first else []
    runs = [
        make_run(tmp_path / str(i), *flags, *taught, "--seed", str(i), iou=0.5 + i / 10)
        for i, flags in enumerate((first, second))
    ]
    assert len(compare(runs).groups) == groups


def test_epochs_without_effect_do_not_differ(tmp_path):
    found = compare([make_run(tmp_path / "a", "--epochs", "3"), make_run(tmp_path / "b", "--seed", "1", iou=0.6)])
    assert len(found.groups) == 1


def test_the_baseline_is_one_flag_from_most_groups(tmp_path):
    folders = [
        make_run(tmp_path / "evo+focal", "--norm", "evo", "--loss", "focal", "--focal_gamma", "3.0", iou=0.9),
        make_run(tmp_path / "evo", "--norm", "evo", iou=0.7),
        make_run(tmp_path / "plain", iou=0.5),
        make_run(tmp_path / "cutmix", "--cutmix", iou=0.6),
    ]
    found = compare(folders)
    names = [found.name(i) for i in range(4)]
    assert names == ["norm evo, loss focal (focal_gamma 3.0)", "norm evo", "cutmix", "baseline"]
    assert found.changes(0, 3) == {"norm": [], "loss": ["focal_gamma"]}  # which has no effect without it
    other = compare(folders, tmp_path / "evo")
    names = [other.name(i) for i in range(4)]
    assert names == ["loss focal (focal_gamma 3.0)", "baseline", "norm batch, cutmix", "norm batch"]
    with pytest.raises(ValueError, match="--baseline .*nowhere is not among the runs"):
        compare(folders, tmp_path / "nowhere")


def test_a_detail_of_a_detail_belongs_to_its_flag(tmp_path):
    weights = ["--class_weights", "enet", "--class_weights_constant", "1.1"]
    found = compare([make_run(tmp_path / "a"), make_run(tmp_path / "b", "--loss", "weighted_ce", *weights, iou=0.6)])
    assert found.name(0) == "loss weighted_ce (class_weights enet, class_weights_constant 1.1)"
    assert len(found.changes(0, 1)) == 1


def test_of_two_groups_the_one_with_defaults_is_the_baseline(tmp_path):
    found = compare([make_run(tmp_path / "a", "--norm", "evo", iou=0.4), make_run(tmp_path / "b", iou=0.5)])
    assert [found.name(i) for i in range(2)] == ["baseline", "norm evo"]
    assert found.groups[found.baseline].runs[0].folder.name == "b"


def test_ties_are_what_noise_does_not_separate_from_the_best(tmp_path):
    folders = seeds(tmp_path, "plain", ({"sky": 0.50, "building": 0.70}, {"sky": 0.52, "building": 0.70}))
    folders += seeds(
        tmp_path, "evo", ({"sky": 0.53, "building": 0.90}, {"sky": 0.51, "building": 0.90}), "--norm", "evo"
    )
    found = compare(folders)
    assert found.best("sky") == (0, [1]) and found.best("building") == (0, [])
    page = report.page_of(found, [], [], False)
    evo, plain = re.findall(r"<tr data-g=\"\d\"><th>.*?</tr>", page.split("IoU of each class")[1])[:2]
    assert re.findall(r'<td class="(\w+)"[^>]*><span class="score">([\d.]+)', evo)[-2:] == [
        ("best", "52.0"),
        ("best", "90.0"),
    ]
    assert 'class="tie"><span class="score">51.0' in plain and '<td><span class="score">70.0' in plain


def test_without_a_second_seed_no_noise_is_known(in_process, tmp_path, capsys):
    runs = [make_run(tmp_path / "a", iou=0.5), make_run(tmp_path / "b", "--norm", "evo", iou=0.7)]
    in_process("seg_runs.report", *runs, "--out", "page")
    assert "one seed: no noise is known" in capsys.readouterr().out
    text = (tmp_path / "page" / "index.html").read_text()
    assert "One seed: no noise is known" in text and text.count('class="one">one seed') == 2
    assert 'class="tie' not in text and 'class="hollow"' in text
    assert [row["margin"] for row in read_csv(tmp_path / "page" / "groups.csv")] == ["", ""]


@pytest.mark.parametrize("iou", [0.5, {"sky": 0.5, "building": None}], ids=["all classes", "a class is absent"])
def test_equal_numbers_of_an_equal_seed_are_one_run(iou, tmp_path):
    one = make_run(tmp_path / "one", iou=iou)
    shutil.copytree(one, tmp_path / "copy")
    runs, left_out = read_runs([one, tmp_path / "copy", one], "best/training.json", report.known_flags())
    assert len(runs) == 1
    assert left_out == [(tmp_path / "copy", "it repeats one: same flags, seed and scores"), (one, "it is named twice")]


# the terminal


def test_runs_with_other_classes_are_no_seeds_of_one_configuration(in_process, tmp_path, capsys):
    """As after a change of classes.yaml."""
    full = {"road": 0.9, "car": 0.5, "bus": 0.1}
    runs = [make_run(tmp_path / f"r{i}", "--seed", str(i), iou=full) for i in range(2)]
    runs += [make_run(tmp_path / "fewer", "--seed", "2", iou={"road": 0.9, "tram": 0.5})]
    in_process("seg_runs.report", *runs, "--out", "page")
    said = capsys.readouterr().out
    assert sorted(len(group.runs) for group in compare(runs).groups) == [1, 2]
    assert "classes without car, bus, with tram" in said
    with (tmp_path / "page" / "runs.csv").open() as file:
        columns = next(csv.reader(file))
    assert "classes" in columns and "--classes" not in columns  # it is no flag
    assert "note: 1 of 2 groups is scored on other images or classes than the baseline" in said


def test_the_curve_of_a_shorter_run_is_shown(in_process, tmp_path):
    """The vertical axis begins after the first quarter of each curve, not of the longest."""
    long = [make_run(tmp_path / f"l{i}", "--seed", str(i), iou=0.9, epochs=100) for i in range(2)]
    short = [make_run(tmp_path / "s", "--norm", "evo", iou=0.1, epochs=10)]
    chart = curves(compare([*long, *short]), "mean_iou")
    path = re.search(r'data-g="1"><path d="M.*?L?([\d.]+) (-?[\d.]+)"', chart)
    assert path is not None and 0 <= float(path[2]) <= 100


def test_means_and_deviations_by_class(in_process, tmp_path, capsys):
    scores = (
        {"road": 0.9, "car": 0.5, "bus": None},
        {"road": 0.8, "car": 0.6, "bus": 0.1},
        {"road": 0.7, "car": 0.7, "bus": None},
    )
    folds = ["--folds", "f.json", "--fold"]
    runs = [make_run(tmp_path / f"r{i}", *folds, str(i), iou=iou) for i, iou in enumerate(scores)]
    in_process("seg_runs.report", *runs)
    said = capsys.readouterr().out
    assert said.startswith("baseline: 3 runs; folds 0, 1, 2; seed 0\n")
    rows = rows_of(said)
    assert rows["road"] == ["0.8000", "0.1000", "0.7000", "0.9000", "3"]
    assert rows["car"] == ["0.6000", "0.1000", "0.5000", "0.7000", "3"]
    assert rows["bus"] == ["0.1000", "-", "0.1000", "0.1000", "1"]
    assert rows["mean IoU"] == ["0.6333", "0.1155", "0.5000", "0.7000", "3"]
    assert rows["pixel accuracy"] == ["0.7500", "0.0000", "0.7500", "0.7500", "3"]


def test_a_class_that_no_run_has_is_a_dash(in_process, tmp_path, capsys):
    in_process("seg_runs.report", *seeds(tmp_path, "r", [{"road": 0.9, "bus": None}, {"road": 0.8, "bus": None}]))
    assert rows_of(capsys.readouterr().out)["bus"] == ["-", "-", "-", "-", "0"]


def test_the_ranking_ends_the_text(in_process, tmp_path, capsys):
    runs = seeds(tmp_path, "plain", (0.51, 0.52)) + seeds(tmp_path, "evo", (0.71, 0.72), "--norm", "evo")
    in_process("seg_runs.report", *runs)
    *_, evo, plain, noise = capsys.readouterr().out.strip().splitlines()
    assert evo.startswith("0.7150 +- 0.0071    +0.2000 +- 0.0304  norm evo; 2 runs; seeds 0, 1")
    assert plain.startswith("0.5150 +- 0.0071") and plain.endswith("  baseline; 2 runs; seeds 0, 1")
    assert noise == "noise: a run deviates by 0.0071"


def test_a_gain_that_rounds_to_zero_has_no_minus(in_process, tmp_path, capsys):
    in_process("seg_runs.report", make_run(tmp_path / "a", iou=0.5), make_run(tmp_path / "b", "--cutmix", iou=0.499999))
    said = capsys.readouterr().out
    assert "+0.0000" in said and "-0.0000" not in said
    assert [points(value, sign=True) for value in (-1e-5, 1e-5, -0.004)] == ["+0.0", "+0.0", "\N{MINUS SIGN}0.4"]


def test_scores_of_a_prediction_can_be_compared(in_process, tmp_path, capsys):
    run = make_run(tmp_path / "r", iou={"road": 0.25}, scores="scores_val.json")
    in_process("seg_runs.report", run, "--scores", "scores_val.json")
    assert rows_of(capsys.readouterr().out)["road"] == ["0.2500", "-", "0.2500", "0.2500", "1"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"flip": True}, "flip"),
        ({"crf": True, "window": [32, 64]}, "window, crf"),
        ({"size": [64, 128]}, "size"),
        ({"model": ["other", 2.0], "precision": "bf16", "turn": True}, None),
    ],
)
def test_scores_that_were_measured_in_other_ways_have_a_warning(tmp_path, changed, named):
    usual = {"model": ["r", 1.0], "size": None, "flip": False, "window": None, "turn": False, "crf": False}
    runs = [
        make_run(tmp_path / f"r{i}", "--seed", str(i), scores="scores_val.json", settings=settings)
        for i, settings in enumerate((usual, usual | changed))
    ]
    flags = report.known_flags()
    found = report.warnings_of(Comparison(read_runs(runs, "scores_val.json", flags)[0], flags), pictures=False)
    assert found == (
        [f"Not all scores were measured in the same way ({named}): this may be why they differ."] if named else []
    )


def test_the_same_data_elsewhere_are_the_same_images(tmp_path):
    runs = [
        make_run(tmp_path / "a", "--dataset", "folder", "--dataset_path", "roads", iou=0.4),
        make_run(tmp_path / "b", "--dataset", "folder", "--dataset_path", "/data/roads", "--seed", "1", iou=0.5),
        make_run(tmp_path / "c", "--dataset", "folder", "--dataset_path", "fields", iou=0.6),
    ]
    found = compare(runs)
    assert [len(group.runs) for group in found.groups] == [1, 2] and found.varying == ["dataset_path"]
    assert found.gain(0) is None or found.gain(1) is None


def test_a_saved_data_set_elsewhere_is_the_same_and_an_id_of_the_hub_is_kept(tmp_path):
    runs = []
    for i, name in enumerate(("saved", "../x/saved", "someone/saved", "another/saved")):
        runs.append(make_run(tmp_path / str(i), iou=0.4 + i / 10))
        args = yaml.safe_load((runs[i] / "args.yaml").read_text())
        (runs[i] / "args.yaml").write_text(yaml.safe_dump({**args, "dataset": "hub", "dataset_name": name}))
    assert [len(group.runs) for group in compare(runs).groups] == [1, 1, 2]


# what is no complete run


def spoil(run, how):
    if how == "unfinished":
        (run / "results.json").unlink()
    elif how == "unvalidated":
        write_json(run / "best" / "training.json", {"epoch": 1})
    elif how == "foreign":
        (run / "args.yaml").unlink()
    elif how == "no record":
        (run / "best" / "training.json").unlink()
    elif how == "log":
        (run / "log_epoch.csv").write_text("epoch,seconds\n1,soon\n")
    elif how == "other log":
        (run / "log_epoch.csv").write_text("name\n1\n")
    elif how == "flags":
        (run / "args.yaml").write_text("norm: {batch: 1}\n")
    else:
        (run / "best" / "training.json").write_text(how)


DAMAGE = {
    "unfinished": "it is not finished: 2 epochs are logged",
    "unvalidated": "it was not validated",
    "foreign": "it is not a run folder: it has no args.yaml",
    "no record": "it has no best/training.json",
    "log": "cannot read log_epoch.csv: could not convert string to float: 'soon'",
    "other log": "cannot read log_epoch.csv: it has no column epoch",
    "flags": "recipe args.yaml: norm is",
    "{": "cannot read best/training.json: Expecting property name",
    "[]": "cannot read best/training.json: it holds no JSON object",
    '{"validation": {"mean_iou": 1}}': "cannot read best/training.json: it holds no scores",
    '{"validation": [1]}': "cannot read best/training.json: it holds no scores",
}


@pytest.mark.parametrize("how", DAMAGE)
def test_what_cannot_be_compared_is_left_out_with_the_reason(in_process, tmp_path, capsys, how):
    whole, spoiled = make_run(tmp_path / "whole"), make_run(tmp_path / "spoiled", "--norm", "evo")
    spoil(spoiled, how)
    in_process("seg_runs.report", whole, spoiled, "--out", "page")
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"note: {spoiled} is left out: {DAMAGE[how]}")
    page = (tmp_path / "page" / "index.html").read_text()
    assert "<code>spoiled</code>" in page and str(tmp_path) not in page


def test_scores_that_are_none_are_left_out(tmp_path):
    run = make_run(tmp_path / "r", iou=0.5)
    for score in ("1.5", "NaN", "Infinity", '"high"'):
        text = (run / "best" / "training.json").read_text()
        (run / "best" / "training.json").write_text(re.sub(r'"mean_iou": [^,]+', f'"mean_iou": {score}', text))
        runs, left_out = read_runs([run], "best/training.json", report.known_flags())
        assert not runs and ("it has no mean IoU" if score == "NaN" else "holds no scores") in left_out[0][1]


def test_files_beside_the_runs_are_one_line(in_process, tmp_path, capsys):
    run = make_run(tmp_path / "r")
    for name in ("r.log", "s.log"):
        (tmp_path / name).write_text("")
    in_process("seg_runs.report", run, tmp_path / "r.log", tmp_path / "s.log", tmp_path / "nowhere")
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert notes == [
        f"note: {tmp_path / 'r.log'} is left out: it is one of 2 files",
        f"note: {tmp_path / 'nowhere'} is left out: it does not exist",
    ]


def test_a_folder_of_runs_is_named(in_process, tmp_path, capsys):
    make_run(tmp_path / "runs" / "a")
    with pytest.raises(SystemExit):
        in_process("seg_runs.report", tmp_path / "runs")
    assert f"is a finished run: give the runs in it, as {tmp_path / 'runs'}/*" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["empty", "file", "nowhere"])
def test_nothing_to_compare_is_one_line(in_process, tmp_path, capsys, given):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        in_process("seg_runs.report", tmp_path / given, "--out", "page")
    assert stop.value.code == 1 and not (tmp_path / "page").exists()
    assert capsys.readouterr().err == "error: nothing to compare: none of 1 folders is a finished run\n"


# the page and the tables


def test_the_page_shows_what_differs_and_only_that(in_process, tmp_path):
    runs = seeds(tmp_path, "plain", (0.5, 0.52))
    runs += [
        make_run(
            tmp_path / "evo",
            *("--norm", "evo", "--cutmix"),
            iou=0.6,
            parameters=3_400_000,
            operations={"macs": 4_930_000_000, "size": [360, 480]},
            peak_memory=1_600_000_000,
            hardware="1 x <CPU>, precision no",
        )
    ]
    in_process("seg_runs.report", *runs, "--out", "page")
    page = (tmp_path / "page" / "index.html").read_text()
    differing = page.split("What differs")[1].split("</table>")[0]
    assert re.findall(r"<th>(\w+)</th>", differing) == ["norm", "cutmix"]
    assert "<td>evo</td><td>yes</td>" in differing
    cost = page.split("Time, memory, operations")[1].split("</table>")[0]
    assert re.findall(r'<td class="num">([^<]+)</td>', cost)[:5] == ["1 min 00 s", "1.00", "1.60", "3.40", "4.93"]
    assert re.findall(r'<td class="num">([^<]+)</td>', cost)[7:] == ["\u2013"] * 3  # older runs recorded nothing
    assert "GMACs for 360x480" in cost and "1 x &lt;CPU&gt;" in page
    assert "http" not in page.replace("http-equiv", "") and len(page) < 60_000
    assert page.count("<path") == 2 + 2 * 2 + 2  # mIoU and training loss: a mean for each group, and two runs
    evo, plain = read_csv(tmp_path / "page" / "groups.csv")
    assert (evo["group"], evo["runs"], evo["mean_iou"], evo["--norm"], evo["--cutmix"]) == (
        *("norm evo, cutmix", "1", "0.6"),
        *("evo", "True"),
    )
    assert (evo["macs"], evo["seconds"], plain["macs"], plain["deviation"]) == ("4.93e+09", "60", "", "0.0141421")
    table = read_csv(tmp_path / "page" / "runs.csv")
    assert [row["run"] for row in table] == ["evo", "plain0", "plain1"] and table[2]["iou/sky"] == "0.52"


def test_times_never_show_sixty_seconds(tmp_path):
    page = report.page_of(compare([make_run(tmp_path / "r", epochs=2, seconds=59.85)]), [], [], False)
    assert page.count(">2 min 00 s<") == 2 and "60 s" not in page


def test_runs_that_were_validated_once_have_no_curve_of_their_score(tmp_path):
    once, twice = make_run(tmp_path / "once"), make_run(tmp_path / "twice", "--norm", "evo", iou=0.7)
    header, first, second = (once / "log_epoch.csv").read_text().splitlines()
    (once / "log_epoch.csv").write_text("\n".join([header, first.replace("0.2500", ""), second]) + "\n")
    page = report.page_of(compare([once]), [], [], False)
    assert "No group was validated twice" in page and "Validation mIoU" not in page and page.count("<path") == 1
    page = report.page_of(compare([once, twice]), [], [], False)
    score, loss = page.split("Validation mIoU")[1].split("Training loss")
    assert score.count("<path") == 2 and score.count('<path class="dot"') == 1 and loss.count("<path") == 2


def test_names_of_classes_and_runs_cannot_break_the_page(in_process, tmp_path):
    run = make_run(tmp_path / "<b>run", iou={"<script>alert(1)</script>": 0.5, '"x" onclick="y': 0.4})
    in_process("seg_runs.report", run, make_run(tmp_path / "b", "--norm", "evo"), "--out", "page")
    page = (tmp_path / "page" / "index.html").read_text()
    assert "<script>alert" not in page and "<b>run" not in page and 'onclick="y' not in page


def test_it_overwrites_only_what_it_wrote(in_process, tmp_path, capsys):
    run, out = make_run(tmp_path / "r"), tmp_path / "page"
    in_process("seg_runs.report", run, "--out", out)
    in_process("seg_runs.report", run, "--out", out)
    for name in ("index.html", "runs.csv", "groups.csv"):
        before = (out / name).read_bytes()
        (out / name).write_text("mine\n")
        with pytest.raises(SystemExit):
            in_process("seg_runs.report", run, "--out", out)
        assert f"{name} exists and was not written by this program" in capsys.readouterr().err
        assert (out / name).read_text() == "mine\n"
        (out / name).write_bytes(before)
    with pytest.raises(SystemExit):
        in_process("seg_runs.report", run, "--out", run / "args.yaml")
    assert "args.yaml is not a folder" in capsys.readouterr().err


def test_runs_on_other_images_have_no_gain(in_process, tmp_path, capsys):
    runs = seeds(tmp_path, "a", (0.5, 0.51)) + seeds(tmp_path, "b", (0.7, 0.9), "--dataset", "toycity")
    noise = compare(runs, runs[0]).fits[None]
    assert noise.freedom == 1 and noise.deviation == pytest.approx(0.01 / math.sqrt(2))  # not that of ToyCity
    columns = ("--dataset", "hub", "--dataset_name", "streets", "--label_column")
    assert make_run(tmp_path / "c", *columns, "coarse") and make_run(tmp_path / "d", *columns, "fine")
    coarse = compare([tmp_path / "c", tmp_path / "d"])
    assert len(coarse.groups) == 2 and len(coarse.comparable) == 1  # the masks are others
    in_process("seg_runs.report", *runs, "--out", "page")
    assert "note: 1 of 2 groups is scored on other images or classes" in capsys.readouterr().out
    page = (tmp_path / "page" / "index.html").read_text()
    assert "other images or classes</small>" in page and "Highest:" not in page
    assert [row["gain"] for row in read_csv(tmp_path / "page" / "groups.csv")].count("") == 1


def test_groups_of_other_folds_compare_by_their_gains(in_process, tmp_path, capsys):
    folds = ["--folds", "f.json", "--fold"]
    runs = [make_run(tmp_path / f"a{i}", *folds, str(i), iou=0.5 + i / 10) for i in range(3)]
    runs += [make_run(tmp_path / f"b{i}", *folds, str(i), "--norm", "evo", iou=0.53 + i / 10) for i in range(2)]
    in_process("seg_runs.report", *runs, "--out", "page")
    assert "note: Not all groups have the same folds" in capsys.readouterr().out
    best, evo = read_csv(tmp_path / "page" / "groups.csv")
    assert (best["group"], evo["mean_iou"], evo["gain"]) == ("baseline", "0.58", "0.03")


def test_pictures_of_data_that_may_not_be_shown_are_mentioned(in_process, tmp_path, capsys):
    run = make_run(tmp_path / "a", "--dataset", "minicity")
    in_process("seg_runs.report", run, "--out", "page")
    assert "MiniCity:" not in capsys.readouterr().out  # the run has drawn no picture
    (run / "images").mkdir()
    sheet_of(0)[0].save(run / "images" / "epoch_0002.png")
    in_process("seg_runs.report", run, "--out", "page")
    assert "pictures of MiniCity: show it only where these may be shown" in capsys.readouterr().out
    in_process("seg_runs.report", run, "--out", "page", "--no_pictures")
    assert "MiniCity:" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--dataset", "hub", "--dataset_name", "gated/streets"), "gated/streets"),  # its owner is another
        (("--eval_dataset", "minicity", "./minicity"), "MiniCity"),  # the pictures are of what is scored
        (("--dataset", "minicity", "--eval_dataset", "camvid", "./camvid"), None),
        (("--dataset", "folder", "--dataset_path", "mine"), None),  # whoever writes the page is the owner
    ],
)
def test_whose_pictures_may_be_shown(tmp_path, flags, named):
    found = report.warnings_of(compare([make_run(tmp_path / "a", *flags)]), pictures=True)
    assert [text.split(":")[0] for text in found] == ([f"This page holds pictures of {named}"] if named else [])


def test_the_page_of_many_groups_names_the_best(in_process, tmp_path):
    first, runs = make_run(tmp_path / "r0", "--learning_rate", "0.001", iou=0.3), []
    picture = sheet_of(0)[0]
    for i in range(1, 31):
        run = shutil.copytree(first, tmp_path / f"r{i}")
        for name, old, new in (
            ("args.yaml", "learning_rate: 0.001", f"learning_rate: 0.{i:03d}5"),
            ("best/training.json", "0.3", f"0.3{i:02d}"),
        ):
            (run / name).write_text((run / name).read_text().replace(old, new))
        (run / "images").mkdir()
        picture.save(run / "images" / "epoch_0002.png")
        runs.append(run)
    in_process("seg_runs.report", *runs, "--out", "page", "--baseline", runs[0])
    groups = [row["group"] for row in read_csv(tmp_path / "page" / "groups.csv")]
    assert len(groups) == 30 and (groups[0], groups[-1]) == ("learning_rate 0.0305", "baseline")
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count("<figure") == 2 + 24 and "without 6 others" in page
    named = re.findall(r'class="end (\w+)"', page.split("Validation mIoU")[1].split("Training loss")[0])
    assert sorted(named) == ["base", *(f"k{i}" for i in range(8))]  # the grey ones would not fit


# charts


def test_axes_have_round_ticks_inside():
    axis = Axis.over([53.9, 62.3], 7)
    assert axis.ticks == (54, 56, 58, 60, 62) and 0 < axis.place(53.9) < axis.place(62.3) < 100
    assert Axis.over([5, 5]).low < 5 < Axis.over([5, 5]).high
    assert Axis.over([31.2, 31.4], least=2).ticks == (30.5, 31, 31.5, 32)
    for values in ([4.93, 107.8], [4.9, 9.5], [5.0, 5.1], [0.02, 900]):
        log = Axis.logarithmic(values)
        assert len(log.ticks) >= 1 and all(log.low <= tick <= log.high for tick in log.ticks)
        assert 0 < log.place(values[0]) < log.place(values[1]) < 100


def test_names_beside_a_chart_keep_their_distance():
    places = spread({0: 50, 1: 50.5, 2: 99, 3: 51, 4: 10}, 5)
    order = sorted(places.values())
    assert min(np.diff(order)) >= 5 - 1e-9 and places[4] == 10 and 0 <= order[0] and order[-1] <= 100
    assert places[0] < places[1] < places[3]


# pictures


def sheet_of(seed, wrong=0):
    """Return (validation picture, photo, truth, prediction). The first `wrong` rows of the prediction are wrong."""
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
    truth = np.zeros((24, 32, 3), np.uint8)  # black is ignored
    truth[4:] = COLORS["sky"]
    prediction = np.full((24, 32, 3), COLORS["sky"], np.uint8)
    prediction[4 : 4 + wrong] = COLORS["building"]
    rows = [(photo, truth, prediction)]
    return draw_comparison(rows, ("image", "truth", "prediction"), COLORS, 480), rows[0]


def test_panels_are_the_inverse_of_a_comparison():
    rng = np.random.default_rng(0)
    rows = [tuple(rng.integers(0, 255, (3, height, 48, 3), dtype=np.uint8)) for height in (30, 60)]
    sheet = draw_comparison(rows, ("one", "two", "three"), COLORS, width=48)
    found = panels(sheet, 3)
    assert [panel.shape for row in found for panel in row] == [(30, 48, 3)] * 3 + [(60, 48, 3)] * 3
    assert all(map(np.array_equal, [p for row in rows for p in row], [p for row in found for p in row]))
    assert panels(Image.new("RGB", (640, 480)), 3) == []  # three panels do not fit in this width
    assert panels(Image.new("RGB", (3 * 54 + 6, 20)), 3) == []


def test_groups_are_shown_on_the_same_photo(in_process, tmp_path):
    wrong = {"plain": 0, "evo": 10, "group": 20, "other": 0, "bare": None, "damaged": None}
    runs = []
    for i, (name, rows) in enumerate(wrong.items()):
        run = make_run(tmp_path / name, "--learning_rate", str(0.001 * (i + 1)), iou=0.9 - i / 10)
        (run / "images").mkdir()
        if rows is not None:
            write_picture(run / "images" / "epoch_0002.png", sheet_of(name == "other", rows)[0])
        runs.append(run)
    (tmp_path / "damaged" / "images" / "epoch_0002.png").write_bytes(b"\x89PNG")
    found = compare(runs, tmp_path / "plain")
    (photo,) = photos_of(found, range(len(found.groups)), COLORS)
    shares = {found.groups[p.group].runs[0].folder.name: p.share for p in photo.predictions}
    assert shares == {"plain": 1.0, "evo": 0.5, "group": 0.0}
    in_process("seg_runs.report", *runs, "--out", "page", "--baseline", tmp_path / "plain")
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count("<figure") == 2 + 3 and page.count("data:image/webp") == 2 + 2 * 3
    in_process("seg_runs.report", *runs, "--out", "page", "--no_pictures")
    assert "<figure" not in (tmp_path / "page" / "index.html").read_text()


@pytest.mark.parametrize("width, scheme", [(390, "dark"), (1280, "light")])
def test_the_page_in_a_browser(in_process, width, scheme, tmp_path):
    iou = {"a class with a name so long that it fits into no column": 0.5, "building": 0.4}
    rules = ["--copyblob", "bank", "--copyblob_rules", *(f"class{i}:class{i + 1}" for i in range(9))]
    runs = seeds(tmp_path, "plain", (iou, iou | {"building": 0.42}))
    runs += [make_run(tmp_path / "rules", *rules, iou=iou | {"building": 0.9})]
    for run in runs:
        (run / "images").mkdir()
        write_picture(run / "images" / "epoch_0002.png", sheet_of(0, 5)[0])
    in_process("seg_runs.report", *runs, "--out", "page")

    def look(page):
        assert page.evaluate("document.documentElement.scrollWidth") == width  # nothing sticks out
        page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        cell = page.locator(".wide tbody tr").first.locator("td").last  # building: 90 instead of 41
        assert cell.inner_text() == "90.0"
        page.check("#change")
        assert cell.inner_text() == "+49.0"
        page.check("#errors")
        assert float(page.evaluate("getComputedStyle(document.querySelector('.stack img + img')).opacity")) > 0.9
        page.locator(".ranking tbody tr").last.click()
        on = page.evaluate("[...document.querySelectorAll('.on')].map(element => element.dataset.g)")
        assert len(on) > 5 and set(on) == {"1"}
        page.keyboard.press("Escape")
        assert page.evaluate("document.querySelectorAll('.on').length") == 0
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", color)[:3])) / 3

    brightness = browse(tmp_path / "page" / "index.html", width, scheme, look)
    assert brightness < 60 if scheme == "dark" else brightness > 200


# real runs


def test_it_reads_what_training_writes(in_process, toycity, tmp_path, capsys):
    flags = "--dataset toycity --crop_size 32 64 --batch_size 2 --num_workers 0 --report_to none --epochs 1".split()
    flags += ["--dataset_path", toycity]
    for model in ("streetnet", "unet"):
        in_process("train_seg", *flags, "--model", model, "--output_dir", model)
    capsys.readouterr()
    in_process("seg_runs.report", "streetnet", "unet", "--out", "page")
    said = capsys.readouterr().out
    assert "baseline; 1 run; seed 0" in said and "; 1 run; seed 0" in said
    page = (tmp_path / "page" / "index.html").read_text()
    assert "ToyCity" in page and page.count("<figure") == 3 * (2 + 2) and "against operations" in page
    record = json.loads((tmp_path / "streetnet" / "best" / "training.json").read_text())
    assert record["operations"]["size"] == [96, 192] and record["operations"]["macs"] > 1e8
    assert record["peak_memory"] > 1e8
