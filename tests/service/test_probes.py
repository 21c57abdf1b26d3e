"""Every attack on the running service is refused, and nothing leaks; the table is in docs/explanation/."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks import Ground, Probe, all_probes
from service_stack import stack

PROBES = all_probes()
TABLE = Path(__file__).parents[2] / "docs" / "explanation" / "security-probes.md"

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with stack() as service:
        yield Ground(service)


@pytest.mark.parametrize("probe", PROBES, ids=[f"{probe.family}: {probe.name}" for probe in PROBES])
def test_attack_is_refused(ground: Ground, probe: Probe) -> None:
    found = probe.attack(ground)
    assert found.refused, found.came_back


def test_the_table_has_every_probe() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \|.*\| yes \|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(probe.family, probe.name) for probe in PROBES]


def test_a_secret_in_an_answer_would_be_seen(ground: Ground) -> None:
    from attacks import told

    assert not told(ground, [f"Traceback: {ground.service.secrets['account']}"]).refused
