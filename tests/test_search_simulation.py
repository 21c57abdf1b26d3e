"""The benchmark's promises on a few hundred sweeps: confirmed gains are unbiased, tuning changes a false verdict."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    path = Path(__file__).parent.parent / "benchmarks" / "search_simulation.py"
    spec = importlib.util.spec_from_file_location("search_simulation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("spread", [0.0, 0.004])
def test_what_was_seen_flatters_and_what_was_confirmed_does_not(simulation: ModuleType, spread: float) -> None:
    found = simulation.winners(40, spread, 2000)
    assert found.seen - found.true > 0.001
    assert abs(found.confirmed - found.true) <= 3 * found.standard_error
    assert 0.93 <= found.covered <= 0.97


def test_an_effect_of_the_learning_rate_alone_is_supported_as_written_and_not_once_tuned(
    simulation: ModuleType,
) -> None:
    written, tuned = simulation.verdicts(apart=1.5, worse=0.0, sweeps=60)
    assert written["supported"] == 60
    assert tuned["supported"] <= 6
    real = simulation.verdicts(apart=1.5, worse=0.01, sweeps=30)
    assert [found["supported"] for found in real] == [30, 30]
