"""What a page reads of a real ledger, and the command that writes it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sweep_runs import small
from typer.testing import CliRunner

from mnist_ablate.cli.app import app
from mnist_ablate.errors import SweepError
from mnist_ablate.execution.recorded_report import recorded_sweep, report
from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.ledger.progress import tuned
from mnist_ablate.reports import html
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import Plan, PlannedTrial, make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Outcome

TUNED = {"nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}, "tuning_trials": 3}
SEARCHED = {**TUNED, "design": "search", "baseline": {"activation": "tanh"}, "claims": []}


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def outcome(planned: PlannedTrial) -> Outcome:
    rate = planned.trial.settings["learning_rate"]
    accuracy = 0.9 - abs(rate - 0.01) + 0.001 * planned.trial.seed * (planned.stage == "verdict")
    metrics = {"val_accuracy": accuracy, "test_accuracy": accuracy}
    return Outcome(trial_id=planned.trial.id, status="complete", metrics=metrics, seconds=1.0, started_ms=1)


def fill(sweep: Sweep, settings: Settings) -> Plan:
    """A ledger with every trial of a sweep."""
    settings.home.mkdir(exist_ok=True)
    plan = make_plan(sweep, "d" * 64)
    record = Ledger(settings.ledger_url).begin(plan, fresh=False)
    tuning = plan.tuning or ([plan.searched({"activation": "relu", "learning_rate": r}) for r in (0.01, 0.02, 0.05)])
    for planned in tuning if plan.sweep.tuning_trials else ():
        record.add(planned, outcome(planned))
    for planned in plan.verdict_trials(tuned(plan, record.entries())):
        record.add(planned, outcome(planned))
    return plan


def test_trials_are_read_in_the_order_of_the_plan_apart_from_tuning(home: Settings) -> None:
    plan = fill(small(**TUNED), home)
    judged, record = report("small", home)
    read = replace(recorded_sweep(record), provenance={"git_commit": "c0ffee"})
    assert [(e.params["activation"], e.trial.seed) for e in read.entries] == [
        (activation, seed) for seed in range(3) for activation in ("relu", "tanh")
    ]
    assert len(read.tuning) == 6
    assert (read.sweep, read.data_digest, read.registered) == (plan.sweep, "d" * 64, record.registered)
    text = html.html(judged, read)
    assert "Chosen by validation accuracy" in text
    assert "6 tuning trials with seeds that no verdict uses: 6 complete." in text
    assert "c0ffee" in text


def test_trials_that_a_repeated_tuning_gave_up_are_not_read(home: Settings) -> None:
    plan = fill(small(**TUNED), home)
    other = plan.verdict_trials({"relu": {"learning_rate": 0.09}, "tanh": {"learning_rate": 0.09}})[0]
    record = Ledger(home.ledger_url).begin(plan, fresh=False)
    record.add(other, outcome(other))
    assert len(recorded_sweep(record).entries) == 6


def test_a_search_shows_its_winner_and_the_best_that_were_tried(home: Settings) -> None:
    fill(small(**SEARCHED), home)
    judged, record = report("small", home)
    text = html.html(judged, recorded_sweep(record))
    assert '<th scope="row">configuration' not in text
    assert '<th scope="row">winner</th><td>relu</td><td>0.01</td>' in text
    assert "The best 3 that were tried" in text
    places = [text.index(f'<td class="number">{accuracy}</td></tr>') for accuracy in ("90.00%", "89.00%", "86.00%")]
    assert places == sorted(places)


@pytest.mark.parametrize(("form", "start"), [("html", "<!DOCTYPE html>"), ("md", "# Does tanh"), ("table", "test_acc")])
def test_the_command_writes_every_format(form: str, start: str, home: Settings, tmp_path: Path) -> None:
    fill(small(), home)
    arguments = ["report", "small", "--format", form, "--home", str(home.home)]
    printed = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert printed.exit_code == 0
    assert printed.stdout.startswith(start)
    path = tmp_path / "report"
    CliRunner().invoke(app, [*arguments, "--output", str(path)], catch_exceptions=False)
    assert path.read_text(encoding="utf-8").strip() == printed.stdout.strip()


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("r.html", b"<!DOCTYPE html>"),
        ("r.MD", b"# Does tanh"),
        ("r.json", b'{"'),
        ("r.svg", b"<svg"),
        ("r.png", b"\x89PNG"),
        ("r.zip", b"PK"),
        ("r.txt", b"test_acc"),
        ("r", b"test_acc"),
    ],
)
def test_the_name_of_the_file_tells_the_format(name: str, start: bytes, home: Settings, tmp_path: Path) -> None:
    fill(small(), home)
    path = tmp_path / name
    arguments = ["report", "small", "--home", str(home.home), "--output", str(path)]
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert path.read_bytes().startswith(start)
    CliRunner().invoke(app, [*arguments, "--format", "md"], catch_exceptions=False)
    assert path.read_bytes().startswith(b"# Does tanh")


def test_a_suffix_of_no_format_is_taken_with_a_format_only(home: Settings, tmp_path: Path) -> None:
    fill(small(), home)
    path = tmp_path / "r.csv"
    arguments = ["report", "small", "--home", str(home.home), "--output", str(path)]
    with pytest.raises(SweepError, match=r"no format has this suffix; known: \.txt, "):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert not path.exists()
    CliRunner().invoke(app, [*arguments, "--format", "table"], catch_exceptions=False)
    assert path.read_bytes().startswith(b"test_acc")


def test_json_is_only_json(home: Settings) -> None:
    fill(small(), home)
    printed = CliRunner().invoke(app, ["report", "small", "--format", "json", "--home", str(home.home)])
    assert json.loads(printed.stdout)["sweep"] == "small"
