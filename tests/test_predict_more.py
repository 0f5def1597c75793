"""predict_seg.py: what --save writes, windows, ensembles, the CRF, and calibration."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

from data_scripts.catalog import named_dataset, source_of
from seg_app.facts import facts_of
from seg_jobs import prediction_pictures
from seg_jobs.calibration import fit_and_store
from seg_jobs.prediction_job import Trained, newest_change, state_of, turns_photos
from seg_jobs.trained_model import label_set, load_model
from seg_models.calibration import at_temperature, confidence, entropy, fit_temperature, negative_log_likelihood
from seg_models.models import build_model
from seg_models.predictor import Predictor
from seg_runs.errors import RunError
from seg_runs.predictions import _shares
from seg_runs.temperatures import read_temperatures, store_temperature, stored_temperature


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two saved networks for ToyCity, in a/ and b/."""
    folder = tmp_path_factory.mktemp("models")
    names = dict(enumerate(source_of("toycity").labels.names))
    for name, kind in (("a", "streetnet"), ("b", "unet_resnet18")):
        torch.manual_seed(0)
        model = build_model(kind, "evo", names, "toycity").eval()
        torch.nn.init.normal_(model.classifier.classifier.weight)  # else the predictions are nearly uniform
        model.save_pretrained(folder / name)
        Predictor(model, [0.5] * 3, [0.25] * 3).image_processor().save_pretrained(folder / name)
    return folder


@pytest.fixture
def predict(models, toycity, in_process, tmp_path):
    """`predict(...)` predicts the validation images with model a into the working directory."""

    def run(*flags, names="a"):
        where = ["--model_name_or_path", *(models / name for name in names), "--output_dir", tmp_path]
        in_process("predict_seg", *where, "--dataset_path", toycity, "--num_workers", 0, "--splits", "val", *flags)
        return tmp_path

    return run


def pictures(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


def test_what_save_names_is_written_and_nothing_else(predict, toycity):
    kinds = ["color", "overlay", "train_ids", "confidence", "entropy", "shares", "legend"]
    output = predict("--save", *kinds)
    written = {"results_val", *(f"results_{kind}_val" for kind in kinds[:5])}
    written |= {"shares_val.json", "legend_val.png", "scores_val.json"}
    assert {path.name for path in output.iterdir()} == written
    found = {kind: pictures(output / f"results_{kind}_val") for kind in kinds[:5]} | {
        "ids": pictures(output / "results_val")
    }
    photos = sorted((toycity / "leftImg8bit" / "val").rglob("*.png"))
    shares = json.loads((output / "shares_val.json").read_text())
    assert len(photos) == len(found["ids"]) == len(shares["images"]) > 1
    for (name, color), photo in zip(found["color"].items(), photos, strict=True):
        photo = np.asarray(Image.open(photo).convert("RGB")).astype(float)
        assert np.abs((photo + color) / 2 - found["overlay"][name]).max() <= 0.5
        train_ids, certain, undecided = (found[kind][name] for kind in ("train_ids", "confidence", "entropy"))
        assert train_ids.max() < 19 and certain.min() >= 255 // 19
        assert np.corrcoef(certain.ravel(), undecided.ravel())[0, 1] < -0.5
        of_image = shares["images"][name.removesuffix(".png")]
        assert sum(of_image.values()) == pytest.approx(1)
        assert sorted(of_image.values()) == pytest.approx(
            sorted(np.bincount(train_ids.ravel())[np.unique(train_ids)] / train_ids.size)
        )
    assert sum(shares["all images"].values()) == pytest.approx(1)
    assert Image.open(output / "legend_val.png").size[0] > 100


def test_confidence_and_entropy_do_not_depend_on_the_rows_at_a_time(predict, monkeypatch):
    monkeypatch.setattr(prediction_pictures, "ROWS", 1000)
    output = predict("--save", "confidence", "entropy")
    whole = [pictures(output / f"results_{kind}_val") for kind in ("confidence", "entropy")]
    monkeypatch.setattr(prediction_pictures, "ROWS", 7)
    output = predict("--save", "confidence", "entropy", "--output_dir", output / "parts")
    for kind, expected in zip(("confidence", "entropy"), whole, strict=True):
        found = pictures(output / "parts" / f"results_{kind}_val")
        assert all(np.array_equal(expected[name], found[name]) for name in expected) and len(expected) == len(found)


def test_a_prediction_goes_on_if_one_of_its_pictures_is_missing(predict, models):
    output = predict("--save", "confidence")
    expected = pictures(output / "results_confidence_val")
    shutil.copytree(output, output / "before")
    (output / "results_confidence_val" / min(expected)).unlink()
    predict("--save", "confidence")
    assert all(
        np.array_equal(expected[name], found) for name, found in pictures(output / "results_confidence_val").items()
    )
    assert not (output / "results_color_val").exists()


def test_a_window_that_cuts_nothing_gets_a_note(predict, capsys):
    predict("--test_size", 64, 128, "--window", 64, 128)
    assert "note: --window 64 128 cuts nothing" in capsys.readouterr().out
    predict("--test_size", 64, 192, "--window", 64, 128)
    assert "cuts nothing" not in capsys.readouterr().out


def test_an_upright_photo_is_seen_at_the_turned_size(models, in_process, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(models / "a", model)
    processor = SegformerImageProcessor(size={"height": 64, "width": 128}, image_mean=[0.5] * 3, image_std=[0.25] * 3)
    processor.save_pretrained(model)
    (tmp_path / "photos").mkdir()
    noise = Image.effect_noise((200, 200), 90).convert("RGB")
    for name, size in (("upright", (90, 150)), ("wide", (150, 90)), ("square", (100, 100))):
        noise.resize(size).save(tmp_path / "photos" / f"{name}.png")

    def predict(output, *flags):
        where = ("--model_name_or_path", model, "--input", tmp_path / "photos", "--output_dir", tmp_path / output)
        in_process("predict_seg", *where, "--num_workers", 0, *flags)
        return pictures(tmp_path / output / "results_photos")

    found = predict("found")
    wide, upright = predict("64x128", "--test_size", 64, 128), predict("128x64", "--test_size", 128, 64)
    assert not np.array_equal(wide["upright.png"], upright["upright.png"])
    for name, expected in (("upright", upright), ("wide", wide), ("square", wide)):
        assert np.array_equal(found[f"{name}.png"], expected[f"{name}.png"])


SQUEEZED = {"train_size": [9, 9]}


@pytest.mark.parametrize("arguments, config, turned", [({}, {}, True), (SQUEEZED, {}, False), ({}, SQUEEZED, False)])
def test_models_that_trained_on_squeezed_images_see_photos_so(arguments, config, turned):
    """A copy of best/ has no args.yaml beside it: config.json says it too."""
    model = SimpleNamespace(config=SimpleNamespace(**config))
    assert turns_photos(Trained(None, None, model, None, arguments)) == turned


def test_windows_crf_and_ensembles_are_recorded_and_change_the_prediction(predict, models):
    plain = pictures(predict() / "results_val")
    for flags, names, key in (
        (["--window", 64, 96], "a", "window"),
        (["--crf"], "a", "crf"),
        ([], "ab", None),
    ):
        output = predict(*flags, names=names)
        settings = json.loads((output / "scores_val.json").read_text())["settings"]
        assert key is None or settings[key] == (flags[1:] or True)
        assert len(settings["model"]) == 2 and isinstance(settings["model"][0], list) == (names == "ab")
        other = pictures(output / "results_val")
        assert other.keys() == plain.keys() and any(not np.array_equal(other[name], plain[name]) for name in plain)


def test_an_ensemble_of_a_model_and_itself_is_the_model(predict):
    alone = pictures(predict() / "results_val")
    twice = pictures(predict(names="aa") / "results_val")
    assert all(np.mean(alone[name] == twice[name]) > 0.999 for name in alone)


def test_the_predictions_of_an_ensemble_go_to_a_folder_of_their_own(models, toycity, in_process, tmp_path):
    names = models / "a", models / "b"
    in_process("predict_seg", "--model_name_or_path", *names, "--dataset_path", toycity, "--splits", "val")
    assert (tmp_path / "predictions" / "a+b" / "scores_val.json").is_file()


def test_calibration_is_stored_and_used(predict, models, capsys):
    best = models / "a"
    output = predict("--save", "confidence")
    before = pictures(output / "results_confidence_val"), pictures(output / "results_val")
    output = predict("--save", "confidence", "--calibrate")
    said = capsys.readouterr().out
    (entry,) = json.loads((best / "calibration.json").read_text())["temperatures"]
    assert f"temperature {entry['temperature']:.3f}" in said and entry["temperature"] != 1
    assert entry["log_loss"][1] < entry["log_loss"][0]
    after = pictures(output / "results_confidence_val"), pictures(output / "results_val")
    assert all(np.array_equal(before[1][name], after[1][name]) for name in before[1])
    assert any(not np.array_equal(before[0][name], after[0][name]) for name in before[0])
    predict("--calibrate", "--scales", 0.5, 1)
    predict("--calibrate")
    entries = json.loads((best / "calibration.json").read_text())["temperatures"]
    assert sorted(tuple(entry["settings"]["scales"]) for entry in entries) == [(0.5, 1.0), (1.0,)]
    assert [other["temperature"] for other in entries if other["settings"]["scales"] == [1.0]] == [entry["temperature"]]
    (best / "calibration.json").write_text('{"temperatures": [{"temperature": -1, "settings": {}}]}')
    with pytest.raises(SystemExit):
        predict("--save", "confidence")
    assert "calibration.json is damaged: delete it" in capsys.readouterr().err
    (best / "calibration.json").unlink()


def test_what_is_measured_is_not_stored_beside_weights_that_changed_meanwhile(predict, models, capsys, monkeypatch):
    import predict_seg

    newer, split = models / "a" / "config.json", predict_seg.predict_split

    def train_meanwhile(*args):
        os.utime(newer, (2e9, 2e9))  # as if a training had replaced best/
        return split(*args)

    monkeypatch.setattr(predict_seg, "predict_split", train_meanwhile)
    output = predict()
    said = capsys.readouterr().out
    assert "scores_val.json lacks them" in said and "mIoU 0." in said and not (output / "scores_val.json").exists()
    os.utime(newer)
    job = SimpleNamespace(models=[SimpleNamespace(folder=models / "a")], settings={"model": ["elsewhere", 0]})
    with pytest.raises(RunError, match="--calibrate: the weights in .* changed meanwhile"):
        fit_and_store(job, [(np.tile(np.float32([[0.8, 0.2]]), (9, 1)), np.zeros(9, int))])
    assert not (models / "a" / "calibration.json").exists()


@pytest.mark.parametrize(
    ("flags", "names", "said"),
    [
        (["--calibrate"], "ab", "--calibrate fits the temperature of one model"),
        (["--calibrate", "--splits", "test"], "a", "--calibrate needs validation images"),
        (["--save", "colour"], "a", "--save colour"),
        (["--window", 32, 64], "a", "--window 32 64 is too small: give 64 pixels a side or more"),
        (["--window_overlap", 0.3], "a", "--window_overlap needs --window"),
        (["--window", 64, 64, "--window_overlap", 0.9], "a", "--window_overlap 0.9 is out of range"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(predict, capsys, flags, names, said):
    with pytest.raises(SystemExit):
        predict(*flags, names=names)
    assert f"error: {said}" in capsys.readouterr().err


def test_changed_weights_of_any_format_are_other_settings(tmp_path):
    for name in ("config.json", "pytorch_model.bin", "model.safetensors"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (100, 100))
    for time, name in enumerate(("pytorch_model.bin", "model.safetensors"), start=200):
        os.utime(tmp_path / name, (time, time))
        assert newest_change(tmp_path) == time


def test_models_of_other_classes_are_no_ensemble(predict, models, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(models / "b", other)
    config = json.loads((other / "config.json").read_text())
    config["id2label"] = config["id2label"] | {"0": "street"}
    config["label2id"] = {name: int(number) for number, name in config["id2label"].items()}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(SystemExit):
        predict(names=["a", other])
    assert "those of model 2 differ from the first one's in road, street" in capsys.readouterr().err


# models of other projects


def test_shares_of_classes_of_one_name_are_added():
    assert _shares(["screen", "wall", "screen"], np.array([1, 1, 2])) == {"screen": 0.75, "wall": 0.25}


def test_more_classes_than_a_byte_counts_are_refused(tmp_path):
    build_model("streetnet", "batch", {i: f"c{i}" for i in range(257)}).save_pretrained(tmp_path)
    with pytest.raises(RunError, match="it has 257 classes, and at most 256 are possible"):
        load_model(tmp_path)


FACE = ["skin", "nose", *(f"part {number}" for number in range(17))]  # as many classes as MiniCity


def save_foreign(folder, names, **processor):
    """Save a small native SegFormer whose configuration names no data set. Returns its folder."""
    torch.manual_seed(0)
    classes = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    sizes = {"depths": [1] * 4, "hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2]}
    config = SegformerConfig(**sizes, **classes, decoder_hidden_size=8)
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(do_resize=False, **processor).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("names", [FACE, FACE[:4], ["LABEL_0", "LABEL_1"]])
def test_a_model_of_other_classes_keeps_their_names(in_process, tmp_path, names):
    model = save_foreign(tmp_path / "face", names)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(tmp_path / "me.png")
    flags = ["--model_name_or_path", model, "--input", "me.png", "--output_dir", tmp_path, "--save", "shares"]
    in_process("predict_seg", *flags, "--num_workers", 0)
    shares = json.loads((tmp_path / "shares_me.json").read_text())["all images"]
    assert shares and {*shares} <= {*names}
    assert facts_of(str(model)).examples == []
    assert {*np.unique(Image.open(tmp_path / "results_me" / "me.png"))} <= {*range(len(names))}


def test_classes_of_the_catalogue_and_generic_ones_mean_a_data_set(tmp_path):
    streets, generic = source_of("minicity").labels, [f"LABEL_{i}" for i in range(19)]
    assert named_dataset("camvid", ["LABEL_0", "LABEL_1"]) is None and named_dataset("minicity", generic) == "minicity"
    cases = {"minicity": streets.names, "camvid": source_of("camvid").labels.names}
    for number, (dataset, names) in enumerate([*cases.items(), ("minicity", generic), (None, FACE)]):
        folder = save_foreign(tmp_path / str(number), names)
        found, labels = label_set(load_model(folder)[0], folder, None)
        assert found == dataset
        assert labels.names == tuple(names) if dataset is None else labels == source_of(dataset).labels


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--dataset", "kitti", "--input", "me.png"], "predicts other classes than --dataset kitti: skin, nose"),
        ([], "the model names no data set: give --dataset_path or --dataset_name, or predict photos with --input"),
    ],
)
def test_other_classes_than_those_of_the_data_set_are_refused(in_process, tmp_path, capsys, flags, said):
    model = save_foreign(tmp_path / "face", FACE)
    with pytest.raises(SystemExit):
        in_process("predict_seg", "--model_name_or_path", model, "--output_dir", tmp_path, *flags)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [{"do_normalize": False}, {"do_rescale": False}, {"rescale_factor": 1 / 127.5}])
def test_a_model_that_takes_other_pixels_is_refused(tmp_path, wrong):
    folder = save_foreign(tmp_path / "other", FACE, **wrong)
    with pytest.raises(RunError, match=f"preprocessor_config.json: {min(wrong)} is .*, and must be"):
        load_model(folder)


# temperature, confidence, entropy


def test_the_temperature_that_made_the_labels_is_found():
    torch.manual_seed(0)
    scores = 3 * torch.randn(20_000, 5)
    labels = torch.multinomial((scores / 2).softmax(1), 1)[:, 0]
    probabilities = scores.softmax(1)
    temperature = fit_temperature(probabilities, labels)
    assert temperature == pytest.approx(2, rel=0.05)
    losses = [negative_log_likelihood(probabilities, labels, t) for t in (temperature, 1.9, 2.1, 1.0)]
    assert losses[0] == min(losses)
    torch.testing.assert_close(at_temperature(probabilities.t(), 2.0), (scores / 2).softmax(1).t())


@pytest.mark.parametrize(
    ("labels", "why"),
    [([0] * 9, "right at nearly every pixel"), ([1] * 9, "no more than chance"), ([0] * 6 + [1] * 3, "")],
)
def test_a_temperature_at_the_end_of_its_range_is_noted(labels, why, tmp_path):
    probabilities = np.tile(np.float32([[0.8, 0.2]]), (9, 1))
    (tmp_path / "config.json").write_text("{}")
    models = [SimpleNamespace(folder=tmp_path)]
    job = SimpleNamespace(models=models, settings={"model": state_of(models)})
    line = fit_and_store(job, [(probabilities, np.array(labels))])
    assert line.startswith("temperature ") and why in line
    assert ("note: the temperature is at the end of its range (0.05 to 20)" in line) == bool(why)


def test_a_temperature_is_found_whatever_the_order_of_the_scales(tmp_path):
    store_temperature(tmp_path, {"scales": (1.0, 0.5), "flip": True}, {"temperature": 2.0})
    assert stored_temperature(tmp_path, {"scales": (0.5, 1.0), "flip": True}) == 2.0
    assert stored_temperature(tmp_path, {"scales": (0.5, 1.0), "flip": False}) is None
    older = {"settings": {"scales": [1.0, 0.5], "flip": True}, "temperature": 2.0}  # not sorted
    (tmp_path / "calibration.json").write_text(json.dumps({"temperatures": [older]}))
    assert stored_temperature(tmp_path, {"scales": (0.5, 1.0), "flip": True}) == 2.0
    store_temperature(tmp_path, {"scales": (0.5, 1.0), "flip": True}, {"temperature": 3.0})
    assert [entry["temperature"] for entry in read_temperatures(tmp_path)] == [3.0]


def test_confidence_and_entropy_of_known_probabilities():
    probabilities = torch.tensor([[[0.25, 1.0, 0.5]], [[0.25, 0.0, 0.5]], [[0.25, 0.0, 0.0]], [[0.25, 0.0, 0.0]]])
    assert confidence(probabilities).tolist() == [[0.25, 1.0, 0.5]]
    torch.testing.assert_close(entropy(probabilities), torch.tensor([[1.0, 0.0, 0.5]]))
