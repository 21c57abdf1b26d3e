"""The commands and steps of README, tutorial, guides and reference, followed as they stand there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from command import Command, base_environment
from mlflow_helpers import new_home
from package_copy import Copy

from mnist_ablate.execution.selftest import PLANTED, REDUCED
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.plan import count
from mnist_ablate.workloads.keras_mnist.data import MNIST

ROOT = Path(__file__).parents[2]
OWN = base_environment(MLFLOW_TRACKING_URI="")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


def console(*names: str) -> list[str]:
    lines = [line for name in names for block in blocks(name, "console") for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in lines]


COMMANDS = console("README.md", "docs/guides/everyday-commands.md", "docs/guides/judge-a-table.md")
"""In the order in which somebody reads them; later ones need what earlier ones recorded."""

TENTH = ("--data", "tenth.npz")


def write_tenth(folder: Path) -> None:
    """A tenth of the images: what the numbers come to is tested elsewhere."""
    with np.load(MNIST) as file:
        np.savez(folder / TENTH[1], **{name: file[name][: len(file[name]) // 10] for name in file})


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Command:
    made = tmp_path_factory.mktemp("readme")
    (made / "dropout.yaml").write_text(blocks("README.md", "yaml")[0])
    (made / "table.csv").write_text(blocks("docs/guides/judge-a-table.md", "csv")[0])
    write_tenth(made)
    return Command(made, OWN, timeout_s=900)  # a quick sweep of the flagship beside other tests


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_command_of_the_readme_works(reader: Command, command: str) -> None:
    name, *arguments = shlex.split(command)
    assert name == "mnist-ablate"
    done = reader(*arguments, *(TENTH if arguments[0] in {"plan", "sweep"} else ()))
    assert done.code == 0, done.err
    assert not re.search("Traceback|tensorflow|XLA|absl|oneDNN|WARNING", done.err)
    if arguments == ["selftest", "--reduced"]:
        assert [line[:5] for line in done.out.splitlines()[:-1]] == ["right"] * (len(REDUCED) + len(PLANTED) + 1)
        assert done.out.endswith("known answers: all right\n")


def test_the_commands_that_people_need_are_among_those_that_run() -> None:
    ran = {shlex.split(command)[1] for command in COMMANDS}
    assert ran >= {"list", "plan", "sweep", "report", "verify", "sync", "judge"}
    for suffix in (".json", ".html", ".zip"):
        assert any("--output" in command and suffix in command for command in COMMANDS)


def test_the_sweep_of_the_readme_loads_and_is_strict_yaml_for_other_readers_too(reader: Command) -> None:
    assert sweep_file.load(str(reader.folder / "dropout.yaml")).claims[0].direction == "higher"
    for example in blocks("README.md", "yaml"):
        assert yaml.safe_load(example)["seeds"] == 6


def test_the_python_example_runs() -> None:
    example = blocks("docs/reference/python.md", "python")[0]
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(sweep_file.load("normalization").claims)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    first, second = blocks("docs/tutorial.md", "yaml")
    new_home(tmp_path / ".mnist-ablate")
    write_tenth(tmp_path)
    for line in console("docs/tutorial.md"):
        name, *arguments = shlex.split(line)
        assert name == "mnist-ablate"
        done = Command(tmp_path, OWN)(*arguments, *(TENTH if arguments[0] in {"plan", "sweep"} else ()))
        assert done.code == 0, f"{line}: {done.err}"
        if arguments[0] == "new":
            (tmp_path / "faster.yaml").write_text(first)
            (tmp_path / "fair.yaml").write_text(second)
        if arguments == ["report", "faster"]:
            shown = done.out
    assert re.search("supported|refuted|equivalent|inconclusive", shown)
    assert done.out == shown


def test_the_tutorial_counts_the_trials_that_its_plans_have(tmp_path: Path) -> None:
    sweeps = []
    for text in blocks("docs/tutorial.md", "yaml"):
        (tmp_path / "faster.yaml").write_text(text)
        sweeps.append(sweep_file.load(str(tmp_path / "faster.yaml")))
    assert [sweep.seeds for sweep in sweeps] == [8, 8]
    told = f"{count(sweeps[0])} trials, {sweeps[0].control_seeds} of them the negative control"
    assert told in (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_steps_for_choices_lead_to_verdicts(tmp_path: Path, images: Path) -> None:
    guide = "docs/guides/add-a-normalizer.md"
    (tmp_path / "my_choices.py").write_text("\n".join(blocks(guide, "python")))
    text = blocks(guide, "yaml")[0]
    (tmp_path / "bipolar.yaml").write_text(text)
    (tmp_path / "cnn.yaml").write_text(text.replace("model: mlp", "model: small_cnn"))
    user = Command(tmp_path, OWN)
    assert "2 arms x 8 seeds" in user("plan", "bipolar.yaml").out
    for sweep in ("bipolar.yaml", "cnn.yaml"):
        done = user("sweep", sweep, "--quick", "--data", str(images), "--jobs", "1", "--json")
        assert done.code == 0, done.err
        assert "its trials run your code: my_choices.py" in done.err


def test_the_step_for_a_metric_leads_to_one(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    copy.add("metrics.py", "", "CURVE_METRICS", blocks("docs/guides/add-a-metric.md", "python")[0].strip())
    assert '"epochs_to_99"' in copy("schema")
    example = blocks("docs/tutorial.md", "yaml")[0].replace("first_epoch_val_accuracy", "epochs_to_99")
    (tmp_path / "sooner.yaml").write_text(example)
    load = "from mnist_ablate.sweep.sweep_file import load; print(load('sooner.yaml').claims[0].metric)"
    assert copy.run("-c", load) == "epochs_to_99\n"
