"""The report of a submitted sweep in its formats, sent again only if another trial is recorded."""

import io
import zipfile
from pathlib import Path

import pytest
from ledger_records import recorded
from sweep_runs import small
from sweep_server import serving

from mnist_ablate.sweep.sweep_file import as_yaml


@pytest.mark.usefixtures("no_pictures")
def test_a_report_has_a_format_a_policy_and_a_tag(tmp_path: Path) -> None:
    recorded(tmp_path / "home", small())
    with serving(tmp_path / "home") as server:
        server.service.queue.submit(small(), owner="ann")
        path = "/sweeps/small/report"
        for asked, kind in (
            ("application/json", "application/json"),
            ("text/html", "text/html"),
            ("*/*", "application/json"),
        ):
            answer = server.api("GET", path, headers={"Accept": asked})
            assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, kind)
        assert server.api("GET", f"{path}.json").document["claims"][0]["name"] == "tanh-hurts"
        page = server.api("GET", f"{path}.html")
        assert "script-src" not in page.headers["content-security-policy"]
        assert "default-src 'none'" in page.headers["content-security-policy"]
        again = server.api("GET", f"{path}.html", headers={"If-None-Match": page.headers["etag"]})
        assert (again.status, again.body) == (304, b"")
        assert as_yaml(small()) == server.api("GET", "/sweeps/small/file").text
        with zipfile.ZipFile(io.BytesIO(server.api("GET", "/sweeps/small/records.zip").body)) as archive:
            assert archive.testzip() is None
