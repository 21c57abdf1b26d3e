"""The README's commands, run as they stand there, and its numbers, which come from the recorded run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mnist_ablate.sweep import sweep_file

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = [ROOT / "docs" / "guides" / f"{name}.md" for name in ("everyday-commands", "judge-a-table")]
MOST_LINES = 120


def console(text: str) -> list[str]:
    return [
        line.removeprefix("$ ")
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]


COMMANDS = [*console(README), *(line for guide in GUIDES for line in console(guide.read_text(encoding="utf-8")))]
"""In the order in which somebody reads them; later ones need what earlier ones recorded."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("readme")
    example = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0]
    (made / "dropout.yaml").write_text(example)
    (made / "table.csv").write_text(re.findall(r"```csv\n(.*?)```", GUIDES[1].read_text(), re.DOTALL)[0])
    return made


def test_the_readme_is_a_front_page():
    assert len(README.splitlines()) <= MOST_LINES


def test_example_sweep_loads(folder):
    assert sweep_file.load(str(folder / "dropout.yaml")).claims[0].direction == "higher"


@pytest.mark.slow
@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_command_of_the_readme_works(folder, command):
    name, *arguments = shlex.split(command)
    assert name == "mnist-ablate"
    program = Path(sys.executable).with_name(name)
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    for noise in ("tensorflow", "XLA", "absl", "oneDNN", "WARNING"):
        assert noise not in done.stderr


def test_the_commands_that_people_need_are_among_those_that_run():
    ran = {shlex.split(command)[1] for command in COMMANDS}
    assert ran >= {"list", "plan", "sweep", "report", "verify", "sync", "judge"}
    for suffix in (".json", ".html", ".zip"):
        assert any("--output" in command and suffix in command for command in COMMANDS)


def test_verdict_table_has_every_claim_of_the_sweep():
    table = README.split("| claim | verdict |")[1].split("\n\n")[0]
    rows = [line for line in table.splitlines()[2:] if line.startswith("|")]
    assert len(rows) == len(sweep_file.load("normalization").claims)


def test_makefile_targets_named_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"^make (\w+)", README, re.MULTILINE)
    assert {"sweep", "ui", "test"} <= {*named}
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_make_alone_lists_every_target():
    alone = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}}
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=60, env=alone)
    assert done.returncode == 0, done.stderr
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
    told = {line.split()[1]: line.split(maxsplit=2)[2:] for line in done.stdout.splitlines()}
    assert sorted(told) == sorted(phony)
    assert all(told.values())


def test_documented_exit_codes_are_those_of_the_errors():
    from mnist_ablate import errors

    codes = {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")}
    assert codes == {1, 2, 3, 4, 5, 6}
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    documented = [int(code) for code in re.findall(r"^\| (\d+) \| \S", page, re.MULTILINE)]
    assert documented == [0, *sorted(codes), 7, 129, 130, 143]


def test_yaml_examples_are_strict_yaml_for_other_readers_too():
    for example in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL):
        assert yaml.safe_load(example)["seeds"] == 6
