"""One driver per sweep: exclusive, named, gone with its process, taken again after a database restart."""

import multiprocessing
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
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
from mnist_ablate.ledger.lock import hold

ME = re.escape(f"pid {os.getpid()} on {socket.gethostname()}")


def test_a_held_lock_names_its_holder(url: str) -> None:
    with hold(url, "x"), pytest.raises(ConflictError, match=f"^x is being run by {ME}: wait for it, or stop it$"):
        hold(url, "x").__enter__()


def test_other_sweeps_are_free_and_so_is_this_one_afterwards(url: str) -> None:
    with hold(url, "x"), hold(url, "名前"):
        pass
    with hold(url, "x"):
        pass


def test_an_exception_inside_frees_the_lock_and_stays_itself(url: str) -> None:
    with pytest.raises(OSError, match="mine"), hold(url, "x"):
        raise OSError("mine")
    with hold(url, "x"):
        pass


def holding(url: str) -> "subprocess.Popen[str]":
    """A process that holds the lock x, and says so."""
    code = f"""
import time
from mnist_ablate.ledger.lock import hold
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
            hold(url, "x").__enter__()
        process.send_signal(signal.SIGKILL)
        process.wait()
        with hold(url, "x", wait_s=2.0):
            pass


def test_who_waits_gets_it_when_it_is_free(url: str) -> None:
    with holding(url) as process:
        context = multiprocessing.get_context("spawn")
        killer = context.Process(target=_kill_later, args=(process.pid,))
        killer.start()
        with hold(url, "x", wait_s=20.0):
            pass
        killer.join()


def _kill_later(pid: int) -> None:
    time.sleep(0.3)
    os.kill(pid, signal.SIGKILL)


def test_two_homes_with_one_database_share_the_lock(tmp_path: Path) -> None:
    link = tmp_path / "other"
    link.symlink_to(tmp_path)
    with hold(f"sqlite:///{tmp_path}/l.db", "x"), pytest.raises(ConflictError):
        hold(f"sqlite:///{link}/l.db", "x").__enter__()


def test_links_to_one_file_share_the_lock(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "l.db").symlink_to("../real/ledger.db")
    with hold(f"sqlite:///{tmp_path}/one/l.db", "x"):
        for path in ("other/l.db", "real/ledger.db"):
            with pytest.raises(ConflictError):
                hold(f"sqlite:///{tmp_path}/{path}", "x").__enter__()


def test_no_lock_beside_the_file_of_a_link_is_told_with_the_link(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "l.db").symlink_to("file/ledger.db")
    with pytest.raises(DiskError, match=f"^no space on, or no right to write, {tmp_path}: .*{tmp_path}/file"):
        hold(f"sqlite:///{tmp_path}/l.db", "x").__enter__()


def test_no_database_is_one_line_without_the_password() -> None:
    with pytest.raises(UnreachableError, match=r"database postgresql\+psycopg2://u:\*\*\*@127.0.0.1:1/d not reachable"):
        hold("postgresql+psycopg2://u:hunter2@127.0.0.1:1/d", "x").__enter__()


@pytest.mark.parametrize("url", ["mysql://h/d", "sqlite://", "sqlite:///:memory:", "no url"])
def test_other_databases_are_refused_with_what_is_expected(url: str) -> None:
    with pytest.raises(UnreachableError, match=r"sqlite:////path/file.db or postgresql\+psycopg2://"):
        hold(url, "x").__enter__()


def test_a_folder_that_cannot_be_made_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match=f"^no space on, or no right to write, {tmp_path}/file/home"):
        hold(f"sqlite:///{tmp_path}/file/home/ledger.db", "x").__enter__()


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
            hold(url, "x").__enter__()
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
    monkeypatch.setattr(database, "ANSWER_S", 0.5)
    url = sqlalchemy.make_url(server.database())
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
                hold(url.render_as_string(hide_password=False), "x").__enter__()
