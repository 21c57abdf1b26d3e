"""Choices and images of users' own, from a sweep file to trials on real workers, and what is refused on the way."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from command import Command, base_environment

CHOICES = '''
import pathlib
import keras
from keras import layers

pathlib.Path("imported").touch()


def plain(settings, input_shape, classes):
    """A dense layer with dropout."""
    return keras.Sequential([
        keras.Input(input_shape),
        layers.Flatten(),
        layers.Dense(settings["width"], activation="relu"),
        layers.Dropout(settings["dropout"]),
        layers.Dense(classes),
    ])


def broken(settings, input_shape, classes):
    """No model."""
    return 1 / 0


MODELS = {"plain": plain, "broken": broken}
'''
SWEEP = """
question: q?
choices: mine.py
data: images:digits
scientific: {dropout: [0.0, 0.5]}
fixed: {model: plain, width: 8, epochs: 1}
seeds: 2
negative_control: none
"""
IMAGES = '''
import pathlib
import numpy as np

pathlib.Path("called").touch()


def digits():
    """Noise."""
    random = np.random.default_rng(0)
    x, y = random.random((90, 5, 6)), np.eye(3)[np.arange(90) % 3]
    return (x[:60], y[:60]), (x[60:], y[60:])
'''


@pytest.fixture
def user(tmp_path: Path) -> Command:
    (tmp_path / "mine.py").write_text(CHOICES)
    (tmp_path / "images.py").write_text(IMAGES)
    (tmp_path / "x.yaml").write_text(SWEEP)
    return Command(tmp_path, base_environment(MLFLOW_TRACKING_URI=""))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_plan_runs_neither_and_a_sweep_trains_with_both(user: Command) -> None:
    planned = user("plan", "x.yaml")
    assert planned.out.splitlines()[0] == "its trials run your code: mine.py and images:digits (this plan does not)"
    assert "images:digits gives the images where trials are trained" in planned.out
    assert not [*user.folder.glob("called"), *user.folder.glob("imported")]
    done = user("sweep", "x.yaml", "--jobs", "1")
    assert done.code == 0, done.err
    path = user.folder / "mine.py"
    path.write_text(CHOICES.replace("No model", "None"))
    changed = user("sweep", "x.yaml", "--jobs", "1")
    assert changed.code == 0, changed.err
    assert "its code or images were changed since x/1: every trial is trained anew" in changed.err
    for name in ("mine.py", "images.py"):
        (user.folder / name).unlink()
    shown = user("report", "x")  # a report needs neither
    assert shown.code == 0, shown.err
    assert user("verify", "x").code == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_function_that_fails_is_named_with_its_line(user: Command) -> None:
    done = user("sweep", "x.yaml", "--jobs", "1", "--set", "fixed.model=broken")
    assert done.code == 1
    assert "mine.py:22: ZeroDivisionError: division by zero" in done.out + done.err


def idx(array: np.ndarray) -> bytes:
    return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


REFUSED = {
    "small": (
        "idx:small",
        "the images are 5x5, but model cnn needs 6x6 at least; take mlp, mlp_relu, mlp3, linear, vgg16",
    ),
    "an address": ("https://host/x.npz", "https://host/x.npz: an address; download the file and give its path"),
    "a function": ("images:nothing", "data: images:nothing: no function nothing in images"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("data", "text"), REFUSED.values(), ids=REFUSED)
def test_images_of_no_use_end_a_sweep_before_it_begins(user: Command, data: str, text: str) -> None:
    small = user.folder / "small"
    small.mkdir()
    for part, n in (("train", 30), ("t10k", 20)):
        (small / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(np.zeros((n, 5, 5), np.uint8)))
        (small / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx((np.arange(n) % 3).astype(np.uint8)))
    done = user("sweep", "x.yaml", "--data", data, "--set", "fixed.model=cnn")
    assert (done.code, done.out) == (4, "")
    assert done.err.splitlines()[-1].startswith(text)
    assert not (user.folder / ".mnist-ablate" / "ledger.db").exists()
