"""Protects against hostile and damaged files: a sweep or a SweepError, soon, in little memory, in bounded text."""

import gc
import random
import resource
import time
from pathlib import Path

import pytest
from quiet_time import quiet_s
from sweep_texts import EXAMPLE, SMALL, load, problems

from mnist_ablate.errors import SweepError
from mnist_ablate.sweep import sweep_file


def test_a_huge_file_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 2**20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def refused() -> None:
        with pytest.raises(SweepError) as caught:
            sweep_file.load(str(path))
        assert str(caught.value) == f"{path}: 104,857,600 bytes; a sweep file has at most 262,144"

    assert quiet_s(refused) < 0.1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000


def test_a_thousand_errors_are_cut_to_fifty(tmp_path: Path) -> None:
    found = problems(tmp_path, SMALL + "fixed:\n" + "".join(f"  epoch{n}: 1\n" for n in range(1_000)))
    assert len(found) == 51
    assert found[0].startswith("x.yaml:5:3: fixed.epoch0: unknown key; did you mean 'epochs'?")
    assert found[-1] == "x.yaml: and more; correct these 50 first"


WIDE = {
    "nulls": SMALL + "fixed:\n" + "".join(f"  a{n}:\n" for n in range(2_900)),
    "unknown keys": SMALL + "fixed:\n" + "".join(f"  epochs{n}: 1\n" for n in range(2_900)),
    "empty claims": SMALL + "claims:\n" + "- {}\n" * 2_900,
    "lists for values": "scientific: {activation: [" + "[]," * 2_900 + "]}",
    "equal values": SMALL + "nuisance: {width: [" + "5," * 2_900 + "]}",
    "many values": "question: q\nseeds: 1\nscientific: {epochs: [" + ",".join(map(str, range(1, 2_900))) + "]}",
    "a long text": "question: " + "x" * 260_000,
    "a long key": "? " + "x" * 260_000 + "\n: 1",
}


@pytest.mark.parametrize("name", WIDE)
def test_wide_files_are_checked_within_a_tenth_of_a_second(tmp_path: Path, name: str) -> None:
    load(tmp_path, SMALL)  # imports the choices
    assert all(len(line) < 700 for line in problems(tmp_path, WIDE[name]))
    gc.freeze()  # what other tests left is not to be searched for garbage
    spent = quiet_s(lambda: problems(tmp_path, WIDE[name]))
    gc.unfreeze()
    assert spent < 0.1


def _damaged(text: str, random_: random.Random) -> bytes:
    """The text with a few characters, lines or bytes replaced, doubled, moved or lost."""
    data = bytearray(text.encode())
    pieces = b"\t|*a|&a |!!int |: |- |[|}|'|~|010|.nan|\xff|\0|\n  |1e999".split(b"|")
    for _ in range(random_.randint(1, 6)):
        start = random_.randrange(len(data))
        end = min(len(data), start + random_.choice([0, 1, 1, 2, 5, 40]))
        other = random_.randrange(len(data))
        new = [random_.choice(pieces), b"", bytes([random_.randrange(256)]), data[other : other + 30]]
        data[start:end] = random_.choice(new)
    return bytes(data or b" ")


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_load_or_are_refused_and_nothing_else(tmp_path: Path, seed: int) -> None:
    random_ = random.Random(seed)
    slowest, slowest_s = b"", 0.0
    for _ in range(100):
        data = _damaged(EXAMPLE, random_)
        start = time.thread_time()
        found = problems(tmp_path, data)
        if (spent := time.thread_time() - start) > slowest_s:
            slowest, slowest_s = data, spent
        assert all(line.startswith("x.yaml:") and line.isprintable() for line in found), (data, found)
    assert quiet_s(lambda: problems(tmp_path, slowest)) < 0.1


@pytest.mark.parametrize("seed", range(2))
def test_any_override_is_applied_or_refused_and_nothing_else(tmp_path: Path, seed: int) -> None:
    random_ = random.Random(seed)
    words = "fixed claims centered-hurts-relu epochs low seeds . .. = 0 [ x \0 {a:b} nuisance"
    parts = ["\n", *words.split()]
    for _ in range(150):
        setting = random_.choice(["", ".", "="]).join(random_.choices(parts, k=random_.randint(1, 5)))
        for line in problems(tmp_path, EXAMPLE, overrides=[setting]):
            assert line.startswith(("x.yaml:", "--set ")), (setting, line)
            assert line.isprintable()
