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


def idx(array):
    """The bytes of the original files: magic, sizes, values."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (20, 4, 4), np.uint8),
        "y_train": rng.integers(0, 3, 20),
        "x_test": rng.integers(0, 256, (10, 4, 4), np.uint8),
        "y_test": rng.integers(0, 3, 10),
    }


def saved(folder, arrays, **changes):
    path = folder / "set.npz"
    np.savez(path, **{**arrays, **changes})
    return path


@pytest.mark.parametrize(
    ("file", "array"),
    [
        ("train-images-idx3-ubyte", "x_train"),
        ("train-labels-idx1-ubyte", "y_train"),
        ("t10k-images-idx3-ubyte", "x_test"),
        ("t10k-labels-idx1-ubyte", "y_test"),
    ],
)
def test_packaged_images_are_the_official_ones(file, array):
    content = np.load(data.MNIST)[array]
    assert hashlib.sha256(idx(content)).hexdigest() == IDX_HASHES[file]


def test_split_is_the_articles_last_thirty_percent():
    dataset = data.load()
    whole = np.load(data.MNIST)
    assert dataset.x_train.shape == (42_000, 28, 28, 1)
    assert dataset.x_val.shape == (18_000, 28, 28, 1)
    assert dataset.x_test.shape == (10_000, 28, 28, 1)
    np.testing.assert_array_equal(dataset.x_val[..., 0], whole["x_train"][42_000:])
    np.testing.assert_array_equal(dataset.y_val, whole["y_train"][42_000:])
    assert dataset.classes == 10


def test_another_set_in_keras_layout_is_read(tmp_path, arrays):
    path = saved(tmp_path, arrays, y_train=arrays["y_train"][:, None])
    dataset = data.load(path)
    assert dataset.x_train.shape == (14, 4, 4, 1)
    assert dataset.image_shape == (4, 4, 1)
    assert dataset.y_train.dtype == np.int32


def test_digest_changes_with_one_pixel(tmp_path, arrays):
    before = data.load(saved(tmp_path, arrays)).digest
    arrays["x_test"][0, 0, 0] ^= 1
    assert data.load(saved(tmp_path, arrays)).digest != before


def test_damaged_packaged_file_is_refused(tmp_path, arrays, monkeypatch):
    path = saved(tmp_path, arrays)
    monkeypatch.setattr(data, "MNIST", path)
    with pytest.raises(DataError, match="packaged images are damaged"):
        data.load(path)


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
def test_wrong_arrays_are_named(tmp_path, arrays, changes, text):
    with pytest.raises(DataError, match=text) as caught:
        data.load(saved(tmp_path, arrays, **changes))
    assert str(tmp_path / "set.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absent_file_says_what_to_give(tmp_path):
    with pytest.raises(DataError, match=r"no such data file: give a \.npz with x_train, y_train, x_test, y_test"):
        data.load(tmp_path / "none.npz")


def test_missing_array_is_named(tmp_path, arrays):
    del arrays["y_test"]
    with pytest.raises(DataError, match="no array y_test"):
        data.load(saved(tmp_path, arrays))


def test_truncated_file_is_refused(tmp_path, arrays):
    path = saved(tmp_path, arrays)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"not a readable \.npz"):
        data.load(path)


@pytest.mark.parametrize("position", range(0, 2000, 97))
def test_flipped_byte_never_changes_the_images_unseen(tmp_path, arrays, position):
    path = saved(tmp_path, arrays)
    content = bytearray(path.read_bytes())
    before = data.load(path)
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


def test_pickled_objects_are_never_run(tmp_path, arrays, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "set.npz"
    np.savez(path, **{**arrays, "x_train": np.array([Bomb()], dtype=object)})
    with pytest.raises(DataError, match="not a readable"):
        data.load(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="not a readable"):
        data.load(path)
    assert not Path("executed").exists()


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, arrays, monkeypatch):
    path = saved(tmp_path, arrays)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.npy", bytes(2**20))
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(data, "MAX_BYTES", 2**20)
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(DataError, match=r"unpacks to 1,0..,... bytes; at most 1,048,576 are read"):
        data.load(path)


def test_zip_bomb_of_a_few_kilobytes_is_refused_by_what_it_would_unpack_to(tmp_path, arrays, monkeypatch):
    path = saved(tmp_path, arrays)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.npy", bytes(65 * 2**20))
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(DataError, match=r"at most 67,108,864 are read from 6.,... packed ones"):
        data.load(path)


def test_member_that_is_no_array_is_named(tmp_path, arrays):
    del arrays["x_test"]
    path = saved(tmp_path, arrays)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_test.npy", b"not an array")
    with pytest.raises(DataError, match=r"x_test is not an array: fetch or make the file again"):
        data.load(path)
