"""optuna-dashboard opens the ledger as it is: every sweep a study, every trial there."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from command import wait_for
from ledger_records import outcome
from mlflow_helpers import free_port
from sweep_runs import small

from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import make_plan


@pytest.mark.service
def test_the_dashboard_shows_the_ledger(tmp_path: Path) -> None:
    settings, plan, port = Settings(home=tmp_path), make_plan(small(), "d1" * 32), free_port()
    record = Ledger(settings.ledger_url).begin(plan, fresh=False)
    for planned in plan.verdict_trials():
        record.add(planned, outcome(planned))
    program = Path(sys.executable).with_name("optuna-dashboard")
    null = subprocess.DEVNULL
    server = subprocess.Popen([program, settings.ledger_url, "--port", str(port)], stdout=null, stderr=null)

    def asked(path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
                return json.load(reply)
        except OSError:
            assert server.poll() is None
            return None

    try:
        wait_for(lambda: asked("/api/studies"), 60)
        (study,) = asked("/api/studies")["study_summaries"]
        assert study["study_name"] == "small/1"
        trials = asked(f"/api/studies/{study['study_id']}?after=0")["trials"]
        assert len(trials) == 6
        assert {trial["state"] for trial in trials} == {"Complete"}
    finally:
        server.terminate()
        server.wait(20)
    assert len(record.records()) == 6
