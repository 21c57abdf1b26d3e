"""The store in a home is made once, is at home wherever the home is moved, and writes nothing outside of it."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest
from command import left_running, wait_for
from ledger_records import recorded
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache as artifact_clients
from mlflow_helpers import new_home
from sweep_runs import small

from mnist_ablate.errors import UnreachableError
from mnist_ablate.execution import recorded_report
from mnist_ablate.settings import Settings
from mnist_ablate.tracking import home_store
from mnist_ablate.tracking.client import connect
from mnist_ablate.verification import verify

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's tables, SQLAlchemy 2.1


def uri(home: Path) -> str:
    return Settings(home=home).embedded_uri


def test_address_leads_back_to_the_file_if_there_is_one(tmp_path: Path) -> None:
    for name in ("plain", "with space", "50%25", "a?b", "a#b", "名前"):
        assert home_store.database(uri(tmp_path / name)) == tmp_path / name / "mlflow.db"
    assert [home_store.database(each) for each in ("http://host:5000", "postgresql+psycopg2://db/x")] == [None, None]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, in which nothing is yet."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def migrated(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where the migrations ran. They leave one table in place of MLflow's, and a number in it that counts them."""
    folders: list[Path] = []

    def migrate(scratch: Path) -> None:
        folders.append(scratch)
        with closing(sqlite3.connect(scratch / "mlflow.db")) as connection, connection:
            connection.execute("CREATE TABLE made AS SELECT ? AS time", (len(folders),))

    monkeypatch.setattr(home_store, "_migrate", migrate)
    return folders


def made(home: Path) -> int:
    home_store.create_store(uri(home))
    assert sorted(path.name for path in home.iterdir()) == [".mlflow.lock", "mlflow.db"]
    with closing(sqlite3.connect(home / "mlflow.db")) as connection:
        return int(connection.execute("SELECT time FROM made").fetchone()[0])


def test_migrations_run_for_the_first_store_of_a_user_and_its_copies_are_apart(
    tmp_path: Path, migrated: list[Path]
) -> None:
    assert [made(tmp_path / name) for name in ("a", "b")] == [1, 1]
    assert migrated == [tmp_path / "a" / ".mlflow-new"]
    (tmp_path / "b" / "mlflow.db").write_bytes(b"")
    assert made(tmp_path / "c") == 1


@pytest.mark.usefixtures("migrated")
def test_no_store_is_made_of_another_versions_template_or_of_a_damaged_one(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made(tmp_path / "first") == 1
    with monkeypatch.context() as patch:
        patch.setattr(home_store, "version", lambda _package: "3.99")
        assert made(tmp_path / "other version") == 2
    (migrations := tmp_path / "mlflow" / "store" / "db_migrations" / "versions").mkdir(parents=True)
    (tmp_path / "mlflow" / "__init__.py").touch()
    (migrations / "one_more.py").touch()
    with monkeypatch.context() as patch:
        spec = SimpleNamespace(origin=str(tmp_path / "mlflow" / "__init__.py"))
        patch.setattr(home_store, "find_spec", lambda _name: spec)
        assert made(tmp_path / "other migrations") == 3
    assert made(tmp_path / "again") == 1
    for template in cache.rglob("*.db"):
        template.write_bytes(template.read_bytes()[:-1] + b"x")
    assert made(tmp_path / "damaged") == 4
    assert made(tmp_path / "mended") == 4


def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path: Path, cache: Path, migrated: list[Path]) -> None:
    (cache / "mnist-ablate").write_text("no folder")
    assert [made(tmp_path / name) for name in ("a", "b")] == [1, 2]
    assert len(migrated) == 2


def creator(home: Path) -> "subprocess.Popen[bytes]":
    code = f"from mnist_ablate.tracking import home_store; home_store.create_store({uri(home)!r})"
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


@pytest.mark.slow
def test_two_processes_make_one_store_and_clear_what_a_killed_one_left(tmp_path: Path) -> None:
    home = tmp_path / "50% wild?"
    (home / ".mlflow-new").mkdir(parents=True)
    (home / ".mlflow-new" / "mlflow.db").write_text("half made")
    assert [process.wait(60) for process in [creator(home), creator(home)]] == [0, 0]
    assert sorted(path.name for path in home.iterdir()) == [".mlflow.lock", "mlflow.db"]
    assert (home / "mlflow.db").read_bytes().startswith(b"SQLite format 3")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_killed_creator_leaves_no_process(tmp_path: Path) -> None:
    process = creator(tmp_path)
    wait_for((tmp_path / ".mlflow-new" / "mlflow.db").exists)
    process.kill()
    process.wait()
    wait_for(lambda: not left_running(process.pid), timeout_s=2)
    assert not (tmp_path / "mlflow.db").exists()


def test_failed_creation_leaves_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UnreachableError, match=r"mlflow\.db cannot be created: its tables could not be made"):
        home_store.create_store(uri(tmp_path))
    assert not (tmp_path / "mlflow.db").exists()


def test_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnreachableError, match=r"file/mlflow.db cannot be created: (Not a directory|File exists)"):
        home_store.create_store(uri(tmp_path / "file"))


NAMES = ("plain", "with space", "100% a?b", "a#b", "a&b='c\"", "名前é", "50%25")


def addresses(home: Path) -> list[str]:
    with closing(sqlite3.connect(home / "mlflow.db")) as connection:
        return [
            address
            for table, column in home_store._ADDRESSES
            for (address,) in connection.execute(f"SELECT {column} FROM {table}")
            if address
        ]


def filled(home: Path) -> Settings:
    """A home with a sweep in its ledger and in its MLflow."""
    home.mkdir(parents=True)
    new_home(home)
    settings = recorded(home, small())
    recorded_report.sync("small", settings)
    return settings


def artifacts(settings: Settings) -> dict[str, Path]:
    """Of the sweep's own run, by name, fetched by MLflow."""
    client = connect(settings.embedded_uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.kind = 'sweep'")
    paths = [each.path for each in client.list_artifacts(parent.info.run_id)]
    (there := settings.home / "fetched").mkdir(exist_ok=True)
    return {path: Path(client.download_artifacts(parent.info.run_id, path, str(there))) for path in paths}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_home_of_any_name_leaves_nothing_beside_it(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "homes"
    settings = filled(folder / name)
    assert sorted(artifacts(settings)) == ["bundle.zip", "report.html", "sweep.yaml", "trials.csv", "verdicts.png"]
    assert verify.problems("small", settings) == []
    assert names(folder) == [name]
    assert names(tmp_path / "here") == []
    root = home_store.artifact_root(folder / name / "mlflow.db")
    assert all(address.startswith(root) for address in addresses(folder / name))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["renamed", "copied"])
def test_a_home_that_moved_is_at_home_where_it_is(tmp_path: Path, how: str) -> None:
    old, new = tmp_path / "a" / "home", tmp_path / "b" / "other 100%"
    filled(old)
    new.parent.mkdir()
    if how == "renamed":
        old.rename(new)
    else:
        shutil.copytree(old, new)
    before = {path: path.stat().st_mtime_ns for path in old.rglob("*")} if how == "copied" else None
    artifact_clients.clear()  # MLflow remembers, in one process, where a run's artifacts were
    settings = Settings(home=new)
    (page,) = (new / "mlartifacts").rglob("report.html")
    written = page.stat().st_mtime_ns
    assert verify.problems("small", settings) == []
    assert recorded_report.sync("small", settings)[:2] == (0, 6)
    assert all(path.is_file() for path in artifacts(settings).values())
    assert [*(new / "mlartifacts").rglob("report.html")] == [page]
    assert page.stat().st_mtime_ns > written
    assert all(unquote(urlsplit(address).path).startswith(str(new)) for address in addresses(new))
    assert verify.problems("small", settings) == []
    assert old.exists() == (how == "copied")
    if before is not None:
        assert {path: path.stat().st_mtime_ns for path in old.rglob("*")} == before
    assert names(new.parent) == [new.name]


@pytest.mark.slow
def test_verify_fetches_every_artifact(tmp_path: Path) -> None:
    settings = filled(tmp_path / "home")
    (page,) = (tmp_path / "home" / "mlartifacts").rglob("report.html")
    page.unlink()
    (told,) = verify.problems("small", settings)
    assert told == "MLflow: the run of the sweep has no report.html: run sync"
    page.mkdir()
    (page / "x").symlink_to(tmp_path / "nowhere")
    assert any("report.html/x cannot be fetched" in line for line in verify.problems("small", settings))
    shutil.rmtree(tmp_path / "home" / "mlartifacts")
    assert len(verify.problems("small", settings)) == 2


@pytest.mark.slow
def test_a_home_that_moved_and_cannot_be_written_is_served_from_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_home(tmp_path / "home")
    old, path = f"file:///elsewhere/{home_store.ARTIFACTS}", tmp_path / "home" / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO experiments (name, artifact_location) VALUES ('small', ?)", (old,))
    with home_store.folder_to_serve(path) as folder:
        assert folder == path.parent
    content = path.read_bytes()
    monkeypatch.setattr(home_store.os, "access", lambda *_: False)
    home_store.create_store(uri(tmp_path / "home"))
    with home_store.folder_to_serve(path) as folder:
        assert addresses(folder) == [home_store.artifact_root(path)]
    assert path.read_bytes() == content
    assert not folder.exists()
