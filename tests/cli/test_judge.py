"""What a person types around tables: from a pipe, with columns by name, and what a sweep writes back as one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command import PROGRAM, Call, Command
from ledger_records import recorded
from sweep_runs import small, sweep_file

from mnist_ablate.cli.sweeps import FAILED_TRIALS, NOT_IN_STEP
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.sweep_file import shipped
from mnist_ablate.text import guess

ROOT = Path(__file__).parents[2]
HEAD = "params.act,batch_size,run,test_accuracy"
ROWS = [
    f"{arm},{size},run-{seed},{97 + 0.01 * seed * (seed % 3) - worse:.2f}%"
    for seed in range(8)
    for arm, size, worse in (("relu", 128, 0), ("tanh", 64, 1))
]


@pytest.fixture
def table(command: Command) -> None:
    sweep_file(command.folder)
    (command.folder / "t.csv").write_text("\n".join([HEAD, *ROWS]) + "\n")


NAMED = ("--map", "activation=params.act", "seed=run")


@pytest.mark.usefixtures("table")
def test_columns_are_named_and_what_separates_the_arms_is_accepted(call: Call) -> None:
    done = call("judge", "t.csv", "--sweep", "small.yaml")
    assert (done.code, done.out) == (2, "")
    assert "column activation: missing; did you mean 'params.act'?" in done.err
    done = call("judge", "t.csv", "--sweep", "small.yaml", *NAMED)
    assert done.code == 0
    words = " ".join(done.out.split())
    assert "INCONCLUSIVE Tanh hurts. Confounded by batch_size (64 against 128)" in words
    assert done.err == "read as: `,`, decimal point, UTF-8, MLflow's columns\nseed 'run-0' is 0\n"
    done = call("judge", "t.csv", "--sweep", "small.yaml", *NAMED, "--accept-confounded", "batch_size")
    words = " ".join(done.out.split())
    assert "SUPPORTED Tanh hurts." in words
    assert "Caveat: confounded by batch_size (64 against 128), which was accepted." in words


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "judge takes one table, or --optuna URL STUDY, or --mlflow EXPERIMENT: judge results.csv"),
        ("t.csv u.csv", "judge takes one table"),
        ("t.csv --mlflow x", "judge takes one table"),
        ("t.csv --map seed", "--map seed: write NAME=COLUMN, for example seed=params.random_state"),
        ("t.csv seed=", "--map seed=: write NAME=COLUMN"),
        ("t.csv --map sed=run", "t.csv: --map sed=…: the sweep has no sed; did you mean 'seed'?"),
        ("--mlflow x", "--mlflow: set MLFLOW_TRACKING_URI to the server or the store that has the experiment"),
    ],
)
def test_wrong_words_are_one_line(call: Call, monkeypatch: pytest.MonkeyPatch, arguments: str, told: str) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    done = call("judge", *arguments.split(), "--sweep", "small.yaml", MLFLOW_TRACKING_URI="")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(told)


def as_process(folder: Path, command: list[str], **streams: object) -> "subprocess.CompletedProcess[bytes]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MNIST_ABLATE")}
    return subprocess.run(command, cwd=folder, env=environment, stderr=subprocess.PIPE, check=False, **streams)


@pytest.mark.slow
def test_a_recorded_sweep_is_written_as_a_table_that_gives_its_verdicts(command: Command) -> None:
    sweep_file(command.folder, seeds=7, negative_control="baseline")
    recorded(command.folder / "home", small(seeds=7, negative_control="baseline"))
    report = command("report", "small", "--home", "home", "--format", "csv")
    (command.folder / "t.csv").write_text(report.out)
    assert report.out.startswith("stage,activation,seed,outcome,test_accuracy,")
    assert report.out.count("\n") == 22  # a header, 14 of the verdicts, 7 of the negative control
    with (command.folder / "t.csv").open("rb") as piped:
        done = as_process(
            command.folder,
            [sys.executable, "-m", "mnist_ablate", "judge", "-", "--sweep", "small.yaml", "--json"],
            stdin=piped,
            stdout=subprocess.PIPE,
        )
    assert done.stderr == b"not judged: 7 control trials\n"
    whole = command("report", "small", "--home", "home", "--format", "json").document
    judged = json.loads(done.stdout)
    assert judged["claims"] == whole["claims"]
    assert judged["arms"] == whole["arms"]


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped())
def test_every_shipped_sweep_is_written_as_a_table_that_gives_its_verdicts(
    call: Call, command: Command, name: str
) -> None:
    """Recorded by the driver, with tuning and search; with four seeds."""
    content = yaml.safe_load((ROOT / "sweeps" / f"{name}.yaml").read_text(encoding="utf-8"))
    (command.folder / f"{name}.yaml").write_text(yaml.safe_dump({**content, "seeds": 4}, sort_keys=False))
    fake = {"FAKE_EPOCH_S": "0", "MNIST_ABLATE_TRAINER": "whole_trainer:factory"}
    swept = call("sweep", f"{name}.yaml", **fake)
    assert swept.code in {FAILED_TRIALS, NOT_IN_STEP}, swept.err  # there is no MLflow
    (command.folder / "t.csv").write_text(call("report", name, "--format", "csv").out)
    judged = call("judge", "t.csv", "--sweep", f"{name}.yaml", "--json")
    assert judged.code == 0, judged.err
    whole = call("report", name, "--format", "json").document
    for part in ("claims", "arms"):
        assert judged.document[part] == whole[part]


@pytest.mark.slow
def test_plan_says_what_is_recorded(call: Call, command: Command, images: Path) -> None:
    sweep_file(command.folder)
    plan = ("plan", "small.yaml", "--data", str(images), "--home")
    assert "0 of 6 trials are recorded, 6 to train" in call(*plan, "nowhere").out
    assert not (command.folder / "nowhere").exists()
    assert call("sweep", "small.yaml", "--data", str(images), "--home", "home", "--jobs", "1").code == 7
    assert "6 of 6 trials are recorded, 0 to train" in call(*plan, "home").out
    assert json.loads(call(*plan, "home", "--json").out)["recorded"] == 6
    assert "are recorded" not in call(*plan[:-1]).out


@pytest.mark.slow
def test_a_closed_standard_output_is_5_and_takes_no_file_s_place(command: Command) -> None:
    settings: Settings = recorded(command.folder / "home", small())
    before = settings.home.joinpath("ledger.db").read_bytes()
    for form in ("table", "json", "csv"):
        line = f"'{PROGRAM}' report small --home home --format {form} >&-"
        done = as_process(command.folder, ["sh", "-c", line], stdout=subprocess.PIPE)
        assert (done.returncode, done.stdout) == (5, b"")
        assert done.stderr == b"standard output is closed: nothing can be written there\n"
    assert settings.home.joinpath("ledger.db").read_bytes() == before
    done = as_process(command.folder, ["sh", "-c", f"'{PROGRAM}' report nothing --home home 2>&-"])
    assert (done.returncode, done.stderr) == (2, b"")


KNOWN = ("activation", "learning_rate", "batch_size", "optimizer", "norm_layer", "epochs", "width", "model")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("lr", "learning_rate"), ("LR", "learning_rate"), ("lrs", "learning_rate"), ("Learning Rate", "learning_rate"),
        ("bs", "batch_size"), ("batch-size", "batch_size"), ("batch_sizes", "batch_size"), ("wd", "optimizer"),
        ("act", "activation"), ("activations", "activation"), ("opt", "optimizer"), ("momentum", "optimizer"),
        ("norm", "norm_layer"), ("n_epochs", "epochs"), ("units", "width"), ("arch", "model"),
    ],
)  # fmt: skip
def test_the_names_of_other_tools_get_a_suggestion(word: str, meant: str) -> None:
    assert guess(word, KNOWN) == f"did you mean '{meant}'?"


def test_what_resembles_nothing_gets_none() -> None:
    assert guess("temperature", KNOWN) == ""
