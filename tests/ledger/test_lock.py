"""One driver per sweep: exclusive, named, gone with its process, taken again after a database restart."""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import psycopg2
import pytest
import sqlalchemy
from postgres import Postgres
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE
from tcp_proxy import proxy

from mnist_ablate.errors import ConflictError, DiskError, UnreachableError
from mnist_ablate.ledger import database
from mnist_ablate.ledger.database import hold

ME = re.escape(f"pid {os.getpid()} on {socket.gethostname()}")


def take(url: str, wait_s: float = 0.0) -> None:
    with hold(url, "x", wait_s):
        pass


def test_a_held_lock_names_its_holder_and_other_sweeps_are_free(url: str) -> None:
    told = f"^x is being run by {ME}: wait for it, or stop it$"
    with hold(url, "x"), hold(url, "名前"), pytest.raises(ConflictError, match=told):
        take(url)
    take(url)


def test_an_exception_inside_frees_the_lock_and_stays_itself(url: str) -> None:
    with pytest.raises(OSError, match="mine"), hold(url, "x"):
        raise OSError("mine")
    take(url)


def holding(url: str) -> "subprocess.Popen[str]":
    """A process that holds the lock x, and says so."""
    code = f"""
import time
from mnist_ablate.ledger.database import hold
with hold({url!r}, "x"):
    print("held", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_killed_holder_leaves_no_lock(url: str) -> None:
    with holding(url) as process:
        with pytest.raises(ConflictError, match=f"x is being run by pid {process.pid} on "):
            take(url)
        process.send_signal(signal.SIGKILL)
        process.wait()
        take(url, wait_s=2.0)


def test_who_waits_gets_it_when_it_is_free(url: str) -> None:
    with holding(url) as process:
        threading.Timer(0.3, process.kill).start()
        take(url, wait_s=20.0)


def test_two_homes_with_one_database_share_the_lock(tmp_path: Path) -> None:
    (tmp_path / "folder").symlink_to(tmp_path)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "l.db").symlink_to("../real/ledger.db")
    with hold(f"sqlite:///{tmp_path}/one/l.db", "x"):
        for path in ("other/l.db", "real/ledger.db", "folder/real/ledger.db"):
            with pytest.raises(ConflictError):
                take(f"sqlite:///{tmp_path}/{path}")


KINDS = r"sqlite:////path/file.db or postgresql\+psycopg2://"


@pytest.mark.parametrize(
    ("url", "error", "told"),
    [
        ("postgresql+psycopg2://u:hunter2@[::1]:1/d", UnreachableError, r"^database \S+//u:\*\*\*@\[::1\]:1/d not"),
        *((url, UnreachableError, KINDS) for url in ("mysql://h/d", "sqlite://", "sqlite:///:memory:", "no url")),
        ("sqlite:///{}/file/home/ledger.db", DiskError, "^no space on, or no right to write, {}/file/home"),
        ("sqlite:///{}/l.db", DiskError, "^no space on, or no right to write, {}: .*{}/file"),
    ],
)
def test_what_cannot_be_locked_is_one_line_without_a_password(
    tmp_path: Path, url: str, error: type[Exception], told: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "l.db").symlink_to("file/ledger.db")
    with pytest.raises(error, match=told.format(tmp_path, tmp_path)):
        take(url.format(tmp_path))


@pytest.fixture
def many_descriptors() -> Iterator[int]:
    """A descriptor that a process has only while it has a thousand others."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < 2000:
        pytest.skip("no more than a thousand descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, before[1]))
    yield 1500
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_database_is_waited_for_at_any_descriptor(many_descriptors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "ANSWER_S", 0.2)
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(fileno=os.dup2(ours.fileno(), many_descriptors)) as high:
        states = [POLL_WRITE, POLL_READ]
        connection = Mock(fileno=high.fileno, poll=lambda: states.pop(0) if states else POLL_OK)
        theirs.send(b"answer")
        database._wait(connection)
        assert states == []
        high.recv(100)
        states.append(POLL_READ)
        with pytest.raises(psycopg2.OperationalError, match="no answer for"):
            database._wait(connection)


@pytest.mark.service
def test_a_restarted_database_gives_the_lock_back_or_says_who_has_it(server: Postgres) -> None:
    url = server.database()
    with hold(url, "x") as lock:
        lock.ensure()
        server.crash()
        with pytest.raises(UnreachableError, match="not reachable"):
            lock.ensure()
        server.start()
        lock.ensure()
        with pytest.raises(ConflictError, match=ME):
            take(url)
        server.crash()
        server.start()
        with holding(url) as thief:
            with pytest.raises(ConflictError, match=f"pid {thief.pid}"):
                lock.ensure()
            thief.kill()


@pytest.mark.service
@pytest.mark.parametrize("fault", ["stall", "cut"])
def test_a_session_that_lives_on_without_us_does_not_keep_the_lock(
    server: Postgres, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sqlalchemy.make_url(server.database())
    monkeypatch.setattr(database, "ANSWER_S", 0.5)
    with proxy(url.port or 5432) as way:
        through = url.set(port=way.port).render_as_string(hide_password=False)
        with hold(through, "x") as lock:
            lock.ensure()
            if fault == "stall":
                way.stall()
                with pytest.raises(UnreachableError, match=r"not reachable: .*no answer for"):
                    lock.ensure()
                way.heal()
            else:
                way.cut()
            lock.ensure()
            with pytest.raises(ConflictError, match=ME):
                take(url.render_as_string(hide_password=False))
