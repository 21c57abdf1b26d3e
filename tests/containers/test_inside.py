"""What the guide promises of containers and images, looked at from inside while they run."""

import ipaddress
import json
import re
import socket
import subprocess
import time

import pytest
from compose_project import Project, docker, inspect, machine_address, memory, wait_until
from conftest import FIGURES

pytestmark = pytest.mark.timeout(300)
RUNNING = ("db", "mlflow", "scheduler", "worker")
WRITABLE = {
    "db": {"/tmp", "/var/run/postgresql", "/run/postgresql", "/var/lib/postgresql/data", "/dev/shm"},
    "mlflow": {"/tmp", "/artifacts", "/dev/shm"},
    "scheduler": {"/tmp", "/dev/shm"},
    "worker": {"/tmp", "/dev/shm"},
}
"""By service, all that it can write, kernel's own folders aside."""
REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 4)"
IMAGES = {"mnist-ablate:0.1.0": 2_300, "mnist-ablate-mlflow:0.1.0": 1_000}
"""The largest that they may be, in MB. Before they were cut they had 2,670 and 1,030."""


def inside(project: Project, service: str, script: str) -> str:
    return docker("exec", project.container(service), "sh", "-c", script, check=False).stdout


@pytest.mark.parametrize("service", RUNNING)
def test_processes_have_the_owner_of_the_secrets_no_capability_and_no_way_to_more(
    cluster: Project, service: str
) -> None:
    found = inside(cluster, service, "cat /proc/[0-9]*/status").split("Name:\t")[1:]
    status = "".join(each for each in found if not each.startswith("runc:"))  # which becomes the check of its health
    uid = cluster.settings["STACK_UID"]
    assert set(re.findall(r"^Uid:\s+(\d+)", status, re.MULTILINE)) == {uid} != {"0"}
    assert {int(found, 16) for found in re.findall(r"^Cap(?:Inh|Prm|Eff|Bnd|Amb):\s+(\w+)", status, re.MULTILINE)} == {
        0
    }
    assert set(re.findall(r"^NoNewPrivs:\s+(\d)", status, re.MULTILINE)) == {"1"}
    assert set(re.findall(r"^Seccomp:\s+(\d)", status, re.MULTILINE)) == {"2"}


@pytest.mark.parametrize("service", RUNNING)
def test_nothing_can_be_written_but_what_is_listed(cluster: Project, service: str) -> None:
    script = "find / \\( -path /proc -o -path /sys \\) -prune -o -type d -writable -print 2>/dev/null"
    found = set(inside(cluster, service, script).splitlines())
    assert found
    outside = {
        path for path in found if not any(path == top or path.startswith(f"{top}/") for top in WRITABLE[service])
    }
    assert outside <= {"/dev/mqueue"}


def test_scratch_space_runs_no_programs_and_has_a_limit(cluster: Project) -> None:
    script = "cp /bin/true /tmp/true && chmod +x /tmp/true && /tmp/true && echo ran; grep ' /tmp ' /proc/mounts"
    for service in RUNNING:
        told = inside(cluster, service, script)
        assert not told.startswith("ran")
        assert all(word in told for word in ("noexec", "nosuid", "nodev", "size=")), told


def test_limits_are_in_force(cluster: Project) -> None:
    for service in RUNNING:
        host = inspect(cluster.container(service))["HostConfig"]
        assert host["Memory"] > 0
        assert host["PidsLimit"] > 0
        assert host["NanoCpus"] > 0
        assert host["ReadonlyRootfs"]
    limit = inside(
        cluster, "worker", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"
    )
    assert limit.split() == [str(3 * 2**30)]


def reaches(project: Project, source: str, host: str, port: int) -> bool:
    done = docker("exec", project.container(source), "python", "-c", REACH, host, str(port), check=False)
    return done.returncode == 0


def address(project: Project, service: str) -> str:
    networks = inspect(project.container(service))["NetworkSettings"]["Networks"]
    return str(next(iter(networks.values()))["IPAddress"])


def test_who_reaches_whom(cluster: Project) -> None:
    """A listener of this machine stands for the world outside: it answers on every address of it."""
    with socket.create_server(("0.0.0.0", 0)) as outside:
        port = outside.getsockname()[1]
        machine = machine_address()
        assert reaches(cluster, "mlflow", machine, port)  # the check can see: `edge` leads out, for S3
        for service in ("worker", "scheduler"):
            assert not reaches(cluster, service, machine, port)
            assert not any(
                reaches(cluster, service, address(cluster, name), at) for name, at in (("db", 5432), ("mlflow", 5000))
            )
            assert not any(reaches(cluster, service, name, at) for name, at in (("db", 5432), ("mlflow", 5000)))
    assert reaches(cluster, "worker", "scheduler", 8786)
    assert reaches(cluster, "mlflow", "db", 5432)
    assert not reaches(cluster, "mlflow", "scheduler", 8786)


def test_this_machine_reaches_the_tracker_on_loopback_and_nothing_else(cluster: Project) -> None:
    ports = {service: inspect(cluster.container(service))["NetworkSettings"]["Ports"] for service in RUNNING}
    bound = [each for found in ports.values() for binding in found.values() for each in binding or []]
    assert bound == [{"HostIp": "127.0.0.1", "HostPort": str(cluster.port)}]
    ours = json.loads(subprocess.run(["ip", "-4", "-j", "addr"], capture_output=True, check=True).stdout)
    mine = [ipaddress.ip_address(each["local"]) for link in ours for each in link["addr_info"]]
    for name in ("data", "cluster"):  # nothing is sent: without an address in it, it would leave by the default way
        about = json.loads(docker("network", "inspect", f"{cluster.name}_{name}").stdout)[0]
        subnet = ipaddress.ip_network(about["IPAM"]["Config"][0]["Subnet"])
        assert not [each for each in mine if each in subnet]


def test_secrets_are_in_no_environment_and_each_service_has_only_its_own(cluster: Project) -> None:
    for service in RUNNING:
        shown = json.dumps(inspect(cluster.container(service)))
        within = inside(cluster, service, "cat /proc/*/environ 2>/dev/null")
        allowed = {"mlflow_session_key"} if service == "mlflow" else set()  # MLflow takes it from no other place
        assert not [name for name, secret in cluster.secrets.items() if secret in shown]
        assert {name for name, secret in cluster.secrets.items() if secret in within} <= allowed
    seen = {service: set(inside(cluster, service, "ls /run/secrets 2>/dev/null").split()) for service in RUNNING}
    assert seen["worker"] == seen["scheduler"] == set()
    assert seen["db"] == {"postgres_password", "mlflow_pgpass", "optuna_pgpass"}
    assert seen["mlflow"] == {"mlflow_pgpass", "mlflow_admin_password", "mlflow_session_key", "s3_credentials"}


def test_images_hold_no_compiler_cache_or_test_and_say_what_they_hold() -> None:
    look = (
        "for each in gcc cc g++ clang make ld as git curl wget; do command -v $each; done; "
        "find /root/.cache /home/*/.cache /var/cache/apt -type f -size +0 2>/dev/null; "
        "ls /var/lib/apt/lists 2>/dev/null; "
        "find /opt/venv -regex '.*/tests?/test_[^/]*.py' -not -path '*/h5py/*'; find /opt/venv -name '*.h'; "
        "ls -d /build /opt/sbom /opt/venv/bin/pip* 2>/dev/null"
    )
    for image, limit in IMAGES.items():
        words = ("run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c")
        assert docker(*words, look, check=False).stdout == ""
        listed = json.loads(docker(*words, "cat /opt/venv/sbom.cdx.json").stdout)
        names = {part["name"].lower() for part in listed["components"]}
        assert listed["bomFormat"] == "CycloneDX"
        assert {"mlflow", "psycopg2-binary"} <= names
        assert ("tensorflow-cpu" in names or "tensorflow_cpu" in names) == ("mlflow" not in image)
        about = inspect(image)
        labels = about["Config"]["Labels"]
        assert labels["org.opencontainers.image.version"] == image.partition(":")[2]
        assert labels["org.opencontainers.image.title"] == image.partition(":")[0]
        assert about["Config"]["User"] == "10001:10001"
        size = about["Size"] / 1e6
        FIGURES.append((f"image {image}", f"{size:.0f} MB"))
        assert size < limit


def test_memory_at_rest(cluster: Project) -> None:
    FIGURES.append(("memory at rest", memory(cluster, RUNNING)))


def test_seconds_from_start_to_healthy(cluster: Project) -> None:
    """Of services that have their data: as after a reboot of the machine."""
    for service in RUNNING:
        began = time.monotonic()
        cluster.compose("restart", "-t", "10", service)
        wait_until(lambda service=service: cluster.health(service) == {"healthy"}, f"{service} well", 120)
        FIGURES.append((f"{service}: restarted and healthy", f"{time.monotonic() - began:.0f} s"))
