"""The README's commands, run as they stand there, and its numbers, which come from the recorded run."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mnist_ablate.sweep import sweep_file

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("readme")
    example = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0]
    (made / "dropout.yaml").write_text(example)
    rows = [f"{d},{seed},{0.9 + d / 100 + seed / 1000}" for d in (0.0, 0.5) for seed in range(6)]
    (made / "table.csv").write_text("\n".join(["dropout,seed,test_accuracy", *rows]))
    return made


def test_example_sweep_loads(folder):
    assert sweep_file.load(str(folder / "dropout.yaml")).claims[0].direction == "higher"


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_command_of_the_readme_works(folder, command):
    name, *arguments = shlex.split(command)
    assert name == "mnist-ablate"
    program = Path(sys.executable).with_name(name)
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    for noise in ("tensorflow", "XLA", "absl", "oneDNN", "WARNING"):
        assert noise not in done.stderr


def test_verdict_table_has_every_claim_of_the_sweep():
    table = README.split("| claim | verdict |")[1].split("\n\n")[0]
    rows = [line for line in table.splitlines()[2:] if line.startswith("|")]
    assert len(rows) == len(sweep_file.load("normalization").claims)


def test_makefile_targets_named_in_the_readme_exist():
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_documented_exit_codes_are_those_of_the_errors():
    from mnist_ablate import errors

    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type)}
    assert codes == {1, 2, 3, 4, 5, 6}


def test_yaml_examples_are_strict_yaml_for_other_readers_too():
    for example in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL):
        assert yaml.safe_load(example)["seeds"] == 6
