"""A ledger goes into one file and comes back to the digit, SQLite to PostgreSQL and back; nothing is overwritten."""

import hashlib
import json
import re
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
from command import Call, Command
from in_process import call
from ledger_records import begun, outcome, plan
from mlflow_helpers import active_runs, new_home
from postgres import Postgres
from sweep_runs import sweep_file

from mnist_ablate.cli import records as commands
from mnist_ablate.errors import ConflictError, SweepError
from mnist_ablate.execution import recorded_report
from mnist_ablate.ledger import backup
from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.settings import Settings

__all__ = ["call"]
FACTORS = {"dropout": [0.5, 0.0], "activation": ["relu", "tanh"]}
"""In an order that is not the alphabet's."""
PLAN = plan(scientific=FACTORS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A ledger with five records, an empty one, and a backup of the first: Optuna takes a second to make tables."""
    folder = tmp_path_factory.mktemp("made")
    settings = Settings(home=folder)
    _ = Ledger(settings.ledger_url).storage
    empty = (folder / "ledger.db").read_bytes()
    record = begun(settings.ledger_url, PLAN)
    for planned in PLAN.verdict_trials()[:5]:
        record.add(planned, outcome(planned))
    backup.export(settings.ledger_url, ["small"], folder / "a.zip")
    return {"empty": empty, "full": (folder / "ledger.db").read_bytes(), "file": (folder / "a.zip").read_bytes()}


def home(folder: Path, ledger: bytes) -> Settings:
    folder.mkdir()
    (folder / "ledger.db").write_bytes(ledger)
    return Settings(home=folder)


@pytest.fixture
def settings(tmp_path: Path, made: dict[str, bytes]) -> Settings:
    return home(tmp_path / "home", made["full"])


@pytest.fixture
def other(tmp_path: Path, made: dict[str, bytes]) -> Settings:
    return home(tmp_path / "other", made["empty"])


@pytest.fixture
def file(tmp_path: Path, made: dict[str, bytes]) -> Path:
    (tmp_path / "a.zip").write_bytes(made["file"])
    return tmp_path / "a.zip"


def rows(settings: Settings) -> list[str]:
    """Every row of every table as SQL, without its own number."""
    with closing(sqlite3.connect(settings.home / "ledger.db")) as ledger:
        return sorted(re.sub(r"VALUES\(\d+,", "VALUES(", line) for line in ledger.iterdump())


def altered(file: Path, old: str, new: str) -> Path:
    """The same backup with its record changed and with the checksum of the change, unless only spaces change."""
    with zipfile.ZipFile(file) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        text = archive.read("0000.jsonl").decode()
    changed = text.replace(old, new, 1)
    assert changed != text
    if changed.split() != text.split():
        manifest["records"]["small/1"]["sha256"] = hashlib.sha256(changed.encode()).hexdigest()
    made = file.with_name("altered.zip")
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("0000.jsonl", changed)
    return made


def test_what_comes_back_is_what_went_in_and_twice_is_the_same_as_once(
    settings: Settings, other: Settings, file: Path
) -> None:
    assert backup.restore(other.ledger_url, file) == {"small/1": (5, 5)}
    assert rows(other) == rows(settings)
    found, before = (recorded_report.report("small", each)[0] for each in (other, settings))
    assert found.model_dump_json() == before.model_dump_json()
    _, sha256 = backup.export(other.ledger_url, ["small"], file.with_name("b.zip"))
    assert file.read_bytes() == file.with_name("b.zip").read_bytes()
    assert sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert backup.restore(other.ledger_url, file) == {"small/1": (5, 0)}
    assert rows(other) == rows(settings)


def test_restore_that_was_cut_off_goes_on(
    settings: Settings, other: Settings, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backup._trial
    left = iter(range(2))
    monkeypatch.setattr(backup, "_trial", lambda line: made(line) if next(left, None) is not None else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        backup.restore(other.ledger_url, file)
    monkeypatch.undo()
    assert backup.restore(other.ledger_url, file) == {"small/1": (5, 3)}
    assert rows(other) == rows(settings)


def test_newer_records_stay(settings: Settings, file: Path) -> None:
    record = begun(settings.ledger_url, PLAN)
    newest = PLAN.verdict_trials()[5]
    record.add(newest, outcome(newest))
    assert backup.restore(settings.ledger_url, file) == {"small/1": (5, 0)}
    assert len(record.records()) == 6


@pytest.mark.parametrize(("changes", "status"), [({}, "failed"), ({"question": "Other?"}, "complete")])
def test_records_that_differ_are_never_overwritten(
    changes: dict[str, str], status: str, other: Settings, file: Path
) -> None:
    record = begun(other.ledger_url, plan(scientific=FACTORS, **changes))
    first = PLAN.verdict_trials()[0]
    record.add(first, outcome(first, status))
    before = rows(other)
    with pytest.raises(ConflictError, match="small/1: the ledger has a different record of this name and keeps it"):
        backup.restore(other.ledger_url, file)
    assert rows(other) == before


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"test_accuracy": 0.9', '"test_accuracy": 0.8', "record 0 was altered after it was written"),
        ('"value": 0.9', '"value": 0.8', "record 0 has another value in Optuna than its test_accuracy"),
        ('"params": {"dropout": 0.5', '"params": {"dropout": 0.0', "was trained with other factors than its arm's"),
        ('"state": "COMPLETE"', '"state": "FAIL"', "record 0 is FAIL in Optuna"),
        ('"margin": 0.002', '"margin": 0.001', "the sweep was altered"),
        ('"name": "small"', '"name": "../small"', "is not the name of its sweep"),
        ('"sha256"', '"sha255"', "record 0 is incomplete, it lacks sha256"),
        (" ", "  ", r"altered\.zip: small/1 was altered: nothing was restored; use another copy"),
    ],
)
def test_an_altered_backup_is_refused_whole(old: str, new: str, told: str, file: Path, other: Settings) -> None:
    made = altered(file, old, new)
    with pytest.raises(SweepError, match=told.replace("'", ".")):
        backup.restore(other.ledger_url, made)
    assert Ledger(other.ledger_url).names() == []


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off"])
def test_what_is_no_backup_is_told_in_one_line(content: bytes, tmp_path: Path, other: Settings) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(SweepError, match=r"x\.zip: not a complete mnist-ablate backup \(.*\): use another copy"):
        backup.restore(other.ledger_url, tmp_path / "x.zip")


def test_any_byte_that_is_lost_or_changed_is_found(file: Path, other: Settings) -> None:
    whole = file.read_bytes()
    places = range(0, len(whole), max(1, len(whole) // 40))
    found = 0
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 0x55
        for content in (bytes(changed), whole[:place]):
            file.write_bytes(content)
            try:
                backup.restore(other.ledger_url, file)
            except SweepError:
                found += 1
            else:
                assert len(Ledger(other.ledger_url).find("small").records()) == 5  # a byte that zip readers skip
    assert found > 1.5 * len(places)


def test_export_overwrites_nothing_and_leaves_no_part(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("mine")
    with pytest.raises(SweepError, match=r"a\.zip: exists already and was not changed: choose another file name"):
        backup.export(settings.ledger_url, ["small"], tmp_path / "a.zip")
    with pytest.raises(SweepError, match="nothing recorded"):
        backup.export(settings.ledger_url, ["smal"], tmp_path / "b.zip")
    assert sorted(path.name for path in tmp_path.glob("*.zip*")) == ["a.zip"]


def test_a_damaged_ledger_is_not_exported(settings: Settings, tmp_path: Path) -> None:
    with closing(sqlite3.connect(settings.home / "ledger.db")) as ledger, ledger:
        ledger.execute("UPDATE trial_values SET value = 0.5 WHERE trial_id = 2")
    with pytest.raises(ConflictError, match=r"record 1 has another value in Optuna .*: run mnist-ablate verify small"):
        backup.export(settings.ledger_url, ["small"], tmp_path / "b.zip")
    assert not list(tmp_path.glob("*.zip*"))


def test_every_record_of_every_sweep_is_exported(settings: Settings, tmp_path: Path) -> None:
    begun(settings.ledger_url, PLAN, fresh=True)
    begun(settings.ledger_url, plan(name="名前"))
    assert Ledger(settings.ledger_url).names() == ["small", "名前"]
    counts, _ = backup.export(settings.ledger_url, ["small", "名前"], tmp_path / "b.zip")
    assert counts == {"small/1": 5, "small/2": 0, "名前/1": 0}


@pytest.mark.parametrize("kind", ["absent", "empty folder", "empty ledger"])
def test_all_of_nothing_is_told_and_creates_nothing(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    home = tmp_path / "other"
    if kind == "empty folder":
        home.mkdir()
    if kind == "empty ledger":
        request.getfixturevalue("other")
    before = sorted(tmp_path.rglob("*"))
    told = f"^{home}/ledger.db: no sweep is recorded there: check --home and OPTUNA_STORAGE"
    with pytest.raises(SweepError, match=told):
        commands.export([str(tmp_path / "a.zip")], everything=True, home=home)
    assert {*tmp_path.rglob("*")} - {*before} == set()


def test_words_of_the_commands(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="export takes a sweep and the file to write, or --all and the file"):
        commands.export(["small"], home=tmp_path)
    with pytest.raises(SweepError, match="export takes a sweep"):
        commands.export(["small", "a.zip"], everything=True, home=tmp_path)
    for source, everything in (("", False), ("small", True)):
        with pytest.raises(SweepError, match="sync takes the name of a sweep, or --all"):
            commands.sync(source, everything=everything, home=tmp_path)


@pytest.mark.service
def test_to_postgresql_and_back_with_mlflow_rebuilt(
    command: Command,
    call: Call,
    images: Path,
    server: Postgres,
) -> None:
    folder = command.folder
    sweep_file(folder, scientific=FACTORS)
    places = {
        name: {"MNIST_ABLATE_HOME": str(folder / name), "MLFLOW_TRACKING_URI": new_home(folder / name)}
        for name in ("one", "two", "three")
    }
    places["two"]["OPTUNA_STORAGE"] = server.database()
    done = command("sweep", "small.yaml", "--data", str(images), **places["one"])
    assert done.code == 0, done.err

    def look(place: str) -> list[object]:
        asked = ("verify", "small"), ("report", "small", "--format", "json")
        found = [call(*words, **places[place]) for words in asked]
        assert [done.code for done in found] == [0, 0], found
        return [done.out for done in found]

    first = look("one")
    for source, target in (("one", "two"), ("two", "three")):
        assert call("export", "--all", f"{source}.zip", **places[source]).code == 0
        done = call("restore", f"{source}.zip", **places[target])
        assert (done.code, done.out) == (0, "small/1: 12 trials, 12 written now\n")
        done = call("sync", "--all", **places[target])
        assert done.out == "small: MLflow has all 12 trials (12 sent now)\n"
        assert look(target) == first
        assert len(active_runs(places[target]["MLFLOW_TRACKING_URI"])) == 13
    assert (folder / "one.zip").read_bytes() == (folder / "two.zip").read_bytes()
