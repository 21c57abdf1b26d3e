"""`stack init` writes a tree that images can be built from, and secrets that are random, private and never replaced."""

import configparser
import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import quote

import pytest
from command import PROGRAM, base_environment

from mnist_ablate.errors import SweepError
from mnist_ablate.service import stack

ROOT = Path(__file__).parents[2]
TREE = (".dockerignore", "LICENSE", "README.md", "constraints.txt", "docker-compose.yml", "pyproject.toml")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def secret(folder: Path, name: str) -> str:
    return (folder / name).read_text().strip()


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stack") / "service"
    stack.init(folder)
    return folder


def test_second_init_changes_nothing_and_says_so(ready: Path) -> None:
    before = contents(ready)
    done = subprocess.run(
        [PROGRAM, "stack", "init", ready], capture_output=True, text=True, env=base_environment(), timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "nothing was changed" in done.stderr
    assert contents(ready) == before
    compose, sweep = done.stdout.splitlines()
    assert compose.endswith("docker compose up -d")
    assert sweep.endswith(". secrets/client.env && mnist-ablate sweep normalization")
    assert not any(secret(ready / "secrets", "mlflow_admin_password") in text for text in (done.stdout, done.stderr))


def test_only_the_owner_reads_secrets_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        stack.write_secrets(tmp_path / "secrets")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "secrets").iterdir()} == {0o600}


def test_every_secret_is_random_long_and_needs_no_quoting(ready: Path, tmp_path: Path) -> None:
    stack.write_secrets(tmp_path / "other")
    words = []
    for folder in (ready / "secrets", tmp_path / "other"):
        words += [secret(folder, name) for name in ("postgres_password", "mlflow_admin_password", "mlflow_session_key")]
        words += [secret(folder, f"{role}_pgpass").rpartition(":")[2] for role in ("mlflow", "optuna")]
        words.append(account(folder)["mlflow_tracking_password"])
    assert len(set(words)) == 12
    assert all(len(word) >= 40 and quote(word, safe="") == word for word in words)


def account(folder: Path) -> configparser.SectionProxy:
    found = configparser.ConfigParser(interpolation=None)
    found.read(folder / "mlflow_credentials")
    return found["mlflow"]


def test_client_environment_is_the_account_of_the_server(ready: Path) -> None:
    script = '. "$1" && printf "%s %s" "$MLFLOW_TRACKING_USERNAME" "$MLFLOW_TRACKING_PASSWORD"'
    done = subprocess.run(["sh", "-c", script, "sh", ready / "secrets" / "client.env"], capture_output=True, text=True)
    found = account(ready / "secrets")
    assert done.stdout == f"{found['mlflow_tracking_username']} {found['mlflow_tracking_password']}"


def test_containers_run_as_the_owner_of_the_secrets_and_never_as_root(ready: Path) -> None:
    uid = int(re.findall(r"^STACK_UID=(\d+)$", (ready / ".env").read_text(), re.MULTILINE)[0])
    assert uid != 0
    assert {path.stat().st_uid for path in (ready / "secrets").iterdir()} == {uid}


def test_settings_of_the_user_stay(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MLFLOW_PORT=5050")
    assert stack._user(tmp_path / ".env")
    assert not stack._user(tmp_path / ".env")
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


def test_folder_that_others_enter_gets_no_secrets(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(SweepError, match="chmod 700"):
        stack.write_secrets(folder)
    assert not list(folder.iterdir())


def test_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "secrets").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SweepError):
        stack.write_secrets(tmp_path / "secrets")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package as a wheel lays it out, by the rules of pyproject.toml."""
    package = tmp_path / "site" / "mnist_ablate"
    shutil.copytree(ROOT / "mnist_ablate", package, ignore=shutil.ignore_patterns("__pycache__"))
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for source, target in rules["force-include"].items():
        place = tmp_path / "site" / target
        place.parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile
        copy(ROOT / source, place)
    monkeypatch.setattr(stack, "_PACKAGE", package)
    return package


def test_installed_command_writes_the_source_tree_of_the_images(installed: Path, tmp_path: Path) -> None:
    assert (installed / "deploy").is_dir()
    folder = tmp_path / "service"
    stack.init(folder)
    for name in TREE:
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes(), name
    for name in ("docker", "mnist_ablate", "sweeps"):
        wanted = {path: data for path, data in contents(ROOT / name).items() if "__pycache__" not in path}
        written = {path: data for path, data in contents(folder / name).items() if "__pycache__" not in path}
        assert written == wanted, name
