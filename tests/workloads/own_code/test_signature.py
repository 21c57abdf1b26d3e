"""The settings of a function are read from its source, which is never run."""

import pytest

from mnist_ablate.errors import SweepError
from mnist_ablate.workloads.own_code.declaration import Setting
from mnist_ablate.workloads.own_code.signature import read_signature


def settings_of(source):
    return read_signature(source, "train.py", "train").settings


def test_annotations_and_defaults_are_settings():
    found = settings_of(
        "from typing import Literal\n"
        "import typing as t\n"
        "raise SystemExit('run')\n"
        "def train(seed, lr: float = 1, width: int = 32, *, act: Literal['relu', 'tanh'], deep=False,"
        " m: t.Literal[1] = 1, note: str, free, report=None, trial_dir=None):\n    pass\n"
    )
    assert found == {
        "lr": Setting(type="float", default=1.0),
        "width": Setting(type="int", default=32),
        "act": Setting(choices=["relu", "tanh"]),
        "deep": Setting(type="bool", default=False),
        "m": Setting(choices=[1], default=1),
        "note": Setting(type="str"),
        "free": Setting(),
    }


def test_a_class_of_settings_has_them_as_fields():
    source = "class Options:\n    lr: float = 0.1\n    act: str\ndef train(settings: Options, seed): pass\n"
    assert settings_of(source) == {"lr": Setting(type="float", default=0.1), "act": Setting(type="str")}


@pytest.mark.parametrize(
    ("source", "is_open", "takes_seed"),
    [
        ("def train(settings, seed, report): pass", True, True),
        ("def train(lr, **more): pass", True, True),
        ("def train(lr): pass", False, False),
        ("def train(lr, /, seed): pass", False, True),
        ("from functools import partial\ntrain = partial(print)", True, True),
        ("@wrap\ndef train(lr): pass", True, True),
        ("class train:\n    def __call__(self): pass", True, True),
        ("from other import train", True, True),
    ],
)
def test_what_takes_other_settings_too_is_open(source, is_open, takes_seed):
    found = read_signature(source, "train.py", "train")
    assert (found.is_open, found.takes_seed) == (is_open, takes_seed)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def trian(): pass", "train.py: no function train; did you mean 'trian'? functions: trian"),
        ("def train(:", "train.py:1: no Python: invalid syntax"),
        (
            "async def train(): pass",
            "train.py:1: train is async; give an ordinary function, which may call asyncio.run",
        ),
        (
            "\ndef train():\n    for _ in x:\n        yield 1",
            "train.py:2: train is a generator; return the metrics, and call report(step, metrics) on the way",
        ),
        ("x = '\0'", "train.py: no Python: source code string cannot contain null bytes"),
    ],
)
def test_a_function_that_cannot_be_used_is_refused_in_a_line(source, message):
    with pytest.raises(SweepError) as refused:
        read_signature(source, "train.py", "train")
    assert str(refused.value) == message


def test_a_generator_inside_a_function_is_its_own_matter():
    assert settings_of("def train(lr=0.1):\n    def batches():\n        yield 1\n") == {
        "lr": Setting(type="float", default=0.1)
    }
