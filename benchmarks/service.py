"""How fairly the queue of the sweep service shares workers: many users, three runners, one cluster, small sweeps.

`python benchmarks/service.py [SWEEPS]`; it prints a Markdown table, and takes ten minutes on two cores for 200 sweeps.
One user has half of the sweeps, and submits first. The others share the rest.
"""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

SUPPORT = str(Path(__file__).parents[1] / "tests" / "support")
SWEEPS, USERS, RUNNERS, AT_ONCE, WORKERS = 200, 10, 3, 4, 6
_EPOCH_S = "0.1"


def main() -> None:
    """Submit everything, start the cluster and the runners, watch, print."""
    sys.path.insert(0, SUPPORT)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else SWEEPS
    runners: Any = import_module("runners")
    free_port: Callable[[], int] = import_module("mlflow_helpers").free_port
    command: Any = import_module("command")
    small: Callable[..., Any] = import_module("sweep_runs").small
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="ablate-shares-")))
        url = parts.enter_context(import_module("postgres").postgres()).database()
        ground = parts.enter_context(runners.ground(folder / "ground", url, FAKE_EPOCH_S=_EPOCH_S))
        heavy = count // 2
        owners = ["user0"] * heavy + [f"user{1 + number % (USERS - 1)}" for number in range(count - heavy)]
        sweeps = [ground.queue.submit(small(name=f"s{n}"), owner=owner)[0] for n, owner in enumerate(owners)]
        address = f"tcp://127.0.0.1:{free_port()}"
        start = command.Command(folder, ground.environment).start
        cluster = ["scheduler", "--port", address.rpartition(":")[2]], ["worker", address, "--jobs", str(WORKERS)]
        for words in cluster:
            ground.running.append(start(*words))
        for number in range(RUNNERS):
            ground.runner("--cluster", address, "--sweeps", str(AT_ONCE), "--name", f"runner{number}")
        watch(ground, owners, len(sweeps))
        for process in ground.running:
            if process.poll() is not None:
                print(f"{process.args} ended with {process.returncode}: {process.communicate()[1]}", file=sys.stderr)


def watch(ground: Any, owners: list[str], count: int) -> None:
    """Follow until everything has ended. What counts is the time in which every user has something to run."""
    shares: Counter[str] = Counter()
    while True:
        found = ground.queue.list(limit=count)
        if not shares and {each.owner for each in found if not each.is_over} < {*owners}:
            shares.update(dict.fromkeys(owners, 0))
            for each in found:
                shares[each.owner] += each.recorded
        if all(each.is_over for each in found):
            break
        time.sleep(0.5)
    spread = sorted(shares.values())
    jain = sum(spread) ** 2 / (len(spread) * sum(value**2 for value in spread))
    waits = {
        owner: [(each.started_at - each.submitted_at).total_seconds() for each in found if each.owner == owner]
        for owner in set(owners)
    }
    began, ended = min(each.started_at for each in found), max(each.ended_at for each in found)
    others = [median(own) for owner, own in waits.items() if owner != "user0"]
    print(f"{count} sweeps of {USERS} users, half of them of one, {RUNNERS} runners, {WORKERS} workers\n")
    print("| measure | value |\n|---|---|")
    print(f"| trials of a user until the first had none left, fewest to most | {spread[0]} to {spread[-1]} |")
    print(f"| Jain's index of these, 1 if all are equal | {jain:.3f} |")
    print(
        f"| median wait of the users with few sweeps, until a sweep starts | {min(others):.0f} to {max(others):.0f} s |"
    )
    print(f"| median wait of the user with half of the sweeps | {median(waits['user0']):.0f} s |")
    print(f"| all ended, after the first started | {(ended - began).total_seconds():.0f} s |")
    twice = sum(times > 1 for each in found for times in ground.recorded(each.name).values())
    print(f"| sweeps done, trials recorded twice | {sum(each.state == 'done' for each in found)}, {twice} |")


if __name__ == "__main__":
    main()
