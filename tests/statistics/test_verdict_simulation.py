"""The benchmark's promise on a few hundred sweeps: rarely wrong, and decided where the plan said so."""

import pytest
import verdict_simulation as simulation

from mnist_ablate.statistics.paired_tests import t_quantile


@pytest.mark.parametrize(
    ("noise", "most"), [("normal", 0.05), ("heavy", 0.05), ("skewed", 0.05), ("skewed, treatment only", 0.06)]
)
@pytest.mark.parametrize("design", [(1, 6), (1, 10), (7, 10)])
def test_at_most_five_percent_are_wrong_and_twice_the_margin_is_decided(
    design: tuple[int, int], noise: str, most: float
) -> None:
    """The standard error is 0.7%, the true rates are 2.5% or less, 4% with one-sided skew."""
    cells = {effect: simulation.simulate(noise, design, effect, 800) for effect in simulation.EFFECTS}
    assert max(cell.wrong for cell in cells.values()) <= most
    assert min(cells[-2.0].decided, cells[2.0].decided) >= 0.8


def test_the_simulation_can_find_a_rule_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven intervals at 95% each, instead of 95% together."""
    monkeypatch.setattr(simulation, "t_quantile", lambda n, _alpha: t_quantile(n, 0.05))
    monkeypatch.setattr(simulation, "CHECKED_BY_JUDGE", 0)
    assert simulation.simulate("normal", (7, 10), 1.0, 800).wrong > 0.05
