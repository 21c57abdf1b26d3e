"""Compiled programs are kept for the same processor and versions; what is not whole is never run."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnist_ablate.workloads.keras_mnist import program_cache
from mnist_ablate.workloads.keras_mnist.program_cache import FOLDER, KEPT, programs

VERSIONS = {"tensorflow": "2.21.0"}
NAME = "xla_compile_cache__1__2__XLA_CPU_JIT.pb"


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where there is memory for folders. The user's cache is beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(program_cache, "_MEMORY", tmp_path / "memory")
    (tmp_path / "memory").mkdir()
    return tmp_path / "memory"


def compile_one(name: str = NAME, content: bytes = b"program", versions: dict[str, str] = VERSIONS) -> None:
    with programs(versions) as variables:
        (Path(variables[FOLDER]) / name).write_bytes(content)


def brought(versions: dict[str, str] = VERSIONS) -> dict[str, bytes]:
    with programs(versions) as variables:
        return {file.name: file.read_bytes() for file in Path(variables[FOLDER]).glob("*.pb")}


def stored(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.pb"))


def test_what_was_compiled_is_there_the_next_time_and_nothing_is_left_in_memory(memory: Path) -> None:
    assert brought() == {}
    compile_one()
    assert brought() == {NAME: b"program"}
    assert list(memory.iterdir()) == []


@pytest.mark.parametrize("change", [lambda old: old[:-1] + b"!", lambda _: b"", lambda old: old[:3]])
def test_a_program_that_is_not_whole_is_thrown_away(tmp_path: Path, change: object) -> None:
    compile_one()
    (file,) = stored(tmp_path)
    file.write_bytes(change(file.read_bytes()))  # type: ignore[operator]
    assert brought() == {}
    assert stored(tmp_path) == []


def test_another_processor_and_other_versions_have_programs_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_one()
    assert brought({"tensorflow": "2.22.0"}) == {}
    other = tmp_path / "cpuinfo"
    other.write_text("processor : 0\nmodel name : another\nflags : fpu avx2\n\nprocessor : 1\n")
    monkeypatch.setattr(program_cache, "_PROCESSOR", other)
    assert brought() == {}


def test_so_many_are_kept_the_newest(tmp_path: Path) -> None:
    for number in range(KEPT + 3):
        compile_one(f"program_{number}.pb")
        for age, file in enumerate(sorted(stored(tmp_path), key=lambda file: -file.stat().st_mtime)):
            os.utime(file, (time.time() - age, time.time() - age))
    assert {*brought()} == {f"program_{number}.pb" for number in range(3, KEPT + 3)}


def test_folders_of_killed_sweeps_go_and_those_in_use_stay(memory: Path) -> None:
    with programs(VERSIONS) as first:
        used = Path(first[FOLDER])
        left = memory / "mnist-ablate-programs-left"
        left.mkdir()
        (left / "lock").touch()
        for folder in (used, left):
            os.utime(folder, (0, 0))
        compile_one()
        assert used.is_dir()
        assert not left.exists()


def test_without_room_or_memory_there_is_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(program_cache, "_ROOM", 1 << 60)
    with programs(VERSIONS) as variables:
        assert variables == {}
    monkeypatch.setattr(program_cache, "_MEMORY", tmp_path / "missing")
    with programs(VERSIONS) as variables:
        assert variables == {}


def test_a_cache_that_cannot_be_written_to_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    compile_one()
    assert brought() == {}


TRAINED_TWICE = """
import json
from small_digits import small
from keras_trials import keras_trial, to_the_bit
from mnist_ablate.workloads.keras_mnist.recipe import Recipe
from mnist_ablate.workloads.keras_mnist.trainer import Trainer
digits = small()
outcome = Trainer(digits).train(keras_trial(Recipe(width=16, epochs=2), 1, digits.digest))
print(json.dumps([to_the_bit(outcome), outcome.correct], sort_keys=True))
"""


@pytest.mark.slow
def test_a_program_from_the_folder_gives_the_same_numbers_to_the_bit(tmp_path: Path) -> None:
    folder = tmp_path / "programs"
    folder.mkdir()

    def trained(**variables: str) -> str:
        support = Path(__file__).parents[1] / "support"
        environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join([str(support), *sys.path])}
        done = subprocess.run([sys.executable, "-c", TRAINED_TWICE], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    without, compiled = trained(), trained(**{FOLDER: str(folder)})
    files = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    read = trained(**{FOLDER: str(folder)})
    assert without == compiled == read
    assert files
    assert files == {file: file.stat().st_mtime_ns for file in folder.iterdir()}
