"""The ledger on SQLite and on a real PostgreSQL: whole trials or none, nothing overwritten, one line per error."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import fake_trainer
import optuna
import psycopg2.extensions
import pytest
import sqlalchemy
from ledger_records import begun, outcome, plan
from postgres import Postgres
from sweep_runs import SWEEP, small
from tcp_proxy import proxy
from tiny_images import SUPPORT

from mnist_ablate.errors import ConflictError, DiskError, SweepError, UnreachableError
from mnist_ablate.ledger import backup, database
from mnist_ablate.ledger.database import Lock, Outage
from mnist_ablate.ledger.ledger import Ledger, Mirrored, Record
from mnist_ablate.ledger.raw_records import record_problems
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import PlannedTrial, make_plan
from mnist_ablate.tracking import client
from mnist_ablate.trial import Outcome
from mnist_ablate.verification import raw_stores


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


def first_added(record: Record, *statuses: str) -> PlannedTrial:
    """The first trial, once it is recorded with these ends."""
    first = record.plan.verdict_trials()[0]
    for status in statuses or ("complete",):
        record.add(first, outcome(first, status))
    return first


def test_what_is_read_back_is_what_was_written(url: str) -> None:
    trials = plan().verdict_trials()
    record = begun(url, plan())
    statuses = ["complete", "diverged", "failed", "lost", "complete", "complete"]
    written = [outcome(each, status) for each, status in zip(trials, statuses, strict=True)]
    for each, its in zip(trials, written, strict=True):
        record.add(each, its)
    entries = Ledger(url).find("small").records()
    found = [(entry.trial, entry.params, entry.stage, entry.outcome) for entry in entries]
    assert found == [(t.trial, t.arm.params, t.stage, its) for t, its in zip(trials, written, strict=True)]


def test_optuna_itself_can_read_it(url: str) -> None:
    first = first_added(begun(url, plan()))
    study = optuna.load_study(study_name="small/1", storage=url)
    assert study.best_trial.params == {"activation": "relu", "seed": 0}
    assert study.best_value == fake_trainer.metrics(first.trial)["test_accuracy"]
    assert list(study.best_trial.intermediate_values) == [1, 2]


def test_the_last_record_of_a_trial_counts(url: str) -> None:
    record = begun(url, plan())
    first = first_added(record, "failed", "complete")
    assert [entry.outcome.status for entry in record.records()] == ["failed", "complete"]
    assert record.entries()[first.id].outcome.status == "complete"


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"fixed": {"epochs": 8}}, "epochs 2 -> 8"),
        ({"seeds": 4}, "seeds 3 -> 4"),
        ({"fixed": {"epochs": 2, "dropout": 0.1}}, "dropout nothing -> 0.1"),
        ({"scientific": {"activation": ["relu", "gelu"]}, "claims": []}, "activation [relu, tanh] -> [relu, gelu]"),
        ({"question": "Other?", "fixed": {"epochs": 1}, "seeds": 9}, "question Does tanh hurt? -> Other?"),
        ({"claims": [{**SWEEP["claims"][0], "margin": 0.01}]}, "claims.tanh-hurts.margin 0.002 -> 0.01; use"),
    ],
)
def test_a_changed_sweep_is_refused_with_what_differs(sqlite: str, changes: dict[str, Any], difference: str) -> None:
    begun(sqlite, plan())
    with pytest.raises(ConflictError) as error:
        begun(sqlite, plan(**changes))
    text = str(error.value)
    assert text.startswith(f"small: stored sweep differs: {difference}")
    assert text.endswith("; use --fresh or another name")
    assert "\n" not in text


def test_a_sweep_that_asks_the_same_in_other_words_goes_on_and_other_data_are_another_sweep(url: str) -> None:
    begun(url, plan())
    assert begun(url, plan(source="elsewhere", baseline={}, fixed={"epochs": 2.0})).name == "small/1"
    with pytest.raises(ConflictError, match="differs: data_digest d1d1"):
        begun(url, make_plan(small(), "d2" * 32))


def test_fresh_leaves_the_old_record_and_becomes_the_latest(url: str) -> None:
    old = begun(url, plan())
    first_added(old)
    assert begun(url, plan(seeds=9), fresh=True).name == "small/2"
    assert Ledger(url).find("small").sweep.seeds == 9
    assert len(old.records()) == 1


def test_names_with_a_common_beginning_are_kept_apart(url: str) -> None:
    for name in ("a", "a-quick", "名前"):
        begun(url, plan(name=name))
    with pytest.raises(SweepError, match=r"^a-quik: nothing recorded: run `mnist-ablate sweep a-quik` first; did you"):
        Ledger(url).find("a-quik")
    assert Ledger(url).find("名前").sweep.name == "名前"


def test_reading_what_was_never_written_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="small: nothing recorded"):
        Ledger(f"sqlite:///{tmp_path}/home/ledger.db").find("small")
    assert not list(tmp_path.iterdir())


def test_a_ledger_whose_maker_was_killed_between_two_tables_is_empty_and_made_to_its_end(tmp_path: Path) -> None:
    tables = optuna.storages._rdb.models.BaseModel.metadata.sorted_tables
    for made in range(len(tables) + 1):
        url = f"sqlite:///{tmp_path}/{made}.db"
        engine = sqlalchemy.create_engine(url)
        for table in tables[:made]:
            table.create(engine)
        engine.dispose()
        assert (Ledger(url).names(), Ledger(url).studies("small")) == ([], [])
        with pytest.raises(SweepError, match="nothing recorded"):
            raw_stores.read_ledger(url, "small")
        record = begun(url, plan())
        first_added(record)
        assert record.count() == 1


def test_what_mlflow_has_is_remembered(url: str) -> None:
    record, seen = begun(url, plan()), Mirrored(6, "http://user:***@h", "http://h/#/experiments/1")
    assert record.mirrored == Mirrored()
    record.mirrored = seen
    assert begun(url, plan()).mirrored == seen


def test_trials_that_wait_together_are_written_together_or_not_at_all(url: str) -> None:
    record = begun(url, plan())
    finished = [(each, outcome(each)) for each in plan().verdict_trials()]
    commits: list[object] = []
    sqlalchemy.event.listen(engine_of(record), "commit", commits.append)
    record.add_all(finished[:4])
    assert len(commits) == 1
    planned, its = finished[5]
    wrong = replace(planned, arm=replace(planned.arm, params={"activation": "gelu"}))
    with pytest.raises(ValueError, match="gelu"):
        record.add_all([finished[4], (wrong, its)])
    record.add_all(finished[4:])
    assert [entry.outcome for entry in record.records()] == [its for _, its in finished]


def test_a_home_with_any_characters_holds_a_ledger(tmp_path: Path) -> None:
    home = tmp_path / "50% of {it}? #名前 "
    begun(Settings(home=home).ledger_url, plan())
    assert (home / "ledger.db").exists()


ENVIRONMENT = os.environ | {"PYTHONPATH": str(SUPPORT)}
WRITER = """
import sys
from ledger_records import begun, outcome, plan
wanted = plan(seeds=1000)
record = begun(sys.argv[1], wanted)
for number, each in enumerate(wanted.verdict_trials()):
    record.add(each, outcome(each))
    if number == 20:
        print("some", flush=True)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_whole_trials_and_no_open_one(url: str) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, url], env=ENVIRONMENT, stdout=subprocess.PIPE)
    assert writer.stdout
    with writer:
        assert writer.stdout.readline() == b"some\n"
        threading.Timer(0.05, lambda: writer.send_signal(signal.SIGKILL)).start()
        writer.wait()
    record = begun(url, plan(seeds=1000))
    entries = record.records()
    assert 20 < len(entries) < 2000
    assert [entry.trial.seed for entry in entries] == [n // 2 for n in range(len(entries))]
    (study,) = raw_stores.read_ledger(url, "small")
    assert {trial.state for trial in study.trials} == {"COMPLETE"}
    assert [problem for trial in study.trials for problem in record_problems(trial, record.sweep.workload)] == []


COMPETE = """
import os, sys, time
from ledger_records import plan
from mnist_ablate.errors import ConflictError
from mnist_ablate.ledger.ledger import Ledger

def compete():
    ledger = Ledger(sys.argv[1])
    with open(sys.argv[2], "ab", buffering=0) as ready:
        ready.write(b".")
        while os.path.getsize(sys.argv[2]) < 8:
            time.sleep(0.01)
    try:
        with ledger.driving("small"):
            ledger.begin(plan(), fresh=False)
            time.sleep(1)
            return "ran"
    except ConflictError as error:
        return str(error)

parent = all(os.fork() for _ in range(7))
os.write(1, f"{compete()}\\n".encode())
for _ in range(7 * parent):
    os.wait()
os._exit(0)
"""


@pytest.mark.slow
def test_eight_at_once_on_an_empty_database_make_one_record(url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMPETE, url, str(tmp_path / "ready")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert sorted(line.partition(" by ")[0] for line in said) == ["ran", *["small is being run"] * 7], done
    assert begun(url, plan()).name == "small/1"


def engine_of(record: Record) -> sqlalchemy.Engine:
    return record._rows._engine


def test_an_answer_that_was_lost_is_not_written_twice(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit succeeds and then the connection breaks: the write is tried again, and finds itself."""
    record = begun(url, plan())
    dialect = engine_of(record).dialect
    commit, lost = dialect.do_commit, [1]

    def lose(connection: Any) -> None:
        commit(connection)
        if lost:
            lost.clear()
            raise dialect.loaded_dbapi.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(dialect, "do_commit", lose)
    assert add_through(record, Lock(), {}) == ["database not reachable, retrying"]
    assert not lost
    assert_all_recorded(record)


def assert_all_recorded(record: Record) -> None:
    assert [entry.trial.id for entry in record.records()] == [each.id for each in record.plan.verdict_trials()]


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_loses_nothing_that_was_recorded(tmp_path: Path, sqlite: str) -> None:
    wanted = plan(seeds=100)
    record = begun(sqlite, wanted)
    pages = [60]

    @sqlalchemy.event.listens_for(engine_of(record), "begin")
    def limit(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages[0]}")

    def write(trials: Sequence[PlannedTrial]) -> None:
        for each in trials:
            record.add(each, outcome(each))

    with pytest.raises(DiskError, match=f"no space on, or no right to write, {tmp_path}: free it and run") as error:
        write(wanted.verdict_trials())
    assert error.value.exit_code == 5
    written = len(begun(sqlite, wanted).records())
    assert 0 < written < 200
    pages[0] = 100_000
    write(wanted.verdict_trials()[written : written + 5])
    assert len(begun(sqlite, wanted).records()) == written + 5


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path, sqlite: str) -> None:
    (tmp_path / "ledger.db").write_text("hello, this is not a database at all")
    with pytest.raises(UnreachableError, match=f"^database {tmp_path}/ledger.db not usable: restore it"):
        Ledger(sqlite).names()


def add_through(record: Record, lock: Lock, troubles: Mapping[int, Callable[[], None]]) -> list[str]:
    """Records every trial, each after the trouble of its number, if any; returns what was told."""
    messages: list[str] = []
    outage = Outage(messages.append, 60.0, lambda: False)
    for number, each in enumerate(record.plan.verdict_trials()):
        troubles.get(number, lambda: None)()

        def write(finished: tuple[PlannedTrial, Outcome] = (each, outcome(each))) -> None:
            lock.ensure()
            record.add(*finished)

        outage.retry_until_available(write)
    return messages


@pytest.mark.service
def test_a_database_that_restarts_costs_one_message_and_no_trial(server: Postgres) -> None:
    ledger = Ledger(server.database())

    def restart() -> None:
        server.crash()
        threading.Timer(2.0, server.start).start()

    with ledger.driving("small") as lock:
        record = ledger.begin(plan(seeds=10), fresh=False)
        messages = add_through(record, lock, {5: restart})
        with pytest.raises(ConflictError), ledger.driving("small"):
            pass
    assert messages == ["database not reachable, retrying"]
    assert_all_recorded(record)


@pytest.mark.service
def test_refused_credentials_and_a_missing_database_are_one_line(server: Postgres) -> None:
    url = sqlalchemy.make_url(server.url)
    for wrong in (url.set(username="nobody_here", password="hunter2!"), url.set(database="not_there")):
        with pytest.raises(UnreachableError) as error:
            Ledger(wrong.render_as_string(hide_password=False)).names()
        assert "hunter2!" not in str(error.value)
        assert "\n" not in str(error.value)


def test_an_outage_that_lasts_too_long_gives_up_with_the_reason() -> None:
    messages: list[str] = []
    down = Mock(side_effect=UnreachableError("database x not reachable"))
    with pytest.raises(UnreachableError, match="database x not reachable; run the same command again to continue"):
        Outage(messages.append, 0.6, lambda: False).retry_until_available(down)
    assert messages == ["database not reachable, retrying"]


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting takes root")
def test_a_read_only_home_can_be_read_and_not_written(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    url = f"sqlite:///{home}/ledger.db"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", home], check=True)
    try:
        record = begun(url, plan())
        first_added(record)
        engine_of(record).dispose()
        subprocess.run(["mount", "-o", "remount,ro", home], check=True)
        (tmp_path / "link.db").symlink_to(home / "ledger.db")
        for number, each in enumerate((url, f"sqlite:///{tmp_path}/link.db")):
            assert len(Ledger(each).find("small").records()) == 1
            assert backup.export(each, ["small"], tmp_path / f"{number}.zip")[0] == {"small/1": 1}
        for write in (lambda: begun(url, plan(name="other")), lambda: first_added(record)):
            with pytest.raises(DiskError, match=f"^no space on, or no right to write, {home}"):
                write()
    finally:
        subprocess.run(["umount", "-l", home], check=True)


def test_a_record_of_another_version_is_refused_in_words(sqlite: str) -> None:
    record = begun(sqlite, plan())
    study = optuna.load_study(study_name=record.name, storage=sqlite)
    study.add_trial(optuna.trial.create_trial(value=0.5, user_attrs={"trial_id": "x"}))
    with pytest.raises(ConflictError, match="small/1: written by another version of mnist-ablate: use that one"):
        record.records()


@pytest.mark.service
def test_a_way_to_the_database_that_is_cut_or_silent_costs_no_trial(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sqlalchemy.make_url(server.database())
    monkeypatch.setattr(database, "ANSWER_S", 0.5)
    with proxy(url.port or 5432) as way:

        def stall() -> None:
            way.stall()
            threading.Timer(2.0, way.heal).start()

        ledger = Ledger(url.set(port=way.port).render_as_string(hide_password=False))
        with ledger.driving("small") as lock:
            record = ledger.begin(plan(seeds=10), fresh=False)
            messages = add_through(record, lock, {3: way.cut, 6: stall, 9: way.cut, 12: stall})
        assert_all_recorded(record)
    assert set(messages) == {"database not reachable, retrying"}


@pytest.mark.service
@pytest.mark.parametrize(
    "read", [lambda url: raw_stores.read_ledger(url, "small"), client.check_answer], ids=["ledger", "MLflow"]
)
def test_who_reads_a_database_that_says_nothing_is_told_so(
    server: Postgres, monkeypatch: pytest.MonkeyPatch, read: Callable[[str], object]
) -> None:
    monkeypatch.setattr(database, "ANSWER_S", 0.5)
    psycopg2.extensions.set_wait_callback(None)  # as in a process that wrote nothing
    url = sqlalchemy.make_url(server.database())
    with proxy(url.port or 5432) as way:
        way.stall()
        with pytest.raises(UnreachableError, match="no answer"):
            read(url.set(port=way.port).render_as_string(hide_password=False))
