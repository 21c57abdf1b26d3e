"""Which files decide what a trial does, found without running any."""

import tempfile

import pytest

from mnist_ablate.errors import SweepError
from mnist_ablate.workloads.own_code import source_code


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "package" / "inner").mkdir(parents=True)
    files = {
        "train.py": "import json, helper\nfrom package import part\nraise SystemExit",
        "helper.py": "import train",
        "unused.py": "",
        "package/__init__.py": "",
        "package/part.py": "from . import other\nfrom .inner import deep",
        "package/other.py": "",
        "package/inner/__init__.py": "",
        "package/inner/deep.py": "from ..unused import x",
        "package/unused.py": "",
        "data.csv": "1,2",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def names(found):
    return [name for name, _ in found.files]


def test_a_module_has_what_it_imports_beside_it(folder):
    assert names(source_code.of_module(folder, "train")) == [
        "helper.py",
        "package/__init__.py",
        "package/inner/__init__.py",
        "package/inner/deep.py",
        "package/other.py",
        "package/part.py",
        "package/unused.py",
        "train.py",
    ]


def test_named_files_and_folders_count_too(folder):
    (folder / "package" / "__pycache__").mkdir()
    (folder / "package" / "__pycache__" / "x.pyc").write_text("")
    found = names(source_code.of_module(folder, "helper", ["data.csv", "package/inner"]))
    assert "data.csv" in found
    assert "package/inner/deep.py" in found
    assert not any("pycache" in name for name in found)


def test_a_command_has_the_files_that_it_names(folder):
    assert names(source_code.of_command(folder, ["python", "package/part.py", "--lr={lr}", "data.csv"])) == [
        "data.csv",
        "package/__init__.py",
        "package/inner/__init__.py",
        "package/inner/deep.py",
        "package/other.py",
        "package/part.py",
        "package/unused.py",
    ]


def test_the_digest_follows_contents_names_and_the_call(folder):
    before = source_code.of_module(folder, "train")
    assert before.digest_with("a") == source_code.of_module(folder, "train").digest_with("a") != before.digest_with("b")
    (folder / "unused.py").write_text("changed")
    assert source_code.of_module(folder, "train") == before
    (folder / "package" / "other.py").write_text("changed")
    assert source_code.of_module(folder, "train").digest_with("a") != before.digest_with("a")


def test_what_is_packed_is_unpacked_once(folder, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("there")))
    found = source_code.of_module(folder, "train")
    first, again = source_code.unpack(found.packed()), source_code.unpack(found.packed())
    assert (again.files, again.folder) == (found.files, first.folder)
    assert found.is_in(first.folder)
    assert [*first.folder.parent.iterdir()] == [first.folder]


@pytest.mark.parametrize("change", ["write_text", "unlink"])
def test_unpacked_files_that_were_changed_are_not_used_again(folder, tmp_path_factory, monkeypatch, change):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("there")))
    found = source_code.of_module(folder, "train")
    first = source_code.unpack(found.packed())
    getattr(first.folder / "helper.py", change)(*(["changed"] if change == "write_text" else []))
    assert not found.is_in(first.folder)
    again = source_code.unpack(found.packed())
    assert again.folder != first.folder
    assert found.is_in(again.folder)


def test_an_installed_module_is_found_and_not_imported(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    empty = folder / "package"
    assert source_code.module_path(empty, "train") == folder / "train.py"
    assert source_code.module_path(empty, "no.such") is None


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["nosuch.py"], "code: no such file: nosuch.py; give paths from the folder of the sweep file"),
        (["../outside.py"], "code: {folder}/../outside.py is not below the folder of the sweep file; move it there"),
    ],
)
def test_files_that_cannot_be_sent_are_named(folder, named, message):
    (folder.parent / "outside.py").write_text("")
    with pytest.raises(SweepError) as refused:
        source_code.of_module(folder, "train", named)
    assert str(refused.value) == message.format(folder=folder)
