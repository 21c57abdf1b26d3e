"""`mnist-ablate stack init`: a folder from which docker compose starts the team's service."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The service for a team: tracking server, database, cluster.")


@app.callback()
def stack() -> None:
    """Keeps `init` a command of its own."""


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Where it goes; a checkout serves as it is.")
    ] = Path(),
) -> None:
    """Write compose files and random secrets for `docker compose up`; what is there already is left as it is."""
    from mnist_ablate.service import stack as files

    written = files.init(folder)
    for path in written:
        typer.echo(f"wrote {path}", err=True)
    if not written:
        typer.echo(f"{folder}: everything is there already; nothing was changed", err=True)
    enter = "" if folder == Path() else f"cd {folder} && "
    typer.echo(f"{enter}docker compose up -d")
    typer.echo(f"{enter}. secrets/client.env && mnist-ablate sweep normalization")
