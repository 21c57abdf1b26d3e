"""A submitted sweep names only code and data that lie in the operator's folders, wherever links lead."""

from pathlib import Path

import pytest

from mnist_ablate.errors import SweepError
from mnist_ablate.service import code_paths

CLAIM = "claims:\n  - {name: c, statement: s, treatment: {lr: 0.2}, control: {lr: 0.1}, direction: higher, margin: 0.1}"
OWN = f"question: q\nscientific: {{lr: [0.1, 0.2]}}\nmetrics: {{acc: {{unit: share}}}}\nseeds: 3\n{CLAIM}\n"
IMAGES = "question: q\nscientific: {activation: [relu, tanh]}\nseeds: 3\n"
CODE = "def train(seed: int, lr: float): ...\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of code, with a link in it that leads out."""
    inside, outside = tmp_path / "code", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    for place in (inside, outside):
        (place / "job.py").write_text(CODE)
        (place / "run.sh").write_text("#!/bin/sh\n")
    (outside / "images.npz").write_bytes(b"x")
    (inside / "away.py").symlink_to(outside / "job.py")
    (inside / "away").symlink_to(outside)
    return inside


@pytest.mark.parametrize(
    "train",
    ["job:train", "job.py:train", "[python, job.py, '--lr={lr}']", "['{python}', ./job.py]", "[./run.sh, '{lr}']"],
)
def test_code_of_an_operators_folder_is_taken(folder: Path, train: str) -> None:
    sweep = code_paths.load(f"{OWN}train: {train}\n", "own", [folder.parent / "outside", folder])
    assert sweep.workload.runs_code


def test_the_folder_that_has_all_of_it_is_found(folder: Path) -> None:
    (folder / "part.py").write_text("")
    assert code_paths.folder_of({"train": "job:train", "code": ["part.py"]}, [folder.parent / "outside", folder]) == (
        folder,
        [],
    )


@pytest.mark.parametrize(
    "train",
    [
        *("os:system", "subprocess:run", "away:train", "away.job:train", "missing:train", "..outside.job:train"),
        *("[sh, -c, 'rm -rf /']", "[python, -c, 'import os']", "[python, -m, http.server]", "[python]", "[rm, job.py]"),
        *("[/bin/sh, job.py]", "[python, ../outside/job.py]", "[../outside/run.sh]", "['{lr}', job.py]"),
        *("[python, away.py]", "[away/run.sh]", "[run.sh]", "[./missing.sh]", "[python, '{lr}']"),
        f"[python, {'x' * 400}.py]",
    ],
)
def test_code_from_anywhere_else_is_refused_before_it_is_looked_at(folder: Path, train: str) -> None:
    with pytest.raises(SweepError, match=r"own\.yaml:\d+:\d+: train: .* is not in the folders") as caught:
        code_paths.load(f"{OWN}train: {train}\n", "own", [folder])
    assert caught.value.places[0].line == 7


@pytest.mark.parametrize(
    "line",
    [
        *("data: /etc/passwd", "data: ../outside/images.npz", "data: away/images.npz", "data: idx:/etc"),
        *("data: os:getcwd", "choices: away.py", "choices: /etc/x.py", "choices: some_package", "data: ~/x.npz"),
    ],
)
def test_data_and_choices_from_anywhere_else_are_refused(folder: Path, line: str) -> None:
    with pytest.raises(SweepError, match=r"x\.yaml:4:\d+: \w+: .* is not in the folders"):
        code_paths.load(f"{IMAGES}{line}\n", "x", [folder])


def test_files_under_code_are_refused_from_elsewhere(folder: Path) -> None:
    text = f"{OWN}train: job:train\ncode: [run.sh, /etc/passwd, away]\n"
    with pytest.raises(SweepError) as caught:
        code_paths.load(text, "own", [folder])
    assert [(place.line, place.text.partition(":")[0]) for place in caught.value.places] == [
        (8, "code[1]"),
        (8, "code[2]"),
    ]


def test_an_override_cannot_bring_code_either(folder: Path) -> None:
    with pytest.raises(SweepError, match=r"--set train=os:system: train: os:system is not in the folders"):
        code_paths.load(IMAGES, "x", [folder], overrides=["train=os:system"])


def test_without_folders_no_code_is_taken() -> None:
    with pytest.raises(SweepError, match=r"own\.yaml:7:8: train: this service takes no code and no data with a sweep"):
        code_paths.load(f"{OWN}train: job:train\n", "own", [])
    assert code_paths.load(IMAGES, "x", []).name == "x"
