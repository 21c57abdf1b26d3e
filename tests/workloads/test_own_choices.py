"""Choices of users' own are read from their source and run only where trials train; each mistake is a line."""

import os
import pickle
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from small_digits import small

from mnist_ablate.errors import SweepError
from mnist_ablate.workloads.keras_mnist import own_choices
from mnist_ablate.workloads.keras_mnist.choices.tables import SHIPPED
from mnist_ablate.workloads.keras_mnist.own_choices import read_names
from mnist_ablate.workloads.keras_mnist.workload import KERAS_MNIST, MNIST_DIGEST, KerasMnist, keras_workload
from mnist_ablate.workloads.workload import PlannedSettings

SOURCE = '''
import pathlib
from beside import half

pathlib.Path("ran").touch()


def bipolar(_train):
    """x / 127.5 - 1: from -1 to 1.

    As for a generator that ends in tanh.
    """
    return lambda images: images / (2 * half) - 1


def quick(optimizers, learning_rate=0.25):
    """SGD in a hurry."""
    return optimizers.SGD(learning_rate)


NORMALIZERS = {"bipolar": bipolar}
ACTIVATIONS: dict = {"cube": lambda ops, x: x**3}
OPTIMIZERS = {"quick": quick}
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "beside.py").write_text("half = 63.75")
    return tmp_path


def workload(folder: Path, choices: str = "mine.py") -> KerasMnist:
    return keras_workload(folder, choices, "")


def test_names_and_summaries_are_read_and_nothing_is_run(folder: Path) -> None:
    choices = workload(folder).choices
    assert choices["normalizer"]["bipolar"] == "x / 127.5 - 1: from -1 to 1."
    assert choices["optimizer"]["quick"] == "SGD in a hurry."
    assert choices["activation"]["cube"] == ""
    assert choices["model"] == KERAS_MNIST.choices["model"]
    assert workload(folder).runs_code == "mine.py"
    assert not (folder / "ran").exists()


def test_a_worker_elsewhere_gets_the_source_with_what_it_imports_beside_it(folder: Path) -> None:
    sent = pickle.dumps(workload(folder))
    for name in ("mine.py", "beside.py"):
        (folder / name).unlink()
    own = pickle.loads(sent).own
    tables = own.load(SHIPPED)
    images = np.array([[[[0], [255]]]], np.uint8)
    assert tables.normalizers["bipolar"](images)(images).ravel().tolist() == [-1, 1]
    assert set(SHIPPED.normalizers) < set(tables.normalizers)


@pytest.mark.parametrize("name", ["mine.py", "beside.py"])
def test_a_changed_file_changes_the_digest_of_the_inputs_and_is_run_as_it_is(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although Python, which goes by size and second, would run what it compiled of the file before."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    first = workload(folder)
    before, images = first.load(None).digest, np.full((1, 1, 1, 1), 255, np.uint8)
    first.own.load(SHIPPED)
    path = folder / name
    written = path.stat()
    path.write_text(path.read_text().replace("63.75", "127.5").replace("2 * half", "4 * half"))
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    second = workload(folder)
    assert second.load(None).digest not in (before, MNIST_DIGEST)
    changed = second.own.load(SHIPPED)  # in the process that ran the other version
    assert changed.normalizers["bipolar"](images)(images).item() == 0


def test_ids_without_choices_are_what_they_were() -> None:
    assert KERAS_MNIST.load(None).digest == KERAS_MNIST.shipped_digest == MNIST_DIGEST
    assert keras_workload(Path(), "", "") == KERAS_MNIST
    assert KERAS_MNIST.runs_code == ""


def test_the_images_that_ship_are_known_beside_choices(folder: Path) -> None:
    found = workload(folder)
    assert found.shipped_digest == found.load(None).digest
    (folder / "mine.py").unlink()
    assert workload(folder).shipped_digest == ""  # a report does not need the file


def test_the_learning_rate_of_an_own_optimizer_is_its_own_where_it_is_built(folder: Path) -> None:
    settings = workload(folder).complete({"optimizer": "quick"})
    assert settings["learning_rate"] == 0.0
    assert workload(folder).complete({"optimizer": "sgd"})["learning_rate"] == 0.01


REFUSED = {
    "no Python": ("MODELS = {", "mine.py:1: no Python: '{' was never closed"),
    "no dict": ("NORMALISERS = {}", "mine.py: none of the dicts MODELS, ACTIVATIONS, NORMALIZERS, OPTIMIZERS"),
    "empty": ("\nMODELS = {}", "mine.py:2: MODELS is empty"),
    "made": ("MODELS = dict(a=1)", "mine.py:1: MODELS must be one dict in braces, each name in quotes, so that"),
    "unpacked": ("a = {}\nMODELS = {**a}", "mine.py:2: MODELS must be one dict in braces"),
    "a number": ("MODELS = {1: print}", "mine.py:1: MODELS must be one dict in braces"),
    "added to": ("MODELS = {'a': print}\nMODELS |= {'b': print}", "mine.py: MODELS must be one dict in braces"),
    "twice": ("MODELS = {'a': print,\n'a': print}", "mine.py:2: MODELS has a twice"),
    "shipped": ("MODELS = {\n'mlp': print}", "mine.py:2: model mlp ships already; choose another name"),
}


@pytest.mark.parametrize(("source", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_said_with_its_line(folder: Path, source: str, text: str) -> None:
    (folder / "mine.py").write_text(source)
    with pytest.raises(SweepError) as caught:
        _ = workload(folder).choices
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


BROKEN = {
    "raises": ("import nowhere\nMODELS = {'a': print}", "choices: mine.py:1: ModuleNotFoundError: No module named"),
    "exits": ("import sys\nsys.exit(3)\nMODELS = {'a': print}", "choices: mine.py:2: SystemExit: 3"),
    "other": ("MODELS = {'a': print}\nMODELS['b'] = print", "mine: MODELS differs when it is imported from what"),
    "no function": ("MODELS = {'a': 3}", "mine: MODELS: a is no function but int"),
}


@pytest.mark.parametrize(("source", "text"), BROKEN.values(), ids=BROKEN)
def test_what_goes_wrong_on_import_is_said_with_its_line(folder: Path, source: str, text: str) -> None:
    (folder / "mine.py").write_text(source)
    own = workload(folder).own
    with pytest.raises(SweepError) as caught:
        own.load(SHIPPED)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("choices", "text"),
    [
        ("gone.py", "choices: no file gone.py beside the sweep file"),
        ("sub/mine.py", "choices: sub/mine.py is not beside the sweep file; move it there"),
        ("mine", "choices: mine is no .py file, and no package offers it; did you mean 'mines'?"),
    ],
)
def test_choices_that_are_not_there_are_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, choices: str, text: str
) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "mine.py").write_text(SOURCE)
    offered = [EntryPoint("mines", "pack.choices", own_choices.GROUP)]
    monkeypatch.setattr(own_choices, "entry_points", lambda group: offered * (group == own_choices.GROUP))
    with pytest.raises(SweepError) as caught:
        _ = workload(folder, choices).choices
    assert str(caught.value).startswith(text)


def test_an_installed_package_offers_choices_by_an_entry_point(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = folder / "site" / "pack_of_choices"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    (package / "mine.py").write_text(SOURCE.replace("from beside", "from pack_of_choices.beside"))
    (package / "beside.py").write_text("half = 63.75")
    monkeypatch.syspath_prepend(str(package.parent))
    offered = [EntryPoint("pack", "pack_of_choices.mine", own_choices.GROUP)]
    monkeypatch.setattr(own_choices, "entry_points", lambda **_: offered)
    own = workload(folder, "pack").own
    assert own.names["normalizer"] == {"bipolar": "x / 127.5 - 1: from -1 to 1."}
    assert not (folder / "ran").exists()
    images = np.full((1, 1, 1, 1), 255, np.uint8)
    assert own.load(SHIPPED).normalizers["bipolar"](images)(images).item() == 1
    (package / "beside.py").write_text("half = 1")
    with pytest.raises(SweepError, match=r"pack_of_choices\.mine is installed here in another version"):
        own.load(SHIPPED)


def test_a_plan_says_what_it_did_not_run(folder: Path) -> None:
    found = workload(folder)
    arms = [found.complete({"normalizer": name}) for name in ("unit", "bipolar")]
    images = replace(small(), own=found.own)
    about, unit = found.fingerprints(images, PlannedSettings(arms, {}))
    assert unit["normalizer"] == "unit"
    note = "normalizer bipolar is your own code, which does not run here: its trials show what it makes"
    assert about["notes"] == [note]
    assert found.cost(images, arms) is None
    assert f"Data gate: {note}." in found.input_alarms([about, unit])
    assert not (folder / "ran").exists()


def test_reading_names_is_not_fooled_by_functions_inside_others() -> None:
    found = read_names(b"def a():\n    MODELS = {'hidden': 1}\nMODELS = {'seen': a}", "mine.py")
    assert found == {"model": {"seen": (3, "")}}
