"""A sweep through the whole service: PostgreSQL with two roles, MLflow with accounts, a TLS cluster of two workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from command import Command, Done, fake_trainer_environment
from service_stack import ADMIN, USER, Stack, stack
from sweep_runs import sweep_file
from tiny_images import write_images

from mnist_ablate.tracking import page_view

pytestmark = pytest.mark.service

REAL = """
question: Does tanh hurt on real images?
scientific: {activation: [relu, tanh]}
fixed: {model: mlp, width: 16, epochs: 1}
seeds: 1
"""


@pytest.fixture(scope="module")
def service() -> Iterator[Stack]:
    with stack() as running:
        yield running


NOTE = {"key": "mlflow.note.content", "value": "mine"}


@pytest.fixture(scope="module")
def swept(service: Stack) -> list[Done]:
    """A sweep beside an experiment of somebody else."""
    service.call("/api/2.0/mlflow/experiments/create", {"name": "theirs", "tags": [NOTE]}, user=ADMIN)
    (service.folder / "person").mkdir()
    return service.swept(service.folder / "person")


def test_a_sweep_ends_in_order_both_machines_trained_and_everything_agrees(service: Stack, swept: list[Done]) -> None:
    sweep, verify = swept
    assert (sweep.code, verify.code) == (0, 0), sweep.err + verify.err
    assert sweep.document["trials"] == {"planned": 6, "complete": 6, "diverged": 0, "failed": 0, "lost": 0}
    assert verify.out == "small: plan, ledger and MLflow agree\n"
    assert len({line.split()[1] for line in (service.folder / "starts").read_text().splitlines()}) == 2


@pytest.mark.parametrize("user", [USER, ADMIN])
def test_runs_are_visible_with_an_account(service: Stack, swept: list[Done], user: str) -> None:
    assert swept[0].code == 0
    named = service.call("/api/2.0/mlflow/experiments/get-by-name?experiment_name=small", user=user)
    wanted = {"experiment_ids": [named["experiment"]["experiment_id"]], "filter": "tags.kind = 'trial'"}
    found = service.call("/api/2.0/mlflow/runs/search", wanted, user=user)["runs"]
    assert len(found) == 6
    assert {run["info"]["status"] for run in found} == {"FINISHED"}


def test_the_link_opens_the_view_of_the_sweep_and_experiments_of_others_stay(service: Stack, swept: list[Done]) -> None:
    assert f"viewStateShareKey={page_view.KEY}" in swept[0].err
    found = service.call("/api/2.0/mlflow/experiments/search", {"max_results": 10}, user=ADMIN)["experiments"]
    tags = {each["name"]: {tag["key"]: tag["value"] for tag in each.get("tags", ())} for each in found}
    assert page_view.is_ours(tags["small"][page_view.TAG])
    assert "supported" in tags["small"]["mlflow.note.content"]
    assert tags["theirs"] == {NOTE["key"]: "mine"}


def test_wrong_password_and_no_certificate_are_one_line(service: Stack, swept: list[Done], tmp_path: Path) -> None:
    assert swept[0].code == 0
    run = Command(service.folder / "person", service.environment())
    done = run("sync", "small.yaml", "--home", str(tmp_path), MLFLOW_TRACKING_PASSWORD="wrong-password")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "refused the credentials (401)" in done.err
    done = run("sweep", "small.yaml", "--seeds", "4", "--fresh", "--cluster", service.scheduler)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "TLS needs --tls-ca-file, --tls-cert, --tls-key" in done.err


@pytest.mark.parametrize(("maker", "code"), [(USER, 0), (ADMIN, 3)])
def test_an_experiment_whose_maker_was_not_noted_is_given_back_to_the_maker_alone(
    service: Stack, tmp_path: Path, maker: str, code: int
) -> None:
    """As a server leaves it that was killed between the two steps of creating one."""
    name = f"by-{maker}"
    tags = [{"key": "account", "value": maker}]
    service.call("/api/2.0/mlflow/experiments/create", {"name": name, "tags": tags}, user=maker)
    engine = sqlalchemy.create_engine(f"postgresql+psycopg2://ablate@127.0.0.1:{service.database_port}/mlflow")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("DELETE FROM role_permissions WHERE resource_type = 'experiment'"))
    engine.dispose()
    path, images = sweep_file(tmp_path, name=name), write_images(tmp_path / "tiny.npz")
    run = Command(tmp_path, service.environment(**fake_trainer_environment(tmp_path)))
    done = run("sweep", str(path), "--data", str(images), *service.cluster)
    assert done.code == code, done.err
    assert ("refused this account (403): is the experiment another account's?" in done.err) == bool(code)


def test_the_real_trainer_trains_on_the_cluster(service: Stack) -> None:
    home = service.folder / "real"
    home.mkdir()
    (home / "real.yaml").write_text(REAL)
    run = Command(home, service.environment())
    sweep = run("sweep", "real.yaml", "--json", *service.cluster)
    assert sweep.code == 0, sweep.err
    assert sweep.document["trials"]["complete"] == 2
    assert run("verify", "real.yaml").code == 0
