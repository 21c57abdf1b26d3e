"""Functions that live in no file: what is read of them, their digests, and what cannot be sent. Real runners."""

import os
import subprocess
import sys
import textwrap
import threading
from functools import lru_cache, partial, wraps
from typing import Literal

import numpy as np
import pytest

from mnist_ablate.errors import SweepError
from mnist_ablate.workloads.own_code import source_code
from mnist_ablate.workloads.own_code.notebook_function import function_digest, notebook_function, pickled
from mnist_ablate.workloads.own_code.trainer import TRIALS, trainer
from mnist_ablate.workloads.own_code.workload import OwnCode
from mnist_ablate.workloads.workload import trial_of

OFFSET = 0.25
DATA = np.arange(4.0)


class Network:
    def __init__(self, width=1):
        self.width = width

    def train(self, seed, lr: float = 0.5):
        return self.width + lr

    def __call__(self, seed, lr: float = 0.5):
        return self.train(seed, lr)


def doubled(function):
    @wraps(function)
    def inner(*given, **named):
        return 2 * function(*given, **named)

    return inner


def plain(seed, lr: float = 0.5):
    return OFFSET + lr


def closure():
    data = np.ones(3)

    def train(seed, lr: float = 0.5):
        return float(data.sum()) + lr

    return train


CALLABLES = {
    "function": (plain, 0.75),
    "lambda": (lambda seed, lr=0.5: lr, 0.5),
    "closure": (closure(), 3.5),
    "partial": (partial(plain, lr=1.0), 1.25),
    "bound method": (Network(3).train, 3.5),
    "callable object": (Network(2), 2.5),
    "decorated": (doubled(plain), 1.5),
    "cached": (lru_cache(lambda seed, lr=0.5: lr), 0.5),
    "numpy": (lambda seed, lr=0.5: DATA.sum(), 6.0),
}


@pytest.fixture
def outcome(tmp_path, monkeypatch):
    """Trains a callable once, as a worker does."""
    monkeypatch.setenv(TRIALS, str(tmp_path / "trials"))

    def train(function, folder=tmp_path, **settings):
        given = notebook_function(function)
        workload = OwnCode(given.text, claimed=("acc",), folder=folder, given=given)
        begun = workload.load(None)
        code = workload.load(begun.packed())
        assert code.digest == begun.digest
        made = trainer(code)
        try:
            return made.train(trial_of(workload, workload.complete(settings), 1, code.digest))
        finally:
            made.close()

    return train


@pytest.mark.parametrize("kind", CALLABLES)
def test_every_kind_of_callable_is_trained_in_another_process(outcome, kind):
    function, value = CALLABLES[kind]
    found = outcome(function)
    assert (found.status, found.metrics) == ("complete", {"acc": value}), found.traceback


def test_settings_are_those_of_the_signature():
    def train(
        seed,
        lr: float = 1,
        act: Literal["relu", "tanh"] = "relu",
        width: int | None = None,
        layers=(3, 2),
        *,
        bias: bool,
    ): ...

    given = notebook_function(train)
    known = OwnCode(given.text, written={"width": [3]}, given=given).known_settings
    told = {name: (each.type, each.default, each.choices) for name, each in known.items()}
    assert told == {
        "lr": ("float", 1.0, []),
        "act": ("str", "relu", ["relu", "tanh"]),
        "bias": ("bool", None, []),
        "width": ("int", None, []),
    }


async def asynchronous(seed): ...


def generator(seed):
    yield 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (asynchronous, "asynchronous is async; give an ordinary function, which may call asyncio.run"),
        (generator, "generator is a generator; return the metrics, and call report(step, metrics) on the way"),
    ],
)
def test_a_function_that_is_no_ordinary_one_is_refused(function, message):
    with pytest.raises(SweepError) as raised:
        notebook_function(function)
    assert str(raised.value) == message


def locked_in_a_closure():
    handle = threading.Lock()
    return lambda seed: handle.locked()


class Holder:
    def __init__(self):
        self.lock = threading.Lock()

    def train(self, seed):
        return 0.5


@pytest.mark.parametrize(
    ("function", "variable"),
    [
        (locked_in_a_closure(), "handle (lock)"),
        (Holder().train, "self.lock (lock)"),
        (partial(plain, lr=threading.Lock()), "lr (lock)"),
    ],
)
def test_what_cannot_be_sent_is_named(function, variable):
    with pytest.raises(SweepError, match="which cannot be sent to a worker: cannot pickle") as raised:
        pickled(function)
    assert f" uses {variable}, " in str(raised.value)
    assert str(raised.value).endswith("; make it inside the function")


def test_a_lock_that_a_helper_of_a_cell_uses_is_named():
    cell = "import threading\nLOCK = threading.Lock()\ndef helper(): return LOCK\ndef train(seed): return helper()"
    names = {"__name__": "__main__"}
    exec(cell, names)
    with pytest.raises(SweepError, match=r"train uses LOCK \(lock\), which cannot be sent"):
        pickled(names["train"])


def test_a_function_that_holds_too_much_names_the_largest_variable(monkeypatch):
    monkeypatch.setattr(source_code, "MAX_BYTES", 10_000)
    small, large = np.zeros(10), np.zeros(10_000)
    with pytest.raises(SweepError, match=r"holds 8\d,\d{3} bytes, large most of them; at most 10,000 are sent"):
        pickled(lambda seed: small.sum() + large.sum())


SESSION = """
import sys
from functools import partial
from mnist_ablate.workloads.own_code.notebook_function import function_digest
import numpy as np
DATA = np.arange(5.)
NAMES = {"a", "bb", "ccc"}
class Net:
    width = 3
    def go(self): return self.width
NET = Net()
def helper(x): return x + 1
def train(seed, lr=0.1, rest={"k": 1}):
    return helper(DATA.sum()) * lr + (seed in {"x", "yy", "zzz"}) + len(NAMES) + NET.go() + Net().go()
"""
CHANGES = {
    "its own code": ("* lr +", "* lr -"),
    "a default": ("lr=0.1", "lr=0.2"),
    "a default within": ('{"k": 1}', '{"k": 2}'),
    "a function that it calls": ("x + 1", "x + 2"),
    "data": ("arange(5.)", "arange(6.)"),
    "a set": ('"ccc"', '"cc"'),
    "a method": ("return self.width", "return -self.width"),
    "an attribute of a class": ("width = 3", "width = 4"),
    "an attribute of an object": ("NET = Net()", "NET = Net(); NET.width = 5"),
}


def digest_in_a_session(text, hash_seed):
    code = text + "\nprint(function_digest(train))"
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.slow
def test_the_digest_is_the_same_in_another_session_and_cell():
    moved = SESSION.replace("def helper", "\n\n# a comment\ndef helper")
    assert len({digest_in_a_session(text, seed) for seed, text in enumerate((SESSION, SESSION, moved))}) == 1


def digest(text):
    names = {"__name__": "__main__"}
    exec(text, names)
    return function_digest(names["train"])


@pytest.mark.parametrize("what", CHANGES)
def test_the_digest_changes_with(what):
    before, after = CHANGES[what]
    assert SESSION.count(before) == 1
    assert digest(SESSION) == digest(SESSION)
    assert digest(SESSION.replace(before, after)) != digest(SESSION)


def test_variables_with_equal_values_are_told_apart():
    text = "a = 1\nb = 2\nc = {}\ndef train(seed): return a, b, c"
    assert digest(text.format(1)) != digest(text.format(2))


def test_functions_that_call_each_other_have_a_digest():
    text = (
        "def odd(n): return n and even(n - 1)\ndef even(n): return not n or odd(n - 1)\ndef train(seed): return odd(3)"
    )
    assert digest(text) == digest(text)


def test_modules_beside_are_sent_and_are_part_of_the_digest(tmp_path, outcome, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "beside_helper.py").write_text("import beside_table\ndef f(): return beside_table.VALUE")
    (tmp_path / "beside_table.py").write_text("VALUE = 3")

    def train(seed):
        import beside_helper

        return beside_helper.f()

    assert outcome(train).metrics == {"acc": 3.0}
    given = notebook_function(train)

    def code():
        return OwnCode(given.text, folder=tmp_path, given=given).load(None)

    first = code()
    assert [name for name, _ in first.source.files] == ["beside_helper.py", "beside_table.py"]
    (tmp_path / "beside_table.py").write_text("VALUE = 4")
    assert code().digest != first.digest


def test_what_fails_in_a_cell_is_the_trials_reason(outcome):
    cell = textwrap.dedent("""
        def train(seed):
            return 1 / 0
    """)
    names = {"__name__": "__main__"}
    exec(compile(cell, "cell 3", "exec"), names)
    assert outcome(names["train"]).reason == "cell 3:3: ZeroDivisionError: division by zero"


def test_a_record_needs_no_function_and_a_file_cannot_name_one():
    given = notebook_function(plain)
    recorded = OwnCode(given.text, found=OwnCode(given.text, given=given).known_settings)
    assert recorded.complete({}) == {"lr": 0.5}
    message = "plain is a function of a notebook or a script, and no file has it: run the sweep there, or move it into"
    with pytest.raises(SweepError, match=message):
        recorded.load(None)
    with pytest.raises(SweepError, match=message):
        _ = OwnCode(given.text).known_settings
