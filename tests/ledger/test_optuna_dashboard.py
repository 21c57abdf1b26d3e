"""optuna-dashboard opens the ledger as it is: every sweep a study, every trial there."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from command import wait_for
from ledger_records import recorded
from mlflow_helpers import free_port
from sweep_runs import small

from mnist_ablate.ledger.ledger import Ledger


@pytest.mark.service
def test_the_dashboard_shows_the_ledger(tmp_path: Path) -> None:
    settings, port = recorded(tmp_path, small()), free_port()
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
        assert [trial["state"] for trial in trials] == ["Complete"] * 6
    finally:
        server.terminate()
        server.wait(20)
    assert len(Ledger(settings.ledger_url).find("small").records()) == 6
