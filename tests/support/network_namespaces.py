"""Several hosts on one machine: network namespaces joined by a bridge, each with an address of its own."""

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Host:
    """`namespace` is where its processes run, `link` its network card."""

    namespace: str
    address: str
    link: str = "eth0"

    def command(self, *arguments: object) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *(str(each) for each in arguments)]

    def unplug(self) -> None:
        _ip("-n", self.namespace, "link", "set", self.link, "down")

    def plug_in(self) -> None:
        _ip("-n", self.namespace, "link", "set", self.link, "up")

    def received_bytes(self) -> int:
        path = f"/sys/class/net/{self.link}/statistics/rx_bytes"
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
            _ip("netns", "add", switch)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', error)}")
        _ip("-n", switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", switch, "link", "set", "br0", "up")
        for number, host in enumerate(made, start=1):
            _connect(host, switch, f"port{number}")
        yield made
    finally:
        for namespace in [switch, *(host.namespace for host in made)]:
            with suppress(OSError, subprocess.CalledProcessError):
                _ip("netns", "delete", namespace)


def _connect(host: Host, switch: str, port: str) -> None:
    _ip("netns", "add", host.namespace)
    other_end = ["peer", "name", port, "netns", switch]
    _ip("link", "add", host.link, "netns", host.namespace, "type", "veth", *other_end)
    _ip("-n", switch, "link", "set", port, "master", "br0", "up")
    _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", host.link)
    for link in ("lo", host.link):
        _ip("-n", host.namespace, "link", "set", link, "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=20)
