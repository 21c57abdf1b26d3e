"""Sweeps of the user's own code from the command line: verdicts, kills, changed files, workers elsewhere."""

import json
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from command import Command, base_environment, left_in, left_running, wait_for
from external_cluster import Cluster, external, kill

__all__ = ["external"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

FILE = """
question: Does a larger rate help?
train: {train}
scientific: {{lr: [0.1, 0.2]}}
metrics: {{acc: {{low: 0, high: 2}}}}
seeds: {seeds}
claims:
  - {{name: c, statement: It helps., treatment: {{lr: 0.2}}, control: {{lr: 0.1}}, direction: higher, margin: 0.01}}
"""
JOB = """
import random
def train(seed: int, report, lr: float = 0.1):
    for step in (1, 2):
        report(step, {"acc": lr})
    return {"acc": lr + random.Random(seed).random() / 100}
"""
COMMAND = '[sh, job.sh, "{lr}"]'
SCRIPT = """sleep 600 &
sleep 0.4
echo x >> started
echo '{"metrics": {"acc": '$1'}}'
"""


@pytest.fixture
def own(tmp_path: Path) -> Command:
    """The command line without the fake trainer."""
    return Command(tmp_path, base_environment())


def write(folder: Path, train: str = "job:train", seeds: int = 6, code: str = JOB) -> None:
    (folder / "job.py").write_text(code)
    (folder / "own.yaml").write_text(FILE.format(train=train, seeds=seeds))


def verdict(document: dict[str, object]) -> str:
    (claim,) = document["claims"]
    return str(claim["verdict"])


def test_a_function_gets_its_verdict_and_is_needed_for_nothing_after(own: Command, tmp_path: Path) -> None:
    write(tmp_path)
    (temporary := tmp_path / ("long" * 30)).mkdir()  # longer than the path of a socket may be
    done = own("sweep", "own.yaml", "--jobs", "1", "--json", TMPDIR=str(temporary))
    assert (done.code, verdict(done.document)) == (7, "supported")  # there is no MLflow
    assert not left_in(temporary)
    assert done.err.splitlines()[0] == "its trials run your code: job:train"
    (tmp_path / "job.py").unlink()
    assert own("report", "own", "--format", "json").document == done.document
    assert own("report", "own", "--format", "html", "--output", "r.html").code == 0
    assert "job.py" in (tmp_path / "r.html").read_text()


def test_changed_code_is_trained_anew_and_the_report_says_so(own: Command, tmp_path: Path) -> None:
    write(tmp_path)
    own("sweep", "own.yaml", "--jobs", "1")
    write(tmp_path, code=JOB.replace("/ 100", "/ 50"))
    done = own("sweep", "own.yaml", "--jobs", "1", "--json")
    assert "its code was changed since own/1: every trial is trained anew" in done.err
    reasons = done.document["preregistration"]["reasons"]
    assert len(reasons) == 1
    assert reasons[0].startswith("changed after 18 trials of own/1")
    assert reasons[0].endswith(": the code")


def test_a_sweep_whose_every_trial_fails_alike_stops_soon(own: Command, tmp_path: Path) -> None:
    write(tmp_path, seeds=100, code=JOB.replace('return {"acc"', 'return {"accuracy"'))
    done = own("sweep", "own.yaml", "--jobs", "1")
    assert done.code == 1
    assert "stopped, 3 trials failed alike: reported accuracy, not acc" in done.err
    assert own("report", "own", "--format", "json").document["trials"]["failed"] <= 4


def processes_in(folder: Path) -> list[int]:
    """Processes whose working directory is in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (path / "cwd").readlink().is_relative_to(folder) and "Z" not in (path / "stat").read_text()[:40]:
                found.append(int(path.name))
    return found


def test_after_a_killed_driver_nothing_runs_and_nothing_is_lost_or_doubled(own: Command, tmp_path: Path) -> None:
    write(tmp_path, train=COMMAND, seeds=12)
    (tmp_path / "job.sh").write_text(SCRIPT)
    for n in (3, 8):
        running = own.start("sweep", "own.yaml", "--jobs", "2")
        started = tmp_path / "started"
        wait_for(lambda n=n, at=started: at.exists() and at.read_text().count("x") >= n, 60)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        wait_for(lambda group=running.pid: not left_running(group) and not processes_in(tmp_path), 20)
    done = own("sweep", "own.yaml", "--jobs", "2", "--json")
    assert "resuming" in done.err
    assert done.document["trials"] == {"planned": 24, "complete": 24, "diverged": 0, "failed": 0, "lost": 0}
    assert "ledger" not in own("verify", "own").err
    wait_for(lambda: not processes_in(tmp_path), 20)


def test_workers_elsewhere_get_the_files_and_a_killed_one_leaves_nothing(
    external: Cluster, own: Command, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    trials = {"MNIST_ABLATE_TRIALS": str(elsewhere), "TMPDIR": str(elsewhere)}
    doomed = external.worker("doomed", **trials)
    home = tmp_path / "here"
    home.mkdir()
    write(home, train=COMMAND, seeds=8)
    (home / "job.sh").write_text(SCRIPT)
    running = Command(home, own.environment).start("sweep", "own.yaml", "--cluster", external.address, "--json")
    wait_for(lambda: len(list(elsewhere.rglob("mnist-ablate-code-*/job.sh"))) == 1, 60)
    time.sleep(1.0)
    kill(doomed)
    wait_for(lambda: not processes_in(elsewhere), 20)
    external.worker("other", **trials)
    out, err = running.communicate(timeout=200)
    assert json.loads(out)["trials"]["complete"] == 16, err
