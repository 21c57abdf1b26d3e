"""Tiny images, the fake trainer for every worker, and sweeps to run with it."""

import gc
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

from mnist_ablate.cli.app import RARELY
from mnist_ablate.environment import NO_THREADS, override

override(NO_THREADS)  # before NumPy is imported
gc.set_threshold(*RARELY)

import pytest
import sqlalchemy
from command import Command, base_environment, fake_trainer_environment
from postgres import Postgres, postgres
from sweep_runs import Tracker
from tiny_images import write_images

from mnist_ablate.execution import recorded_report
from mnist_ablate.execution.worker import TrainerPlugin
from mnist_ablate.settings import Settings
from mnist_ablate.workloads.keras_mnist import data


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def _leave_writing_to_the_system(connection: Any, _record: object) -> None:
    """What SQLite waits for at each commit, 6 ms, shows after a loss of power alone. Other processes still wait."""
    if isinstance(connection, sqlite3.Connection):
        with suppress(sqlite3.Error):  # a file that is no database: whoever reads it finds out
            connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A real PostgreSQL for the tests of a module."""
    with postgres() as running:
        yield running


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """An embedded MLflow store that is ready."""
    from mlflow_helpers import new_home  # late: MLflow takes seconds

    return new_home(tmp_path / "home")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger of its own, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'home' / 'ledger.db'}"
    found: Postgres = request.getfixturevalue("server")
    return found.database()


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of a page's words: its charts are neither laid out nor drawn, which takes two seconds a page."""
    from matplotlib.figure import Figure

    from mnist_ablate.reports import drawing

    monkeypatch.setattr(Figure, "draw_without_rendering", lambda _figure: None)
    monkeypatch.setattr(drawing, "to_svg", lambda chart, _ident: f"<svg><title>{escape(chart.title)}</title></svg>")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "tiny.npz")


@pytest.fixture(scope="session")
def digest(images: Path) -> str:
    return data.load(images).digest


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Workers train with the fake trainer; the folder where it notes what it started."""
    folder = tmp_path / "fake"
    folder.mkdir()
    for name, value in fake_trainer_environment(folder).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FAKE_FAULTS", raising=False)
    return folder


@pytest.fixture
def plugin(images: Path, digest: str, tmp_path: Path) -> TrainerPlugin:
    """What sets up local workers with the fake trainer."""
    return TrainerPlugin("fake_trainer:factory", digest, images.read_bytes(), tmp_path)


@pytest.fixture
def settings(images: Path, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", data=images, jobs=2)


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Tracker:
    """A tracker in place of MLflow, which takes seconds to import."""
    made = Tracker()
    monkeypatch.setattr(recorded_report, "Mirror", lambda *_: made)
    return made


@pytest.fixture
def command(fake: Path, tmp_path: Path) -> Command:
    """The command line in a folder of its own."""
    return Command(tmp_path, base_environment(**fake_trainer_environment(fake)))
