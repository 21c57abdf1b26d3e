"""Whether training repeats itself is measured on code whose answer is known."""

import tempfile
from pathlib import Path

import pytest
from command import left_in

from mnist_ablate.errors import AblateError
from mnist_ablate.execution.reproducibility import Check, check
from mnist_ablate.sweep import sweep_file

FILE = """
question: q?
train: job:train
scientific: {lr: [0.1, 0.2], depth: [1, 2]}
seeds: 6
claims: [{name: c, statement: s, treatment: {lr: 0.2}, control: {lr: 0.1}, metric: acc, direction: higher, margin: 0}]
"""
FOLLOWS = "random.Random(f'{seed} {lr} {depth}').random()"


def checked(folder: Path, value: str, more: str = "") -> Check:
    code = f"import os, random\n{more}\ndef train(seed, lr: float, depth: int):\n    return {{'acc': {value}}}\n"
    (folder / "job.py").write_text(code)
    (folder / "own.yaml").write_text(FILE)
    return check(sweep_file.load(str(folder / "own.yaml")), None, lambda _text: None)


@pytest.mark.parametrize(
    ("value", "repeats", "uses_seed", "ignored"),
    [
        (FOLLOWS, "to the bit", True, ()),
        (f"{FOLLOWS} + 1e-9 * random.random()", "to rounding", True, ()),
        (f"{FOLLOWS} + random.random()", "no", True, ()),
        ("lr + depth", "to the bit", False, ()),
        ("random.Random(f'{seed} {lr}').random()", "to the bit", True, ("depth",)),
    ],
)
def test_a_check_finds_what_is_known(
    value: str, repeats: str, uses_seed: bool, ignored: tuple[str, ...], tmp_path: Path
) -> None:
    found = checked(tmp_path, value)
    assert (found.repeats, found.uses_seed, found.ignored, found.trials) == (repeats, uses_seed, ignored, 5)
    text = "\n".join(found.lines())
    assert ("no verdict" in text) == (not uses_seed)
    assert ("do not depend on depth" in text) == bool(ignored)
    assert ("plan more seeds" in text) == (repeats == "no")


def test_what_the_trials_wrote_stays_only_if_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    checked(tmp_path, FOLLOWS)
    assert not left_in(tmp_path / "temporary")
    with pytest.raises(AblateError, match=r"own: a trial: failed: .*job\.py:4: ZeroDivisionError: division by zero"):
        checked(tmp_path, "print('as far as this') or 1 / 0")
    assert [path.read_text() for path in left_in(tmp_path / "temporary")] == ["as far as this\n"]
