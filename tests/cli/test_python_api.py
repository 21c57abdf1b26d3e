"""The package as a library: sweeps built in Python, runs in scripts and threads, reports as tables and pages."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import NO_TRACKER, base_environment, wait_for
from ledger_records import DATA, begun, outcome, recorded
from sweep_runs import small, sweep_file
from typer.testing import CliRunner

import mnist_ablate as ma
from mnist_ablate.cli.app import app
from mnist_ablate.errors import AblateError, ConflictError, SweepError
from mnist_ablate.execution.search import Search
from mnist_ablate.ledger import progress
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import make_plan
from mnist_ablate.verification import bundle_check
from mnist_ablate.workloads.keras_mnist.metrics import cost_metrics, curve_metrics

SWEEPS = Path(__file__).parents[2] / "sweeps"

CLAIM = {"treatment": {"scale": True}, "control": {"scale": False}, "direction": "higher", "margin": 0.01}


def train(seed, report, scale: bool = False, lr: float = 0.1):
    report(1, {"loss": 1.0})
    report(2, {"loss": 0.5})
    return {"acc": 0.5 + 0.2 * scale + seed / 1000}, {"units": 3 * lr}


def asked(**about):
    claim = ma.Claim("helps", "Scaling helps.", metric="acc", **CLAIM)
    content = {"scientific": {"scale": [False, True]}, "seeds": 2, "negative_control": "none", "claims": [claim]}
    return ma.Sweep("mine", "Does scaling help?", **{"train": train, **content, **about})


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NO_TRACKER)
    for name in ("MNIST_ABLATE_HOME", "MNIST_ABLATE_TRAINER", "OPTUNA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.mark.slow
def test_a_function_is_run_judged_and_shown_and_a_second_run_trains_nothing(home, tracker, capfd):
    before = dict(os.environ)
    report = ma.run(asked(), home=home, jobs=1)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "its trials run your code: the function train" in printed.err
    assert dict(os.environ) == before
    assert report.claims.loc[0, ["name", "metric", "n_pairs"]].tolist() == ["helps", "acc", 2]
    assert report.claims.loc[0, "effect"] == pytest.approx(0.2)
    trials = report.trials
    assert trials["acc"].tolist() == pytest.approx([0.5, 0.7, 0.501, 0.701])
    assert trials[["scale", "seed", "stage", "status"]].iloc[1].tolist() == [True, 0, "verdict", "complete"]
    assert trials["diagnostics.units"].tolist() == pytest.approx([0.3] * 4)
    assert report.curves["loss"].tolist() == [1.0, 0.5] * 4
    assert set(report.curves["trial"]) == set(trials["trial"])
    assert report.arms["mean"].tolist() == pytest.approx([0.5005, 0.7005])
    assert tracker.settled
    again = ma.run(asked(), home=home, jobs=1, progress=False)
    assert capfd.readouterr().err == ""
    assert again.trials["seconds"].tolist() == trials["seconds"].tolist()
    opened = ma.open_report("mine", home=home)  # without the function
    assert opened.claims.equals(report.claims)
    with pytest.raises(ConflictError, match=r"stored sweep differs: .*; use fresh=True or another name"):
        ma.run(asked(), seeds=3, home=home, progress=False)


@pytest.mark.slow
def test_a_sweep_that_a_function_trained_says_how_it_is_run_again(home, tracker):
    ma.run(asked(), home=home, jobs=1, progress=False)
    page = ma.open_report("mine", home=home).save("r.html").read_text()
    assert "mnist_ablate.run(&#34;mine.yaml&#34;, train=train)" in page
    shown = re.search(r"saved as mine.yaml</summary><pre><code>(.*?)</code>", page, re.DOTALL)[1]
    Path("mine.yaml").write_text(shown)
    assert ma.load("mine.yaml", train=train).digest == asked().digest


@pytest.fixture
def shown(home):
    recorded(home, small(claims=small().claims))
    return ma.open_report("small", home=home)


def test_a_report_is_saved_by_its_suffix(shown, home, tmp_path):
    saved = {suffix: shown.save(tmp_path / "new" / f"r.{suffix}") for suffix in ("md", "json", "csv", "txt", "zip")}
    assert saved["md"].read_text().startswith("#")
    assert json.loads(saved["json"].read_text())["sweep"] == "small"
    assert len(pd.read_csv(saved["csv"])) == 6
    command = CliRunner().invoke(app, ["report", "small", "--home", str(home), "--format", "csv"])
    assert saved["csv"].read_text() == command.stdout
    assert saved["txt"].read_text() == repr(shown)
    assert not bundle_check.check(saved["zip"]).problems
    with pytest.raises(SweepError, match=r"r\.doc: no format has this suffix; known: \.txt, \.md, \.html, "):
        shown.save("r.doc")
    (tmp_path / "file").touch()
    with pytest.raises(SweepError, match=r"file/r\.md: cannot be written: "):
        shown.save(tmp_path / "file" / "r.md")


@pytest.mark.slow
def test_a_notebook_shows_the_page_in_a_frame_of_its_own(shown):
    frame = shown._repr_html_()
    assert re.match(r'<iframe sandbox="allow-popups" style="[^"<>]*" srcdoc="[^"<>]*"></iframe>$', frame)
    assert shown.save("r.html").read_text().startswith("<!DOCTYPE html>")
    assert shown.save("r.svg").read_text().startswith("<")


def trained(sweep, home):
    """Every trial that the sweep asks for, as the driver would ask for them, with all metrics."""
    plan = make_plan(sweep, DATA)
    record = begun(Settings(home=home).ledger_url, plan)

    def result(each):
        seconds = [1.0 + each.trial.seed] * 3
        plain = outcome(each)
        curve = curve_metrics(plain.epochs, len(plain.epochs), 10)
        return outcome(each, metrics={**plain.metrics, **curve, **cost_metrics(seconds, 60_000)})

    if sweep.design == "search":
        search = Search(plan, {})
        for each in search.trials():
            record.add(each, result(each))
            search.learn(result(each))
    while due := progress.due(plan, record.entries()):
        record.add_all([(each, result(each)) for each in due])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(each.stem for each in SWEEPS.glob("*.yaml")))
def test_a_shipped_sweep_s_table_gives_its_verdicts(home, name):
    sweep = ma.load(name, seeds=4)
    trained(sweep, home)
    report = ma.open_report(name, home=home)
    judged = ma.judge(report.save("t.csv"), sweep)
    assert len(judged.claims) == len(report.claims)
    assert judged.claims.equals(report.claims)
    assert len(judged.claims) == len(sweep.every_claim)


def test_a_table_is_judged_whatever_made_it(home, tmp_path):
    rows = [
        {"scale": scale, "seed": seed, "acc": 0.5 + 0.2 * scale + seed / 100} for scale in (0, 1) for seed in range(6)
    ]
    claim = {
        **CLAIM,
        "treatment": {"scale": 1},
        "control": {"scale": 0},
        "name": "c",
        "statement": "S.",
        "metric": "acc",
    }
    question = ma.Sweep("t", "Q?", scientific={"scale": [0, 1]}, seeds=6, claims=[claim])
    frame = pd.DataFrame(rows)
    frame.to_csv(tmp_path / "t.csv", index=False)
    judged = [
        ma.judge(each, question) for each in (frame, rows, tmp_path / "t.csv", frame.set_index(["scale", "seed"]))
    ]
    assert {each.claims.loc[0, "verdict"] for each in judged} == {"supported"}
    assert judged[0].trials["acc"].tolist() == frame["acc"].tolist()
    assert judged[0].curves.empty
    assert judged[0]._repr_html_().startswith("<pre>")
    with pytest.raises(SweepError, match="a table that was judged has no records; save"):
        judged[0].save("r.html")
    lacking = ma.judge(frame.assign(acc=[0.5, np.nan, *frame["acc"][2:]]), question)
    assert lacking.claims.loc[0, "n_pairs"] == 5
    with pytest.raises(SweepError, match="row 3, column acc: 'high' is not a finite number"):
        ma.judge(frame.assign(acc=["0.5", "high", *["0.5"] * 10]), question)


def test_a_sweep_built_in_python_is_that_of_the_file(home):
    path = sweep_file(Path())
    content = {key: value for key, value in json.loads(path.read_text()).items() if key != "question"}
    built = ma.Sweep("small", "Does tanh hurt?", **content)
    assert built.digest == ma.load(path).digest


def test_a_plan_shows_what_the_command_prints(home):
    planned = ma.plan(asked(), seeds=3)
    assert "mine: 2 arms x 3 seeds, 6 trials" in repr(planned)
    assert planned.preview.runs_code == "the function train"


def test_values_of_numpy_and_tuples_are_values_of_a_sweep(home):
    swept = np.linspace(0.1, 0.3, 3)
    built = asked(scientific={"scale": (False, True)}, fixed={"lr": np.float64(0.5)}, seeds=np.int64(3))
    assert (built.fixed, built.seeds) == ({"lr": 0.5}, 3)
    assert asked(scientific={"lr": swept}, claims=[]).scientific == {"lr": pytest.approx([0.1, 0.2, 0.3])}
    tuned = asked(nuisance={"lr": ma.Range(low=0.1, high=1.0, log=True)}, tuning_trials=2, **VALIDATED)
    assert tuned.nuisance["lr"].log


VALIDATED = {"metrics": {"acc": {"unit": "share"}, "val": {}}, "choose_by": "val"}


def test_overrides_are_texts_or_values_by_their_path(home):
    sweep_file(Path())
    texts = ma.load("small.yaml", overrides=["fixed.epochs=3"])
    assert texts == ma.load("small.yaml", overrides={"fixed.epochs": 3})
    assert texts.fixed == {"epochs": 3}
    assert ma.load("small.yaml", seeds=4).seeds == 4
    assert ma.load("normalization", quick=True).name == "normalization-quick"


PROBLEMS = {
    "an unknown key": ({"sedes": 3}, "sweep mine: sedes: unknown key; did you mean 'seeds'? allowed: question, "),
    "a wrong kind": ({"seeds": "many"}, "sweep mine: seeds: must be a whole number, not 'many'"),
    "a factor that the function lacks": (
        {"scientific": {"scal": [1, 2]}, "claims": []},
        "sweep mine: scientific.scal: unknown key; did you mean 'scale'? allowed: scale, lr",
    ),
    "a value of another type": (
        {"fixed": {"lr": "high"}},
        "sweep mine: fixed.lr: must be a number, not 'high'",
    ),
}


@pytest.mark.parametrize("what", PROBLEMS)
def test_what_is_wrong_is_told_in_a_line_when_a_sweep_is_built(what):
    changes, message = PROBLEMS[what]
    with pytest.raises(SweepError) as raised:
        asked(**changes)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_a_claim_tells_what_is_wrong_with_it():
    with pytest.raises(SweepError) as raised:
        ma.Claim("c", "S.", treatment={"scale": True}, direction="up", margn=0.1)
    assert [line.partition(" allowed: name,")[0] for line in str(raised.value).splitlines()] == [
        "claim c: direction: no such direction: 'up'; allowed: lower, higher, not_lower, not_higher, same",
        "claim c: margin: is missing",
        "claim c: margn: unknown key; did you mean 'margin'?",
    ]


def test_factors_that_nobody_declares_are_refused_when_they_are_to_be_run(home):
    question = ma.Sweep("t", "Q?", scientific={"scale": [0, 1]}, seeds=2)
    for call in (ma.plan, ma.run):
        with pytest.raises(SweepError, match=r"^sweep t: scientific\.scale: unknown key"):
            call(question)
    assert ma.plan(question, train=lambda seed, scale=0: scale).preview.trials == 4
    assert not home.exists()


def test_what_is_no_sweep_is_refused(home):
    for wrong in (3, {"question": "?"}, None):
        with pytest.raises(
            SweepError, match="give a Sweep, the name of a shipped one or the path of a sweep file, not"
        ):
            ma.plan(wrong)
    with pytest.raises(SweepError, match="no sweep named 'normalisation': did you mean 'normalization'"):
        ma.run("normalisation")
    with pytest.raises(SweepError, match="nothing recorded"):
        ma.open_report("normalization", home=home)
    with pytest.raises(SweepError, match="a name has 1 to 100 letters"):
        ma.Sweep("my sweep", "Q?", seeds=1)


def test_a_file_that_names_a_function_of_a_notebook_is_refused(home):
    sweep_file(Path(), train="<function>:train", claims=[])
    with pytest.raises(SweepError, match="train is a function of a notebook or a script, and no file has it: run the"):
        ma.load("small.yaml")


@pytest.mark.slow
def test_a_function_that_always_fails_ends_the_run_with_its_reason(home, tracker):
    with pytest.raises(AblateError, match=r"mine: stopped, 3 trials failed alike: .*ZeroDivisionError"):
        ma.run(asked(), train=lambda seed, scale=False: 1 / 0, home=home, jobs=1, progress=False)


SCRIPT = """
import sys, threading, time
import mnist_ablate as ma

print("begins", flush=True)

def train(seed, report, scale: bool = False):
    for step in range(STEPS):
        report(step, {"loss": 1.0})
        time.sleep(0.1)
    return {"acc": 0.5 + 0.1 * scale + seed / 100}

def go():
    question = ma.Sweep("s", "Q?", train=train, scientific={"scale": [False, True]}, seeds=20, metrics={"acc": {}})
    try:
        report = ma.run(question, seeds=SEEDS, home="home", jobs=1)
        print(len(report.trials), flush=True)
    except KeyboardInterrupt as error:
        print(error, flush=True)
"""
RUNS = {
    "main thread": "go()",
    "thread": "t = threading.Thread(target=go)\nt.start()\nwhile t.is_alive(): time.sleep(0.1)",
    "event loop": "import asyncio\nasync def main(): go()\nasyncio.run(main())",
}


def started(folder, how, steps, seeds):
    text = textwrap.dedent(SCRIPT).replace("STEPS", str(steps)).replace("SEEDS", str(seeds)) + RUNS[how]
    (folder / "script.py").write_text(text)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "script.py"], cwd=folder, env=base_environment(), **pipes)


@pytest.mark.slow
@pytest.mark.parametrize("how", RUNS)
def test_a_script_without_a_guard_is_run_once(tmp_path, how):
    out, err = started(tmp_path, how, steps=0, seeds=2).communicate(timeout=200)
    assert out.splitlines() == ["begins", "4"], err
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("how", RUNS)
def test_ctrl_c_ends_a_run_in_order_and_the_same_call_goes_on(tmp_path, how):
    process = started(tmp_path, how, steps=10, seeds=6)
    wait_for(lambda: count(tmp_path) >= 2, timeout_s=100)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    out, err = process.communicate(timeout=100)
    assert time.monotonic() - begun < 25
    done = re.search(r"stopped: (\d+) of 12 trials are recorded; the same call goes on", out)
    assert done, out + err
    assert 2 <= int(done[1]) == count(tmp_path) < 12
    out, err = started(tmp_path, how, steps=10, seeds=6).communicate(timeout=200)
    assert out.splitlines() == ["begins", "12"]
    assert f"resuming: {done[1]} of 12 done" in err


def count(folder):
    """How many trials are recorded."""
    if not (folder / "home" / "ledger.db").exists():
        return 0
    with closing(sqlite3.connect(folder / "home" / "ledger.db")) as ledger:
        try:
            return ledger.execute("SELECT COUNT(*) FROM trials").fetchone()[0]
        except sqlite3.OperationalError:  # not yet made
            return 0


@pytest.mark.parametrize("statement", ["import mnist_ablate", "import mnist_ablate as ma; dir(ma); ma.errors"])
def test_importing_the_package_imports_nothing_heavy(statement):
    heavy = {"pandas", "numpy", "dask", "distributed", "optuna", "mlflow", "keras", "tensorflow", "pydantic", "rich"}
    code = f"{statement}\nimport sys; print({heavy!r} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_every_name_of_the_package_is_there():
    for name in ma.__all__:
        assert getattr(ma, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'nosuch'"):
        _ = ma.nosuch
