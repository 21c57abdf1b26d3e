"""The benchmark's promise on a few hundred sweeps: adaptive verdicts are rarely wrong, decide, and save trials."""

from dataclasses import replace

import adaptive_simulation as simulation
import pytest

from mnist_ablate.sweep import adaptive_schedule

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("noise", "most"), [("normal", 0.05), ("heavy", 0.05), ("skewed", 0.05), ("skewed, treatment only", 0.06)]
)
@pytest.mark.parametrize("design", [(1, 6, 30), (7, 6, 20)])
def test_at_most_five_percent_are_wrong_and_trials_are_saved(
    design: tuple[int, int, int], noise: str, most: float
) -> None:
    """The standard error is 0.9%; the true rates are 2.1% or less, 4% with one-sided skew."""
    cells = {effect: simulation.simulate(noise, design, effect, 500) for effect in (-2.0, 0.0, 1.0, 2.0)}
    assert max(cell.wrong for cell in cells.values()) <= most
    assert min(cells[-2.0].decided, cells[2.0].decided) >= 0.8
    assert max(cells[effect].trials for effect in (-2.0, 0.0, 2.0)) < 0.8


def test_the_simulation_finds_looks_wrong_that_each_take_the_whole_error_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does who looks again and again until the interval clears the margin."""

    def greedy(least: int, most: int) -> tuple[adaptive_schedule.Look, ...]:
        return tuple(replace(look, share=1.0) for look in adaptive_schedule.look_schedule(least, most))

    monkeypatch.setattr(simulation, "look_schedule", greedy)
    assert simulation.simulate("normal", (1, 6, 30), 1.0, 500).wrong > 0.05


def test_the_simulation_finds_a_program_that_stops_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "seeds_wanted", lambda arms, *_: [30] * len(arms))
    with pytest.raises(AssertionError, match="the program says"):
        simulation.simulate("normal", (1, 6, 30), 0.0, 5)
