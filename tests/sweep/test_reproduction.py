"""The command on the page gives the very sweep that was recorded."""

from pathlib import Path
from typing import Any

import pytest

from mnist_ablate.sweep import sweep_file
from mnist_ablate.workloads.keras_mnist.workload import MNIST_DIGEST


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
