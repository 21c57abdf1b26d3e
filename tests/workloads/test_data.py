import hashlib
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mnist_ablate.errors import DataError
from mnist_ablate.workloads.keras_mnist import data

IDX_HASHES = dict(
    reversed(line.split()) for line in Path(__file__).with_name("mnist_idx.sha256").read_text().splitlines()
)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (20, 4, 4), np.uint8),
        "y_train": rng.integers(0, 3, 20),
        "x_test": rng.integers(0, 256, (10, 4, 4), np.uint8),
        "y_test": rng.integers(0, 3, 10),
    }


@pytest.fixture
def saved(tmp_path, arrays):
    """Saves them, with changes."""

    def save(**changes):
        np.savez(tmp_path / "set.npz", **{**arrays, **changes})
        return tmp_path / "set.npz"

    return save


@pytest.mark.parametrize(("part", "file"), [("train", "train"), ("test", "t10k")])
@pytest.mark.parametrize(("kind", "rest"), [("x", "images-idx3-ubyte"), ("y", "labels-idx1-ubyte")])
def test_packaged_images_are_the_official_ones(part, file, kind, rest):
    """The original files are magic, sizes, values."""
    content = np.load(data.MNIST)[f"{kind}_{part}"]
    header = struct.pack(f">HBB{content.ndim}I", 0, 8, content.ndim, *content.shape)
    assert hashlib.sha256(header + content.astype(np.uint8).tobytes()).hexdigest() == IDX_HASHES[f"{file}-{rest}"]


def test_split_is_the_articles_last_thirty_percent():
    dataset, whole = data.load(), np.load(data.MNIST)
    shapes = {"train": (42_000, 28, 28, 1), "val": (18_000, 28, 28, 1), "test": (10_000, 28, 28, 1)}
    assert {name: images.shape for name, images in dataset.images.items()} == shapes
    np.testing.assert_array_equal(dataset.x_val[..., 0], whole["x_train"][42_000:])
    np.testing.assert_array_equal(dataset.y_val, whole["y_train"][42_000:])
    assert dataset.classes == 10


def test_another_set_in_keras_layout_is_read(saved, arrays):
    dataset = data.load(saved(y_train=arrays["y_train"][:, None]))
    assert dataset.x_train.shape == (14, 4, 4, 1)
    assert dataset.image_shape == (4, 4, 1)
    assert dataset.y_train.dtype == np.int32
    arrays["x_test"][0, 0, 0] ^= 1  # one pixel
    assert data.load(saved()).digest != dataset.digest


def test_damaged_packaged_file_is_refused(saved, monkeypatch):
    monkeypatch.setattr(data, "MNIST", saved())
    with pytest.raises(DataError, match="packaged images are damaged"):
        data.load()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"x_train": np.zeros((20, 4, 4), np.float32)}, "x_train is float32 .* uint8 .* is expected"),
        ({"x_train": np.zeros((20, 16), np.uint8)}, r"x_train is uint8 \(20, 16\)"),
        ({"x_test": np.zeros((10, 5, 5), np.uint8)}, "different shapes"),
        ({"y_train": np.zeros(19, int)}, r"y_train is int64 \(19,\); whole numbers of shape \(20,\)"),
        ({"y_train": np.zeros(20)}, "y_train is float64"),
        ({"y_test": np.full(10, -1)}, "y_test runs from -1 to -1"),
        ({"x_train": np.zeros((0, 4, 4), np.uint8), "y_train": np.zeros(0, int)}, r"x_train is uint8 \(0, 4, 4\)"),
    ],
)
def test_wrong_arrays_are_named(saved, changes, text):
    path = saved(**changes)
    with pytest.raises(DataError, match=text) as caught:
        data.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_array_that_is_missing_or_none_is_named(saved, arrays):
    del arrays["y_test"]
    with pytest.raises(DataError, match="no array y_test"):
        data.load(saved())
    with zipfile.ZipFile(saved(), "a") as archive:
        archive.writestr("y_test.npy", b"not an array")
    with pytest.raises(DataError, match=r"y_test is not an array: fetch or make the file again"):
        data.load(Path(archive.filename))


def test_a_file_that_is_truncated_or_absent_is_refused(saved):
    path = saved()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"not a readable \.npz"):
        data.load(path)
    path.unlink()
    with pytest.raises(DataError, match=r"no such data file: give a \.npz with x_train, y_train, x_test, y_test"):
        data.load(path)


@pytest.mark.parametrize("position", range(0, 2000, 97))
def test_flipped_byte_never_changes_the_images_unseen(saved, position):
    path = saved()
    content, before = bytearray(path.read_bytes()), data.load(path)
    content[position % len(content)] ^= 0xFF
    path.write_bytes(content)
    try:
        dataset = data.load(path)
    except DataError as error:
        problem = str(error)
        assert problem.startswith(str(path))
    else:
        assert dataset.digest == before.digest
        np.testing.assert_array_equal(dataset.x_train, before.x_train)


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("is_whole_file", [False, True])
def test_pickled_objects_are_never_run(saved, tmp_path, monkeypatch, is_whole_file):
    monkeypatch.chdir(tmp_path)
    path = saved(x_train=np.array([Bomb()], dtype=object))
    if is_whole_file:
        path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="not a readable"):
        data.load(path)
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("most", "zeros", "text"),
    [
        (2**20, 2**20, r"unpacks to 1,0..,... bytes; at most 1,048,576 are read"),
        (data.MAX_BYTES, 65 * 2**20, r"at most 67,108,864 are read from 6.,... packed ones"),
    ],
)
def test_zip_bomb_is_refused_before_it_is_unpacked(saved, monkeypatch, most, zeros, text):
    with zipfile.ZipFile(saved(), "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.npy", bytes(zeros))
    monkeypatch.setattr(data, "MAX_BYTES", most)
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(DataError, match=text):
        data.load(Path(archive.filename))
