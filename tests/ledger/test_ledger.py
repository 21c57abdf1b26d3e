"""The ledger on SQLite and on a real PostgreSQL: whole trials or none, nothing overwritten, one line per error."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_trainer
import optuna
import psycopg2.extensions
import pytest
import sqlalchemy
from ledger_records import DATA, begun, outcome, plan
from postgres import Postgres
from sweep_runs import small
from tcp_proxy import proxy

from mnist_ablate.errors import ConflictError, DiskError, SweepError, UnreachableError
from mnist_ablate.ledger import database
from mnist_ablate.ledger.database import Outage
from mnist_ablate.ledger.ledger import Ledger, Mirrored, Record
from mnist_ablate.ledger.lock import Lock
from mnist_ablate.ledger.raw_records import record_problems
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import Plan, PlannedTrial, make_plan
from mnist_ablate.tracking import client
from mnist_ablate.verification import raw_ledger


def test_what_is_read_back_is_what_was_written(url: str) -> None:
    wanted = plan()
    record = begun(url, wanted)
    statuses = ["complete", "diverged", "failed", "lost", "complete", "complete"]
    written = [outcome(each, status) for each, status in zip(wanted.verdict_trials(), statuses, strict=True)]
    for each, its in zip(wanted.verdict_trials(), written, strict=True):
        record.add(each, its)
    entries = Ledger(url, reading=True).find("small").records()
    assert [entry.outcome for entry in entries] == written
    assert [(entry.trial, entry.params, entry.stage) for entry in entries] == [
        (each.trial, each.arm.params, each.stage) for each in wanted.verdict_trials()
    ]


def test_optuna_itself_can_read_it(url: str) -> None:
    import optuna

    wanted = plan()
    record = begun(url, wanted)
    first = wanted.verdict_trials()[0]
    record.add(first, outcome(first))
    study = optuna.load_study(study_name="small/1", storage=url)
    assert study.best_trial.params == {"activation": "relu", "seed": 0}
    assert study.best_value == fake_trainer.metrics(first.trial)["test_accuracy"]
    assert list(study.best_trial.intermediate_values) == [1, 2]


def test_the_last_record_of_a_trial_counts(url: str) -> None:
    wanted = plan()
    record = begun(url, wanted)
    first = wanted.verdict_trials()[0]
    record.add(first, outcome(first, "failed"))
    record.add(first, outcome(first))
    assert [entry.outcome.status for entry in record.records()] == ["failed", "complete"]
    assert record.entries()[first.trial.id].outcome.status == "complete"


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"fixed": {"epochs": 8}}, "epochs 2 -> 8"),
        ({"seeds": 4}, "seeds 3 -> 4"),
        ({"fixed": {"epochs": 2, "dropout": 0.1}}, "dropout nothing -> 0.1"),
        ({"scientific": {"activation": ["relu", "gelu"]}, "claims": []}, "activation [relu, tanh] -> [relu, gelu]"),
        ({"question": "Other?", "fixed": {"epochs": 1}, "seeds": 9}, "question Does tanh hurt? -> Other?"),
    ],
)
def test_a_changed_sweep_is_refused_with_what_differs(
    tmp_path: Path, changes: dict[str, object], difference: str
) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    begun(url, plan())
    with pytest.raises(ConflictError) as error:
        begun(url, plan(**changes))
    text = str(error.value)
    assert text.startswith(f"small: stored sweep differs: {difference}")
    assert text.endswith("; use --fresh or another name")
    assert "\n" not in text


def test_a_changed_margin_names_its_claim(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    sweep = small()
    begun(url, make_plan(sweep, DATA))
    claim = sweep.claims[0].model_copy(update={"margin": 0.01})
    with pytest.raises(ConflictError, match=r"differs: claims.tanh-hurts.margin 0.002 -> 0.01; use"):
        begun(url, make_plan(sweep.model_copy(update={"claims": [claim]}), DATA))


def test_other_data_are_another_sweep(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    begun(url, plan())
    with pytest.raises(ConflictError, match="differs: data_digest d1d1"):
        begun(url, make_plan(small(), "d2" * 32))


def test_a_sweep_that_asks_the_same_in_other_words_goes_on(url: str) -> None:
    begun(url, plan())
    assert begun(url, plan(source="elsewhere", baseline={}, fixed={"epochs": 2.0})).name == "small/1"


def test_fresh_leaves_the_old_record_and_becomes_the_latest(url: str) -> None:
    wanted = plan()
    old = begun(url, wanted)
    first = wanted.verdict_trials()[0]
    old.add(first, outcome(first))
    assert begun(url, plan(seeds=9), fresh=True).name == "small/2"
    assert Ledger(url).find("small").sweep.seeds == 9
    assert len(old.records()) == 1


def test_names_with_a_common_beginning_are_kept_apart(url: str) -> None:
    begun(url, plan(name="a"))
    begun(url, plan(name="a-quick"))
    begun(url, plan(name="名前"))
    with pytest.raises(SweepError, match=r"^a-quik: nothing recorded: run `mnist-ablate sweep a-quik` first; did you"):
        Ledger(url).find("a-quik")
    assert Ledger(url).find("名前").sweep.name == "名前"


def test_reading_what_was_never_written_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="small: nothing recorded"):
        Ledger(f"sqlite:///{tmp_path}/home/ledger.db", reading=True).find("small")
    assert not list(tmp_path.iterdir())


def test_what_mlflow_has_is_remembered(url: str) -> None:
    record = begun(url, plan())
    assert record.mirrored == Mirrored()
    record.mirrored = Mirrored(6, "http://user:***@h", "http://h/#/experiments/1")
    assert begun(url, plan()).mirrored == Mirrored(6, "http://user:***@h", "http://h/#/experiments/1")


def test_trials_that_wait_together_are_written_together_or_not_at_all(url: str) -> None:
    wanted = plan()
    record = begun(url, wanted)
    finished = [(each, outcome(each)) for each in wanted.verdict_trials()]
    commits: list[object] = []
    sqlalchemy.event.listen(engine_of(record), "commit", commits.append)
    record.add_all(finished[:4])
    assert len(commits) == 1
    with pytest.raises(ValueError, match="gelu"):
        record.add_all(
            [finished[4], (replace(finished[5][0], arm=replace(wanted.arms[0], params=GELU)), finished[5][1])]
        )
    record.add_all(finished[4:])
    assert [entry.outcome for entry in record.records()] == [its for _, its in finished]


GELU = {"activation": "gelu"}


def test_a_home_with_any_characters_holds_a_ledger(tmp_path: Path) -> None:
    from mnist_ablate.settings import Settings

    home = tmp_path / "50% of {it}? #名前 "
    begun(Settings(home=home).ledger_url, plan())
    assert (home / "ledger.db").exists()


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
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    writer = subprocess.Popen([sys.executable, "-c", WRITER, url], env=environment, stdout=subprocess.PIPE)
    assert writer.stdout
    with writer:
        assert writer.stdout.readline() == b"some\n"
        threading.Timer(0.05, lambda: writer.send_signal(signal.SIGKILL)).start()
        writer.wait()
    record = begun(url, plan(seeds=1000))
    entries = record.records()
    assert 20 < len(entries) < 2000
    assert [entry.trial.seed for entry in entries] == [n // 2 for n in range(len(entries))]
    (study,) = raw_ledger.read(url, "small")
    assert {trial.state for trial in study.trials} == {"COMPLETE"}
    assert [problem for trial in study.trials for problem in record_problems(trial)] == []


COMPETE = """
import os, sys, time
from sweep_runs import small
from mnist_ablate.errors import ConflictError
from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.sweep.plan import make_plan

def compete():
    ledger = Ledger(sys.argv[1])
    with open(sys.argv[2], "ab", buffering=0) as ready:
        ready.write(b".")
        while os.path.getsize(sys.argv[2]) < 8:
            time.sleep(0.01)
    try:
        with ledger.driving("small"):
            ledger.begin(make_plan(small(), "d1" * 32), fresh=False)
            time.sleep(1)
            return "ran"
    except ConflictError as error:
        return str(error)

if all(os.fork() for _ in range(7)):
    os.write(1, f"{compete()}\\n".encode())
    for _ in range(7):
        os.wait()
else:
    os.write(1, f"{compete()}\\n".encode())
    os._exit(0)
"""


@pytest.mark.slow
def test_eight_at_once_on_an_empty_database_make_one_record(url: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    command = [sys.executable, "-c", COMPETE, url, str(tmp_path / "ready")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert sorted(line.partition(" by ")[0] for line in said) == ["ran", *["small is being run"] * 7], done
    assert begun(url, plan()).name == "small/1"


def engine_of(record: Record) -> sqlalchemy.Engine:
    found: sqlalchemy.Engine = record._study._storage._backend.engine  # type: ignore[attr-defined]
    return found


def test_an_answer_that_was_lost_is_not_written_twice(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit succeeds and then the connection breaks: the write is tried again, and finds itself."""
    wanted = plan()
    record = begun(url, wanted)
    dialect = engine_of(record).dialect
    commit = dialect.do_commit
    lost = [1]

    def lose(connection: Any) -> None:
        commit(connection)
        if lost:
            lost.clear()
            raise dialect.loaded_dbapi.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(dialect, "do_commit", lose)
    messages: list[str] = []
    outage = Outage(messages.append, 30.0, lambda: False)
    for each in wanted.verdict_trials():
        outage.retry_until_available(functools.partial(record.add, each, outcome(each)))
    assert not lost
    assert [entry.trial.id for entry in record.records()] == [each.trial.id for each in wanted.verdict_trials()]


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_loses_nothing_that_was_recorded(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    wanted = plan(seeds=100)
    record = begun(url, wanted)
    engine = engine_of(record)
    pages = [60]

    @sqlalchemy.event.listens_for(engine, "begin")
    def limit(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages[0]}")

    def write_all() -> None:
        for each in wanted.verdict_trials():
            record.add(each, outcome(each))

    with pytest.raises(DiskError, match=f"no space on, or no right to write, {tmp_path}: free it and run") as error:
        write_all()
    assert error.value.exit_code == 5
    written = len(begun(url, wanted).records())
    assert 0 < written < 200
    pages[0] = 100_000
    for each in wanted.verdict_trials()[written : written + 5]:
        record.add(each, outcome(each))
    assert len(begun(url, wanted).records()) == written + 5


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("hello, this is not a database at all")
    with pytest.raises(UnreachableError, match=f"^database {tmp_path}/ledger.db not usable: restore it"):
        Ledger(f"sqlite:///{tmp_path}/ledger.db")


def add_through(record: Record, lock: Lock, wanted: Plan, troubles: Mapping[int, Callable[[], None]]) -> list[str]:
    """Records every trial, each after the trouble of its number, if any; returns what was told."""
    messages: list[str] = []
    outage = Outage(messages.append, 60.0, lambda: False)
    for number, each in enumerate(wanted.verdict_trials()):
        troubles.get(number, lambda: None)()

        def write(each: PlannedTrial = each) -> None:
            lock.ensure()
            record.add(each, outcome(each))

        outage.retry_until_available(write)
    return messages


@pytest.mark.service
def test_a_database_that_restarts_costs_one_message_and_no_trial(server: Postgres) -> None:
    url = server.database()
    wanted = plan(seeds=10)
    ledger = Ledger(url)

    def restart() -> None:
        server.crash()
        threading.Timer(2.0, server.start).start()

    with ledger.driving("small") as lock:
        record = ledger.begin(wanted, fresh=False)
        messages = add_through(record, lock, wanted, {5: restart})
        with pytest.raises(ConflictError), ledger.driving("small"):
            pass
    assert messages == ["database not reachable, retrying"]
    assert [entry.trial.id for entry in record.records()] == [each.trial.id for each in wanted.verdict_trials()]


@pytest.mark.service
def test_refused_credentials_and_a_missing_database_are_one_line(server: Postgres) -> None:
    url = sqlalchemy.make_url(server.url)
    for wrong in (url.set(username="nobody_here", password="hunter2!"), url.set(database="not_there")):
        with pytest.raises(UnreachableError) as error:
            Ledger(wrong.render_as_string(hide_password=False))
        assert "hunter2!" not in str(error.value)
        assert "\n" not in str(error.value)


def test_an_outage_that_lasts_too_long_gives_up_with_the_reason() -> None:
    messages: list[str] = []

    def down() -> None:
        raise UnreachableError("database x not reachable")

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
        wanted = plan()
        record = begun(url, wanted)
        first = wanted.verdict_trials()[0]
        record.add(first, outcome(first))
        engine_of(record).dispose()
        subprocess.run(["mount", "-o", "remount,ro", home], check=True)
        (tmp_path / "link.db").symlink_to(home / "ledger.db")
        for each in (url, f"sqlite:///{tmp_path}/link.db"):
            assert len(Ledger(each, reading=True).find("small").records()) == 1
        with pytest.raises(DiskError, match=f"^no space on, or no right to write, {home}"):
            Ledger(url)
        with pytest.raises(DiskError, match=f"^no space on, or no right to write, {home}"):
            record.add(first, outcome(first))
    finally:
        subprocess.run(["umount", "-l", home], check=True)


def test_a_record_of_another_version_is_refused_in_words(settings: Settings, digest: str) -> None:
    plan = make_plan(small(), digest)
    record = Ledger(settings.ledger_url).begin(plan, fresh=False)
    record._study.add_trial(optuna.trial.create_trial(value=0.5, user_attrs={"trial_id": "x"}))
    with pytest.raises(ConflictError, match="small/1: written by another version of mnist-ablate: use that one"):
        record.records()


@pytest.mark.service
def test_a_way_to_the_database_that_is_cut_or_silent_costs_no_trial(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "ANSWER_S", 0.5)
    url = sqlalchemy.make_url(server.database())
    wanted = plan(seeds=10)
    with proxy(url.port or 5432) as way:

        def stall() -> None:
            way.stall()
            threading.Timer(2.0, way.heal).start()

        through = url.set(port=way.port).render_as_string(hide_password=False)
        ledger = Ledger(through)
        with ledger.driving("small") as lock:
            record = ledger.begin(wanted, fresh=False)
            messages = add_through(record, lock, wanted, {3: way.cut, 6: stall, 9: way.cut, 12: stall})
        recorded = [entry.trial.id for entry in record.records()]
    assert recorded == [each.trial.id for each in wanted.verdict_trials()]
    assert set(messages) == {"database not reachable, retrying"}


@pytest.mark.service
@pytest.mark.parametrize(
    "read", [lambda url: raw_ledger.read(url, "small"), client.check_answer], ids=["ledger", "MLflow"]
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
