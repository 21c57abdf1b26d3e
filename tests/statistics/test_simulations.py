"""The benchmarks' promises on a few hundred sweeps: verdicts are rarely wrong, adaptive ones too, and so are gains."""

from dataclasses import replace

import adaptive_simulation
import pytest
import search_simulation
import unpaired_simulation
import verdict_simulation
from scipy import special

from mnist_ablate.statistics.paired_tests import t_quantile
from mnist_ablate.sweep import adaptive_schedule

NOISES = pytest.mark.parametrize("noise", [*verdict_simulation.NOISES])
FEW = (-1.0, 0.0, 1.0, 3.0)


@NOISES
@pytest.mark.parametrize("design", [(1, 3), (7, 5)])
def test_at_most_five_percent_are_wrong_and_what_is_promised_is_decided(design: tuple[int, int], noise: str) -> None:
    """The standard error is 0.8%, the true rates are 4% or less."""
    cells = [verdict_simulation.simulate(noise, design, effect, 600) for effect in FEW]
    cells += [verdict_simulation.simulate(noise, design, effect, 300, "same") for effect in FEW]
    assert max(cell.wrong for cell in cells) <= 0.06
    assert design[0] == 1 or cells[3].decided >= verdict_simulation.NOISES[noise].promised - 0.02


def test_the_simulation_can_find_a_rule_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven intervals at 95% each, instead of 95% together."""
    monkeypatch.setattr(verdict_simulation, "t_quantile", lambda n, _alpha: t_quantile(n, 0.05))
    monkeypatch.setattr(verdict_simulation, "CHECKED_BY_JUDGE", 0)
    assert verdict_simulation.simulate("normal", (7, 10), 1.0, 800).wrong > 0.05


@pytest.mark.parametrize(
    ("noise", "ratio", "most"), [("normal", 4.0, 0.06), ("heavy", 0.25, 0.06), ("skewed", 1.0, 0.05)]
)
@pytest.mark.parametrize("design", [(1, 5, 5), (1, 4, 12), (7, 10, 10)])
def test_at_most_five_percent_are_wrong_without_common_seeds(
    design: tuple[int, int, int], noise: str, ratio: float, most: float
) -> None:
    """The standard error is 0.8%; the true rates are 3.7% or less, 6.5% with skewed noise and uneven numbers."""
    most += 0.04 * (noise == "skewed" and design[1] != design[2])
    cells = [unpaired_simulation.simulate(noise, design, ratio, effect, 800) for effect in (-1.0, 0.0, 1.0)]
    assert max(cell.wrong for cell in cells) <= most


def test_the_simulation_finds_intervals_wrong_that_pool_the_spreads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Student's interval for equal spreads, where the smaller arm spreads four times as much."""
    monkeypatch.setattr(unpaired_simulation, "CHECKED_BY_JUDGE", 0)
    quantile = special.stdtrit
    monkeypatch.setattr(special, "stdtrit", lambda _freedom, p: quantile(14, p))
    assert unpaired_simulation.simulate("normal", (7, 12, 4), 4.0, 1.0, 800).wrong > 0.05


def test_rare_collapses_make_verdicts_on_the_mean_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a threshold: one seed in fifty moves the mean by many margins, and few sweeps see it."""
    monkeypatch.setattr(verdict_simulation, "COLLAPSE_AT", 0.0)
    monkeypatch.setattr(verdict_simulation, "CHECKED_BY_JUDGE", 0)
    found = verdict_simulation.decide(*verdict_simulation.drawn("collapses 0, 2%", (7, 10), 0.0, 800)).verdicts
    assert (found == verdict_simulation.EQUIVALENT).any(axis=1).mean() > 0.28  # the mean is 8 margins lower


@pytest.mark.slow
@NOISES
@pytest.mark.parametrize("design", [(1, 4, 30), (7, 4, 20)])
def test_at_most_five_percent_of_adaptive_sweeps_are_wrong(design: tuple[int, int, int], noise: str) -> None:
    """The standard error is 0.9%; the true rates are 4% or less."""
    cells = {effect: adaptive_simulation.simulate(noise, design, effect, 500) for effect in FEW}
    assert max(cell.wrong for cell in cells.values()) <= 0.06


@pytest.mark.slow
def test_adaptive_sweeps_decide_with_few_trials() -> None:
    normal = {effect: adaptive_simulation.simulate("normal", (7, 4, 30), effect, 500) for effect in (0.0, 3.0, 10.0)}
    assert min(cell.decided for cell in normal.values()) >= 0.99
    assert [cell.seeds < most for cell, most in zip(normal.values(), (11.0, 6.5, 4.2), strict=True)] == [True] * 3
    total = adaptive_simulation.simulate("collapses 0, 100%", (7, 4, 30), 0.0, 100)
    assert (total.decided, total.seeds) == (1.0, 6.0)


@pytest.mark.slow
def test_the_simulation_finds_looks_wrong_that_each_take_the_whole_error_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does who looks again and again until the interval clears the margin."""

    def greedy(least: int, most: int) -> tuple[adaptive_schedule.Look, ...]:
        return tuple(replace(look, share=1.0) for look in adaptive_schedule.look_schedule(least, most))

    monkeypatch.setattr(adaptive_simulation, "look_schedule", greedy)
    assert adaptive_simulation.simulate("normal", (1, 6, 30), 1.0, 500).wrong > 0.05


@pytest.mark.slow
def test_the_simulation_finds_a_program_that_stops_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptive_simulation, "seeds_wanted", lambda arms, *_: [30] * len(arms))
    with pytest.raises(AssertionError, match="the program says"):
        adaptive_simulation.simulate("normal", (1, 6, 30), 0.0, 5)


@pytest.mark.parametrize("spread", [0.0, 0.004])
def test_what_was_seen_flatters_and_what_was_confirmed_does_not(spread: float) -> None:
    found = search_simulation.winners(40, spread, 2000)
    assert found.seen - found.true > 0.001
    assert abs(found.confirmed - found.true) <= 3 * found.standard_error
    assert 0.93 <= found.covered <= 0.97


def test_an_effect_of_the_learning_rate_alone_is_supported_as_written_and_not_once_tuned() -> None:
    written, tuned = search_simulation.verdicts(apart=1.5, worse=0.0, sweeps=60)
    assert written["supported"] == 60
    assert tuned["supported"] <= 6
    real = search_simulation.verdicts(apart=1.5, worse=0.01, sweeps=30)
    assert [found["supported"] for found in real] == [30, 30]
