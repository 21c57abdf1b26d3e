"""Protects the way from a name or a path to a sweep, and back: what is found, what is refused, how long it takes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from quiet_time import quiet_s
from sweep_texts import EXAMPLE, SMALL, changed, load

from mnist_ablate.errors import SweepError
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.sweep import NAME_RULE, Range
from mnist_ablate.workloads.keras_mnist.workload import MNIST_DIGEST


def refusal(source: str) -> str:
    with pytest.raises(SweepError) as caught:
        sweep_file.load(source)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_the_documented_example_loads(tmp_path: Path) -> None:
    sweep = load(tmp_path, EXAMPLE)
    assert (sweep.name, sweep.design, sweep.seeds, sweep.tuning_trials) == ("x", "factorial", 8, 12)
    assert sweep.source == 'the article, "a small improvement"'
    assert sweep.scientific["normalizer"] == ["unit", "centered", "centered_uint8", "inverted"]
    assert sweep.nuisance == {"learning_rate": Range(low=1e-4, high=1e-1, log=True)}
    assert sweep.fixed["learning_rate"] == 0.001
    (claim,) = sweep.claims
    assert (claim.name, claim.statement) == ("centered-hurts-relu", "Centered inputs hurt relu.")
    assert (claim.treatment, claim.control) == ({"normalizer": "centered"}, {"normalizer": "unit"})
    assert (claim.where, claim.versus) == ({"activation": "relu"}, {"activation": "tanh"})
    assert (claim.metric, claim.direction, claim.margin) == ("test_accuracy", "lower", 0.002)


@pytest.mark.parametrize("name", sweep_file.shipped())
def test_every_shipped_sweep_loads_and_is_quick(name: str) -> None:
    sweep = sweep_file.load(name)
    quick = sweep_file.load(name, quick=True)
    assert sweep.name == name
    assert quick.name == f"{name}-quick"
    assert quick.digest != sweep.digest


def test_comments_and_order_of_keys_do_not_change_the_digest(tmp_path: Path) -> None:
    moved = changed("source: the", "# a comment\nseeds: 8\nsource: the", changed("seeds: 8\n", ""))
    assert load(tmp_path, moved).digest == load(tmp_path, EXAMPLE).digest


@pytest.mark.parametrize("file", ["x.yaml", "x.yml", "X.YAML", "名前.yaml", "a.b.yaml", "plain", "cafe\u0301.yaml"])
def test_a_sweep_has_the_name_of_its_file(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text(SMALL, encoding="utf-8")
    name = file if file == "plain" else file.rpartition(".")[0]
    assert sweep_file.load(str(tmp_path / file)).name == name.replace("e\u0301", "\u00e9")


def test_a_file_in_the_working_folder_needs_no_separator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").write_text(SMALL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert sweep_file.load("mine").name == "mine"


def test_an_unknown_name_is_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sweeps").mkdir()
    for name in ("normalization", "dropout"):
        (tmp_path / "sweeps" / f"{name}.yaml").write_text(SMALL, encoding="utf-8")
    monkeypatch.setattr(sweep_file, "_PACKAGE", tmp_path)
    assert list(sweep_file.shipped()) == ["dropout", "normalization"]
    assert sweep_file.load("dropout").name == "dropout"
    assert refusal("normalisation") == (
        "no sweep named 'normalisation': did you mean 'normalization'? shipped: dropout, normalization;"
        " or give the path of a .yaml file"
    )


@pytest.mark.parametrize(
    "name", ["", "-x", "..", "a b", "a\0b", "../\0", "a\x1b[31mb", "a\u202eb", "x" * 5_000, "名" * 67, "a\udcffb"]
)
def test_a_name_that_breaks_the_rule_is_told_the_rule(name: str) -> None:
    message = refusal(name)
    assert message.endswith(NAME_RULE)
    assert message.isprintable()
    assert len(message) < 300


@pytest.mark.parametrize("file", ["-x.yaml", ".yaml", "a b.yaml", "a\u202eb.yaml", "a\nb.yaml", "x" * 101 + ".yaml"])
def test_a_file_whose_name_is_no_name_is_refused(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text(SMALL, encoding="utf-8")
    message = refusal(str(tmp_path / file))
    assert f": a sweep has its file's name, but {NAME_RULE}; rename the file" in message
    assert message.isprintable()


def test_quick_needs_room_for_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 98}.yaml"
    path.write_text(SMALL, encoding="utf-8")
    assert sweep_file.load(str(path)).name == "x" * 98
    with pytest.raises(SweepError, match="rename the file"):
        sweep_file.load(str(path), quick=True)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    assert refusal(str(tmp_path / "pipe.yaml")) == f"{tmp_path}/pipe.yaml: not a file; give the path of a sweep file"
    assert refusal(f"{tmp_path}/") == f"{tmp_path}: not a file; give the path of a sweep file"
    assert refusal("/dev/zero") == "/dev/zero: not a file; give the path of a sweep file"
    assert refusal("no/such.yaml").startswith("no/such.yaml: no such file; shipped: ")
    assert "a sweep has its file's name" in refusal(f"/{'x' * 5000}.yaml")


def test_loading_is_quick_and_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(EXAMPLE, encoding="utf-8")
    code = (
        "import sys; from mnist_ablate.sweep import sweep_file;"
        "heavy = {'keras', 'tensorflow', 'mlflow', 'optuna', 'numpy', 'scipy', 'cv2', 'distributed'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        f"sweep_file.load({str(tmp_path / 'x.yaml')!r}, any_factors=True);"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        f"sweep_file.load({str(tmp_path / 'x.yaml')!r});"
        "assert not (heavy - {'numpy', 'cv2'}) & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert quiet_s(lambda: load(tmp_path, EXAMPLE)) < 0.02


@pytest.mark.parametrize("name", sorted(sweep_file.shipped()))
def test_a_sweep_written_as_a_file_is_the_same_sweep(name: str, tmp_path: Path) -> None:
    for quick in (False, True):
        recorded = sweep_file.load(name, quick=quick)
        path = tmp_path / f"{recorded.name}.yaml"
        path.write_text(sweep_file.as_yaml(recorded), encoding="utf-8")
        assert sweep_file.load(str(path)).digest == recorded.digest


def test_the_command_is_the_one_that_gives_the_same_sweep() -> None:
    def command(**options: Any) -> str:
        return sweep_file.reproduction(sweep_file.load("normalization", **options), MNIST_DIGEST)[0]

    assert command() == "mnist-ablate sweep normalization"
    assert command(quick=True) == "mnist-ablate sweep normalization --quick"
    assert command(seeds=4) == "mnist-ablate sweep normalization --seeds 4"
    assert command(overrides=["fixed.epochs=2"]) == "mnist-ablate sweep normalization.yaml"
    other, _ = sweep_file.reproduction(sweep_file.load("normalization"), "0" * 64)
    assert other == "mnist-ablate sweep normalization --data FILE.npz"
