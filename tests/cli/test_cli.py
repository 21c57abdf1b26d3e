"""The commands as a person runs them: exit codes, one line per error, JSON alone on stdout."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from command import Call, Command, wait_for
from mlflow_helpers import new_home
from postgres import Postgres
from sweep_runs import starts, sweep_file

from mnist_ablate.execution.worker import BUNDLE_S
from mnist_ablate.tracking.home_store import database


@pytest.fixture
def sweep(command: Command, images: Path) -> tuple[str, ...]:
    sweep_file(command.folder)
    return ("sweep", "small.yaml", "--jobs", "2", "--data", str(images))


def one_line(text: str) -> str:
    assert text.count("\n") == 1, text
    return text.rstrip("\n")


@pytest.mark.slow
def test_json_is_all_there_is_on_stdout_and_without_mlflow_it_is_7(command: Command, sweep: tuple[str, ...]) -> None:
    done = command(*sweep, "--json", "--home", "flag", MNIST_ABLATE_HOME="variable")
    assert done.code == 7
    assert done.document["trials"] == {"planned": 6, "complete": 6, "diverged": 0, "failed": 0, "lost": 0}
    assert (done.document["sweep"], len(done.document["arms"]), len(done.document["claims"])) == ("small", 2, 1)
    assert "MLflow is not up to date: run: mnist-ablate sync small" in done.err
    assert "\x1b" not in done.out + done.err
    report = command("report", "small", "--format", "json", MNIST_ABLATE_HOME="flag")
    assert (report.code, report.document, report.err) == (0, done.document, "")
    homes = [(command.folder / name).exists() for name in ("flag/ledger.db", "variable", ".mnist-ablate")]
    assert homes == [True, False, False]


@pytest.mark.slow
def test_failed_trials_are_1_and_the_same_command_repairs_them(
    call: Call, command: Command, sweep: tuple[str, ...]
) -> None:
    done = call(*sweep, "--json", FAKE_FAULTS='{"relu/0": "raise", "tanh/0": "diverge"}')
    assert done.code == 1
    assert (done.document["trials"]["failed"], done.document["trials"]["diverged"]) == (1, 1)
    assert "trial relu seed 0 failed: RuntimeError: no such layer" in done.err
    assert "trial tanh seed 0 diverged at epoch 2" in done.err
    assert "Traceback" not in done.err
    assert len(list((command.folder / ".mnist-ablate" / "logs").glob("????????????????.log"))) == 1
    again = call(*sweep, "--json")
    assert (again.code, again.document["trials"]["failed"]) == (7, 0)


@pytest.mark.slow
def test_three_failures_alike_are_1_and_one_line(call: Call, sweep: tuple[str, ...], fake: Path) -> None:
    done = call(*sweep, "--seeds", "9", FAKE_FAULTS='{"*/*": "raise"}', FAKE_EPOCH_S="0.3")
    assert done.code == 1
    stopped = "small: stopped, [34] trials failed alike: RuntimeError: no such layer;"  # two may come together
    assert re.match(stopped, done.err.splitlines()[-1])
    assert "Traceback" not in done.err
    assert len(starts(fake)) < 8


NO_SUFFIX = "no format has this suffix; known: .txt, .md, .html, .svg, .png, .json, .zip, .csv; or give --format"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ("report normalization", 2, "normalization: nothing recorded: run `mnist-ablate sweep normalization` first"),
        ("report normalization --output r.tsv", 2, f"r.tsv: {NO_SUFFIX}"),
        ("report normalization --output r.PDF", 2, f"r.PDF: {NO_SUFFIX}"),
        ("report normalization --format png", 2, "--format png is no text: name a file with --output NAME.png"),
        ("report normalization --format bundle", 2, "--format bundle is no text: name a file with --output NAME.zip"),
        ("report --compare a b --format md", 2, "--compare writes table or json, not md: leave --format out"),
        ("report", 2, "report takes a sweep, or --compare and two: report normalization"),
        ("sync normalization", 2, "normalization: nothing recorded"),
        ("sweep normalisation", 2, "no sweep named 'normalisation': did you mean 'normalization'?"),
        ("plan missing.yaml", 2, "missing.yaml: no such file"),
        ("sweep normalization --set fixed.epoch=2", 2, "did you mean 'epochs'?"),
        ("sweep small.yaml --data missing.npz", 4, "missing.npz: no such data file"),
        ("sweep small.yaml --cluster nonsense", 2, "nonsense is not the address of a scheduler: expected tcp://host:"),
        ("sweep small.yaml --max-trials 5", 2, "small: 6 trials; limit 5 (--max-trials)"),
        ("sweep ../small.yaml/x", 2, "../small.yaml/x"),
    ],
)
def test_an_error_is_one_line_with_its_code_and_creates_nothing(
    call: Call, command: Command, arguments: str, code: int, text: str
) -> None:
    sweep_file(command.folder)
    before = sorted(path.name for path in command.folder.iterdir())
    done = call(*arguments.split())
    assert (done.code, done.out) == (code, "")
    assert text in one_line(done.err)
    assert sorted(path.name for path in command.folder.iterdir()) == before


def test_debug_shows_where_an_error_came_from_and_a_wrong_option_is_2(call: Call) -> None:
    done = call("report", "normalization", "--debug")
    assert done.code == 2
    assert "Traceback" in done.err
    assert "SweepError" in done.err
    done = call("sweep", "normalization", "--job", "2")
    assert done.code == 2
    assert "--jobs" in done.err


def test_a_table_s_cells_are_the_values_of_the_sweep_file(call: Call, command: Command) -> None:
    texts = {"version": ["1", "2.0"], "norm": ["true", "no"]}
    claim = {"statement": "s", "direction": "same", "margin": 0}
    sides = [(name, {"treatment": {name: new}, "control": {name: old}}) for name, (old, new) in texts.items()]
    claims = [{"name": name, **arms, **claim} for name, arms in sides]
    sweep_file(command.folder, scientific=texts, claims=claims, fixed={})
    rows = [f"{version},{norm},{seed},0.9" for version in ("1", "2.0") for norm in ("true", "no") for seed in range(3)]
    (command.folder / "t.csv").write_text("\n".join(["version,norm,seed,test_accuracy", *rows]))
    done = call("judge", "t.csv", "--sweep", "small.yaml", "--json")
    assert [claim["n_pairs"] for claim in done.document["claims"]] == [3, 3]
    assert done.document["arms"][0]["params"] == {"version": "1", "norm": "true"}


@pytest.mark.slow
def test_a_required_tracker_that_is_down_is_3_within_seconds(
    command: Command, sweep: tuple[str, ...], fake: Path
) -> None:
    clock = time.monotonic()
    done = command(*sweep, "--require-mlflow")
    assert (done.code, done.out) == (3, "")
    assert one_line(done.err) == "MLflow at http://127.0.0.1:9 does not answer: Connection refused"
    assert time.monotonic() - clock < 20  # 5 s on a quiet machine; most of it are imports
    assert not starts(fake)


@pytest.mark.slow
def test_no_scheduler_at_the_address_is_3_with_the_address(call: Call, sweep: tuple[str, ...]) -> None:
    done = call(*sweep[:2], "--data", sweep[-1], "--cluster", "tcp://127.0.0.1:1")
    assert done.code == 3
    assert done.err.splitlines()[-1] == ("tcp://127.0.0.1:1: no Dask scheduler answers: start it or check --cluster")


def test_bad_database_credentials_are_3_without_the_password(call: Call, sweep: tuple[str, ...]) -> None:
    done = call(*sweep, OPTUNA_STORAGE="postgresql://me:hunter22@127.0.0.1:1/x")
    assert done.code == 3
    assert "postgresql+psycopg2://me:***@127.0.0.1:1/x not reachable" in one_line(done.err)
    assert "hunter22" not in done.err


@pytest.mark.slow
def test_a_second_driver_is_6_and_told_who(command: Command, sweep: tuple[str, ...], fake: Path) -> None:
    first = command.start(*sweep, FAKE_EPOCH_S="10")
    wait_for(lambda: starts(fake))
    second = command(*sweep)
    first.terminate()
    first.communicate()
    assert second.code == 6
    assert f"small is being run by pid {first.pid} on " in one_line(second.err)
    assert first.returncode == 143
    assert len(starts(fake)) == 2


@pytest.mark.service
def test_a_sweep_with_mlflow_is_0_then_imports_neither_keras_nor_mlflow(
    command: Command, sweep: tuple[str, ...], fake: Path
) -> None:
    uri = new_home(command.folder / ".mnist-ablate")
    done = command(*sweep, MLFLOW_TRACKING_URI=uri)
    assert done.code == 0, done.err
    link = next(line for line in done.err.splitlines() if line.startswith("runs: "))
    assert "/#/experiments/1/runs?" in link
    poison = command.folder / "poison"
    poison.mkdir()
    for name in ("keras", "mlflow", "tensorflow"):
        (poison / f"{name}.py").write_text("raise SystemExit(99)")
    path = os.pathsep.join([str(poison), command.environment["PYTHONPATH"]])
    again = command(*sweep, MLFLOW_TRACKING_URI=uri, PYTHONPATH=path)
    assert (again.code, link in again.err.splitlines()) == (0, True)
    assert len(starts(fake)) == 6
    verified = command("verify", "small", MLFLOW_TRACKING_URI=uri)
    assert (verified.code, verified.out) == (0, "small: plan, ledger and MLflow agree\n")
    one_run = "(SELECT run_uuid FROM tags WHERE key = 'trial_id' LIMIT 1)"
    with closing(sqlite3.connect(database(uri) or "")) as store, store:
        store.execute(f"UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = {one_run}")
    wrong = command("verify", "small", MLFLOW_TRACKING_URI=uri)
    assert wrong.code == 1
    assert wrong.out.count("\n") >= 1
    mended = command("sync", "small", MLFLOW_TRACKING_URI=uri)
    assert (mended.code, mended.out) == (0, "small: MLflow has all 6 trials (1 sent now)\n")
    assert command("verify", "small", MLFLOW_TRACKING_URI=uri).code == 0


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting takes root")
def test_a_full_disk_is_5_and_what_was_recorded_stays(command: Command, images: Path, fake: Path) -> None:
    sweep_file(command.folder, seeds=60)
    arguments = ("sweep", "small.yaml", "--jobs", "1", "--data", str(images), "--home", "disk")
    alone = {"FAKE_EPOCH_S": str(0.75 * BUNDLE_S)}  # no two trials go to a worker together
    disk = command.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=260k", "tmpfs", disk], check=True)
    try:
        done = command(*arguments, **alone)
        assert done.code == 5, done.err
        assert done.err.splitlines()[-1].startswith(f"no space on, or no right to write, {disk}: free it and run again")
        assert "Traceback" not in done.err
        begun = len(starts(fake))
        assert 0 < begun < 120
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        (fake / "starts").unlink()
        again = command(*arguments, "--json", **alone)
        assert again.code == 7
        assert again.document["trials"]["complete"] == 120
        assert len(starts(fake)) <= 120 - begun + 3  # what ran when the disk was full
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert command("report", "small", "--home", "disk").code == 0
        done = command(*arguments)
        assert done.code == 5
        assert one_line(done.err).startswith(f"no space on, or no right to write, {disk}")
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.service
@pytest.mark.parametrize(("down_s", "wait_s"), [(2, 60), (8, 60), (8, 1)])
def test_postgresql_may_crash_and_come_back_and_down_for_too_long_is_3_and_resumable(
    command: Command, sweep: tuple[str, ...], server: Postgres, fake: Path, down_s: int, wait_s: int
) -> None:
    sweep_file(command.folder, seeds=10, fixed={"epochs": 4})
    names = {"OPTUNA_STORAGE": server.database(), "MNIST_ABLATE_DATABASE_WAIT_S": str(wait_s), "FAKE_EPOCH_S": "0.05"}
    process = command.start(*sweep, "--json", **names)
    wait_for(lambda: len(starts(fake)) > 4)
    server.crash()
    back = threading.Timer(down_s, server.start)
    back.start()
    out, err = process.communicate(timeout=100)
    assert err.count("database not reachable, retrying") == 1
    back.join()
    if wait_s < down_s:
        assert (process.returncode, out) == (3, "")
        assert err.splitlines()[-1].endswith("run the same command again to continue")
        again = command(*sweep, "--json", **names)
        assert (again.code, again.document["trials"]["complete"]) == (7, 20)
    else:
        assert process.returncode == 7, err
        assert json.loads(out)["trials"]["complete"] == len(starts(fake)) == 20
