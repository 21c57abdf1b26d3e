"""Attacks the whole service, started on this machine, and prints a table: what came back, refused or not.

`benchmarks/probes.py > docs/explanation/security-probes.md` renews the table; it takes about two minutes.
"""

import datetime as dt
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

TESTS = [str(Path(__file__).parents[1] / "tests" / name) for name in ("support", "campaigns", ".")]

HEAD = """\
# Attacks on the running service

{refused} of {count} refused, {day}; mlflow {mlflow}, distributed {distributed}, Flask {flask}, Starlette {starlette}.

The service is the one that the containers run, started on one machine: `docker/mlflow_server.py` with accounts and
`docker/mlflow_guard.py`, PostgreSQL with two roles, Dask with TLS, and the sweep service (`mnist-ablate serve`) with
MLflow's accounts. "What came back" counts HTTP statuses: 401 asks
for an account, 403 and 404 refuse. A row counts as refused only if every request in it was refused, and if no file was
read, made or deleted outside its place.

`test_probes.py` checks every row in CI. `python benchmarks/probes.py > docs/explanation/security-probes.md` prints this
page.

| family | what somebody tries | what came back | refused |
|---|---|---|---|"""
LIMITS = """
Known limits, most of them by MLflow's design:

- `/health`, `/api/3.0/mlflow/server-info` and the page's static files answer without an account. They show features,
  but no address.
- Every account can list the names of the other accounts and read every sweep. `STACK_PERMISSION=NO_PERMISSIONS`
  prevents that.
- The server reads a whole request before it checks the account, so a body of gigabytes takes memory. The container's
  limit then restarts it. Before anybody outside the team can reach the server, put a proxy with a limit in front of it.
- The sweep service answers `/healthz` and `/readyz` without an account: whether its parts are well, but no address.
  Whoever has an account sees all sweeps and the names of their owners.
- Without TLS, `Authorization` travels unencrypted. Use loopback, a private network, or a proxy with TLS.
- Whoever has a certificate of the cluster can run code on its workers. That is what the workers are for."""


def main() -> int:
    """Print the page; 1 if an attack was not refused."""
    sys.path[:0] = TESTS
    attacks, service_stack = import_module("attacks"), import_module("service_stack")
    rows, refused, everything = [], 0, attacks.all_probes()
    with service_stack.stack() as service:
        ground = attacks.Ground(service)
        for probe in everything:
            found = probe.attack(ground)
            refused += found.refused
            rows.append(
                f"| {probe.family} | {probe.name} | {found.came_back} | {'yes' if found.refused else '**NO**'} |"
            )
    versions = {name: version(name) for name in ("mlflow", "distributed", "flask", "starlette")}
    day = dt.datetime.now(dt.UTC).date()
    print(HEAD.format(refused=refused, count=len(everything), day=day, **versions))
    print("\n".join(rows))
    print(LIMITS)
    return 0 if refused == len(everything) else 1


if __name__ == "__main__":
    sys.exit(main())
