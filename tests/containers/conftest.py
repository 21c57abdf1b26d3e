"""The team's service as a new user starts it, one for all tests here; what they measure is printed at the end."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from compose_project import Project, docker, follow, prepare, removed, small_disk

FIGURES: list[tuple[str, str]] = []
"""Lines of the table that closes the run: what was measured, and the value."""
SHORT = "--seeds 2 --set fixed.epochs=1 --data data/digits.npz"
"""A sweep of the guide in a minute: the same arms and claims, fewer seeds, epochs and images."""
GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "run-a-service.md").read_text(encoding="utf-8")
START = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in here:
        item.add_marker(pytest.mark.containers)
        if "MNIST_ABLATE_CONTAINERS" not in os.environ:
            item.add_marker(pytest.mark.skip(reason="needs the engine that tests/containers/run starts"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("on real containers")
        width = max(len(name) for name, _ in FIGURES)
        for name, value in FIGURES:
            terminalreporter.line(f"{name:{width}}  {value}")


@pytest.fixture(scope="session", autouse=True)
def _nothing_before_or_after() -> Iterator[None]:
    """A run that was killed may have left containers; what is left of this one is a failure."""
    if "MNIST_ABLATE_CONTAINERS" not in os.environ:
        yield
        return
    for kind, removing in (("container", ["rm", "-f"]), ("volume", ["rm", "-f"])):
        if found := docker(kind, "ls", "-q", *(["-a"] if kind == "container" else [])).stdout.split():
            docker(kind, *removing, *found)
    docker("network", "prune", "-f")
    yield
    left = docker("ps", "-aq").stdout.split() + docker("volume", "ls", "-q").stdout.split()
    left += [name for name in docker("network", "ls", "--format", "{{.Name}}").stdout.split() if "_" in name]
    assert not left, f"left in the engine: {left}"


@pytest.fixture(scope="session")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The service after the first two lines of the guide."""
    folder = tmp_path_factory.mktemp("containers") / "team"
    with small_disk(folder.parent) as disk, removed(Project(folder, disk=disk)) as project:
        prepare(folder, wrapped={"sweep": SHORT}, disk=disk)
        began = time.monotonic()
        done = project.shell("mnist-ablate stack init && docker compose up -d")
        assert done.returncode == 0, done.stderr[-3000:]
        FIGURES.append(("`docker compose up -d`, from nothing to an account", f"{time.monotonic() - began:.0f} s"))
        yield project


@pytest.fixture(scope="session")
def cluster(team: Project) -> Project:
    """The service with scheduler and two workers."""
    began = time.monotonic()
    team.up("mlflow", "scheduler", "worker")
    FIGURES.append(("scheduler and two workers are well", f"{time.monotonic() - began:.0f} s"))
    return team


@pytest.fixture(scope="session")
def service(cluster: Project) -> Project:
    """The lines of the guide up to the first sweep, with two workers for four, on few images."""
    path = cluster.folder / "docker-compose.override.yml"
    document = yaml.safe_load(path.read_text())
    commands = yaml.safe_load((cluster.folder / "docker-compose.yml").read_text())["services"]
    for name in ("service", "runner"):
        document["services"][name]["command"] = [*commands[name]["command"], "--data=/data/digits.npz"]
    path.write_text(yaml.safe_dump(document))
    began = time.monotonic()
    follow(cluster, START.replace("worker=4", "worker=2").replace("--quick", SHORT.partition(" --data")[0]))
    FIGURES.append(("the sweep service, up to a submitted sweep", f"{time.monotonic() - began:.0f} s"))
    return cluster
