"""The guides are true: the tutorial's commands run, the messages exist, the steps for a normalizer lead to one."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import PROGRAM, base_environment
from mlflow_helpers import new_home

from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.plan import control_count, count
from mnist_ablate.workloads.keras_mnist.data import MNIST

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "mnist_ablate"


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL)


def messages() -> list[str]:
    lines = (DOCS / "troubleshooting.md").read_text(encoding="utf-8").splitlines()
    return [found[1] for line in lines if (found := re.match(r"\| `(.+?)` \|", line))]


def code() -> str:
    """The package's text, with literals that are written in parts made whole."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    return re.sub(r'"\s*\n\s*f?"', "", text)


@pytest.mark.parametrize("message", messages())
def test_a_message_that_is_explained_exists(message: str) -> None:
    source = code()
    for part in re.split("…", message):
        assert part.strip(" :;") in source, part


def test_every_exit_code_that_an_error_has_is_explained() -> None:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    assert len(messages()) > 40
    assert set(re.findall(r"exit (\d)", text)) == set("123456")


def test_the_guides_link_to_what_exists() -> None:
    for path in (ROOT / "README.md", *DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (path.parent / link).exists(), f"{path.name}: {link}"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("tutorial", "troubleshooting", "add-a-normalizer"):
        assert f"docs/{name}.md" in readme


def test_pictures_are_small() -> None:
    pictures = sorted((DOCS / "images").glob("*.png"))
    assert pictures
    assert [path.name for path in pictures if path.stat().st_size >= 300_000] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    first, second = blocks("tutorial.md", "yaml")
    environment = base_environment()
    environment.pop("MLFLOW_TRACKING_URI")
    new_home(tmp_path / ".mnist-ablate")
    with np.load(MNIST) as file:  # a tenth of the images: what the numbers come to is tested elsewhere
        np.savez(tmp_path / "tenth.npz", **{name: file[name][: len(file[name]) // 10] for name in file})
    for line in "".join(blocks("tutorial.md", "console")).splitlines():
        name, *arguments = shlex.split(line.removeprefix("$ "))
        assert name == "mnist-ablate"
        images = ("--data", "tenth.npz") if arguments[0] in {"plan", "sweep"} else ()
        done = subprocess.run(
            [PROGRAM, *arguments, *images], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        if arguments[0] == "new":
            (tmp_path / "faster.yaml").write_text(first)
            (tmp_path / "fair.yaml").write_text(second)
        if arguments == ["report", "faster"]:
            shown = done.stdout
    assert re.search("supported|refuted|equivalent|inconclusive", shown)
    assert done.stdout == shown


@pytest.mark.slow
def test_the_steps_for_a_normalizer_lead_to_one(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "mnist_ablate", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "sweeps", tmp_path / "sweeps")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)  # the marks of the tests
    (tmp_path / "tests").mkdir()
    for name in ("test_normalizers.py", "test_new.py", "command.py", "sweep_texts.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")
    function, line = blocks("add-a-normalizer.md", "python")
    path = tmp_path / "mnist_ablate" / "choices" / "normalizers.py"
    head, dict_name, rest = path.read_text(encoding="utf-8").partition("NORMALIZERS: ")
    entries, end, tail = rest.partition("}\n")
    path.write_text(f"{head}{function}\n\n{dict_name}{entries}{line}{end}{tail}", encoding="utf-8")
    (tmp_path / "bipolar.yaml").write_text(blocks("add-a-normalizer.md", "yaml")[0])
    program = "import sys; sys.path.insert(0, '.'); from mnist_ablate.cli.app import main; main()"

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=200,
            env=base_environment(PYTHONPATH=str(tmp_path), MNIST_ABLATE_HOME=str(tmp_path / "home")),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "bipolar                x / 127.5 - 1: from -1 to 1" in run("-c", program, "list", "choices")
    (tmp_path / "sweeps" / "schema.json").write_text(run("-c", program, "schema"), encoding="utf-8")
    tests = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_normalizers.py", "tests/test_new.py")
    assert "passed" in run(*tests, "-m", "not slow")
    assert "2 arms x 8 seeds" in run("-c", program, "plan", "bipolar.yaml")


def test_the_tutorial_counts_the_trials_that_its_plan_has(tmp_path: Path) -> None:
    (tmp_path / "faster.yaml").write_text(blocks("tutorial.md", "yaml")[0])
    sweep = sweep_file.load(str(tmp_path / "faster.yaml"))
    told = f"{count(sweep)} trials, {control_count(sweep)} of them the negative control"
    assert told in (DOCS / "tutorial.md").read_text(encoding="utf-8")


def test_sweeps_in_the_guides_load(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.yaml").write_text(blocks("tutorial.md", "yaml")[name == "second"])
        assert sweep_file.load(str(tmp_path / f"{name}.yaml")).seeds == 8
