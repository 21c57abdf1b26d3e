"""The benchmark's promises on a few hundred sweeps: confirmed gains are unbiased, tuning changes a false verdict."""

import pytest
import search_simulation as simulation


@pytest.mark.parametrize("spread", [0.0, 0.004])
def test_what_was_seen_flatters_and_what_was_confirmed_does_not(spread: float) -> None:
    found = simulation.winners(40, spread, 2000)
    assert found.seen - found.true > 0.001
    assert abs(found.confirmed - found.true) <= 3 * found.standard_error
    assert 0.93 <= found.covered <= 0.97


def test_an_effect_of_the_learning_rate_alone_is_supported_as_written_and_not_once_tuned() -> None:
    written, tuned = simulation.verdicts(apart=1.5, worse=0.0, sweeps=60)
    assert written["supported"] == 60
    assert tuned["supported"] <= 6
    real = simulation.verdicts(apart=1.5, worse=0.01, sweeps=30)
    assert [found["supported"] for found in real] == [30, 30]
