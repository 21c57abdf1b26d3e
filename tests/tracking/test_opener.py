"""No proxy is asked for an address of this machine, whatever the environment says; it is for all others."""

import os
from collections.abc import Iterator

import pytest
from mlflow_stub import Reply, Stub, running

from mnist_ablate.tracking.client import exempt_from_proxies, opener


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    with running(Stub(Reply(204))) as stub:
        monkeypatch.setenv("http_proxy", stub.uri)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "")
        yield stub


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_asked_directly(proxy: Stub, host: str) -> None:
    with running(Stub(Reply(200))) as stub:
        address = stub.uri.replace("127.0.0.1", host)
        assert opener(address).open(address, timeout=5).status == 200
    assert (len(stub.seen), proxy.seen) == (1, [])


def test_others_are_asked_as_the_environment_says(proxy: Stub) -> None:
    assert opener("http://tracker.invalid").open("http://tracker.invalid/x", timeout=5).status == 204
    assert len(proxy.seen) == 1


@pytest.mark.parametrize(
    ("address", "before", "after"),
    [
        ("http://127.0.0.1:5000", "", "127.0.0.1"),
        ("http://localhost", ".example.org, localhost", ".example.org, localhost"),
        ("http://[::1]:5000", ".example.org, db", ".example.org,db,::1"),
        ("http://localhost", "*", "*"),
        ("http://10.0.0.1", "", ""),
    ],
)
def test_only_this_machine_becomes_exempt_and_once(
    monkeypatch: pytest.MonkeyPatch, address: str, before: str, after: str
) -> None:
    monkeypatch.setenv("no_proxy", before)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for _ in range(2):
        exempt_from_proxies(address)
    assert os.environ["no_proxy"] == after
