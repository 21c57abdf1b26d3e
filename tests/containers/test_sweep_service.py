"""docs/guides/run-a-service.md is followed, and the parts of the service are killed at random while sweeps run."""

import json
import os
import random
import re
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import certificates
import pytest
from command import PROGRAM
from compose_project import Project, changed, docker, follow, inspect, machine_address, wait_until
from conftest import FIGURES
from mail_inbox import Inbox, mail_server
from mlflow_helpers import free_port
from mlflow_stub import Reply, Stub, running
from sweep_runs import sweep_file

PARTS = ("service", "runner", "scheduler", "worker", "db", "mlflow")
KILLS = int(os.environ.get("MNIST_ABLATE_KILLS", "1"))
"""Of each part: a longer campaign sets more."""
pytestmark = pytest.mark.timeout(1800 * KILLS)
AT_ONCE = 3
TOLD = "SELECT count(*), count(DISTINCT a.value_json) FROM trials t JOIN studies s USING (study_id) \
JOIN trial_user_attributes a USING (trial_id) \
WHERE s.study_name LIKE '{name}/%' AND t.state = 'COMPLETE' AND a.key = 'trial_id'"


def client(words: str) -> str:
    """The script of a command of the client."""
    address = "export MNIST_ABLATE_SERVICE=http://127.0.0.1:8080"
    return f". secrets/client.env && {address} && mnist-ablate {words}"


def asked(project: Project, words: str) -> str:
    """What a command of the client says."""
    return follow(project, client(words)).stdout


def states(project: Project) -> dict[str, tuple[str, str, str]]:
    """By name, as the queue has them: state, exit code, and whether MLflow lacks something."""
    rows = project.rows("optuna", "SELECT name, state, exit_code, behind FROM service_submissions")
    return {name: (state, code, behind) for name, state, code, behind in (row.split("|") for row in rows)}


def verdicts(project: Project, name: str) -> dict[str, object]:
    found = json.loads(asked(project, f"attach {name} --json"))
    return {claim["name"]: (claim["verdict"], claim["effect"]) for claim in found["claims"]}


def test_a_submitted_sweep_ends_while_nobody_is_there(service: Project) -> None:
    wait_until(lambda: states(service)["normalization"] == ("done", "0", "0"), "done, and in MLflow", 600)
    assert len(verdicts(service, "normalization")) == 7
    assert "normalization" in asked(service, "queue")
    assert f"runs: {service.address}/#/experiments/" in follow(service, client("attach normalization")).stderr
    assert inspect(service.container("service"))["HostConfig"]["ReadonlyRootfs"]


def test_the_network_cut_and_the_client_killed_after_submit(service: Project, tmp_path: Path) -> None:
    """Its sweep ends, and mail and webhook tell so. A proxy that is stopped is a network that carries nothing."""
    host = machine_address()
    files = certificates.made(tmp_path / "tls", [host])
    shutil.copy(files.ca_file, service.folder / "data" / "mail-authority.pem")
    encrypted = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    encrypted.load_cert_chain(files.cert, files.key)
    inbox, port = Inbox(), free_port()
    site = f"http://127.0.0.1:{port} {{\nreverse_proxy 127.0.0.1:8080 {{\nheader_up Host 127.0.0.1:8080\n}}\n}}\n"
    (tmp_path / "Caddyfile").write_text("{\nadmin off\nauto_https off\n}\n" + site)
    relay = ["caddy", "run", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")]
    with (
        changed(service.folder / ".env"),
        mail_server(inbox, host, tls_context=encrypted, require_starttls=True) as mail,
        running(Stub(Reply(204)), host=host) as hook,
        processes() as start,
    ):
        told = {"MAIL_SERVER": f"smtp://{mail}", "MAIL_FROM": "sweeps@example.org", "MAIL_TO": "group@example.org"}
        here = {"WEBHOOK": f"http://{host}:{hook.port}/hook", "MAIL_CA": "./data/mail-authority.pem"}
        for name, value in {**told, **here}.items():
            service.add_setting(f"{name}={value}")
        service.compose("up", "-d", "--no-build", "--no-deps", "runner")
        sweep_file(service.folder / "data", name="alone", seeds=4, fixed={"epochs": 60, "width": 300, "model": "mlp"})
        network = start(relay)
        script = f". secrets/client.env && exec {PROGRAM} sweep data/alone.yaml --service http://127.0.0.1:{port}"
        person = start(["bash", "-c", script], cwd=service.folder, env=service.environment)
        wait_until(lambda: states(service).get("alone", ("",))[0] == "running", "running", 180)
        network.send_signal(signal.SIGSTOP)
        person.kill()
        assert states(service)["alone"][0] == "running"
        wait_until(lambda: states(service)["alone"] == ("done", "0", "0"), "done, and in MLflow", 300)
        wait_until(lambda: inbox.messages and hook.bodies, "told", 60)
    (recipients, message), (body,) = inbox.messages[0], hook.bodies
    assert recipients == ["group@example.org"]
    claims = verdicts(service, "alone")
    for text in (message.get_content(), json.loads(body)["text"]):
        assert len(re.findall(r"http://127.0.0.1:8080/sweeps/\w+", text)) == 1
        assert all(str(verdict) in text for verdict, _ in claims.values())
    FIGURES.append(("client killed, its network cut", "the sweep ended, mail and webhook came"))


def test_a_sweep_that_waits_runs_after_an_upgrade(service: Project) -> None:
    """New containers for every part, as `docker compose up -d --build` makes them of new images."""
    service.compose("stop", "runner")
    sweep_file(service.folder / "data", name="waits", seeds=2, fixed={"epochs": 5, "width": 100, "model": "mlp"})
    follow(service, client("submit data/waits.yaml"))
    assert states(service)["waits"][0] == "waiting"
    service.compose("up", "-d", "--no-build", "--force-recreate", "--scale", "worker=2", *PARTS)
    wait_until(lambda: states(service)["waits"] == ("done", "0", "0"), "done, and in MLflow", 300)


@contextmanager
def processes() -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Starts processes that are gone after the block, stopped ones too."""
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        null = subprocess.DEVNULL
        started.append(subprocess.Popen(command, stdin=null, stdout=null, stderr=null, **options))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()


def restarted(project: Project, part: str) -> Callable[[], bool]:
    """Whether the container that runs now is another run of it, and well where it has a check."""
    container = project.container(part)
    before = inspect(container)["State"]["StartedAt"]

    def again() -> bool:
        state = inspect(container)["State"]
        return bool(state["Running"]) and state["StartedAt"] != before

    return again


@pytest.mark.long
def test_parts_killed_at_random_moments_lose_no_sweep_and_train_nothing_twice(service: Project) -> None:
    chance = random.Random(int.from_bytes(os.urandom(4)))
    names: list[str] = []

    def submit() -> None:
        """Again, where the service was just killed: the same question is the same sweep."""
        name = f"storm-{len(names)}"
        sweep_file(service.folder / "data", name=name, seeds=4, fixed={"epochs": 20, "width": 200, "model": "mlp"})
        wait_until(lambda: service.shell(client(f"submit data/{name}.yaml")).returncode == 0, f"{name} submitted", 180)
        names.append(name)

    submit()
    wait_until(lambda: states(service)[names[0]] == ("done", "0", "0"), "the undisturbed sweep done", 300)
    undisturbed = verdicts(service, names[0])
    order = [part for part in PARTS for _ in range(KILLS)]
    chance.shuffle(order)
    began = time.monotonic()
    for part in order:
        while sum(state in {"waiting", "running"} for state, _, _ in states(service).values()) < AT_ONCE:
            submit()
        time.sleep(chance.uniform(0, 4))
        again = restarted(service, part)
        service.kill(service.container(part))
        wait_until(again, f"{part} started again", 120)
        service.wait_healthy("db", timeout_s=180)
    wait_until(lambda: set(states(service).values()) == {("done", "0", "0")}, "all done, and in MLflow", 900)
    counts = {name: service.rows("optuna", TOLD.format(name=name)) for name in names}
    assert set(map(tuple, counts.values())) == {("8|8",)}
    assert {name: verdicts(service, name) for name in names} == dict.fromkeys(names, undisturbed)
    for name in names[1 :: max(1, len(names) // 3)]:
        words = ("run", "--rm", "-T", "--no-deps", "sweep", "verify", name)
        assert service.compose(*words).returncode == 0
    told = f"{len(names)} sweeps, 0 lost, 0 trained twice, verdicts equal, {time.monotonic() - began:.0f} s"
    FIGURES.append((f"{len(order)} kills -9 of {len(PARTS)} parts at random moments", told))


def test_what_can_be_reached_and_written_is_as_listed(service: Project) -> None:
    for part in ("service", "runner"):
        about = inspect(service.container(part))
        host = about["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["Memory"] > 0
        assert host["CapDrop"] == ["ALL"]
        shown = json.dumps(about)
        assert not [name for name, secret in service.secrets.items() if secret in shown]
        bound = [each for found in about["NetworkSettings"]["Ports"].values() for each in found or []]
        assert {each["HostIp"] for each in bound} <= {"127.0.0.1"}
    status = docker("exec", service.container("service"), "sh", "-c", "cat /proc/[0-9]*/status").stdout
    assert set(re.findall(r"^Uid:\s+(\d+)", status, re.MULTILINE)) == {service.settings["STACK_UID"]}
