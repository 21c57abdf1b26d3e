"""Whole commands under those faults that no other file shows from end to end: texts, codes, what is left."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from command import Command, Done, wait_for
from mlflow_helpers import active_runs, free_port, new_home, points, rows
from mlflow_stub import Reply, Stub, mlflow_server, running
from sweep_runs import starts, sweep_file

from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.settings import Settings

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "end_to_end/data/home-0.1.0"

pytestmark = pytest.mark.slow


@pytest.fixture
def sweep(command: Command, images: Path) -> tuple[str, ...]:
    sweep_file(command.folder)
    return ("sweep", "small.yaml", "--jobs", "2", "--data", str(images))


@pytest.fixture
def stored(command: Command) -> Callable[..., Done]:
    """Commands that use an embedded store, made without MLflow's migrations."""
    new_home(command.folder / ".mnist-ablate")
    return lambda *arguments, **environment: command(*arguments, **{"MLFLOW_TRACKING_URI": "", **environment})


def one_line(done: Done) -> str:
    assert done.err.count("\n") == 1, done.err
    assert "Traceback" not in done.err
    return done.err.rstrip("\n")


def test_a_killed_worker_is_told_and_costs_nothing(stored: Callable[..., Done], sweep: tuple[str, ...]) -> None:
    done = stored(*sweep, FAKE_FAULTS='{"relu/1": "kill_once"}')
    assert "trial relu seed 1 lost (worker killed) - retrying 1/2" in done.err.splitlines()
    assert done.code == 0
    assert stored("verify", "small").code == 0


def test_out_of_memory_is_told_and_retried_alone(command: Command, sweep: tuple[str, ...], fake: Path) -> None:
    done = command(*sweep, FAKE_FAULTS='{"relu/1": "memory"}')
    lines = done.err.splitlines()
    assert "trial relu seed 1 lost (out of memory) - retrying 1/2" in lines
    assert any(line.startswith("trial relu seed 1 failed: out of memory") for line in lines)
    assert done.code == 1
    assert starts(fake).count("relu/1") == 2
    assert len(starts(fake)) == 7


def test_sync_restores_a_wiped_mlflow_and_twice_changes_nothing(
    command: Command, stored: Callable[..., Done], sweep: tuple[str, ...]
) -> None:
    assert stored(*sweep).code == 0
    home = command.folder / ".mnist-ablate"
    before = points(Settings(home=home).embedded_uri)
    uri = new_home(home)
    assert points(uri) == []
    missing = stored("verify", "small")
    assert (missing.code, missing.out) == (1, "MLflow: no experiment small: run sync\n")
    assert "(6 sent now)" in stored("sync", "small").out
    assert points(uri) == before
    with closing(sqlite3.connect(home / "mlflow.db")) as store, store:
        one = "select run_uuid from tags limit 1"
        store.execute(f"update runs set lifecycle_stage = 'deleted' where run_uuid in ({one})")
    assert "(1 sent now)" in stored("sync", "small").out or points(uri) == before
    assert "(0 sent now)" in stored("sync", "small").out
    assert points(uri) == before
    assert stored("verify", "small").code == 0


def test_runs_last_as_long_as_their_trials_though_the_tracker_was_down_meanwhile(
    command: Command, sweep: tuple[str, ...], tmp_path: Path
) -> None:
    store, port = new_home(tmp_path / "server"), free_port()
    said = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "FAKE_EPOCH_S": "1", "FAKE_TRIAL_S": "2.25"}
    with mlflow_server(store, port):
        training = command.start(*sweep, **said)
        wait_for(lambda: any(kind == "trial" for kind, *_ in active_runs(store)), 90)
    training.communicate(timeout=120)
    with mlflow_server(store, port):
        assert "MLflow has all 6 trials" in command("sync", "small", **said).out
    times = """select t.value, r.start_time, r.end_time from runs r join tags t using (run_uuid)
        where t.key = 'trial_id' and r.lifecycle_stage = 'active' and r.status = 'FINISHED'"""
    found = {of: (start, end) for of, start, end in rows(store, times)}
    record = Ledger(Settings(home=command.folder / ".mnist-ablate").ledger_url).find("small")
    ended = [each.outcome for each in record.records()]
    assert found.keys() == {each.trial_id for each in ended}
    for each in ended:
        began, end = found[each.trial_id]
        assert abs(began - each.started_ms) < 100
        assert abs(end - began - 1000 * each.seconds) < 100


def test_a_bad_data_file_is_4_in_one_line_and_nothing_is_made(
    command: Command, sweep: tuple[str, ...], images: Path
) -> None:
    (command.folder / "truncated.npz").write_bytes(images.read_bytes()[:-200])
    np.savez(command.folder / "object.npz", **{**np.load(images), "x_train": np.array([{}], dtype=object)})
    with zipfile.ZipFile(command.folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", bytes(50_000_000))
    for name in ("truncated.npz", "object.npz", "bomb.npz", "absent.npz"):
        began = time.monotonic()
        done = command(*sweep[:-1], name)
        assert (done.code, done.out) == (4, ""), name
        assert name in one_line(done)
        assert time.monotonic() - began < 10
        assert not (command.folder / ".mnist-ablate").exists()


@pytest.mark.parametrize("name", ["-x", "\u202ex", "a\tb", "x" * 250, ".hidden", "a b"])
def test_a_bad_name_is_2_with_the_rule(command: Command, name: str) -> None:
    sweep_file(command.folder).rename(command.folder / f"{name}.yaml")
    before = sorted(command.folder.iterdir())
    done = command("sweep", f"./{name}.yaml")
    assert done.code == 2
    assert "a name has 1 to 100 letters, digits or marks of any script" in one_line(done)
    assert one_line(done).isprintable()
    assert sorted(command.folder.iterdir()) == before


def test_a_name_of_any_script_works_from_end_to_end(
    command: Command, stored: Callable[..., Done], images: Path
) -> None:
    sweep_file(command.folder, name="名前")
    assert stored("sweep", "名前.yaml", "--data", str(images)).code == 0
    for arguments in (("report", "名前"), ("sync", "名前"), ("verify", "名前")):
        assert stored(*arguments).code == 0
    made = {path.name for path in command.folder.iterdir()}
    assert made == {".mnist-ablate", "fake", "名前.yaml"}


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(401, b"denied"), "refused the credentials (401): set MLFLOW_TRACKING_USERNAME"),
        (Reply(200, b"<html>", {"Content-Type": "text/html"}), "is not an MLflow server (200)"),
        (Reply(302, b"", {"Location": "http://127.0.0.1:9/"}), "redirects (302), which is not followed"),
    ],
)
def test_wrong_credentials_and_a_foreign_server_are_3_at_once(
    command: Command, sweep: tuple[str, ...], reply: Reply, text: str
) -> None:
    sweep_file(command.folder, seeds=60)
    with running(Stub(reply)) as stub:
        done = command(*sweep, MLFLOW_TRACKING_URI=f"http://user:correct-horse@127.0.0.1:{stub.port}")
        assert done.code == 3
        assert text in done.err.splitlines()[-1]
        assert len(stub.seen) <= 4
        assert "correct-horse" not in done.err


CLOCK = """
import os, time
_real, _real_ns = time.time, time.time_ns
def _offset():
    with open(os.environ["CLOCK_FILE"]) as file:
        return float(file.read() or 0)
time.time = lambda: _real() + _offset()
time.time_ns = lambda: _real_ns() + int(_offset() * 1e9)
"""


def test_a_clock_that_jumps_a_day_repeats_and_times_out_nothing(
    command: Command, sweep: tuple[str, ...], fake: Path
) -> None:
    sweep_file(command.folder, seeds=6)
    (command.folder / "clock").mkdir()
    (command.folder / "clock/sitecustomize.py").write_text(CLOCK)
    offset = command.folder / "clock/offset"
    offset.write_text("0")
    path = os.pathsep.join([str(offset.parent), command.environment["PYTHONPATH"]])
    running_ = command.start(*sweep, PYTHONPATH=path, CLOCK_FILE=str(offset), FAKE_EPOCH_S="0.2")
    try:
        for begun, jump_s in ((2, 86_400), (5, -86_400), (8, 0)):
            wait_for(lambda least=begun: len(starts(fake)) >= least)
            offset.with_suffix(".new").write_text(str(jump_s))
            offset.with_suffix(".new").rename(offset)
        _, err = running_.communicate(timeout=60)
    finally:
        running_.kill()  # its workers end with it
    assert running_.returncode == 7  # there is no MLflow
    assert "lost" not in err
    assert len(starts(fake)) == 12
    assert command(*sweep).code == 7
    assert len(starts(fake)) == 12


CANARY = "k4n4ry-s3cr3t-v4lu3"


def test_a_canary_in_twelve_places_shows_up_nowhere(
    command: Command, stored: Callable[..., Done], images: Path
) -> None:
    sweep_file(command.folder)
    names = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "DATABASE_PASSWORD")
    secret = dict.fromkeys((*names, "SOME_API_KEY"), CANARY)
    leak = f"no answer from postgresql://u:{CANARY}@db/x?password={CANARY} and https://{CANARY}@host, key {CANARY}"
    run = ("sweep", "small.yaml", "--data", str(images), "--jobs", "2")
    told = [stored(*run, **secret, FAKE_FAULTS='{"relu/1": "leak"}', FAKE_LEAK=leak)]
    assert told[0].code == 1
    told += [stored(name, "small", **secret) for name in ("report", "sync", "verify")]
    told += [stored("report", "small", "--output", name, **secret) for name in ("report.html", "small.zip")]
    outside = [("MLFLOW_TRACKING_URI", "http"), ("MLFLOW_TRACKING_URI", "postgresql+psycopg2")]
    for variable, scheme in (*outside, ("OPTUNA_STORAGE", "postgresql"), ("OPTUNA_STORAGE", "mysql")):
        place = {variable: f"{scheme}://user:{CANARY}@127.0.0.1:9/x"}
        told += [command("sync", "small", *debug, **secret, **place) for debug in ((), ("--debug",))]
    address = f"http://u:{CANARY}@host"
    told += [command("sweep", f"{address}/x.yaml"), command(*run[:3], f"{address}/x.npz")]
    told.append(command(*run, "--set", f"question={address}"))
    sweep_file(command.folder, name="leaky", source=f"see https://u:{CANARY}@host/paper")
    leaky = command("sweep", "leaky.yaml", "--data", str(images))
    assert leaky.code == 2
    assert "source: an address with a password is not allowed; remove the password" in one_line(leaky)
    (command.folder / "leaky.yaml").unlink()
    for done in (*told, leaky):
        assert CANARY not in done.out + done.err
    left = [path for path in command.folder.rglob("*") if path.is_file()]
    assert not [path.name for path in left if CANARY.encode() in path.read_bytes()]
    with zipfile.ZipFile(command.folder / "small.zip") as archive:
        assert not [name for name in archive.namelist() if CANARY.encode() in archive.read(name)]
    assert any(path.suffix == ".log" and b"***" in path.read_bytes() for path in left)


def test_no_process_shows_a_secret_in_its_command_line(command: Command, sweep: tuple[str, ...]) -> None:
    sweep_file(command.folder, seeds=30)
    running_ = command.start(*sweep, MLFLOW_TRACKING_URI=f"http://user:{CANARY}@127.0.0.1:9")
    seen: list[bytes] = []
    deadline = time.monotonic() + 30
    while running_.poll() is None and time.monotonic() < deadline:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                seen.append(path.read_bytes())
        time.sleep(0.05)
    running_.communicate(timeout=60)
    assert any(b"multiprocessing.forkserver" in line for line in seen)  # what workers are copies of
    assert not [line for line in seen if CANARY.encode() in line]


def test_a_recorded_home_is_read_and_goes_on(command: Command, images: Path, fake: Path) -> None:
    """A home that 0.1.0 recorded: later versions read its numbers to the digit, and judge them by their own rule."""
    home = command.folder / ".mnist-ablate"
    home.mkdir()
    with closing(sqlite3.connect(home / "ledger.db")) as ledger:
        ledger.executescript((GOLDEN / "ledger.sql").read_text())
    shutil.copy(GOLDEN / "small.yaml", command.folder)
    told = json.loads((GOLDEN / "report.json").read_text())
    found = command("report", "small", "--format", "json").document
    measured = ("name", "statement", "metric", "effect", "n_pairs", "margin", "differences")
    for document in (told, found):
        document["claims"] = [{name: claim[name] for name in measured} for claim in document["claims"]]
    assert {name: found[name] for name in told} == told
    done = command("sweep", "small.yaml", "--data", str(images), "--json")
    assert done.code == 7, done.err  # there is no MLflow
    assert done.document["arms"] == told["arms"]
    assert not {f"{activation}/{seed}" for activation in ("relu", "tanh") for seed in range(3)} & set(starts(fake))


def test_every_history_ends_well() -> None:
    """A few random ones; `make faults` plays more."""
    program = [sys.executable, "-W", "ignore", str(TESTS / "campaigns/random_histories.py"), "3"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(TESTS / name) for name in ("support", "campaigns"))}
    answer = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=250)
    assert answer.returncode == 0, answer.stderr[-2000:]
    told = json.loads(answer.stdout)
    assert (told["problems"], told["steps"]) == ([], 48)


def test_no_command_repairs_by_hand(command: Command) -> None:
    """Nothing to unlock, mark or delete: the same command goes on."""
    assert not re.search("unlock|repair|recover|mark|force", command("--help").out.lower())
