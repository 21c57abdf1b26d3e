"""A table is read whole or refused in one line that names row and column."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quiet_time import quiet_s

from mnist_ablate.errors import SweepError
from mnist_ablate.ledger import results_table
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.trial import Row, Scalar
from mnist_ablate.workloads.bounds import metric_by_name

HEADER = "normalizer,dropout,seed,test_accuracy,outcome"
FIRST = "unit,0.5,0,0.97,complete"


def write(folder: Path, *lines: str) -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(path: Path, factors: Mapping[str, Sequence[Scalar]], metrics: Sequence[str]) -> list[Row]:
    return [*results_table.read(path, factors, {name: metric_by_name(name) for name in metrics}).rows]


def load(path: Path) -> list[Row]:
    return read(path, {"normalizer": (), "dropout": ()}, ["test_accuracy"])


def test_rows_are_read_with_types_and_complete_without_an_outcome_column(tmp_path: Path) -> None:
    rows = load(write(tmp_path, HEADER, FIRST, "centered,0,1,0.098,diverged", "unit,0.5,1,,failed", "raw,0.5,1,,lost"))
    assert rows == [
        Row({"normalizer": "unit", "dropout": 0.5}, 0, {"test_accuracy": 0.97}, "complete"),
        Row({"normalizer": "centered", "dropout": 0}, 1, {"test_accuracy": 0.098}, "diverged"),
        Row({"normalizer": "unit", "dropout": 0.5}, 1, {}, "failed"),
        Row({"normalizer": "raw", "dropout": 0.5}, 1, {}, "lost"),
    ]
    rows = read(write(tmp_path, "normalizer,seed,test_loss,note", "unit,0,0.1,x"), {"normalizer": ()}, ["test_loss"])
    assert rows == [Row({"normalizer": "unit"}, 0, {"test_loss": 0.1}, "complete")]


CELLS = {
    "0.001": 1e-3,
    "1e-3": 0.001,
    " 0.50 ": 0.5,
    "2": 2,
    "2.0": 2.0,
    "-3": -3,
    "True": True,
    "false": False,
    '"a, b"': "a, b",
    **{text: text for text in ("no", "nan", "inf", "1e999", "1_000", "0x10", "名前")},
}


@pytest.mark.parametrize("cell", CELLS)
def test_a_factors_cell_compares_equal_to_the_value_of_the_sweep(tmp_path: Path, cell: str) -> None:
    (row,) = read(write(tmp_path, "x,seed,m", f"{cell},0,1"), {"x": ()}, ["m"])
    assert row.params["x"] == CELLS[cell]
    assert isinstance(row.params["x"], str) == isinstance(CELLS[cell], str)


def test_a_value_of_the_sweep_is_taken_as_it_is_written_there(tmp_path: Path) -> None:
    path = write(tmp_path, "x,seed,m", "16,0,1", "true,0,1", "5,0,1")
    assert [row.params["x"] for row in read(path, {"x": ["16", "true", 8]}, ["m"])] == ["16", "true", 5]


def test_a_seed_is_a_whole_number(tmp_path: Path) -> None:
    for seed in ("7", "7.0", " 7", "+7"):
        assert read(write(tmp_path, "seed,m", f"{seed},1"), {}, ["m"])[0].seed == 7


ROWS = {
    "unit,0.5,1,,diverged": "column test_accuracy: empty; a diverged trial counts",
    "unit,,1,0.9,complete": "column dropout: empty",
    "u\x1b[2Jnit,0.5,1,0.9,complete": "column normalizer: 'u\\x1b[2Jnit' has characters that",
    "unit,0.5,,0.9,complete": "column seed: empty",
    "unit,0.5,1,0.9,": "column outcome: empty",
    'unit,0.5,1,"0,97",complete': "column test_accuracy: '0,97', and row 2 has '0.97': use one decimal sign",
    "unit,0.5,1,-inf,diverged": "column test_accuracy: '-inf' is not a finite number; a",
    **{
        f"unit,0.5,1,{cell},complete": f"column test_accuracy: '{cell}' is not a finite number"
        for cell in ("1_0", "inf", "1e999")
    },
    "unit,0.5,1,0.9,compleet": "column outcome: 'compleet' is not an outcome; did you mean",
    "unit,0.50,0,0.9,complete": "column seed: normalizer=unit, dropout=0.5 with seed 0 is in row 2 already: keep one",
    "unit,0.5,1,0.9": "column outcome: the row has 4 cells, the header 5",
    "unit,0.5,1,0.9,complete,?": "column 6: the row has 6 cells, the header 5",
}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        *(([HEADER, FIRST, row], f"row 3, {message}") for row, message in ROWS.items()),
        ([HEADER, FIRST, "", "unit,0.50,0,0.9,complete"], "row 4, column seed: normalizer=unit, dropout=0.5 with"),
        (["normalizer,dropout,seed,test_acuracy", "a,0,0,1"], "row 1, column test_accuracy: missing; did you mean"),
        (
            ["normalizer,dropout,seed,seed,test_accuracy", "a,0,0,0,1"],
            "row 1, column seed: appears twice in the header",
        ),
        ([HEADER], "no row below the header"),
        (['normalizer,"dropout'], "row 1: not a CSV file"),
    ],
)
def test_what_cannot_be_used_is_named_by_row_and_column(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(SweepError) as caught:
        load(write(tmp_path, *lines))
    assert str(caught.value).startswith(f"table.csv: {message}")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\r\n{FIRST}\r\n".encode())
    assert len(load(path)) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "table.csv: the file is empty"),
        (b"\n\n", "table.csv: the file is empty"),
        (f"{HEADER}\n{FIRST}\n".encode() + b"\x81\xe9,0.5,1,0.9,complete\n", "table.csv: line 3 is neither UTF-8 nor"),
        (b"a," * 100 + b"x" * 200_000, "table.csv: row 1: not a CSV file: field larger than field limit"),
        (b"\x00" * 10, "table.csv: "),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(SweepError) as caught:
        load(path)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    for other in (tmp_path, tmp_path / "absent.csv"):
        with pytest.raises(SweepError, match="cannot be read"):
            load(other)


@given(st.binary(max_size=200) | st.text(alphabet='normalizer,dutsa_cy\n"0.5\x00;', max_size=200).map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_any_bytes_are_rows_or_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"normalizer,dropout,seed,test_accuracy\n" + content)
    try:
        assert load(path)
    except SweepError as error:
        assert "\n" not in str(error)  # noqa: PT017 - rows are as good


@pytest.mark.slow
def test_a_long_table_is_read_and_judged_in_time(tmp_path: Path) -> None:
    """10^5 rows in 3 s: 10^6 take some 7 s to read and to audit on a quiet core, and 0.9 GB."""
    arms = ("unit", "centered", "raw", "x")
    lines = [f"{arm},{seed},{0.97 + seed % 7 / 1000}" for seed in range(25_000) for arm in arms]
    path = write(tmp_path, "normalizer,seed,test_accuracy", *lines)
    sides = {"treatment": {"normalizer": "centered"}, "control": {"normalizer": "unit"}}
    claim = Claim.model_validate({"name": "hurts", "statement": "", "direction": "lower", "margin": 0.002, **sides})
    (found,) = judge(read(path, {"normalizer": ()}, ["test_accuracy"]), [claim])
    assert quiet_s(lambda: judge(read(path, {"normalizer": ()}, ["test_accuracy"]), [claim]), times=2) < 3.0
    assert (found.n_pairs, found.verdict) == (25_000, "equivalent")
