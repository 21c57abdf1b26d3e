"""How fast the sweep service answers with 1,000 sweeps recorded and 200 event streams open. Prints a Markdown table.

`python benchmarks/service_latency.py [sqlite|postgresql]`; it takes a minute and both cores.
"""

import contextlib
import http.client
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from sqlalchemy import Connection, Engine, MetaData, insert, select

from mnist_ablate.service.submissions import SUBMISSIONS, submission_id

TESTS = [str(Path(__file__).parents[1] / "tests" / name) for name in ("support", "campaigns", ".")]
SWEEPS, WHOLE, STREAMS, RUNNING, ASKED = 1_000, 20, 200, 8, 200
SNAPSHOT_S, START_S = 1.0, 60.0
OK = 200


def main() -> None:
    """Record, serve, open the streams, ask, print."""
    sys.path[:0] = TESTS
    kind = sys.argv[1] if len(sys.argv) > 1 else "sqlite"
    postgres = import_module("postgres").postgres
    with contextlib.ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="ablate-latency-")))
        if kind == "postgresql":
            url = parts.enter_context(postgres()).database()
        else:
            url = f"sqlite:///{folder}/home/ledger.db"
        (folder / "home").mkdir()
        ids = recorded(url)
        port = parts.enter_context(served(folder, url))
        streams = [parts.enter_context(stream(port, ids[number % RUNNING])) for number in range(STREAMS)]
        parts.enter_context(snapshots(url, ids[:RUNNING]))
        one = ids[RUNNING + 5]
        paths = {
            "list, page": "/",
            "list, API": "/api/v1/sweeps",
            "one sweep, page": f"/sweeps/{one}",
            "one sweep, API": f"/api/v1/sweeps/{one}",
            "one sweep that runs, page": f"/sweeps/{ids[0]}",
            "its report, page": f"/api/v1/sweeps/{one}/report.html",
            "its report, JSON": f"/api/v1/sweeps/{one}/report.json",
        }
        print(f"\n{SWEEPS:,} sweeps recorded on {kind}, {len(streams)} event streams open, {RUNNING} sweeps running\n")
        print("| what | median, ms | 95th percentile, ms | slowest, ms |\n|---|---|---|---|")
        for name, path in paths.items():
            took = sorted(asked(port, path))
            p95 = took[int(0.95 * len(took))]
            print(f"| {name} | {statistics.median(took):.1f} | {p95:.1f} | {took[-1]:.1f} |", flush=True)


def recorded(url: str) -> list[str]:
    """So many sweeps in queue and ledger; the first of them are running. Their ids.

    Those that the benchmark asks for are submitted and recorded whole. The others are copies of the first: rows of the
    queue, and studies with the first one's attributes, which is what answers about other sweeps come across.
    """
    ledger_records, sweep_runs = import_module("ledger_records"), import_module("sweep_runs")
    from mnist_ablate.ledger.ledger import Ledger
    from mnist_ablate.service.queue import Queue, put_state
    from mnist_ablate.sweep.plan import make_plan

    queue, ledger, ids = Queue(url), Ledger(url), list[str]()
    for number in range(WHOLE):
        sweep = sweep_runs.small(name=f"sweep-{number:04}")
        plan = make_plan(sweep, ledger_records.DATA)
        record = ledger.begin(plan, fresh=False)
        record.fingerprints = [{"images": "tiny", "notes": []}]
        record.add_all([(each, ledger_records.outcome(each)) for each in plan.verdict_trials()])
        ids.append(queue.submit(sweep, owner=f"user-{number % 10}", planned=plan.size)[0].id)
    with queue.writing() as connection:
        _copy(connection, ids)
        for number, id_ in enumerate(ids):
            put_state(connection, id_, "running" if number < RUNNING else "done", recorded=6, exit_code=0)
    _copy_studies(ledger.storage.engine)
    queue.close()
    return ids


def _copy(connection: Connection, ids: list[str]) -> None:
    """Rows of the queue like the first one's, by other names."""
    first = connection.execute(select(SUBMISSIONS).where(SUBMISSIONS.c.id == ids[0])).mappings().one()
    like = {name: value for name, value in first.items() if name != "number"}
    names = [f"sweep-{number:04}" for number in range(WHOLE, SWEEPS)]
    own = [{"name": name, "id": submission_id(name, name), "owner": f"user-{name[-1]}"} for name in names]
    connection.execute(insert(SUBMISSIONS), [{**like, **each} for each in own])
    ids += [str(each["id"]) for each in own]


def _copy_studies(engine: Engine) -> None:
    """Studies of the ledger like the first one, by other names."""
    tables = MetaData()
    tables.reflect(engine, only=["studies", "study_directions", "study_user_attributes"])
    studies, *parts = (tables.tables[name] for name in ("studies", "study_directions", "study_user_attributes"))
    with engine.begin() as connection:
        first = connection.scalar(select(studies.c.study_id).order_by(studies.c.study_id).limit(1))
        names = [{"study_name": f"sweep-{number:04}/1"} for number in range(WHOLE, SWEEPS)]
        connection.execute(insert(studies), names)
        new = connection.scalars(select(studies.c.study_id).order_by(studies.c.study_id).offset(WHOLE)).all()
        for part in parts:
            rows = connection.execute(select(part).where(part.c.study_id == first)).mappings().all()
            key = next(iter(part.primary_key)).name
            copies = [{**row, "study_id": id_} for id_ in new for row in rows]
            connection.execute(insert(part), [{k: v for k, v in each.items() if k != key} for each in copies])


@contextlib.contextmanager
def served(folder: Path, url: str) -> Iterator[int]:
    """The service as its command starts it, without a runner."""
    command_module, port = import_module("command"), import_module("mlflow_helpers").free_port()
    command = [command_module.PROGRAM, "serve", "--no-runner", "--no-browser", "--port", str(port)]
    environment = command_module.base_environment(OPTUNA_STORAGE=url)
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--home", folder / "home"], cwd=folder, env=environment, stdout=log, stderr=log
        )
        try:
            command_module.wait_for(lambda: _is_alive(port), START_S)
            yield port
        finally:
            process.terminate()
            process.wait(30)


def _is_alive(port: int) -> bool:
    try:
        return get(port, "/healthz")[0] == OK
    except OSError:
        return False


def get(port: int, path: str) -> tuple[int, bytes]:
    """One request on a connection of its own."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path, headers={"Accept": "text/html"})
        reply = connection.getresponse()
        return reply.status, reply.read()


def asked(port: int, path: str) -> list[float]:
    """Milliseconds until the whole answer is there, over and over, after a first time that does not count."""
    took = []
    for _ in range(ASKED + 1):
        began = time.perf_counter()
        status, _body = get(port, path)
        took.append(1000 * (time.perf_counter() - began))
        assert status == OK, (path, status, _body[:300])
        time.sleep(0.01)
    return took[1:]


@contextlib.contextmanager
def stream(port: int, id_: str) -> Iterator[None]:
    """An event stream that is read, as a page does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", f"/api/v1/sweeps/{id_}/events")
    reply = connection.getresponse()
    assert reply.status == OK
    sock = connection.sock

    def read() -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError, http.client.HTTPException):  # closed meanwhile
            while reply.readline():
                pass

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            sock.shutdown(2)
        connection.close()


@contextlib.contextmanager
def snapshots(url: str, ids: list[str]) -> Iterator[None]:
    """A snapshot of each running sweep in a second, as runners write them."""
    from mnist_ablate.execution.live_progress import Snapshot
    from mnist_ablate.service.queue import Queue, add_events

    queue, stop = Queue(url), threading.Event()

    def write() -> None:
        done = 0
        while not stop.wait(SNAPSHOT_S):
            done += 1
            told = Snapshot(question="q", done=done, size=600, status=f"{done} of 600 trials").model_dump()
            for id_ in ids:
                with queue.writing() as connection:
                    add_events(connection, id_, [("snapshot", told)])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        queue.close()


if __name__ == "__main__":
    main()
