"""The scripts of the images: health that can say no, and a server that keeps secrets to files."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow_stub import Reply, Stub, running

DOCKER = Path(__file__).parents[2] / "docker"
SERVER = DOCKER / "mlflow_server.py"


def healthy(part: str, port: int) -> bool:
    code = f"import sys; sys.path.insert(0, {str(DOCKER)!r}); import cluster_health; "
    command = [sys.executable, "-c", f"{code} sys.exit(not cluster_health.{part}({port}))"]
    return subprocess.run(command, timeout=30).returncode == 0


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the kernel's table is Linux's")
def test_scheduler_is_well_while_it_listens_and_a_worker_while_it_holds_a_connection_to_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert healthy("scheduler", port)
        assert not healthy("worker", port)
        with socket.create_connection(("127.0.0.1", port)):
            assert healthy("worker", port)
    assert not healthy("scheduler", port)


def server(command: str, folder: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "STACK_SECRETS": str(folder), "STACK_SCRATCH": str(folder), **more}
    return subprocess.run(
        [sys.executable, SERVER, command], env=environment, capture_output=True, text=True, timeout=30
    )


@pytest.mark.parametrize("command", ["serve", "account", "health"])
def test_missing_secret_is_one_line_that_says_what_to_do(command: str, tmp_path: Path) -> None:
    done = server(command, tmp_path)
    assert done.returncode == 1
    what_to_do = r".*: No such file or directory: run mnist-ablate stack init, as the user in \.env\n"
    assert re.fullmatch(what_to_do, done.stderr)


def test_health_says_no_when_nothing_answers(tmp_path: Path) -> None:
    (tmp_path / "mlflow_admin_password").write_text("canary-of-the-health-check")
    done = server("health", tmp_path, STACK_SERVER="http://127.0.0.1:9")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "canary" not in done.stderr


def test_the_password_of_the_health_check_goes_to_no_proxy(tmp_path: Path) -> None:
    (tmp_path / "mlflow_admin_password").write_text("canary-of-the-health-check")
    with running(Stub(Reply(200))) as proxy, running(Stub(Reply(200))) as asked:
        through = {"http_proxy": proxy.uri, "no_proxy": "", "NO_PROXY": ""}
        assert server("health", tmp_path, STACK_SERVER=asked.uri, **through).returncode == 0
    assert (len(asked.seen), proxy.seen) == (1, [])


def test_server_image_has_the_guard_that_the_server_names() -> None:
    named = re.search(r"authorization_function = (\w+):(\w+)", SERVER.read_text())
    assert named is not None
    assert f"def {named[2]}(" in (DOCKER / f"{named[1]}.py").read_text()
    stage = (DOCKER / "Dockerfile").read_text().split(" AS mlflow\n")[1].split("\nFROM ")[0]
    assert "COPY docker/*.py /opt/stack/" in stage


def test_no_address_with_a_password_is_written_down() -> None:
    for path in [*filter(Path.is_file, DOCKER.iterdir()), DOCKER.parent / "docker-compose.yml"]:
        assert not re.search(r"://[^/\s:@]+:[^/\s@{]+@", path.read_text()), path.name
