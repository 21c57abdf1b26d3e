"""The operator's limits: defaults, what differs for a user, and a file that becomes wrong while it is used."""

import os
from pathlib import Path

import pytest

from mnist_ablate.errors import SweepError
from mnist_ablate.service.limits import LimitsFile, UserLimits


def test_a_user_has_the_default_but_for_what_is_named(tmp_path: Path) -> None:
    path = tmp_path / "limits.yaml"
    path.write_text("default: {sweeps: 2, weight: 2}\nusers: {ana: {weight: 4}}\n")
    limits = LimitsFile(path).current()
    assert limits.of("ana") == UserLimits(sweeps=2, weight=4)
    assert limits.of("bo") == UserLimits(sweeps=2, weight=2)
    assert limits.weights == {"ana": 2.0}
    assert LimitsFile().current().of("bo") == UserLimits()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("users: {ana: {sweeps: 0}}", r"limits.yaml: users.ana.sweeps: Input should be greater than or equal to 1"),
        ("default: {sweep: 1}", r"limits.yaml: default.sweep: Extra inputs are not permitted"),
        ("default: [", r"limits.yaml: cannot be read: "),
        ("7", r"limits.yaml: : Input should be a valid dictionary"),
    ],
)
def test_a_wrong_file_is_refused_at_the_start_and_changes_nothing_later(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "limits.yaml"
    path.write_text("default: {sweeps: 3}")
    file = LimitsFile(path)
    path.write_text(text)
    os.utime(path, (1, 1))
    assert file.current().of("ana").sweeps == 3
    with pytest.raises(SweepError, match=message):
        LimitsFile(path)
    assert message.partition(":")[0] in file.problem
    path.write_text("default: {sweeps: 5}")
    assert (file.current().of("ana").sweeps, file.problem) == (5, "")


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"none.yaml: cannot be read: "):
        LimitsFile(tmp_path / "none.yaml")
