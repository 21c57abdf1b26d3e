"""The time left on the recorded times of shipped sweeps: measuring, then within a quarter of the truth to the end."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from recorded_times import Moment, played

from mnist_ablate.execution import live_progress
from mnist_ablate.execution.engine import Finished, Progress
from mnist_ablate.execution.live_progress import LiveProgress

FOLDER = Path(__file__).parent / "recorded_times"
CLOSE_S = 5.0  # about a trial of these sweeps, which is longer in its first epoch: nobody plans by less


def every_second(moments: list[Moment]) -> Iterator[tuple[float, Moment | None]]:
    """All that happened, and every second between: a view shows both."""
    at_s = 0.0
    for moment in moments:
        while at_s < moment.at_s:
            yield at_s, None
            at_s += 1.0
        yield moment.at_s, moment


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.csv")))
def test_time_left_is_measured_until_each_shape_was_seen_and_right_from_then_on(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, moments = played(FOLDER / f"{name}.csv")
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(live_progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    shown, pace = LiveProgress(plan, {}), plan.sweep.workload.pace
    unseen, ends_s = {pace(arm.settings) for arm in plan.arms}, moments[-1].at_s
    wrong, measuring_s = [], 0.0
    for clock.now, moment in every_second(moments):
        if moment:
            shown.event(moment.planned, moment.event)
            if isinstance(moment.event, Progress | Finished):
                unseen.discard(pace(moment.planned.arm.settings))
        said, true = shown.snapshot(), ends_s - clock.now
        assert ("measuring" in said.status) == (said.seconds_left is None)
        if said.seconds_left is None:
            measuring_s = clock.now
            continue
        assert not unseen, clock.now
        allowed = max(CLOSE_S, 0.25 * true)
        too_much = said.seconds_left - true > allowed and not plan.sweep.looks
        if too_much or true - said.seconds_left > allowed:
            wrong.append((clock.now, round(said.seconds_left, 1), round(true, 1)))
    assert not wrong
    assert measuring_s < ends_s / 3
    assert shown.snapshot().done == shown.snapshot().size or plan.sweep.looks
