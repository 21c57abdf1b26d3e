"""What a sweep costs the parts that all workers share, measured here, and what that means for 10 to 10,000 workers.

Prints two Markdown tables: the constants (scheduler, driver, ledger on SQLite and PostgreSQL, mirror) and the loads.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

TESTS = [str(Path(__file__).parents[1] / "tests" / name) for name in ("support", "campaigns", ".")]
TRIALS, EPOCHS = 60, 3
RECORDS = 100
JOBS = 2
MORE, CROWD, IDLE_S = 20, 60, 8.0
WORKERS = (10, 100, 1_000, 10_000)
TRIAL_S, TRIAL_EPOCHS = 60.0, 20
"""The trial that the second table assumes."""
_INSIDE = "ABLATE_SCALE_INSIDE"


@dataclass(frozen=True)
class Spent:
    """Processor seconds of driver and scheduler, and bytes between all parts."""

    driver_s: float
    scheduler_s: float
    sent: float

    def over(self, other: "Spent", times: float) -> "Spent":
        """What one of `times` more cost."""
        parts = (self.driver_s - other.driver_s, self.scheduler_s - other.scheduler_s, self.sent - other.sent)
        return Spent(*(max(0.0, part / times) for part in parts))


@dataclass(frozen=True)
class Cost:
    """What a trial without its epochs, an epoch, a heartbeat, a record and a mirrored trial cost, in seconds."""

    trial: Spent
    epoch: Spent
    heartbeat_s: float
    sqlite_s: float
    postgres_s: float
    requests: float
    mirror_s: float


def main() -> None:
    """Measure, and print both tables."""
    if os.geteuid() == 0 and _INSIDE not in os.environ:
        # A loopback of its own: nobody else's bytes are counted.
        inside = f"ip link set lo up && exec {sys.executable} {Path(__file__).absolute()}"
        os.execvpe("unshare", ["unshare", "--net", "sh", "-c", inside], {**os.environ, _INSIDE: "1"})
    sys.path[:0] = TESTS
    with tempfile.TemporaryDirectory(prefix="ablate-scale-") as name:
        folder = Path(name)
        cost = Cost(**_cluster(folder), **_ledgers(folder), **_mirror(folder))
    print("\n".join(constants(cost)))
    print()
    print("\n".join(loads(cost)))


def constants(cost: Cost) -> Iterator[str]:
    """What was measured, a line each."""
    yield "| what | a trial | an epoch more |"
    yield "|---|---:|---:|"
    yield f"| bytes between all parts | {cost.trial.sent:,.0f} | {cost.epoch.sent:,.0f} |"
    for name in ("scheduler", "driver"):
        each = [getattr(part, f"{name}_s") * 1e3 for part in (cost.trial, cost.epoch)]
        yield f"| {name}, processor time | {each[0]:.1f} ms | {each[1]:.2f} ms |"
    yield f"| ledger, one record, SQLite | {cost.sqlite_s * 1e3:.1f} ms | |"
    yield f"| ledger, one record, PostgreSQL | {cost.postgres_s * 1e3:.1f} ms | |"
    yield f"| mirror, requests | {cost.requests:.1f} | |"
    yield f"| mirror, its requests one after the other | {cost.mirror_s * 1e3:.0f} ms | |"
    yield f"| scheduler, one heartbeat of a worker | {cost.heartbeat_s * 1e3:.2f} ms | |"


def loads(cost: Cost) -> Iterator[str]:
    """How busy each shared part is, in percent of one core or of one writer."""
    head = f"workers, with trials of {TRIAL_S:.0f} s and {TRIAL_EPOCHS} epochs"
    yield f"| {head} | " + " | ".join(f"{count:,}" for count in WORKERS) + " |"
    yield "|---|" + "---:|" * len(WORKERS)
    trial, epoch, beats = cost.trial, cost.epoch, import_module("distributed.scheduler").heartbeat_interval
    parts: dict[str, Callable[[int], float]] = {
        "scheduler": lambda n: (
            n / TRIAL_S * (trial.scheduler_s + TRIAL_EPOCHS * epoch.scheduler_s) + n / beats(n) * cost.heartbeat_s
        ),
        "driver": lambda n: n / TRIAL_S * (trial.driver_s + TRIAL_EPOCHS * epoch.driver_s),
        "ledger, SQLite": lambda n: n / TRIAL_S * cost.sqlite_s,
        "ledger, PostgreSQL": lambda n: n / TRIAL_S * cost.postgres_s,
        "mirror": lambda n: n / TRIAL_S * cost.mirror_s,
    }
    yield "| trials ended a second | " + " | ".join(f"{count / TRIAL_S:.1f}" for count in WORKERS) + " |"
    for name, busy in parts.items():
        yield f"| {name} | " + " | ".join(_percent(busy(count)) for count in WORKERS) + " |"


def _percent(share: float) -> str:
    return f"**{share:.0%}**" if share > 1 else f"{share:.1%}"


def _cluster(folder: Path) -> dict[str, Any]:
    """Sweeps of short trials on a scheduler and two workers of their own: what they cost scheduler and driver."""
    command = import_module("command")
    port = import_module("mlflow_helpers").free_port()
    images = import_module("tiny_images").write_images(folder / "images.npz")
    environment = command.base_environment(
        PYTHONPATH=os.pathsep.join(TESTS), MNIST_ABLATE_TRAINER="fake_trainer:factory", FAKE_EPOCH_S="0.02"
    )
    address, program = f"tcp://127.0.0.1:{port}", command.PROGRAM
    with _parts() as start:
        scheduler = start([program, "scheduler", "--port", port], environment, folder / "scheduler.log")
        start([program, "worker", address, "--jobs", JOBS], environment, folder / "worker.log")
        command.wait_for(lambda: (folder / "worker.log").read_text().count(f"for {address}") == JOBS, 60)
        idle = _processor_s(scheduler.pid, IDLE_S)
        plans = (("few", 1, EPOCHS), ("many", 1 + TRIALS // 2, EPOCHS), ("long", 1 + TRIALS // 2, EPOCHS + MORE))
        few, many, long = (
            _driven(folder, sweep, ["--data", str(images), "--cluster", address], environment, scheduler.pid, idle)
            for sweep in plans
        )
        start([sys.executable, "-c", _CROWD, address, CROWD], environment, folder / "crowd.log")
        command.wait_for(lambda: "ready" in (folder / "crowd.log").read_text(), 60)
        crowded = _processor_s(scheduler.pid, IDLE_S)
    beats = CROWD / import_module("distributed.scheduler").heartbeat_interval(CROWD)
    epoch = long.over(many, (TRIALS + 2) * MORE)
    trial = many.over(few, TRIALS).over(Spent(*(EPOCHS * part for part in vars(epoch).values())), 1)
    return {"trial": trial, "epoch": epoch, "heartbeat_s": max(0.0, crowded - idle) / beats}


_CROWD = """
import asyncio, sys
from distributed import Worker
async def crowd(address, count):
    quiet = {"nthreads": 1, "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    workers = await asyncio.gather(*(Worker(address, **quiet) for _ in range(count)))
    print("ready", flush=True)
    await asyncio.gather(*(each.finished() for each in workers))
asyncio.run(crowd(sys.argv[1], int(sys.argv[2])))
"""


def _driven(  # noqa: PLR0913, PLR0917 - one call, all measured around it
    folder: Path, plan: tuple[str, int, int], options: list[str], environment: dict[str, str], pid: int, idle: float
) -> Spent:
    """What one sweep cost; `idle` is what the scheduler, process `pid`, spends a second anyway."""
    name, seeds, epochs = plan
    path = import_module("sweep_runs").sweep_file(folder, name=name, seeds=seeds, fixed={"epochs": epochs}, claims=[])
    program = Path(sys.executable).with_name("mnist-ablate")
    times, busy, sent, began = os.times(), _cpu(pid), _loopback_bytes(), time.monotonic()
    command: list[str | Path] = [program, "sweep", str(path), *options, "--json"]
    subprocess.run(command, env=environment, cwd=folder, capture_output=True, timeout=300, check=False)
    after = os.times()
    driver = after.children_user - times.children_user + after.children_system - times.children_system
    scheduler = _cpu(pid) - busy - idle * (time.monotonic() - began)
    return Spent(driver, scheduler, _loopback_bytes() - sent)


def _ledgers(folder: Path) -> dict[str, Any]:
    postgres = import_module("postgres").postgres
    with postgres() as server:
        return {
            "sqlite_s": _record_s(f"sqlite:///{folder / 'ledger.db'}"),
            "postgres_s": _record_s(server.database()),
        }


def _record_s(url: str) -> float:
    """Median seconds of writing one finished trial."""
    from mnist_ablate.ledger import progress
    from mnist_ablate.ledger.ledger import Ledger
    from mnist_ablate.sweep.plan import make_plan
    from mnist_ablate.trial import Outcome

    sweep = import_module("sweep_runs").small(seeds=RECORDS // 2)
    plan, helpers = make_plan(sweep, "ab" * 32, 10_000), import_module("mlflow_helpers")
    ledger, times = Ledger(url), []
    with ledger.driving(sweep.name):
        record = ledger.begin(plan, fresh=False)
        for planned in progress.verdict_trials(plan, {}):
            made: Outcome = helpers.outcome(planned.trial)
            began = time.perf_counter()
            record.add(planned, made)
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def _mirror(folder: Path) -> dict[str, Any]:
    """Trials sent to a real MLflow server through a proxy that counts."""
    helpers, stub = import_module("mlflow_helpers"), import_module("mlflow_stub")
    uri, port = helpers.new_home(folder / "server"), helpers.free_port()
    with stub.mlflow_server(uri, port), stub.running(stub.Stub(upstream=port)) as proxy:
        mirror = helpers.mirror(proxy.uri)
        mirror.open()
        before, began = len(proxy.seen), time.perf_counter()
        for seed in range(20):
            trial = helpers.trial(seed)
            mirror.outcome(trial, helpers.ARM, helpers.outcome(trial))
        return {"requests": (len(proxy.seen) - before) / 20, "mirror_s": (time.perf_counter() - began) / 20}


@contextmanager
def _parts() -> Iterator[Callable[[Sequence[Any], dict[str, str], Path], Any]]:
    from contextlib import ExitStack

    process = import_module("service_stack").process
    with ExitStack() as stack:
        yield lambda command, environment, log: stack.enter_context(process(list(command), environment, log))


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _processor_s(pid: int, seconds: float) -> float:
    """Processor seconds a second of a process that has nothing to do."""
    before = _cpu(pid)
    time.sleep(seconds)
    return (_cpu(pid) - before) / seconds


def _loopback_bytes() -> int:
    """Sent over loopback, in the network namespace of this process."""
    lines = Path("/proc/self/net/dev").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[9]) for line in lines if line.strip().startswith("lo:"))


if __name__ == "__main__":
    main()
