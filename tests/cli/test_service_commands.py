"""The commands that use a service: what they print, how they end, and that Ctrl-C leaves a sweep running."""

import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from command import PROGRAM, Command, base_environment, interrupt, wait_for
from queued_sweeps import ended, running, submitted
from sweep_server import SMALL, Server, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture
def user(server: Server, tmp_path: Path) -> Command:
    return Command(tmp_path, base_environment(MNIST_ABLATE_SERVICE=server.url))


def test_a_file_is_submitted_listed_and_steered(server: Server, user: Command) -> None:
    (user.folder / "mine.yaml").write_text(SMALL)
    done = user("submit", "mine.yaml", "--set", "fixed.epochs=3", "--priority", "2")
    assert done.code == 0, done.err
    sweep = server.service.submission(done.out.strip())
    assert (sweep.name, sweep.priority, sweep.state) == ("mine", 2, "waiting")
    assert f"mine: waiting, 4 trials: {server.url}/sweeps/{sweep.id}" in done.err
    listed = user("queue").out.splitlines()
    assert [sweep.id, "mine", sweep.owner, "waiting", "0", "of", "4"] in [line.split() for line in listed]
    assert user("pause", "mine").out.startswith("mine: paused by ")
    assert user("resume", sweep.id).out == "mine: waiting\n"
    assert user("prioritize", "mine", "-3").out == "mine: priority -3\n"
    assert user("cancel", "mine").out.startswith("mine: cancelled by ")
    again = user("cancel", "mine")
    assert (again.code, "is cancelled already" in again.err) == (6, True)


def test_what_is_wrong_is_told_as_plan_tells_it(user: Command) -> None:
    (user.folder / "wrong.yaml").write_text(SMALL.replace("seeds", "sedes"))
    here, there = user("plan", "wrong.yaml"), user("submit", "wrong.yaml")
    assert (there.code, there.err) == (here.code, here.err)
    refused = user("sweep", "wrong.yaml", "--jobs", "2", "--home", "x")
    assert (refused.code, refused.err.partition(": no meaning")[0]) == (2, "--jobs, --home")
    assert "run the sweep here with --service ''" in refused.err
    assert user("queue", MNIST_ABLATE_SERVICE="").err.startswith("no service is named: give --service URL")


def test_sweep_shows_what_happens_there_and_ends_as_here(server: Server, user: Command) -> None:
    process = user.start("sweep", "small.yaml", "--json")
    _, err = process.communicate()
    assert (process.returncode, "no such file" in err) == (2, True)
    sweep = submitted(server.service.queue, name="followed")
    running(server.service.queue, sweep, "trial relu seed 1 lost (worker killed) - retrying 1/2")
    process = user.start("attach", "followed", "--json")
    time.sleep(1)
    ended(server.service, sweep, exit_code=7)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 7
    assert '"sweep":"followed"' in out
    assert "trial relu seed 1 lost (worker killed) - retrying 1/2" in err.splitlines()
    assert err.splitlines()[-2:] == ["done", f"report: {server.url}/sweeps/{sweep.id}"]
    assert user("attach", sweep.id).out.rstrip().endswith("1 claim: 1 supported")


def test_without_a_terminal_an_interrupt_leaves_the_sweep_running(server: Server, user: Command) -> None:
    (user.folder / "left.yaml").write_text(SMALL)
    process = user.start("sweep", "left.yaml")
    wait_for(lambda: any(each.name == "left" for each in server.service.submissions()))
    time.sleep(2)
    interrupt(process)
    _, err = process.communicate(timeout=60)
    sweep = server.service.submission("left")
    assert (process.returncode, sweep.state) == (130, "waiting")
    assert f"left goes on in the service; see it: mnist-ablate attach {sweep.id}" in err
    assert f"end it: mnist-ablate cancel {sweep.id}" in err


@pytest.mark.parametrize(("answer", "state"), [("\n", "waiting"), ("n\n", "cancelled")])
def test_on_a_terminal_an_interrupt_asks_first(answer: str, state: str, server: Server, user: Command) -> None:
    name = f"asked-{state}"
    (user.folder / f"{name}.yaml").write_text(SMALL)
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, "sweep", f"{name}.yaml"],
        cwd=user.folder,
        env={**user.environment, "TERM": "xterm"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    said = ""

    def read(text: str) -> bool:
        nonlocal said
        with suppress(OSError):
            said += os.read(controller, 1 << 16).decode(errors="replace")
        return text in said

    try:
        wait_for(lambda: read("waiting"), 60)
        os.killpg(process.pid, signal.SIGINT)
        wait_for(lambda: read("leave it running in the service? [Y/n]"), 60)
        os.write(controller, answer.encode())
        assert process.wait(60) == 130
        read("")
    finally:
        process.kill()
        process.wait()
        os.close(controller)
    assert server.service.submission(name).state == state
    assert ("cancelled; what is recorded stays" if state == "cancelled" else "goes on in the service") in said
