"""Images come from a file, a folder of IDX files or a function; each that does not gives one line."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from mnist_ablate.errors import DataError
from mnist_ablate.workloads.keras_mnist import data, data_source

FASHION = Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts it
HEAD = """
import sys, time
import numpy as np
from beside import arrays
"""
BESIDE = """
import numpy as np
x, y = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 3
arrays = {"x_train": x, "y_train": y, "x_test": x[:5], "y_test": y[:5]}
"""


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of IDX files, half of them gzipped."""
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 5), np.uint8)
    labels = (np.arange(20) % 3).astype(np.uint8)
    for part, n in (("train", 20), ("t10k", 12)):
        tmp_path.joinpath(f"{part}-images-idx3-ubyte").write_bytes(idx(images[:n]))
        tmp_path.joinpath(f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels[:n]), mtime=0))
    return tmp_path


def test_idx_files_are_read_gzipped_or_not(folder: Path) -> None:
    found = data.load(f"idx:{folder}")
    assert (found.x_train.shape, found.x_test.shape) == ((14, 4, 5, 1), (12, 4, 5, 1))
    np.testing.assert_array_equal(found.y_test, np.arange(12) % 3)
    assert data.load("idx:" + folder.name, folder.parent).digest == found.digest  # from the sweep file's folder
    assert data.read(found.packed() or b"").digest == found.digest


@pytest.mark.slow
@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_debians_fashion_mnist_is_read() -> None:
    found = data.load(f"idx:{FASHION}")
    assert {name: len(images) for name, images in found.images.items()} == {
        "train": 42_000,
        "val": 18_000,
        "test": 10_000,
    }
    assert found.classes == 10
    assert np.bincount(found.y_test).tolist() == [1000] * 10


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("train-images-idx3-ubyte", None, "no file train-images-idx3-ubyte or train-images-idx3-ubyte.gz"),
        ("train-images-idx3-ubyte", b"", "no IDX file: it begins with nothing"),
        ("train-images-idx3-ubyte", b"PK\3\4zip", "no IDX file: it begins with 50 4b 03 04"),
        ("t10k-images-idx3-ubyte", idx(np.zeros((9, 4, 5), np.uint8))[:-7], "173 bytes of values, 180 are announced"),
        ("train-labels-idx1-ubyte.gz", b"plain", "not a readable IDX file (Not a gzipped file"),
        (
            "train-labels-idx1-ubyte.gz",
            gzip.compress(idx(np.zeros(9, np.uint8)), mtime=0)[:-9],
            "not a readable IDX file",
        ),
        ("train-labels-idx1-ubyte.gz", gzip.compress(idx(np.zeros(9, np.uint8)), mtime=0), "y_train is uint8 (9,)"),
    ],
)
def test_a_broken_idx_file_is_named(folder: Path, name: str, content: bytes | None, text: str) -> None:
    path = folder / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        data.load(f"idx:{folder}")
    assert text in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("https://host/x.npz", "https://host/x.npz: an address; download the file and give its path"),
        ("s3://bucket/x.npz", "s3://bucket/x.npz: an address;"),
        (Path("https://host/x.npz"), "https://host/x.npz: an address;"),
        ("nowhere.npz", "nowhere.npz: no such data file: give FILE.npz, idx:FOLDER or module:function"),
        ("", ": a folder: give FILE.npz, idx:FOLDER or module:function"),
        ("idx:nowhere", "no file train-images-idx3-ubyte"),
    ],
)
def test_what_is_no_source_is_named_as_it_was_given(source: str | Path, text: str) -> None:
    with pytest.raises(DataError) as caught:
        data.load(source)
    assert text in str(caught.value)


RETURNED = {
    "a dict": "return arrays",
    "a dict with more": "return {**arrays, 'names': object()}",
    "Keras's pairs": "a = arrays; return (a['x_train'], a['y_train']), (a['x_test'], a['y_test'])",
    "a flat tuple": "return [arrays[key] for key in ('x_train', 'y_train', 'x_test', 'y_test')]",
    "lists": "return {key: value.tolist() for key, value in arrays.items()}",
}


@pytest.mark.slow
@pytest.mark.parametrize("body", RETURNED.values(), ids=RETURNED)
def test_a_function_gives_the_images_from_the_sweep_files_folder(tmp_path: Path, body: str) -> None:
    (tmp_path / "beside.py").write_text(BESIDE)
    (tmp_path / "types.py").write_text("")  # it shadows none of Python's own modules here
    (tmp_path / "mine.py").write_text(f"{HEAD}\ndef images():\n    print('loading')\n    {body}\n")
    found = data.load("mine:images", tmp_path)
    assert found.x_train.shape == (14, 4, 4, 1)
    assert data.load("mine.py:images", tmp_path).digest == found.digest


FAILURES = {
    "raises": ("raise KeyError('cat')", "mine.py:7: KeyError: 'cat'"),
    "exits": ("sys.exit('no disk')", "mine.py:7: SystemExit: no disk"),
    "dies": ("import os; os._exit(3)", "ended with 3"),
    "nothing": ("return None", "returned NoneType without x_train, y_train, x_test, y_test; return a dict of"),
    "half": ("return {'x_train': 1}", "returned dict without y_train, x_test, y_test; return a dict of"),
    "ragged": ("return {**arrays, 'y_train': np.array([[1], [1, 2]], object)}", "y_train: rows of different lengths"),
    "hangs": ("time.sleep(60)", "took over 3 s to give the images"),
    "wrong": ("return {**arrays, 'y_test': [0.5] * 5}", "y_test holds fractions such as 0.5: a regression target"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("body", "text"), FAILURES.values(), ids=FAILURES)
def test_a_function_that_gives_none_is_said_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, text: str
) -> None:
    monkeypatch.setattr(data_source, "FUNCTION_S", 3.0)
    (tmp_path / "beside.py").write_text(BESIDE)
    (tmp_path / "mine.py").write_text(f"{HEAD}\ndef images():\n    {body}\n")
    with pytest.raises(DataError) as caught:
        data.load("mine:images", tmp_path)
    assert "mine:images" in str(caught.value)
    assert text in str(caught.value)


@pytest.mark.slow
def test_a_module_or_function_that_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("other = 1")
    with pytest.raises(DataError, match="data: mine:images: no function images in mine"):
        data.load("mine:images", tmp_path)
    with pytest.raises(DataError, match="ModuleNotFoundError: No module named 'yours'"):
        data.load("yours:images", tmp_path)
