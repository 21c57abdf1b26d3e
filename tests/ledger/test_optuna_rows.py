"""Rows of finished trials in Optuna's tables: those that Optuna itself writes, in few statements."""

import json
import math
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from command import wait_for
from ledger_records import recorded
from mlflow_helpers import free_port
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sweep_runs import small

from mnist_ablate.ledger import stored_studies
from mnist_ablate.ledger.database import open_storage
from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.ledger.optuna_rows import TrialRows

DISTRIBUTIONS = {
    "activation": CategoricalDistribution(["relu", "tanh", 3, 0.5, True, None]),
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "seed": IntDistribution(0, 2**31),
}
TABLES = ("trials", "trial_values", "trial_params", "trial_user_attributes", "trial_intermediate_values")


def made(number: int, **changes: object) -> FrozenTrial:
    content = {
        "state": TrialState.COMPLETE,
        "value": 0.1 + 0.2 * number,
        "params": {"seed": number, "activation": [True, "tanh", 3, 0.5][number % 4], "rate": 1 / (3 + number)},
        "distributions": DISTRIBUTIONS,
        "user_attrs": {"outcome": {"名前": [1.0, 1e-300, "é", None]}, "stage": "verdict", "empty": {}},
        "intermediate_values": {1: 0.5, 2: 1 / 3, 7: 0.25},
        **changes,
    }
    return create_trial(**content)  # type: ignore[arg-type]


TRIALS = {
    "complete": made(0),
    "failed": made(1, state=TrialState.FAIL, value=None, intermediate_values={}),
    "without anything": create_trial(state=TrialState.FAIL),
    "numbers that are none": made(2, value=math.inf, intermediate_values={1: math.nan, 2: -math.inf, 3: math.inf}),
    "of minus infinity": made(3, value=-math.inf),
    "complete again": made(4),
}


@pytest.fixture
def storage(url: str, tmp_path: Path) -> RDBStorage:
    (tmp_path / "home").mkdir()
    return open_storage(url)


@pytest.fixture
def study(storage: RDBStorage) -> optuna.Study:
    return optuna.create_study(study_name="small/1", storage=storage)


@pytest.fixture
def rows(storage: RDBStorage, study: optuna.Study) -> TrialRows:
    return rows_of(storage, study.study_name)


def rows_of(storage: RDBStorage, name: str) -> TrialRows:
    return TrialRows(storage.engine, storage.get_study_id_from_name(name))


def stored(storage: RDBStorage, name: str) -> dict[str, list[dict[str, object]]]:
    """Every row of a study's trials with every column that it has, trials called by their number."""
    metadata = sqlalchemy.MetaData()
    metadata.reflect(storage.engine, only=TABLES)
    trials = metadata.tables["trials"]
    of_study = sqlalchemy.select(trials).where(trials.c.study_id == storage.get_study_id_from_name(name))
    found = {}
    with storage.engine.connect() as connection:
        numbers = {row.trial_id: row.number for row in connection.execute(of_study)}
        for name_, table in metadata.tables.items():
            key, *_ = table.primary_key
            every = connection.execute(sqlalchemy.select(table).order_by(key)).mappings()
            own = [dict(row) for row in every if row.get("trial_id") in numbers]
            found[name_] = [{**row, key.name: "", "study_id": "", "trial_id": numbers[row["trial_id"]]} for row in own]
    return found


def test_every_row_is_what_optuna_would_have_written(storage: RDBStorage, study: optuna.Study, rows: TrialRows) -> None:
    reference = optuna.create_study(study_name="reference", storage=storage)
    for trial in TRIALS.values():
        reference.add_trial(trial)
        rows.add(trial)
    written = stored(storage, study.study_name)
    assert written == stored(storage, "reference")
    assert [row["number"] for row in written["trials"]] == [*range(len(TRIALS))]


def test_what_is_read_is_what_optuna_reads(url: str, study: optuna.Study, rows: TrialRows) -> None:
    rows.add(*TRIALS.values())
    known, ledger = study.get_trials(), Ledger(url)
    (stored_study,) = ledger.studies("small")
    read = ledger.read(stored_studies.trials, stored_study)
    assert ledger.read(stored_studies.count, stored_study) == len(read) == len(known)
    assert [[*params.items()] for params, _ in read] == [[*trial.params.items()] for trial in known]
    attrs = [{key: json.loads(text) for key, text in texts.items()} for _, texts in read]
    assert attrs == [trial.user_attrs for trial in known]


def test_numbers_count_what_anybody_wrote(storage: RDBStorage, study: optuna.Study, rows: TrialRows) -> None:
    other = rows_of(storage, study.study_name)
    elsewhere = optuna.create_study(study_name="other/1", storage=storage)
    writers: list[Callable[[FrozenTrial], None]] = [rows.add, study.add_trial, other.add, elsewhere.add_trial, rows.add]
    for write in writers:
        write(made(0))
        write(made(0))
    assert [trial.number for trial in study.get_trials()] == [*range(8)]


def test_a_trial_that_cannot_be_written_leaves_nothing(study: optuna.Study, rows: TrialRows) -> None:
    rows.add(made(0))
    with pytest.raises(TypeError):
        rows.add(made(1, user_attrs={"a": 1, "outcome": object()}))
    rows.add(made(2))
    assert [trial.number for trial in study.get_trials()] == [0, 1]
    assert [trial.params["seed"] for trial in study.get_trials()] == [0, 2]


def test_a_trial_costs_as_many_statements_after_many_as_after_none(storage: RDBStorage, rows: TrialRows) -> None:
    counts: list[int] = []

    @sqlalchemy.event.listens_for(storage.engine, "before_cursor_execute")
    def counted(*_: object) -> None:
        counts[-1] += 1

    for number in range(20):
        counts.append(0)
        rows.add(made(number))
    assert set(counts) == {counts[0]}
    assert counts[0] <= 7


@pytest.mark.service
def test_the_dashboard_shows_the_ledger(tmp_path: Path) -> None:
    settings, port = recorded(tmp_path, small()), free_port()
    program = Path(sys.executable).with_name("optuna-dashboard")
    null = subprocess.DEVNULL
    server = subprocess.Popen([program, settings.ledger_url, "--port", str(port)], stdout=null, stderr=null)

    def asked(path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
                return json.load(reply)
        except OSError:
            assert server.poll() is None
            return None

    try:
        wait_for(lambda: asked("/api/studies"), 60)
        (study,) = asked("/api/studies")["study_summaries"]
        assert study["study_name"] == "small/1"
        trials = asked(f"/api/studies/{study['study_id']}?after=0")["trials"]
        assert [trial["state"] for trial in trials] == ["Complete"] * 6
    finally:
        server.terminate()
        server.wait(20)
