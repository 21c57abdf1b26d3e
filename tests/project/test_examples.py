"""The examples run as they are, and their README says what came out."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from command import Command, base_environment

EXAMPLES = Path(__file__).parents[2] / "examples"
TORCH_PYTHON = "/usr/bin/python3"
FASHION = Path("/usr/share/datasets/fashion-mnist")
TOLD = (EXAMPLES / "README.md").read_text(encoding="utf-8")
_FEWER = {"batch-norm.yaml": ["--seeds", "2", "--set", "fixed.epochs=1"]}  # it takes minutes: here it only has to run
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def has_torch() -> bool:
    found = subprocess.run([TORCH_PYTHON, "-c", "import torch"], capture_output=True, check=False)
    return found.returncode == 0


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/*.yaml")), ids=lambda path: path.stem)
def test_an_example_gets_the_verdicts_that_are_told(path: Path, tmp_path: Path) -> None:
    if path.parent.name == "pytorch" and not has_torch():
        pytest.skip(f"{TORCH_PYTHON} has no torch: apt-get install python3-torch")
    if path.parent.name == "fashion" and not FASHION.is_dir():
        pytest.skip("no Fashion-MNIST: apt-get install dataset-fashion-mnist")
    folder = shutil.copytree(path.parent, tmp_path / path.parent.name)
    first = f"{Path(TORCH_PYTHON).parent}{os.pathsep}" if path.parent.name == "pytorch" else ""
    run = Command(folder, base_environment(PATH=f"{first}{os.environ['PATH']}"), timeout_s=900)
    fewer = _FEWER.get(path.name, [])
    done = run("sweep", path.name, "--jobs", "2", "--json", *fewer)
    assert done.code == 7, done.err  # there is no MLflow
    row = next(line for line in TOLD.splitlines() if f"`{path.name}`" in line)
    told = re.findall(r"\b(supported|refuted|equivalent|inconclusive)\b", row.rpartition("|")[0].rpartition("|")[2])
    assert fewer or [claim["verdict"] for claim in done.document["claims"]] == told
    assert done.document["trials"]["complete"] == done.document["trials"]["planned"]
    assert len(told) == len(yaml.safe_load(path.read_text())["claims"])
