"""What users' own code does, and what becomes of its trial. Real processes, no sweep."""

import os
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from mnist_ablate.workloads.own_code import runner
from mnist_ablate.workloads.own_code.declaration import MetricDeclaration
from mnist_ablate.workloads.own_code.trainer import TRIALS, trainer
from mnist_ablate.workloads.own_code.workload import OwnCode
from mnist_ablate.workloads.workload import trial_of

TUNING = 1_000_000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(TRIALS, str(tmp_path / "trials"))
    made = tmp_path / "code"
    made.mkdir()
    return made


class Trained:
    """Trains trials of one workload, whose folder is that of the sweep file."""

    def __init__(self, workload, here):
        sent = workload.load(None).packed()
        self.workload, self.code = workload, workload.load(sent)
        self.trainer, self.here = trainer(self.code), here

    def trial(self, seed=1, **settings):
        return trial_of(self.workload, self.workload.complete(settings), seed, self.code.digest)

    def outcome(self, seed=1, on_epoch=lambda _epoch: None, **settings):
        return self.trainer.train(self.trial(seed, **settings), on_epoch)

    def output(self, seed=1, **settings):
        folder = self.here.parent / "trials" / self.trial(seed, **settings).id
        return (folder / "output.txt").read_bytes()


@pytest.fixture
def trained():
    """Those of a test, whose runners end with it."""
    made = []
    yield made
    for each in made:
        each.trainer.close()


@pytest.fixture
def function(folder, trained):
    """Trains with the function `train` of a source text."""

    def make(source, **about):
        (folder / "own.py").write_text(textwrap.dedent(source))
        about = {"claimed": ("acc",), "folder": folder, **about}
        trained.append(Trained(OwnCode("own:train", **about), folder))
        return trained[-1]

    return make


@pytest.fixture
def program(folder, trained):
    """Trains with a command, in which `python` is this interpreter."""

    def make(*command, **about):
        about = {"claimed": ("acc",), "folder": folder, **about}
        trained.append(Trained(OwnCode(tuple(command), **about), folder))
        return trained[-1]

    return make


def test_a_function_gets_settings_seed_and_folder_and_reports_steps(function):
    trained = function(
        """
        def train(seed, report, trial_dir, lr: float = 0.1, /, act: str = "relu", **more):
            for step in range(3):
                report(step, {"val": step * lr})
            (trial_dir / "model").write_text(act)
            return {"acc": seed / 100}, {"more": len(more)}
        """,
        written={"act": ["tanh"], "extra": [1]},
    )
    seen = []
    found = trained.outcome(7, seen.append, lr=0.5, act="tanh", extra=1)
    assert (found.status, found.metrics, found.diagnostics) == ("complete", {"acc": 0.07}, {"more": 1.0})
    assert [(each.number, each.metrics) for each in found.epochs] == [
        (1, {"val": 0.0}),
        (2, {"val": 0.5}),
        (3, {"val": 1.0}),
    ]
    assert tuple(seen) == found.epochs


@pytest.fixture
def cases(function):
    """Outcomes of a function whose body is chosen by the seed: one runner serves all, and nothing leaks."""

    def outcomes(*bodies):
        lines = "".join(f"    if seed == {seed}: {body}\n" for seed, body in enumerate(bodies))
        made = function(f"import os, sys, optuna\nimport numpy as np\ndef train(seed):\n{lines}")
        return [made.outcome(seed) for seed in range(len(bodies))]

    return outcomes


def test_numbers_of_any_library_are_metrics(cases):
    bodies = {
        "return {'acc': np.float32(0.5)}": {"acc": 0.5},
        "return {'acc': np.array(0.5)}": {"acc": 0.5},
        "return 0.5": {"acc": 0.5},
        "return np.float64(0.5)": {"acc": 0.5},
        "return type('History', (), {'history': {'acc': [0.1, 0.5]}})()": {"acc": 0.5},
        "return {'acc': 0.5}, {'dead': 3}": {"acc": 0.5},
        "return {'acc': True}": {"acc": 1.0},
        "return {'acc': 0.5, 'other': float('nan')}": {"acc": 0.5},
    }
    assert [(each.status, each.metrics) for each in cases(*bodies)] == [("complete", each) for each in bodies.values()]


def test_what_goes_wrong_in_a_function_is_its_trials_reason_and_the_next_trial_runs(cases):
    bodies = {
        "return None": "TypeError: acc is NoneType, not a number; return a mapping of metrics to numbers",
        "return {'acc': 'high'}": "TypeError: acc is str, not a number; return a mapping of metrics to numbers",
        "return [0.1, 0.2]": "TypeError: acc is list, not a number; return a mapping of metrics to numbers",
        "return {'accu': 0.5}": "reported accu, not acc; did you mean 'accu'?",
        "return {}": "reported no metric, not acc",
        "return float('nan')": "acc is nan, and metrics: declares no worst value for it (low, high)",
        "raise ValueError('no\\nway')": "own.py:10: ValueError: no",
        "raise KeyboardInterrupt": "own.py:11: KeyboardInterrupt",
        "sys.exit('enough')": "called sys.exit('enough') and returned no metrics",
        "sys.exit(0)": "called sys.exit(0) and returned no metrics",
        "os._exit(3)": "ended with exit code 3",
        "os._exit(0)": "ended without a result",
        "os.kill(os.getpid(), 9)": "ended by SIGKILL, perhaps for lack of memory",
        "print('the end', flush=True); os.kill(os.getpid(), 11)": "ended by SIGSEGV: the end",
        "os.kill(os.getpid(), 2); return 0.5": "ended by SIGINT",
    }
    *failed, last = cases(*bodies, "return {'acc': 0.5}")
    assert [each.reason for each in failed] == [*bodies.values()]
    assert {each.status for each in failed} == {"failed"}
    assert (last.status, last.metrics) == ("complete", {"acc": 0.5})


def test_a_function_may_prune_itself(cases):
    found = cases("raise optuna.TrialPruned()", "raise type('TrialPruned', (Exception,), {})()")
    assert [each.status for each in found] == ["pruned", "pruned"]


def test_a_function_may_start_processes_and_threads(cases):
    bodies = [
        "import multiprocessing as m; pool = m.get_context('fork').Pool(2); return sum(pool.map(abs, [-1, -2]))",
        "import threading; t = threading.Thread(target=print); t.start(); t.join(); return 3",
        "import asyncio; return asyncio.run(asyncio.sleep(0, 3))",
        "import subprocess; subprocess.run(['true'], check=True); return 3",
        "open('left', 'w').write('x'); return 3",
    ]
    assert [each.metrics for each in cases(*bodies)] == [{"acc": 3.0}] * len(bodies)


def test_a_number_that_is_not_finite_counts_with_the_worse_bound(function):
    declared = {"acc": MetricDeclaration(unit="share"), "loss": MetricDeclaration(better="lower", high=10.0)}
    trained = function(
        "def train(seed): return {'acc': float('nan'), 'loss': float('inf')}",
        claimed=("acc", "loss"),
        declared_metrics=declared,
    )
    found = trained.outcome()
    assert (found.status, found.metrics) == ("diverged", {"acc": 0.0, "loss": 10.0})
    assert found.reason == "acc is nan; loss is inf"


def test_a_number_beyond_its_declared_bounds_is_an_error(function):
    trained = function("def train(seed): return 97.1", declared_metrics={"acc": MetricDeclaration(unit="share")})
    assert trained.outcome().reason == "acc is 97.1, but 0 to 1 is declared"


def test_a_trial_that_tunes_keeps_no_metric_of_the_test_set(function):
    trained = function("def train(seed): return {'acc': 0.5, 'test_acc': 0.6, 'val': 0.7}", selection_metric="val")
    assert trained.outcome(TUNING).metrics == {"acc": 0.5, "val": 0.7}


@pytest.mark.parametrize("obeys", [True, False])
def test_a_function_is_told_to_stop_and_is_stopped_at_the_next_report(function, obeys):
    trained = function(
        f"""
        import time
        def train(seed, report):
            for step in range(2 if seed == 2 else 1000):
                if report(step, {{"val": 1.0}}) and {obeys}:
                    break
                time.sleep(0.01)
            return {{"acc": 0.1}}
        """
    )

    class EnoughError(Exception):
        pass

    def on_epoch(epoch):
        if epoch.number == 3:
            raise EnoughError

    start = time.monotonic()
    with pytest.raises(EnoughError):
        trained.outcome(1, on_epoch)
    assert time.monotonic() - start < 8
    assert trained.outcome(2).metrics == {"acc": 0.1}


def test_nothing_that_a_trial_changes_is_seen_by_the_next(function):
    trained = function(
        """
        import logging, os, signal, sys, warnings
        import numpy as np
        seen = []
        def state():
            own = os.getcwd(), os.environ.get("X"), sys.path[:], seen[:]
            return *own, signal.getsignal(15), np.geterr(), logging.root.manager.disable
        first = state()
        def train(seed):
            same = state() == first
            os.chdir("/"); os.environ["X"] = "1"; sys.path.clear(); signal.signal(15, signal.SIG_IGN)
            np.seterr(all="raise"); logging.disable(); warnings.simplefilter("error"); seen.append(seed)
            return float(same)
        """
    )
    assert [trained.outcome(seed).metrics["acc"] for seed in range(3)] == [1.0, 1.0, 1.0]


def test_output_is_kept_for_each_trial_cut_in_the_middle(function):
    trained = function(
        """
        import os, sys
        def train(seed):
            print("first"); sys.stdout.flush(); os.write(1, b"\\xff\\rbar\\n")
            for _ in range(seed): os.write(1, b"x" * 999_999 + b"\\n")
            print("last"); return 0.5
        """
    )
    assert trained.outcome(20).status == "complete"
    kept = trained.output(20)
    assert kept.startswith(b"first\n")
    assert kept.rstrip().endswith(b"last")
    assert b"bytes left out]" in kept
    assert len(kept) < 3 * runner.OUTPUT_KEPT


def test_a_million_reports_are_thinned(function):
    trained = function(
        "def train(seed, report):\n    for step in range(20_000): report(step, {'v': step})\n    return 0.5"
    )
    found = trained.outcome()
    assert found.status == "complete"
    assert len(found.epochs) < 3 * runner.STEPS_KEPT
    assert found.epochs[-1].metrics["v"] > 15_000


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nosuch\ndef train(): pass", r"own.py:1: ModuleNotFoundError: No module named 'nosuch'"),
        ("1 / 0\ndef train(): pass", r"own.py:1: ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)\ndef train(): pass", r"own.py:1: SystemExit: 3"),
        ("import os; os._exit(3)\ndef train(): pass", r"importing own ended the process \(3\): keep sys.exit and .*"),
        ("import time; time.sleep(60)\ndef train(): pass", r"importing own took over 1 s: keep training out of .*"),
        ("train = 3", r"own:train is no function"),
    ],
)
def test_a_module_that_cannot_be_imported_is_said_in_a_line(function, source, message, monkeypatch):
    monkeypatch.setattr("mnist_ablate.workloads.own_code.trainer.IMPORT_S", 1.0 if "time" in source else 60.0)
    with pytest.raises(RuntimeError, match=f"^{message}$"):
        function(source).outcome()


def test_a_file_beside_the_sweep_file_wins_over_an_installed_module(function, folder):
    (folder / "json_neighbor.py").write_text("value = 0.5")
    (folder / "typing_extensions.py").write_text("own = True")
    source = (
        "import typing_extensions, json_neighbor\ndef train(seed): return json_neighbor.value * typing_extensions.own"
    )
    assert function(source).outcome().metrics == {"acc": 0.5}


@pytest.mark.parametrize(
    ("said", "metrics"),
    [
        ('{"metrics": {"acc": 0.5}}', {"acc": 0.5}),
        ('  1%|##\\r{"metrics": {"acc": 0.5}}', {"acc": 0.5}),
        ('{"acc": 1}\\n{"metrics": 3}\\n{"metrics": {"acc": 0.4}}\\n{"metrics": {"acc": 0.5}}\\n{"x"', {"acc": 0.5}),
    ],
)
def test_only_lines_of_the_documented_form_are_metrics(program, said, metrics):
    found = program("printf", said.replace("{", "{{").replace("}", "}}").replace("%", "%%")).outcome()
    assert (found.status, found.metrics) == ("complete", metrics)


def test_a_program_gets_its_settings_and_reports_steps(program, folder):
    (folder / "run.py").write_text(
        textwrap.dedent(
            """
            import json, os, sys
            settings = json.loads(os.environ["MNIST_ABLATE_SETTINGS"])
            assert sys.argv[1:] == ["--lr=0.5", "--fast"], sys.argv
            assert sys.stdin.read() == ""
            for step in range(2): print(json.dumps({"step": step, "metrics": {"val": step}}))
            with open(os.environ["MNIST_ABLATE_RESULT"], "w") as f:
                json.dump({"acc": settings["lr"], "seed": int(os.environ["MNIST_ABLATE_SEED"])}, f)
            """
        )
    )
    trained = program(sys.executable, "run.py", "--lr={lr}", "{fast?--fast}", written={"lr": [0.5], "fast": [True]})
    found = trained.outcome(7, lr=0.5, fast=True)
    assert (found.status, found.metrics) == ("complete", {"acc": 0.5, "seed": 7.0})
    assert [each.metrics for each in found.epochs] == [{"val": 0.0}, {"val": 1.0}]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["nosuch-program"], "nosuch-program: No such file or directory"),
        (["sh", "-c", "echo so far; exit 4"], "ended with exit code 4: so far"),
        (["sh", "-c", "echo only words"], "ended without a result; its last line: only words"),
        (["sh", "-c", "kill -9 $$"], "ended by SIGKILL, perhaps for lack of memory"),
        (
            ["sh", "-c", "printf '{{' > $MNIST_ABLATE_RESULT"],
            "result.json: cannot be read as JSON: Expecting property name",
        ),
        (["sh", "-c", "echo 3 > $MNIST_ABLATE_RESULT"], "result.json: must be an object of metrics"),
    ],
)
def test_what_goes_wrong_in_a_program_is_its_trials_reason(program, command, reason):
    found = program(*command).outcome()
    assert (found.status, found.metrics) == ("failed", {})
    assert found.reason.startswith(reason)


def test_a_script_without_the_right_to_run_is_said_with_its_path(program, folder):
    (folder / "run.sh").write_text("#!/bin/sh\necho")
    assert program("./run.sh").outcome().reason == f"{folder / 'run.sh'}: Permission denied"


def alive(marker):
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in each.read_bytes():
                found.append(int(each.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("ignores", [False, True])
def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(program, ignores):
    seconds = str(5_000 + os.getpid() + ignores)
    body = f"setsid sleep {seconds} & sleep {seconds} & wait; sleep {seconds}"
    start = time.monotonic()
    found = program("sh", "-c", ("trap '' TERM; " if ignores else "") + body, timeout_s=0.5).outcome()
    assert found.reason == "took longer than 0.5 s"
    assert time.monotonic() - start < 15
    assert alive(f"sleep\0{seconds}") == []


def test_what_a_program_leaves_behind_is_ended_with_its_trial(program):
    seconds = str(9_000 + os.getpid())
    body = f'(setsid nohup sleep {seconds} &) ; echo \'{{{{"metrics": {{{{"acc": 0.5}}}}}}}}\''
    assert program("sh", "-c", body).outcome().metrics == {"acc": 0.5}
    assert alive(f"sleep\0{seconds}") == []


def test_everything_ends_with_the_worker_even_if_it_is_killed(program):
    """The worker's end of the socket closes when its process ends for any reason, here by hand."""
    seconds = str(13_000 + os.getpid())
    trained = program("sh", "-c", f"setsid sleep {seconds} & sleep {seconds}")
    thread = threading.Thread(target=trained.outcome, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while len(alive(f"sleep\0{seconds}")) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(alive(f"sleep\0{seconds}")) >= 2
    trained.trainer._runner._socket.shutdown(2)
    while alive(f"sleep\0{seconds}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive(f"sleep\0{seconds}") == []
    thread.join(20)


def test_a_runner_that_was_killed_fails_one_trial(function):
    trained = function("import os\ndef train(seed):\n    if seed == 1: os.kill(os.getppid(), 9)\n    return 0.5")
    assert trained.outcome().reason == "the process that runs the code ended"
    assert trained.outcome(2).metrics == {"acc": 0.5}


def test_threads_of_numeric_libraries_are_the_workers_share(function, monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    source = (
        "import os\ndef train(seed): return int(os.environ['OMP_NUM_THREADS']) + int(os.environ['MKL_NUM_THREADS'])"
    )
    assert function(source).outcome().metrics == {"acc": 4.0}
