"""The command `selftest`: claims with known answers, run on this machine. It fails if one comes out wrong."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mnist_ablate.cli import options


def selftest(
    reduced: Annotated[bool, typer.Option(help="Fewer claims, without the convolutional network.")] = False,
    jobs: options.Jobs = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Run claims whose answers are known, and fail if one comes out wrong. Nothing is kept."""
    from mnist_ablate.execution.selftest import selftest as answers

    found = []
    with tempfile.TemporaryDirectory(prefix="mnist-ablate-selftest-") as folder:
        for answer in answers(Path(folder), data, jobs, reduced=reduced):
            found.append(answer)
            if not as_json:
                mark = "right" if answer.is_right else "WRONG"
                expected = "" if answer.is_right else f", expected {answer.expected}"
                typer.echo(f"{mark}  {answer.found}{expected}: {answer.statement}")
    wrong = sum(not answer.is_right for answer in found)
    if as_json:
        typer.echo(json.dumps([{**asdict(answer), "is_right": answer.is_right} for answer in found]))
    else:
        typer.echo(f"{len(found)} known answers: {f'{wrong} came out wrong' if wrong else 'all right'}")
    raise typer.Exit(1 if wrong else 0)
