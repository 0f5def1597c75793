"""The programs in benchmarks/ refuse wrong flags in one line."""

import runpy

import pytest
from conftest import ROOT


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("fewer_images.py nowhere out", "there is no folder nowhere"),
        ("fewer_images.py . out", "lacks"),
        ("fewer_images.py . out --fold V", "invalid choice: 'V'"),
        ("fewer_images.py . out --images 0", "0 is not a whole number of 1 or more"),
        ("speedrun.py --dataset_path . --out out --minutes nan", "nan is not a number above 0"),
        ("speedrun.py --dataset_path . --out out --minutes 1 --mixed_precision half", "invalid choice: 'half'"),
        ("official_scores.py --folder .", "there is no *_labelIds.png in gtFine/train"),
        ("scaling.py table --crop_size 0 64", "0 is not a whole number of 1 or more"),
        ("ablation.py a.yaml --dataset_path . --out out --jobs -1", "-1 is not a whole number of 1 or more"),
    ],
)
def test_a_wrong_flag_is_one_line(command, said, tmp_path, monkeypatch, capsys):
    script, *flags = command.split()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [script, *flags])
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # as `python benchmarks/...` does
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(ROOT / "benchmarks" / script), run_name="__main__")
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
