"""A service that a person without root set up with an earlier version goes on in this one, with all that it holds."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from compose_project import PYTHON_IMAGE, Project, docker, follow, inspect, prepare, removed, small
from conftest import FIGURES

pytestmark = pytest.mark.timeout(900)
ROOT = Path(__file__).parents[2]
EARLIER, IMAGE = "3.16.1", "mnist-ablate-mlflow:earlier"
UID = 12345


def make_earlier(context: Path) -> None:
    """The tracker's image as this Dockerfile makes it, with an earlier MLflow."""
    shutil.copytree(ROOT / "docker", context / "docker")
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    text = re.sub(r"^(mlflow(?:-\w+)?)==.*$", rf"\1=={EARLIER}", pinned, flags=re.MULTILINE)
    (context / "constraints.txt").write_text(text, encoding="utf-8")
    words = ["build", "--quiet", "--network", "host", "--build-arg", f"PYTHON_IMAGE={PYTHON_IMAGE}"]
    docker(*words, "-f", str(context / "docker" / "Dockerfile"), "--target", "mlflow", "-t", IMAGE, str(context))


@pytest.mark.long
def test_an_earlier_tracker_of_a_user_without_root_is_brought_up_to_date(tmp_path: Path) -> None:
    make_earlier(tmp_path / "context")
    folder = tmp_path / "team"
    prepare(folder, uid=UID, MLFLOW_PORT="5058")
    user = ["--user", f"{UID}:{UID}", "-v", f"{folder}:/team", "-w", "/team"]
    docker("run", "--rm", "--network", "none", *user, "mnist-ablate:0.1.0", "stack", "init")
    override = folder / "docker-compose.override.yml"
    with removed(Project(folder, "earlier")) as project:
        client = folder / "secrets" / "client.env"
        client.write_text(client.read_text().replace(":5000", ":5058"))
        now = override.read_text()
        document = yaml.safe_load(now)
        for service in ("mlflow", "account"):
            document["services"][service]["image"] = IMAGE
        override.write_text(yaml.safe_dump(document))
        project.up("db", "mlflow")
        version = "import mlflow; print(mlflow.__version__)"
        assert docker("exec", project.container("mlflow"), "python", "-c", version).stdout.strip() == EARLIER
        assert inspect(project.container("mlflow"))["Config"]["User"] == f"{UID}:{UID}"
        follow(project, small(project, "kept"))
        before = project.rows("mlflow", "SELECT run_uuid, status, end_time FROM runs ORDER BY 1")
        assert len(before) == 5
        override.write_text(now)
        project.up("db", "mlflow")
        assert docker("exec", project.container("mlflow"), "python", "-c", version).stdout.strip() != EARLIER
        assert project.rows("mlflow", "SELECT run_uuid, status, end_time FROM runs ORDER BY 1") == before
        follow(project, ". secrets/client.env && mnist-ablate verify data/kept.yaml")
    FIGURES.append((f"upgrade from MLflow {EARLIER}, as uid {UID}", f"{len(before)} runs kept, verified"))
