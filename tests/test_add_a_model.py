"""docs/add_a_model.md, followed word for word in a copy of the repository: its file and its lines make a model."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap

import pytest
from conftest import ROOT, rows_of

PAGE = (ROOT / "docs" / "add_a_model.md").read_text()
STEP = re.compile(r"^\*\*\d\. (.+?)\*\*, (.+?)(?=^\*\*\d\. |^## |\Z)", re.MULTILINE | re.DOTALL)
PACKAGES = ("data_scripts", "metrics", "seg_app", "seg_jobs", "seg_models", "seg_runs")
COPIED = (*PACKAGES, "tests", "setup.cfg", "pyproject.toml")


def code_blocks(text: str) -> list[str]:
    return [textwrap.dedent(block).strip() + "\n" for block in re.findall(r"(?:^(?:    .*)?\n)+", text, re.MULTILINE)]


def steps() -> list[tuple[str, str, str | None, str]]:
    """(title, path, table that the code goes into or None, code) of each numbered step."""
    found = []
    for title, text in STEP.findall(PAGE):
        table, path = re.match(r"(?:.*?`([A-Z]+)` of )?.*?`([\w/]+\.py)`", text, re.DOTALL).groups()
        found.append((title, path, table, next(block for block in code_blocks(text) if block.strip())))
    return found


def add_line(path, line: str, table: str | None) -> None:
    """Insert `line` as the first entry of `table` in a file, or, without a table, before the first relative import."""
    lines = path.read_text().splitlines(keepends=True)
    if table:
        opening = next(i for i, other in enumerate(lines) if re.match(rf"{table}\b.*= {{$", other))
        lines.insert(opening + 1, f"    {line}")
    else:
        lines.insert(next(i for i, other in enumerate(lines) if other.startswith("from .")), line)
    path.write_text("".join(lines))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The repository with the page's model."""
    folder = tmp_path_factory.mktemp("copy")
    for path in [*ROOT.glob("*.py"), *(ROOT / name for name in COPIED)]:
        if path.is_dir():
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, folder)
    for _, path, table, code in steps():
        if (folder / path).exists():
            assert code.count("\n") == 1
            add_line(folder / path, code, table)
        else:
            (folder / path).write_text(code)
    return folder


def run(copy, *words, **environment) -> str:
    """A command in the copy, whose modules come before the repository's."""
    command, environment = [sys.executable, *map(str, words)], {**os.environ, "PYTHONPATH": str(copy), **environment}
    result = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def test_a_decoder_is_one_file_and_three_lines():
    titles, paths, tables, _ = zip(*steps(), strict=True)
    assert titles == ("The file", "The import", "The name", "The tests", "The entry")
    assert not (ROOT / paths[0]).exists()  # else the page would show what is there already
    assert all((ROOT / path).is_file() for path in paths[1:])
    assert tables == (None, None, "DECODERS", "STRIDES", "MODELS")


def test_the_pages_code_passes_the_linter(copy):
    paths = sorted({path for _, path, *_ in steps()})
    run(copy, "-m", "ruff", "check", "--ignore", "I001", *paths)  # I001: the order of imports is left to `make style`
    run(copy, "-m", "ruff", "format", "--check", *paths)


@pytest.mark.slow
def test_the_new_model_passes_the_tests_of_every_architecture(copy):
    words = ["-m", "pytest", "-p", "no:cacheprovider", "tests/test_contract.py", "tests/test_norms.py"]
    out = run(copy, *words, "-k", "lraspp or every_kind")
    passed = int(re.search(r"(\d+) passed", out)[1])
    assert passed > 20 and "skipped" not in out


def test_the_new_model_trains_as_the_page_says(copy, toycity):
    (command,) = (block for block in code_blocks(PAGE) if block.startswith("accelerate launch"))
    _, _, script, *flags = shlex.split(command)
    data = ["--dataset", "toycity", "--dataset_path", toycity, "--num_workers", 0]
    small = ["--batch_size", 2, "--crop_size", 64, 64, "--max_train_steps", 1, "--output_dir", "run"]
    run(copy, script, *flags, *data, *small, ACCELERATE_USE_CPU="true")
    (row,) = rows_of(copy / "run")
    assert float(row["train_loss"]) > 0 and 0 <= float(row["mean_iou"]) <= 1
    best = copy / "run" / "best"
    assert json.loads((best / "config.json").read_text())["decoder"] == "lraspp"
    assert (best / "lraspp.py").read_text() == (copy / "seg_models" / "lraspp.py").read_text()  # its code travels
