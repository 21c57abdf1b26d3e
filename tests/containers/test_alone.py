"""`docker run mnist-ablate` without Compose: results in a folder that is mounted, owned by whoever called it."""

import os
from pathlib import Path

import pytest
from compose_project import Completed, docker, write_digits
from conftest import SHORT

pytestmark = pytest.mark.timeout(300)
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "team-stack.md"


@pytest.mark.parametrize("uid", [12345, 0])
def test_a_sweep_leaves_its_results_to_the_caller(tmp_path: Path, uid: int) -> None:
    results = tmp_path / "results"
    results.mkdir()
    write_digits(results / "digits.npz")
    os.chown(results, uid, uid)
    script = 'docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/results:/results" -w /results mnist-ablate:0.1.0 '
    assert script in GUIDE.read_text(encoding="utf-8")

    def run(*words: str) -> Completed:
        options = [
            "run",
            "--rm",
            "--network",
            "none",
            "--user",
            f"{uid}:{uid}",
            "-v",
            f"{results}:/results",
            "-w",
            "/results",
        ]
        return docker(*options, "mnist-ablate:0.1.0", *words, check=False)

    done = (
        run("sweep", "normalization", *SHORT.replace("data/digits", "digits").split())
        if uid
        else run("sweep", "normalization", "--quick", "--seeds", "1", "--data", "digits.npz")
    )
    assert done.returncode == 0, done.stderr
    kept = [path for path in results.rglob("*") if path.name != "digits.npz"]
    assert (results / ".mnist-ablate" / "ledger.db").exists()
    assert {path.stat().st_uid for path in kept} == {uid}
