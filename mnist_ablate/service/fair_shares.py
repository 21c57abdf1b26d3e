"""Who goes first, and how many workers each running sweep may use: by user, then by priority. Knows no database."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Weight = Callable[[str], float]


class Demand(NamedTuple):
    """A sweep that runs: whose, with which priority, and how many workers it could use at most."""

    id: str
    owner: str
    priority: int
    need: int


class Candidate(NamedTuple):
    """A sweep that waits; `number` says since when."""

    id: str
    owner: str
    priority: int
    number: int


def allot(workers: int, demands: Sequence[Demand], weights: Mapping[str, float]) -> dict[str, int]:
    """How many of the workers each sweep may use. No worker is left idle while a sweep needs one.

    Workers are given one by one: to the user who has the least for their weight, and of that user's sweeps to the one
    that has the least for its priority, where each step of priority counts double. Every sweep has one at least, even
    if there are fewer workers than sweeps: then they take turns.
    """
    given, users = Counter[str](), Counter[str]()
    own = defaultdict[str, list[Demand]](list)
    for each in demands:
        own[each.owner].append(each)
    for _ in range(workers):
        hungry = {user: [each for each in theirs if given[each.id] < each.need] for user, theirs in own.items()}
        if not any(hungry.values()):
            break
        user = min(filter(hungry.get, hungry), key=lambda name: ((users[name] + 0.5) / weights.get(name, 1.0), name))
        sweep = min(hungry[user], key=lambda each: ((given[each.id] + 0.5) / 2.0**each.priority, each.id))
        given[sweep.id] += 1
        users[user] += 1
    return {each.id: max(1, given[each.id]) for each in demands}


def first_due(
    waiting: Sequence[Candidate], running: Mapping[str, int], used_s: Mapping[str, float], weights: Mapping[str, float]
) -> Candidate | None:
    """Which sweep starts next: of the user who has the fewest `running` for their weight.

    Among equals the user who trained the least, `used_s` seconds, for their weight. Of that user's sweeps the one of
    the highest priority that waits longest.
    """

    def order(each: Candidate) -> tuple[float, float, int, int]:
        weight = weights.get(each.owner, 1.0)
        return running.get(each.owner, 0) / weight, used_s.get(each.owner, 0.0) / weight, -each.priority, each.number

    return min(waiting, key=order, default=None)


def one_to_yield(waiting: Sequence[Candidate], running: Sequence[Demand]) -> Demand | None:
    """Which sweep makes room for a user who waits with nothing running: of the user who has most, if that is two.

    Of that user's sweeps it is the one of the lowest priority, of these the one that started last, so that little of
    it is there to be interrupted; `running` is in the order of starting.
    """
    counts = Counter(each.owner for each in running)
    if not counts or all(each.owner in counts for each in waiting):
        return None
    owner, most = counts.most_common(1)[0]
    if most < 2:  # noqa: PLR2004 - each user keeps one
        return None
    return min(reversed([each for each in running if each.owner == owner]), key=lambda each: each.priority)
