"""docs/guides/team-stack.md is followed block by block, and what it promises is there."""

import json
import os
import re
import secrets
import signal
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from browser import FOUND, browser
from compose_project import S3_IMAGE, Project, changed, docker, follow, make_empty, small, wait_until
from conftest import FIGURES, SHORT
from mlflow_helpers import free_port

pytestmark = pytest.mark.timeout(900)
GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "team-stack.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
FIRST, CLUSTER, OWN_SERVERS, ACCOUNT, TLS, BACKUP, RESTORE = range(7)
"""Every block of the guide, in its order. OWN_SERVERS is followed in tests/service/, without containers."""
STARTS = (
    "mnist-ablate stack init",
    "docker compose --profile",
    "export",
    "curl",
    "echo MLFLOW_HOSTS",
    "umask",
    "sha256sum -c",
)
EXPERIMENTS = "/api/2.0/mlflow/experiments"


def verdicts(project: Project, name: str) -> dict[str, str]:
    """By claim, as the database of the service has them."""
    words = ("run", "--rm", "-T", "--no-deps", "sweep", "report", name, "--format", "json")
    claims = json.loads(project.compose(*words).stdout)["claims"]
    return {claim["name"]: claim["verdict"] for claim in claims}


def test_no_block_of_the_guide_is_left_out() -> None:
    assert [block.startswith(start) for block, start in zip(BLOCKS, STARTS, strict=True)] == [True] * len(STARTS)


def test_first_steps_lead_to_verdicts_that_verify(team: Project) -> None:
    done = follow(team, BLOCKS[FIRST])
    assert "ready: " in done.stdout
    assert "7 claims" in done.stdout
    follow(team, ". secrets/client.env && mnist-ablate verify normalization")
    found = team.call(f"{EXPERIMENTS}/search", {"max_results": 10}, user="sweeper")
    assert "normalization" in {each["name"] for each in found["experiments"]}


@pytest.mark.minutes
def test_workers_join_while_a_sweep_runs_and_their_sweeps_verify(cluster: Project) -> None:
    """The block as it stands, with two workers for eight, then four: each of this machine's cores has two then."""
    script = BLOCKS[CLUSTER].replace("worker=8", "worker=2")
    first, logs, second, report = (line for line in script.splitlines() if line)
    cluster.add_setting("SWEEP=activation")
    short = SHORT.replace("data/", "/data/")
    follow(cluster, f"{second} {short}".replace("run --rm", "run -d --name first"))
    tables = "SELECT 1 FROM pg_tables WHERE tablename = 'trials'"
    wait_until(lambda: cluster.rows("optuna", tables), "a ledger", 120)
    wait_until(lambda: cluster.rows("optuna", "SELECT 1 FROM trials WHERE state = 'COMPLETE'"), "a trial", 120)
    follow(cluster, first.replace("worker=2", "worker=4").partition("#")[0] + " scheduler worker")
    wait_until(lambda: len(cluster.compose("ps", "-q", "worker").stdout.split()) == 4, "four workers")
    assert docker("wait", "first").stdout.strip() == "0", docker("logs", "first").stderr
    used = cluster.rows("mlflow", "SELECT DISTINCT value FROM tags WHERE key = 'worker'")
    docker("rm", "first")
    assert "claim" in follow(cluster, report).stdout
    follow(cluster, report.replace("report", "verify"))
    assert logs.endswith("logs -f sweep")
    cluster.up("scheduler", "worker")
    FIGURES.append(("workers 2, then 4 while a sweep ran", f"{len(used)} took part"))


def status(project: Project, path: str, words: str, body: str = "") -> int:
    """What the published port answers to name:password."""
    command = ["curl", "-s", "-o", os.devnull, "-w", "%{http_code}", "-m", "30", *(["-u", words] if words else [])]
    command += ["-H", "Content-Type: application/json", *(["-d", body] if body else [])]
    return int(subprocess.run([*command, project.address + path], capture_output=True, text=True).stdout)


def test_accounts_see_all_and_change_only_their_own(team: Project) -> None:
    follow(team, BLOCKS[ACCOUNT])
    ada, look = "ada:twelve letters or more", f"{EXPERIMENTS}/search?max_results=1"
    assert [status(team, look, words) for words in (ada, "", "ada:wrong", "nobody:twelve letters or more")] == [
        200,
        401,
        401,
        401,
    ]
    name = f"of-sweeper-{secrets.token_hex(3)}"
    own = team.call(f"{EXPERIMENTS}/create", {"name": name}, user="sweeper")["experiment_id"]
    run = f'{{"experiment_id": "{own}"}}'
    assert status(team, f"{EXPERIMENTS}/get?experiment_id={own}", ada) == 200
    assert status(team, "/api/2.0/mlflow/runs/create", ada, run) == 403
    assert status(team, f"{EXPERIMENTS}/delete", ada, run) == 403
    assert status(team, "/api/2.0/mlflow/runs/create", f"sweeper:{team.password('sweeper')}", run) == 200


@pytest.mark.skipif(not FOUND, reason="no Chromium")
def test_page_asks_for_a_password_and_shows_the_runs(team: Project, tmp_path: Path) -> None:
    (found,) = team.rows("mlflow", "SELECT experiment_id FROM experiments WHERE name = 'normalization'") or ["1"]
    words = b64encode(f"sweeper:{team.password('sweeper')}".encode()).decode()
    with browser(tmp_path) as tab:
        tab.open(team.address)
        tab.until("document.readyState === 'complete'")
        assert "normalization" not in tab.text()
        tab.call("Network.enable")
        tab.call("Network.setExtraHTTPHeaders", headers={"Authorization": f"Basic {words}"})
        tab.open(f"{team.address}/#/experiments/{found}/runs?workflowType=machine_learning")
        tab.shows("normalization", 90)


@pytest.mark.minutes
def test_files_in_s3_go_through_the_server(team: Project) -> None:
    key, secret = "of-the-test", secrets.token_hex(8)
    docker("run", "-d", "--name", "s3", "--network", f"{team.name}_edge", "--read-only", "--tmpfs", "/tmp", S3_IMAGE)
    credentials = team.folder / "secrets" / "s3_credentials"
    try:
        with changed(team.folder / ".env"), changed(credentials):
            team.add_setting("ARTIFACTS=s3://sweeps/files")
            lines = (
                "[default]",
                f"aws_access_key_id = {key}",
                f"aws_secret_access_key = {secret}",
                "endpoint_url = http://s3:9000",
            )
            credentials.write_text("\n".join(lines) + "\n")
            follow(team, "docker compose up -d --no-build --wait mlflow")
            make = "import boto3; boto3.client('s3', region_name='us-east-1').create_bucket(Bucket='sweeps')"
            docker("exec", team.container("mlflow"), "python", "-c", make)
            follow(team, small(team, "s3"))
            follow(team, ". secrets/client.env && mnist-ablate verify data/s3.yaml")
            count = "import boto3; print(boto3.client('s3').list_objects_v2(Bucket='sweeps')['KeyCount'])"
            kept = int(docker("exec", team.container("mlflow"), "python", "-c", count).stdout)
            assert kept > 0
            FIGURES.append(("files of a sweep in S3", str(kept)))
    finally:
        docker("rm", "-f", "s3")
        follow(team, "docker compose up -d --no-build --wait mlflow")


def heard(command: list[Any]) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def test_tls_by_a_proxy(team: Project, tmp_path: Path) -> None:
    """The Caddyfile of the guide, with Caddy's own authority, and ports that any machine has free."""
    port, plain = free_port(), free_port()
    address = team.address.removeprefix("http://")
    site = re.search(r"```\n(mlflow\.example\.com \{.*?\n\})\n```", GUIDE, re.DOTALL)
    assert site is not None
    lines = ("admin off", "local_certs", "skip_install_trust", "default_bind 127.0.0.1")
    options = "\n".join(("{", *lines, f"http_port {plain}", f"https_port {port}", "}"))
    (tmp_path / "Caddyfile").write_text(f"{options}\n" + site[1].replace("127.0.0.1:5000", address) + "\n")
    with changed(team.folder / ".env"):
        follow(team, BLOCKS[TLS])
        environment = {**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
        command = ["caddy", "run", "--config", tmp_path / "Caddyfile", "--adapter", "caddyfile"]
        with (tmp_path / "log").open("w") as log:
            proxy = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log)
        try:
            root = tmp_path / "caddy" / "pki" / "authorities" / "local" / "root.crt"
            wait_until(root.exists, "a certificate of Caddy's")
            team.wait_healthy("mlflow")
            by_proxy = f"mlflow.example.com:443:127.0.0.1:{port}"
            words = ["curl", "-sS", "-m", "30", "--cacert", root, "--connect-to", by_proxy]
            ask = [*words, "-w", "%{http_code}", f"https://mlflow.example.com{EXPERIMENTS}/search?max_results=1"]
            wait_until(lambda: heard(ask).endswith("401"), "401 through TLS")
            ask += ["-u", f"sweeper:{team.password('sweeper')}"]
            assert "experiments" in heard(ask), (tmp_path / "log").read_text()[-2000:]
            assert "experiments" not in heard([*ask, "-H", "Host: evil.example"])
        finally:
            proxy.send_signal(signal.SIGTERM)
            proxy.wait(20)
    follow(team, "docker compose up -d --no-build --wait mlflow")


def test_backup_and_restore_give_the_same_verdicts(cluster: Project) -> None:
    before, parts = verdicts(cluster, "activation"), cluster.running()
    follow(cluster, BLOCKS[BACKUP])
    cluster.compose("down", "-v", "-t", "10")
    make_empty(cluster.disk, cluster.folder.parent)
    part = cluster.folder / "optuna.dump"
    whole = part.read_bytes()
    try:
        part.write_bytes(whole[: len(whole) // 2])
        done = cluster.shell(BLOCKS[RESTORE])
        assert done.returncode != 0
        assert "optuna.dump: FAILED" in done.stdout
        assert not cluster.compose("ps", "-aq").stdout
        part.write_bytes(whole)
        follow(cluster, BLOCKS[RESTORE])
    finally:
        cluster.up_again(*parts)
    assert verdicts(cluster, "activation") == before
    follow(cluster, ". secrets/client.env && mnist-ablate verify normalization")
    assert cluster.compose("run", "--rm", "-T", "--no-deps", "sweep", "verify", "activation").returncode == 0
