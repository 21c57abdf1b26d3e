"""The store in the home is made whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import left_running, wait_for

from mnist_ablate.errors import UnreachableError
from mnist_ablate.tracking import local_store


@pytest.mark.parametrize("name", ["plain", "with space", "50%25", "a?b", "a#b", "名前"])
def test_address_leads_back_to_the_file(tmp_path: Path, name: str) -> None:
    uri = local_store.uri(tmp_path / name)
    assert local_store.database(uri) == tmp_path / name / "mlflow.db"
    assert local_store.artifact_root(uri) == tmp_path / name / "mlartifacts"


def test_other_addresses_have_no_file() -> None:
    assert local_store.database("http://host:5000") is None
    assert local_store.artifact_root("postgresql+psycopg2://db/x") is None


@pytest.mark.slow
def test_two_processes_make_one_store_and_clear_what_a_killed_one_left(tmp_path: Path) -> None:
    home = tmp_path / "50% wild?"
    (home / ".mlflow-new").mkdir(parents=True)
    (home / ".mlflow-new" / "mlflow.db").write_text("half made")
    code = f"from mnist_ablate.tracking import local_store; local_store.create({local_store.uri(home)!r})"
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert sorted(path.name for path in home.iterdir()) == [".mlflow.lock", "mlflow.db"]
    assert (home / "mlflow.db").read_bytes().startswith(b"SQLite format 3")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_killed_creator_leaves_no_process(tmp_path: Path) -> None:
    code = f"from mnist_ablate.tracking import local_store; local_store.create({local_store.uri(tmp_path)!r})"
    creator = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    wait_for((tmp_path / ".mlflow-new" / "mlflow.db").exists)
    creator.kill()
    creator.wait()
    wait_for(lambda: not left_running(creator.pid), timeout_s=2)
    assert not (tmp_path / "mlflow.db").exists()


def test_failed_creation_leaves_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UnreachableError, match=r"mlflow\.db cannot be created: its tables could not be made"):
        local_store.create(local_store.uri(tmp_path))
    assert not (tmp_path / "mlflow.db").exists()


def test_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnreachableError, match=r"file/mlflow.db cannot be created: (Not a directory|File exists)"):
        local_store.create(local_store.uri(tmp_path / "file"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UnreachableError, match="cannot be created: Permission denied"):
        local_store.create(local_store.uri(tmp_path))
