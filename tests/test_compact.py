"""A copy in half precision has half the size and the same predictions, and keeps what float16 cannot hold."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from seg_jobs.trained_model import load_model
from seg_models.models import build_model
from seg_models.predictor import Predictor, normalize
from seg_runs.compact import compact
from seg_runs.errors import RunError


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A StreetNet with two running statistics that float16 cannot hold."""
    torch.manual_seed(0)
    model = build_model("streetnet", "batch", {i: f"class {i}" for i in range(11)}, "camvid")
    variances = [layer.running_var for layer in model.modules() if hasattr(layer, "running_var")]
    variances[0][0], variances[1][0] = 1e5, 1e-9
    folder = tmp_path_factory.mktemp("run") / "best"
    model.save_pretrained(folder)
    Predictor(model, [0.5] * 3, [0.25] * 3).image_processor().save_pretrained(folder)
    (folder / "README.md").write_text("the card")
    return folder


def test_the_copy_is_half_the_size_and_predicts_the_same(saved, tmp_path):
    said = compact(saved.parent, tmp_path / "copy")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (saved, tmp_path / "copy")]
    assert sizes[1] < 0.51 * sizes[0] and "2 tensors stay in float32" in said
    files = {path.name for path in (tmp_path / "copy").iterdir()}
    assert files == {*(path.name for path in saved.iterdir()), "checksums.json"}
    assert json.loads((tmp_path / "copy" / "config.json").read_text())["dtype"] == "float32"
    (one, _), (two, _) = load_model(saved), load_model(tmp_path / "copy")
    assert all(p.dtype == torch.float32 for p in two.parameters())
    pixels = normalize(torch.randint(0, 256, (1, 3, 65, 97)), [0.5] * 3, [0.25] * 3)
    with torch.no_grad():
        first, second = (model.eval()(pixels).logits for model in (one, two))
    torch.testing.assert_close(first, second, rtol=1e-2, atol=1e-2 * float(first.std()))


def test_predictions_beside_the_model_are_not_copied(saved, tmp_path):
    model = shutil.copytree(saved, tmp_path / "model")
    for name in ("results_color_photos/secret.png", "scores_val.json", ".predicting_val.json"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("{}")
    compact(model, tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {
        *(path.name for path in saved.iterdir()),
        "checksums.json",
    }
    with pytest.raises(RunError, match="lies in the model's own folder"):
        compact(model, model / "half")


def test_what_float16_cannot_hold_stays_as_it_is(saved, tmp_path):
    compact(saved, tmp_path / "copy")
    before, after = (load_file(folder / "model.safetensors") for folder in (saved, tmp_path / "copy"))
    kept = {name for name, tensor in after.items() if tensor.dtype == torch.float32}
    assert len(kept) == 2 and all(torch.equal(before[name], after[name]) for name in kept)
    assert after.keys() == before.keys()
    assert all(after[name].isfinite().all() for name in after)


def test_what_cannot_be_copied_is_one_line(saved, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(RunError, match="exists already"):
        compact(saved, tmp_path / "there")
    with pytest.raises(RunError, match="neither a run folder"):
        compact(tmp_path / "there", tmp_path / "copy")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    (broken / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(RunError, match="cannot read the model"):
        compact(broken, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
