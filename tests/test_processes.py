"""Signals and crashes of a whole sweep: the exit code, one line, nothing left running, and the same numbers after."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import fake_trainer
import pytest
from command import Command, Done, interrupt, left_running, wait_for
from sweep_runs import small, starts, sweep_file

from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.processes import Interrupted, Interrupts, raising, sigint_blocked
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import label, make_plan

CHANGES: dict[str, Any] = {"seeds": 6, "fixed": {"epochs": 4}}
ARGUMENTS = ("sweep", "small.yaml", "--jobs", "2", "--json", "--data")


@pytest.fixture
def sweep(command: Command, images: Path) -> tuple[str, ...]:
    """The arguments of a sweep of 12 trials, each of 0.4 s."""
    sweep_file(command.folder, **CHANGES)
    return (*ARGUMENTS, str(images))


def begun(command: Command, fake: Path, sweep: tuple[str, ...], trials: int = 3, **environment: str) -> Any:
    process = command.start(*sweep, FAKE_EPOCH_S="0.1", **environment)
    wait_for(lambda: len(starts(fake)) >= trials)
    return process


def ended(process: "subprocess.Popen[str]") -> Done:
    out, err = process.communicate(timeout=60)
    wait_for(lambda: not left_running(process.pid), timeout_s=2)
    return Done(process.returncode, out, err)


def resumed(command: Command, fake: Path, sweep: tuple[str, ...], done: int, digest: str) -> None:
    """Run again: trains what was not recorded, and comes to what an undisturbed run does."""
    (fake / "starts").unlink()
    again = command(*sweep)
    assert again.code == 7, again.err
    assert (f"resuming: {done} of 12 done" in again.err) == (done > 0)
    assert len(starts(fake)) == 12 - done
    trials = make_plan(small(**CHANGES), digest).verdict_trials()
    found = {label(each.arm.params): [] for each in trials}  # type: dict[str, list[float]]
    for each in trials:
        found[label(each.arm.params)].append(fake_trainer.metrics(each.trial)["test_accuracy"])
    assert [arm["mean"] for arm in again.document["arms"]] == pytest.approx([fmean(found[arm]) for arm in found])
    assert [arm["n"] for arm in again.document["arms"]] == [6, 6]


def recorded(home: Path) -> int:
    return len(Ledger(Settings(home=home).ledger_url).find("small").entries())


@pytest.mark.slow
def test_ctrl_c_lets_running_trials_end_and_says_how_to_go_on(
    command: Command, fake: Path, sweep: tuple[str, ...], digest: str
) -> None:
    process = begun(command, fake, sweep)
    interrupt(process)
    done = ended(process)
    assert done.code == 130
    assert "stopping: running trials may finish (30 s at most); Ctrl-C again stops now" in done.err
    kept = recorded(command.folder / ".mnist-ablate")
    assert f"stopped at {kept} of 12 trials; run the same command again to continue" in done.err
    assert kept == len(starts(fake))
    assert "Traceback" not in done.err
    assert done.document["trials"]["complete"] == kept
    resumed(command, fake, sweep, kept, digest)


SLOW, HUNG = '{"*/4": "slow", "*/1": "slow"}', '{"*/0": "hang"}'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "code", "faults"),
    [
        ([signal.SIGINT, signal.SIGINT], 130, SLOW),
        ([signal.SIGTERM], 143, SLOW),
        ([signal.SIGTERM], 143, HUNG),
        ([signal.SIGHUP], 129, SLOW),
    ],
)
def test_stopping_at_once_takes_seconds_and_leaves_nothing(
    command: Command, fake: Path, sweep: tuple[str, ...], signals: list[int], code: int, faults: str, digest: str
) -> None:
    process = begun(command, fake, sweep, trials=2, FAKE_FAULTS=faults)
    time.sleep(0.5)
    clock = time.monotonic()
    for number in signals:
        os.kill(process.pid, number)
        time.sleep(0.3)
    done = ended(process)
    assert time.monotonic() - clock < 5
    assert done.code == code
    assert done.err.splitlines()[-1] == "stopped; run the same command again to continue"
    assert "Traceback" not in done.err
    assert done.out == ""
    resumed(command, fake, sweep, recorded(command.folder / ".mnist-ablate"), digest)


@pytest.mark.slow
@pytest.mark.parametrize("faults", ["{}", '{"*/1": "hang"}'])
def test_a_killed_driver_leaves_no_worker_and_resumes(
    command: Command, fake: Path, sweep: tuple[str, ...], faults: str, digest: str
) -> None:
    process = begun(command, fake, sweep, trials=4, FAKE_FAULTS=faults)
    process.kill()
    process.communicate()
    wait_for(lambda: not left_running(process.pid), timeout_s=2)
    resumed(command, fake, sweep, recorded(command.folder / ".mnist-ablate"), digest)


def handles_signals(pid: int) -> bool:
    """Whether a command is past the imports of its first lines."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def test_a_signal_before_anything_runs_is_one_line(command: Command) -> None:
    process = command.start("list")
    wait_for(lambda: process.poll() is not None or handles_signals(process.pid))
    interrupt(process)
    done = ended(process)
    assert (done.code, done.err) in {(130, "stopped; run the same command again to continue\n"), (0, ""), (-2, "")}


ENDING = """
import atexit, signal, sys, time
from mnist_ablate.cli.app import app, main

@app.command()
def wait(told: bool = False) -> None:
    print("ending", flush=True)
    time.sleep(0 if told else 9)

def leave() -> None:
    print("leaving", flush=True)
    time.sleep(9)

atexit.register(leave)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[0] = "mnist-ablate"
main()
"""


@pytest.mark.parametrize(
    ("options", "said"), [((), "stopped; run the same command again to continue\n"), (("--told",), "")]
)
def test_ctrl_c_after_the_last_line_ends_at_once_and_says_nothing(options: tuple[str, ...], said: str) -> None:
    command = [sys.executable, "-c", ENDING, "wait", *options]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == "ending\n"
        if not options:
            process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "leaving\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=5)
    assert (process.returncode, err) == (-signal.SIGINT, said)


@pytest.mark.slow
def test_nohup_is_respected(command: Command, fake: Path, sweep: tuple[str, ...]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = begun(command, fake, sweep)
    finally:
        signal.signal(signal.SIGHUP, before)
    os.kill(process.pid, signal.SIGHUP)
    assert ended(process).code == 7


def test_the_first_ctrl_c_is_told_and_the_second_raises() -> None:
    told: list[str] = []
    drained: list[int] = []
    with Interrupts(told.append) as interrupts:
        interrupts.on_first = lambda: drained.append(1)
        signal.raise_signal(signal.SIGINT)
        assert (interrupts.stopping, interrupts.signal, len(told), drained) == (True, signal.SIGINT, 1, [1])
        with pytest.raises(Interrupted) as error:
            signal.raise_signal(signal.SIGINT)
    assert error.value.exit_code == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_outside_a_sweep_every_signal_raises(number: int, code: int) -> None:
    before = signal.getsignal(number)
    with raising(), pytest.raises(Interrupted) as error:
        signal.raise_signal(number)
    assert error.value.exit_code == code
    assert signal.getsignal(number) is before


def test_what_starts_masked_never_sees_ctrl_c() -> None:
    code = "import signal, os, sys; os.kill(os.getpid(), signal.SIGINT); print('alive')"
    with sigint_blocked():
        child = subprocess.run(["python3", "-c", code], capture_output=True, text=True, check=False)
    assert child.stdout == "alive\n"


class Deleted:
    """Gets a signal while it is deleted, where Python drops every exception."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


@raising()
def delete_and_wait() -> None:
    Deleted()
    time.sleep(5)


def test_a_signal_is_not_lost_in_the_deletion_of_an_object(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Interrupted, match="SIGTERM"):
        delete_and_wait()
    assert capfd.readouterr().err == ""
