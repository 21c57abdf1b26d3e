"""What this program sets for itself, users' code does not see; what the user sets, training does not see."""

import os
import sys
from types import SimpleNamespace

import pytest

from mnist_ablate import environment
from mnist_ablate.environment import of_user, overridden, override
from mnist_ablate.workloads.keras_mnist import keras_settings
from mnist_ablate.workloads.keras_mnist.workload import KERAS_MNIST


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"KEPT": "1", "A": "users", "TF_XLA_FLAGS": "--tf_xla_auto_jit=2"})


def test_the_user_has_what_was_there_before_however_often_it_is_changed() -> None:
    before = {**os.environ}
    for value in ("1", "2", None, "3"):
        override({"A": value, "B": value})
        assert (os.environ.get("A"), os.environ.get("B")) == (value, value)
        assert of_user() == before


def test_what_the_user_changes_afterwards_is_the_users() -> None:
    override({"A": "ours", "B": "ours"})
    os.environ |= {"A": "later", "B": "later"}
    assert (of_user()["A"], of_user()["B"]) == ("later", "later")
    override({"A": "ours again"})
    assert of_user()["A"] == "later"


def test_after_a_while_of_other_variables_all_are_as_before() -> None:
    before = {**os.environ}
    with overridden(environment.TRAINING):
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert of_user() == os.environ == before


def test_variables_set_in_another_order_are_remembered_in_the_same_words() -> None:
    override({"A": "ours", "B": "ours"})
    before = {**os.environ}
    with overridden({"A": "for a while"}):
        pass
    assert os.environ == before


def test_what_was_set_for_longer_outlasts_what_is_set_for_a_while() -> None:
    users = {**os.environ}
    override(environment.NO_THREADS)
    before = {**os.environ}
    with overridden(environment.TRAINING):
        pass
    assert os.environ == before
    assert of_user() == users
    with overridden(environment.TRAINING):
        os.environ["OPENBLAS_NUM_THREADS"] = "4"
    assert os.environ["OPENBLAS_NUM_THREADS"] == of_user()["OPENBLAS_NUM_THREADS"] == "4"


def test_nothing_that_changes_numbers_reaches_tensorflow_or_keras() -> None:
    harmless = {"KERAS_HOME": "/k", "TF_CPP_MIN_LOG_LEVEL": "0"}
    os.environ |= {**harmless, "KERAS_BACKEND": "torch", "ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "XLA_FLAGS": "--x"}
    before = {**os.environ}
    keras_settings.override_environment()
    ours = {"KERAS_BACKEND": "tensorflow", "TF_ENABLE_ONEDNN_OPTS": "1"}
    left = {name: value for name, value in os.environ.items() if name.startswith(("KERAS_", "TF_", "ONEDNN", "XLA"))}
    assert left == harmless | ours
    assert of_user() == before


def test_a_plan_times_nothing_where_keras_runs_on_another_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", keras)
    assert KERAS_MNIST.cost(None, []) is None
