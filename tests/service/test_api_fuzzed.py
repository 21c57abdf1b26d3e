"""Schemathesis asks the whole API, as its OpenAPI file describes it: nothing is answered by an internal error."""

import subprocess
import sys
from pathlib import Path

import pytest
from sweep_server import SMALL, serving

LEFT_OUT = (
    "positive_data_acceptance",  # a sweep has rules that no JSON schema tells
    "ensure_resource_availability",  # what was just submitted has no report yet
)


@pytest.mark.slow
def test_no_request_that_the_description_allows_or_forbids_is_an_internal_error(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as server:
        for name in ("a", "0"):
            server.api("POST", "/sweeps", {"name": name, "file": SMALL})
        program = Path(sys.executable).with_name("schemathesis")
        command = [program, "run", f"{server.url}/api/v1/openapi.json", "--max-examples=3", "--seed=1", "--no-color"]
        command += [
            "--exclude-path-regex=/events$",
            f"--exclude-checks={','.join(LEFT_OUT)}",
            "--generation-database=none",
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stdout[-6000:]
        assert "generated" in done.stdout
        assert server.service.queue.counts()["waiting"] >= 2
