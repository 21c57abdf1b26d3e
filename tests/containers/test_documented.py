"""docs/guides/team-stack.md is followed block by block, and what it promises is there."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from compose_project import Project, docker
from conftest import FIGURES

pytestmark = pytest.mark.timeout(900)
GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "team-stack.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
FOLLOWED = ("stack init", "--scale worker=8", "export OPTUNA_STORAGE", "users/create", "MLFLOW_HOSTS=", "pg_dump", "pg_restore")
"""By a part of it, every block and the order in which it comes."""
ELSEWHERE = {"export OPTUNA_STORAGE"}
"""Servers of your own: tests/service/ has that sweep."""


def block(part: str) -> str:
    (found,) = (each for each in BLOCKS if part in each)
    return found


def follow(project: Project, script: str) -> "subprocess.CompletedProcess[str]":
    done = project.shell(script)
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


def test_no_block_of_the_guide_is_left_out() -> None:
    assert [next(part for part in FOLLOWED if part in each) for each in BLOCKS] == list(FOLLOWED)


def test_first_steps_lead_to_verdicts_that_verify(team: Project) -> None:
    done = follow(team, block("stack init"))
    assert "7 claims" in done.stdout
    follow(team, ". secrets/client.env && mnist-ablate verify normalization")
    found = team.call("/api/2.0/mlflow/experiments/search", {"max_results": 10}, user="sweeper")
    assert "normalization" in {each["name"] for each in found["experiments"]}
