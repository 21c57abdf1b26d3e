"""The commands of the team's service: `stack init` writes its files, `scheduler` and `worker` make a cluster."""

import socket
from pathlib import Path
from typing import Annotated

import typer

from mnist_ablate.cli import options

stack_app = typer.Typer(no_args_is_help=True, help="The service for a team: tracking server, database, cluster.")


def worker(  # noqa: PLR0913, PLR0917 - one parameter an option
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The scheduler: tcp://host:8786, tls://host:8786.")],
    jobs: options.Jobs = None,
    name: Annotated[str | None, typer.Option(help="Name of this machine in sweeps [the host's name].")] = None,
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="Memory of each process: 4GB, or auto for an equal share.")
    ] = "auto",
    tls_ca_file: options.TlsCaFile = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
) -> None:
    """Train trials here for the sweeps of a cluster, until stopped."""
    from dask.system import CPU_COUNT

    from mnist_ablate.execution.dask_settings import tls_from_options
    from mnist_ablate.service.dask_service import check_address, check_memory_size, serve_workers

    check_address(address)
    check_memory_size(memory)
    tls = tls_from_options(address, tls_ca_file, tls_cert, tls_key)
    label, count = name or socket.gethostname(), jobs or CPU_COUNT
    names = [label] if count == 1 else [f"{label}-{number}" for number in range(count)]
    raise typer.Exit(serve_workers(address, names, memory, tls, lambda line: typer.echo(line, err=True)))


def scheduler(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port to listen on.")] = 8786,
    tls_ca_file: options.TlsCaFile = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
) -> None:
    """Connect sweeps with the workers of several machines, until stopped."""
    from mnist_ablate.execution.dask_settings import TLS_SCHEME, tls_from_options
    from mnist_ablate.service.dask_service import serve_scheduler

    given = (tls_ca_file, tls_cert, tls_key)
    tls = tls_from_options(f"{TLS_SCHEME}{host}" if any(given) else None, *given)
    if tls is None and not host.startswith(("127.", "localhost", "::1")):
        risk = f"anyone who can reach {host}:{port} can run code here"
        typer.echo(f"{risk}: use a private network, or --tls-cert", err=True)
    raise typer.Exit(serve_scheduler(host, port, tls, lambda line: typer.echo(line, err=True)))


@stack_app.callback()
def stack() -> None:
    """Keeps `init` a command of its own."""


@stack_app.command()
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
