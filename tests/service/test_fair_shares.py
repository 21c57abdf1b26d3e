"""Workers go to users by weight, then to their sweeps by priority; none is idle while a sweep needs one."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ablate.service.fair_shares import Candidate, Demand, allot, first_due, one_to_yield

DEMANDS = st.lists(
    st.builds(Demand, st.uuids().map(str), st.sampled_from("abc"), st.integers(-10, 10), st.integers(1, 30)),
    max_size=8,
)


@given(st.integers(1, 60), DEMANDS)
def test_every_sweep_has_a_worker_and_no_worker_is_idle_while_one_is_needed(
    workers: int, demands: list[Demand]
) -> None:
    found = allot(workers, demands, {"a": 3.0})
    assert found.keys() == {each.id for each in demands}
    assert all(1 <= found[each.id] <= each.need for each in demands)
    total, needed = sum(found.values()), sum(each.need for each in demands)
    assert total == min(workers, needed) or (total >= min(workers, needed) and total < workers + len(demands))


@pytest.mark.parametrize(
    ("demands", "weights", "shares"),
    [
        ([("ana", 0, 99), ("bo", 0, 99)], {}, [6, 6]),
        ([("ana", 0, 99), ("ana", 0, 99), ("bo", 0, 99)], {}, [3, 3, 6]),
        ([("ana", 0, 99), ("bo", 0, 99)], {"ana": 2.0}, [8, 4]),
        ([("ana", 1, 99), ("ana", 0, 99), ("bo", 10, 99)], {}, [4, 2, 6]),
        ([("ana", 0, 2), ("bo", 0, 99)], {}, [2, 10]),
        ([("ana", 0, 2), ("ana", 0, 99), ("bo", 0, 99)], {}, [2, 4, 6]),
    ],
    ids=[
        "users",
        "sweeps of a user",
        "weights",
        "priority is among one's own",
        "what is not needed",
        "first one's own",
    ],
)
def test_shares_of_twelve_workers(
    demands: list[tuple[str, int, int]], weights: dict[str, float], shares: list[int]
) -> None:
    asked = [Demand(str(place), *each) for place, each in enumerate(demands)]
    assert list(allot(12, asked, weights).values()) == shares


def test_who_has_the_fewest_running_goes_first_then_who_trained_least_then_priority_then_who_waits_longest() -> None:
    waiting = [Candidate("1", "ana", 0, 1), Candidate("2", "ana", 5, 2), Candidate("3", "bo", 0, 3)]
    assert first_due([], {}, {}, {}) is None
    order = []
    running: Counter[str] = Counter()
    left = list(waiting)
    while found := first_due(left, running, {"ana": 7.0}, {}):
        order.append(found.id)
        running[found.owner] += 1
        left.remove(found)
    assert order == ["3", "2", "1"]
    assert first_due(waiting, {}, {"bo": 8.0, "ana": 7.0}, {}) == waiting[1]
    assert first_due(waiting, {"ana": 1, "bo": 1}, {}, {"ana": 2.0}) == waiting[1]


def test_the_sweep_that_yields_is_the_last_of_the_lowest_priority_of_who_has_most() -> None:
    running = [
        Demand(str(place), *each, 9) for place, each in enumerate([("ana", 1), ("ana", 0), ("ana", 0), ("bo", 0)])
    ]
    cy = Candidate("9", "cy", 0, 9)
    assert one_to_yield([cy], running) == running[2]
    assert one_to_yield([Candidate("9", "bo", 0, 9)], running) is None
    assert one_to_yield([cy], [running[0], running[3]]) is None
    assert one_to_yield([], running) is one_to_yield([cy], []) is None
