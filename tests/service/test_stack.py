"""`stack init` writes secrets and the tree of the images. Their scripts keep the secrets and tell if all is well."""

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import quote

import pytest
from command import Command, base_environment
from mlflow_stub import Reply, Stub, running

from mnist_ablate.errors import SweepError
from mnist_ablate.service import stack

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
SERVER = DOCKER / "mlflow_server.py"


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def secret(folder: Path, name: str) -> str:
    """A password, or the one at the end of a file."""
    return re.split("[: ]", (folder / "secrets" / name).read_text().strip())[-1]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stack") / "service"
    stack.init(folder)
    return folder


def test_second_init_changes_nothing_and_says_so(ready: Path) -> None:
    before = contents(ready)
    done = Command(ready, base_environment())("stack", "init", str(ready))
    assert done.code == 0, done.err
    assert "nothing was changed" in done.err
    assert contents(ready) == before
    compose, sweep = done.out.splitlines()
    assert compose.endswith("docker compose up -d")
    assert sweep.endswith(". secrets/client.env && mnist-ablate sweep normalization")
    assert secret(ready, "mlflow_admin_password") not in done.out + done.err


def test_only_the_owner_reads_secrets_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        written = stack.write_secrets(tmp_path / "secrets")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}


def test_every_secret_is_random_long_and_needs_no_quoting(ready: Path, tmp_path: Path) -> None:
    stack.write_secrets(tmp_path / "secrets")
    words = []
    for folder in (ready, tmp_path):
        words += [
            secret(folder, f"mlflow_{name}") for name in ("admin_password", "session_key", "pgpass", "credentials")
        ]
        words += [secret(folder, "postgres_password"), secret(folder, "optuna_pgpass")]
    assert len(set(words)) == 12
    assert all(len(word) >= 40 and quote(word, safe="") == word for word in words)


def test_client_environment_is_the_account_of_the_server(ready: Path) -> None:
    script = '. "$1" && printf "%s %s" "$MLFLOW_TRACKING_USERNAME" "$MLFLOW_TRACKING_PASSWORD"'
    done = subprocess.run(["sh", "-c", script, "sh", ready / "secrets" / "client.env"], capture_output=True, text=True)
    assert done.stdout == f"sweeper {secret(ready, 'mlflow_credentials')}"
    assert "\nmlflow_tracking_username = sweeper\n" in (ready / "secrets" / "mlflow_credentials").read_text()


def test_containers_run_as_the_owner_of_the_secrets_and_never_as_root(ready: Path) -> None:
    uid = int(re.findall(r"^STACK_UID=(\d+)$", (ready / ".env").read_text(), re.MULTILINE)[0])
    assert uid != 0
    assert {path.stat().st_uid for path in (ready / "secrets").iterdir()} == {uid}


def test_settings_of_the_user_stay(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MLFLOW_PORT=5050")
    assert [stack._write_user(tmp_path / ".env") for _ in range(2)] == [[tmp_path / ".env"], []]
    assert (tmp_path / ".env").read_text().startswith("MLFLOW_PORT=5050\nSTACK_UID=")


@pytest.mark.parametrize("name", ["docker-compose.yml", "pyproject.toml"])
def test_files_of_another_project_are_not_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("something else\n")
    with pytest.raises(SweepError, match=f"{name}.*choose an empty folder"):
        stack.init(tmp_path)
    assert contents(tmp_path) == {name: b"something else\n"}


def test_half_of_the_secrets_are_not_made_whole_with_new_ones(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    stack.write_secrets(folder)
    (folder / "mlflow_pgpass").unlink()
    before = contents(folder)
    with pytest.raises(SweepError, match="but not mlflow_pgpass: restore"):
        stack.write_secrets(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("is_link", [False, True])
def test_folder_that_others_enter_and_a_link_get_no_secrets(tmp_path: Path, is_link: bool) -> None:
    place = tmp_path / ("elsewhere" if is_link else "secrets")
    place.mkdir()
    place.chmod(0o700 if is_link else 0o755)
    if is_link:
        (tmp_path / "secrets").symlink_to(place)
    with pytest.raises(SweepError, match="chmod 700"):
        stack.write_secrets(tmp_path / "secrets")
    assert not list(place.iterdir())


def test_installed_command_writes_the_tree_of_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, folder = (
        tmp_path / "site",
        tmp_path / "service",
    )  # the first as a wheel lays it out, by the rules of pyproject
    shutil.copytree(ROOT / "mnist_ablate", site / "mnist_ablate")
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for source, target in rules["force-include"].items():
        (site / target).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile
        copy(ROOT / source, site / target)
    monkeypatch.setattr(stack, "_PACKAGE", site / "mnist_ablate")
    assert (site / "mnist_ablate" / "deploy").is_dir()
    stack.init(folder)
    for name in (".dockerignore", "LICENSE", "README.md", "constraints.txt", "docker-compose.yml", "pyproject.toml"):
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes(), name
    for name in ("docker", "mnist_ablate", "sweeps"):
        assert contents(folder / name) == contents(ROOT / name), name


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


def test_health_says_no_when_nothing_answers_and_gives_its_password_to_no_proxy(tmp_path: Path) -> None:
    (tmp_path / "mlflow_admin_password").write_text("canary-of-the-health-check")
    done = server("health", tmp_path, STACK_SERVER="http://127.0.0.1:9")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "canary" not in done.stderr
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
