"""Several hosts on one machine: network namespaces joined by a bridge, each with an address of its own."""

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytest

LINK = "eth0"


@dataclass(frozen=True)
class Host:
    """`namespace` is where its processes run."""

    namespace: str
    address: str

    def command(self, *arguments: object) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *(str(each) for each in arguments)]

    def unplug(self) -> None:
        _ip(f"-n {self.namespace} link set {LINK} down")

    def plug_in(self) -> None:
        _ip(f"-n {self.namespace} link set {LINK} up")

    def received_bytes(self) -> int:
        path = f"/sys/class/net/{LINK}/statistics/rx_bytes"
        return int(subprocess.run(self.command("cat", path), check=True, capture_output=True, text=True).stdout)


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """That many hosts in one network without any other way out; skips where namespaces are not allowed."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    mark = secrets.token_hex(2)
    switch = f"abl-{mark}-0"
    made = [Host(f"ablate-{mark}-{number}", f"10.77.0.{number}") for number in range(1, count + 1)]
    try:
        try:
            _ip(f"netns add {switch}")
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', error)}")
        _ip(f"-n {switch} link add br0 type bridge")
        _ip(f"-n {switch} link set br0 up")
        for number, host in enumerate(made, start=1):
            _ip(f"netns add {host.namespace}")
            _ip(f"link add {LINK} netns {host.namespace} type veth peer name port{number} netns {switch}")
            _ip(f"-n {switch} link set port{number} master br0 up")
            _ip(f"-n {host.namespace} address add {host.address}/24 dev {LINK}")
            _ip(f"-n {host.namespace} link set lo up")
            host.plug_in()
        yield made
    finally:
        for namespace in [switch, *(host.namespace for host in made)]:
            with suppress(OSError, subprocess.CalledProcessError):
                _ip(f"netns delete {namespace}")


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True, capture_output=True, text=True, timeout=20)
