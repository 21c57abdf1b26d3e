"""What is asked is written down before the first trial; what may have been chosen afterwards is called exploratory."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from judged_sweep import as_json, judged
from ledger_records import DATA, outcome
from pages import Reader
from rich.console import Console
from sweep_runs import SWEEP, Watcher, small

from mnist_ablate.errors import ConflictError
from mnist_ablate.execution import recorded_report
from mnist_ablate.execution.driver import drive
from mnist_ablate.ledger import preregistration
from mnist_ablate.ledger.ledger import Ledger, Record
from mnist_ablate.reports.html import html
from mnist_ablate.reports.markdown import markdown
from mnist_ablate.reports.report import Preregistration
from mnist_ablate.reports.terminal import tables
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.verification import raw_stores
from mnist_ablate.verification.ledger_check import CheckedLedger


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def begun(home: Settings, sweep: Sweep, trials: int = 0, *, fresh: bool = False, images: str = DATA) -> Record:
    plan = make_plan(sweep, images)
    record = Ledger(home.ledger_url).begin(plan, fresh=fresh)
    for each in plan.verdict_trials()[:trials]:
        record.add(each, outcome(each))
    return record


def registered(home: Settings) -> Any:
    return as_json(recorded_report.report("small", home)[0])["preregistration"]


def digests(images: str = DATA, **changes: Any) -> dict[str, str]:
    return preregistration.digests(make_plan(small(**changes), images))


def test_digests_are_those_that_earlier_versions_registered() -> None:
    assert {part: digest[:16] for part, digest in digests().items()} == {
        "question": "c2948d479e6dac93",
        "plan": "02a346a439085b4e",
        "claims": "c95ff0e266915ad0",
        "margins": "2dfef9578e693475",
    }


def claims(**changes: Any) -> list[dict[str, Any]]:
    return [{**SWEEP["claims"][0], **changes}]


def other_margin(margin: float = 0.001) -> Sweep:
    return small(claims=claims(margin=margin))


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"question": "Does tanh help?"}, ["question"]),
        ({"fixed": {"epochs": 3}}, ["plan"]),
        ({"seeds": 4}, ["plan"]),
        ({"seeds": {"min": 3, "max": 9}}, ["plan"]),
        ({"negative_control": "baseline"}, ["plan"]),
        ({"images": "d2" * 32}, ["plan"]),
        ({"claims": claims(direction="higher")}, ["claims"]),
        ({"claims": claims(positive_control=True)}, ["claims"]),
        ({"claims": claims(margin=0.001)}, ["margins"]),
        ({"source": "page 3"}, []),
    ],
)
def test_a_change_changes_the_digest_of_its_part_alone(changes: dict[str, Any], parts: list[str]) -> None:
    before, after = digests(), digests(**changes)
    assert [name for name in before if before[name] != after[name]] == parts


def test_the_digests_are_recorded_before_the_first_trial(home: Settings) -> None:
    record = begun(home, small())
    assert record.registration.digests == digests()
    begun(home, small(), 6)
    found = registered(home)
    assert (found["status"], found["reasons"], found["parts"]) == ("preregistered", [], digests())


def test_claims_changed_with_results_at_hand_are_exploratory(home: Settings) -> None:
    first = begun(home, small(), 4)
    with pytest.raises(ConflictError, match=r"stored sweep differs: claims\.tanh-hurts\.margin 0\.002 -> 0\.001"):
        begun(home, other_margin())
    begun(home, other_margin(), fresh=True)
    change = "claims.tanh-hurts.margin 0.002 -> 0.001"
    told = f"changed after 4 trials of small/1, registered {first.registered}: {change}"
    found = registered(home)
    assert (found["status"], found["reasons"]) == ("exploratory", [told])


def status_after(home: Settings, sweep: Sweep, trials: int = 0, images: str = DATA) -> Any:
    begun(home, sweep, trials, fresh=True, images=images)
    return registered(home)["status"]


def test_the_question_that_was_asked_first_stays_preregistered(home: Settings) -> None:
    begun(home, small(), 4)
    assert status_after(home, small()) == "preregistered"
    assert status_after(home, other_margin(), 2) == "exploratory"
    assert status_after(home, small()) == "preregistered"


def test_a_change_before_any_result_or_for_other_images_is_not_exploratory(home: Settings) -> None:
    begun(home, small())
    assert status_after(home, other_margin(), 1) == "preregistered"
    assert status_after(home, other_margin(0.003), images="d2" * 32) == "preregistered"


def registration_problems(home: Settings) -> list[str]:
    """What the independent checker says of the registration; the made-up trials have other faults."""
    problems = CheckedLedger(raw_stores.read_ledger(home.ledger_url, "small")).problems
    return [each.split(":")[2].strip() for each in problems if "registered" in each]


@pytest.mark.parametrize("older", [False, True])
def test_a_margin_altered_in_the_database_is_noticed_in_records_of_older_versions_by_their_one_digest(
    home: Settings, older: bool
) -> None:
    study = optuna.load_study(study_name=begun(home, small(), 6).name, storage=home.ledger_url)
    if older:
        study.set_user_attr("preregistration", {})
    assert (registered(home)["status"], registration_problems(home)) == ("preregistered", [])
    content = study.user_attrs["content"]
    content["sweep"]["claims"][0]["margin"] = 0.0001
    study.set_user_attr("content", content)
    if older:
        assert registered(home)["reasons"] == ["the sweep differs from what was registered"]
        return
    study.set_user_attr("digest", other_margin(0.0001).digest)
    assert registered(home)["reasons"] == ["margins differ from what was registered"]
    assert registration_problems(home) == ["margins not as it was registered before the first trial"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.usefixtures("tracker", "fake")
def test_a_sweep_and_its_report_say_the_same(settings: Settings) -> None:
    made = drive(small(), settings, Watcher()).report
    assert made.preregistration == Preregistration.model_validate(registered(settings))


def texts(**preregistered: Any) -> list[str]:
    """A report as table, Markdown and page."""
    report, record = judged(trouble=False)
    parts = {"registered": "2026-11-24T06:32:50+00:00", "digest": "ab12" * 16, "parts": {}, "reasons": []}
    found = Preregistration.model_validate({**parts, **preregistered}) if preregistered else None
    report = report.model_copy(update={"preregistration": found})
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(tables(report))
    return [" ".join(capture.get().split()), markdown(report, "q"), Reader(html(report, record)).text]


@pytest.mark.usefixtures("no_pictures")
def test_exploratory_verdicts_are_marked_in_every_format() -> None:
    found = texts(status="exploratory", reasons=["changed after 4 trials of x/1: seeds 4 -> 6"])
    for text in found:
        assert text.count("(exploratory)") == 7
        assert text.index("Exploratory verdicts: changed after 4 trials") < text.index("(exploratory)")
        assert "Preregistered" not in text
    assert "**supported** (exploratory)" in found[1]


@pytest.mark.usefixtures("no_pictures")
def test_preregistered_verdicts_say_when_and_unknown_ones_nothing() -> None:
    for text in texts(status="preregistered"):
        assert "Preregistered 2026-11-24T06:32:50+00:00" in text
        assert "ab12ab12ab12" in text
        assert "xploratory" not in text
    for text in texts():
        assert "Preregistered" not in text
        assert "xploratory" not in text
